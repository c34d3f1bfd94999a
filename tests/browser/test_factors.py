"""Signing in for good in a real browser: invitations, second steps, the company's provider, and what is asked again."""

import re
from datetime import timedelta

import pytest
import time_machine
from django.utils import timezone

from tests import factories
from tests.browser.conftest import press
from tests.operations import facts_of
from tests.signin.factors import PASSWORD, code
from tests.signin.other_provider import OtherProvider
from tests.signin.provider import Provider, use
from unlocks.models import Act, LedgerEntry

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def localhost(live_server, settings):
    """The address of the desk by a name: a passkey belongs to one."""
    settings.SECOND_FACTOR_REQUIRED = True
    return live_server.url.replace("127.0.0.1", "localhost")


def by_password(page):
    page.get_by_label("Username").fill("dana")
    page.get_by_label("Password").fill(PASSWORD)
    press(page.get_by_role("button", name="Sign in", exact=True))


def test_an_app_is_set_up_before_the_desk_opens(new_context, localhost, on_each_screen):
    factories.make_user("dana", group="Agent", password=PASSWORD)
    page = new_context().new_page()
    page.goto(f"{localhost}/desk/")
    on_each_screen(page)
    by_password(page)
    assert page.get_by_text("Your work needs a second step.").is_visible()
    on_each_screen(page)
    press(page.get_by_role("link", name="Set up an app"))
    on_each_screen(page)
    page.get_by_text("The app can’t read it").click()
    secret = page.locator("code.secret").inner_text()
    page.get_by_label("Code that the app shows").fill(code(secret))
    press(page.get_by_role("button", name="Set it up"))
    on_each_screen(page)
    first = page.locator(".codes li").first.inner_text()
    press(page.get_by_role("link", name="I have kept them"))
    on_each_screen(page)
    press(page.get_by_role("button", name="Sign out"))
    press(page.get_by_role("link", name="Sign in again"))
    by_password(page)
    on_each_screen(page)
    page.get_by_label("Code").fill(first)
    press(page.get_by_role("button", name="Sign in", exact=True))
    assert page.url == f"{localhost}/desk/"


def test_from_an_invitation_to_the_desk(new_context, desk, on_each_screen, sign_in, settings):
    lee = sign_in(new_context().new_page(), factories.make_user("lee", is_superuser=True))
    lee.goto(f"{desk}/desk/auth/user/add/")
    on_each_screen(lee)
    lee.get_by_label("Username").fill("dana")
    lee.get_by_label("Email").fill("dana@vendor.example")
    lee.get_by_label("Agent").check()
    press(lee.get_by_role("button", name="Save", exact=True))
    assert lee.get_by_text("An invitation to dana@vendor.example waits to be sent").is_visible()
    on_each_screen(lee)
    settings.SECOND_FACTOR_REQUIRED = True
    (email,) = factories.deliver()
    (link,) = re.findall(rf"{desk}/staff/link/\S+", email.body)
    assert email.to == ["dana@vendor.example"]

    dana = new_context().new_page()
    dana.goto(link)
    assert dana.url == f"{desk}/staff/password/"
    on_each_screen(dana)
    dana.get_by_label("Password", exact=True).fill("dana")
    dana.get_by_label("The same once more").fill("dana")
    press(dana.get_by_role("button", name="Set it"))
    on_each_screen(dana)
    dana.get_by_label("Password").fill(PASSWORD)
    dana.get_by_label("The same once more").fill(PASSWORD)
    press(dana.get_by_role("button", name="Set it"))
    assert dana.get_by_text("Your password is set. Sign in with it.").is_visible()
    on_each_screen(dana)
    by_password(dana)
    press(dana.get_by_role("link", name="Set up an app"))
    dana.get_by_text("The app can’t read it").click()
    dana.get_by_label("Code that the app shows").fill(code(dana.locator("code.secret").inner_text()))
    press(dana.get_by_role("button", name="Set it up"))
    press(dana.get_by_role("link", name="I have kept them"))
    dana.goto(f"{desk}/desk/")
    assert dana.locator("h1").inner_text() == "Queue"
    entry = LedgerEntry.objects.filter(kind="staff_changed", actor="dana").latest("sequence")
    assert facts_of(entry)["changed"] == {"factors": [[], ["authenticator app", "10 recovery codes"]]}

    again = new_context().new_page()
    again.goto(link)
    assert again.get_by_role("heading", name="The link no longer works").is_visible()
    on_each_screen(again)


def test_who_unlocks_many_confirms_first(new_context, desk, on_each_screen, settings):
    settings.CONFIRM_BATCHES = 1
    dana = factories.make_user("dana", group="Agent", password=PASSWORD)
    case = factories.case_consented(dana, batches=factories.make_batches(n=2))
    page = new_context().new_page()
    page.goto(f"{desk}/desk/unlocks/unlockrequest/")
    by_password(page)
    with time_machine.travel(timezone.now() + timedelta(minutes=11)):
        page.locator("tr", has_text=case.unlock_request.reference).get_by_role("checkbox").check()
        page.get_by_label("Action:").select_option(label="Unlock the batches of selected requests")
        press(page.get_by_role("button", name="Go", exact=True))
        press(page.get_by_role("button", name="Unlock 2 batches"))
        assert page.get_by_role("heading", name="Confirm that it is you").is_visible()
        on_each_screen(page)
        page.get_by_label("Password").fill("wrong")
        press(page.get_by_role("button", name="Go on"))
        on_each_screen(page)
        assert Act.objects.count() == 0
        page.get_by_label("Password").fill(PASSWORD)
        press(page.get_by_role("button", name="Go on"))
    assert page.url == f"{desk}/desk/unlocks/act/{Act.objects.get().pk}/change/"
    on_each_screen(page)


