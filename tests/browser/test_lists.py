"""A list with the keyboard, its saved views and its file, on a desk and on a phone."""

import csv
import io
from pathlib import Path

import openpyxl
import pytest
from playwright.sync_api import expect

from tests.browser.conftest import press
from tests.factories import make_account, make_batches, make_user, open_case

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize("width", [1440, 390])
def test_a_list_is_narrowed_kept_sent_and_walked_through(page, desk, sign_in, on_each_screen, width):
    agent = make_user("agent", group="Agent")
    account = make_account(number="4711")
    cases = [open_case(agent, batches=[batch]) for batch in make_batches(account=account, n=3)]
    open_case(agent)
    newest = cases[-1].unlock_request
    sign_in(page, agent).set_viewport_size({"width": width, "height": 800})
    page.goto(f"{desk}/desk/unlocks/unlockrequest/")

    page.get_by_text("Filters", exact=True).click()
    page.get_by_label("Account number").fill("4711")
    press(page.get_by_role("button", name="Show"))
    expect(page.locator("#result_list tbody tr")).to_have_count(3)
    expect(page).to_have_url(f"{desk}/desk/unlocks/unlockrequest/?account=4711")

    page.get_by_text("Save this view").click()
    page.get_by_label("Name", exact=True).fill("Northwind")
    press(page.get_by_role("button", name="Save", exact=True))
    tab = page.get_by_role("navigation", name="Saved views").get_by_role("link", name="Northwind")
    expect(tab).to_have_attribute("aria-current", "true")
    with page.expect_download() as download:
        page.get_by_role("button", name="CSV").click()
    rows = list(csv.reader(Path(download.value.path()).read_text("utf-8-sig").splitlines()))
    references = [case.unlock_request.reference for case in reversed(cases)]
    assert [row[0] for row in rows[1:]] == [*references, "Complete: 3 rows"]
    with page.expect_download() as download:
        page.get_by_role("button", name="Excel").click()
    book = openpyxl.load_workbook(io.BytesIO(Path(download.value.path()).read_bytes()))
    assert [row[0].value for row in book["List"].iter_rows(min_row=2)] == references

    page.locator("main").focus()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    expect(page.locator("#searchbar")).to_be_focused()
    page.keyboard.type("j/?x")
    expect(page.locator("#searchbar")).to_have_value("j/?x")
    page.locator("main").focus()
    for key in ("j", "j", "x", "ArrowUp"):
        page.keyboard.press(key)
    expect(page.get_by_role("link", name=newest.reference)).to_be_focused()
    expect(page.locator(".action-select").nth(1)).to_be_checked()
    expect(page.locator(".action-counter")).to_have_text("1 of 3 selected")
    on_each_screen(page)
    with page.expect_navigation():
        page.keyboard.press("Enter")
    assert page.url.startswith(f"{desk}{newest.get_absolute_url()}")
