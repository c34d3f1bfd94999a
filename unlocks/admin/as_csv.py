"""A list as a CSV file: the columns of the page, or more, and its rows on all pages, in their order."""

import re
from datetime import date, datetime
from decimal import Decimal
from html import unescape
from itertools import islice

from django.contrib.admin.utils import label_for_field, lookup_field
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.text import capfirst

from ..texts.cells import csv_file, csv_lines
from ..texts.formats import counted, current_zone

ROWS_AT_ONCE = 500


def pieces(model_admin, request, changelist):
    """Return the pieces of the file. Its last line counts the rows, and names the zone: without it the file broke off.

    Keys come first, for all pages; what is annotated is asked for a few hundred rows at a time.
    """
    # They are taken after the page is answered, when its zone is no longer the current one.
    return _pieces(model_admin, request, changelist, timezone.get_current_timezone())


def _pieces(model_admin, request, changelist, zone):
    names = model_admin.in_file or [name for name in changelist.list_display if name != "action_checkbox"]
    yield csv_file([capfirst(label_for_field(name, model_admin.model, model_admin)) for name in names], [])
    keys = changelist.queryset.prefetch_related(None).values_list("pk", flat=True).iterator()
    written = 0
    while some := list(islice(keys, ROWS_AT_ONCE)):
        rows = model_admin.told(request, changelist.queryset.filter(pk__in=some))
        with timezone.override(zone):
            lines = [[_cell(_value(model_admin, name, row)) for name in names] for row in rows]
        written += len(lines)
        yield csv_lines(lines)
    with timezone.override(zone):
        yield csv_lines([[f"Complete: {counted(written, 'row', 'rows')}", f"Times are in {current_zone()}"]])


def _value(model_admin, name, row):
    """Return what a column shows of a row, before it is dressed for the page where the column can tell."""
    if plain := getattr(getattr(model_admin, name, None), "plain", None):
        return plain(row)
    field, _, value = lookup_field(name, row, model_admin)
    return getattr(row, f"get_{name}_display")() if field and field.choices else value


def _cell(value):
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case datetime():
            return timezone.localtime(value).isoformat(" ", "seconds")
        case date():
            return value.isoformat()
        case Decimal():
            return f"{value:f}"
        case SafeString():
            return " ".join(unescape(re.sub(r"<[^>]+>", " ", value)).split())
    return str(value)
