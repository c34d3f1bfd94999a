"""Two people at once, on real connections: the second is told, nothing is done twice, nothing is lost."""

import threading
import uuid
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
import time_machine
from allauth.socialaccount.models import SocialAccount
from django.contrib.auth.models import User
from django.core.cache import cache
from django.db import DatabaseError, connection, connections, transaction
from django.test import Client
from django.utils import timezone

from tests import factories
from tests.attacks import hand_over, instruction, line, relocking
from tests.attacks import unlock as unlock_raw
from tests.customer.test_receipt import BOTH, hold, pressed
from tests.factories import (
    PIN,
    acting,
    case_awaiting,
    case_consented,
    case_unlocked,
    case_unlocking,
    confirm,
    customer,
    enter_contact,
    make_account,
    make_batch,
    make_batches,
    make_token,
    make_user,
    open_case,
    record_certificate_key,
)
from unlocks import history, operations, pins
from unlocks.actors import Actor
from unlocks.customer import rate_limit
from unlocks.ledger import chain, invariants
from unlocks.models import (
    Account,
    Act,
    ApiToken,
    Batch,
    CheckAttempts,
    Consent,
    ConsentedBatch,
    ConsentLink,
    ConsentWithdrawal,
    Contact,
    DeskSession,
    Instruction,
    LedgerEntry,
    OrderedAct,
    Outgoing,
    Selection,
    UnlockRequest,
)
from unlocks.outbox import worker
from unlocks.rules import PIN_TYPED, Refusal
from unlocks.texts.shown import shown_text, text_to_read_out

pytestmark = pytest.mark.django_db(transaction=True)


def at_once(*calls):
    """Call all at the same moment, each on a connection of its own; return what each returned or raised."""
    start, came = threading.Barrier(len(calls)), [None] * len(calls)

    def run(place, call):
        try:
            start.wait(timeout=20)
            came[place] = call()
        except Exception as error:
            came[place] = error
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=item) for item in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in threads)
    return came


def holds():
    assert list(chain.faults()) == []
    assert [(wrong, list(rows)) for wrong, rows in invariants.offenders() if rows.exists()] == []


@pytest.mark.parametrize("pin", [PIN, "000000"])
def test_nobody_gets_pin_and_link_in_one_hand(agent, settings, pin):
    settings.SHOW_CONSENT_LINK = True
    for _ in range(5):
        case = case_awaiting(agent)
        operations.revoke_consent_link(case.unlock_request, by=acting(agent))
        at_once(
            partial(operations.verify_pin, case.unlock_request, pin=pin, by=acting(agent)),
            partial(operations.send_consent_link, case.unlock_request, contact=case.admin, by=acting(agent)),
        )
        typed = case.unlock_request.entries.filter(kind=PIN_TYPED).exists()
        assert not (typed and operations.link_seen(case.unlock_request, agent))
    holds()


@pytest.mark.parametrize("pin", [PIN, "000000"])
def test_a_pin_typed_while_a_link_is_being_sent_waits_for_it(agent, settings, pin):
    settings.SHOW_CONSENT_LINK = True
    case, came = case_awaiting(agent), []
    operations.revoke_consent_link(case.unlock_request, by=acting(agent))
    other = open_case(agent, account=case.account)

    def verify():
        try:
            operations.verify_pin(other.unlock_request, pin=pin, by=acting(agent))
        except operations.Refused as refused:
            came.append(refused.code)
        finally:
            connections.close_all()

    thread = threading.Thread(target=verify)
    with transaction.atomic():
        link = operations.send_consent_link(case.unlock_request, contact=case.admin, by=acting(agent))
        thread.start()
        thread.join(timeout=0.5)
    thread.join(timeout=20)
    assert (link.shown_to, came) == (agent, [Refusal.LINK_SEEN])
    assert Account.objects.get(pk=case.account.pk).pin_failures == 0


