"""The commands about staff accounts: the ledger tells what each did, or it did nothing."""

import getpass
from io import StringIO

import pytest
from django.contrib.auth.models import Group, User
from django.core.management import CommandError, call_command

from tests.attacks import snapshot
from tests.factories import make_user
from tests.operations import facts_of
from unlocks.ledger import verify
from unlocks.models import LedgerEntry

pytestmark = pytest.mark.django_db
PASSWORD = "correct-horse-battery"


class Terminal(StringIO):
    def isatty(self):
        return True


@pytest.fixture
def typing(monkeypatch):
    """Let a test type lines and passwords at the terminal."""

    def typed(lines=(), passwords=()):
        lines, passwords = iter(lines), iter(passwords)
        monkeypatch.setattr("builtins.input", lambda prompt="": next(lines))
        monkeypatch.setattr(getpass, "getpass", lambda prompt="": next(passwords))

    return typed


def newest():
    entry = LedgerEntry.objects.latest("sequence")
    return entry.kind, entry.actor, entry.user, facts_of(entry)


def told_whole(username):
    changed = {
        "username": [None, username],
        "first_name": [None, ""],
        "last_name": [None, ""],
        "email": [None, "root@vendor.example"],
        "is_active": [None, True],
        "is_staff": [None, True],
        "is_superuser": [None, True],
        "groups": [None, []],
        "permissions": [None, []],
        "password": "set",
    }
    facts = {"fields": sorted(changed), "name": username, "changed": changed}
    return "staff_changed", "Unlock Desk", None, facts


def test_a_superuser_made_at_the_terminal_is_told(typing, capsys):
    make_user("taken")
    typing(["taken", "root", "root@vendor.example"], [PASSWORD, "typed wrong", PASSWORD, PASSWORD])
    call_command("createsuperuser", stdin=Terminal())
    said = capsys.readouterr()
    assert "already taken" in said.err
    assert "didn't match" in said.err
    assert said.out == "Superuser created successfully.\n"
    assert User.objects.get(username="root").check_password(PASSWORD)
    assert newest() == told_whole("root")
    assert verify.findings() == []


def test_a_superuser_made_without_asking_is_told(monkeypatch):
    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", PASSWORD)
    call_command("createsuperuser", interactive=False, username="root", email="root@vendor.example")
    assert User.objects.get(username="root").check_password(PASSWORD)
    assert newest() == told_whole("root")
    assert verify.findings() == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"username": "taken", "email": "a@vendor.example"}, "Error: That username is already taken."),
        ({"username": "root"}, "You must use --email with --noinput."),
        ({"username": "root", "email": "no address"}, "Enter a valid email address."),
        ({"email": "a@vendor.example"}, "You must use --username with --noinput."),
    ],
)
def test_no_superuser_is_made_of_what_does_not_fit(options, said):
    make_user("taken")
    before = snapshot()
    with pytest.raises(CommandError) as caught:
        call_command("createsuperuser", interactive=False, **options)
    assert (str(caught.value), snapshot()) == (said, before)


def test_the_account_and_its_entry_stand_or_fall_together(settings, typing):
    user = make_user("dana", password=PASSWORD)
    before, settings.LEDGER_KEY = snapshot(), "another key"
    typing(passwords=["staple-of-another-kind"] * 2)
    for called, said in (
        (["createsuperuser", "--noinput", "--username=root", "--email=a@vendor.example"], "No superuser was created. "),
        (["changepassword", "dana"], "The password was not changed. "),
    ):
        with pytest.raises(CommandError) as caught:
            call_command(*called)
        assert str(caught.value).startswith(f"{said}Ledger entry 1, the newest, does not fit LEDGER_KEY.")
    User.objects.filter(pk=user.pk).update(email="dana@vendor.example")
    with pytest.raises(CommandError, match="Nothing was recorded"):
        call_command("record_staff", "dana")
    User.objects.filter(pk=user.pk).update(email="")
    assert snapshot() == before


def test_a_password_set_at_the_terminal_is_told_without_it(typing, capsys):
    make_user("dana", group="Agent")
    typing(passwords=[PASSWORD, PASSWORD])
    call_command("changepassword", "dana")
    assert capsys.readouterr().out == "The password of dana was changed.\n"
    assert User.objects.get(username="dana").check_password(PASSWORD)
    facts = {"fields": ["password"], "name": "dana", "changed": {"password": "set"}}
    assert newest() == ("staff_changed", "Unlock Desk", None, facts)
    assert verify.findings() == []


@pytest.mark.parametrize(
    ("username", "passwords", "said"),
    [
        ("nobody", [], "The password was not changed. There is no user nobody."),
        ("dana", [PASSWORD, "another"], "The password was not changed. The two are not the same."),
        ("dana", ["48291537465", "48291537465"], "This password is too short."),
        ("dana", [""], "aborted"),
    ],
)
def test_a_password_that_does_not_fit_changes_nothing(typing, username, passwords, said):
    make_user("dana")
    typing(passwords=passwords)
    before = snapshot()
    with pytest.raises(CommandError) as caught:
        call_command("changepassword", username)
    assert said in str(caught.value)
    assert snapshot() == before


def test_who_was_made_in_a_shell_is_recorded_once(capsys):
    user = User.objects.create_superuser("root", "root@vendor.example", PASSWORD)
    assert "record_staff root" in verify.findings()[0]
    call_command("record_staff", "root")
    call_command("record_staff", "root")
    assert capsys.readouterr().out == (
        "Recorded of root: email, first_name, groups, is_active, is_staff, is_superuser, last_name, password, "
        "permissions, username.\n"
        "The ledger tells all of root already. Nothing was recorded.\n"
    )
    assert newest() == told_whole("root")
    user.groups.add(Group.objects.get(name="Agent"))
    call_command("record_staff", "root")
    facts = {"fields": ["groups"], "name": "root", "changed": {"groups": [[], ["Agent"]]}}
    assert newest() == ("staff_changed", "Unlock Desk", None, facts)
    assert (LedgerEntry.objects.count(), verify.findings()) == (2, [])
    with pytest.raises(CommandError, match="there is no user nobody"):
        call_command("record_staff", "nobody")
