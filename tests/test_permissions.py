"""Who may see and send what: every address and every verb, as every role, against the list of them."""

import logging
from copy import deepcopy
from io import StringIO

import pytest
from django.core.exceptions import PermissionDenied
from django.core.management import call_command
from django.db import transaction
from django.test import Client

from tests.factories import acting, make_token
from tests.walk import Scene
from unlocks import operations
from unlocks.admin import permissions
from unlocks.roles import SCOPES

ROLES = {
    "O": "",
    "P": "outsider",
    "C": "customer",
    "R": "reader",
    "N": "newcomer",
    "A": "agent",
    "M": "manager",
    "U": "auditor",
    "S": "superuser",
}
ADVICE = "Add what is new to unlocks/admin/permissions.py, or mend what lets the wrong ones in."


@pytest.fixture
def scene(db, settings, evidence_place):
    logging.disable(logging.CRITICAL)
    yield Scene(settings)
    logging.disable(logging.NOTSET)


def sent(browser, address, method, **headers):
    """Send a request, whose effect is rolled back, and return the answer."""
    around = transaction.atomic()
    around._from_testcase = True
    once = Client(raise_request_exception=False)
    once.handler, once.cookies = browser.handler, deepcopy(browser.cookies)
    with around:
        answer = once.generic(method, address, **headers)
        transaction.set_rollback(True)
    assert answer.status_code < 500, (method, address, answer.status_code)
    return answer


def lets_in(browser, address, method):
    """Say whether a page lets someone in. What leads to the form to sign in does not, nor a file that is no file."""
    answer = sent(browser, address, method)
    elsewhere = ["/desk/login/", "/staff/sign-in/", *(["/consent/"] if address.endswith(".csv") else [])]
    led_away = answer.status_code == 302 and answer["Location"].partition("?")[0] in elsewhere
    return not led_away and answer.status_code not in (401, 403, 404, 405)


def test_everything_is_listed():
    assert permissions.not_listed() == [], ADVICE


def test_what_is_not_listed_is_named(monkeypatch):
    monkeypatch.setattr(permissions, "addresses", lambda: [*permissions.PAGES, "desk/new/"])
    assert "desk/new/" in permissions.not_listed()


@pytest.mark.sqlite  # who may depends on no database
def test_each_page_lets_in_those_who_are_listed(scene):
    browsers = {letter: scene.browser(role) for letter, role in ROLES.items()}
    found = {}
    for pattern in permissions.PAGES:
        address, letters = scene.address(pattern), ROLES
        if pattern.startswith(("desk/", "staff/")):  # to which a customer is anyone
            letters = "OPNAMUS"
        see, send = (
            "".join(letter for letter in letters if lets_in(browsers[letter], address, method))
            for method in ("GET", "POST")
        )
        found[pattern] = (see, send)
    listed = permissions.PAGES.items()
    assert {pattern: (found[pattern], who) for pattern, who in listed if found[pattern] != who} == {}, ADVICE


@pytest.mark.sqlite  # who may depends on no database
def test_each_call_takes_the_scope_that_is_listed(scene):
    tokens = {scope: make_token(scope, scope, by=scene.users["superuser"])[1] for scope in SCOPES}
    found = {}
    for pattern in permissions.addresses():
        for method in ("GET", "POST", "PUT") if pattern.startswith("api/v1/") else ():
            address = scene.address(pattern)
            named = {"content_type": "application/json", "HTTP_AUTHORIZATION": ""}
            answers = {
                scope: sent(Client(), address, method, **named | {"HTTP_AUTHORIZATION": f"Bearer {token}"}).status_code
                for scope, token in tokens.items()
            }
            if "openapi" not in pattern and {404, 405}.isdisjoint(answers.values()):
                assert sent(Client(), address, method, **named).status_code == 401, (method, address)
            let_in = [str(scope) for scope, status in answers.items() if status not in (401, 403, 404, 405)]
            if let_in:
                found[f"{method} {pattern}"] = permissions.EVERY if len(let_in) == len(SCOPES) else " ".join(let_in)
    assert found == {call: scope for call, scope in permissions.CALLS.items() if scope != permissions.OWN}, ADVICE


def test_each_verb_is_for_the_roles_that_hold_its_permission(scene):
    for name, permission, roles, _ in permissions.verbs():
        held = "".join(letter for letter in "AMUS" if scene.users[ROLES[letter]].has_perm(permission))
        assert held == roles, name
        for letter in set("NAMUS") - set(roles):
            with pytest.raises(PermissionDenied):
                getattr(operations, name)(by=acting(scene.users[ROLES[letter]]))


def test_the_command_prints_all_of_it(db):
    out = StringIO()
    call_command("show_permissions", stdout=out)
    printed = " ".join(out.getvalue().split())
    assert "unlock Agent, Manager, Superuser; unlock" in printed
    assert "/desk/unlocks/ledgerentry/ Manager, Auditor, Superuser; Manager, Auditor, Superuser" in printed
    assert "POST api/v1/contacts contacts" in printed


@pytest.mark.parametrize(("role", "status"), [("agent", 403), ("manager", 200), ("auditor", 200), ("superuser", 200)])
def test_auditors_read_it_as_a_page(request, role, status):
    answer = request.getfixturevalue(f"{role}_client").get("/desk/permissions/")
    assert answer.status_code == status
    if status == 200:
        assert "<td>Unlock</td>" in answer.content.decode()
