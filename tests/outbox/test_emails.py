"""Each email is written at every try from the rows it is about; what became untrue meanwhile is not sent."""

import json
import re
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
import time_machine
from django.db import transaction
from django.template.loader import render_to_string
from django.utils import timezone

from tests import factories
from tests.factories import acting, customer, deliver
from unlocks import history, operations, pins
from unlocks.actors import Actor
from unlocks.certificates import facts, verify_certificate
from unlocks.database import guards
from unlocks.ledger import signing_keys
from unlocks.models import Certificate, Outgoing
from unlocks.outbox import emails, rows, secrets, worker
from unlocks.texts import formats
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
    with time_machine.travel(timezone.now(), tick=False):  # the header that says when
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


# What became of the unlock


def told(row):
    """Return the subject of an email and its paragraphs, but for the salutation and the end, which are the same."""
    message = emails.written(Outgoing.objects.get(pk=row.pk))
    _, _, *paragraphs, receipt, signed = message.body.strip().split("\n\n")
    assert receipt == "The receipt shows how each batch stands. Its link is in the email about the consent."
    assert signed.startswith("ServiceTitan Support\nsupport@unlock-desk.example or +1 555 0100\nUR-")
    return message.subject.partition(": ")[2], paragraphs


def _next(case):
    until = formats.moment(case.refresh().batch.unlocked_until)
    return [
        f"What to do next: edit and export what is unlocked before\n{until}. After that, it may be relocked at any "
        "time. If you need longer, contact\nSupport before then.",
        "If your account batches invoices automatically, they can move to a new batch within\nseconds of the unlock. "
        "Then look for them there.",
    ]


def test_all_was_unlocked(agent):
    case = factories.case_unlocked(agent)
    row = row_of("unlocked")
    assert told(row) == ("2 batches are unlocked", ["Unlocked:                2", *_next(case)])
    message = emails.written(row)
    assert (message.to, message.body.split("\n\n")[:2]) == (
        [case.admin.email],
        [
            f"Hello {case.admin.name},",
            f"With your consent ({case.consent.reference}), ServiceTitan Support asked\nfor the unlock of batches of "
            f"{case.account.name} (account {case.account.number}). This is\nwhat became of them so far:",
        ],
    )


def test_some_were_unlocked_some_refused_and_some_not_answered(agent, second_agent):
    case = factories.case_unlocking(agent, batches=factories.make_batches(n=5))
    first, second, third, fourth, _ = factories.hand_over()
    factories.answer([first, second], "done", "P-1")
    factories.answer([third], "refused", "In {{ use }} & <more>")
    factories.answer([fourth], "refused", "")
    operations.mark_re_exported(case.rows.filter(pk=second.batch_id), by=acting(second_agent))
    counts = [
        "Unlocked:                1",
        "Could not be unlocked:   2",
        "Still being unlocked:    1",
        "Exported or relocked:    1 (or being relocked)",
    ]
    assert told(row_of("unlocked")) == (
        "1 batch is unlocked, 2 could not be",
        [
            "\n".join(counts),
            *_next(case),
            "What could not be unlocked, and why:",
            f"- {third.batch.number}: In {{{{ use }}}} & <more>\n- {fourth.batch.number}: no reason was given",
            f"It stays as it is. If you need it unlocked, contact Support and mention {case.unlock_request.reference}.",
            "What is still being unlocked can't be edited until ServiceTitan has unlocked it.",
        ],
    )


def test_nothing_was_unlocked_and_too_many_were_refused_to_be_listed(agent):
    case = factories.case_unlocking(agent, batches=factories.make_batches(n=51))
    factories.carry_out(refuse="Exported meanwhile")
    subject, (counts, why, listed, contact) = told(row_of("unlocked"))
    lines = [f"- {batch.number}: Exported meanwhile" for batch in case.batches[:50]]
    assert (subject, counts, why, listed.splitlines(), contact) == (
        "51 batches could not be unlocked",
        "Could not be unlocked:   51",
        "What could not be unlocked, and why:",
        [*lines, "- and others, which the receipt lists"],
        f"It stays as it is. If you need it unlocked, contact Support and mention {case.unlock_request.reference}.",
    )


