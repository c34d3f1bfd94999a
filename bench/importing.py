"""Measure an import of batches with ten items each from CSV, beside a program that does no more than it must.

Both read the same files, write the same rows with their history, and have the guards on. The other one reads with
Python's csv, takes the values as they are written, looks for nothing on file, and writes with literal SQL.
"""

import csv
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from operator import truediv
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.db import connection, transaction

from unlocks import operations
from unlocks.actors import Actor
from unlocks.imports.reading import open_file
from unlocks.ledger import chain, events
from unlocks.models import Batch, BatchItem

ITEMS = 10
IN_AN_ACCOUNT = 100
ROUNDS = 3


def manager():
    user, made = get_user_model().objects.get_or_create(username="bench-importer", is_staff=True)
    if made:
        user.groups.add(Group.objects.get(name="Manager"))
        operations.record_staff(user, by=Actor.desk())
    return Actor.staff(user)


def write_files(folder, n, prefix):
    """Write accounts, batches and items, as a person's program does, and return their paths."""
    paths = [Path(folder) / f"{prefix}-{kind}.csv" for kind in ("accounts", "batches", "items")]
    accounts, batches, items = (path.open("w", newline="") for path in paths)
    with accounts, batches, items:
        accounts.write("Account Number,Name\n")
        batches.write("Account Number,Batch Number,Name,Status,Posted On,Bypassed On,Item Count,Total\n")
        items.write("Account Number,Batch Number,Kind,Number,Date,Customer,Amount,Memo,Job Number,Business Unit\n")
        for number in range(n):
            account = f"{prefix}{number // IN_AN_ACCOUNT:05}"
            if number % IN_AN_ACCOUNT == 0:
                accounts.write(f"{account},Account {account}\n")
            day, batch = f"{number % 12 + 1}/{number % 28 + 1}/2026", f"2026-{number:06}"
            total = sum(Decimal(100 + (number + place) % 900) + Decimal("0.25") for place in range(ITEMS))
            batches.write(
                f"{account},{batch},Invoices of the service department,Bypassed,{day},{day},{ITEMS},{total}\n"
            )
            for place in range(ITEMS):
                items.write(
                    f"{account},{batch},Invoice,INV-{number:06}-{place},{day},Customer {(number * 7 + place) % 5000},"
                    f"{100 + (number + place) % 900}.25,Repair of unit {place},J-{number:06},Service\n"
                )
    return paths


def desk(paths, by):
    """Import files as the command does; return how long reading them into the database took."""
    files = [path.open("rb") for path in paths]
    start = perf_counter()
    sources = [open_file(path.name, file) for path, file in zip(paths, files, strict=True)]
    imported = operations.stage_import(sources, source="command", by=by, judge=False)
    staged = perf_counter() - start
    imported = operations.import_records(imported, by=by)
    if imported.state != "done" or imported.problems.exists():
        raise RuntimeError("The import did not go through.")
    return staged


_ITEM = (
    "id, batch_id, kind, number, date, customer, amount, memo, export_id, lines, disposition, job_number, "
    "business_unit, external_id"
)
_BATCH = (
    "id, account_id, number, name, status, total, item_count, posted_on, bypassed_on, period_closed, reached_by, "
    "differs, external_id"
)
_ACCOUNT = "id, number, name, accounting_software, active, time_zone, external_id"


