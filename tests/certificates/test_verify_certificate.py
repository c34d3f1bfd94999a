"""The script that checks a certificate offline: its Ed25519, what it refuses, and what it says."""

import copy
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import settings as desk
from unlocks.certificates import keys, verify_certificate
from unlocks.certificates.facts import FORMAT
from unlocks.certificates.verify_certificate import NotGenuine, fits, verify

from . import samples

# The public key of 32 zeros.
OTHER = "3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29"
SCRIPT = Path(verify_certificate.__file__)
# RFC 8032, section 7.1: public key, message, signature.
VECTORS = [
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
        "d25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c"
        "387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc659"
        "4a7c15e9716ed28dc027beceea1ec40a",
    ),
    (
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        hashlib.sha512(b"abc").hexdigest(),
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e030"
        "3dca179c138ac17ad9bef1177331a704",
    ),
]
# Points of order 1, 2, 4 and 8.
SMALL_ORDER = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
]


def signed(facts, key=None):
    """Return the bytes of a certificate's file, signed with the desk's key or another."""
    if key:
        facts = facts | {"public_key": key.public_key().public_bytes_raw().hex()}
    key = key or Ed25519PrivateKey.from_private_bytes(*desk.CERTIFICATE_KEYS)
    public = key.public_key().public_bytes_raw().hex()
    signature = {
        "algorithm": "Ed25519",
        "key": public,
        "key_id": verify_certificate.key_id(public),
        "value": key.sign(verify_certificate.message(facts)).hex(),
    }
    return json.dumps({"certificate": facts, "signature": signature}, ensure_ascii=False).encode()


def refusal(data, key=None, keys=None):
    """Return why a file is refused, or '' if it is genuine."""
    try:
        verify(data, key, keys)
    except NotGenuine as reason:
        return str(reason)
    return ""


# --- Ed25519 ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("key", "message", "signature"), VECTORS)
def test_signatures_of_the_standard_fit(key, message, signature):
    key, message, signature = map(bytes.fromhex, (key, message, signature))
    assert fits(key, message, signature)
    assert not fits(key, message + b"\0", signature)


@settings(max_examples=20)
@given(seed=st.binary(min_size=32, max_size=32), message=st.binary(max_size=300), bit=st.integers(0, 511))
def test_signatures_of_cryptography_fit_and_damaged_ones_do_not(seed, message, bit):
    private = Ed25519PrivateKey.from_private_bytes(seed)
    key, signature = private.public_key().public_bytes_raw(), private.sign(message)
    damaged = (int.from_bytes(signature, "big") ^ 1 << bit).to_bytes(64, "big")
    other_key = (int.from_bytes(key, "big") ^ 1 << bit % 256).to_bytes(32, "big")
    assert [fits(key, message, signature), fits(key, message, damaged), fits(other_key, message, signature)] == [
        True,
        False,
        False,
    ]


@settings(max_examples=20)
@given(key=st.binary(min_size=32, max_size=32), signature=st.binary(min_size=64, max_size=64))
def test_what_cryptography_refuses_is_refused(key, signature):
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, b"message")
    except (InvalidSignature, ValueError):
        assert not fits(key, b"message", signature)


def test_signature_whose_s_is_not_reduced_is_refused():
    key, message, signature = map(bytes.fromhex, VECTORS[1])
    s = int.from_bytes(signature[32:], "little") + verify_certificate.L
    assert not fits(key, message, signature[:32] + s.to_bytes(32, "little"))


@pytest.mark.parametrize("key", SMALL_ORDER)
def test_key_of_small_order_is_refused(key):
    # With such a key, R = 0 and S = 0 sign one message in eight or all of them.
    signature = bytes.fromhex(SMALL_ORDER[0]) + bytes(32)
    assert verify_certificate._point(bytes.fromhex(key)) or key == SMALL_ORDER[3]
    assert [m for m in range(32) if fits(bytes.fromhex(key), bytes([m]), signature)] == []


