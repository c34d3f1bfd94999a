"""Time every list, filter, order, search and file as a manager gets them, and explain the statements that are slow."""

from datetime import timedelta
from itertools import islice
from time import perf_counter

from django.contrib.auth import get_user_model
from django.db import connection
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from django.utils.http import urlencode

from unlocks.admin import audit_log, filters
from unlocks.admin.site import desk
from unlocks.models import Account, Batch, Consent, Contact, Instruction, LedgerEntry, SavedView, UnlockRequest

SLOWEST = 10
# What is searched for in each list, beside what is there in none.
SEARCHES = {
    UnlockRequest: ["{number}", "{number}-17", "UR-000017"],
    Batch: ["{number}", "{number}-17", "K", "bayside"],
    Account: ["{number}", "K0", "plumbing"],
    Contact: [],
    Instruction: ["{number}", "{number}-17"],
    Consent: ["{number}", "CN-000017"],
    LedgerEntry: ["agent2", "UR-000017"],
}
SEARCHED = [
    "K0000500",
    "K0000500-17",
    "K00005",
    "bayside",
    "alex@k0000500.example",
    "alex k0000500",
    "UR-17",
    "nothing",
]


def look(plans=None):
    """Print how long each page takes, the better of two, and its statements that take longer than `plans` ms.

    Then the slowest again, by the time of their statements.
    """
    client = Client(SERVER_NAME="localhost")
    manager = get_user_model().objects.get(username="manager1")
    client.force_login(manager)
    found = []
    for path in _paths(manager):
        found.append((*_timed(client, path, plans), path))
    print(f"\nThe slowest of {len(found)}, by the time of their statements:")
    for row in sorted(found, reverse=True)[:SLOWEST]:
        print(_line(*row))


def _line(in_database, in_all, n, path):
    return f"{in_database:6.0f} ms in {n:2} statements, {in_all:6.0f} ms in all  {path}"


def _timed(client, path, plans):
    """Return the ms of a page's statements, its own ms, and the number of statements, of the better of two visits."""
    visits = []
    for _ in range(2):
        start = perf_counter()
        with CaptureQueriesContext(connection) as queries:
            response = client.post(path, {"form": "csv"}) if "/file/" in path else client.get(path)
            if response.streaming:
                list(islice(response.streaming_content, 2))  # the titles and the first rows
                response.close()
        took = (perf_counter() - start) * 1000
        visits.append((sum(float(query["time"]) for query in queries) * 1000, took, len(queries)))
    print(f"{response.status_code if response.status_code != 200 else '   '} {_line(*min(visits), path)}", flush=True)
    for query in queries if plans is not None else ():
        if float(query["time"]) * 1000 > plans:
            _explain(query["sql"])
    return min(visits)


def _paths(manager):
    account = Account.objects.order_by("pk")[Account.objects.count() // 2]
    yield from (f"/desk/{whose}" for whose in ("", "?whose=team", "?whose=mine"))
    for model, searches in SEARCHES.items():
        address = reverse(f"admin:unlocks_{model._meta.model_name}_changelist")
        yield address
        yield f"{address}?p=150"
        yield f"{address}file/"
        yield from (f"{address}?{query}" for query in _narrowed(model, manager, account))
        yield from (f"{address}?q={searched.format(number=account.number)}" for searched in [*searches, "nothing"])
    yield from _pages(manager, account)


def _narrowed(model, manager, account):
    """Yield the queries of a list: each choice of each filter, with a later page of it, and each order."""
    request = RequestFactory().get("/")
    request.user = manager
    changelist = desk.get_model_admin(model).get_changelist_instance(request)
    for spec in changelist.filter_specs:
        for value in _values(spec, account):
            yield urlencode({spec.parameter_name: value})
            yield urlencode({spec.parameter_name: value, "p": 10})
    for place, name in enumerate(changelist.list_display):
        if changelist.model_admin.sortable_by is None or name in (changelist.model_admin.sortable_by or ()):
            yield f"o={place}"
            yield f"o=-{place}"


def _values(spec, account):
    match spec:
        case filters.OneClickFilter():
            return [key for key, _ in spec.lookup_choices if key]
        case filters.ChoiceFilter():
            return [key for key, _ in spec.options()]
        case filters.DayFilter():
            return [timezone.localdate() - timedelta(days=days) for days in (0, 20, 500)]
        case filters.AmountFilter():
            return [100, 1000]
        case filters.AccountFilter():
            return [account.number]
        case audit_log.BatchFilter():
            return [f"{account.number}-17"]
        case audit_log.RequestFilter():
            return ["UR-000017"]
        case audit_log.AddressFilter():
            return ["127.0.0.1"]
    raise TypeError(f"What is asked of {spec}?")


def _pages(manager, account):
    case = UnlockRequest.objects.filter(status="unlocked").latest("pk")
    batch = Batch.objects.filter(status="unlocked").latest("pk")
    for row in (case, batch, Consent.objects.latest("pk"), case.account, LedgerEntry.objects.latest("pk")):
        yield reverse(f"admin:unlocks_{row._meta.model_name}_change", args=[row.pk])
    for row in (case, batch, case.account):
        yield reverse(f"admin:unlocks_{row._meta.model_name}_history", args=[row.pk])
    yield from (f"/desk/search/?q={term}" for term in SEARCHED)
    yield from (f"/desk/unlocks/unlockrequest/add/?q={term}" for term in SEARCHED)
    yield from (f"/desk/unlocks/unlockrequest/accounts/?q={term}" for term in SEARCHED)
    yield f"/desk/unlocks/unlockrequest/add/?account={account.number}"
    yield "/desk/unlocks/worker/"
    view, _ = SavedView.objects.get_or_create(
        list="unlockrequest",
        name="Ours that wait",
        owner=manager,
        defaults={"query": "assignee=team&o=-1&show=waiting", "made_at": timezone.now()},
    )
    yield f"/desk/unlocks/unlockrequest/?{view.query}"


def _explain(sql):
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS) {sql}")
        print(f"\n    {sql}\n")
        for (line,) in cursor.fetchall():
            print(f"        {line}")
        print(flush=True)
