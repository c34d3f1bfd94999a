"""The case file: what is in it, who may have it, what is told of it, and that no fault is passed over in silence."""

import csv
import hashlib
import io
import json
import os
import shutil
import tracemalloc
from copy import deepcopy
from zipfile import BadZipFile, ZipFile

import pytest
from django.conf import settings
from django.db import connection
from django.test import override_settings

from tests import factories
from tests.admin.test_changes import bringing, said
from tests.attacks import difference, snapshot
from tests.factories import acting
from tests.operations import kinds, only_for, recorded, refused
from tests.papers import MAIL, PDF, kept_as
from unlocks import evidence, operations
from unlocks.actors import Actor
from unlocks.certificates import case_file, facts, verify_certificate
from unlocks.database import guards
from unlocks.ledger import chain, signing_keys
from unlocks.models import Certificate, Consent, ConsentEvidence, LedgerEntry
from unlocks.rules import Refusal

pytestmark = pytest.mark.django_db
EVIDENCE = ["evidence/{0}-1.pdf", "evidence/{0}-2.eml"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("evidence")


@pytest.fixture(scope="module")
def scene(shared, place):
    """A closed case with a consent by phone, two papers and a batch that changed while it was unlocked."""
    agent, manager, importer = (
        factories.make_user(name, group=group, is_superuser=name == "importer")
        for name, group in (("agent", "Agent"), ("manager", "Manager"), ("importer", None))
    )
    factories.record_certificate_key()
    batch = factories.make_batch(items=1)
    (item,) = batch.items.all()
    bringing(importer, said(batch, (item.number, 100, "Before"), total=100))
    case = factories.case_recorded_by_phone(agent, batches=[batch])
    with override_settings(STORAGES=kept_in(place)):
        for what, name, content in (("signed_paper", "Signed by Dana.pdf", PDF), ("email", "Dana?.eml", MAIL)):
            operations.attach_evidence(case.consent, what=what, file_name=name, content=content, by=acting(agent))
    factories.unlock(case.rows, by=acting(manager))
    operations.add_note(case.unlock_request, text="Dana called:\n=1+2", by=acting(agent))
    bringing(importer, said(batch, (item.number, 90, "=After"), total=90))
    operations.mark_re_exported(case.rows, by=acting(agent))
    return case.refresh(), manager


def kept_in(place):
    kept = {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": str(place)}}
    return {**settings.STORAGES, "evidence": kept}


@pytest.fixture
def case(db, scene, place, evidence_place):
    """The case of the scene, whose papers a test may spoil."""
    shutil.copytree(place, evidence_place)
    return deepcopy(scene[0])


@pytest.fixture
def manager(scene):
    return deepcopy(scene[1])


@pytest.fixture
def agent(case):
    return case.agent


def taken(case, by):
    return operations.make_case_file(case.unlock_request, by=acting(by))


def zip_of(made):
    return b"".join(made.zip())


def unpacked(made, place):
    """Unpack a case file; return its folder."""
    with ZipFile(io.BytesIO(zip_of(made))) as archive:
        assert archive.testzip() is None
        archive.extractall(place)
    return place / made.manifest["request"]


def check(folder):
    """Check an unpacked case file by the list of keys; return what is wrong."""
    try:
        verify_certificate.verify_folder(str(folder), keys=signing_keys.published())
    except verify_certificate.NotGenuine as reason:
        return str(reason)
    return ""


def paths(made):
    return [file["path"] for file in made.manifest["files"]]


def faults(made):
    return [(fault["path"], fault["why"]) for fault in made.manifest["faults"]]


def test_it_holds_all_that_is_on_record_and_is_genuine(case, manager, tmp_path):
    made = taken(case, manager)
    consent, (certificate,) = case.consent, case.consent.certificates.all()
    number = certificate.number
    assert paths(made) == [
        "README.txt",
        f"certificates/{number}.pdf",
        f"certificates/{number}.json",
        f"certificates/{number}-batches.csv",
        "changed-while-unlocked.csv",
        *(path.format(consent) for path in EVIDENCE),
        "timeline.txt",
        "ledger.jsonl",
        "verify_certificate.py",
    ]
    assert (made.name, made.manifest["faults"]) == (f"{case.unlock_request}-case-file.zip", [])
    folder = unpacked(made, tmp_path)
    assert check(folder) == ""
    assert (folder / f"certificates/{number}.json").read_text() == certificate.content
    assert (folder / f"certificates/{number}.pdf").read_bytes() == bytes(certificate.pdf)
    assert [(folder / path.format(consent)).read_bytes() for path in EVIDENCE] == [PDF, MAIL]
    head = made.manifest["head"]
    assert (head["sequence"], head["hash"]) == (
        certificate_entry(certificate).sequence,
        certificate_entry(certificate).hash,
    )


def certificate_entry(certificate):
    return LedgerEntry.objects.get(kind="certified", about_id=certificate.pk)


def test_the_readme_says_what_each_file_is_and_what_is_not_checked(case, manager, tmp_path):
    text = (unpacked(taken(case, manager), tmp_path) / "README.txt").read_text()
    assert text.startswith(f"Case file of request {case.unlock_request}\n{case.account.name}, account ")
    assert f"evidence/{case.consent}-1.pdf\n    “Signed by Dana.pdf”: signed paper, attached by agent " in text
    assert f"evidence/{case.consent}-2.eml\n    “Dana?.eml”: email from the customer, attached by agent " in text
    assert "1 of 1 did, as far as known" in text
    assert f"python3 verify_certificate.py {case.unlock_request} --keys keys.json" in text
    assert "What that does not check: the ledger." in text
    assert "MISSING" not in text


def test_timeline_ledger_and_changes_are_those_of_the_case(case, manager, tmp_path):
    factories.open_case(case.agent)
    made = taken(case, manager)
    folder = unpacked(made, tmp_path)
    entries = LedgerEntry.objects.filter(unlock_request=case.unlock_request)
    entries = list(entries.filter(sequence__lte=made.manifest["head"]["sequence"]).order_by("sequence"))
    lines = [json.loads(line) for line in (folder / "ledger.jsonl").read_text().splitlines()]
    assert [line["hash"] for line in lines] == [entry.hash for entry in entries]
    for line, entry in zip(lines, entries, strict=True):
        assert line["appended_at"] == entry.appended_at.isoformat()
        assert chain.text_hash("facts", line["facts_salt"], line["facts"]) == line["facts_hash"]
        assert chain.text_hash("personal", line["personal_salt"], line["personal"]) == line["personal_hash"]
    text = (folder / "timeline.txt").read_text()
    heads = [line.split(" · ")[-1] for line in text.splitlines() if " · entry " in line]
    assert heads == [f"entry {entry.sequence}" for entry in entries]
    assert "Note\n    Dana called:\n    =1+2\n" in text
    rows = list(csv.reader((folder / "changed-while-unlocked.csv").open(encoding="utf-8-sig", newline="")))
    (batch,) = case.batches
    assert [(row[0], *row[4:]) for row in rows] == [
        ("Batch", "What is known", "Of what", "Field", "At the unlock", "Since"),
        (batch.number, "changed", "The batch", "Total", "$100.00", "$90.00"),
        (batch.number, "changed", rows[2][5], "Amount", "$100.00", "$90.00"),
        (batch.number, "changed", rows[2][5], "Memo", "Before", "'=After"),
    ]


@pytest.mark.sqlite  # what the check finds depends on no database
def test_whatever_is_changed_or_gone_is_found(case, manager, tmp_path):
    made = taken(case, manager)
    folder = unpacked(made, tmp_path)
    for path in paths(made):
        content = (folder / path).read_bytes()
        (folder / path).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        assert check(folder) == f"{path} was changed."
        (folder / path).unlink()
        assert check(folder) == f"{path} is missing."
        (folder / path).write_bytes(content)
    assert check(folder) == ""


def test_who_took_it_and_which_papers_are_in_it_is_in_the_ledger(case, auditor):
    before = len(recorded(case.unlock_request))
    by = Actor(name="auditor", user=auditor, ip="203.0.113.7")
    made = operations.make_case_file(case.unlock_request, by=by)
    told = recorded(case.unlock_request)[before:]
    assert [kind for kind, _ in told] == ["certified", "evidence_opened", "evidence_opened", "case_file_made"]
    assert [facts["file_name"] for _, facts in told[1:3]] == ["Signed by Dana.pdf", "Dana?.eml"]
    digest = hashlib.sha256(made.content).hexdigest()
    assert told[3][1] == {"files": len(paths(made)), "faults": 0, "sha256": digest}
    newest = LedgerEntry.objects.latest("sequence")
    assert (newest.user, newest.ip, newest.unlock_request, newest.account) == (
        auditor,
        "203.0.113.7",
        case.unlock_request,
        case.account,
    )
    assert len(LedgerEntry.objects.filter(act=newest.act)) == 3
    assert chain.event_of(newest).rest == f": {len(paths(made))} files"
    assert list(chain.faults()) == []


def test_only_for_those_who_prove_what_happened(case):
    only_for(["Manager", "Auditor"], lambda by: operations.make_case_file(case.unlock_request, by=by))
    assert kinds(case.unlock_request).count("case_file_made") == 2


def test_it_asks_for_no_newer_certificate(case, manager):
    taken(case, manager)
    newest = facts.entries_of(case.unlock_request).latest("sequence")
    taken(case, manager)
    assert Certificate.objects.count() == 1
    assert facts.entries_of(case.unlock_request).latest("sequence") == newest
    operations.add_note(case.unlock_request, text="Looked into it.", by=acting(manager))
    made = taken(case, manager)
    assert Certificate.objects.count() == 2
    assert sum(path.endswith(".pdf") and path.startswith("certificates/") for path in paths(made)) == 2


def test_a_case_without_an_answer_has_a_case_file_too(agent, manager, tmp_path):
    case = factories.case_awaiting(agent)
    made = taken(case, manager)
    assert paths(made) == ["README.txt", "timeline.txt", "ledger.jsonl", "verify_certificate.py"]
    assert check(unpacked(made, tmp_path)) == ""


def test_each_consent_has_its_certificate(agent, manager, tmp_path):
    case = factories.case_consented(agent)
    first = case.consent
    case.url = operations.send_consent_link(case.unlock_request, contact=case.admin, by=acting(agent)).url
    factories.agree(case)
    made = taken(case, manager)
    assert [path for path in paths(made) if path.endswith(".json")] == [
        f"certificates/{consent}-1.json" for consent in (first, case.consent)
    ]
    assert check(unpacked(made, tmp_path)) == ""


def test_the_same_case_at_the_same_time_gives_the_same_bytes(case, manager):
    made = taken(case, manager)
    given = {"made_at": acting(manager).act.at, "made_by": "manager", "public_key": made.manifest["public_key"]}
    first, second = (case_file.case_file(case.unlock_request, **given) for _ in range(2))
    assert zip_of(first) == zip_of(second)
    with ZipFile(io.BytesIO(zip_of(first))) as archive:
        assert {info.date_time[:5] for info in archive.infolist()} == {given["made_at"].timetuple()[:5]}


# --- What is missing or damaged --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda kept: kept.unlink(), "The file is missing."),
        (lambda kept: kept.write_bytes(b"%PDF-EVIL"), "The file was altered: it does not fit the hash under which"),
    ],
    ids=["missing", "altered"],
)
def test_a_paper_that_is_damaged_is_said_to_be(case, manager, evidence_place, tmp_path, spoil, why):
    spoil(evidence_place / kept_as(PDF))
    made = taken(case, manager)
    path, other = (path.format(case.consent) for path in EVIDENCE)
    [(where, words)] = faults(made)
    assert where == path
    assert words.startswith(f"“Signed by Dana.pdf” (SHA-256 {hashlib.sha256(PDF).hexdigest()}): {why}")
    assert (path in paths(made), other in paths(made)) == (False, True)
    folder = unpacked(made, tmp_path / "out")
    assert check(folder) == ""
    text = (folder / "README.txt").read_text()
    assert f"MISSING OR DAMAGED\n------------------\n{path}: {words}\n" in text
    *_, (opened, of), (kind, told) = recorded(case.unlock_request)
    assert (opened, of["file_name"], kind, told["faults"]) == ("evidence_opened", "Dana?.eml", "case_file_made", 1)
    assert chain.event_of(LedgerEntry.objects.latest("sequence")).rest.endswith(" files, 1 missing or damaged")


