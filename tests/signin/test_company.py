"""Signing in with the company's provider: for whom, with which roles, and what does not pass for it."""

import time
from datetime import timedelta
from urllib.parse import parse_qs, quote, urlsplit

import pytest
import requests
import time_machine
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from tests import factories
from tests.operations import facts_of
from tests.signin.factors import PASSWORD, set_up_app, sign_in
from tests.signin.provider import Provider, use
from unlocks import operations
from unlocks.actors import Actor
from unlocks.ledger import verify
from unlocks.models import DeskSession, LedgerEntry

pytestmark = pytest.mark.django_db

START = "/staff/with/company/"
GROUPS = {"support": "Agent", "support-leads": "Manager"}


@pytest.fixture(scope="module")
def running():
    provider = Provider()
    yield provider
    provider.close()


@pytest.fixture
def provider(running, settings):
    use(settings, running)
    running.names()
    running.ahead = 0
    return running


@pytest.fixture
def dana():
    return factories.make_user("dana", group="Agent", email="dana@vendor.example")


def there(client, **options):
    """Start signing in, and return the address at the provider to which that leads."""
    return client.post(START, **options).url


def back(client, address):
    """Go to the provider as the browser would, and bring back what it answers."""
    answer = requests.get(address, allow_redirects=False, timeout=5)
    came = urlsplit(answer.headers["Location"])
    return client.get(f"{came.path}?{came.query}")


def through(client):
    return back(client, there(client))


def been_here():
    """Make a colleague who has a password, and return the browser in which they signed in with it."""
    factories.make_user("dana", group="Agent", email="dana@vendor.example", password=PASSWORD)
    sign_in(client := Client())
    return client


def told(kind):
    return [
        facts_of(entry)
        for entry in LedgerEntry.objects.filter(kind=kind).exclude(actor="Unlock Desk").order_by("sequence")
    ]


def test_a_colleague_signs_in(provider, dana):
    client = Client()
    assert "Sign in with Vendor ID" in client.get("/staff/sign-in/").content.decode()
    assert through(client).url == "/desk/"
    assert client.get("/desk/").status_code == 200
    assert told("signed_in") == [{"how": ["company account"], "browser": ""}]
    assert [facts["changed"] for facts in told("staff_changed")] == [{"factors": [[], ["company account"]]}]
    provider.names(email="dana@other.example")  # by the key from then on
    assert through(Client()).url == "/desk/"
    assert verify.findings() == []


@pytest.mark.parametrize(
    "claims",
    [
        {"email": "stranger@vendor.example"},
        {"email_verified": False},
        {"email": ""},
        {"email": "gone@vendor.example"},
        {"email": "two@vendor.example"},
        {"email": "ad\u0131na@vendor.example"},  # in capitals the same as adina
        {"email": "mi\u017f\u017f@vendor.example"},
    ],
)
def test_a_stranger_gets_a_plain_page_and_no_account(provider, dana, claims):
    factories.make_user("gone", email="gone@vendor.example", is_active=False)
    for name in ("first", "second"):
        factories.make_user(name, email="two@vendor.example")
    for name in ("adina", "miss"):
        factories.make_user(name, email=f"{name}@vendor.example")
    provider.names(**claims)
    users = User.objects.count()
    answer = through(Client())
    assert (answer.status_code, "If nobody has added you" in answer.content.decode()) == (403, True)
    assert (User.objects.count(), SocialAccount.objects.count()) == (users, 0)
    assert told("sign_in_failed") == [{"why": "stranger", "name": "", "browser": ""}]


@pytest.mark.parametrize("been", ["has signed in", "has a password", "has a passkey"])
def test_an_address_is_nobody_who_was_here(provider, dana, been):
    """A superuser can type an address of their own as a colleague's."""
    match been:
        case "has signed in":
            Client().force_login(dana)
        case "has a password":
            operations.set_password(dana, PASSWORD, by=Actor.desk())
        case "has a passkey":
            Authenticator.objects.create(user=dana, type="webauthn", data={"name": "key", "credential": {}})
    answer = through(client := Client())
    assert (answer.status_code, "connect Vendor ID on the page" in answer.content.decode()) == (403, True)
    assert (client.get("/desk/").status_code, SocialAccount.objects.count()) == (302, 0)
    assert told("sign_in_failed") == [{"why": "stranger", "name": "", "browser": ""}]


