"""The second step: what it takes, what is kept of it, and to whom the desk opens without it."""

import json
import time

import pytest
from allauth.mfa.adapter import get_adapter
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal import auth as recovery_codes
from django.contrib.auth.models import User
from django.contrib.messages import get_messages
from django.test import Client

from tests import factories
from tests.attacks import difference, snapshot
from tests.operations import facts_of
from tests.signin.factors import PASSWORD, at_start_of, code, set_up_app, sign_in
from unlocks.factors import factors_mac, factors_of
from unlocks.ledger import verify
from unlocks.models import DeskSession, LedgerEntry
from unlocks.rules import Refusal, sentence
from unlocks.signin.sessions import hashed

pytestmark = pytest.mark.django_db

YOURS = "/staff/yours/"


def later():
    return at_start_of(60)


@pytest.fixture
def dana():
    return factories.make_user("dana", group="Agent", password=PASSWORD)


@pytest.fixture
def client(dana):
    client = Client()
    sign_in(client)
    return client


def told():
    entries = LedgerEntry.objects.exclude(actor="Unlock Desk").order_by("sequence")
    return [(entry.kind, facts_of(entry)) for entry in entries]


def changes():
    return [facts["changed"] for kind, facts in told() if kind == "staff_changed"]


def test_an_app_is_set_up_and_told(dana, client):
    secret, codes = set_up_app(client)
    assert len(set(codes)) == 10
    assert changes() == [{"factors": [[], ["authenticator app", "10 recovery codes"]]}]
    assert verify.findings() == []
    kept = json.dumps([one.data for one in Authenticator.objects.all()]) + "".join(
        row.session_data for row in DeskSession.objects.all()
    )
    assert secret not in kept
    assert "2 left" not in client.get(YOURS).content.decode()
    assert "10 left" in client.get(YOURS).content.decode()
    assert codes[0] not in client.get("/staff/yours/codes/").content.decode()  # shown once


def test_a_wrong_code_sets_up_nothing(dana, client):
    client.get("/staff/yours/app/")
    answer = client.post("/staff/yours/app/", {"code": "000000"})
    assert "That is not right, or was used before. Try again." in answer.content.decode()
    assert (Authenticator.objects.count(), changes()) == (0, [])


def test_signing_in_takes_both_steps(dana, client):
    with later() as clock:
        secret, codes = set_up_app(client)
        clock.shift(60)
        other = Client()
        assert sign_in(other).url == "/staff/sign-in/code/"
        assert other.get("/desk/").status_code == 302
        wrong = other.post("/staff/sign-in/code/", {"code": "000000"})
        assert "That is not right" in wrong.content.decode()
        assert other.post("/staff/sign-in/code/", {"code": code(secret)}).url == "/desk/"
        assert other.get("/desk/").status_code == 200
        third = Client()
        sign_in(third)
        assert third.post("/staff/sign-in/code/", {"code": codes[0]}).url == "/desk/"
    assert [one for one in told() if one[0] in ("signed_in", "sign_in_failed")][1:] == [
        ("sign_in_failed", {"why": "code", "name": "dana", "browser": ""}),
        ("signed_in", {"how": ["password", "authenticator app"], "browser": ""}),
        ("signed_in", {"how": ["password", "recovery codes"], "browser": ""}),
    ]


def test_what_is_typed_survives_both_steps(dana, client):
    with later() as clock:
        secret, _ = set_up_app(client)
        case = factories.open_case(dana).unlock_request
        client.post("/staff/sign-out/")
        answer = client.post(case.get_absolute_url(), {"verb": "note", "text": "Called at 4 PM"})
        typed = answer.context["typed"]
        clock.shift(60)
        sign_in(client, typed=typed, next=case.get_absolute_url())
        answer = client.post("/staff/sign-in/code/", {"code": code(secret)})
        assert "Called at 4 PM" in answer.content.decode()


@pytest.mark.parametrize("kind", ["app", "recovery"])
def test_a_code_is_used_once(dana, client, kind):
    with later() as clock:
        secret, codes = set_up_app(client)
        clock.shift(60)
        answers = []
        for _ in range(2):
            other = Client()
            sign_in(other)
            typed = code(secret) if kind == "app" else codes[0]
            answers.append(other.post("/staff/sign-in/code/", {"code": typed}).status_code)
    assert answers == [302, 200]


def test_a_recovery_code_that_was_used_is_told_and_stays_so(dana, client):
    _, codes = set_up_app(client)
    sign_in(other := Client())
    other.post("/staff/sign-in/code/", {"code": codes[0]})
    left = [["authenticator app", f"{n} recovery codes"] for n in (10, 9)]
    assert changes()[1:] == [{"factors": left}]
    assert verify.findings() == []
    kept = Authenticator.objects.get(type="recovery_codes")
    Authenticator.objects.filter(pk=kept.pk).update(data=kept.data | {"used_mask": 0})
    assert sign_in(Client()).status_code == 403


