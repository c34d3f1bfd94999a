"""Consent terms in a real browser: one manager drafts and previews, with the keyboard alone; another publishes."""

import pytest

from tests import factories
from tests.browser.conftest import press
from tests.factories import acting
from unlocks import operations
from unlocks.models import ConsentTerms

pytestmark = pytest.mark.django_db(transaction=True)

LIST = "/desk/unlocks/consentterms/"
TEXT = "{vendor} has no part in what you do in {accounting_software}."


@pytest.fixture
def managers(db):
    return [factories.make_user(name, group="Manager") for name in ("first-manager", "second-manager")]


def heading(page):
    return page.get_by_role("heading", level=1).inner_text()


def go_by_keyboard(page, control, key="Enter"):
    """Reach a control with the Tab key, see that its focus shows, and press a key that leads to another page."""
    reach(page, control)
    with page.expect_navigation():
        page.keyboard.press(key)


def reach(page, control):
    for _ in range(60):
        page.keyboard.press("Tab")
        if control.evaluate("one => one === document.activeElement"):
            assert control.evaluate("one => getComputedStyle(one).outlineStyle") != "none"
            return
    raise AssertionError(f"The Tab key does not reach {control}")


def test_one_drafts_and_previews_and_another_publishes(new_context, desk, axe, sign_in, managers):
    first, second = managers
    page = sign_in(new_context().new_page(), first)
    page.goto(desk + LIST)
    axe(page)

    go_by_keyboard(page, page.get_by_role("button", name="Start a new version"))
    assert heading(page) == "Terms version 2 Draft"
    axe(page)

    # What can't be is said beside the field, which is described by it, and what was typed is still there.
    reach(page, page.get_by_label("Title"))
    page.keyboard.press("Control+A")
    page.keyboard.type("Other terms")
    reach(page, page.get_by_label("Text"))
    page.keyboard.press("Control+A")
    page.keyboard.type("Dear {customer}")
    go_by_keyboard(page, page.get_by_role("button", name="Save the draft"))
    axe(page)
    text = page.get_by_label("Text")
    assert text.input_value() == "Dear {customer}"
    described = text.get_attribute("aria-describedby").split()
    assert any("{customer} is not a placeholder." in page.locator(f"[id='{name}']").inner_text() for name in described)

    reach(page, text)
    page.keyboard.press("Control+A")
    page.keyboard.type(TEXT)
    go_by_keyboard(page, page.get_by_role("button", name="Save the draft"))
    draft = ConsentTerms.objects.get(version=2)
    assert (draft.title, draft.text) == ("Other terms", TEXT)
    assert page.get_by_role("link", name="Publish…").count() == 0
    assert "so another person has to publish it: second-manager" in page.locator("main").inner_text()
    axe(page)

    go_by_keyboard(page, page.get_by_role("link", name="Preview as the customer"))
    axe(page)
    reach(page, page.get_by_label("Accounting software of the example"))
    page.keyboard.type("Sage")
    go_by_keyboard(page, page.get_by_role("button", name="Show"))
    assert "has no part in what you do in Sage Intacct." in page.locator("main").inner_text()
    for control in ("Continue: check your answers", "I do not agree"):
        assert page.get_by_role("button", name=control).is_disabled()
    page.get_by_text("The text that is recorded").click()
    assert "Other terms (version 2)\nServiceTitan has no part" in page.locator("pre").inner_text()
    axe(page)

    page = sign_in(new_context().new_page(), second)
    page.goto(desk + LIST)
    press(page.get_by_role("link", name="Go to the draft of version 2"))
    go_by_keyboard(page, page.get_by_role("link", name="Publish…"))
    axe(page)
    assert page.locator("del").all_inner_texts()[1:2] == ["Unlocking bypassed batches"]
    go_by_keyboard(page, page.get_by_role("button", name="Publish version 2"))
    axe(page)
    assert heading(page).startswith("Terms version 2 In force since")
    draft.refresh_from_db()
    assert (draft.drafted_by, draft.published_by) == (first, second)


def test_each_page_fits_each_screen_and_is_accessible(new_context, desk, on_each_screen, sign_in, managers):
    first, second = managers
    draft = operations.draft_terms(by=acting(first))
    draft = operations.edit_terms(draft, title="Long" * 45, text=f"{TEXT} {'x' * 300}\n\n{TEXT}", by=acting(first))
    page = sign_in(new_context().new_page(), second)
    for name in ("", f"{draft.pk}/change/", f"{draft.pk}/preview/", f"{draft.pk}/publish/", f"{draft.pk}/compare/"):
        page.goto(desk + LIST + name)
        on_each_screen(page)


def test_changes_are_told_without_colours(new_context, desk, sign_in, managers):
    """By a line through or under the words, and to those who hear the page by words."""
    draft = operations.draft_terms(by=acting(managers[0]))
    draft = operations.edit_terms(draft, title="Other terms", text=TEXT, by=acting(managers[0]))
    page = sign_in(new_context().new_page(), managers[1])
    page.goto(f"{desk}{LIST}{draft.pk}/compare/")
    told = "one => [getComputedStyle(one).textDecorationLine, getComputedStyle(one, '::before').content]"
    assert page.locator(".difference del").first.evaluate(told) == ["line-through", '" [removed: "']
    assert page.locator(".difference ins").first.evaluate(told) == ["underline", '" [added: "']
