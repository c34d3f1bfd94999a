"""Seals: the history tables' rows since the last seal, counted and digested into the ledger.

History is a view and not evidence by itself; once a seal covers its rows, a row that is changed, added or taken away
shows. A cut tail of the ledger itself shows only against an anchor: its head, kept somewhere else.
"""

import hashlib
import json

from django.apps import apps
from django.core.serializers.json import DjangoJSONEncoder
from django.db import connection, transaction

from . import ledger
from .models import CaseEvent


def history_models():
    """Return the history models, by name of their table."""
    models = (model for model in apps.get_app_config("unlocks").get_models() if hasattr(model, "history_object"))
    return sorted(models, key=lambda model: model._meta.db_table)


@transaction.atomic
def seal_history(*, by):
    """Seal the history rows written since the last seal; return how many they are."""
    tables = {}
    _hold_writers()
    for model in history_models():
        after = _sealed_to(model)
        to = model.objects.order_by("-history_id").values_list("history_id", flat=True).first() or after
        if to > after:
            rows, digest = _digest(model, after, to)
            tables[model._meta.db_table] = {"after": after, "to": to, "rows": rows, "sha256": digest}
    if tables:
        ledger.note(CaseEvent.Kind.SEALED, by=by, tables=tables)
    return sum(sealed["rows"] for sealed in tables.values())


def first_fault():
    """Recompute every seal; return a sentence on the first that does not fit, or ''."""
    models = {model._meta.db_table: model for model in history_models()}
    for event in CaseEvent.objects.filter(kind=CaseEvent.Kind.SEALED).order_by("sequence").iterator():
        for table, sealed in json.loads(event.body)["facts"]["tables"].items():
            rows, digest = _digest(models[table], sealed["after"], sealed["to"])
            if (rows, digest) != (sealed["rows"], sealed["sha256"]):
                return (
                    f"History in {table}, rows {sealed['after'] + 1} to {sealed['to']}, differs from what ledger entry "
                    f"{event.sequence} sealed: {sealed['rows']} rows then, {rows} now."
                )
    return ""


def _sealed_to(model):
    """Return the last history id that a seal covers: 0 when none does."""
    table = model._meta.db_table
    seals = CaseEvent.objects.filter(kind=CaseEvent.Kind.SEALED).order_by("-sequence")
    for body in seals.values_list("body", flat=True).iterator():
        if table in (tables := json.loads(body)["facts"]["tables"]):
            return tables[table]["to"]
    return 0


def _digest(model, after, to):
    """Return the number of rows and the SHA-256 (hex) over them, a line of canonical JSON each, in order of id."""
    rows, digest = 0, hashlib.sha256()
    columns = [field.attname for field in model._meta.concrete_fields]
    written = model.objects.filter(history_id__gt=after, history_id__lte=to).order_by("history_id")
    for row in written.values_list(*columns).iterator(chunk_size=2000):
        rows += 1
        line = json.dumps(row, cls=DjangoJSONEncoder, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        digest.update(line.encode() + b"\n")
    return rows, digest.hexdigest()


def _hold_writers():
    """Wait for open transactions and hold new ones: an id drawn before the seal could be committed after it."""
    if connection.vendor == "postgresql":
        tables = ", ".join(connection.ops.quote_name(model._meta.db_table) for model in history_models())
        with connection.cursor() as cursor:
            cursor.execute(f"LOCK TABLE {tables} IN SHARE MODE")