def test_a_certificate_that_is_not_what_was_issued_is_said_to_be(case, manager):
    number = operations.issue_certificate(case.consent, by=acting(manager)).number
    with guards.lifted():
        certificate = Certificate.objects.get()
        content = certificate.content.replace("Controller", "Imposter")
        Certificate.objects.update(content=content, sha256=hashlib.sha256(content.encode()).hexdigest())
    made = taken(case, manager)
    why = "It is not what the ledger says was issued, so it is not in this folder."
    assert faults(made) == [(f"certificates/{number}.json", why)]
    assert [path for path in paths(made) if path.startswith("certificates/")] == [f"certificates/{number}.pdf"]
    with guards.lifted():
        Certificate.objects.update(pdf=b"%PDF-EVIL")
    assert [path for path, _ in faults(taken(case, manager))] == [
        f"certificates/{number}.{end}" for end in ("pdf", "json")
    ]


def test_what_the_ledger_tells_of_and_nothing_else_does_is_said_to_be_missing(case, manager, tmp_path):
    number = operations.issue_certificate(case.consent, by=acting(manager)).number
    first, second = case.consent.evidence.all()
    with guards.lifted():
        Certificate.objects.all().delete()
        first.delete()
        ConsentEvidence.objects.filter(pk=second.pk).update(sha256=hashlib.sha256(PDF).hexdigest())
    made = taken(case, manager)
    gone = "The ledger tells of it, and it is not on record any more."
    digest = hashlib.sha256(PDF).hexdigest()
    assert faults(made) == [
        (f"certificates/{number}", gone),
        (
            f"evidence/{case.consent}-1.eml",
            f"“Dana?.eml” (SHA-256 {digest}): It is not what the ledger says was attached.",
        ),
        ("evidence", f"“Signed by Dana.pdf” (SHA-256 {digest}): {gone}"),
    ]
    assert not any(path.startswith("evidence") for path in paths(made))
    assert check(unpacked(made, tmp_path)) == ""


