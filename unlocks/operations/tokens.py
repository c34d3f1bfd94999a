"""The tokens in the links that are mailed: drawn here, and kept as a hash."""

import hashlib
import secrets


def new_token():
    """Draw a token of 256 bits, as text for an address."""
    return secrets.token_urlsafe(32)


def hashed(token):
    """Return the SHA-256 (hex) of a token, which is all that is kept of it."""
    return hashlib.sha256(token.encode()).hexdigest()
