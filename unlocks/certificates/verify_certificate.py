#!/usr/bin/env python3
"""Check the certificate of a consent, or the case file of a request, without a network or anything to install.

    python3 verify_certificate.py CN-000012-1.json --keys keys.json
    python3 verify_certificate.py CN-000012-1.json --key 9f2c...
    python3 verify_certificate.py UR-000007 --keys keys.json

Needs Python 3.9 or newer. keys.json is the list of the public keys of whoever issued the certificate, with the time in
which each was valid: take it from their check page. Or give one key, from the check page or from an older certificate,
not from the file that you doubt. Without either the file is checked against the key that it carries itself; that shows
that nothing was changed since it was signed, not who signed it.

What is checked: the file has the shape of a certificate and nothing besides; the Ed25519 signature (RFC 8032) fits
the facts; the SHA-256 of the text that was shown fits the text; the facts agree with each other. Blanks, line ends
and the order of the keys in the file mean nothing, so a file that an email program rewrapped is still genuine.

A case file is a folder, as it was unpacked. The signature of its manifest.json is checked, then the SHA-256 of each
file that it lists, that nothing is missing and nothing was added, and each certificate in it. Files that systems leave
in folders, such as .DS_Store, are ignored, and named. What is not checked is the chain of the ledger's entries in it:
it is sealed with a key that only the desk has, so only the desk can.

Exit status: 0 if all of it holds, 1 if not ("NOT GENUINE" and why), 2 if the file can't be read or is no JSON file,
such as the PDF of the certificate, or its format is not known here ("NOT CHECKED").
"""

import argparse
import hashlib
import json
import os
import re
import sys
from datetime import datetime

# Stands before the facts in what is signed: what the key may have signed for any other purpose is no certificate.
SIGNED_FOR = b"unlock-desk certificate/1\n"
MANIFEST_FOR = b"unlock-desk case file/1\n"
MAX_BYTES = 20 * 1024 * 1024
MAX_VALUES = 1_000_000  # more than fit into the biggest certificate
MAX_DEPTH = 6  # a certificate has 5


class NotGenuine(Exception):
    """The file is not a certificate as it was issued; the message says why, in a sentence for people."""


class NotJson(NotGenuine):
    """The file is of another kind, so nothing in it was checked."""


class UnknownFormat(NotGenuine):
    """The file names a format that is not known here, so nothing in it was checked."""


class NotKeys(NotGenuine):
    """What was given as the list of keys is none."""


class KeyNotValid(NotGenuine):
    """The signature fits, but the key was not valid when the certificate was issued, or the case file made."""


def verify(data, key=None, keys=None):
    """Return the facts in a certificate (the bytes of its JSON file) whose signature fits them.

    With `key` (hex), it has to be made with that one; with `keys` (a published list), with one that was valid when
    the certificate was issued. Raises NotGenuine.
    """
    return _verified(data, key, keys)[0]


def key_id(key):
    """Return the id of a public key (hex): the first 16 digits of the SHA-256 of its bytes."""
    return hashlib.sha256(bytes.fromhex(key)).hexdigest()[:16]


def _verified(data, key, keys):
    """Return the facts, and the key (hex) that they are signed with."""
    facts, signed_with = _signed(data, "certificate", FORMATS, SIGNED_FOR, key, keys)
    _check_facts(facts)
    if keys is not None:
        _check_validity(facts["issued_at"], signed_with, keys)
    return facts, signed_with


def _signed(data, holds, formats, signed_for, key, keys):
    """Return what a signed file `holds`, of a known shape, and the key (hex) that it is signed with."""
    content = _parsed(data)
    _check_shape(content, {holds: _shape_of(content, holds, formats), "signature": SIGNATURE}, "The file")
    facts, signature = content[holds], content["signature"]
    try:
        signed = message(facts, signed_for)
    except UnicodeEncodeError:
        raise NotGenuine("It holds half a character (a lone surrogate), which no certificate does.") from None
    if key is not None and signature["key"] != key.lower():
        raise NotGenuine("It was signed with another key than the one given.")
    if keys is not None and signature["key"] not in [listed["key"] for listed in keys["keys"]]:
        raise NotGenuine("It was signed with a key that is not in the list of keys.")
    if not fits(bytes.fromhex(signature["key"]), signed, bytes.fromhex(signature["value"])):
        raise NotGenuine("The signature does not match: something was changed after it was signed, or it was made up.")
    if facts["public_key"] != signature["key"] or signature["key_id"] != key_id(signature["key"]):
        raise NotGenuine("It names another key than the one that it was signed with.")
    return facts, signature["key"]


