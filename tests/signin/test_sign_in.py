"""Signing in by password: what comes of it, what is recorded, and how many tries there are."""

import base64
import json
import pickle
import re
from datetime import timedelta

import pytest
import time_machine
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from django.contrib.auth.models import User
from django.core.cache import cache
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from tests import factories
from tests.operations import facts_of
from tests.signin.factors import at_start_of
from unlocks import operations, pins
from unlocks.actors import Actor
from unlocks.ledger import chain, verify
from unlocks.models import CacheRow, DeskSession, LedgerEntry
from unlocks.signin import sessions

PASSWORD, PAGE = "correct-horse-battery", "/staff/sign-in/"
WRONG = "That username and password are not those of an account that may sign in. Check both, capitals too."

pytestmark = pytest.mark.django_db


@pytest.fixture
def dana():
    return factories.make_user("dana", group="Agent", password=PASSWORD)


@pytest.fixture
def in_ten_minutes():
    """Stop in ten minutes whose tries are counted together."""
    with at_start_of(600):
        yield


def try_it(client, password="wrong", username="dana", **extra):
    return client.post(PAGE, {"login": username, "password": password}, **extra)


def told():
    kinds = ["signed_in", "sign_in_failed", "session_ended"]
    entries = LedgerEntry.objects.filter(kind__in=kinds).order_by("sequence")
    return [(entry.kind, entry.actor, entry.ip, facts_of(entry)) for entry in entries]


def refused(answer):
    """Return the sentence in which an answer says that nobody was signed in."""
    assert answer.status_code == 200
    (said,) = answer.context["form"].non_field_errors()
    return said


def failed(why, name="dana", ip="127.0.0.1"):
    return ("sign_in_failed", "Not signed in", ip, {"why": why, "name": name, "browser": ""})


def test_who_signs_in_is_recorded(dana):
    answer = try_it(Client(), PASSWORD, headers={"user-agent": "Some browser"})
    assert (answer.status_code, answer.url) == (302, "/desk/")
    assert told() == [("signed_in", "dana", "127.0.0.1", {"how": ["password"], "browser": "Some browser"})]
    assert list(chain.faults()) == []


def test_capitals_of_the_username_do_not_matter_and_those_of_the_password_do(dana):
    assert try_it(Client(), PASSWORD, username="DANA").status_code == 302
    assert refused(try_it(Client(), PASSWORD.upper())) == WRONG


def test_another_letter_is_another_name(dana):
    """PostgreSQL compares capitals; each spelling of a name would have tries of its own."""
    for username, typed in (("adina", "ad\u0131na"), ("miss", "mi\u017f\u017f")):
        factories.make_user(username, password=PASSWORD)
        assert refused(try_it(Client(), PASSWORD, username=typed)) == WRONG
        assert try_it(Client(), PASSWORD, username=username.upper()).status_code == 302


def test_the_answer_is_the_same_whoever_it_is(dana):
    factories.make_user("gone", password=PASSWORD, is_active=False)
    outsider = factories.make_user("outsider", password=PASSWORD)
    User.objects.filter(pk=outsider.pk).update(is_staff=False)
    asked = [("dana", "wrong"), ("nobody", PASSWORD), ("gone", PASSWORD), ("outsider", PASSWORD)]
    pages = [try_it(Client(), password, username=name).content.decode() for name, password in asked]
    assert [WRONG in page for page in pages] == [True] * 4
    alike = {re.sub('value="[^"]*"', "", page) for page in pages}
    assert len(alike) == 1
    assert told() == [
        failed("password"),
        failed("unknown", name=""),
        failed("not_allowed", name="gone"),
        failed("not_allowed", name="outsider"),
    ]


def test_what_is_typed_for_a_username_is_not_recorded(dana):
    try_it(Client(), "wrong", username="my-own-secret-password")
    kept = json.dumps([[entry.facts, entry.personal, entry.actor] for entry in LedgerEntry.objects.all()])
    assert "my-own-secret-password" not in kept


class Counting(PBKDF2PasswordHasher):
    iterations = 1
    tried = 0

    def verify(self, password, encoded):
        Counting.tried += 1
        return super().verify(password, encoded)


