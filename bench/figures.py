"""Time the managers' figures of 30 days with 100,000 cases among a million, on PostgreSQL.

`BENCH_DATABASE=bench_figures python -m bench.size 100_000` makes ten thousand requests; `python -m bench.figures
--fill` then copies them and their entries a hundred times, over 300 days, with made-up hashes: nothing but these
figures is to be asked there. Without it the figures are timed, the better of two, each with its statements.
"""

import sys
from datetime import timedelta

from bench import size  # the settings, before anything else

from django.db import connection, transaction  # isort: skip
from django.test.utils import CaptureQueriesContext  # isort: skip
from django.utils import timezone  # isort: skip

from unlocks import figures  # isort: skip
from unlocks.figures import Figures, Period  # isort: skip
from unlocks.database import guards  # isort: skip
from unlocks.models import LedgerEntry, UnlockRequest  # isort: skip

COPIES, DAYS, PERIOD = 99, 300, 30
COUNTED = [
    *("takes_longer", "flow", "backlog", "lasted", "advice", "risky", "wrong", "refusals", "agents", "accounts"),
    "open_now",
]
_STEPS = [f"{step}_at" for step in UnlockRequest.Step]
# What one entry in a hundred is made into, so that something went wrong.
_WRONG = "CASE WHEN random() < .01 THEN (ARRAY['pin_wrong', 'email_failed', 'refused'])[1 + floor(random() * 3)] ELSE"


def fill():
    """Copy the requests and what they were told of; the time of each copy is another one."""
    moved = {name: f"r.{name} - r.opened_at + k.at" for name in _STEPS}
    with guards.lifted(), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        highest = {model: model.objects.order_by("-pk").first().pk for model in (UnlockRequest, LedgerEntry)}
        times = f"now() - random() * interval '{DAYS} days'"
        _copy(cursor, UnlockRequest, highest, times, moved)
        newest = LedgerEntry.objects.order_by("-sequence").first().sequence
        changed = {
            "sequence": f"r.sequence + k.n * {newest}",
            "at": "k.at",
            "kind": f"{_WRONG} r.kind END",
            "hash": "md5(r.hash || k.n)",
            "previous_hash": "md5(r.previous_hash || k.n)",
            "facts": "'{}'",
            "personal": "'{}'",
            "refusals": "CASE WHEN random() < .001 THEN 'not_covered' ELSE '' END",
        }
        kinds = ", ".join(f"'{kind.kind}'" for kind in figures.BY_STAFF)
        _copy(cursor, LedgerEntry, highest, times, changed, f"WHERE r.kind IN ({kinds})")
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")


def _copy(cursor, model, highest, times, changed, which=""):
    columns = [field.column for field in model._meta.concrete_fields]
    values = {"id": f"r.id + k.n * {highest[model]}"} | changed
    selected = ", ".join(values.get(name, f"r.{name}") for name in columns)
    table = model._meta.db_table
    cursor.execute(
        f"INSERT INTO {table} ({', '.join(columns)}) SELECT {selected} FROM {table} r CROSS JOIN LATERAL "
        f"(SELECT n, {times} + r.id * interval '0' AS at FROM generate_series(1, {COPIES}) n) k {which}"
    )
    print(f"{model.objects.count():,} {model._meta.verbose_name_plural}", flush=True)


def main():
    today = timezone.localdate()
    period = Period(today - timedelta(PERIOD - 1), today)
    opened = UnlockRequest.objects.filter(period.within("opened_at")).count()
    print(f"{opened:,} of {UnlockRequest.objects.count():,} requests opened in {PERIOD} days")
    print(f"{sum(min(_timed(name, period) for _ in range(2)) for name in COUNTED):.0f} ms in all")


def _timed(name, period):
    """Return how many ms the statements of a figure take."""
    with CaptureQueriesContext(connection) as queries:
        figures.open_now() if name == "open_now" else getattr(Figures(period), name)
    took = sum(float(query["time"]) for query in queries) * 1000
    print(f"{name}: {took:.0f} ms, {len(queries)} statements", flush=True)
    return took


if __name__ == "__main__":
    print(size.NAME)
    if "--fill" in sys.argv:
        fill()
    main()