def test_a_second_account_of_the_same_address_is_a_stranger(provider, dana):
    through(Client())
    provider.names(sub="u-2")
    answer = through(Client())
    assert (answer.status_code, "take the old one away" in answer.content.decode()) == (403, True)
    assert list(SocialAccount.objects.values_list("uid", flat=True)) == ["u-1"]
    assert told("sign_in_failed") == [{"why": "stranger", "name": "", "browser": ""}]


def test_one_who_is_deactivated_later_is_refused(provider, dana):
    through(Client())
    User.objects.filter(pk=dana.pk).update(is_active=False)
    assert through(Client()).status_code == 403
    assert told("sign_in_failed") == [{"why": "not_allowed", "name": "dana", "browser": ""}]


@pytest.mark.parametrize(
    ("claim", "groups"),
    [
        (["support-leads"], ["Manager"]),
        (["support", "support-leads", "somebody-elses"], ["Agent", "Manager"]),
        ("support", ["Agent"]),
    ],
)
def test_a_claim_gives_the_roles(provider, dana, settings, claim, groups):
    settings.OIDC_GROUPS = GROUPS
    dana.groups.clear()
    provider.names(groups=claim)
    assert through(Client()).url == "/desk/"
    assert sorted(dana.groups.values_list("name", flat=True)) == groups
    through(Client())
    changed = [facts["changed"].get("groups") for facts in told("staff_changed")]
    assert changed == [None, [[], groups]]


@pytest.mark.parametrize("claim", [[], ["somebody-elses"], None, {"support": 1}, 7])
def test_no_role_is_no_access(provider, dana, settings, claim):
    settings.OIDC_GROUPS = GROUPS
    provider.names(groups=claim)
    client = Client()
    answer = through(client)
    assert (answer.status_code, "names no group for you" in answer.content.decode()) == (403, True)
    assert client.get("/desk/").status_code == 302
    assert list(dana.groups.values_list("name", flat=True)) == ["Agent"]
    assert told("sign_in_failed") == [{"why": "no_role", "name": "dana", "browser": ""}]


@pytest.mark.parametrize("where", ["another browser", "the same browser"])
@pytest.mark.parametrize("superuser", [False, True])
def test_who_is_in_no_group_any_more_loses_roles_and_sessions(provider, dana, settings, where, superuser):
    settings.OIDC_GROUPS = GROUPS
    provider.names(groups=["support"], auth_time=int(time.time()))
    through(client := Client())
    if superuser:
        User.objects.filter(pk=dana.pk).update(is_superuser=True)
        operations.record_staff(dana, by=Actor.desk())
    provider.names(groups=[], auth_time=int(time.time()))
    answer = through(Client() if where == "another browser" else client)
    assert (answer.status_code, "names no group for you" in answer.content.decode()) == (403, True)
    assert client.get("/desk/queue/").url == "/desk/login/?next=/desk/queue/"
    assert not DeskSession.objects.filter(user=dana).exists()
    assert told("staff_changed")[-1]["changed"] == {"groups": [["Agent"], []]}
    assert LedgerEntry.objects.filter(kind="staff_changed").latest("sequence").actor == "Vendor ID"
    assert User.objects.get(pk=dana.pk).is_superuser == superuser
    assert told("sign_in_failed") == [{"why": "no_role", "name": "dana", "browser": ""}]
    assert verify.findings() == []
    provider.names(groups=["support-leads"])
    assert through(Client()).url == "/desk/"
    assert list(dana.groups.values_list("name", flat=True)) == ["Manager"]


