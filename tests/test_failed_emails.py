"""Nothing says that something was sent when it was not: each page and paper, while it waits, is refused or canceled."""

import json
import re
from datetime import timedelta
from html import unescape

import pytest
import time_machine
from django.urls import reverse
from django.utils import timezone

from tests import factories, mail_servers
from tests.factories import acting, customer, deliver, record_certificate_key
from unlocks import operations
from unlocks.certificates import words
from unlocks.database import guards
from unlocks.ledger import emails
from unlocks.models import Outgoing
from unlocks.texts.shown import shown_text

pytestmark = pytest.mark.django_db

SENT = re.compile(
    r"\b(?:was|is|were|has been) (?:also )?(?:e?mailed|sent)\b|\blink sent\b"
    r"|(?<!not )(?<!not be )(?<!to be )\bsent (?:to|again)\b",
    re.IGNORECASE,
)


@pytest.fixture
def refusing():
    """A server that takes no email."""
    with mail_servers.running() as server:
        server.answers["RCPT"] = "550 No such mailbox"
        yield server


@pytest.fixture
def no_server():
    with mail_servers.none():
        yield


def said(client, address):
    page = client.get(address, follow=True).content.decode()
    main = page[page.index("<main") :]
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", main)).split())


def account_page(case):
    return reverse("admin:unlocks_account_change", args=[case.account.pk])


def asked(agent):
    case = factories.case_awaiting(agent)
    deliver()
    return case


def test_a_link_that_was_refused_is_red_until_one_was_sent(agent, agent_client, refusing):
    case = asked(agent)
    to = case.admin.email
    failed = f"The consent link could not be emailed to {to}. Check the address and send it again."
    page = said(agent_client, case.unlock_request.get_absolute_url())
    next_step = f"The link could not be emailed to {case.admin.name} ({to}): 550 No such mailbox; not opened yet. Check"
    assert [text for text in ("Could not be emailed", "(550 No such mailbox)", next_step) if text not in page] == []
    assert failed not in page  # the next step says it already
    account = said(agent_client, account_page(case))
    assert f"could not be emailed to {to}. {case.unlock_request}" in account
    assert [SENT.findall(text) for text in (page, account)] == [[], []]

    refusing.answers.clear()
    operations.send_consent_link(case.unlock_request, contact=case.admin, by=acting(agent))
    deliver()
    assert [email["To"] for email in refusing.received] == [to]
    assert emails.failures(case.account) == []
    page = said(agent_client, case.unlock_request.get_absolute_url())
    assert f"The link was emailed to {case.admin.name} ({to})" in page
    assert (failed in page, "could not be emailed" in said(agent_client, account_page(case))) == (False, False)


def test_a_link_that_waits_is_not_called_sent(agent, agent_client):
    case = factories.case_awaiting(agent)
    page = said(agent_client, case.unlock_request.get_absolute_url())
    assert f"The link for {case.admin.name} ({case.admin.email}) waits to be sent; not opened yet." in page
    assert "Link waits to be sent" in page
    assert SENT.findall(page) == []


def test_a_link_for_which_there_is_no_server_says_how_often_it_was_tried(agent, agent_client, no_server):
    case = asked(agent)
    with time_machine.travel(timezone.now() + timedelta(seconds=6)):
        deliver()
        page = said(agent_client, case.unlock_request.get_absolute_url())
    waits = "waits to be sent, tried 2 times (last answer: ConnectionRefusedError: [Errno 111] Connection refused)"
    assert page.count(waits) == 2  # the next step, and the link
    assert (SENT.findall(page), emails.failures(case.account)) == ([], [])


def test_a_link_that_was_given_up_is_red(agent, agent_client, no_server):
    case = asked(agent)
    with time_machine.travel(timezone.now(), tick=False) as clock:
        for hours in (1, 3, 9, 20, 40):
            clock.shift(timedelta(hours=hours))
            deliver()
    page = said(agent_client, case.unlock_request.get_absolute_url())
    assert "given up; last answer: ConnectionRefusedError: [Errno 111] Connection refused" in page
    assert [email.to for email in emails.failures(case.account)] == [case.admin.email]
    assert SENT.findall(page) == []


def test_a_link_that_was_used_before_it_was_sent_is_not_sent(agent, agent_client, mailoutbox):
    record_certificate_key()
    case = factories.case_consented(agent)
    consent_page = reverse("admin:unlocks_consent_change", args=[case.consent.pk])
    pages = [case.unlock_request.get_absolute_url(), consent_page]
    before = [said(agent_client, address) for address in pages]
    assert ["not emailed so far" in page for page in before] == [True, True]
    deliver()
    assert [message.subject for message in mailoutbox] == [f"{case.consent.reference}: receipt for your consent"]
    after = [said(agent_client, address) for address in pages]
    assert ["Not emailed The link was used before." in page for page in after] == [True, True]
    told = json.loads(operations.issue_certificate(case.consent, by=customer(case.admin)).content)["certificate"]
    assert told["link"]["emailed"] == "not_sent"
    assert f"the link for {case.admin.email} (which was not emailed)" in " ".join(words.paper(told).summary)
    assert "Email not sent : the consent link to" in after[0]
    assert emails.failures(case.account) == []


