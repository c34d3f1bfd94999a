"""What changed in batches while they were unlocked: as they stood at the product's answer, against what came in since.

Which of two changes came first is what the ledger says: the order of its entries is that of the commits. What came in
after a batch was relocked or exported counts too, up to its next unlock: nothing in there can be changed meanwhile, so
the product only said it late.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from difflib import SequenceMatcher
from itertools import groupby
from typing import Any, NamedTuple

from django.db.models import Min, QuerySet

from .ledger import events
from .models import Batch, BatchItem, LedgerEntry, RequestedBatch, Verdict

BATCH_FIELDS = ("number", "name", "total", "item_count", "posted_on", "bypassed_on")
ITEM_FIELDS = (
    "kind",
    "number",
    "date",
    "customer",
    "amount",
    "memo",
    "export_id",
    "job_number",
    "business_unit",
)


# An act may have begun so long before it was committed.
_ACTS_LAST = timedelta(days=1)


class LineChange(NamedTuple):
    """A line of an item, by its place from 1, that differs in a field of LINE; '' and None where all of it is new."""

    place: int
    field: str
    before: Any
    after: Any


@dataclass
class ItemChange:
    """An item that was added, that left, or that differs in `fields` and `lines`.

    `before` and `after` are rows of its history; the first is None if it was not there.
    """

    before: Any
    after: Any
    fields: list[str]
    lines: list[LineChange]

    @property
    def what(self) -> str:
        if self.before is None or self.before.left_at:
            return "added"
        return "left" if self.after.left_at else "changed"


@dataclass
class BatchChange:
    """A batch that was unlocked, and what differs in it and its items. `before` and `after` are rows of its history.

    `late`: some of it came in after its unlock had ended.
    """

    line: RequestedBatch
    unlocked_at: datetime
    ended_at: datetime | None
    before: Any = None
    after: Any = None
    fields: list[str] = field(default_factory=list)
    items: list[ItemChange] = field(default_factory=list)
    late: bool = False

    @property
    def differs(self) -> bool:
        return bool(self.fields or self.items)

    @property
    def is_known(self) -> bool:
        """Whether the product has said anything of the batch since the unlock."""
        as_of = self.line.batch.as_of
        return self.differs or (as_of is not None and as_of > self.unlocked_at)

    def note_when(self, after: Any) -> None:
        """Note whether a row of history with a change came in after the unlock had ended."""
        self.late |= self.ended_at is not None and after.history_date > self.ended_at


@dataclass(frozen=True)
class _Span:
    """From which entry of the ledger on a batch was unlocked, and before which it was unlocked again."""

    start: int
    end: float


def while_unlocked(lines: QuerySet[RequestedBatch]) -> list[BatchChange]:
    """Return each batch of some lines of one request that was unlocked, and what changed in it, by its number.

    That takes the same number of queries whatever the number of batches.
    """
    told = {entry.act: entry for entry in _entries(lines)}
    acts: dict[int, list[LedgerEntry]] = defaultdict(list)
    done = Verdict.objects.filter(act__in=_entries(lines).values("act"), line__in=lines.values("pk"), refusal="")
    for act, line in done.values_list("act", "line"):
        acts[line].append(told[act])
    found = {}
    for line in lines.filter(pk__in=done.values("line")).select_related("batch").order_by("batch__number", "pk"):
        ends = {entry.kind: entry for entry in acts[line.pk]}
        if begun := ends.pop(events.Unlocked.kind, None):
            ended = next(iter(ends.values()), None)
            found[line.batch_id] = begun.sequence, BatchChange(line, begun.at, ended and ended.at)
    if found:
        _compare({batch: change for batch, (_, change) in found.items()}, _spans(found, lines), lines)
    return [change for _, change in found.values()]


def _entries(lines: QuerySet[RequestedBatch]) -> QuerySet[LedgerEntry]:
    """Return the entries that tell when batches of some lines were unlocked, and when that ended."""
    kinds = (events.Unlocked.kind, events.Relocked.kind, events.ReExported.kind)
    return LedgerEntry.objects.filter(unlock_request__in=lines.order_by().values("unlock_request"), kind__in=kinds)


def _spans(found: dict[int, tuple[int, BatchChange]], lines: QuerySet[RequestedBatch]) -> dict[int, _Span]:
    """Return the span of each batch, given with the entry that its unlock began with."""
    first = min(begun for begun, _ in found.values())
    accounts = Batch.objects.filter(lines__in=lines.order_by().values("pk")).order_by().values("account")
    later = LedgerEntry.objects.filter(kind=events.Unlocked.kind, account__in=accounts, sequence__gt=first)
    sequences = dict(later.order_by().values_list("act", "sequence"))
    again: dict[int, list[int]] = defaultdict(list)
    unlocked = Verdict.objects.filter(act__in=later.order_by().values("act"), batch__in=_batches(lines), refusal="")
    for act, batch in unlocked.values_list("act", "batch"):
        again[batch].append(sequences[act])
    return {
        batch: _Span(begun, min((later for later in again[batch] if later > begun), default=float("inf")))
        for batch, (begun, _) in found.items()
    }


def _batches(lines: QuerySet[RequestedBatch]) -> QuerySet[Any]:
    return lines.order_by().values("batch")


def _compare(changes: dict[int, BatchChange], spans: dict[int, _Span], lines: QuerySet[RequestedBatch]) -> None:
    """Add to the batches what differs in them and in their items."""
    batches, since = _batches(lines), min(change.unlocked_at for change in changes.values()) - _ACTS_LAST
    own = LedgerEntry.objects.filter(unlock_request__in=lines.order_by().values("unlock_request")).values("act")
    touched = Batch.history.filter(id__in=batches, history_date__gte=since).exclude(history_act__in=own)
    for batch, before, after in _pairs(Batch.history.filter(id__in=touched.order_by().values("id")), "id", spans):
        change = changes[batch]
        if fields := _differing(before, after, BATCH_FIELDS):
            change.before, change.after, change.fields = before, after, fields
            change.note_when(after)
    touched = BatchItem.history.filter(
        id__in=BatchItem.objects.filter(batch__in=batches).order_by().values("id"), history_date__gte=since
    )
    for batch, before, after in _pairs(
        BatchItem.history.filter(id__in=touched.order_by().values("id")), "batch_id", spans
    ):
        if item := _item_change(before, after):
            changes[batch].items.append(item)
            changes[batch].note_when(after)


def _pairs(versions: QuerySet[Any], batch: str, spans: dict[int, _Span]) -> Iterator[tuple[int, Any, Any]]:
    """Yield of each record the key of its batch, and its rows of history at the unlock (or None) and last."""
    told = LedgerEntry.objects.filter(act__in=versions.order_by().values("history_act"))
    sequences = dict(told.order_by().values("act").annotate(first=Min("sequence")).values_list("act", "first"))
    for _, rows in groupby(versions.order_by("id", "history_id").iterator(chunk_size=2000), key=lambda row: row.id):
        placed = [(sequences.get(row.history_act, 0), row) for row in rows]
        if span := spans.get(getattr(placed[-1][1], batch)):
            before = [row for sequence, row in placed if sequence <= span.start]
            since = [row for sequence, row in placed if span.start < sequence < span.end]
            if since:
                yield getattr(since[-1], batch), before[-1] if before else None, since[-1]


def _item_change(before: Any, after: Any) -> ItemChange | None:
    """Return what became of an item, or None if nothing that counts did."""
    was, is_there = before is not None and before.left_at is None, after.left_at is None
    if was and is_there:
        fields = _differing(before, after, ITEM_FIELDS)
        lines = [] if before.lines == after.lines else list(differing_lines(before.lines, after.lines))
        return ItemChange(before, after, fields, lines) if fields or lines else None
    return ItemChange(before, after, [], []) if was or is_there else None


def _differing(before: Any, after: Any, names: Iterable[str]) -> list[str]:
    return [name for name in names if getattr(before, name) != getattr(after, name)]


def differing_lines(before: str, after: str) -> Iterator[LineChange]:
    """Yield what differs between two lists of lines, as they are kept: where lines were put in between, only those."""
    was, becomes = json.loads(before), json.loads(after)
    for tag, i, i_end, j, j_end in SequenceMatcher(None, *map(_texts, (was, becomes)), autojunk=False).get_opcodes():
        if tag == "equal":
            continue
        common = min(i_end - i, j_end - j)
        for place in range(common):
            old, new = was[i + place], becomes[j + place]
            for name in BatchItem.LINE:
                if old.get(name, "") != new.get(name, ""):
                    yield LineChange(j + place + 1, name, old.get(name, ""), new.get(name, ""))
        yield from (LineChange(place + 1, "", was[place], None) for place in range(i + common, i_end))
        yield from (LineChange(place + 1, "", None, becomes[place]) for place in range(j + common, j_end))


def _texts(lines: list[dict[str, str]]) -> list[str]:
    return [json.dumps(line, sort_keys=True) for line in lines]
