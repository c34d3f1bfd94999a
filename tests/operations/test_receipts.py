"""A receipt that was lost or came back is mailed again, with a link of its own."""

import pytest

from tests import factories
from tests.factories import acting, case_awaiting, case_consented, case_recorded_by_phone, confirm, customer
from tests.operations import kinds, only_for, recorded, refused
from unlocks import history, operations
from unlocks.actors import Actor
from unlocks.models import ResentReceipt
from unlocks.rules import Refusal
from unlocks.texts.shown import shown_text

pytestmark = pytest.mark.django_db


@pytest.fixture
def resend(mailoutbox):
    def resent(consent, by):
        with factories.delivered():
            operations.resend_receipt(consent, by=acting(by))
        message = mailoutbox[-1]
        return message, message.body.split("/receipt/")[1].split("/")[0]

    return resent


def test_both_links_open_the_receipt(agent, resend):
    case = case_consented(agent)
    message, token = resend(case.consent, agent)
    assert (message.to, message.subject) == (
        [case.admin.email],
        f"{case.consent.reference}: receipt for your consent (sent again)",
    )
    assert operations.receipt_for(token) == operations.receipt_for(case.receipt) == case.consent
    assert token != case.receipt
    assert kinds(case.unlock_request)[-2:] == ["receipt_resent", "email_sent"]
    assert not any(token in str(facts) for _, facts in recorded())


def test_goes_to_the_address_that_is_on_file_now(agent, resend):
    case = case_consented(agent)
    case.admin.email = "right@customer.example"
    history.save(case.admin, by=Actor.desk())
    message, _ = resend(case.consent, agent)
    assert message.to == ["right@customer.example"]
    assert ResentReceipt.objects.values_list("consent", "email", "sent_by").get() == (
        case.consent.pk,
        "right@customer.example",
        agent.pk,
    )


def test_not_to_an_address_that_one_changed_oneself(manager, agent):
    case = case_consented(agent)
    case.admin.email = "mine@example.com"
    operations.save_record(case.admin, by=acting(manager))
    with refused(Refusal.NOT_CONFIRMED):
        operations.resend_receipt(case.consent, by=acting(agent))
    confirm(case.admin, agent)
    with refused(Refusal.OWN_CONTACT):
        operations.resend_receipt(case.consent, by=acting(manager))


def test_not_to_somebody_who_is_no_admin_any_more(agent):
    case = case_consented(agent)
    case.admin.is_admin = False
    history.save(case.admin, by=Actor.desk())
    with refused(Refusal.NOT_AN_ADMIN):
        operations.resend_receipt(case.consent, by=acting(agent))


def test_says_how_the_consent_stands(agent, resend):
    recorded_by_phone, withdrawn, declined = case_recorded_by_phone(agent), case_consented(agent), case_awaiting(agent)
    operations.withdraw_consent(withdrawn.consent, why="Asked", by=acting(agent))
    by = customer(declined.admin)
    operations.open_consent_link(declined.link, by=by)
    declined.consent, _ = operations.decline_consent(
        declined.link, name="Dana Whitfield", role="", why="", shown=shown_text(declined.link), by=by
    )
    said = [resend(case.consent, agent)[0].subject.split(": ")[1] for case in (recorded_by_phone, withdrawn, declined)]
    assert said == [
        "please check the consent recorded by phone (sent again)",
        "your consent was withdrawn",
        "we recorded that you do not agree",
    ]


def test_only_for_those_who_send_links(agent):
    case = case_consented(agent)
    only_for(["Agent", "Manager"], lambda by: operations.resend_receipt(case.consent, by=by))
    assert ResentReceipt.objects.count() == 2
