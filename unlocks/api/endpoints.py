"""What each endpoint has in common: who may, what may be asked, one answer for one key, and 304 for what is known."""

import hmac
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
from ..keys import derived
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
            response = answered(view(request, **values))
            response["ETag"] = f'"{sha256(response.content)[:32]}"'
            response["Cache-Control"] = "private, no-cache"
            return get_conditional_response(request, etag=response["ETag"], response=response)

        return api.get(path, response=answer, auth=Token(permission), **_named(view))(called)

    return registered


def act(path, answer, permission, *, status=200, once=True, method="POST"):
    """Register a view that changes something. Its verb gets the key of the act, `request.act_key`.

    With `once` a call that brings an Idempotency-Key is carried out once: the same key again gets the same answer.
    """

    def registered(view):
        @wraps(view)
        def called(request, **values):
            _refuse_unknown(request, view)
            if once:
                return _once(request, lambda: answered(view(request, **values), status))
            return answered(view(request, **values), status)

        named = {"auth": Token(permission), "openapi_extra": {"x-idempotent": once}, **_named(view)}
        return api.api_operation([method], path, response={status: answer}, **named)(called)

    return registered


def put(path, answers, permission, body):
    """Register a view that takes records: POST. It reads its body by itself, for that may be a long one, and answers.

    `answers` is {status: schema}, and `body` the schema of what is sent.
    """

    def registered(view):
        @wraps(view)
        def called(request):
            _refuse_unknown(request, view)
            return view(request)

        sent = {"application/json": {"schema": {"$ref": f"#/components/schemas/{body.__name__}"}}}
        extra = {"x-idempotent": True, "requestBody": {"content": sent, "required": True}}
        named = {"auth": Token(permission), "openapi_extra": extra, **_named(view)}
        return api.post(path, response=answers, **named)(called)

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


def answered(said, status=200):
    """Return the response that a view's answer is: a schema, or one with the address of what was made."""
    said, location = said if isinstance(said, tuple) else (said, "")
    response = HttpResponse(said.model_dump_json(), status=status, content_type="application/json")
    response["Cache-Control"] = "no-store"
    if location:
        response["Location"] = location
    return response


def _once(request, answer):
    with transaction.atomic():
        call = call_of(request, request.body)
        if call is None:
            return answer()
        if call.status:
            return again(call)
        return kept(call, answer())


def call_of(request, body):
    """Return the call that the Idempotency-Key names, a new one or that it was used for; None without a key.

    One under way is waited for, while a transaction is open. Raises Problem when the key was used for another call.
    """
    key = request.headers.get("Idempotency-Key")
    request.act_key = None
    if key is None:
        return None
    if not _KEY.fullmatch(key):
        raise _unreadable("header.Idempotency-Key", "It has 1 to 100 characters: letters, digits or signs.")
    system, digest = request.auth.user, _digest(request, body)
    call = _call(system, key, digest)
    if call.sha256 != digest:
        detail = "Nothing was done: this Idempotency-Key was used for another call. Use a new key for each."
        raise problems.Problem(422, "key_of_another_call", detail)
    request.act_key = uuid5(_KEYS, f"{system.pk} {key}")
    return call


def _digest(request, body):
    """Return the HMAC (hex) of an address and a body: who reads the database can't try what was sent."""
    return hmac.new(derived("API call"), f"{request.path}\n".encode() + body, "sha256").hexdigest()


def _call(system, key, digest):
    now = timezone.now()
    try:
        with transaction.atomic():
            ApiCall.objects.filter(at__lt=now - ApiCall.KEPT_FOR).delete()
            return ApiCall.objects.create(system=system, key=key, sha256=digest, at=now)
    except IntegrityError:
        return ApiCall.objects.get(system=system, key=key)


def kept(call, response):
    """Keep the answer to a call, and return it."""
    said = {"status": response.status_code, "answer": response.content.decode()}
    ApiCall.objects.filter(pk=call.pk).update(location=response.get("Location", ""), **said)
    return response


def again(call):
    """Return the answer that a call got before."""
    response = HttpResponse(call.answer, status=call.status, content_type="application/json")
    response["Cache-Control"] = "no-store"
    if call.location:
        response["Location"] = call.location
    return response
