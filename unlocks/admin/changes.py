"""The page of a case that shows what changed in its batches while they were unlocked."""

from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.views.decorators.http import require_safe

from .. import changes
from ..texts import changed
from ..texts.formats import counted
from .request_page import find_request
from .site import desk

BATCHES_PER_PAGE = 25


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
        batches=[(change, list(changed.rows(change))) for change in page],
    )


def _added_up(items):
    """Say what became of items: "2 items changed, 1 item added"."""
    words = {"changed": "changed", "added": "added", "left": "no longer listed"}
    return ", ".join(
        f"{counted(items.count(what), 'item', 'items')} {said}" for what, said in words.items() if what in items
    )
