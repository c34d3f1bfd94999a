"""Whether a vendor's endpoint keeps to docs/integration.md: each check by itself, with made-up keys alone."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from secrets import token_bytes
from typing import Any

from django.utils import timezone

from ..models import Account, Batch, Instruction, RequestedBatch
from . import answers, calls, signing
from .port import Answer, NotHandedOver, State, Stopped
from .webhook import CARRY_OUT, GIVEN, STATE, Webhook, message

OLD = timedelta(minutes=10)
REFUSES, TOLERATES = (400, 401, 403), (*range(200, 300), 400, 422)
Unlock, Lock = Instruction.What.UNLOCK, Instruction.What.LOCK


class Failed(Exception):
    """The endpoint does not do what it has to. The message says what it did."""


CHECKS: dict[str, "Check"] = {}  # what each finds, in the order in which they are made


def check(what: str) -> Callable[["Check"], "Check"]:
    def registered(function: Check) -> Check:
        return CHECKS.setdefault(what, function)

    return registered


class Endpoint:
    """An endpoint that is being checked. `slowest` is what a call took at most, in seconds."""

    def __init__(self, url: str, secrets: Sequence[str]) -> None:
        self.url, self.secrets, self.slowest = url, secrets, 0.0

    def checked(self) -> Iterator[tuple[str, str]]:
        """Return (what was checked, what was wrong or ''), one after another; nothing more if nobody answers."""
        for number, (what, function) in enumerate(CHECKS.items()):
            try:
                function(self)
                trouble = ""
            except (Failed, NotHandedOver, Stopped, calls.Lost) as failed:
                trouble = str(failed)
            yield what, trouble
            if trouble and number == 0:
                return

    def post(self, body: bytes, headers: Mapping[str, str]) -> calls.Reply:
        start = time.monotonic()
        try:
            return calls.post(self.url, body, headers)
        finally:
            self.slowest = max(self.slowest, time.monotonic() - start)

    def ask(self, kind: str, instructions: Sequence[Instruction]) -> list[Answer]:
        """Return what it says of each instruction. Raises Failed if that is nothing that the desk can use."""
        start, product = time.monotonic(), Webhook(self.url, self.secrets)
        said = (product.carry_out if kind == CARRY_OUT else product.state)(instructions)
        self.slowest = max(self.slowest, time.monotonic() - start)
        if unknown := next((answer.text for answer in said if answer.state == State.UNKNOWN), ""):
            raise Failed(unknown)
        return said

    def is_refused(self, body: bytes, headers: Mapping[str, str]) -> None:
        """Fail unless a message is refused."""
        status = self.post(body, headers).status
        if status not in REFUSES:
            raise Failed(f"It answered {status} instead of 401 or 400.")


Check = Callable[[Endpoint], None]


@check("It can be reached, and answers a signed message")
def answers_a_signed_call(endpoint: Endpoint) -> None:
    endpoint.ask(STATE, [_made_up()])


@check("It refuses a message that someone else signed, and does nothing")
def refuses_another_signature(endpoint: Endpoint) -> None:
    made = [_made_up()]
    body = message(CARRY_OUT, made)
    endpoint.is_refused(body, signing.signed(body, [signing.made(token_bytes(32))]))
    _expect(endpoint.ask(STATE, made), {State.NOT_KNOWN})


@check("It refuses a message that is not signed")
def refuses_no_signature(endpoint: Endpoint) -> None:
    endpoint.is_refused(message(STATE, [_made_up()]), {})


@check("It refuses a message that was changed after it was signed")
def refuses_a_changed_body(endpoint: Endpoint) -> None:
    body = message(STATE, [_made_up()])
    endpoint.is_refused(body.replace(b"TEST", b"LIVE"), signing.signed(body, endpoint.secrets))


@check("It refuses a message that was signed ten minutes ago")
def refuses_an_old_message(endpoint: Endpoint) -> None:
    body = message(STATE, [_made_up()])
    endpoint.is_refused(body, signing.signed(body, endpoint.secrets, at=timezone.now() - OLD))


@check("It takes a message with a second signature, as while secrets are rotated")
def takes_one_of_two_signatures(endpoint: Endpoint) -> None:
    body = message(STATE, [_made_up()])
    secrets = [signing.made(token_bytes(32)), *endpoint.secrets]
    _succeeded(endpoint.post(body, signing.signed(body, secrets)))


@check("Of a key that it never got it says not_known")
def does_not_know_what_it_never_got(endpoint: Endpoint) -> None:
    _expect(endpoint.ask(STATE, [_made_up()]), {State.NOT_KNOWN})


@check("It answers an unlock and a lock")
def answers_instructions(endpoint: Endpoint) -> None:
    _expect(endpoint.ask(CARRY_OUT, [_made_up(), _made_up(what=Lock)]), GIVEN)


@check("The same key again is answered as before, alone and with others")
def answers_a_key_once(endpoint: Endpoint) -> None:
    first, second = made = [_made_up(), _made_up()]
    before = endpoint.ask(CARRY_OUT, made)
    _still(before, endpoint.ask(CARRY_OUT, made))
    _still(before[:1], endpoint.ask(CARRY_OUT, [first]))
    _still(before[1:], endpoint.ask(CARRY_OUT, [_made_up(), second])[1:])


@check("The same key in four calls at once is done once")
def does_a_key_once_at_once(endpoint: Endpoint) -> None:
    made = [_made_up()]
    with ThreadPoolExecutor(4) as pool:
        said = [one for (one,) in pool.map(lambda _: endpoint.ask(CARRY_OUT, made), range(4))]
    _expect(said, GIVEN)
    ended = [one for one in said if one.state != State.ACCEPTED]
    _still(ended[:1] * len(ended), ended)
    _still(ended[:1], endpoint.ask(STATE, made)[: len(ended[:1])])


@check("Asked about a key, it says what it answered")
def says_what_became_of_a_key(endpoint: Endpoint) -> None:
    made = [_made_up(), _made_up(what=Lock)]
    before = endpoint.ask(CARRY_OUT, made)
    _still(before, endpoint.ask(STATE, made))


@check("When its answer is lost, it knows what it answered, and answers the same key so again")
def knows_what_it_answered_in_vain(endpoint: Endpoint) -> None:
    made = [_made_up()]
    body = message(CARRY_OUT, made)
    calls.post_and_leave(endpoint.url, body, signing.signed(body, endpoint.secrets))
    before = endpoint.ask(STATE, made)
    _expect(before, GIVEN)
    _still(before, endpoint.ask(CARRY_OUT, made))


@check("It takes 500 instructions in one call, and knows them all")
def takes_500(endpoint: Endpoint) -> None:
    made = [_made_up(number) for number in range(answers.AT_ONCE)]
    before = endpoint.ask(CARRY_OUT, made)
    _expect(before, GIVEN)
    _still(before, endpoint.ask(STATE, made))


@check("It takes fields that it does not know, and may refuse a type that it does not know, with 400")
def tolerates_more(endpoint: Endpoint) -> None:
    made = [_made_up()]
    body = _with_more(message(STATE, made))
    _succeeded(endpoint.post(body, signing.signed(body, endpoint.secrets)))
    body = message("instructions.to_come", made)
    reply = endpoint.post(body, signing.signed(body, endpoint.secrets))
    if reply.status not in TOLERATES:
        raise Failed(f"To a type that it does not know it answered {reply.status}.")
    _expect(endpoint.ask(STATE, made), {State.NOT_KNOWN})


@check("It refuses what is signed and cannot be read, with 400")
def refuses_what_is_no_message(endpoint: Endpoint) -> None:
    status = endpoint.post(b"{", signing.signed(b"{", endpoint.secrets)).status
    if status not in (400, 422):
        raise Failed(f"It answered {status} instead of 400.")


@check("Each answer came within 15 seconds, half of what the desk waits")
def comes_in_time(endpoint: Endpoint) -> None:
    if endpoint.slowest > calls.DEADLINE / 2:
        raise Failed(f"The slowest took {endpoint.slowest:.1f} seconds.")


def _made_up(number: int = 0, *, what: str = Unlock) -> Instruction:
    """Return an instruction that no row is behind, for an account and a batch that read as a test."""
    batch = Batch(number=f"TEST-{number:03d}", account=Account(number="TEST"))
    line = RequestedBatch(batch=batch, unlock_request_id=0)
    return Instruction(what=what, batch=batch, line=line, queued_at=timezone.now())


def _with_more(body: bytes) -> bytes:
    """Return a message with fields that may come one day."""
    data: dict[str, Any] = json.loads(body)
    for fields in (data, data["data"], *data["data"]["instructions"]):
        fields["to_come"] = {"more": [1, None]}
    return json.dumps(data).encode()


def _succeeded(reply: calls.Reply) -> None:
    if not 200 <= reply.status < 300:
        raise Failed(f"It answered {reply.status}.")


def _expect(said: Sequence[Answer], states: set[State]) -> None:
    if wrong := next((answer.state for answer in said if answer.state not in states), None):
        raise Failed(f"It said {wrong}, not {' or '.join(sorted(states))}.")


def _still(before: Sequence[Answer], after: Sequence[Answer]) -> None:
    """Fail unless each answer is the one before, or what came of an acceptance."""
    for was, now in zip(before, after, strict=True):
        if was.state == State.ACCEPTED:
            _expect([now], GIVEN)
        elif now != was:
            raise Failed(f"First it said {_words(was)}, then {_words(now)}.")


def _words(answer: Answer) -> str:
    return f"{answer.state} ({answer.text})" if answer.text else str(answer.state)
