"""Unlocking sets of batches, and what ends an unlock. A single batch is a set of one.

Every act costs the same number of statements whatever the size of its set: the verdicts are inserted from one
judging query and the writes select from the verdicts, so that what is written is what was judged.
"""

import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
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
from ..ledger import chain, events
from ..models import Act, Batch, RequestedBatch, UnlockRequest, Verdict
from ..rules import Refusal, judged, judged_unlocked
from .verbs import Refused, StaffVerb, staff_verb

_ATTEMPTS = 3


@dataclass(frozen=True)
class BulkAction:
    """What can be done to a set of batches: the verb, how it judges each, and what becomes of a batch and its line."""

    kind: Act.Kind
    verb: StaffVerb[Any, Act]
    judge: Callable
    outcome: RequestedBatch.Outcome
    event: type[events.Done]
    changes: Callable

    @property
    def permission(self) -> str:
        return self.verb.permission


def _unlocked(by: Actor, at: datetime) -> dict[str, Any]:
    waiting = RequestedBatch.objects.filter(batch=OuterRef("pk"), outcome=RequestedBatch.Outcome.WAITING)
    return {
        "status": Batch.Status.UNLOCKED.value,
        "grant": Subquery(waiting.order_by().values("consented")),
        "unlocked_by": by.member.pk,
        "unlocked_until": at + settings.UNLOCK_WINDOW,
    }


def _relocked(by: Actor, at: datetime) -> dict[str, Any]:
    return {"status": Batch.Status.BYPASSED.value, "grant": None, "unlocked_by": None, "unlocked_until": None}


def _re_exported(by: Actor, at: datetime) -> dict[str, Any]:
    return _relocked(by, at) | {
        "status": Batch.Status.EXPORTED.value,
        "exported_on": timezone.localdate(at),
    }


@staff_verb("unlocks.unlock_batch")
def unlock(batches: QuerySet[Batch], *, by: Actor, key: UUID | None = None) -> Act:
    """Unlock each batch of a queryset that may be unlocked; return the Act, whose verdicts say what became of each.

    `key` (a UUID) names the act: a second call with it does nothing and returns the first, marked `repeated`.
    Raises Refused (GUARDS_MISSING, BUSY) with nothing written.
    """
    if names := guards.missing():
        raise Refused.because(Refusal.GUARDS_MISSING, names=", ".join(names[:5]))
    return _carry_out(_UNLOCK, batches, by=by, key=key)


@staff_verb("unlocks.relock_batch")
def relock(batches: QuerySet[Batch], *, why: str, by: Actor, key: UUID | None = None) -> Act:
    """Lock each unlocked batch of a queryset again, for a reason."""
    if not why.strip():
        raise Refused.because(Refusal.NO_REASON)
    return _carry_out(_RELOCK, batches, by=by, key=key, why=why)


@staff_verb("unlocks.mark_re_exported_batch")
def mark_re_exported(batches: QuerySet[Batch], *, by: Actor, key: UUID | None = None) -> Act:
    """Mark each unlocked batch of a queryset as really exported by the customer."""
    return _carry_out(_RE_EXPORT, batches, by=by, key=key)


_UNLOCK = BulkAction(Act.Kind.UNLOCK, unlock, judged, RequestedBatch.Outcome.UNLOCKED, events.Unlocked, _unlocked)
_RELOCK = BulkAction(
    Act.Kind.RELOCK, relock, judged_unlocked, RequestedBatch.Outcome.RELOCKED, events.Relocked, _relocked
)
_RE_EXPORT = BulkAction(
    Act.Kind.RE_EXPORT,
    mark_re_exported,
    judged_unlocked,
    RequestedBatch.Outcome.RE_EXPORTED,
    events.ReExported,
    _re_exported,
)
ACTIONS = {action.kind: action for action in (_UNLOCK, _RELOCK, _RE_EXPORT)}


def relock_all(unlock_request: UnlockRequest, *, by: Actor, why: str) -> None:
    """Relock whatever is unlocked of a request, inside a verb that locked it."""
    unlocked = unlock_request.lines.order_by().filter(outcome=RequestedBatch.Outcome.UNLOCKED)
    under = Batch.objects.filter(pk__in=unlocked.values("batch"))
    if under.exists():
        _attempt(_RELOCK, under, by=by, why=why)


