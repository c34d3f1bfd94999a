"""What changed while unlocked: by batch, item and field, of this unlock alone, and nothing that is not known."""

import re
from html import unescape

import pytest

from tests import factories
from tests.factories import acting
from tests.importing import bring
from unlocks import changes
from unlocks.texts.formats import moment

pytestmark = pytest.mark.django_db


@pytest.fixture
def importer():
    return factories.make_user("importer", is_superuser=True)


def rows(page):
    """Return the cells of each row of the page's tables, and its summary with what stands below tables."""
    html = page.content.decode()
    found = re.findall(r"<tr>\s*(<td.*?)</tr>", html, re.DOTALL)
    cells = [tuple(map(_text, re.findall(r"<td.*?>(.*?)</td>", row, re.DOTALL))) for row in found]
    said = re.findall(r'<b id="summary">(.*?)</b>|<li>(\d.*?)</li>|<p class="more muted">(.*?)</p>', html, re.DOTALL)
    return cells, [_text("".join(parts)) for parts in said]


def _text(html):
    return " ".join(unescape(re.sub(r"<[^>]+>", "", html)).split())


def shown(client, case, query=""):
    return rows(client.get(f"/desk/unlocks/unlockrequest/{case.unlock_request.pk}/changes/{query}"))


def said(batch, *items, status="bypassed", exported_on="", **other):
    """Return rows of an import: a batch as on file but for what is named, and its items (number, amount, memo)."""
    head = f"{batch.account.number},{batch.number}"
    named = {"name": batch.name, "total": batch.total} | other
    total = f"{len(items)},{named['total']}"
    reached_by = "sent" if status == "exported" else ""
    batches = f"{head},{named['name']},{status},{reached_by},5/1/2026,5/2/2026,{exported_on},,{total},,"
    listed = [f"{head},invoice,{number},4/30/2026,Job site,{amount},{memo},,,," for number, amount, memo in items]
    return {"batches": batches, "items": "\n".join(listed)}


def bringing(by, *brought, **options):
    merged = {kind: "\n".join(one[kind] for one in brought) for kind in ("batches", "items")}
    imported = bring(by, **merged, **options)
    assert set(imported.counts["batches"]) <= {"changed", "same"}, imported.counts
    return imported


def as_is(batch):
    return [(item.number, item.amount, item.memo) for item in batch.items.order_by("pk")]


def test_what_changed_is_told_by_item_and_field_and_what_is_not_known_is_said(agent, agent_client, importer, manager):
    batches = factories.make_batches(n=4, items=2)
    first, second, third, _ = batches
    one, two = (f"INV-{first.number}-{place}" for place in (1, 2))
    bringing(importer, said(first, (one, 90, "Before"), (two, 200, ""), total=290))
    case = factories.case_unlocked(agent, batches=batches)
    assert shown(agent_client, case) == (
        [],
        [
            "No change is known.",
            "4 batches: no newer data from the product since the unlock. What changed there is not known.",
        ],
    )
    items = (one, 120, "Before"), ("INV-new", 75, "More")
    exported = said(first, *items, status="exported", exported_on="6/7/2026", total=195)
    bringing(importer, exported, said(third, *as_is(third)), re_exported=True)
    factories.relock(case.rows.filter(pk=second.pk), why="Asked for", by=acting(manager))
    late = [(f"INV-{second.number}-1", 100, "Late"), (f"INV-{second.number}-2", 200, "")]
    bringing(importer, said(second, *late, total=300))
    cells, summary = shown(agent_client, case)
    assert cells == [
        ("The batch", "Total", "$290.00", "$195.00"),
        (f"Invoice {one}", "Amount", "$90.00", "$120.00"),
        (f"Invoice {two}", "No longer listed", "$200.00, Apr 30, 2026, Job site", "nothing"),
        ("Invoice INV-new", "Added", "nothing", "$75.00, Apr 30, 2026, Job site, More"),
        (f"Invoice INV-{second.number}-1", "Memo", "nothing", "Late"),
    ]
    assert summary[0] == "2 of 4 batches changed: 2 items changed, 1 item added, 1 item no longer listed."
    third.refresh_from_db()
    assert summary[1] == (
        f"1 batch: the same in newer data from the product, the oldest of it from {moment(third.as_of)}."
    )
    assert summary[2:] == [
        "1 batch: no newer data from the product since the unlock. What changed there is not known.",
        "Some of this came in after the unlock had ended. What is locked can't be changed in ServiceTitan, so it may "
        "have been changed before that.",
    ]
    assert "What changed while unlocked" in agent_client.get(case.unlock_request.get_absolute_url()).content.decode()

    later = factories.case_unlocked(agent, batches=[second])
    bringing(importer, said(second, (late[0][0], 130, "Later"), late[1], total=330))
    assert shown(agent_client, case)[0] == cells
    assert shown(agent_client, later)[0] == [
        ("The batch", "Total", "$300.00", "$330.00"),
        (f"Invoice INV-{second.number}-1", "Amount", "$100.00", "$130.00"),
        ("", "Memo", "Late", "Later"),
    ]


LINES = '[{"description":"Pump","gl_account":"4000","price":"10.00","quantity":"1","sku":"P","total":"10.00"}%s]'
PUT_BEFORE = '{"description":"Visit","gl_account":"4000","price":"5.00","quantity":"1","sku":"V","total":"5.00"},'


@pytest.mark.parametrize(
    ("after", "told"),
    [
        (
            LINES.replace('"10.00","quantity":"1"', '"8.00","quantity":"2"') % "",
            [(1, "quantity", "1", "2"), (1, "price", "10.00", "8.00")],
        ),
        (f"[{PUT_BEFORE}{LINES[1:]}" % "", [(1, "", None, "V")]),
        ("[]", [(1, "", "P", None)]),
    ],
)
def test_what_changed_in_lines_is_told_by_their_fields(after, told):
    found = [
        (place, name, *(one["sku"] if isinstance(one, dict) else one for one in values))
        for place, name, *values in changes.differing_lines(LINES % "", after)
    ]
    assert found == told


def test_many_batches_cost_as_many_queries_and_are_shown_in_pages(
    agent, agent_client, importer, django_assert_max_num_queries
):
    case = factories.case_unlocked(agent, batches=factories.make_batches(n=30))
    changed = [(batch, as_is(batch)[0]) for batch in case.batches]
    bringing(importer, *(said(batch, (number, 101, memo), total=101) for batch, (number, _, memo) in changed))
    with django_assert_max_num_queries(20):
        cells, summary = shown(agent_client, case)
    assert (summary, len(cells)) == (["30 of 30 batches changed: 30 items changed."], 50)
    assert len(shown(agent_client, case, "?page=2")[0]) == 10


def test_who_sees_it(client, agent, agent_client, auditor_client):
    case = factories.case_consented(agent)
    address = f"/desk/unlocks/unlockrequest/{case.unlock_request.pk}/changes/"
    answers = [client.get(address), agent_client.get(address), auditor_client.get(address), agent_client.post(address)]
    assert [page.status_code for page in answers] == [302, 200, 200, 405]
    assert rows(answers[1]) == ([], ["No batch of this request has been unlocked."])
    assert agent_client.get("/desk/unlocks/unlockrequest/x/changes/").status_code == 404
    assert (
        "What changed while unlocked" not in agent_client.get(case.unlock_request.get_absolute_url()).content.decode()
    )
