"""The check page in a real browser: each answer, on each screen, with the keyboard alone and without scripts."""

import json

import pytest
from django.contrib.auth.models import User

from tests import factories
from tests.browser.conftest import press
from unlocks import operations
from unlocks.certificates import keys
from unlocks.models import CheckAttempts

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def issued(desk, db):
    factories.record_certificate_key()
    case = factories.case_unlocked(factories.make_user("agent", group="Agent"))
    return operations.issue_certificate(case.consent, by=factories.customer(case.admin))


def agent():
    return User.objects.get(username="agent")


@pytest.fixture
def files(issued, tmp_path):
    """The certificate's files on the visitor's disk, one of them damaged, one too large."""
    contents = {
        "whole.pdf": bytes(issued.pdf),
        "whole.json": issued.content.encode(),
        "damaged.pdf": bytes(issued.pdf) + b" ",
        "unknown.json": keys.document(json.loads(issued.content)["certificate"] | {"code": "0000-0000-0000"}).encode(),
        "large.pdf": bytes(21 << 20),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def heading(page):
    return page.get_by_role("heading", level=1).inner_text().replace("\n", " ")


def check_file(page, file):
    page.get_by_label("PDF or JSON file").set_input_files(file)
    press(page.get_by_role("button", name="Check the file"))


def check_number(page, number, code):
    page.get_by_role("textbox", name="Number").fill(number)
    page.get_by_role("textbox", name="Code").fill(code)
    press(page.get_by_role("button", name="Check number and code"))


def test_each_answer_fits_each_screen_and_is_accessible(new_context, desk, on_each_screen, issued, files, settings):
    page = new_context().new_page()
    seen = []

    def look():
        seen.append(heading(page))
        on_each_screen(page)

    page.goto(f"{desk}/check/")
    look()
    for name in ("whole.pdf", "whole.json", "damaged.pdf"):
        check_file(page, files / name)
        look()
        assert page.evaluate("document.activeElement.id") == "result"
    check_number(page, issued.number.lower(), issued.code.replace("-", " "))
    look()
    check_number(page, issued.number, "0000-0000-0000")
    look()
    check_number(page, "12", "")
    look()
    assert page.evaluate("document.activeElement.id") == "problems"
    check_file(page, files / "unknown.json")
    look()
    operations.add_note(issued.consent.unlock_request, text="Called back", by=factories.acting(agent()))
    check_file(page, files / "whole.pdf")
    look()
    check_file(page, files / "large.pdf")
    look()
    press(page.get_by_role("link", name="Choose another file"))
    settings.CHECK_LIMIT = 1
    check_file(page, files / "whole.pdf")
    look()
    assert seen == [
        "Check a certificate",
        *["Genuine and unaltered"] * 2,
        "Not genuine",
        "A matching certificate was issued",
        "Not genuine",
        "Check a certificate",
        "Signed by us, but not in our records",
        "Genuine, but no longer current",
        "This file is too large",
        "Please wait a moment",
    ]


def test_the_check_with_the_keyboard_alone(new_context, desk, issued):
    page = new_context().new_page()
    page.goto(f"{desk}/check/")

    def tab_to(name):
        for _ in range(30):
            page.keyboard.press("Tab")
            said = page.evaluate(
                "(document.activeElement.labels?.[0] || document.activeElement).innerText.replace('*', '').trim()"
            )
            if said.startswith(name):
                return
        raise AssertionError(f"The focus never came to {name}.")

    def enter():
        with page.expect_navigation():
            page.keyboard.press("Enter")

    tab_to("PDF or JSON file")
    tab_to("Check the file")
    enter()
    assert page.evaluate("document.activeElement.id") == "problems"
    tab_to("Choose the PDF or JSON file")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "id_file"
    tab_to("Number")
    page.keyboard.type(issued.number)
    tab_to("Code")
    page.keyboard.type(issued.code)
    enter()
    assert (heading(page), page.evaluate("document.activeElement.id")) == (
        "A matching certificate was issued",
        "result",
    )
    tab_to("verify_certificate.py")


def test_the_check_without_scripts_and_its_script_to_download(new_context, desk, files):
    page = new_context(java_script_enabled=False).new_page()
    page.goto(f"{desk}/check/")
    check_file(page, files / "whole.json")
    assert heading(page) == "Genuine and unaltered"
    with page.expect_download() as download:
        page.get_by_role("link", name="verify_certificate.py").click()
    assert download.value.suggested_filename == "verify_certificate.py"
    assert page.locator("#key").inner_text() == keys.configured()[0]
    assert CheckAttempts.objects.get().count == 1


def test_the_key_is_picked_whole_by_one_click(new_context, desk, db):
    factories.record_certificate_key()
    page = new_context().new_page()
    page.goto(f"{desk}/check/")
    page.locator("#key").click()
    assert page.evaluate("getSelection().toString().trim()") == keys.configured()[0]
