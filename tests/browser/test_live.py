"""The page of a case follows what the customer and colleagues do, and leaves alone what someone types in."""

from playwright.sync_api import expect

from tests import factories
from tests.browser.test_walkthrough import PASSWORD, sign_in
from unlocks import operations


def test_a_case_is_followed_while_the_customer_is_at_it(page, desk, transactional_db, axe, monkeypatch):
    monkeypatch.setattr("unlocks.admin.case.FOLLOWED_CLOSELY", 0.3)
    monkeypatch.setattr("unlocks.admin.case.FOLLOWED", 0.3)
    dana = factories.make_user("dana", group="Agent", password=PASSWORD)
    agent = factories.make_user("bob", group="Agent")
    case = factories.case_awaiting(agent)
    by, reference = factories.customer(case.admin), case.unlock_request.reference
    sign_in(page, desk, "dana")
    page.goto(f"{desk}{case.unlock_request.get_absolute_url()}")
    expect(page).to_have_title(f"Link waits to be sent · {reference} · Unlock Desk")
    operations.open_consent_link(case.link, by=by)
    expect(page).to_have_title(f"Link opened · {reference} · Unlock Desk")
    operations.verify_customer_pin(case.link, pin=factories.PIN, by=by)
    expect(page.locator(".steps [aria-current]")).to_contain_text("PIN right")
    page.get_by_text("Add a note").click()
    page.get_by_role("textbox", name="Note").fill("The customer reads it now.")
    factories.agree(case)
    expect(page).to_have_title(f"Ready to unlock · {reference} · Unlock Desk")
    expect(page.get_by_role("textbox", name="Note")).to_have_value("The customer reads it now.")
    expect(page.locator("#live")).to_contain_text("What you are working at was left as it is. Show all of it")
    page.get_by_role("button", name="Add the note").click()
    expect(page.get_by_text("The note is on the timeline.")).to_be_visible()
    operations.assign(case.unlock_request, to=dana, by=factories.acting(agent))
    expect(page.locator("#live")).to_contain_text("Assigned by bob")
    axe(page)
