"""Handing instructions over to the product: by the worker, or by whoever carries them out by hand.

The consent is judged once more before. What it does not hold for any more is canceled, and the product hears nothing.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Case, Exists, F, OuterRef, Q, QuerySet, When
from django.db.models.functions import Greatest, Least
from django.utils import timezone

from .. import history, stages
from ..actors import Actor
from ..database import guards
from ..models import Account, Batch, Instruction, UnlockRequest
from ..outbox.rows import LEASE, MOST_TRIES
from ..product import by_hand, port
from ..product.port import AT_ONCE
from ..rules import Refusal, judged_again, short_name
from ..texts.normalize import one_line
from .acts import perform
from .answers import record_answers
from .unlock import CANCEL, RELOCK_ALL
from .verbs import Refused, staff_verb

State, What = Instruction.State, Instruction.What


@dataclass(frozen=True)
class HandedOver:
    """What became of instructions that were to be handed over: their rows, in their order.

    `refused` holds (Refusal, row) of those that another person has to carry out; they wait.
    """

    sent: list[Instruction]
    canceled: list[Instruction]
    refused: list[tuple[Refusal, Instruction]]


def due() -> QuerySet[Instruction]:
    """Return the instructions that a worker has to go on with now, those that have been due for longest first."""
    pending = Instruction.objects.in_turn().filter(state__in=Instruction.PENDING, started_by=None)
    return pending.filter(next_try_at__lte=timezone.now()).order_by("next_try_at", "pk")


def lease(most: int = AT_ONCE) -> list[Instruction]:
    """Take the instructions that have been due for longest, at most `most` and one of a batch, which counts as a try.

    Nobody else gets them until LEASE is over. On PostgreSQL, workers pass by each other's rows.
    """
    now = timezone.now()
    with transaction.atomic(durable=True):
        rows = due().select_related("batch__account", "line")
        leased = list(rows.select_for_update(of=("self",), skip_locked=True, no_key=True)[:most])
        keys = [instruction.pk for instruction in leased]
        for instruction in leased:
            instruction.next_try_at = now + LEASE
        Instruction.objects.filter(pk__in=keys).update(tries=Least(F("tries") + 1, MOST_TRIES), next_try_at=now + LEASE)
    return leased


def pull(most: int) -> list[tuple[str, Instruction]]:
    """Return what a product that polls is asked now, as the worker asks one that is called: ("carry_out" or "state",
    the instruction). Raises Refused: GUARDS_MISSING.

    What it does not answer is asked about later, by longer and longer waits, until it is given up. In these waits a
    batch stays as it is.
    """
    if names := guards.missing():
        raise Refused.because(Refusal.GUARDS_MISSING, names=", ".join(names[:5]))
    leased = lease(most)
    waiting = [one for one in leased if one.state == State.QUEUED]
    sent = hand_over(waiting, by=Actor.desk()).sent if waiting else []
    asked = {one.key: one for one in leased if one.state != State.QUEUED}
    unknown = [port.Answer(key, port.State.UNKNOWN, "The product was asked about it.") for key in asked]
    stands = record_answers(unknown, by=Actor.product(), leases={one.key: one.next_try_at for one in leased})
    still = [asked[key] for key, state in stands.items() if state == State.UNKNOWN]
    return [*(("carry_out", one) for one in sent), *(("state", one) for one in still)]


@transaction.atomic(durable=True)
def hand_over(instructions: Sequence[Instruction], *, by: Actor) -> HandedOver:
    """Judge instructions that wait once more, and mark as sent what may be handed over; cancel the rest."""
    return _start([instruction.pk for instruction in instructions], by=by)


@staff_verb("unlocks.carry_out_instruction")
@transaction.atomic
def start_instructions(instructions: QuerySet[Instruction], *, by: Actor) -> HandedOver:
    """Take instructions that wait, the first 500 of them, to carry them out by hand: nobody else does then.

    The person is judged too: whoever obtained a consent does not carry out what it allows.
    """
    picked = instructions.order_by().values("pk")
    waiting = Instruction.objects.in_turn().filter(pk__in=picked, state=State.QUEUED).order_by("pk")
    return _start(list(waiting.values_list("pk", flat=True)[:AT_ONCE]), by=by)


@staff_verb("unlocks.carry_out_instruction")
@transaction.atomic
def answer_by_hand(instructions: QuerySet[Instruction], *, done: bool, text: str, by: Actor) -> int:
    """Record that what `by` took was done in the product, with its reference, or was not, with the reason.

    Return how many. Raises Refused: NO_REFERENCE, NO_REASON.
    """
    text = one_line(text)
    if not text:
        raise Refused.because(Refusal.NO_REFERENCE if done else Refusal.NO_REASON)
    state = port.State.DONE if done else port.State.REFUSED
    keys = list(_taken(instructions, by).order_by("pk").values_list("key", flat=True))
    for start in range(0, len(keys), AT_ONCE):
        record_answers([port.Answer(key, state, text) for key in keys[start : start + AT_ONCE]], by=by)
    return len(keys)


@staff_verb("unlocks.carry_out_instruction")
@transaction.atomic
def put_back(instructions: QuerySet[Instruction], *, by: Actor) -> int:
    """Put back what `by` took and has not carried out; return how many. It waits again."""
    # It was tried before: the product may have got it, or someone else may have done it.
    sent_at = Case(When(tries=0, then=None), default=F("sent_at"))
    return _wait_again(instructions, Q(state=State.SENT, started_by=by.member), sent_at=sent_at)


@staff_verb("unlocks.put_back_instruction")
@transaction.atomic
def put_back_for_others(instructions: QuerySet[Instruction], *, by: Actor) -> int:
    """Put back what others took and don't carry out any more, say because they left; return how many. It waits again.

    Where staff carry out by hand, that is also what the product got before: nobody asks it about that any more.
    Nobody knows whether it was done all the same, so it can't be canceled: it is relocked if the consent ends.
    """
    handed_over = Q(state=State.SENT, started_by__isnull=False)
    if by_hand():
        handed_over |= Q(state__in=[State.SENT, State.UNKNOWN])
    return _wait_again(instructions, handed_over, tries=Greatest(F("tries"), 1))


@staff_verb("unlocks.carry_out_instruction")
@transaction.atomic
def try_again(instructions: QuerySet[Instruction], *, by: Actor) -> int:
    """Ask the product once more about what was given up; return how many. What it does not know, it gets again."""
    now, picked = timezone.now(), instructions.order_by()
    requests = UnlockRequest.objects.filter(pk__in=list(picked.values_list("line__unlock_request", flat=True)))
    history.lock(requests)
    tried = Instruction.objects.filter(
        ~Exists(Instruction.objects.filter(batch=OuterRef("batch"), what=OuterRef("what"), pk__gt=OuterRef("pk"))),
        pk__in=picked.values("pk"),
        state=State.GIVEN_UP,
        batch__status__in=[Batch.Status.UNLOCKING, Batch.Status.RELOCKING],
    ).update(state=State.UNKNOWN, tries=0, next_try_at=now)
    stages.keep(requests, at=now)
    return tried


def _wait_again(instructions: QuerySet[Instruction], which: Q, **changes: Any) -> int:
    """Have those of some instructions wait again that are still so; return how many."""
    # The condition is on the rows themselves: one that is answered meanwhile is looked at once more.
    return Instruction.objects.filter(which, pk__in=instructions.order_by().values("pk")).update(
        state=State.QUEUED, started_by=None, next_try_at=timezone.now(), **changes
    )


def _taken(instructions: QuerySet[Instruction], by: Actor) -> QuerySet[Instruction]:
    picked = instructions.order_by().values("pk")
    return Instruction.objects.filter(pk__in=picked, started_by=by.member, state=State.SENT)


def _start(keys: list[int], *, by: Actor) -> HandedOver:
    named = Instruction.objects.filter(pk__in=keys)
    history.lock(UnlockRequest.objects.filter(pk__in=named.values("line__unlock_request")))
    history.lock(Batch.objects.filter(pk__in=named.values("batch")))
    history.lock(Account.objects.filter(pk__in=named.values("batch__account")))
    found = list(
        named.in_turn()
        .filter(state=State.QUEUED)
        .select_for_update(of=("self",), no_key=True)
        .select_related("batch__account", "line")
        .order_by("pk")
    )
    over = _refusals(found, by.act.at)
    own = _refusals(found, by.act.at, by=by.user) if by.user else {}
    canceled = [one for one in found if one.pk in over]
    refused = [(own[one.pk], one) for one in found if one.pk in own and one.pk not in over]
    sent = [one for one in found if one.pk not in over and one.pk not in own]
    _cancel(canceled, over, by=by)
    Instruction.objects.filter(pk__in=[one.pk for one in sent]).update(
        state=State.SENT, sent_at=by.act.at, started_by=by.user
    )
    return HandedOver(sent, canceled, refused)


def _refusals(instructions: list[Instruction], at: datetime, *, by: User | None = None) -> dict[int, Refusal]:
    """Return why instructions may not be handed over now, by their keys; what may is left out."""
    of_batch = {one.batch_id: one for one in instructions}
    unlocking = Batch.objects.filter(pk__in=[one.batch_id for one in instructions if one.what == What.UNLOCK])
    judged: Any = judged_again(unlocking, by=by, at=at).exclude(refusal="")
    refusals = {of_batch[pk].pk: Refusal(code) for pk, code in judged.values_list("pk", "refusal")}
    locking = Batch.objects.filter(pk__in=[one.batch_id for one in instructions if one.what == What.LOCK])
    for pk in locking.exclude(status=Batch.Status.RELOCKING).values_list("pk", flat=True):
        refusals[of_batch[pk].pk] = Refusal.NOT_UNLOCKED
    return refusals


def _cancel(instructions: list[Instruction], refusals: dict[int, Refusal], *, by: Actor) -> None:
    """End instructions that may not be handed over; a batch that is unlocking waits again.

    If the product may have got an earlier call after all, the batch is relocked instead.
    """
    groups = defaultdict(list)
    for one in instructions:
        groups[refusals[one.pk], one.sent_at is not None].append(one)
    for (code, sent_before), some in sorted(groups.items()):
        why = f"{short_name(code)} before the product was asked{' again' if sent_before else ''}"
        unlocking = Batch.objects.filter(
            pk__in=[one.batch_id for one in some if one.what == What.UNLOCK], status=Batch.Status.UNLOCKING
        )
        if unlocking.exists():
            perform(RELOCK_ALL if sent_before else CANCEL, unlocking, by=by.begin(), why=why)
        Instruction.objects.filter(pk__in=[one.pk for one in some], state=State.QUEUED).update(
            state=State.CANCELED, answer=why, done_at=by.act.at
        )
