"""Bulk actions too big to wait for: ordered on a page, and carried out by the worker as whoever ordered them."""

import hashlib
import hmac
import logging
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.core.exceptions import PermissionDenied
from django.db import DatabaseError, InterfaceError, OperationalError, transaction
from django.utils import timezone

from ..actors import Actor
from ..digest import canonical
from ..keys import derived
from ..models import Act, Batch, OrderedAct, Selection
from .unlock import ACTIONS
from .verbs import Refused

State = OrderedAct.State
BEGUN_WITHIN = timedelta(hours=1)  # after that the preview was of something else

log = logging.getLogger(__name__)


@transaction.atomic
def order(kind: Act.Kind, selection: Selection, *, options: dict[str, Any], by: Actor, key: UUID) -> OrderedAct:
    """Have the worker do to a selection what `kind` says, as `by`; the same key again returns the first order.

    Nothing is judged yet. Raises PermissionDenied.
    """
    if not by.may(ACTIONS[kind].permission):
        raise PermissionDenied(f"{by.name} may not do this: it needs the permission {ACTIONS[kind].permission}.")
    ordered = OrderedAct(id=key, kind=kind, selection=selection, options=options, by=by.member, at=by.begin().act.at)
    ordered.ip, ordered.browser = by.ip, by.browser
    ordered.mac = _mac(ordered)
    there, _ = OrderedAct.objects.get_or_create(
        pk=key, defaults={field.attname: getattr(ordered, field.attname) for field in ordered._meta.concrete_fields}
    )
    if there.by_id != by.member.pk:
        raise PermissionDenied("This act is someone else's.")
    return there


def carry_out_ordered() -> int:
    """Carry out the order that has waited for longest, if no other worker is at it; return how many: 1 or 0.

    The order is held to the end, so that a worker that dies leaves all as it was.
    """
    with transaction.atomic():
        waiting = OrderedAct.objects.filter(state=State.QUEUED).order_by("at", "pk")
        ordered = waiting.select_for_update(skip_locked=True, no_key=True).first()
        if ordered is None:
            return 0
        answer = _carried_out(ordered)
        ended = {"state": State.REFUSED if answer else State.DONE, "answer": answer, "done_at": timezone.now()}
        OrderedAct.objects.filter(pk=ordered.pk).update(**ended)
    return 1


def _carried_out(ordered: OrderedAct) -> str:
    """Call the verb; return '' or why nothing was done."""
    if ordered.selection is None or not hmac.compare_digest(ordered.mac, _mac(ordered)):
        return "This is not what the desk was told to do. Choose the batches again."
    if timezone.now() - ordered.at > BEGUN_WITHIN:
        return "It was ordered long ago, and no worker ran since. Choose the batches again."
    by = Actor(name=ordered.by.get_username(), user=ordered.by, ip=ordered.ip, browser=ordered.browser)
    batches = Batch.objects.filter(selections=ordered.selection)
    try:
        with transaction.atomic():
            ACTIONS[Act.Kind(ordered.kind)].verb(batches, by=by, key=ordered.pk, **ordered.options)
    except Refused as refused:
        return str(refused)
    except PermissionDenied:
        return f"{by.name} may not do this any more. Someone who may has to choose the batches again."
    except (InterfaceError, OperationalError):
        raise  # the database is away, or busy: another try finds it waiting
    except DatabaseError as error:
        log.error("An ordered act (%s) can't be carried out: %s", ordered.pk, type(error).__name__)
        return f"The database refused it ({type(error).__name__}). Tell whoever looks after the server."
    return ""


def _mac(ordered: OrderedAct) -> str:
    """Return the HMAC-SHA256 (hex) of an order and of the keys of its batches."""
    keys = ordered.selection.batches.order_by("pk").values_list("pk", flat=True) if ordered.selection else []
    picked = hashlib.sha256(",".join(map(str, keys)).encode()).hexdigest()
    fixed = [str(ordered.pk), ordered.kind, ordered.by_id, ordered.ip, ordered.browser, ordered.at.isoformat()]
    text = canonical({"order": fixed, "options": ordered.options, "batches": picked})
    return hmac.new(derived("ordered"), text.encode(), hashlib.sha256).hexdigest()
