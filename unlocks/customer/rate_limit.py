"""How often the public check page and the API are used, counted in the database so that all processes share it."""

import ipaddress
from datetime import UTC, datetime

from django.conf import settings
from django.db import connections
from django.utils import timezone

from ..models import CheckAttempts

_COUNT = """
INSERT INTO unlocks_checkattempts (network, window_start, count) VALUES (%s, %s, 1)
ON CONFLICT (network, window_start) DO UPDATE SET count = unlocks_checkattempts.count + 1
RETURNING count
"""


def count_attempt(ip):
    """Count an attempt from an address (None: unknown); return when the next is allowed, or None if this one is."""
    return counted(network_of(ip), settings.CHECK_LIMIT, settings.CHECK_WINDOW)


def counted(who, limit, window):
    """Count an attempt of `who`; return when the next is allowed, or None if this one is within the limit.

    A single statement counts it, so that simultaneous attempts never share a number.
    """
    now = timezone.now()
    start = _window_start(now, window)
    connection = connections["default"]
    with connection.cursor() as cursor:
        cursor.execute(_COUNT, [who, connection.ops.adapt_datetimefield_value(start)])
        (count,) = cursor.fetchone()
    if count == 1:
        # Of the longest window: one that goes on is still counted.
        CheckAttempts.objects.filter(window_start__lt=_window_start(now, settings.CHECK_WINDOW)).delete()
    return start + window if count > limit else None


def network_of(ip):
    """Return what is counted as one network: an IPv4 address, or the /64 that an IPv6 customer is assigned."""
    if ip is None:
        return "not known"
    address = ipaddress.ip_address(ip)
    if address.version == 4:
        return str(address)
    return str(ipaddress.ip_network((address, 64), strict=False))


def _window_start(moment, window):
    seconds = int(moment.timestamp())
    return datetime.fromtimestamp(seconds - seconds % int(window.total_seconds()), UTC)
