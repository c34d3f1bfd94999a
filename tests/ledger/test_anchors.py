"""Anchors: written down line by line, read back however they come, and what the audit says of each."""

import json
from datetime import UTC, datetime

import pytest
import time_machine
from django.core.management import CommandError, call_command
from django.db import connection

from tests.attacks import sql
from tests.factories import acting, case_consented, open_case, record_certificate_key
from unlocks import operations
from unlocks.database import guards
from unlocks.ledger import anchors, chain, events
from unlocks.management.commands import verify_audit
from unlocks.models import LedgerEntry

pytestmark = pytest.mark.django_db


@pytest.fixture
def case(agent):
    made = open_case(agent)
    connection.check_constraints()
    return made


@pytest.fixture
def file(tmp_path):
    return tmp_path / "anchors.txt"


@pytest.fixture
def first(case):
    """The sequence of the entry that opened the case."""
    return chain.head()[0]


@pytest.fixture
def export():
    """Export an anchor to a file on a day in May, which it is from then on."""
    with time_machine.travel(datetime(2026, 5, 1, 6, tzinfo=UTC), tick=False) as clock:

        def exported(file, day):
            clock.move_to(datetime(2026, 5, day, 6, 30, tzinfo=UTC))
            call_command("export_anchor", to=file)

        yield exported


def add_note(case, text="Meanwhile"):
    operations.add_note(case.unlock_request, text=text, by=acting(case.agent))


def cut(after):
    with guards.lifted():
        sql("DELETE FROM unlocks_ledgerentry WHERE sequence > %s", after)


def refusal(command, **options):
    with pytest.raises(CommandError) as caught:
        call_command(command, **options)
    return str(caught.value)


def audit(*files):
    *found, advice = refusal("verify_audit", anchor=files).split("\n")
    assert advice == verify_audit.NEXT
    return found


def test_each_export_adds_a_line(export, case, first, file, capsys):
    export(file, 4)
    add_note(case)
    export(file, 5)
    export(file, 5)

    hashes = dict(LedgerEntry.objects.values_list("sequence", "hash"))
    told = [("04", first), ("05", first + 2), ("05", first + 3)]  # each export has an entry too
    assert [json.loads(line) for line in file.read_text().splitlines()] == [
        {"at": f"2026-05-{day}T06:30:00+00:00", "hash": hashes[sequence], "sequence": sequence}
        for day, sequence in told
    ]
    assert capsys.readouterr().out == "".join(f"Anchor: entry {n}, {hashes[n]}\n" for _, n in told)
    call_command("verify_audit", anchor=[file])


def test_a_file_with_an_anchor_over_several_lines_is_added_to_as_well(export, case, file):
    sequence, head = chain.head()
    file.write_text(json.dumps({"at": "2026-05-01T06:00:00+00:00", "hash": head, "sequence": sequence}, indent=1))
    export(file, 4)
    assert [anchor.sequence for anchor in anchors.read(file.read_text())] == [sequence, sequence]


def test_a_newer_anchor_is_never_written_over(export, case, first, file):
    add_note(case)
    export(file, 4)
    cut(after=first)
    before = file.read_text()

    assert refusal("export_anchor", to=file, email="audit@vendor.example") == (
        f"Nothing was written: {file} holds an anchor that does not fit. Ledger entry {first + 1}, which is the anchor "
        f"of 2026-05-04 06:30 UTC, is gone: the ledger ends with entry {first}. Its tail was cut, or an older database "
        f"was put in its place. Run “manage.py verify_audit --anchor {file}”; after a restore that you know of, "
        "“manage.py record_restore”."
    )
    assert file.read_text() == before


@pytest.mark.parametrize(
    ("there", "why"),
    [
        ("Shopping list", "there is none in it"),
        ('{"at": "", "hash": "', "one of its anchors is broken off"),
        ("{}", "{} is none"),
        ("{nonsense}", "{nonsense} is none"),
    ],
)
def test_a_file_of_something_else_is_left_alone(case, file, there, why):
    file.write_text(there)
    assert refusal("export_anchor", to=file) == f"Nothing was written: {file} is not a file of anchors: {why}."
    assert file.read_text() == there
    assert refusal("verify_audit", anchor=[file]) == f"{file} is not an anchor: {why}."


@pytest.mark.parametrize(
    "told",
    [
        {"sequence": "x", "hash": "f" * 64},
        {"sequence": True, "hash": "f" * 64},
        {"sequence": -1, "hash": "f" * 64},
        {"sequence": 1, "hash": ""},
        {"sequence": 1, "hash": "F" * 64},
        {"sequence": 1},
        {"hash": "f" * 64},
    ],
)
def test_a_broken_anchor_is_refused(case, file, told):
    file.write_text(json.dumps(told))
    packed = json.dumps(told).replace(" ", "")[:80]
    assert refusal("verify_audit", anchor=[file]) == f"{file} is not an anchor: {packed} is none."


def test_where_nothing_can_be_written_is_said(case, tmp_path):
    for place, why in ((tmp_path / "missing" / "anchors", "No such file or directory"), (tmp_path, "Is a directory")):
        assert refusal("export_anchor", to=place) == f"The anchor could not be written to {place}: {why}."
    assert refusal("export_anchor") == "Say where the anchor goes: --to FILE, --email ADDRESS, or both."
    missing = tmp_path / "missing"
    assert refusal("verify_audit", anchor=[missing]) == f"{missing} could not be read: No such file or directory."
    missing.write_bytes(b"\xff\xfe")
    assert refusal("verify_audit", anchor=[missing]).startswith(f"{missing} is not an anchor: 'utf-8' codec")


