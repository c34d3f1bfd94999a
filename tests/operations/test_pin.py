import re
from datetime import timedelta

import pytest
import time_machine
from django.contrib.auth.hashers import check_password
from django.core import mail
from django.core.exceptions import PermissionDenied
from django.db.models import Q
from django.utils import timezone

from config.settings import PASSWORD_HASHERS
from tests import factories, mail_servers
from tests.factories import (
    PIN,
    acting,
    case_awaiting,
    customer,
    deliver,
    make_account,
    make_contact,
    make_user,
    open_case,
)
from tests.operations import facts_of, kinds, only_for, recorded, refused
from unlocks import operations, pins
from unlocks.keys import derived
from unlocks.ledger import emails, present
from unlocks.models import Account, LedgerEntry, UnlockRequest
from unlocks.operations import Refused
from unlocks.outbox import rows, secrets
from unlocks.rules import Refusal

pytestmark = pytest.mark.django_db

TRIED = ("unlocks_account", "unlocks_ledgerentry")


def opened_link(agent, **fields):
    case = case_awaiting(agent, **fields)
    operations.open_consent_link(case.link, by=customer(case.admin))
    return case


def test_verified_by_an_agent_is_recorded_as_that(agent):
    case = open_case(agent)
    operations.verify_pin(case.unlock_request, pin=PIN, by=acting(agent))
    unlock_request = UnlockRequest.objects.get()
    assert (unlock_request.pin_typed_by, unlock_request.pin_verified_by, unlock_request.pin_verified_at is None) == (
        "agent",
        agent,
        False,
    )
    assert kinds(unlock_request) == ["opened", "pin_typed", "pin_verified"]
    assert unlock_request.history.count() == 2


def test_only_for_those_who_verify(agent):
    case = open_case(agent)
    only_for(["Agent", "Manager"], lambda by: operations.verify_pin(case.unlock_request, pin=PIN, by=by))


def test_customer_verifies_for_the_link_alone(agent):
    case = opened_link(agent)
    operations.verify_customer_pin(case.link, pin=PIN, by=customer(case.admin))
    assert timezone.now() - case.link.pin_verified_at < timedelta(minutes=1)
    assert UnlockRequest.objects.get().pin_verified_at is None
    assert kinds(case.unlock_request)[-1] == "pin_verified"


def test_staff_cannot_type_it_on_the_customers_page(agent, superuser):
    case = opened_link(agent)
    with pytest.raises(PermissionDenied):
        operations.verify_customer_pin(case.link, pin=PIN, by=acting(superuser))
    assert case.link.pin_verified_at is None


def test_wrong_pin_counts_and_is_never_kept(agent):
    case = open_case(agent)
    with refused(
        Refusal.PIN_WRONG,
        says="That PIN is not correct. After five wrong tries it is locked for a while.",
        writes=TRIED,
    ):
        operations.verify_pin(case.unlock_request, pin="000000", by=acting(agent))
    assert Account.objects.get().pin_failures == 1
    assert recorded(case.unlock_request)[-1] == ("pin_wrong", {"tries": 1})
    assert not LedgerEntry.objects.filter(Q(facts__contains="000000") | Q(personal__contains="000000")).exists()


def try_wrong(case, agent, times):
    for _ in range(times):
        with pytest.raises(operations.Refused):
            operations.verify_pin(case.unlock_request, pin="000000", by=acting(agent))