@pytest.mark.parametrize(("ahead", "status"), [(-2, 200), (-1, 302), (1, 302), (2, 200)])
def test_a_clock_may_be_half_a_minute_off(dana, client, ahead, status):
    with later() as clock:
        secret, _ = set_up_app(client)
        clock.shift(120)
        other = Client()
        sign_in(other)
        assert other.post("/staff/sign-in/code/", {"code": code(secret, ahead)}).status_code == status


def test_codes_have_so_many_tries(dana, client):
    with later() as clock:
        secret, _ = set_up_app(client)
        clock.shift(60)
        other = Client()
        sign_in(other)
        for _ in range(10):
            other.post("/staff/sign-in/code/", {"code": "000000"})
        for _ in range(2):
            answer = other.post("/staff/sign-in/code/", {"code": code(secret)})
            assert "Too many tries. Try again in ten minutes." in answer.content.decode()
        assert [facts["why"] for kind, facts in told() if kind == "sign_in_failed"] == ["code"] * 10 + ["too_many"]
        clock.shift(601)
        assert other.post("/staff/sign-in/code/", {"code": code(secret)}).status_code == 302


def test_a_factor_that_no_entry_tells_of_signs_nobody_in(dana, client):
    with later() as clock:
        set_up_app(client)
        stolen = Authenticator.objects.get(type="totp").data
        mac = factors_mac(dana.pk)
        kim = factories.make_user("kim", password=PASSWORD)
        Authenticator.objects.create(user=kim, type="totp", data=stolen)
        clock.shift(60)
        assert (sign_in(Client(), "kim").status_code, factors_mac(dana.pk)) == (403, mac)
        Authenticator.objects.filter(user=dana, type="totp").delete()
        assert sign_in(Client()).status_code == 403
    assert told()[-1] == ("sign_in_failed", {"why": "factors", "name": "dana", "browser": ""})
    assert [finding.partition(":")[0] for finding in verify.findings()] == [
        f"User {dana.pk}",
        f"User kim (id {kim.pk})",
    ]


def test_removing_the_app_takes_the_codes_with_it(dana, client):
    set_up_app(client)
    assert client.post("/staff/yours/app/remove/").url == YOURS
    assert changes()[1:] == [{"factors": [["authenticator app", "10 recovery codes"], []]}]
    assert (Authenticator.objects.count(), verify.findings()) == (0, [])
    assert sign_in(Client()).url == "/desk/"


def test_new_recovery_codes_end_the_old_ones(dana, client):
    with later() as clock:
        _, codes = set_up_app(client)
        client.post("/staff/yours/codes/new/")
        assert len(changes()) == 2
        clock.shift(60)
        other = Client()
        sign_in(other)
        assert other.post("/staff/sign-in/code/", {"code": codes[0]}).status_code == 200


@pytest.mark.parametrize("address", ["app/", "app/remove/", "codes/new/", "passkeys/", "passkeys/1/remove/"])
def test_factors_are_changed_by_who_confirmed_it_is_they(dana, client, address):
    with later() as clock:
        set_up_app(client)
        clock.shift(601)
        for method in ("get", "post"):
            answer = getattr(client, method)(f"{YOURS}{address}")
            if answer.status_code != 404:
                assert answer.url.startswith("/staff/confirm/")
    assert len(changes()) == 1


def test_nobody_removes_a_passkey_of_another(client):
    kim = factories.make_user("kim")
    passkey = Authenticator.objects.create(user=kim, type="webauthn", data={"name": "x", "credential": {}})
    assert client.post(f"{YOURS}passkeys/{passkey.pk}/remove/").status_code == 404
    assert Authenticator.objects.filter(pk=passkey.pk).exists()


@pytest.mark.parametrize("credential", ["", "no JSON", "[]", "{}", '{"id": 1}', '{"response": {"userHandle": "AA"}}'])
def test_a_passkey_that_is_none_signs_nobody_in(client, credential):
    for address in ("/staff/sign-in/passkey/", "/staff/yours/passkeys/"):
        answer = (Client() if "sign-in" in address else client).post(address, {"credential": credential, "name": "x"})
        assert answer.status_code in (200, 302)
    assert Authenticator.objects.count() == 0


# Whoever needs a second step


@pytest.mark.parametrize(
    ("group", "fields", "opens"),
    [
        ("Agent", {}, False),
        ("Manager", {}, False),
        ("Auditor", {}, True),
        (None, {}, True),
        (None, {"is_superuser": True}, False),
    ],
)
def test_the_desk_opens_without_it_to_who_needs_none(settings, group, fields, opens):
    settings.SECOND_FACTOR_REQUIRED = True
    factories.make_user("dana", group=group, password=PASSWORD, **fields)
    client = Client()
    sign_in(client)
    for method in ("get", "post"):
        answer = getattr(client, method)("/desk/keys/")
        assert (answer.status_code, getattr(answer, "url", "")) == ((200, "") if opens else (302, YOURS))
    assert ("Your work needs a second step." in client.get(YOURS).content.decode()) is not opens


