"""Unlocking in the product by hand: one agent instructs it, another does it there and says so."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import press
from tests.browser.test_walkthrough import PASSWORD, sign_in
from tests.factories import case_consented, case_recorded_by_phone, make_batches, make_user
from unlocks.models import Batch, Instruction

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def staff(db):
    """Two agents who can sign in with the form."""
    return [make_user(name, group="Agent", password=PASSWORD) for name in ("agent", "colleague")]


def signed_in(new_context, desk, username):
    page = new_context().new_page()
    sign_in(page, desk, username)
    return page


def statuses(case):
    return list(case.rows.order_by("pk").values_list("status", flat=True))


def instruct(page, desk, case):
    """Have the unlock of a case instructed on its page."""
    page.goto(f"{desk}{case.unlock_request.get_absolute_url()}")
    press(page.get_by_role("button", name=re.compile("^Unlock")).first)
    press(page.get_by_role("button", name=re.compile("^Unlock")).first)


def test_one_agent_instructs_and_another_does_it_in_the_product(new_context, desk, on_each_screen, staff):
    agent, _ = staff
    case = case_consented(agent, batches=make_batches(n=3, items=1))
    instruct(signed_in(new_context, desk, "agent"), desk, case)
    assert statuses(case) == ["unlocking"] * 3

    page = signed_in(new_context, desk, "colleague")
    press(page.get_by_role("link", name="3 to do in ServiceTitan"))
    on_each_screen(page)
    page.set_viewport_size({"width": 1440, "height": 900})

    # Two are ticked, one of them by the keyboard, and started.
    page.get_by_label("Select all objects on this page").check()
    expect(page.get_by_text("3 of 3 selected")).to_be_visible()
    page.get_by_label(f"Unlock batch {case.batches[2].number}").press("Space")
    expect(page.get_by_text("2 of 3 selected")).to_be_visible()
    press(page.get_by_role("button", name="Start"))
    assert "2 batches are yours now. Do them in ServiceTitan, then say so here." in page.locator("main").inner_text()
    on_each_screen(page)
    page.set_viewport_size({"width": 1440, "height": 900})

    # Enter in a field does nothing yet, and what was ticked and typed is still there.
    page.get_by_label("Select all objects on this page").check()
    page.get_by_label("Reference in ServiceTitan").fill("T-4711")
    with page.expect_navigation():
        page.get_by_label("Reference in ServiceTitan").press("Enter")
    expect(page.get_by_role("alert")).to_be_focused()
    expect(page.get_by_role("alert")).to_contain_text("Press the button that says what became of them.")
    on_each_screen(page)
    assert statuses(case) == ["unlocking"] * 3
    expect(page.get_by_text("2 of 2 selected")).to_be_visible()
    press(page.get_by_role("button", name="Done", exact=True))
    assert "2 batches are recorded as done, with the reference T-4711." in page.locator("main").inner_text()
    assert statuses(case) == ["unlocked", "unlocked", "unlocking"]
    on_each_screen(page)

    # The third can't be done.
    page.goto(f"{desk}/desk/unlocks/instruction/")
    page.get_by_label(f"Unlock batch {case.batches[2].number}").check()
    press(page.get_by_role("button", name="Start"))
    page.get_by_label("Select all objects on this page").check()
    page.get_by_label("Why it was not done").fill("It was exported this morning.")
    press(page.get_by_role("button", name="Not done"))
    assert statuses(case) == ["unlocked", "unlocked", "bypassed"]
    page.goto(f"{desk}/desk/unlocks/instruction/?show=ended")
    on_each_screen(page)
    assert "It was exported this morning." in page.locator("main").inner_text()


def test_without_a_script_it_is_done_as_well(browser, desk, staff):
    agent, _ = staff
    case = case_consented(agent, batches=make_batches(n=1))
    context = browser.new_context(java_script_enabled=False)
    page = signed_in(lambda: context, desk, "agent")
    instruct(page, desk, case)
    page.goto(f"{desk}/desk/unlocks/instruction/")
    page.get_by_label(f"Unlock batch {case.batch.number}").check()
    press(page.get_by_role("button", name="Start"))
    page.get_by_label(f"Unlock batch {case.batch.number}").check()
    page.get_by_label("Reference in ServiceTitan").fill("T-1")
    press(page.get_by_role("button", name="Done", exact=True))
    assert statuses(case) == ["unlocked"]
    context.close()


def test_whoever_recorded_the_consent_reads_that_someone_else_does_it(new_context, desk, on_each_screen, staff):
    agent, _ = staff
    case = case_recorded_by_phone(agent)
    instruct(signed_in(new_context, desk, "colleague"), desk, case)
    page = signed_in(new_context, desk, "agent")
    page.goto(f"{desk}/desk/unlocks/instruction/")
    box = page.get_by_label(f"Unlock batch {case.batch.number}")
    expect(box).to_be_disabled()
    expect(page.get_by_text("Someone else has to do it: you recorded this consent by phone.").first).to_be_visible()
    on_each_screen(page)
    assert Instruction.objects.filter(state="queued").count() == Batch.objects.filter(status="unlocking").count() == 2
