"""Rows and entries: each row that an entry is about agrees with it, and no change is without its entry.

This holds as soon as an entry is written, before any seal covers the row.
"""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from heapq import merge
from itertools import groupby, islice, repeat
from operator import itemgetter
from typing import Any
from uuid import UUID

from django.apps import apps
from django.db.models import Count, Exists, F, Min, Model, OuterRef, QuerySet, Subquery

from ..digest import sha256
from ..models import Act, Batch, ConsentTerms, LedgerEntry
from ..texts import first_terms
from ..texts.formats import counted
from . import chain, events

_AT_ONCE = 500  # SQLite takes no more than 999 parameters in a statement

Fault = tuple[str, str]


def faults() -> Iterator[Fault]:
    """Compare entries with the rows they are about; yield (kind of fault, a sentence) for each that differs."""
    entries = LedgerEntry.objects.order_by("sequence").iterator(chunk_size=_AT_ONCE)
    while some := list(islice(entries, _AT_ONCE)):
        # The chain reports an altered entry; nothing is compared with it.
        intact = [entry for entry in some if chain.fits(entry)]
        for kind in events.KINDS.values():
            if kind.about:
                yield from _differing(kind, kind.about, [entry for entry in intact if entry.kind == kind.kind])
    yield from _acts()
    yield from _unlocked()
    first = ConsentTerms.objects.filter(version=1).values_list("title", "text").first()
    if first != (first_terms.TITLE, first_terms.TEXT):
        yield "terms", "Consent terms version 1 are not the text that the desk came with."


def without_entry() -> Iterator[tuple[str, QuerySet]]:
    """Yield (what is wrong, the rows that offend) for each kind of event that rows of a model have to have."""
    for kind in events.KINDS.values():
        if kind.about and kind.required is not None:
            entries = LedgerEntry.objects.filter(kind=kind.kind, about=kind.about._meta.model_name)
            rows = kind.about._base_manager.filter(kind.required)
            yield (
                f"no ledger entry “{kind.label}” is about it",
                rows.exclude(Exists(entries.filter(about_id=OuterRef("pk")))),
            )


def _differing(kind: type[events.Event], about: type[Model], entries: list[LedgerEntry]) -> Iterator[Fault]:
    named = str(about._meta.verbose_name)
    rows = _rows(kind, about, {key for entry in entries if (key := _key(kind, entry)) is not None})
    for entry in entries:
        if (key := _key(kind, entry)) is None:
            continue
        event = events.read(entry)
        if (row := rows.get(key)) is None:
            finding = f"is about {named} {key}, which is not there any more"
            yield f"{named} gone", f"Ledger entry {entry.sequence} {finding}."
        elif column := _column_that_differs(event, row, entry):
            finding = f"its column {column} differs from what ledger entry {entry.sequence} tells"
            yield f"{named} differs", f"{named.capitalize()} {key}: {finding}."
        elif name := _sum_that_differs(event, entry):
            finding = f"the rows that ledger entry {entry.sequence} sums up ({name}) are different now"
            yield f"{named} set differs", f"{named.capitalize()} {key}: {finding}."


def _key(kind: type[events.Event], entry: LedgerEntry) -> Any:
    return entry.act if kind.about is Act else entry.about_id


def _rows(kind: type[events.Event], about: type[Model], keys: set) -> dict[Any, dict[str, Any]]:
    if not keys:
        return {}
    columns = {*kind.columns, *kind.holds}
    digested = {declared.metadata["digests"] for declared in kind.declared()} - {""}
    columns |= digested | ({declared.metadata["column"] for declared in kind.declared()} - {""})
    found = about._base_manager.filter(pk__in=keys).values("pk", *columns)
    rows = {}
    for row in found.iterator(chunk_size=50):  # whole texts and PDFs are not all kept
        rows[row["pk"]] = row | {column: sha256(row[column]) for column in digested}
    return rows


def _column_that_differs(event: events.Event, row: dict[str, Any], entry: LedgerEntry) -> str | None:
    for declared in event.declared():
        for column in filter(None, (declared.metadata["column"], declared.metadata["digests"])):
            if row[column] != getattr(event, declared.name):
                return column
    repeated = {column: getattr(entry, name) for column, name in event.columns.items()} | event.holds
    return next((column for column, value in repeated.items() if row[column] != value), None)


def _sum_that_differs(event: events.Event, entry: LedgerEntry) -> str | None:
    return next((name for name, value in event.recomputed(entry).items() if value != getattr(event, name)), None)


