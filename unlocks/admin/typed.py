"""What was typed into a form by someone who had been signed out meanwhile: kept over signing in, to be sent again."""

import re
from typing import NamedTuple

from django.conf import settings
from django.core import signing

_COOKIE, _SALT = "desk_user", "unlocks.typed"
_AFTER_ANOTHER = "signed_in_after_another"
_NOT_KEPT = re.compile("pin$|password|^csrfmiddlewaretoken$|^typed$")
_NOT_SHOWN = re.compile("_|initial-|key$")


class Typed(NamedTuple):
    """A form as it was sent: where to, from which browser (the key of who last signed in there), and its fields."""

    path: str
    user: str
    fields: list[list[str]]
    had_files: bool

    @property
    def shown(self):
        """What was typed or chosen, with the names as they are read; keys of rows and boxes say nothing to a reader."""
        return [
            ("To do", value.replace("_", " ")) if name == "verb" else (name.replace("_", " ").capitalize(), value)
            for name, value in self.fields
            if not _NOT_SHOWN.match(name) and value.strip() and not value.isdigit() and value != "on"
        ]


def posted(request):
    """Return what a request posts, without PINs, passwords and files."""
    fields = [[name, value] for name, values in request.POST.lists() if not _NOT_KEPT.search(name) for value in values]
    return Typed(request.get_full_path(), _last_user(request), fields, bool(request.FILES))


def keep(request):
    """Return what a request posts as signed text for the sign-in page; "" when it is not known who last signed in."""
    form = posted(request)
    return signing.dumps(form, salt=_SALT, compress=True) if form.user else ""


def kept(text, user):
    """Return what `keep` wrote, or None: made up, another user's than the one who signed in, or too old."""
    try:
        typed = Typed(*signing.loads(text, salt=_SALT, max_age=settings.SESSION_COOKIE_AGE))
    except signing.BadSignature:
        return None
    return typed if typed.user == str(user.pk) else None


def may_be_of_another(request):
    """Say whether someone else was signed in before in this browser, whose form an expired one may be."""
    return _AFTER_ANOTHER in request.session


def _last_user(request):
    return request.get_signed_cookie(_COOKIE, "", salt=_SALT)


def remember(response, request):
    """Note in the browser who signed in, as long as a session lasts: a form sent from it is shown to them alone."""
    user = request.user
    if _last_user(request) not in ("", str(user.pk)):
        request.session[_AFTER_ANOTHER] = True
    response.set_signed_cookie(
        _COOKIE,
        str(user.pk),
        salt=_SALT,
        max_age=settings.SESSION_COOKIE_AGE,
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=True,
        samesite="Lax",
    )
    return response
