"""The words of `unlocks.wording` in templates: `{% load wording %}`, then `{{ batch.total|money }}`, `{% vendor %}`."""

from django import template
from django.conf import settings

from ..texts import wording

register = template.Library()
register.filter("money", wording.money)
register.filter("day", wording.day)


@register.simple_tag
def vendor():
    return settings.VENDOR_NAME
