"""What the product answers, and what becomes of the batches by it."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import Case, CharField, Exists, OuterRef, Value, When
from django.utils import timezone

from .. import history, roles, stages
from ..actors import Actor
from ..ledger import chain, events
from ..models import Act, Batch, Instruction, Outgoing, RequestedBatch, UnlockRequest
from ..outbox import rows
from ..product import port
from ..rules import judged_granted
from . import notices
from .acts import BulkAct, perform
from .unlock import end_finished_cases, now_bypassed, now_unlocked

State, What = Instruction.State, Instruction.What
Outcome = RequestedBatch.Outcome
ASK_AFTER = timedelta(minutes=15)  # what was accepted, and not answered since
_NOT_LOCKED = (State.REFUSED, State.GIVEN_UP)
GIVEN_UP_AFTER = 12  # tries, some three days


@transaction.atomic
def record_answers(
    answers: Iterable[port.Answer], *, by: Actor, leases: dict[UUID, datetime] | None = None
) -> dict[UUID, str]:
    """Record what the product says of its instructions, at most 500; return the states of those that are ours.

    An instruction that is ended stays as it is, whatever is said of it again; but that the product did what was
    canceled here is recorded. `leases` are the ends of the leases under which the product was asked: if it was asked
    again since, only what it did or refused counts.
    """
    said = {answer.key: answer for answer in answers}
    ours = Instruction.objects.filter(key__in=said)
    history.lock(UnlockRequest.objects.filter(pk__in=ours.values("line__unlock_request")))
    history.lock(Batch.objects.filter(pk__in=ours.values("batch")))
    found = list(ours.select_for_update(of=("self",), no_key=True).order_by("pk"))
    now = timezone.now()
    asked = [one for one in found if _ends(said[one.key]) or not leases or leases[one.key] == one.next_try_at]
    canceled = [one.key for one in found if one.state == State.CANCELED]
    changed = [one for one in asked if _change(one, said[one.key], now)]
    _write(changed)
    lines = RequestedBatch.objects.filter(pk__in=[one.line_id for one in changed])
    stages.keep(UnlockRequest.objects.filter(pk__in=lines.values("unlock_request")), at=now)
    for (what, state), doing in _FOLLOWS.items():
        for answer, answered in _by_answer(changed, what, state).items():
            _follow(doing, answered, by=by, why=answer)
    _tell_the_managers([one for one in changed if one.what == What.LOCK and one.state in _NOT_LOCKED], by=by)
    chain.append_all(_without_effect(changed), by=by)
    return {one.key: one.state for one in found} | dict.fromkeys(canceled, State.CANCELED)


def _ends(answer: port.Answer) -> bool:
    return answer.state in (port.State.DONE, port.State.REFUSED)


def _change(instruction: Instruction, answer: port.Answer, now: datetime) -> bool:
    """Change an instruction by an answer; say whether there is anything to write.

    None is taken about what the product can't have got.
    """
    done_after_all = instruction.state == State.CANCELED and answer.state == port.State.DONE
    if instruction.sent_at is None or (instruction.state not in Instruction.OPEN and not done_after_all):
        return False
    instruction.answer = answer.text[:500]
    if _ends(answer):
        instruction.state, instruction.done_at = State(answer.state.value), now
        return True
    if instruction.state not in (State.SENT, State.UNKNOWN):
        return False
    waited_for = now - (instruction.sent_at or now)
    if answer.state == port.State.ACCEPTED and waited_for < rows.LASTS:
        instruction.state, instruction.tries, instruction.next_try_at = State.SENT, 1, now + ASK_AFTER
        return True
    if instruction.tries >= GIVEN_UP_AFTER or answer.state in (port.State.STOPPED, port.State.ACCEPTED):
        instruction.state = State.GIVEN_UP
        return True
    was, instruction.state = instruction.state, State.UNKNOWN
    if answer.state in (port.State.NOT_KNOWN, port.State.NOT_HANDED_OVER):
        instruction.state = State.QUEUED
    if answer.state == port.State.NOT_HANDED_OVER and was == State.SENT:
        instruction.sent_at = None
    instruction.next_try_at = now + rows.wait_after(instruction.tries)
    return True


def _write(changed: list[Instruction]) -> None:
    """Write what was changed: in a statement for what differs in more than the answer."""
    groups = defaultdict(list)
    for one in changed:
        groups[one.state, one.next_try_at, one.tries, one.sent_at, one.done_at].append(one)
    for (state, next_try_at, tries, sent_at, done_at), some in groups.items():
        answers = Case(*(When(pk=one.pk, then=Value(one.answer)) for one in some), output_field=CharField())
        Instruction.objects.filter(pk__in=[one.pk for one in some]).update(
            state=state, next_try_at=next_try_at, tries=tries, sent_at=sent_at, done_at=done_at, answer=answers
        )


def _by_answer(changed: list[Instruction], what: str, state: str) -> dict[str, list[int]]:
    """Group the lines of what was answered so: refused ones by the reason, done ones by a reference of them all."""
    answered = [one for one in changed if (one.what, one.state) == (what, state)]
    groups = defaultdict(list)
    references = {one.answer for one in answered}
    for one in answered:
        groups[one.answer if state == State.REFUSED or len(references) == 1 else ""].append(one.line_id)
    return groups


def _follow(doing: BulkAct, lines: list[int], *, by: Actor, why: str) -> None:
    """Do what follows from an answer to the batches of some lines, unless something else became of them meanwhile."""
    batches = Batch.objects.filter(lines__in=lines, lines__outcome=_OUTCOME_BEFORE[doing.kind])
    if batches.exists():
        perform(doing, batches, by=by.begin(), why=why)


def _tell_the_managers(not_locked: list[Instruction], *, by: Actor) -> None:
    """Queue an email to each manager for each case of which batches were not relocked, unless one waits there."""
    lines = RequestedBatch.objects.filter(pk__in=[one.line_id for one in not_locked], outcome=Outcome.RELOCKING)
    told = Outgoing.objects.filter(
        email=Outgoing.Email.NOT_RELOCKED, state=Outgoing.State.QUEUED, unlock_request=OuterRef("pk")
    )
    cases = UnlockRequest.objects.filter(~Exists(told), pk__in=lines.values("unlock_request")).order_by("pk")
    managers = roles.staff_who_may("unlocks.put_back_instruction").exclude(email="")
    keys = [{"unlock_request": case, "account": case.account} for case in cases.select_related("account")]
    addresses = managers.values_list("email", flat=True).distinct() if keys else []
    rows.queue_all(Outgoing.Email.NOT_RELOCKED, [(to, of) for of in keys for to in addresses], by=by)


def _without_effect(changed: list[Instruction]) -> Iterator[chain.Entry]:
    """Yield an entry a request and answer for what the product did too late, or refused to lock."""
    for kind, what, state in (
        (events.UnlockedLate, What.UNLOCK, State.DONE),
        (events.RelockRefused, What.LOCK, State.REFUSED),
    ):
        said = {one.line_id: one.answer for one in changed if (one.what, one.state) == (what, state)}
        lines = RequestedBatch.objects.filter(pk__in=said).exclude(outcome=Outcome.UNLOCKED)
        groups = defaultdict(list)
        for line in lines.select_related("batch").order_by("unlock_request", "batch"):
            groups[line.unlock_request_id, line.batch.account_id, said[line.pk]].append(line.batch.number)
        for (unlock_request, account, answer), numbers in groups.items():
            shown = numbers[: events.NUMBERS_LISTED]
            yield chain.Entry(kind(batches=len(numbers), numbers=shown, why=answer), unlock_request, account)


def _unlocked(act: Act, by: Actor) -> None:
    notices.unlock_answered(act)
    notices.remind(act, by)


def _refused(act: Act, by: Actor) -> None:
    notices.unlock_answered(act)
    end_finished_cases(act, by)


def _relocked(act: Act, by: Actor) -> None:
    notices.tell_relocked(act, by)
    end_finished_cases(act, by)


_UNLOCKED = BulkAct(Act.Kind.UNLOCKED, judged_granted, Outcome.UNLOCKED, events.Unlocked, now_unlocked, then=_unlocked)
_REFUSED = BulkAct(
    Act.Kind.REFUSED, judged_granted, Outcome.REFUSED, events.ProductRefused, now_bypassed, then=_refused
)
_RELOCKED = BulkAct(Act.Kind.RELOCKED, judged_granted, Outcome.RELOCKED, events.Relocked, now_bypassed, then=_relocked)
_FOLLOWS = {
    (What.UNLOCK, State.DONE): _UNLOCKED,
    (What.UNLOCK, State.REFUSED): _REFUSED,
    (What.LOCK, State.DONE): _RELOCKED,
}
_OUTCOME_BEFORE = {
    Act.Kind.UNLOCKED: Outcome.UNLOCKING,
    Act.Kind.REFUSED: Outcome.UNLOCKING,
    Act.Kind.RELOCKED: Outcome.RELOCKING,
}
