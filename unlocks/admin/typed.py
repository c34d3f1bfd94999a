"""What was typed into a form by someone who had been signed out meanwhile: kept over signing in, to be sent again."""

import re
from typing import NamedTuple

from django.conf import settings
from django.core import signing

_COOKIE, _SALT = "desk_user", "unlocks.typed"
_NOT_KEPT = re.compile("pin$|password|^csrfmiddlewaretoken$|^typed$")


class Typed(NamedTuple):
    """A form as it was sent: where to, by whom (the key of the user who last signed in there), and its fields."""

    path: str
    user: str
    fields: list[list[str]]
    had_files: bool

    @property
    def texts(self):
        """The fields that hold more than a word, with their names as they are read."""
        return [(name.replace("_", " ").capitalize(), value) for name, value in self.fields if " " in value.strip()]


def posted(request):
    """Return what a request posts, without PINs, passwords and files."""
    fields = [[name, value] for name, values in request.POST.lists() if not _NOT_KEPT.search(name) for value in values]
    user = request.get_signed_cookie(_COOKIE, "", salt=_SALT)
    return Typed(request.get_full_path(), user, fields, bool(request.FILES))


def keep(request):
    """Return what a request posts as signed text, for the page on which the user signs in."""
    return signing.dumps(posted(request), salt=_SALT, compress=True)


def kept(text, user):
    """Return what `keep` wrote, or None: made up, another user's than the one who signed in, or too old."""
    try:
        typed = Typed(*signing.loads(text, salt=_SALT, max_age=settings.SESSION_COOKIE_AGE))
    except signing.BadSignature:
        return None
    return typed if typed.user == str(user.pk) else None


def remember(response, user):
    """Note in the browser who signed in: what they typed is shown to nobody who signs in after them."""
    response.set_signed_cookie(
        _COOKIE,
        str(user.pk),
        salt=_SALT,
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=True,
        samesite="Lax",
    )
    return response
