"""The keys of the certificates: what they give, always the same, from LEDGER_KEY."""

import json
import re

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from unlocks.certificates import keys
from unlocks.digest import canonical

from . import samples

ISSUED = "2026-11-23T14:05:09.123456+00:00"


def test_same_ledger_key_gives_the_same_keys(settings):
    """Pinned: a certificate that was issued has to stay genuine, whatever becomes of this code."""
    settings.LEDGER_KEY = "trial-only-ledger-key"
    assert (keys.public_key(), keys.code("CN-000012-1", ISSUED), keys.sign({"number": "CN-000012-1"})) == (
        "7a1d27542365b1d3e5e7c6a66da628f26b9a44d7003b90ee84e34ce00e03e058",
        "85PD-NJJE-58YJ",
        "093fbfb4f2e22becd00d16ce112fd52b22e0d92961c31f63faa98f21934ee9497fad208088a0f7df7f7d8a8a8ab33f82"
        "f35c358dddf2f7529cae54e01db91e0b",
    )


def test_another_ledger_key_gives_others(settings):
    before = keys.public_key(), keys.code("CN-000012-1", ISSUED)
    settings.LEDGER_KEY = "another"
    after = keys.public_key(), keys.code("CN-000012-1", ISSUED)
    assert [a == b for a, b in zip(before, after, strict=True)] == [False, False]


def test_signature_covers_what_it_is_for_and_the_canonical_facts():
    facts = samples.interim()
    public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(keys.public_key()))
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
        "signature": {"algorithm": "Ed25519", "key": keys.public_key(), "value": keys.sign(facts)},
    }
    assert document == keys.document(dict(reversed(facts.items())))
    assert document.startswith('{\n "certificate": {\n  "acts": [\n')
    assert document.endswith('"\n }\n}\n')
    assert '"name": "Zoë"' in document
