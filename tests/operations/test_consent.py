import hashlib
from datetime import timedelta

import pytest
import time_machine
from django.core import mail
from django.core.exceptions import PermissionDenied
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tests import factories
from tests.attacks import difference, snapshot
from tests.factories import (
    PIN,
    acting,
    case_awaiting,
    case_consented,
    case_unlocked,
    confirm,
    customer,
    enter_contact,
    make_account,
    make_contact,
    open_case,
)
from tests.operations import kinds, only_for, recorded, refused
from unlocks import history, operations
from unlocks.actors import Actor
from unlocks.models import Consent, ConsentedBatch, ConsentLink, ConsentWithdrawal, Contact, RequestedBatch
from unlocks.rules import Refusal
from unlocks.texts.shown import shown_text

pytestmark = pytest.mark.django_db


def advised(agent, **fields):
    case = open_case(agent, **fields)
    operations.record_advice(case.unlock_request, advice="wants_export", by=acting(agent))
    return case


def ready_to_agree(agent, **fields):
    case = case_awaiting(agent, **fields)
    operations.open_consent_link(case.link, by=customer(case.admin))
    operations.verify_customer_pin(case.link, pin=PIN, by=customer(case.admin))
    return case


def agree(case, link=None, **fields):
    link = link or case.link
    fields = {"name": "Ann Admin", "role": "Controller", "shown": shown_text(link)} | fields
    return operations.give_consent(link, **{"by": customer(case.admin)} | fields)


def decline(case, **fields):
    fields = {"name": "Ann Admin", "role": "", "why": "", "shown": shown_text(case.link)} | fields
    return operations.decline_consent(case.link, **{"by": customer(case.admin)} | fields)


# Sending


def test_sends_a_link_of_which_only_a_hash_is_kept(agent):
    case = advised(agent)
    with factories.delivered():
        url = operations.send_consent_link(case.unlock_request, contact=case.admin, by=acting(agent)).url

    token, link = url.rstrip("/").rsplit("/", 1)[-1], ConsentLink.objects.get()
    assert link.token_hash == hashlib.sha256(token.encode()).hexdigest()
    assert operations.link_for(token) == link
    assert operations.link_for("x" + token) is None
    assert (operations.link_state(link), case.refresh().unlock_request.status) == ("live", "awaiting_consent")
    assert link.expires_at - link.sent_at == timedelta(hours=72)
    assert kinds(case.unlock_request) == ["opened", "advised", "link_sent", "email_sent"]
    assert [(message.to, url in message.body) for message in mail.outbox] == [([case.admin.email], True)]
    assert not any(token in str(facts) for _, facts in recorded())


def test_only_for_those_who_send_links(agent):
    case = advised(agent)
    only_for(
        ["Agent", "Manager"], lambda by: operations.send_consent_link(case.unlock_request, contact=case.admin, by=by)
    )
    assert ConsentLink.objects.filter(revoked_at=None).count() == 1


def test_second_link_ends_the_first(agent):
    case = case_awaiting(agent)
    first = case.link
    operations.send_consent_link(case.unlock_request, contact=case.admin, by=acting(agent))
    first.refresh_from_db()
    assert [operations.link_state(link) for link in (first, case.link)] == ["revoked", "live"]


def test_advice_comes_before_the_link(agent):
    case = open_case(agent)
    with refused(Refusal.ADVICE_FIRST):
        operations.send_consent_link(case.unlock_request, contact=case.admin, by=acting(agent))


def test_link_goes_to_admins_of_the_account_only(agent):
    case = advised(agent)
    for contact in (make_contact(account=case.account, is_admin=False), make_account().contacts.get()):
        with refused(Refusal.NOT_AN_ADMIN):
            operations.send_consent_link(case.unlock_request, contact=contact, by=acting(agent))


def test_link_goes_to_no_contact_that_one_made_up(agent, second_agent, manager):
    case = advised(agent)
    made_up = enter_contact(account=case.account, by=manager)
    for by in (manager, agent):
        with refused(Refusal.NOT_CONFIRMED):
            operations.send_consent_link(case.unlock_request, contact=made_up, by=acting(by))
    confirm(made_up, second_agent)
    with refused(Refusal.OWN_CONTACT):
        operations.send_consent_link(case.unlock_request, contact=made_up, by=acting(manager))
    assert operations.send_consent_link(case.unlock_request, contact=made_up, by=acting(agent)).sent_to == made_up