def test_this_sessions_steps_count_and_not_what_the_account_could_show(dana, settings):
    settings.SECOND_FACTOR_REQUIRED = True
    with later() as clock:
        client = Client()
        sign_in(client)
        secret, _ = set_up_app(client)
        assert client.get("/desk/").status_code == 200  # it was shown to work just now
        other = Client()
        other.force_login(dana)
        assert other.get("/desk/").url == "/staff/confirm/code/?next=%2Fdesk%2F"
        clock.shift(60)
        answer = other.post("/staff/confirm/code/", {"code": code(secret), "next": "/desk/"})
        assert (answer.url, other.get("/desk/").status_code) == ("/desk/", 200)


def test_who_is_asked_for_none_reads_so(client):
    assert "The desk asks nobody for a second step here." in client.get(YOURS).content.decode()
    assert "No second step is asked for here." in Client().get("/staff/sign-in/").content.decode()


# Sessions


def test_a_session_is_ended_from_another_browser(dana, client):
    lost = Client()
    sign_in(lost)
    assert lost.get("/desk/").status_code == 200
    shown = client.get(YOURS).context["sessions"]
    assert [one["this"] for one in shown] == [True, False]
    assert client.post(f"{YOURS}sessions/{shown[1]['key']}/end/").url == YOURS
    assert lost.get("/desk/").status_code == 302
    assert told()[-1] == ("session_ended", {"how": "ended", "name": "dana"})
    assert client.post(f"{YOURS}sessions/{shown[1]['key']}/end/").status_code == 404


def test_nobody_ends_the_session_of_another(client):
    factories.make_user("kim", password=PASSWORD)
    kim = Client()
    sign_in(kim, "kim")
    key = DeskSession.objects.get(user__username="kim").session_key
    assert client.post(f"{YOURS}sessions/{key}/end/").status_code == 404
    assert kim.get("/desk/").status_code == 200


# What someone puts there past the desk, or knows half of


def planted(user):
    """Put an app there by SQL, of which one knows the secret."""
    secret = "JBSWY3DPEHPK3PXP"
    Authenticator.objects.create(user=user, type="totp", data={"secret": get_adapter().encrypt(secret)})
    return secret


@pytest.mark.parametrize("page", ["app/remove/", "codes/new/"])
def test_a_change_seals_no_factor_that_no_entry_tells_of(dana, client, page):
    secret = planted(dana)
    client.post("/staff/confirm/code/", {"code": code(secret)})
    session = client.session
    session["account_authentication_methods"] = [{"method": "mfa", "at": time.time()}]
    session.save()
    before = snapshot()
    answer = client.post(f"{YOURS}{page}", follow=True)
    assert sentence(Refusal.FACTORS_NOT_RECORDED) in answer.content.decode()
    assert difference(before, snapshot()) == []
    assert any("no ledger entry tells of their second factors" in one for one in verify.findings())


def test_a_factor_that_no_entry_tells_of_confirms_nothing(dana, client):
    secret = planted(dana)
    answer = client.post("/staff/confirm/code/", {"code": code(secret), "next": YOURS})
    assert answer.context["form"].errors["code"] == [sentence(Refusal.FACTORS_NOT_RECORDED)]


def test_a_passkey_that_no_entry_tells_of_confirms_nothing(dana, client):
    Authenticator.objects.create(user=dana, type="webauthn", data={"name": "x", "credential": {}})
    answer = client.post("/staff/confirm/passkey/", {"credential": "{}", "next": YOURS})
    assert sentence(Refusal.FACTORS_NOT_RECORDED) in [str(one) for one in get_messages(answer.wsgi_request)]


@pytest.mark.parametrize("kind", ["totp", "webauthn", "recovery_codes", "no kind"])
@pytest.mark.parametrize("data", [[], "no object", 7, {}, {"name": 7, "used_mask": "none"}])
def test_a_factor_that_is_none_refuses_who_signs_in(dana, kind, data):
    Authenticator.objects.create(user=dana, type=kind, data=data)
    answer = sign_in(Client())
    assert answer.status_code == 403
    assert "second factors of this account are not those" in answer.content.decode()
    assert factors_of(dana.pk) != []


