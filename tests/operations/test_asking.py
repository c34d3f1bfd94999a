"""Which batches a request asks for: changed by staff until the customer agrees, and by the customer in agreeing."""

import json
import uuid

import pytest

from tests import factories
from tests.factories import PIN, acting, case_awaiting, customer, make_batch, make_batches, open_case
from tests.operations import only_for, recorded, refused
from unlocks import operations
from unlocks.certificates import verify_certificate, words
from unlocks.ledger import chain, invariants
from unlocks.models import Batch
from unlocks.rules import Refusal, eligible
from unlocks.texts.shown import shown_text

pytestmark = pytest.mark.django_db


def some(*batches):
    return Batch.objects.filter(pk__in=[batch.pk for batch in batches])


def outcomes(case):
    return dict(case.unlock_request.lines.order_by("pk").values_list("batch__number", "outcome"))


def intact():
    assert list(chain.faults()) == []
    assert [wrong for wrong, rows in invariants.offenders() if rows.exists()] == []


def ready(case):
    """Have the customer open the form, with the right PIN."""
    operations.open_consent_link(case.link, by=customer(case.admin))
    operations.verify_customer_pin(case.link, pin=PIN, by=customer(case.admin))
    return case


def agree(case, *left_out, **fields):
    """Have the customer agree to what the request asks for, without what they leave out."""
    fields = {"left_out": some(*left_out), "shown": shown_text(case.link, some(*left_out))} | fields
    by = customer(case.admin)
    return operations.give_consent(case.link, name="Ann Admin", role="Controller", by=by, **fields)[0]


# By staff


def test_batches_join_and_leave_a_request_and_the_link_stays(agent):
    case = case_awaiting(agent)
    first, second = case.batches
    third = make_batch(account=case.account)
    assert operations.changed_since(case.link) == {}
    operations.add_batches(case.unlock_request, batches=some(third), by=acting(agent))
    operations.take_out_batches(case.unlock_request, batches=some(first), by=acting(agent))
    assert outcomes(case) == {first.number: "not_unlocked", second.number: "waiting", third.number: "waiting"}
    assert operations.changed_since(case.link) == {"added": [third.number], "taken_out": [first.number]}
    assert operations.link_state(case.link) == "live"
    assert recorded(case.unlock_request)[-2:] == [
        ("batches_added", {"batches": 1, "amount": f"{third.total:.2f}", "numbers": [third.number]}),
        ("batches_taken_out", {"batches": 1, "amount": f"{first.total:.2f}", "numbers": [first.number]}),
    ]
    assert eligible(some(first)).get().obstacle == ""
    operations.add_batches(case.unlock_request, batches=some(first), by=acting(agent))
    assert operations.changed_since(case.link) == {"added": [third.number]}
    assert agree(ready(case)).batch_count == 3
    intact()


def test_the_same_key_adds_and_takes_out_once(agent):
    case = open_case(agent)
    new = make_batch(account=case.account)
    for verb in (operations.add_batches, operations.take_out_batches):
        key = uuid.uuid4()
        for _ in range(2):
            verb(case.unlock_request, batches=some(new), by=acting(agent), key=key)
    assert [kind for kind, _ in recorded(case.unlock_request)] == ["opened", "batches_added", "batches_taken_out"]


@pytest.mark.parametrize("verb", [operations.add_batches, operations.take_out_batches])
def test_only_for_those_who_work_on_requests_and_before_the_customer_agreed(agent, verb):
    case = case_awaiting(agent)
    new = make_batch(account=case.account)
    chosen = some(new) if verb is operations.add_batches else some(case.batch)
    agree(ready(case))
    with refused(Refusal.ANSWERED):
        verb(case.unlock_request, batches=chosen, by=acting(agent))
    operations.close_request(case.unlock_request, resolution="canceled", why="No", by=acting(agent))
    with refused(Refusal.CLOSED):
        verb(case.unlock_request, batches=chosen, by=acting(agent))
    only_for(["Agent", "Manager"], lambda by: verb(case.unlock_request, batches=chosen, by=by))


def test_what_can_not_join_is_refused_as_a_whole(agent):
    case, other = open_case(agent), open_case(agent)
    fine = make_batch(account=case.account)
    exported = make_batch(account=case.account, status="exported")
    for batches, codes in {
        (other.batch,): [Refusal.OTHER_ACCOUNT],
        (case.batch,): [Refusal.IN_ANOTHER_REQUEST],
        (fine, exported): [Refusal.EXPORTED],
        (): [Refusal.NO_BATCHES],
    }.items():
        with refused(*codes):
            operations.add_batches(case.unlock_request, batches=some(*batches), by=acting(agent))


