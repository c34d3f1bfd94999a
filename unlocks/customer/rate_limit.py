"""The rate limit of the public check page, counted in the database so that all processes share it."""

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
    """Count an attempt from an address (None: unknown); return when the next is allowed, or None if this one is.

    A single statement counts it, so that simultaneous attempts never share a number.
    """
    start = _window_start(timezone.now())
    connection = connections["default"]
    with connection.cursor() as cursor:
        cursor.execute(_COUNT, [network_of(ip), connection.ops.adapt_datetimefield_value(start)])
        (count,) = cursor.fetchone()
    if count == 1:
        CheckAttempts.objects.filter(window_start__lt=start).delete()
    return start + settings.CHECK_WINDOW if count > settings.CHECK_LIMIT else None


def network_of(ip):
    """Return what is counted as one network: an IPv4 address, or the /64 that an IPv6 customer is assigned."""
    if ip is None:
        return "not known"
    address = ipaddress.ip_address(ip)
    if address.version == 4:
        return str(address)
    return str(ipaddress.ip_network((address, 64), strict=False))


def _window_start(moment):
    seconds = int(moment.timestamp())
    return datetime.fromtimestamp(seconds - seconds % int(settings.CHECK_WINDOW.total_seconds()), UTC)