def _acts() -> Iterator[Fault]:
    """Compare the history with the acts in the ledger: who, from where, when, and how many rows."""
    tables = [model for model in apps.get_app_config("unlocks").get_models() if hasattr(model, "history_object")]
    streams = [_entries_of_acts(), *(_history_of_acts(model) for model in tables)]
    # Acts come in no order that means anything: of each kind of fault the first row is named.
    found: dict[str, tuple[tuple[int, str], int]] = {}
    for _, of_act in groupby(merge(*streams, key=itemgetter(0)), key=itemgetter(0)):
        for kind, position, sentence in _faults_of_act([row[1:] for row in of_act]):
            first, count = found.get(kind, ((position, sentence), 0))
            found[kind] = min(first, (position, sentence)), count + 1
    for kind, ((_, sentence), count) in sorted(found.items()):
        yield from repeat((kind, sentence), count)


_Row = tuple[UUID, str, int, int, Any]


def _entries_of_acts() -> Iterator[_Row]:
    """Yield (act, '', sequence, 0, entry) of each entry, in the order of their acts."""
    for entry in LedgerEntry.objects.order_by("act", "sequence").iterator(chunk_size=_AT_ONCE):
        yield entry.act, "", entry.sequence, 0, entry


def _history_of_acts(model: type[Model]) -> Iterator[_Row]:
    """Yield (act, table, first row, number of rows, who and when) of the acts in a history, in their order."""
    who = ("history_user_id", "history_actor", "history_ip", "history_date")
    rows = model._base_manager.order_by("history_act").values_list("history_act", *who)
    for act, *identity, first, count in rows.annotate(first=Min("history_id"), n=Count("pk")).iterator():
        yield act, model._meta.db_table, first, count, tuple(identity)


def _faults_of_act(rows: list[tuple[str, int, int, Any]]) -> Iterator[tuple[str, int, str]]:
    """Yield (kind of fault, the row or entry that it is first seen at, a sentence)."""
    entries = [entry for table, *_, entry in rows if not table]
    if not all(chain.fits(entry) for entry in entries):
        return
    counted_by_entries: Counter[str] = Counter()
    for entry in entries:
        counted_by_entries += Counter(chain.rows_of(entry))
    found: Counter[str] = Counter()
    for table, first, count, identity in rows:
        if not table:
            continue
        found[table] += count
        if not entries:
            yield f"{table} untold", first, f"History in {table}, row {first}: no ledger entry tells of its act."
        elif differs := next((entry for entry in entries if _who(entry) != identity), None):
            finding = f"ledger entry {differs.sequence} tells of another person, address or time"
            yield f"{table} differs", first, f"History in {table}, row {first}: {finding}."
    for table in sorted(counted_by_entries | found) if entries else ():
        if counted_by_entries[table] != found[table]:
            sequence, rows_due = entries[0].sequence, counted(counted_by_entries[table], "row", "rows")
            finding = f"{rows_due} of the act of ledger entry {sequence} should be there, and {found[table]:,} are"
            yield f"{table} count", sequence, f"History in {table}: {finding}."


def _who(entry: LedgerEntry) -> tuple[int | None, str, str | None, datetime]:
    return entry.user_id, entry.actor, entry.ip, entry.at


def _unlocked() -> Iterator[Fault]:
    """Compare each batch that has a grant with the act that instructed it, as the ledger records that in its case."""
    # The first act under the present grant: later ones may have changed the batch while it was unlocked.
    under_grant = Batch.history.filter(id=OuterRef("pk"), grant=OuterRef("grant"))
    acts = under_grant.order_by("history_id").values("history_act")[:1]
    unlocked = Batch.objects.filter(status__in=Batch.GRANTED).annotate(
        act=Subquery(acts), case=F("grant__consent__unlock_request")
    )
    columns = ("case", "act", "unlocked_by", "pk", "number")
    rows = unlocked.order_by(*columns[:-1]).values_list(*columns)
    for (case, act, user), batches in groupby(rows.iterator(chunk_size=2000), key=lambda row: row[:3]):
        done = _done(case, act, user)
        for *_, pk, number in batches:
            if pk not in done:
                yield (
                    "unlocked untold",
                    f"The unlock of batch {number} (id {pk}) was asked for by no act that the ledger tells of.",
                )


def _done(case: int, act: UUID, user: int) -> set[int]:
    """Return the keys of the batches whose unlock an act of `user` instructed; none if the ledger tells otherwise."""
    kind, entries = events.UnlockInstructed, LedgerEntry.objects.filter(unlock_request=case, act=act, user=user)
    told_events = [events.read(entry) for entry in entries.filter(kind=kind.kind) if chain.fits(entry)]
    done = set(events.verdicts(act, case).values_list("batch", flat=True))
    numbers = [event.batches for event in told_events if isinstance(event, kind)]
    return done if numbers == [len(done)] else set()
