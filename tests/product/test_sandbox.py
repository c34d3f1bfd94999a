"""The made-up product: it does each key once, for all processes, and fails as it is told to."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
import time_machine
from django.conf import settings

from tests.mail_servers import until
from unlocks.models import Account, Batch, Instruction
from unlocks.product.port import Answer, NotHandedOver, State, Stopped
from unlocks.product.sandbox import SECONDS, Behavior, How, Instructed

AT = datetime(2026, 11, 27, 9, 30, tzinfo=UTC)


def instruction(batch="B-1", what="unlock", *, account="4711", key=None):
    of = Batch(number=batch, account=Account(number=account, name="Northwind"))
    return Instruction(key=key or uuid4(), what=what, batch=of)


def done(one, number):
    return Answer(one.key, State.DONE, f"SBX-{number:06d}")


def unknown(one, why):
    return Answer(one.key, State.UNKNOWN, why)


# What it does


@time_machine.travel(AT, tick=False)
def test_it_does_what_it_is_asked_in_order_and_remembers_it(sandbox):
    first, second = instruction(), instruction("B-2", "lock", account="4802")
    assert sandbox.carry_out([first, second]) == [done(first, 1), done(second, 2)]
    assert sandbox.instructed() == [
        Instructed(2, second.key, "lock", "4802", "B-2", AT, AT, "", 1),
        Instructed(1, first.key, "unlock", "4711", "B-1", AT, AT, "", 1),
    ]
    assert sandbox.instructed(1) == sandbox.instructed()[:1]
    assert sandbox.state([second, first]) == [done(second, 2), done(first, 1)]


@pytest.mark.parametrize("how", ["refuses", "exported", "works"])
def test_the_same_key_again_does_nothing_and_gets_the_same_answer(sandbox, how):
    one = instruction()
    sandbox.behave(how, calls=1)
    first = sandbox.carry_out([one])
    sandbox.behave("works" if how != "works" else "refuses")
    assert [sandbox.carry_out([one, one]), sandbox.state([one])] == [first * 2, first]
    assert [(kept.key, kept.asked) for kept in sandbox.instructed()] == [(one.key, 3)]


def test_it_holds_unlocked_what_it_unlocked_and_did_not_lock_since(sandbox):
    assert sandbox.unlocked() == []
    sandbox.carry_out([instruction("B-2"), instruction("B-1"), instruction("B-1", account="4802")])
    sandbox.carry_out([instruction("B-2", "lock"), instruction("B-3", "lock")])
    assert sandbox.unlocked() == [("4711", "B-1"), ("4802", "B-1")]
    sandbox.behave("refuses")
    sandbox.carry_out([instruction("B-1", "lock"), instruction("B-4")])
    assert sandbox.unlocked() == [("4711", "B-1"), ("4802", "B-1")]


@time_machine.travel(AT, tick=False)
def test_of_two_things_at_once_the_second_counts(sandbox):
    sandbox.carry_out([instruction(), instruction(what="lock"), instruction("B-2", "lock"), instruction("B-2")])
    assert sandbox.unlocked() == [("4711", "B-2")]


def test_a_call_that_ends_half_way_did_nothing(sandbox):
    with pytest.raises(sqlite3.IntegrityError):
        sandbox.carry_out([instruction(), instruction(batch=None)])
    assert sandbox.instructed() == []


def test_what_it_never_got_it_does_not_know(sandbox):
    one, other = instruction(), instruction()
    sandbox.carry_out([one])
    assert sandbox.state([other, one]) == [Answer(other.key, State.NOT_KNOWN), done(one, 1)]


def test_it_forgets(sandbox):
    sandbox.carry_out([instruction()])
    sandbox.behave("refuses")
    sandbox.forget()
    assert (sandbox.instructed(), sandbox.unlocked(), sandbox.behavior()) == ([], [], Behavior())
    one = instruction()
    assert sandbox.carry_out([one]) == [done(one, 1)]


# How it fails


def test_it_works_unless_it_is_told_otherwise(sandbox):
    assert sandbox.behavior() == Behavior(How.WORKS, None, SECONDS)


def test_it_behaves_for_as_many_calls_as_it_is_told_to(sandbox):
    sandbox.behave("refuses", calls=2)
    said = []
    for _ in range(3):
        said.append((sandbox.behavior().calls, sandbox.carry_out([instruction(), instruction()])[1].state))
    assert said == [(2, "refused"), (1, "refused"), (None, "done")]


def test_it_behaves_so_until_it_is_told_otherwise(sandbox):
    sandbox.behave("refuses")
    assert {sandbox.carry_out([instruction()])[0].state for _ in range(5)} == {"refused"}
    sandbox.behave("works")
    assert sandbox.carry_out([instruction()])[0].state == "done"


@pytest.mark.parametrize(("how", "calls"), [("sulks", 1), ("refuses", 0)])
def test_it_behaves_in_no_other_way(sandbox, how, calls):
    with pytest.raises(ValueError if how == "sulks" else sqlite3.IntegrityError):
        sandbox.behave(how, calls=calls)
    assert sandbox.behavior() == Behavior()


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("refuses", "The batch is locked by the accounting period."),
        ("exported", "The customer exported this batch meanwhile."),
    ],
)
def test_it_refuses_for_a_reason(sandbox, how, reason):
    sandbox.behave(how)
    one = instruction()
    assert sandbox.carry_out([one]) == [Answer(one.key, State.REFUSED, reason)]
    assert sandbox.unlocked() == []


def test_a_call_that_fails_did_nothing(sandbox):
    sandbox.behave("fails", calls=2)
    one = instruction()
    assert sandbox.carry_out([one]) == sandbox.state([one]) == [unknown(one, "500 Internal Server Error")]
    assert sandbox.state([one]) == [Answer(one.key, State.NOT_KNOWN)]
    assert sandbox.instructed() == []


def test_an_answer_that_is_lost_was_done(sandbox):
    sandbox.behave("loses_answer", calls=1)
    one = instruction()
    assert sandbox.carry_out([one]) == [unknown(one, "The connection ended before an answer came.")]
    assert sandbox.state([one]) == sandbox.carry_out([one]) == [done(one, 1)]
    assert sandbox.unlocked() == [("4711", "B-1")]


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ("down", NotHandedOver, "Connection refused"),
        ("gone", Stopped, "410 Gone: this product takes no more instructions."),
    ],
)
def test_a_product_that_can_not_be_called_gets_nothing(sandbox, how, error, message):
    sandbox.behave(how, calls=2)
    for call in (sandbox.carry_out, sandbox.state):
        with pytest.raises(error) as raised:
            call([instruction()])
        assert str(raised.value) == message
    assert (sandbox.instructed(), sandbox.behavior()) == ([], Behavior())


def test_it_answers_later(sandbox):
    sandbox.behave("later", calls=1, seconds=30)
    one = instruction()
    with time_machine.travel(AT, tick=False) as clock:
        accepted = [Answer(one.key, State.ACCEPTED, "SBX-000001")]
        assert sandbox.carry_out([one]) == sandbox.carry_out([one]) == accepted
        clock.shift(29)
        assert (sandbox.state([one]), sandbox.unlocked()) == (accepted, [])
        clock.shift(1)
        assert (sandbox.state([one]), sandbox.unlocked()) == ([done(one, 1)], [("4711", "B-1")])
        assert sandbox.instructed()[0].done_at == AT + timedelta(seconds=30)


def test_what_it_is_asked_of_one_batch_it_does_in_order(sandbox):
    with time_machine.travel(AT, tick=False) as clock:
        sandbox.behave("later", calls=1, seconds=30)
        sandbox.carry_out([instruction()])
        lock, other = instruction(what="lock"), instruction("B-2")
        assert sandbox.carry_out([lock, other]) == [Answer(lock.key, State.ACCEPTED, "SBX-000002"), done(other, 3)]
        clock.shift(30)
        assert (sandbox.state([lock]), sandbox.unlocked()) == ([done(lock, 2)], [("4711", "B-2")])


@pytest.mark.parametrize("call", ["carry_out", "state"])
def test_it_takes_its_time(sandbox, call):
    sandbox.behave("slow", calls=1, seconds=0.2)
    one, start = instruction(), time.monotonic()
    assert [answer.key for answer in getattr(sandbox, call)([one])] == [one.key]
    assert time.monotonic() - start >= 0.2
    assert sandbox.behavior() == Behavior()


def test_while_it_takes_its_time_it_holds_up_nobody_and_has_done_nothing(sandbox):
    sandbox.behave("slow", calls=1, seconds=1)
    slow, other = instruction(), instruction("B-2")
    answers = []
    thread = threading.Thread(target=lambda: answers.extend(sandbox.carry_out([slow])))
    thread.start()
    until(lambda: sandbox.behavior() == Behavior())
    assert sandbox.state([slow]) == [Answer(slow.key, State.NOT_KNOWN)]
    assert sandbox.carry_out([other]) == [done(other, 1)]
    assert answers == []
    thread.join()
    assert answers == [done(slow, 2)]


@pytest.mark.parametrize("how", ["loses_answer", "later", "refuses", "exported"])
def test_what_befalls_only_instructions_waits_for_one(sandbox, how):
    sandbox.behave(how, calls=1)
    one = instruction()
    assert sandbox.state([one]) == [Answer(one.key, State.NOT_KNOWN)]
    assert sandbox.behavior().how == how


# Processes

ANOTHER = """
import sys, django
django.setup()
from tests.product.test_sandbox import instruction
from unlocks.product.sandbox import Sandbox
for key in sys.argv[2:]:
    [answer] = Sandbox().carry_out([instruction(key=key)])
    print(sys.argv[1], answer.state, answer.text, flush=True)
