"""Keys that are derived from LEDGER_KEY, each for one purpose."""

from base64 import urlsafe_b64encode

from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings


def derived(name: str) -> bytes:
    """Return the key (32 bytes) for the purpose `name`, by HKDF-SHA256: what one key gives away tells of no other."""
    hkdf = HKDF(algorithm=SHA256(), length=32, salt=None, info=f"unlock-desk/1 {name}".encode())
    return hkdf.derive(settings.LEDGER_KEY.encode())


def box(name: str) -> Fernet:
    """Return what encrypts and decrypts for the purpose `name`, and notices what was altered."""
    return Fernet(urlsafe_b64encode(derived(name)))