@pytest.mark.parametrize("y", [verify_certificate.P, verify_certificate.P + 1, 2**255 - 1])
@pytest.mark.parametrize("sign", [0, 1])
def test_point_not_written_in_the_one_way_allowed_is_none(y, sign):
    assert verify_certificate._point((y | sign << 255).to_bytes(32, "little")) is None


@pytest.mark.parametrize("y", [1, verify_certificate.P - 1])
def test_point_with_x_0_has_no_sign(y):
    points = [verify_certificate._point((y | sign << 255).to_bytes(32, "little")) for sign in (0, 1)]
    assert points == [(0, y, 1, 0), None]


def test_r_not_written_in_the_one_way_allowed_is_refused():
    """R = the neutral point: S = k * a makes it fit, unless its y is written as p + 1."""
    seed = bytes(range(32))
    key = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    digest = hashlib.sha512(seed).digest()
    a = int.from_bytes(digest[:32], "little") & ((1 << 254) - 8) | (1 << 254)
    fitting = []
    for y in (1, verify_certificate.P + 1):
        r = y.to_bytes(32, "little")
        k = int.from_bytes(hashlib.sha512(r + key + b"m").digest(), "little")
        fitting.append(fits(key, b"m", r + (k * a % verify_certificate.L).to_bytes(32, "little")))
    assert fitting == [True, False]


def test_lengths_are_checked():
    key, message, signature = map(bytes.fromhex, VECTORS[1])
    assert [fits(key[:31], message, signature), fits(key, message, signature + b"\0")] == [False, False]


# --- Genuine ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", samples.EVERY_KIND)
def test_what_the_desk_signs_is_genuine(kind):
    data = signed(kind())
    assert verify(data) == verify(data, samples.PUBLIC_KEY) == kind()


def test_key_may_be_given_in_capitals():
    assert verify(signed(samples.closed()), samples.PUBLIC_KEY.upper()) == samples.closed()


def test_layout_and_order_of_keys_mean_nothing():
    content = json.loads(signed(samples.closed()))
    turned = {part: dict(reversed(content[part].items())) for part in reversed(content)}
    for laid_out in (
        json.dumps(turned),
        json.dumps(turned, indent="\t").replace("\n", "\r\n"),
        json.dumps(turned, separators=(",", ":"), ensure_ascii=False),
        "\ufeff" + json.dumps(turned).replace("\n", "\r\n"),
    ):
        assert verify(laid_out.encode()) == samples.closed()


def test_all_letters_survive():
    facts = samples.closed()
    facts["signer"]["name"] = 'Zoë "李" \\ \u2028 😀 \x00 e\u0301 שלום'
    assert verify(signed(facts))["signer"]["name"] == facts["signer"]["name"]


GOLDEN = Path(__file__).parent / "golden"


def golden(name):
    """Return the bytes of the certificate of this format that is kept: signed once, never written again."""
    return (GOLDEN / f"{name.replace('/', '-')}.json").read_bytes()


@pytest.mark.parametrize("name", verify_certificate.FORMATS)
def test_certificate_of_each_format_stays_genuine(name):
    key = "7a1d27542365b1d3e5e7c6a66da628f26b9a44d7003b90ee84e34ce00e03e058"
    assert verify(golden(name), key)["format"] == name


def test_certificate_of_each_format_is_kept():
    kept = {file.name for file in GOLDEN.iterdir()}
    assert kept == {f"{name.replace('/', '-')}.json" for name in verify_certificate.FORMATS}


def test_desk_writes_a_format_that_is_known():
    assert FORMAT in verify_certificate.FORMATS


# --- Lists of keys ---


def listed(valid_from="2026-11-01T00:00:00+00:00", valid_until=None, key=samples.PUBLIC_KEY):
    """Return a list of two keys, one of them the desk's, valid as given."""
    other = {"id": "139e3940e64b5491", "algorithm": "Ed25519", "key": OTHER}
    other |= {"valid_from": "2025-01-01T00:00:00+00:00", "valid_until": valid_from}
    mine = {"id": verify_certificate.key_id(key), "algorithm": "Ed25519", "key": key}
    mine |= {"valid_from": valid_from, "valid_until": valid_until}
    return {"format": "unlock-desk-certificate-keys/1", "keys": [mine, other]}