def test_two_unlock_overlapping_sets(agent, second_agent):
    case = case_consented(agent, batches=make_batches(account=make_account(), n=30, items=0))
    first, second = case.rows.order_by("pk")[:20], case.rows.order_by("-pk")[:20]
    acts = at_once(
        lambda: operations.unlock(Batch.objects.filter(pk__in=first.values("pk")), by=acting(agent)),
        lambda: operations.unlock(Batch.objects.filter(pk__in=second.values("pk")), by=acting(second_agent)),
    )

    assert all(isinstance(act, Act) for act in acts), acts
    assert set(Batch.objects.values_list("status", flat=True)) == {"unlocking"}
    rows = Counter(Batch.history.filter(status="unlocking").values_list("id", flat=True))
    assert rows == {batch.pk: 1 for batch in case.batches}
    told = Counter(code for act in acts for code in act.verdicts.values_list("refusal", flat=True))
    assert told == {"": 30, Refusal.UNLOCKING: 10}
    holds()


def test_two_tabs_with_one_key(agent):
    case, key = case_consented(agent), uuid.uuid4()
    acts = at_once(*4 * [lambda: factories.unlock(case.rows, by=acting(agent), key=key)])
    assert {act.pk for act in acts} == {key}, acts
    assert sorted(act.repeated for act in acts) == [False, True, True, True]
    assert Act.objects.filter(kind="unlock").count() == 1
    assert Batch.history.filter(status="unlocking").count() == 2
    holds()


def test_two_open_a_request_for_the_same_batch(agent, second_agent):
    batch = make_batch()
    came = at_once(
        lambda: open_case(agent, batches=[batch]),
        lambda: open_case(second_agent, batches=[batch]),
    )
    assert UnlockRequest.objects.count() == 1
    (refused,) = [one for one in came if isinstance(one, Exception)]
    assert isinstance(refused, operations.Refused), refused
    assert refused.code == Refusal.IN_ANOTHER_REQUEST
    holds()


def test_the_customer_agrees_while_a_batch_is_taken_out(agent):
    """One of them is first; the other one is told, and nothing is agreed to that is not asked for anymore."""
    for _ in range(5):
        case = case_awaiting(agent)
        link, by = case.link, customer(case.admin)
        operations.open_consent_link(link, by=by)
        operations.verify_customer_pin(link, pin=PIN, by=by)
        shown = shown_text(link)
        taken = case.rows.filter(pk=case.batch.pk)
        came = at_once(
            partial(operations.give_consent, link, name=case.admin.name, role="Owner", shown=shown, by=by),
            partial(operations.take_out_batches, case.unlock_request, batches=taken, by=acting(agent)),
        )
        (refused,) = [one for one in came if isinstance(one, Exception)]
        assert isinstance(refused, operations.Refused), refused
        agreed = Consent.objects.filter(unlock_request=case.unlock_request).exists()
        assert refused.code == (Refusal.ANSWERED if agreed else Refusal.CHANGED_WHILE_READING)
        assert line(case).outcome == ("waiting" if agreed else "not_unlocked")
    holds()


def test_two_confirm_an_address_at_once(agent, second_agent, manager):
    typed = enter_contact(account=make_account(), by=manager)
    came = at_once(lambda: confirm(typed, agent), lambda: confirm(typed, second_agent))
    (refused,) = [one for one in came if isinstance(one, Exception)]
    assert isinstance(refused, operations.Refused), refused
    assert refused.code == Refusal.ALREADY_RECORDED
    assert LedgerEntry.objects.filter(kind="contact_confirmed").count() == 1
    holds()


def test_an_address_is_confirmed_while_it_is_changed(agent, manager):
    typed = enter_contact(account=make_account(), by=manager)
    other = Contact.objects.get(pk=typed.pk)
    other.email = "other@customer.example"
    at_once(lambda: confirm(typed, agent), lambda: operations.save_record(other, by=acting(manager)))
    typed.refresh_from_db()
    assert (typed.email, typed.confirmed_by) == ("other@customer.example", None)
    holds()


@pytest.fixture
def other_manager(db):
    return make_user("other-manager", group="Manager")


def save_page(user, record, **typed):
    """Return a call that saves what `user` typed on a record's page, which was opened before."""
    client = Client()
    client.force_login(user)
    page = f"/desk/unlocks/{record._meta.model_name}/{record.pk}/change/"
    form = client.get(page).context["adminform"].form
    shown = {name: form[name].value() for name in form.fields}
    data = {name: "on" if value is True else value for name, value in shown.items() if value is not False}
    data |= {f"initial-{name}": value for name, value in shown.items()}
    return lambda: client.post(page, data | typed)


