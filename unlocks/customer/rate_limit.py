"""How often the public check page was used from one place: counted in the database, so that all processes share it."""

import ipaddress
from datetime import UTC, datetime

from django.conf import settings
from django.db import connections
from django.utils import timezone

from ..models import CheckTry

_COUNT = """
INSERT INTO unlocks_checktry (place, since, count) VALUES (%s, %s, 1)
ON CONFLICT (place, since) DO UPDATE SET count = unlocks_checktry.count + 1
RETURNING count
"""


def take(ip):
    """Take a try for an address (None: not known); return when the next is free, or None while this one was.

    One statement counts it, so that of many tries at once no two are the same one.
    """
    since = _stretch(timezone.now())
    connection = connections["default"]
    with connection.cursor() as cursor:
        cursor.execute(_COUNT, [place(ip), connection.ops.adapt_datetimefield_value(since)])
        (count,) = cursor.fetchone()
    if count == 1:
        CheckTry.objects.filter(since__lt=since).delete()
    return since + settings.CHECK_TRIES_WINDOW if count > settings.CHECK_TRIES else None


def place(ip):
    """Return what is counted as one place: an IPv4 address, or the /64 that one customer of IPv6 is given."""
    if ip is None:
        return "not known"
    address = ipaddress.ip_address(ip)
    if address.version == 4:
        return str(address)
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, 64), strict=False))


def _stretch(moment):
    """Return the beginning of the stretch of time that a moment falls into; stretches follow one another."""
    seconds = int(moment.timestamp())
    return datetime.fromtimestamp(seconds - seconds % int(settings.CHECK_TRIES_WINDOW.total_seconds()), UTC)
