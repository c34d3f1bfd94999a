"""The consents as staff see them: all that is kept, the papers, the receipts and the certificates."""

import hashlib
import html
import json
import logging
import re
from copy import deepcopy

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils.html import strip_tags

from tests import factories, mail_servers
from tests.admin.test_request_page import page_of
from tests.operations import recorded
from tests.papers import MAIL, PDF, kept_as
from unlocks import history, operations
from unlocks.actors import Actor
from unlocks.admin.site import desk
from unlocks.certificates import batch_list
from unlocks.database import guards
from unlocks.ledger import chain, events
from unlocks.models import Act, Certificate, Consent, ConsentedBatch, ConsentEvidence, LedgerEntry, ResentReceipt
from unlocks.templatetags.desk import email
from unlocks.texts.shown import shown_text

CONSENTS = "/desk/unlocks/consent/"


def consent_page(case):
    return reverse("admin:unlocks_consent_change", args=[case.consent.pk])


def shown(client, case):
    response = client.get(consent_page(case))
    assert response.status_code == 200
    return " ".join(response.content.decode().split())


def post(client, case, verb, **typed):
    return client.post(consent_page(case), {"verb": verb, **typed})


def seen_on(client, case, verb):
    return client.get(consent_page(case)).context["forms"][verb]["seen"].value()


def state(case):
    case.refresh()
    return (
        case.unlock_request.status,
        case.unlock_request.entries.count(),
        ConsentEvidence.objects.count(),
        ResentReceipt.objects.count(),
        Certificate.objects.count(),
    )


@pytest.fixture(scope="module")
def scene(shared):
    agent = factories.make_user("agent", group="Agent")
    made = factories.case_consented(agent), factories.case_recorded_by_phone(agent)
    factories.deliver()
    factories.record_certificate_key()  # after that, so that no certificate went with the receipts
    return made


@pytest.fixture
def cases(db, scene):
    return deepcopy(scene)


@pytest.fixture
def agent(cases):
    return cases[0].agent


@pytest.fixture
def consented(cases):
    return cases[0]


@pytest.fixture
def recorded_by_phone(cases):
    return cases[1]


@pytest.fixture
def paper(agent, recorded_by_phone, evidence_place):
    return operations.attach_evidence(
        recorded_by_phone.consent, what="signed_paper", file_name="signed.pdf", content=PDF, by=factories.acting(agent)
    )


def evidence_address(paper):
    return reverse("admin:consent_evidence", args=[paper.consent_id, paper.pk])


def listed(client):
    """Return reference, answer, batches and validity of each row of the list, as they read."""
    rows = client.get(CONSENTS).context["cl"].result_list
    site_admin = desk.get_model_admin(Consent)
    cells = [
        [getattr(site_admin, column)(row) for column in ("number", "decided", "count_text", "until")] for row in rows
    ]
    return [[" ".join(strip_tags((cell or "–").replace("<br>", " ")).split()) for cell in row] for row in cells]


# Who may see and change them


@pytest.mark.parametrize("role", ["agent", "manager", "auditor", "superuser"])
def test_every_role_sees_consents_and_nobody_writes_them(request, role, consented):
    client = request.getfixturevalue(f"{role}_client")
    assert client.get(CONSENTS).status_code == 200
    assert client.get(consent_page(consented)).status_code == 200
    before = list(Consent.objects.order_by("pk").values())
    assert client.get(f"{CONSENTS}add/").status_code == 403
    assert client.post(f"{CONSENTS}{consented.consent.pk}/delete/", {"post": "yes"}).status_code == 403
    assert client.post(consent_page(consented), {"signer_name": "Nobody", "_save": "Save"}).status_code == 400
    assert client.get(f"{CONSENTS}{consented.consent.pk}/history/").status_code == 404
    assert list(Consent.objects.order_by("pk").values()) == before


def test_strangers_and_newcomers_see_none(client, consented):
    assert client.get(consent_page(consented)).status_code == 302
    client.force_login(factories.make_user("newcomer"))
    assert (client.get(CONSENTS).status_code, client.get(consent_page(consented)).status_code) == (403, 403)
    assert post(client, consented, "certify").status_code == 403


@pytest.mark.parametrize("key", ["999999", "x", "0", "1" * 40])
def test_a_consent_that_is_not_there_is_not_found(superuser_client, key):
    assert superuser_client.get(f"{CONSENTS}{key}/change/").status_code == 404