def _check_validity(signed_at, key, keys):
    listed = next(listed for listed in keys["keys"] if listed["key"] == key)
    since, until, at = listed["valid_from"], listed["valid_until"], datetime.fromisoformat
    if at(signed_at) < at(since) or (until is not None and at(signed_at) >= at(until)):
        valid = f"from {_utc(since)} to {_utc(until)}" if until else f"from {_utc(since)} on"
        raise KeyNotValid(f"It was signed with key {key_id(key)}, outside of the time in which it was valid: {valid}.")


def message(facts, signed_for=SIGNED_FOR):
    """Return what the signature covers: what it is for, then the facts as JSON in UTF-8, keys sorted and no blanks."""
    return signed_for + json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


# --- Reading the file: JSON, but stricter than Python reads it -------------------------------------------------------

# A string whose escapes were removed. Never looked for twice from the same place, so that no file takes hours.
_STRING = re.compile('"[^"]*"?')
_BRACKET = re.compile(r"[\[\]{}]")
_BEGINNING = re.compile(rb"(?:\xef\xbb\xbf|\xff\xfe|\xfe\xff)?[\0\s]*[{\[\"]")


def _parsed(data):
    if len(data) > MAX_BYTES:
        raise NotGenuine(f"It is larger than {MAX_BYTES // 1024 // 1024} MiB, which no certificate is.")
    if data.startswith(b"%PDF"):
        raise NotJson("This is a PDF. What can be checked here is the JSON file of the same certificate.")
    try:
        text = data.decode("utf-8-sig")  # an editor may have put a byte order mark before it
    except UnicodeDecodeError:
        raise _unread(data, "It is not UTF-8 text, as certificates are.") from None
    _check_size(text)
    try:
        return json.loads(
            text, object_pairs_hook=_object, parse_int=_integer, parse_float=_no_number, parse_constant=_no_number
        )
    except (ValueError, RecursionError):
        raise _unread(data, "It is not a JSON file, or only part of one.") from None


def _unread(data, reason):
    """Return the exception for a file that JSON can't be read from: was it meant to be JSON?"""
    return (NotGenuine if _BEGINNING.match(data) else NotJson)(reason)


def _check_size(text):
    """Refuse what would fill the memory, before it is read: everything but the strings is counted."""
    plain = text.replace("\\\\", "").replace('\\"', "")  # what is left of quotation marks begins or ends a string
    rest = _STRING.sub("", plain) if plain.count('"') < 4 * MAX_VALUES else None
    if rest is None or sum(map(rest.count, "[{,")) > MAX_VALUES:
        raise NotGenuine("It holds more values than a certificate can.")
    depth = 0
    for bracket in _BRACKET.findall(rest):
        depth += 1 if bracket in "[{" else -1
        if depth > MAX_DEPTH:
            raise NotGenuine("It is nested more deeply than a certificate can be.")


def _object(pairs):
    content = dict(pairs)
    if len(content) != len(pairs):
        raise NotGenuine("It says something twice: a key appears twice in one object.")
    return content


def _integer(digits):
    if len(digits) > 18 or digits.startswith("-"):
        raise NotGenuine("It holds a number that is out of range.")
    return int(digits)


def _no_number(digits):
    raise NotGenuine("It holds a number that is not a whole number.")


# --- The shape of a certificate --------------------------------------------------------------------------------------


class Kind:
    """One kind of value: what it is called, and whether a value is of it."""

    def __init__(self, name, fits):
        self.name, self.fits = name, fits


def _matching(name, pattern):
    matches = re.compile(pattern).fullmatch
    return Kind(name, lambda value: type(value) is str and matches(value) is not None)


def _or_null(kind):
    return Kind(kind.name + " or null", lambda value: value is None or kind.fits(value))


