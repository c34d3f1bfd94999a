"""The customer's copies of a consent: which emails went out, which could not be sent."""

from dataclasses import dataclass
from datetime import datetime

from ..ledger import events
from ..ledger.emails import RECEIPTS


@dataclass(frozen=True)
class Receipt:
    """An email with a receipt. `consent` is the key of the consent that it is about."""

    consent: int
    what: str
    to: str
    at: datetime
    failed: bool
    error: str = ""
    again_by: str = ""


def receipts_among(entries):
    """List the receipts that were emailed in a case, or could not be, the newest first; see `emails.entries_of`."""
    receipts, again = [], {}
    for entry, event in entries:
        match event:
            case events.ReceiptResent(consent=consent):
                again[consent] = entry.actor
            case events.EmailSent() | events.EmailFailed() if event.email in RECEIPTS:
                receipts.append(
                    Receipt(
                        consent=event.consent,
                        what=RECEIPTS[event.email],
                        to=event.to,
                        at=entry.at,
                        failed=isinstance(event, events.EmailFailed),
                        error=getattr(event, "error", ""),
                        again_by=again.pop(event.consent, ""),
                    )
                )
    return receipts[::-1]
