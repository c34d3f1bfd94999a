"""How history and evidence are sealed; what a seal shows of tampering: test_tampering.py."""

import json
import threading
from datetime import timedelta

import pytest
import time_machine
from django.core.management import call_command
from django.db import connection, connections, transaction
from django.utils import timezone

from tests.attacks import sql
from tests.factories import case_unlocked, make_account, make_contact
from unlocks import history
from unlocks.actors import Actor
from unlocks.database import guards
from unlocks.database.guards import declared
from unlocks.digest import sha256
from unlocks.ledger import chain, events, seals
from unlocks.models import Account, Consent, LedgerEntry

pytestmark = pytest.mark.django_db
DESK = Actor.desk()


def written():
    return sum(model.objects.count() for model in seals.sealed_columns())


def tables():
    """What the newest seal covers."""
    return events.read(LedgerEntry.objects.filter(kind="sealed").latest("sequence")).tables


def tamper(statement, *params):
    connection.check_constraints()
    with guards.lifted():
        sql(statement, *params)


def found():
    return [sentence for _, sentence in seals.faults()]


def test_seals_what_was_written_since_the_last_seal(agent, capsys):
    case_unlocked(agent)
    first = written()
    assert seals.unsealed() == first

    call_command("seal_history")
    call_command("seal_history")
    make_account(admin=False)
    call_command("seal_history")

    assert capsys.readouterr().out == (
        f"Sealed {first} rows of history and evidence.\nNothing new to seal.\nSealed 1 row of history and evidence.\n"
    )
    assert LedgerEntry.objects.filter(kind="sealed").count() == 2
    assert (seals.unsealed(), found(), list(chain.faults())) == (0, [], [])


def test_everything_that_only_grows_is_sealed():
    """The ledger seals itself, and an act has no order of its own: it is sealed with its verdicts."""
    told = {model._meta.db_table for model in seals.sealed_columns()}
    links = {"unlocks_consentlink"}  # they change while they are used: what they were sent with is sealed
    assert told - links == declared.append_only_tables().keys() - {"unlocks_ledgerentry", "unlocks_act"}


def test_a_column_that_a_migration_added_breaks_no_older_seal_and_the_table_is_sealed_anew(agent):
    consent = case_unlocked(agent).consent
    columns = ["id", "text_sha256"]
    line = json.dumps([consent.pk, consent.text_sha256], separators=(",", ":")) + "\n"
    digest = sha256("unlock-desk seal/2\n" + line)
    told = {"after": 0, "columns": columns, "every": 1, "marks": digest[:8]}
    told |= {"rows": 1, "sha256": digest, "to": consent.pk}
    chain.append(events.Sealed(tables={"unlocks_consent": told}), by=DESK)
    first = chain.head()[0]
    assert found() == []

    seals.seal_history(by=DESK)

    assert tables()["unlocks_consent"]["after"] == 0
    assert tables()["unlocks_consent"]["columns"] == [field.attname for field in Consent._meta.concrete_fields]
    assert seals.seal_history(by=DESK) == 0
    tamper("UPDATE unlocks_consent SET signer_role = 'Other'")
    said = (
        "Evidence in unlocks_consent was altered, at row 1 or later: it is not what ledger entry {} sealed of rows 1 "
        "to {}."
    )
    assert found() == [said.format(first + 1, consent.pk)]
    tamper("UPDATE unlocks_consent SET text_sha256 = 'Other'")
    assert found() == [said.format(first, consent.pk), said.format(first + 1, consent.pk)]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"columns": ["id", "cut"]}, "The column cut of unlocks_consent, which ledger entry 1 sealed, is gone."),
        ({}, "The table unlocks_other, which ledger entry 1 sealed, is not there any more."),
    ],
)
def test_a_sealed_column_or_table_that_is_gone_is_named(change, says):
    told = {"after": 0, "to": 5, "rows": 5, "sha256": "", "every": 1, "marks": "", "columns": ["id"]} | change
    table = "unlocks_consent" if change else "unlocks_other"
    chain.append(events.Sealed(tables={table: told}), by=DESK)
    assert found() == [says]


def test_a_microsecond_counts():
    make_account(admin=False, pin="")
    seals.seal_history(by=DESK)
    row = Account.history.get()
    connection.check_constraints()
    with guards.lifted():
        Account.history.update(history_date=row.history_date + timedelta(microseconds=1))
    assert found() == [
        "History in unlocks_historicalaccount was altered, at row 1 or later: it is not what ledger entry 2 sealed of "
        f"rows 1 to {row.history_id}."
    ]


