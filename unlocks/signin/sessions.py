"""Where sessions are kept, and when they end. Who reads the database can be nobody: keys are hashed, data encrypted."""

import time
from base64 import urlsafe_b64encode
from datetime import UTC, datetime
from hashlib import sha256

from cryptography.fernet import Fernet, InvalidToken
from django.conf import settings
from django.contrib.auth import SESSION_KEY, logout
from django.contrib.sessions.backends import db
from django.utils import timezone
from django.utils.crypto import salted_hmac

from .. import operations
from ..actors import Actor
from ..models import DeskSession
from .showed import BEGAN

SEEN = "seen"  # in the session: when someone last clicked, in seconds since 1970
# What a User-Agent holds, the most telling first: most call themselves Safari, and Edge calls itself Chrome.
_BROWSERS = {"Edg": "Edge", "Firefox/": "Firefox", "Chrome/": "Chrome", "Safari/": "Safari"}
_SYSTEMS = {
    "iPhone": "iPhone",
    "iPad": "iPad",
    "Android": "Android",
    "Windows": "Windows",
    "Mac OS": "Mac",
    "Linux": "Linux",
}
SEEN_EVERY = 60  # a busy session is not written down at each click


def _box(hashed_key):
    """Return what encrypts the session of this row alone: none can be read, or put, under another key.

    Under SECRET_KEY, so that a wrong LEDGER_KEY signs nobody out.
    """
    return Fernet(urlsafe_b64encode(salted_hmac("unlocks.signin.sessions", hashed_key, algorithm="sha256").digest()))


def hashed(session_key):
    """Return what is kept of a key: 160 bits of its SHA-256. It holds more than 160 random ones itself."""
    return sha256(session_key.encode()).hexdigest()[:40]


class SessionStore(db.SessionStore):
    """Django's own sessions in the database, under a hash of their key."""

    @classmethod
    def get_model_class(cls):
        return DeskSession

    def _get_session_from_db(self):
        key = self.session_key
        self._session_key = key and hashed(key)
        found = super()._get_session_from_db()
        self._session_key = key if found else None
        return found

    def exists(self, session_key):
        return super().exists(hashed(session_key))

    def create_model_instance(self, data):
        row = super().create_model_instance(data)
        row.session_key, row.user_id = hashed(row.session_key), data.get(SESSION_KEY)
        return row

    def delete(self, session_key=None):
        if key := session_key or self.session_key:
            super().delete(hashed(key))

    def encode(self, session_dict):
        return _box(hashed(self.session_key)).encrypt(super().encode(session_dict).encode()).decode()

    def decode(self, session_data):
        return self.opened(hashed(self.session_key), session_data)

    def opened(self, hashed_key, session_data):
        """Return the data of a row; {} if it is another row's."""
        try:
            return super().decode(_box(hashed_key).decrypt(session_data.encode()).decode())
        except InvalidToken:
            return {}


def of_user(request):
    """List where whoever asks is signed in, this browser first: since when, last when, from where, by which browser."""
    rows = DeskSession.objects.filter(user=request.user, expire_date__gt=timezone.now())
    this, found = hashed(request.session.session_key), []
    for row in rows:
        data = SessionStore().opened(row.session_key, row.session_data)
        began = data.get(BEGAN, 0)
        ip, browser = data.get("from", ["", ""])
        found.append(
            {
                "key": row.session_key,
                "this": row.session_key == this,
                "began": datetime.fromtimestamp(began, UTC),
                "seen": datetime.fromtimestamp(data.get(SEEN, began), UTC),
                "ip": ip,
                "browser": browser,
                "named": named(browser),
            }
        )
    return sorted(found, key=lambda one: (not one["this"], -one["seen"].timestamp()))


def named(browser):
    """Say which browser on which system a User-Agent names, as far as it does."""
    what = next((name for part, name in _BROWSERS.items() if part in browser), "A browser")
    system = next((name for part, name in _SYSTEMS.items() if part in browser), "")
    return f"{what} on {system}" if system else what


def end_in_time(get_response):
    """End a session that has lasted SESSION_HOURS. One that nobody used for SESSION_IDLE_MINUTES has expired.

    What a page asks for by itself, to stay up to date, is no use of it.
    """

    def answer(request):
        if request.user.is_authenticated:
            now, session = int(time.time()), request.session
            if now - session.setdefault(BEGAN, now) >= settings.SESSION_LIFETIME.total_seconds():
                operations.record_session_end(request.user, how="time", by=Actor.staff(request.user, request))
                logout(request)
            elif now - session.get(SEEN, 0) >= SEEN_EVERY and request.headers.get("Sec-Fetch-Dest") != "empty":
                session[SEEN] = now
        return get_response(request)

    return answer
