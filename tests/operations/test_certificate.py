"""Issuing certificates: one a state of the case, never altered, told in the ledger."""

import hashlib
import json
from datetime import timedelta

import pytest
import time_machine
from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.db import connection
from django.test import override_settings
from django.utils import timezone

from tests import factories
from tests.attacks import difference, snapshot
from tests.factories import (
    acting,
    answer,
    carry_out,
    case_awaiting,
    case_consented,
    case_recorded_by_phone,
    case_unlocked,
    case_unlocking,
    customer,
    hand_over,
    make_batches,
    make_user,
    record_certificate_key,
)
from tests.operations import facts_of, kinds, recorded, refused
from tests.papers import PDF
from unlocks import operations
from unlocks.certificates import facts as certified
from unlocks.certificates import keys, pdf, verify_certificate
from unlocks.database import guards
from unlocks.ledger import chain, events, signing_keys, verify
from unlocks.models import Act, Certificate, Consent, LedgerEntry
from unlocks.rules import Refusal
from unlocks.texts.shown import shown_text

pytestmark = pytest.mark.django_db

# The public key of 32 zeros.
OTHER = "3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29"


@pytest.fixture(autouse=True)
def certificate_key(db):
    return record_certificate_key()


def issue(case, by=None):
    return operations.issue_certificate(case.consent, by=by or customer(case.admin))


def facts(certificate):
    return json.loads(certificate.content)["certificate"]


def iso(moment):
    return moment and moment.isoformat()


def done(certificate, *names):
    """Return these facts of each batch, in their order."""
    return [tuple(batch[name] for name in names) for batch in facts(certificate)["batches"]]


def at(kind, **which):
    return iso(Act.objects.get(kind=kind, **which).at)


def test_names_staff_as_the_ledger_does(agent, second_agent):
    """Whatever their accounts are called now, and whatever a column beside the sealed text says."""
    case = case_recorded_by_phone(agent)
    factories.unlock(case.rows, by=acting(second_agent))
    connection.check_constraints()
    with guards.lifted():
        for user, name in ((agent, "x"), (second_agent, "agent"), (agent, "second-agent")):
            type(user).objects.filter(pk=user.pk).update(username=name)
    held = facts(issue(case))
    named = [held["case"]["opened_by"], held["consent"]["recorded_by"], held["identity"]["pin_verified_by"]]
    assert (named, {batch["unlocked_by"] for batch in held["batches"]}) == (["agent"] * 3, {"second-agent"})
    with guards.lifted():
        LedgerEntry.objects.filter(user=agent).update(actor="Somebody")
    operations.add_note(case.unlock_request, text="Later", by=acting(second_agent))
    held = facts(issue(case))
    assert (held["case"]["opened_by"], held["consent"]["recorded_by"]) == ("agent", "agent")