def test_a_session_that_showed_the_password_alone_takes_no_factor_away(dana, client, settings):
    settings.SECOND_FACTOR_REQUIRED = True
    thief = Client()
    sign_in(thief)
    _, codes = set_up_app(client)
    key = client.session.session_key
    for page in ("", "app/", "app/remove/", "codes/", "codes/new/", "passkeys/", f"sessions/{hashed(key)}/end/"):
        answer = thief.post(YOURS + page)
        assert answer.url.startswith("/staff/confirm/code/?next=")
    assert thief.get("/desk/").url.startswith("/staff/confirm/code/?next=")
    assert Authenticator.objects.count() == 2
    thief.post("/staff/confirm/code/", {"code": codes[0]})
    assert thief.get(f"{YOURS}codes/new/").status_code == 200


@pytest.mark.parametrize("changes", [{"password": "changed"}, {"is_active": False}, {"is_staff": False}])
def test_the_first_step_counts_while_the_account_stays_as_it_was(dana, client, changes):
    _, codes = set_up_app(client)
    other = Client()
    sign_in(other)
    assert told()[-1] == ("first_step", {"name": "dana", "browser": ""})
    User.objects.filter(pk=dana.pk).update(**changes)
    answer = other.post("/staff/sign-in/code/", {"code": codes[0]})
    assert (answer.status_code, "Your account was changed while you signed in" in answer.content.decode()) == (
        403,
        True,
    )
    assert told()[-1] == ("sign_in_failed", {"why": "changed", "name": "dana", "browser": ""})
    assert other.get("/desk/").status_code == 302


def test_the_first_step_is_told_once_in_ten_minutes(dana, client):
    with later() as clock:
        set_up_app(client)
        for wait in (0, 599, 2):
            clock.shift(wait)
            sign_in(Client())
    assert [kind for kind, _ in told()].count("first_step") == 2


def test_a_factor_that_is_put_there_between_the_two_steps_signs_nobody_in(dana, client):
    _, codes = set_up_app(client)
    thief, own = Client(), Authenticator.objects.get(type="recovery_codes")
    sign_in(thief)
    Authenticator.objects.filter(pk=own.pk).update(data=own.data | {"seed": get_adapter().encrypt("made-up")})
    known = recovery_codes.RecoveryCodes(Authenticator.objects.get(pk=own.pk)).get_unused_codes()
    answer = thief.post("/staff/sign-in/code/", {"code": known[0]})
    Authenticator.objects.filter(pk=own.pk).update(data=own.data)
    assert answer.context["form"].errors["code"] == [sentence(Refusal.FACTORS_NOT_RECORDED)]
    assert thief.get("/desk/").status_code == 302
    assert told()[-1] == ("sign_in_failed", {"why": "factors", "name": "dana", "browser": ""})
    assert sign_in(thief).url == "/staff/sign-in/code/"
    assert thief.post("/staff/sign-in/code/", {"code": codes[0]}).url == "/desk/"


def test_codes_that_are_put_beside_the_recovery_codes_sign_nobody_in(dana, client):
    """allauth takes them instead, and whoever has an app knows what one encrypted text says."""
    set_up_app(client)
    sign_in(thief := Client())
    factors = Authenticator.objects.filter(user=dana)
    data = factors.get(type="recovery_codes").data
    factors.filter(type="recovery_codes").update(data=data | {"migrated_codes": [get_adapter().encrypt("known")]})
    answer = thief.post("/staff/sign-in/code/", {"code": "known"})
    assert answer.context["form"].errors["code"] == [sentence(Refusal.FACTORS_NOT_RECORDED)]
    assert sign_in(Client()).status_code == 403
    assert [finding.partition(":")[0] for finding in verify.findings()] == [f"User {dana.pk}"]


def test_a_passkey_that_does_not_fit_is_told_once(db):
    client = Client()
    with later():
        for made_up in ("{}", "[" * 100_000, "9" * 5000):
            assert client.post("/staff/sign-in/passkey/", {"credential": made_up}).status_code == 302
    assert told() == [("sign_in_failed", {"why": "passkey", "name": "", "browser": ""})]


def test_a_passkey_that_does_not_fit_its_colleague_is_told(dana, client):
    set_up_app(client)
    sign_in(other := Client())
    made_up = {"credential": '{"id": "x"}'}
    other.post("/staff/sign-in/code/", made_up)
    Authenticator.objects.create(user=dana, type="webauthn", data={"name": "x", "credential": {}})
    client.post("/staff/confirm/passkey/", made_up)
    failed = LedgerEntry.objects.filter(kind="sign_in_failed").order_by("sequence")
    facts = {"why": "passkey", "name": "dana", "browser": ""}
    assert [(entry.actor, facts_of(entry)) for entry in failed] == [("Not signed in", facts), ("dana", facts)]


def test_passkeys_are_tried_sixty_times_a_minute_from_one_address(db):
    client = Client()
    with later():
        answers = [client.post("/staff/sign-in/passkey/", {"credential": "{}"}).status_code for _ in range(61)]
    assert answers == [302] * 60 + [429]
