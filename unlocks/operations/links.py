"""Where a consent link stands, and whether the customer can still act by it."""

from django.utils import timezone

from ..models import ConsentLink, UnlockRequest
from ..rules import Refusal
from .verbs import Refused


def link_state(link):
    """Say where a consent link stands: 'live', 'used', 'revoked' or 'expired'."""
    if link.used_at:
        return "used"
    if link.revoked_at or link.request.status == UnlockRequest.Status.CLOSED or not link.sent_to.is_admin:
        return "revoked"
    if link.expires_at <= timezone.now():
        return "expired"
    return "live"


def live(link):
    """Lock the request and the link and return both. Raises Refused unless the link can still be used."""
    request = UnlockRequest.objects.select_for_update(of=("self",)).select_related("account").get(pk=link.request_id)
    link = ConsentLink.objects.select_for_update(of=("self",)).select_related("terms", "sent_to").get(pk=link.pk)
    link.request = request
    if link_state(link) != "live" or request.status != UnlockRequest.Status.AWAITING_CONSENT:
        raise Refused.because(Refusal.LINK_DEAD)
    return request, link


def opened(link):
    """Lock the request and the link and return both. Raises Refused unless the form behind it was opened."""
    request, link = live(link)
    if not link.first_opened_at:
        raise Refused.because(Refusal.NOT_OPENED)
    return request, link
