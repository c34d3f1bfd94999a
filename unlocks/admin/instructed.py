"""What is known of what the product was asked to do, in words for staff."""

from django.conf import settings
from django.db.models import Exists, OuterRef

from ..models import Instruction
from ..operations.answers import MOST_TRIES
from ..texts.formats import moment

State = Instruction.State


def by_hand():
    """Say whether staff carry out in the product what it is asked to do."""
    return settings.PRODUCT == "by_hand"


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
            return f"Waits to be handed over to the product.{said('Last try', answer)}"
        case State.SENT if instruction.started_by:
            by, at = instruction.started_by, moment(instruction.sent_at)
            return f"{by} started to do it by hand in {settings.VENDOR_NAME}, {at}."
        case State.SENT:
            return f"The product was asked {moment(instruction.sent_at)}. It has not answered yet."
        case State.UNKNOWN:
            return f"The product did not say whether it was done. It is asked again.{said('Last answer', answer)}"
        case State.GIVEN_UP:
            return f"{given_up(instruction.tries)}{said('Last answer', answer)}"
        case State.REFUSED:
            return said("The product said", answer).strip()
    return ""


def given_up(tries):
    """Say why the product is not asked any more, after so many tries."""
    if tries >= MOST_TRIES:
        return "The product could not be reached for three days."
    return "The product does not want to be asked any more."


def said(introduction, answer):
    """Write what came back as a sentence to be added to others; '' for nothing."""
    text = answer.strip().rstrip(".")
    return f" {introduction}: {text}." if text else ""
