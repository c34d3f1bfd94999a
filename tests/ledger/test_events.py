"""What the ledger tells of: each kind is read back as it was written, today and from a file of the first release.

The file `golden/ledger.jsonl` holds an entry of each kind. A line in it is never changed: entries like these stand in
the ledgers of every desk. A new kind, or a new fact of a kind, adds a line; the test that asks for it prints it.
"""

import dataclasses
import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unlocks.actors import Actor
from unlocks.ledger import chain, events
from unlocks.models import Act, LedgerEntry

GOLDEN = Path(__file__).parent / "golden" / "ledger.jsonl"
KEY = "golden-ledger-key"
AT = datetime(2026, 11, 26, 9, 30, 0, 123456, tzinfo=UTC)
TIMES = {"at", "appended_at"}

# A value of each type that a fact may have.
SAMPLES = {
    int: 7,
    int | None: 7,
    str: "Ärger — “so” \U0001f980\n\ttab",
    bool: True,
    datetime: AT,
    datetime | None: AT,
    Decimal: Decimal("1234567.80"),
    list[int]: [3, 5],
    list[str]: ["B-1", "Ä-2"],
    dict[str, int]: {"not_locked": 2},
    dict[str, Any]: {"first_name": ["Åsa", ""]},
}
ANY = {
    int: st.integers(0, 2**53),
    int | None: st.none() | st.integers(0, 2**53),
    str: st.text(st.characters(codec="utf-8")),
    bool: st.booleans(),
    datetime: st.datetimes(timezones=st.just(UTC)),
    datetime | None: st.none() | st.datetimes(timezones=st.just(UTC)),
    Decimal: st.decimals(0, 10**10, places=2),
    list[int]: st.lists(st.integers(0, 2**53)),
    list[str]: st.lists(st.text(st.characters(codec="utf-8"))),
    dict[str, int]: st.dictionaries(st.text("abc_"), st.integers(0, 2**53)),
    dict[str, Any]: st.dictionaries(st.text("abc_"), st.lists(st.none() | st.text() | st.booleans())),
}


def sample(cls):
    return cls(about_id=42 if cls.about else None, **{f.name: SAMPLES[cls.types()[f.name]] for f in cls.declared()})


def golden():
    """Return the entries of the golden file, of each kind the newest last."""
    rows = map(json.loads, GOLDEN.read_text().splitlines())
    return [LedgerEntry(**row | {name: datetime.fromisoformat(row[name]) for name in TIMES}) for row in rows]


def golden_note():
    return next(entry for entry in golden() if entry.kind == "note")


def texts(entry):
    """Return the facts of an entry, and those that are personal."""
    return json.loads(entry.facts)["facts"], json.loads(entry.personal)["personal"]


def line(kind):
    """Return the line of the golden file for a kind: its columns, sealed with KEY behind the empty ledger."""
    by = Actor(name="agent", ip="203.0.113.7")
    by.act.at = AT
    (row,) = chain._sealed([chain.Entry(sample(events.KINDS[kind]), 11, 12)], by, 0, chain.GENESIS)
    return json.dumps(row, ensure_ascii=False, default=str)


def test_each_kind_is_written_as_its_newest_golden_entry_is(settings):
    settings.LEDGER_KEY = KEY
    newest = {entry.kind: texts(entry) for entry in golden()}
    written = {
        kind: tuple(sample(cls).facts(personal=personal) for personal in (False, True))
        for kind, cls in events.KINDS.items()
    }
    missing = [line(kind) for kind in written if written[kind] != newest.get(kind)]
    assert not missing, "Append to golden/ledger.jsonl, and change no line that is there:\n" + "\n".join(missing)
    assert newest.keys() == events.KINDS.keys()


