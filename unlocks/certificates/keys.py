"""What is made with the certificates' keys: the signature, the code, and the JSON file that carries the signature.

The key that signs is one of CERTIFICATE_KEYS, the newest that the ledger tells of (`unlocks.ledger.signing_keys`). The
code comes from LEDGER_KEY: nobody but the desk checks it.
"""

import base64
import hashlib
import hmac
import json

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.conf import settings

from ..keys import derived
from .verify_certificate import MANIFEST_FOR, SIGNED_FOR, key_id, message

ALGORITHM = "Ed25519"
_BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # no I, L, O and U: nobody mistypes them for 1, 0 and V
_CODE_BITS = 60
_CODE_FOR = "unlock-desk certificate code/1\n"  # before what is authenticated, as SIGNED_FOR is before what is signed


def configured():
    """Return the public keys (hex) of CERTIFICATE_KEYS, the newest first."""
    return list(_secrets())


def sign(facts, signed_for=SIGNED_FOR):
    """Return the Ed25519 signature (hex) under `facts`, with the key that they name. The same facts give the same.

    Raises KeyError when the secret of that key is not in CERTIFICATE_KEYS.
    """
    return _secrets()[facts["public_key"]].sign(message(facts, signed_for)).hex()


def code(number, issued_at):
    """Return what proves on the check page that someone holds certificate `number`: "7K4Q-9M2X-TB6R" (60 bits).

    `issued_at` is the text that stands in the facts.
    """
    mac = hmac.new(derived("certificate code"), f"{_CODE_FOR}{number}\n{issued_at}".encode(), hashlib.sha256).digest()
    digits = base64.b32encode(mac)[: _CODE_BITS // 5].decode().translate(str.maketrans(_BASE32, _CROCKFORD))
    return "-".join([digits[:4], digits[4:8], digits[8:]])


def key_id_of(content):
    """Return the id of the key that a JSON file of ours is signed with."""
    return json.loads(content)["signature"]["key_id"]


def document(facts):
    """Return the JSON file of a certificate: its facts and the signature under them."""
    return _signed("certificate", facts, SIGNED_FOR)


def manifest(facts):
    """Return the JSON file that lists the files of a case file: its facts and the signature under them."""
    return _signed("manifest", facts, MANIFEST_FOR)


def _signed(holds, facts, signed_for):
    key = facts["public_key"]
    signature = {"algorithm": ALGORITHM, "key": key, "key_id": key_id(key), "value": sign(facts, signed_for)}
    content = {holds: facts, "signature": signature}
    return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def _secrets():
    secrets = map(Ed25519PrivateKey.from_private_bytes, settings.CERTIFICATE_KEYS)
    return {secret.public_key().public_bytes_raw().hex(): secret for secret in secrets}
