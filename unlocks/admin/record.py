"""The state of the record: when it was verified, sealed and anchored last, for the head of the audit log."""

from datetime import timedelta

from django.utils import timezone

from .. import operations
from ..ledger import chain, events
from ..models import LedgerEntry
from ..operations.verification import EVERY
from ..outbox import heartbeat

FRESH = EVERY + timedelta(hours=1)  # a run takes minutes


def state_of_record(user):
    """Return what the panel shows to this member of staff."""
    last, order = operations.verification_state()
    newest = chain.newest_of_each(events.Sealed, events.Anchored)
    seal, anchor = newest.get(events.Sealed), newest.get(events.Anchored)
    event = last and chain.event_of(last)
    recent = last is not None and last.at > timezone.now() - FRESH
    head, _ = chain.head()
    return {
        "verified": last,
        "found": event,
        "holds": isinstance(event, events.Verified),
        "recent": recent,
        "since": head - event.entries if isinstance(event, events.Verified | events.NotVerified) else head,
        "head": head,
        "first": LedgerEntry.objects.order_by("sequence").first(),
        "seal": seal,
        "anchor": anchor,
        "anchored": anchor and chain.event_of(anchor),
        "ordered": order,
        "worker": heartbeat.running().exists(),
        "may_order": user.has_perm(operations.order_verification.permission),
    }
