"""Unlocking sets of batches, and what staff do about an unlock. The product is instructed, and answers (`answers`)."""

import uuid
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.db import IntegrityError, transaction
from django.db.models import OuterRef, QuerySet, Subquery
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
    judged_to_mark,
    judged_to_relock,
)
from . import notices
from .acts import BulkAct, perform, requests_of
from .requests import end_withdrawn
from .verbs import Refused, StaffVerb, staff_verb

_ATTEMPTS = 3
Status, Outcome = Batch.Status, RequestedBatch.Outcome


@staff_verb("unlocks.unlock_batch")
def unlock(batches: QuerySet[Batch], *, by: Actor, key: UUID | None = None) -> Act:
    """Instruct the product to unlock each batch of a queryset that may be unlocked.

    Return the Act, whose verdicts say what became of each. `key` (a UUID) names the act: a second call with it does
    nothing and returns the first, marked `repeated`. Raises Refused (GUARDS_MISSING, BUSY) with nothing written.
    """
    if names := guards.missing():
        raise Refused.because(Refusal.GUARDS_MISSING, names=", ".join(names[:5]))
    return _carry_out(_UNLOCK, batches, by=by, key=key)


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
    return {"status": Status.UNLOCKED.value, "unlocked_until": at + settings.UNLOCK_WINDOW}


def now_bypassed(by: Actor, at: datetime) -> dict[str, Any]:
    return {"status": Status.BYPASSED.value, "grant": None, "unlocked_by": None, "unlocked_until": None}


def _relocking(by: Actor, at: datetime) -> dict[str, Any]:
    return {"status": Status.RELOCKING.value}


def _re_exported(by: Actor, at: datetime) -> dict[str, Any]:
    return now_bypassed(by, at) | {"status": Status.EXPORTED.value, "exported_on": timezone.localdate(at)}


def end_cases_taken_back(act: Act, by: Actor) -> None:
    """Close the cases that were withdrawn and of which the last batch is locked or exported now."""
    end_withdrawn(requests_of(act), by=by)


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
    then=end_cases_taken_back,
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
