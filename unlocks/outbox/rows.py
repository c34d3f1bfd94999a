"""The rows of the outbox: written with an act, leased by a worker, tried again, done.

A lease is a time in `next_try_at`: it holds nothing while a server is talked to, and that of a worker who is killed
runs out by itself.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from email.utils import parseaddr
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.utils import timezone

from .. import history
from ..actors import Actor
from ..ledger.emails import mac
from ..models import Outgoing, RequestedBatch

LEASE = timedelta(minutes=5)
MOST_TRIES = 1000  # of the guard: beyond it no row may be counted up
# How long after a try that failed the next one comes; the last wait is the one from then on.
WAITS = [
    timedelta(seconds=5),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=5),
    timedelta(hours=10),
]
# When the customer is told what became of an unlock or a relock though the product has not answered all of it.
RESULT_AFTER = timedelta(minutes=15)
# How long before the end of an unlock the customer is reminded of it.
REMINDED_BEFORE = timedelta(hours=2)
_LINK_LASTS, LASTS = timedelta(hours=24), timedelta(days=3)


def queue(email: str, address: str, *, by: Actor, nonce: str = "", **keys: Any) -> Outgoing:
    """Write an email into the outbox, inside the act's transaction, and return its row.

    `keys` are the rows that it is made from; `nonce` is what its token or PIN is derived from.
    """
    row = _row(email, address, by=by, nonce=nonce, **keys)
    row.save(force_insert=True)
    return row


def queue_all(email: str, addresses: Iterable[tuple[str, dict[str, Any]]], *, by: Actor) -> None:
    """Write one kind of email to many addresses, each with the rows that it is made from, in one statement.

    Among those, `due` is when it is to be written, if not at once.
    """
    written = [_row(email, address, by=by, **keys) for address, keys in addresses]
    columns = [field.attname for field in Outgoing._meta.concrete_fields]
    history.insert_rows(Outgoing, [{name: getattr(row, name) for name in columns} for row in written])


def answered(email: str, waited_for: str, unlock_requests: QuerySet[Any]) -> None:
    """Have such an email written now for those requests, given by their keys, of which no batch has that outcome."""
    waiting = RequestedBatch.objects.filter(unlock_request=OuterRef("unlock_request"), outcome=waited_for)
    Outgoing.objects.filter(
        ~Exists(waiting), email=email, state=Outgoing.State.QUEUED, unlock_request__in=unlock_requests
    ).update(next_try_at=timezone.now())


def bring_forward(waiting: QuerySet[Outgoing], at: datetime) -> None:
    """Have those of some emails that would be written later written at that time."""
    Outgoing.objects.filter(pk__in=waiting.order_by().values("pk"), next_try_at__gt=at).update(next_try_at=at)


def _row(email: str, address: str, *, by: Actor, nonce: str = "", due: datetime | None = None, **keys: Any) -> Outgoing:
    at = by.act.at
    due = due or at
    row = Outgoing(email=email, address=address, actor=by.name, nonce=nonce, queued_at=at, next_try_at=due, **keys)
    row.mac = mac(row)
    return row


def lease() -> Outgoing | None:
    """Take the row that has been due for longest, which counts as a try; None when none is due.

    Nobody else gets it until LEASE is over. On PostgreSQL, workers pass by each other's rows.
    """
    now = timezone.now()
    with transaction.atomic(durable=True):
        due = Outgoing.objects.filter(state=Outgoing.State.QUEUED, next_try_at__lte=now).order_by("next_try_at")
        row = due.select_for_update(skip_locked=True, no_key=True).first()
        if row:
            row.tries, row.next_try_at = min(row.tries + 1, MOST_TRIES), now + LEASE
            Outgoing.objects.filter(pk=row.pk).update(tries=row.tries, next_try_at=row.next_try_at)
    return row


def next_try(row: Outgoing) -> datetime | None:
    """Return when a row that could not be sent now is tried again; None when that is too late for it.

    A reminder is due long after it was queued: whoever writes it knows when it is too late.
    """
    at = timezone.now() + wait_after(row.tries)
    if row.email == Outgoing.Email.ENDING:
        return at
    lasts = _LINK_LASTS if row.email == Outgoing.Email.CONSENT_LINK else LASTS
    return at if at <= row.queued_at + lasts else None


def wait_after(tries: int) -> timedelta:
    """Return how long after so many tries the next one comes; after none, as after the first."""
    return WAITS[min(max(tries, 1), len(WAITS)) - 1]


def again(row: Outgoing, at: datetime, answer: str) -> None:
    """Let a leased row be tried again at that time, with what was answered, unless its lease is another's by now."""
    Outgoing.objects.filter(pk=row.pk, state=Outgoing.State.QUEUED, tries=row.tries).update(
        next_try_at=at, answer=_short(answer)
    )


def end(row: Outgoing, state: str, answer: str = "") -> bool:
    """End a row, and say whether it was not done already. Its nonce is erased."""
    ended = Outgoing.objects.filter(pk=row.pk, state=Outgoing.State.QUEUED).update(
        state=state, answer=_short(answer), nonce="", done_at=timezone.now()
    )
    return bool(ended)


def message_id(row: Outgoing) -> str:
    """Return the Message-ID, which is the same at each try."""
    return f"<{row.pk}@{parseaddr(settings.DEFAULT_FROM_EMAIL)[1].rpartition('@')[2]}>"


def _short(answer: str) -> str:
    return answer[:500]
