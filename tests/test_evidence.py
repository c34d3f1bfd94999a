"""Files kept as evidence: what is taken, under which name, and that nobody alters them unseen."""

import hashlib
import os
import resource
import threading
from pathlib import Path

import pytest
from django.core.checks import run_checks
from django.core.files.storage import storages

from tests.factories import acting, case_recorded_by_phone
from tests.papers import JPEG, MAIL, PDF, PNG, kept_as
from unlocks import evidence, operations

MIB = 1024 * 1024


def files(evidence_place):
    return sorted(path.relative_to(evidence_place).as_posix() for path in evidence_place.rglob("*") if path.is_file())


# What kind of file


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("signed.pdf", PDF, "application/pdf"),
        ("SIGNED.PDF", PDF, "application/pdf"),
        ("photo.png", PNG, "image/png"),
        ("photo.jpg", JPEG, "image/jpeg"),
        ("photo.jpeg", JPEG, "image/jpeg"),
        ("answer.eml", MAIL, "message/rfc822"),
        ("answer.eml", b"Received: from x\n by y\nDate: today\nFrom: a@b.example\n\nYes.", "message/rfc822"),
    ],
)
def test_papers_pictures_and_mails_are_taken(name, content, kind):
    assert evidence.media_type(name, content) == kind


TAKEN = "PDF, PNG, JPEG and saved emails (.eml) are accepted"
NO_MAIL = f"This is not a saved email (.eml): an email starts with who wrote it and when (From, Date). {TAKEN}."


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("empty.pdf", b"", "This file is empty."),
        ("page.html", b"<html><script>alert(1)</script>", f"This kind of file is not taken: {TAKEN}."),
        ("macro.docm", b"PK\x03\x04 word/vbaProject.bin", f"This kind of file is not taken: {TAKEN}."),
        ("signed", PDF, "This is a PDF, but its name has no ending. Save it under its right name."),
        ("signed.exe", PDF, "This is a PDF, but its name ends in .exe. Save it under its right name."),
        ("signed.png", PDF, "This is a PDF, but its name ends in .png. Save it under its right name."),
        ("photo.pdf", PNG, "This is a PNG picture, but its name ends in .pdf. Save it under its right name."),
        ("photo.png", JPEG, "This is a JPEG picture, but its name ends in .png. Save it under its right name."),
        ("mail.pdf", MAIL, "This is a saved email (.eml), but its name ends in .pdf. Save it under its right name."),
        ("signed.pdf", b"MZ\x90\x00", f"This is not a PDF, whatever its name says, or it is broken. {TAKEN}."),
        ("signed.pdf", b"%PDF-1.7 cut off", f"This is not a PDF, whatever its name says, or it is broken. {TAKEN}."),
        ("signed.pdf", b"x" * 2000 + PDF, f"This is not a PDF, whatever its name says, or it is broken. {TAKEN}."),
        ("a.png", PNG[:-4], f"This is not a PNG picture, whatever its name says, or it is broken. {TAKEN}."),
        ("a.jpg", JPEG[:-2], f"This is not a JPEG picture, whatever its name says, or it is broken. {TAKEN}."),
        ("a.eml", b"Hello", NO_MAIL),
        ("a.eml", b"From: x@y.example\n\nno date", NO_MAIL),
        ("a.eml", b"Date: today\nReceived: from x\n\nFrom: only in the text", NO_MAIL),
        ("a.eml", b"From: \nDate: today\n\nempty", NO_MAIL),
        ("a.eml", b"<html>From: x\nDate: y\n\n", NO_MAIL),
        ("a.eml", b"From x@y.example today\n", NO_MAIL),
        ("a.eml", b"\xef\xbb\xbf\r\n\r\n", NO_MAIL),
        ("a.eml", "Hello\nDate: y\n\n".encode("utf-16"), NO_MAIL),
        ("signed.pdf", b"<html>%PDF</html>", f"This is not a PDF, whatever its name says, or it is broken. {TAKEN}."),
        ("outlook.eml", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\x00" * 512, NO_MAIL),
        ("outlook.msg", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", f"This kind of file is not taken: {TAKEN}."),
    ],
)
def test_other_files_are_refused_with_the_reason(name, content, said):
    with pytest.raises(evidence.Unfit) as refused:
        evidence.media_type(name, content)
    assert str(refused.value) == said


