"""The port: what the desk asks of the product that holds the batches, and what it can answer.

An adapter is chosen by the setting PRODUCT. `carry_out` may be called again with a key that the product knows: it does
nothing then, and answers what became of it. Whether it did what it did not answer is asked by `state`, never guessed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from ..models import Instruction

AT_ONCE = 500  # instructions in a call


class State(StrEnum):
    """What the product says of an instruction."""

    DONE = "done"
    ACCEPTED = "accepted"  # it answers later
    REFUSED = "refused"
    NOT_KNOWN = "not_known"  # it has not got it; a call on its way may still bring it
    NOT_HANDED_OVER = "not_handed_over"  # it was not reached; adapters raise NotHandedOver
    UNKNOWN = "unknown"  # nobody knows: it has to be asked again
    STOPPED = "stopped"  # it does not want to be called any more; adapters raise Stopped


@dataclass(frozen=True)
class Answer:
    """What the product says of the instruction with this key. `text` is its reference, its reason, or what failed."""

    key: UUID
    state: State
    text: str = ""


class NotHandedOver(Exception):
    """The product got nothing of a call, for sure. The message says why."""


class Stopped(Exception):
    """The product does not want to be called any more (410). The message says so in its words."""


class Product(Protocol):
    """An adapter. Instructions come with `batch.account` and `line` selected, at most AT_ONCE in a call.

    Each is answered; what is missing from the answers is taken as unknown.
    """

    def carry_out(self, instructions: Sequence[Instruction]) -> list[Answer]:
        """Hand instructions over, in their order. Raises NotHandedOver, Stopped."""

    def state(self, instructions: Sequence[Instruction]) -> list[Answer]:
        """Ask what became of instructions that were handed over. Raises NotHandedOver, Stopped."""
