"""Each invariant can fail: with the guards lifted an offender is made, and found by the query meant for it."""

from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.test import override_settings
from django.utils import timezone

from tests import factories
from tests.attacks import an_instruction, forge_consent, write
from tests.factories import (
    acting,
    agree,
    case_awaiting,
    case_consented,
    case_recorded_by_phone,
    case_unlocked,
    case_unlocking,
    confirm,
    customer,
    enter_contact,
    make_account,
    make_batch,
    make_token,
    make_user,
    open_case,
    record_certificate_key,
)
from unlocks import history, operations, pins
from unlocks.actors import Actor
from unlocks.database import guards
from unlocks.ledger import chain, events, invariants, verify
from unlocks.models import (
    Account,
    ApiToken,
    Batch,
    Certificate,
    Consent,
    ConsentedBatch,
    ConsentEvidence,
    ConsentLink,
    ConsentTerms,
    ConsentWithdrawal,
    Contact,
    Instruction,
    LedgerEntry,
    LinkOpening,
    RequestedBatch,
    ResentReceipt,
    Review,
    ReviewDecision,
    StaffLink,
    UnlockRequest,
)
from unlocks.texts.shown import shown_text

pytestmark = pytest.mark.django_db


def found():
    return {wrong: list(rows) for wrong, rows in invariants.offenders() if rows.exists()}


def test_an_honest_desk_offends_nowhere(agent, manager):
    open_case(agent), case_awaiting(agent), case_consented(agent)
    case = case_unlocked(agent)
    factories.relock(case.rows, why="Not used", by=acting(manager))
    withdrawn = case_unlocked(agent)
    operations.withdraw_consent(withdrawn.consent, why="Asked", by=acting(agent))
    half = case_consented(agent)
    factories.unlock(half.rows.filter(pk=half.batch.pk), by=acting(agent))
    operations.withdraw_consent(half.consent, why="Asked", by=acting(agent))
    assert found() == {}
    factories.carry_out()
    assert found() == {}


def test_what_a_system_puts_and_whose_token_it_gets_after_the_consent_is_no_finding(agent):
    maker = make_user("maker", is_superuser=True)
    portal, _ = make_token("portal", "unlock", by=make_user("other-maker", is_superuser=True))
    feed, _ = make_token("feed", "contacts", by=maker)
    by_maker, by_system = case_consented(agent), case_awaiting(agent)
    with pytest.raises(operations.Refused):
        operations.verify_pin(by_system.unlock_request, pin="000000", by=acting(maker))
    agree(by_system)
    factories.unlock(by_maker.rows, by=acting(maker))
    factories.unlock(by_system.rows, by=Actor.system(portal))
    make_token("portal", "unlock", by=maker)
    for case in (by_maker, by_system):
        factories.put_contact(case.admin, token=feed, email=f"new-{case.admin.pk}@customer.example")
    assert set(Batch.objects.values_list("status", flat=True)) == {"unlocked"}
    assert found() == {}


def test_a_product_that_does_not_say_what_it_did_is_no_finding(agent, manager):
    """Whatever the desk makes of it meanwhile: cancels, relocks, withdraws, marks as exported, or gives up."""
    refused = case_unlocking(agent)
    factories.carry_out(refuse="Exported meanwhile")
    late = [case_unlocking(agent) for _ in range(4)]
    sent = factories.hand_over()
    canceled = case_unlocking(agent)
    operations.cancel_unlock(canceled.rows, why="Wrong one", by=acting(agent))
    assert found() == {}
    for state in ("unknown", "accepted"):
        factories.answer(sent, state)
        assert found() == {}
    withdrawn, exported, given_up, _ = late
    operations.withdraw_consent(withdrawn.consent, why="Asked", by=acting(agent))
    operations.mark_re_exported(exported.rows, by=acting(agent))
    factories.answer(Instruction.objects.filter(batch__in=given_up.rows), "stopped")
    operations.relock(given_up.rows, why="No answer", by=acting(manager))
    assert found() == {}
    Instruction.objects.filter(state="sent").update(tries=1)  # as whoever asks about it counts
    factories.answer(sent, "not_known")
    assert found() == {}
    factories.answer(sent, "done", "P-1")
    assert found() == {}
    factories.carry_out()
    assert found() == {}
    outcomes = [set(case.unlock_request.lines.values_list("outcome", flat=True)) for case in (refused, canceled, *late)]
    assert outcomes == [{"refused"}, {"waiting"}, {"relocked"}, {"re_exported"}, {"relocked"}, {"unlocked"}]


