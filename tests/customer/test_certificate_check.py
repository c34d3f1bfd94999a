"""The public check page on certificates that were really issued: what it answers, to whom, how often, to which junk."""

import gzip
import hashlib
import io
import json
import re
import subprocess
import sys
import zipfile
from contextlib import contextmanager
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from html import unescape

import pytest
import time_machine
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection, transaction
from django.test import Client, override_settings
from django.utils import timezone
from hypothesis import HealthCheck, given
from hypothesis import settings as tried
from hypothesis import strategies as st

from tests import factories
from tests.attacks import difference, snapshot
from tests.customer.test_consent import words
from tests.factories import acting
from unlocks import operations
from unlocks.actors import Actor
from unlocks.certificates import keys, verify_certificate
from unlocks.customer import certificate_check
from unlocks.database import guards
from unlocks.ledger import anchors, chain, events
from unlocks.models import Certificate, CheckAttempts, LedgerEntry
from unlocks.texts.formats import moment

pytestmark = pytest.mark.django_db

EMPTY = "This file is empty. Choose the file as it was downloaded."
NO_FILE = "Choose the PDF or JSON file of the certificate."
NO_NUMBER = "Enter the number of the certificate."
NO_CODE = "Enter the code next to the number."
ODD_NUMBER = "A number looks like CN-000012-1. Enter it as it is printed on the certificate."
ODD_CODE = "A code has twelve letters and digits. Enter it as it is printed on the certificate."
TOO_LONG = "Ensure this value has at most 40 characters (it has 41)."
NUL = "Null characters are not allowed."
TOO_LARGE = (413, ["This file is too large"])
NOT_THIS_FILE = (
    200,
    [
        "Not genuine",
        "We did not issue this file, or it was changed after we issued it.",
        "A certificate that was printed and scanned, or opened in a program and saved again, is a different file, even "
        "if it reads the same. Ask the person who gave it to you for the file as it was downloaded.",
    ],
)
NOT_THIS_NUMBER = (
    200,
    [
        "Not genuine",
        "We did not issue a certificate with this number and code.",
        "Compare both with the paper again: one wrong letter gives this result too. Or ask for the PDF or JSON file "
        "and upload it.",
    ],
)
INTERIM = (
    "This is an interim certificate: the case was still open when it was issued. It does not show what happened since."
)
FINAL = "This is a final certificate: the case was closed when it was issued."
OTHER_LAYOUT = (
    "This file has a different layout from the one we issued, but the same content: every value is as it was signed."
)
KEY = "It is signed with our key 2e92382f8aa642f9."
PAPER = (
    "This does not show that the paper in your hand reads the same. A number and code can be written on any paper. To "
    "be sure, ask for the PDF or JSON file and upload it below."
)


@pytest.fixture(scope="module")
def scene(shared):
    factories.record_certificate_key()
    made = factories.case_unlocked(factories.make_user("agent", group="Agent"))
    return made, operations.issue_certificate(made.consent, by=factories.customer(made.admin))


@pytest.fixture
def case(db, scene):
    return deepcopy(scene[0])


@pytest.fixture
def issued(db, scene):
    return deepcopy(scene[1])


@pytest.fixture
def agent(case):
    return case.agent


def of_another_case(agent):
    other = factories.case_consented(agent)
    return operations.issue_certificate(other.consent, by=factories.customer(other.admin))


def upload(client, content, name="certificate.json", **fields):
    return client.post("/check/", {"file": SimpleUploadedFile(name, content), "action": "file"} | fields)


def type_in(client, number, code):
    return client.post("/check/", {"number": number, "code": code, "action": "number"})


def answer(page):
    """Return the status of a page and all that it says first: the verdict, what has to be mended, or why not."""
    html = page.content.decode()
    first = re.search(r'<div (?:class="check-result|class="alert|[^>]*\bid="problems")', html)
    part = html[first.start() : html.index("</div>", first.start())] if first else html[html.index("<h1") :]
    found = re.findall(r"<(h1|h2|p|li)\b[^>]*>(.*?)</\1>", part, re.DOTALL)
    texts = [" ".join(unescape(re.sub(r"<[^>]+>", "", text)).split()) for _, text in found]
    if not first:
        texts = texts[:1]
    return page.status_code, [text for text in texts if not text.startswith("Checked ")]


def mend(*errors):
    many = f"{len(errors)} answers need your attention" if len(errors) > 1 else "1 answer needs your attention"
    return 400, [many, "Nothing has been checked yet.", *errors]


def stop(notice):
    return 400, ["This needs your attention", notice]


def genuine(certificate, *more):
    lead = f"Certificate {certificate.number}, issued {moment(certificate.issued_at)}."
    return 200, ["Genuine and unaltered", lead, *more, INTERIM if certificate.interim else FINAL, KEY]


def outdated(certificate, *why, but="no longer current"):
    """Return the answer for a genuine file that no longer says how things stand."""
    _, (_, lead, *rest) = genuine(certificate)
    return 200, [f"Genuine, but {but}", lead, *rest[:-2], *why, *rest[-2:]]


def not_in_our_records(certificate, restored="No loss of our records is known."):
    return 200, [
        "Signed by us, but not in our records",
        f"Certificate {certificate.number} carries our signature, and every value is as it was signed. "
        "Our records do not have it as it reads here.",
        f"{restored} Send the file to ServiceTitan Support and ask what it shows.",
    ]


def was_issued(certificate):
    _, [_, lead, *rest] = genuine(certificate)
    return 200, ["A matching certificate was issued", lead, PAPER, *rest]


# --- Genuine ----------------------------------------------------------------------------------------------------------