def _only(*words):
    return Kind(" or ".join(map(repr, words)), lambda value: value in words)


def _all(kind, keys):
    """Return the shape of an object whose keys all hold the same kind of value."""
    return dict.fromkeys(keys.split(), kind)


def _is_time(value):
    if not _LIKE_A_TIME.fits(value):
        return False
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return False
    return True


_LIKE_A_TIME = _matching("a time", r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{6})?\+00:00")
TEXT = Kind("text", lambda value: type(value) is str)
WHOLE = Kind("a whole number", lambda value: type(value) is int)
YES_NO = Kind("true or false", lambda value: type(value) is bool)
TIME = Kind("a time in UTC", _is_time)
MONEY = _matching("an amount of money", r"-?[0-9]{1,18}\.[0-9]{2}")
DIGEST = _matching("64 hexadecimal digits", r"[0-9a-f]{64}")
MAYBE_TEXT, MAYBE_WHOLE, MAYBE_TIME, MAYBE_MONEY, MAYBE_DIGEST = map(_or_null, (TEXT, WHOLE, TIME, MONEY, DIGEST))
NOT_DONE = ("waiting", "unlocking", "refused", "not_unlocked", "later_consent")  # the product did not unlock these
OUTCOME = _only(*NOT_DONE, "unlocked", "relocking", "re_exported", "relocked")
ACT = _only("unlock", "cancel", "unlocked", "refused", "relock", "relocked", "re_export")

# A dict: an object with exactly these keys. A tuple: such an object, or null. A list: any number of these.
FACTS_1 = {
    "format": _only("unlock-desk-certificate/1"),
    "number": _matching("the number of a certificate", r"CN-[0-9]{6,18}-[0-9]{1,9}"),
    "code": _matching("the code of a certificate", r"[0-9A-HJKMNP-TV-Z]{4}(?:-[0-9A-HJKMNP-TV-Z]{4}){2}"),
    "issued_at": TIME,
    "public_key": DIGEST,
    "interim": YES_NO,
    **_all(TEXT, "vendor check_at time_zone"),
    "consent": {
        "decision": _only("agreed", "declined"),
        "how": _only("link", "phone"),
        "decided_at": TIME,
        "text_sha256": DIGEST,
        "ticked": [TEXT],
        "terms_version": MAYBE_WHOLE,
        **_all(TEXT, "reference text"),
        **_all(MAYBE_TEXT, "recorded_by terms_title pressed why ip browser"),
        **_all(MAYBE_TIME, "valid_until terms_published_at"),
    },
    "case": {
        "reference": TEXT,
        **_all(MAYBE_TEXT, "account_number account_name accounting_software channel opened_by requester"),
        **_all(MAYBE_TEXT, "bypass_reason reason advice resolution"),
        **_all(MAYBE_TIME, "opened_at advised_at closed_at"),
    },
    "signer": _all(MAYBE_TEXT, "name role contact_name email"),
    "identity": {
        "pin_verified_at": MAYBE_TIME,
        "pin_typed_by": _or_null(_only("customer", "agent")),
        "pin_verified_by": MAYBE_TEXT,
    },
    "link": (
        {
            **_all(MAYBE_TIME, "sent_at expires_at opened_at used_at emailed_at"),
            **_all(MAYBE_TEXT, "sent_by shown_to opened_ip opened_browser"),
            "openings": MAYBE_WHOLE,
            "emailed": _or_null(_only("sent", "failed", "not_sent")),
        },
    ),
    "batches": [
        {
            "total": MAYBE_MONEY,
            "item_count": MAYBE_WHOLE,
            "fingerprint": MAYBE_DIGEST,
            "outcome": _or_null(OUTCOME),
            **_all(MAYBE_TEXT, "number name unlocked_by ended_by refusal"),
            **_all(MAYBE_TIME, "instructed_at unlocked_at ended_at"),
        }
    ],
    "acts": [{"kind": ACT, "at": MAYBE_TIME, "batches": MAYBE_WHOLE, **_all(MAYBE_TEXT, "by why")}],
    "changed": (_all(WHOLE, "batches items not_known"),),
    "withdrawal": (
        {
            "at": MAYBE_TIME,
            "through": _or_null(_only("receipt", "staff")),
            **_all(MAYBE_TEXT, "by contact why"),
        },
    ),
    "evidence": [
        {
            "size": MAYBE_WHOLE,
            "sha256": DIGEST,
            "attached_at": MAYBE_TIME,
            **_all(MAYBE_TEXT, "what file_name attached_by"),
        }
    ],
    "ledger": {
        "entries": [{"sequence": WHOLE, "at": MAYBE_TIME, "hash": DIGEST, **_all(MAYBE_TEXT, "what actor")}],
        "head": {"sequence": WHOLE, "hash": DIGEST},
    },
}
SIGNATURE = {
    "algorithm": _only("Ed25519"),
    "key": DIGEST,
    "key_id": _matching("16 hexadecimal digits", r"[0-9a-f]{16}"),
    "value": _matching("128 hexadecimal digits", r"[0-9a-f]{128}"),
}
KEYS = {
    "format": _only("unlock-desk-certificate-keys/1"),
    "keys": [
        {
            "id": SIGNATURE["key_id"],
            "algorithm": _only("Ed25519"),
            "key": DIGEST,
            "valid_from": TIME,
            "valid_until": MAYBE_TIME,
        }
    ],
}
# What a case file lists: all of its files but the list itself, and what is on record and is not in it, or damaged.
MANIFEST_1 = {
    "format": _only("unlock-desk-case-file/1"),
    "request": _or_null(_matching("the reference of a request", r"UR-[0-9]{6,18}")),
    "made_at": TIME,
    "public_key": DIGEST,
    **_all(TEXT, "made_by vendor check_at"),
    "files": [
        {
            "path": _matching("the path of a file", r"[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9][A-Za-z0-9._-]*)*"),
            "size": WHOLE,
            "sha256": DIGEST,
        }
    ],
    "faults": [_all(TEXT, "path why")],
    "head": {"sequence": WHOLE, "hash": DIGEST},
}
# A format never changes: one more fact in a certificate is a new format beside these, so that each stays genuine.
FORMATS = {"unlock-desk-certificate/1": FACTS_1}
MANIFESTS = {"unlock-desk-case-file/1": MANIFEST_1}


