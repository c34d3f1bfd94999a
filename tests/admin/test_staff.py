"""Staff accounts on the desk: what superusers change, what stands of it in the audit log, and who may."""

import re

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group, Permission
from django.test import Client

from tests import factories
from tests.operations import facts_of, recorded
from unlocks import operations
from unlocks.actors import Actor
from unlocks.database import guards
from unlocks.ledger import chain
from unlocks.models import LedgerEntry

STAFF = "/desk/auth/user/"
LOG = "/desk/unlocks/ledgerentry/"
OWN_PASSWORD = "/desk/password_change/"
FIRST, SECOND = "correct-horse-battery", "staple-of-another-kind"

pytestmark = pytest.mark.django_db


def entries():
    changes = LedgerEntry.objects.filter(kind="staff_changed").exclude(actor="Unlock Desk").order_by("sequence")
    return [(entry.actor, entry.ip, facts_of(entry)) for entry in changes]


def entry(user, **changed):
    return ("superuser", "127.0.0.1", {"fields": sorted(changed), "name": user.username, "changed": changed})


def page(user):
    return f"{STAFF}{user.pk}/change/"


def form(user, **changes):
    """What the page of an account sends back untouched, with changes."""
    ticked = {name: "on" for name in ("is_active", "is_staff", "is_superuser") if getattr(user, name)}
    typed = {"first_name": user.first_name, "last_name": user.last_name, "email": user.email}
    return typed | ticked | {"groups": [group.pk for group in user.groups.all()]} | changes


def group(name):
    return Group.objects.get(name=name).pk


@pytest.fixture
def dana():
    return factories.make_user("dana", group="Agent", password=FIRST)


def test_a_change_is_one_entry_of_the_audit_log(superuser_client, dana):
    changes = {"email": "dana@vendor.example", "is_superuser": "on", "groups": [group("Manager"), group("Auditor")]}
    response = superuser_client.post(page(dana), form(dana, **changes))
    assert (response.status_code, response.url) == (302, STAFF)
    dana.refresh_from_db()
    assert (dana.email, dana.is_superuser, {g.name for g in dana.groups.all()}) == (
        "dana@vendor.example",
        True,
        {"Manager", "Auditor"},
    )
    expected = entry(
        dana,
        email=["", "dana@vendor.example"],
        is_superuser=[False, True],
        groups=[["Agent"], ["Auditor", "Manager"]],
    )
    assert entries() == [expected]
    assert superuser_client.post(page(dana), form(dana, **changes)).status_code == 302
    assert entries() == [expected]
    assert list(chain.faults()) == []


def as_shown(user):
    """What the page of an account sends back of what it showed."""
    shown = {f"initial-{name}": str(getattr(user, name)) for name in ("first_name", "last_name", "email")}
    shown |= {f"initial-{name}": str(getattr(user, name)) for name in ("is_active", "is_staff", "is_superuser")}
    return shown | {"initial-groups": [group.pk for group in user.groups.all()]}


def test_an_older_page_gives_nobody_back_what_was_taken(superuser_client, dana):
    newcomer = factories.make_user("newcomer")
    old = {user: form(user) | as_shown(user) for user in (dana, newcomer)}
    taken = {name: value for name, value in old[dana].items() if name not in ("is_active", "groups")}
    superuser_client.post(page(dana), taken)
    superuser_client.post(page(newcomer), old[newcomer] | {"groups": [group("Agent")]})
    dana.refresh_from_db()
    dana.set_password("another one")
    dana.save()
    for user in (dana, newcomer):
        assert superuser_client.post(page(user), old[user] | {"last_name": "W."}).status_code == 302
        user.refresh_from_db()
    assert (dana.last_name, dana.is_active, list(dana.groups.all())) == ("W.", False, [])
    assert (newcomer.last_name, [g.name for g in newcomer.groups.all()]) == ("W.", ["Agent"])
    assert dana.check_password("another one")