def test_the_files_as_they_were_downloaded_are_genuine(client, issued):
    before = snapshot()
    assert answer(upload(client, bytes(issued.pdf), "any name.exe")) == genuine(issued)
    assert answer(upload(client, issued.content.encode())) == genuine(issued)
    assert difference(before, snapshot()) == ["unlocks_checkattempts"]


def test_a_final_certificate_says_so_and_the_interim_one_before_it_stays_genuine(client, agent, case, issued):
    operations.mark_re_exported(case.rows, by=acting(agent))
    final = operations.issue_certificate(case.consent, by=factories.customer(case.admin))
    assert (issued.interim, final.interim) == (True, False)
    newer = f"A newer certificate of this consent was issued on {moment(final.issued_at)}: {final.number}."
    answers = [answer(upload(client, bytes(one.pdf))) for one in (issued, final)]
    assert answers == [outdated(issued, newer), genuine(final)]


def test_a_genuine_certificate_says_what_happened_since(client, agent, case, issued):
    """A newer one is named only if it is genuine itself."""
    operations.add_note(case.unlock_request, text="Called back", by=acting(agent))
    more = "More has happened in the case since it was issued. Ask for a newer certificate."
    assert answer(upload(client, bytes(issued.pdf))) == outdated(issued, more)
    _, (heading, lead, paper, *rest) = was_issued(issued)
    assert answer(type_in(client, issued.number, issued.code)) == (200, [heading, lead, paper, more, *rest])
    operations.withdraw_own_consent(case.consent, why="", by=factories.customer(case.admin))
    withdrawal, but = case.consent.withdrawal, "the consent was withdrawn"
    withdrawn = f"The consent was withdrawn on {moment(withdrawal.at)}. Nothing more may be unlocked under it."
    assert answer(upload(client, issued.content.encode())) == outdated(issued, withdrawn, more, but=but)
    final = operations.issue_certificate(case.consent, by=factories.customer(case.admin))
    newer = f"A newer certificate of this consent was issued on {moment(final.issued_at)}: {final.number}."
    assert answer(upload(client, issued.content.encode())) == outdated(issued, withdrawn, newer, but=but)
    assert answer(upload(client, bytes(final.pdf))) == outdated(final, withdrawn, but=but)


def test_a_consent_that_expired_before_all_was_unlocked_is_not_current(client, agent):
    case = factories.case_consented(agent)
    issued = operations.issue_certificate(case.consent, by=factories.customer(case.admin))
    unlocked = factories.case_unlocked(agent)
    used = operations.issue_certificate(unlocked.consent, by=factories.customer(unlocked.admin))
    with time_machine.travel(case.consent.valid_until, tick=False):
        expired = (
            f"The consent expired on {moment(case.consent.valid_until)}. What was neither unlocked nor being unlocked "
            "by then can't be unlocked under it anymore."
        )
        assert answer(upload(client, bytes(issued.pdf))) == outdated(issued, expired, but="the consent has expired")
        assert answer(upload(client, bytes(used.pdf))) == genuine(used)


def test_the_list_of_a_case_file_is_not_called_a_forged_certificate(client, case):
    made = operations.make_case_file(
        case.unlock_request, by=factories.acting(factories.make_user("auditor", group="Auditor"))
    )
    said = [
        "Signed by us: the list of a case file",
        f"It lists the files in the case file of {case.unlock_request}, and reads as it was signed.",
        "The files themselves can't be checked here. Run the script below with the whole folder.",
    ]
    page = upload(client, made.content, "manifest.json")
    assert answer(page) == (200, said)
    assert "<title>Signed by us: Check a certificate" in page.content.decode()
    assert answer(upload(client, made.content.replace(b"auditor", b"nobody"), "manifest.json")) == NOT_THIS_FILE


def test_what_we_signed_and_lost_in_a_restore_is_not_called_a_forgery(client, case, issued):
    assert answer(upload(client, never_issued(issued))) == not_in_our_records(issued)
    before = anchors.Anchor(*chain.head())
    with lifted():
        Certificate.objects.all().delete()
    assert answer(upload(client, issued.content.encode())) == not_in_our_records(issued)
    lost = anchors.Anchor(before.sequence + 3, "ab" * 32)
    operations.record_restore([before, lost], why="The disk failed.", by=Actor.desk())
    at = LedgerEntry.objects.get(kind="restored").at
    restored = (
        f"On {moment(at)} it was recorded that our records had been put back from a backup; what was issued shortly "
        "before was lost with them."
    )
    assert answer(upload(client, issued.content.encode())) == not_in_our_records(issued, restored)
    assert answer(upload(client, bytes(issued.pdf))) == NOT_THIS_FILE
    assert answer(type_in(client, issued.number, issued.code)) == NOT_THIS_NUMBER


@pytest.mark.parametrize(
    "relay",
    [
        lambda text: json.dumps(json.loads(text), ensure_ascii=True),
        lambda text: json.dumps(json.loads(text), indent=8),
        lambda text: json.dumps(dict(reversed(json.loads(text).items()))),
        lambda text: text.replace("\n", "\r\n"),
        lambda text: f"\n {text}\n\n",
        lambda text: f"\ufeff{text}",
    ],
    ids=["one line", "indented", "other order", "line ends", "blanks around it", "byte order mark"],
)
def test_a_json_file_that_is_laid_out_differently_is_still_genuine(client, issued, relay):
    assert answer(upload(client, relay(issued.content).encode())) == genuine(issued, OTHER_LAYOUT)


