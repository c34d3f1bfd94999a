"""The page that shows the made-up product of a trial run, and chooses its faults."""

import re
from datetime import UTC, datetime

import pytest
import time_machine
from django.test import Client
from django.utils.html import strip_tags

from tests.product.test_sandbox import instruction
from unlocks.product.sandbox import Behavior, How

pytestmark = pytest.mark.django_db

AT = datetime(2026, 11, 27, 9, 30, tzinfo=UTC)
PAGE = "/trial/product/"


@pytest.fixture(autouse=True)
def trial(settings, sandbox):
    settings.TRIAL = True
    return settings


def read(client):
    """Return the page as text, from its heading on."""
    text = re.sub(r"\s+", " ", strip_tags(client.get(PAGE).content.decode())).strip()
    return text[text.index("Product of this trial run This stands") :]


def after(text, heading):
    return text.partition(heading)[2].strip()


def test_before_the_first_call(client):
    text = read(client)
    assert "This stands for the product that holds the batches." in text
    assert after(text, "How it behaves now").startswith("Does what it is asked, and says so at once. What it does")
    assert after(text, "Unlocked in it now") == (
        "No batch. What it was asked to do Nothing yet. It does each instruction once, however often it is asked. "
        "The desk · Emails of this trial run"
    )


def test_it_shows_what_was_asked_the_newest_first_and_what_became_of_it(client, sandbox):
    with time_machine.travel(AT, tick=False):
        one = instruction("<b>1", account="4711")
        sandbox.carry_out([one, one, instruction("B-2", "lock")])
        sandbox.behave("exported", calls=1)
        sandbox.carry_out([instruction("B-3")])
        sandbox.behave("later", calls=1, seconds=30)
        sandbox.carry_out([instruction("B-4")])
        text = read(client)
    when = "Nov 27, 2026, 4:30:00 AM EST"
    assert after(text, "Unlocked in it now") == (
        "1 batch: &lt;b&gt;1 of account 4711 It is not told of exports, so exported batches stay here. "
        "What it was asked to do The newest first. It does each instruction once, "
        "however often it is asked. Batch What What became of it Asked "
        f"B-4account 4711 Unlock Accepted: SBX-000004, to be done Nov 27, 2026, 4:30:30 AM EST {when} "
        f"B-3account 4711 Unlock Refused: The customer exported this batch meanwhile. {when} "
        f"B-2account 4711 Lock Done: SBX-000002 {when} "
        f"&lt;b&gt;1account 4711 Unlock Done: SBX-000001 {when}and 1 more time since "
        "The desk · Emails of this trial run"
    )


def test_no_more_than_fit(client, sandbox):
    sandbox.carry_out([instruction(f"B-{number:02}") for number in range(51)])
    page = client.get(PAGE)
    assert [one.batch for one in page.context["instructed"]] == [f"B-{number:02}" for number in range(50, 0, -1)]
    assert [batch for _, batch in page.context["unlocked"]] == [f"B-{number:02}" for number in range(50)]
    text = read(client)
    assert "51 batches, of which these are the first 50:" in text
    assert "The latest 50, the newest first." in text


@pytest.mark.parametrize(
    ("typed", "behavior", "said"),
    [
        (("works", "", 10), (None, 10), "Does what it is asked, and says so at once."),
        (("slow", 1, 5), (1, 5), "Takes a while before it does it (5 seconds), for one more call."),
        (("later", "", 1), (None, 1), "Accepts it, and does it after a while (1 second)."),
        (("fails", 3, 10), (3, 10), "Fails: a server error, and nothing is done, for 3 more calls."),
        (("gone", "", 10), (None, 10), "Wants no more calls."),
    ],
)
def test_how_it_behaves_is_chosen_and_shown(client, sandbox, typed, behavior, said):
    how, calls, seconds = typed
    page = client.post(PAGE, {"how": how, "calls": calls, "seconds": seconds})
    assert (page.status_code, page.get("Location")) == (302, PAGE)
    assert sandbox.behavior() == Behavior(How(how), *behavior)
    assert after(read(client), "How it behaves now").startswith(f"{said} What it does")
    form = client.get(PAGE).context["form"]
    assert form.initial == {"how": how, "calls": behavior[0], "seconds": behavior[1]}


SECONDS, CALLS = "Enter a number of seconds from 1 to 60.", "Enter 1 to 1,000 calls, or leave it empty."


@pytest.mark.parametrize(
    ("typed", "wrong"),
    [
        ({}, {"how": ["Choose one."], "seconds": [SECONDS]}),
        ({"how": "slow", "seconds": 61}, {"seconds": [SECONDS]}),
        ({"how": "slow", "seconds": "ten", "calls": "one"}, {"seconds": [SECONDS], "calls": [CALLS]}),
        ({"how": "slow", "seconds": 0, "calls": 0}, {"seconds": [SECONDS], "calls": [CALLS]}),
        ({"how": "slow", "seconds": 1, "calls": 1001}, {"calls": [CALLS]}),
    ],
)
def test_what_can_not_be_chosen_changes_nothing(client, sandbox, typed, wrong):
    sandbox.behave("down", calls=2)
    page = client.post(PAGE, typed)
    assert (page.status_code, page.context["form"].errors) == (400, wrong)
    assert "It behaves as before." in page.content.decode()
    assert sandbox.behavior() == Behavior(How.DOWN, 2)


def test_another_site_can_not_choose(sandbox):
    page = Client(enforce_csrf_checks=True).post(PAGE, {"how": "gone", "seconds": 1})
    assert (page.status_code, sandbox.behavior()) == (403, Behavior())


@pytest.mark.parametrize(("name", "value"), [("TRIAL", False), ("PRODUCT", "by_hand"), ("PRODUCT", "webhook")])
def test_only_a_trial_run_with_the_made_up_product_has_it(client, trial, sandbox, name, value):
    setattr(trial, name, value)
    assert client.get(PAGE).status_code == 404
    assert client.post(PAGE, {"how": "gone", "seconds": 1}).status_code == 404
    assert sandbox.behavior() == Behavior()


def test_it_is_not_kept_by_the_browser(client):
    assert client.get(PAGE)["Cache-Control"] == "max-age=0, no-cache, no-store, must-revalidate, private"