def test_no_link_for_an_account_without_pin(agent):
    case = advised(agent, account=make_account(pin=""))
    with refused(Refusal.NO_PIN):
        operations.send_consent_link(case.unlock_request, contact=case.admin, by=acting(agent))


def test_no_link_once_unlocked_or_closed(agent):
    unlocked, closed = case_unlocked(agent), advised(agent)
    operations.close_request(closed.unlock_request, resolution="canceled", why="", by=acting(agent))
    for case, code in ((unlocked, Refusal.ALREADY_RECORDED), (closed, Refusal.CLOSED)):
        with refused(code):
            operations.send_consent_link(case.unlock_request, contact=case.admin, by=acting(agent))


def test_revokes_once(agent):
    case = case_awaiting(agent)
    operations.revoke_consent_link(case.unlock_request, by=acting(agent))
    assert operations.link_state(case.link) == "revoked"
    assert kinds(case.unlock_request)[-1] == "link_revoked"
    with refused(Refusal.NO_LINK):
        operations.revoke_consent_link(case.unlock_request, by=acting(agent))


def test_a_link_dies_with_its_receivers_rights(agent):
    case = ready_to_agree(agent)
    history.update(Contact.objects.filter(pk=case.admin.pk), by=Actor.desk(), is_admin=False)
    assert operations.link_state(operations.link_for(case.token)) == "revoked"
    with refused(Refusal.LINK_DEAD):
        agree(case)


# Opening


def visitor(ip, browser="Browser/1"):
    return Actor(name="Ann (customer)", ip=ip, browser=browser)


def openings(case):
    return list(case.link.openings.values_list("position", "ip", "browser"))


def test_an_opening_is_recorded_once_for_each_address_and_browser(agent):
    case = case_awaiting(agent)
    scanner, phone, desktop = visitor("203.0.113.7"), visitor("203.0.113.8"), visitor("203.0.113.7", "Browser/2")
    made = [operations.open_consent_link(case.link, by=by) for by in (scanner, phone, scanner, desktop, phone)]
    assert [opening.position for opening in made] == [1, 2, 1, 3, 2]
    assert openings(case) == [
        (1, "203.0.113.7", "Browser/1"),
        (2, "203.0.113.8", "Browser/1"),
        (3, "203.0.113.7", "Browser/2"),
    ]
    assert recorded(case.unlock_request)[-3:] == [
        ("link_opened", {"link": case.link.pk, "position": position, "browser": browser})
        for position, _, browser in openings(case)
    ]


def test_the_opening_after_the_fiftieth_is_not_recorded_and_the_form_works(agent):
    case = case_awaiting(agent)
    for number in range(50):
        operations.open_consent_link(case.link, by=visitor(f"203.0.113.{number}"))
    before, late = snapshot(), visitor("198.51.100.1")
    assert operations.open_consent_link(case.link, by=late) is None
    assert difference(before, snapshot()) == []
    assert operations.open_consent_link(case.link, by=visitor("203.0.113.49")).position == 50
    operations.verify_customer_pin(case.link, pin=PIN, by=late)
    consent, _ = agree(case, by=late)
    assert (consent.opening, case.link.openings.count()) == (None, 50)


def test_a_decision_records_the_opening_that_led_to_it(agent):
    case = ready_to_agree(agent)
    operations.open_consent_link(case.link, by=visitor("203.0.113.8"))
    mine = operations.open_consent_link(case.link, by=visitor("203.0.113.9"))
    operations.open_consent_link(case.link, by=visitor("203.0.113.10"))
    # The phone has another address by now: what its browser kept counts.
    consent, _ = agree(case, by=visitor("198.51.100.1", "Browser/3"), opening=mine.pk)
    assert (consent.opening, consent.ip) == (mine, "198.51.100.1")


def test_without_what_the_browser_kept_the_address_and_browser_tell_the_opening(agent):
    case = ready_to_agree(agent)
    mine = operations.open_consent_link(case.link, by=visitor("203.0.113.9"))
    declined, _ = decline(case, by=visitor("203.0.113.9"))
    assert declined.opening == mine