def _shape_of(content, holds, formats):
    """Return the shape of the format that a file names for what it `holds`. Raises UnknownFormat."""
    facts = content.get(holds) if type(content) is dict else None
    name = facts.get("format") if type(facts) is dict else None
    if type(name) is not str:
        return next(iter(formats.values()))  # it does not have this one either: what is wrong is said soon
    if name not in formats:
        raise UnknownFormat("Its format is not one that is known here. Get the newest script from the check page.")
    return formats[name]


def _check_shape(value, shape, where):
    if isinstance(shape, Kind):
        if not shape.fits(value):
            raise NotGenuine(f"{where} is not {shape.name}.")
    elif isinstance(shape, list):
        if type(value) is not list:
            raise NotGenuine(f"{where} is not a list.")
        for position, item in enumerate(value, 1):
            _check_shape(item, shape[0], f"{where}, item {position}")
    elif not (isinstance(shape, tuple) and value is None):
        keys = shape[0] if isinstance(shape, tuple) else shape
        if type(value) is not dict:
            raise NotGenuine(f"{where} is not an object.")
        if value.keys() != keys.keys():
            raise NotGenuine(f"{where} does not have the keys of a certificate.")
        for key, kind in keys.items():
            # Said only where it is needed: most values are as they should be, and there may be a million.
            if not (isinstance(kind, Kind) and kind.fits(value[key])):
                _check_shape(value[key], kind, f"{where}: {key}")


# --- Do the facts agree with each other? -----------------------------------------------------------------------------


def _check_facts(facts):
    for holds, otherwise in _claims(facts):
        if not holds:
            raise NotGenuine(otherwise)


