"""Changes of staff accounts: each leaves one entry that tells what became different, and never a password."""

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.core.exceptions import PermissionDenied
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tests.factories import acting, customer, kept_stages, make_account, make_user, open_case
from tests.operations import facts_of, only_for, recorded, refused
from unlocks import operations, stages
from unlocks.actors import Actor
from unlocks.ledger import chain, present, verify
from unlocks.models import LedgerEntry

pytestmark = pytest.mark.django_db


def changing(user, **fields):
    def write():
        for name, value in fields.items():
            setattr(user, name, value)
        user.save()
        return "written"

    return write


def entry(user, **changed):
    return ("staff_changed", {"fields": sorted(changed), "name": user.username, "changed": changed})


@pytest.mark.parametrize(
    ("field", "old", "new"),
    [
        ("first_name", "", "Dana"),
        ("last_name", "", "Whitfield"),
        ("email", "", "dana@vendor.example"),
        ("is_active", True, False),
        ("is_staff", True, False),
        ("is_superuser", False, True),
    ],
)
def test_a_change_is_told_with_what_was_there_before(superuser, agent, field, old, new):
    assert operations.change_staff(agent, changing(agent, **{field: new}), by=acting(superuser)) == "written"
    agent.refresh_from_db()
    assert getattr(agent, field) == new
    assert recorded() == [entry(agent, **{field: [old, new]})]
    event = LedgerEntry.objects.latest("sequence")
    assert (event.user, event.actor, event.about, event.about_id) == (superuser, "superuser", "user", agent.pk)
    assert list(chain.faults()) == []


def test_groups_and_permissions_are_told_by_name(superuser, agent):
    def write():
        agent.groups.set(Group.objects.filter(name__in=["Manager", "Auditor"]))
        agent.user_permissions.add(Permission.objects.get(codename="view_ledgerentry"))

    operations.change_staff(agent, write, by=acting(superuser))
    assert recorded() == [
        entry(agent, groups=[["Agent"], ["Auditor", "Manager"]], permissions=[[], ["unlocks.view_ledgerentry"]])
    ]


def test_a_new_account_is_told_whole(superuser):
    user = type(superuser)(username="newcomer", is_staff=True)

    def write():
        user.set_password("a-first-password")
        user.save()
        user.groups.add(Group.objects.get(name="Agent"))

    operations.change_staff(user, write, by=acting(superuser))
    assert recorded() == [
        entry(
            user,
            username=[None, "newcomer"],
            first_name=[None, ""],
            last_name=[None, ""],
            email=[None, ""],
            is_active=[None, True],
            is_staff=[None, True],
            is_superuser=[None, False],
            groups=[None, ["Agent"]],
            permissions=[None, []],
            password="set",
        )
    ]


def test_a_password_is_told_to_be_set_or_disabled_and_nothing_more(superuser):
    user = make_user("dana", password="before")

    def give(password):
        def write():
            user.set_password(password)
            user.save()

        operations.change_staff(user, write, by=acting(superuser))

    give("after")
    give(None)
    give(None)  # is none any more: no change
    assert recorded() == [entry(user, password="set"), entry(user, password="disabled")]
    bodies = " ".join(entry.facts + entry.personal for entry in LedgerEntry.objects.all())
    assert "pbkdf2" not in bodies
    assert "after" not in bodies
    assert user.password not in bodies


def test_no_change_leaves_no_entry(superuser, agent):
    operations.change_staff(agent, agent.save, by=acting(superuser))
    operations.change_staff(agent, changing(agent, last_login="2026-11-23T12:00:00Z"), by=acting(superuser))
    assert recorded() == []


def test_what_was_written_and_its_entry_stand_or_fall_together(superuser, agent, settings):
    def write():
        changing(agent, email="dana@vendor.example")()
        raise RuntimeError

    with pytest.raises(RuntimeError):
        operations.change_staff(agent, write, by=acting(superuser))
    agent.refresh_from_db()
    assert (agent.email, recorded()) == ("", [])
    settings.LEDGER_KEY = None  # nothing can be sealed
    with pytest.raises(AttributeError):
        operations.change_staff(agent, changing(agent, email="dana@vendor.example"), by=acting(superuser))
    agent.refresh_from_db()
    assert (agent.email, recorded()) == ("", [])