def test_two_save_one_record_at_once(manager, other_manager):
    account = make_account()
    contact = account.contacts.get()
    came = at_once(
        save_page(manager, contact, name="Ann", phone="1"),
        save_page(other_manager, contact, name="Bo"),
    )
    assert sorted(answer.status_code for answer in came) == [200, 302], came
    (refused,) = [answer for answer in came if answer.status_code == 200]
    contact.refresh_from_db()
    assert (contact.name, contact.phone) in [("Ann", "1"), ("Bo", "")]
    who = "manager" if contact.name == "Ann" else "other-manager"
    assert f"{who} changed this to “{contact.name}” meanwhile." in refused.content.decode()
    assert LedgerEntry.objects.filter(kind="contact_changed").count() == 1
    holds()


def test_two_save_different_fields_of_one_record_at_once(manager, other_manager):
    contact = make_account().contacts.get()
    came = at_once(save_page(manager, contact, name="Ann"), save_page(other_manager, contact, phone="1"))
    assert [answer.status_code for answer in came] == [302, 302], came
    contact.refresh_from_db()
    assert (contact.name, contact.phone) == ("Ann", "1")
    assert LedgerEntry.objects.filter(kind="contact_changed").count() == 2
    holds()


def test_a_link_is_sent_while_the_address_is_changed(agent, manager):
    case = case_awaiting(agent)
    case.admin.email = "other@customer.example"
    at_once(
        lambda: operations.send_consent_link(
            case.unlock_request, contact=Contact.objects.get(pk=case.admin.pk), by=acting(agent)
        ),
        lambda: operations.save_record(case.admin, by=acting(manager)),
    )
    assert [operations.link_state(link) for link in case.unlock_request.links.all()] in (
        ["revoked"],
        ["revoked", "revoked"],
    )
    holds()


def test_a_link_is_used_once(agent):
    case = case_awaiting(agent)
    link, by = case.link, customer(case.admin)
    operations.open_consent_link(link, by=by)
    operations.verify_customer_pin(link, pin="482915", by=by)
    shown = shown_text(link)
    came = at_once(
        *3 * [lambda: operations.give_consent(link, name="Ann", role="Owner", shown=shown, by=by)],
        lambda: operations.decline_consent(link, name="Ann", role="", why="", shown=shown, by=by),
    )
    refused = [one for one in came if isinstance(one, Exception)]
    assert [getattr(one, "code", one) for one in refused] == [Refusal.LINK_DEAD] * 3
    assert Consent.objects.count() == 1
    holds()


def test_of_24_wrong_pins_at_once_five_are_judged(agent, monkeypatch):
    case, judged = open_case(agent), []
    monkeypatch.setattr(pins, "matches", lambda pin, pin_hash: judged.append(pin))
    came = at_once(*24 * [lambda: operations.verify_pin(case.unlock_request, pin="000000", by=acting(agent))])
    assert Counter(getattr(one, "code", one) for one in came) == {Refusal.PIN_WRONG: 5, Refusal.PIN_LOCKED: 19}
    assert len(judged) == Account.objects.get().pin_failures == 5
    assert LedgerEntry.objects.filter(kind="pin_wrong").count() == 5
    holds()


def test_unlocking_locking_and_withdrawing_without_deadlock(agent, second_agent, manager):
    account = make_account()
    cases = [case_consented(agent, account=account) for _ in range(4)]
    every = Batch.objects.filter(account=account)

    def withdraw(case):
        with suppress(operations.Refused):
            operations.withdraw_consent(case.consent, why="Asked", by=acting(agent))

    came = at_once(
        *2 * [lambda: factories.unlock(every.order_by("pk"), by=acting(agent))],
        lambda: factories.unlock(every.order_by("-pk"), by=acting(second_agent)),
        *2 * [lambda: factories.relock(every, why="Not used", by=acting(manager))],
        lambda: operations.mark_re_exported(
            every.filter(lines__unlock_request=cases[0].unlock_request), by=acting(agent)
        ),
        *[lambda case=case: withdraw(case) for case in cases],
    )
    busy = [one for one in came if isinstance(one, operations.Refused) and one.code == Refusal.BUSY]
    assert [one for one in came if isinstance(one, Exception) and one not in busy] == []
    holds()