def test_locks_longer_and_longer_and_at_last_for_good(agent):
    case = open_case(agent)
    account = Account.objects.filter(pk=case.account.pk)
    with time_machine.travel(timezone.now(), tick=False) as clock:
        try_wrong(case, agent, 5)
        assert account.get().pin_locked_until == timezone.now() + timedelta(minutes=15)
        with refused(Refusal.PIN_LOCKED, writes=("unlocks_ledgerentry",)):
            operations.verify_pin(case.unlock_request, pin=PIN, by=acting(agent))

        clock.shift(timedelta(minutes=15))
        try_wrong(case, agent, 5)
        assert account.get().pin_locked_until == timezone.now() + timedelta(hours=1)

        clock.shift(timedelta(hours=1))
        try_wrong(case, agent, 5)
        clock.shift(timedelta(days=1))
        with refused(
            Refusal.PIN_LOCKED,
            says="Locked out after 15 wrong attempts. A manager has to issue a new PIN.",
            writes=("unlocks_ledgerentry",),
        ):
            operations.verify_pin(case.unlock_request, pin=PIN, by=acting(agent))
    assert account.get().pin_failures == 15
    wrong, locked = ["pin_typed", "pin_wrong"], ["pin_typed", "pin_locked"]
    assert kinds(case.unlock_request) == ["opened", *5 * wrong, *locked, *10 * wrong, *locked]


def test_right_pin_wipes_the_wrong_ones(agent):
    case = open_case(agent)
    try_wrong(case, agent, 4)
    operations.verify_pin(case.unlock_request, pin=PIN, by=acting(agent))
    assert Account.objects.values_list("pin_failures", "pin_locked_until").get() == (0, None)


def test_no_pin_is_refused_in_the_same_words(agent):
    case = open_case(agent, account=make_account(pin=""))
    with refused(
        Refusal.PIN_WRONG,
        says="That PIN is not correct. After five wrong tries it is locked for a while.",
        writes=TRIED,
    ):
        operations.verify_pin(case.unlock_request, pin="", by=acting(agent))


def end_link(case, how):
    by = acting(case.agent)
    if how == "revoked":
        operations.revoke_consent_link(case.unlock_request, by=by)
    elif how == "closed":
        operations.close_request(case.unlock_request, resolution="canceled", why="", by=by)
    else:
        operations.send_consent_link(case.unlock_request, contact=case.admin, by=by)


@pytest.mark.parametrize("how", ["revoked", "closed", "superseded"])
def test_a_dead_link_takes_no_tries(agent, how):
    case = opened_link(agent)
    link = case.link
    end_link(case, how)
    with refused(Refusal.LINK_DEAD):
        operations.verify_customer_pin(link, pin="000000", by=customer(case.admin))


def test_an_expired_link_takes_no_tries(agent):
    case = opened_link(agent)
    with time_machine.travel(timezone.now() + timedelta(hours=73)), refused(Refusal.LINK_DEAD):
        operations.verify_customer_pin(case.link, pin="000000", by=customer(case.admin))


def test_a_link_that_nobody_opened_takes_no_tries(agent):
    case = case_awaiting(agent)
    with refused(Refusal.NOT_OPENED):
        operations.verify_customer_pin(case.link, pin=PIN, by=customer(case.admin))


def test_a_closed_request_takes_no_tries(agent):
    case = open_case(agent)
    operations.close_request(case.unlock_request, resolution="canceled", why="", by=acting(agent))
    with refused(Refusal.CLOSED):
        operations.verify_pin(case.unlock_request, pin=PIN, by=acting(agent))


def emailed_pin():
    (pin,) = set(re.findall(r"\b\d{6}\b", mail.outbox[-1].body))
    return pin


def test_new_pin_goes_to_the_admins_by_mail_and_to_nobody_else(manager, settings):
    settings.PASSWORD_HASHERS = PASSWORD_HASHERS
    account = make_account(pin="")
    second = make_contact(account=account)
    make_contact(account=account, is_admin=False)
    with factories.delivered():
        operations.issue_pin(account, by=acting(manager))

    assert sorted(message.to[0] for message in mail.outbox) == sorted([account.contacts.first().email, second.email])
    pin = emailed_pin()
    assert Account.objects.get().pin_hash.startswith("argon2$argon2id$v=19$m=19456,t=2,p=1$")
    admins = [contact.pk for contact in account.contacts.filter(is_admin=True)]
    drawn = {"to": admins, "pin_mac": pins.mac(account.pk, Account.objects.get().pin_hash)}
    assert recorded(kind="pin_drawn") == [("pin_drawn", drawn)]
    (entry,) = LedgerEntry.objects.filter(kind="pin_issued")
    assert (facts_of(entry)["pin_mac"], len(facts_of(entry)["to"])) == (drawn["pin_mac"], 1)
    assert not LedgerEntry.objects.filter(Q(facts__contains=pin) | Q(personal__contains=pin)).exists()
    assert account.history.count() == 1