@pytest.mark.parametrize("number", ["9" * 19, "9" * 30, "9" * 5000, "٣"])
@pytest.mark.parametrize(
    "address",
    [
        "{number}/evidence/1/",
        "{pk}/evidence/{number}/",
        "{number}/certificates/1/",
        "{pk}/certificates/{number}/",
        "{number}/certificates/1/pdf/",
        "{pk}/certificates/{number}/pdf/",
        "{number}/certificates/1/batches/",
        "{pk}/certificates/{number}/batches/",
        "{number}/certificates/1/json/",
        "{pk}/certificates/{number}/json/",
        "{number}/change/",
    ],
)
def test_a_number_that_no_row_has_is_not_found(superuser_client, consented, address, number):
    path = address.format(pk=consented.consent.pk, number=number)
    # Django's own last route sends what it doesn't know to <what>/change/.
    response = superuser_client.get(f"{CONSENTS}{path}", follow=True)
    assert response.status_code == 404


# The page


def test_page_shows_everything_that_was_recorded(agent, agent_client, consented):
    page = shown(agent_client, consented)
    consent, link = consented.consent, consented.link
    for piece in (
        consent.text_sha256,
        f"“I am authorized to decide this for {consented.account.name}”",
        f"“{consent.ticked[1]}”",
        "“Agree and record my consent”",
        "By the customer, through the consent link",
        f'{consented.admin.name} <span class="muted">({email(consented.admin.email)})</span>',
        "By the customer, ",
        f"by agent for {email(link.email)}",
        reverse("admin:unlocks_consentterms_change", args=[consent.terms_id]),
        '<b>Receipt of the consent</b> <span class="tag good">Sent</span>',
    ):
        assert piece in page
    for covered in ConsentedBatch.objects.filter(consent=consent):
        assert covered.fingerprint in page
        assert covered.number in page
    # Where from and with which browser, of the opening and of the decision: nobody was on the network here.
    assert page.count("not recorded") == 6


def test_what_is_unknown_is_said_to_be_so(agent, agent_client, consented):
    """As rows look that were written before these things were kept."""
    with guards.lifted():
        Consent.objects.update(
            ticked=[], pressed="", contact_name="", pin_verified_at=None, pin_typed_by="", ip=None, browser=""
        )
        ConsentedBatch.objects.update(number="", name="", total=None, item_count=None)
    page = shown(agent_client, consented)
    for piece in (
        '<dt>Boxes ticked</dt> <dd><span class="muted">not recorded</span></dd>',
        '<dt>Button pressed</dt> <dd><span class="muted">not recorded</span></dd>',
        "<dt>Contact on file then</dt> <dd>not recorded ",
        '<dt>Account PIN</dt> <dd><span class="muted">not recorded</span></dd>',
        "name then not recorded",
    ):
        assert piece in page
    assert page.count("from an address that was not recorded · browser not recorded") == 2
    assert page.count('data-label="Items"><span class="muted">not recorded</span>') == 2
    assert page.count('data-label="Total"><span class="muted">not recorded</span>') == 2


def test_a_consent_recorded_by_phone_is_marked_as_such(agent_client, recorded_by_phone):
    page = shown(agent_client, recorded_by_phone)
    assert (
        f"<b>agent recorded by phone that {recorded_by_phone.admin.name} said yes.</b> This is a lower-assurance"
        in page
    )
    assert '<span class="tag wait">Recorded by phone</span></h1>' in page
    assert "Recorded by phone (lower assurance): agent" in page
    assert "Typed by an agent (lower assurance): agent, " in page
    assert "none: read out on the phone" in page
    assert "Agreed" not in page


def test_a_withdrawal_is_shown_first(agent, agent_client, recorded_by_phone):
    operations.withdraw_consent(recorded_by_phone.consent, why="Changed their mind.", by=factories.acting(agent))
    page = shown(agent_client, recorded_by_phone)
    assert "by agent.</b> “Changed their mind.” Nothing can be unlocked under it any more." in page
    assert '<span class="tag bad">Withdrawn</span> <span class="tag wait">Recorded by phone</span>' in page


def test_a_refusal_covers_nothing(agent, agent_client):
    case = factories.case_awaiting(agent)
    by = factories.customer(case.admin)
    operations.open_consent_link(case.link, by=by)
    case.consent, _ = operations.decline_consent(
        case.link, name="Dana Whitfield", role="", why="", shown=shown_text(case.link), by=by
    )
    page = shown(agent_client, case)
    assert "None: the customer declined." in page
    assert "<dt>Name</dt> <dd>Dana Whitfield " in page
    assert "not asked for: declined" in page
    assert listed(agent_client)[0] == [case.consent.reference, "Declined", "–", "–"]