PASTED = {
    "as it is": lambda mail: mail,
    "with blank lines": lambda mail: f"\n\n  {mail}  \n\n",
    "wrapped": lambda mail: "\r\n".join(mail[start : start + 30] for start in range(0, len(mail), 30)),
    "with blanks that do not break": lambda mail: mail.replace(" ", "\u00a0"),
    "with a mark in front": lambda mail: f"\ufeff{mail}",
    "with its headers": lambda mail: f"From: desk@vendor.example\nSubject: Unlock Desk anchor 1\n\n{mail}",
}


@pytest.mark.parametrize("pasted", PASTED.values(), ids=PASTED)
def test_a_mailed_anchor_can_be_saved_in_any_way(case, first, file, mailoutbox, pasted):
    call_command("export_anchor", email="audit@vendor.example")
    (mail,) = mailoutbox
    assert (mail.to, mail.subject) == (["audit@vendor.example"], f"Unlock Desk anchor {first}")
    file.write_text(pasted(mail.body))

    (anchor,) = anchors.read(file.read_text())
    assert LedgerEntry.objects.get(sequence=first).hash == anchor.hash
    assert chain.event_of(LedgerEntry.objects.get(sequence=first + 1)) == events.Anchored(
        head=first, file="", to="audit@vendor.example"
    )
    call_command("verify_audit", anchor=[file])


def test_a_mail_that_cannot_be_sent_is_said(case, file, settings):
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 1
    said = "The anchor could not be emailed to audit@vendor.example: [Errno 111] Connection refused."
    assert refusal("export_anchor", email="audit@vendor.example") == said
    assert refusal("export_anchor", email="audit@vendor.example", to=file) == f"{said} It was written to {file}."


def test_an_address_that_is_none_is_said(case):
    assert refusal("export_anchor", email="a\nb@vendor.example").startswith("The anchor could not be emailed to a\nb@")


def test_an_anchor_of_the_empty_ledger_always_fits(export, file, agent):
    export(file, 4)
    open_case(agent)
    call_command("verify_audit", anchor=[file])


def test_the_cut_is_found_between_the_last_anchor_that_fits_and_the_next(export, case, first, tmp_path, file):
    """Several files in any order, and several anchors in a file."""
    other = tmp_path / "other.txt"
    for day in (4, 5, 6):
        add_note(case)
        export(file if day < 6 else other, day)
    add_note(case)
    cut(after=first + 2)  # each export has an entry too
    add_note(case, "After the cut")

    assert audit(other, file) == [
        f"Ledger entry {first + 3} is not the one of the anchor of 2026-05-05 06:30 UTC: the ledger was rewritten "
        f"after entry {first + 1}, where the anchor of 2026-05-04 06:30 UTC still fits. 1 more like it."
    ]


def test_an_anchor_newer_than_the_database(export, case, first, file):
    add_note(case)
    export(file, 4)
    cut(after=first)
    assert audit(file) == [
        f"Ledger entry {first + 1}, which is the anchor of 2026-05-04 06:30 UTC, is gone: the ledger ends with entry "
        f"{first}. Its tail was cut, or an older database was put in its place."
    ]


def test_a_certificate_is_an_anchor(agent, file):
    """Of each of its case's entries, and of the head."""
    record_certificate_key()
    case = case_consented(agent)
    certificate = operations.issue_certificate(case.consent, by=acting(agent))
    connection.check_constraints()
    file.write_text(certificate.content)
    told = json.loads(certificate.content)["certificate"]["ledger"]
    assert [anchor.sequence for anchor in anchors.read(certificate.content)] == [
        *(entry["sequence"] for entry in told["entries"]),
        told["head"]["sequence"],
    ]
    call_command("verify_audit", anchor=[file])

    cut(after=told["head"]["sequence"] - 1)
    assert (
        f"Ledger entry {told['head']['sequence']}, which is the anchor, is gone: the ledger ends with entry "
        f"{told['head']['sequence'] - 1}. Its tail was cut, or an older database was put in its place."
    ) in [sentence.replace(" 1 more like it.", "") for sentence in audit(file)]


@pytest.mark.parametrize("told", [{"entries": [], "head": None}, {"entries": ["x"], "head": {}}])
def test_a_broken_certificate_is_refused(case, file, told):
    file.write_text(json.dumps({"certificate": {"ledger": told}}))
    assert refusal("verify_audit", anchor=[file]) == f"{file} is not an anchor: {{}} is none."


def test_an_anchor_of_another_desk(case, file):
    file.write_text(json.dumps({"sequence": 1, "hash": "f" * 64}))
    assert audit(file) == [
        "Ledger entry 1 is not the one of the anchor: the ledger was rewritten, or the anchor is another desk's."
    ]


def test_an_anchored_entry_that_is_missing_in_the_middle(export, case, first, file):
    add_note(case)
    export(file, 4)
    add_note(case)
    with guards.lifted():
        sql("DELETE FROM unlocks_ledgerentry WHERE sequence = %s", first + 1)
    assert audit(file) == [
        f"Ledger entry {first + 1} is missing: entry {first + 2} comes next.",
        f"Ledger entry {first + 1}, which is the anchor of 2026-05-04 06:30 UTC, is gone.",
    ]
