"""Where a consent link stands, and whether the customer can still act by it."""

from django.utils import timezone

from .. import history
from ..models import ConsentLink, UnlockRequest
from ..rules import Refusal
from .verbs import Refused


def link_state(link: ConsentLink) -> str:
    """Say where a consent link stands: 'live', 'used', 'revoked' or 'expired'."""
    if link.used_at:
        return "used"
    if link.revoked_at or link.unlock_request.status == UnlockRequest.Status.CLOSED or _sent_elsewhere(link):
        return "revoked"
    if link.expires_at <= timezone.now():
        return "expired"
    return "live"


def _sent_elsewhere(link: ConsentLink) -> bool:
    """Whoever it was sent to is no confirmed Admin any more, or has another address on file now."""
    return not link.sent_to.is_confirmed_admin or link.sent_to.email != link.email


def live(link: ConsentLink) -> tuple[UnlockRequest, ConsentLink]:
    """Lock the request and the link and return both. Raises Refused unless the link can still be used."""
    unlock_request = history.lock_row(UnlockRequest.objects.select_related("account"), link.unlock_request_id)
    link = history.lock_row(ConsentLink.objects.select_related("terms", "sent_to"), link.pk)
    link.unlock_request = unlock_request
    if link_state(link) != "live" or unlock_request.status != UnlockRequest.Status.AWAITING_CONSENT:
        raise Refused.because(Refusal.LINK_DEAD)
    return unlock_request, link


def opened(link: ConsentLink) -> tuple[UnlockRequest, ConsentLink]:
    """Lock the request and the link and return both. Raises Refused unless the form behind it was opened."""
    unlock_request, link = live(link)
    if not link.first_opened_at:
        raise Refused.because(Refusal.NOT_OPENED)
    return unlock_request, link
