"""Rows and entries: each row that an entry is about agrees with it, and no change is without its entry.

This holds as soon as an entry is written, before any seal covers the row.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from heapq import merge
from itertools import groupby, islice, repeat
from operator import itemgetter
from typing import Any
from uuid import UUID

from django.apps import apps
from django.db.models import Count, Exists, F, Min, Model, OuterRef, QuerySet, Subquery

from ..digest import parsed, sha256
from ..models import Act, Batch, ConsentTerms, LedgerEntry
from ..texts import first_terms
from ..texts.formats import counted
from . import chain, events, seals
from .chain import Fault


def faults() -> Iterator[Fault]:
    """Compare all entries with the rows they are about; yield (kind of fault, a sentence) for each that differs."""
    altered: set[UUID] = set()
    for part in chain.walk():
        yield from differing(part.fitting)
        altered |= {entry.act for entry in part.altered}
    yield from beside(altered)


def differing(entries: Sequence[LedgerEntry]) -> Iterator[Fault]:
    """Compare some entries that fit their hashes with the rows they are about."""
    of_kinds = defaultdict(list)
    for entry in entries:
        of_kinds[entry.kind].append(entry)
    for name, of_kind in of_kinds.items():
        if (kind := events.KINDS.get(name)) and kind.about:
            yield from _differing(kind, kind.about, of_kind)


def beside(altered: Collection[UUID], after: int = 0) -> Iterator[Fault]:
    """Compare what is there with all entries, but for the acts of those that are altered.

    With `after`, the sequence of a seal, history that was written since then is compared with the acts since then.
    """
    yield from _acts(altered, after)
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
    recomputed = kind.recomputed(entries)
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
        elif name := _sum_that_differs(event, recomputed.get(entry.sequence, {})):
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


def _sum_that_differs(event: events.Event, recomputed: dict[str, Any]) -> str | None:
    return next((name for name, value in recomputed.items() if value != getattr(event, name)), None)


def _acts(altered: Collection[UUID], after: int) -> Iterator[Fault]:
    """Compare the history with the acts in the ledger: who, from where, when, and how many rows."""
    covered = seals.covered(after) if after else {}
    tables = [model for model in apps.get_app_config("unlocks").get_models() if hasattr(model, "history_object")]
    histories = (_history_of_acts(model, covered.get(model._meta.db_table, 0), after) for model in tables)
    streams = [_entries_of_acts(altered, after), *histories]
    # Acts come in no order that means anything: of each kind of fault the first row is named.
    found: dict[str, tuple[tuple[int, str], int]] = {}
    for act, of_act in groupby(merge(*streams, key=itemgetter(0)), key=itemgetter(0)):
        if act in altered:
            continue
        for kind, position, sentence in _faults_of_act(list(of_act)):
            first, count = found.get(kind, ((position, sentence), 0))
            found[kind] = min(first, (position, sentence)), count + 1
    for kind, ((_, sentence), count) in sorted(found.items()):
        yield from repeat((kind, sentence), count)


# Act, table, first row, rows, and who, from where and when; of an entry '', its sequence, and its rows by table.
_Row = tuple[UUID, str, int, Any, tuple[Any, ...]]
_WHO = ("user_id", "actor", "ip", "at")


def _entries_of_acts(altered: Collection[UUID], after: int) -> Iterator[_Row]:
    """Yield each entry, in the order of their acts; of altered ones nothing is read."""
    entries = LedgerEntry.objects.filter(sequence__gt=after).order_by("act", "sequence")
    rows = entries.values_list("act", "sequence", "facts", *_WHO)
    for act, sequence, facts, *who in rows.iterator(chunk_size=2000):
        yield act, "", sequence, {} if act in altered else parsed(facts)["rows"], tuple(who)


def _history_of_acts(model: type[Model], covered: int, after: int) -> Iterator[_Row]:
    """Yield the rows of a history by their acts, in the order of these.

    Of those that no seal covers yet, some may be of acts up to the entry `after`.
    """
    who = ("history_user_id", "history_actor", "history_ip", "history_date")
    history = model._base_manager.all()
    if after:
        earlier = LedgerEntry.objects.filter(act=OuterRef("history_act"), sequence__lte=after)
        history = history.filter(~Exists(earlier), history_id__gt=covered)
    rows = history.order_by("history_act").values_list("history_act", *who)
    for act, *identity, first, count in rows.annotate(first=Min("history_id"), n=Count("pk")).iterator():
        yield act, model._meta.db_table, first, count, tuple(identity)


def _faults_of_act(rows: list[_Row]) -> Iterator[tuple[str, int, str]]:
    """Yield (kind of fault, the row or entry that it is first seen at, a sentence)."""
    entries = [(sequence, counts, who) for _, table, sequence, counts, who in rows if not table]
    due: Counter[str] = Counter()
    for _, counts, _ in entries:
        due += Counter(counts)
    found: Counter[str] = Counter()
    for _, table, first, count, who in rows:
        if not table:
            continue
        found[table] += count
        if not entries:
            yield f"{table} untold", first, f"History in {table}, row {first}: no ledger entry tells of its act."
        elif differs := next((sequence for sequence, _, by in entries if by != who), None):
            finding = f"ledger entry {differs} tells of another person, address or time"
            yield f"{table} differs", first, f"History in {table}, row {first}: {finding}."
    for table in sorted(due | found) if entries and due != found else ():
        if due[table] != found[table]:
            sequence, rows_due = entries[0][0], counted(due[table], "row", "rows")
            finding = f"{rows_due} of the act of ledger entry {sequence} should be there, and {found[table]:,} are"
            yield f"{table} count", sequence, f"History in {table}: {finding}."


def _unlocked() -> Iterator[Fault]:
    """Compare each batch that has a grant with the act that instructed it, as the ledger records that in its case."""
    # The first act under the present grant: later ones may have changed the batch while it was unlocked.
    under_grant = Batch.history.filter(id=OuterRef("pk"), grant=OuterRef("grant"))
    acts = under_grant.order_by("history_id").values("history_act")[:1]
    unlocked = Batch.objects.filter(status__in=Batch.GRANTED).annotate(
        act=Subquery(acts), case=F("grant__consent__unlock_request")
    )
    columns = ("case", "act", "unlocked_by", "pk", "number")
    rows = unlocked.order_by(*columns[:-1]).values_list(*columns).iterator(chunk_size=2000)
    while some := list(islice(rows, chain.WALKED_AT_ONCE)):
        instructed = _instructed(some)
        for *_, pk, number in some:
            if pk not in instructed:
                yield (
                    "unlocked untold",
                    f"The unlock of batch {number} (id {pk}) was asked for by no act that the ledger tells of.",
                )


def _instructed(rows: list[tuple[int, UUID, int, int, str]]) -> set[int]:
    """Return the keys of those batches, each with its case, act and user, whose unlock an act of that user instructed.

    Of an act that the ledger tells of otherwise, none is.
    """
    done = events.verdicts([(act, case) for case, act, *_ in rows])
    case_and_act = ("line__unlock_request_id", "act_id")
    counts = {(case, act): n for case, act, n in done.order_by().values_list(*case_and_act).annotate(n=Count("pk"))}
    entries = LedgerEntry.objects.filter(
        kind=events.UnlockInstructed.kind,
        unlock_request__in={case for case, *_ in rows},
        act__in={act for _, act, *_ in rows},
    )
    told = defaultdict(list)
    for entry in entries:
        if chain.fits(entry) and isinstance(event := events.read(entry), events.UnlockInstructed):
            told[entry.unlock_request_id, entry.act, entry.user_id].append(event.batches)
    batches = {pk for *_, pk, _ in rows}
    there = set(done.filter(batch__in=batches).values_list(*case_and_act, "batch_id"))
    return {
        pk
        for case, act, user, pk, _ in rows
        if told[case, act, user] == [counts.get((case, act), 0)] and (case, act, pk) in there
    }