def test_errors_are_listed_first_and_their_form_stays_open(agent_client, recorded_by_phone):
    response = post(agent_client, recorded_by_phone, "attach")
    page = " ".join(response.content.decode().split())
    assert "<title>Error: " in page
    assert (
        'id="problems" role="alert" tabindex="-1" autofocus> <div> <p><b>Attach a signed paper or an email: not done.'
        '</b></p> <ul> <li><a href="#id_attach_what_0">Say what the file is.</a></li> '
        '<li><a href="#id_attach_file">Choose the file.</a></li> </ul>'
    ) in page
    assert page.count('<details class="verb-of" id="attach" open>') == 1
    assert 'id="id_attach_what_0"' in page


def test_the_recorded_text_is_shown_unchanged(agent_client, consented, recorded_by_phone):
    for case in (consented, recorded_by_phone):
        page = agent_client.get(consent_page(case)).content.decode()
        recorded = re.search('<div class="recorded">(.*?)</div>', page, re.DOTALL)[1]
        assert html.unescape(re.sub("<[^>]+>", "", recorded)) == case.consent.text


def test_batches_are_sorted_by_number(agent, agent_client):
    account = factories.make_account()
    batches = [factories.make_batch(account=account, number=number) for number in ("C-3", "A-1", "B-2")]
    case = factories.case_unlocked(agent, batches=batches)
    act = Act.objects.get(kind="unlock")
    of_case = agent_client.get(page_of(case)).context["case"].verdicts
    of_consent = agent_client.get(consent_page(case)).context["batches"]
    of_act = agent_client.get(reverse("admin:unlocks_act_change", args=[act.pk])).context["page"]
    assert [
        [row["batch"].number for row in of_case],
        [row.number for row in of_consent],
        [row.batch.number for row in of_act],
    ] == [["A-1", "B-2", "C-3"]] * 3


def test_an_older_consent_says_what_a_later_one_covers(agent, agent_client, consented):
    first = consented.consent
    item = consented.batch.items.first()
    item.memo = "Changed afterwards"
    history.save(item, by=Actor.desk())
    factories.record_by_phone(consented, agent)
    assert shown(agent_client, consented).count("Not unlocked yet") == 2
    consented.consent = first
    assert shown(agent_client, consented).count("Under a later consent") == 2


def test_the_page_costs_the_same_for_one_batch_and_for_thirty(agent, agent_client, django_assert_num_queries):
    small = factories.case_recorded_by_phone(agent, batches=factories.make_batches(n=1))
    large = factories.case_recorded_by_phone(agent, batches=factories.make_batches(n=30))
    for number in range(3):
        operations.attach_evidence(
            large.consent,
            what="email",
            file_name=f"{number}.pdf",
            content=PDF.replace(b"1.4", b"1.%d" % number),
            by=factories.acting(agent),
        )
    agent_client.get(consent_page(small))
    with CaptureQueriesContext(connection) as counted:
        agent_client.get(consent_page(small))
    with django_assert_num_queries(len(counted)):
        agent_client.get(consent_page(large))


def test_the_page_reads_the_consent_and_what_is_around_it_at_once(agent, agent_client, django_assert_num_queries):
    case = factories.case_consented(agent)
    agent_client.get(consent_page(case))
    # Three for the session and the rights of whoever asks; then consent, request, certificates, emails, how many
    # batches, openings, batches.
    with django_assert_num_queries(10):
        agent_client.get(consent_page(case))


# Evidence


def test_a_paper_is_handed_out_to_be_saved_and_never_shown(agent_client, paper):
    response = agent_client.get(evidence_address(paper))
    assert (response.status_code, response.content) == (200, PDF)
    assert {name: response[name] for name in ("Content-Type", "Content-Disposition", "X-Content-Type-Options")} == {
        "Content-Type": "application/octet-stream",
        "Content-Disposition": 'attachment; filename="signed.pdf"',
        "X-Content-Type-Options": "nosniff",
    }
    assert "no-store" in response["Cache-Control"]


