"""What each endpoint has in common: who may, what may be asked, one answer for one key, and 304 for what is known."""

import inspect
import re
from functools import wraps
from uuid import UUID, uuid5

from django.db import IntegrityError, transaction
from django.http import HttpResponse
from django.utils import timezone
from django.utils.cache import get_conditional_response
from ninja import NinjaAPI

from ..digest import sha256
from ..models import ApiCall
from . import problems
from .access import Token

api = NinjaAPI(
    title="Unlock Desk",
    version="1.0.0",
    description="Read accounts, batches, requests and consents, ask for consent, unlock, and follow what happens. "
    "docs/integration.md shows each step.",
    urls_namespace="api",
    docs_url=None,
    openapi_url=None,
)
problems.install(api)

# Names the act that a key stands for, so that no system meets the key of another.
_KEYS = UUID("5d2c8a0e-8f38-4a52-9c53-0d5f1f0c6a3b")
_KEY = re.compile(r"[!-~]{1,100}")


def read(path, answer, permission="api.read"):
    """Register a view that only reads: GET, with an ETag, answered 304 while nothing changed."""

    def registered(view):
        @wraps(view)
        def called(request, **values):
            _refuse_unknown(request, view)
            response = _answered(view(request, **values))
            response["ETag"] = f'"{sha256(response.content)[:32]}"'
            response["Cache-Control"] = "private, no-cache"
            return get_conditional_response(request, etag=response["ETag"], response=response)

        return api.get(path, response=answer, auth=Token(permission), **_named(view))(called)

    return registered


def act(path, answer, permission, *, status=200, once=True):
    """Register a view that changes something: POST. Its verb gets the key of the act, `request.act_key`.

    With `once` a call that brings an Idempotency-Key is carried out once: the same key again gets the same answer.
    """

    def registered(view):
        @wraps(view)
        def called(request, **values):
            _refuse_unknown(request, view)
            if once:
                return _once(request, lambda: _answered(view(request, **values), status))
            return _answered(view(request, **values), status)

        named = {"auth": Token(permission), "openapi_extra": {"x-idempotent": once}, **_named(view)}
        return api.post(path, response={status: answer}, **named)(called)

    return registered


def _named(view):
    summary, _, rest = inspect.getdoc(view).partition("\n\n")
    return {"operation_id": view.__name__, "summary": " ".join(summary.split()), "description": " ".join(rest.split())}


def _refuse_unknown(request, view):
    """Raise Problem when the address asks for what the view does not know: a typing error would show everything.

    A number is written in digits alone there: 5.0 and +5 are none, as the description says.
    """
    known = inspect.signature(view).parameters
    of_path = [(name, [text]) for name, text in request.resolver_match.kwargs.items()]
    for name, values in [*request.GET.lists(), *of_path]:
        if name not in known:
            raise _unreadable(f"query.{name}", "There is no such parameter here.")
        if len(values) > 1:
            raise _unreadable(f"query.{name}", "It is given twice.")
        if getattr(known[name].annotation, "__origin__", None) is int and not re.fullmatch("[0-9]+", values[0]):
            raise _unreadable(name, "It is no whole number.")


def _unreadable(where, sentence):
    fault = {"where": where, "sentence": sentence}
    return problems.Problem(422, "unreadable", f"Nothing was done: {where} can't be read. {sentence}", faults=[fault])


def _answered(said, status=200):
    """Return the response that a view's answer is: a schema, or one with the address of what was made."""
    said, location = said if isinstance(said, tuple) else (said, "")
    response = HttpResponse(said.model_dump_json(), status=status, content_type="application/json")
    response["Cache-Control"] = "no-store"
    if location:
        response["Location"] = location
    return response


def _once(request, answered):
    key = request.headers.get("Idempotency-Key")
    request.act_key = None
    if key is None:
        return answered()
    if not _KEY.fullmatch(key):
        raise _unreadable("header.Idempotency-Key", "It has 1 to 100 characters: letters, digits or signs.")
    system, digest = request.auth.user, sha256(f"{request.path}\n".encode() + request.body)
    ApiCall.objects.filter(at__lt=timezone.now() - ApiCall.KEPT_FOR).delete()  # not inside: others would wait for it
    with transaction.atomic():
        call = _call(system, key, digest)
        if call.status:
            return _again(call, digest)
        request.act_key = uuid5(_KEYS, f"{system.pk} {key}")
        response = answered()
        kept = {"status": response.status_code, "answer": response.content.decode()}
        ApiCall.objects.filter(pk=call.pk).update(location=response.get("Location", ""), **kept)
    return response


def _call(system, key, digest):
    """Return the call that this key was used for, or a new one. One under way is waited for."""
    try:
        with transaction.atomic():
            return ApiCall.objects.create(system=system, key=key, sha256=digest, at=timezone.now())
    except IntegrityError:
        return ApiCall.objects.get(system=system, key=key)


def _again(call, digest):
    if call.sha256 != digest:
        detail = "Nothing was done: this Idempotency-Key was used for another call. Use a new key for each."
        raise problems.Problem(422, "key_of_another_call", detail)
    response = HttpResponse(call.answer, status=call.status, content_type="application/json")
    response["Cache-Control"] = "no-store"
    if call.location:
        response["Location"] = call.location
    return response