def _carry_out(action: BulkAction, batches: QuerySet[Batch], *, by: Actor, key: UUID | None, why: str = "") -> Act:
    key = key or uuid.uuid4()
    for _ in range(_ATTEMPTS):
        if act := Act.objects.filter(pk=key).first():
            return _repeated(act, action, by)
        try:
            with transaction.atomic():
                return _attempt(action, batches, by=by.begin(key), why=why)
        except history.ConcurrentChange:
            continue
        except IntegrityError:
            # Two tabs with one key at once: the other one won.
            if not Act.objects.filter(pk=key).exists():
                raise
    raise Refused.because(Refusal.BUSY)


def _repeated(act: Act, action: BulkAction, by: Actor) -> Act:
    if act.by_id != by.member.pk or act.kind != action.kind:
        raise PermissionDenied("This act is someone else's.")
    act.repeated = True
    return act


def _attempt(action: BulkAction, batches: QuerySet[Batch], *, by: Actor, why: str) -> Act:
    """Carry out an act whose id is the one that `by` is in."""
    picked = batches.order_by().values("pk")
    chosen = Batch.objects.filter(pk__in=picked)
    open_lines = RequestedBatch.objects.filter(batch__in=picked, outcome__in=RequestedBatch.OPEN)
    history.lock(UnlockRequest.objects.filter(pk__in=open_lines.values("unlock_request")))
    history.lock(chosen)

    at = by.act.at
    act = Act.objects.create(pk=by.act.id, kind=action.kind, by=by.user, actor=by.name, at=at, why=why)
    history.insert_select(
        Verdict,
        action.judge(chosen, by=by.user, at=at).order_by("pk"),
        act_id=act.pk,
        batch_id=F("pk"),
        line_id=F("line__id"),
        refusal=F("refusal"),
        fingerprint=F("fingerprint"),
    )
    done = Verdict.objects.filter(act=act, refusal="")
    recorded: dict[str, Any] = {"by": by, "why": why or str(action.kind.label)}
    written = history.update(Batch.objects.filter(pk__in=done.values("batch")), **recorded, **action.changes(by, at))
    history.update(
        RequestedBatch.objects.filter(pk__in=done.values("line")), **recorded, outcome=Value(action.outcome.value)
    )
    if action is _UNLOCK:
        history.update(
            UnlockRequest.objects.filter(
                pk__in=done.values("line__unlock_request"), status=UnlockRequest.Status.CONSENTED.value
            ),
            **recorded,
            status=UnlockRequest.Status.UNLOCKED.value,
        )
    if written != done.count():
        raise history.ConcurrentChange("The batches changed while they were being judged.")
    chain.append_all(_entries(action, act, why), by=by)
    return act


def _entries(action: BulkAction, act: Act, why: str) -> Iterator[chain.Entry]:
    """Yield one ledger entry a request for what was done, and one for what was refused."""
    verdicts = (
        Verdict.objects.filter(act=act, line__isnull=False)
        .order_by("line__unlock_request_id", "batch_id")
        .values_list(
            "line__unlock_request_id",
            "batch__account_id",
            "refusal",
            "batch_id",
            "batch__number",
            "batch__total",
            "fingerprint",
        )
    )
    for about, rows in groupby(verdicts.iterator(chunk_size=2000), key=lambda row: row[:2]):
        refusals: Counter[str] = Counter()
        done = events.sum_up(row[3:] for row in rows if not _counted(row[2], refusals))
        if done["batches"]:
            yield chain.Entry(action.event(why=why, **done), *about)
        if refusals and action is _UNLOCK:
            yield chain.Entry(events.UnlockRefused(refusals=dict(refusals)), *about)


def _counted(refusal: str, refusals: Counter[str]) -> bool:
    """Count a refusal ('' for none); say whether there was one."""
    if refusal:
        refusals[refusal] += 1
    return bool(refusal)
