"""A consent that staff take down on the phone: the weaker kind, with the PIN verified, and unlocked by another."""

from datetime import timedelta

import pytest
import time_machine
from django.core import mail
from django.test import override_settings
from django.utils import timezone

from tests import factories
from tests.factories import (
    PIN,
    acting,
    case_awaiting,
    case_consented,
    case_recorded_by_phone,
    case_unlocked,
    customer,
    enter_contact,
    make_account,
    make_contact,
    open_case,
    record_by_phone,
)
from tests.operations import kinds, only_for, refused
from unlocks import history, operations
from unlocks.actors import Actor
from unlocks.models import Consent, ConsentedBatch, ConsentWithdrawal
from unlocks.rules import Refusal
from unlocks.texts import wording
from unlocks.texts.shown import shown_text, text_to_read_out

pytestmark = pytest.mark.django_db


def test_what_is_read_out_promises_what_holds_on_the_phone_and_no_signature(agent):
    text = text_to_read_out(open_case(agent).unlock_request)
    assert "\n".join([wording.SAYING_YES_HEADING, *(f"- {sentence}" for sentence in wording.SAYING_YES)]) in text
    assert ("You give no electronic signature." in text, "is your electronic signature" in text) == (True, False)
    assert ("IP address" in text, wording.AGREEING_HEADING in text) == (False, False)


@pytest.fixture(autouse=True)
def _policy_allows_it(settings):
    settings.PHONE_CONSENT = True


def advised(agent, **fields):
    case = open_case(agent, **fields)
    operations.record_advice(case.unlock_request, advice="wants_export", by=acting(agent))
    return case.refresh()


def verified(agent, **fields):
    case = advised(agent, **fields)
    operations.verify_pin(case.unlock_request, pin=PIN, by=acting(agent))
    return case.refresh()


def asked_on_the_phone(case, by, **fields):
    return operations.record_phone_consent(
        case.unlock_request,
        **{
            "contact": case.admin,
            "name": "Ann Admin",
            "role": "Owner",
            "shown": text_to_read_out(case.unlock_request),
            "by": acting(by),
        }
        | fields,
    )


def test_records_who_agreed_and_who_wrote_it_down(agent):
    case = verified(agent)
    text = text_to_read_out(case.unlock_request)

    consent = asked_on_the_phone(case, agent)

    consent = Consent.objects.get(pk=consent.pk)
    assert (consent.how, consent.decision, consent.recorded_by, consent.link) == ("phone", "agreed", agent, None)
    assert (consent.signer_name, consent.signer_role) == ("Ann Admin", "Owner")
    assert (consent.contact, consent.contact_name, consent.email) == (case.admin, case.admin.name, case.admin.email)
    assert (consent.text, consent.ticked, consent.pressed, consent.ip, consent.browser) == (text, [], "", None, "")
    assert (consent.pin_verified_at, consent.pin_typed_by) == (case.unlock_request.pin_verified_at, "agent")
    assert consent.valid_until - consent.given_at == timedelta(hours=72)
    assert case.refresh().unlock_request.status == "consented"
    assert kinds(case.unlock_request) == ["opened", "advised", "pin_typed", "pin_verified", "recorded_by_phone"]
    assert case.unlock_request.entries.latest("sequence").about_id == consent.pk
    assert list(case.unlock_request.history.values_list("status", flat=True))[:3] == [
        "consented",
        "awaiting_consent",
        "open",
    ]


def test_keeps_each_batch_as_it_stood(agent):
    case = verified(agent)
    consent = asked_on_the_phone(case, agent)
    case.refresh()
    assert list(ConsentedBatch.objects.filter(consent=consent).order_by("batch").values_list(*SNAPSHOT)) == [
        (batch.pk, batch.number, batch.name, batch.total, batch.item_count, batch.fingerprint) for batch in case.batches
    ]


SNAPSHOT = ("batch", "number", "name", "total", "item_count", "fingerprint")


def test_says_on_its_face_what_it_is(agent):
    case = verified(agent)
    lines = text_to_read_out(case.unlock_request).splitlines()
    assert lines[:2] == [
        f"Unlock bypassed batches ({case.unlock_request.reference})",
        "RECORDED BY PHONE. Support reads this text to you on the phone and records your answer. You press no button "
        "and sign nothing. The long number after each batch identifies its content for the record and does not need "
        "to be read out.",
    ]
    assert lines[-3:] == [
        "The questions",
        f"Are you authorized to decide this for {case.account.name}?",
        "Do you agree to these terms (version 1)?",
    ]


