"""Measure the pages that staff look at all day, as an agent gets them, and beside them those of a stock admin."""

from contextlib import nullcontext
from operator import truediv
from statistics import median
from time import perf_counter

from django.contrib.auth import get_user_model
from django.db import connection, reset_queries
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from unlocks import history
from unlocks.models import Batch, UnlockRequest

from . import data, importing
from .stock import as_stock

SIZES = [1_000, 100_000]
TIMES = 15
ROUNDS, IN_A_ROUND = 15, 3  # with five rounds, the ratio of the same two pages was 0.8 once and 1.2 once
VERSIONS = 10


def measure():
    """Fill the database to each of the sizes and return, for each page, its queries and median milliseconds there."""
    pages = {}
    for size in SIZES:
        data.fill(size)
        client = _client(data.agent().user)
        for name, address in _addresses("admin").items():
            pages.setdefault(name, {})[str(size)] = _cost(client, address, TIMES)
    small, large = map(str, SIZES)
    for sizes in pages.values():
        sizes["ratio"] = round(sizes[large]["ms"] / sizes[small]["ms"], 2)
    return pages


def beside_stock():
    """Return the cost of each page of the desk and of the stock admin; they take turns, a block of requests each.

    Their ratio is the median of the rounds' ratios.
    """
    _with_history(Batch.objects.latest("pk"))
    superuser, _ = get_user_model().objects.get_or_create(username="stock", is_staff=True, is_superuser=True)
    sides = {
        "desk": (nullcontext(), "admin", importing.manager().user),
        "stock": (as_stock, "stock", superuser),
    }
    found = {}
    for _ in range(ROUNDS):
        for side, (settings, site, user) in sides.items():
            with settings:
                client = _client(user)
                for page, address in _common(site).items():
                    costs = found.setdefault(page, {}).setdefault(side, [])
                    costs.append(_cost(client, address, IN_A_ROUND))
    return {page: _compared(costs) for page, costs in found.items()}


def _with_history(batch):
    """Change a batch now and then, so that its history has something to show. In the end it is what was agreed to."""
    others = [f"Invoices, as the product sent them for the {number}th time" for number in range(1, VERSIONS)]
    for name in (*others, batch.name):
        batch.name = name
        history.save(batch, by=data.agent(), why="Imported again")


def _compared(costs):
    ms = {side: [cost["ms"] for cost in rounds] for side, rounds in costs.items()}
    return {side: {"queries": costs[side][-1]["queries"], "ms": median(ms[side])} for side in costs} | {
        "ratio": round(median(map(truediv, ms["stock"], ms["desk"])), 2)
    }


def _client(user):
    client = Client(SERVER_NAME="localhost")
    client.force_login(user)
    return client


def _addresses(site):
    newest = UnlockRequest.objects.latest("pk")
    return {
        "batch list": reverse(f"{site}:unlocks_batch_changelist"),
        "request list": reverse(f"{site}:unlocks_unlockrequest_changelist"),
        "request page": reverse(f"{site}:unlocks_unlockrequest_change", args=[newest.pk]),
        "consent list": reverse(f"{site}:unlocks_consent_changelist"),
        "consent page": reverse(f"{site}:unlocks_consent_change", args=[newest.consents.latest("pk").pk]),
    }


def _common(site):
    """Return the pages that a stock admin has too."""
    newest, batch = UnlockRequest.objects.latest("pk"), Batch.objects.latest("pk")
    batches, requests = (reverse(f"{site}:unlocks_{name}_changelist") for name in ("batch", "unlockrequest"))
    return {
        "request list": requests,
        "batch list": batches,
        "search for a request by its account": f"{requests}?q={newest.account.number}",
        "search for a batch": f"{batches}?q={batch.number}",
        "case page": reverse(f"{site}:unlocks_unlockrequest_change", args=[newest.pk]),
        "history of a batch": reverse(f"{site}:unlocks_batch_history", args=[batch.pk]),
        "audit log": reverse(f"{site}:unlocks_ledgerentry_changelist"),
    }


def _cost(client, address, times):
    reset_queries()  # once 9,000 are kept, Django counts none
    taken = []
    for _ in range(times + 1):
        start = perf_counter()
        with CaptureQueriesContext(connection) as queries:
            response = client.get(address)
        taken.append((perf_counter() - start) * 1000)
        if response.status_code != 200:
            raise RuntimeError(f"{address} answered {response.status_code}.")
    # The first one also loads templates.
    return {"queries": len(queries), "ms": round(median(taken[1:]), 1)}
