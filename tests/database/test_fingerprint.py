"""The fingerprint of a batch: as it is documented, the same on both databases, another for another content."""

import json
import re
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from django.db import connection
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.factories import make_batch, make_item
from unlocks.database import fingerprint
from unlocks.digest import canonical, sha256
from unlocks.models import Batch, BatchItem

pytestmark = pytest.mark.django_db

GOLDEN = json.loads((Path(__file__).parent / "golden" / "fingerprints.json").read_text())

# PostgreSQL's texts hold no NUL, SQLite's do.
NUL = "\0" if connection.vendor == "postgresql" else ""
letters = st.characters(exclude_characters=NUL, exclude_categories=["Cs"])
words = st.text(letters, max_size=12)
amounts = st.decimals("-999999999999.99", "999999999999.99", places=2)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
BATCH = {  # its number does not change
    "name": words,
    "total": amounts,
    "item_count": st.integers(0, 2**31 - 1),
    "posted_on": st.none() | st.dates(),
    "bypassed_on": st.dates(),
}
ITEM = {
    "kind": st.sampled_from(BatchItem.Kind.values),
    "number": words,
    "date": st.dates(),
    "customer": words,
    "amount": amounts,
    "memo": words,
    "export_id": words,
    "lines": st.lists(JSON, max_size=3).map(canonical),
}
CONTENT = {Batch: BATCH, BatchItem: ITEM}
fixed = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


def taken(batch):
    return Batch.objects.annotate(content=fingerprint.expression("default")).get(pk=batch.pk).content


def write_over(row, **fields):
    type(row).objects.filter(pk=row.pk).update(**fields)


@pytest.fixture
def batch(db):
    return make_batch(items=2)


def documented(batch, *items):
    """Return the fingerprint as the docstring of `fingerprint` describes it, in plain Python."""
    values = [batch[name] for name in ("number", "name", "total", "item_count", "posted_on", "bypassed_on")]
    for item in items:
        names = ("kind", "number", "date", "customer", "amount", "memo", "export_id", "lines")
        values += [item[name] for name in names]
    texts = [text_of(value).encode() for value in values]
    return sha256(b"unlock-desk batch/1\n" + b"".join(b"%d:%s" % (len(text), text) for text in texts))


def text_of(value):
    if isinstance(value, Decimal):
        return str(int(value * 100))
    return "" if value is None else str(value)  # a day as 2026-11-25


def typed(content, amount):
    """Return a content of the golden file with the types that its columns have."""
    days = ("date", "posted_on", "bypassed_on")
    values = {name: date.fromisoformat(value) if name in days and value else value for name, value in content.items()}
    lines = {"lines": canonical(content["lines"])} if "lines" in content else {}
    return values | lines | {amount: Decimal(content[amount])}


@pytest.mark.parametrize("golden", GOLDEN, ids=[golden["what"] for golden in GOLDEN])
def test_golden_contents(golden):
    """The same on every database, and forever: consents of years ago are checked by it."""
    content, items = typed(golden["batch"], "total"), [typed(item, "amount") for item in golden["items"]]
    batch = make_batch(status="pending", items=0, **content)
    for item in items:
        make_item(batch=batch, **item)
    assert taken(batch) == golden["sha256"] == documented(content, *items)


def test_no_two_golden_contents_have_one_fingerprint():
    assert len({golden["sha256"] for golden in GOLDEN}) == len(GOLDEN)


@fixed
@given(content=st.fixed_dictionaries(BATCH), items=st.lists(st.fixed_dictionaries(ITEM), min_size=2, max_size=2))
def test_it_is_what_is_documented(batch, content, items):
    write_over(batch, **content)
    for row, item in zip(batch.items.order_by("pk"), items, strict=True):
        write_over(row, **item)
    assert taken(batch) == documented(content | {"number": batch.number}, *items)


