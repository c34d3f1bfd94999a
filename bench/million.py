"""Fill an empty PostgreSQL bench database with a million batches, by SQL alone, and time every list and search there.

`DATABASE_URL=postgres://.../bench_million UNLOCK_DESK_TRIAL=1 python -m bench.million` after `createdb bench_million`;
once more on the same database only times.
Request 1 and account 1 have 10,000 batches, all others ten and a hundred; one request in twenty still waits for its
unlock, the rest are closed. Entries of the ledger, but for the first, have made-up hashes: they are there to be
listed, not to be verified.
"""

import os
from datetime import timedelta
from time import perf_counter

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
django.setup()

from django.contrib.auth.models import Group  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.core.management.color import no_style  # noqa: E402
from django.db import connection, transaction  # noqa: E402
from django.test import Client  # noqa: E402
from django.utils import timezone  # noqa: E402

from bench import data  # noqa: E402
from unlocks.database import guards  # noqa: E402
from unlocks.models import BatchItem, ConsentedBatch, ConsentTerms, LedgerEntry  # noqa: E402

ACCOUNTS = int(os.environ.get("N", 1_000_000)) // data.BATCHES_AN_ACCOUNT
BIG = 10_000

# Without reading the batch again, row by row.
PLAIN = {
    ConsentedBatch: "id, (id + 9) / 10, id, id, (id - 1) %% 10 + 1, 'B' || id, 'Invoices', 300.75, 3, repeat('f', 64)"
}
# Rows are those of `data`, without items and history; these make the big request, close most others, fill the ledger.
LATER = [
    "UPDATE unlocks_batch SET fingerprint = repeat('f', 64), account_id = CASE WHEN id <= {big} THEN 1 ELSE account_id "
    "END, status = CASE WHEN id <= {big} OR (id + 9) / 10 %% 20 = 1 THEN 'bypassed' ELSE 'exported' END, "
    "exported_on = CASE WHEN id <= {big} OR (id + 9) / 10 %% 20 = 1 THEN NULL ELSE bypassed_on END",
    "UPDATE unlocks_requestedbatch SET unlock_request_id = CASE WHEN id <= {big} THEN 1 ELSE unlock_request_id END, "
    "outcome = CASE WHEN id <= {big} OR (id + 9) / 10 %% 20 = 1 THEN 'waiting' ELSE 're_exported' END",
    "UPDATE unlocks_unlockrequest SET status = 'closed', resolution = 're_exported', closed_at = opened_at "
    "WHERE id %% 20 <> 1",
    "UPDATE unlocks_consent SET batch_count = {big} WHERE id = 1",
    "UPDATE unlocks_consentedbatch SET consent_id = 1, position = id WHERE id <= {big}",
    "INSERT INTO unlocks_ledgerentry (sequence, appended_at, unlock_request_id, account_id, kind, about, act, at, "
    "user_id, actor, facts, facts_salt, facts_hash, personal, personal_salt, personal_hash, previous_hash, hash) "
    "SELECT n, t, r, (r + 9) / 10, (ARRAY['request_opened', 'link_sent', 'link_opened', 'pin_verified', 'consented'])"
    "[n %% 5 + 1], '', gen_random_uuid(), t, %(user)s, 'agent' || n %% 50, '{{}}', '', '', '{{}}', '', '', "
    "md5(n::text), md5((n + 1)::text) FROM (SELECT n, (n + 4) / 5 AS r, now() - ({entries} - n) * interval '2 minutes' "
    "AS t FROM generate_series(2, {entries}) n) e",
]


@transaction.atomic
def fill():
    at = timezone.now() - timedelta(days=1)
    values = {
        "at": at,
        "until": at + timedelta(days=30),
        "day": at.date(),
        "user": data.agent().user.pk,
        "terms": ConsentTerms.objects.get(version=1).pk,
    }
    with connection.cursor() as cursor:
        # No triggers: checking each foreign key at the commit took longer than all the rest.
        cursor.execute("SET LOCAL session_replication_role = replica")
        for model, (each, columns, selected) in data.ROWS.items():
            if model is BatchItem:
                continue
            selected = PLAIN.get(model, selected).format(text_sha256="'x'")
            cursor.execute(
                f"INSERT INTO {model._meta.db_table} ({columns}) SELECT {selected} "
                f"FROM generate_series(1, {ACCOUNTS * each}) AS n (id)",
                values,
            )
        for statement in LATER:
            cursor.execute(statement.format(big=BIG, entries=ACCOUNTS * 50), values)
        for sql in connection.ops.sequence_reset_sql(no_style(), [*data.ROWS, LedgerEntry]):
            cursor.execute(sql)


ADDRESSES = [
    "",
    "batch/",
    "batch/?p=150",
    "batch/?show=ready",
    "batch/?show=ready&p=100",
    "batch/?show=bypassed&p=150",
    "batch/?period_closed__exact=1",
    "batch/?bypassed_since={day}",
    "batch/?q=A1",
    "batch/?q=B1000",
    "batch/?q=nothing",
    "batch/1/change/",
    "unlockrequest/",
    "unlockrequest/?p=150",
    "unlockrequest/?show=ready",
    "unlockrequest/?q=A1",
    "unlockrequest/?q=B1000",
    "unlockrequest/?q=nothing",
    "unlockrequest/1/change/",
    "consent/",
    "consent/?p=150",
    "consent/?q=A1",
    "ledgerentry/",
    "ledgerentry/?p=150",
    "ledgerentry/?kind__exact=consented",
    "ledgerentry/?kind__exact=staff_changed",
    "ledgerentry/?since={day}",
    "ledgerentry/?until=2026-01-01",
    "ledgerentry/?q=agent7",
    "ledgerentry/?q=nothing",
    "account/?q=A1",
    "account/?p=100",
    "account/1/change/",
]


def look():
    """Print how long each page takes a manager, the better of two."""
    user = data.agent().user
    user.groups.set(Group.objects.filter(name="Manager"))
    client = Client(SERVER_NAME="localhost")
    client.force_login(user)
    for address in ADDRESSES:
        path = f"/desk/unlocks/{address}".format(day=timezone.localdate()) if address else "/desk/"
        times = []
        for _ in range(2):
            start = perf_counter()
            if client.get(path).status_code != 200:
                raise RuntimeError(f"{path} did not open.")
            times.append(perf_counter() - start)
        print(f"{min(times) * 1000:6.0f} ms  {path}")


def main():
    call_command("migrate", verbosity=0)
    if not LedgerEntry.objects.exists():
        with guards.lifted():
            fill()
        with connection.cursor() as cursor:
            cursor.execute("VACUUM ANALYZE")
    look()


main()
