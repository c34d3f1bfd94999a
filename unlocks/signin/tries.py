"""How often someone may try to sign in. Counted in the database, so that all processes share it.

A browser in which a colleague has signed in before has tries of its own: whoever uses up those of the account, or of
the network, locks nobody out who comes back in that browser. Known and unknown usernames are counted alike.
"""

import secrets
from hashlib import sha256

from django.conf import settings
from django.db.models import F

from ..actors import client_ip
from ..customer import rate_limit
from ..models import CheckAttempts
from ..texts import normalize

_COOKIE, _SALT, _LASTS = "known_browser", "unlocks.signin.tries", 180 * 24 * 60 * 60
OF_BROWSER, OF_PAIR, OF_ACCOUNT, OF_NETWORK = 10, 5, 50, 30  # in CHECK_WINDOW


def take(request, username):
    """Count a try before it is judged; return (when the next one is allowed, or None; what gives the try back)."""
    counted = [
        (who, rate_limit.counted(who, limit, settings.CHECK_WINDOW)) for who, limit in _counters(request, username)
    ]
    again = max((until for _, until in counted if until), default=None)
    return again, lambda: _give_back([who for who, _ in counted])


def is_told(request, username, what):
    """Say whether the ledger has been told already of this, from this network: once in CHECK_WINDOW is enough."""
    who = f"signin t {_short(what + _named(username) + _network(request))}"
    return bool(rate_limit.counted(who, 1, settings.CHECK_WINDOW))


def remember(response, user):
    """Note in the browser that this colleague signed in there, under a new number of its own."""
    response.set_signed_cookie(
        _COOKIE,
        f"{_named(user.get_username())}:{secrets.token_hex(8)}",
        salt=_SALT,
        max_age=_LASTS,
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=True,
        samesite="Lax",
    )


def _counters(request, username):
    name, network = _named(username), _network(request)
    known, _, number = request.get_signed_cookie(_COOKIE, "", salt=_SALT, max_age=_LASTS).partition(":")
    if known == name:
        return [(f"signin b {number}", OF_BROWSER)]
    return [
        (f"signin n {network}", OF_NETWORK),
        (f"signin a {name}", OF_ACCOUNT),
        (f"signin p {_short(name + network)}", OF_PAIR),
    ]


def _network(request):
    return rate_limit.network_of(client_ip(request))


def _named(username):
    """Return a name that is counted, in a form that nothing can be read from: passwords are typed there, too."""
    return _short(normalize.look_alike(username))


def _short(text):
    return sha256(text.encode()).hexdigest()[:40]


def _give_back(counters):
    CheckAttempts.objects.filter(network__in=counters, count__gt=0).update(count=F("count") - 1)
