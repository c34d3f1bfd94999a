"""Unlocking sets of batches, and what staff do about an unlock. The product is instructed, and answers (`answers`)."""

import uuid
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.db import IntegrityError, transaction
from django.db.models import F, OuterRef, QuerySet, Subquery, Value
from django.utils import timezone

from .. import history
from ..actors import Actor
from ..database import guards
from ..ledger import events
from ..models import Act, Batch, Instruction, RequestedBatch, UnlockRequest
from ..rules import (
    WAITS_TO_BE_HANDED_OVER,
    Refusal,
    judged,
    judged_granted,
    judged_to_cancel,
    judged_to_extend,
    judged_to_mark,
    judged_to_relock,
    longest_window,
    whole_hours,
    window_end,
)
from ..texts.formats import span
from . import notices
from .acts import BulkAct, perform, requests_of
from .requests import end_finished
from .verbs import Refused, StaffVerb, staff_verb

_ATTEMPTS = 3
Status, Outcome = Batch.Status, RequestedBatch.Outcome


@staff_verb("unlocks.unlock_batch")
def unlock(batches: QuerySet[Batch], *, hours: int | None = None, by: Actor, key: UUID | None = None) -> Act:
    """Instruct the product to unlock each batch of a queryset that may be unlocked, for so many hours from its answer.

    None is UNLOCK_WINDOW. Return the Act, whose verdicts say what became of each. `key` (a UUID) names the act: a
    second call with it does nothing and returns the first, marked `repeated`. Raises Refused (GUARDS_MISSING,
    WINDOW_UNFIT, BUSY) with nothing written.
    """
    hours = whole_hours(settings.UNLOCK_WINDOW) if hours is None else hours
    _refuse_unless_fit(hours)
    if names := guards.missing():
        raise Refused.because(Refusal.GUARDS_MISSING, names=", ".join(names[:5]))
    return _carry_out(replace(_UNLOCK, hours=hours), batches, by=by, key=key)


@staff_verb("unlocks.extend_window")
def extend_window(batches: QuerySet[Batch], *, hours: int, why: str, by: Actor, key: UUID | None = None) -> Act:
    """Let each unlocked batch of a queryset stay unlocked for so many hours from the product's answer on, once."""
    if not why.strip():
        raise Refused.because(Refusal.NO_REASON)
    _refuse_unless_fit(hours)
    return _carry_out(_extending(hours), batches, by=by, key=key, why=why)


@staff_verb("unlocks.unlock_batch")
def cancel_unlock(batches: QuerySet[Batch], *, why: str, by: Actor, key: UUID | None = None) -> Act:
    """Cancel the unlock of each batch of a queryset that the product was not asked yet to unlock; it waits again."""
    if not why.strip():
        raise Refused.because(Refusal.NO_REASON)
    return _carry_out(CANCEL, batches, by=by, key=key, why=why)


@staff_verb("unlocks.relock_batch")
def relock(batches: QuerySet[Batch], *, why: str, by: Actor, key: UUID | None = None) -> Act:
    """Instruct the product to relock each unlocked batch of a queryset, for a reason."""
    if not why.strip():
        raise Refused.because(Refusal.NO_REASON)
    return _carry_out(_RELOCK, batches, by=by, key=key, why=why)


@transaction.atomic
def relock_due(*, by: Actor) -> int:
    """Instruct the product to relock, in one act, whatever is unlocked past its end; return how many there are.

    Whoever comes second, another worker or the next round, waits for the cases and finds nothing due.
    """
    due = Batch.objects.filter(status=Status.UNLOCKED, unlocked_until__lte=timezone.now())
    if not due.exists():
        return 0
    lines = RequestedBatch.objects.filter(batch__in=due, outcome=Outcome.UNLOCKED)
    history.lock(UnlockRequest.objects.filter(pk__in=lines.values("unlock_request")))
    if not due.exists():
        return 0
    return perform(_RELOCK, due, by=by.begin(), why="The window ended").verdicts.count()


@staff_verb("unlocks.mark_re_exported_batch")
def mark_re_exported(batches: QuerySet[Batch], *, by: Actor, key: UUID | None = None) -> Act:
    """Mark each unlocked batch of a queryset as really exported by the customer."""
    return _carry_out(_RE_EXPORT, batches, by=by, key=key)


def take_back(unlock_request: UnlockRequest, *, by: Actor, why: str) -> None:
    """Have locked whatever a request has unlocked or has asked to unlock, inside a verb that locked it.

    What the product was not asked yet is canceled; the rest is relocked, whatever it answers meanwhile.
    """
    # By the lines' outcomes, which are the batches' statuses: PostgreSQL plans a join of both for one batch.
    lines = RequestedBatch.objects.filter(unlock_request=unlock_request).order_by()
    unlocking = Batch.objects.filter(pk__in=lines.filter(outcome=Outcome.UNLOCKING).values("batch"))
    granted = Batch.objects.filter(
        pk__in=lines.filter(outcome__in=[Outcome.UNLOCKING, Outcome.UNLOCKED]).values("batch")
    )
    for doing, under in ((CANCEL, unlocking.filter(WAITS_TO_BE_HANDED_OVER)), (RELOCK_ALL, granted)):
        if under.exists():
            perform(doing, under, by=by.begin(), why=why)


