"""Seals: what only grows (history and evidence), counted and digested into the ledger since the last seal.

Once a seal covers rows, any of them that is changed, added or taken away shows. What was written since the last seal
is not protected by one: of a history row that is not the newest of its object an edit shows only from the next seal
on. So seal often. A cut tail of the ledger itself shows only against an anchor (`unlocks.anchors`).
"""

import hashlib
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.apps import apps
from django.db import OperationalError, connection, transaction
from django.db.models import Model, QuerySet
from django.utils import timezone
from psycopg.errors import LockNotAvailable

from ..actors import Actor
from ..database.guards import declared
from ..digest import canonical_by, sha256
from ..models import Act, ConsentLink, LedgerEntry, Verdict
from ..texts.formats import counted
from . import chain, events

EVERY = timedelta(minutes=15)
COUNTED = 10_000  # rows that wait for a seal: before the first one of a large desk, counting all takes seconds
MARKS = 256  # at most, for a seal of a table: they narrow down where rows differ
WAIT = "250ms"  # for transactions that still write: whoever writes next waits behind the lock that is asked for

# An act has no order of its own, its key being random: it is sealed with each of its verdicts.
_ACT = ("act__kind", "act__by_id", "act__actor", "act__at", "act__why")
# A link changes while it is used; what it was sent with stays.
_OF_A_LINK = ("id", "unlock_request_id", "sent_to_id", "email", "terms_id", "token_hash", "sent_by_id", "sent_at")


def sealed_columns() -> dict[type[Model], list[str]]:
    """Return {model: the columns that a seal covers now}, by name of the table."""
    grows = declared.append_only_tables().keys() - {LedgerEntry._meta.db_table, Act._meta.db_table}
    models = [model for model in apps.get_app_config("unlocks").get_models() if model._meta.db_table in grows]
    columns = {model: [field.attname for field in model._meta.concrete_fields] for model in models}
    columns[Verdict] += _ACT
    columns[ConsentLink] = list(_OF_A_LINK)
    return {model: columns[model] for model in sorted(columns, key=lambda model: model._meta.db_table)}


def seal_history(*, by: Actor) -> int:
    """Seal the rows of history and evidence written since the last seal; return how many they are.

    No one waits while rows are read: rows up to the last id are final once their writers are done. A table whose
    writers are not done after 250 ms is left to the next time.
    """
    last, tables = _last_seals(), {}
    for model, columns in sealed_columns().items():
        table = model._meta.db_table
        after, covered = last.get(table, (0, columns))
        # A migration changed the columns: seal the table again from its first row.
        after = after if covered == columns else 0
        to = _written_to(model) or 0
        if to > after:
            tables[table] = _sealed(model, columns, after, to)
    if tables:
        with transaction.atomic():
            chain.append(events.Sealed(tables=tables), by=by)
    return sum(sealed["rows"] for sealed in tables.values())


def seal_when_due(*, by: Actor) -> int:
    """Seal what no seal covers yet, unless the newest seal is younger than EVERY; return how many rows were sealed."""
    if ((seal := newest()) and seal.appended_at > timezone.now() - EVERY) or not unsealed():
        return 0
    return seal_history(by=by)


def unsealed() -> int:
    """Return how many rows of history and evidence no seal covers yet; COUNTED + 1 if there are more than COUNTED."""
    last = _last_seals()
    keys = {model._meta.db_table: model._meta.pk.column for model in sealed_columns()}
    asked = ", ".join(
        f"(SELECT count(*) FROM (SELECT 1 FROM {table} WHERE {key} > %s LIMIT {COUNTED + 1}) AS new)"
        for table, key in keys.items()
    )
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {asked}", [last.get(table, (0,))[0] for table in keys])
        return min(sum(cursor.fetchone()), COUNTED + 1)


def in_words(rows: int) -> str:
    """Say how many rows are not sealed, as `unsealed` counts them."""
    return f"more than {COUNTED:,} rows" if rows > COUNTED else counted(rows, "row", "rows")


def faults(after: int = 0) -> Iterator[tuple[str, str]]:
    """Recompute every seal after the entry `after`; yield (the table, a sentence) for each that does not fit."""
    models = {model._meta.db_table: model for model in sealed_columns()}
    for sequence, tables in _seals("sequence", after=after):
        for table, sealed in tables.items():
            if table not in models:
                yield table, f"The table {table}, which ledger entry {sequence} sealed, is not there any more."
            elif fault := _fault(models[table], sealed, sequence):
                yield table, fault


def _fault(model: type[Model], sealed: dict[str, Any], sequence: int) -> str:
    columns = sealed["columns"]
    if gone := [column for column in columns if not _has(model, column)]:
        return f"The column {gone[0]} of {model._meta.db_table}, which ledger entry {sequence} sealed, is gone."
    rows, digest, marks, ids = _digest(model, columns, sealed["after"], sealed["to"], sealed["every"])
    if (rows, digest) == (sealed["rows"], sealed["sha256"]):
        return ""
    said = sealed["marks"]
    fitting = next((place for place, mark in enumerate(marks) if said[place * 8 : place * 8 + 8] != mark), len(marks))
    first = (ids[fitting - 1] if fitting else sealed["after"]) + 1
    what = "History" if hasattr(model, "history_object") else "Evidence"
    where = f", at row {first} or later"
    return (
        f"{what} in {model._meta.db_table} {_became(sealed['rows'], rows)}{where}: it is not what ledger entry "
        f"{sequence} sealed of rows {sealed['after'] + 1} to {sealed['to']}."
    )


