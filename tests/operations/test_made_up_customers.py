"""Staff can not agree for a customer: by no contact of their own making, nor with PIN and link in one hand."""

import pytest

from tests.factories import PIN, acting, case_awaiting, customer, make_account, make_contact, open_case
from unlocks import history, operations
from unlocks.models import Consent, ConsentLink
from unlocks.operations import Refused
from unlocks.rules import Refusal
from unlocks.texts.shown import shown_text

pytestmark = pytest.mark.django_db


def advised(agent, **fields):
    case = open_case(agent, **fields)
    operations.record_advice(case.unlock_request, advice="wants_export", by=acting(agent))
    return case


def test_whoever_entered_an_admin_sends_no_link_and_issues_no_pin(agent, manager):
    case = advised(agent)
    forged = make_contact(account=case.account)
    forged.email = "manager@vendor.example"
    history.save(forged, by=acting(manager))
    # Another's harmless change does not wash that off, and the link would go to the real Admin.
    forged.phone = "1"
    history.save(forged, by=acting(agent))

    with pytest.raises(Refused) as link:
        operations.send_consent_link(case.unlock_request, contact=case.admin, by=acting(manager))
    with pytest.raises(Refused) as pin:
        operations.issue_pin(case.account, by=acting(manager))

    assert (link.value.code, pin.value.code) == (Refusal.OWN_CONTACT, Refusal.OWN_CONTACT)
    assert ConsentLink.objects.count() == 0


def test_whoever_changed_only_the_phone_may(agent, manager):
    case = advised(agent)
    case.admin.phone = "1"
    history.save(case.admin, by=acting(manager))

    assert operations.send_consent_link(case.unlock_request, contact=case.admin, by=acting(manager))


def test_whoever_typed_the_pin_is_not_shown_the_link(agent, second_agent):
    case = advised(agent)
    operations.verify_pin(case.unlock_request, pin=PIN, by=acting(agent))

    assert operations.send_consent_link(case.unlock_request, contact=case.admin, by=acting(agent)) == ""
    assert operations.send_consent_link(case.unlock_request, contact=case.admin, by=acting(second_agent)) != ""


def test_whoever_was_shown_the_link_types_no_pin(agent, second_agent):
    case = case_awaiting(agent)

    with pytest.raises(Refused) as refused:
        operations.verify_pin(case.unlock_request, pin=PIN, by=acting(agent))

    assert refused.value.code == Refusal.LINK_SEEN
    assert operations.verify_pin(case.unlock_request, pin=PIN, by=acting(second_agent)).pin_typed_by == "agent"


def test_a_link_of_another_request_of_the_account_counts_as_well(agent, second_agent):
    shown = case_awaiting(agent)
    other = open_case(agent, account=shown.account)

    with pytest.raises(Refused) as refused:
        operations.verify_pin(other.unlock_request, pin=PIN, by=acting(agent))

    assert refused.value.code == Refusal.LINK_SEEN
    assert operations.link_seen(other.unlock_request, agent)
    assert not operations.link_seen(other.unlock_request, second_agent)
    operations.revoke_consent_link(shown.unlock_request, by=acting(agent))
    assert operations.verify_pin(other.unlock_request, pin=PIN, by=acting(agent)).pin_typed_by == "agent"


def test_a_pin_issued_meanwhile_ends_what_the_old_one_verified(agent, manager):
    case = case_awaiting(agent)
    link, by = case.link, customer(case.admin)
    operations.open_consent_link(link, by=by)
    operations.verify_customer_pin(link, pin=PIN, by=by)
    operations.issue_pin(case.account, by=acting(manager))

    with pytest.raises(Refused) as refused:
        operations.give_consent(link, name="A", role="B", shown=shown_text(link), by=by)

    assert refused.value.code == Refusal.PIN_STALE
    assert Consent.objects.count() == 0


def test_a_link_sent_to_an_old_address_is_dead(agent, manager):
    case = case_awaiting(agent)
    case.admin.email = "right@customer.example"
    history.save(case.admin, by=acting(manager))

    assert operations.link_state(operations.link_for(case.token)) == "revoked"


def test_nobody_acts_who_is_not_staff_any_more(agent):
    account = make_account()
    agent.is_staff = False
    agent.save()

    assert not acting(agent).may("unlocks.open_request")
    assert account.pin_failures == 0