@pytest.mark.parametrize("entry", golden(), ids=lambda entry: entry.kind)
def test_a_golden_entry_fits_and_tells_what_it_told(settings, entry):
    settings.LEDGER_KEY = KEY
    event = chain.event_of(entry)
    assert event != events.Altered(), "It can't be read any more. A new fact needs a default: fact(default=...)."
    told = dict.fromkeys(texts(entry)[0] | texts(entry)[1])
    assert event == dataclasses.replace(event, **{name: getattr(sample(type(event)), name) for name in told})
    assert (entry.about_id, type(event).kind) == (event.about_id, entry.kind)


@pytest.mark.parametrize("kind", events.KINDS)
@given(data=st.data())
def test_is_read_back_as_it_was_written(kind, data):
    cls = events.KINDS[kind]
    event = cls(**{f.name: data.draw(ANY[cls.types()[f.name]], f.name) for f in cls.declared()})
    texts = {
        name: json.dumps({name: event.facts(personal=name == "personal")}, ensure_ascii=False)
        for name in ("facts", "personal")
    }
    assert events.read(LedgerEntry(kind=kind, **texts)) == event


@pytest.mark.parametrize("kind", events.KINDS)
def test_what_happened_reads_as_a_sentence(kind):
    event = sample(events.KINDS[kind])
    assert event.label
    assert event.label[0].isupper()
    assert event.rest == event.rest.rstrip()
    assert not event.rest or event.rest.startswith((" ", ":", ",")), event.rest


def test_what_someone_wrote_is_quoted():
    quoting = {kind for kind, cls in events.KINDS.items() if sample(cls).quote}
    writing = {"opened", "note", "closed", "declined", "withdrawn", "contact_confirmed", "restored"}
    writing |= {"signed_off", "flagged", "flag_resolved"}
    writing |= {
        "unlock_instructed",
        "unlock_canceled",
        "unlocked",
        "product_refused",
        "unlocked_late",
        "relock_refused",
    }
    writing |= {"window_extended", "relock_instructed", "relocked", "re_exported"}
    assert quoting == writing, "Who has a fact with quoted=True is named here."


@pytest.mark.parametrize(
    ("changed", "to"),
    [
        ("kind", "unheard_of"),
        ("facts", "[]"),
        ("facts", "no JSON"),
        ("facts", '{"facts":{"unknown":1}}'),
        ("personal", '{"personal":{}}'),
        ("personal", '{"personal":null}'),
    ],
)
def test_a_text_that_is_none_of_ours_is_altered(changed, to):
    entry = golden_note()
    setattr(entry, changed, to)
    assert events.read(entry) == events.Altered()


@pytest.mark.parametrize(
    ("changed", "to"),
    [
        ("facts", '{"facts":{}}'),
        ("personal", '{"personal":{"text":"Something else"}}'),
        ("facts_salt", "0" * 32),
        ("personal_salt", ""),
        ("facts_hash", "0" * 64),
        ("personal_hash", "0" * 64),
        ("previous_hash", "1" * 64),
        ("hash", "0" * 64),
        ("sequence", 999),
        ("appended_at", AT.replace(microsecond=0)),
    ],
)
def test_what_the_hashes_cover(settings, changed, to):
    settings.LEDGER_KEY = KEY
    entry = golden_note()
    assert chain.fits(entry)
    setattr(entry, changed, to)
    assert chain.event_of(entry) == events.Altered()


def test_an_entry_without_its_personal_text_still_fits(settings):
    """An erased entry keeps the chain, and tells nothing."""
    settings.LEDGER_KEY = KEY
    entry = golden_note()
    entry.personal = entry.personal_salt = ""
    assert (chain.fits(entry), chain.erased(entry), chain.event_of(entry)) == (True, True, events.Altered())


def test_every_kind_that_is_about_a_row_names_columns_it_has():
    for cls in events.KINDS.values():
        if cls.about:
            for declared in cls.declared():
                path = declared.metadata["column"] or declared.metadata["digests"]
                if path and cls.about is not Act:
                    assert cls.about._meta.get_field(path.split("__")[0].removesuffix("_id")), (cls.kind, path)
        assert {f.name for f in dataclasses.fields(cls)} == {"about_id"} | {f.name for f in cls.declared()}, cls.kind
