"""The page of a case that shows what changed in its batches while they were unlocked."""

from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.utils.text import capfirst
from django.views.decorators.http import require_safe

from .. import changes
from ..models import BatchItem
from ..templatetags.desk import NOTHING, shown
from ..texts.formats import counted, day, money
from .request_page import find_request
from .site import desk

BATCHES_PER_PAGE = 25
_LINE = dict(zip(BatchItem.LINE, ("SKU", "description", "quantity", "price", "total", "account"), strict=True))


@require_safe
def changes_page(request, object_id):
    """Show what differs since the unlock by batch, item and field; batches in which nothing does are counted."""
    if not request.user.has_perm("unlocks.view_unlockrequest"):
        raise PermissionDenied
    unlock_request = find_request(object_id, request.user)
    unlocked = changes.while_unlocked(unlock_request.lines.all())
    differing = [change for change in unlocked if change.differs]
    same = [change for change in unlocked if change.is_known and not change.differs]
    page = Paginator(differing, BATCHES_PER_PAGE).get_page(request.GET.get("page"))
    return desk.page(
        request,
        "admin/unlocks/unlockrequest/changes.html",
        title=f"What changed while unlocked · {unlock_request}",
        object=unlock_request,
        unlocked=len(unlocked),
        differing=len(differing),
        items=_added_up([item.what for change in differing for item in change.items]),
        same=len(same),
        same_as_of=min((change.line.batch.as_of for change in same), default=None),
        unknown=len(unlocked) - len(differing) - len(same),
        page=page,
        batches=[(change, list(_rows(change))) for change in page],
    )


def _added_up(items):
    """Say what became of items: "2 items changed, 1 item added"."""
    words = {"changed": "changed", "added": "added", "left": "no longer listed"}
    return ", ".join(
        f"{counted(items.count(what), 'item', 'items')} {said}" for what, said in words.items() if what in items
    )


def _rows(change):
    """Yield the rows of a batch's table: of what (said once), which field, before and after."""
    for number, cells in enumerate(_fields(change)):
        yield "" if number else "The batch", *cells
    for item in sorted(change.items, key=lambda item: (item.after.number, item.after.id)):
        name = f"{item.after.get_kind_display()} {item.after.number}"
        for number, cells in enumerate(_cells(item)):
            yield "" if number else name, *cells


def _cells(item):
    if item.what == "added":
        return [("Added", NOTHING, _item(item.after))]
    if item.what == "left":
        return [("No longer listed", _item(item.before), NOTHING)]
    lines = [
        (f"Line {place}{f', {_LINE[name]}' if name else ''}", _line(before), _line(after))
        for place, name, before, after in item.lines
    ]
    return [*_fields(item), *lines]


def _fields(change):
    """Return the fields that differ, each with its values as staff read them."""
    before, after = change.before, change.after
    fields = [after._meta.get_field(name) for name in change.fields]
    return [(capfirst(field.verbose_name), shown(before, field), shown(after, field)) for field in fields]


def _item(row):
    return ", ".join(filter(None, [money(row.amount), day(row.date), row.customer, row.memo]))


def _line(value):
    """Write the value of a line's field, or the whole line."""
    if isinstance(value, dict):
        value = ", ".join(f"{_LINE[name]} {value[name]}" for name in BatchItem.LINE if value.get(name))
    return value or NOTHING
