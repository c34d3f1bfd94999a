"""What is not sent in UTF-8 is refused before anything reads it: not every codec that Python knows can decode text.

Django itself fails at a few content types that no browser sends, before any middleware: the web server answers 500.
"""

from django.shortcuts import render

from unlocks.api.problems import Problem


def only_utf_8(get_response):
    """Answer 400, as middleware, to a request that names another charset."""

    def answer(request):
        charset = request.content_params.get("charset", "utf-8")
        if charset.strip().lower() not in ("utf-8", "utf8"):
            if request.path_info.startswith("/api/"):
                return Problem(415, "not_utf_8", "Send JSON in UTF-8.").response
            return render(request, "unlocks/other_charset.html", status=400)
        if "charset" in request.content_params:
            request.encoding = "utf-8"  # in the one spelling that Django knows everywhere
        return get_response(request)

    return answer