@pytest.mark.postgresql
def test_an_entry_about_a_locked_request_waits_for_nobody(agent):
    """Its foreign key is checked at commit, while it holds the ledger's lock: waiting there was a deadlock."""
    case, came = case_consented(agent), []

    def note():
        try:
            operations.add_note(case.unlock_request, text="Meanwhile", by=acting(agent))
            came.append("written")
        finally:
            connections.close_all()

    with transaction.atomic():
        history.lock(UnlockRequest.objects.all())
        history.lock(case.rows)
        thread = threading.Thread(target=note)
        thread.start()
        thread.join(timeout=20)
        assert came == ["written"]


def test_unlock_or_withdrawal_but_never_both(agent):
    """Raw writes of two connections, neither of which sees the other's: one has to wait and is refused then."""
    case = case_consented(agent)
    consented = ConsentedBatch.objects.get(batch=case.batch)

    def withdraw():
        ConsentWithdrawal.objects.create(consent=case.consent, at=case.consent.given_at, actor="raw", why="Raw")

    came = at_once(
        lambda: unlock_raw(case.batch, consented, agent),
        lambda: withdraw(),
    )
    assert sum(isinstance(one, DatabaseError) for one in came) == 1, came
    assert Batch.objects.filter(status="unlocking").exists() != ConsentWithdrawal.objects.exists()


def the_second_waits(writes, first):
    """Begin one of two writes, and meanwhile the other, which waits; return the errors that came of that one."""
    (second,) = writes.keys() - {first}
    waits, came = threading.Event(), []

    def then():
        waits.set()
        try:
            writes[second]()
        except DatabaseError as error:
            came.append(error)
        finally:
            connections.close_all()

    thread = threading.Thread(target=then)
    with transaction.atomic():
        writes[first]()
        thread.start()
        waits.wait(timeout=20)
        thread.join(timeout=0.5)
        assert thread.is_alive()
    thread.join(timeout=20)
    return came


def while_it_waits(hold, call, then):
    """Hold rows, begin `call`, which waits for them, and do `then`; return what came of both.

    Where they lock in different orders, each waits for what the other holds, and PostgreSQL stops one.
    """
    came = []

    def run():
        try:
            came.append(call())
        except DatabaseError as error:
            came.append(error)
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    with transaction.atomic():
        history.lock(hold)
        thread.start()
        thread.join(timeout=0.3)
        assert thread.is_alive()
        done = then()
    thread.join(timeout=20)
    return [*came, done]


@pytest.mark.postgresql
def test_what_the_worker_has_begun_is_not_canceled(agent):
    """Whoever tries is told at once, however long it takes."""
    selection = Selection.objects.create(made_by=agent, made_at=timezone.now())
    order = operations.order(Act.Kind.UNLOCK, selection, options={}, by=acting(agent), key=uuid.uuid4())
    came = []

    def cancel():
        try:
            operations.cancel_order(order, by=acting(agent))
        except operations.Refused as refused:
            came.append(refused.code)
        finally:
            connections.close_all()

    with transaction.atomic():
        OrderedAct.objects.select_for_update(no_key=True).get(pk=order.pk)
        thread = threading.Thread(target=cancel)
        thread.start()
        thread.join(timeout=20)
        assert came == [Refusal.BEGUN]


@pytest.mark.postgresql
def test_an_email_ends_while_the_product_answers_what_it_tells(agent):
    case = case_unlocking(agent)
    first, last = factories.hand_over()
    factories.answer([first], "done", "P-1")
    came = while_it_waits(
        UnlockRequest.objects.filter(pk=case.unlock_request.pk),
        partial(worker.send, Outgoing.objects.get(email="unlocked")),
        partial(factories.answer, [last], "done", "P-2"),
    )
    assert came == ["sent", {last.key: "done"}]
    assert {batch.status for batch in case.refresh().batches} == {"unlocked"}
    holds()


@pytest.mark.postgresql
def test_an_address_is_changed_while_a_pin_comes_into_force(agent, manager):
    case = case_awaiting(agent)
    case.admin.email = "other@customer.example"
    came = while_it_waits(
        ConsentLink.objects.filter(unlock_request=case.unlock_request),
        partial(operations.save_record, case.admin, by=acting(manager)),
        partial(operations.set_pin, case.account, pin="739164", by=Actor.desk()),
    )
    assert came == [case.admin, True]
    assert (operations.link_state(case.link), case.admin.is_confirmed) == ("revoked", False)
    assert pins.matches("739164", Account.objects.get(pk=case.account.pk).pin_hash)
    holds()