def test_as_much_is_reckoned_for_a_known_name_as_for_an_unknown_one(settings):
    settings.PASSWORD_HASHERS = ["tests.signin.test_sign_in.Counting"]
    factories.make_user("dana", password=PASSWORD)
    counts = []
    pins._nobodys_hash.cache_clear()
    for name in ("dana", "nobody"):
        Counting.tried = 0
        try_it(Client(), username=name)
        counts.append(Counting.tried)
    pins._nobodys_hash.cache_clear()
    assert counts == [1, 1]


# Limits


def test_after_five_wrong_passwords_the_right_one_waits_as_well(dana):
    client = Client()
    with time_machine.travel("2026-11-27 12:00:00Z", tick=False):
        assert [refused(try_it(client)) for _ in range(5)] == [WRONG] * 5
        assert refused(try_it(client, PASSWORD)) == "Too many tries. Try again in 10 minutes."
        try_it(client)
        assert told() == [failed("password")] * 5 + [failed("too_many")]  # once: who goes on fills no ledger
    with time_machine.travel("2026-11-27 12:10:01Z", tick=False):
        assert try_it(client, PASSWORD).status_code == 302


def test_an_unknown_name_has_as_many_tries(dana, in_ten_minutes):
    said = [refused(try_it(Client(), username="nobody")) for _ in range(6)]
    assert [one == WRONG for one in said] == [True] * 5 + [False]


def test_who_uses_up_the_tries_locks_nobody_out(dana, in_ten_minutes):
    known, stranger = Client(), Client()
    assert try_it(known, PASSWORD).status_code == 302
    known.post("/staff/sign-out/")
    for number in range(60):
        try_it(stranger, REMOTE_ADDR=f"198.51.100.{number}")
    assert "Too many tries" in refused(try_it(stranger, PASSWORD, REMOTE_ADDR="198.51.100.250"))
    for _ in range(6):
        try_it(stranger)  # from the same network as the colleague
    assert try_it(known, PASSWORD).status_code == 302


def test_a_known_browser_has_its_own_end(dana, in_ten_minutes):
    known = Client()
    try_it(known, PASSWORD)
    known.post("/staff/sign-out/")
    said = [refused(try_it(known)) for _ in range(11)]
    assert [one == WRONG for one in said] == [True] * 10 + [False]


def test_a_known_browser_is_known_for_its_own_colleague_alone(dana, in_ten_minutes):
    factories.make_user("kim", password=PASSWORD)
    browser = Client()
    try_it(browser, PASSWORD)
    browser.post("/staff/sign-out/")
    said = [refused(try_it(browser, username="kim")) for _ in range(6)]
    assert [one == WRONG for one in said] == [True] * 5 + [False]


def test_one_network_has_so_many_tries_in_all(dana, in_ten_minutes):
    said = [refused(try_it(Client(), username=f"name-{number}")) for number in range(31)]
    assert [one == WRONG for one in said] == [True] * 30 + [False]


def test_right_passwords_use_up_nothing(dana):
    for _ in range(12):
        assert try_it(Client(), PASSWORD).status_code == 302


# The password is the one that the record tells of


def test_a_password_that_was_set_past_the_desk_signs_nobody_in(dana):
    dana.set_password("set-in-a-shell")
    dana.save()
    assert "not the one that the record tells of" in refused(try_it(Client(), "set-in-a-shell"))
    assert told() == [failed("not_recorded")]
    (finding,) = verify.findings()
    assert finding.startswith(f"User {dana.pk}: its column password differs from what ledger entry ")
    operations.record_staff(dana, by=Actor.desk())
    assert verify.findings() == []
    assert try_it(Client(), "set-in-a-shell").status_code == 302


def test_a_hash_that_is_outdated_is_renewed_and_told(dana, settings):
    settings.PASSWORD_HASHERS = ["tests.signin.test_sign_in.Counting", *settings.PASSWORD_HASHERS]
    before = dana.password
    assert try_it(Client(), PASSWORD).status_code == 302
    dana.refresh_from_db()
    assert dana.password != before
    entry = LedgerEntry.objects.filter(kind="staff_changed").latest("sequence")
    assert (entry.actor, facts_of(entry)["changed"]) == ("dana", {"password": "set"})
    assert verify.findings() == []
    assert try_it(Client(), PASSWORD).status_code == 302


# Sessions


def session():
    return DeskSession.objects.get(user__isnull=False)


