"""A real backup, put back after the desk had gone on working: only an anchor shows it."""

import sqlite3
from contextlib import contextmanager

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from tests import factories
from tests.factories import acting, case_unlocked
from unlocks import operations
from unlocks.actors import Actor
from unlocks.ledger import anchors, chain, seals
from unlocks.management.commands import verify_audit

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def backup(tmp_path):
    """Make a backup by the database's own means, and return what opens it in place of the database."""
    original, dropped = connection.settings_dict["NAME"], []

    def make():
        if connection.vendor == "sqlite":
            copy = str(tmp_path / "test_backup.sqlite3")
            target = sqlite3.connect(copy)
            connection.connection.backup(target)
            target.close()
            return copy
        copy = f"{original}_backup"
        connection.close()
        with connection._nodb_cursor() as cursor:
            cursor.execute(f'CREATE DATABASE "{copy}" TEMPLATE "{original}"')
        dropped.append(copy)
        return copy

    @contextmanager
    def in_place(name):
        connection.close()
        connection.settings_dict["NAME"] = name
        try:
            yield
        finally:
            connection.close()
            connection.settings_dict["NAME"] = original

    make.in_place = in_place
    yield make
    for copy in dropped:
        with connection._nodb_cursor() as cursor:
            cursor.execute(f'DROP DATABASE "{copy}"')


def audit(*files):
    try:
        call_command("verify_audit", anchor=files)
    except CommandError as error:
        *found, advice = str(error).split("\n")
        assert advice == verify_audit.NEXT
        return found
    return []


def test_an_older_backup_put_back_shows_against_the_newer_anchor(agent, manager, backup, tmp_path):
    case = case_unlocked(agent)
    seals.seal_history(by=Actor.desk())
    old, ends = anchors.now(timezone.now()), chain.head()[0]
    made = backup()
    factories.relock(case.rows, why="Not used", by=acting(manager))
    seals.seal_history(by=Actor.desk())
    new, file = anchors.now(timezone.now()), tmp_path / "anchors.txt"
    file.write_text(f"{old}\n{new}\n")
    assert audit(file) == []

    with backup.in_place(made):
        assert chain.head()[0] == ends
        assert audit() == []
        assert audit(file) == [
            f"Ledger entry {new.sequence}, which is the anchor{new.of_when}, is gone: the ledger ends with entry "
            f"{ends}. Its tail was cut, or an older database was put in its place."
        ]
        # The desk goes on working in it, past the anchor.
        for _ in range(new.sequence - ends + 1):
            operations.add_note(case.unlock_request, text="As if nothing had happened", by=acting(agent))
        assert audit() == []
        assert audit(file) == [
            f"Ledger entry {new.sequence} is not the one of the anchor{new.of_when}: the ledger was rewritten after "
            f"entry {ends}, where the anchor{old.of_when} still fits."
        ]

    assert audit(file) == []
