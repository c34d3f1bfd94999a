"""A row of the outbox: leased by one worker at a time, tried again ever later, and done once."""

from datetime import timedelta

import pytest
import time_machine
from django.utils import timezone

from tests import factories
from tests.factories import acting
from unlocks.database import guards
from unlocks.models import Outgoing
from unlocks.outbox import rows, secrets

pytestmark = pytest.mark.django_db


@pytest.fixture
def account(db):
    return factories.make_account()


def queued(agent, account, email="new_pin", **more):
    contact = account.contacts.get()
    return rows.queue(
        email, contact.email, by=acting(agent), nonce=secrets.new_nonce(), account=account, contact=contact, **more
    )


def test_is_leased_once_and_again_when_its_worker_died(agent, account):
    row = queued(agent, account)
    leased = rows.lease()
    assert (leased, leased.tries) == (row, 1)
    assert rows.lease() is None
    with time_machine.travel(timezone.now() + rows.LEASE):
        leased = rows.lease()
        assert (leased, leased.tries) == (row, 2)


def test_what_waits_longest_comes_first(agent, account):
    first, second = queued(agent, account), queued(agent, account)
    rows.again(rows.lease(), timezone.now(), "421 Later")
    assert [rows.lease(), rows.lease()] == [second, first]


def test_what_fails_is_tried_ever_later_until_it_is_given_up(agent, account):
    def waits(email):
        row, waited = queued(agent, account, email), []
        with time_machine.travel(row.queued_at, tick=False) as clock:
            while True:
                row.tries += 1
                if (at := rows.next_try(row)) is None:
                    return waited
                waited.append(at - timezone.now())
                clock.move_to(at)

    seconds = [timedelta(seconds=5), timedelta(minutes=5), timedelta(minutes=30)]
    hours = [timedelta(hours=number) for number in (2, 5, 10)]
    assert waits("consent_link") == seconds + hours
    assert waits("new_pin") == seconds + hours + [timedelta(hours=10)] * 5


def test_the_answer_of_a_worker_whose_lease_ran_out_moves_nothing(agent, account):
    queued(agent, account)
    slow = rows.lease()
    with time_machine.travel(timezone.now() + rows.LEASE):
        quick = rows.lease()
        rows.again(slow, timezone.now(), "slow")
        slow.refresh_from_db()
    assert (slow.answer, slow.next_try_at) == ("", quick.next_try_at)


def test_ends_once_without_its_nonce(agent, account):
    row = queued(agent, account)
    assert rows.end(row, Outgoing.State.SENT, "") is True
    assert rows.end(row, Outgoing.State.REFUSED, "550 Unknown") is False
    row.refresh_from_db()
    assert (row.state, row.nonce, row.answer, row.done_at is None) == ("sent", "", "", False)


def test_keeps_as_much_of_an_answer_as_there_is_room_for(agent, account):
    row = queued(agent, account)
    rows.end(row, Outgoing.State.REFUSED, "5" * 600)
    row.refresh_from_db()
    assert row.answer == "5" * 500


def test_has_one_message_id(agent, account, settings):
    row = queued(agent, account)
    assert rows.message_id(row) == f"<{row.pk}@unlock-desk.example>"
    settings.DEFAULT_FROM_EMAIL = "support@vendor.example"
    assert rows.message_id(row) == f"<{row.pk}@vendor.example>"


def test_a_row_that_was_tried_as_often_as_is_counted_holds_up_no_other(agent):
    queue_two = [factories.case_awaiting(agent) for _ in range(2)]
    stuck = Outgoing.objects.get(unlock_request=queue_two[0].unlock_request)
    with guards.lifted():
        Outgoing.objects.filter(pk=stuck.pk).update(tries=rows.MOST_TRIES)
    leased = [rows.lease() for _ in range(3)]
    assert [row and (row.pk, row.tries) for row in leased] == [
        (stuck.pk, 1000),
        (Outgoing.objects.exclude(pk=stuck.pk).get().pk, 1),
        None,
    ]


def test_a_result_that_arrived_does_not_follow_a_receipt_that_did_not(agent):
    """The one says until when to export, the other is the proof."""
    case = factories.case_unlocked(agent)
    waiting = Outgoing.objects.filter(unlock_request=case.unlock_request)
    receipt, result = waiting.get(email="receipt"), waiting.get(email="unlocked")
    rows.end(receipt, "refused", "550 No such mailbox")
    rows.end(result, "sent")
    assert list(Outgoing.objects.that_failed()) == [receipt]
