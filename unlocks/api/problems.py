"""What went wrong, as RFC 9457 says it: `application/problem+json`, with a code for programs and a sentence for people.

A refusal is a 409: nothing was done as things stand. What can't be read is a 422 (or 400, when it is no JSON).
"""

import re
from http import HTTPStatus

from django.core.exceptions import PermissionDenied, RequestDataTooBig
from django.db import InterfaceError, InternalError, OperationalError
from django.http import Http404, HttpResponse
from ninja import Schema
from ninja.errors import AuthenticationError, HttpError, ValidationError
from pydantic import Field

from .. import operations
from ..digest import canonical
from ..ledger.chain import WrongKey
from ..roles import SCOPES
from ..rules import Refusal

# What passes by itself, or once an administrator has looked: the same call may be sent again.
_UNAVAILABLE = {Refusal.GUARDS_MISSING}
AGAIN_AFTER = 30  # seconds
# Their sentences name contacts.
_NAMES = {Refusal.NOT_AN_ADMIN, Refusal.NOT_CONFIRMED, Refusal.OWN_CONTACT}


class Reason(Schema):
    code: str = Field(description="A refusal's code, for programs. It never changes its meaning.")
    sentence: str = Field(description="The sentence that staff read as well.")


class Fault(Schema):
    where: str = Field(description="The field, such as body.batches.0")
    sentence: str


class ProblemOut(Schema):
    title: str
    status: int
    detail: str = Field(description="What happened, why, and what to do next.")
    code: str = Field(description="The first refusal's code, or the kind of problem.")
    refusals: list[Reason] | None = Field(None, description="Why it was refused, one for each batch where it is one's.")
    faults: list[Fault] | None = Field(None, description="What can't be read, field by field.")


class Problem(Exception):
    """An answer that says what went wrong."""

    def __init__(self, status, code, detail, *, headers=None, **more):
        super().__init__(detail)
        self.http, self.code, self.detail, self.headers, self.more = (
            HTTPStatus(status),
            code,
            detail,
            headers or {},
            more,
        )

    @property
    def response(self):
        said = {"title": self.http.phrase, "status": self.http.value, "detail": self.detail}
        body = canonical(said | {"code": self.code} | self.more)
        headers = {"Cache-Control": "no-store", **self.headers}
        return HttpResponse(body, status=self.http.value, content_type="application/problem+json", headers=headers)


def install(api):
    """Have an API answer each exception with a problem. What is a bug is left to Django, which answers 500."""
    for kind, problem in _PROBLEMS.items():

        def answer(request, error, problem=problem):
            return problem(_without_names(error, getattr(request, "auth", None))).response

        api.add_exception_handler(kind, answer)


def _without_names(error, by):
    """Return a refusal without the names of contacts, for a system that may not see them."""
    if not isinstance(error, operations.Refused) or (by and by.may("api.see_personal")):
        return error
    named = {"name": "This contact", "admins": ""}
    return operations.Refused(
        *((code, code.label.format(**named).strip() if code in _NAMES else said) for code, said in error.refusals)
    )


def unavailable(detail="The database is locked, full or out of reach. Send the same call again."):
    return Problem(503, "unavailable", detail, headers={"Retry-After": AGAIN_AFTER})


def of_a_bug(error):
    """Return the answer to what no endpoint expected: 503 if it passes by itself, otherwise 500."""
    if found := next((_PROBLEMS[kind] for kind in type(error).__mro__ if kind in _PROBLEMS), None):
        return found(error)
    return Problem(
        500,
        "bug",
        "Something went wrong here. Tell the people who run this desk, with the X-Request-ID of this answer.",
    )


def not_found(detail="There is nothing at this address."):
    return Problem(404, "not_found", detail)


def no_json(status=400):
    return Problem(status, "unreadable", "Nothing was done: the body is no JSON.")


def too_large(what):
    return Problem(413, "too_large", f"Nothing was done: {what}")


def _refused(error):
    reasons = [{"code": code.value, "sentence": sentence} for code, sentence in error.refusals]
    if error.code in _UNAVAILABLE:
        return Problem(503, error.code.value, str(error), headers={"Retry-After": AGAIN_AFTER}, refusals=reasons)
    return Problem(409, error.code.value, str(error), refusals=reasons)


def _denied(error):
    needed = re.search(r"needs the permission (\S+?)\.?$", str(error))
    scopes = [scope for scope, may in SCOPES.items() if needed and needed[1] in may]
    if scopes:
        return Problem(403, "scope_missing", f"This takes a token with the scope “{scopes[0]}”.")
    return Problem(403, "forbidden", str(error) or "This may not be done by a system.")


def _unknown_token(error):
    detail = "Send a token that works: “Authorization: Bearer ud_...”. It may be wrong, expired or revoked."
    return Problem(401, "token_needed", detail, headers={"WWW-Authenticate": 'Bearer realm="Unlock Desk"'})


def unreadable(faults):
    """Return the answer to what can't be read; `faults` are (where, message) each."""
    said = [{"where": where, "sentence": f"{message}."} for where, message in faults]
    return Problem(422, "unreadable", "Nothing was done: what was sent can't be read.", faults=said)


def _unreadable(error):
    return unreadable((_where(one["loc"]), one["msg"]) for one in error.errors)


def _where(parts):
    # The second part of a body's is the name that the program has for it.
    kept = [part for place, part in enumerate(parts) if not (place == 1 and parts[0] == "body")]
    return ".".join(map(str, kept))


_PROBLEMS = {
    Problem: lambda error: error,
    operations.Refused: _refused,
    PermissionDenied: _denied,
    AuthenticationError: _unknown_token,
    ValidationError: _unreadable,
    Http404: lambda error: not_found(),
    HttpError: lambda error: no_json(error.status_code),
    RequestDataTooBig: lambda error: too_large("the body is too long."),
    WrongKey: lambda error: unavailable("The ledger’s key is not in place, so nothing can be recorded."),
    **dict.fromkeys([OperationalError, InternalError, InterfaceError], lambda error: unavailable()),
}