def test_holds_what_was_recorded_and_done(agent, second_agent, settings):
    case = case_unlocked(agent)
    operations.mark_re_exported(case.rows.filter(pk=case.batch.pk), by=acting(second_agent))
    case.refresh()
    sequence, head = chain.head()
    certificate = issue(case)

    told_of, consent, link, unlock_request = facts(certificate), case.consent, case.link, case.unlock_request
    instructed_at = iso(LedgerEntry.objects.get(unlock_request=unlock_request, kind="unlock_instructed").at)
    unlocked_at = iso(LedgerEntry.objects.get(unlock_request=unlock_request, kind="unlocked").at)
    exported_at = iso(LedgerEntry.objects.get(unlock_request=unlock_request, kind="re_exported").at)
    assert told_of == {
        "format": "unlock-desk-certificate/1",
        "number": f"{consent.reference}-1",
        "code": certificate.code,
        "issued_at": iso(certificate.issued_at),
        "public_key": keys.configured()[0],
        "interim": True,
        "vendor": "ServiceTitan",
        "check_at": f"{settings.PUBLIC_URL}/check/",
        "time_zone": "America/New_York",
        "consent": {
            "reference": consent.reference,
            "decision": "agreed",
            "how": "link",
            "recorded_by": None,
            "decided_at": iso(consent.given_at),
            "valid_until": iso(consent.valid_until),
            "terms_version": 1,
            "terms_title": "Unlocking bypassed batches",
            "terms_published_at": iso(consent.terms.published_at),
            "text": consent.text,
            "text_sha256": consent.text_sha256,
            "ticked": [
                f"I am authorized to decide this for {case.account.name}",
                "I agree to the terms (version 1)",
            ],
            "pressed": "Agree and record my consent",
            "why": None,
            "ip": None,
            "browser": None,
        },
        "case": {
            "reference": unlock_request.reference,
            "account_number": case.account.number,
            "account_name": case.account.name,
            "accounting_software": "QuickBooks Online",
            "channel": "Phone",
            "opened_at": iso(unlock_request.opened_at),
            "opened_by": "agent",
            "requester": case.admin.name,
            "bypass_reason": "By mistake",
            "reason": "Bypassed by mistake; the customer wants to export them.",
            "advice": "Customer wants to export the batches",
            "advised_at": iso(unlock_request.advised_at),
            "resolution": None,
            "closed_at": None,
        },
        "signer": {
            "name": case.admin.name,
            "role": "Controller",
            "contact_name": case.admin.name,
            "email": case.admin.email,
        },
        "identity": {
            "pin_verified_at": iso(link.pin_verified_at),
            "pin_typed_by": "customer",
            "pin_verified_by": None,
        },
        "link": {
            "sent_at": iso(link.sent_at),
            "sent_by": "agent",
            "shown_to": None,
            "expires_at": iso(link.expires_at),
            "used_at": iso(link.used_at),
            "opened_at": iso(link.openings.get().at),
            "opened_ip": None,
            "opened_browser": None,
            "openings": 1,
            "emailed": None,
            "emailed_at": None,
        },
        "batches": [
            {
                "number": batch.number,
                "name": batch.name,
                "total": "100.00",
                "item_count": 1,
                "fingerprint": batch.fingerprint,
                "outcome": outcome,
                "instructed_at": instructed_at,
                "unlocked_at": unlocked_at,
                "unlocked_by": "agent",
                "ended_at": ended_at,
                "ended_by": ended_by,
                "refusal": None,
            }
            for batch, outcome, ended_at, ended_by in zip(
                case.batches,
                ["re_exported", "unlocked"],
                [exported_at, None],
                ["second-agent", None],
                strict=True,
            )
        ],
        "acts": [
            {"kind": "unlock", "at": instructed_at, "by": "agent", "batches": 2, "why": ""},
            {"kind": "unlocked", "at": unlocked_at, "by": "ServiceTitan", "batches": 2, "why": "P-1"},
            {"kind": "re_export", "at": exported_at, "by": "second-agent", "batches": 1, "why": ""},
        ],
        "changed": {"batches": 0, "items": 0, "not_known": 2},
        "withdrawal": None,
        "evidence": [],
        "ledger": {
            "entries": [
                {
                    "sequence": event.sequence,
                    "at": iso(event.at),
                    "what": events.KINDS[event.kind].label,
                    "actor": event.actor,
                    "hash": event.hash,
                }
                for event in LedgerEntry.objects.filter(unlock_request=unlock_request)
                .exclude(kind="certified")
                .order_by("sequence")
            ],
            "head": {"sequence": sequence, "hash": head},
        },
    }


def test_is_signed_and_drawn_from_its_facts_alone(agent):
    certificate = issue(case_consented(agent))
    stored = Certificate.objects.get(pk=certificate.pk)
    assert stored.content == keys.document(facts(stored))
    assert bytes(stored.pdf) == pdf.render(facts(stored))
    assert stored.sha256 == hashlib.sha256(stored.content.encode()).hexdigest()
    assert stored.pdf_sha256 == hashlib.sha256(bytes(stored.pdf)).hexdigest()
    assert verify_certificate.verify(stored.content.encode(), keys.configured()[0]) == facts(stored)


def with_another_key():
    return override_settings(CERTIFICATE_KEYS=[bytes(32), *settings.CERTIFICATE_KEYS])


