"""Each email is written at every try from the rows it is about; what became untrue meanwhile is not sent."""

import json
import re
from datetime import timedelta

import pytest
import time_machine
from django.db import transaction

from tests import factories
from tests.factories import acting, customer, deliver
from unlocks import history, operations, pins
from unlocks.actors import Actor
from unlocks.certificates import facts, verify_certificate
from unlocks.database import guards
from unlocks.ledger import signing_keys
from unlocks.models import Certificate, Outgoing
from unlocks.outbox import emails, rows, secrets
from unlocks.texts.shown import shown_text

pytestmark = pytest.mark.django_db


@pytest.fixture
def asked(agent):
    """A case whose link waits to be sent."""
    return factories.case_awaiting(agent)


def row_of(email, **which):
    return Outgoing.objects.get(email=email, **which)


def forged(row, **columns):
    """Change a row by hand while the guards are lifted, and return it as it is then."""
    with transaction.atomic(), guards.lifted():
        Outgoing.objects.filter(pk=row.pk).update(**columns)
    return Outgoing.objects.get(pk=row.pk)


def outdated(row):
    with pytest.raises(emails.Outdated) as caught:
        emails.written(Outgoing.objects.get(pk=row.pk))
    return str(caught.value)


def test_each_try_writes_the_same(asked):
    row = row_of("consent_link")
    first, second = (emails.written(row).message().as_string() for _ in range(2))
    assert first == second
    assert asked.url in first
    assert f"Message-ID: {rows.message_id(row)}" in first


def test_every_admin_gets_the_same_pin_and_it_is_the_one_that_counts(manager, agent, mailoutbox):
    account = factories.make_account()
    factories.make_contact(account=account)
    operations.issue_pin(account, by=acting(manager))
    sent = [re.findall(r"^\d{6}$", message.body, re.M) for message in deliver()]
    assert sent[0] == sent[1]
    account.refresh_from_db()
    assert pins.matches(sent[0][0], account.pin_hash)


def _revoked(case, agent):
    operations.revoke_consent_link(case.unlock_request, by=acting(agent))


def _closed(case, agent):
    operations.close_request(case.unlock_request, resolution="canceled", why="Asked", by=acting(agent))


def _elsewhere(case, agent):
    case.admin.email = "new@customer.example"
    history.save(case.admin, by=Actor.desk())


def _no_admin(case, agent):
    case.admin.is_admin = False
    history.save(case.admin, by=Actor.desk())


@pytest.mark.parametrize("ended", [_revoked, _closed, _elsewhere, _no_admin])
def test_a_link_that_ended_is_not_sent(asked, agent, ended):
    ended(asked, agent)
    assert outdated(row_of("consent_link")) == "The link was revoked."


def test_a_link_that_was_used_is_not_sent(asked):
    factories.agree(asked)
    assert outdated(row_of("consent_link")) == "The link was used before."


def test_a_link_that_has_expired_is_not_sent(asked):
    with time_machine.travel(asked.link.expires_at + timedelta(seconds=1)):
        assert outdated(row_of("consent_link")) == "The link has expired."


NOT_OURS = "It is not what the desk queued."
FORGED = [{"mac": ""}, {"actor": "Call me"}, {"address": "mine@example.com"}, {"nonce": "0" * 64}, {"nonce": ""}]


@pytest.mark.parametrize("columns", FORGED)
def test_a_changed_row_sends_no_link_elsewhere_and_no_other(asked, columns):
    assert outdated(forged(row_of("consent_link"), **columns)) == NOT_OURS


@pytest.mark.parametrize("columns", FORGED)
@pytest.mark.parametrize("again", [False, True])
def test_a_changed_row_sends_no_receipt_elsewhere_and_no_other(agent, again, columns):
    case = factories.case_consented(agent)
    if again:
        operations.resend_receipt(case.consent, by=acting(agent))
    row = row_of("receipt", resent__isnull=not again)
    assert outdated(forged(row, **columns)) == NOT_OURS


@pytest.mark.parametrize("columns", FORGED)
def test_a_changed_row_sends_no_pin_elsewhere_and_no_other(manager, columns):
    account = factories.make_account()
    operations.issue_pin(account, by=acting(manager))
    assert outdated(forged(row_of("new_pin"), **columns)) == NOT_OURS


def test_a_row_of_another_account_s_admin_sends_no_pin(manager):
    account, stranger = factories.make_account(), factories.make_account().contacts.get()
    operations.issue_pin(account, by=acting(manager))
    assert outdated(forged(row_of("new_pin"), contact=stranger, address=stranger.email)) == NOT_OURS


def test_a_withdrawal_is_confirmed_to_no_other_address(agent):
    case = factories.case_consented(agent)
    operations.withdraw_own_consent(case.consent, why="", by=customer(case.admin))
    assert emails.written(row_of("withdrawn")).to == [case.admin.email]
    assert outdated(forged(row_of("withdrawn"), address="mine@example.com")) == NOT_OURS


def test_a_row_that_is_about_nothing_is_not_sent(agent):
    row = rows.queue("consent_link", "mine@example.com", by=acting(agent), nonce=secrets.new_nonce())
    assert outdated(row) == "What it is about is not on record."


def test_a_pin_that_was_followed_by_another_is_not_sent(manager):
    account = factories.make_account()
    operations.issue_pin(account, by=acting(manager))
    first = row_of("new_pin")
    operations.issue_pin(account, by=acting(manager))
    assert outdated(first) == "A newer PIN was issued."


