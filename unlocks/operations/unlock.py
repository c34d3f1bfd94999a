"""Unlocking sets of batches, and what ends an unlock. A single batch is a set of one.

Every act costs the same number of statements whatever the size of its set: the verdicts are inserted from one
judging query and the writes select from the verdicts, so that what is written is what was judged.
"""

import hashlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.db import IntegrityError, transaction
from django.db.models import F, OuterRef, Subquery, Value
from django.utils import timezone

from .. import history
from ..database import guards
from ..ledger import chain
from ..models import Act, Batch, LedgerEntry, RequestedBatch, UnlockRequest, Verdict
from ..rules import Refusal, judged, judged_unlocked
from .verbs import Refused, staff_verb

_NUMBERS_IN_AN_ENTRY = 50
_ATTEMPTS = 3


@dataclass(frozen=True)
class BulkAction:
    """What can be done to a set of batches: the verb, how it judges each, and what becomes of a batch and its line."""

    kind: str
    verb: Callable
    judge: Callable
    outcome: str
    event: str
    changes: Callable

    @property
    def permission(self):
        return self.verb.permission


def _unlocked(by, at):
    waiting = RequestedBatch.objects.filter(batch=OuterRef("pk"), outcome=RequestedBatch.Outcome.WAITING)
    return {
        "status": Batch.Status.UNLOCKED.value,
        "grant": Subquery(waiting.order_by().values("consented")),
        "unlocked_by": by.user.pk,
        "unlocked_until": at + settings.UNLOCK_WINDOW,
    }


def _relocked(by, at):
    return {"status": Batch.Status.BYPASSED.value, "grant": None, "unlocked_by": None, "unlocked_until": None}


def _re_exported(by, at):
    return _relocked(by, at) | {
        "status": Batch.Status.EXPORTED.value,
        "exported_on": timezone.localdate(at),
    }


@staff_verb("unlocks.unlock_batch")
def unlock(batches, *, by, key=None):
    """Unlock each batch of a queryset that may be unlocked; return the Act, whose verdicts say what became of each.

    `key` (a UUID) names the act: a second call with it does nothing and returns the first, marked `repeated`.
    Raises Refused (GUARDS_MISSING, BUSY) with nothing written.
    """
    if names := guards.missing():
        raise Refused.because(Refusal.GUARDS_MISSING, names=", ".join(names[:5]))
    return _carry_out(_UNLOCK, batches, by=by, key=key)


@staff_verb("unlocks.relock_batch")
def relock(batches, *, why, by, key=None):
    """Lock each unlocked batch of a queryset again, for a reason."""
    if not why.strip():
        raise Refused.because(Refusal.NO_REASON)
    return _carry_out(_RELOCK, batches, by=by, key=key, why=why)


@staff_verb("unlocks.mark_re_exported_batch")
def mark_re_exported(batches, *, by, key=None):
    """Mark each unlocked batch of a queryset as really exported by the customer."""
    return _carry_out(_RE_EXPORT, batches, by=by, key=key)


_UNLOCK = BulkAction(
    Act.Kind.UNLOCK, unlock, judged, RequestedBatch.Outcome.UNLOCKED, LedgerEntry.Kind.UNLOCKED, _unlocked
)
_RELOCK = BulkAction(
    Act.Kind.RELOCK, relock, judged_unlocked, RequestedBatch.Outcome.RELOCKED, LedgerEntry.Kind.RELOCKED, _relocked
)
_RE_EXPORT = BulkAction(
    Act.Kind.RE_EXPORT,
    mark_re_exported,
    judged_unlocked,
    RequestedBatch.Outcome.RE_EXPORTED,
    LedgerEntry.Kind.RE_EXPORTED,
    _re_exported,
)
ACTIONS = {action.kind: action for action in (_UNLOCK, _RELOCK, _RE_EXPORT)}