def test_number_and_code_show_only_that_such_a_certificate_was_issued(client, issued):
    assert answer(type_in(client, issued.number, issued.code)) == was_issued(issued)


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (lambda number: number.lower(), lambda code: code.lower()),
        (lambda number: f"  {number} ", lambda code: code.replace("-", " ")),
        (lambda number: number.replace("-", " - "), lambda code: f" {code.replace('-', '')}\t"),
        (lambda number: number.replace("-", "–"), lambda code: code.replace("-", "—")),
        (lambda number: f"\u200b{number}", lambda code: code.translate({48 + n: 0xFF10 + n for n in range(10)})),
        (lambda number: number.translate({48 + n: 0x660 + n for n in range(10)}), lambda code: f"“{code}”"),
        (lambda number: number.replace("CN-", "CN"), lambda code: code.replace("0", "O").replace("1", "I")),
        (lambda number: re.sub("CN-0*", "cn-", number), lambda code: code.replace("0", "o").replace("1", "l")),
    ],
)
def test_number_and_code_may_be_typed_as_people_do(client, issued, number, code):
    assert answer(type_in(client, number(issued.number), code(issued.code))) == was_issued(issued)


def test_a_stranger_learns_nothing_else(client, case, issued):
    pages = words(upload(client, issued.content.encode())) + words(type_in(client, issued.number, issued.code))
    # The file's hash and the public key are known to everybody, and hold any four digits now and then.
    pages = re.sub(r"[0-9a-f]{64}", "", pages)
    known = [case.account.name, case.account.number, case.admin.name, case.admin.email, case.unlock_request.reference]
    known += [case.agent.username + " ", "Controller", *[batch.number for batch in case.batches], issued.code]
    assert [one for one in known if one in pages] == []


def test_an_unknown_number_and_a_wrong_code_look_alike(client, issued, django_assert_num_queries):
    type_in(client, "CN-999999-9", "0" * 12)
    html = []
    for number, code in (("CN-999999-9", issued.code), (issued.number, "2222-2222-2222"), ("CN-999999-9", "0" * 12)):
        with django_assert_num_queries(3):
            page = type_in(client, number, code)
        assert answer(page) == NOT_THIS_NUMBER
        html.append(re.sub(r'value="[^"]{20,}"|Checked [^<]*', "", page.content.decode()))
    assert html[0] == html[1] == html[2]


# --- Forged, damaged, foreign files -----------------------------------------------------------------------------------


def edited(certificate, change):
    """Return a JSON file with one thing changed and the signature left as it was."""
    content = json.loads(certificate.content)
    change(content)
    return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False).encode()


def signature(**changes):
    return lambda one: edited(one, lambda content: content["signature"].update(changes))


def fact(**changes):
    return lambda one: edited(one, lambda content: content["certificate"].update(changes))


def flipped(content, place):
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def zipped(content, name="CN-000001-1.json"):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return file.getvalue()


def elsewhere(certificate):
    """Return the same facts, signed by an installation with another key."""
    with override_settings(CERTIFICATE_KEYS=[bytes(32)]):
        facts = json.loads(certificate.content)["certificate"] | {"public_key": keys.configured()[0]}
        return keys.document(facts).encode()


def claims_our_key(certificate):
    content = json.loads(elsewhere(certificate))
    content["signature"]["key"] = keys.configured()[0]
    return json.dumps(content).encode()


def never_issued(certificate):
    """Return facts under our own signature that no certificate in the database has, as after an older backup."""
    facts = json.loads(certificate.content)["certificate"]
    return keys.document(facts | {"code": "0000-0000-0000"}).encode()


def after(text, old, new):
    assert old in text
    return text.replace(old, new, 1).encode()