@pytest.mark.parametrize("kept", ["nothing", "an opening of another link"])
def test_nobody_decides_from_where_the_form_was_not_opened(agent, kept):
    case, opening = ready_to_agree(agent), None
    if kept != "nothing":
        opening = operations.open_consent_link(case_awaiting(agent).link, by=visitor("198.51.100.1")).pk
    for decide in (agree, decline):
        with refused(Refusal.NOT_OPENED):
            decide(case, by=visitor("198.51.100.1"), opening=opening)


def test_declining_without_a_name_is_refused_by_the_database(agent):
    case = ready_to_agree(agent)
    before = snapshot()
    with pytest.raises(IntegrityError), transaction.atomic():
        decline(case, name="")
    assert difference(before, snapshot()) == []


def test_staff_are_refused_and_that_is_recorded(agent):
    case = case_awaiting(agent)
    with pytest.raises(PermissionDenied):
        operations.open_consent_link(case.link, by=acting(agent))
    operations.refuse_staff(case.link, by=acting(agent))
    assert recorded(case.unlock_request)[-1] == ("staff_refused", {"link": case.link.pk, "consent": None})


# Agreeing


def test_consent_keeps_exactly_what_was_shown(agent):
    case = ready_to_agree(agent)
    shown = shown_text(case.link)
    by = visitor("203.0.113.7")
    opening = operations.open_consent_link(case.link, by=by)
    with factories.delivered():
        consent, token = operations.give_consent(case.link, name="Ann Admin", role="Controller", shown=shown, by=by)

    consent, unlock_request = Consent.objects.get(), case.refresh().unlock_request
    assert (consent.text, consent.text_sha256) == (shown, hashlib.sha256(shown.encode()).hexdigest())
    assert (consent.decision, consent.how, consent.recorded_by, consent.batch_count) == ("agreed", "link", None, 2)
    assert (consent.signer_name, consent.signer_role, consent.ip) == ("Ann Admin", "Controller", "203.0.113.7")
    assert consent.opening == opening
    assert consent.valid_until - consent.given_at == timedelta(hours=72)
    assert operations.receipt_for(token) == consent
    assert (unlock_request.status, unlock_request.pin_typed_by, operations.link_state(case.link)) == (
        "consented",
        "customer",
        "used",
    )
    assert sorted(ConsentedBatch.objects.values_list("batch", "fingerprint")) == [
        (batch.pk, batch.fingerprint) for batch in case.batches
    ]
    assert all(len(batch.fingerprint) == 64 for batch in case.batches)
    assert set(unlock_request.lines.values_list("consented__consent", flat=True)) == {consent.pk}
    assert RequestedBatch.history.filter(unlock_request=unlock_request, consented__isnull=False).count() == 2
    assert kinds(unlock_request)[-2:] == ["consented", "email_sent"]
    assert shown in mail.outbox[-1].body


@pytest.mark.postgresql
def test_no_batch_looks_its_consent_up_by_reading_all_of_it(agent):
    """Such a plan is quadratic: 10,000 batches took 93 seconds where consents given before had been analyzed."""
    case_consented(agent)
    case = ready_to_agree(agent)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE unlocks_consentedbatch")
        cursor.execute("SET LOCAL enable_seqscan = off")
        with CaptureQueriesContext(connection) as queries:
            agree(case)
        updates = [sql for sql in (query["sql"] for query in queries) if 'SET "consented_id"' in sql]
        for sql in updates:
            cursor.execute(f"EXPLAIN {sql}")
            plan = "\n".join(row[0] for row in cursor.fetchall())
            assert "unlocks_consentedbatch_requested_batch" in plan
            assert "unlocks_consented_" not in plan
    assert len(updates) == 1


@pytest.mark.parametrize("verb", [agree, decline])
def test_a_link_counts_once(agent, verb):
    case = ready_to_agree(agent)
    link = case.link
    verb(case)
    with refused(Refusal.LINK_DEAD):
        agree(case, link=link)


@pytest.mark.parametrize("verb", [agree, decline])
def test_nothing_is_decided_on_a_form_that_nobody_opened(agent, verb):
    case = case_awaiting(agent)
    with refused(Refusal.NOT_OPENED):
        verb(case)


