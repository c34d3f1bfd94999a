"""Bulk actions too big to wait for: ordered on a page, and carried out by the worker as whoever ordered them."""

import hashlib
import hmac
import logging
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db import DatabaseError, InterfaceError, OperationalError, transaction
from django.db.models import QuerySet
from django.utils import timezone

from ..actors import Actor
from ..digest import canonical
from ..keys import derived
from ..models import Act, Batch, OrderedAct, Selection
from ..outbox.rows import wait_after
from ..rules import Refusal
from .unlock import ACTIONS
from .verbs import Refused

State = OrderedAct.State
CANCELS_OTHERS = "unlocks.cancel_ordered_act"
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
    ordered.ip, ordered.browser, ordered.next_try_at = by.ip, by.browser, ordered.at
    ordered.mac = _mac(ordered)
    there, _ = OrderedAct.objects.get_or_create(
        pk=key, defaults={field.attname: getattr(ordered, field.attname) for field in ordered._meta.concrete_fields}
    )
    if there.by_id != by.member.pk:
        raise PermissionDenied("This act is someone else's.")
    return there


@transaction.atomic
def cancel_order(ordered: OrderedAct, *, by: Actor) -> OrderedAct:
    """Have an order that waits not be carried out, and return it; one that was canceled stays as it is.

    Whoever ordered it may, and who holds the permission. Raises PermissionDenied, and Refused: BEGUN, ALREADY_RECORDED.
    """
    if ordered.by_id != by.member.pk and not by.may(CANCELS_OTHERS):
        raise PermissionDenied(f"{by.name} may not do this: it needs the permission {CANCELS_OTHERS}.")
    held = OrderedAct.objects.filter(pk=ordered.pk).select_for_update(skip_locked=True, no_key=True).first()
    if held is None:
        raise Refused.because(Refusal.BEGUN)
    if held.state in (State.DONE, State.REFUSED):
        raise Refused.because(Refusal.ALREADY_RECORDED, names=held.get_state_display().lower())
    if held.state == State.QUEUED:
        ended = {"state": State.CANCELED, "answer": f"{by.name} canceled it.", "done_at": timezone.now()}
        OrderedAct.objects.filter(pk=held.pk).update(**ended)
        held.refresh_from_db()
    return held


def waiting_orders(user: User) -> QuerySet[OrderedAct]:
    """Return what `user` ordered that is not done yet, the oldest first."""
    return OrderedAct.objects.filter(state=State.QUEUED, by=user).order_by("at", "pk")


def carry_out_ordered() -> int:
    """Carry out the order that has waited for longest, if no other worker is at it; return how many: 1 or 0.

    The order is held to the end, so that a worker that dies leaves all as it was. One that the database broke off is
    put off, so that it holds up no other.
    """
    ordered = None
    try:
        with transaction.atomic():
            waiting = OrderedAct.objects.filter(state=State.QUEUED, next_try_at__lte=timezone.now())
            ordered = waiting.order_by("at", "pk").select_for_update(skip_locked=True, no_key=True).first()
            if ordered is None:
                return 0
            answer = _carried_out(ordered)
            ended = {"state": State.REFUSED if answer else State.DONE, "answer": answer, "done_at": timezone.now()}
            OrderedAct.objects.filter(pk=ordered.pk).update(**ended)
    except OperationalError as error:
        if ordered is None:
            raise
        log.error("An ordered act (%s) was broken off: %s", ordered.pk, type(error).__name__)
        _put_off(ordered)
    return 1


def _put_off(ordered: OrderedAct) -> None:
    """Have an order tried again later, the last time once it is too old: then it is refused."""
    tries = ordered.tries + 1
    at = min(timezone.now() + wait_after(tries), ordered.at + BEGUN_WITHIN)
    OrderedAct.objects.filter(pk=ordered.pk, state=State.QUEUED, tries=ordered.tries).update(
        tries=tries, next_try_at=at
    )


def _carried_out(ordered: OrderedAct) -> str:
    """Call the verb; return '' or why nothing was done."""
    if ordered.selection is None or not hmac.compare_digest(ordered.mac, _mac(ordered)):
        return "This is not what the desk was told to do. Choose the batches again."
    if timezone.now() - ordered.at >= BEGUN_WITHIN:
        return f"{_why_late(ordered)} Choose the batches again."
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
        raise  # the database is away, or busy
    except DatabaseError as error:
        log.error("An ordered act (%s) can't be carried out: %s", ordered.pk, type(error).__name__)
        return f"The database refused it ({type(error).__name__}). Tell whoever looks after the server."
    return ""


def _why_late(ordered: OrderedAct) -> str:
    if not ordered.tries:
        return "It was ordered long ago, and no worker ran since."
    tried = "one try" if ordered.tries == 1 else f"{ordered.tries} tries"
    return f"The database broke off {tried} within the hour. If that goes on, tell whoever looks after the server."


def _mac(ordered: OrderedAct) -> str:
    """Return the HMAC-SHA256 (hex) of an order and of the keys of its batches."""
    keys = ordered.selection.batches.order_by("pk").values_list("pk", flat=True) if ordered.selection else []
    picked = hashlib.sha256(",".join(map(str, keys)).encode()).hexdigest()
    fixed = [str(ordered.pk), ordered.kind, ordered.by_id, ordered.ip, ordered.browser, ordered.at.isoformat()]
    text = canonical({"order": fixed, "options": ordered.options, "batches": picked})
    return hmac.new(derived("ordered"), text.encode(), hashlib.sha256).hexdigest()
