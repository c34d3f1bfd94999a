import pytest

from tests.factories import acting, case_unlocked, make_account, make_batch, make_batches, make_contact, open_case
from tests.operations import only_for, recorded, refused
from unlocks import history, operations
from unlocks.actors import Actor
from unlocks.models import Account, Batch, RequestedBatch, UnlockRequest
from unlocks.rules import Refusal

pytestmark = pytest.mark.django_db


def open_request(account, chosen, by, **fields):
    return operations.open_request(
        **{
            "account": account,
            "requester": account.contacts.first(),
            "channel": "phone",
            "bypass_reason": "by_mistake",
            "reason": "By mistake",
            "batches": Batch.objects.filter(pk__in=[batch.pk for batch in chosen]),
            "by": by,
        }
        | fields
    )


def test_opens_a_case_with_its_batches(agent):
    account = make_account()
    first, second = make_batches(account=account, n=2)

    unlock_request = open_request(
        account, [first, second], acting(agent), ticket_system="zendesk", ticket_number="ZD-1234"
    )

    unlock_request.refresh_from_db()
    assert (unlock_request.status, unlock_request.assignee, unlock_request.opened_by, unlock_request.reference) == (
        "open",
        agent,
        agent,
        f"UR-{unlock_request.pk:06d}",
    )
    assert list(unlock_request.lines.values_list("batch", "outcome", "consented")) == [
        (first.pk, "waiting", None),
        (second.pk, "waiting", None),
    ]
    assert list(unlock_request.history.values_list("history_type", "history_user", "history_actor", "status")) == [
        ("+", agent.pk, "agent", "open")
    ]
    history_of_lines = RequestedBatch.history.filter(unlock_request=unlock_request).order_by("history_id")
    assert list(history_of_lines.values_list("id", "history_type", "history_user", "outcome")) == [
        (line.pk, "+", agent.pk, "waiting") for line in unlock_request.lines.all()
    ]
    assert recorded(unlock_request) == [
        (
            "opened",
            {
                "amount": "200.00",
                "batches": 2,
                "bypass_other": "",
                "bypass_reason": "by_mistake",
                "channel": "phone",
                "reason": "By mistake",
                "requester": unlock_request.requester_id,
                "ticket_number": "ZD-1234",
                "ticket_system": "zendesk",
            },
        )
    ]


def test_only_for_those_who_open_requests(db):
    batch = make_batch()
    only_for(["Agent", "Manager"], lambda by: open_request(batch.account, [batch], by))
    assert UnlockRequest.objects.count() == 1


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"status": "exported"}, Refusal.EXPORTED),
        ({"status": "posted"}, Refusal.POSTED),
        ({"status": "pending"}, Refusal.PENDING),
        ({"period_closed": True}, Refusal.PERIOD_CLOSED),
    ],
)
def test_refuses_a_batch_that_cannot_be_unlocked_and_with_it_the_rest(agent, fields, code):
    good = make_batch()
    bad = make_batch(account=good.account, **fields)
    with refused(code):
        open_request(good.account, [good, bad], acting(agent))


@pytest.mark.parametrize(("reason", "other"), [("other", ""), ("by_mistake", "The system did it.")])
def test_another_reason_is_said_exactly_where_it_is_another(agent, reason, other):
    batch = make_batch()
    with refused(Refusal.WHICH_OTHER_REASON):
        open_request(batch.account, [batch], acting(agent), bypass_reason=reason, bypass_other=other)


def test_says_for_each_batch_why(agent):
    account = make_account()
    exported = make_batch(account=account, status="exported", number="1")
    pending = make_batch(account=account, status="pending", number="2")
    says = (
        "1: Exported on May 3, 2026. Support can't unlock exported batches. The customer can enter an adjustment "
        "invoice. 2: Still pending. The customer can edit it without an unlock."
    )
    with refused(Refusal.EXPORTED, Refusal.PENDING, says=says):
        open_request(account, [exported, pending], acting(agent))


def test_refuses_a_batch_that_is_unlocked(agent):
    case = case_unlocked(agent)
    with refused(Refusal.ALREADY_UNLOCKED, Refusal.ALREADY_UNLOCKED):
        open_request(case.account, case.batches, acting(agent))


def test_second_request_names_the_first(agent):
    case = open_case(agent, batches=[make_batch(number="77")])
    with refused(Refusal.IN_ANOTHER_REQUEST, says=f"77: Already in {case.unlock_request}, which is still open."):
        open_request(case.account, case.batches, acting(agent))


def test_refuses_a_batch_of_another_account(agent):
    mine, foreign = make_batch(), make_batch(number="4711")
    with refused(Refusal.OTHER_ACCOUNT, says="Not in this account: 4711."):
        open_request(mine.account, [mine, foreign], acting(agent))


@pytest.mark.parametrize("batches", [Batch.objects.none(), Batch.objects.filter(pk__in=[]), Batch.objects.filter(pk=0)])
def test_refuses_a_request_for_nothing(agent, batches):
    account = make_account()
    with refused(Refusal.NO_BATCHES):
        open_request(account, [], acting(agent), batches=batches)


def test_refuses_a_requester_who_is_no_admin(agent):
    batch = make_batch()
    admin = batch.account.contacts.get()
    clerk = make_contact(account=batch.account, is_admin=False, name="Clerk")
    with refused(
        Refusal.NOT_AN_ADMIN,
        says=f"Clerk is not an Admin of the account. Ask {admin.name}, or have one of them join the call.",
    ):
        open_request(batch.account, [batch], acting(agent), requester=clerk)


def test_refuses_a_requester_of_another_account(agent):
    batch, stranger = make_batch(), make_account().contacts.get()
    with refused(Refusal.NOT_AN_ADMIN):
        open_request(batch.account, [batch], acting(agent), requester=stranger)


def test_refuses_an_account_that_is_not_active(agent):
    batch = make_batch()
    history.update(Account.objects.filter(pk=batch.account.pk), by=Actor.desk(), active=False)
    with refused(Refusal.ACCOUNT_INACTIVE):
        open_request(batch.account, [batch], acting(agent))
