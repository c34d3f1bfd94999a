"""Where signing in leads, and what becomes of a form that was sent while signed out."""

import re
from html import unescape
from io import BytesIO

import pytest
from django.test import Client
from django.test.utils import override_script_prefix

from tests import factories
from tests.attacks import difference, snapshot
from tests.factories import PIN
from unlocks import operations
from unlocks.actors import Actor
from unlocks.models import LedgerEntry

pytestmark = pytest.mark.django_db

PASSWORD = "correct-horse-battery"


@pytest.mark.parametrize(
    ("asked", "leads_to"),
    [
        ("/desk/unlocks/batch/?show=ready", "/desk/unlocks/batch/?show=ready"),
        ("/desk/unlocks/unlockrequest/add/", "/desk/unlocks/unlockrequest/add/"),
        ("/desk/", "/desk/"),
        ("/desk/nowhere/", "/desk/"),
        ("/desk/unlocks/batch/nowhere/else/", "/desk/"),
        ("/desk/unlocks/nothing/1/change/", "/desk/"),
        ("/desk/logout/", "/desk/"),
        ("/desk/jsi18n/", "/desk/"),
        ("/desk/unlocks/consentterms/new/", "/desk/"),
        ("/nowhere/", "/desk/"),
        ("/consent/", "/desk/"),
        ("nowhere", "/desk/"),
        ("//elsewhere.example/desk/", "/desk/"),
        ("https://elsewhere.example/desk/", "/desk/"),
        ("javascript:alert(1)", "/desk/"),
        ("/desk/\0", "/desk/"),
        ("", "/desk/"),
    ],
)
def test_signing_in_leads_to_a_page(asked, leads_to):
    factories.make_user("dana", group="Agent", password=PASSWORD)
    typed, client = {"login": "dana", "password": PASSWORD}, Client()
    answer = client.post(f"/staff/sign-in/?next={asked}", typed | {"next": asked})
    assert (answer.status_code, answer.url) == (302, leads_to)
    # A page from before signing in no longer sends anything in the name of who signed in.
    assert "csrftoken" in answer.cookies
    assert client.get(answer.url).status_code == 200
    # Somebody who is signed in already is sent on at once.
    assert client.get("/staff/sign-in/", {"next": asked}).url == "/desk/"


def test_signing_in_leads_to_a_page_under_a_prefix_too():
    factories.make_user("dana", group="Agent", password=PASSWORD)
    typed = {"login": "dana", "password": PASSWORD, "next": "/support/desk/unlocks/batch/"}
    with override_script_prefix("/support/"):
        answer = Client().post("/staff/sign-in/", typed)
    assert (answer.status_code, answer.url) == (302, "/support/desk/unlocks/batch/")


def sign_in(name="dana", group="Agent"):
    factories.make_user(name, group=group, password=PASSWORD)
    client = Client()
    client.post("/staff/sign-in/", {"login": name, "password": PASSWORD, "next": ""})
    return client


def hidden(answer):
    """Return the hidden fields of the page's form, as a browser would send them."""
    form = re.search(r"<main.*</main>", answer.content.decode(), re.DOTALL)[0]
    pairs = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)">', form)
    return {name: unescape(value) for name, value in pairs}


@pytest.fixture
def case(agent):
    return factories.case_awaiting(agent)


@pytest.fixture
def note(case):
    return {"verb": "note", "text": "Called Dana at 4 PM & left a message", "csrfmiddlewaretoken": "x"}


def notes(case):
    return list(LedgerEntry.objects.filter(kind="note").values_list("unlock_request", "user__username"))


def test_what_is_typed_survives_signing_in_again(case, note):
    client = sign_in()
    address = f"/desk/unlocks/unlockrequest/{case.unlock_request.pk}/change/"
    client.post("/staff/sign-out/")
    before = snapshot()
    answer = client.post(address, note)
    assert answer.status_code == 403
    assert "You were signed out, so nothing was saved." in answer.content.decode()
    wrong = client.post("/staff/sign-in/", hidden(answer) | {"login": "dana", "password": "wrong"})
    answer = client.post("/staff/sign-in/", hidden(wrong) | {"login": "dana", "password": PASSWORD})
    assert answer.status_code == 200
    assert "Called Dana at 4 PM &amp; left a message" in answer.content.decode()
    again = hidden(answer)
    assert difference(before, snapshot(), may_grow=True) == ["unlocks_checkattempts"]
    assert {name: again[name] for name in ("verb", "text")} == {name: note[name] for name in ("verb", "text")}
    assert client.post(address, again).status_code == 302
    assert notes(case) == [(case.unlock_request.pk, "dana")]


def test_what_is_typed_survives_signing_in_again_in_another_tab(case, note):
    client = sign_in()
    client.handler.enforce_csrf_checks = True
    address = f"/desk/unlocks/unlockrequest/{case.unlock_request.pk}/change/"
    client.get(address)
    note["csrfmiddlewaretoken"] = "a" * 64
    before = snapshot()
    for origin in ({}, {"origin": "https://elsewhere.example"}):
        assert "This form has expired" in client.post(address, note, headers=origin).content.decode()
    own = {"origin": "http://testserver"}
    answer = client.post(address, note, headers=own)
    assert "Nothing was saved yet" in answer.content.decode()
    assert difference(before, snapshot()) == []
    assert client.post(address, hidden(answer), headers=own).status_code == 302
    assert notes(case) == [(case.unlock_request.pk, "dana")]