def relock_under(consents, *, by, why):
    """Lock again whatever is unlocked under the consents of one request, inside a verb that locked it."""
    under = Batch.objects.filter(status=Batch.Status.UNLOCKED, grant__consent__in=consents)
    if under.exists():
        _attempt(_RELOCK, under, by=by, key=uuid.uuid4(), why=why)


def _carry_out(way, batches, *, by, key, why=""):
    key = key or uuid.uuid4()
    for _ in range(_ATTEMPTS):
        if act := Act.objects.filter(pk=key).first():
            return _repeated(act, way, by)
        try:
            with transaction.atomic():
                return _attempt(way, batches, by=by, key=key, why=why)
        except history.ConcurrentChange:
            continue
        except IntegrityError:
            # Two tabs with one key at once: the other one won.
            if not Act.objects.filter(pk=key).exists():
                raise
    raise Refused.because(Refusal.BUSY)


def _repeated(act, way, by):
    if act.by_id != by.user.pk or act.kind != way.kind:
        raise PermissionDenied("This act is somebody else's.")
    act.repeated = True
    return act


def _attempt(way, batches, *, by, key, why):
    picked = batches.order_by().values("pk")
    chosen = Batch.objects.filter(pk__in=picked)
    open_lines = RequestedBatch.objects.filter(batch__in=picked, outcome__in=RequestedBatch.OPEN)
    history.lock(UnlockRequest.objects.filter(pk__in=open_lines.values("unlock_request")))
    history.lock(chosen)

    at = timezone.now()
    act = Act.objects.create(pk=key, kind=way.kind, by=by.user, actor=by.name, at=at, why=why)
    act.repeated = False
    history.insert_select(
        Verdict,
        way.judge(chosen, by=by.user, at=at).order_by("pk"),
        act_id=act.pk,
        batch_id=F("pk"),
        line_id=F("line__id"),
        refusal=F("refusal"),
    )
    done = Verdict.objects.filter(act=act, refusal="")
    recorded = {"by": by, "why": why or way.kind.label, "act": act.pk, "at": at}
    written = history.update(Batch.objects.filter(pk__in=done.values("batch")), **recorded, **way.changes(by, at))
    history.update(
        RequestedBatch.objects.filter(pk__in=done.values("line")), **recorded, outcome=Value(way.outcome.value)
    )
    if way is _UNLOCK:
        history.update(
            UnlockRequest.objects.filter(
                pk__in=done.values("line__unlock_request"), status=UnlockRequest.Status.CONSENTED.value
            ),
            **recorded,
            status=UnlockRequest.Status.UNLOCKED.value,
        )
    if written != done.count():
        raise history.ConcurrentChange("The batches changed while they were being judged.")
    chain.append(_entries(way, act, why), by=by, at=at)
    return act


def _entries(way, act, why):
    """Yield one ledger entry a request for what was done, and one for what was refused."""
    verdicts = (
        Verdict.objects.filter(act=act, line__isnull=False)
        .order_by("line__unlock_request_id", "batch_id")
        .values_list("line__unlock_request_id", "batch__account_id", "refusal", "batch__number", "batch__fingerprint")
    )
    for (unlock_request, account), rows in groupby(verdicts.iterator(chunk_size=2000), key=lambda row: row[:2]):
        digest, numbers, count, refusals = hashlib.sha256(), [], 0, {}
        for _, _, refusal, number, fingerprint in rows:
            if refusal:
                refusals[refusal] = refusals.get(refusal, 0) + 1
                continue
            count += 1
            digest.update(f"{number}\t{fingerprint}\n".encode())
            if count <= _NUMBERS_IN_AN_ENTRY:
                numbers.append(number)
        facts = {"act": str(act.pk), **({"why": why} if why else {})}
        if count:
            yield chain.Entry(
                way.event,
                unlock_request,
                account,
                facts | {"batches": count, "numbers": numbers, "sha256": digest.hexdigest()},
            )
        if refusals and way is _UNLOCK:
            yield chain.Entry(LedgerEntry.Kind.REFUSED, unlock_request, account, facts | {"refusals": refusals})
