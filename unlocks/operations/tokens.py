"""The tokens in the links that are emailed: drawn here, and kept as a hash."""

import secrets

from ..digest import sha256


def new_token() -> str:
    """Draw a token of 256 bits, as text for an address."""
    return secrets.token_urlsafe(32)


def hashed(token: str) -> str:
    """Return the SHA-256 (hex) of a token, which is all that is kept of it."""
    return sha256(token)
