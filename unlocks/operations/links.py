"""Where a consent link stands, and whether the customer can still act by it."""

from django.utils import timezone

from .. import history
from ..actors import Actor
from ..models import ConsentLink, LinkOpening, UnlockRequest
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
    if not link.openings.exists():
        raise Refused.because(Refusal.NOT_OPENED)
    return unlock_request, link


def led_by(link: ConsentLink, opening: int | None, by: Actor) -> LinkOpening | None:
    """Return the opening of a locked link that led to what `by` does now.

    It is the one whose key the browser kept as `opening`, or else the one from the same address with the same browser;
    None if it came after so many others that it was not recorded. Raises Refused: NOT_OPENED.
    """
    openings = link.openings.all()
    kept = openings.filter(pk=opening or 0).first()
    found = kept or openings.filter(ip=by.ip, browser=by.browser).first()
    if found is None and not openings.filter(position=LinkOpening.MOST).exists():
        raise Refused.because(Refusal.NOT_OPENED)
    return found