@pytest.mark.parametrize("rows", [1, 256, 257, 600])
def test_a_seal_narrows_down_where_rows_differ(rows):
    """To the row among 256; among more of them to where the last mark still fits."""
    account = make_account(admin=False, pin="")
    last = seals.seal_history(by=DESK) and Account.history.latest("history_id").history_id
    for number in range(rows):
        account.name = f"Name {number}"
        history.save(account, by=DESK)
    seals.seal_history(by=DESK)
    assert len(tables()["unlocks_historicalaccount"]["marks"]) <= 8 * 256

    tamper("UPDATE unlocks_historicalaccount SET name = 'Other' WHERE history_id = %s", last + rows)

    every = -(-rows // 256)
    at = last + (rows - 1) // every * every + 1
    assert found() == [
        f"History in unlocks_historicalaccount was altered, at row {at} or later: it is not what ledger entry 3 sealed "
        f"of rows {last + 1} to {last + rows}."
    ]


class TestWhileOthersWrite:
    """On connections of their own."""

    pytestmark = pytest.mark.django_db(transaction=True)

    @pytest.fixture
    def writes(self):
        """Start a transaction that does the first thing, and the second once it is told to go on."""
        threads, went_wrong = [], []

        def start(first, then=lambda: None):
            began, go_on = threading.Event(), threading.Event()

            def run():
                try:
                    with transaction.atomic():
                        first()
                        began.set()
                        go_on.wait(timeout=20)
                        then()
                except Exception as error:
                    went_wrong.append(error)
                finally:
                    connections.close_all()

            threads.append(threading.Thread(target=run))
            threads[-1].start()
            assert began.wait(timeout=20)
            return go_on

        def finish():
            for thread in threads:
                thread.join(timeout=30)
            assert went_wrong == []

        start.finish = finish
        return start

    @pytest.fixture
    def sealing(self):
        """Seal in a thread; `join` returns how many rows were sealed."""
        came = []

        def run():
            try:
                came.append(seals.seal_history(by=DESK))
            except Exception as error:
                came.append(error)
            finally:
                connections.close_all()

        thread = threading.Thread(target=run)
        thread.result = lambda: thread.join(timeout=30) or came[0]
        return thread

    def test_a_row_that_is_not_committed_yet_is_sealed_next_time(self, writes, sealing, capsys):
        """On PostgreSQL all of its table: a row with a lower id may be committed later than the last one."""
        make_account(admin=False)
        go_on = writes(lambda: make_account(admin=False))
        sealing.start()
        sealing.join(timeout=0.5)
        if connection.vendor == "sqlite":
            go_on.set()  # one writes at a time there

        assert sealing.result() == (0 if connection.vendor == "postgresql" else 1)
        go_on.set()
        writes.finish()
        before = seals.unsealed()
        assert (found(), before) == ([], 2 if connection.vendor == "postgresql" else 1)
        assert (seals.seal_history(by=DESK), found(), seals.unsealed()) == (before, [], 0)

    @pytest.mark.parametrize("first", ["ledger", "a later table"])
    def test_nobody_is_brought_into_a_deadlock(self, writes, sealing, first):
        """A verb that has appended to the ledger, or written a table that is sealed later, writes history then."""
        account = make_account(admin=False)
        firsts = {
            "ledger": lambda: chain.append(events.Note(text="First"), by=DESK),
            "a later table": lambda: make_contact(account=account),
        }
        go_on = writes(firsts[first], lambda: make_account(admin=False))
        sealing.start()
        sealing.join(timeout=0.5)
        go_on.set()

        assert sealing.result() in (0, 1, 2, 3)
        writes.finish()
        seals.seal_history(by=DESK)
        assert (found(), seals.unsealed()) == ([], 0)

    @pytest.mark.postgresql
    def test_a_table_that_is_being_written_is_left_to_the_next_run(self, writes, capsys):
        account = make_account(admin=False)
        make_contact(account=account)
        go_on = writes(lambda: history.save(Account(number="A-1", name="First"), by=DESK))
        call_command("seal_history")
        assert tables().keys() == {"unlocks_historicalcontact"}
        go_on.set()
        writes.finish()
        call_command("seal_history")
        assert tables().keys() == {"unlocks_historicalaccount"}
        assert capsys.readouterr().out == (
            "Sealed 1 row of history and evidence.\n"
            "Tables were being written. Left to the next run: 1 row.\n"
            "Sealed 2 rows of history and evidence.\n"
        )


def test_many_rows_that_no_seal_covers_are_not_counted(monkeypatch, superuser_client):
    make_account(admin=False)
    monkeypatch.setattr(seals, "COUNTED", 1)
    assert seals.in_words(seals.unsealed()) == "1 row"
    make_account(admin=False)
    make_account(admin=False)
    assert seals.in_words(seals.unsealed()) == "more than 1 rows"
    assert "more than 1 rows" in superuser_client.get("/desk/unlocks/worker/").content.decode()


def test_what_no_seal_covers_is_sealed_every_fifteen_minutes():
    assert seals.seal_when_due(by=DESK) == 0
    assert not LedgerEntry.objects.filter(kind="sealed").exists()
    make_account(admin=False)
    assert seals.seal_when_due(by=DESK) == 1
    make_account(admin=False)
    assert seals.seal_when_due(by=DESK) == 0
    with time_machine.travel(timezone.now() + timedelta(minutes=16)):
        assert seals.seal_when_due(by=DESK) == 1
        assert seals.seal_when_due(by=DESK) == 0
    assert LedgerEntry.objects.filter(kind="sealed").count() == 2