def test_what_does_not_wait_is_not_taken_out_nor_is_the_last_one(agent):
    case, other = open_case(agent), open_case(agent)
    first, second = case.batches
    with refused(Refusal.LAST_BATCHES):
        operations.take_out_batches(case.unlock_request, batches=case.rows, by=acting(agent))
    operations.take_out_batches(case.unlock_request, batches=some(first), by=acting(agent))
    said = f"Not among the batches that {case.unlock_request} asks for: "
    for batch in (first, other.batch):
        with refused(Refusal.NOT_WAITING, says=f"{said}{batch.number}."):
            operations.take_out_batches(case.unlock_request, batches=some(batch), by=acting(agent))
    with refused(Refusal.LAST_BATCHES):
        operations.take_out_batches(case.unlock_request, batches=some(second), by=acting(agent))
    with refused(Refusal.NO_BATCHES):
        operations.take_out_batches(case.unlock_request, batches=some(), by=acting(agent))


@pytest.mark.parametrize("number", [2, 30])
def test_costs_the_same_for_many(agent, number, django_assert_max_num_queries):
    case = open_case(agent)
    new = make_batches(account=case.account, n=number, items=0)
    with django_assert_max_num_queries(30):
        operations.add_batches(case.unlock_request, batches=some(*new), by=acting(agent))
    with django_assert_max_num_queries(30):
        operations.take_out_batches(case.unlock_request, batches=some(*new), by=acting(agent))


# By the customer


def test_what_the_customer_leaves_out_stays_locked_and_leaves_the_request(agent, second_agent):
    case = case_awaiting(agent, batches=make_batches(n=3))
    first, second, third = case.batches
    consent = agree(ready(case), second)
    second.refresh_from_db()
    assert consent.text.count("Batches to unlock: 2 batches") == 1
    assert consent.text.count("Left out, stay locked: 1 batch, 1 item, ") == 1
    assert consent.text.index(third.number) < consent.text.index("Left out") < consent.text.index(second.number)
    assert outcomes(case) == {first.number: "waiting", second.number: "not_unlocked", third.number: "waiting"}
    assert list(consent.batches.order_by("position").values_list("number", flat=True)) == [first.number, third.number]
    kind, facts = recorded(case.unlock_request)[-1]
    told = {name: facts[name] for name in ("batches", "left_out", "left_out_amount")}
    assert (kind, told) == ("consented", {"batches": 2, "left_out": 1, "left_out_amount": f"{second.total:.2f}"})
    act = factories.unlock(case.rows, by=acting(second_agent))
    assert act.verdicts.get(batch=second).refusal == Refusal.NOT_REQUESTED
    open_case(agent, batches=[second])
    intact()
    case.unlock_request.refresh_from_db()
    assert (case.unlock_request.batch_count, case.unlock_request.amount) == (2, first.total + third.total)
    factories.record_certificate_key()
    stated = json.loads(operations.issue_certificate(consent, by=acting(agent)).content)["certificate"]
    assert [batch["number"] for batch in stated["batches"]] == [first.number, third.number]
    said = " ".join(words.paper(stated).summary)
    assert "may unlock 2 batches, 2 items, $200.00 in total, and left out 1 batch, 1 item, $100.00 in total." in said
    stated["batches"].append(stated["batches"][0] | {"number": second.number, "fingerprint": second.fingerprint})
    with pytest.raises(verify_certificate.NotGenuine, match="the text does not name"):
        verify_certificate._check_facts(stated)


def test_leaving_all_out_is_refused(agent):
    case = ready(case_awaiting(agent))
    with refused(Refusal.ALL_LEFT_OUT):
        agree(case, *case.batches)


def test_what_is_left_out_is_what_was_shown(agent):
    """Batches that are not of the request make no difference, and nothing else than the text says is left out."""
    case, other = ready(case_awaiting(agent)), open_case(agent)
    with refused(Refusal.CHANGED_WHILE_READING):
        agree(case, case.batch, shown=shown_text(case.link))
    consent = agree(case, other.batch)
    assert (consent.batch_count, set(outcomes(other).values())) == (2, {"waiting"})