def test_a_key_that_is_not_recorded_never_signs(agent):
    case = case_consented(agent)
    with with_another_key():
        unrecorded, recorded_one = keys.configured()
        assert facts(issue(case))["public_key"] == recorded_one
        operations.add_note(case.unlock_request, text="Called", by=acting(agent))
        assert record_certificate_key() == verify_certificate.key_id(unrecorded)
        assert facts(issue(case))["public_key"] == unrecorded
    assert verify.findings() == []


def test_a_key_is_recorded_once(certificate_key):
    assert (certificate_key, record_certificate_key()) == ("2e92382f8aa642f9", None)
    assert [(key.id, key.valid_until) for key in signing_keys.recorded()] == [("2e92382f8aa642f9", None)]
    entry = LedgerEntry.objects.get(kind="certificate_key")
    assert facts_of(entry) == {"key": keys.configured()[0], "key_id": "2e92382f8aa642f9"}
    assert signing_keys.newest().valid_from == entry.appended_at


def test_no_certificate_is_from_before_its_key(agent):
    """As on a machine whose clock is behind that of the one that recorded the key."""
    case = case_consented(agent)
    with time_machine.travel(timezone.now() - timedelta(seconds=30)), refused(Refusal.BUSY):
        issue(case)


def test_without_the_secret_of_the_newest_key_none_is_issued_and_the_older_ones_are_shown(agent):
    case = case_consented(agent)
    issued = issue(case)
    with override_settings(CERTIFICATE_KEYS=[]):
        assert issue(case) == issued
        operations.add_note(case.unlock_request, text="Called", by=acting(agent))
        with refused(Refusal.NO_CERTIFICATE_KEY):
            issue(case)
    with with_another_key():
        record_certificate_key()
    with refused(Refusal.NO_CERTIFICATE_KEY):  # the first key is valid no more
        issue(case)


def test_the_audit_names_a_certificate_of_a_key_that_was_not_valid_then(agent):
    case = case_consented(agent)
    with with_another_key():
        record_certificate_key()
        number = issue(case).number
    connection.check_constraints()
    with guards.lifted():
        LedgerEntry.objects.filter(kind="certificate_key").order_by("-sequence")[:1].get().delete()
    found = verify.findings()
    assert (
        f"Certificate {number} was signed with key {verify_certificate.key_id(OTHER)} when certificates were signed "
        "with key 2e92382f8aa642f9."
    ) in found


def test_the_ledger_tells_of_it(agent):
    case = case_consented(agent)
    certificate = issue(case, by=acting(agent))
    assert recorded(case.unlock_request)[-1] == (
        "certified",
        {
            "consent": case.consent.pk,
            "certificate": certificate.number,
            "interim": True,
            "key": "2e92382f8aa642f9",
            "sha256": certificate.sha256,
            "pdf_sha256": certificate.pdf_sha256,
        },
    )
    assert (certificate.issued_by, list(chain.faults())) == (agent, [])


def test_the_same_case_has_the_same_certificate(agent):
    case = case_consented(agent)
    first = issue(case)
    case_consented(agent)
    before = snapshot()
    with time_machine.travel(timezone.now() + timedelta(hours=1)):
        assert issue(case, by=acting(agent)) == first
    assert difference(before, snapshot()) == []


def test_what_happens_since_asks_for_a_new_one(agent):
    case = case_consented(agent)
    first = issue(case)
    operations.unlock(case.rows, by=acting(agent))
    second = issue(case)
    assert [first.number, second.number] == [f"{case.consent.reference}-1", f"{case.consent.reference}-2"]
    assert facts(Certificate.objects.get(pk=first.pk))["acts"] == []
    assert kinds(case.unlock_request)[-3:] == ["certified", "unlock_instructed", "certified"]
    carry_out()
    assert issue(case).number == f"{case.consent.reference}-3"


def test_that_staff_opened_a_file_asks_for_none(agent, evidence_place):
    case = case_recorded_by_phone(agent)
    attached = {"what": "signed_paper", "file_name": "signed.pdf", "content": PDF}
    paper = operations.attach_evidence(case.consent, **attached, by=acting(agent))
    issued = issue(case)
    operations.open_evidence(paper, by=acting(agent))
    assert issue(case) == issued
    assert not certified.entries_of(case.unlock_request).filter(sequence__gt=issued.upto).exists()


