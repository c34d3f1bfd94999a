"""Signing in again in a real browser, with a form half sent."""

import pytest

from tests import factories
from tests.browser.conftest import press
from unlocks.models import LedgerEntry

pytestmark = pytest.mark.django_db(transaction=True)

TYPED = "Dana called at 4 PM.\nShe will export them & call back."


def sign_in_by_form(page):
    page.get_by_label("Username").fill("dana")
    page.get_by_label("Password").fill(factories.PIN)
    press(page.get_by_role("button", name="Sign in", exact=True))


def test_a_note_survives_signing_in_again(new_context, desk, on_each_screen):
    dana = factories.make_user("dana", group="Agent", password=factories.PIN)
    case = factories.open_case(dana)
    page = new_context().new_page()
    page.goto(f"{desk}/staff/sign-in/?next={case.unlock_request.get_absolute_url()}")
    sign_in_by_form(page)
    note = page.locator("form:has(textarea[name=text])")
    page.get_by_text("Add a note").first.click()
    note.locator("textarea").fill(TYPED)
    page.context.clear_cookies(name="sessionid")
    press(note.get_by_role("button"))
    on_each_screen(page)
    sign_in_by_form(page)
    assert page.get_by_text("She will export them & call back.").is_visible()
    on_each_screen(page)
    press(page.get_by_role("button", name="Send it now"))
    assert page.url == f"{desk}{case.unlock_request.get_absolute_url()}"
    assert LedgerEntry.objects.filter(kind="note", user=dana, unlock_request=case.unlock_request).count() == 1
    assert TYPED in page.locator("main").inner_text()
