"""The constraints, unique indexes and unique columns that the models declare: they keep the promise as well."""

from functools import cache

from django.apps import apps
from django.contrib.auth import get_user_model
from django.db import connections, models


@cache
def declared(using):
    """Return a list of (name, table, definition in Django's SQL) of each."""
    return list(_declared(connections[using].schema_editor()))


def _declared(editor):
    for model in [*apps.get_app_config("unlocks").get_models(), get_user_model()]:
        table = model._meta.db_table
        for constraint in model._meta.constraints:
            has_index = isinstance(constraint, models.UniqueConstraint) and (
                constraint.condition or constraint.opclasses
            )
            sql = constraint.create_sql if has_index else constraint.constraint_sql
            yield constraint.name, table, str(sql(model, editor))
        for field in model._meta.local_fields:
            if field.unique and not field.primary_key:
                definition, _ = editor.column_sql(model, field)
                yield f"unique {table}.{field.column}", table, f'"{field.column}" {definition}'