def test_a_consent_that_was_altered_gets_no_certificate_and_that_is_said(case, manager):
    with guards.lifted():
        Consent.objects.update(text="I agree to anything.")
    assert faults(taken(case, manager)) == [
        (
            f"certificates/{case.consent}",
            "No certificate can be issued as of now: The text does not match its SHA-256.",
        )
    ]
    assert not Certificate.objects.exists()


def test_an_entry_that_was_altered_is_said_to_be(case, manager):
    note = LedgerEntry.objects.get(kind="note")
    with guards.lifted():
        LedgerEntry.objects.filter(pk=note.pk).update(personal=note.personal.replace("Dana called", "Nobody called"))
    made = taken(case, manager)
    why = f"Entry {note.sequence} was altered: its hash does not fit what it says."
    assert faults(made) == [("ledger.jsonl", why)]


def test_what_changes_while_it_is_handed_out_breaks_it_off(case, manager, evidence_place):
    made = taken(case, manager)
    (evidence_place / kept_as(MAIL)).write_bytes(MAIL + b"PS\r\n")
    broken_off(made, evidence.Damaged)
    (evidence_place / kept_as(MAIL)).write_bytes(MAIL)
    note = LedgerEntry.objects.get(kind="note")
    with guards.lifted():
        LedgerEntry.objects.filter(pk=note.pk).update(personal=note.personal.replace("Dana called", "Nobody called"))
    broken_off(made, case_file.Changed)


