"""A call: how many clicks and pages lie between the queue and the unlock, on the real server in a real browser."""

import pytest

from tests.browser.conftest import account_of, press
from tests.factories import Case, agree, make_batch, make_user, open_case
from unlocks.models import Batch, UnlockRequest

pytestmark = pytest.mark.django_db(transaction=True)
PASSWORD = "a-long-trial-password"


def test_from_the_queue_to_unlocked_in_nine_clicks_and_five_pages(new_context, desk, axe, sandbox):
    agent = make_user("agent", group="Agent", password=PASSWORD)
    account = account_of("Dana Whitfield", number="4711", name="Northwind Heating")
    open_case(agent, account=account)
    batch = make_batch(account=account, number="20261101-INV")
    page = new_context().new_page()
    page.goto(desk)
    page.get_by_label("Username").fill("agent")
    page.get_by_label("Password").fill(PASSWORD)
    press(page.get_by_role("button", name="Sign in", exact=True))
    clicks, loads = [], []
    page.on("load", lambda loaded: loads.append(loaded.url))

    def click(control, leads=False):
        clicks.append(control)
        press(control) if leads else control.click()

    click(page.get_by_role("link", name="Open a request").first, leads=True)
    page.keyboard.type("dana")
    page.get_by_text("1 account. Enter chooses it.").wait_for()
    axe(page)
    with page.expect_navigation():
        page.keyboard.press("Enter")
    assert page.get_by_text("The account has 1 other open request.").is_visible()
    axe(page)
    click(page.get_by_label("20261101-INV"))
    click(page.get_by_label("By mistake"))
    click(page.get_by_label("Customer wants to export the batches"))
    click(page.get_by_label("Reason for the unlock"))
    page.keyboard.type("They want to export it.")
    click(page.get_by_role("button", name="Open and email the link"), leads=True)
    case = {"account": account, "admin": account.contacts.get(), "batches": [batch], "agent": agent}
    agree(Case(unlock_request=UnlockRequest.objects.latest("pk"), **case))
    button = page.get_by_role("button", name="Unlock 1 batch…")
    button.wait_for(timeout=60_000)
    click(button, leads=True)
    click(page.get_by_role("button", name="Unlock 1 batch"), leads=True)
    assert Batch.objects.get(number="20261101-INV").status == "unlocking"
    assert (len(clicks), len(loads)) == (8, 5)
