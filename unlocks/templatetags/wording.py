"""The words of `unlocks.texts` in templates: `{% load wording %}`, then `{{ batch.total|money }}`, `{% vendor %}`."""

from django import template
from django.conf import settings

from ..texts import formats

register = template.Library()
for written in (formats.money, formats.day, formats.moment, formats.moment_with_seconds, formats.time_of_day):
    register.filter(written)


@register.simple_tag
def vendor():
    return settings.VENDOR_NAME


@register.simple_tag
def support_contact():
    return settings.SUPPORT_CONTACT