def test_groups_that_somebody_else_changed_meanwhile_are_refused(superuser_client, dana):
    old = form(dana) | as_shown(dana)
    superuser_client.post(page(dana), old | {"groups": [group("Auditor")]})
    response = superuser_client.post(page(dana), old | {"groups": [group("Manager")], "is_superuser": "on"})
    dana.refresh_from_db()
    assert response.context["adminform"].form.errors == {
        "groups": ["superuser changed this to “Auditor” meanwhile. Save once more to put what is here in its place."]
    }
    assert ([g.name for g in dana.groups.all()], dana.is_superuser) == (["Auditor"], False)


def test_deactivating_somebody_is_told(superuser_client, dana):
    superuser_client.post(page(dana), form(dana, is_active="", last_name="Whitfield"))
    assert entries() == [entry(dana, last_name=["", "Whitfield"], is_active=[True, False])]


def test_whoever_deactivates_somebody_says_whom_the_open_requests_go_to(superuser_client, agent, dana):
    case = factories.open_case(dana).unlock_request
    asked = text(superuser_client, page(dana))
    assert "Their open requests go to" in asked
    assert "They have 1 open request." in asked
    response = superuser_client.post(page(dana), form(dana, is_active=""))
    assert response.context["adminform"].form.errors == {
        "cases_to": ["Choose who goes on with their open requests, or nobody."]
    }
    assert "Choose who goes on with their open requests, or nobody." in response.content.decode()
    assert entries() == []
    assert superuser_client.post(page(dana), form(dana, last_name="W.")).status_code == 302
    assert superuser_client.post(page(dana), form(dana, is_active="", cases_to=dana.pk)).status_code == 200
    assert superuser_client.post(page(dana), form(dana, is_active="", cases_to=agent.pk)).status_code == 302
    case.refresh_from_db()
    assert (case.assignee, [kind for kind, _ in recorded(case)][-1]) == (agent, "assigned")
    assert "Their open requests go to" not in text(superuser_client, page(dana))


def test_saving_without_a_change_leaves_no_entry(superuser_client, dana):
    dana.last_login = "2026-11-23T12:00:00Z"
    dana.save()
    assert superuser_client.post(page(dana), form(dana)).status_code == 302
    assert superuser_client.post(page(dana), form(dana, email="no address")).status_code == 200
    assert entries() == []


def test_signing_in_is_no_change(dana):
    assert Client().post("/staff/sign-in/", {"login": "dana", "password": FIRST, "next": "/desk/"}).status_code == 302
    dana.refresh_from_db()
    assert dana.last_login
    assert entries() == []


def test_a_new_account_is_one_entry(superuser_client):
    typed = {
        "username": "newcomer",
        "email": "Newcomer@vendor.example",
        "password1": FIRST,
        "groups": [group("Agent")],
    }
    page = superuser_client.get(f"{STAFF}add/").content.decode()
    assert not {"is_staff", "password", "password1"} & set(re.findall(r'name="([^"]*)"', page))
    assert superuser_client.post(f"{STAFF}add/", typed).status_code == 302
    user = get_user_model().objects.get(username="newcomer")
    assert not user.has_usable_password()
    expected = entry(
        user,
        username=[None, "newcomer"],
        first_name=[None, ""],
        last_name=[None, ""],
        email=[None, "newcomer@vendor.example"],
        is_active=[None, True],
        is_staff=[None, True],
        is_superuser=[None, False],
        groups=[None, ["Agent"]],
        permissions=[None, []],
        password="disabled",
    )
    assert entries() == [expected]
    again = superuser_client.post(f"{STAFF}add/", typed)
    assert (again.status_code, entries()) == (200, [expected])


@pytest.mark.parametrize("username", ["\u3164", "dana\uffa0"])
def test_a_username_can_be_seen(superuser_client, username):
    typed = {"username": username, "email": "x@vendor.example"}
    response = superuser_client.post(f"{STAFF}add/", typed)
    assert list(response.context["errors"]) == [
        ["This holds characters that can't be seen. Type it instead of pasting it."]
    ]


