"""Reading records into the tables where they wait to be judged, a hundred thousand as well as one.

Rows go straight into the database, some thousands in a transaction: nothing is locked while a file is read. In memory
are kept the numbers of the batches, each of which has a place, and the keys of the items of the batch at hand.
"""

import gc
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

from django.db import models, transaction
from django.db.models import Count, F, Min, OuterRef, Subquery, Sum, Value, Window
from django.db.models.functions import Concat, Round

from .. import history
from ..digest import canonical
from ..models import (
    Batch,
    BatchItem,
    Import,
    ImportProblem,
    Judgment,
    StagedAccount,
    StagedBatch,
    StagedContact,
    StagedItem,
    StagedLines,
)
from ..models.imports import PLACES
from .kinds import KINDS, Kind
from .problems import Problem, told

AT_ONCE = 20_000  # rows a transaction
STAGED: dict[str, Any] = {
    "accounts": StagedAccount,
    "contacts": StagedContact,
    "batches": StagedBatch,
    "items": StagedItem,
    "lines": StagedLines,
}
_COLUMNS = {
    "accounts": ["place", "line", "number", "name", "accounting_software", "active", "time_zone", "external_id"],
    "contacts": ["place", "line", "account_number", "name", "email", "phone", "is_admin", "external_id"],
    "batches": [
        "place",
        "line",
        "account_number",
        "number",
        "name",
        "status",
        "reached_by",
        "posted_on",
        "bypassed_on",
        "exported_on",
        "period_closed",
        "item_count",
        "total",
        "as_of",
        "external_id",
    ],
    "items": [
        "batch_id",
        "line",
        "kind",
        "number",
        "date",
        "customer",
        "amount",
        "memo",
        "export_id",
        "external_id",
        "job_number",
        "business_unit",
    ],
    "lines": ["batch_id", "line", "kind", "number", "count", "lines"],
}
_EXTERNAL_ID_OF_ITEM = KINDS["items"].header.index("external_id")
_AMOUNT = KINDS["items"].header.index("amount")
Row = tuple[Any, ...]


class Source(Protocol):
    """Where records of one kind come from, as `imports.reading.File` says it."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> Kind: ...
    @property
    def sha256(self) -> str: ...
    @property
    def unknown_columns(self) -> Sequence[str]: ...
    @property
    def spelling(self) -> str: ...
    def rows(self) -> Iterable[tuple[int, Any]]: ...
    def written(self) -> Iterable[tuple[int, Any]]: ...
    def reader(self) -> Callable[[int, Any], Any]: ...
    def text(self, cells: Any) -> str: ...


@dataclass(frozen=True)
class Records:
    """Records that a program hands over: (place, values) each, in the order of the kind's columns, None for none."""

    kind: Kind
    records: Iterable[tuple[int, Any]]
    name: str = "API"
    sha256: str = ""
    unknown_columns: Sequence[str] = ()

    @property
    def spelling(self) -> str:
        return "values"

    def rows(self) -> Iterable[tuple[int, Any]]:
        return self.records

    written = rows

    def reader(self) -> Callable[[int, Any], Any]:
        return lambda place, values: values

    def text(self, values: Any) -> str:
        return repr(values)


class _Scattered(Exception):
    """The items of one batch do not stand together in a file."""


@dataclass
class _Items:
    """The items of one batch, as they stand together in a file: (line, cells) each."""

    place: int
    cells: list[tuple[int, Any]]
    sha256: str


