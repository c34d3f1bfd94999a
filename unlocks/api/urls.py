"""The addresses under /api/v1/. Whatever is asked there is answered in JSON."""

from functools import wraps

from django.http import HttpResponse
from django.urls import path
from django.utils.cache import get_conditional_response
from django.views.decorators.csrf import csrf_exempt

from ..digest import canonical, sha256
from . import openapi, problems
from .endpoints import api


@csrf_exempt
def described(request):
    """Answer with the description of the API, which everybody may read."""
    if request.method not in ("GET", "HEAD"):
        return _not_allowed({"GET", "HEAD"})
    body = canonical(openapi.description())
    response = HttpResponse(body, content_type="application/json", headers={"ETag": f'"{sha256(body)[:32]}"'})
    return get_conditional_response(request, etag=response["ETag"], response=response)


@csrf_exempt
def nothing(request, address=""):
    return problems.not_found().response


def _in_json(view):
    """Have a view of ninja's say in JSON which methods it has."""

    @csrf_exempt
    @wraps(view)
    def answered(request, *args, **kwargs):
        response = view(request, *args, **kwargs)
        return _not_allowed(response["Allow"].split(", ")) if response.status_code == 405 else response

    return answered


def _not_allowed(methods):
    allow = ", ".join(sorted(methods))
    return problems.Problem(405, "no_such_method", f"This address takes {allow}.", headers={"Allow": allow}).response


_patterns, _, _ = api.urls
for _pattern in _patterns:
    _pattern.callback = _in_json(_pattern.callback)

app_name = "api"
urlpatterns = [
    path("openapi.json", described, name="openapi"),
    *(pattern for pattern in _patterns if pattern.name != "api-root"),
    path("<path:address>", nothing),
    path("", nothing),
]
