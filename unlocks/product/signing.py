"""Signatures by Standard Webhooks, made and verified with the library of its authors."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime

import standardwebhooks
from django.utils import timezone


def signed(body: bytes, secrets: Sequence[str], *, at: datetime | None = None) -> dict[str, str]:
    """Return the headers of a message, with a signature by each secret.

    Its id follows from its body: the same message is known by it, however often it is sent.
    """
    id, at = f"msg_{hashlib.sha256(body).hexdigest()[:32]}", at or timezone.now()
    signatures = [standardwebhooks.Webhook(secret).sign(id, at, body.decode()) for secret in secrets]
    return {
        "webhook-id": id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


def is_signed(body: bytes, headers: Mapping[str, str], secrets: Sequence[str]) -> bool:
    """Return whether a message was signed with one of the secrets, within the last five minutes."""
    return any(_verifies(body, headers, secret) for secret in secrets)


def _verifies(body: bytes, headers: Mapping[str, str], secret: str) -> bool:
    if not is_secret(secret):
        return False  # a short one can be guessed
    try:
        standardwebhooks.Webhook(secret).verify(body, dict(headers), json_parse=False)
    except (standardwebhooks.WebhookVerificationError, ValueError):
        return False  # ValueError: a header that is no signature, a body that is no text
    return True


def made(key: bytes) -> str:
    """Return the secret that a key of 24 to 64 bytes is."""
    return f"whsec_{base64.b64encode(key).decode()}"


def is_secret(text: str) -> bool:
    """Return whether a secret has the form that Standard Webhooks asks for: 24 to 64 bytes, in base64 after whsec_."""
    try:
        key = base64.b64decode(text.removeprefix("whsec_"), validate=True)
    except ValueError:
        return False
    return text.startswith("whsec_") and 24 <= len(key) <= 64
