"""Django's SQLite backend, with two things more: migrations keep the guards (see schema.py), and percentiles."""

from math import ceil

from django.db.backends.sqlite3 import base

from .schema import DatabaseSchemaEditor


class PercentileDisc:
    """`percentile_disc(value, fraction)`: the first value that so large a share of them does not exceed.

    PostgreSQL has it, and like there NULL is left out.
    """

    def __init__(self):
        self.values, self.fraction = [], 0.0

    def step(self, value, fraction):
        self.fraction = fraction
        if value is not None:
            self.values.append(value)

    def finalize(self):
        place = max(ceil(self.fraction * len(self.values)), 1)
        return sorted(self.values)[place - 1] if self.values else None


class DatabaseWrapper(base.DatabaseWrapper):
    SchemaEditorClass = DatabaseSchemaEditor

    def get_new_connection(self, conn_params):
        connection = super().get_new_connection(conn_params)
        connection.create_aggregate("percentile_disc", 2, PercentileDisc)
        return connection
