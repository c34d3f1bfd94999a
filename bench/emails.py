"""Send emails with one worker and with two, on an empty bench database, and say what the time of one is spent on.

`DATABASE_URL=postgres://.../bench_emails UNLOCK_DESK_TRIAL=1 python -m bench.emails` after `createdb bench_emails`, or
`DATABASE_URL=sqlite:////tmp/bench_emails.sqlite3`. They go to a server of its own process that takes everything.
"""

import argparse
import asyncio
import multiprocessing
import os
import subprocess
import sys
import time
from collections import Counter

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
django.setup()

from django.conf import settings  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connection  # noqa: E402
from django.db.models import Max, Min  # noqa: E402
from django.test import override_settings  # noqa: E402
from django.utils import timezone  # noqa: E402

from tests import factories, mail_servers  # noqa: E402
from unlocks.ledger import chain  # noqa: E402
from unlocks.models import Outgoing  # noqa: E402
from unlocks.outbox import emails, rows, worker  # noqa: E402

AN_ACT = 100  # emails
LOOKED_AT = 500  # emails, one part after the other


def main():
    options = argparse.ArgumentParser(prog="python -m bench.emails", description=__doc__)
    options.add_argument("--emails", type=int, default=10_000)
    n = options.parse_args().emails
    ready = multiprocessing.Queue()
    server = multiprocessing.Process(target=lambda: asyncio.run(_take_all(ready)), daemon=True)
    server.start()
    port = ready.get()
    call_command("migrate", verbosity=0)
    manager = factories.make_user("bench-manager", group="Manager")
    connection.close()
    with override_settings(EMAIL_BACKEND=mail_servers.BACKEND, EMAIL_HOST="127.0.0.1", EMAIL_PORT=port):
        _queue(LOOKED_AT, manager)
        parts = _parts()
    for workers in (1, 2):
        _queue(n, manager)
        print(f"{connection.vendor}: {n:,} emails, workers: {workers}, a second: {_rate(n, workers, port):.0f}")
    for name, seconds in parts.items():
        print(f"{name}: {1000 * seconds / LOOKED_AT:.2f} ms an email")
    server.terminate()


def _queue(n, manager):
    """Queue n notices by n / 100 acts: an address is entered, and each Admin of the account is told."""
    for _ in range(n // AN_ACT):
        account = factories.make_account(admin=False)
        factories.imported(*(factories.new_contact(account=account) for _ in range(AN_ACT)))
        factories.enter_contact(account=account, by=manager)


def _parts():
    """Send what is queued one by one, and return {part: seconds in all}."""
    spent = Counter()

    def timed(name, call, *args):
        start = time.perf_counter()
        returned = call(*args)
        spent[name] += time.perf_counter() - start
        return returned

    while row := timed("lease, a commit", rows.lease):
        timed("ledger key", chain.fitting_head)
        message = timed("writing it", emails.written, row)
        timed("SMTP", message.send)
        timed("end and entry, a commit", worker._end, row, Outgoing.State.SENT)
    return spent


def _rate(n, workers, port):
    """Have as many workers send all that is queued; return how many a second, from the first to the last."""
    environment = os.environ | {"EMAIL_URL": f"smtp://127.0.0.1:{port}"}
    since = timezone.now()
    command = [sys.executable, "manage.py", "work"]
    processes = [subprocess.Popen(command, cwd=settings.BASE_DIR, env=environment) for _ in range(workers)]
    while Outgoing.objects.filter(state="queued").exists():
        time.sleep(0.5)
    for process in processes:
        process.terminate()
        process.wait()
    sent = Outgoing.objects.filter(state="sent", done_at__gt=since)
    if sent.count() != n:
        raise RuntimeError(f"{sent.count()} of {n} emails were sent.")
    ends = sent.aggregate(first=Min("done_at"), last=Max("done_at"))
    return n / (ends["last"] - ends["first"]).total_seconds()


async def _take_all(ready):
    server = await asyncio.start_server(_session, "127.0.0.1", 0)
    ready.put(server.sockets[0].getsockname()[1])
    await server.serve_forever()


async def _session(reader, writer):
    """Take one connection's emails, and say yes to everything."""
    in_email, answer = False, b"220 sink"
    while answer:
        writer.write(answer + b"\r\n")
        line = await reader.readline()
        while in_email and line not in (b".\r\n", b""):
            line = await reader.readline()
        in_email = line.upper().startswith(b"DATA")
        answer = b"" if not line or line.upper().startswith(b"QUIT") else b"354 Go on" if in_email else b"250 OK"
    writer.write(b"221 Bye\r\n")
    writer.close()


if __name__ == "__main__":
    main()