class Staging:
    """One import while it is read."""

    def __init__(self, imported: Import) -> None:
        self.imported = imported
        self.by_api = imported.source == Import.Source.API
        self.places: dict[str, dict[str, int]] = {}  # of the batches, by account and number
        self.lines: list[int] = []  # of each place: where the batch stood, -1 if only items of it did
        self.unlisted: dict[int, tuple[str, str]] = {}  # those that have no row yet: account and number
        self.begun = bytearray()  # of each place: whether items of the batch were read
        self.held: dict[int, str] = {}
        self.problems: list[ImportProblem] = []
        self.rows: Counter[str] = Counter()
        self.scattered = False  # items of one batch stand in several places

    def read(self, sources: Sequence[Source]) -> None:
        """Stage what the sources hold, in the order accounts, contacts, batches, items, lines."""
        was_enabled = gc.isenabled()
        gc.disable()  # rows have no cycles, and looking for some among them takes a fifth of the time
        try:
            self._read_all(sources)
        finally:
            if was_enabled:
                gc.enable()

    def _read_all(self, sources: Sequence[Source]) -> None:
        for kind in STAGED:
            of_kind = [(number, source) for number, source in enumerate(sources) if source.kind.name == kind]
            self.begun = bytearray()
            try:
                self._read(kind, of_kind)
            except _Scattered:
                self.scattered = True
                self._forget(kind)
                self._read(kind, of_kind)
        self._put_batches_that_are_not_listed()
        for place, why in self.held.items():
            StagedBatch.objects.filter(pk=place).update(held=why)
        self._refuse_what_came_twice()

    def _read(self, kind: str, sources: list[tuple[int, Source]]) -> None:
        read: Callable[..., Iterator[Row | None]] = getattr(self, f"_{kind}")
        for number, source in sources:
            self._put(kind, read(kind, number * PLACES, source if kind == "items" else source.rows()))

    def _forget(self, kind: str) -> None:
        """Take away what was read of a kind, to read it once more, in another way."""
        self.rows[kind] = 0
        self.problems.clear()
        self.imported.problems.filter(kind=kind)._raw_delete("default")
        staged = STAGED[kind].objects.filter(batch__place__range=self.imported.places)
        staged.order_by()._raw_delete("default")
        StagedBatch.objects.filter(place__range=self.imported.places).update(
            items=None, amount=None, items_sha256="", left_out=False
        )

    # One generator a kind, of rows for its table, and None when it is time to write down what was wrong.

    def _accounts(self, kind: str, at: int, rows: Iterable[tuple[int, Any]]) -> Iterator[Row | None]:
        for line, values in rows:
            if isinstance(values, list):
                yield from self._wrong(kind, at, values)
                continue
            place = self.imported.first_place + self.rows[kind]
            self.rows[kind] += 1
            yield (place, at + line, *values)

    _contacts = _accounts

    def _batches(self, kind: str, at: int, rows: Iterable[tuple[int, Any]]) -> Iterator[Row | None]:
        for line, values in rows:
            if isinstance(values, list):
                yield from self._wrong(kind, at, values)
                continue
            place = self._place(values[0], values[1])
            ordinal = place - self.imported.first_place
            if (earlier := self.lines[ordinal]) >= 0:
                yield from self._twice(kind, at + line, f"Batch {values[1]}", earlier, values[1])
                continue
            self.lines[ordinal] = at + line
            self.unlisted.pop(ordinal, None)
            self.rows[kind] += 1
            yield (place, at + line, *values)

    def _items(self, kind: str, at: int, source: Source) -> Iterator[Row | None]:
        """Yield the items of batches that are not on file just so.

        Those of one batch stand together, in a usual file. Raises _Scattered when they don't.
        """
        read, text, spelling = source.reader(), source.text, source.spelling
        waiting: list[_Items] = []
        cells_of_batch: list[tuple[int, Any]] = []
        count, key = 0, None
        for line, cells in source.written():
            if cells[:2] != key:
                if cells_of_batch:
                    waiting.append(self._items_of_one(cells_of_batch, read, text, spelling))
                if count >= AT_ONCE:
                    yield from self._not_on_file(kind, at, waiting, read)
                    waiting, count = [], 0
                cells_of_batch, key = [], cells[:2]
            cells_of_batch.append((line, cells))
            count += 1
        if cells_of_batch:
            waiting.append(self._items_of_one(cells_of_batch, read, text, spelling))
        yield from self._not_on_file(kind, at, waiting, read)

    def _items_of_one(self, cells: list[tuple[int, Any]], read: Any, text: Any, spelling: str) -> _Items:
        """Find the place of the batch that the first of some rows names; -1 if that can't be read."""
        first = read(*cells[0])
        known = first if isinstance(first, tuple) else getattr(first, "known", None) or (None, None)
        place = self._place(*known[:2]) if known[0] and known[1] else -1
        if place < 0 or isinstance(cells[0][1], list):
            return _Items(-1, cells, "")
        self._begin(place)
        written = "\x1e".join([spelling, *(text(row) for _, row in cells)])
        return _Items(place, cells, hashlib.sha256(written.encode()).hexdigest())

    def _not_on_file(self, kind: str, at: int, waiting: list[_Items], read: Any) -> Iterator[Row | None]:
        """Yield the items of those batches that have others on file, and note of all how many and which they are."""
        self._put_batches_that_are_not_listed()
        theirs = Batch.objects.filter(account__number=OuterRef("account_number"), number=OuterRef("number"))
        places = [of_batch.place for of_batch in waiting if of_batch.place >= 0]
        rows = StagedBatch.objects.filter(place__range=(min(places, default=0), max(places, default=0)))
        on_file = dict(rows.annotate(theirs=Subquery(theirs.values("items_sha256"))).values_list("place", "theirs"))
        noted: list[Row] = []
        for one in waiting:
            if left_out := one.place >= 0 and not self.scattered and one.sha256 == on_file[one.place]:
                noted.append((one.place, len(one.cells), None, one.sha256, left_out))
                self.rows[kind] += len(one.cells)
                continue
            staged, amount, flawed = [], Decimal(0), False
            seen: dict[Any, int] = {}
            for line, cells in one.cells:
                values = read(line, cells)
                if isinstance(values, list):
                    if values:
                        flawed = True
                        yield from self._wrong(kind, at, values)
                    continue
                item, external_id = values[2:4], values[_EXTERNAL_ID_OF_ITEM]
                if item in seen or (external_id and external_id in seen):
                    flawed = True
                    earlier = seen.get(item) or seen[external_id]
                    yield from self._twice(
                        kind, at + line, f"Item {values[3]} of batch {values[1]}", earlier, values[3]
                    )
                    continue
                seen[item] = at + line
                if external_id:
                    seen[external_id] = at + line
                amount += values[_AMOUNT]
                staged.append((one.place, at + line, *values[2:]))
            if staged:
                self.rows[kind] += len(staged)
                noted.append((one.place, len(staged), amount, "" if flawed else one.sha256, False))
                yield from staged
        if not self.scattered:
            history.update_rows(StagedBatch, ["place", "items", "amount", "items_sha256", "left_out"], noted)

    def _lines(self, kind: str, at: int, rows: Iterable[tuple[int, Any]]) -> Iterator[Row | None]:
        """Yield a row for each item: its lines come in the order of their numbers. Those of a batch stand together."""
        batch: Any = None
        items: dict[Row, tuple[int, dict[int, Any]]] = {}
        for line, values in rows:
            if isinstance(values, list):
                yield from self._wrong(kind, at, values)
                continue
            self.rows[kind] += 1
            if values[:2] != batch:
                yield from self._items_with_lines(items)
                self._begin(self._place(values[0], values[1]))
                batch, items = values[:2], {}
            first, lines = items.setdefault(values[:4], (at + line, {}))
            if values[4] in lines:
                yield from self._twice(kind, at + line, f"Line {values[4]} of item {values[3]}", first, str(values[4]))
                continue
            lines[values[4]] = {
                name: str(value) for name, value in zip(BatchItem.LINE, values[5:], strict=True) if value is not None
            }
        yield from self._items_with_lines(items)

    def _items_with_lines(self, items: dict[Row, tuple[int, dict[int, Any]]]) -> Iterator[Row]:
        for (account, batch, kind, number), (first, lines) in items.items():
            ordered = canonical([lines[position] for position in sorted(lines)])
            yield self._place(account, batch), first, kind, number, len(lines), ordered

    def _begin(self, place: int) -> None:
        """Note that the items of a batch begin here. Raises _Scattered if some of them stood somewhere else before."""
        ordinal = place - self.imported.first_place
        if ordinal >= len(self.begun):
            self.begun.extend(bytes(ordinal + 1 - len(self.begun) + AT_ONCE))
        if self.begun[ordinal] and not self.scattered:
            raise _Scattered
        self.begun[ordinal] = 1

    def _place(self, account: str, number: str) -> int:
        """Return the place of a batch, a new one for one that was not seen before."""
        of_account = self.places.setdefault(account, {})
        ordinal = of_account.setdefault(number, len(self.lines))
        if ordinal == len(self.lines):
            self.lines.append(-1)
            self.unlisted[ordinal] = account, number
        return self.imported.first_place + ordinal

    def _wrong(self, kind: str, at: int, problems: list[Problem]) -> Iterator[None]:
        """Note what is wrong with a row, and hold back its batch, which comes whole."""
        for problem in problems:
            self._note(kind, at + problem.line, problem.column, problem.value, problem.sentence)
        if kind in ("batches", "items", "lines"):
            account, number = (getattr(problems, "known", None) or (None, None))[:2]
            if account and number:
                said = f"Line {problems[0].line} of the {kind} has an error, and a batch comes whole."
                if self.by_api:
                    said = f"One of its {kind} has an error, and a batch comes whole."
                self.held.setdefault(self._place(account, number), said)
            elif not self.by_api:  # there, items come in their batch
                self.imported.incomplete = True
        if len(self.problems) >= AT_ONCE:
            yield None

    def _twice(self, kind: str, line: int, what: str, earlier: int, value: str) -> Iterator[None]:
        already = "came before in this call" if self.by_api else f"stands in line {earlier % PLACES} already"
        self._note(kind, line, "", told(value), f"{what} {already}.")
        if len(self.problems) >= AT_ONCE:
            yield None

    def _note(self, kind: str, line: int, column: str, value: str, sentence: str) -> None:
        self.problems.append(
            ImportProblem(
                imported=self.imported,
                kind=kind,
                judgment=Judgment.REFUSED,
                line=line,
                column=column,
                value=value,
                sentence=sentence,
                found=ImportProblem.Found.READING,
            )
        )

    def _put(self, kind: str, rows: Iterator[Row | None]) -> None:
        some: list[Row] = []
        for row in rows:
            if row is not None:
                some.append(row)
                if len(some) < AT_ONCE:
                    continue
            self._write(STAGED[kind], _COLUMNS[kind], some)
            some = []
        self._write(STAGED[kind], _COLUMNS[kind], some)

    @transaction.atomic
    def _write(self, model: type[models.Model], names: list[str], rows: list[Row]) -> None:
        ImportProblem.objects.bulk_create(self.problems, batch_size=1000)
        self.problems.clear()
        history.copy(model, names, rows)

    def _put_batches_that_are_not_listed(self) -> None:
        """Give each batch of which only items or lines came so far a row as well."""
        first = self.imported.first_place
        rows = [(first + ordinal, *known) for ordinal, known in self.unlisted.items()]
        self.unlisted.clear()
        history.copy(StagedBatch, ["place", "account_number", "number"], rows)

    def _refuse_what_came_twice(self) -> None:
        """Hold back what came before under another line: the later one is refused, and names the earlier."""
        for model, what, names in (
            (StagedAccount, "An account with this number", ["number"]),
            (StagedAccount, "An account with this external ID", ["external_id"]),
            (StagedContact, "A contact with this address", ["account_number", "email"]),
            (StagedContact, "A contact with this external ID", ["account_number", "external_id"]),
            (StagedBatch, "A batch with this external ID", ["account_number", "external_id"]),
        ):
            rows = model.objects.filter(place__range=self.imported.places, line__isnull=False, held="")
            first = Window(Min("line"), partition_by=[F(name) for name in names])
            later = rows.exclude(**{names[-1]: None}).annotate(first=first).filter(line__gt=F("first"))
            line = (Value(" stands in line "), F("first") % Value(PLACES), Value(" already."))
            already = (Value(" came before in this call."),) if self.by_api else line
            history.update_each(later, held=Concat(Value(what), *already, output_field=models.TextField()))
        if self.scattered:
            _delete_items_that_came_twice(self.imported)
            came = StagedItem.objects.filter(batch__place__range=self.imported.places).order_by().values("batch")
            history.update_select(StagedBatch, came, "batch", items=Count("line"), amount=Round(Sum("amount"), 2))