AT = "2026-11-24T09:15:00.000001+00:00"  # when the sample was issued
OUTSIDE = "It was signed with key 2e92382f8aa642f9, outside of the time in which it was valid: from {}."


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        (listed(), ""),
        (listed(AT), ""),
        (listed(valid_until="2026-11-24T09:15:00.000002+00:00"), ""),
        (listed(valid_until=AT), OUTSIDE.format("2026-11-01 00:00:00 UTC to 2026-11-24 09:15:00 UTC")),
        (listed("2026-11-24T09:15:00.000002+00:00"), OUTSIDE.format("2026-11-24 09:15:00 UTC on")),
        (listed(key=OTHER), "It was signed with a key that is not in the list of keys."),
    ],
)
def test_a_key_of_the_list_counts_while_it_was_valid(keys, why):
    assert refusal(signed(samples.closed()), keys=keys) == why


def test_whoever_signs_cannot_name_another_key():
    content = json.loads(signed(samples.closed()))
    content["signature"]["key_id"] = "0" * 16
    assert refusal(json.dumps(content).encode()) == "It names another key than the one that it was signed with."
    facts = samples.closed() | {"public_key": OTHER}
    assert refusal(signed(facts)) == "It names another key than the one that it was signed with."


def test_command_with_the_list_says_which_key(file, tmp_path):
    file.write_bytes(signed(samples.closed()))
    (tmp_path / "keys.json").write_text(json.dumps(listed()))
    code, said, _ = run(file, "--keys", tmp_path / "keys.json")
    first, *_, with_key, key = said.splitlines()
    assert (code, first, with_key, key) == (
        0,
        "GENUINE: signed with a key of the list while it was valid, and nothing has been changed since.",
        f"Signed with  {samples.PUBLIC_KEY}",
        "Key          2e92382f8aa642f9",
    )
    (tmp_path / "keys.json").write_text(json.dumps(listed(valid_until=AT)))
    code, said, _ = run(file, "--keys", tmp_path / "keys.json")
    why = OUTSIDE.format("2026-11-01 00:00:00 UTC to 2026-11-24 09:15:00 UTC")
    assert (code, said) == (1, f"NOT GENUINE: {why}\n")


@pytest.mark.parametrize("text", ["", "{}", '{"format": "unlock-desk-certificate-keys/1", "keys": [{}]}', None])
def test_a_list_that_is_none_checks_nothing(file, tmp_path, text):
    file.write_bytes(signed(samples.closed()))
    path = tmp_path / "keys.json"
    said = f"Can't read {path}: No such file or directory."
    if text is not None:
        path.write_text(text)
        said = f"{path} is not the list of keys from the check page."
    assert run(file, "--keys", path) == (2, f"NOT CHECKED: {said}\n", "")


# --- Not genuine -----------------------------------------------------------------------------------------------------


def test_another_key_is_named_as_such():
    data = signed(samples.closed(), Ed25519PrivateKey.from_private_bytes(bytes(32)))
    assert refusal(data) == ""
    assert refusal(data, samples.PUBLIC_KEY) == "It was signed with another key than the one given."


def _same(data, facts):
    """Say whether a file still means the same to Python's own reader, which is the measure here."""

    def once(pairs):
        assert len(dict(pairs)) == len(pairs)
        return dict(pairs)

    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=once) == json.loads(signed(facts))
    except (ValueError, AssertionError):
        return False


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_changed_byte_is_found_unless_it_is_a_blank(data):
    whole = signed(samples.interim())
    place = data.draw(st.integers(0, len(whole) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != whole[place]))
    changed = whole[:place] + bytes([byte]) + whole[place + 1 :]
    assert (refusal(changed) == "") is _same(changed, samples.interim())


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(0, 8000))
def test_any_part_of_a_file_is_refused(cut):
    whole = signed(samples.interim())
    assert refusal(whole[: cut % (len(whole) - 2)]) != ""


