"""Whatever happens to a call, each instruction is done once at the vendor's, and ends as done on the desk."""

import json
from datetime import timedelta

import pytest
import time_machine
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from tests.factories import acting, case_unlocking
from tests.product import vendor as vendors
from unlocks import operations
from unlocks.models import Instruction
from unlocks.outbox import worker
from unlocks.product import answers, calls
from unlocks.product.port import State

FAULTS = {
    "none": None,
    "its answer is lost": vendors.loses,
    "it closes the connection": vendors.closes,
    "its answer breaks off": vendors.breaks_off,
    "it hangs": vendors.hangs,
    "it trickles": vendors.trickles,
    "500": vendors.status(500),
    "redirect": vendors.status(302, Location="/elsewhere"),
    "no JSON": vendors.says(b"<html>Error</html>"),
    "nothing": vendors.says(b""),
}


def states():
    return list(Instruction.objects.order_by("pk").values_list("state", flat=True))


@pytest.mark.django_db
@pytest.mark.parametrize("fault", FAULTS)
def test_nothing_is_lost_and_nothing_done_twice(agent, monkeypatch, fault):
    monkeypatch.setattr(calls, "DEADLINE", 0.3)
    with vendors.running() as vendor:
        case = case_unlocking(agent)
        vendor.fault = FAULTS[fault]
        assert worker.ask_product() == 2
        asked = {"none": "done", "nothing": "sent"}.get(fault, "unknown")
        assert states() == [asked] * 2
        vendor.fault = None
        monkeypatch.setattr(calls, "DEADLINE", 30.0)
        for minutes in (20, 40):
            with time_machine.travel(timezone.now() + timedelta(minutes=minutes)):
                worker.ask_product()
        assert states() == ["done"] * 2
        keys = Instruction.objects.order_by("pk").values_list("key", flat=True)
        assert vendor.done == list(map(str, keys))
        assert set(case.rows.values_list("status", flat=True)) == {"unlocked"}


@pytest.mark.django_db
def test_while_nobody_listens_it_waits(agent):
    case = case_unlocking(agent)
    with vendors.none():
        worker.ask_product()
    assert states() == ["queued"] * 2
    assert set(Instruction.objects.values_list("answer", flat=True)) == {
        "The product can’t be reached: ConnectionRefusedError, Connection refused."
    }
    with vendors.running() as vendor, time_machine.travel(timezone.now() + timedelta(minutes=1)):
        worker.ask_product()
        assert len(vendor.done) == 2
    assert set(case.rows.values_list("status", flat=True)) == {"unlocked"}


@pytest.mark.django_db
def test_410_gives_up(agent):
    case_unlocking(agent)
    with vendors.running() as vendor:
        vendor.fault = vendors.status(410)
        worker.ask_product()
    assert states() == ["given_up"] * 2


@pytest.mark.django_db
def test_unlocked_and_relocked_by_the_vendor(agent, manager):
    with vendors.running() as vendor:
        case = case_unlocking(agent)
        worker.ask_product()
        operations.relock(case.rows, why="Exported", by=acting(manager))
        worker.ask_product()
        asked = [(one["what"], one["batch"]) for message in vendor.received for one in message.instructions]
        numbers = [batch.number for batch in case.batches]
        assert asked == [(what, number) for what in ("unlock", "lock") for number in numbers]
    assert set(case.rows.values_list("status", flat=True)) == {"bypassed"}


VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["key", "state", "reference", "reason"]), inner),
)
KEYS = st.uuids().map(str) | VALUES
ITEMS = st.fixed_dictionaries(
    {"key": KEYS, "state": st.sampled_from([*State, "?"]) | VALUES}, optional={"reference": VALUES, "reason": VALUES}
)


@given(st.lists(ITEMS | VALUES).map(lambda items: json.dumps({"answers": items}).encode()) | st.binary())
def test_whatever_is_said_is_read_or_refused(body):
    try:
        items = answers.items(body)
    except answers.Malformed as malformed:
        items, said = [], str(malformed)
        assert said.isprintable()
    for item in items:
        try:
            one = answers.answer(item, {State.DONE, State.REFUSED})
        except answers.Malformed:
            continue
        assert one.state in (State.DONE, State.REFUSED)
        assert len(one.text) <= 500
        assert one.text == "" or one.text.isprintable()