def _claims(facts):
    """Yield what has to hold, each with what is wrong if it does not."""
    consent, batches, link = facts["consent"], facts["batches"], facts["link"]
    agreed, by_phone = consent["decision"] == "agreed", consent["how"] == "phone"
    text, closed_at = consent["text"], facts["case"]["closed_at"]
    yield hashlib.sha256(text.encode()).hexdigest() == consent["text_sha256"], "The text does not match its SHA-256."
    numbered = facts["number"].rpartition("-")[0]
    yield numbered == consent["reference"], "The certificate number does not belong to this consent."
    yield facts["interim"] is (closed_at is None), "It says both that the case is closed and that it is not."
    yield bool(batches) is agreed, "The list of batches does not match the decision."
    yield (consent["valid_until"] is not None) is agreed, "The end of the consent does not match the decision."
    yield agreed or facts["withdrawal"] is None, "A declined consent cannot have been withdrawn."
    yield (link is None) is by_phone, "The consent link does not match how the consent was given."
    yield (consent["recorded_by"] is not None) is by_phone, "Who recorded it does not match how the consent was given."
    numbers = [batch["number"] for batch in batches if batch["number"] is not None]
    yield len(set(numbers)) == len(numbers), "A batch is listed twice."
    agreed_to = text.partition("\nLeft out, stay locked: ")[0]
    named = set(re.findall("[0-9a-f]{64}", agreed_to)) | {None}
    in_text = by_phone or named.issuperset(batch["fingerprint"] for batch in batches)
    yield in_text, "A batch is listed that the text does not name with this content."
    for batch in batches:
        outcome = batch["outcome"]
        yield batch["unlocked_at"] is None or outcome not in NOT_DONE, "A batch is both unlocked and never unlocked."
        yield batch["refusal"] is None or outcome == "refused", "A batch that was not refused has a reason for it."
    changed, unlocked = facts["changed"], sum(batch["unlocked_at"] is not None for batch in batches)
    fewer = changed is None or 0 < unlocked >= changed["batches"] + changed["not_known"]
    yield fewer, "More batches changed while unlocked than were unlocked."
    yield from _claims_of_ledger(**facts["ledger"])


def _claims_of_ledger(entries, head):
    sequences = [entry["sequence"] for entry in entries]
    yield sequences == sorted(set(sequences)), "The ledger entries are out of order."
    last = entries[-1] if entries else head
    yield last["sequence"] <= head["sequence"], "A ledger entry is newer than the newest one there was."
    same = last["sequence"] < head["sequence"] or last["hash"] == head["hash"]
    yield same, "The newest ledger entry has two different hashes."


# --- A case file: a folder, and the signed list of what is in it ------------------------------------------------------

MANIFEST = "manifest.json"
LEFT_BY_SYSTEMS = {".DS_Store", "Thumbs.db", "desktop.ini"}  # by looking into a folder
MOST_SAID = 20


def verify_folder(folder, key=None, keys=None, beside=None):
    """Return the manifest of a case file and the key that it is signed with, if each of its files is as it was made.

    `key` and `keys` as in `verify`; a file `beside` may lie in the folder. Raises NotGenuine, whose message names the
    files that are not.
    """
    data = _start_of(os.path.join(folder, MANIFEST))  # noqa: PTH118
    if data is None:
        raise NotGenuine(f"It has no {MANIFEST}, so it is no case file, or not the whole of one.")
    manifest, signed_with = verify_manifest(data, key, keys)
    if wrong := list(_wrong(folder, manifest, keys, beside)):
        more = [f"and {len(wrong) - MOST_SAID} more."] if len(wrong) > MOST_SAID else []
        raise NotGenuine("\n".join(wrong[:MOST_SAID] + more))
    return manifest, signed_with


def verify_manifest(data, key=None, keys=None):
    """Return what the list of a case file (its bytes) says and the key that it is signed with. Raises NotGenuine."""
    manifest, signed_with = _signed(data, "manifest", MANIFESTS, MANIFEST_FOR, key, keys)
    if keys is not None:
        _check_validity(manifest["made_at"], signed_with, keys)
    return manifest, signed_with


def _wrong(folder, manifest, keys, beside):
    """Yield a sentence for each file of a case file that is not as its manifest says."""
    listed = {file["path"]: file for file in manifest["files"]}
    if len(listed) != len(manifest["files"]) or MANIFEST in listed:
        yield "Its list names a file twice, or itself."
    inside = {path.partition("/")[0] for path in listed if path.endswith("/" + MANIFEST)}
    for path, file in listed.items():
        yield from _wrong_with(folder, path, file, manifest, keys)
    for path in sorted(_paths_in(folder, beside)):
        top, below, _ = path.partition("/")
        known = path == MANIFEST or path in listed or (below and top in inside)
        if not known and not _left_by_system(folder, path):
            yield f"{_shown(path)} was added: the list does not name it."
    for name in sorted(inside):
        yield from _wrong_inside(os.path.join(folder, name), name, manifest, keys)  # noqa: PTH118