def _leaves(value, path=()):
    """Yield the path of every value in the facts."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from _leaves(inner, (*path, key))


LEAVES = [path for path in _leaves(samples.closed()) if path]


def _with(facts, path, value):
    facts = copy.deepcopy(facts)
    at = facts
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return facts


@settings(max_examples=150, deadline=None)
@given(
    path=st.sampled_from(LEAVES),
    value=st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9), st.just([]), st.just({})
    ),
)
def test_any_changed_value_is_found(path, value):
    content = json.loads(signed(samples.closed()))
    changed = _with(content["certificate"], path, value)
    if json.dumps(changed) != json.dumps(content["certificate"]):
        assert refusal(json.dumps(content | {"certificate": changed}).encode()) != ""


@settings(max_examples=100, deadline=None)
@given(
    path=st.sampled_from(LEAVES),
    value=st.one_of(st.integers(), st.floats(), st.just([]), st.just({}), st.just("nothing that it could be")),
)
def test_what_has_another_shape_is_refused_even_if_it_is_signed(path, value):
    """Whatever the key's owner signs, what `verify` returns has the shape that its callers count on."""
    facts = _with(samples.closed(), path, value)
    try:
        data = signed(facts, Ed25519PrivateKey.from_private_bytes(bytes(32)))
    except (ValueError, UnicodeEncodeError):
        return
    try:
        found = verify(data)
    except NotGenuine:
        return
    assert [_shape(found), found["number"]] == [_shape(samples.closed()), "CN-000012-2"]


def _shape(facts):
    return {key: sorted(value) if isinstance(value, dict) else type(value) for key, value in facts.items()}