@pytest.mark.postgresql
@pytest.mark.parametrize("first", ["unlock", "withdraw"])
def test_the_second_of_unlock_and_withdrawal_waits_and_is_refused(agent, first):
    case = case_consented(agent)
    consented = ConsentedBatch.objects.get(batch=case.batch)
    writes = {
        "unlock": lambda: unlock_raw(case.batch, consented, agent),
        "withdraw": lambda: ConsentWithdrawal.objects.create(
            consent=case.consent, at=case.consent.given_at, actor="raw", why="Raw"
        ),
    }
    came = the_second_waits(writes, first)
    assert len(came) == 1


@pytest.mark.postgresql
@pytest.mark.parametrize("first", ["hand_over", "withdraw"])
def test_the_second_of_hand_over_and_withdrawal_waits(agent, first):
    """Handed over, it is relocked after the withdrawal; withdrawn, it is not handed over any more."""
    case = factories.case_unlocking(agent, batches=make_batches(n=1))

    def withdraw():
        with transaction.atomic():
            relocking(case)
            ConsentWithdrawal.objects.create(consent=case.consent, at=case.consent.given_at, actor="raw", why="Raw")

    writes = {"hand_over": lambda: hand_over(instruction(case)), "withdraw": withdraw}
    came = the_second_waits(writes, first)
    assert (len(came), instruction(case).state) == ((0, "sent") if first == "hand_over" else (1, "queued"))
    assert (ConsentWithdrawal.objects.count(), line(case).outcome) == (1, "relocking")


@pytest.mark.postgresql
@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_unlocked_and_withdrawn_at_read_committed_only(agent, level):
    case, unlocked, waiting = case_consented(agent), case_unlocked(agent), factories.case_unlocking(agent)
    consented = ConsentedBatch.objects.get(batch=case.batch)
    for write in (
        lambda: unlock_raw(case.batch, consented, agent),
        lambda: hand_over(instruction(waiting)),
        lambda: ConsentWithdrawal.objects.create(
            consent=case.consent, at=case.consent.given_at, actor="raw", why="Raw"
        ),
    ):

        def write_at_that_level(write=write):
            with transaction.atomic():
                with connection.cursor() as cursor:
                    cursor.execute(f"SET TRANSACTION ISOLATION LEVEL {level}")
                write()

        with pytest.raises(DatabaseError, match="READ COMMITTED only"):
            write_at_that_level()
    assert set(Batch.objects.filter(status="unlocked")) == set(unlocked.rows)


@pytest.mark.postgresql
@pytest.mark.parametrize(
    "write",
    [
        lambda items: items.create(number="new", date="2026-05-01", amount=1),
        lambda items: items.update(memo="Changed again"),
    ],
    ids=["added", "changed"],
)
def test_an_item_that_is_being_written_holds_up_the_consent(agent, write):
    """The fingerprint is blank already, so writing the item writes nothing to the batch: it has to lock it."""
    case = case_awaiting(agent)
    link, by = case.link, customer(case.admin)
    operations.open_consent_link(link, by=by)
    operations.verify_customer_pin(link, pin="482915", by=by)
    case.batch.items.update(memo="Changed")
    shown, came = shown_text(link), []

    def agree():
        try:
            operations.give_consent(link, name="Ann", role="Owner", shown=shown, by=by)
        except operations.Refused as refused:
            came.append(refused.code)
        finally:
            connections.close_all()

    thread = threading.Thread(target=agree)
    with transaction.atomic():
        write(case.batch.items)
        thread.start()
        thread.join(timeout=0.5)
    thread.join(timeout=20)
    assert came == [Refusal.CHANGED_WHILE_READING]


def test_the_ledger_is_one_chain_whoever_writes(agent):
    cases = [open_case(agent) for _ in range(4)]
    at_once(
        *[
            lambda case=case: [
                operations.add_note(case.unlock_request, text=f"Note {n}", by=acting(agent)) for n in range(5)
            ]
            for case in cases
        ]
    )
    assert LedgerEntry.objects.filter(kind="note").count() == 20
    assert list(chain.faults()) == []


