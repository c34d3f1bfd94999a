"""Real processes on the database of the test: workers, and the desk."""

import subprocess
import sys
from contextlib import contextmanager
from urllib.parse import quote

from django.conf import settings
from django.db import connection

from tests.mail_servers import until

WORKER = [sys.executable, "manage.py", "work"]
DYING = [sys.executable, "-m", "tests.outbox.dying", "work"]
# Loaded once: whoever is killed is followed by another at once.
DESK = [sys.executable, "-m", "gunicorn", "tests.outbox.dying:application", "--preload", "--no-control-socket"]


@contextmanager
def started(server, *command, **environment):
    """Run a process, which emails through `server`, and kill it at the end if it still runs."""
    process = subprocess.Popen(
        command,
        cwd=settings.BASE_DIR,
        env={
            "PATH": "/usr/bin:/bin",
            "UNLOCK_DESK_TRIAL": "1",
            "DATABASE_URL": _database(),
            "EMAIL_URL": f"smtp://127.0.0.1:{server.server_address[1]}",
        }
        | environment,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait(20)


def _database():
    kept = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{kept['NAME']}"
    user = ":".join(quote(kept[part], safe="") for part in ("USER", "PASSWORD") if kept[part])
    return f"postgres://{user}@{kept['HOST']}:{kept['PORT'] or 5432}/{kept['NAME']}"


def gone():
    """Wait until PostgreSQL has noticed that the others were killed, and undone what they had not committed."""
    if connection.vendor == "postgresql":
        until(lambda: others() == 0)


def others():
    """Return how many others are connected to the test's database."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
            "AND backend_type = 'client backend'"
        )
        return cursor.fetchone()[0]


def cut():
    """Cut everybody else's connection to the database."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
            "AND pid <> pg_backend_pid()"
        )
