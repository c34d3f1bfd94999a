"""The words of `unlocks.texts` in templates: `{% load wording %}`, then `{{ batch.total|money }}`, `{% vendor %}`."""

from collections.abc import Sequence

from django import template
from django.conf import settings
from structlog.contextvars import get_contextvars

from ..texts import formats

NAMED = 20

register = template.Library()
for written in (formats.money, formats.day, formats.moment, formats.moment_with_seconds, formats.time_of_day):
    register.filter(written)


@register.filter
def counted(count: int, nouns: str) -> str:
    """Return a number with its noun, of which one and many are given as "batch,batches"."""
    return formats.counted(count, *nouns.split(","))


@register.filter
def numbers(listed: Sequence[str]) -> str:
    """Name the first numbers of batches, and how many more there are."""
    more = f" and {len(listed) - NAMED:,} more" if len(listed) > NAMED else ""
    return f"{', '.join(listed[:NAMED])}{more}"


@register.simple_tag
def vendor():
    return settings.VENDOR_NAME


@register.simple_tag
def request_id():
    """Return the id under which what is answered now is in the logs; '' outside a request."""
    return get_contextvars().get("request_id", "")


@register.simple_tag
def support_contact():
    return settings.SUPPORT_CONTACT
