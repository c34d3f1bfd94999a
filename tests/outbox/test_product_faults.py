"""A product that is slow, down or silent, and workers killed while they ask it: nothing is lost or done twice.

Real processes, and the made-up product with its file. The quick run takes a sample; `HYPOTHESIS_PROFILE=long`
(`make long`) kills at every step, twenty times each.
"""

import os
import time
from collections import Counter
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from itertools import chain, repeat
from random import Random

import pytest
import time_machine
from django.conf import settings
from django.db import connection
from django.db.models import Min, Q
from django.utils import timezone

from tests import factories, mail_servers
from tests.factories import acting
from tests.mail_servers import until
from tests.outbox.processes import DYING, WORKER, cut, gone, started
from tests.outbox.test_faults import LONG, ROUNDS, TELL, advised, numbered, read, send_link
from unlocks import operations
from unlocks.database import guards
from unlocks.ledger import verify
from unlocks.models import Batch, Instruction, Verdict
from unlocks.operations import Refused
from unlocks.operations.handing_over import LEASE
from unlocks.outbox import rows, worker
from unlocks.product.port import Answer, State
from unlocks.product.sandbox import Behavior

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def server():
    with mail_servers.running() as server:
        yield server


@pytest.fixture(autouse=True)
def nobody_else_stays(transactional_db):
    yield
    gone()


@contextmanager
def asking(server, *command, **environment):
    """Run a worker that asks the product of this test."""
    product = {"PRODUCT": "sandbox", "SANDBOX_FILE": settings.SANDBOX_FILE}
    with started(server, *command, **product, **environment) as process:
        yield process


def pending():
    return Instruction.objects.filter(state__in=Instruction.PENDING)


def next_try():
    """Return when the next one of those whose turn it is is due."""
    return pending().in_turn().aggregate(at=Min("next_try_at"))["at"]


def states():
    return Counter(Instruction.objects.values_list("what", "state"))


def outcomes(case):
    return sorted(case.unlock_request.lines.values_list("outcome", flat=True))


def named(**which):
    """Return batches as the product names them."""
    return set(Batch.objects.filter(**which).values_list("account__number", "number"))


def at_last(sandbox):
    """Ask until each instruction is ended, once the leases of the killed have run out; find nothing amiss."""
    gone()
    with time_machine.travel(timezone.now() + LEASE, tick=False) as clock:
        while at := next_try():
            clock.move_to(max(at, timezone.now()))
            assert worker.ask_product()
        assert_agreed(sandbox)


def assert_agreed(sandbox):
    """The desk says of each instruction what the product says, and each answer had its effect once.

    Of what was given up the desk says nothing, what the product refused to lock stays relocking, and of an exported
    batch the product is not told.
    """
    assert not pending().exists()
    not_asked = Q(state="given_up") | Q(state="canceled", sent_at__isnull=False)
    given_up = set(Instruction.objects.filter(not_asked).values_list("key", flat=True))
    answered = Instruction.objects.filter(state__in=["done", "refused"])
    assert {(one.key, one.what, one.state, one.answer) for one in answered} == {
        (one.key, one.what, one.state.value, one.answer.text) for one in sandbox.instructed() if one.key not in given_up
    }
    assert named(status="unlocked") == set(sandbox.unlocked()) - named(status__in=["relocking", "exported"])
    effects = Verdict.objects.filter(act__kind__in=["unlocked", "refused", "relocked"], refusal="")
    assert set(Counter(effects.values_list("line", "act__kind")).values()) <= {1}
    assert verify.findings() == []


def asked_times(sandbox):
    """Return {how often an instruction was handed over: of how many}."""
    return Counter(one.asked for one in sandbox.instructed())


# A worker that is killed

TAKE, LEAVES = 'SELECT "unlocks_instruction"', 'UPDATE "unlocks_instruction"'
OPENS, KEEPS, KEPT = "PRODUCT OPENS", "PRODUCT KEEPS", "PRODUCT HAS KEPT"
IN_THE_CALL = [OPENS, OPENS]  # first it looks how it is to behave
MOMENTS = {
    "before it takes the instructions": [TAKE],
    "before its lease is kept": [LEAVES, "COMMIT"],
    "with its lease": [LEAVES, "COMMIT", ""],
    "before they are marked as handed over": [LEAVES, "COMMIT", LEAVES],
    "before that is kept": [LEAVES, "COMMIT", LEAVES, "COMMIT"],
    "before the call": [OPENS],
    "in the call": IN_THE_CALL,
    "before the product keeps what it did": [*IN_THE_CALL, KEEPS],
    "before its answer": [*IN_THE_CALL, KEPT],
    "before the answer is written": [*IN_THE_CALL, KEPT, LEAVES],
    "before the answer is told": [*IN_THE_CALL, KEPT, TELL],
    "before the answer is kept": [*IN_THE_CALL, KEPT, TELL, "COMMIT"],
    "after the answer": [*IN_THE_CALL, KEPT, TELL, "COMMIT", ""],
}
SAMPLE = ["before the call", "before the product keeps what it did", "before the answer is kept"]