def _without_consent(agent):
    unlocked, other = case_unlocked(agent), make_batch()
    grant = ConsentedBatch.objects.filter(consent=unlocked.consent).first()
    Batch.objects.filter(pk=other.pk).update(
        status="unlocked", grant=grant, unlocked_by=agent, unlocked_until=timezone.now()
    )


def _withdrawn(agent):
    case = case_unlocked(agent)
    write(ConsentWithdrawal(consent=case.consent, at=timezone.now(), actor="raw", why="Raw"))


def _own_recording(agent):
    case = case_unlocked(agent)
    Consent.objects.filter(pk=case.consent.pk).update(how="phone", link=None, opening=None, recorded_by=agent)


def _no_line(agent):
    case = case_unlocked(agent)
    case.unlock_request.lines.update(outcome="not_unlocked")


def _line_alone(agent):
    case = case_consented(agent)
    case.unlock_request.lines.update(outcome="unlocked")


def _other_outcome(agent):
    case = case_unlocked(agent)
    factories.relock(case.rows, why="Not needed", by=acting(make_user("manager", group="Manager")))
    case.unlock_request.lines.update(outcome="re_exported")


def _outcome_taken_back(agent):
    case_unlocked(agent).unlock_request.lines.update(outcome="waiting")


def _outcome_of_no_act(agent):
    case_consented(agent).unlock_request.lines.update(outcome="re_exported")


def _fingerprint(agent):
    case = case_consented(agent)
    case.batch.items.update(memo="Changed")


def _text(agent):
    case = case_consented(agent)
    Consent.objects.filter(pk=case.consent.pk).update(text="Other")


def _count(agent):
    case = case_consented(agent)
    Consent.objects.filter(pk=case.consent.pk).update(batch_count=1)


def _other_request(agent):
    case, other = case_consented(agent), case_awaiting(agent)
    ConsentedBatch.objects.filter(consent=case.consent).update(requested_batch=other.unlock_request.lines.first())


def _unrecorded(agent):
    """A second consent with the words of the first: no entry names it."""
    case = case_consented(agent)
    forge_consent(case_awaiting(agent), covers=False, text=case.consent.text, text_sha256=case.consent.text_sha256)


def _no_pin(agent):
    case = case_consented(agent)
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM unlocks_ledgerentry WHERE kind = 'pin_verified'")
    return case


def _recorded_by_phone_without_pin(agent):
    case = case_recorded_by_phone(agent)
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM unlocks_ledgerentry WHERE kind = 'pin_verified'")
    return case


def _evidence_unrecorded(agent):
    case = case_recorded_by_phone(agent)
    write(
        ConsentEvidence(
            consent=case.consent,
            what="email",
            file_name="mail.eml",
            media_type="message/rfc822",
            size=1,
            sha256="1" * 64,
            attached_by=agent,
            attached_at=timezone.now(),
        )
    )


def _published_unrecorded(agent):
    write(ConsentTerms(version=2, title="Forged", text="Forged", published_at=timezone.now(), published_by=agent))


def _receipt_unrecorded(agent):
    case = case_consented(agent)
    write(
        ResentReceipt(
            consent=case.consent, email=case.admin.email, token_hash="f" * 64, sent_by=agent, sent_at=timezone.now()
        )
    )


def _certificate_unrecorded(agent):
    record_certificate_key()
    operations.issue_certificate(case_consented(agent).consent, by=acting(agent))
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM unlocks_ledgerentry WHERE kind = 'certified'")


def _certificate_altered(agent):
    record_certificate_key()
    certificate = operations.issue_certificate(case_consented(agent).consent, by=acting(agent))
    Certificate.objects.filter(pk=certificate.pk).update(content="{}")


def _link_unrecorded(agent):
    case = case_awaiting(agent)
    link = ConsentLink.objects.get(unlock_request=case.unlock_request)
    link.pk, link.token_hash, link.revoked_at = None, "f" * 64, timezone.now()
    link._state.adding = True
    write(link)


def _withdrawal_unrecorded(agent):
    case = case_consented(agent)
    write(ConsentWithdrawal(consent=case.consent, at=timezone.now(), actor="raw", why="Raw"))


