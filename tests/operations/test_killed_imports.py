"""An import whose process dies is finished by the worker: nothing is lost, nothing comes twice, the audit holds."""

import os
from datetime import timedelta
from functools import partial
from types import SimpleNamespace

import pytest
import time_machine
from django.db import connection
from django.utils import timezone

from tests.factories import acting
from tests.importing import lose_what_is_staged, on_file, staged
from tests.operations import refused
from tests.outbox.processes import DYING, gone, started
from tests.test_concurrency import at_once
from unlocks import operations
from unlocks.imports.kinds import KINDS
from unlocks.imports.staging import STAGED, Records
from unlocks.ledger import verify
from unlocks.models import Batch, BatchItem, Import, LedgerEntry, StagedAccount, StagedBatch
from unlocks.operations import imports
from unlocks.rules import Refusal

pytestmark = pytest.mark.django_db(transaction=True)

ROWS = {
    "accounts": "\n".join(f"A-{n},Account {n},,,," for n in range(3)),
    "contacts": "\n".join(f"A-{n},Admin,admin{n}@customer.example,,yes," for n in range(3)),
    "batches": "\n".join(f"A-{n % 3},B-{n},,bypassed,,,5/2/2026,,,2,30,," for n in range(5)),
    "items": "\n".join(f"A-{n % 3},B-{n},invoice,I-{place},5/1/2026,,15,,,,," for n in range(5) for place in range(2)),
}
NOBODY = SimpleNamespace(server_address=("127.0.0.1", 9))  # no email waits


class Killed(BaseException):
    pass


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(imports, "PART", 2)


def dying_before(step):
    """Wrap statements so that the one of this number is not run any more; it counts them."""

    def wrap(execute, sql, *rest):
        wrap.taken += 1
        if wrap.taken == step:
            raise Killed
        return execute(sql, *rest)

    wrap.taken = 0
    return wrap


def lease_is_over():
    Import.objects.exclude(leased_until=None).update(leased_until=timezone.now() - timedelta(seconds=1))


def go_on(imported, manager):
    if imported.state == "ready":
        operations.import_records(imported, by=acting(manager))
    lease_is_over()
    while operations.finish_imports():
        pass


def finished(imported):
    """Have the worker finish it, and return it with what is on file then."""
    lease_is_over()
    while operations.finish_imports():
        pass
    imported.refresh_from_db()
    assert not StagedBatch.objects.exists()
    return imported.state, imported.counts, on_file()


def test_killed_before_some_step_of_all(manager):
    whole = operations.import_records(staged(manager, judge=False, **ROWS), by=acting(manager))
    assert whole.parts == 7
    changed = ROWS | {
        "batches": ROWS["batches"].replace(",30,,", ",31,,"),
        "items": ROWS["items"].replace("I-1,5/1/2026,,15", "I-2,5/1/2026,,16"),
    }
    imported = staged(manager, judge=False, **changed)
    killed = 0
    for step in (9, 25, 33, 14, 41, 28, 19):
        try:
            with connection.execute_wrapper(dying_before(step)):
                go_on(imported, manager)
        except Killed:
            killed += 1
        imported.refresh_from_db()
        assert verify.findings() == []
    assert killed >= 5
    state, counts, found = finished(imported)
    assert (state, counts["batches"]) == ("done", {"changed": 5})
    assert counts["items"] == {"new": 5, "same": 5, "no_longer_listed": 5}
    assert {row[5] for row in found["batches"]} == {31}
    assert [row[2] for row in found["items"]] == ["I-0", "I-2"] * 5
    told = LedgerEntry.objects.filter(kind="imported", facts__contains='"number":2').count()
    assert told == 3  # of seven parts: those that wrote something
    assert verify.findings() == []


def test_a_worker_killed_half_way_is_followed_by_another(manager, tmp_path):
    imported = staged(manager, judge=False, **ROWS)
    operations.start_import(imported, by=acting(manager))
    for step in (60, 30):
        lease_is_over()
        with started(NOBODY, *DYING, STEPS=os.devnull, DIES_BEFORE=str(step)) as process:
            assert process.wait(30) == -9
        gone()
        assert verify.findings() == []
    assert finished(imported)[0] == "done"
    assert (Batch.objects.count(), BatchItem.objects.count(), BatchItem.history.count()) == (5, 10, 10)
    assert verify.findings() == []