def test_tells_the_customer_by_mail(agent):
    case = verified(agent)
    with factories.delivered():
        consent = asked_on_the_phone(case, agent)

    (message,) = mail.outbox
    assert message.to == [case.admin.email]
    assert message.subject == f"{consent.reference}: please check the consent recorded by phone"
    assert consent.text in message.body
    token = message.body.split("/receipt/")[1].split("/")[0]
    assert operations.receipt_for(token) == consent


def test_another_person_unlocks(agent, second_agent):
    case = case_recorded_by_phone(agent)

    own = factories.unlock(case.rows, by=acting(agent))
    assert set(own.verdicts.values_list("refusal", flat=True)) == {"own_recording"}
    assert {batch.status for batch in case.refresh().batches} == {"bypassed"}

    others = factories.unlock(case.rows, by=acting(second_agent))
    assert set(others.verdicts.values_list("refusal", flat=True)) == {""}
    assert {batch.status for batch in case.refresh().batches} == {"unlocked"}


def test_a_superuser_who_took_it_down_is_no_other_person(superuser):
    case = case_recorded_by_phone(superuser)
    act = factories.unlock(case.rows, by=acting(superuser))
    assert set(act.verdicts.values_list("refusal", flat=True)) == {"own_recording"}


def test_only_for_those_who_take_consents_down(agent):
    case = verified(agent)
    only_for(["Agent", "Manager"], lambda by: operations.record_phone_consent(**arguments(case), by=by))
    assert not Consent.objects.exists()


def arguments(case):
    return {
        "unlock_request": case.unlock_request,
        "contact": case.admin,
        "name": "Ann Admin",
        "role": "Owner",
        "shown": text_to_read_out(case.unlock_request),
    }


def test_the_policy_has_to_allow_it(agent):
    case = verified(agent)
    with override_settings(PHONE_CONSENT=False):
        assert operations.obstacle_to_phone_consent(case.unlock_request, agent) == Refusal.PHONE_CONSENT_OFF.label
        with refused(Refusal.PHONE_CONSENT_OFF):
            asked_on_the_phone(case, agent)
    assert operations.obstacle_to_phone_consent(case.unlock_request, agent) == ""


def test_the_safer_route_comes_first(agent):
    case = open_case(agent)
    operations.verify_pin(case.unlock_request, pin=PIN, by=acting(agent))
    case.refresh()
    with refused(Refusal.ADVICE_FIRST):
        asked_on_the_phone(case, agent)


def test_needs_the_pin_verified_for_this_request(agent):
    other = verified(agent)
    case = advised(agent, account=other.account)
    with refused(Refusal.PIN_NOT_BY_YOU):
        asked_on_the_phone(case, agent)


def test_needs_the_pin_verified_by_the_same_person(agent, second_agent):
    case = verified(agent)
    with refused(Refusal.PIN_NOT_BY_YOU):
        asked_on_the_phone(case, second_agent)


def test_the_pin_counts_for_thirty_minutes(agent):
    case = verified(agent)
    too_late = time_machine.travel(case.unlock_request.pin_verified_at + timedelta(minutes=30, seconds=1))
    with too_late, refused(Refusal.PIN_NOT_BY_YOU):
        asked_on_the_phone(case, agent)
    with time_machine.travel(case.unlock_request.pin_verified_at + timedelta(minutes=29)):
        asked_on_the_phone(case, agent)


def test_a_pin_that_was_replaced_counts_no_more(agent, manager):
    case = verified(agent)
    factories.issue_pin(case.account, by=manager)
    case.refresh()
    with refused(Refusal.PIN_NOT_BY_YOU):
        asked_on_the_phone(case, agent)


def test_a_pin_that_the_customer_typed_is_not_the_agents(agent):
    case = case_awaiting(agent)
    operations.open_consent_link(case.link, by=customer(case.admin))
    operations.verify_customer_pin(case.link, pin=PIN, by=customer(case.admin))
    with refused(Refusal.PIN_NOT_BY_YOU):
        asked_on_the_phone(case, agent)


