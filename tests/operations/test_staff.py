"""Changes of staff accounts: each leaves one entry that tells what became different, and never a password."""

import pytest
from django.contrib.auth.models import Group, Permission
from django.core.exceptions import PermissionDenied

from tests.factories import acting, customer, make_account, make_user
from tests.operations import only_for, recorded
from unlocks import operations
from unlocks.actors import Actor
from unlocks.ledger import chain
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
    event = LedgerEntry.objects.get()
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
