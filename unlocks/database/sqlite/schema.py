"""A schema editor that does not lose triggers.

SQLite changes most columns by rebuilding the table, which silently drops the table's triggers, and refuses to while
a trigger of another table names it. So every trigger is set aside for the length of the change and put back after.
"""

from contextlib import contextmanager
from functools import wraps

from django.db.backends.sqlite3 import schema


def _setting_triggers_aside(name):
    change = getattr(schema.DatabaseSchemaEditor, name)

    @wraps(change)
    def changed(self, *args, **kwargs):
        with self._triggers_aside():
            return change(self, *args, **kwargs)

    return changed


class DatabaseSchemaEditor(schema.DatabaseSchemaEditor):
    _aside = False

    @contextmanager
    def _triggers_aside(self):
        if self._aside or self.collect_sql:
            yield
            return
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT name, tbl_name, sql FROM sqlite_master WHERE type = 'trigger'")
            triggers = cursor.fetchall()
            for name, _, _ in triggers:
                cursor.execute(f"DROP TRIGGER {self.quote_name(name)}")
        self._aside = True
        try:
            yield
        finally:
            self._aside = False
        with self.connection.cursor() as cursor:
            tables = set(self.connection.introspection.table_names(cursor))
            for _, table, sql in triggers:
                # A table that was renamed or dropped: its guards come back, under its new name, after the migrate.
                if table in tables:
                    cursor.execute(sql, None)


for _name in ("_remake_table", "delete_model", "alter_db_table", "alter_field", "add_field", "remove_field"):
    setattr(DatabaseSchemaEditor, _name, _setting_triggers_aside(_name))