def test_a_pin_time_written_past_the_verb_is_not_enough(agent):
    case = advised(agent)
    case.unlock_request.pin_verified_at, case.unlock_request.pin_verified_by = timezone.now(), agent
    history.save(case.unlock_request, by=Actor.desk())
    with refused(Refusal.PIN_NOT_BY_YOU):
        asked_on_the_phone(case, agent)


def test_goes_to_an_admin_of_the_account(agent):
    case = verified(agent)
    nobody = make_contact(account=case.account, is_admin=False)
    stranger = make_account().contacts.get()
    with refused(Refusal.NOT_AN_ADMIN):
        asked_on_the_phone(case, agent, contact=nobody)
    with refused(Refusal.NOT_AN_ADMIN):
        asked_on_the_phone(case, agent, contact=stranger)


def test_not_for_a_contact_of_ones_own_making(agent, manager):
    case = verified(manager)
    case.admin.email = "made-up@example.com"
    operations.save_record(case.admin, by=acting(manager))
    with refused(Refusal.OWN_CONTACT):
        asked_on_the_phone(case, manager)


def test_not_for_an_admin_whom_nobody_confirmed(agent, manager):
    case = verified(agent)
    typed = enter_contact(account=case.account, by=manager)
    with refused(Refusal.NOT_CONFIRMED):
        asked_on_the_phone(case, agent, contact=typed)


def test_what_was_read_out_must_still_hold(agent):
    case = verified(agent)
    shown = text_to_read_out(case.unlock_request)
    history.update(case.batch.items.all(), by=Actor.desk(), memo="Changed while reading")
    with refused(Refusal.CHANGED_WHILE_READING):
        asked_on_the_phone(case, agent, shown=shown)


def test_the_text_of_the_link_is_not_what_was_read_out(agent):
    case = case_awaiting(agent)
    shown = shown_text(case.link)
    operations.revoke_consent_link(case.unlock_request, by=acting(agent))
    operations.verify_pin(case.unlock_request, pin=PIN, by=acting(agent))
    case.refresh()
    with refused(Refusal.CHANGED_WHILE_READING):
        asked_on_the_phone(case, agent, shown=shown)


def test_a_link_that_is_out_ends_with_it(agent, second_agent):
    case = case_awaiting(agent)
    record_by_phone(case, second_agent)
    assert operations.link_state(case.link) == "revoked"


def test_a_second_time_replaces_the_first(agent, second_agent, manager):
    case = case_recorded_by_phone(agent)
    first = case.consent
    record_by_phone(case, second_agent)
    assert [line.consented.consent for line in case.unlock_request.lines.all()] == [case.consent, case.consent]
    assert first != case.consent
    act = factories.unlock(case.rows, by=acting(manager))
    assert set(act.verdicts.values_list("refusal", flat=True)) == {""}


def test_not_once_it_is_unlocked_or_closed(agent, second_agent):
    unlocked, closed = case_unlocked(agent), case_consented(agent)
    operations.withdraw_consent(closed.consent, why="Asked", by=acting(agent))
    operations.verify_pin(unlocked.unlock_request, pin=PIN, by=acting(agent))
    unlocked.refresh(), closed.refresh()
    with refused(Refusal.ALREADY_RECORDED):
        asked_on_the_phone(unlocked, agent)
    with refused(Refusal.CLOSED):
        asked_on_the_phone(closed, agent)


# Taking it back


def test_the_customer_takes_back_what_staff_made_of_it(agent, second_agent):
    case = case_recorded_by_phone(agent)
    factories.unlock(case.rows, by=acting(second_agent))
    operations.withdraw_own_consent(case.consent, why="I never said that", by=customer(case.admin))

    assert {batch.status for batch in case.refresh().batches} == {"relocking"}
    factories.carry_out()
    unlock_request = case.refresh().unlock_request
    assert (unlock_request.status, unlock_request.resolution) == ("closed", "withdrawn")
    assert {batch.status for batch in case.batches} == {"bypassed"}
    assert list(ConsentWithdrawal.objects.values_list("consent", "by", "actor", "why")) == [
        (case.consent.pk, None, f"Link for {case.admin.name}", "I never said that")
    ]
    assert kinds(unlock_request)[-6:] == [
        *("unlocked", "relock_instructed", "withdrawn", "relocked", "closed", "review_due"),
    ]
    assert unlock_request.review.reasons == ["Consent recorded by phone"]