def _opened_unrecorded(agent):
    unlock_request = UnlockRequest.objects.get(pk=open_case(agent).unlock_request.pk)
    unlock_request.pk = None
    write(unlock_request)


def _closed_too_early(agent):
    case = case_consented(agent)
    UnlockRequest.objects.filter(pk=case.unlock_request.pk).update(
        status="closed", closed_at=timezone.now(), resolution="canceled"
    )


def _another_number(agent):
    UnlockRequest.objects.filter(pk=open_case(agent).unlock_request.pk).update(batch_count=1)


def _more_than_it_ever_had(agent):
    case = open_case(agent)
    operations.close_request(case.unlock_request, resolution="canceled", why="", by=acting(agent))
    UnlockRequest.objects.filter(pk=case.unlock_request.pk).update(batch_count=3)


def _less_than_was_unlocked(agent):
    case = case_unlocked(agent)
    operations.withdraw_consent(case.consent, why="Asked", by=acting(agent))
    UnlockRequest.objects.filter(pk=case.unlock_request.pk).update(batch_count=1)


def _line_past_the_desk(agent):
    case = open_case(agent)
    write(RequestedBatch(unlock_request=case.unlock_request, batch=make_batch(account=case.account)))


def _another_total(agent):
    UnlockRequest.objects.filter(pk=case_unlocked(agent).unlock_request.pk).update(amount=1)


def _total_past_the_desk(agent):
    Batch.objects.filter(pk=open_case(agent).batch.pk).update(total=1)


def _past_history(agent):
    Batch.objects.filter(pk=make_batch().pk).update(name="Past history")


def _made_past_history(agent):
    write(Batch(account=make_batch().account, number="new"))


def _null_against_a_value(agent):
    Batch.objects.filter(pk=make_batch().pk).update(bypassed_on=None, status="posted")


def _shown_the_link(agent):
    ConsentLink.objects.filter(unlock_request=case_unlocked(agent).unlock_request).update(shown_to=agent)


def _typed_a_pin(agent):
    case = case_unlocked(agent)
    entry = LedgerEntry.objects.filter(kind="pin_verified", unlock_request=case.unlock_request)
    entry.update(kind="pin_typed", user=agent)


def _entered_the_address(agent):
    case = case_unlocked(agent)
    case.admin.history.update(entered_by=agent)


def _unlocked_by_a_system(agent):
    """Return a case that a system unlocked, and who had made its token."""
    maker = make_user("maker", is_superuser=True)
    token, _ = make_token("portal", "unlock", by=maker)
    case = case_consented(agent)
    factories.unlock(case.rows, by=Actor.system(token))
    return case, maker


def _recorded_by_its_maker(agent):
    case, maker = _unlocked_by_a_system(agent)
    Consent.objects.filter(pk=case.consent.pk).update(how="phone", link=None, opening=None, recorded_by=maker)


def _shown_to_its_maker(agent):
    case, maker = _unlocked_by_a_system(agent)
    ConsentLink.objects.filter(unlock_request=case.unlock_request).update(shown_to=maker)


def _typed_by_its_maker(agent):
    case, maker = _unlocked_by_a_system(agent)
    entry = LedgerEntry.objects.filter(kind="pin_verified", unlock_request=case.unlock_request)
    entry.update(kind="pin_typed", user=maker)


def _put_by_its_maker(agent):
    case, maker = _unlocked_by_a_system(agent)
    feed, _ = make_token("feed", "contacts", by=maker)
    long_ago = case.consent.given_at - timedelta(hours=1)
    ApiToken.objects.filter(pk=feed.pk).update(made_at=long_ago)
    case.admin.history.update(history_user=feed.system, history_date=long_ago)


def _confirmed_by_who_entered_it(agent):
    typed = enter_contact(account=make_account(), by=make_user("manager", group="Manager"))
    confirm(typed, agent)
    typed.history.update(entered_by=agent)


def _confirmation_unrecorded(agent):
    confirm(enter_contact(account=make_account(), by=make_user("manager", group="Manager")), agent)
    LedgerEntry.objects.filter(kind="contact_confirmed").delete()


def _sent_elsewhere_for_a_minute(agent):
    """Who writes past the desk puts their own address in, has the desk send a link there, and puts the old one back."""
    case = open_case(agent)
    operations.record_advice(case.unlock_request, advice="wants_export", by=acting(agent))
    row, address = Contact.objects.filter(pk=case.admin.pk), case.admin.email
    row.update(email="thief@example.com")
    operations.send_consent_link(case.unlock_request, contact=row.get(), by=acting(agent))
    row.update(email=address)