def test_who_may_change_users_changes_staff(agent):
    other = make_user("other")
    only_for([], lambda by: operations.change_staff(other, changing(other, email=f"{by.name}@x.example"), by=by))
    assert recorded() == []
    agent.user_permissions.add(Permission.objects.get(codename="change_user"))
    agent = type(agent).objects.get(pk=agent.pk)
    operations.change_staff(other, changing(other, email="other@x.example"), by=acting(agent))
    assert recorded() == [entry(other, email=["", "other@x.example"])]


def test_everybody_of_staff_sets_their_own_password(agent):
    def write():
        agent.set_password("another-one")
        agent.save()

    operations.change_own_password(write, by=acting(agent))
    assert recorded() == [entry(agent, password="set")]
    for by in (Actor.desk(), customer(make_account().contacts.get())):
        with pytest.raises(PermissionDenied):
            operations.change_own_password(write, by=by)


# What was done past the desk

ALL = ["is_active", "is_staff", "is_superuser", "groups", "permissions", "password"]


def made_in_a_shell(username="shell", **fields):
    return User.objects.create(username=username, **{"is_staff": True} | fields)


def untold(username="shell"):
    """Return what the audit says that no entry tells of a user; it says nothing else."""
    said = f"User {username} (id {User.objects.get(username=username).pk}): no ledger entry tells of "
    rest = (
        ", which say who signs in and what they may do. If you know who made it so, record it with "
        f"“manage.py record_staff {username}”."
    )
    found = verify.findings()
    assert [(one.startswith(said), one.endswith(rest)) for one in found] == [(True, True)] * len(found)
    return [column for one in found for column in one.removeprefix(said).removesuffix(rest).split(", ")]


@pytest.mark.parametrize(
    ("fields", "group", "permission", "names"),
    [
        ({"is_superuser": True}, None, None, ALL),
        ({"is_superuser": True, "is_staff": False, "is_active": False}, None, None, ALL),
        ({}, "Auditor", None, ALL),
        ({"is_active": False}, "Auditor", None, ALL),
        ({}, None, "view_batch", ALL),
        ({}, None, None, []),
        ({"is_staff": False}, "Auditor", "view_batch", []),
    ],
)
def test_whoever_may_do_anything_and_is_not_told_is_named(fields, group, permission, names):
    user = made_in_a_shell(**fields)
    user.groups.set(Group.objects.filter(name=group))
    user.user_permissions.set(Permission.objects.filter(codename=permission))
    assert untold() == names


def test_an_entry_that_tells_of_something_else_does_not_tell_of_rights(superuser):
    user, by = made_in_a_shell(), acting(superuser)
    operations.change_staff(user, changing(user, email="shell@vendor.example"), by=by)
    assert untold() == []
    User.objects.filter(pk=user.pk).update(is_superuser=True)
    user.refresh_from_db()
    assert untold() == ALL
    operations.change_staff(user, changing(user, is_active=False), by=by)
    assert untold() == ["is_staff", "is_superuser", "groups", "permissions", "password"]
    operations.change_staff(user, lambda: user.groups.add(Group.objects.get(name="Agent")), by=by)
    assert untold() == ["is_staff", "is_superuser", "permissions", "password"]
    assert operations.record_staff(user, by=Actor.desk()) == [
        "first_name",
        "is_staff",
        "is_superuser",
        "last_name",
        "password",
        "permissions",
        "username",
    ]
    assert untold() == []
    assert operations.record_staff(user, by=Actor.desk()) == []


def test_what_a_shell_made_of_a_told_account_is_recorded_as_a_change(agent):
    User.objects.filter(pk=agent.pk).update(is_superuser=True)
    assert operations.record_staff(agent, by=Actor.desk()) == ["is_superuser"]
    newest = LedgerEntry.objects.latest("sequence")
    assert (newest.actor, newest.user, newest.kind, facts_of(newest)) == (
        "Unlock Desk",
        None,
        *entry(agent, is_superuser=[False, True]),
    )
    assert verify.findings() == []