def test_after_a_withdrawal_nothing_is_said_to_be_unlocked(agent):
    case = factories.case_unlocked(agent)
    operations.withdraw_own_consent(case.consent, why="", by=customer(case.admin))
    withdrawn = formats.moment(case.consent.withdrawal.at)
    ended = [
        "Exported or relocked:    2 (or being relocked)",
        f"The consent was withdrawn on {withdrawn}. Nothing more may be\nunlocked with it. Please do not edit or "
        "export what is unlocked or being relocked.",
    ]
    assert told(row_of("unlocked")) == ("what became of the unlock", ended)


@pytest.mark.parametrize("until", [None, datetime(2026, 11, 25, 15, tzinfo=UTC)])
def test_the_result_is_true_in_each_combination(until):
    names = ["Unlocked", "Could not be unlocked", "Still being unlocked", "Exported or relocked"]
    parts = ["What to do next", "It stays as it is", "What is still being unlocked"]
    for numbers in list(product([0, 1, 1200], repeat=4))[1:]:
        context = dict(zip(("unlocked", "refused_count", "unlocking", "ended"), numbers, strict=True))
        written = render_to_string("unlocks/email/unlocked.txt", context | {"until": until, "refused": []})
        counted = re.findall(r"^(.+): {2,}([\d,]+)", written, re.M)
        assert counted == [(name, f"{n:,}") for name, n in zip(names, numbers, strict=True) if n]
        assert [part in written for part in parts] == [bool(number) for number in numbers[:3]]
        assert ("before\nNov 25, 2026, 10:00 AM EST" in written) == bool(until and numbers[0])
        assert "\n\n\n" not in written.strip()


# How the unlock goes on


def subjects(case):
    """Have what is due sent; return to whom and with which subject, but for receipts and what asked for the consent."""
    sent = [(message.to, message.subject) for message in deliver()]
    return [(to, subject.partition(": ")[2]) for to, subject in sent if subject.startswith("UR-")]


def paragraphs(row):
    message = emails.written(Outgoing.objects.get(pk=row.pk))
    return message.subject.partition(": ")[2], message.body.strip().split("\n\n")[1:-1]


def not_yet(row):
    with pytest.raises(emails.NotYet) as caught:
        emails.written(row)
    return caught.value.until


RECEIPT = "The receipt shows how each batch stands. Its link is in the email about the consent."


def test_the_customer_is_reminded_once_two_hours_before_the_end(agent):
    case = factories.case_unlocked(agent)
    until, to = case.batch.unlocked_until, [case.admin.email]
    assert subjects(case) == [(to, "2 batches are unlocked")]
    with time_machine.travel(until - timedelta(hours=2, minutes=1)):
        assert subjects(case) == []
    with time_machine.travel(until - timedelta(minutes=119), tick=False):
        assert paragraphs(row_of("ending")) == (
            "119 minutes left to export 2 unlocked batches",
            [
                f"The time to edit and export batches of {case.account.name} (account {case.account.number})\n"
                f"ends soon. They are unlocked with your consent ({case.consent.reference}).",
                f"Unlocked right now:      2\nUnlocked until:          {formats.moment(until)}",
                "What to do next: finish your changes, and export before then. After that, what you have\nnot exported "
                "may be relocked at any time. If you need longer, contact Support now.",
                "If you have exported everything already, you do not need to do anything.",
                RECEIPT,
            ],
        )
        assert subjects(case) == [(to, "119 minutes left to export 2 unlocked batches")]
        assert subjects(case) == []


@pytest.mark.parametrize(("hours", "reminders"), [(1, 0), (2, 0), (3, 1)])
def test_no_reminder_of_a_short_window(agent, settings, hours, reminders):
    settings.UNLOCK_WINDOW = timedelta(hours=hours)
    factories.case_unlocked(agent)
    assert Outgoing.objects.filter(email="ending").count() == reminders


