"""Times on the pages of staff in the zone of whoever reads them, which `zone.js` writes into a cookie."""

from zoneinfo import ZoneInfo

from django.urls import reverse
from django.utils import timezone

from ..models.accounts import time_zones


def times_of_reader(get_response):
    """Write and read times on staff's pages, as middleware, in the zone that their browser named, else in the desk's.

    What is stored, emailed or shown to customers doesn't depend on it.
    """

    def answer(request):
        if not request.path.startswith(reverse("admin:index")):
            return get_response(request)
        with timezone.override(_zone(request.COOKIES.get("zone"))):
            return get_response(request)

    return answer


def _zone(name):
    """Return the zone with a name, None if there is none: ZoneInfo itself would look for a file of that name."""
    return ZoneInfo(name) if name in dict(time_zones()) else None
