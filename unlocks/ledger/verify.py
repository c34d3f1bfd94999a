"""The audit: everything that can be recomputed, in one run, so that the extent of a fault is seen at once."""

from collections.abc import Iterable, Iterator

from django.apps import apps
from django.core.exceptions import ObjectDoesNotExist
from django.db import IntegrityError, connections
from django.db.models import Model, QuerySet

from .. import evidence
from ..database import guards
from ..models import LedgerEntry
from . import anchors, chain, invariants, present, rows, seals, signing_keys

GUARDS = "Guards are missing or altered in the database"


def findings(heads: Iterable[anchors.Anchor] = ()) -> list[str]:
    """Recompute everything and compare it with anchors (`heads`); return the findings, none being an empty list.

    Each is a sentence on the first offender of its kind, and how many more there are. Rows are streamed.
    """
    return [
        *_ledger(),
        *_said(_firsts("the anchors", anchors.faults(heads))),
        *_said(_firsts("the seals", seals.faults())),
        *_said(_firsts("what the ledger tells of", rows.faults())),
        *_said(_firsts("the certificate keys", signing_keys.faults())),
        *_said(_firsts("what is there now", present.faults())),
        *_said(_firsts("the keys of related rows", _keys())),
        *_invariants(),
        *_said(_firsts("the evidence files", evidence.faults())),
        *_guards(),
    ]


def _firsts(name: str, faults: Iterable[tuple[str, str]]) -> dict[str, tuple[str, int]]:
    """Return {kind: (the first sentence, how many)}.

    Who writes past the desk may leave what can't even be read. That is a finding too, and the rest is checked.
    """
    firsts: dict[str, tuple[str, int]] = {}
    try:
        for kind, sentence in faults:
            first, count = firsts.get(kind, (sentence, 0))
            firsts[kind] = first, count + 1
    except Exception as error:
        reason = " ".join(str(error).split())
        firsts["broke off"] = f"The check of {name} broke off: {type(error).__name__}: {reason}.", 1
    return firsts


def _said(firsts: dict[str, tuple[str, int]]) -> list[str]:
    return [f"{sentence} {count - 1} more like it." if count > 1 else sentence for sentence, count in firsts.values()]


def _ledger() -> list[str]:
    firsts, entries = _firsts("the ledger", chain.faults()), LedgerEntry.objects.count()
    _, altered = firsts.get("hash", ("", 0))
    if altered == entries > 1:
        firsts["hash"] = (
            (
                f"None of the {entries} ledger entries fits LEDGER_KEY: this is not the key that sealed them, "
                "or the whole ledger was rewritten."
            ),
            1,
        )
    return _said(firsts)


def _keys() -> Iterator[tuple[str, str]]:
    """Say which row of each table names another that is not there. Only SQLite lets who writes turn that check off."""
    connection = connections["default"]
    for model in apps.get_models() if connection.vendor == "sqlite" else ():
        try:
            connection.check_constraints([model._meta.db_table])
        except IntegrityError as error:
            yield model._meta.db_table, "".join(filter(str.isprintable, str(error)))


def _invariants() -> Iterator[str]:
    for wrong, offenders in invariants.offenders():
        yield from _said(_firsts(f"“{wrong}”", _offender(wrong, offenders)))


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