def steps_of_one_unlock(server, agent, tmp_path):
    """Return the steps of a worker that hands one unlock over and records the answer, and the first one after."""
    factories.case_unlocking(agent)
    after = MOMENTS["after the answer"]
    with asking(server, *DYING, STEPS=str(tmp_path / "steps")):
        until(lambda: numbered(read(tmp_path), *after))
    steps = read(tmp_path)
    return steps[: numbered(steps, *after)]


def killed(server, agent, number):
    """Let a worker kill itself before this step of a new unlock."""
    factories.case_unlocking(agent)
    with asking(server, *DYING, STEPS=os.devnull, DIES_BEFORE=str(number)) as process:
        assert process.wait(20) == -9


@pytest.mark.parametrize("moment", MOMENTS if LONG else SAMPLE)
def test_a_worker_killed_at_any_moment_loses_nothing_and_has_nothing_done_twice(
    server, agent, sandbox, tmp_path, moment
):
    number = numbered(steps_of_one_unlock(server, agent, tmp_path), *MOMENTS[moment])
    for _ in range(ROUNDS):
        killed(server, agent, number)
    at_last(sandbox)
    assert states() == {("unlock", "done"): 2 + 2 * ROUNDS}
    assert asked_times(sandbox) == {1: 2 + 2 * ROUNDS}


@pytest.mark.skipif(not LONG, reason="long")
def test_a_worker_killed_before_each_step_loses_nothing_and_has_nothing_done_twice(server, agent, sandbox, tmp_path):
    steps = steps_of_one_unlock(server, agent, tmp_path)
    for number in range(1, len(steps) + 1):
        killed(server, agent, number)
    at_last(sandbox)
    assert states() == {("unlock", "done"): 2 + 2 * len(steps)}
    assert asked_times(sandbox) == {1: 2 + 2 * len(steps)}


def test_a_worker_killed_while_the_product_takes_its_time(server, agent, sandbox):
    for _ in range(ROUNDS):
        factories.case_unlocking(agent)
        sandbox.behave("slow", calls=1, seconds=60)
        with asking(server, *WORKER) as process:
            until(lambda: sandbox.behavior() == Behavior())
            process.kill()
            assert process.wait(20) == -9
    assert (states(), sandbox.instructed()) == ({("unlock", "sent"): 2 * ROUNDS}, [])
    at_last(sandbox)
    assert states() == {("unlock", "done"): 2 * ROUNDS}


# A product that fails


@pytest.fixture
def clock():
    """Time that stands still unless it is moved."""
    with time_machine.travel(timezone.now(), tick=False) as clock:
        yield clock


def unlocking(agent):
    """Return a case of one batch, of which the product has not heard yet."""
    return factories.case_unlocking(agent, batches=factories.make_batches(n=1))


def ask(clock):
    """Ask the product when that is due, and return after how many seconds that was, and what is known then."""
    start = timezone.now()
    clock.move_to(max(next_try(), start))
    assert worker.ask_product() == 1
    newest = Instruction.objects.latest("pk")
    return (timezone.now() - start).seconds, newest.state, newest.answer


def waits(tries):
    return rows.WAITS[tries - 1].seconds


def test_a_product_that_fails_gets_it_again_once_it_says_that_it_never_got_it(agent, sandbox, clock):
    case = unlocking(agent)
    sandbox.behave("fails", calls=2)
    assert [ask(clock) for _ in range(4)] == [
        (0, "unknown", "500 Internal Server Error"),
        (waits(1), "unknown", "500 Internal Server Error"),
        (waits(2), "queued", ""),
        (waits(3), "done", "SBX-000001"),
    ]
    assert outcomes(case) == ["unlocked"]
    assert_agreed(sandbox)