WHOLE = signed(samples.closed()).decode()
NESTED = WHOLE.replace('"why": ""', '"why": [[[[[[[]]]]]]]', 1)
FILES = {
    "empty": (b"", "It is not a JSON file, or only part of one."),
    "blanks": (b" \n", "It is not a JSON file, or only part of one."),
    "PDF": (b"%PDF-1.4\n", "This is a PDF. What can be checked here is the JSON file of the same certificate."),
    "zip": (b"PK\3\4\x14\0\x08\x08\xff", "It is not UTF-8 text, as certificates are."),
    "zeros": (bytes(1000), "It is not a JSON file, or only part of one."),
    "HTML": (b"<!DOCTYPE html><p>", "It is not a JSON file, or only part of one."),
    "list": (b"[]", "The file is not an object."),
    "text": (b'"certificate"', "The file is not an object."),
    "number": (b"1", "The file is not an object."),
    "null": (b"null", "The file is not an object."),
    "other object": (b"{}", "The file does not have the keys of a certificate."),
    "one too many": (
        WHOLE.replace("{", '{"more": 1, ', 1).encode(),
        "The file does not have the keys of a certificate.",
    ),
    "two files": (WHOLE.encode() * 2, "It is not a JSON file, or only part of one."),
    "two byte order marks": (b"\xef\xbb\xbf" * 2 + WHOLE.encode(), "It is not a JSON file, or only part of one."),
    "UTF-16": (WHOLE.encode("utf-16"), "It is not UTF-8 text, as certificates are."),
    "UTF-16 without mark": (WHOLE.encode("utf-16-le"), "It is not a JSON file, or only part of one."),
    "UTF-32": (WHOLE.encode("utf-32"), "It is not UTF-8 text, as certificates are."),
    "cp1252": (WHOLE.replace("Dana", "Zoë").encode("cp1252"), "It is not UTF-8 text, as certificates are."),
    "NaN": (WHOLE.replace("41,", "NaN,", 1).encode(), "It holds a number that is not a whole number."),
    "Infinity": (WHOLE.replace("41,", "-Infinity,", 1).encode(), "It holds a number that is not a whole number."),
    "float": (WHOLE.replace("41,", "41.0,", 1).encode(), "It holds a number that is not a whole number."),
    "exponent": (WHOLE.replace("41,", "41e0,", 1).encode(), "It holds a number that is not a whole number."),
    "negative": (WHOLE.replace("41,", "-41,", 1).encode(), "It holds a number that is out of range."),
    "long number": (WHOLE.replace("41,", "9" * 5000 + ",", 1).encode(), "It holds a number that is out of range."),
    "leading zero": (WHOLE.replace("41,", "041,", 1).encode(), "It is not a JSON file, or only part of one."),
    "true for 1": (
        WHOLE.replace('"terms_version": 1', '"terms_version": true').encode(),
        "The file: certificate: consent: terms_version is not a whole number or null.",
    ),
    "nested in vain": (NESTED.encode(), "It is nested more deeply than a certificate can be."),
    "nested": (b"[" * 900_000, "It is nested more deeply than a certificate can be."),
    "nested objects": (b'{"a":' * 900_000, "It is nested more deeply than a certificate can be."),
    "unfinished string": (b'{"certificate": "' + b'\\"' * 1_000_000, "It is not a JSON file, or only part of one."),
    "quotation marks": (b'"' * 1_000_000, "It is not a JSON file, or only part of one."),
    "backslashes": (b'"' + b"\\" * 1_000_000, "It is not a JSON file, or only part of one."),
    "too many values": (b"[" + b"[]," * 1_000_000 + b"0]", "It holds more values than a certificate can."),
    "too large": (b" " * (20 * 1024 * 1024 + 1), "It is larger than 20 MiB, which no certificate is."),
    "key twice": (
        WHOLE.replace('"interim"', '"interim": false, "interim"', 1).encode(),
        "It says something twice: a key appears twice in one object.",
    ),
    "key twice, once escaped": (
        WHOLE.replace('"interim"', '"interi\\u006d": true, "interim"', 1).encode(),
        "It says something twice: a key appears twice in one object.",
    ),
    "lone surrogate": (
        WHOLE.replace("Whitfield", "\\ud800", 1).encode(),
        "It holds half a character (a lone surrogate), which no certificate does.",
    ),
    "lone surrogate in the text": (
        WHOLE.replace("Unlock bypassed", "\\udfff", 1).encode(),
        "It holds half a character (a lone surrogate), which no certificate does.",
    ),
    "control character": (WHOLE.replace("Dana", "Da\tna", 1).encode(), "It is not a JSON file, or only part of one."),
    "signature in capitals": (
        WHOLE.replace(keys.sign(samples.closed()), keys.sign(samples.closed()).upper()).encode(),
        "The file: signature: value is not 128 hexadecimal digits.",
    ),
    "no signature": (
        WHOLE.replace(keys.sign(samples.closed()), "0" * 128).encode(),
        "The signature does not match: something was changed after it was signed, or it was made up.",
    ),
    "signature by an older method": (
        WHOLE.replace('"Ed25519"', '"none"').encode(),
        "The file: signature: algorithm is not 'Ed25519'.",
    ),
}


