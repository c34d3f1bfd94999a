"""Recording that an older backup was put back, so that what it lost is known and no number is given twice."""

from collections.abc import Iterable

from django.db import connection, transaction

from ..actors import Actor
from ..ledger import anchors, chain, events
from ..ledger.anchors import Anchor
from ..models import Consent, LedgerEntry, UnlockRequest
from ..rules import Refusal
from .verbs import Refused

THOUSAND = 1000
MOST = 1_000_000  # entries that a restore may have lost; anchors further off are no anchors of this ledger


@transaction.atomic
def record_restore(heads: Iterable[Anchor], *, why: str, by: Actor) -> events.Restored:
    """Record that the ledger was put back to before some of these anchors; return what was recorded.

    From then on the audit takes those anchors for lost, and the numbers of requests, consents and certificates skip
    to the next thousand beyond all that the lost entries can have used.
    Raises Refused: NO_REASON, NOTHING_LOST, OTHER_LEDGER.
    """
    by, heads = by.begin(), sorted(heads)
    if not why.strip():
        raise Refused.because(Refusal.NO_REASON)
    lost = [anchor for anchor, _ in anchors.unfit(heads)]
    if not lost:
        raise Refused.because(Refusal.NOTHING_LOST)
    fitting = [anchor.sequence for anchor in heads if anchor not in lost]
    if not fitting or lost[0].sequence <= fitting[-1] or lost[-1].sequence - fitting[-1] > MOST:
        raise Refused.because(Refusal.OTHER_LEDGER)
    newest, _ = chain.head()
    # Where the desk went on working, only the newest anchor that fits tells where the restored part ends.
    after = newest if lost[0].sequence > newest else fitting[-1]
    restored = events.Restored(after=after, upto=lost[-1].sequence, anchors=[str(anchor) for anchor in lost], why=why)
    for model in (UnlockRequest, Consent):
        _skip(model._meta.db_table, restored.upto - after)
    chain.append(restored, by=by)
    return restored


def first_ordinal(consent: Consent) -> int:
    """Return the lowest number that a new certificate of a consent may have: a restore skips to the next thousand."""
    restores = LedgerEntry.objects.filter(kind=events.Restored.kind, at__gt=consent.given_at)
    return restores.count() * THOUSAND + 1


def _skip(table: str, lost: int) -> None:
    """Skip the keys that `lost` entries can have used, up to the next thousand."""
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("SELECT seq FROM sqlite_sequence WHERE name = %s", [table])
            (used,) = cursor.fetchone() or (0,)
            cursor.execute("DELETE FROM sqlite_sequence WHERE name = %s", [table])
            cursor.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (%s, %s)", [table, _thousand(used + lost)])
            return
        cursor.execute("SELECT nextval(pg_get_serial_sequence(%s, 'id'))", [table])
        (used,) = cursor.fetchone()
        # Drawn one by one: to set it, the desk's role would need a further right.
        cursor.execute(
            "SELECT count(nextval(pg_get_serial_sequence(%s, 'id'))) FROM generate_series(1, %s)",
            [table, _thousand(used + lost) - used],
        )


def _thousand(number: int) -> int:
    """Round up to the next thousand."""
    return -(-number // THOUSAND) * THOUSAND
