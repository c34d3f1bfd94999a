"""Instructions for a product that pulls them, as the webhook brings them to one that is called."""

from uuid import UUID

from django.conf import settings

from .. import operations
from ..models import UnlockRequest
from ..product import answers, polling, port
from . import schemas
from .endpoints import act
from .problems import Problem

PERMISSION = "api.answer_instructions"


@act("/instructions/pull", schemas.PulledOut, PERMISSION, once=False)
def pull_instructions(request, body: schemas.PullIn):
    """Pull the instructions that are due, at most `most`, in their order; none are left when the list is empty.

    The consent of each is judged once more before. `carry_out` means: do it, each key once. `state` means: you may
    have got it before; say what became of it, or `not_known`. What you don't answer, you are asked about later.
    """
    _refuse_unless_polling()
    return schemas.PulledOut(instructions=[_instruction(*one) for one in operations.pull(body.most)])


@act("/instructions/answers", schemas.StatesOut, PERMISSION, once=False)
def answer_instructions(request, body: schemas.AnswersIn):
    """Answer instructions, and read how each stands now. The same answer twice changes nothing."""
    _refuse_unless_polling()
    given = [_answer(one) for one in body.answers]
    if len({one.key for one in given}) < len(given):
        raise Problem(409, "answered_twice", "Nothing was recorded: one key is answered twice.")
    stands = operations.record_answers(given, by=request.auth)
    now = [schemas.StateOut(key=one.key, state=stands.get(one.key, "not_known")) for one in given]
    return schemas.StatesOut(answers=now)


def _refuse_unless_polling():
    if not polling():
        detail = f"Nothing is pulled here: PRODUCT is “{settings.PRODUCT}”, not “polling”."
        raise Problem(409, "not_polling", detail)


def _answer(one):
    state = port.State(one.state)
    text = {port.State.DONE: one.reference, port.State.REFUSED: one.reason}.get(state)
    return port.Answer(UUID(one.key), state, answers.said(state, text))


def _instruction(ask, one):
    return schemas.InstructionOut(
        key=one.key,
        ask=ask,
        what=one.what,
        account=one.batch.account.number,
        batch=one.batch.number,
        request=UnlockRequest.reference_of(one.line.unlock_request_id),
        instructed_at=one.queued_at,
    )