def broken_off(made, error):
    got = []
    with pytest.raises(error):
        got.extend(made.zip())
    with pytest.raises(BadZipFile):
        ZipFile(io.BytesIO(b"".join(got)))


# --- Refused ---------------------------------------------------------------------------------------------------------


def test_a_secret_that_is_gone_signs_none(agent, manager, settings):
    case = factories.case_awaiting(agent)
    settings.CERTIFICATE_KEYS = [bytes(32)]
    with refused(Refusal.NO_CERTIFICATE_KEY):
        taken(case, manager)


def test_a_key_that_is_recorded_meanwhile_signs_the_next_one(agent, manager, settings, tmp_path):
    case = factories.case_awaiting(agent)
    replaced = []

    def between(execute, sql, params, many, context):
        if "unlocks_consentevidence" in sql and not replaced:
            replaced.append(True)
            settings.CERTIFICATE_KEYS = [bytes(32), *settings.CERTIFICATE_KEYS]
            factories.record_certificate_key()
        return execute(sql, params, many, context)

    before = snapshot()
    with connection.execute_wrapper(between), pytest.raises(operations.Refused) as caught:
        taken(case, manager)
    assert (caught.value.code, difference(before, snapshot())) == (Refusal.BUSY, ["unlocks_ledgerentry"])
    assert kinds(case.unlock_request).count("case_file_made") == 0
    assert check(unpacked(taken(case, manager), tmp_path)) == ""


# --- Memory ----------------------------------------------------------------------------------------------------------


@pytest.mark.sqlite  # the file is on no database
def test_a_large_paper_costs_no_memory(case, manager, settings, tmp_path):
    settings.EVIDENCE_MAX_BYTES = 64 * 1024 * 1024
    large = PDF + os.urandom(24 * 1024 * 1024) + b"%%EOF"
    operations.attach_evidence(
        case.consent, what="signed_paper", file_name="large.pdf", content=large, by=acting(case.agent)
    )
    operations.issue_certificate(case.consent, by=acting(manager))
    size = len(large)
    del large
    tracemalloc.start()
    try:
        written = sum(map(len, taken(case, manager).zip()))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert written > size
    assert peak < 8 * 1024 * 1024