def test_a_session_cannot_be_taken_over_from_the_database(dana):
    client = Client()
    try_it(client, PASSWORD)
    key, row = client.cookies["sessionid"].value, session()
    assert row.user == dana
    assert key not in (row.session_key, row.session_data)
    thief = Client()
    thief.cookies["sessionid"] = row.session_key
    assert thief.get("/desk/").status_code == 302
    assert "_auth_user" not in row.session_data
    assert sessions.SessionStore(key).load()["_auth_user_id"] == str(dana.pk)
    DeskSession.objects.update(session_data="made up")
    assert client.get("/desk/").status_code == 302


@pytest.mark.parametrize("moved", ["the row", "its data"])
def test_a_session_belongs_to_its_key(dana, moved):
    try_it(Client(), PASSWORD)
    thief = Client()
    thief.get("/staff/link/made-up/")
    own, theirs = DeskSession.objects.get(user=None), DeskSession.objects.get(user=dana)
    if moved == "the row":
        DeskSession.objects.filter(pk=own.pk).delete()
        DeskSession.objects.filter(pk=theirs.pk).update(session_key=own.pk)
    else:
        DeskSession.objects.filter(pk=own.pk).update(session_data=theirs.session_data, user=dana)
    assert thief.get("/desk/").status_code == 302
    assert thief.get("/desk/").context is None


class Code:
    def __reduce__(self):
        return exec, ("from django.conf import settings; settings.LEDGER_KEY = ''",)


def test_a_row_of_the_cache_runs_no_code(db, settings):
    cache.set("tries", [1.5, 2])
    cache.set("ended", 1, timeout=0)
    assert (cache.get("tries"), cache.get("ended"), cache.get("nothing", 7)) == ([1.5, 2], None, 7)
    assert (cache.add("tries", 1), cache.add("lock", True), cache.delete("lock"), cache.delete("lock")) == (
        *(False, True),
        *(True, False),
    )
    key = settings.LEDGER_KEY
    CacheRow.objects.update(value=base64.b64encode(pickle.dumps(Code())).decode())
    with pytest.raises(ValueError, match="Expecting value"):
        cache.get("tries")
    assert key == settings.LEDGER_KEY


def test_tries_with_an_old_password_are_counted_and_told(dana, in_ten_minutes):
    client, other = Client(), Client()
    try_it(client, PASSWORD)
    try_it(other, PASSWORD)
    page, new = "/desk/password_change/", "brand-new-and-long-1"
    typed = {"new_password1": new, "new_password2": new}
    said = [
        client.post(page, typed | {"old_password": "wrong"}).context["form"].errors["old_password"] for _ in range(11)
    ]
    assert ["Too many tries" in one[0] for one in said] == [False] * 10 + [True]
    assert told()[2:] == [failed("password")] * 10 + [failed("too_many")]
    dana.refresh_from_db()
    assert dana.check_password(PASSWORD)
    assert other.post(page, typed | {"old_password": PASSWORD}).status_code == 302
    assert client.get("/desk/").status_code == 302


@pytest.mark.parametrize(
    ("browser", "said"),
    [
        ("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140.0 Safari/537.36", "Chrome on Linux"),
        ("Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/140.0 Safari/537.36 Edg/140.0", "Edge on Windows"),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Version/18.0 Safari/604.1", "Safari on iPhone"),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 14.0; rv:140.0) Firefox/140.0", "Firefox on Mac"),
        ("curl/8", "A browser"),
    ],
)
def test_a_browser_is_called_by_its_name(browser, said):
    assert sessions.named(browser) == said


def test_signing_out_ends_the_session_and_is_recorded(dana):
    client = Client()
    try_it(client, PASSWORD)
    assert "Sign out?" in client.get("/staff/sign-out/").content.decode()
    assert "You have left the desk." in client.post("/staff/sign-out/").content.decode()
    assert told()[1:] == [("session_ended", "dana", "127.0.0.1", {"how": "signed_out", "name": "dana"})]
    assert not DeskSession.objects.filter(user=dana).exists()
    assert client.get("/desk/").status_code == 302
    client.post("/staff/sign-out/")
    assert len(told()) == 2


def test_a_session_that_nobody_uses_ends(dana, settings):
    settings.SESSION_COOKIE_AGE = 3600
    client = Client()
    with time_machine.travel("2026-11-27 12:00:00Z", tick=False) as clock:
        try_it(client, PASSWORD)
        for _ in range(3):
            clock.shift(3000)
            assert client.get("/desk/").status_code == 200
        clock.shift(3601)
        assert client.get("/desk/").status_code == 302