def _sent_before_it_counted(agent):
    case = case_awaiting(agent)
    case.admin.history.update(entered_by=make_user("manager", group="Manager"))


def _opening_unrecorded(agent):
    LinkOpening.objects.create(link=case_awaiting(agent).link, position=1, at=timezone.now())


def _without_opening(agent):
    Consent.objects.filter(pk=case_consented(agent).consent.pk).update(opening=None)


def _with_an_opening_of_another_link(agent):
    other = LinkOpening.objects.get(link=case_consented(agent).consent.link)
    Consent.objects.filter(pk=case_consented(agent).consent.pk).update(opening=other)


def _declined_unrecorded(agent):
    case = case_awaiting(agent)
    by = customer(case.admin)
    operations.open_consent_link(case.link, by=by)
    operations.decline_consent(case.link, name="Dana Whitfield", role="", why="", shown=shown_text(case.link), by=by)
    LedgerEntry.objects.filter(kind="declined").delete()


def _pending_pin_unrecorded(agent):
    Account.objects.filter(pk=make_account(pin="").pk).update(pending_pin_hash=pins.hashed("123456"))


def _pin_unrecorded(agent):
    Account.objects.filter(pk=make_account(pin="").pk).update(pin_hash=pins.hashed("123456"))


def _token_unrecorded(agent):
    superuser = make_user("superuser", is_superuser=True)
    token, _ = make_token("feed", "read", by=superuser)
    token.pk, token.token_hash = None, "f" * 64
    token._state.adding = True
    write(token)


def _staff_link_unrecorded(agent):
    superuser, now = make_user("superuser", is_superuser=True), timezone.now()
    write(StaffLink(user=agent, sent_by=superuser, sent_at=now, expires_at=now, token_hash="f" * 64))


def _staff_link_used_unrecorded(agent):
    superuser = make_user("superuser", is_superuser=True)
    agent.email = "agent@vendor.example"
    agent.save()
    link = operations.send_staff_link(agent, by=acting(superuser))
    StaffLink.objects.filter(pk=link.pk).update(used_at=timezone.now())


def _instructions(case):
    return Instruction.objects.filter(line__unlock_request=case.unlock_request)


def _canceled_behind_its_back(agent):
    _instructions(case_unlocking(agent)).update(state="canceled", done_at=timezone.now())


def _lost(agent):
    _instructions(case_unlocking(agent)).delete()


def _never_unlocked(agent):
    _instructions(case_unlocked(agent)).update(state="refused")


def _relocked(agent):
    case = case_unlocked(agent)
    factories.relock(case.rows, why="Not needed", by=acting(make_user("manager", group="Manager")))
    return case


def _never_unlocked_and_relocked(agent):
    _instructions(_relocked(agent)).filter(what="unlock").update(state="canceled")


def _never_relocked(agent):
    _instructions(_relocked(agent)).filter(what="lock").update(state="refused")


def _never_refused(agent):
    case = case_unlocking(agent)
    factories.carry_out(refuse="Exported meanwhile")
    _instructions(case).update(state="done")


def _lock_canceled(agent):
    case = case_unlocked(agent)
    operations.relock(case.rows, why="Not needed", by=acting(make_user("manager", group="Manager")))
    _instructions(case).filter(what="lock").update(state="canceled", done_at=timezone.now())


def _left_over(agent):
    locked = {"status": "bypassed", "grant": None, "unlocked_by": None}
    case_unlocking(agent).rows.update(**locked)


def _carried_out_by_themselves(agent):
    case = case_recorded_by_phone(agent)
    operations.unlock(case.rows, by=acting(make_user("second", group="Agent")))
    _instructions(case).update(started_by=agent)


def _instruction_of_one_s_own(agent):
    """It names an act that unlocked something else."""
    case_unlocking(agent)
    case = case_consented(agent)
    an_instruction(case.batch, case.unlock_request.lines.first())


def _asked_twice(agent):
    asked = _instructions(case_unlocked(agent)).first()
    an_instruction(asked.batch, asked.line, act_id=asked.act_id)


def _lock_of_an_act_that_unlocked(agent):
    _instructions(_relocked(agent)).filter(what="unlock").update(what="lock")


def _unlocked_for_a_month(agent):
    case = case_unlocked(agent)
    Batch.objects.filter(pk=case.batch.pk).update(unlocked_until=timezone.now() + timedelta(days=30))