def test_a_pin_that_was_refused_is_red_until_another_was_sent(agent, manager, manager_client, refusing):
    case = factories.open_case(agent)
    second = factories.make_contact(account=case.account)
    operations.issue_pin(case.account, by=acting(manager))
    deliver()
    assert [(email.to, email.what_next) for email in emails.failures(case.account)] == [
        (contact.email, "Check the address, then have a new PIN issued.")
        for contact in case.account.contacts.filter(is_admin=True)
    ]
    for address in (account_page(case), case.unlock_request.get_absolute_url()):
        page = said(manager_client, address)
        assert f"A new PIN could not be emailed to {second.email}." in page
        assert SENT.findall(page) == []
    refusing.answers.clear()
    operations.issue_pin(case.account, by=acting(manager))
    deliver()
    assert emails.failures(case.account) == []


def test_what_one_admin_got_does_not_settle_what_the_other_did_not(agent, manager):
    case = factories.open_case(agent)
    bad = factories.make_contact(account=case.account, email="bad@customer.example")
    with mail_servers.running() as server:
        server.answers[bad.email] = "550 No such mailbox"
        operations.issue_pin(case.account, by=acting(manager))
        deliver()
    assert [email["To"] for email in server.received] == [case.admin.email]
    assert [email.to for email in emails.failures(case.account)] == [bad.email]


def test_a_receipt_whose_address_changed_is_not_sent(agent, second_agent, manager, agent_client, client, mailoutbox):
    case = factories.case_consented(agent)
    case.admin.email = "new@customer.example"
    operations.save_record(case.admin, by=acting(manager))
    deliver()
    old = case.consent.email
    assert [message.to for message in mailoutbox if case.consent.reference in message.subject] == []
    page = said(agent_client, case.unlock_request.get_absolute_url())
    assert (
        f"The receipt of the consent was not emailed to {old}. Another address is on file for the contact now." in page
    )
    assert f"It was not emailed to {old}: print this page, or save it." in said(client, f"/receipt/{case.receipt}/")
    assert SENT.findall(page) == []
    factories.confirm(case.admin, second_agent)
    operations.resend_receipt(case.consent, by=acting(agent))
    deliver()
    assert emails.failures(case.account) == []


def test_no_page_or_paper_of_a_case_says_sent(agent, agent_client, client, refusing):
    record_certificate_key()
    case, by = asked(agent), customer
    link = case.link
    operations.open_consent_link(link, by=by(case.admin))
    operations.verify_customer_pin(link, pin=factories.PIN, by=by(case.admin))
    case.consent, receipt = operations.give_consent(
        link,
        name=case.admin.name,
        role="Owner",
        shown=shown_text(link),
        by=by(case.admin),
    )

    def ended_and_paper():
        return said(client, f"/consent/{case.token}/"), said(client, f"/receipt/{receipt}/")

    ended, paper = waiting = ended_and_paper()
    assert "The receipt waits to be emailed to the contact on file." in ended
    assert f"It also waits to be emailed to {case.admin.email}." in paper
    deliver()
    ended, paper = ended_and_paper()
    assert "The receipt could not be emailed to the contact on file." in ended
    assert f"It could not be emailed to {case.admin.email}: print this page, or save it." in paper
    pages = [
        *waiting,
        ended,
        paper,
        said(client, "/receipt/withdraw/"),
        said(agent_client, case.unlock_request.get_absolute_url()),
        said(agent_client, reverse("admin:unlocks_consent_change", args=[case.consent.pk])),
        said(agent_client, account_page(case)),
    ]
    told = json.loads(operations.issue_certificate(case.consent, by=customer(case.admin)).content)["certificate"]
    certificate = words.paper(told)
    pages.append(" ".join(certificate.summary))
    pages += [f"{fact.label}: {fact.value}" for section in certificate.sections for fact in section.facts]
    assert [found for page in pages if (found := SENT.findall(page))] == []
    assert f"the link for {case.admin.email} (which could not be emailed)" in " ".join(certificate.summary)
    assert told["link"]["emailed"] == "failed"

    operations.withdraw_own_consent(case.consent, why="", by=by(case.admin))
    deliver()
    again = "Check the address, then send the receipt again."
    assert again in said(agent_client, case.unlock_request.get_absolute_url())
    assert SENT.findall(said(client, f"/receipt/{receipt}/")) == []


def test_a_certificate_says_emailed_when_it_was(agent):
    record_certificate_key()
    case = factories.agree(asked(agent))
    told = json.loads(operations.issue_certificate(case.consent, by=customer(case.admin)).content)["certificate"]
    assert told["link"]["emailed"] == "sent"
    assert f"They used the link emailed to {case.admin.email}" in " ".join(words.paper(told).summary)


def test_a_copy_that_arrived_is_not_denied_when_another_is_refused(agent, agent_client, client, mailoutbox):
    case = factories.case_consented(agent)
    deliver()
    operations.resend_receipt(case.consent, by=acting(agent))
    with mail_servers.running() as server:
        server.answers["RCPT"] = "550 No such mailbox"
        deliver()
    assert "an earlier one was sent" in said(agent_client, case.unlock_request.get_absolute_url())
    assert "The receipt was emailed to the contact on file." in said(client, f"/consent/{case.token}/")


def test_where_nothing_is_recorded_of_an_email_nothing_is_claimed(agent, agent_client, client):
    case, waiting = factories.case_consented(agent), factories.case_awaiting(agent)
    with guards.lifted():
        Outgoing.objects.all().delete()
    assert "Whether the link was emailed to" in said(agent_client, waiting.unlock_request.get_absolute_url())
    assert "whether it was emailed is not recorded" in said(agent_client, case.unlock_request.get_absolute_url())
    assert "Whether the receipt was emailed is not recorded." in said(client, f"/consent/{case.token}/")
