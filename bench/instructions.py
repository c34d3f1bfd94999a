"""Unlock in one act, have the product carry it out, and say what the time of one instruction is spent on.

`DATABASE_URL=postgres://.../bench_instructions UNLOCK_DESK_TRIAL=1 python -m bench.instructions` after
`createdb bench_instructions`, or `DATABASE_URL=sqlite:////tmp/bench.sqlite3`. The product does all at once.
"""

import argparse
import os
import threading
import time
from collections import Counter

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
django.setup()

from django.core.management import call_command  # noqa: E402
from django.db import connection, connections  # noqa: E402
from django.test.utils import CaptureQueriesContext  # noqa: E402

from bench import data  # noqa: E402
from unlocks import operations  # noqa: E402
from unlocks.actors import Actor  # noqa: E402
from unlocks.models import Batch, Instruction  # noqa: E402
from unlocks.operations.handing_over import lease  # noqa: E402
from unlocks.product.port import Answer, State  # noqa: E402

FEW = 10


def main():
    options = argparse.ArgumentParser(prog="python -m bench.instructions", description=__doc__)
    options.add_argument("--instructions", type=int, default=100_000)
    n = options.parse_args().instructions
    call_command("migrate", verbosity=0)
    data.fill(FEW + n + n // 10)
    _, few = _unlock(FEW)
    seconds, many = _unlock(n)
    print(f"{connection.vendor}: {n:,} instructions in one act: {seconds:.1f} s, {many} statements ({few} for {FEW})")
    start, spent = time.perf_counter(), Counter()
    carry_out(spent)
    print(f"one worker: {(n + FEW) / (time.perf_counter() - start):.0f} instructions a second")
    for name, of_all in spent.items():
        print(f"{name}: {1_000_000 * of_all / (n + FEW):.0f} microseconds an instruction")
    _unlock(n // 10)
    start = time.perf_counter()
    workers = [threading.Thread(target=carry_out, args=[Counter()]) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    print(f"two workers: {n // 10 / (time.perf_counter() - start):.0f} instructions a second")
    if Instruction.objects.exclude(state="done").exists() or Batch.objects.filter(status="unlocking").exists():
        raise RuntimeError("Not all was carried out.")
    data.assert_sound()


def _unlock(n):
    """Instruct the next n batches; return the seconds and how many statements it took."""
    first = Batch.objects.filter(status="bypassed").order_by("pk").values_list("pk", flat=True)[0]
    batches = Batch.objects.filter(status="bypassed", pk__gte=first, pk__lt=first + n)
    by = data.agent()
    with CaptureQueriesContext(connection) as queries:
        start = time.perf_counter()
        operations.unlock(batches, by=by)
        took = time.perf_counter() - start
    return took, len(queries)


def carry_out(spent):
    """Do all that is due, as a worker with a product that does it at once."""

    def timed(name, call, *args, **kwargs):
        start = time.perf_counter()
        returned = call(*args, **kwargs)
        spent[name] += time.perf_counter() - start
        return returned

    while leased := timed("lease, a commit for 500", lease):
        sent = timed("judging again, a commit", operations.hand_over, leased, by=Actor.desk()).sent
        answers = [Answer(one.key, State.DONE, f"REF-{one.pk}") for one in sent]
        timed("answers and entries, a commit", operations.record_answers, answers, by=Actor.product())
    connections.close_all()


if __name__ == "__main__":
    main()