def _set_until(case, until):
    """Change the windows of a case as an extension does."""
    with transaction.atomic(), guards.lifted():
        history.update(case.rows, by=Actor.desk(), unlocked_until=until)


def test_a_reminder_reads_the_batches_as_they_are(agent, manager):
    case = factories.case_unlocked(agent)
    row, until = row_of("ending"), case.batch.unlocked_until
    with time_machine.travel(until - timedelta(hours=1), tick=False):
        _set_until(case, until + timedelta(hours=24))
        assert not_yet(row) == until + timedelta(hours=22)
        _set_until(case, until - timedelta(hours=2))
        gone = "Nothing is unlocked any more, or the time for it is over."
        assert outdated(row) == gone
        _set_until(case, until)
        operations.relock(case.rows, why="Asked for", by=acting(manager))
        assert outdated(row) == gone


def extend(case, agent, *batches, hours=72):
    chosen = case.rows.filter(pk__in=[batch.pk for batch in batches or case.batches])
    operations.extend_window(chosen, hours=hours, why="Their bookkeeper is ill", by=acting(agent))
    return case.refresh()


def test_an_extension_is_told_at_once_and_moves_the_reminder(agent):
    account = factories.make_account(time_zone="America/Chicago")
    case = factories.case_unlocked(agent, batches=factories.make_batches(account=account, n=2))
    before, to = case.batch.unlocked_until, [case.admin.email]
    deliver()
    until = extend(case, agent).batch.unlocked_until
    with timezone.override("America/Chicago"):
        ends = formats.moment(until)
    assert ends.endswith(" CST") or ends.endswith(" CDT")
    assert paragraphs(row_of("extended")) == (
        f"2 batches are unlocked until {ends} now",
        [
            f"You have more time to edit and export batches of {account.name} (account {account.number}).\n"
            f"They are unlocked with your consent ({case.consent.reference}).",
            f"Unlocked for longer:     2\nUnlocked until:          {ends}",
            "What to do next: finish your changes, and export before then. After that, what you have\nnot exported "
            "may be relocked at any time. The longer time can't be extended again.",
            RECEIPT,
        ],
    )
    assert subjects(case) == [(to, f"2 batches are unlocked until {ends} now")]
    with time_machine.travel(before - timedelta(minutes=119)):
        assert subjects(case) == []
    with time_machine.travel(until - timedelta(minutes=119), tick=False):
        assert subjects(case) == [(to, "119 minutes left to export 2 unlocked batches")]
    assert Outgoing.objects.filter(email="ending").count() == 1


def test_an_extension_of_some_says_that_the_others_end_as_before(agent):
    case = factories.case_unlocked(agent)
    extend(case, agent, case.batch)
    _, (_, counts, *_) = paragraphs(row_of("extended"))
    until = formats.moment(case.batch.unlocked_until)
    others = "Others, as before:       1 (the receipt shows until when)"
    assert counts.replace(until, "") == f"Unlocked for longer:     1\nUnlocked until:          \n{others}"


@pytest.mark.parametrize(("hours", "reminders"), [(25, 1), (26, 1), (27, 2)])
def test_an_extension_of_some_has_a_reminder_of_its_own_unless_it_ends_soon_after(agent, hours, reminders):
    case = factories.case_unlocked(agent)
    first, to = case.batches[1].unlocked_until, [case.admin.email]
    until = extend(case, agent, case.batch, hours=hours).batch.unlocked_until
    deliver()
    with time_machine.travel(first - timedelta(hours=2), tick=False):
        assert subjects(case) == [(to, "2 hours left to export 2 unlocked batches")]
        assert subjects(case) == []
    with time_machine.travel(max(until - timedelta(hours=2), first + timedelta(minutes=1)), tick=False):
        deliver()
    sent = Outgoing.objects.filter(email="ending", state="sent").order_by("done_at")
    assert [row.address for row in sent] == [case.admin.email] * reminders


