"""The keys of the certificates: what they give, always the same."""

import json
import re

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from unlocks.certificates import keys
from unlocks.certificates.verify_certificate import message
from unlocks.digest import canonical

from . import samples

ISSUED = "2026-11-23T14:05:09.123456+00:00"


def test_the_trial_runs_key_and_code(settings):
    """Pinned: a certificate that was issued has to stay genuine, whatever becomes of this code."""
    settings.LEDGER_KEY = "trial-only-ledger-key"
    facts = {"number": "CN-000012-1", "public_key": samples.PUBLIC_KEY}
    assert (keys.configured(), keys.code("CN-000012-1", ISSUED), keys.sign(facts)) == (
        [samples.PUBLIC_KEY],
        "85PD-NJJE-58YJ",
        "53e0592ada8a73421303c922a8eb6e90091424303a8f542efa525011f20b7d479f212db027ed9719bcb4d2f05bf95cc6"
        "a34a5b2fb109c64abc242a049d2fc805",
    )


def test_another_ledger_key_gives_other_codes(settings):
    before = keys.code("CN-000012-1", ISSUED)
    settings.LEDGER_KEY = "another"
    assert keys.code("CN-000012-1", ISSUED) != before


def test_the_key_that_the_facts_name_signs(settings):
    settings.CERTIFICATE_KEYS = [bytes(32), *settings.CERTIFICATE_KEYS]
    other = Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key().public_bytes_raw().hex()
    assert keys.configured() == [other, samples.PUBLIC_KEY]
    for key in keys.configured():
        facts = samples.interim() | {"public_key": key}
        signature = bytes.fromhex(keys.sign(facts))
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)).verify(signature, message(facts))
    settings.CERTIFICATE_KEYS = [bytes(32)]
    with pytest.raises(KeyError):
        keys.sign(samples.interim())


def test_signature_covers_what_it_is_for_and_the_canonical_facts():
    facts = samples.interim()
    public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(samples.PUBLIC_KEY))
    public.verify(bytes.fromhex(keys.sign(facts)), b"unlock-desk certificate/1\n" + canonical(facts).encode())
    assert keys.sign(facts) == keys.sign(dict(reversed(facts.items())))


def test_code_depends_on_number_and_time():
    codes = {
        keys.code(number, issued_at)
        for number in ("CN-000012-1", "CN-000012-2", "CN-000121-2")
        for issued_at in (ISSUED, ISSUED.replace("09.1", "09.2"))
    }
    assert len(codes) == 6


def test_code_has_no_letter_to_mistake():
    codes = [keys.code(f"CN-{n:06d}-1", ISSUED) for n in range(300)]
    assert {bool(re.fullmatch("[0-9A-HJKMNP-TV-Z]{4}(-[0-9A-HJKMNP-TV-Z]{4}){2}", code)) for code in codes} == {True}
    assert set("".join(codes)) == set("0123456789ABCDEFGHJKMNPQRSTVWXYZ-")


def test_document_is_the_facts_and_their_signature():
    facts = samples.closed()
    facts["signer"]["name"] = "Zoë"
    document = keys.document(facts)
    assert json.loads(document) == {
        "certificate": facts,
        "signature": {
            "algorithm": "Ed25519",
            "key": samples.PUBLIC_KEY,
            "key_id": "2e92382f8aa642f9",
            "value": keys.sign(facts),
        },
    }
    assert document == keys.document(dict(reversed(facts.items())))
    assert document.startswith('{\n "certificate": {\n  "acts": [\n')
    assert document.endswith('"\n }\n}\n')
    assert '"name": "Zoë"' in document
