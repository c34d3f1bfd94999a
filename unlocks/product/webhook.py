"""The product behind a webhook: one signed call for up to 500 instructions. docs/integration.md is the protocol."""

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.utils import timezone

from ..models import Instruction, UnlockRequest
from . import answers, signing
from .calls import Lost, Reply, post
from .port import Answer, NotHandedOver, State, Stopped

CARRY_OUT, STATE = "instructions.carry_out", "instructions.state"
# What may be answered. That it never got them is no answer to instructions that it got.
GIVEN = {State.DONE, State.ACCEPTED, State.REFUSED}
MAY_ANSWER = {CARRY_OUT: GIVEN, STATE: GIVEN | {State.NOT_KNOWN}}
# What it means that a key is missing from the answer.
_MISSING = {
    CARRY_OUT: (State.ACCEPTED, ""),
    STATE: (State.UNKNOWN, "The product was asked about it and said nothing."),
}


class Webhook:
    """The adapter. `url` and `secrets` are those of the settings unless given."""

    def __init__(self, url: str | None = None, secrets: Sequence[str] | None = None) -> None:
        self.url = settings.PRODUCT_URL if url is None else url
        self.secrets = settings.PRODUCT_SECRETS if secrets is None else secrets

    def carry_out(self, instructions: Sequence[Instruction]) -> list[Answer]:
        return self._ask(CARRY_OUT, instructions)

    def state(self, instructions: Sequence[Instruction]) -> list[Answer]:
        return self._ask(STATE, instructions)

    def _ask(self, kind: str, instructions: Sequence[Instruction]) -> list[Answer]:
        if flaws := flaws_in(self.url, self.secrets):
            raise NotHandedOver(" ".join(flaws))
        body = message(kind, instructions)
        try:
            reply = post(self.url, body, signing.signed(body, self.secrets))
            return understood(kind, instructions, reply)
        except (Lost, answers.Malformed) as trouble:
            why = str(trouble) if isinstance(trouble, Lost) else f"The product’s answer can’t be read. {trouble}"
            return [Answer(instruction.key, State.UNKNOWN, why) for instruction in instructions]


def message(kind: str, instructions: Sequence[Instruction]) -> bytes:
    """Return the body of a message.

    A call is as old as its newest instruction, so that the same instructions are the same message when they are handed
    over again. A question is a new one each time, because its answer changes.
    """
    at = max(instruction.queued_at for instruction in instructions) if kind == CARRY_OUT else timezone.now()
    data = {"instructions": [_facts(instruction) for instruction in instructions]}
    return json.dumps({"type": kind, "timestamp": at.isoformat(), "data": data}).encode()


def _facts(instruction: Instruction) -> dict[str, str]:
    return {
        "key": str(instruction.key),
        "what": instruction.what,
        "account": instruction.batch.account.number,
        "batch": instruction.batch.number,
        # Its number says it all: the request itself is not selected.
        "request": UnlockRequest.reference_of(instruction.line.unlock_request_id),
        "instructed_at": instruction.queued_at.isoformat(),
    }


def understood(kind: str, instructions: Sequence[Instruction], reply: Reply) -> list[Answer]:
    """Return what a reply says of each instruction. Raises Stopped, Lost, Malformed."""
    if reply.status == 410:
        raise Stopped("The product answered 410: it does not want to be called any more.")
    if 300 <= reply.status < 400:
        raise Lost(f"The product answered {reply.status}, a redirect, which is not followed.")
    if not 200 <= reply.status < 300:
        raise Lost(f"The product answered {reply.status}.")
    said = _said(reply.body, MAY_ANSWER[kind])
    return [said.get(one.key) or Answer(one.key, *_MISSING[kind]) for one in instructions]


def _said(body: bytes, states: set[State]) -> dict[Any, Answer]:
    """Return {key: answer}. What is wrong with one answer is its alone."""
    said: dict[Any, Answer] = {}
    for item in answers.items(body) if body.strip() else ():
        try:
            one = answers.answer(item, states)
        except answers.Malformed as malformed:
            if malformed.key is None:
                raise  # whose it was is not known: it could be that of any
            one = Answer(malformed.key, State.UNKNOWN, f"The product’s answer can’t be read. {malformed}")
        if said.setdefault(one.key, one) != one:
            said[one.key] = Answer(one.key, State.UNKNOWN, "The product answered two things at once.")
    return said


def flaws_in(url: str, secrets: Sequence[str]) -> list[str]:
    """Return what keeps the desk from calling the product, as sentences that show no secret."""
    try:
        parts = urlsplit(url)
        host, user = parts.hostname, parts.username
        _ = parts.port
    except ValueError:
        host = user = None
        parts = urlsplit("")
    schemes = ("https", "http") if settings.TRIAL else ("https",)
    flaws = {
        "PRODUCT_URL is not set.": not url,
        f"PRODUCT_URL is not the address of a server that begins with {schemes[0]}://.": bool(url)
        and not (host and parts.scheme in schemes and url.isascii() and url.isprintable() and " " not in url),
        "PRODUCT_URL holds a username: calls are signed, they take none.": bool(user),
        "PRODUCT_SECRETS is not set.": not secrets,
    }
    flaws |= {
        f"PRODUCT_SECRETS: secret {number} is not 24 to 64 bytes in base64 after whsec_.": not signing.is_secret(secret)
        for number, secret in enumerate(secrets, start=1)
    }
    return [flaw for flaw, wrong in flaws.items() if wrong]
