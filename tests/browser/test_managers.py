"""A manager at work: the audit log, and the reviews of closed cases."""

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import press
from tests.factories import acting, case_unlocked, make_user, open_case
from unlocks import operations

LOG = "/desk/unlocks/ledgerentry/"


@pytest.mark.parametrize("width", [1440, 390])
def test_the_audit_log_is_narrowed_kept_and_read(page, desk, sign_in, on_each_screen, transactional_db, width):
    agent, colleague = make_user("agent", group="Agent"), make_user("colleague", group="Agent")
    case = case_unlocked(agent)
    open_case(colleague)
    sign_in(page, make_user("manager", group="Manager")).set_viewport_size({"width": width, "height": 800})
    page.goto(f"{desk}{LOG}")
    expect(page.get_by_role("heading", name="State of the record")).to_be_visible()
    on_each_screen(page)

    page.set_viewport_size({"width": width, "height": 800})
    page.get_by_text("Filters", exact=True).click()
    page.get_by_label("Kind", exact=True).select_option(["Opened", "Unlock instructed"])
    page.get_by_label("Who", exact=True).select_option(["agent", "colleague"])
    on_each_screen(page)
    page.set_viewport_size({"width": width, "height": 800})
    press(page.get_by_role("button", name="Show"))
    expect(page.locator("#result_list tbody tr")).to_have_count(3)
    query = f"?actor={agent.pk}&actor={colleague.pk}&kind=opened&kind=unlock_instructed"
    assert sorted(page.url.split("?")[1].split("&")) == sorted(query[1:].split("&"))

    page.get_by_text("Save this view").click()
    page.get_by_label("Name", exact=True).fill("Opened and unlocked")
    press(page.get_by_role("button", name="Save", exact=True))
    expect(page).to_have_url(f"{desk}{LOG}{query}")
    tab = page.get_by_role("navigation", name="Saved views").get_by_role("link", name="Opened and unlocked")
    expect(tab).to_have_attribute("aria-current", "true")

    row = page.locator("#result_list tbody tr", has_text="Unlock instructed")
    expect(row).to_contain_text(f"2 batches ({', '.join(batch.number for batch in case.batches)}), for 24 hours")
    press(row.get_by_role("link").first)
    expect(page.get_by_role("heading", name="Unlock instructed: entry")).to_be_visible()
    page.get_by_text("What is sealed").click()
    expect(page.get_by_text('"kind": "unlock_instructed"')).to_be_visible()
    on_each_screen(page)
    page.set_viewport_size({"width": width, "height": 800})
    press(page.get_by_role("link", name="Permissions"))
    expect(page.get_by_role("heading", name="Calls of the API")).to_be_visible()
    on_each_screen(page)


@pytest.mark.parametrize("width", [1440, 390])
def test_a_case_is_reviewed_by_a_second_person(page, desk, sign_in, on_each_screen, transactional_db, settings, width):
    settings.REVIEW_SHARE = 100
    agent = make_user("agent", group="Agent")
    case = case_unlocked(agent)
    operations.mark_re_exported(case.rows, by=acting(agent))
    reference = case.unlock_request.reference
    sign_in(page, make_user("manager", group="Manager")).set_viewport_size({"width": width, "height": 800})
    page.goto(f"{desk}/desk/unlocks/review/")
    on_each_screen(page)
    page.set_viewport_size({"width": width, "height": 800})
    press(page.get_by_role("link", name=reference))

    review = page.locator("section", has=page.get_by_role("heading", name="Review", exact=False))
    expect(review.get_by_text("To review")).to_be_visible()
    review.get_by_text("Flag the case").first.click()
    review.get_by_label("What is wrong").fill("Who called?")
    on_each_screen(page)
    page.set_viewport_size({"width": width, "height": 800})
    press(review.get_by_role("button", name="Flag the case"))
    expect(review.get_by_text("Flagged").first).to_be_visible()

    page.goto(f"{desk}/desk/")
    flagged = page.get_by_role("link", name="1 flagged case")
    expect(flagged).to_be_visible()
    on_each_screen(page)
    press(flagged)
    expect(page.locator("#result_list tbody tr")).to_have_count(1)


def test_the_dashboard_leads_to_what_it_counts(page, desk, sign_in, on_each_screen, transactional_db):
    agent = make_user("agent", group="Agent")
    case = case_unlocked(agent)
    operations.mark_re_exported(case.rows, by=acting(agent))
    open_case(agent)
    sign_in(page, make_user("manager", group="Manager"))
    page.goto(f"{desk}/desk/")
    expect(page.get_by_role("heading", name="Dashboard")).to_be_visible()
    page.get_by_text("By day, as a table").click()
    on_each_screen(page)

    opened = page.locator(".flow > div", has_text="Opened").locator(".number")
    expect(opened).to_have_text("2")
    press(opened)
    expect(page.locator("#result_list tbody tr")).to_have_count(2)
    page.go_back()
    press(page.locator("section[aria-labelledby=agents] tbody tr").get_by_role("link").nth(1))
    expect(page.locator("#result_list tbody tr")).to_have_count(1)
    expect(page.locator("#result_list")).to_contain_text("Unlock instructed")

    page.goto(f"{desk}/desk/?since=2026-11-02&until=2026-11-01")
    expect(page.get_by_text("The last day is before the first one.")).to_be_visible()
    on_each_screen(page)