def test_an_answer_that_is_lost_is_asked_for_and_nothing_is_handed_over_again(agent, sandbox, clock):
    case = unlocking(agent)
    sandbox.behave("loses_answer")
    assert ask(clock) == (0, "unknown", "The connection ended before an answer came.")
    assert outcomes(case) == ["unlocking"]
    assert ask(clock) == (waits(1), "done", "SBX-000001")
    assert (outcomes(case), asked_times(sandbox)) == (["unlocked"], {1: 1})
    assert_agreed(sandbox)


def test_the_window_counts_from_when_the_answer_was_heard(agent, sandbox, clock):
    case = unlocking(agent)
    sandbox.behave("loses_answer")
    ask(clock)
    ask(clock)
    assert case.refresh().batch.unlocked_until == timezone.now() + settings.UNLOCK_WINDOW


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("refuses", "The batch is locked by the accounting period."),
        ("exported", "The customer exported this batch meanwhile."),
    ],
)
def test_what_it_refuses_stays_locked_for_its_reason(agent, sandbox, clock, how, reason):
    case = unlocking(agent)
    sandbox.behave(how, calls=1)
    assert ask(clock) == (0, "refused", reason)
    assert (outcomes(case), case.refresh().batch.status) == (["refused"], "bypassed")
    assert list(Verdict.objects.filter(act__kind="refused").values_list("act__why", "refusal")) == [(reason, "")]
    assert_agreed(sandbox)


def test_what_it_refuses_after_a_lost_answer_is_refused_once(agent, sandbox, clock):
    case = unlocking(agent)
    sandbox.behave("fails", calls=1)
    assert [ask(clock)[1] for _ in range(2)] == ["unknown", "queued"]
    sandbox.behave("refuses", calls=1)
    assert ask(clock)[1] == "refused"
    assert outcomes(case) == ["refused"]
    assert_agreed(sandbox)


@pytest.mark.parametrize(
    "answer", [("done", "SBX-000001"), ("done", "P-2"), ("refused", "No"), ("unknown", ""), ("not_known", "")]
)
def test_a_second_answer_changes_nothing(agent, sandbox, clock, answer):
    case = unlocking(agent)
    ask(clock)
    sealed = case.unlock_request.entries.count()
    clock.shift(60)
    state, text = answer
    said = [Answer(Instruction.objects.get().key, State(state), text)]
    assert set(operations.record_answers(said, by=factories.Actor.product()).values()) == {"done"}
    assert case.unlock_request.entries.count() == sealed
    assert Instruction.objects.get().answer == "SBX-000001"
    assert_agreed(sandbox)


def test_an_answer_that_comes_after_the_batch_was_exported_changes_no_batch(agent, sandbox, clock):
    case = unlocking(agent)
    sandbox.behave("later", calls=1, seconds=60)
    assert ask(clock) == (0, "sent", "SBX-000001")
    operations.mark_re_exported(case.rows, by=acting(agent))
    assert (outcomes(case), case.refresh().batch.status) == (["re_exported"], "exported")
    assert ask(clock)[1:] == ("done", "SBX-000001")
    assert (outcomes(case), case.refresh().batch.status) == (["re_exported"], "exported")
    assert_agreed(sandbox)


def test_what_it_accepts_is_unlocked_when_it_says_so(agent, sandbox, clock):
    case = unlocking(agent)
    sandbox.behave("later", calls=1, seconds=20 * 60)
    assert [(ask(clock)[1:], outcomes(case)) for _ in range(3)] == [
        (("sent", "SBX-000001"), ["unlocking"]),
        (("sent", "SBX-000001"), ["unlocking"]),
        (("done", "SBX-000001"), ["unlocked"]),
    ]
    assert_agreed(sandbox)


def test_a_product_that_is_down_for_an_hour_holds_nobody_up_and_gets_it_once(agent, agent_client, sandbox, clock):
    start, tried = timezone.now(), []
    case = unlocking(agent)
    sandbox.behave("down")
    while next_try() < start + timedelta(hours=1):
        clock.move_to(next_try())
        tried.append(((timezone.now() - start).seconds, worker.ask_product(), worker.ask_product(), *states()))
    assert tried == [(seconds, 1, 0, ("unlock", "queued")) for seconds in (0, 5, 305, 2105)]
    assert outcomes(case) == ["unlocking"]
    assert "Link waits to be sent" in send_link(agent_client, advised(agent))
    sandbox.behave("works")
    assert ask(clock)[1:] == ("done", "SBX-000001")
    assert (outcomes(case), asked_times(sandbox)) == (["unlocked"], {1: 1})
    assert_agreed(sandbox)


