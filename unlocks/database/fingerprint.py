"""The fingerprint of a batch: SHA-256 (hex) over its content and its items, taken by the database itself.

What is hashed, in UTF-8: the line "unlock-desk batch/1" with its line feed, the values of BATCH_CONTENT, then for each
item that the product lists, in the order of their keys, the values of ITEM_CONTENT. A value is written as the number
of its bytes (decimal), a colon and its text, so that no two contents read the same. Texts stand as they are; amounts
in whole cents ("-1250"); numbers in decimal; days as "2026-11-25", '' for none; `lines` is canonical JSON: keys
sorted, no blanks, letters beyond ASCII as they are. A batch "B-1" without a name
and items, of $12.50 and posted on that day, reads:

    unlock-desk batch/1
    3:B-10:4:12501:010:2026-11-250:

The same content has the same fingerprint on SQLite and PostgreSQL. The same expression serves the verbs and the guard
that checks what a verb wrote.
"""

from django.db import connections
from django.db.models.expressions import RawSQL

from .. import history

PREFIX = "unlock-desk batch/1\n"
# A change of any of these blanks the fingerprint (guards/declared.py), so a consent given before no longer fits.
BATCH_CONTENT = ("number", "name", "total", "item_count", "posted_on", "bypassed_on")
ITEM_CONTENT = ("kind", "number", "date", "customer", "amount", "memo", "export_id", "lines")

_OF_IT = "WHERE i.batch_id = {}.id AND i.left_at IS NULL"
_MONEY = {"total", "amount"}
_DATES = {"date", "posted_on", "bypassed_on"}


def sql(vendor, row):
    """Return the SQL expression for the fingerprint of the batch that is called `row` in the statement around it."""
    batch = f"'{PREFIX}' || {_joined(vendor, row, BATCH_CONTENT)}"
    item = _joined(vendor, "i", ITEM_CONTENT)
    if vendor == "postgresql":
        items = f"SELECT string_agg({item}, '' ORDER BY i.id) FROM unlocks_batchitem i {_OF_IT.format(row)}"
        return sha256(vendor, f"{batch} || coalesce(({items}), '')")
    items = (
        f"SELECT group_concat(item, '') FROM (SELECT {item} AS item FROM unlocks_batchitem i "
        f"{_OF_IT.format(row)} ORDER BY i.id)"
    )
    return sha256(vendor, f"{batch} || coalesce(({items}), '')")


def sha256(vendor, text):
    """Return the SQL for the SHA-256 (hex) of an SQL text; Django's own needs an extension on PostgreSQL."""
    return f"encode(sha256(convert_to({text}, 'UTF8')), 'hex')" if vendor == "postgresql" else f"SHA256({text})"


def take(batches):
    """Take the fingerprint of each batch of a queryset whose fingerprint is blank; return how many were taken."""
    return history.update_untracked(batches.filter(fingerprint=""), fingerprint=expression(batches.db))


def expression(using):
    """Return the fingerprint as an expression over a Batch queryset."""
    return RawSQL(sql(connections[using].vendor, '"unlocks_batch"'), [])


def _joined(vendor, row, names):
    return " || ".join(_netstring(vendor, _text(vendor, f"{row}.{name}", name)) for name in names)


def _text(vendor, column, name):
    if name in _MONEY:
        return f"CAST(CAST(ROUND({column} * 100) AS BIGINT) AS TEXT)"
    if name in _DATES and vendor == "postgresql":
        return f"coalesce(to_char({column}::timestamp, 'YYYY-MM-DD'), '')"
    return f"coalesce(CAST({column} AS TEXT), '')"


def _netstring(vendor, text):
    # In bytes: SQLite's length() of a text stops at the first NUL.
    length = f"octet_length({text})" if vendor == "postgresql" else f"length(CAST({text} AS BLOB))"
    return f"{length} || ':' || {text}"
