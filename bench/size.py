"""Make bench data at size on PostgreSQL and time every list and search there.

`python -m bench.size 1_000_000 --look` makes the database bench_desk_size anew beside DATABASE_URL_PG's, or the usual
local one, and times the pages; without a number it looks at what is there. `--audit` runs `verify_audit`, which holds,
and `--plans 50` prints the plan of each statement of a page that takes more than 50 ms.
One account in 25 has requests that are under way, all others have closed ones, over three years.
"""

import argparse
import os
from datetime import timedelta
from time import perf_counter
from urllib.parse import urlsplit

import django
import psycopg

NAME = os.environ.get("BENCH_DATABASE", "bench_desk_size")
SERVER = urlsplit(os.environ.get("DATABASE_URL_PG", "postgres://postgres@127.0.0.1:5432/"))
os.environ["DATABASE_URL"] = SERVER._replace(path=f"/{NAME}").geturl()
os.environ["UNLOCK_DESK_TRIAL"] = "1"
os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
django.setup()

from django.apps import apps  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.core.management.color import no_style  # noqa: E402
from django.db import connection, models, transaction  # noqa: E402

from bench import looking  # noqa: E402
from bench.copies import Copying, copy_all  # noqa: E402
from bench.mould import moulds  # noqa: E402
from unlocks.database import guards  # noqa: E402
from unlocks.models import Account, Batch  # noqa: E402

OPEN_IN = 25
KEYS = (models.AutoField, models.UUIDField)  # nothing else belongs to an account


def main():
    options = argparse.ArgumentParser(prog="python -m bench.size", description=__doc__)
    options.add_argument("batches", type=int, nargs="?", help="make the database anew, with so many")
    options.add_argument("--audit", action="store_true", help="run verify_audit on it")
    options.add_argument("--look", action="store_true", help="time the pages")
    options.add_argument("--plans", type=float, metavar="MS", help="explain each statement that takes longer")
    chosen = options.parse_args()
    if chosen.batches:
        make(chosen.batches)
    if chosen.audit:
        call_command("verify_audit")
    if chosen.look or chosen.plans is not None:
        looking.look(chosen.plans)


def make(batches):
    with psycopg.connect(SERVER._replace(path="/postgres").geturl(), autocommit=True) as server:
        server.execute(f"DROP DATABASE IF EXISTS {NAME}")
        server.execute(f"CREATE DATABASE {NAME}")
    start = perf_counter()
    fill(batches)
    print(f"{Batch.objects.count():,} batches in {perf_counter() - start:.0f} s", flush=True)


def fill(batches):
    """Fill an empty database with at least so many batches, of accounts with a hundred each."""
    call_command("migrate", verbosity=0)
    kinds = [model for model in apps.get_app_config("unlocks").get_models() if isinstance(model._meta.pk, KEYS)]
    closed, under_way = moulds(kinds)
    accounts = max(batches * Account.objects.count() // Batch.objects.count(), OPEN_IN)
    now, day = accounts // OPEN_IN, timedelta(days=1)
    with guards.lifted(), transaction.atomic(), connection.cursor() as cursor:
        # No foreign keys are checked one by one, and no row of a ledger is looked at by a trigger.
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute("SET LOCAL maintenance_work_mem = '1GB'")
        past = Copying(closed, n=accounts - now, first=3, age=3 * 365 * day, until=10 * day)
        present = Copying(under_way, n=now, first=3 + accounts - now, age=day / 3, after=past)
        copy_all(cursor, past, present)
        for sql in connection.ops.sequence_reset_sql(no_style(), kinds):
            cursor.execute(sql)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")


if __name__ == "__main__":
    main()