def test_a_product_that_is_down_when_it_is_asked_is_asked_again(agent, sandbox, clock):
    unlocking(agent)
    sandbox.behave("loses_answer", calls=1)
    ask(clock)
    sandbox.behave("down", calls=2)
    assert [ask(clock)[1:] for _ in range(3)] == [
        ("unknown", "Connection refused"),
        ("unknown", "Connection refused"),
        ("done", "SBX-000001"),
    ]
    assert asked_times(sandbox) == {1: 1}
    assert_agreed(sandbox)


def test_a_product_that_wants_no_more_calls_is_called_again_only_when_staff_say_so(agent, manager, sandbox, clock):
    case = unlocking(agent)
    sandbox.behave("gone")
    assert ask(clock) == (0, "given_up", "410 Gone: this product takes no more instructions.")
    clock.shift(timedelta(days=1))
    assert (worker.ask_product(), outcomes(case)) == (0, ["unlocking"])
    sandbox.behave("works")
    assert operations.try_again(Instruction.objects.all(), by=acting(manager)) == 1
    assert [ask(clock)[1] for _ in range(2)] == ["queued", "done"]
    assert outcomes(case) == ["unlocked"]
    assert_agreed(sandbox)


def test_what_was_given_up_and_instructed_again_is_asked_about_once(agent, manager, sandbox, clock):
    case = unlocking(agent)
    assert ask(clock)[1] == "done"
    sandbox.behave("gone", calls=1)
    operations.relock(case.rows, why="Not needed", by=acting(manager))
    assert ask(clock)[1] == "given_up"
    operations.relock(case.rows, why="Once more", by=acting(manager))
    operations.try_again(Instruction.objects.all(), by=acting(manager))
    at_last(sandbox)
    assert outcomes(case) == ["relocked"]


# What happens meanwhile


def withdraw(case):
    operations.withdraw_own_consent(case.consent, why="", by=factories.customer(case.admin))


def test_withdrawn_before_it_is_handed_over_the_product_hears_nothing(agent, sandbox, clock):
    case = unlocking(agent)
    withdraw(case)
    assert (worker.ask_product(), states(), sandbox.instructed()) == (0, {("unlock", "canceled"): 1}, [])
    assert case.refresh().unlock_request.status == "closed"
    assert_agreed(sandbox)


def test_withdrawn_while_nobody_knows_whether_it_was_unlocked_it_is_locked_after_that(agent, sandbox, clock):
    case = unlocking(agent)
    sandbox.behave("loses_answer", calls=1)
    ask(clock)
    withdraw(case)
    assert (outcomes(case), sandbox.unlocked() != []) == (["relocking"], True)
    at_last(sandbox)
    assert states() == {("unlock", "done"): 1, ("lock", "done"): 1}
    assert [one.what for one in sandbox.instructed()] == ["lock", "unlock"]
    assert (outcomes(case), case.refresh().unlock_request.status) == (["relocked"], "closed")


def test_withdrawn_while_the_product_never_got_it_nothing_is_unlocked(agent, sandbox, clock):
    case = unlocking(agent)
    sandbox.behave("fails", calls=1)
    ask(clock)
    withdraw(case)
    at_last(sandbox)
    assert [one.what for one in sandbox.instructed()] == ["lock"]
    assert states() == {("unlock", "canceled"): 1, ("lock", "done"): 1}
    assert (outcomes(case), case.refresh().unlock_request.status) == (["relocked"], "closed")


def test_withdrawn_while_the_product_takes_its_time_it_is_locked_after_that(server, agent, sandbox):
    case = unlocking(agent)
    sandbox.behave("slow", calls=1, seconds=2)
    with asking(server, *WORKER):
        until(lambda: sandbox.behavior() == Behavior())
        withdraw(case)
        assert (outcomes(case), sandbox.instructed()) == (["relocking"], [])
        until(lambda: not pending().exists())
    assert [one.what for one in sandbox.instructed()] == ["lock", "unlock"]
    assert (outcomes(case), case.refresh().unlock_request.status) == (["relocked"], "closed")
    at_last(sandbox)


def test_a_slow_product_holds_up_no_page(server, agent, agent_client, sandbox):
    """As a ratio, and before the product is done."""

    def seconds():
        case = advised(agent)
        start = time.monotonic()
        send_link(agent_client, case)
        return time.monotonic() - start

    quick = sum(seconds() for _ in range(3))
    case = unlocking(agent)
    sandbox.behave("slow", calls=1, seconds=10 if LONG else 4)
    with asking(server, *WORKER):
        until(lambda: sandbox.behavior() == Behavior())
        slow = sum(seconds() for _ in range(3))
        assert (outcomes(case), sandbox.instructed()) == (["unlocking"], [])
        until(lambda: not pending().exists())
    assert slow < 10 * quick
    assert outcomes(case) == ["unlocked"]
    at_last(sandbox)


