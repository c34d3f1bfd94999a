"""The customer's pages in a real browser: on each screen, light and dark, with the keyboard, without scripts."""

import pytest
from django.utils import timezone
from playwright.sync_api import expect

from tests import factories
from tests.browser.conftest import account_of, press
from tests.factories import PIN
from unlocks import operations
from unlocks.customer.trial_emails import FILES
from unlocks.models import Consent
from unlocks.outbox import worker
from unlocks.texts.formats import moment

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def make_case(desk, db):
    agent = factories.make_user("agent", group="Agent")

    def made(**fields):
        return factories.case_awaiting(agent, **({"account": account_of("Dana Whitfield")} | fields))

    return made


def fill_in(page, pin=PIN, name="Dana Whitfield"):
    page.get_by_label("Full name").fill(name)
    page.get_by_label("Role in the company").fill("Controller")
    page.get_by_label("Account PIN").fill(pin)
    page.get_by_label("I am authorized").check()
    page.get_by_label("I agree to the terms").check()
    press(page.get_by_role("button", name="Continue: check your answers"))


def open_form(page, case):
    page.goto(case.url)
    press(page.get_by_role("button", name="Open the form"))


def heading(page):
    return page.get_by_role("heading", level=1).inner_text()


def test_each_page_fits_each_screen_and_is_accessible(make_case, new_context, on_each_screen, desk):
    page = new_context().new_page()
    seen = []

    def look():
        seen.append(heading(page))
        on_each_screen(page)

    case = make_case()
    page.goto(case.url)
    look()
    press(page.get_by_role("button", name="Open the form"))
    look()
    page.get_by_text("The text that is recorded").click()
    look()
    press(page.get_by_role("button", name="Continue"))
    look()
    fill_in(page, pin="000000")
    look()
    fill_in(page, name="Alex Moreno")
    look()
    page.get_by_label("I am not Dana Whitfield").check()
    fill_in(page, name="Alex Moreno")
    look()
    press(page.get_by_role("button", name="Go back and change"))
    page.get_by_label("I am not Dana Whitfield").uncheck()
    fill_in(page)
    look()
    press(page.get_by_role("button", name="Agree and record my consent"))
    look()
    page.goto(case.url)
    look()
    page.context.clear_cookies()
    page.goto(case.url)
    look()
    page.goto(f"{desk}/consent/unknown/")
    look()
    page.goto(f"{desk}/receipt/unknown/")
    look()

    case = make_case()
    open_form(page, case)
    press(page.get_by_role("button", name="I do not agree"))
    look()
    page.get_by_label("Why not").fill("x" * 2001)
    page.locator("textarea").evaluate("area => area.value = '\\u202e'")
    press(page.get_by_role("button", name="Record that I do not agree"))
    look()
    page.get_by_label("Why not").fill("We enter them by hand.")
    page.get_by_label("Full name").fill("Dana Whitfield")
    press(page.get_by_role("button", name="Record that I do not agree"))
    look()

    case = make_case(account=account_of("Dana Whitfield", time_zone="America/Chicago"))
    factories.agree(case)
    factories.unlock(case.rows, by=factories.acting(case.agent))
    page.goto(f"{desk}/receipt/{case.receipt}/")
    with timezone.override("America/Chicago"):
        until = moment(case.refresh().batch.unlocked_until)
    assert f"Unlocked\n2 batches, until {until} (23 hours left)" in page.locator("main").inner_text()
    assert "ServiceTitan Support: support@unlock-desk.example or +1 555 0100" in page.locator("footer").inner_text()
    look()

    case = make_case()
    page.goto(case.url)
    operations.revoke_consent_link(case.unlock_request, by=factories.acting(case.agent))
    page.reload()
    look()

    assert seen == [
        "Your decision is needed",
        *["Unlock bypassed batches"] * 5,
        *["Check your answers"] * 2,
        *["Your consent is recorded"] * 2,
        "This link was already used",
        "We do not recognize this link",
        "Receipt not found",
        *["You do not agree"] * 2,
        "Recorded: you do not agree",
        "Your consent is recorded",
        "This link no longer works",
    ]


def test_an_email_of_a_trial_run_leads_to_the_form(make_case, new_context, on_each_screen, desk, settings, tmp_path):
    settings.TRIAL, settings.EMAIL_BACKEND, settings.EMAIL_FILE_PATH = True, FILES, str(tmp_path)
    case = make_case()
    worker.send_due()
    page = new_context().new_page()
    page.goto(f"{desk}/trial/emails/")
    on_each_screen(page)
    press(page.get_by_role("link", name=case.url))
    press(page.get_by_role("button", name="Open the form"))
    assert heading(page) == "Unlock bypassed batches"


def test_hostile_names_neither_run_nor_break_the_page(make_case, new_context, axe):
    account = factories.make_account(name="<img src=x onerror=alert(1)>" + "W" * 150)
    name = "<script>alert(1)</script> \u202etxt.exe " + "W" * 150
    batches = [factories.make_batch(account=account, name=name, total=-123456789012) for _ in range(2)]
    page = new_context().new_page()
    page.set_viewport_size({"width": 360, "height": 800})
    open_form(page, make_case(batches=batches))
    axe(page)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert page.locator("script, img:not(header img)").count() == 0


