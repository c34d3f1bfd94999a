"""The customer's copies of a consent: which mails went out, which could not be sent."""

from dataclasses import dataclass
from datetime import datetime

from ..models import LedgerEntry

Kind = LedgerEntry.Kind

# The mails that carry a receipt (`templates/unlocks/email/`), as staff call them.
RECEIPTS = {
    "receipt": "Receipt of the consent",
    "recorded_by_phone": "Receipt of what was taken down",
    "declined": "Receipt of the refusal",
    "withdrawn": "Receipt of the withdrawal",
}
_ANSWERED = (Kind.CONSENTED, Kind.DECLINED, Kind.RECORDED_BY_PHONE)


@dataclass(frozen=True)
class Receipt:
    """A mail with a receipt, as the ledger tells of it. `consent` is the key of the consent that it is about."""

    consent: int | None
    what: str
    to: str
    at: datetime
    failed: bool
    error: str = ""
    again_by: str = ""


def receipts_of_case(request):
    """List the receipts that were mailed in a case, or could not be, the newest first."""
    kinds = (Kind.EMAIL_SENT, Kind.EMAIL_FAILED, Kind.RECEIPT_RESENT, *_ANSWERED)
    receipts, answered, again = [], None, {}
    for event in request.entries.filter(kind__in=kinds).order_by("sequence"):
        facts = event.facts
        if event.kind in _ANSWERED:
            answered = facts.get("consent")
        elif event.kind == Kind.RECEIPT_RESENT:
            again[facts.get("consent")] = event.actor
        elif facts.get("mail") in RECEIPTS:
            # Older entries don't say which consent a mail was about: then it was about the latest.
            consent = facts.get("consent", answered)
            receipts.append(
                Receipt(
                    consent=consent,
                    what=RECEIPTS[facts["mail"]],
                    to=facts.get("to", ""),
                    at=event.at,
                    failed=event.kind == Kind.EMAIL_FAILED,
                    error=facts.get("error", ""),
                    again_by=again.pop(consent, ""),
                )
            )
    return receipts[::-1]