@transaction.atomic
def bare(paths, by):
    """Write what such an import writes, judging nothing: three tables and their histories, and one ledger entry."""
    by = by.begin()
    accounts, batches, items = paths
    ids = {}
    first = {table: _next_id(table) for table in ("unlocks_account", "unlocks_batch", "unlocks_batchitem")}
    of_account = {}

    def rows_of_accounts():
        for key, row in enumerate(_rows(accounts), first["unlocks_account"]):
            of_account[row[0]] = key
            yield key, row[0], row[1], "quickbooks_online", True, "", "", "", "", 0

    def rows_of_batches():
        for key, (account, number, name, status, posted, bypassed, count, total) in enumerate(
            _rows(batches), first["unlocks_batch"]
        ):
            ids[account, number] = key
            yield (
                *(key, of_account[account], number, name, status.lower(), _money(total), int(count), _day(posted)),
                *(_day(bypassed), False, "", "", "", "", _text(by.act.at)),
            )

    def rows_of_items():
        for key, (account, batch, kind, number, day, customer, amount, memo, job, unit) in enumerate(
            _rows(items), first["unlocks_batchitem"]
        ):
            batch_id = ids[account, batch]
            yield (
                *(key, batch_id, kind.lower().replace(" ", "_"), number, _day(day), customer, _money(amount), memo),
                *("", "[]", "", job, unit, ""),
            )

    _insert("unlocks_account", f"{_ACCOUNT}, pin_hash, pending_pin_hash, pin_failures", rows_of_accounts())
    _insert("unlocks_batch", f"{_BATCH}, fingerprint, as_of", rows_of_batches())
    _insert("unlocks_batchitem", _ITEM, rows_of_items())
    for table, columns in {"account": _ACCOUNT, "batch": _BATCH, "batchitem": _ITEM}.items():
        with connection.cursor() as cursor:
            cursor.execute(
                f"INSERT INTO unlocks_historical{table} ({columns}, history_date, history_type, history_change_reason, "
                f"history_user_id, history_actor, history_act) SELECT {columns}, %s, '+', 'Import', %s, %s, %s "
                f"FROM unlocks_{table} WHERE id >= %s",
                [_text(by.act.at), by.user.pk, by.name, _key(by.act.id), first[f"unlocks_{table}"]],
            )
            by.act.rows[f"unlocks_historical{table}"] += cursor.rowcount
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            for table in first:
                cursor.execute(f"SELECT setval('{table}_id_seq', (SELECT max(id) FROM {table}))")
    chain.append(events.Imported(source="bench"), by=by)


def _next_id(table):
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT coalesce(max(id), 0) + 1 FROM {table}")
        return cursor.fetchone()[0]


def _rows(path) -> Iterator[list[str]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        next(reader)
        for row in reader:
            yield [cell.strip() for cell in row]


def _day(text):
    month, day, year = text.split("/")
    value = date(int(year), int(month), int(day))
    return str(value) if connection.vendor == "sqlite" else value


def _money(text):
    value = Decimal(text.replace(",", "").replace("$", ""))
    return str(value) if connection.vendor == "sqlite" else value


def _text(at):
    return connection.ops.adapt_datetimefield_value(at)


def _key(act):
    return act.hex if connection.vendor == "sqlite" else act


def _insert(table, columns, rows):
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            with cursor.copy(f"COPY {table} ({columns}) FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(row)
        else:
            places = ", ".join("?" * len(columns.split(",")))
            cursor.connection.executemany(f"INSERT INTO {table} ({columns}) VALUES ({places})", rows)


def measure(n):
    """Return the cost of importing n batches: seconds and ratios, also of the same files again; memory in MiB."""
    by, found = manager(), {"desk": [], "bare": [], "again": [], "staging": []}
    with TemporaryDirectory(prefix="unlock-desk-bench-") as folder:
        for number in range(ROUNDS):
            theirs, ours = (write_files(folder, n, f"{who}{number}-") for who in "BD")
            found["bare"].append(_seconds(bare, theirs, by)[0])
            before = _history()
            for again in ("desk", "again"):
                seconds, staging = _seconds(desk, ours, by)
                found[again].append(seconds)
                if _history() - before != n * (ITEMS + 1):
                    raise RuntimeError("The import wrote something else.")
                if again == "desk":
                    found["staging"].append(staging)
            for path in (*theirs, *ours):
                path.unlink()
        mib = _mib(write_files(folder, n, "M-"))
    return {
        "n": n,
        "seconds": {way: round(median(times), 2) for way, times in found.items()},
        "ratio": round(median(map(truediv, found["desk"], found["bare"])), 2),
        "again_to_first": round(median(map(truediv, found["again"], found["desk"])), 2),
        "mib": mib,
        "rounds": {way: [round(time, 2) for time in times] for way, times in found.items()},
    }


_PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def _mib(paths):
    """Return the peak memory of the command that imports files.

    A small program starts it: whatever starts another lends it its own peak.
    """
    command = [sys.executable, "manage.py", "import_records", *map(str, paths), "--as", "bench-importer"]
    run = subprocess.run([sys.executable, "-c", _PEAK, *command], check=True, stdout=subprocess.PIPE)
    return int(run.stdout) // 1024


def _history():
    return Batch.history.count() + BatchItem.history.count()


def _seconds(way, paths, by):
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("CHECKPOINT")  # or one way pays for the pages that another wrote
    start = perf_counter()
    returned = way(paths, by)
    return perf_counter() - start, returned