FILES = {
    "ten megabytes of zeros": lambda one: bytes(10 << 20),
    "zip bomb": lambda one: zipped(bytes(10 << 20)),
    "zip around the real one": lambda one: zipped(one.content),
    "gzip bomb": lambda one: gzip.compress(bytes(10 << 20)),
    "gzip of the real one": lambda one: gzip.compress(one.content.encode()),
    "PDF truncated": lambda one: bytes(one.pdf)[:-20],
    "PDF cut in half": lambda one: bytes(one.pdf)[: len(one.pdf) // 2],
    "PDF with one bit changed": lambda one: flipped(bytes(one.pdf), len(one.pdf) // 2),
    "PDF with its last byte changed": lambda one: flipped(bytes(one.pdf), -1)[: len(one.pdf)],
    "PDF with an incremental update": lambda one: (
        bytes(one.pdf)
        + b"\n1 0 obj\n<< /Type /Catalog >>\nendobj\nxref\n0 1\ntrailer\n<< /Prev 0 >>\nstartxref\n0\n%%EOF\n"
    ),
    "PDF with a blank behind it": lambda one: bytes(one.pdf) + b"\n",
    "PDF around the JSON": lambda one: b"%PDF-1.4\n" + one.content.encode(),
    "foreign PDF": lambda one: b"%PDF-1.4\n1 0 obj\n<< /Type /Catalog >>\nendobj\ntrailer\n<< /Root 1 0 R >>\n%%EOF\n",
    "PDF header only": lambda one: b"%PDF-1.7\n",
    "JSON truncated": lambda one: one.content.encode()[:-10],
    "JSON without its last brace": lambda one: one.content.rstrip().removesuffix("}").encode(),
    "JSON twice": lambda one: one.content.encode() * 2,
    "one value changed": fact(interim=False),
    "one name changed": lambda one: edited(one, lambda content: content["certificate"]["signer"].update(name="Eve")),
    "another text": lambda one: edited(
        one,
        lambda content: content["certificate"]["consent"].update(text=content["certificate"]["consent"]["text"] + "."),
    ),
    "a batch added": lambda one: edited(
        one, lambda content: content["certificate"]["batches"].append(content["certificate"]["batches"][0])
    ),
    "a key more": fact(note="Also agreed to everything else"),
    "a key less": lambda one: edited(one, lambda content: content["certificate"].pop("code")),
    "another number": fact(number="CN-000099-1"),
    "another vendor": fact(vendor="Somebody else"),
    "facts without a signature": lambda one: edited(one, lambda content: content.pop("signature")),
    "signature null": lambda one: edited(one, lambda content: content.update(signature=None)),
    "signature empty": signature(value=""),
    "signature too short": signature(value="00" * 63),
    "signature too long": signature(value="00" * 65),
    "signature all zeros": signature(value="00" * 64),
    "signature not hex": signature(value="zz" * 64),
    "signature a number": signature(value=7),
    "signature by another algorithm": signature(algorithm="none"),
    "key of nobody": signature(key="00" * 32),
    "key too short": signature(key="00"),
    "signed by another installation": elsewhere,
    "signed by another key that claims to be ours": claims_our_key,
    "duplicate keys": lambda one: after(one.content, '"interim": true', '"interim": false,\n  "interim": true'),
    "NaN": lambda one: after(one.content, '"interim": true', '"interim": NaN'),
    "Infinity": lambda one: after(one.content, '"interim": true', '"interim": Infinity'),
    "a float": lambda one: after(one.content, '"terms_version": 1', '"terms_version": 1.0'),
    "a huge number": lambda one: after(one.content, '"terms_version": 1', f'"terms_version": 1{"0" * 100_000}'),
    "a huge exponent": lambda one: after(one.content, '"terms_version": 1', '"terms_version": 1e999999999'),
    "a sequence that no database holds": lambda one: fact(number=f"CN-{'9' * 18}-{'9' * 9}")(one),
    "nesting 100,000 deep": lambda one: b"[" * 100_000 + b"]" * 100_000,
    "objects 100,000 deep": lambda one: b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "a million values": lambda one: b"[" + b"{}," * 1_000_000 + b"{}]",
    "a string that is never closed": lambda one: b'"' + b'\\"' * 2_000_000,
    "a string of backslashes": lambda one: b'{"' + b"\\" * 2_000_001,
    "UTF-16": lambda one: one.content.encode("utf-16"),
    "UTF-32": lambda one: one.content.encode("utf-32"),
    "changed behind a byte order mark": lambda one: (
        b"\xef\xbb\xbf" + one.content.encode().replace(b"agreed", b"agreeD", 1)
    ),
    "lone surrogates": lambda one: after(one.content, '"vendor": "', r'"vendor": "\ud800'),
    "surrogates as bytes": lambda one: one.content.encode().replace(b"Unlock", b"\xed\xa0\x80nlock"),
    "Latin-1": lambda one: '{"é": 1}'.encode("latin-1"),
    "NUL bytes inside": lambda one: one.content.encode().replace(b"{", b"{\x00", 1),
    "an array": lambda one: b"[]",
    "the file in an array": lambda one: f"[{one.content}]".encode(),
    "a string": lambda one: b'"certificate"',
    "null": lambda one: b"null",
    "a number": lambda one: b"12",
    "an empty object": lambda one: b"{}",
    "certificate null": lambda one: b'{"certificate": null, "signature": null}',
    "HTML": lambda one: b"<!DOCTYPE html><script>alert(1)</script>",
    "PNG": lambda one: b"\x89PNG\r\n\x1a\n" + bytes(100),
    "EXE": lambda one: b"MZ\x90\x00" + bytes(100),
    "a script": lambda one: b"#!/bin/sh\nrm -rf /\n",
    "XML with entities": lambda one: b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>',
    "a pickle": lambda one: b"\x80\x04cos\nsystem\n(S'true'\ntR.",
    "one byte": lambda one: b"{",
    "blanks": lambda one: b" \n",
}


@pytest.mark.parametrize("make", FILES.values(), ids=FILES.keys())
def test_a_file_that_we_did_not_issue_is_not_genuine(client, issued, make):
    assert answer(upload(client, make(issued))) == NOT_THIS_FILE


def test_the_signature_of_another_certificate_is_none_of_this_one(client, agent, issued):
    other = json.loads(of_another_case(agent).content)
    borrowed = edited(issued, lambda content: content.update(signature=other["signature"]))
    assert answer(upload(client, borrowed)) == NOT_THIS_FILE


def test_facts_and_number_of_another_certificate_do_not_mix(client, agent, issued):
    other = of_another_case(agent)
    assert answer(type_in(client, issued.number, other.code)) == NOT_THIS_NUMBER
    assert answer(type_in(client, other.number, issued.code)) == NOT_THIS_NUMBER


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd.pdf",
        "C:\\fakepath\\a.pdf",
        "a" * 5000 + ".pdf",
        "\u202efdp.exe",
        "a\x00.pdf",
        "<img src=x>.pdf",
        "=1+1",
    ],
)
def test_what_a_file_is_called_makes_no_difference(client, issued, name):
    page = upload(client, bytes(issued.pdf), name)
    assert (answer(page), "<img src=x" in page.content.decode()) == (genuine(issued), False)


# --- Rows that the desk did not write ---------------------------------------------------------------------------------

EVIL = b"%PDF-1.4 this customer agreed to everything\n%%EOF"


def put_in(certificate, content, pdf=EVIL, code="AAAA-AAAA-AAAA", ordinal=9):
    """Return a certificate as who owns the database puts one beside a real one: no entry of the ledger tells of it."""
    return Certificate.objects.create(
        consent=certificate.consent,
        ordinal=ordinal,
        code=code,
        interim=certificate.interim,
        upto=certificate.upto,
        issued_at=certificate.issued_at,
        content=content,
        sha256=hashlib.sha256(content.encode()).hexdigest(),
        pdf=pdf,
        pdf_sha256=hashlib.sha256(pdf).hexdigest(),
    )


