"""Measure the pages that staff look at all day, as an agent gets them."""

from statistics import median
from time import perf_counter

from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from unlocks.models import UnlockRequest

from . import data

SIZES = [1_000, 100_000]
TIMES = 15


def measure():
    """Fill the database to each of the sizes and return, for each page, its queries and median milliseconds there."""
    pages = {}
    for size in SIZES:
        data.fill(size)
        for name, cost in _costs().items():
            pages.setdefault(name, {})[str(size)] = cost
    small, large = map(str, SIZES)
    for sizes in pages.values():
        sizes["ratio"] = round(sizes[large]["ms"] / sizes[small]["ms"], 2)
    return pages


def _costs():
    client = Client(SERVER_NAME="localhost")
    client.force_login(data.agent().user)
    newest = UnlockRequest.objects.latest("pk")
    addresses = {
        "batch list": reverse("admin:unlocks_batch_changelist"),
        "request list": reverse("admin:unlocks_unlockrequest_changelist"),
        "request page": reverse("admin:unlocks_unlockrequest_change", args=[newest.pk]),
        "consent list": reverse("admin:unlocks_consent_changelist"),
        "consent page": reverse("admin:unlocks_consent_change", args=[newest.consents.latest("pk").pk]),
    }
    return {name: _cost(client, address) for name, address in addresses.items()}


def _cost(client, address):
    times = []
    for _ in range(TIMES + 1):
        start = perf_counter()
        with CaptureQueriesContext(connection) as queries:
            response = client.get(address)
        times.append((perf_counter() - start) * 1000)
        if response.status_code != 200:
            raise RuntimeError(f"{address} answered {response.status_code}.")
    # The first one also loads templates.
    return {"queries": len(queries), "ms": round(median(times[1:]), 1)}