def test_who_connects_an_account_without_a_group_keeps_what_they_have(provider, settings):
    settings.OIDC_GROUPS = GROUPS
    client = been_here()
    answer = through(client)
    assert (answer.status_code, "names no group for you" in answer.content.decode()) == (403, True)
    assert (client.get("/desk/").status_code, SocialAccount.objects.count()) == (200, 0)
    assert list(User.objects.get().groups.values_list("name", flat=True)) == ["Agent"]


@pytest.mark.parametrize(
    ("claims", "acr", "opens"),
    [
        ({}, [], False),
        ({"amr": ["pwd"]}, [], False),
        ({"amr": ["pwd", "mfa"]}, [], True),
        ({"acr": "two"}, ["two"], True),
    ],
)
def test_the_providers_second_factor_counts_when_it_says_so(provider, dana, settings, claims, acr, opens):
    settings.SECOND_FACTOR_REQUIRED, settings.OIDC_ACR = True, acr
    provider.names(**claims)
    client = Client()
    through(client)
    assert client.get("/desk/").status_code == (200 if opens else 302)


def test_the_desks_own_second_step_is_asked_unless_the_provider_asked(provider, settings):
    through(client := been_here())
    set_up_app(client)
    assert through(Client()).url == "/staff/sign-in/code/"
    provider.names(amr=["mfa"])
    assert through(Client()).url == "/desk/"


# What does not pass for it


@pytest.mark.parametrize(
    "userinfo",
    [
        {"sub": "u-2", "email": "dana@vendor.example", "email_verified": True},
        {"email": "dana@vendor.example", "email_verified": True},
        ["u-1"],
        "u-1",
    ],
)
def test_two_documents_about_different_people_name_nobody(provider, dana, userinfo):
    provider.userinfo = userinfo
    assert through(Client()).status_code == 403
    assert SocialAccount.objects.count() == 0


def test_an_address_is_verified_by_the_document_that_has_it(provider, dana):
    provider.names(email="stranger@vendor.example")
    provider.userinfo = {"sub": "u-1", "email": "dana@vendor.example"}
    assert through(Client()).status_code == 403
    provider.names(email_verified=False)
    provider.userinfo = {"sub": "u-1", "email": "stranger@vendor.example", "email_verified": True}
    assert through(Client()).status_code == 403
    provider.userinfo |= {"email": "dana@vendor.example"}
    assert through(Client()).url == "/desk/"


@pytest.mark.parametrize("sub", [None, "", 7, ["u-1"], "u" * 192, "u\0", "\ud800", "ü"])
def test_a_key_that_can_not_be_kept_names_nobody(provider, dana, sub):
    provider.names(sub=sub)
    assert through(Client()).status_code == 403
    assert SocialAccount.objects.count() == 0


@pytest.mark.parametrize("email", [7, True, ["dana@vendor.example"], "dana@vendor.example\0", "\ud800", "d%@v.example"])
def test_an_address_that_is_none_is_a_strangers(provider, dana, email):
    provider.names(email=email)
    answer = through(Client())
    assert (answer.status_code, "connected with nobody" in answer.content.decode()) == (403, True)


@pytest.mark.parametrize(
    "claims", [{"auth_time": float("nan")}, {"auth_time": float("inf")}, {"auth_time": -1}, {"name": "\0\ud800"}]
)
def test_what_else_it_says_is_not_kept(provider, dana, claims):
    provider.names(**claims)
    assert through(client := Client()).url == "/desk/"
    assert client.get("/staff/yours/").status_code == 200
    assert SocialAccount.objects.get().extra_data == {"sub": "u-1"}