def test_nobody_sets_the_password_of_a_colleague(superuser_client, dana):
    address, before = f"{STAFF}{dana.pk}/password/", dana.password
    typed = {"usable_password": "true", "password1": SECOND, "password2": SECOND, "set-password": "Change password"}
    assert superuser_client.post(address, typed).status_code == 400
    for verb in ("", "nothing"):
        assert superuser_client.post(address, typed | {"verb": verb}).status_code == 400
    superuser_client.post(page(dana), form(dana, password=SECOND, usable_password="true", password1=SECOND))
    dana.refresh_from_db()
    assert (dana.password, entries()) == (before, [])
    assert before not in superuser_client.get(page(dana)).content.decode()


def test_ones_own_password_is_told(client, dana):
    client.force_login(dana)
    typed = {"old_password": FIRST, "new_password1": SECOND, "new_password2": SECOND}
    assert client.post(OWN_PASSWORD, typed | {"old_password": "wrong"}).status_code == 200
    assert entries() == []
    assert client.post(OWN_PASSWORD, typed).status_code == 302
    facts = {"fields": ["password"], "name": "dana", "changed": {"password": "set"}}
    expected = [("dana", "127.0.0.1", facts)]
    assert entries() == expected
    assert client.post(OWN_PASSWORD, typed).status_code == 200  # the old one is the new one now
    assert entries() == expected
    assert client.get("/desk/").status_code == 200
    assert client.get(OWN_PASSWORD).status_code == 200


def test_a_user_name_stays_and_the_page_says_why(superuser_client, dana):
    shown = superuser_client.get(page(dana)).content.decode()
    assert 'name="username"' not in shown
    assert "consents, certificates and the audit log name people by it" in shown
    superuser_client.post(page(dana), form(dana, username="agent"))
    dana.refresh_from_db()
    assert (dana.username, entries()) == ("dana", [])
    assert 'name="username"' in superuser_client.get(f"{STAFF}add/").content.decode()


@pytest.mark.parametrize("role", ["agent", "manager", "auditor"])
def test_others_change_no_account(request, role, dana):
    client = request.getfixturevalue(f"{role}_client")
    before = list(get_user_model().objects.order_by("pk").values())
    typed = {"usable_password": "true", "password1": SECOND, "password2": SECOND}
    answers = [
        client.post(page(dana), form(dana, is_superuser="on")).status_code,
        client.post(f"{STAFF}{dana.pk}/password/", typed).status_code,
        client.post(f"{STAFF}999999/password/", typed).status_code,
        client.post(f"{STAFF}add/", typed | {"username": "newcomer"}).status_code,
    ]
    assert answers == [403] * 4
    assert list(get_user_model().objects.order_by("pk").values()) == before
    assert entries() == []


def test_who_may_change_users_in_djangos_way_may(agent, agent_client, dana):
    agent.user_permissions.add(*Permission.objects.filter(codename__in=["view_user", "change_user"]))
    assert agent_client.post(page(dana), form(dana, first_name="Dana")).status_code == 302
    facts = {"fields": sorted({"first_name": ["", "Dana"]}), "name": "dana", "changed": {"first_name": ["", "Dana"]}}
    assert entries() == [("agent", "127.0.0.1", facts)]


# As the audit log shows it


def text(client, address):
    response = client.get(address)
    assert response.status_code == 200
    return " ".join(response.content.decode().split())


def unusable(user):
    user.set_unusable_password()
    user.save(update_fields=["password"])


