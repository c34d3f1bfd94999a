"""The secrets that are emailed: derived from the nonce of a row, and nowhere kept but as hashes.

So each try of an email holds the same link, and each Admin of an account reads the same PIN. Without LEDGER_KEY a
nonce tells nothing.
"""

import hmac
import secrets
from base64 import urlsafe_b64encode
from hashlib import sha256

from .. import digest, pins
from ..keys import derived


def new_nonce() -> str:
    """Draw 256 bits, in hex."""
    return secrets.token_hex(32)


def token(nonce: str) -> str:
    """Return the token (256 bits, as text for an address) that belongs to a nonce."""
    return urlsafe_b64encode(_derived("emailed token", nonce)).decode().rstrip("=")


def pin(nonce: str) -> str:
    """Return the PIN of PIN_DIGITS decimal digits that belongs to a nonce."""
    number = int.from_bytes(_derived("emailed PIN", nonce)) % 10**pins.PIN_DIGITS
    return f"{number:0{pins.PIN_DIGITS}d}"


def hashed(token: str) -> str:
    """Return the SHA-256 (hex) of a token, which is all that is kept of it."""
    return digest.sha256(token)


def _derived(key: str, nonce: str) -> bytes:
    return hmac.new(derived(key), nonce.encode(), sha256).digest()