def test_a_hundred_users_take_as_many_queries_as_three():
    def check():
        with CaptureQueriesContext(connection) as queries:
            assert list(present.faults()) == []
        return len(queries)

    groups = ["Agent", "Manager", None]
    for n in range(3):
        make_user(f"user-{n}", group=groups[n])
    few = check()
    for n in range(3, 100):
        make_user(f"user-{n}", group=groups[n % 3])
    assert check() == few


# Whom the open cases of whoever is deactivated go to


@pytest.fixture
def cases(agent):
    """Make two open cases of the agent, and a closed one."""
    made = [open_case(agent).unlock_request for _ in range(3)]
    operations.close_request(made.pop(), resolution="canceled", why="Asked", by=acting(agent))
    return made


@pytest.mark.parametrize("to", ["second_agent", None])
def test_the_open_cases_of_a_colleague_go_to_another_or_to_nobody(request, superuser, agent, cases, to):
    to = to and request.getfixturevalue(to)
    before = LedgerEntry.objects.count()
    by = acting(superuser)
    written = operations.deactivate(agent, changing(agent, is_active=False), cases_to=to, by=by)
    assert (written, agent.is_active) == ("written", False)
    kept = [(pk, "new", None, "" if to else "nobodys") for pk in (case.pk for case in cases)]
    assert [row for row in kept_stages() if row[1]] == kept
    for case in cases:
        case.refresh_from_db()
        past = case.history.first()
        assert (case.assignee, past.assignee, past.history_change_reason) == (to, to, "Handed over")
    told = {"to": to and to.pk, "name": to.username if to else ""}
    entries = LedgerEntry.objects.order_by("sequence")[before:]
    assert [(entry.kind, entry.unlock_request, facts_of(entry)) for entry in entries] == [
        ("staff_changed", None, entry_facts(agent, is_active=[True, False])),
        *(("assigned", case, told) for case in cases),
    ]
    assert len({entry.act for entry in entries}) == 1
    assert chain.event_of(entries[1]).rest == f" to {to.username if to else 'nobody'}"
    assert verify.findings() == []


def entry_facts(user, **changed):
    return entry(user, **changed)[1]


def test_cases_go_to_nobody_who_can_not_work_on_them(superuser, auditor, agent, cases):
    with refused("not_an_agent"):
        operations.deactivate(agent, changing(agent, is_active=False), cases_to=auditor, by=acting(superuser))
    with refused("not_an_agent"):
        operations.deactivate(agent, changing(agent, is_active=False), cases_to=agent, by=acting(superuser))


def test_cases_that_stay_with_someone_deactivated_are_shown_so(superuser, agent, cases):
    def troubles():
        return {row[3] for row in kept_stages() if row[1]}

    operations.change_staff(agent, changing(agent, is_active=False), by=acting(superuser))
    assert troubles() == {"gone"}
    operations.change_staff(agent, changing(agent, is_active=True), by=acting(superuser))
    assert troubles() == {""}
    # In a shell, where no verb is called: the worker finds it.
    type(agent).objects.filter(pk=agent.pk).update(is_active=False)
    stages.repair(at=timezone.now())
    assert troubles() == {"gone"}
    assert operations.deactivate(agent, changing(agent), cases_to=superuser, by=acting(superuser)) == "written"
    assert troubles() == {""}


def test_handing_over_costs_as_many_statements_for_many_cases(superuser, agent, second_agent, manager):
    def statements(user):
        to = type(user).objects.get(pk=manager.pk)
        with CaptureQueriesContext(connection) as queries:
            operations.deactivate(user, changing(user, is_active=False), cases_to=to, by=acting(superuser))
        return len([query for query in queries if "ledgerentry" not in query["sql"]])

    open_case(agent)
    for _ in range(5):
        open_case(second_agent)
    one = statements(agent)
    assert statements(second_agent) == one