def test_the_customer_withdraws_while_staff_unlock(agent):
    case = case_consented(agent, batches=make_batches(account=make_account(), n=20, items=0))
    came = at_once(
        lambda: factories.unlock(case.rows, by=acting(agent)),
        lambda: operations.withdraw_own_consent(case.consent, why="", by=customer(case.admin)),
        lambda: factories.unlock(case.rows, by=acting(agent)),
    )
    assert [one for one in came if isinstance(one, Exception) and getattr(one, "code", "") != Refusal.BUSY] == []
    factories.carry_out()
    assert set(Batch.objects.values_list("status", flat=True)) == {"bypassed"}
    assert UnlockRequest.objects.values_list("status", "resolution").get() == ("closed", "withdrawn")
    holds()


def test_the_product_is_handed_each_instruction_once_by_any_number_of_workers(agent):
    case = case_unlocking(agent, batches=make_batches(account=make_account(), n=30, items=0))
    sent = [one.pk for came in at_once(*4 * [factories.hand_over]) for one in came]
    while more := factories.hand_over():
        sent += [one.pk for one in more]
    assert sorted(sent) == sorted(Instruction.objects.values_list("pk", flat=True))
    assert {batch.status for batch in case.refresh().batches} == {"unlocking"}
    holds()


def test_any_number_of_workers_relock_once_what_is_due(agent):
    for _ in range(3):
        case_unlocked(agent)
    with time_machine.travel(timezone.now() + timedelta(hours=25)):
        came = at_once(*[partial(operations.relock_due, by=Actor.desk())] * 4)
        assert sorted(came) == [0, 0, 0, 6]
        assert Act.objects.filter(kind="relock").count() == 1
    holds()


@pytest.mark.parametrize("verb", ["relock", "mark_re_exported", "extend_window"])
def test_a_window_ends_while_somebody_is_at_it(agent, verb):
    """There is one outcome, and both are told of it."""
    case, more = case_unlocked(agent), {"relock": {"why": "No."}, "extend_window": {"why": "No.", "hours": 72}}
    call = partial(getattr(operations, verb), case.rows, by=acting(agent), **more.get(verb, {}))
    with time_machine.travel(timezone.now() + timedelta(hours=25)):
        relocked, act = at_once(partial(operations.relock_due, by=Actor.desk()), call)
    told = set(act.verdicts.values_list("refusal", flat=True))
    became = set(case.rows.values_list("status", flat=True))
    possible = {
        "relock": [(0, {""}, {"relocking"}), (2, {Refusal.RELOCKING}, {"relocking"})],
        "mark_re_exported": [(0, {""}, {"exported"}), (2, {""}, {"exported"})],
        "extend_window": [(2, {Refusal.WINDOW_OVER}, {"relocking"}), (2, {Refusal.NOT_UNLOCKED}, {"relocking"})],
    }
    assert (relocked, told, became) in possible[verb]
    holds()


def test_the_product_answers_twice_at_once(agent):
    case = case_unlocking(agent)
    asked = factories.hand_over()
    came = at_once(*4 * [lambda: factories.answer(asked, "done", "REF-1")])
    assert came == 4 * [{one.key: "done" for one in asked}]
    assert Act.objects.filter(kind="unlocked").count() == 1
    assert {batch.status for batch in case.refresh().batches} == {"unlocked"}
    holds()


def test_the_customer_withdraws_while_the_product_is_asked_and_answers(agent):
    cases = [case_unlocking(agent) for _ in range(4)]

    def withdraw(case):
        operations.withdraw_own_consent(case.consent, why="", by=customer(case.admin))

    came = at_once(*2 * [factories.carry_out], *[lambda case=case: withdraw(case) for case in cases])
    assert [one for one in came if one is not None] == []
    factories.carry_out()
    assert set(Batch.objects.values_list("status", flat=True)) == {"bypassed"}
    assert set(UnlockRequest.objects.values_list("status", "resolution")) == {("closed", "withdrawn")}
    assert not Instruction.objects.exclude(state__in=["done", "canceled"]).exists()
    holds()


def test_a_consent_is_taken_back_once(agent):
    case = case_unlocked(agent)
    came = at_once(
        *3 * [lambda: operations.withdraw_own_consent(case.consent, why="", by=customer(case.admin))],
        lambda: operations.withdraw_consent(case.consent, why="Asked", by=acting(agent)),
    )
    refused = [one for one in came if isinstance(one, Exception)]
    assert [getattr(one, "code", one) for one in refused] == [Refusal.CONSENT_OVER] * 3
    assert ConsentWithdrawal.objects.count() == 1
    assert Act.objects.filter(kind="relock").count() == 1
    holds()