def test_a_name_in_a_header_is_only_a_name(agent, agent_client, recorded_by_phone, evidence_place):
    paper = operations.attach_evidence(
        recorded_by_phone.consent,
        what="email",
        file_name='Einver"ständnis;\r\nX-Evil: 1.pdf',
        content=PDF,
        by=factories.acting(agent),
    )
    response = agent_client.get(evidence_address(paper))
    assert "X-Evil" not in response.headers
    assert response["Content-Disposition"] == (
        "attachment; filename*=utf-8''Einver%22st%C3%A4ndnis%3B%20X-Evil%3A%201.pdf"
    )


def test_who_opened_a_paper_is_in_the_ledger(auditor_client, auditor, paper):
    auditor_client.get(evidence_address(paper))
    entry = LedgerEntry.objects.latest("sequence")
    assert (entry.user, entry.unlock_request) == (auditor, paper.consent.unlock_request)
    assert chain.event_of(entry) == events.EvidenceOpened.of(paper)


@pytest.mark.parametrize("role", ["agent", "manager", "auditor", "superuser"])
def test_every_role_reads_papers(request, role, paper):
    assert request.getfixturevalue(f"{role}_client").get(evidence_address(paper)).status_code == 200


def test_others_read_no_paper(client, paper):
    assert client.get(evidence_address(paper)).status_code == 302
    client.force_login(factories.make_user("newcomer"))
    assert client.get(evidence_address(paper)).status_code == 403


def test_a_paper_is_found_under_its_own_consent_only(agent, agent_client, paper):
    other = factories.case_recorded_by_phone(agent).consent
    assert agent_client.get(reverse("admin:consent_evidence", args=[other.pk, paper.pk])).status_code == 404
    assert agent_client.get(reverse("admin:consent_evidence", args=[paper.consent_id, 999])).status_code == 404
    assert agent_client.post(evidence_address(paper)).status_code == 405


@pytest.mark.parametrize(("spoil", "said"), [("altered", "The file was altered"), ("missing", "The file is missing.")])
def test_a_paper_that_is_damaged_is_not_handed_out(agent_client, paper, evidence_place, caplog, spoil, said):
    kept = evidence_place / kept_as(PDF)
    kept.write_bytes(b"%PDF-EVIL") if spoil == "altered" else kept.unlink()
    with caplog.at_level(logging.ERROR, logger="unlocks.admin.consents"):
        response = agent_client.get(evidence_address(paper))
    page = response.content.decode()
    assert response.status_code == 500
    assert said in page
    assert "Tell an administrator today." in page
    assert paper.sha256 in page
    assert "EVIL" not in page
    assert "Traceback" not in page
    ours = [record.getMessage() for record in caplog.records if record.name == "unlocks.admin.consents"]
    assert len(ours) == 1
    assert said in ours[0]
    assert not LedgerEntry.objects.filter(kind="evidence_opened").exists()


def test_a_paper_is_not_opened_by_asking_for_its_head(agent_client, paper):
    assert agent_client.head(evidence_address(paper)).status_code == 405
    assert not LedgerEntry.objects.filter(kind="evidence_opened").exists()


def test_a_paper_is_attached_on_the_consents_page(agent_client, recorded_by_phone, evidence_place):
    response = post(agent_client, recorded_by_phone, "attach", what="email", file=SimpleUploadedFile("a.pdf", PDF))
    assert (response.status_code, response.url) == (302, consent_page(recorded_by_phone))
    assert "a.pdf" in shown(agent_client, recorded_by_phone)
    before = state(recorded_by_phone)
    again = post(agent_client, recorded_by_phone, "attach", what="email", file=SimpleUploadedFile("b.pdf", PDF))
    assert again.status_code == 422
    assert "This file is already attached, as a.pdf." in again.content.decode()
    assert "Choose the file again: it was not kept." in again.content.decode()
    for typed in ({}, {"what": "email"}, {"file": SimpleUploadedFile("c.exe", PDF), "what": "email"}):
        assert post(agent_client, recorded_by_phone, "attach", **typed).status_code == 422
    assert state(recorded_by_phone) == before


def test_a_mail_with_raw_letters_in_its_head_is_attached(agent_client, recorded_by_phone, evidence_place):
    content = MAIL.replace(b"Dana Whitfield", "Jörg Müller".encode("latin-1"))
    response = post(
        agent_client, recorded_by_phone, "attach", what="email", file=SimpleUploadedFile("answer.eml", content)
    )
    assert (response.status_code, response.url) == (302, consent_page(recorded_by_phone))
    kept = ConsentEvidence.objects.get()
    assert (kept.file_name, kept.media_type, kept.size) == ("answer.eml", "message/rfc822", len(content))
    assert agent_client.get(evidence_address(kept)).content == content