def _wrong_with(folder, path, file, manifest, keys):
    """Yield what is wrong with a file that is listed; a certificate is checked as such."""
    place = os.path.join(folder, *path.split("/"))  # noqa: PTH118
    found = _measured(place)
    if os.path.islink(place):  # noqa: PTH114
        yield f"{path} is a link to a file elsewhere."
    elif found is None:
        yield f"{path} is missing."
    elif found != (file["size"], file["sha256"]):
        yield f"{path} was changed."
    elif re.fullmatch(r"certificates/[^/]+\.json", path):
        # The list vouches for the key that it is signed with, which may be an older one.
        try:
            facts, _ = _verified(_start_of(place), None, keys)
        except NotGenuine as reason:
            yield f"{path}: {reason}"
        else:
            if facts["case"]["reference"] != manifest["request"]:
                yield f"{path} belongs to another request."


def _wrong_inside(folder, name, manifest, keys):
    """Yield what is wrong with a case file inside a folder of several, which holds no others."""
    try:
        inner, _ = verify_folder(folder, keys=keys)
    except NotGenuine as reason:
        yield f"{name}: {reason}"
    else:
        if manifest["request"] is not None or inner["request"] != name:
            yield f"{name} is not the case file of {name}."


def _paths_in(folder, beside):
    """Yield the paths of the files in a folder, with / between their parts."""
    for place, folders, names in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]  # noqa: PTH114, PTH118
        for name in names + links:
            path = os.path.join(place, name)  # noqa: PTH118
            if not (beside and os.path.realpath(path) == os.path.realpath(beside)):
                yield os.path.relpath(path, folder).replace(os.sep, "/")


def _left_by_system(folder, path):
    place = os.path.join(folder, *path.split("/"))  # noqa: PTH118
    return path.rpartition("/")[2] in LEFT_BY_SYSTEMS and not os.path.islink(place)  # noqa: PTH114


def _ignored(folder, manifest):
    """Return the paths of the files that were left by systems, which nobody signed."""
    listed = {file["path"] for file in manifest["files"]}
    return sorted(path for path in _paths_in(folder, None) if path not in listed and _left_by_system(folder, path))


def _measured(place):
    """Return the size of a file and its SHA-256 (hex); None if it can't be read."""
    size, digest = 0, hashlib.sha256()
    try:
        with open(place, "rb") as file:  # noqa: PTH123
            while True:
                piece = file.read(1024 * 1024)
                if not piece:
                    return size, digest.hexdigest()
                size += len(piece)
                digest.update(piece)
    except OSError:
        return None


def _start_of(place):
    """Return what a file holds, up to more than what is read of one; None if it can't be read."""
    try:
        with open(place, "rb") as file:  # noqa: PTH123
            return file.read(MAX_BYTES + 1)
    except OSError:
        return None


