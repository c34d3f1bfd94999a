"""How the desk writes amounts, dates, counts and tags."""

import datetime
import re

from django import template
from django.contrib.admin.views.main import PAGE_VAR
from django.utils import timezone
from django.utils.html import escape, format_html
from django.utils.safestring import mark_safe
from django.utils.text import capfirst
from django.utils.timesince import timesince

from ..models import LinkOpening
from ..texts import formats
from ..texts.formats import day, lasting, moment, moment_with_seconds, money

register = template.Library()
for function in (money, day, lasting, moment, moment_with_seconds):
    register.filter(function)

# The tag beside every consent that staff recorded by phone: it is lower-assurance.
RECORDED_BY_PHONE = ("wait", "Recorded by phone")


def tag(tone, text):
    """Return a colored tag; `tone` is good, wait, bad, info or ''."""
    return format_html('<span class="tag {}">{}</span>', tone, text)


def nowrap(text):
    """Keep a text on one line."""
    return format_html('<span class="nowrap">{}</span>', text)


@register.simple_tag
def zone_of_reader():
    return formats.current_zone()


@register.simple_tag
def recorded_by_phone():
    return tag(*RECORDED_BY_PHONE)


@register.filter
def batches(count):
    """Write a number of batches: 1 batch, 1,200 batches."""
    return formats.counted(count, "batch", "batches")


@register.filter
def ago(then, now=None):
    """Write how long ago a moment was, in its largest unit: just now, 3 hours ago."""
    now = now or timezone.now()
    if now - then < datetime.timedelta(minutes=1):
        return "just now"
    return f"{timesince(then, now, depth=1)} ago"


@register.filter
def email(address):
    """Write an email address so that it breaks after @ and dots, and not inside a word."""
    return mark_safe(re.sub(r"([@.])", r"\1<wbr>", escape(address)))  # noqa: S308  escaped before


@register.filter
def on_file(contact):
    """Write since when an address is on file, and who entered it."""
    since = day(timezone.localtime(contact.entered_at))
    how = "imported" if contact.entered_in_id else "entered"
    return f"on file since {since}, {f'{how} by {contact.entered_by}' if contact.entered_by else 'from the product'}"


@register.filter
def confirmation(contact):
    """Write whether an Admin's address counts, and why: nothing more is needed for one from the product."""
    if contact.confirmed_by:
        at = day(timezone.localtime(contact.confirmed_at))
        return f"confirmed by {contact.confirmed_by} on {at}: {contact.confirmed_how}"
    return "" if contact.is_confirmed else "not confirmed yet"


@register.simple_tag
def address_tag(contact):
    """Return the tag beside an Admin's address."""
    if contact.is_confirmed:
        return tag("good", "Confirmed" if contact.confirmed_by_id else "From the product")
    return tag("wait", "Not confirmed yet")


@register.filter
def blanks_marked(piece):
    """Split a piece of what differs into (mark, text): without a mark, blanks and the end of a line are not seen."""
    if piece.isspace() and "\n" not in piece:
        return [("·", piece)]
    return [("¶" if "\n" in part else "", part) for part in re.split(r"(\n+)", piece) if part]


@register.filter
def times_opened(openings):
    """Write from how many addresses and browsers the form behind a link was opened: opened from 3 places."""
    count = len(openings)
    if count < LinkOpening.MOST:
        return f"opened from {formats.counted(count, 'place', 'places')}"
    return f"opened from {count} or more places"


@register.simple_tag
def signed_by_another(consent):
    """Mark a decision that was signed in another name than that of the contact on file."""
    return tag("wait", f"Not {consent.contact_name}") if consent.signed_by_another else ""


@register.filter
def how_agreed(consent):
    """Write how the customer agreed: through the link, or by phone to the member of staff who recorded it."""
    if consent.recorded_by_phone:
        return f"{consent.recorded_by} recorded by phone that {consent.signer_name} said yes"
    return f"Agreed by {consent.signer_name}"


@register.filter
def thousands(number):
    """Write a whole number with thousands separators."""
    return f"{number:,}"


@register.filter
def row_count(paginator):
    """Write how many rows a list has, as far as they were counted: 312, or 10,000+."""
    return f"{paginator.count:,}{'+' if paginator.capped else ''}"


@register.filter
def labeled(cells, headers):
    """Write the cells of a list's row, labeled with their columns for the cards that rows become on a phone."""
    return mark_safe("".join(map(_labeled, cells, headers)))  # noqa: S308  each is escaped


def _labeled(cell, header):
    if not cell.startswith('<td class="field-'):
        return cell
    if "label" not in header:
        header["label"] = format_html('<td data-label="{}" ', capfirst(header["text"]))
    return header["label"] + cell.removeprefix("<td ")


@register.filter
def chosen(choices):
    """Return what a filter is set to; '' for its first choice, which lets everything through."""
    return next((choice["display"] for choice in choices[1:] if choice["selected"]), "")


@register.filter
def page_address(changelist, number):
    """Return the address of another page of a list, with its search and filters."""
    return changelist.get_query_string({PAGE_VAR: number})
