"""The only way to write a tracked model: the row and its history row, in one transaction.

Sets, not loops: `update` changes a hundred thousand rows in the same few statements as one. Outside this module
nobody calls `.update()`, `bulk_create` or `.save()` on a tracked model (a test reads the source and says so).
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any, TypeVar

from django.core.exceptions import EmptyResultSet
from django.db import connections, transaction
from django.db.models import DateField, DateTimeField, DecimalField, F, Manager, Model, QuerySet, Value
from django.db.models.expressions import Combinable, RawSQL

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
    """Insert one row of a tracked model for each row of a queryset, in the order of their keys, with history.

    Return how many. `columns` are the new rows' values, as values or expressions over `rows`.
    """
    past, recorded = model.history.model, _history_columns(by, why, "+")
    tracked = [field.attname for field in past.tracked_fields]
    if connections[rows.db].vendor == "postgresql":
        count = _insert_both(model, rows.order_by("pk"), columns, tracked, recorded)
    else:
        # Nobody else writes meanwhile.
        last = model._base_manager.using(rows.db).order_by("-pk").values_list("pk", flat=True).first() or 0
        count = insert_select(model, rows.order_by("pk"), **columns)
        new = model._base_manager.using(rows.db).filter(pk__gt=last)
        insert_select(past, new, **{name: F(name) for name in tracked}, **recorded)
    _count(model, by, count)
    return count


@transaction.atomic
def update_from(rows: QuerySet, target: str, *, by: Actor, why: str = "", **changes: Any) -> int:
    """Change the record of a tracked model that each row of a queryset names by `target`, with history.

    Return how many. `changes` are values or expressions over `rows`, no two of which name the same record. The caller
    has locked the records. Raises ConcurrentChange, with nothing written, if one of them is not there any more.
    """
    model: Any = rows.model._meta.get_field(target).related_model
    recorded = insert_select(
        model.history.model,
        rows.order_by(),
        **{
            field.attname: changes.get(field.name, changes.get(field.attname, F(f"{target}__{field.attname}")))
            for field in model.history.model.tracked_fields
        },
        **_history_columns(by, why, "~"),
    )
    if _update_select(model, rows.order_by(), {"id": F(target)}, changes) != recorded:
        raise ConcurrentChange(f"{model._meta.verbose_name_plural} changed while they were being written.")
    _count(model, by, recorded)
    return recorded


def update_untracked(rows: QuerySet, **changes: Any) -> int:
    """Change columns that the model keeps out of its history (PIN counters, fingerprints); return how many."""
    _refuse_tracked(rows.model, changes)
    return rows.update(**changes)


def _refuse_tracked(model: Any, changes: dict[str, Any]) -> None:
    """Raise ValueError when changes are of columns that history tracks."""
    tracked = {field.name for field in model.history.model.tracked_fields} if hasattr(model, "history") else set()
    if names := sorted(tracked & changes.keys()):
        raise ValueError(f"{', '.join(names)}: tracked; use history.update or history.update_from.")


def update_each(rows: QuerySet, **changes: Any) -> int:
    """Change each row of a queryset of a model without history, by expressions that may follow relations.

    Return how many.
    """
    keys = {field.column: F(field.attname) for field in rows.model._meta.pk_fields}
    return _update_select(rows.model, rows.order_by(), keys, changes)


def update_select(model: Any, rows: QuerySet, key: str, **changes: Any) -> int:
    """Change the row that `key` of each row of a queryset names, in columns without history; return how many."""
    _refuse_tracked(model, changes)
    return _update_select(model, rows.order_by(), {model._meta.pk.column: F(key)}, changes)


class Prepared:
    """An `update_select` by long expressions: its SQL is made once a database, which takes longer than running it.

    `change` returns the changes, in columns without history, given the time at which they are made.
    """

    _WHICH, _AT = "/* which rows */", datetime(9999, 1, 1, tzinfo=UTC)

    def __init__(self, model: Any, change: Callable[[datetime], dict[str, Any]]) -> None:
        self.model, self.change = model, change
        self._made = cache(self._make)

    def run(self, rows: QuerySet, *, at: datetime) -> None:
        """Change the rows of a queryset of the model, at a time."""
        connection = connections[rows.db]
        try:
            which, of_rows = rows.order_by().values("pk").query.get_compiler(connection=connection).as_sql()
        except EmptyResultSet:
            return
        sql, params = self._made(rows.db)
        adapt = connection.ops.adapt_datetimefield_value
        values: list[Any] = []
        for value in params:
            values += of_rows if value == self._WHICH else [adapt(at) if value == adapt(self._AT) else value]
        with connection.cursor() as cursor:
            cursor.execute(sql.replace(self._WHICH, which), values)

    def _make(self, using: str) -> tuple[str, list[Any]]:
        changes = self.change(self._AT)
        _refuse_tracked(self.model, changes)
        chosen = self.model._base_manager.using(using).filter(pk__in=RawSQL(self._WHICH, [self._WHICH]))
        return _updating(self.model, chosen, {self.model._meta.pk.column: F("pk")}, changes)


def _update_select(model: Any, rows: QuerySet, keys: dict[str, Any], changes: dict[str, Any]) -> int:
    try:
        sql, params = _updating(model, rows, keys, changes)
    except EmptyResultSet:
        return 0
    with connections[rows.db].cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.rowcount


def _updating(model: Any, rows: QuerySet, keys: dict[str, Any], changes: dict[str, Any]) -> tuple[str, list[Any]]:
    """UPDATE model SET ... FROM (SELECT ... FROM rows): expressions are selected, values are set.

    Raises EmptyResultSet when there is nothing to change.
    """
    connection = connections[rows.db]
    fields = {name: model._meta.get_field(name) for name in changes}
    selected = {
        f"column_{number}": value
        for number, (name, value) in enumerate(changes.items())
        if isinstance(value, Combinable)
    }
    named = {f"key_{column}": value for column, value in keys.items()}
    query = rows.annotate(**named, **selected).values_list(*named, *selected).query
    sql, params = query.get_compiler(connection=connection).as_sql()
    quote, sets, values = connection.ops.quote_name, [], []
    for number, (name, value) in enumerate(changes.items()):
        is_selected = isinstance(value, Combinable)
        sets.append(f"{quote(fields[name].column)} = {f'j.column_{number}' if is_selected else '%s'}")
        if not is_selected:
            values.append(fields[name].get_db_prep_save(value, connection))
    table = quote(model._meta.db_table)
    same = " AND ".join(f"{table}.{quote(column)} = j.{quote(f'key_{column}')}" for column in keys)
    return f"UPDATE {table} SET {', '.join(sets)} FROM ({sql}) AS j WHERE {same}", [*values, *params]


def insert_select(model: type[Model], rows: QuerySet, **columns: Any) -> int:
    """INSERT INTO model SELECT ... FROM rows: no row passes through Python; return how many were written."""
    try:
        sql, params = _inserting(model, rows, columns)
    except EmptyResultSet:
        return 0
    with connections[rows.db].cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.rowcount


def _inserting(model: type[Model], rows: QuerySet, columns: dict[str, Any]) -> tuple[str, tuple[Any, ...]]:
    """Return the statement, and its parameters. Raises EmptyResultSet when there is nothing to insert."""
    fields: list[Any] = [model._meta.get_field(name) for name in columns]
    selected = {
        f"column_{number}": value if isinstance(value, Combinable) else Value(value, output_field=field)
        for number, (field, value) in enumerate(zip(fields, columns.values(), strict=True))
    }
    connection = connections[rows.db]
    query = rows.annotate(**selected).values_list(*selected).query
    sql, params = query.get_compiler(connection=connection).as_sql()
    quote = connection.ops.quote_name
    names = ", ".join(quote(field.column) for field in fields)
    return f"INSERT INTO {quote(model._meta.db_table)} ({names}) {sql}", tuple(params)


def _insert_both(
    model: Any, rows: QuerySet, columns: dict[str, Any], tracked: list[str], recorded: dict[str, Any]
) -> int:
    """Insert rows and their history in one statement: others may insert into the same table meanwhile."""
    try:
        sql, params = _inserting(model, rows, columns)
    except EmptyResultSet:
        return 0
    connection, past = connections[rows.db], model.history.model
    quote = connection.ops.quote_name
    names = ", ".join(quote(model._meta.get_field(name).column) for name in tracked)
    fields = [past._meta.get_field(name) for name in recorded]
    values = [field.get_db_prep_save(value, connection) for field, value in zip(fields, recorded.values(), strict=True)]
    with connection.cursor() as cursor:
        cursor.execute(
            f"WITH written AS ({sql} RETURNING {names}) INSERT INTO {quote(past._meta.db_table)} "
            f"({names}, {', '.join(quote(field.column) for field in fields)}) "
            f"SELECT {names}, {', '.join(['%s'] * len(fields))} FROM written",
            [*params, *values],
        )
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


def copy(model: type[Model], names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows of a model without history, each the values of the columns named, in the way that is the fastest."""
    if not rows:
        return
    connection = connections["default"]
    fields: list[Any] = [model._meta.get_field(name) for name in names]
    table, columns = model._meta.db_table, ", ".join(field.column for field in fields)
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            with cursor.copy(f"COPY {table} ({columns}) FROM STDIN") as copying:
                write = copying.write_row
                for row in rows:
                    write(row)
            return
        cursor.executemany(
            f"INSERT INTO {table} ({columns}) VALUES ({', '.join(['%s'] * len(fields))})",
            _as_sqlite_keeps(fields, rows),
        )