@pytest.mark.parametrize("forged", ["no state", "another state", "another browser", "replayed", "no code", "an error"])
def test_a_callback_that_does_not_fit_signs_nobody_in(provider, dana, forged):
    client = Client()
    answer = requests.get(there(client), allow_redirects=False, timeout=5)
    query = {name: values[0] for name, values in parse_qs(urlsplit(answer.headers["Location"]).query).items()}
    match forged:
        case "no state":
            del query["state"]
        case "another state":
            query["state"] = "made-up"
        case "another browser":
            client = Client()
        case "replayed":
            client.get(f"{START}callback/", query)
            client.post("/staff/sign-out/")
        case "no code":
            del query["code"]
        case "an error":
            query = {"error": "access_denied", "state": query["state"]}
    answer = client.get(f"{START}callback/", query)
    assert (answer.status_code, "did not fit this browser" in answer.content.decode()) == (403, True)
    assert client.get("/desk/").status_code == 302


@pytest.mark.parametrize(
    "more", ["process=connect", "process=redirect", "process=login", "auth_params=a%3Db", "scope=x"]
)
def test_nothing_but_signing_in_is_started(provider, dana, more):
    client = Client()
    client.force_login(dana)
    for method in (client.get, client.post):
        assert method(f"{START}?{more}").status_code == 400
    assert client.post(START, more, content_type="application/x-www-form-urlencoded").status_code == 400


@pytest.mark.parametrize("to", ["https://elsewhere.example/desk/", "//elsewhere.example/desk/", "javascript:alert(1)"])
def test_it_leads_to_no_other_site(provider, dana, to):
    client = Client()
    assert back(client, client.post(START, {"next": to}).url).url == "/desk/"


@pytest.mark.parametrize(("ahead", "status"), [(-400, 403), (-240, 302), (240, 302)])
def test_the_providers_clock_may_be_minutes_off(provider, dana, ahead, status):
    provider.ahead = ahead
    assert through(Client()).status_code == status


def test_a_company_account_that_no_entry_tells_of_signs_nobody_in(provider, dana):
    SocialAccount.objects.create(user=dana, provider="company", uid="u-1")
    assert through(Client()).status_code == 403
    assert told("sign_in_failed") == [{"why": "factors", "name": "dana", "browser": ""}]
    assert verify.findings() == [f"User dana (id {dana.pk}): no ledger entry tells of their second factors."]


def test_only_the_start_page_may_send_a_form_to_the_provider(provider):
    policies = [Client().get(page)["Content-Security-Policy"] for page in (START, "/staff/sign-in/")]
    assert [provider.url in policy for policy in policies] == [True, False]
    assert f"form-action 'self' {provider.url};" in policies[0] + ";"


def test_a_provider_that_is_away_says_so(settings, provider):
    settings.OIDC_URL = "http://127.0.0.1:9"
    settings.SOCIALACCOUNT_PROVIDERS["openid_connect"]["APPS"][0]["settings"]["server_url"] = "http://127.0.0.1:9"
    answer = Client().get(START)
    assert (answer.status_code, "can’t be reached now" in answer.content.decode()) == (503, True)


def test_one_that_is_away_when_someone_comes_back_says_so(settings, provider, dana):
    address = there(client := Client())
    settings.SOCIALACCOUNT_PROVIDERS["openid_connect"]["APPS"][0]["settings"]["server_url"] = "http://127.0.0.1:9"
    answer = back(client, address)
    assert (answer.status_code, "can’t be reached now" in answer.content.decode()) == (503, True)


def test_its_configuration_is_asked_for_once_in_ten_minutes(provider):
    asked = "/.well-known/openid-configuration"
    with time_machine.travel(timezone.now() + timedelta(days=1)) as clock:
        before = provider.answered.count(asked)
        for _ in range(3):
            Client().get(START)
        assert provider.answered.count(asked) == before + 1
        clock.shift(601)
        Client().get(START)
        assert provider.answered.count(asked) == before + 2


def test_a_configuration_that_lacks_something_is_asked_for_again(provider, monkeypatch):
    whole = provider.configuration()
    with time_machine.travel(timezone.now() + timedelta(days=2)):
        for said, status in (({}, 503), ([], 503), (whole, 200)):
            monkeypatch.setattr(provider, "configuration", lambda said=said: said)
            assert Client().get(START).status_code == status