@pytest.mark.parametrize(("data", "reason"), FILES.values(), ids=FILES)
def test_files_that_are_none(data, reason):
    assert refusal(data) == reason


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        (("number",), "CN-000013-1", "The certificate number does not belong to this consent."),
        (("interim",), True, "It says both that the case is closed and that it is not."),
        (("batches",), [], "The list of batches does not match the decision."),
        (("consent", "valid_until"), None, "The end of the consent does not match the decision."),
        (("consent", "text"), "Another text", "The text does not match its SHA-256."),
        (("consent", "recorded_by"), "agent", "Who recorded it does not match how the consent was given."),
        (("link",), None, "The consent link does not match how the consent was given."),
        (("batches", 1, "number"), "INV-20261101-01", "A batch is listed twice."),
        (
            ("batches", 1, "fingerprint"),
            "0" * 64,
            "A batch is listed that the text does not name with this content.",
        ),
        (("ledger", "entries", 3, "sequence"), 43, "The ledger entries are out of order."),
        (("batches", 1, "outcome"), "refused", "A batch is both unlocked and never unlocked."),
        (("batches", 1, "outcome"), "unlocking", "A batch is both unlocked and never unlocked."),
        (("batches", 1, "refusal"), "Exported", "A batch that was not refused has a reason for it."),
        (("changed", "not_known"), 2, "More batches changed while unlocked than were unlocked."),
        (("ledger", "entries", 12, "sequence"), 64, "A ledger entry is newer than the newest one there was."),
        (("ledger", "entries", 12, "sequence"), 63, "The newest ledger entry has two different hashes."),
        (
            ("issued_at",),
            "2026-02-30T14:05:09+00:00",
            "The file: certificate: issued_at is not a time in UTC.",
        ),
        (
            ("batches", 2, "total"),
            "1e3",
            "The file: certificate: batches, item 3: total is not an amount of money or null.",
        ),
        (
            ("batches", 2, "outcome"),
            "opened",
            "The file: certificate: batches, item 3: outcome is not 'waiting' or 'unlocking' or 'refused' or "
            "'not_unlocked' or 'later_consent' or 'unlocked' or 'relocking' or 're_exported' or 'relocked' or null.",
        ),
        (
            ("acts", 1, "kind"),
            "Unlocked",
            "The file: certificate: acts, item 2: kind is not 'unlock' or 'cancel' or 'unlocked' or 'refused' or "
            "'relock' or 'relocked' or 're_export'.",
        ),
    ],
)
def test_facts_that_contradict_each_other_are_refused_even_if_they_are_signed(path, value, reason):
    assert refusal(signed(_with(samples.closed(), path, value))) == reason


def test_declined_consent_was_never_withdrawn():
    facts = samples.declined() | {"withdrawal": dict.fromkeys(["at", "by", "through", "contact", "why"])}
    assert refusal(signed(facts)) == "A declined consent cannot have been withdrawn."


def test_format_that_is_not_known_is_refused_and_said_so():
    for name in ("unlock-desk-certificate/2", "", "\x1b[2J"):
        assert refusal(signed(samples.closed() | {"format": name})) == (
            "Its format is not one that is known here. Get the newest script from the check page."
        )


@pytest.mark.parametrize("name", [None, 1, [], {}])
def test_format_that_is_no_name_is_a_wrong_shape(name):
    reason = "The file: certificate: format is not 'unlock-desk-certificate/1'."
    assert refusal(signed(samples.closed() | {"format": name})) == reason


def test_facts_are_judged_only_once_the_signature_fits():
    facts = samples.interim()
    facts["batches"].append(facts["batches"][0])
    data = signed(facts)
    assert refusal(data) == "A batch is listed twice."
    value = json.loads(data)["signature"]["value"]
    assert refusal(data.replace(value.encode(), b"0" * 128)) == (
        "The signature does not match: something was changed after it was signed, or it was made up."
    )


def test_biggest_case_is_read_soon():
    data = signed(samples.many(10_000))
    assert len(verify(data)["batches"]) == 10_000


# --- The command -----------------------------------------------------------------------------------------------------