"""


def another(name, *keys):
    """Start a process that hands over these keys, one call each."""
    return subprocess.Popen(
        [sys.executable, "-c", ANOTHER, name, *map(str, keys)],
        cwd=settings.BASE_DIR,
        env={
            "PATH": os.environ["PATH"],
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "UNLOCK_DESK_TRIAL": "1",
            "SANDBOX_FILE": settings.SANDBOX_FILE,
        },
        stdout=subprocess.PIPE,
        text=True,
    )


def said(process):
    return process.communicate(timeout=30)[0].splitlines()


def test_what_one_process_was_told_befalls_another_and_what_it_did_is_known_to_all(sandbox):
    sandbox.behave("loses_answer", calls=1)
    one = instruction()
    assert said(another("it", one.key)) == ["it unknown The connection ended before an answer came."]
    assert (sandbox.behavior(), sandbox.state([one])) == (Behavior(), [done(one, 1)])


def test_a_process_that_is_killed_in_a_call_leaves_it_as_it_was(sandbox):
    sandbox.behave("slow", calls=1, seconds=60)
    first, second = instruction(), instruction("B-2")
    process = another("it", first.key)
    until(lambda: sandbox.behavior() == Behavior())
    process.send_signal(signal.SIGKILL)
    assert (said(process), process.returncode) == ([], -9)
    assert sandbox.instructed() == []
    assert sandbox.carry_out([first, second]) == [done(first, 1), done(second, 2)]


def test_of_processes_that_ask_the_same_at_once_it_does_it_once_and_all_get_its_answer(sandbox):
    keys = [uuid4() for _ in range(20)]
    processes = [another("one", *keys), another("other", *reversed(keys))]
    heard = [line for process in processes for line in said(process)]
    kept = sandbox.instructed()
    assert sorted(one.key for one in kept) == sorted(keys)
    assert sorted(heard) == sorted(f"{name} done {one.reference}" for one in kept for name in ("one", "other"))
    assert {one.asked for one in kept} == {2}


def test_each_fault_befalls_one_of_them(sandbox):
    sandbox.behave("refuses", calls=7)
    keys = [uuid4() for _ in range(20)]
    processes = [another("one", *keys[:10]), another("other", *keys[10:])]
    states = [line.split()[1] for process in processes for line in said(process)]
    assert sorted(states) == ["done"] * 13 + ["refused"] * 7


def test_each_test_has_a_file_of_its_own_beside_no_other(sandbox, tmp_path):
    sandbox.carry_out([instruction()])
    assert [path.name for path in tmp_path.iterdir()] == ["product.sqlite3"]