def update_rows(model: type[Model], names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    """Change rows of a model without history, each given by its key and the values of the columns named after that."""
    if not rows:
        return
    connection = connections["default"]
    fields: list[Any] = [model._meta.get_field(name) for name in names]
    table, (key, *columns) = model._meta.db_table, [field.column for field in fields]
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            types = ", ".join(f"%s::{field.rel_db_type(connection).split('(')[0]}[]" for field in fields)
            cursor.execute(
                f"UPDATE {table} SET {', '.join(f'{name} = j.{name}' for name in columns)} "
                f"FROM unnest({types}) AS j ({key}, {', '.join(columns)}) WHERE {table}.{key} = j.{key}",
                [list(values) for values in zip(*rows, strict=True)],
            )
            return
        cursor.executemany(
            f"UPDATE {table} SET {', '.join(f'{name} = %s' for name in columns)} WHERE {key} = %s",
            [[*values[1:], values[0]] for values in _as_sqlite_keeps(fields, rows)],
        )


def _as_sqlite_keeps(fields: Sequence[Any], rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    """Return rows with the days, times and amounts that SQLite keeps as texts."""
    converted = [(number, _AS_TEXT[type(field)]) for number, field in enumerate(fields) if type(field) in _AS_TEXT]
    kept = [list(row) for row in rows]
    for values in kept:
        for number, convert in converted:
            if values[number] is not None:
                values[number] = convert(values[number])
    return kept


_AS_TEXT: dict[type, Any] = {
    DateField: str,
    DecimalField: str,
    DateTimeField: lambda at: connections["default"].ops.adapt_datetimefield_value(at),
}


def _count(model: Any, by: Actor, rows: int) -> None:
    """Count the history rows of an act, for the ledger entry that says how many there are."""
    if rows:
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