def test_new_pin_ends_a_lock(agent, manager):
    case = open_case(agent)
    Account.objects.filter(pk=case.account.pk).update(pin_failures=15)
    with factories.delivered():
        operations.issue_pin(case.account, by=acting(manager))
    operations.verify_pin(case.unlock_request, pin=emailed_pin(), by=acting(agent))


# A new PIN counts once a server has taken the first email with it


def pin_of(account):
    """Return the PIN that waits in the account's emails."""
    return secrets.pin(account.outgoing.filter(email="new_pin", state="queued").latest("queued_at").nonce)


def right(case, pin):
    """Say whether a PIN is right, as a customer who types it finds out."""
    case.account.refresh_from_db()
    try:
        operations.verify_customer_pin(case.link, pin=pin, by=customer(case.admin))
    except Refused:
        return False
    return True


def told(account):
    kinds = ("pin_drawn", "pin_issued", "pin_dropped", "email_sent", "email_failed")
    entries = LedgerEntry.objects.filter(account=account, kind__in=kinds, sequence__gt=_made(account))
    return list(entries.order_by("sequence").values_list("kind", flat=True))


def _made(account):
    return LedgerEntry.objects.filter(account=account, kind="pin_issued").earliest("sequence").sequence


def test_the_old_pin_stands_until_the_new_one_is_emailed(manager, agent):
    case = opened_link(agent)
    deliver()
    operations.issue_pin(case.account, by=acting(manager))
    new = pin_of(case.account)
    assert (right(case, PIN), right(case, new)) == (True, False)
    assert case.link.pin_verified_at is not None
    deliver()
    assert case.link.pin_verified_at is None  # what the old PIN verified counts no more
    assert (right(case, PIN), right(case, new)) == (False, True)
    assert told(case.account)[-4:] == ["email_sent", "pin_drawn", "email_sent", "pin_issued"]
    assert Account.objects.get(pk=case.account.pk).pending_pin_hash == ""
    assert list(present.faults()) == []


def test_a_pin_that_nobody_could_be_emailed_is_dropped(manager, agent):
    case = opened_link(agent)
    make_contact(account=case.account)
    deliver()
    with mail_servers.running() as server:
        server.answers["RCPT"] = "550 No such mailbox"
        operations.issue_pin(case.account, by=acting(manager))
        new = pin_of(case.account)
        deliver()
    assert told(case.account)[-4:] == ["pin_drawn", "email_failed", "email_failed", "pin_dropped"]
    assert (right(case, new), right(case, PIN)) == (False, True)
    assert Account.objects.get(pk=case.account.pk).pending_pin_hash == ""
    assert list(present.faults()) == []


def test_one_admin_is_enough_and_the_others_get_the_same(manager, agent):
    case = opened_link(agent)
    second = make_contact(account=case.account)
    deliver()
    operations.issue_pin(case.account, by=acting(manager))
    new = pin_of(case.account)
    with mail_servers.running() as server:
        server.answers[case.admin.email] = "550 No such mailbox"
        server.answers[second.email] = "451 Later"
        deliver()
        assert right(case, new) is False
        server.answers.pop(second.email)
        with time_machine.travel(timezone.now() + timedelta(seconds=6)):
            deliver()
            assert right(case, new) is True
    assert [email.to for email in emails.failures(case.account)] == [case.admin.email]
    assert told(case.account)[-4:] == ["pin_drawn", "email_failed", "email_sent", "pin_issued"]