def _became(then: int, now: int) -> str:
    if then == now:
        return "was altered"
    return f"{'lost' if now < then else 'gained'} {counted(abs(now - then), 'row', 'rows')}"


def _has(model: type[Model], column: str) -> bool:
    attnames = {field.attname for field in model._meta.concrete_fields}
    return column in attnames or (model is Verdict and column in _ACT)


def _seals(order: str, *, after: int = 0, upto: int | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (sequence, tables) of each seal; one that was altered is the chain's to report and seals nothing."""
    entries = LedgerEntry.objects.filter(kind=events.Sealed.kind, sequence__gt=after)
    entries = entries if upto is None else entries.filter(sequence__lte=upto)
    for entry in entries.order_by(order).iterator(chunk_size=100):
        if isinstance(event := chain.event_of(entry), events.Sealed):
            yield entry.sequence, event.tables


def newest() -> LedgerEntry | None:
    """Return the entry of the newest seal; None before the first."""
    return chain.newest(events.Sealed)


def is_seal(sequence: int) -> bool:
    """Say whether the entry of that number is a seal, and fits its hash."""
    entry = LedgerEntry.objects.filter(sequence=sequence).first()
    return entry is not None and isinstance(chain.event_of(entry), events.Sealed)


def covered(upto: int) -> dict[str, int]:
    """Return {table: the last id that a seal covers} by the seals up to that entry."""
    return {table: to for table, (to, _) in _last_seals(upto).items()}


def _last_seals(upto: int | None = None) -> dict[str, tuple[int, list[str]]]:
    """Return {table: (the last id that a seal covers, the columns it covers)}."""
    last: dict[str, tuple[int, list[str]]] = {}
    all_of_them = {model._meta.db_table for model in sealed_columns()}
    for _, tables in _seals("-sequence", upto=upto):
        for table, sealed in tables.items():
            last.setdefault(table, (sealed["to"], sealed["columns"]))
        if last.keys() >= all_of_them:
            break
    return last


def _sealed(model: type[Model], columns: list[str], after: int, to: int) -> dict[str, Any]:
    every = -(-_between(model, after, to).count() // MARKS)
    rows, digest, marks, _ = _digest(model, columns, after, to, every)
    return {
        "after": after,
        "columns": columns,
        "every": every,
        "marks": "".join(marks),
        "rows": rows,
        "sha256": digest,
        "to": to,
    }


def _between(model: type[Model], after: int, to: int) -> QuerySet:
    # Nothing lies before the first row: a row slipped in at 0 or below it counts too.
    rows = model._base_manager.filter(pk__lte=to)
    return rows.filter(pk__gt=after) if after else rows


def _digest(
    model: type[Model], columns: list[str], after: int, to: int, every: int
) -> tuple[int, str, list[str], list[int]]:
    """Read rows in order of id; return their number, the SHA-256 (hex) over them, its marks and the marks' ids.

    Each row is a line of JSON. A mark is the beginning of the digest as it is after `every` rows.
    """
    rows, digest, marks, ids = 0, hashlib.sha256(b"unlock-desk seal/2\n"), [], []
    written = _between(model, after, to).order_by("pk").values_list("pk", *columns)
    for key, *row in written.iterator(chunk_size=2000 if hasattr(model, "history_object") else 200):
        rows += 1
        digest.update(_line(row).encode() + b"\n")
        if rows % every == 0:
            marks.append(digest.hexdigest()[:8])
            ids.append(key)
    return rows, digest.hexdigest(), marks, ids


def _exact(value: Any) -> str:
    match value:
        case datetime() | date():
            return value.isoformat()
        case Decimal() | UUID():
            return str(value)
        case bytes() | memoryview():
            return sha256(bytes(value))
    raise TypeError(f"{type(value).__name__} cannot be sealed.")


_line = canonical_by(_exact)


def _written_to(model: type[Model]) -> int | None:
    """Return the last id of a table, once all transactions with a lower one have committed or rolled back.

    None is returned when that takes too long, and for an empty table. Holding one table at a time, and nothing else,
    this can't come into a deadlock with a verb. On SQLite there is one writer, and what it has not committed cannot be
    seen.
    """
    newest = model._base_manager.order_by("-pk").values_list("pk", flat=True)
    if connection.vendor != "postgresql":
        return newest.first()
    try:
        with transaction.atomic(durable=True), connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL lock_timeout = '{WAIT}'")
            cursor.execute(f"LOCK TABLE {connection.ops.quote_name(model._meta.db_table)} IN SHARE MODE")
            return newest.first()
    except OperationalError as error:
        if not isinstance(error.__cause__, LockNotAvailable):
            raise
        return None