def test_agreeing_needs_the_pin_of_the_last_half_hour(agent):
    case = ready_to_agree(agent)
    with time_machine.travel(timezone.now() + timedelta(minutes=31)), refused(Refusal.PIN_STALE):
        agree(case)
    case = case_awaiting(agent)
    operations.open_consent_link(case.link, by=customer(case.admin))
    with refused(Refusal.PIN_STALE):
        agree(case)


def test_agreeing_to_something_else_than_shown_is_refused(agent):
    case = ready_to_agree(agent)
    with refused(Refusal.CHANGED_WHILE_READING):
        agree(case, shown=shown_text(case.link) + " ")


def test_items_changed_while_reading(agent):
    case = ready_to_agree(agent)
    shown = shown_text(case.link)
    history.update(case.batch.items.all(), by=Actor.desk(), memo="Changed")
    assert shown_text(case.link) != shown
    with refused(Refusal.CHANGED_WHILE_READING):
        agree(case, shown=shown)
    with refused(Refusal.CHANGED_WHILE_READING):
        decline(case, shown=shown)


def test_expired_link(agent):
    case = ready_to_agree(agent)
    with time_machine.travel(timezone.now() + timedelta(hours=73)):
        assert operations.link_state(case.link) == "expired"
        with refused(Refusal.LINK_DEAD):
            agree(case)


def test_staff_cannot_agree_or_decline(agent, superuser):
    case = ready_to_agree(agent)
    fields = {"name": "Ann", "role": "Owner", "shown": shown_text(case.link), "by": acting(superuser)}
    with pytest.raises(PermissionDenied):
        operations.give_consent(case.link, **fields)
    with pytest.raises(PermissionDenied):
        operations.decline_consent(case.link, why="", **fields)
    assert not Consent.objects.exists()


def test_declining_closes_the_case(agent):
    case = ready_to_agree(agent)
    consent, token = decline(case, why="We key them in")
    unlock_request = case.refresh().unlock_request
    assert (consent.decision, consent.valid_until, consent.batch_count) == ("declined", None, 0)
    assert (unlock_request.status, unlock_request.resolution) == ("closed", "declined")
    assert set(unlock_request.lines.values_list("outcome", flat=True)) == {"not_unlocked"}
    assert operations.receipt_for(token) == consent
    assert kinds(unlock_request)[-2:] == ["declined", "closed"]


# Taking back


def test_withdrawing_closes_the_case(agent):
    case = case_consented(agent)
    operations.withdraw_consent(case.consent, why="Changed our mind", by=acting(agent))
    unlock_request = case.refresh().unlock_request
    assert (unlock_request.status, unlock_request.resolution) == ("closed", "withdrawn")
    assert ConsentWithdrawal.objects.values_list("consent", "by", "why").get() == (
        case.consent.pk,
        agent.pk,
        "Changed our mind",
    )
    assert kinds(unlock_request)[-2:] == ["withdrawn", "closed"]


def test_withdrawing_has_all_locked_again(agent):
    case = case_unlocked(agent)
    operations.withdraw_consent(case.consent, why="Changed our mind", by=acting(agent))
    assert [batch.status for batch in case.refresh().batches] == ["relocking", "relocking"]
    assert set(case.unlock_request.lines.values_list("outcome", flat=True)) == {"relocking"}
    assert kinds(case.unlock_request)[-3:] == ["unlocked", "relock_instructed", "withdrawn"]


def test_only_for_those_who_withdraw(agent):
    case = case_consented(agent)
    only_for(["Agent", "Manager"], lambda by: operations.withdraw_consent(case.consent, why="Asked", by=by))
    assert ConsentWithdrawal.objects.count() == 1


def test_withdrawing_needs_a_reason_and_a_consent(agent):
    case, declined = case_consented(agent), ready_to_agree(agent)
    with refused(Refusal.NO_REASON):
        operations.withdraw_consent(case.consent, why="  ", by=acting(agent))
    consent, _ = decline(declined)
    with refused(Refusal.CLOSED):
        operations.withdraw_consent(consent, why="Asked", by=acting(agent))