def test_without_a_provider_there_is_no_such_page(client):
    assert client.get(START).status_code == 404
    assert client.get(f"{START}callback/").status_code == 404
    assert "/staff/with/" not in client.get("/staff/sign-in/").content.decode()


# Connecting, for those who have been here before


def test_whoever_is_signed_in_connects_their_account(provider):
    provider.names(email="dana@elsewhere.example")
    client = been_here()
    set_up_app(client)
    assert f'href="{START}">Connect your company account' in client.get("/staff/yours/").content.decode()
    assert "signs you in to Unlock Desk as dana" in client.get(START).content.decode()
    assert through(client).url == "/staff/yours/"
    assert "Connected: it signs you in." in client.get("/staff/yours/").content.decode()
    account = "company account"
    factors = ["authenticator app", account, "10 recovery codes"]
    assert told("staff_changed")[-1]["changed"]["factors"][1] == factors
    assert LedgerEntry.objects.filter(kind="staff_changed").latest("sequence").actor == "dana"
    provider.names(amr=["mfa"])
    assert through(Client()).url == "/desk/"
    assert told("signed_in")[-1]["how"] == [account]
    assert verify.findings() == []


@pytest.mark.parametrize("minutes", [0, 11])
def test_who_connects_has_to_confirm_and_come_back_in_time(provider, minutes):
    client = been_here()
    with time_machine.travel(timezone.now() + timedelta(minutes=minutes), tick=False) as clock:
        if minutes:
            for ask in (client.get, client.post):
                assert ask(START).url == f"/staff/confirm/?next={quote(START, safe='')}"
            client.post("/staff/confirm/", {"password": PASSWORD, "next": START})
        address = there(client)
        clock.shift(timedelta(minutes=10))
        answer = back(client, address)
    assert (answer.status_code, "took too long" in answer.content.decode()) == (403, True)
    assert SocialAccount.objects.count() == 0


def test_who_has_not_shown_the_second_factor_connects_nothing(provider):
    client, other = been_here(), Client()
    sign_in(other)
    address = there(other)
    set_up_app(client)
    assert client.get(START).status_code == 200
    for ask in (other.get, other.post):
        assert ask(START).url.startswith("/staff/confirm/code/")
    assert back(other, address).status_code == 403
    assert SocialAccount.objects.count() == 0


def test_nothing_is_connected_to_factors_that_no_entry_tells_of(provider):
    client = been_here()
    set_up_app(client)
    Authenticator.objects.filter(type="recovery_codes").delete()
    answer = through(client)
    assert (answer.status_code, "not those that the record tells of" in answer.content.decode()) == (403, True)
    assert SocialAccount.objects.count() == 0
    assert told("sign_in_failed") == [{"why": "factors", "name": "dana", "browser": ""}]


def test_who_has_nothing_to_confirm_with_is_not_sent_in_circles(provider, dana):
    client = Client()
    client.force_login(dana)
    client.get("/desk/keys/")
    with time_machine.travel(timezone.now() + timedelta(minutes=11)):
        assert client.get(START, follow=True).status_code == 403


def test_what_was_begun_before_signing_in_connects_nothing(provider):
    """Whoever began it may be another than who signs in there afterwards."""
    been_here()
    address = there(client := Client())
    sign_in(client)
    answer = back(client, address)
    assert (answer.status_code, "not yours on Unlock Desk" in answer.content.decode()) == (403, True)
    assert SocialAccount.objects.count() == 0
    assert told("sign_in_failed") == [{"why": "stranger", "name": "dana", "browser": ""}]


def test_of_two_that_someone_began_to_connect_the_first_stays(provider):
    client = been_here()
    first, second = there(client), there(client)
    assert back(client, first).url == "/staff/yours/"
    provider.names(sub="u-2")
    assert back(client, second).status_code == 403
    assert list(SocialAccount.objects.values_list("uid", flat=True)) == ["u-1"]