def test_a_session_is_ended_from_another_browser(new_context, desk, on_each_screen):
    factories.make_user("dana", group="Agent", password=PASSWORD)
    here, there = new_context().new_page(), new_context(user_agent="Firefox/130.0 on Windows").new_page()
    for page in (there, here):
        page.goto(f"{desk}/desk/")
        by_password(page)
    press(here.get_by_role("link", name="Your sign-in"))
    on_each_screen(here)
    press(here.get_by_role("button", name="End"))
    assert here.get_by_text("That session has ended.").is_visible()
    there.reload()
    assert there.url == f"{desk}/staff/sign-in/?next=/desk/"
    on_each_screen(there)
    here.reload()
    assert here.url == f"{desk}/staff/yours/"


def test_the_companys_provider_signs_in_across_origins(new_context, localhost, on_each_screen, settings):
    provider = Provider()
    try:
        use(settings, provider)
        provider.names(amr=["mfa"])
        factories.make_user("dana", group="Agent", email="dana@vendor.example")
        page = new_context().new_page()
        page.goto(f"{localhost}/desk/keys/")
        press(page.get_by_role("link", name="Sign in with Vendor ID"))
        on_each_screen(page)
        press(page.get_by_role("button", name="Go on"))
        assert page.url == f"{localhost}/desk/keys/"
        provider.names(sub="u-2", email="stranger@vendor.example")
        stranger = new_context().new_page()
        stranger.goto(f"{localhost}/staff/with/company/")
        press(stranger.get_by_role("button", name="Go on"))
        assert stranger.get_by_text("nobody has added you").is_visible()
        on_each_screen(stranger)
        assert "/authorize" in provider.answered
    finally:
        provider.close()


def test_a_provider_that_others_wrote_signs_in(new_context, localhost, settings, tmp_path):
    provider = OtherProvider(tmp_path, f"{localhost}/staff/with/company/callback/", PASSWORD)
    try:
        use(settings, provider)
        factories.make_user("dana", group="Agent", email="dana@vendor.example")
        page = new_context().new_page()
        page.goto(f"{localhost}/staff/sign-in/")
        press(page.get_by_role("link", name="Sign in with Vendor ID"))
        press(page.get_by_role("button", name="Go on"))
        assert page.url.startswith(provider.url)
        page.get_by_label("Username").fill("dana")
        page.get_by_label("Password").fill(PASSWORD)
        press(page.get_by_role("button", name="Sign In"))
        press(page.get_by_role("button", name="Authorize"))
        assert page.url == f"{localhost}/staff/yours/"
        assert page.get_by_text("Your work needs a second step.").is_visible()
    finally:
        provider.close()


def test_a_colleague_connects_the_companys_account(new_context, localhost, on_each_screen, settings):
    provider = Provider()
    try:
        use(settings, provider)
        factories.make_user("dana", group="Agent", password=PASSWORD)
        provider.names(email="dana@elsewhere.example")
        page = new_context().new_page()
        page.goto(f"{localhost}/staff/yours/")
        by_password(page)
        on_each_screen(page)
        press(page.get_by_role("link", name="Connect your company account"))
        on_each_screen(page)
        press(page.get_by_role("button", name="Go on"))
        assert page.get_by_text("Connected: it signs you in.").is_visible()
        on_each_screen(page)
        provider.names(sub="u-2")
        page.goto(f"{localhost}/staff/with/company/")
        press(page.get_by_role("button", name="Go on"))
        assert page.get_by_text("not yours on Unlock Desk").is_visible()
        on_each_screen(page)
    finally:
        provider.close()


def test_a_passkey_signs_in_alone(new_context, localhost, on_each_screen):
    factories.make_user("dana", group="Agent", password=PASSWORD)
    page = new_context().new_page()
    devtools = page.context.new_cdp_session(page)
    devtools.send("WebAuthn.enable")
    options = {"protocol": "ctap2", "transport": "internal", "hasResidentKey": True, "hasUserVerification": True}
    options |= {"isUserVerified": True, "automaticPresenceSimulation": True}
    devtools.send("WebAuthn.addVirtualAuthenticator", {"options": options})
    page.goto(f"{localhost}/desk/")
    by_password(page)
    press(page.get_by_role("link", name="Add a passkey"))
    on_each_screen(page)
    page.get_by_label("Name").fill("Work laptop")
    press(page.get_by_role("button", name="Add a passkey"))
    press(page.get_by_role("link", name="I have kept them"))
    assert page.get_by_text("Work laptop").is_visible()
    press(page.get_by_role("button", name="Sign out"))
    press(page.get_by_role("link", name="Sign in again"))
    press(page.get_by_role("button", name="Sign in with a passkey"))
    assert page.url == f"{localhost}/desk/"
    newest = LedgerEntry.objects.filter(kind="signed_in").latest("sequence")
    assert '"how":["passkey"]' in newest.facts