def test_the_customers_own_consent_asks_for_no_paper(agent_client, consented):
    assert "attach" not in agent_client.get(consent_page(consented)).context["forms"]
    response = post(agent_client, consented, "attach", what="email", file=SimpleUploadedFile("a.pdf", PDF))
    assert "so no evidence is needed or accepted." in response.content.decode()


# Receipts


def test_a_receipt_is_sent_again_to_the_address_on_file_now(agent, manager, agent_client, consented, mailoutbox):
    operations.save_record(_with_email(consented.admin, "new@customer.example"), by=factories.acting(manager))
    factories.confirm(consented.admin, agent)
    page = shown(agent_client, consented)
    assert f"It goes to {consented.admin.name}, new@customer.example, on file since" in page
    assert "entered by manager." in page
    with factories.delivered():
        response = post(agent_client, consented, "resend_receipt")
    assert response.status_code == 302
    assert [mail.to for mail in mailoutbox][-1] == ["new@customer.example"]
    page = shown(agent_client, consented)
    assert "Sent again</span>" in page
    assert "to new@customer.example" in page


def _with_email(contact, email):
    contact.refresh_from_db()
    contact.email = email
    return contact


def test_a_second_click_sends_no_second_receipt(agent_client, consented):
    seen = seen_on(agent_client, consented, "resend_receipt")
    assert post(agent_client, consented, "resend_receipt", seen=seen).status_code == 302
    response = post(agent_client, consented, "resend_receipt", seen=seen)
    assert response.status_code == 422
    assert "Receipt issued again by agent on " in response.content.decode()
    assert ResentReceipt.objects.count() == 1


def test_a_receipt_that_could_not_be_sent_is_said_on_the_request_page_and_offered_again(
    agent, agent_client, auditor_client
):
    with mail_servers.running() as server:
        server.answers["RCPT"] = "550 No such mailbox"
        case = factories.case_consented(agent)
        factories.deliver()
    page = agent_client.get(page_of(case)).content.decode()
    assert '<span class="tag bad">Could not be sent</span>' in page
    assert 'value="resend_receipt"' in page
    assert f"It goes to {case.admin.name}, {case.admin.email}, on file since" in page
    assert "Could not be sent" in auditor_client.get(page_of(case)).content.decode()
    assert 'value="resend_receipt"' not in auditor_client.get(page_of(case)).content.decode()
    assert "Could not be sent</span>" in shown(agent_client, case)
    with factories.delivered():
        assert agent_client.post(page_of(case), {"verb": "resend_receipt"}).status_code == 302
    page = agent_client.get(page_of(case)).content.decode()
    assert "Could not be sent" not in page
    assert 'value="resend_receipt"' not in page


def test_a_receipt_belongs_to_its_consent(agent, agent_client, consented):
    first = consented.consent
    item = consented.batch.items.first()
    item.memo = "Changed afterwards"
    history.save(item, by=Actor.desk())
    with factories.delivered():
        factories.record_by_phone(consented, agent)
    receipts = agent_client.get(consent_page(consented)).context["receipts"]
    assert [receipt.name for receipt in receipts] == ["Receipt of the consent recorded by phone"]
    consented.consent = first
    with factories.delivered():
        post(agent_client, consented, "resend_receipt")
    receipts = agent_client.get(consent_page(consented)).context["receipts"]
    assert [(receipt.name, receipt.again_by) for receipt in receipts] == [
        ("Receipt of the consent", "agent"),
        ("Receipt of the consent", ""),
    ]


def test_an_auditor_sends_and_attaches_nothing(auditor_client, recorded_by_phone):
    before = state(recorded_by_phone)
    assert set(auditor_client.get(consent_page(recorded_by_phone)).context["forms"]) == {"certify"}
    for verb in ("resend_receipt", "attach"):
        assert post(auditor_client, recorded_by_phone, verb).status_code == 403
    assert state(recorded_by_phone) == before


# Certificates


def file_of(case, name):
    name = name.format(f"{case.consent}-1")
    return reverse("admin:certificate_file", args=[case.consent.pk, 1, name])


def offered(client, case):
    form = client.get(consent_page(case)).context["forms"]["certify"]
    return form.button, getattr(form, "where", "")


def test_looking_issues_none(agent_client, consented):
    before = state(consented)
    agent_client.get(consent_page(consented))
    assert agent_client.get(reverse("admin:certificate", args=[consented.consent.pk, 1])).status_code == 404
    assert agent_client.get(file_of(consented, "{}.pdf")).status_code == 404
    assert state(consented) == before