def answers_to(client, certificate):
    """Return the results for a certificate's PDF, its JSON, its JSON in another layout, and its number and code."""
    other_layout = certificate.content.replace("\n", "\r\n").encode() + b" "
    files = [bytes(certificate.pdf), certificate.content.encode(), other_layout]
    answers = [answer(upload(client, file)) for file in files]
    return [*answers, answer(type_in(client, certificate.number, certificate.code))]


NOTHING = [NOT_THIS_FILE] * 3 + [NOT_THIS_NUMBER]


def only_signed(certificate):
    return [NOT_THIS_FILE, *[not_in_our_records(certificate)] * 2, NOT_THIS_NUMBER]


@pytest.mark.parametrize("content", ["{}", "[]", "not JSON", '{"certificate": {}}', "\u2028"])
def test_a_row_that_was_made_up_is_no_certificate(client, issued, content):
    assert answers_to(client, put_in(issued, content)) == NOTHING
    assert answers_to(client, issued)[:2] == [genuine(issued)] * 2


def test_a_row_signed_by_another_installation_is_no_certificate(client, issued):
    facts = json.loads(issued.content)["certificate"] | {"number": f"{issued.consent.reference}-9"}
    with override_settings(LEDGER_KEY="another installation's key", CERTIFICATE_KEYS=[bytes(32)]):
        code = keys.code(facts["number"], facts["issued_at"])
        content = keys.document(facts | {"code": code, "public_key": keys.configured()[0]})
    assert answers_to(client, put_in(issued, content, code=code)) == NOTHING


def test_a_row_signed_by_us_that_the_ledger_does_not_tell_of_is_no_certificate(client, issued):
    number = f"{issued.consent.reference}-9"
    facts = json.loads(issued.content)["certificate"] | {"number": number}
    facts["code"] = keys.code(number, facts["issued_at"])
    made_up = put_in(issued, keys.document(facts), code=facts["code"])
    assert answers_to(client, made_up) == only_signed(made_up)
    record(made_up, pdf_sha256=issued.pdf_sha256)
    assert answers_to(client, made_up) == only_signed(made_up)
    entry = LedgerEntry.objects.first()
    with lifted():
        facts = entry.facts.replace(issued.pdf_sha256, made_up.pdf_sha256)
        LedgerEntry.objects.filter(pk=entry.pk).update(facts=facts)
    assert answers_to(client, made_up) == only_signed(made_up)
    with lifted():
        LedgerEntry.objects.filter(pk=entry.pk).update(facts=entry.facts)  # nothing is appended to what was altered
    record(made_up)
    real = genuine(made_up)
    assert answers_to(client, made_up) == [real, real, genuine(made_up, OTHER_LAYOUT), was_issued(made_up)]


def test_a_code_that_is_not_the_one_of_its_number_is_none(client, issued):
    number = f"{issued.consent.reference}-9"
    facts = json.loads(issued.content)["certificate"] | {"number": number, "code": "AAAA-AAAA-AAAA"}
    made_up = put_in(issued, keys.document(facts))
    record(made_up)
    assert answers_to(client, made_up) == only_signed(made_up)


def test_content_whose_layout_alone_was_altered_is_not_what_the_ledger_tells_of(client, issued):
    altered(issued, content=issued.content + " ")
    assert answers_to(client, issued) == only_signed(issued)


def record(certificate, **facts):
    """Append an entry to the ledger as only the desk can, which has the key."""
    key = keys.key_id_of(certificate.content)
    event = events.Certified.of(certificate, certificate=certificate.number, key=key, **facts)
    with transaction.atomic():
        chain.append(event, by=Actor.desk(), unlock_request=certificate.consent.unlock_request)


@contextmanager
def lifted():
    connection.check_constraints()
    with guards.lifted():
        yield


def altered(certificate, **columns):
    with lifted():
        Certificate.objects.filter(pk=certificate.pk).update(**columns)
    certificate.refresh_from_db()
    return certificate


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("interim", False),
        ("issued_at", datetime(2020, 1, 1, tzinfo=UTC)),
        ("code", "AAAA-AAAA-AAAA"),
        ("ordinal", 7),
        ("content", "{}"),
        ("sha256", "0" * 64),
        ("pdf_sha256", hashlib.sha256(EVIL).hexdigest()),
    ],
)
def test_a_row_that_was_altered_is_no_certificate(client, issued, column, value):
    before = [bytes(issued.pdf), issued.content.encode(), EVIL]
    altered(issued, **{column: value})
    signed = not_in_our_records(Certificate(consent=issued.consent, ordinal=1))
    assert [answer(upload(client, file)) for file in before] == [NOT_THIS_FILE, signed, NOT_THIS_FILE]
    assert answer(type_in(client, issued.number, issued.code)) == NOT_THIS_NUMBER


def test_hashes_that_were_moved_to_another_row_keep_no_file_from_being_genuine(client, agent, issued):
    other = of_another_case(agent)
    altered(other, sha256=issued.pdf_sha256)
    assert answer(upload(client, bytes(issued.pdf))) == genuine(issued)


