"""Staff can not agree for a customer: by no contact of their own making, nor with PIN and link in one hand."""

from contextlib import suppress

import pytest

from tests.factories import (
    PIN,
    acting,
    agree,
    case_awaiting,
    case_consented,
    customer,
    make_account,
    make_contact,
    open_case,
)
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


def shown_to(case, user):
    return operations.send_consent_link(case.unlock_request, contact=case.admin, by=acting(user)).shown_to


def test_no_one_is_shown_the_link(agent):
    assert shown_to(advised(agent), agent) is None


@pytest.mark.parametrize("pin", [PIN, "000000"])
def test_whoever_typed_a_pin_is_not_shown_the_link(agent, second_agent, settings, pin):
    settings.SHOW_CONSENT_LINK = True
    case = advised(agent)
    with suppress(Refused):
        operations.verify_pin(case.unlock_request, pin=pin, by=acting(agent))

    assert (shown_to(case, agent), shown_to(case, second_agent)) == (None, second_agent)


def test_whoever_was_shown_the_link_unlocks_nothing(agent, second_agent, settings):
    settings.SHOW_CONSENT_LINK = True
    case = case_consented(agent)

    assert refusals(case, agent) == {Refusal.OWN_CUSTOMER}
    assert refusals(case, second_agent) == {""}


@pytest.mark.parametrize("pin", [PIN, "000000"])
def test_whoever_typed_a_pin_for_the_request_unlocks_nothing(agent, second_agent, pin):
    case = advised(agent)
    with suppress(Refused):
        operations.verify_pin(case.unlock_request, pin=pin, by=acting(agent))
    case.url = operations.send_consent_link(case.unlock_request, contact=case.admin, by=acting(agent)).url
    agree(case)

    assert refusals(case, agent) == {Refusal.OWN_CUSTOMER}
    assert refusals(case, second_agent) == {""}


def test_a_pin_typed_while_it_is_locked_counts_too(agent, second_agent, manager, settings):
    settings.SHOW_CONSENT_LINK = True
    case = advised(agent)
    for _ in range(5):
        with suppress(Refused):
            operations.verify_pin(case.unlock_request, pin="000000", by=acting(second_agent))
    with pytest.raises(Refused) as refused:
        operations.verify_pin(case.unlock_request, pin=PIN, by=acting(agent))

    assert refused.value.code == Refusal.PIN_LOCKED
    assert (shown_to(case, agent), shown_to(case, manager)) == (None, manager)


def refusals(case, user):
    return set(operations.unlock(case.rows, by=acting(user)).verdicts.values_list("refusal", flat=True))


def test_whoever_was_shown_the_link_types_no_pin(agent, second_agent, settings):
    settings.SHOW_CONSENT_LINK = True
    case = case_awaiting(agent)

    with pytest.raises(Refused) as refused:
        operations.verify_pin(case.unlock_request, pin=PIN, by=acting(agent))

    assert refused.value.code == Refusal.LINK_SEEN
    assert operations.verify_pin(case.unlock_request, pin=PIN, by=acting(second_agent)).pin_typed_by == "agent"


def test_a_link_of_another_request_of_the_account_counts_as_well(agent, second_agent, settings):
    settings.SHOW_CONSENT_LINK = True
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