def _unlocking(by: Actor, at: datetime) -> dict[str, Any]:
    waiting = RequestedBatch.objects.filter(batch=OuterRef("pk"), outcome=Outcome.WAITING)
    return {
        "status": Status.UNLOCKING.value,
        "grant": Subquery(waiting.order_by().values("consented")),
        "unlocked_by": by.member.pk,
    }


def now_unlocked(by: Actor, at: datetime) -> dict[str, Any]:
    return {"status": Status.UNLOCKED.value, "unlocked_until": window_end(F("act__hours"))}


def now_bypassed(by: Actor, at: datetime) -> dict[str, Any]:
    return {
        "status": Status.BYPASSED.value,
        "grant": None,
        "unlocked_by": None,
        "unlocked_until": None,
        "extension": None,
    }


def _refuse_unless_fit(hours: int) -> None:
    if not 1 <= hours <= longest_window():
        raise Refused.because(Refusal.WINDOW_UNFIT, longest=span(longest_window()))


def _extending(hours: int) -> BulkAct:
    def changes(by: Actor, at: datetime) -> dict[str, Any]:
        return {"unlocked_until": window_end(Value(hours)), "extension": by.act.id}

    judge = partial(judged_to_extend, hours=hours)
    return BulkAct(
        Act.Kind.EXTEND,
        judge,
        Outcome.UNLOCKED,
        events.WindowExtended,
        changes,
        hours=hours,
        then=notices.tell_extended,
    )


def _relocking(by: Actor, at: datetime) -> dict[str, Any]:
    return {"status": Status.RELOCKING.value}


def _re_exported(by: Actor, at: datetime) -> dict[str, Any]:
    day = timezone.localdate(at, timezone.get_default_timezone())
    return now_bypassed(by, at) | {"status": Status.EXPORTED.value, "exported_on": day}


def end_finished_cases(act: Act, by: Actor) -> None:
    """Close the cases of which the last batch is locked or exported now."""
    end_finished(requests_of(act), by=by)


_UNLOCK = BulkAct(
    Act.Kind.UNLOCK,
    judged,
    Outcome.UNLOCKING,
    events.UnlockInstructed,
    _unlocking,
    instructs=Instruction.What.UNLOCK,
    then=notices.tell_result,
)
CANCEL = BulkAct(Act.Kind.CANCEL, judged_to_cancel, Outcome.WAITING, events.UnlockCanceled, now_bypassed, cancels=True)
_RELOCK = BulkAct(
    Act.Kind.RELOCK,
    judged_to_relock,
    Outcome.RELOCKING,
    events.RelockInstructed,
    _relocking,
    instructs=Instruction.What.LOCK,
)
RELOCK_ALL = replace(_RELOCK, judge=judged_granted)
_RE_EXPORT = BulkAct(
    Act.Kind.RE_EXPORT,
    judged_to_mark,
    Outcome.RE_EXPORTED,
    events.ReExported,
    _re_exported,
    cancels=True,
    then=end_finished_cases,
)


@dataclass(frozen=True)
class BulkAction:
    """What staff can do to a set of batches: the act, and the verb that does it."""

    act: BulkAct
    verb: StaffVerb[Any, Act]

    @property
    def permission(self) -> str:
        return self.verb.permission


ACTIONS = {
    act.kind: BulkAction(act, verb)
    for act, verb in (
        (_UNLOCK, unlock),
        (CANCEL, cancel_unlock),
        (_RELOCK, relock),
        (_RE_EXPORT, mark_re_exported),
    )
}


def _carry_out(doing: BulkAct, batches: QuerySet[Batch], *, by: Actor, key: UUID | None, why: str = "") -> Act:
    key = key or uuid.uuid4()
    for _ in range(_ATTEMPTS):
        if act := Act.objects.filter(pk=key).first():
            return _repeated(act, doing, by)
        try:
            with transaction.atomic():
                return perform(doing, batches, by=by.begin(key), why=why)
        except history.ConcurrentChange:
            continue
        except IntegrityError:
            # Two tabs with one key at once: the other one won.
            if not Act.objects.filter(pk=key).exists():
                raise
    raise Refused.because(Refusal.BUSY)


def _repeated(act: Act, doing: BulkAct, by: Actor) -> Act:
    if act.by_id != by.member.pk or act.kind != doing.kind:
        raise PermissionDenied("This act is someone else's.")
    act.repeated = True
    return act