# --- Input errors -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, mend(NO_FILE)),
        ({"action": "file"}, mend(NO_FILE)),
        ({"file": "not a file", "action": "file"}, mend(NO_FILE)),
        ({"action": "number"}, mend(NO_NUMBER, NO_CODE)),
        ({"number": "CN-000012-1"}, mend(NO_CODE)),
        ({"code": "7K4Q-9M2X-TB6R"}, mend(NO_NUMBER)),
        ({"number": "CN-000012-1", "code": "   "}, mend(NO_CODE)),
        ({"number": "000012-1", "code": "7K4Q-9M2X-TB6R"}, mend(ODD_NUMBER)),
        ({"number": "CN-000012", "code": "7K4Q-9M2X-TB6R"}, mend(ODD_NUMBER)),
        ({"number": "CN-99999999999999999999-1", "code": "7K4Q-9M2X-TB6R"}, mend(ODD_NUMBER)),
        ({"number": "CN--1-1", "code": "7K4Q-9M2X-TB6R"}, mend(ODD_NUMBER)),
        ({"number": "' OR 1=1 --", "code": "' OR ''='"}, mend(ODD_NUMBER, ODD_CODE)),
        ({"number": "CN-000012-1; DROP TABLE x", "code": "7K4Q-9M2X-TB6R"}, mend(ODD_NUMBER)),
        ({"number": "CN-000012-1", "code": "7K4Q-9M2X-TB6"}, mend(ODD_CODE)),
        ({"number": "CN-000012-1", "code": "7K4Q-9M2X-TB6RR"}, mend(ODD_CODE)),
        ({"number": "CN-000012-1\x00", "code": "7K4Q-9M2X-TB6R"}, mend(NUL)),
        (
            {"number": "x" * 41, "code": "7K4Q-9M2X-TB6R"},
            mend("Ensure this value has at most 40 characters (it has 41)."),
        ),
        ({"number": "<script>", "code": "\u202e" * 12}, mend(ODD_NUMBER, ODD_CODE)),
    ],
)
def test_what_can_t_be_judged_is_named_beside_its_field(client, db, fields, expected):
    page = client.post("/check/", fields)
    assert (answer(page), "<script" in page.content.decode()) == (expected, False)


def test_an_empty_file_is_no_file(client, db):
    assert answer(upload(client, b"")) == mend(EMPTY)


@pytest.mark.parametrize("fields", [{"number": "CN-000012-1"}, {"code": "x"}, {"number": "a", "code": "b"}])
def test_a_file_and_a_number_at_once_are_neither(client, issued, fields):
    assert answer(upload(client, bytes(issued.pdf), **fields)) == stop(certificate_check.BOTH)


def test_two_files_are_one_too_many(client, issued):
    files = [SimpleUploadedFile("a.pdf", bytes(issued.pdf)), SimpleUploadedFile("b.pdf", b"x")]
    assert answer(client.post("/check/", {"file": files})) == stop(certificate_check.SEVERAL)
    assert answer(client.post("/check/", {"file": files[0], "other": files[1]})) == stop(certificate_check.SEVERAL)


BOUNDARY = "multipart/form-data; boundary=x"
UNREAD = stop(certificate_check.UNREADABLE)
PART = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.pdf"\r\n\r\n'