def _extended_by_an_unlock(agent):
    case = case_unlocked(agent)
    Batch.objects.filter(pk=case.batch.pk).update(extension=case.batch.instructions.get().act)


def _asked_for_again(agent):
    case = case_consented(agent)
    out = make_batch(account=case.account)
    for outcome in ("not_unlocked", "waiting"):
        lines = RequestedBatch.objects.filter(batch=out)
        if not lines.exists():
            write(RequestedBatch(unlock_request=case.unlock_request, batch=out))
        history.update(lines, by=Actor.desk(), outcome=outcome)


def _reviewed(agent):
    case = case_unlocked(agent)
    with override_settings(REVIEW_SHARE=100):
        operations.mark_re_exported(case.rows, by=acting(agent))
    return Review.objects.get(unlock_request=case.unlock_request)


def _reviewed_by_themselves(agent):
    review = _reviewed(agent)
    write(ReviewDecision(review=review, position=1, decision="signed_off", by=agent, at=timezone.now()))


def _decided_by_nobody_who_was_told(decision):
    def offend(agent):
        review, by = _reviewed(agent), make_user("reviewer", group="Manager")
        write(ReviewDecision(review=review, position=1, decision=decision, note="Why", by=by, at=timezone.now()))

    return offend


def _drawn_by_hand(agent):
    case = case_unlocked(agent)
    operations.mark_re_exported(case.rows, by=acting(agent))
    reasons = {"by_phone": False, "warned": False, "large": False, "drawn": True}
    write(Review(unlock_request=case.unlock_request, due_at=timezone.now(), **reasons))


OFFENCES = {
    "reviewed by a person who took part in the case": [_reviewed_by_themselves],
    "no ledger entry “Review required” is about it": [_drawn_by_hand],
    "no ledger entry “Signed off” is about it": [_decided_by_nobody_who_was_told("signed_off")],
    "no ledger entry “Flagged” is about it": [_decided_by_nobody_who_was_told("flagged")],
    "no ledger entry “Flag resolved” is about it": [_decided_by_nobody_who_was_told("resolved")],
    "asked for again after its customer had answered": [_asked_for_again],
    "unlocking, but the product is not asked to unlock it": [_canceled_behind_its_back, _lost],
    "unlocked, but the product did not say so": [_never_unlocked],
    "unlocked for longer than an act allows": [_unlocked_for_a_month],
    "its window was extended by no act": [_extended_by_an_unlock],
    "relocking, but the product is not asked to lock it": [_lock_canceled],
    "to be unlocked in the product, but the batch is not unlocking": [_left_over],
    "carried out by the person who recorded the consent by phone": [_carried_out_by_themselves],
    "no act asked the product for it": [_instruction_of_one_s_own, _lock_of_an_act_that_unlocked, _asked_twice],
    "the product should be asked for it, but no instruction is there": [_lost, _lock_of_an_act_that_unlocked],
    "told as the answer of the product, but no instruction has that answer": [
        _never_unlocked_and_relocked,
        _never_relocked,
        _never_refused,
    ],
    "unlocked without an agreed consent of its account for this batch": [_without_consent],
    "unlocked under a withdrawn consent": [_withdrawn],
    "unlocked by the person who recorded the consent by phone": [_own_recording],
    "unlocked by a person who was shown a consent link of the request": [_shown_the_link],
    "unlocked by a person who typed a PIN for the request": [_typed_a_pin],
    "unlocked by a person who entered the address of the contact who consented": [_entered_the_address],
    "unlocked by a system with a token made by a person who obtained the consent": [
        _recorded_by_its_maker,
        _shown_to_its_maker,
        _typed_by_its_maker,
        _put_by_its_maker,
    ],
    "its address was confirmed by a person who entered it": [_confirmed_by_who_entered_it],
    "no ledger entry “Admin address confirmed” is about it": [_confirmation_unrecorded],
    "went to an address that its contact did not have on record then": [
        _sent_elsewhere_for_a_minute,
        _sent_before_it_counted,
    ],
    "unlocked, but no open request shows it": [_no_line],
    "shown as unlocked, but its batch is not": [_line_alone],
    "its outcome is not what the newest act made of it": [_other_outcome, _outcome_taken_back],
    "no act made its outcome": [_outcome_of_no_act],
    "fingerprint does not fit the content": [_fingerprint],
    "decided by a link, but no opening of it led there": [_without_opening, _with_an_opening_of_another_link],
    "text does not fit its hash": [_text],
    "covers another number of batches than was shown": [_count],
    "covers a batch of another request": [_other_request],
    "no ledger entry “Consent given” is about it": [_unrecorded],
    "agreed, but the ledger shows no PIN verified": [_no_pin],
    "recorded by phone, but the ledger shows no PIN verified by the person who recorded it": [
        _recorded_by_phone_without_pin
    ],
    "no ledger entry “Consent recorded by phone” is about it": [_own_recording],
    "no ledger entry “Consent declined” is about it": [_declined_unrecorded],
    "no ledger entry “Consent link opened” is about it": [_opening_unrecorded],
    "no ledger entry “Closed” is about it": [_closed_too_early],
    "no ledger entry “Evidence attached” is about it": [_evidence_unrecorded],
    "no ledger entry “Consent terms published” is about it": [_published_unrecorded],
    "no ledger entry “Receipt issued again” is about it": [_receipt_unrecorded],
    "no ledger entry “Certificate issued” is about it": [_certificate_unrecorded],
    "content does not fit its hash": [_certificate_altered],
    "no ledger entry “Consent link issued” is about it": [_link_unrecorded],
    "no ledger entry “Consent withdrawn” is about it": [_withdrawal_unrecorded],
    "no ledger entry “Opened” is about it": [_opened_unrecorded],
    "no ledger entry “New PIN queued” is about it": [_pending_pin_unrecorded],
    "no ledger entry “New PIN in force” is about it": [_pin_unrecorded],
    "no ledger entry “API token made” is about it": [_token_unrecorded],
    "no ledger entry “Link to set a password sent” is about it": [_staff_link_unrecorded],
    "no ledger entry “Link to set a password used” is about it": [_staff_link_used_unrecorded],
    "closed with batches still open in it": [_closed_too_early],
    "its number of batches is not that of its lines": [
        _another_number,
        _more_than_it_ever_had,
        _less_than_was_unlocked,
        _line_past_the_desk,
    ],
    "its total is not that of its batches": [_another_total, _total_past_the_desk],
    "batch: the newest history row tells something else": [_past_history, _made_past_history, _null_against_a_value],
    "requested batch: the newest history row tells something else": [_no_line],
    "unlock request: the newest history row tells something else": [_closed_too_early],
    "batch item: the newest history row tells something else": [_fingerprint],
}