RAW_NAME = MAIL.replace(b"Dana Whitfield", "Jörg Müller".encode("latin-1"))


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(RAW_NAME, id="8-bit name"),
        pytest.param(MAIL.replace(b"Dana Whitfield", "Jörg Müller 🙂".encode()), id="UTF-8 name"),
        pytest.param(MAIL.replace(b"Dana Whitfield", b"=?utf-8?B?4?= =?x-none?Q?=FF?="), id="broken encoded words"),
        pytest.param(MAIL.replace(b"09:15", "09ö15".encode("latin-1")), id="8-bit date"),
        pytest.param(MAIL.replace(b"\r\n", b"\n"), id="LF"),
        pytest.param(MAIL.replace(b"\r\n", b"\r"), id="CR"),
        pytest.param(b"\xef\xbb\xbf" + MAIL, id="byte order mark"),
        pytest.param(b"\r\n\r\n" + MAIL, id="blank lines first"),
        pytest.param(b"\xef\xbb\xbf\r\n" + MAIL, id="mark and blank line"),
        pytest.param(b"From d.whitfield@northwind.example Mon Nov 23 14:15:00 2026\n" + MAIL, id="mbox"),
        pytest.param(b">From d.whitfield@northwind.example Mon Nov 23 14:15:00 2026\r\n" + MAIL, id="escaped mbox"),
        pytest.param(
            b"Received: from mx by desk; Mon, 23 Nov 2026\r\n\t09:15:02 -0500\r\n" + MAIL, id="Received first"
        ),
        pytest.param(
            b"Received: from mx; Mon, 23 Nov 2026 09:15:02 -0500\r\nFrom: a@b.example\r\n\r\nYes.", id="no Date"
        ),
        pytest.param(b"X_Own.Line: 1\r\nFROM: a@b.example\r\ndate: today\r\n\r\nYes.", id="capitals"),
        pytest.param(MAIL.replace(b"From: ", b"From:\r\n "), id="folded"),
        pytest.param(b"To: " + b"a@b.example,\r\n " * 20_000 + b"c@d.example\r\n" + MAIL, id="many receivers"),
        pytest.param(MAIL.replace(b"\r\n\r\n", b"\r\nMIME-Version: 1.0\r\n\r\n\xff\xfe\x80\r\n"), id="8-bit text"),
        pytest.param(MAIL + b"\x00\x01", id="NUL"),
        pytest.param(MAIL.decode().encode("utf-16"), id="UTF-16"),
        pytest.param(b"\xfe\xff" + MAIL.decode().encode("utf-16-be"), id="UTF-16, the other way round"),
        pytest.param(MAIL + PDF, id="a PDF as it is"),
        pytest.param(MAIL + b"JVBERi0xLjQK\r\n" * (10 * MIB // 14 - 20), id="attachment"),
    ],
)
def test_mails_are_taken_however_programs_save_them(content):
    assert evidence.media_type("answer.eml", content) == "message/rfc822"


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"\xef\xbb\xbf" + PDF, id="byte order mark"),
        pytest.param(b"\r\n" + PDF, id="empty line"),
        pytest.param(b"-" * 98 + b"\r\n" + PDF, id="a form's head"),
        pytest.param(PDF + b"\x00" * 5000, id="zeros behind"),
        pytest.param(PDF + b"</body></html>" * 500, id="a page behind"),
    ],
)
def test_papers_are_taken_that_readers_open(content):
    assert evidence.media_type("signed.pdf", content) == "application/pdf"


def test_ten_megabytes_are_taken_and_a_byte_more_is_not(settings):
    assert settings.EVIDENCE_MAX_BYTES == 10 * MIB
    body = PDF[:-6] + b" " * (10 * MIB - len(PDF)) + PDF[-6:]
    assert (len(body), evidence.media_type("big.pdf", body)) == (10 * MIB, "application/pdf")
    with pytest.raises(evidence.Unfit) as refused:
        evidence.media_type("big.pdf", body + b"\n")
    assert str(refused.value) == "This file is too big: 10 MiB of at most 10 MiB."


# Names


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("signed.pdf", "signed.pdf"),
        ("../../etc/passwd.pdf", "passwd.pdf"),
        ("C:\\Users\\dana\\signed.pdf", "signed.pdf"),
        ("/etc/", "unnamed"),
        ("signed\x00.pdf", "signed.pdf"),
        ("signed\r\nX-Evil: 1.pdf", "signed X-Evil: 1.pdf"),
        ("fdp.\u202eexe.pdf", "fdp.exe.pdf"),
        ("invoice\u202efdp.exe", "invoicefdp.exe"),
        ("\u200bsigned\ufeff.pdf", "signed.pdf"),
        ("  signed   paper .pdf ", "signed paper.pdf"),
        ("....pdf", "pdf"),
        ("", "unnamed"),
        ("Einverständnis.pdf", "Einverständnis.pdf"),
        ("Einversta\u0308ndnis.pdf", "Einverständnis.pdf"),
        ('a"b;c.pdf', 'a"b;c.pdf'),
        ("x" * 300 + ".pdf", "x" * 196 + ".pdf"),
        ("a." + "b" * 300, "a." + "b" * 20),
    ],
)
def test_names_are_bare_and_read_as_they_are(typed, kept):
    assert evidence.clean_name(typed) == kept
    assert len(kept) <= evidence.NAME_LENGTH


# Keeping