# --- Ed25519: the verification of RFC 8032, section 5.1.7 ------------------------------------------------------------
# Points are (X, Y, Z, T) with x = X/Z, y = Y/Z, x*y = T/Z. Nothing here is secret, so nothing needs constant time.

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
ROOT_OF_MINUS_1 = pow(2, (P - 1) // 4, P)
NEUTRAL = (0, 1, 1, 0)


def fits(key, message, signature):
    """Say whether `signature` (64 bytes) is one of `message` under the public key (32 bytes)."""
    if len(key) != 32 or len(signature) != 64:
        return False
    public = _point(key)
    r, s = signature[:32], int.from_bytes(signature[32:], "little")
    if public is None or s >= L or _is_neutral(_times(8, public)):
        return False
    k = int.from_bytes(hashlib.sha512(r + key + message).digest(), "little") % L
    # S*B = R + k*A, as R = S*B - k*A; comparing bytes refuses an R that is written in an unusual way.
    x, y, z, t = public
    return _bytes(_added(_times(s, BASE), _times(k, (P - x, y, z, P - t)))) == r


def _point(encoded):
    """Return the point that 32 bytes stand for, or None where they stand for none or not in the one way allowed."""
    number = int.from_bytes(encoded, "little")
    sign, y = number >> 255, number & (2**255 - 1)
    if y >= P:
        return None
    u, v = (y * y - 1) % P, (D * y * y + 1) % P
    x = u * pow(v, 3, P) * pow(u * pow(v, 7, P), (P - 5) // 8, P) % P
    if (v * x * x + u) % P == 0:
        x = x * ROOT_OF_MINUS_1 % P
    if (v * x * x - u) % P or (x == 0 and sign):
        return None
    if x & 1 != sign:
        x = P - x
    return (x, y, 1, x * y % P)


def _added(p, q):
    a = (p[1] - p[0]) * (q[1] - q[0]) % P
    b = (p[1] + p[0]) * (q[1] + q[0]) % P
    c = 2 * p[3] * q[3] * D % P
    d = 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return (e * f % P, g * h % P, f * g % P, e * h % P)


def _times(number, point):
    result = NEUTRAL
    while number:
        if number & 1:
            result = _added(result, point)
        point = _added(point, point)
        number >>= 1
    return result


def _is_neutral(point):
    return point[0] % P == 0 and (point[1] - point[2]) % P == 0


def _bytes(point):
    inverse = pow(point[2], -1, P)
    x, y = point[0] * inverse % P, point[1] * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little")


BASE = _point((4 * pow(5, -1, P) % P).to_bytes(32, "little"))


# --- The command -----------------------------------------------------------------------------------------------------


def summary(facts, key, key_given, keys_given):
    """Return what a certificate says, in a few lines for people."""
    consent, case, signer, withdrawal = facts["consent"], facts["case"], facts["signer"], facts["withdrawal"]
    how = "by the customer, through the consent link"
    if consent["how"] == "phone":
        how = (
            f"recorded by phone by {consent['recorded_by']}, a staff member: a lower-assurance consent. The customer "
            "did not press anything themselves."
        )
    state = "INTERIM: the case was still open, so more may have happened since."
    if not facts["interim"]:
        state = f"final: the case was closed on {_utc(case['closed_at'])}."
    rows = {
        "Certificate": facts["number"],
        "Issued": f"{_utc(facts['issued_at'])} by {facts['vendor']} Support",
        "State": state,
        "Decision": f"{consent['decision']} on {_utc(consent['decided_at'])}",
        "Who": ", ".join(filter(None, [signer["name"], signer["role"]])) or "not recorded",
        "Account": f"{case['account_name'] or 'not recorded'}, number {case['account_number'] or 'not recorded'}",
        "How": how,
        "Batches": len(facts["batches"]),
    }
    if withdrawal:
        rows["Withdrawn"] = _utc(withdrawal["at"]) if withdrawal["at"] else "yes, when is not recorded"
    rows["Signed with"] = key
    rows["Key"] = key_id(key)
    first, last = _verdict(facts["check_at"], key_given, keys_given)
    return _lines([first, "", *(f"{label:<13}{value}" for label, value in rows.items()), *last])


def summary_of_folder(manifest, key, key_given, keys_given, ignored):
    """Return what a case file says of itself, in a few lines for people."""
    paths = [file["path"] for file in manifest["files"]]
    certificates = sum(1 for path in paths if re.fullmatch(r"certificates/.*\.json", path))
    requests = sum(1 for path in paths if path.endswith("/" + MANIFEST))
    rows = {
        "Case file": manifest["request"] or f"{requests} in one",
        "Made": f"{_utc(manifest['made_at'])} by {manifest['made_by']}, {manifest['vendor']} Support",
        "Files": f"{len(paths)}, {certificates} of them certificates" if manifest["request"] else "in each of them",
        "Newest entry": f"{manifest['head']['sequence']}, {manifest['head']['hash']}",
        "Signed with": key,
        "Key": key_id(key),
    }
    first, last = _verdict(manifest["check_at"], key_given, keys_given)
    faults = [f"MISSING OR DAMAGED when it was made: {fault['path']}: {fault['why']}" for fault in manifest["faults"]]
    notes = faults + [f"Ignored, as it is not of the case file: {path}" for path in ignored]
    chain = (
        "Not checked here: the chain of the ledger's entries. It is sealed with a key that only the desk has; ask "
        f"{manifest['vendor']} Support to check it."
    )
    lines = [first, "", *(f"{label:<13}{value}" for label, value in rows.items())]
    return _lines([*lines, *([""] if notes else []), *notes, "", chain, *last])


def _verdict(page, key_given, keys_given):
    """Return the line that says what holds, and what is left to do."""
    if keys_given:
        return "GENUINE: signed with a key of the list while it was valid, and nothing has been changed since.", []
    if key_given:
        return "GENUINE: signed with the key given, and nothing has been changed since.", []
    compare = f"Now compare this key with the one on {page} : anyone can sign with a key of their own."
    return "UNALTERED: nothing has been changed since it was signed with the key below.", ["", compare]


def _lines(lines):
    return "".join(f"{_shown(line)}\n" for line in lines)


def _utc(time):
    return time[:19].replace("T", " ") + " UTC"


def _shown(line):
    """Write out what a terminal would obey instead of showing it."""
    return "".join(char if char.isprintable() else f"[U+{ord(char):04X}]" for char in line)


def _list_of_keys(path):
    """Return the published list of keys in a file. Raises NotKeys when it is none."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            keys = _parsed(file.read(MAX_BYTES + 1))
        _check_shape(keys, KEYS, "The list of keys")
    except OSError as error:
        raise NotKeys(f"Can't read {path}: {error.strerror}.") from None
    except NotGenuine:
        raise NotKeys(f"{path} is not the list of keys from the check page.") from None
    return keys


def _key(text):
    if not re.fullmatch("[0-9a-fA-F]{64}", text):
        raise argparse.ArgumentTypeError("a key is 64 hexadecimal digits")
    return text.lower()


def main():
    """Check the file or folder that the command line names; return the exit status."""
    commands = argparse.ArgumentParser(description="Check a certificate of consent, or a case file, offline.")
    commands.add_argument("file", metavar="FILE", help="the certificate's JSON file, or the folder of a case file")
    one = commands.add_mutually_exclusive_group()
    one.add_argument("--keys", metavar="FILE", help="keys.json from the issuer's check page: all of their public keys")
    one.add_argument("--key", metavar="HEX", type=_key, help="one public key of the issuer, 64 hexadecimal digits")
    given = commands.parse_args()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # whatever the terminal can't show is still said
    try:
        keys = _list_of_keys(given.keys) if given.keys else None
        status, said = (_of_folder if os.path.isdir(given.file) else _of_file)(given, keys)  # noqa: PTH112
    except OSError as error:
        sys.stderr.write(f"Can't read {_shown(given.file)}: {error.strerror}.\n")
        return 2
    except NotKeys as reason:
        status, said = 2, f"NOT CHECKED: {_shown(str(reason))}\n"
    except UnknownFormat as reason:
        status, said = 2, f"NOT CHECKED: {reason}\n"
    except NotGenuine as reason:
        status, said = 1, f"NOT GENUINE: {reason}\n"
    sys.stdout.write(said)
    return status


def _of_file(given, keys):
    """Return the exit status and what to say of a certificate. Raises OSError, UnknownFormat, NotGenuine."""
    with open(given.file, "rb") as file:  # noqa: PTH123
        data = file.read(MAX_BYTES + 1)
    try:
        facts, key = _verified(data, given.key, keys)
    except NotJson:
        said = "this script checks the JSON file; check the PDF on the page that is named at its foot."
        return 2, f"NOT CHECKED: {said}\n"
    return 0, summary(facts, key, given.key is not None, keys is not None)


def _of_folder(given, keys):
    """Return the exit status and what to say of a case file. Raises UnknownFormat, NotGenuine."""
    manifest, key = verify_folder(given.file, given.key, keys, given.keys)
    ignored = _ignored(given.file, manifest)
    return 0, summary_of_folder(manifest, key, given.key is not None, keys is not None, ignored)


if __name__ == "__main__":
    sys.exit(main())