@pytest.mark.parametrize(
    ("body", "kind", "expected"),
    [
        (b"--y\r\n\r\n--y--\r\n", BOUNDARY, mend(NO_FILE)),
        (b"", BOUNDARY, mend(NO_FILE)),
        (b"\x00\xff" * 500, BOUNDARY, mend(NO_FILE)),
        (b"anything", "multipart/form-data", UNREAD),
        (b"anything", "multipart/form-data; boundary=", UNREAD),
        (b"anything", "multipart/form-data; boundary=\xe9", UNREAD),
        (b"anything", f"multipart/form-data; boundary={'x' * 500}", UNREAD),
        (PART + b"%PDF", BOUNDARY, mend(NO_FILE)),
        (PART, BOUNDARY, mend(NO_FILE)),
        (PART.replace(b"\r\n\r\n", b"\r\nContent-Transfer-Encoding: base64\r\n\r\n") + b"!", BOUNDARY, UNREAD),
        (PART.replace(b"a.pdf", b"..") + b"x\r\n--x--\r\n", BOUNDARY, mend(NO_FILE)),
        (PART.replace(b'"file"', b'"upload"') + b"x\r\n--x--\r\n", BOUNDARY, mend(NO_FILE)),
        (b"anything", "", mend(NO_FILE)),
        (b"anything", "application/octet-stream", mend(NO_FILE)),
        (b'{"file": "x"}', "application/json", mend(NO_FILE)),
        (b"number=%FF%FE&code=%00", "application/x-www-form-urlencoded", mend(ODD_NUMBER, NUL)),
        (b"number=1", "application/x-www-form-urlencoded; charset=utf-7", (400, ["This could not be read"])),
        (b"&".join(b"a%d=1" % n for n in range(1001)), "application/x-www-form-urlencoded", UNREAD),
        (
            b"".join(b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n' for _ in range(1001))
            + b"--x--\r\n",
            BOUNDARY,
            UNREAD,
        ),
        (b"number=" + b"1" * (3 << 20), "application/x-www-form-urlencoded", TOO_LARGE),
        (PART.replace(b'; filename="a.pdf"', b"") + b"1" * (3 << 20) + b"\r\n--x--\r\n", BOUNDARY, TOO_LARGE),
    ],
)
def test_a_body_that_is_no_form_of_ours_gets_a_clear_answer(client, db, body, kind, expected):
    assert answer(client.generic("POST", "/check/", body, content_type=kind)) == expected


# --- Size -------------------------------------------------------------------------------------------------------------


class InPieces:
    """A body that may only be read in small pieces, as whoever throws it away does."""

    left = 21 << 20

    def read(self, size=-1):
        assert 0 < size <= 64 * 1024
        self.left -= size
        return b"x" * size

    readline = read


def test_21_megabytes_are_refused_and_thrown_away_piece_by_piece(client, db, settings):
    settings.FILE_UPLOAD_TEMP_DIR = "/nowhere"
    announced = str(21 << 20)
    page = client.generic("POST", "/check/", b"", BOUNDARY, **{"wsgi.input": InPieces(), "CONTENT_LENGTH": announced})
    assert answer(page) == TOO_LARGE
    assert answer(upload(client, bytes(21 << 20))) == TOO_LARGE


@pytest.mark.parametrize(("size", "expected"), [(1000, NOT_THIS_FILE), (1001, TOO_LARGE), (60_000, TOO_LARGE)])
def test_a_file_is_counted_while_it_is_read_too(client, db, settings, size, expected):
    settings.CHECK_MAX_BYTES = 1000
    assert answer(upload(client, b"x" * size)) == expected


def test_an_upload_is_never_put_on_the_disk(client, db, settings):
    # Django's own handler would, from 2.5 MiB on, and would fail here.
    settings.FILE_UPLOAD_TEMP_DIR = "/nowhere"
    assert answer(upload(client, b"x" * (5 << 20))) == NOT_THIS_FILE


# --- How often --------------------------------------------------------------------------------------------------------


@pytest.fixture
def three_tries(settings):
    settings.CHECK_LIMIT = 3
    # Well inside a stretch of time, so that no test runs across its end.
    with time_machine.travel(datetime(2026, 11, 23, 14, 3, tzinfo=UTC), tick=False):
        yield


def ask(client=None, address="203.0.113.7", **extra):
    return (client or Client()).post("/check/", {"action": "file"}, REMOTE_ADDR=address, **extra)


def test_after_so_many_tries_one_has_to_wait_and_is_told_until_when(db, three_tries):
    assert [ask().status_code for _ in range(4)] == [400, 400, 400, 429]
    page = ask()
    assert (answer(page), page["Retry-After"], page["Cache-Control"]) == (
        (429, ["Please wait a moment"]),
        "420",
        "no-store",
    )
    assert "You can continue at 9:10 AM EST ." in words(page)
    assert list(CheckAttempts.objects.values_list("network", "count")) == [("203.0.113.7", 5)]
    with time_machine.travel(datetime(2026, 11, 23, 14, 10, tzinfo=UTC), tick=False):
        assert ask().status_code == 400
    assert list(CheckAttempts.objects.values_list("network", "count")) == [("203.0.113.7", 1)]


@pytest.mark.parametrize(
    ("first", "second", "shared"),
    [
        ("203.0.113.7", "203.0.113.8", False),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:203.0.113.7", "203.0.113.7", True),
        ("fe80::1%eth0", "fe80::1%eth1", True),
        ("", "no address", True),
    ],
)
def test_who_shares_a_place_shares_its_tries(db, three_tries, first, second, shared):
    for _ in range(3):
        ask(address=first)
    assert (ask(address=first).status_code, ask(address=second).status_code) == (429, 429 if shared else 400)


def test_a_made_up_address_in_a_header_is_no_other_place(db, three_tries):
    pages = [ask(HTTP_X_FORWARDED_FOR=f"198.51.100.{n}") for n in range(4)]
    assert [page.status_code for page in pages] == [400, 400, 400, 429]


def test_looking_at_the_page_costs_no_try_but_everything_sent_does(client, issued, three_tries, settings):
    settings.CHECK_MAX_BYTES = 1000
    for _ in range(5):
        client.get("/check/")
        client.head("/check/")
    sent = [upload(client, b"x" * 100_000), client.generic("POST", "/check/", b"x", "multipart/form-data"), ask(client)]
    assert [page.status_code for page in sent] == [413, 400, 400]
    sent = upload(client, issued.content.encode(), REMOTE_ADDR="127.0.0.1")
    assert (CheckAttempts.objects.get(network="127.0.0.1").count, sent.status_code) == (3, 413)


def test_a_try_is_taken_before_the_csrf_check(db, three_tries):
    browser = Client(enforce_csrf_checks=True)
    assert [ask(browser).status_code for _ in range(4)] == [403, 403, 403, 429]


# --- The page itself --------------------------------------------------------------------------------------------------


def test_the_page_explains_how_to_check_without_it(client, issued, tmp_path):
    page = words(client.get("/check/"))
    assert page.count(keys.configured()[0]) == 1
    script = client.get("/check/verify_certificate.py")
    assert (script.status_code, script["Content-Disposition"]) == (200, 'attachment; filename="verify_certificate.py"')
    (tmp_path / "verify_certificate.py").write_bytes(script.content)
    (tmp_path / "CN-000012-1.json").write_text(issued.content)
    (tmp_path / "keys.json").write_bytes(client.get("/check/keys.json").content)
    command = re.search(r"python3 (verify_certificate.py CN-000012-1.json --keys keys.json)", page)[1].split()
    ran = subprocess.run([sys.executable, "-I", *command], cwd=tmp_path, capture_output=True, text=True)
    assert (ran.returncode, ran.stdout.splitlines()[0].partition(":")[0]) == (0, "GENUINE")


def test_the_list_of_keys_is_public_and_keeps_what_was_retired(client, issued):
    first = LedgerEntry.objects.get(kind="certificate_key")
    with override_settings(CERTIFICATE_KEYS=[bytes(32)]):  # the first one's secret is gone
        factories.record_certificate_key()
        page, listed = words(client.get("/check/")), client.get("/check/keys.json")
        answered = answer(upload(client, issued.content.encode()))
        other = keys.configured()[0]
    second = LedgerEntry.objects.filter(kind="certificate_key").latest("sequence")
    (mine,) = keys.configured()
    assert (listed["Content-Type"], listed.json()) == (
        "application/json",
        {
            "format": "unlock-desk-certificate-keys/1",
            "keys": [
                {
                    "id": verify_certificate.key_id(key),
                    "algorithm": "Ed25519",
                    "key": key,
                    "valid_from": since.appended_at.isoformat(),
                    "valid_until": until and until.appended_at.isoformat(),
                }
                for key, since, until in ((other, second, None), (mine, first, second))
            ],
        },
    )
    assert (page.count(mine), page.count(other), answered) == (1, 1, genuine(issued))
    assert client.post("/check/keys.json").status_code == 405


def test_a_key_that_was_not_valid_then_is_named(client, issued):
    """Whoever got hold of a retired key signs with it: the file is not in the records, and why is said."""
    facts = json.loads(issued.content)["certificate"]
    with override_settings(CERTIFICATE_KEYS=[bytes(32)]):
        factories.record_certificate_key()
    late = facts | {"issued_at": (timezone.now() + timedelta(hours=1)).isoformat()}
    page = words(upload(client, keys.document(late).encode()))
    assert "It was signed with key 2e92382f8aa642f9, outside of the time in which it was valid: from" in page


@pytest.mark.parametrize("method", ["put", "patch", "delete", "options"])
def test_it_is_looked_at_and_asked_and_nothing_else(client, db, method):
    assert getattr(client, method)("/check/").status_code == 405
    assert [client.post("/check/verify_certificate.py").status_code, client.head("/check/").status_code] == [405, 200]


def test_it_keeps_no_cookie_but_the_one_against_forged_forms(client, issued):
    pages = [client.get("/check/"), upload(client, issued.content.encode())]
    assert ([set(page.cookies) <= {"csrftoken"} for page in pages], set(client.cookies)) == ([True] * 2, {"csrftoken"})
    assert {page["Cache-Control"] for page in pages} == {"no-store"}
    assert [re.findall(r"<script|<style|\sstyle=|\son\w+=|noindex", page.content.decode()) for page in pages] == [
        []
    ] * 2


def test_a_form_from_another_site_is_refused(issued):
    page = upload(Client(enforce_csrf_checks=True), issued.content.encode())
    assert page.status_code == 403


def test_staff_may_check_too(agent_client, issued):
    assert answer(upload(agent_client, issued.content.encode())) == genuine(issued)


# --- By chance --------------------------------------------------------------------------------------------------------

by_chance = tried(suppress_health_check=[HealthCheck.function_scoped_fixture])


@by_chance
@given(
    content=st.binary(min_size=1, max_size=3000) | st.text(min_size=1).map(lambda text: text.encode(errors="replace"))
)
def test_no_bytes_at_all_are_genuine(db, settings, client, content):
    settings.CHECK_LIMIT = 10**6
    assert answer(upload(client, content)) == NOT_THIS_FILE


@by_chance
@given(data=st.data())
def test_a_file_with_any_byte_changed_is_not_genuine(issued, data):
    for content in (bytes(issued.pdf), issued.content.encode()):
        place = data.draw(st.integers(0, len(content) - 1))
        byte = data.draw(st.integers(0, 255))
        changed = content[:place] + bytes([byte]) + content[place + 1 :]
        found, other_layout = certificate_check.find_by_file(changed)
        same = changed == content or _only_blanks(changed, content)
        assert (found == issued, bool(found) and other_layout) == (same, same and changed != content)


@by_chance
@given(data=st.data())
def test_a_file_with_a_piece_cut_out_is_not_genuine(issued, data):
    for content in (bytes(issued.pdf), issued.content.encode()):
        start = data.draw(st.integers(0, len(content) - 1))
        end = data.draw(st.integers(start + 1, len(content)))
        changed = content[:start] + content[end:]
        assert (certificate_check.find_by_file(changed)[0] == issued) == _only_blanks(changed, content)


def _only_blanks(changed, content):
    """Say whether two JSON files differ in nothing but the blanks between their values."""
    try:
        return content[:1] == b"{" and json.loads(changed) == json.loads(content)
    except ValueError:
        return False


JSON = st.deferred(
    lambda: (
        (st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20))
        | (st.lists(JSON, max_size=4) | st.dictionaries(st.text(max_size=10), JSON, max_size=4))
    )
)