def test_a_pin_that_another_one_replaced_never_counts(manager, agent):
    case = opened_link(agent)
    deliver()
    operations.issue_pin(case.account, by=acting(manager))
    first = pin_of(case.account)
    operations.issue_pin(case.account, by=acting(manager))
    second = pin_of(case.account)
    assert len(deliver()) == 1
    assert (right(case, first), right(case, second)) == (False, True)


def test_a_pending_hash_that_no_entry_tells_of_is_not_put_in_force(manager, agent):
    """A PIN drawn for one account, copied with its row of the outbox to another, is neither emailed nor counts."""
    case, own = opened_link(agent), make_account()
    deliver()
    operations.issue_pin(own, by=acting(manager))
    known = own.outgoing.get(email="new_pin")
    queued = rows.queue(
        "new_pin",
        case.admin.email,
        by=acting(manager),
        nonce=known.nonce,
        account=case.account,
        contact=case.admin,
    )
    Account.objects.filter(pk=case.account.pk).update(pending_pin_hash=own.pending_pin_hash)
    pin = secrets.pin(known.nonce)
    deliver()
    queued.refresh_from_db()
    assert (queued.state, queued.answer) == ("canceled", "A newer PIN was issued.")
    assert (right(case, pin), right(case, PIN)) == (False, True)
    assert [kind for kind, _ in present.faults()] == ["account differs now"]


def test_without_the_key_the_hash_is_not_the_pins(settings):
    """A stolen table can't be tried: neither the PIN nor its plain hash fits, nor does it under another key."""
    kept = pins.hashed(PIN)
    assert (pins.matches(PIN, kept), check_password(PIN, kept)) == (True, False)
    settings.LEDGER_KEY = "another key"
    assert pins.matches(PIN, kept) is False


def test_a_pin_is_hashed_as_it_is_compared():
    assert pins.matches(" 482\u2011915 ", pins.hashed("４８２ 915"))


def test_the_mac_of_a_hash_belongs_to_one_account_and_one_key(settings):
    macs = [pins.mac(1, "hash"), pins.mac(2, "hash"), pins.mac(1, "other")]
    settings.LEDGER_KEY = "another key"
    assert len({*macs, pins.mac(1, "hash")}) == 4


def test_the_mac_and_the_pepper_have_keys_of_their_own():
    assert len({derived(name) for name in ("PIN", "issued PIN", "certificate code")}) == 3


def _own(account):
    return "654321", pins.hashed("654321")


def _of_another_account(account):
    return "730264", make_account(pin="730264").pin_hash


def _an_earlier_one(account):
    earlier = account.pin_hash
    factories.issue_pin(Account.objects.get(pk=account.pk), by=make_user("manager", group="Manager"))
    return PIN, earlier


@pytest.mark.parametrize("put", [_own, _of_another_account, _an_earlier_one])
def test_a_hash_that_was_put_into_the_row_is_a_wrong_pin(agent, put):
    case = opened_link(agent)
    pin, pin_hash = put(case.account)
    Account.objects.filter(pk=case.account.pk).update(pin_hash=pin_hash)
    with refused(
        Refusal.PIN_WRONG,
        says="That PIN is not correct. After five wrong tries it is locked for a while.",
        writes=TRIED,
    ):
        operations.verify_customer_pin(case.link, pin=pin, by=customer(case.admin))
    assert Account.objects.get(pk=case.account.pk).pin_failures == 1


def test_only_managers_issue_pins(db):
    account = make_account()
    only_for(["Manager"], lambda by: operations.issue_pin(account, by=by))


def test_no_admin_no_pin(manager):
    account = make_account(admin=False)
    make_contact(account=account, is_admin=False)
    with refused(Refusal.NO_ADMIN):
        operations.issue_pin(account, by=acting(manager))