def test_a_certificate_is_issued_and_read_as_page_pdf_json_and_csv(agent, agent_client, consented):
    response = post(agent_client, consented, "certify")
    certificate = Certificate.objects.get()
    number = f"{consented.consent}-1"
    assert (response.status_code, response.url) == (302, reverse("admin:certificate", args=[consented.consent.pk, 1]))
    page = agent_client.get(response.url)
    assert (page.status_code, page.context["facts"]["number"]) == (200, number)
    addresses = (page.context["pdf_url"], page.context["json_url"], page.context["csv_url"])
    downloads = [agent_client.get(address) for address in addresses]
    facts = json.loads(certificate.content)["certificate"]
    assert [download.content for download in downloads] == [
        bytes(certificate.pdf),
        certificate.content.encode(),
        batch_list.content(facts),
    ]
    assert [download["Content-Disposition"] for download in downloads] == [
        f'attachment; filename="{number}.pdf"',
        f'attachment; filename="{number}.json"',
        f'attachment; filename="{number}-batches.csv"',
    ]
    assert [download["Content-Type"] for download in downloads] == [
        "application/pdf",
        "application/json",
        "text/csv; charset=utf-8",
    ]
    assert {download["X-Content-Type-Options"] for download in downloads} == {"nosniff"}
    assert hashlib.sha256(downloads[1].content).hexdigest() == certificate.sha256
    assert json.loads(downloads[1].content)["certificate"]["code"] == certificate.code
    assert (certificate.issued_by, Certificate.objects.count()) == (agent, 1)
    taken = {"what": "consents", "form": "csv", "narrowed": [f"batches of {number}"]}
    assert recorded(kind="exported") == [("exported", taken)]
    assert number in shown(agent_client, consented)


def test_a_second_click_finds_the_first_certificate(agent_client, consented):
    post(agent_client, consented, "certify")
    response = post(agent_client, consented, "certify")
    assert response.url == reverse("admin:certificate", args=[consented.consent.pk, 1])
    page = agent_client.get(consent_page(consented))
    # The certificate's own page shows no messages: one would turn up here, long after.
    assert list(page.context["messages"]) == []
    assert Certificate.objects.count() == 1


def test_interim_and_final_certificates_are_distinguished(agent, agent_client, consented):
    assert "is open, it is marked INTERIM" in shown(agent_client, consented)
    assert offered(agent_client, consented) == ("Issue a certificate", "")
    post(agent_client, consented, "certify")
    nothing_new = "Nothing has happened in the case since it was issued, so it still says it all."
    assert offered(agent_client, consented) == (f"Show {consented.consent}-1", nothing_new)
    operations.add_note(consented.unlock_request, text="They called.", by=factories.acting(agent))
    assert offered(agent_client, consented) == ("Issue a newer one", "")
    operations.close_request(consented.unlock_request, resolution="canceled", why="No.", by=factories.acting(agent))
    assert offered(agent_client, consented) == ("Issue a newer one (final)", "")
    post(agent_client, consented, "certify")
    assert offered(agent_client, consented) == (f"Show {consented.consent}-2", nothing_new)
    page = shown(agent_client, consented)
    assert '<span class="tag wait">Interim</span>' in page
    assert '<span class="tag good">Final</span>' in page
    assert "is marked INTERIM" not in page
    assert consented.refresh().unlock_request.status == "closed"


@pytest.mark.parametrize("role", ["agent", "manager", "auditor", "superuser"])
def test_every_role_issues_and_reads_certificates(request, role, consented):
    client = request.getfixturevalue(f"{role}_client")
    response = post(client, consented, "certify")
    assert response.status_code == 302
    assert client.get(file_of(consented, "{}.pdf")).status_code == 200
    assert client.get(file_of(consented, "other.pdf")).status_code == 404


def test_others_read_no_certificate(client, agent, consented):
    operations.issue_certificate(consented.consent, by=factories.acting(agent))
    files = [file_of(consented, name) for name in ("{}.pdf", "{}.json", "{}-batches.csv")]
    addresses = [reverse("admin:certificate", args=[consented.consent.pk, 1]), *files]
    assert [client.get(address).status_code for address in addresses] == [302] * 4
    client.force_login(factories.make_user("newcomer"))
    assert [client.get(address).status_code for address in addresses] == [403] * 4
    client.force_login(agent)
    assert [client.post(address).status_code for address in addresses] == [405] * 4