def test_a_consent_is_recorded_by_phone_or_given(agent, settings):
    settings.PHONE_CONSENT = True
    case = case_awaiting(agent)
    link, by = case.link, customer(case.admin)
    operations.open_consent_link(link, by=by)
    operations.verify_customer_pin(link, pin="482915", by=by)
    second = make_user("second", group="Agent")
    operations.verify_pin(case.unlock_request, pin="482915", by=acting(second))
    case.refresh()
    shown, read = shown_text(link), text_to_read_out(case.unlock_request)
    came = at_once(
        lambda: operations.give_consent(link, name="Ann", role="Owner", shown=shown, by=by),
        lambda: operations.record_phone_consent(
            case.unlock_request, contact=case.admin, name="Ann", role="Owner", shown=read, by=acting(second)
        ),
    )
    # Taken down first, the link is dead; given first, the PIN that the agent verified is not the newest any more.
    assert [getattr(one, "code", one) for one in came if isinstance(one, Exception)] in (
        [Refusal.LINK_DEAD],
        [Refusal.PIN_NOT_BY_YOU],
    )
    assert Consent.objects.count() == 1
    holds()


def test_a_certificate_holds_together_while_the_case_moves(agent):
    record_certificate_key()
    case = case_consented(agent)

    def note(number):
        operations.add_note(case.unlock_request, text=f"Note {number}", by=acting(agent))

    came = at_once(
        *3 * [lambda: operations.issue_certificate(case.consent, by=customer(case.admin))],
        *[lambda number=number: note(number) for number in range(5)],
    )
    wrong = [one for one in came if isinstance(one, Exception) and getattr(one, "code", "") != Refusal.BUSY]
    assert wrong == []
    holds()


def test_a_certificate_key_is_recorded_once(db):
    came = at_once(*4 * [record_certificate_key])
    assert sorted(map(bool, came)) == [False, False, False, True]
    assert LedgerEntry.objects.filter(kind="certificate_key").count() == 1


def test_a_certificate_is_issued_once(agent):
    record_certificate_key()
    case = case_consented(agent)
    came = at_once(*4 * [lambda: operations.issue_certificate(case.consent, by=customer(case.admin))])
    assert {getattr(one, "number", one) for one in came} == {f"{case.consent.reference}-1"}
    assert LedgerEntry.objects.filter(kind="certified").count() == 1
    holds()


def test_of_24_checks_of_certificates_at_once_as_many_are_free_as_there_are(settings):
    settings.CHECK_LIMIT = 5
    with time_machine.travel(datetime(2026, 11, 23, 14, 3, tzinfo=UTC), tick=False):
        came = at_once(*24 * [lambda: rate_limit.count_attempt("203.0.113.7")])
    until = datetime(2026, 11, 23, 14, 10, tzinfo=UTC)
    assert sorted(came, key=str) == [until] * 19 + [None] * 5
    assert CheckAttempts.objects.get().count == 24


def test_four_tabs_withdraw_once(agent):
    case = case_unlocked(agent)
    browsers = [hold(Client(), case, place) for place in BOTH * 2]

    def send(browser, place):
        try:
            return browser.post(f"{place}withdraw/", pressed(case))["Location"]
        finally:
            connections.close_all()

    came = at_once(*[lambda b=b, p=p: send(b, p) for b, p in zip(browsers, BOTH * 2, strict=True)])
    assert sorted("?again" in str(where) for where in came) == [False, True, True, True], came
    assert ConsentWithdrawal.objects.count() == 1
    assert [batch.status for batch in case.refresh().batches] == ["relocking"] * 2
    factories.carry_out()
    assert [batch.status for batch in case.refresh().batches] == ["bypassed"] * 2
    entries = case.unlock_request.entries
    assert entries.filter(kind="withdrawn").count() == entries.filter(kind="closed").count() == 1
    holds()