def test_the_audit_log_says_who_it_is_about_and_what_changed(superuser_client, auditor_client, dana):
    superuser_client.post(page(dana), form(dana, email="<b>dana</b>@vendor.example"))
    assert entries() == []
    superuser_client.post(page(dana), form(dana, email="dana@vendor.example", is_superuser="on", groups=[]))
    operations.change_own_password(lambda: unusable(dana), by=Actor.staff(dana))
    log = text(auditor_client, LOG)
    assert log.count('<span class="tag wait">Staff account changed</span>') == 5
    second, first, *made = LedgerEntry.objects.all()
    assert [entry.actor for entry in made] == ["Unlock Desk"] * 3
    shown = text(auditor_client, f"{LOG}{first.pk}/change/")
    assert (
        "<dt>What</dt><dd>Staff account changed: dana (email: none became dana@vendor.example; "
        "groups: Agent became none; superuser: no became yes)</dd>"
    ) in shown
    assert "Staff account changed: dana (password disabled)" in text(auditor_client, f"{LOG}{second.pk}/change/")
    assert {event.pk for event in auditor_client.get(f"{LOG}?kind=staff_changed").context["cl"].result_list} == {
        first.pk,
        second.pk,
        *(entry.pk for entry in made),
    }


@pytest.mark.parametrize(("groups", "said"), [(["Agent"], "dana2 was added (Agent)"), ([], "added (no group yet)")])
def test_a_new_account_reads_as_one(superuser_client, groups, said):
    typed = {"username": "dana2", "email": "dana2@vendor.example", "groups": [group(name) for name in groups]}
    assert superuser_client.post(f"{STAFF}add/", typed).status_code == 302
    entry = LedgerEntry.objects.filter(kind="staff_changed").latest("sequence")
    assert said in text(superuser_client, f"{LOG}{entry.pk}/change/")


@pytest.mark.parametrize(
    "facts", ["no JSON", "[]", "{}", '{"facts": []}', '{"facts": {"fields": [], "name": "x", "changed": 1}}']
)
def test_entries_that_were_tampered_with_break_no_page(superuser_client, manager, dana, facts):
    superuser_client.post(page(dana), form(dana, email="dana@vendor.example"))
    event = LedgerEntry.objects.latest("sequence")
    for kind in ("staff_changed", "terms_published"):
        with guards.lifted():
            LedgerEntry.objects.update(kind=kind, facts=facts)
        assert text(superuser_client, LOG)
        assert text(superuser_client, f"{LOG}{event.pk}/change/")


@pytest.mark.parametrize(
    ("username", "says"),
    [
        ("DANA", "This username is taken, or reads like dana, which is."),
        ("billing1", "This username is taken, or reads like billingl, which is."),
        ("d\u0430na", "Use letters from a to z, digits and @ . + - _ only: others can look like these."),
    ],
)
def test_no_username_reads_like_another(superuser_client, dana, username, says):
    factories.make_user("billingl")
    response = superuser_client.post(f"{STAFF}add/", {"username": username, "email": "x@vendor.example"})
    assert response.context["adminform"].form.errors == {"username": [says]}


@pytest.mark.parametrize("taken", ["is_active", "is_superuser"])
def test_the_last_superuser_stays_one(superuser, superuser_client, dana, taken):
    says = "superuser is the last superuser who can sign in. Make another colleague a superuser first."
    response = superuser_client.post(page(superuser), form(superuser, **{taken: ""}))
    assert response.context["adminform"].form.errors == {taken: [says]}
    assert entries() == []
    superuser_client.post(page(dana), form(dana, is_superuser="on"))
    superuser_client.post(page(superuser), form(superuser, **{taken: ""}))
    superuser.refresh_from_db()
    assert not getattr(superuser, taken)


def test_one_who_was_made_otherwise_can_be_made_a_colleague(superuser_client, dana):
    assert 'name="is_staff"' not in text(superuser_client, page(dana))
    get_user_model().objects.filter(pk=dana.pk).update(is_staff=False)
    assert 'name="is_staff"' in text(superuser_client, page(dana))
    superuser_client.post(page(dana), form(dana) | {"is_staff": "on"})
    dana.refresh_from_db()
    assert dana.is_staff
