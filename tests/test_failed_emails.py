"""Nothing says that something was sent when it was not: each page and paper, while no email server answers."""

import json
import re
import socket
from html import unescape

import pytest
from django.urls import reverse

from tests import factories
from tests.factories import acting, customer, record_certificate_key
from unlocks import operations
from unlocks.certificates import words
from unlocks.ledger import emails
from unlocks.texts.shown import shown_text

pytestmark = pytest.mark.django_db

SENT = re.compile(
    r"\b(?:was|is|were|has been) (?:also )?(?:e?mailed|sent)\b|\blink sent\b|(?<!not be )\bsent (?:to|again)\b",
    re.IGNORECASE,
)


@pytest.fixture
def no_server(settings):
    """Let emails go to a port on which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        settings.EMAIL_PORT = taken.getsockname()[1]
    settings.EMAIL_BACKEND, settings.EMAIL_HOST = "django.core.mail.backends.smtp.EmailBackend", "127.0.0.1"


@pytest.fixture
def delivered(django_capture_on_commit_callbacks):
    return lambda: django_capture_on_commit_callbacks(execute=True)


def said(client, address):
    page = client.get(address, follow=True).content.decode()
    main = page[page.index("<main") :]
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", main)).split())


def asked(agent, delivered):
    with delivered():
        return factories.case_awaiting(agent)


def test_a_link_that_could_not_be_emailed_is_red_until_one_was(agent, agent_client, no_server, delivered, settings):
    case = asked(agent, delivered)
    request_page, account_page = (
        case.unlock_request.get_absolute_url(),
        reverse("admin:unlocks_account_change", args=[case.account.pk]),
    )
    failed = f"The consent link could not be emailed to {case.admin.email}. Check the address and send it again."
    page = said(agent_client, request_page)
    next_step = f"The link could not be emailed to {case.admin.name} ({case.admin.email}); not opened yet. Check the"
    assert [text for text in ("Could not be emailed", next_step) if text not in page] == []
    assert failed not in page  # the next step says it already
    account = said(agent_client, account_page)
    assert f"could not be emailed to {case.admin.email}. {case.unlock_request}" in account
    assert [SENT.findall(text) for text in (page, account)] == [[], []]

    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    with delivered():
        operations.send_consent_link(case.unlock_request, contact=case.admin, by=acting(agent))
    assert emails.failures(case.account) == []
    page = said(agent_client, request_page)
    assert f"The link was emailed to {case.admin.name} ({case.admin.email})" in page
    assert (failed in page, "could not be emailed" in said(agent_client, account_page)) == (False, False)


def test_a_link_on_its_way_is_not_called_sent(agent, agent_client):
    case = factories.case_awaiting(agent)
    page = said(agent_client, case.unlock_request.get_absolute_url())
    assert f"The link is on its way to {case.admin.name} ({case.admin.email}); not opened yet." in page
    assert SENT.findall(page) == []


def test_a_pin_that_could_not_be_emailed_is_red_until_another_was(
    agent, manager, manager_client, agent_client, no_server, delivered, settings
):
    case = factories.open_case(agent)
    second = factories.make_contact(account=case.account)
    with delivered():
        operations.issue_pin(case.account, by=acting(manager))
    assert [(email.to, email.what_next) for email in emails.failures(case.account)] == [
        (contact.email, "Check the address, then have a new PIN issued.")
        for contact in case.account.contacts.filter(is_admin=True)
    ]
    for address in (
        reverse("admin:unlocks_account_change", args=[case.account.pk]),
        case.unlock_request.get_absolute_url(),
    ):
        page = said(manager_client, address)
        assert f"A new PIN could not be emailed to {second.email}." in page
        assert SENT.findall(page) == []
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    with delivered():
        operations.issue_pin(case.account, by=acting(manager))
    assert emails.failures(case.account) == []


def test_what_one_admin_got_does_not_settle_what_the_other_did_not(agent, manager, delivered, settings):
    case = factories.open_case(agent)
    bad = factories.make_contact(account=case.account, email="bad@customer.example")
    settings.EMAIL_BACKEND = "tests.test_failed_emails.RefusesOne"
    with delivered():
        operations.issue_pin(case.account, by=acting(manager))
    assert [email.to for email in emails.failures(case.account)] == [bad.email]


class RefusesOne:
    """An email server that does not know one of its mailboxes."""

    def __init__(self, **options):
        pass

    def send_messages(self, messages):
        if messages[0].to == ["bad@customer.example"]:
            raise OSError("Unknown mailbox")
        return 1


def test_no_page_or_paper_of_a_case_says_sent(agent, agent_client, client, no_server, delivered):
    record_certificate_key()
    case, by = asked(agent, delivered), customer
    link = case.link
    operations.open_consent_link(link, by=by(case.admin))
    operations.verify_customer_pin(link, pin=factories.PIN, by=by(case.admin))
    with delivered():
        case.consent, receipt = operations.give_consent(
            link,
            name=case.admin.name,
            role="Owner",
            shown=shown_text(link),
            by=by(case.admin),
        )
    ended = said(client, f"/consent/{case.token}/")
    assert "The receipt could not be emailed to the contact on file." in ended
    paper = said(client, f"/receipt/{receipt}/")
    assert f"It could not be emailed to {case.admin.email}: print this page, or save it." in paper
    pages = [
        ended,
        paper,
        said(client, "/receipt/withdraw/"),
        said(agent_client, case.unlock_request.get_absolute_url()),
        said(agent_client, reverse("admin:unlocks_consent_change", args=[case.consent.pk])),
        said(agent_client, reverse("admin:unlocks_account_change", args=[case.account.pk])),
    ]
    told = json.loads(operations.issue_certificate(case.consent, by=customer(case.admin)).content)["certificate"]
    certificate = words.paper(told)
    pages.append(" ".join(certificate.summary))
    pages += [f"{fact.label}: {fact.value}" for section in certificate.sections for fact in section.facts]
    assert [found for page in pages if (found := SENT.findall(page))] == []
    assert f"the link for {case.admin.email}, which could not be emailed," in " ".join(certificate.summary)
    assert told["link"]["emailed"] == "failed"

    with delivered():
        operations.withdraw_own_consent(case.consent, why="", by=by(case.admin))
    again = "Check the address, then send the receipt again."
    assert again in said(agent_client, case.unlock_request.get_absolute_url())
    assert SENT.findall(said(client, f"/receipt/{receipt}/")) == []


def test_a_certificate_says_emailed_when_it_was(agent, delivered):
    record_certificate_key()
    with delivered():
        case = factories.case_consented(agent)
    told = json.loads(operations.issue_certificate(case.consent, by=customer(case.admin)).content)["certificate"]
    assert told["link"]["emailed"] == "sent"
    assert f"They used the link emailed to {case.admin.email}" in " ".join(words.paper(told).summary)