def test_an_extension_while_the_reminder_is_being_sent_has_a_reminder_of_its_own(agent):
    case = factories.case_unlocked(agent)
    deliver()
    with time_machine.travel(case.batch.unlocked_until - timedelta(hours=1), tick=False):
        reminder = rows.lease()
        until = extend(case, agent).batch.unlocked_until
        assert Outgoing.objects.filter(email="ending").count() == 1
        worker._end(reminder, Outgoing.State.SENT)
    (waits,) = Outgoing.objects.filter(email="ending", state="queued")
    assert (waits.next_try_at, waits.address) == (until - timedelta(hours=2), case.admin.email)


def test_two_extensions_at_once_are_one_email_which_is_outdated_once_nothing_is_unlocked(agent, manager):
    case = factories.case_unlocked(agent)
    for batch, hours in zip(case.batches, (48, 72), strict=True):
        extend(case, agent, batch, hours=hours)
    row = Outgoing.objects.get(email="extended")
    assert "(some of them longer, which the receipt shows)" in emails.written(row).body
    factories.relock(case.rows, why="Asked for", by=acting(manager))
    assert outdated(row) == "Nothing is unlocked for longer any more."


def test_relocked_and_closed_at_once_is_one_email(agent, manager):
    case = factories.case_unlocked(agent, batches=factories.make_batches(n=3))
    deliver()
    operations.mark_re_exported(case.rows.filter(pk=case.batch.pk), by=acting(agent))
    factories.relock(case.rows, why="Asked for", by=acting(manager))
    row = row_of("ended")
    counts = "Relocked:                2\nExported:                1"
    stand = (
        f"This is how the batches of {case.account.name} (account {case.account.number}) stand that\nServiceTitan "
        f"Support was asked to unlock, with your consent ({case.consent.reference}):"
    )
    no_more = "What is relocked can't be edited or exported any more."
    receipt = "The receipt shows what happened to each batch. Its link is in the email about the consent."
    closed = (
        "The request is closed: batches were exported. Nothing more can be unlocked with this\nconsent. For other "
        "batches, or the same ones again, contact Support: you will be asked again."
    )
    subject = "2 batches are relocked, and the request is closed"
    assert paragraphs(row) == (subject, [stand, counts, no_more, closed, receipt])
    assert subjects(case) == [([case.admin.email], subject)]
    with time_machine.travel(timezone.now() + timedelta(days=2)):
        assert subjects(case) == []


def test_what_is_relocked_in_parts_is_one_email(agent, manager):
    case = factories.case_unlocked(agent, batches=factories.make_batches(n=3))
    deliver()
    operations.relock(case.rows.exclude(pk=case.batch.pk), why="Asked for", by=acting(manager))
    first, second = factories.hand_over()
    factories.answer([first], "done")
    assert subjects(case) == []
    subject, (_, counts, no_more, unlocked, *_) = paragraphs(row_of("ended"))
    until = formats.moment(case.batch.unlocked_until)
    assert (subject, counts.splitlines(), no_more.splitlines()[1:], unlocked) == (
        "1 batch is relocked",
        ["Relocked:                1", "Being relocked:          1", "Still unlocked:          1"],
        ["export what is being relocked either."],
        f"What to do next: edit and export what is still unlocked before {until}.",
    )
    factories.answer([second], "done")
    assert subjects(case) == [([case.admin.email], "2 batches are relocked")]


def _close(case, agent, resolution="canceled"):
    operations.close_request(case.unlock_request, resolution=resolution, why="Asked", by=acting(agent))


def test_who_has_a_link_hears_that_the_case_is_closed(agent):
    case = factories.case_awaiting(agent)
    deliver()
    _close(case, agent)
    subject, (closed, link) = paragraphs(row_of("ended"))
    assert (subject, closed, link.startswith("The link that you were sent does not work any more. No decision")) == (
        "the request is closed",
        f"The request to unlock bypassed batches of {case.account.name} (account {case.account.number})\n"
        "is closed: it was canceled.",
        True,
    )
    assert subjects(case) == [([case.admin.email], "the request is closed")]


