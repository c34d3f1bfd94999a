"""What is made with the certificates' keys: the signature, the code, and the JSON file that carries the signature.

All keys come from LEDGER_KEY by HKDF-SHA256, each with a name of its own: there is nothing more to keep secret, and
whoever restores the desk with its LEDGER_KEY signs with the same key as before.
"""

import base64
import hashlib
import hmac
import json

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ..keys import derived
from .verify_certificate import message

ALGORITHM = "Ed25519"
_BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # no I, L, O and U: nobody mistypes them for 1, 0 and V
_CODE_BITS = 60
_CODE_FOR = "unlock-desk certificate code/1\n"  # before what is authenticated, as SIGNED_FOR is before what is signed


def public_key():
    """Return the key (hex) that whoever checks a certificate needs."""
    return _signing_key().public_key().public_bytes_raw().hex()


def sign(facts):
    """Return the Ed25519 signature (hex) under `facts`. The same facts give the same signature."""
    return _signing_key().sign(message(facts)).hex()


def code(number, issued_at):
    """Return what proves on the check page that somebody holds certificate `number`: "7K4Q-9M2X-TB6R" (60 bits).

    `issued_at` is the text that stands in the facts.
    """
    mac = hmac.new(derived("certificate code"), f"{_CODE_FOR}{number}\n{issued_at}".encode(), hashlib.sha256).digest()
    digits = base64.b32encode(mac)[: _CODE_BITS // 5].decode().translate(str.maketrans(_BASE32, _CROCKFORD))
    return "-".join([digits[:4], digits[4:8], digits[8:]])


def document(facts):
    """Return the JSON file of a certificate: its facts and the signature under them."""
    content = {
        "certificate": facts,
        "signature": {"algorithm": ALGORITHM, "key": public_key(), "value": sign(facts)},
    }
    return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def _signing_key():
    return Ed25519PrivateKey.from_private_bytes(derived("certificate signature"))
