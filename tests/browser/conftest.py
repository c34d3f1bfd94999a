"""A real Chromium on the live server. Every test here fails on a policy violation or an error in the console."""

import os
import shutil
import sqlite3
from contextlib import closing
from itertools import cycle
from pathlib import Path

import pytest
from axe_playwright_python.base import AXE_SCRIPT, AxeResults

from tests import factories

# Playwright's own event loop runs in this thread, where Django would refuse the database.
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
REPORT_VIOLATIONS = """
document.addEventListener("securitypolicyviolation", (event) =>
  reportViolation(`${event.violatedDirective} ${event.blockedURI} on ${event.documentURI} ${event.sample}`));
"""
# Nothing is preloaded: axe would fetch each style sheet and what it imports anew, for a rule that is off.
VIOLATIONS = "axe.run({preload: false, resultTypes: ['violations']}).then(({violations}) => ({violations}))"
SCREENS = [(1440, "light"), (1440, "dark"), (390, "dark"), (360, "light")]


def account_of(admin, **fields):
    """Make an account whose Admin has the name `admin`: another signer is asked who they are."""
    account = factories.make_account(admin=False, **fields)
    factories.make_contact(account=account, name=admin)
    return account


def press(control):
    """Click what leads to another page, and wait until that page is there: a click alone returns before."""
    with control.page.expect_navigation():
        control.click()


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.browser)
            if not CHROMIUM:
                item.add_marker(pytest.mark.skip(reason="no Chromium here: install chromium"))


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args):
    return browser_type_launch_args | {"executable_path": CHROMIUM, "args": FLAGS}


@pytest.fixture(scope="session")
def browser_context_args(browser_context_args):
    return browser_context_args | {"viewport": {"width": 1440, "height": 900}, "reduced_motion": "reduce"}


@pytest.fixture
def desk(live_server, settings):
    """The address of the running desk, which is also the one in the links that it mails."""
    settings.PUBLIC_URL = live_server.url
    return live_server.url


@pytest.fixture
def troubles():
    """What the pages of this test complained about so far."""
    return []


@pytest.fixture
def new_context(new_context, troubles):
    """Make further browsers, so that staff and customer each have one; all are watched, `page`'s own too."""
    contexts = []

    def watched(**options):
        context = new_context(**options)
        contexts.append(context)
        _watch(context, troubles)
        return context

    yield watched
    _hear_all_out(contexts, troubles)


@pytest.fixture
def remembering_context(browser_type, browser_type_launch_args, tmp_path, desk, troubles):
    """Start a browser whose password manager has saved a login for the desk: the name Owner, the password 1111."""

    def started():
        # A browser that says it is automated neither saves nor fills in.
        options = browser_type_launch_args | {"ignore_default_args": ["--enable-automation"]}
        return browser_type.launch_persistent_context(tmp_path, **options)

    # The first start makes the tables.
    started().close()
    login = {
        "origin_url": f"{desk}/",
        "signon_realm": f"{desk}/",
        "username_value": "Owner",
        # As Chromium encrypts 1111 where no keyring is in use: by a fixed key.
        "password_value": bytes.fromhex("763130b585c751232c399d90db87d8a24825ba"),
        "date_created": 0,
        "blacklisted_by_user": 0,
        "scheme": 0,
    }
    with closing(sqlite3.connect(tmp_path / "Default" / "Login Data")) as logins, logins:
        columns, values = ", ".join(login), ", ".join(f":{column}" for column in login)
        logins.execute(f"INSERT INTO logins ({columns}) VALUES ({values})", login)
    with started() as context:
        _watch(context, troubles)
        yield context
        _hear_all_out([context], troubles)


def _hear_all_out(contexts, troubles):
    for context in contexts:
        for page in context.pages:
            _hear_out(page)
    assert troubles == []


def _hear_out(page):
    # What the page has still to say arrives before this answer.
    page.evaluate("1")


def _watch(context, troubles):
    refused_pages = set()

    def note_page(response):
        # A page that answers 403 or 410 on purpose is an error to the console; the test looks at the page itself.
        if response.request.is_navigation_request() and 400 <= response.status < 500:
            refused_pages.add(response.url)

    def note_message(message):
        if message.type in ("error", "warning") and not (
            message.text.startswith("Failed to load resource") and message.location["url"] in refused_pages
        ):
            troubles.append(f"{message.type}: {message.text} ({message.location['url']})")

    context.expose_binding("reportViolation", lambda source, text: troubles.append(f"policy: {text}"))
    context.add_init_script(REPORT_VIOLATIONS)
    context.on("response", note_page)
    context.on("console", note_message)
    context.on("weberror", lambda error: troubles.append(f"script: {error.error}"))


@pytest.fixture
def axe(troubles):
    """Assert that a page has no accessibility violation that axe-core knows."""

    def check(page):
        _hear_out(page)
        heard = len(troubles)
        if not page.evaluate("'axe' in window"):
            page.evaluate(AXE_SCRIPT)
        results = AxeResults(page.evaluate(VIOLATIONS))
        _hear_out(page)
        # axe itself tries inline styles, which the policy refuses: not the page's doing.
        del troubles[heard:]
        assert results.violations_count == 0, f"{page.url}\n{results.generate_report()}"

    return check


@pytest.fixture
def on_each_screen(axe):
    """Assert that a page as it stands fits each screen, light or dark, and is accessible there.

    With SAMPLE=1 a wide and a narrow one each time, light and dark, the other two the next time.
    """
    taking_turns = cycle([SCREENS[::2], SCREENS[1::2]] if "SAMPLE" in os.environ else [SCREENS])

    def look(page):
        for width, scheme in next(taking_turns):
            page.set_viewport_size({"width": width, "height": 800})
            page.emulate_media(color_scheme=scheme)
            axe(page)
            assert page.evaluate("[innerWidth, document.documentElement.scrollWidth]") == [width, width], page.url

    return look


@pytest.fixture
def sign_in(desk, client):
    """Sign a member of staff in to a page's browser without the form."""

    def signed_in(page, user):
        client.force_login(user)
        page.context.add_cookies([{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": desk}])
        return page

    return signed_in
