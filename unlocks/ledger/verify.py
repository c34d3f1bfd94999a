"""The audit: everything that can be recomputed, in one run, so that the extent of a fault is seen at once."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from django.apps import apps
from django.core.exceptions import ObjectDoesNotExist
from django.db import IntegrityError, connections
from django.db.models import Model, QuerySet

from .. import evidence
from ..database import guards
from . import anchors, chain, invariants, present, rows, seals, signing_keys
from .chain import Fault

T = TypeVar("T")
GUARDS = "Guards are missing or altered in the database"


def findings(
    heads: Iterable[anchors.Anchor] = (), *, after: int = 0, follow: Callable[[int], None] = lambda entries: None
) -> list[str]:
    """Recompute everything and compare it with anchors (`heads`); return the findings, none being an empty list.

    Each is a sentence on the first offender of its kind, and how many more there are. Rows are streamed. `follow` is
    called with how many entries more were recomputed. With `after`, the sequence of a seal, only what was written
    since that seal is recomputed, and of the invariants those about what is unlocked now.
    """
    ledger, told_of, now = _Check("the ledger"), _Check("what the ledger tells of"), _Check("what is there now")
    told, altered, entries = present.Told(), set(), 0
    for part in ledger.each(chain.walk(after)):
        ledger.note(part.faults)
        told_of.note(rows.differing(part.fitting))
        now.note(told.add(part.fitting))
        altered |= {entry.act for entry in part.altered}
        entries += len(part.fitting) + len(part.altered)
        follow(len(part.fitting) + len(part.altered))
    told_of.note(rows.beside(altered, after))
    if not after:
        now.note(told.faults())
    return [
        *_of_the_ledger(ledger, entries),
        *_found("the anchors", anchors.faults(heads)),
        *_found("the seals", seals.faults(after)),
        *told_of.found(),
        *_found("the certificate keys", signing_keys.faults(after)),
        *now.found(),
        *_found("the keys of related rows", _keys()),
        *_invariants(unlocked=bool(after)),
        *(() if after else _found("the evidence files", evidence.faults())),
        *_guards(),
    ]


class _Check:
    """What one check found: of each kind of fault the first sentence and how many there are.

    Who writes past the desk may leave what can't even be read. That is a finding too, and the rest is checked.
    """

    def __init__(self, name: str) -> None:
        self.name, self.firsts, self.broke_off = name, dict[str, tuple[str, int]](), False

    def note(self, faults: Iterable[Fault]) -> None:
        for kind, sentence in self.each(faults):
            first, count = self.firsts.get(kind, (sentence, 0))
            self.firsts[kind] = first, count + 1

    def each(self, read: Iterable[T]) -> Iterator[T]:
        """Yield what is read, until it can't be."""
        if self.broke_off:
            return
        try:
            yield from read
        except Exception as error:
            self.broke_off, reason = True, " ".join(str(error).split())
            sentence = f"The check of {self.name} broke off: {type(error).__name__}: {reason}."
            self.firsts["broke off"] = sentence, 1

    def found(self) -> list[str]:
        said = self.firsts.values()
        return [f"{sentence} {count - 1} more like it." if count > 1 else sentence for sentence, count in said]


def _found(name: str, faults: Iterable[Fault]) -> list[str]:
    check = _Check(name)
    check.note(faults)
    return check.found()


def _of_the_ledger(check: _Check, entries: int) -> list[str]:
    _, altered = check.firsts.get("hash", ("", 0))
    if altered == entries > 1:
        check.firsts["hash"] = (
            (
                f"None of the {entries} ledger entries fits LEDGER_KEY: this is not the key that sealed them, "
                "or the whole ledger was rewritten."
            ),
            1,
        )
    return check.found()


def _keys() -> Iterator[tuple[str, str]]:
    """Say which row of each table names another that is not there. Only SQLite lets who writes turn that check off."""
    connection = connections["default"]
    for model in apps.get_models() if connection.vendor == "sqlite" else ():
        try:
            connection.check_constraints([model._meta.db_table])
        except IntegrityError as error:
            yield model._meta.db_table, "".join(filter(str.isprintable, str(error)))


def _invariants(*, unlocked: bool) -> Iterator[str]:
    for wrong, offenders in invariants.offenders(unlocked=unlocked):
        yield from _found(f"“{wrong}”", _offender(wrong, offenders))


def _offender(wrong: str, rows: QuerySet) -> Iterator[tuple[str, str]]:
    if (count := rows.count()) == 0:
        return
    first: Model = rows.order_by("pk")[0]
    yield wrong, f"{str(first._meta.verbose_name).capitalize()} {_named(first)}(id {first.pk}): {wrong}."
    yield from ((wrong, "") for _ in range(count - 1))


def _named(row: Model) -> str:
    try:
        return f"{row} "
    except ObjectDoesNotExist:
        # Its name is made of another row's, which is gone.
        return ""


def _guards() -> Iterator[str]:
    if missing := guards.missing():
        yield f"{GUARDS}: {', '.join(missing)}."