@by_chance
@given(data=st.data(), value=JSON)
def test_any_value_put_in_any_place_is_not_genuine(issued, data, value):
    content = json.loads(issued.content)
    here = content
    while True:
        places = sorted(here) if isinstance(here, dict) else range(len(here))
        place = data.draw(st.sampled_from(places))
        inner = here[place]
        if not isinstance(inner, dict | list) or not inner or data.draw(st.booleans()):
            break
        here = inner
    here[place] = value
    found, _ = certificate_check.find_by_file(json.dumps(content).encode())
    assert (found == issued) == (type(value) is type(inner) and value == inner)


@by_chance
@given(number=st.text(max_size=45), code=st.text(max_size=45))
def test_no_text_at_all_is_a_number_and_its_code(issued, settings, client, number, code):
    settings.CHECK_LIMIT = 10**6
    page = type_in(client, number, code)
    assert answer(page) == NOT_THIS_NUMBER or page.status_code == 400


def test_no_certificate_has_the_code_that_stands_for_none(issued):
    assert certificate_check.find_by_number(10**12 - 1, 1, "0000-0000-0000") is None
    assert Certificate.objects.exclude(code="0000-0000-0000").count() == 1


def test_the_tries_of_an_hour_ago_are_swept_away(client, db):
    CheckAttempts.objects.create(network="203.0.113.9", window_start=timezone.now() - timedelta(hours=1), count=9)
    ask(client)
    assert list(CheckAttempts.objects.values_list("network", flat=True)) == ["203.0.113.7"]
