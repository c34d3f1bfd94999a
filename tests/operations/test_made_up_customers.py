"""Staff can not agree for a customer: by no contact of their own making, nor with PIN and link in one hand."""

import re
from contextlib import suppress

import pytest

from tests import factories
from tests.factories import (
    PIN,
    acting,
    agree,
    case_awaiting,
    case_consented,
    confirm,
    customer,
    enter_contact,
    make_account,
    make_batches,
    make_contact,
    make_token,
    open_case,
    while_the_pin_is_judged,
)
from unlocks import operations
from unlocks.models import Batch, Consent, ConsentLink
from unlocks.operations import Refused
from unlocks.rules import Refusal
from unlocks.texts.shown import shown_text

pytestmark = pytest.mark.django_db


def advised(agent, **fields):
    case = open_case(agent, **fields)
    operations.record_advice(case.unlock_request, advice="wants_export", by=acting(agent))
    return case


def test_whoever_entered_an_admin_sends_no_link_and_issues_no_pin(agent, manager, superuser):
    case = advised(agent)
    forged = make_contact(account=case.account)
    forged.email = "manager@vendor.example"
    operations.save_record(forged, by=acting(manager))
    # Neither a second person nor another address wash that off, and the link would go to the real Admin.
    confirm(forged, agent)
    forged.refresh_from_db()
    forged.email = "other@vendor.example"
    operations.save_record(forged, by=acting(superuser))

    with pytest.raises(Refused) as link:
        operations.send_consent_link(case.unlock_request, contact=case.admin, by=acting(manager))
    with pytest.raises(Refused) as pin:
        operations.issue_pin(case.account, by=acting(manager))

    assert (link.value.code, pin.value.code) == (Refusal.OWN_CONTACT, Refusal.OWN_CONTACT)
    assert ConsentLink.objects.count() == 0


def test_a_manager_who_makes_up_a_customer_gets_nowhere(agent, second_agent, manager, superuser, mailoutbox):
    """The manager knows what their own mailbox gets, and the others do what a customer asks for, as on any day."""

    def refused(call, by, *args, **kwargs):
        with factories.delivered(), pytest.raises(Refused) as caught:
            call(*args, **kwargs, by=acting(by))
        return caught.value.code

    def done(call, by, *args, **kwargs):
        with factories.delivered():
            return call(*args, **kwargs, by=acting(by))

    account = make_account()
    batches = make_batches(account=account, n=2)
    with factories.delivered():
        own = enter_contact(account=account, by=manager, name="Pat Example", email="manager@vendor.example")

    # The real Admin reads of it, and whoever opens a case in its name is told that it does not count.
    assert [mail.to for mail in mailoutbox] == [[account.contacts.confirmed_admins().get().email]]
    assert "Pat Example, manager@vendor.example" in mailoutbox[0].body
    asked = {"account": account, "requester": own, "channel": "phone", "bypass_reason": "by_mistake", "reason": "."}
    asked["batches"] = Batch.objects.filter(account=account)
    assert refused(operations.open_request, manager, **asked) == Refusal.NOT_CONFIRMED
    assert refused(operations.open_request, agent, **asked) == Refusal.NOT_CONFIRMED

    # In the name of the real Admin it goes on as far as the link, which goes to that Admin alone, as any new PIN does.
    case = done(operations.open_request, manager, **asked | {"requester": account.contacts.confirmed_admins().get()})
    done(operations.record_advice, manager, case, advice="wants_export")
    done(operations.assign, manager, case, to=agent)
    assert refused(operations.send_consent_link, agent, case, contact=own) == Refusal.NOT_CONFIRMED
    assert refused(operations.send_consent_link, manager, case, contact=own) == Refusal.NOT_CONFIRMED
    assert refused(operations.send_consent_link, manager, case, contact=case.requester) == Refusal.OWN_CONTACT
    assert refused(operations.issue_pin, manager, account) == Refusal.OWN_CONTACT
    done(operations.issue_pin, superuser, account)
    assert "manager@vendor.example" not in [address for mail in mailoutbox for address in mail.to]

    # Not even somebody who confirms without looking is enough: it takes three who were all deceived.
    own_address = {"address": own.email, "how": "They say so"}
    assert refused(operations.confirm_contact, manager, own, **own_address) == Refusal.OWN_CONTACT
    done(operations.confirm_contact, second_agent, own, **own_address)
    assert refused(operations.send_consent_link, manager, case, contact=own) == Refusal.OWN_CONTACT
    assert refused(operations.issue_pin, manager, account) == Refusal.OWN_CONTACT
    done(operations.issue_pin, superuser, account)
    pin = re.search(r"^\d{6}$", mailoutbox[-1].body, re.MULTILINE)[0]
    link = done(operations.send_consent_link, agent, case, contact=own)
    by = customer(own)
    operations.open_consent_link(link, by=by)
    operations.verify_customer_pin(link, pin=pin, by=by)
    operations.give_consent(link, name="Pat Example", role="Owner", shown=shown_text(link), by=by)
    rows = Batch.objects.filter(pk__in=[batch.pk for batch in batches])
    verdicts = factories.unlock(rows, by=acting(manager)).verdicts
    assert set(verdicts.values_list("refusal", flat=True)) == {Refusal.OWN_CUSTOMERS_ADDRESS}
    assert not Batch.objects.filter(status="unlocked").exists()


