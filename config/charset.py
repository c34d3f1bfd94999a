"""What is not sent in UTF-8 is refused before anything reads it: not every codec that Python knows can decode text."""

from django.shortcuts import render
from django.utils.http import parse_header_parameters

REFUSED = "text/plain; charset=refused"


def only_utf_8(get_response):
    """Answer 400, as middleware, to a request that names another charset."""

    def answer(request):
        if not _is_utf_8(request.content_params):
            return render(request, "unlocks/other_charset.html", status=400)
        if "charset" in request.content_params:
            request.encoding = "utf-8"  # in the one spelling that Django knows everywhere
        return get_response(request)

    return answer


def readable(application):
    """Put REFUSED in the place of a content type that Django fails at, before any middleware, with a bare 500."""

    def answer(environ, start_response):
        try:
            _, params = parse_header_parameters(environ.get("CONTENT_TYPE", ""))
            refused = not _is_utf_8(params)
        except ValueError:
            refused = True
        if refused:
            environ["CONTENT_TYPE"] = REFUSED
        return application(environ, start_response)

    return answer


def _is_utf_8(params):
    return params.get("charset", "utf-8").strip().lower() in ("utf-8", "utf8")
