"""Tokens of the API: who makes them, what they may, and when they are over. None is kept anywhere."""

from contextlib import suppress
from datetime import timedelta
from uuid import uuid4

import pytest
import time_machine
from django.core.exceptions import PermissionDenied
from django.core.management import CommandError, call_command
from django.test import RequestFactory
from django.utils import timezone

from tests.attacks import snapshot
from tests.factories import acting, case_awaiting, make_token, make_user
from tests.operations import only_for, recorded, refused
from unlocks import operations
from unlocks.actors import Actor
from unlocks.database import guards
from unlocks.ledger import chain, present, rows
from unlocks.models import ApiToken, LedgerEntry
from unlocks.rules import Refusal

pytestmark = pytest.mark.django_db
GET = RequestFactory().get("/", headers={"User-Agent": "curl/8"})


def by_token(token):
    """Return the username of the system that shows a token, None when it does not count."""
    actor = operations.system_of(token, GET)
    return actor and actor.name


def test_a_token_is_made_for_a_new_system(superuser):
    made, _ = make_token("portal", "requests", "read", by=superuser)
    system = made.system
    assert (system.username, system.is_staff, system.is_superuser, system.has_usable_password()) == (
        "portal",
        False,
        False,
        False,
    )
    assert (made.scopes, made.made_by, made.revoked_at, made.last_used_at) == ("read requests", superuser, None, None)
    told = {
        "system": system.pk,
        "system_name": "portal",
        "name": "Tests",
        "scopes": "read requests",
        "expires": made.expires_at.isoformat(),
        "token_mac": made.token_hash,
    }
    assert recorded(kind="api_token_made") == [("api_token_made", told)]
    assert [entry.kind for entry in LedgerEntry.objects.filter(user=superuser)] == ["api_token_made", "staff_changed"]
    assert [*chain.faults(), *rows.faults(), *present.faults()] == []


def test_a_token_stands_nowhere(superuser):
    made, token = make_token("portal", "read", by=superuser)
    actor = operations.system_of(token, GET)
    assert token.startswith("ud_")
    assert len(token) >= 46
    everything = repr(snapshot()) + repr([made, actor, actor.token, vars(made)])
    assert token not in everything
    assert token[3:] not in everything


def test_only_superusers_make_and_revoke_tokens(superuser):
    made, _ = make_token("portal", "read", by=superuser)

    def either(by):
        with suppress(PermissionDenied):
            make_token("other", "read", by=by.user)
        operations.revoke_api_token(made, by=by)

    only_for([], either)
    with pytest.raises(PermissionDenied):
        operations.revoke_api_token(made, by=Actor.system(made))


@pytest.mark.parametrize(
    ("system", "scopes", "code"),
    [
        ("agent", ["read"], Refusal.NOT_A_SYSTEM),
        ("AGENT", ["read"], Refusal.NOT_A_SYSTEM),
        ("new", ["contacts", "requests"], Refusal.MAKES_UP_CUSTOMERS),
        ("new", ["pins", "unlock"], Refusal.MAKES_UP_CUSTOMERS),
        ("portal", ["contacts", "read"], Refusal.MAKES_UP_CUSTOMERS),
        ("feed", ["unlock"], Refusal.MAKES_UP_CUSTOMERS),
    ],
)
def test_no_system_makes_up_a_customer(superuser, agent, system, scopes, code):
    """Not by two tokens either, nor after the one was revoked."""
    make_token("portal", "requests", by=superuser)
    over, _ = make_token("feed", "pins", by=superuser)
    operations.revoke_api_token(over, by=acting(superuser))
    with refused(code):
        make_token(system, *scopes, by=superuser)


