"""Which workers run: each says so from time to time."""

import os
import socket
from datetime import timedelta

from django.db.models import QuerySet
from django.utils import timezone

from ..models import Worker

BEAT = timedelta(seconds=30)
_GONE, _FORGOTTEN = timedelta(minutes=3), timedelta(days=1)


def name(what: str = "") -> str:
    """Return the name of a worker on this host: this process, unless `what` says something else."""
    return f"{socket.gethostname()[:150]}, {what or f'process {os.getpid()}'}"


def beat(worker: str) -> None:
    """Say that a worker runs. Those that have not been seen for a day are forgotten."""
    now = timezone.now()
    Worker.objects.update_or_create(
        name=worker, defaults={"seen_at": now}, create_defaults={"seen_at": now, "started_at": now}
    )
    Worker.objects.filter(seen_at__lt=now - _FORGOTTEN).delete()


def stop(worker: str) -> None:
    """Say that a worker does not run any more."""
    Worker.objects.filter(name=worker).delete()


def running() -> QuerySet[Worker]:
    """Return the workers that were seen in the last three minutes."""
    return Worker.objects.filter(seen_at__gt=timezone.now() - _GONE).order_by("started_at", "name")
