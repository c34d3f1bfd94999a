"""What is known of what the product was asked to do, in words for staff."""

from django.conf import settings
from django.db.models import Exists, OuterRef

from ..models import Instruction
from ..operations.answers import GIVEN_UP_AFTER
from ..product import by_hand
from ..texts.formats import moment

State = Instruction.State


def newest(**where):
    """Return those of some instructions (of whole lines) that no later one follows."""
    later = Instruction.objects.filter(line=OuterRef("line"), pk__gt=OuterRef("pk"))
    return Instruction.objects.filter(~Exists(later), **where)


def how_far(instruction):
    """Say how far an instruction is, in a sentence or two; '' once there is nothing to add to its state."""
    answer = instruction.answer
    match instruction.state:
        case State.QUEUED if by_hand():
            return f"Waits to be done by hand in {settings.VENDOR_NAME}."
        case State.QUEUED:
            again = " again" if instruction.sent_at else ""
            return f"Waits to be handed over to the product{again}.{said('Last try', answer)}"
        case State.SENT if instruction.started_by:
            by, at = instruction.started_by, moment(instruction.sent_at)
            return f"{by} started to do it by hand in {settings.VENDOR_NAME}, {at}."
        case State.SENT:
            return f"The product was asked {moment(instruction.sent_at)}. It has not answered yet."
        case State.UNKNOWN:
            return f"The product did not say whether it was done. It is asked again.{said('Last answer', answer)}"
        case State.GIVEN_UP:
            return f"{given_up(instruction.tries)}{said('Last answer', answer)}"
        case State.REFUSED if instruction.started_by:
            return said(f"{instruction.started_by} said", answer).strip()
        case State.REFUSED:
            return said("The product said", answer).strip()
    return ""


def given_up(tries):
    """Say that the product is not asked any more, after so many tries; what it answered last says why."""
    return (
        "The product did not answer for three days."
        if tries >= GIVEN_UP_AFTER
        else "The product is not asked any more."
    )


def said(introduction, answer):
    """Write what came back as a sentence to be added to others; '' for nothing."""
    text = answer.strip().rstrip(".")
    return f" {introduction}: {text}." if text else ""