def test_the_worker_tells_whose_session_nobody_used(dana, superuser, settings):
    settings.SESSION_COOKIE_AGE = 3600
    with time_machine.travel(timezone.now(), tick=False) as clock:
        for client in (Client(), Client()):
            try_it(client, PASSWORD)
        Client().post(PAGE, {"login": "dana", "password": "wrong", "typed": "x"})
        used = Client()
        used.force_login(superuser)
        clock.shift(3590)
        used.get("/desk/")
        clock.shift(20)
        operations.end_idle_sessions(by=Actor.desk())
        operations.end_idle_sessions(by=Actor.desk())
        assert [one for one in told() if one[0] == "session_ended"] == [
            ("session_ended", "Unlock Desk", None, {"how": "idle", "name": "dana"})
        ] * 2
        assert list(DeskSession.objects.values_list("user", flat=True)) == [superuser.pk]


def test_a_page_that_stays_up_to_date_is_no_use_of_the_session(dana, settings):
    settings.SESSION_COOKIE_AGE = 3600
    client = Client()
    with time_machine.travel("2026-11-27 12:00:00Z", tick=False) as clock:
        try_it(client, PASSWORD)
        client.get("/desk/")
        for _ in range(2):
            clock.shift(1500)
            assert client.get("/desk/", headers={"sec-fetch-dest": "empty"}).status_code == 200
        clock.shift(1500)
        assert client.get("/desk/").status_code == 302


def test_a_session_ends_after_its_time_however_it_is_used(dana, settings):
    settings.SESSION_COOKIE_AGE, settings.SESSION_LIFETIME = 3600, timedelta(hours=12)
    client = Client()
    with time_machine.travel("2026-11-27 12:00:00Z", tick=False) as clock:
        try_it(client, PASSWORD)
        for _ in range(23):
            clock.shift(30 * 60)
            assert client.get("/desk/").status_code == 200
        clock.shift(31 * 60)
        assert client.get("/desk/").status_code == 302
        assert told()[-1] == ("session_ended", "dana", "127.0.0.1", {"how": "time", "name": "dana"})


@pytest.mark.parametrize("taken", ["is_active", "is_staff"])
def test_the_next_click_of_one_who_was_deactivated_leads_to_the_form(dana, superuser, taken):
    client = Client()
    try_it(client, PASSWORD)
    assert client.get("/desk/").status_code == 200

    def write():
        setattr(dana, taken, False)
        dana.save()

    operations.change_staff(dana, write, by=factories.acting(superuser))
    answer = client.get("/desk/", follow=True)
    assert answer.redirect_chain[-1][0] == "/staff/sign-in/?next=/desk/"
    assert not DeskSession.objects.filter(user=dana).exists()


# There is one way in


@pytest.mark.parametrize(
    ("address", "leads_to"),
    [("/desk/login/?next=/desk/keys/", "/staff/sign-in/?next=/desk/keys/"), ("/desk/logout/", "/staff/sign-out/")],
)
@pytest.mark.parametrize("method", ["get", "post"])
def test_the_pages_of_the_admin_lead_there(dana, address, leads_to, method):
    client = Client()
    if address == "/desk/logout/":
        client.force_login(dana)
    answer = getattr(client, method)(address, {"username": "dana", "password": PASSWORD} if method == "post" else {})
    assert (answer.status_code, answer.url) == (302, leads_to)


@pytest.mark.parametrize("path", ["signup/", "password/reset/", "email/", "login/code/", "3rdparty/", "confirm-email/"])
def test_nobody_signs_up_or_has_a_password_reset(path):
    assert {Client().get(f"/{at}/{path}").status_code for at in ("staff", "accounts", "desk")} == {404, 302}
    assert Client().post(f"/staff/{path}", {"email": "dana@vendor.example"}).status_code == 404


def test_the_first_superuser_of_the_docs_signs_in(monkeypatch):
    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", PASSWORD)
    call_command("createsuperuser", interactive=False, username="first", email="first@vendor.example", verbosity=0)
    assert try_it(Client(), PASSWORD, username="first").url == "/desk/"
    assert verify.findings() == []
    with pytest.raises(CommandError, match="reads like first"):
        call_command("createsuperuser", interactive=False, username="F1rst", email="", verbosity=0)
