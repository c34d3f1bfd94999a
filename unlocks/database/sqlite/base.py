"""Django's SQLite backend, with one thing more: migrations keep the guards (see schema.py)."""

from django.db.backends.sqlite3 import base

from .schema import DatabaseSchemaEditor


class DatabaseWrapper(base.DatabaseWrapper):
    SchemaEditorClass = DatabaseSchemaEditor