def test_whoever_changed_only_the_phone_may(agent, manager):
    case = advised(agent)
    case.admin.phone = "1"
    operations.save_record(case.admin, by=acting(manager))

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


def test_whoever_made_a_token_that_sets_pins_is_not_shown_the_link(agent, superuser, settings):
    settings.SHOW_CONSENT_LINK = True
    make_token("feed", "contacts", by=superuser)
    assert shown_to(advised(agent), superuser) == superuser
    make_token("feed", "pins", by=superuser)
    assert shown_to(advised(agent), superuser) is None


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
    return set(factories.unlock(case.rows, by=acting(user)).verdicts.values_list("refusal", flat=True))


def test_whoever_was_shown_the_link_types_no_pin(agent, second_agent, settings):
    settings.SHOW_CONSENT_LINK = True
    case = case_awaiting(agent)

    with pytest.raises(Refused) as refused:
        operations.verify_pin(case.unlock_request, pin=PIN, by=acting(agent))

    assert refused.value.code == Refusal.LINK_SEEN
    assert operations.verify_pin(case.unlock_request, pin=PIN, by=acting(second_agent)).pin_typed_by == "agent"


@pytest.mark.parametrize("pin", [PIN, "000000"])
def test_a_link_sent_while_the_pin_is_judged_is_not_shown(agent, settings, pin):
    settings.SHOW_CONSENT_LINK = True
    case = advised(agent)

    assert while_the_pin_is_judged(case, lambda: shown_to(case, agent), pin=pin, user=agent) is None


@pytest.mark.parametrize("pin", [PIN, "000000"])
def test_a_request_closed_while_the_pin_is_judged_hides_no_try(agent, settings, pin):
    """Whether the PIN was right can be told from the answer, so whoever typed it counts as knowing it."""
    settings.SHOW_CONSENT_LINK = True
    case = advised(agent)
    other = advised(agent, account=case.account)

    def cancel():
        operations.close_request(case.unlock_request, resolution="canceled", why="Not needed", by=acting(agent))

    while_the_pin_is_judged(case, cancel, pin=pin, user=agent)

    assert case.refresh().unlock_request.status == "closed"
    assert shown_to(other, agent) is None


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
    factories.issue_pin(case.account, by=manager)

    with pytest.raises(Refused) as refused:
        operations.give_consent(link, name="A", role="B", shown=shown_text(link), by=by)

    assert refused.value.code == Refusal.PIN_STALE
    assert Consent.objects.count() == 0


def test_a_link_sent_to_an_old_address_is_dead(agent, manager):
    case = case_awaiting(agent)
    case.admin.email = "right@customer.example"
    operations.save_record(case.admin, by=acting(manager))

    assert operations.link_state(operations.link_for(case.token)) == "revoked"


def test_nobody_acts_who_is_not_staff_any_more(agent):
    account = make_account()
    agent.is_staff = False
    agent.save()

    assert not acting(agent).may("unlocks.open_request")
    assert account.pin_failures == 0
