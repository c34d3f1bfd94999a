"""Where the product answers later: a signed POST, without a session. docs/integration.md is the protocol."""

from django.conf import settings
from django.http import Http404, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from . import operations
from .actors import Actor
from .product import answers, signing
from .product.webhook import GIVEN

READ_AT_MOST = 1024 * 1024  # bytes of a body


@csrf_exempt
@require_POST
def product_answers(request):
    """Record answers of the product, and say of each key how its instruction stands now."""
    if settings.PRODUCT != "webhook":
        raise Http404
    body = request.read(READ_AT_MOST + 1)
    if len(body) > READ_AT_MOST:
        return _said({"problem": f"The body is longer than {READ_AT_MOST:,} bytes."}, status=413)
    if not signing.is_signed(body, request.headers, settings.PRODUCT_SECRETS):
        return _said({"problem": "There is no valid signature of the last five minutes."}, status=401)
    try:
        given = [answers.answer(item, GIVEN) for item in answers.items(body)]
    except answers.Malformed as malformed:
        return _said({"problem": str(malformed)}, status=400)
    if len(set(given)) > len({one.key for one in given}):
        return _said({"problem": "It says two things about one “key”."}, status=400)
    stands = operations.record_answers(given, by=Actor.product())
    keys = dict.fromkeys(one.key for one in given)
    return _said({"answers": [{"key": str(key), "state": stands.get(key, "not_known")} for key in keys]})


def _said(data, status=200):
    return JsonResponse(data, status=status, headers={"Cache-Control": "no-store"})
