import pytest
from django.core.exceptions import PermissionDenied

from tests.factories import acting, case_consented, case_recorded_by_phone
from tests.operations import only_for, recorded, refused
from tests.papers import MAIL, PDF, PNG, kept_as
from unlocks import evidence, operations
from unlocks.models import ConsentEvidence
from unlocks.rules import Refusal

pytestmark = pytest.mark.django_db


def attach(case, by, *, what="signed_paper", file_name="signed.pdf", content=PDF):
    return operations.attach_evidence(case.consent, what=what, file_name=file_name, content=content, by=by)


def test_a_paper_is_kept_and_told_of(agent, second_agent):
    case = case_recorded_by_phone(agent)
    paper = attach(case, acting(second_agent), file_name="../Signed by Dana.pdf")
    assert (paper.consent, paper.what, paper.file_name, paper.media_type, paper.size) == (
        case.consent,
        "signed_paper",
        "Signed by Dana.pdf",
        "application/pdf",
        len(PDF),
    )
    assert (paper.attached_by, evidence.read(paper.sha256)) == (second_agent, PDF)
    assert recorded(case.unlock_request)[-1] == (
        "evidence",
        {
            "consent": case.consent.pk,
            "what": "signed_paper",
            "file_name": "Signed by Dana.pdf",
            "size": len(PDF),
            "sha256": paper.sha256,
        },
    )


def test_only_for_those_who_take_consents_down(agent):
    case = case_recorded_by_phone(agent)
    numbers = iter(range(9))
    only_for(
        ["Agent", "Manager"],
        lambda by: attach(case, by, content=PDF.replace(b"1.4", b"1.%d" % next(numbers))),
    )
    assert ConsentEvidence.objects.count() == 2


def test_whoever_is_refused_leaves_no_file(agent, auditor, evidence_place):
    case = case_recorded_by_phone(agent)
    with pytest.raises(PermissionDenied):
        attach(case, acting(auditor))
    assert not (evidence_place / kept_as(PDF)).exists()


def test_a_consent_of_the_customers_own_takes_no_paper(agent):
    case = case_consented(agent)
    with refused(
        Refusal.NOT_BY_PHONE,
        says=f"{case.consent} was given by the customer through the link, so no evidence is needed or accepted.",
    ):
        attach(case, acting(agent))


def test_the_same_file_twice_is_refused_by_its_name(agent, evidence_place):
    case = case_recorded_by_phone(agent)
    attach(case, acting(agent), file_name="first name.pdf")
    with refused(Refusal.SAME_FILE, says="This file is already attached, as first name.pdf."):
        attach(case, acting(agent), file_name="second name.pdf", what="email")
    assert ConsentEvidence.objects.count() == 1


def test_the_same_file_proves_two_consents(agent):
    first, second = case_recorded_by_phone(agent), case_recorded_by_phone(agent)
    papers = [attach(case, acting(agent)) for case in (first, second)]
    assert papers[0].sha256 == papers[1].sha256
    assert list(evidence.faults()) == []


@pytest.mark.parametrize(
    ("file_name", "content", "says"),
    [
        ("signed.pdf", b"", "This file is empty."),
        ("signed.pdf", PNG, "This is a PNG picture, but its name ends in .pdf. Save it under its right name."),
        (
            "invoice\u202efdp.exe",
            PDF,
            "This is a PDF, but its name ends in .exe. Save it under its right name.",
        ),
    ],
)
def test_unfit_files_are_refused_and_not_kept(agent, evidence_place, file_name, content, says):
    case = case_recorded_by_phone(agent)
    with refused(Refusal.UNFIT_FILE, says=says):
        attach(case, acting(agent), file_name=file_name, content=content)
    assert not evidence_place.exists()


def test_a_damaged_file_is_not_taken_for_the_new_one(agent, evidence_place):
    first, second = case_recorded_by_phone(agent), case_recorded_by_phone(agent)
    attach(first, acting(agent))
    (evidence_place / kept_as(PDF)).write_bytes(b"something else")
    with refused(Refusal.DAMAGED_FILE):
        attach(second, acting(agent))


def test_a_file_that_cannot_be_stored_is_not_attached(agent, evidence_place):
    case = case_recorded_by_phone(agent)
    evidence_place.write_text("not a folder")
    says = "Nothing was attached: the file could not be stored (Not a directory). Tell the people who run this desk."
    with refused(Refusal.NOT_STORED, says=says):
        attach(case, acting(agent))


def test_a_closed_case_takes_papers_too(agent):
    case = case_recorded_by_phone(agent)
    operations.close_request(case.unlock_request, resolution="canceled", why="Called off.", by=acting(agent))
    attach(case, acting(agent), what="email", file_name="answer.eml", content=MAIL)
    assert recorded(case.unlock_request)[-1][0] == "evidence"