@pytest.fixture
def lifted(db):
    """Lifted before the test writes anything: PostgreSQL drops no trigger of a table with checks still to come."""
    guards.remove()
    yield
    connection.check_constraints()
    guards.install()


@pytest.mark.parametrize(
    ("wrong", "offend"),
    [(wrong, offend) for wrong, ways in OFFENCES.items() for offend in ways],
    ids=lambda value: value.__name__.strip("_") if callable(value) else None,
)
def test_finds_its_offender(agent, monkeypatch, lifted, wrong, offend):
    monkeypatch.setattr(guards, "missing", lambda: [])
    offend(agent)
    assert [rows.exists() for name, rows in invariants.offenders() if name == wrong] == [True]


def test_every_invariant_has_an_offender_here(db):
    named = {wrong for wrong, _ in invariants.offenders()}
    same_query = {f"{name}: the newest history row tells something else" for name in ("account", "contact")}
    assert named == OFFENCES.keys() | same_query


def test_a_wholly_forged_case_shows(agent):
    """Raw writes can make up a link, an agreement and all that hangs on it; but they cannot seal it."""
    case = case_awaiting(agent)
    forge_consent(case)
    assert {
        "no ledger entry “Consent given” is about it",
        "agreed, but the ledger shows no PIN verified",
    } <= found().keys()
    assert RequestedBatch.objects.filter(consented__isnull=False).count() == 2
    assert timedelta(0) < Consent.objects.get().valid_until - timezone.now()


def test_a_batch_that_was_changed_while_it_is_unlocked_is_no_finding(agent):
    case, by = case_unlocked(agent), Actor.desk().begin()
    history.update(Batch.objects.filter(pk=case.batch.pk), by=by, name="Edited by the customer")
    with transaction.atomic():
        chain.append(events.Imported(source="the product"), by=by)
    assert (Batch.objects.get(pk=case.batch.pk).status, verify.findings()) == ("unlocked", [])
