"""Time every list, filter and search as a manager gets them, and explain the statements that are slow."""

from time import perf_counter

from django.contrib.auth import get_user_model
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from unlocks.models import Batch, Consent, UnlockRequest

ADDRESSES = [
    "",
    "batch/",
    "batch/?p=150",
    "batch/?show=ready",
    "batch/?show=ready&p=10",
    "batch/?show=bypassed&p=150",
    "batch/?period_closed__exact=1",
    "batch/?bypassed_since={day}",
    "batch/?q=K0000500",
    "batch/?q=K0000500-17",
    "batch/?q=bayside",
    "batch/?q=nothing",
    "batch/{batch}/change/",
    "batch/{batch}/history/",
    "unlockrequest/",
    "unlockrequest/?p=150",
    "unlockrequest/?show=ready",
    "unlockrequest/?q=K0000500",
    "unlockrequest/?q=K0000500-17",
    "unlockrequest/?q=nothing",
    "unlockrequest/{request}/change/",
    "consent/",
    "consent/?p=150",
    "consent/?q=K0000500",
    "consent/{consent}/change/",
    "ledgerentry/",
    "ledgerentry/?p=150",
    "ledgerentry/?kind__exact=consented",
    "ledgerentry/?kind__exact=staff_changed",
    "ledgerentry/?since={day}",
    "ledgerentry/?until=2025-01-01",
    "ledgerentry/?q=agent2",
    "ledgerentry/?q=nothing",
    "account/",
    "account/?q=K0000500",
    "account/?q=plumbing",
    "account/?p=100",
    "account/{account}/change/",
]


def look(plans=None):
    """Print how long each page takes, the better of two, and its statements that take longer than `plans` ms."""
    client = Client(SERVER_NAME="localhost")
    client.force_login(get_user_model().objects.get(username="manager1"))
    for path in _paths():
        times = []
        for _ in range(2):
            start = perf_counter()
            with CaptureQueriesContext(connection) as queries:
                response = client.get(path)
            times.append(perf_counter() - start)
        if response.status_code != 200:
            print(f"   {response.status_code}     {path}", flush=True)
            continue
        print(f"{min(times) * 1000:6.0f} ms, {len(queries):3} queries  {path}", flush=True)
        for query in queries if plans is not None else ():
            if float(query["time"]) * 1000 > plans:
                _explain(query["sql"])


def _paths():
    request = UnlockRequest.objects.filter(status="unlocked").latest("pk")
    keys = {
        "batch": Batch.objects.filter(status="unlocked").latest("pk").pk,
        "request": request.pk,
        "consent": Consent.objects.latest("pk").pk,
        "account": request.account_id,
        "day": timezone.localdate(),
    }
    return [f"/desk/unlocks/{address}".format(**keys) if address else "/desk/" for address in ADDRESSES]


def _explain(sql):
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS) {sql}")
        print(f"\n    {sql}\n")
        for (line,) in cursor.fetchall():
            print(f"        {line}")
        print(flush=True)