@pytest.mark.parametrize("connected", [True, False])
def test_nobody_connects_what_is_a_colleagues_or_a_second_one(provider, connected):
    client = been_here()
    if connected:
        through(client)
    else:
        factories.make_user("ben", group="Agent", email="ben@vendor.example")
        provider.names(sub="u-2", email="ben@vendor.example")
        through(Client())
    provider.names(sub="u-3" if connected else "u-2", email="ben@vendor.example", auth_time=int(time.time()))
    answer = through(client)
    assert (answer.status_code, "not yours on Unlock Desk" in answer.content.decode()) == (403, True)
    assert client.get("/desk/").context["user"].get_username() == "dana"
    assert SocialAccount.objects.count() == 1
    assert told("sign_in_failed") == [{"why": "stranger", "name": "dana", "browser": ""}]


# Confirming who it is, for those who have no password here


@pytest.fixture
def lead(dana):
    dana.is_superuser = True
    dana.save()
    operations.record_staff(dana, by=Actor.desk())
    return dana


def asked(client, ben):
    """Change a colleague when the time is over, which leads to the provider; nothing is done. Return the address."""
    page = reverse("admin:auth_user_change", args=[ben.pk])
    answer = client.post(page, {"first_name": "Ben", "last_name": "", "email": "", "is_active": "on"})
    assert answer.url.startswith(START)
    assert "Vendor ID asks you once more" in client.get(answer.url).content.decode()
    return answer.url


def confirm(client, address):
    return back(client, client.post(address).url)


def name_of(ben):
    ben.refresh_from_db()
    return ben.first_name


def test_whoever_has_no_password_confirms_with_the_provider(provider, lead):
    ben, client = factories.make_user("ben", group="Agent"), Client()
    with time_machine.travel(timezone.now(), tick=False) as clock:
        provider.names(auth_time=int(time.time()))
        through(client)
        began = client.session["began"]
        clock.shift(660)
        to_provider = client.post(address := asked(client, ben)).url
        query = {name: values[0] for name, values in parse_qs(urlsplit(to_provider).query).items()}
        assert (query["prompt"], query["max_age"]) == ("login", "600")
        provider.names(auth_time=int(time.time()))
        assert confirm(client, address).url == "/desk/auth/user/"
        assert (name_of(ben), client.session["began"]) == ("Ben", began)
        assert [facts["how"] for facts in told("signed_in")] == [["company account"]]
        assert client.get("/staff/yours/app/").status_code == 200


@pytest.mark.parametrize("auth_time", [None, 0, "now", True, float("nan")])
def test_who_was_let_in_without_being_asked_confirms_nothing(provider, lead, auth_time):
    ben, client = factories.make_user("ben", group="Agent"), Client()
    provider.names(auth_time=auth_time)
    through(client)
    answer = confirm(client, address := asked(client, ben))
    assert (answer.status_code, "does not confirm that it is you" in answer.content.decode()) == (403, True)
    assert name_of(ben) == ""
    assert told("sign_in_failed") == [{"why": "not_again", "name": "dana", "browser": ""}]
    provider.names(auth_time=int(time.time()))
    assert confirm(client, address).url == "/desk/auth/user/"
    assert name_of(ben) == "Ben"


def test_a_time_to_come_is_no_longer_than_now(provider, lead):
    ben, client = factories.make_user("ben", group="Agent"), Client()
    with time_machine.travel(timezone.now(), tick=False) as clock:
        provider.names(auth_time=int(time.time()) + 10**6)
        through(client)
        clock.shift(660)
        asked(client, ben)


def test_who_confirms_as_another_sends_nothing_of_the_first(provider, lead):
    ben, client = factories.make_user("ben", group="Agent", email="ben@vendor.example"), Client()
    through(client)
    provider.names(sub="u-2", email="ben@vendor.example")
    through(Client())
    address = asked(client, ben)
    provider.names(sub="u-2", email="ben@vendor.example", auth_time=int(time.time()))
    confirm(client, address)
    assert name_of(ben) == ""
    assert client.get("/desk/").context["user"] == ben