def test_who_never_got_the_link_hears_nothing(agent):
    case = factories.case_awaiting(agent)
    _close(case, agent)
    row = row_of("ended")
    assert not_yet(row) > timezone.now() + timedelta(minutes=14)
    deliver()
    assert (row_of("consent_link").state, outdated(row)) == ("canceled", "The link was never sent.")


def _declines(case, agent):
    link, by = case.link, customer(case.admin)
    operations.open_consent_link(link, by=by)
    shown = shown_text(link)
    operations.decline_consent(link, name="Dana Whitfield", role="", why="", shown=shown, by=by)


def _withdraws(case, agent):
    factories.agree(case)
    operations.withdraw_own_consent(case.consent, why="", by=customer(case.admin))


@pytest.mark.parametrize("end", [_declines, _withdraws])
def test_who_ends_a_case_gets_one_email_about_it(asked, agent, end):
    end(asked, agent)
    assert Outgoing.objects.filter(email="ended").count() == 0


def test_who_asked_for_nothing_hears_nothing(agent):
    _close(factories.open_case(agent), agent)
    assert Outgoing.objects.count() == 0


@pytest.mark.parametrize("told_before", [False, True])
def test_what_a_withdrawal_had_relocked_is_said_once(agent, told_before):
    case = factories.case_unlocked(agent)
    deliver()
    operations.withdraw_own_consent(case.consent, why="", by=customer(case.admin))
    if told_before:
        deliver()
    with time_machine.travel(timezone.now() + timedelta(minutes=10)):
        factories.carry_out()
        if not told_before:
            not_yet(row_of("ended"))
        deliver()
    with time_machine.travel(timezone.now() + timedelta(hours=1)):
        deliver()
    row = row_of("ended")
    assert (row.state, row.answer) == (
        ("sent", "") if told_before else ("canceled", "The confirmation of the withdrawal tells it.")
    )


def test_an_earlier_admin_is_told_when_another_one_declines(agent):
    case = factories.case_consented(agent)
    other = factories.make_contact(account=case.account)
    operations.send_consent_link(case.unlock_request, contact=other, by=acting(agent))
    case.admin, told = other, case.admin
    _declines(case, agent)
    row = row_of("ended")
    assert (row.address, "closed: an Admin of the account did not agree." in emails.written(row).body) == (
        told.email,
        True,
    )


@pytest.mark.parametrize("kind", ["ending", "ended"])
def test_a_changed_row_sends_no_notice_of_an_unlock_elsewhere(agent, manager, kind):
    case = factories.case_unlocked(agent)
    factories.relock(case.rows, why="Asked for", by=acting(manager))
    assert outdated(forged(row_of(kind), address="mine@example.com")) == NOT_OURS


@pytest.mark.parametrize(
    "kind", sorted(set(Outgoing.Email.values) - {"not_relocked", "weekly", "staff_link", "break_glass"})
)  # to staff
def test_every_email_says_how_to_reach_support(kind):
    written = render_to_string(f"unlocks/email/{kind}.txt", {})
    assert "ServiceTitan Support\nsupport@unlock-desk.example or +1 555 0100\n" in written


def test_times_are_in_the_zone_of_the_account(agent):
    batches = factories.make_batches(account=factories.make_account(time_zone="America/Chicago"))
    at = timezone.now().astimezone(UTC).replace(hour=1, minute=30)
    with time_machine.travel(at, tick=False):
        factories.case_unlocked(agent, batches=batches)
        bodies = [emails.written(row_of(kind)).body for kind in ("receipt", "unlocked")]
    with timezone.override("America/Chicago"):
        ends = formats.moment(at + timedelta(hours=24))
    assert {zone for body in bodies for zone in re.findall(r"20\d\d, .*?M (\w+)", body)[:1]} <= {"CST", "CDT"}
    assert f"before\n{ends}" in bodies[1]


# What became untrue since