def test_a_file_is_kept_under_its_hash_and_never_written_twice(evidence_place):
    digest = evidence.keep(PDF)
    assert digest == hashlib.sha256(PDF).hexdigest()
    assert files(evidence_place) == [kept_as(PDF)]
    before = (evidence_place / kept_as(PDF)).stat()
    assert evidence.keep(PDF) == digest
    assert (evidence_place / kept_as(PDF)).stat().st_mtime_ns == before.st_mtime_ns
    assert files(evidence_place) == [kept_as(PDF)]
    assert evidence.read(digest) == PDF


def test_the_same_file_from_many_at_once_is_one_file(evidence_place):
    def keep():
        kept.append(evidence.keep(PNG))

    kept = []
    threads = [threading.Thread(target=keep) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert kept == [hashlib.sha256(PNG).hexdigest()] * 8
    assert files(evidence_place) == [kept_as(PNG)]


def test_a_full_disk_leaves_no_half_of_a_file(evidence_place):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, hard))
    try:
        with pytest.raises(evidence.NotStored, match=r"^File too large$"):
            evidence.keep(PDF + b" " * MIB)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert files(evidence_place) == []
    assert evidence.keep(PDF + b" " * MIB) == hashlib.sha256(PDF + b" " * MIB).hexdigest()


def test_a_file_that_was_altered_is_not_healed_by_attaching_it_again(evidence_place):
    digest = evidence.keep(PDF)
    (evidence_place / kept_as(PDF)).write_bytes(PDF.replace(b"1.4", b"1.5"))
    for again in (lambda: evidence.keep(PDF), lambda: evidence.read(digest)):
        with pytest.raises(evidence.Damaged) as damaged:
            again()
        assert str(damaged.value) == ("The file was altered: it does not fit the hash under which it was attached.")
    assert (evidence_place / kept_as(PDF)).read_bytes() == PDF.replace(b"1.4", b"1.5")


def test_a_file_that_is_gone_is_said_to_be(evidence_place):
    digest = evidence.keep(PDF)
    (evidence_place / kept_as(PDF)).unlink()
    with pytest.raises(evidence.Damaged, match=r"^The file is missing\.$"):
        evidence.read(digest)


def test_a_hash_out_of_the_database_leads_nowhere_else(evidence_place):
    with pytest.raises(evidence.Damaged, match="is no hash"):
        evidence.read("../../../../etc/passwd")


# Looking all of it through


def faults():
    return [sentence for _, sentence in evidence.faults()]


@pytest.fixture
def two_papers(evidence_place, agent, db):
    consents = [case_recorded_by_phone(agent).consent for _ in range(2)]
    papers = [
        operations.attach_evidence(consent, what="signed_paper", file_name=name, content=content, by=acting(agent))
        for consent, name, content in zip(consents, ("one.pdf", "two.png"), (PDF, PNG), strict=True)
    ]
    assert faults() == []
    return papers


def test_a_missing_file_is_named(evidence_place, two_papers):
    (evidence_place / kept_as(PNG)).unlink()
    paper = two_papers[1]
    assert faults() == [f"Evidence two.png of {paper.consent} (SHA-256 {paper.sha256}): The file is missing."]


def test_an_altered_file_is_named(evidence_place, two_papers):
    with (evidence_place / kept_as(PDF)).open("ab") as file:
        file.write(b"\n")
    paper = two_papers[0]
    assert faults() == [
        f"Evidence one.pdf of {paper.consent} (SHA-256 {paper.sha256}): "
        "The file was altered: it does not fit the hash under which it was attached."
    ]


def test_the_cost_of_looking_through_does_not_grow(evidence_place, two_papers, django_assert_num_queries):
    with django_assert_num_queries(1):
        faults()


# The deployment check


def found_by_checks():
    of_places = ("unlocks.E003", "unlocks.E011")
    return [found.id for found in run_checks(include_deployment_checks=True) if found.id in of_places]


@pytest.mark.django_db
def test_a_deployment_that_cannot_keep_evidence_is_refused(evidence_place, settings):
    settings.PHONE_CONSENT = True
    assert found_by_checks() == []
    assert files(evidence_place) == []
    evidence_place.rmdir()
    evidence_place.write_text("not a folder")
    assert found_by_checks() == ["unlocks.E003"]
    settings.PHONE_CONSENT = False
    assert found_by_checks() == []


@pytest.mark.django_db
def test_a_deployment_that_cannot_keep_case_files_is_refused(case_file_place):
    assert (found_by_checks(), list(case_file_place.iterdir())) == ([], [])
    case_file_place.rmdir()
    case_file_place.write_text("not a folder")
    assert found_by_checks() == ["unlocks.E011"]


def test_evidence_lies_outside_what_is_served(settings):
    kept = Path(storages["evidence"].path("x")).resolve()
    assert settings.STATIC_ROOT
    assert not kept.is_relative_to(Path(settings.STATIC_ROOT).resolve())
    assert storages["evidence"].base_url is None or not os.fspath(storages["evidence"].base_url).startswith("/static")
