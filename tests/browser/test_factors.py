"""The second step in a real browser: an authenticator app, and a passkey of a virtual authenticator."""

import pytest

from tests import factories
from tests.browser.conftest import press
from tests.signin.factors import PASSWORD, code
from tests.signin.provider import Provider, use
from unlocks.models import LedgerEntry

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def localhost(live_server, settings):
    """The address of the desk by a name: a passkey belongs to one."""
    settings.SECOND_FACTOR_REQUIRED = True
    return live_server.url.replace("127.0.0.1", "localhost")


def sign_in(page):
    page.get_by_label("Username").fill("dana")
    page.get_by_label("Password").fill(PASSWORD)
    press(page.get_by_role("button", name="Sign in", exact=True))


def test_an_app_is_set_up_before_the_desk_opens(new_context, localhost, on_each_screen):
    factories.make_user("dana", group="Agent", password=PASSWORD)
    page = new_context().new_page()
    page.goto(f"{localhost}/desk/")
    on_each_screen(page)
    sign_in(page)
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
    sign_in(page)
    on_each_screen(page)
    page.get_by_label("Code").fill(first)
    press(page.get_by_role("button", name="Sign in", exact=True))
    assert page.url == f"{localhost}/desk/"


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


def test_a_passkey_signs_in_alone(new_context, localhost, on_each_screen):
    factories.make_user("dana", group="Agent", password=PASSWORD)
    page = new_context().new_page()
    devtools = page.context.new_cdp_session(page)
    devtools.send("WebAuthn.enable")
    options = {"protocol": "ctap2", "transport": "internal", "hasResidentKey": True, "hasUserVerification": True}
    options |= {"isUserVerified": True, "automaticPresenceSimulation": True}
    devtools.send("WebAuthn.addVirtualAuthenticator", {"options": options})
    page.goto(f"{localhost}/desk/")
    sign_in(page)
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
