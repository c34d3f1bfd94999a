"""The five kinds of files, and their columns in the order in which a row's values come."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from . import values
from .values import Unclear

Row = tuple[Any, ...]


class Column(NamedTuple):
    name: str
    read: values.Reader
    required: bool = False


def _as_it_is(row: Row) -> Row:
    return row


@dataclass(frozen=True)
class Kind:
    """A kind of file. `finish` takes the values of a row, judges them together and returns them; raises Unclear."""

    name: str
    columns: tuple[Column, ...]
    finish: Callable[[Row], Row] = _as_it_is

    @property
    def header(self) -> list[str]:
        """The names of the columns: the header of a template."""
        return [column.name for column in self.columns]

    @property
    def required(self) -> set[str]:
        return {column.name for column in self.columns if column.required}


SOFTWARE = ("quickbooks_online", "quickbooks_desktop", "sage_intacct", "none")
STATUSES = ("pending", "posted", "exported", "bypassed")
REACHED_BY = ("sent", "bypassed", "imported", "marked_by_api", "zero_payment")
ITEM_KINDS = (
    "invoice",
    "payment",
    "credit_memo",
    "vendor_bill",
    "vendor_credit",
    "bill_payment",
    "inventory_adjustment",
    "transfer",
    "return",
)

_ACCOUNT = Column("account_number", values.number(20), required=True)
_BATCH = Column("batch_number", values.number(40), required=True)
_EXTERNAL_ID = Column("external_id", values.reference(80))
_ITEM = (
    _ACCOUNT,
    _BATCH,
    Column("kind", values.choice(ITEM_KINDS), required=True),
    Column("number", values.number(40), required=True),
)


def _finish_batch(row: Row) -> Row:
    """Take a batch that is marked as exported, and was bypassed, for bypassed; ask for the day of its state."""
    batch = dict(zip(_BATCH_NAMES, row, strict=True))
    if batch["status"] == "exported" and batch["reached_by"] == "bypassed":
        # The day on which the product marked it is the day of the bypass.
        batch["bypassed_on"] = batch["bypassed_on"] or batch["exported_on"]
        batch |= {"status": "bypassed", "exported_on": None}
    if batch["status"] == "bypassed" and batch["reached_by"] == "sent":
        raise Unclear("A bypassed batch was never sent. Correct this, or the status.", "reached_by")
    for status, column in {"bypassed": "bypassed_on", "exported": "exported_on"}.items():
        if batch["status"] == status and batch[column] is None:
            raise Unclear(f"This has to be filled in: the batch is {status}.", column)
    return tuple(batch.values())


_BATCH_COLUMNS = (
    _ACCOUNT,
    _BATCH,
    Column("name", values.line(200)),
    Column("status", values.choice(STATUSES), required=True),
    Column("reached_by", values.choice(REACHED_BY)),
    Column("posted_on", values.day),
    Column("bypassed_on", values.day),
    Column("exported_on", values.day),
    Column("period_closed", values.yes_no),
    Column("item_count", values.count(0)),
    Column("total", values.money),
    Column("as_of", values.moment),
    _EXTERNAL_ID,
)
_BATCH_NAMES = [column.name for column in _BATCH_COLUMNS]

KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            "accounts",
            (
                _ACCOUNT,
                Column("name", values.line(200), required=True),
                Column("accounting_software", values.choice(SOFTWARE)),
                Column("active", values.yes_no),
                Column("time_zone", values.time_zone),
                _EXTERNAL_ID,
            ),
        ),
        Kind(
            "contacts",
            (
                _ACCOUNT,
                Column("name", values.line(200), required=True),
                Column("email", values.email, required=True),
                Column("phone", values.line(40)),
                Column("is_admin", values.yes_no),
                _EXTERNAL_ID,
            ),
        ),
        Kind("batches", _BATCH_COLUMNS, _finish_batch),
        Kind(
            "items",
            (
                *_ITEM,
                Column("date", values.day, required=True),
                Column("customer", values.line(200)),
                Column("amount", values.money, required=True),
                Column("memo", values.line(2000)),
                Column("export_id", values.reference(80)),
                _EXTERNAL_ID,
                Column("job_number", values.reference(40)),
                Column("business_unit", values.line(100)),
            ),
        ),
        Kind(
            "lines",
            (
                *_ITEM,
                Column("line", values.count(1), required=True),
                Column("sku", values.reference(100)),
                Column("description", values.line(1000)),
                Column("quantity", values.decimal(0, 6)),
                Column("price", values.decimal(2, 6)),
                Column("total", values.money),
                Column("gl_account", values.line(100)),
            ),
        ),
    )
}