def test_a_receipt_goes_to_nobody_whose_address_is_off_file(agent):
    case = factories.case_consented(agent)
    _elsewhere(case, agent)
    assert outdated(row_of("receipt")) == "Another address is on file for the contact now."


def test_a_notice_says_what_was_entered_and_whether_it_is_confirmed_by_now(manager, agent):
    account = factories.make_account()
    typed = factories.enter_contact(account=account, by=manager)
    row = row_of("admin_entered")
    assert "Once another person at Support has confirmed this address" in emails.written(row).body
    factories.confirm(typed, agent)
    row.refresh_from_db()
    assert "Another person at Support has confirmed this address, so PINs" in emails.written(row).body
    assert f"{typed.name}, {typed.email}" in emails.written(row).body


def test_a_notice_of_what_was_changed_since_is_not_sent(manager):
    account = factories.make_account()
    typed = factories.enter_contact(account=account, by=manager)
    first = row_of("admin_entered")
    typed.email = "better@customer.example"
    operations.save_record(typed, by=acting(manager))
    assert outdated(first) == "What was entered has been changed since."
    assert "better@customer.example" in emails.written(Outgoing.objects.exclude(pk=first.pk).get()).body


def test_a_changed_row_sends_no_notice_elsewhere(manager):
    account = factories.make_account()
    factories.enter_contact(account=account, by=manager)
    changed = forged(row_of("admin_entered"), address="mine@example.com")
    assert outdated(changed) == NOT_OURS


def test_the_admin_whose_address_was_changed_after_another_was_entered_is_told_all_the_same(manager):
    account = factories.make_account()
    told = account.contacts.get()
    address = told.email
    factories.enter_contact(account=account, by=manager)
    told.email = "elsewhere@customer.example"
    operations.save_record(told, by=acting(manager))
    written = [emails.written(row) for row in Outgoing.objects.filter(address=address)]
    assert [message.to for message in written] == [[address], [address]]


def test_no_row_holds_a_secret_and_one_that_is_done_nothing_to_derive_it_from(agent, manager, mailoutbox):
    case = factories.case_awaiting(agent)
    operations.issue_pin(factories.make_account(), by=acting(manager))
    made = {emails.secret(row) for row in Outgoing.objects.all()}
    assert made == {case.token, *re.findall(r"^\d{6}$", emails.written(row_of("new_pin")).body, re.M)}
    stored = str(list(Outgoing.objects.values()))
    assert [secret for secret in made if secret in stored] == []
    deliver()
    assert {(row.state, row.nonce, emails.secret(row)) for row in Outgoing.objects.all()} == {("sent", "", "")}


# What goes with a receipt


def attached(message):
    return {name: content for name, content, _ in message.attachments}


def test_a_receipt_brings_a_certificate_that_is_genuine_and_current(agent):
    factories.record_certificate_key()
    case = factories.case_consented(agent)
    (message,) = deliver()
    files = attached(message)
    certificate = Certificate.objects.get()
    assert list(files) == [f"{certificate.number}.json", "keys.json"]
    assert files[f"{certificate.number}.json"].decode() == certificate.content
    keys = json.loads(files["keys.json"])
    assert keys == signing_keys.published()
    told = verify_certificate.verify(files[f"{certificate.number}.json"], keys=keys)
    assert told["consent"]["reference"] == case.consent.reference
    assert "with which anyone can\ncheck it: http://127.0.0.1:8000/check/" in message.body
    assert facts.entries_of(case.unlock_request).filter(sequence__gt=certificate.upto).count() == 0


def test_a_receipt_that_is_sent_again_brings_the_newest(agent):
    factories.record_certificate_key()
    case = factories.case_consented(agent)
    deliver()
    operations.add_note(case.unlock_request, text="They called", by=acting(agent))
    operations.resend_receipt(case.consent, by=acting(agent))
    (message,) = deliver()
    assert list(attached(message)) == [f"{case.consent.reference}-2.json", "keys.json"]


@pytest.mark.parametrize("kind", ["recorded_by_phone", "declined", "withdrawn"])
def test_each_kind_of_receipt_brings_one(agent, kind):
    factories.record_certificate_key()
    if kind == "recorded_by_phone":
        factories.case_recorded_by_phone(agent)
    elif kind == "withdrawn":
        case = factories.case_consented(agent)
        operations.withdraw_own_consent(case.consent, why="", by=customer(case.admin))
    else:
        case = factories.case_awaiting(agent)
        operations.open_consent_link(case.link, by=customer(case.admin))
        shown = shown_text(case.link)
        by = customer(case.admin)
        operations.decline_consent(case.link, name="Dana Whitfield", role="", why="", shown=shown, by=by)
    message = emails.written(row_of(kind))
    (number, content), _ = attached(message).items()
    assert json.loads(content)["certificate"]["number"] == number.removesuffix(".json")
    assert "Attached are a signed certificate" in message.body


def test_a_receipt_goes_out_without_a_certificate_where_none_can_be_signed(agent):
    factories.case_consented(agent)
    (message,) = deliver()
    assert (message.attachments, "Attached" in message.body) == ([], False)


def test_a_certificate_too_large_for_an_email_is_left_out(agent, monkeypatch):
    factories.record_certificate_key()
    factories.case_consented(agent)
    monkeypatch.setattr(emails, "ATTACHED_AT_MOST", 1000)
    (message,) = deliver()
    assert (message.attachments, "Attached" in message.body) == ([], False)