def test_what_was_only_instructed_is_not_unlocked(agent):
    case = case_unlocking(agent)
    unlocking = ("unlocking", at("unlock"), None, "agent", None)
    names = ("outcome", "instructed_at", "unlocked_at", "unlocked_by", "ended_at")
    assert done(issue(case), *names) == [unlocking] * 2
    hand_over()
    assert done(issue(case), *names) == [unlocking] * 2


def test_an_instruction_that_was_canceled_counts_as_none(agent, second_agent):
    case = case_unlocking(agent)
    operations.cancel_unlock(case.rows.filter(pk=case.batch.pk), why="Asked to wait", by=acting(agent))
    names = ("outcome", "instructed_at", "unlocked_by")
    waiting = issue(case)
    instructed = ("unlocking", at("unlock"), "agent")
    assert done(waiting, *names) == [("waiting", None, None), instructed]
    assert [(act["kind"], act["batches"], act["why"]) for act in facts(waiting)["acts"]] == [
        ("unlock", 2, ""),
        ("cancel", 1, "Asked to wait"),
    ]
    operations.unlock(case.rows.filter(pk=case.batch.pk), by=acting(second_agent))
    assert done(issue(case), *names) == [
        ("unlocking", at("unlock", actor="second-agent"), "second-agent"),
        ("unlocking", at("unlock", actor="agent"), "agent"),
    ]


def test_what_the_product_refused_was_never_unlocked(agent):
    case = case_unlocking(agent, batches=make_batches(n=3))
    first, second, _ = hand_over()
    answer([first], "done", "P-1")
    answer([second], "refused", "Exported meanwhile")
    certificate = issue(case)
    names = ("outcome", "unlocked_at", "unlocked_by", "ended_at", "ended_by", "refusal")
    assert done(certificate, *names) == [
        ("unlocked", at("unlocked"), "agent", None, None, None),
        ("refused", None, "agent", at("refused"), "ServiceTitan", "Exported meanwhile"),
        ("unlocking", None, "agent", None, None, None),
    ]
    assert verify_certificate.verify(certificate.content.encode(), keys.configured()[0]) == facts(certificate)


def test_a_relock_is_told_once_it_is_done_with_who_decided_it(agent, manager):
    case = case_unlocked(agent)
    operations.relock(case.rows, why="Asked for", by=acting(manager))
    names = ("outcome", "unlocked_at", "ended_at", "ended_by")
    assert done(issue(case), *names) == [("relocking", at("unlocked"), None, None)] * 2
    carry_out()
    assert done(issue(case), *names) == [("relocked", at("unlocked"), at("relocked"), "manager")] * 2


def test_what_was_exported_before_the_relock_is_told_as_exported(agent, second_agent, manager):
    case = case_unlocked(agent)
    operations.relock(case.rows, why="Asked for", by=acting(manager))
    operations.mark_re_exported(case.rows, by=acting(second_agent))
    assert (
        done(issue(case), "outcome", "ended_at", "ended_by") == [("re_exported", at("re_export"), "second-agent")] * 2
    )


def test_a_withdrawal_before_the_answer_leaves_open_whether_it_was_unlocked(agent):
    case = case_unlocking(agent)
    sent = hand_over()
    operations.withdraw_own_consent(case.consent, why="", by=customer(case.admin))
    answer(sent, "done", "P-1")
    carry_out()
    by = f"Link for {case.admin.name}"
    final = issue(case)
    assert (
        done(final, "outcome", "instructed_at", "unlocked_at", "ended_at", "ended_by")
        == [("relocked", at("unlock"), None, at("relocked"), by)] * 2
    )
    assert final.interim is False


def test_many_answers_cost_no_more_queries(agent, django_assert_num_queries):
    case = case_unlocking(agent, batches=make_batches(n=6))
    for instruction in hand_over():
        answer([instruction], "done", f"P-{instruction.pk}")
        consent = Consent.objects.get(pk=case.consent.pk)
        with django_assert_num_queries(26):
            certified.facts(consent, number="", code="", issued_at=timezone.now(), public_key="")