@fixed
@given(data=st.data())
def test_another_content_has_another_fingerprint(batch, data):
    model = data.draw(st.sampled_from([Batch, BatchItem]))
    name = data.draw(st.sampled_from(sorted(CONTENT[model])))
    one, other = data.draw(st.tuples(CONTENT[model][name], CONTENT[model][name]))
    row = batch if model is Batch else batch.items.first()
    prints = []
    for value in (one, other):
        write_over(row, **{name: value})
        prints.append(taken(batch))
    assert (prints[0] == prints[1]) == (one == other)


@fixed
@given(one=st.tuples(words, words), other=st.tuples(words, words))
def test_no_two_contents_read_the_same(batch, one, other):
    """What stands in one field, digits and colons above all, never passes for the end of another."""
    prints = []
    for memo, export_id in (one, other):
        write_over(batch.items.first(), memo=memo, export_id=export_id)
        prints.append(taken(batch))
    assert (prints[0] == prints[1]) == (one == other)


@pytest.mark.parametrize(
    ("one", "other"), [(("1:", ""), ("", "1:")), (("a", "b1:"), ("a2:b1", "")), (("é", "x"), ("e", "x"))]
)
def test_netstrings_that_were_made_to_collide(batch, one, other):
    prints = []
    for memo, export_id in (one, other):
        write_over(batch.items.first(), memo=memo, export_id=export_id)
        prints.append(taken(batch))
    assert prints[0] != prints[1]


def test_every_part_of_the_content_counts(batch):
    seen = {taken(batch)}
    changes = {"name": "x", "total": "1.01", "item_count": 9, "posted_on": "2020-01-01", "bypassed_on": "2020-01-02"}
    for name, value in changes.items():
        write_over(batch, **{name: value})
        seen.add(taken(batch))
    item = {"kind": "payment", "number": "x", "date": "2020-01-01", "customer": "x", "amount": "1.01", "memo": "x"}
    for name, value in (item | {"export_id": "x", "lines": '[{"sku":"x"}]'}).items():
        write_over(batch.items.first(), **{name: value})
        seen.add(taken(batch))
    make_item(batch=batch)
    seen.add(taken(batch))
    assert len(seen) == 1 + len(changes) + len(item) + 3
    assert changes.keys() | {"number"} == set(fingerprint.BATCH_CONTENT)
    assert item.keys() | {"export_id", "lines"} == set(fingerprint.ITEM_CONTENT)


def test_an_item_that_the_product_does_not_list_any_more_does_not_count(batch):
    first, second = batch.items.order_by("pk")
    both = taken(batch)
    write_over(second, left_at=timezone.now())
    one = taken(batch)
    write_over(second, memo="Changed after it left")
    assert one == taken(batch) != both
    write_over(second, left_at=None, memo="")
    assert taken(batch) == both
    write_over(first, job_number="7", business_unit="North", external_id="E-1")
    write_over(batch, external_id="E-1", reached_by="bypassed", as_of=timezone.now())
    assert taken(batch) == both


@pytest.mark.parametrize("name", fingerprint.ITEM_CONTENT)
def test_a_change_of_an_item_blanks_it(batch, name):
    fingerprint.take(Batch.objects.filter(pk=batch.pk))
    values = {"date": "2020-01-01", "amount": "1.01", "lines": "[1]", "kind": "payment"}
    write_over(batch.items.first(), **{name: values.get(name, "x")})
    batch.refresh_from_db()
    assert batch.fingerprint == ""


def test_the_same_content_keeps_it(batch):
    fingerprint.take(Batch.objects.filter(pk=batch.pk))
    batch.refresh_from_db()
    write_over(batch, name=batch.name, total=batch.total, period_closed=True)
    write_over(batch.items.first(), memo="", disposition="keyed in")
    kept = batch.fingerprint
    batch.refresh_from_db()
    assert re.fullmatch("[0-9a-f]{64}", kept)
    assert batch.fingerprint == kept
