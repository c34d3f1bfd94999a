"""PINs and passwords are kept as Argon2id hashes with OWASP's parameters; PINs are peppered before.

19 MiB, two passes, one lane (OWASP Password Storage Cheat Sheet): 31 ms a try where Django's default takes 172 ms
and 100 MiB and stalls every other page while it does.
"""

import hashlib
import hmac
import re
import secrets
from datetime import timedelta
from functools import cache

from django.contrib.auth.hashers import (
    Argon2PasswordHasher,
    check_password,
    is_password_usable,
    make_password,
    verify_password,
)

from .keys import derived
from .texts import normalize

PIN_DIGITS = 6
FIT = re.compile(r"[0-9]{4,12}")  # a PIN that the product gives

# After this many wrong tries in a row: how long nobody can try. After LAST_TRY only a new PIN helps.
LOCKOUTS = {5: timedelta(minutes=15), 10: timedelta(hours=1)}
LAST_TRY = 15


class PinHasher(Argon2PasswordHasher):
    time_cost = 2
    memory_cost = 19 * 1024
    parallelism = 1


def hashed(pin: str) -> str:
    """Return what is kept of a PIN."""
    return make_password(_peppered(pin))


@cache
def _nobodys_hash() -> str:
    return make_password(secrets.token_hex(16))


def password_matches(password: str, password_hash: str) -> tuple[bool, bool]:
    """Say whether this is the password, in the same time when there is none (''), and whether its hash is outdated."""
    right, outdated = verify_password(password, password_hash or _nobodys_hash())
    return right and bool(password_hash), outdated


def password_mac(user_id: int, password_hash: str) -> str:
    """Return what the entry that sets a password says of its hash (hex), so that no other hash passes for it.

    One that can't be used is another one each time, and all are the same here.
    """
    usable = password_hash if is_password_usable(password_hash) else ""
    message = f"unlock-desk password/1\n{user_id}\n{usable}"
    return hmac.new(derived("staff password"), message.encode(), hashlib.sha256).hexdigest()


def matches(pin: str, pin_hash: str) -> bool:
    """Say whether `pin` is the PIN behind `pin_hash`, in the same time when there is none ('')."""
    return check_password(_peppered(pin), pin_hash or _nobodys_hash()) and bool(pin_hash)


def mac(account_id: int, pin_hash: str) -> str:
    """Return what the entry that issues a PIN says of its hash (hex), so that no other hash passes for it."""
    message = f"unlock-desk issued PIN/1\n{account_id}\n{pin_hash}"
    return hmac.new(derived("issued PIN"), message.encode(), hashlib.sha256).hexdigest()


def _peppered(pin: str) -> str:
    """Return the PIN under a key that is not in the database: without it, six digits are tried offline in hours."""
    return hmac.new(derived("PIN"), normalize.pin(pin).encode(), hashlib.sha256).hexdigest()