def test_is_interim_until_the_case_is_closed(agent):
    case = case_unlocked(agent)
    interim = issue(case)
    operations.mark_re_exported(case.rows, by=acting(agent))
    final = issue(case)
    assert [(interim.interim, facts(interim)["interim"]), (final.interim, facts(final)["interim"])] == [
        (True, True),
        (False, False),
    ]
    assert facts(final)["case"]["resolution"] == "Re-exported"


def test_of_a_consent_recorded_by_phone(agent, second_agent):
    case = case_recorded_by_phone(agent)
    told_of = facts(issue(case))
    assert (told_of["consent"]["how"], told_of["consent"]["recorded_by"], told_of["link"]) == ("phone", "agent", None)
    assert told_of["identity"] == {
        "pin_verified_at": iso(case.consent.pin_verified_at),
        "pin_typed_by": "agent",
        "pin_verified_by": "agent",
    }
    assert (told_of["consent"]["ticked"], told_of["consent"]["pressed"], told_of["consent"]["ip"]) == ([], None, None)


def test_of_a_refusal(agent):
    case = case_awaiting(agent)
    operations.open_consent_link(case.link, by=customer(case.admin))
    case.consent, _ = operations.decline_consent(
        case.link, name="Dana Whitfield", role="", why="", shown=shown_text(case.link), by=customer(case.admin)
    )
    told_of = facts(issue(case))
    assert (told_of["consent"]["decision"], told_of["batches"], told_of["interim"]) == ("declined", [], False)
    assert (told_of["signer"]["name"], told_of["signer"]["role"]) == ("Dana Whitfield", None)
    assert told_of["consent"]["pressed"] == "Record that I do not agree"


def test_of_a_consent_that_was_taken_back(agent):
    case = case_unlocked(agent)
    operations.withdraw_own_consent(case.consent, why="", by=customer(case.admin))
    interim = issue(case)
    carry_out()
    told_of = facts(issue(case))
    withdrawal = case.consent.withdrawal
    assert (done(interim, "outcome", "ended_at"), facts(interim)["withdrawal"]) == (
        [("relocking", None)] * 2,
        told_of["withdrawal"],
    )
    assert [interim.interim, told_of["interim"]] == [True, False]
    assert told_of["withdrawal"] == {
        "at": iso(withdrawal.at),
        "by": f"Link for {case.admin.name}",
        "through": "receipt",
        "contact": case.admin.name,
        "why": None,
    }
    assert [batch["outcome"] for batch in told_of["batches"]] == ["relocked", "relocked"]
    assert [batch["ended_by"] for batch in told_of["batches"]] == [f"Link for {case.admin.name}"] * 2


def test_of_a_consent_that_was_asked_for_anew(agent):
    case = case_consented(agent)
    older = case.consent
    operations.send_consent_link(case.unlock_request, contact=case.admin, by=acting(agent))
    link, by = case.link, customer(case.admin)
    operations.open_consent_link(link, by=by)
    operations.verify_customer_pin(link, pin="482915", by=by)
    operations.give_consent(link, name="Ann", role="Owner", shown=shown_text(link), by=by)
    factories.unlock(case.rows, by=acting(agent))
    told_of = facts(operations.issue_certificate(older, by=by))
    assert [(batch["outcome"], batch["unlocked_at"]) for batch in told_of["batches"]] == [
        ("later_consent", None),
        ("later_consent", None),
    ]


def test_tells_no_secret(agent):
    case = case_awaiting(agent)
    operations.add_note(case.unlock_request, text="Rude on the phone", by=acting(agent))
    link, by = case.link, customer(case.admin)
    operations.open_consent_link(link, by=by)
    operations.verify_customer_pin(link, pin="482915", by=by)
    case.consent, token = operations.give_consent(link, name="Ann", role="Owner", shown=shown_text(link), by=by)
    content = issue(case).content
    secrets = [case.token, token, link.token_hash, case.consent.receipt_hash, case.account.pin_hash, "Rude", "482915"]
    assert [secret for secret in secrets if secret in content] == []


def test_only_for_staff_who_may_see_consents(agent, auditor):
    case = case_consented(agent)
    stranger = make_user("stranger")
    before = snapshot()
    with pytest.raises(PermissionDenied):
        issue(case, by=acting(stranger))
    assert difference(before, snapshot()) == []
    assert issue(case, by=acting(auditor)).issued_by == auditor
