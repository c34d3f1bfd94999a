"""What changed in a batch while it was unlocked, in words."""

from collections.abc import Iterator
from typing import Any

from django.utils.text import capfirst

from ..models import BatchItem
from .fields import NOTHING, shown
from .formats import day, money

_LINE = dict(zip(BatchItem.LINE, ("SKU", "description", "quantity", "price", "total", "account"), strict=True))
_Cells = tuple[str, str, str]


def rows(change: Any) -> Iterator[tuple[str, str, str, str]]:
    """Yield the rows of the table of a `BatchChange`: of what (said once), which field, before and after."""
    for number, cells in enumerate(_fields(change)):
        yield "" if number else "The batch", *cells
    for item in sorted(change.items, key=lambda item: (item.after.number, item.after.id)):
        name = f"{item.after.get_kind_display()} {item.after.number}"
        for number, cells in enumerate(_cells(item)):
            yield "" if number else name, *cells


def _cells(item: Any) -> list[_Cells]:
    if item.what == "added":
        return [("Added", NOTHING, _item(item.after))]
    if item.what == "left":
        return [("No longer listed", _item(item.before), NOTHING)]
    lines = [
        (f"Line {place}{f', {_LINE[name]}' if name else ''}", _line(before), _line(after))
        for place, name, before, after in item.lines
    ]
    return [*_fields(item), *lines]


def _fields(change: Any) -> list[_Cells]:
    """Return the fields that differ, each with its values as staff read them."""
    before, after = change.before, change.after
    fields = [after._meta.get_field(name) for name in change.fields]
    return [(capfirst(field.verbose_name), shown(before, field), shown(after, field)) for field in fields]


def _item(row: Any) -> str:
    return ", ".join(filter(None, [money(row.amount), day(row.date), row.customer, row.memo]))


def _line(value: Any) -> str:
    """Write the value of a line's field, or the whole line."""
    if isinstance(value, dict):
        value = ", ".join(f"{_LINE[name]} {value[name]}" for name in BatchItem.LINE if value.get(name))
    return value or NOTHING
