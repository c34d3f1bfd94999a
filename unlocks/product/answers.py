"""What the product says of instructions, as JSON: `{"answers": [{"key", "state", "reference" or "reason"}]}`."""

import json
import re
from collections.abc import Container
from typing import Any
from uuid import UUID

from ..texts.normalize import one_line
from .port import AT_ONCE, Answer, State

LONGEST = 500  # characters of a reference or reason

_TEXT = {State.DONE: "reference", State.REFUSED: "reason"}


class Malformed(Exception):
    """It is no answer. The message says why; `key` is what it was about, if that much could be read."""

    def __init__(self, why: str, key: UUID | None = None) -> None:
        super().__init__(why)
        self.key = key


def items(body: bytes) -> list[Any]:
    """Return the answers that a body holds, each to be read by `answer`. Raises Malformed."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Malformed("It is not JSON.") from error
    found = data.get("answers") if isinstance(data, dict) else None
    if not isinstance(found, list):
        raise Malformed("It is not an object with a list “answers”.")
    if len(found) > AT_ONCE:
        raise Malformed(f"It holds more than {AT_ONCE} answers.")
    return found


def answer(item: Any, states: Container[State]) -> Answer:
    """Return the answer that an item is, if its state is one of `states`. Raises Malformed."""
    if not isinstance(item, dict):
        raise Malformed("An answer is not an object.")
    key = _key(item.get("key"))
    try:
        state = State(str(item.get("state")))
    except ValueError:
        state = State.UNKNOWN
    if state not in states:
        raise Malformed("The “state” of an answer is none that can be given here.", key)
    text = item.get(_TEXT.get(state))
    return Answer(key, state, said(state, text))


def said(state: State, text: Any) -> str:
    """Return the reference or reason of an answer, as it is kept."""
    kept = one_line(str(text))[:LONGEST] if isinstance(text, str | int) else ""
    return "The product gave no reason." if state == State.REFUSED and not kept else kept


def _key(text: Any) -> UUID:
    if not isinstance(text, str) or not re.fullmatch("[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", text):
        raise Malformed("The “key” of an answer is not a UUID.")
    return UUID(text)
