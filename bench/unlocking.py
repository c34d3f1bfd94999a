"""Measure the ways to unlock, side by side, each time on batches that nobody has touched yet."""

import tracemalloc
from statistics import median
from time import perf_counter

from django.db import connection
from django.db.models import F
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from unlocks import history
from unlocks.models import Batch, RequestedBatch, Selection

from . import data, ways

LOOP_SHARE = 10  # the loop of save() gets a tenth of the batches, and its time is counted ten times
SINGLES = 5
FEW = 10


def _rounds(n):
    return 5 if n <= 20_000 else 3


def batches_needed(n):
    return _rounds(n) * (2 * n + n // LOOP_SHARE) + n + n // 10 + FEW + SINGLES


def measure(n):
    """Return the cost of unlocking `n` batches each way: seconds, statements, memory.

    Seconds are medians; the ratios are medians of each round's own, so that a neighbour's load falls on both sides.
    """
    by = data.agent()
    # The first acts of a connection are small: what PostgreSQL plans for one batch, it must not keep for all.
    one = median(_seconds(ways.verb, 1, by) for _ in range(SINGLES))
    seconds = {"verb": [], "sql": [], "save_loop": []}
    for _ in range(_rounds(n)):
        seconds["verb"].append(_seconds(ways.verb, n, by))
        seconds["sql"].append(_seconds(ways.sql, n, by))
        seconds["save_loop"].append(_seconds(ways.save_loop, n // LOOP_SHARE, by) * LOOP_SHARE)
    statements_few, _ = _statements_and_memory(FEW, by)
    _, memory_tenth = _statements_and_memory(n // 10, by)
    statements, memory = _statements_and_memory(n, by)
    return {
        "n": n,
        "seconds": {way: round(median(times), 3) for way, times in seconds.items()},
        "ratio_to_sql": round(_median_ratio(seconds["verb"], seconds["sql"]), 2),
        "speedup_over_save_loop": round(_median_ratio(seconds["save_loop"], seconds["verb"]), 1),
        "save_loop_measured_on": n // LOOP_SHARE,
        "seconds_for_one_batch": round(one, 3),
        "statements": statements,
        "statements_for_10": statements_few,
        "peak_python_mib": round(memory, 2),
        "peak_python_mib_at_a_tenth": round(memory_tenth, 2),
        "rounds": {way: [round(time, 3) for time in times] for way, times in seconds.items()},
    }


def _median_ratio(these, those):
    return median(one / other for one, other in zip(these, those, strict=True))


def _untouched(n, by):
    """Return a Selection of the next `n` bypassed batches, as the batch list would make it."""
    batches = Batch.objects.filter(status=Batch.Status.BYPASSED).order_by("pk").values("pk")[:n]
    selection = Selection.objects.create(made_by=by.user, made_at=timezone.now())
    history.insert_select(
        Selection.batches.through,
        Batch.objects.filter(pk__in=batches).order_by(),
        selection=selection.pk,
        batch=F("pk"),
    )
    return selection


def _seconds(way, n, by):
    selection = _untouched(n, by)
    start = perf_counter()
    way(selection, by)
    took = perf_counter() - start
    _assert_unlocked(selection)
    return took


def _statements_and_memory(n, by):
    """Return how many statements the verb runs for `n` batches, and Python's peak meanwhile in MiB."""
    selection = _untouched(n, by)
    with CaptureQueriesContext(connection) as queries:
        tracemalloc.start()
        ways.verb(selection, by)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    _assert_unlocked(selection)
    return len(queries), peak / 2**20


def _assert_unlocked(selection):
    unlocked = RequestedBatch.objects.filter(
        batch__selections=selection, outcome=RequestedBatch.Outcome.UNLOCKING, batch__status=Batch.Status.UNLOCKING
    )
    if unlocked.count() != selection.batches.count():
        raise RuntimeError("Not all batches were instructed.")