def test_two_at_once_write_each_part_once(manager):
    imported = staged(manager, judge=False, **ROWS)
    operations.start_import(imported, by=acting(manager))
    at_once(*[partial(imports._next_part, imported)] * 4)
    at_once(*[operations.finish_imports] * 2)
    assert finished(imported)[0] == "done"
    assert (Batch.history.count(), BatchItem.history.count()) == (5, 10)
    assert verify.findings() == []


def test_two_imports_of_the_same_records_at_once(manager):
    imports_at_once = [staged(manager, judge=False, **ROWS) for _ in range(3)]
    at_once(*[partial(operations.import_records, imported, by=acting(manager)) for imported in imports_at_once])
    for imported in imports_at_once:
        assert finished(imported)[0] == "done"
    assert (Batch.history.count(), BatchItem.history.count()) == (5, 10)
    assert verify.findings() == []


def test_what_was_read_by_halves_is_dropped(manager):
    imported = staged(manager, judge=False, **ROWS)
    Import.objects.update(state="staging", leased_until=timezone.now())
    assert operations.finish_imports() == 1
    imported.refresh_from_db()
    assert (imported.state, imported.why_failed) == ("failed", "Reading it was interrupted. Import it again.")
    assert not StagedBatch.objects.exists()
    assert operations.finish_imports() == 0


def test_what_was_given_up_while_it_was_read_is_not_imported_by_halves(manager):
    def rows():
        for n in range(2):
            yield n, (f"A-{n}", "Account", None, None, None, None)
        Import.objects.update(leased_until=timezone.now())
        operations.finish_imports()
        yield 2, ("A-2", "Account", None, None, None, None)

    with pytest.raises(operations.Refused):
        operations.stage_import([Records(KINDS["accounts"], rows())], source="file", by=acting(manager))
    imported = Import.objects.get()
    assert (imported.state, imported.leased_until) == ("failed", None)
    assert not StagedAccount.objects.exists()


LOST = "What was read was lost when the database restarted. Import it again."


def test_what_a_crash_of_the_database_lost_is_not_written_by_halves(manager):
    imported = staged(manager, judge=False, **ROWS)
    operations.start_import(imported, by=acting(manager))
    for _ in range(5):  # accounts, contacts, and two batches of five
        lease_is_over()
        operations.finish_imports()
    written = on_file()
    assert len(written["batches"]) == 2
    lose_what_is_staged()
    counts = {"accounts": {"new": 3}, "contacts": {"new": 3}, "batches": {"new": 2}, "items": {"new": 4}}
    assert finished(imported) == ("failed", counts, written)
    assert (imported.why_failed, imported.done, imported.leased_until) == (LOST, 5, None)
    assert verify.findings() == []
    assert operations.import_records(staged(manager, judge=False, **ROWS), by=acting(manager)).counts["batches"] == {
        "new": 3,
        "same": 2,
    }


@pytest.mark.parametrize("verb", [operations.start_import, operations.import_records])
def test_what_a_crash_of_the_database_lost_is_not_begun(manager, verb):
    imported = staged(manager, **ROWS)
    assert operations.what_was_lost(imported) == ""
    StagedAccount.objects.order_by("place").first().delete()  # a pooler hid the crash from who read them
    assert operations.what_was_lost(imported) == LOST
    imported = verb(imported, by=acting(manager))
    assert (imported.state, imported.why_failed, imported.done, imported.leased_until) == ("failed", LOST, 0, None)
    assert on_file() == {"accounts": [], "contacts": [], "batches": [], "items": []}
    assert not LedgerEntry.objects.filter(kind="imported").exists()
    with refused(Refusal.IMPORT_OVER):
        verb(imported, by=acting(manager))


@pytest.mark.postgresql
def test_what_is_staged_is_not_logged():
    with connection.cursor() as cursor:
        cursor.execute("SELECT relname FROM pg_class WHERE relpersistence = 'u' AND relkind = 'r'")
        unlogged = {name for (name,) in cursor.fetchall()}
    assert unlogged == {model._meta.db_table for model in STAGED.values()}


def test_what_nobody_imports_within_a_week_is_discarded(manager):
    imported = staged(manager, **ROWS)
    with time_machine.travel(timezone.now() + timedelta(days=7, minutes=-1)):
        assert operations.finish_imports() == 0
    with time_machine.travel(timezone.now() + timedelta(days=7, minutes=1)):
        assert (operations.finish_imports(), operations.finish_imports()) == (1, 0)
        with refused(Refusal.IMPORT_OVER):
            operations.start_import(imported, by=acting(manager))
    imported.refresh_from_db()
    assert (imported.state, imported.why_failed) == ("discarded", "Nobody imported it within 7 days.")
    assert not StagedBatch.objects.exists()