def test_consent_with_the_keyboard_alone(make_case, new_context):
    page = new_context().new_page()
    page.goto(make_case().url)

    def press_on(name):
        """Tab until the named control has the focus, then press Enter."""
        tab_to(name)
        enter()

    def enter():
        with page.expect_navigation():
            page.keyboard.press("Enter")

    def tab_to(name):
        for _ in range(30):
            page.keyboard.press("Tab")
            said = page.evaluate(
                "(document.activeElement.labels?.[0] || document.activeElement).innerText.replace('*', '').trim()"
            )
            if said.startswith(name):
                return
        raise AssertionError(f"The focus never came to {name}.")

    press_on("Open the form")
    for label, text in {"Full name": "Dana Whitfield", "Role": "Controller", "Account PIN": PIN}.items():
        tab_to(label)
        page.keyboard.type(text)
    for label in ("I am authorized", "I agree"):
        tab_to(label)
        page.keyboard.press("Space")
    # Enter in a field continues; it never declines.
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Shift+Tab")
    enter()
    press_on("Agree and record my consent")
    assert heading(page) == "Your consent is recorded"
    assert Consent.objects.get().decision == "agreed"


def test_what_has_to_be_mended_has_the_focus_and_leads_to_its_field(make_case, new_context):
    page = new_context().new_page()
    open_form(page, make_case())
    press(page.get_by_role("button", name="Continue"))
    assert page.evaluate("document.activeElement.id") == "problems"
    assert page.title() == "Needs attention: Unlock bypassed batches · ServiceTitan Support"
    page.get_by_role("link", name="Enter the account PIN.").click()
    assert page.evaluate("document.activeElement.id") == "id_pin"
    described = page.get_by_label("Account PIN").get_attribute("aria-describedby").split()
    assert [page.locator(f"#{one}").inner_text() for one in described] == [
        "The number that confirms your account to Support. This page does not keep it.",
        "Enter the account PIN.",
    ]
    assert page.get_by_label("Account PIN").get_attribute("aria-invalid") == "true"


def filled_in(page):
    """Return what the browser has filled in by itself."""
    return dict(page.locator(":autofill").evaluate_all("fields => fields.map(({name, value}) => [name, value])"))


def test_a_saved_pin_is_not_filled_in(make_case, remembering_context):
    def say_off(route):
        response = route.fetch()
        route.fulfill(response=response, body=response.text().replace("one-time-code", "off"))

    page = remembering_context.new_page()
    open_form(page, make_case())
    # The same form is filled in if its PIN field says `off`. By then the browser is done with the first one.
    other = remembering_context.new_page()
    other.route(page.url, say_off)
    other.goto(page.url)
    expect(other.locator(":autofill")).to_have_count(2)
    assert filled_in(other) == {"role": "Owner", "pin": "1111"}
    assert filled_in(page) == {}


def test_consent_without_scripts(make_case, new_context):
    page = new_context(java_script_enabled=False).new_page()
    open_form(page, make_case())
    fill_in(page)
    press(page.get_by_role("button", name="Go back and change"))
    assert page.get_by_label("Full name").input_value() == "Dana Whitfield"
    fill_in(page)
    press(page.get_by_role("button", name="Agree and record my consent"))
    assert heading(page) == "Your consent is recorded"


def test_coming_back_after_agreeing_leads_to_the_receipt(make_case, new_context):
    page = new_context().new_page()
    open_form(page, make_case())
    fill_in(page)
    press(page.get_by_role("button", name="Agree and record my consent"))
    page.goto(f"{page.url.split('/consent/')[0]}/consent/")
    assert page.url.endswith("/consent/receipt/?again")
    assert page.get_by_role("status").inner_text().startswith("This was already recorded")
    assert Consent.objects.count() == 1


def test_a_double_click_records_once(make_case, new_context):
    page = new_context().new_page()
    open_form(page, make_case())
    fill_in(page)
    page.get_by_role("button", name="Agree and record my consent").dblclick()
    page.wait_for_url("**/consent/receipt/**")
    assert heading(page) == "Your consent is recorded"
    assert Consent.objects.count() == 1


def test_a_member_of_staff_is_told_why_not(make_case, new_context, sign_in, axe):
    case = make_case()
    page = sign_in(new_context().new_page(), case.agent)
    page.goto(case.url)
    assert heading(page) == "Only the customer can decide"
    axe(page)
    assert case.unlock_request.entries.filter(kind="staff_refused").count() == 1


def test_the_receipt_prints_in_black_on_white(make_case, new_context):
    page = new_context(color_scheme="dark").new_page()
    open_form(page, make_case())
    fill_in(page)
    press(page.get_by_role("button", name="Agree and record my consent"))
    page.emulate_media(media="print")
    style = "getComputedStyle(document.body)"
    assert page.evaluate(f"[{style}.color, {style}.backgroundColor]") == ["rgb(0, 0, 0)", "rgb(255, 255, 255)"]