def test_what_somebody_else_typed_is_shown_to_nobody(case, note):
    factories.make_user("kim", group="Agent", password=PASSWORD)
    client = sign_in()
    client.post("/staff/sign-out/")
    answer = client.post(f"/desk/unlocks/unlockrequest/{case.unlock_request.pk}/change/", note)
    signed_in = client.post("/staff/sign-in/", hidden(answer) | {"login": "kim", "password": PASSWORD})
    assert (signed_in.status_code, signed_in.url) == (302, case.unlock_request.get_absolute_url())


def test_what_is_sent_from_another_users_tab_is_not_offered(case, note):
    factories.make_user("kim", group="Agent", password=PASSWORD)
    client = sign_in()
    client.post("/staff/sign-out/")
    client.post("/staff/sign-in/", {"login": "kim", "password": PASSWORD, "next": ""})
    client.handler.enforce_csrf_checks = True
    own, note["csrfmiddlewaretoken"] = {"origin": "http://testserver"}, "a" * 64
    answer = client.post(f"/desk/unlocks/unlockrequest/{case.unlock_request.pk}/change/", note, headers=own)
    assert (answer.status_code, "This form has expired" in answer.content.decode()) == (403, True)
    assert "left a message" not in answer.content.decode()


def test_who_signed_in_and_out_in_between_is_shown_nothing(case, note):
    """The form is of who signed in before them; that its token does not fit any more says so."""
    factories.make_user("kim", group="Agent", password=PASSWORD)
    client = sign_in()
    address = f"/desk/unlocks/unlockrequest/{case.unlock_request.pk}/change/"
    note["csrfmiddlewaretoken"] = client.cookies["csrftoken"].value
    client.post("/staff/sign-out/")
    client.post("/staff/sign-in/", {"login": "kim", "password": PASSWORD, "next": ""})
    client.post("/staff/sign-out/")
    client.handler.enforce_csrf_checks = True
    answer = client.post(address, note, headers={"origin": "http://testserver"})
    page = answer.content.decode()
    assert (answer.status_code, "What you typed is not kept" in page, 'name="typed"' in page) == (403, True, False)
    kim = {"login": "kim", "password": PASSWORD}
    signed_in = client.post("/staff/sign-in/", hidden(answer) | kim, headers={"origin": "http://testserver"})
    assert (signed_in.status_code, signed_in.url) == (302, address)


@pytest.mark.parametrize("changed", ["", "made-up", "."])
def test_what_is_typed_is_taken_from_our_own_page_alone(case, note, changed):
    client = sign_in()
    typed = {"next": "/desk/", "typed": changed, "login": "dana", "password": PASSWORD}
    answer = client.post("/staff/sign-in/", typed)
    assert (answer.status_code, answer.url) == (302, "/desk/")


def test_a_browser_in_which_nobody_signed_in_is_promised_nothing(case, note):
    answer = Client().post(f"/desk/unlocks/unlockrequest/{case.unlock_request.pk}/change/", note)
    page = answer.content.decode()
    assert (answer.status_code, "What you typed is not kept" in page, 'name="typed"' in page) == (403, True, False)


def test_who_sends_again_reads_what_and_where(case):
    client = sign_in()
    client.post("/staff/sign-out/")
    address = f"/desk/unlocks/unlockrequest/{case.unlock_request.pk}/change/"
    typed = {"verb": "hand_over", "to": "7", "seen": "12", "why": "duplicate", "initial-why": "x", "_save": "Save"}
    login = hidden(client.post(address, typed))
    page = client.post("/staff/sign-in/", login | {"login": "dana", "password": PASSWORD})
    told = re.findall(r"<d[td]>(.*?)</d[td]>", page.content.decode().split("</main>")[0])
    assert told == ["Page", address, "To do", "hand over", "Why", "duplicate"]
    assert hidden(page).items() >= typed.items()


def test_no_pin_and_no_password_is_kept(case):
    client = sign_in()
    client.post("/staff/sign-out/")
    secrets = {"pin": PIN, "old_password": PASSWORD, "new_password1": PASSWORD, "new_password2": PASSWORD}
    address = f"/desk/unlocks/unlockrequest/{case.unlock_request.pk}/change/"
    typed = hidden(client.post(address, secrets | {"verb": "verify_pin", "text": "x", "file": BytesIO(b"a file")}))
    answer = client.post("/staff/sign-in/", typed | {"login": "dana", "password": PASSWORD})
    assert hidden(answer).keys() - {"csrfmiddlewaretoken"} == {"verb", "text"}
    assert "Files were not kept." in answer.content.decode()


def test_what_is_typed_of_a_colleague_is_not_offered(superuser):
    """Most of it is ticks, which a reader overlooks: who is at the browser could have made themselves a superuser."""
    superuser.set_password(PASSWORD)
    superuser.save()
    operations.record_staff(superuser, by=Actor.desk())
    client, page = Client(), f"/desk/auth/user/{superuser.pk}/change/"
    client.post("/staff/sign-in/", {"login": "superuser", "password": PASSWORD})
    client.cookies.pop("sessionid")
    answer = client.post(page, {"first_name": "Lee", "is_superuser": "on"})
    assert (answer.status_code, "What you typed is not kept" in answer.content.decode()) == (403, True)
    assert 'name="typed"' not in answer.content.decode()