def test_the_same_key_at_once_is_one_act(agent):
    """A note locks nothing before the ledger, and a request is opened under the lock of its contact."""
    case, key = open_case(agent), uuid.uuid4()
    note = partial(operations.add_note, case.unlock_request, text="Called", by=acting(agent), key=key)
    assert at_once(note, note, note) == [None] * 3
    batches, key = make_batches(n=1), uuid.uuid4()
    opened = at_once(*[partial(open_case, agent, batches=batches, key=key)] * 3)
    assert [one.unlock_request for one in opened] == [UnlockRequest.objects.latest("pk")] * 3
    kinds = Counter(LedgerEntry.objects.filter(kind__in=["note", "opened"]).values_list("kind", flat=True))
    assert kinds == {"note": 1, "opened": 2}
    holds()


def test_two_tokens_at_once_make_up_no_customer():
    root = make_user("root", is_superuser=True)
    make_token("portal", "read", by=root)
    came = at_once(*(partial(make_token, "portal", scope, by=root) for scope in ("contacts", "requests")))
    assert [type(one) for one in came].count(operations.Refused) == 1
    assert ApiToken.objects.count() == 2


def changing(user, **fields):
    return lambda: User.objects.filter(pk=user.pk).update(**fields)


def test_two_superusers_who_take_it_from_each_other_leave_one():
    ben, kim = (make_user(name, is_superuser=True) for name in ("ben", "kim"))

    def take_from(user, by):
        return operations.change_staff(user, changing(user, is_superuser=False), by=acting(by))

    came = at_once(partial(take_from, ben, kim), partial(take_from, kim, ben))
    assert sorted(getattr(one, "code", "") for one in came) == ["", Refusal.LAST_SUPERUSER]
    assert User.objects.filter(is_superuser=True).count() == 1
    holds()


def test_a_link_sets_one_password():
    user = make_user("kim", email="kim@vendor.example")
    link = operations.send_staff_link(user, by=acting(make_user("root", is_superuser=True)))
    came = at_once(*(partial(operations.set_password_by_link, link, one, by=acting(user)) for one in ("one", "two")))
    assert [getattr(one, "code", "") for one in came].count(Refusal.STAFF_LINK_DEAD) == 1
    assert LedgerEntry.objects.filter(kind="staff_link_used").count() == 1
    holds()


def test_who_loses_all_roles_while_a_link_is_used_waits_for_it():
    root = acting(make_user("root", is_superuser=True))
    for n in range(5):
        user = make_user(f"kim-{n}", group="Agent", email="kim@vendor.example")
        link = operations.send_staff_link(user, by=root)
        DeskSession.objects.create(session_key=f"kim-{n}", expire_date=link.expires_at, user_id=user.pk)
        came = at_once(
            partial(operations.set_password_by_link, link, "correct-horse-battery", by=acting(user)),
            partial(operations.give_roles, user, [], by=Actor.desk()),
        )
        assert came == [user, None]
    holds()


def test_an_account_and_its_cases_are_changed_one_after_the_other(agent):
    root = make_user("root", group="Agent", is_superuser=True)

    for n in range(5):
        kim = make_user(f"kim-{n}", group="Agent")
        case = open_case(kim).unlock_request
        came = at_once(
            partial(operations.change_staff, kim, changing(kim, is_staff=False), by=acting(root)),
            partial(operations.assign, case, to=root, by=acting(agent)),
            partial(operations.deactivate, kim, changing(kim, is_active=False), cases_to=None, by=acting(root)),
        )
        assert [one for one in came if isinstance(one, Exception)] == []
    holds()


def test_one_company_account_is_connected(agent):
    def connect(uid):
        account = SocialAccount(user=agent, provider="company", uid=uid)
        operations.link_company_account(agent, account.save, by=acting(agent))

    came = at_once(*(partial(connect, uid) for uid in ("u-1", "u-2", "u-3")))
    assert [getattr(one, "code", "") for one in came].count(Refusal.COMPANY_CONNECTED) == 2
    assert SocialAccount.objects.count() == 1
    holds()


@pytest.mark.parametrize("ended", [False, True])
def test_one_of_many_adds_a_row_of_the_cache(ended):
    for n in range(5):
        if ended:
            cache.set(f"lock-{n}", 1, timeout=0)
        assert sorted(at_once(*[partial(cache.add, f"lock-{n}", 2)] * 4)) == [False, False, False, True]
        assert at_once(*(partial(cache.set, f"tries-{n}", value) for value in range(4))) == [None] * 4
        assert cache.get(f"tries-{n}") in range(4)
