"""The guards of SQLite: a trigger a guard, judged row by row before it is written.

A trigger of someone else that says RAISE(IGNORE) would end what comes after it, so that none judges after the fact.
"""

from itertools import chain

from django.apps import apps
from django.db import models

from .. import fingerprint
from . import constraints, declared


class _Seconds:
    """A time, which is a text, in whole seconds."""

    def __format__(self, time):
        return f"CAST(strftime('%s', {time}) AS integer)"


_NAMES = {
    "seconds": _Seconds(),
    "new": "NEW",
    "old": "OLD",
    "now": "strftime('%Y-%m-%d %H:%M:%f', 'now')",
    "half_an_hour_ago": "strftime('%Y-%m-%d %H:%M:%f', 'now', '-30 minutes')",
    "in_four_days": "strftime('%Y-%m-%d %H:%M:%f', 'now', '+4 days')",
    "fingerprint": fingerprint.sql("sqlite", "NEW"),
    "differs": "IS NOT",
}


def expected(connection):
    """Return {name: SQL} of the triggers that should be there."""
    return {name: sql for name, _, sql in _triggers()}


def stored(connection):
    """Return {name: SQL} of the triggers that are there, whoever made them."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' "
            "UNION ALL SELECT 'temporary trigger ' || name, sql FROM sqlite_temp_master WHERE type = 'trigger'"
        )
        return dict(cursor.fetchall())


def missing_constraints(connection):
    """Return the names of those that are absent or altered."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT tbl_name, sql FROM sqlite_master WHERE type IN ('table', 'index') AND sql IS NOT NULL")
        there = cursor.fetchall()
    return [
        name
        for name, table, definition in constraints.declared(connection.alias)
        if not any(definition in sql for of, sql in there if of == table)
    ]


def powers(connection):
    """Return nothing: there are no roles, and whoever opens the file owns it."""
    return []


def removals(connection):
    return [f'DROP TRIGGER "{name}"' for name in stored(connection) if name.startswith("unlocks_guard_")]


def statements(connection):
    tables = set(connection.introspection.table_names())  # not all of them, after migrating to zero
    return [*removals(connection), *(sql for _, table, sql in _triggers() if table in tables)]


def _triggers():
    return chain(_judging(), _blanking(), _growing(), _staying())


def _trigger(name, table, timing, event, then, when="", of=()):
    columns = f" OF {', '.join(of)}" if of else ""
    condition = f"\nWHEN {when}" if when else ""
    sql = (
        f'CREATE TRIGGER "unlocks_guard_{name}" {timing} {event}{columns} ON "{table}"\n'
        f"FOR EACH ROW{condition}\nBEGIN\n  {then};\nEND"
    )
    return f"unlocks_guard_{name}", table, sql


def _raise(says):
    return "SELECT RAISE(ABORT, '{}')".format(says.replace("'", "''"))


def _judging():
    for guard in declared.GUARDS:
        then = _raise(guard.says)
        yield _trigger(guard.name, guard.table, "BEFORE", guard.event, then, guard.condition(**_NAMES), guard.of)


def _blanking():
    for table, event, key, columns in declared.BLANKED_BY:
        when = " OR ".join(f"NEW.{column} IS NOT OLD.{column}" for column in columns)
        keys = f"NEW.{key}, OLD.{key}" if event == "UPDATE" else f"NEW.{key}"
        then = f"UPDATE unlocks_batch SET fingerprint = '' WHERE id IN ({keys}) AND fingerprint <> ''"
        yield _trigger(f"{table}_{event.lower()}_blanks_fingerprint", table, "AFTER", event, then, when, columns)


def _growing():
    for table, unique in declared.append_only_tables().items():
        then = _raise(declared.ONLY_GROWS.format(table=table))
        yield _trigger(f"{table}_no_update", table, "BEFORE", "UPDATE", then)
        yield _trigger(f"{table}_no_delete", table, "BEFORE", "DELETE", then)
        yield from _not_replacing(table, unique, then)


def _staying():
    for table, unique in declared.NEVER_DELETED.items():
        then = _raise(declared.STAYS.format(table=table))
        yield _trigger(f"{table}_no_delete", table, "BEFORE", "DELETE", then)
        yield from _not_replacing(table, unique, then)
        if "rowid" in _keys(table):
            yield _trigger(f"{table}_keeps_rowid", table, "BEFORE", "UPDATE", then, "NEW.rowid <> OLD.rowid")
        for columns in _groups(unique):
            name = f"{table}_no_replace_by_{'_'.join(columns)}"
            when = f"EXISTS (SELECT 1 FROM {table} x WHERE x.id <> OLD.id AND {_same(columns)})"
            yield _trigger(name, table, "BEFORE", "UPDATE", then, when, columns)
        if table == "unlocks_instruction":
            in_the_way = declared.REPLACE_ALSO[table].replace(" x WHERE ", " x WHERE x.id <> OLD.id AND ")
            yield _trigger(f"{table}_no_replace_by_state", table, "BEFORE", "UPDATE", then, in_the_way, ("state",))


def _not_replacing(table, unique, then):
    yield _trigger(f"{table}_no_replace", table, "BEFORE", "INSERT", then, _in_the_way(table, unique))
    # A new row that names no rowid has -1 before it is there: a row of that rowid would be in the way of each.
    yield _trigger(f"{table}_no_row_of_minus_one", table, "AFTER", "INSERT", then, "NEW.rowid = -1")


def _in_the_way(table, unique):
    """Return the condition that a new row meets one that is there: REPLACE would delete that without a trigger."""
    groups = [*((key,) for key in _keys(table)), *_groups(unique)]
    clauses = [f"EXISTS (SELECT 1 FROM {table} x WHERE {_same(columns)})" for columns in groups]
    return " OR ".join([*clauses, *filter(None, [declared.REPLACE_ALSO.get(table)])])


def _groups(unique):
    return [(columns,) if isinstance(columns, str) else columns for columns in unique]


def _same(columns):
    same = [f"x.{column} = NEW.{column}" for column in columns]
    if "external_id" in columns:
        # In the words of the partial index, or SQLite would not look into it.
        same.append("NOT (x.external_id = '')")
    return " AND ".join(same)


def _keys(table):
    """Return the primary key, and the rowid where that is another: it is unique as well, and may be named."""
    key = next(model._meta.pk for model in apps.get_models() if model._meta.db_table == table)
    return [key.column] if isinstance(key, models.AutoField) else [key.column, "rowid"]