def run(*arguments, **environment):
    """Run the script as an auditor would: nothing of ours installed, nothing of the user's read."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(SCRIPT), *map(str, arguments)],
        capture_output=True,
        env=os.environ | environment,
        timeout=60,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.fixture
def file(tmp_path):
    return tmp_path / "CN-000012-2.json"


def test_command_says_what_a_certificate_says(file):
    file.write_bytes(signed(samples.closed()))
    assert run(file, "--key", samples.PUBLIC_KEY) == (
        0,
        "GENUINE: signed with the key given, and nothing has been changed since.\n"
        "\n"
        "Certificate  CN-000012-2\n"
        "Issued       2026-11-24 09:15:00 UTC by ServiceTitan Support\n"
        "State        final: the case was closed on 2026-11-24 09:12:06 UTC.\n"
        "Decision     agreed on 2026-11-23 13:44:31 UTC\n"
        "Who          Dana Whitfield, Controller\n"
        "Account      Northwind Heating, number 4711\n"
        "How          by the customer, through the consent link\n"
        "Batches      3\n"
        f"Signed with  {samples.PUBLIC_KEY}\n"
        "Key          2e92382f8aa642f9\n",
        "",
    )


def test_command_without_a_key_says_what_is_left_to_compare(file):
    facts = samples.recorded_by_phone()
    file.write_bytes(signed(facts))
    assert run(file) == (
        0,
        "UNALTERED: nothing has been changed since it was signed with the key below.\n"
        "\n"
        "Certificate  CN-000012-1\n"
        "Issued       2026-11-23 14:05:09 UTC by ServiceTitan Support\n"
        "State        INTERIM: the case was still open, so more may have happened since.\n"
        "Decision     agreed on 2026-11-23 13:44:31 UTC\n"
        "Who          Dana Whitfield, Controller\n"
        "Account      Northwind Heating, number 4711\n"
        "How          recorded by phone by agent, a staff member: a lower-assurance consent. The customer did not "
        "press anything themselves.\n"
        "Batches      3\n"
        f"Signed with  {samples.PUBLIC_KEY}\n"
        "Key          2e92382f8aa642f9\n"
        "\n"
        "Now compare this key with the one on https://desk.example/check/ : anyone can sign with a key of their own.\n",
        "",
    )


def test_command_shows_what_a_terminal_would_obey(file):
    facts = samples.withdrawn()
    facts["signer"] = {"name": "Eve\n\x1b[2JGENUINE \u202e", "role": "Zoë", "contact_name": None, "email": None}
    file.write_bytes(signed(facts))
    code, said, _ = run(file, PYTHONUTF8="0", LC_ALL="C")
    lines = [line for line in said.splitlines() if line.startswith(("Who", "Withdrawn"))]
    assert (code, lines[1]) == (0, "Withdrawn    2026-11-23 15:30:00 UTC")
    assert lines[0].startswith("Who          Eve[U+000A][U+001B][2JGENUINE [U+202E], Zo")


@pytest.mark.parametrize(
    "name", ["key twice", "nested", "UTF-16", "long number", "lone surrogate", "unfinished string"]
)
def test_command_names_the_reason_and_shows_no_traceback(file, name):
    data, reason = FILES[name]
    file.write_bytes(data)
    assert run(file) == (1, f"NOT GENUINE: {reason}\n", "")


@pytest.mark.parametrize("name", ["PDF", "zip", "HTML", "empty", "zeros"])
def test_file_of_another_kind_is_not_checked(file, name):
    file.write_bytes(FILES[name][0])
    assert run(file) == (
        2,
        "NOT CHECKED: this script checks the JSON file; check the PDF on the page that is named at its foot.\n",
        "",
    )


def test_certificate_of_another_format_is_not_checked(file):
    file.write_bytes(signed(samples.closed() | {"format": "unlock-desk-certificate/2"}))
    assert run(file) == (
        2,
        "NOT CHECKED: Its format is not one that is known here. Get the newest script from the check page.\n",
        "",
    )


def test_command_reads_no_more_than_it_must(file):
    with file.open("wb") as empty:
        empty.truncate(2_000_000_000)
    assert run(file) == (1, "NOT GENUINE: It is larger than 20 MiB, which no certificate is.\n", "")


def test_file_that_cannot_be_read_is_another_matter(file, tmp_path):
    assert run(file) == (2, "", f"Can't read {file}: No such file or directory.\n")


def test_key_that_is_none_is_said_so(file):
    code, said, complaint = run(file, "--key", "7a1d")
    assert (code, said) == (2, "")
    assert complaint.endswith("error: argument --key: a key is 64 hexadecimal digits\n")
