"""The browser names its time zone; without a script the desk's holds."""

import pytest

from tests import factories
from tests.browser.test_walkthrough import PASSWORD, sign_in

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize(
    ("script", "cookie", "said"),
    [
        (True, [("Asia/Calcutta", "/desk/")], "Times are in Asia/Calcutta"),
        (False, [], "Times are in America/New York"),
    ],
)
def test_whoever_signs_in_reads_times_in_their_own_zone(new_context, desk, script, cookie, said):
    factories.make_user("dana", group="Agent", password=PASSWORD)
    context = new_context(timezone_id="Asia/Kolkata", java_script_enabled=script)
    page = context.new_page()
    sign_in(page, desk, "dana")
    assert page.get_by_text("Times are in").inner_text() == said
    named = [(one["value"], one["path"]) for one in context.cookies(f"{desk}/desk/") if one["name"] == "zone"]
    assert named == cookie
    assert "zone" not in {one["name"] for one in context.cookies(desk)}
