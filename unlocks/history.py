"""The only way to write a tracked model: the row and its history row, in one transaction.

Sets, not loops: `update` changes a hundred thousand rows in the same few statements as one. Outside this module
nobody calls `.update()`, `bulk_create` or `.save()` on a tracked model (a test reads the source and says so).
"""

from collections.abc import Sequence
from typing import Any, TypeVar

from django.core.exceptions import EmptyResultSet
from django.db import connections, transaction
from django.db.models import F, Manager, Model, QuerySet, Value
from django.db.models.expressions import Combinable

from .actors import Actor

M = TypeVar("M", bound=Model)


class ConcurrentChange(Exception):
    """Someone else changed the rows meanwhile; nothing was written. Trying again is safe."""


def save(instance: M, *, by: Actor, why: str = "") -> M:
    """Write one row, new or changed, with its history row; return it.

    Of a changed row only what history tracks is written: a form must not put an old PIN counter back.
    """
    row: Any = instance  # simple-history reads what to write from attributes of the instance
    tracked = [field.name for field in row.history.model.tracked_fields if not field.primary_key]
    row._history_by, row._history_user, row._history_date = by, by.user, by.act.at
    row._change_reason = why or None
    try:
        row.save(update_fields=None if row._state.adding else tracked)
    finally:
        del row._history_by, row._history_user, row._history_date, row._change_reason
    _count(row, by, 1)
    return instance


def lock(rows: QuerySet) -> None:
    """Lock a queryset's rows in the order of their keys until the transaction ends.

    Not their keys: a foreign key is checked at commit, after the ledger's lock, and has to wait for nobody there.
    SQLite has one writer at a time, and the transaction holds that place already.
    """
    if not connections[rows.db].features.has_select_for_update:
        return
    query = rows.order_by("pk").values("pk").select_for_update(of=("self",), no_key=True).query
    try:
        sql, params = query.get_compiler(rows.db).as_sql()
    except EmptyResultSet:
        return
    with connections[rows.db].cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM ({sql}) AS locked", params)


def lock_row(rows: QuerySet[M] | Manager[M], pk: int) -> M:
    """Lock one row as `lock` does, and return it as it is now. Raises DoesNotExist."""
    return rows.select_for_update(of=("self",), no_key=True).get(pk=pk)


@transaction.atomic
def update(rows: QuerySet, *, by: Actor, why: str = "", **changes: Any) -> int:
    """Change a queryset of a tracked model and write one history row for each row changed; return how many.

    `changes` are values or expressions over the row as it was. The caller has locked the rows.
    Raises ConcurrentChange, with nothing written, if the set was not the same for both statements.
    """
    model, db = rows.model, rows.db
    recorded = insert_select(
        model.history.model,
        rows.order_by(),
        **{
            field.attname: changes.get(field.name, changes.get(field.attname, F(field.attname)))
            for field in model.history.model.tracked_fields
        },
        **_history_columns(by, why, "~"),
    )
    if rows.order_by().using(db).update(**changes) != recorded:
        raise ConcurrentChange(f"{model._meta.verbose_name_plural} changed while they were being written.")
    _count(model, by, recorded)
    return recorded


@transaction.atomic
def insert(model: Any, rows: QuerySet, *, by: Actor, why: str = "", **columns: Any) -> int:
    """Insert one row of a tracked model for each row of a queryset, with history; return how many.

    `columns` are the new rows' values, as values or expressions over `rows`.
    """
    last = model._base_manager.using(rows.db).order_by("-pk").values_list("pk", flat=True).first() or 0
    count = insert_select(model, rows.order_by("pk"), **columns)
    new = model._base_manager.using(rows.db).filter(pk__gt=last)
    insert_select(
        model.history.model,
        new.filter(**{name: value for name, value in columns.items() if not isinstance(value, Combinable)}),
        **{field.attname: F(field.attname) for field in model.history.model.tracked_fields},
        **_history_columns(by, why, "+"),
    )
    _count(model, by, count)
    return count


def update_untracked(rows: QuerySet, **changes: Any) -> int:
    """Change columns that the model keeps out of its history (PIN counters, fingerprints); return how many."""
    tracked = {field.name for field in rows.model.history.model.tracked_fields}
    if tracked & changes.keys():
        raise ValueError(f"{', '.join(sorted(tracked & changes.keys()))}: tracked; use history.update.")
    return rows.update(**changes)


def insert_select(model: type[Model], rows: QuerySet, **columns: Any) -> int:
    """INSERT INTO model SELECT ... FROM rows: no row passes through Python; return how many were written."""
    fields: list[Any] = [model._meta.get_field(name) for name in columns]
    selected = {
        f"column_{number}": value if isinstance(value, Combinable) else Value(value, output_field=field)
        for number, (field, value) in enumerate(zip(fields, columns.values(), strict=True))
    }
    connection = connections[rows.db]
    query = rows.annotate(**selected).values_list(*selected).query
    try:
        sql, params = query.get_compiler(connection=connection).as_sql()
    except EmptyResultSet:
        return 0
    quote = connection.ops.quote_name
    names = ", ".join(quote(field.column) for field in fields)
    with connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO {quote(model._meta.db_table)} ({names}) {sql}", params)
        return cursor.rowcount


def insert_rows(model: type[Model], rows: Sequence[dict[str, Any]]) -> None:
    """Insert rows, each given by its columns, of a model without history, in one statement that is run for each."""
    if not rows:
        return
    connection = connections["default"]
    fields: list[Any] = [field for field in model._meta.concrete_fields if field.attname in rows[0]]
    columns, values = ", ".join(field.attname for field in fields), ", ".join(["%s"] * len(fields))
    with connection.cursor() as cursor:
        cursor.executemany(
            f"INSERT INTO {model._meta.db_table} ({columns}) VALUES ({values})",
            [[field.get_db_prep_save(row[field.attname], connection) for field in fields] for row in rows],
        )


def _count(model: Any, by: Actor, rows: int) -> None:
    """Count the history rows of an act, for the ledger entry that says how many there are."""
    by.act.rows[model.history.model._meta.db_table] += rows


def _history_columns(by: Actor, why: str, kind: str) -> dict[str, Any]:
    who = by.on_history()
    return {
        "history_date": by.act.at,
        "history_type": kind,
        "history_change_reason": why or None,
        "history_user_id": who["history_user"].pk if who["history_user"] else None,
        "history_actor": who["history_actor"],
        "history_ip": who["history_ip"],
        "history_act": who["history_act"],
    }