def _delete_items_that_came_twice(imported: Import) -> None:
    """Note, and take away, items and lines that stood before, in a file that does not keep batches together."""
    for kind, model, names, said in (
        ("items", StagedItem, ["kind", "number"], "Item {} of this batch stands in line {} already."),
        ("items", StagedItem, ["external_id"], "An item with the external ID of {} stands in line {} already."),
        ("lines", StagedLines, ["kind", "number"], "Lines of item {} stand from line {} on. Keep them together."),
    ):
        rows = model.objects.filter(batch__place__range=imported.places).exclude(**{names[-1]: None})
        first = Window(Min("line"), partition_by=[F(name) for name in ["batch_id", *names]])
        later = list(rows.annotate(first=first).filter(line__gt=F("first")).values_list("line", "first", "number"))
        for some in (later[start : start + 500] for start in range(0, len(later), 500)):
            ImportProblem.objects.bulk_create(
                ImportProblem(
                    imported=imported,
                    kind=kind,
                    judgment=Judgment.REFUSED,
                    line=line,
                    value=told(number),
                    sentence=said.format(number, earlier % PLACES),
                    found=ImportProblem.Found.READING,
                )
                for line, earlier, number in some
            )
            refused: models.QuerySet[Any] = rows.filter(line__in=[line for line, *_ in some]).order_by()
            if kind == "lines":  # what is left is not all of them
                said_of_batch = "Lines of one item stand apart from each other, and a batch comes whole."
                StagedBatch.objects.filter(pk__in=refused.values("batch"), held="").update(held=said_of_batch)
            refused._raw_delete("default")


def drop(imported: Import) -> None:
    """Delete what an import staged. What was wrong with it stays."""
    for kind, model in STAGED.items():
        place = "batch__place" if kind in ("items", "lines") else "place"
        model.objects.filter(**{f"{place}__range": imported.places}).order_by()._raw_delete("default")