def test_a_confirmation_of_a_withdrawal_says_relocked_once_it_is_so(agent):
    case = factories.case_unlocked(agent, batches=factories.make_batches(n=3))
    operations.mark_re_exported(case.rows.filter(pk=case.batch.pk), by=acting(agent))
    operations.withdraw_own_consent(case.consent, why="", by=customer(case.admin))
    before = emails.written(row_of("withdrawn")).body
    assert (
        "Relocking:    2 batches; please do not edit or export what is in there\n"
        "Relocked:     none\n"
        "Exported:     1 batch; what was exported stays in your accounting software\n\n"
        "These batches are being relocked. The receipt shows when that is done.\n\n"
    ) in before
    factories.carry_out()
    after = emails.written(row_of("withdrawn")).body
    assert "Reason:       none given\nRelocked:     2 batches\nExported:     1 batch; what" in after
    assert "being relocked" not in after


def test_a_receipt_that_goes_out_after_the_withdrawal_offers_none(agent, second_agent):
    by_link, by_phone = factories.case_unlocked(agent), factories.case_recorded_by_phone(agent)
    factories.unlock(by_phone.rows, by=acting(second_agent))
    said = []
    for case, kind in ((by_link, "receipt"), (by_phone, "recorded_by_phone")):
        row = row_of(kind)
        said.append(f"and withdraw {'your' if case is by_link else 'the'} consent" in emails.written(row).body)
        operations.withdraw_own_consent(case.consent, why="", by=customer(case.admin))
        body = emails.written(Outgoing.objects.get(pk=row.pk)).body.partition("The text as it was")[0]
        assert case.refresh().unlock_request.status == "unlocked"
        at = formats.moment(case.consent.withdrawal.at)
        assert f"This consent was withdrawn on {at}.\nNothing more may be unlocked with it.\n" in body
        said += ["withdraw " in body, "Edit\nand export" in body]
    assert said == [True, False, False] * 2


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


def test_many_batches_are_summed_up_and_their_list_is_attached(agent):
    few, many = factories.case_awaiting(agent), factories.case_awaiting(agent, batches=factories.make_batches(n=11))
    said = {case.unlock_request: emails.written(row_of("consent_link", link=case.link)) for case in (few, many)}
    assert "2 batches, 2 items, $200.00 in total." in said[few.unlock_request].body
    assert said[few.unlock_request].attachments == []
    assert "11 batches, 11 items, $1,100.00 in total. The list is attached." in said[many.unlock_request].body
    ((name, content, kind),) = said[many.unlock_request].attachments
    assert (name, kind, len(content.splitlines())) == (f"{many.unlock_request}-batches.csv", "text/csv", 12)

    factories.agree(many)
    receipt = emails.written(row_of("receipt", consent=many.consent))
    files = {name: content for name, content, _ in receipt.attachments}
    assert files[f"{many.consent.reference}-text.txt"] == many.consent.text
    assert len(files[f"{many.consent.reference}-batches.csv"].splitlines()) == 12
    assert ("11 batches, 11 items, $1,100.00 in total" in receipt.body, many.consent.text in receipt.body) == (
        True,
        False,
    )
    assert "Attached are the text as it was shown to you, word for word, and the list of the batches." in receipt.body


@pytest.mark.django_db
def test_a_reminder_comes_before_the_first_end_also_when_another_waits_for_a_later_one(agent):
    case = factories.case_consented(agent)
    for batch, hours in zip(case.batches, (72, 4), strict=True):
        operations.unlock(type(batch).objects.filter(pk=batch.pk), hours=hours, by=acting(agent))
        factories.carry_out()
    ends = case.refresh().batches[1].unlocked_until
    with time_machine.travel(ends - timedelta(hours=1), tick=False):
        deliver()
    told = Outgoing.objects.filter(email="ending").order_by("queued_at").values_list("state", "next_try_at")
    assert [state for state, _ in told] == ["sent", "queued"]
    assert told[1][1] == case.batch.unlocked_until - timedelta(hours=2)
