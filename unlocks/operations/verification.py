"""The verification of the record: ordered by staff or due each day, done by the worker, and told in the ledger."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from operator import attrgetter

from django.db import connection, transaction
from django.utils import timezone

from ..actors import Actor
from ..ledger import chain, events, verify
from ..models import LedgerEntry
from .verbs import staff_verb

EVERY = timedelta(days=1)
TOLD = 20  # findings
_LOCK = 7_014_403  # the advisory lock of who verifies on PostgreSQL
log = logging.getLogger(__name__)


@staff_verb("unlocks.order_verification")
@transaction.atomic
def order_verification(*, by: Actor) -> bool:
    """Have the worker verify the whole record; return False, with nothing written, when that is ordered already."""
    chain.lock()
    _, order = verification_state()
    if order:
        return False
    chain.append(events.VerificationOrdered(), by=by)
    return True


def verification_state() -> tuple[LedgerEntry | None, LedgerEntry | None]:
    """Return the entry of the newest verification, whatever it found, and of an order that is not carried out yet."""
    found = chain.newest_of_each(events.Verified, events.NotVerified, events.VerificationOrdered)
    order = found.pop(events.VerificationOrdered, None)
    last = max(found.values(), key=attrgetter("sequence"), default=None)
    # What is verified now began before the newer order, and does for it.
    return last, order if order and (last is None or order.sequence > last.sequence) else None


def verification_is_due() -> bool:
    """Say whether the record was not verified for a day, or someone ordered it since. A new one is a day later."""
    last, order = verification_state()
    since = last or LedgerEntry.objects.order_by("sequence").first()
    return order is not None or (since is not None and since.at < timezone.now() - EVERY)


def verify_record(*, by: Actor) -> bool:
    """Verify the whole record and tell the ledger what was found; return False if another process is at it.

    Nothing is locked while rows are read.
    """
    with _alone() as alone:
        if not (alone and verification_is_due()):
            return False
        upto, _ = chain.head()
        start = time.monotonic()
        findings = verify.findings()
        took = {"entries": upto, "seconds": round(time.monotonic() - start)}
        for sentence in findings:
            log.error("The record does not hold: %s", sentence)
        with transaction.atomic():
            chain.append(
                events.NotVerified(**took, findings=len(findings), first=findings[:TOLD])
                if findings
                else events.Verified(**took),
                by=by.begin(),
            )
    return True


@contextmanager
def _alone() -> Iterator[bool]:
    """Say whether nobody else verifies the record now. SQLite belongs to one machine, where one more does no harm."""
    if connection.vendor != "postgresql":
        yield True
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [_LOCK])
        alone = cursor.fetchone()[0]
    try:
        yield alone
    finally:
        if alone:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [_LOCK])