# Many workers


@pytest.mark.parametrize("workers", [2, 4] if LONG else [2])
def test_many_workers_hand_each_instruction_over_once(server, agent, manager, sandbox, workers):
    cases = [factories.case_unlocking(agent) for _ in range(50 if LONG else 10)]
    with ExitStack() as stack:
        processes = [stack.enter_context(asking(server, *WORKER)) for _ in range(workers)]
        until(lambda: not pending().exists(), seconds=60)
        operations.relock(Batch.objects.filter(status="unlocked"), why="Done", by=acting(manager))
        until(lambda: not pending().exists(), seconds=60)
        assert [process.poll() for process in processes] == [None] * workers
    at_last(sandbox)
    assert states() == {("unlock", "done"): 2 * len(cases), ("lock", "done"): 2 * len(cases)}
    assert asked_times(sandbox) == {1: 4 * len(cases)}


# A line to the database that is cut


@pytest.mark.postgresql
def test_a_worker_whose_line_is_cut_while_the_product_takes_its_time_goes_on(server, agent, sandbox):
    """What the product did is not recorded then; it is asked about it once the lease is over."""
    for _ in range(5 if LONG else 1):
        case = unlocking(agent)
        sandbox.behave("slow", calls=1, seconds=1)
        with asking(server, *WORKER) as process:
            until(lambda: sandbox.behavior() == Behavior())
            cut()
            until(lambda: sandbox.unlocked() != [])
            later = unlocking(agent)
            until(lambda later=later: outcomes(later) == ["unlocked"])
            assert (process.poll(), outcomes(case)) == (None, ["unlocking"])
    at_last(sandbox)
    assert set(asked_times(sandbox)) == {1}


# All of it at once


FAULTS = ["works", "fails", "loses_answer", "later", "refuses", "exported", "down", "gone"]


def meanwhile(draw, cases, agent, manager):
    """Let someone do something to a case; where it may not be done, that is refused."""
    case = draw.choice(cases)
    by = acting(agent)
    match draw.choice(["relock", "re-export", "cancel", "withdraw", "unlock", "nothing", "nothing"]):
        case "relock":
            operations.relock(case.rows, why="Not needed", by=acting(manager))
        case "re-export":
            operations.mark_re_exported(case.rows.filter(pk=case.batch.pk), by=by)
        case "cancel":
            operations.cancel_unlock(case.rows, why="By mistake", by=by)
        case "withdraw":
            with suppress(Refused):
                withdraw(case)
        case "unlock":
            operations.unlock(case.rows, by=by)


@pytest.mark.parametrize("seed", range(200 if LONG else 4))
def test_whatever_the_product_does_and_whatever_happens_meanwhile_the_two_agree_at_last(
    agent, manager, sandbox, clock, seed
):
    draw = Random(seed)
    cases = [factories.case_unlocking(agent) for _ in range(3)]
    for _ in range(20):
        sandbox.behave(draw.choice(FAULTS), calls=draw.randint(1, 2), seconds=draw.choice([0, 1200]))
        if at := next_try():
            clock.move_to(max(at, timezone.now()))
        worker.ask_product()
        meanwhile(draw, cases, agent, manager)
    sandbox.behave("works")
    operations.try_again(Instruction.objects.all(), by=acting(manager))
    at_last(sandbox)


def test_while_a_guard_is_missing_the_product_is_asked_nothing(agent, sandbox):
    case = unlocking(agent)
    connection.check_constraints()
    with guards.lifted():
        assert worker.ask_product() == 0
    assert (outcomes(case), sandbox.instructed()) == (["unlocking"], [])
    assert worker.ask_product() == 1
    assert outcomes(case) == ["unlocked"]


def test_a_worker_that_slept_past_its_lease_hands_nothing_over(agent, sandbox, monkeypatch):
    case = unlocking(agent)
    slept = chain([0.0], repeat(LEASE.total_seconds() + 1))
    monkeypatch.setattr(worker.time, "monotonic", lambda: next(slept))
    assert worker.ask_product() == 1
    assert (states(), sandbox.instructed()) == ({("unlock", "sent"): 1}, [])
    monkeypatch.undo()
    at_last(sandbox)
    assert outcomes(case) == ["unlocked"]