def test_a_token_counts_while_it_works(superuser):
    one, token = make_token("portal", "read", by=superuser, days=1)
    other, second = make_token("portal", "unlock", by=superuser)
    assert [by_token(text) for text in (token, second, token[:-1], token + "x", "", "ud_", "é")] == [
        "portal",
        "portal",
        *[None] * 5,
    ]
    with time_machine.travel(one.expires_at, tick=False):
        assert [by_token(token), by_token(second)] == [None, "portal"]
    operations.revoke_api_token(other, by=acting(superuser))
    assert [by_token(token), by_token(second)] == ["portal", None]
    assert recorded(kind="api_token_revoked") == [
        ("api_token_revoked", {"name": "Tests", "system_name": "portal"}),
    ]
    with refused(Refusal.ALREADY_RECORDED):
        operations.revoke_api_token(other, by=acting(superuser))
    system = one.system

    def deactivate():
        system.is_active = False
        system.save()

    operations.change_staff(system, deactivate, by=acting(superuser))
    assert by_token(token) is None


def test_its_last_use_is_kept_by_the_minute(superuser):
    made, token = make_token("portal", "read", by=superuser)
    start = timezone.now()
    for seconds, seen in ((0, 0), (59, 0), (60, 60), (3600, 3600)):
        with time_machine.travel(start + timedelta(seconds=seconds), tick=False):
            by_token(token)
            made.refresh_from_db()
            assert made.last_used_at == start + timedelta(seconds=seen)


def test_a_system_may_what_its_token_may(superuser):
    made, token = make_token("portal", "requests", "read", by=superuser)
    by = operations.system_of(token, GET)
    asked = ["unlocks.open_request", "unlocks.unlock_batch", "unlocks.verify_pin", "api.read", "auth.change_user"]
    assert [by.may(permission) for permission in asked] == [True, False, False, True, False]
    assert (by.name, by.user, by.ip, by.browser) == ("portal", made.system, "127.0.0.1", "curl/8")


def test_a_system_is_shown_no_link(superuser, agent, settings):
    settings.SHOW_CONSENT_LINK = True
    made, _ = make_token("portal", "requests", by=superuser)
    case = case_awaiting(agent)
    link = operations.send_consent_link(case.unlock_request, contact=case.admin, by=Actor.system(made))
    assert (link.sent_by, link.shown_to) == (made.system, None)


def test_the_same_key_makes_one_token(superuser, agent):
    key, count = uuid4(), ApiToken.objects.count()
    first, token = make_token("portal", "read", by=superuser, key=key)
    again, nothing = make_token("portal", "read", by=superuser, key=key)
    assert (again, bool(token), nothing, ApiToken.objects.count()) == (first, True, "", count + 1)
    with pytest.raises(PermissionDenied):
        make_token("other", "read", by=make_user("root", is_superuser=True), key=key)


def test_a_system_gets_no_password(superuser, monkeypatch):
    made, _ = make_token("portal", "read", by=superuser)
    with refused(Refusal.SYSTEM_SIGNS_IN):
        operations.set_password(made.system, "made-up-password-1", by=Actor.desk())
    monkeypatch.setattr("getpass.getpass", lambda prompt: "made-up-password-1")
    with pytest.raises(CommandError, match="is a system"):
        call_command("changepassword", "portal")


@pytest.mark.parametrize(
    ("columns", "finding"),
    [
        ({"scopes": "read unlock"}, "its column scopes differs from what ledger entry"),
        ({"token_hash": "f" * 64}, "its column token_hash differs from what ledger entry"),
        ({"expires_at": timezone.now() + timedelta(days=999)}, "its column expires_at differs from what ledger entry"),
        ({"revoked_at": None, "revoked_by": None}, "its column revoked_at differs from what ledger entry"),
    ],
)
def test_the_audit_names_a_token_that_was_tampered_with(superuser, columns, finding):
    made, _ = make_token("portal", "read", by=superuser)
    operations.revoke_api_token(made, by=acting(superuser))
    with guards.lifted():
        ApiToken.objects.filter(pk=made.pk).update(**columns)
    said = [sentence for _, sentence in [*rows.faults(), *present.faults()]]
    assert len(said) == 1
    assert finding in said[0]
    assert list(chain.faults()) == []
