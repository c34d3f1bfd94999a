"""A list as a file, CSV or Excel: the columns of the page, or more, and its rows on all pages, in their order."""

import re
from datetime import date, datetime
from decimal import Decimal
from html import unescape
from operator import attrgetter, methodcaller

from django.conf import settings
from django.contrib.admin.utils import label_for_field
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.text import capfirst

from ..signin import showed
from ..texts import xlsx
from ..texts.cells import csv_file, csv_lines
from ..texts.formats import counted, current_zone

ROWS_AT_ONCE = 2000
MOST = {"xlsx": xlsx.MOST_ROWS - 1}  # rows of a file, beside its titles
NAMES = {"csv": "CSV", "xlsx": "Excel"}
MEDIA_TYPES = {"csv": "text/csv; charset=utf-8", "xlsx": xlsx.MEDIA_TYPE}


def are_more(rows, most):
    """Say whether a queryset has more rows than `most`, without counting them all."""
    return rows.order_by().values("pk")[: most + 1].count() > most


def before_many(request, rows, back):
    """Return what asks who it is before a file of more than CONFIRM_ROWS rows is sent, as `before_file`; or None."""
    return showed.before_file(request, back) if are_more(rows, settings.CONFIRM_ROWS) else None


def pieces(model_admin, request, changelist, form):
    """Return the pieces of a file in the form "csv" or "xlsx".

    It ends with what it holds: how many rows, the filters, the zone of its times, who asked for it and when. A CSV
    file without that line broke off; an Excel file that did can't be opened.
    """
    # They are taken after the page is answered, when its zone is no longer the current one.
    zone = timezone.get_current_timezone()
    with timezone.override(zone):
        about = [
            f"Times are in {current_zone()}",
            "; ".join(changelist.narrowed) or "Not filtered",
            f"By {request.user}, {_cell(timezone.now(), zone):%Y-%m-%d %H:%M:%S}",
        ]
    return (_csv if form == "csv" else _xlsx)(_Rows(model_admin, request, changelist, zone), about)


class _Rows:
    """The rows of a file, the titles first, and how many others were read."""

    def __init__(self, model_admin, request, changelist, zone):
        self.model_admin, self.request, self.changelist, self.zone = model_admin, request, changelist, zone
        columns = model_admin.in_file or [name for name in changelist.list_display if name != "action_checkbox"]
        self.columns, self.count = columns, 0
        self.readers = [_reader(model_admin, name) for name in columns]

    @property
    def titles(self):
        return [capfirst(label_for_field(name, self.model_admin.model, self.model_admin)) for name in self.columns]

    def some(self):
        """Yield lists of rows, each of them the values of its cells."""
        for rows in self.changelist.in_parts(self.request, ROWS_AT_ONCE):
            with timezone.override(self.zone):
                read = [[_cell(reader(row), self.zone) for reader in self.readers] for row in rows]
            self.count += len(read)
            yield read

    @property
    def complete(self):
        return f"Complete: {counted(self.count, 'row', 'rows')}"


def _csv(rows, about):
    yield csv_file(rows.titles, [])
    for some in rows.some():
        yield csv_lines([_written(value) for value in row] for row in some)
    yield csv_lines([[rows.complete, *about]])


def _xlsx(rows, about):
    def listed():
        yield rows.titles
        for some in rows.some():
            yield from some

    def said():
        yield from ([line] for line in (rows.complete, *about))

    return xlsx.xlsx([("List", listed()), ("About", said())])


def _reader(model_admin, name):
    """Return what reads a column of a row, before it is dressed for the page where the column can tell."""
    if callable(column := getattr(model_admin, name, None)):
        return getattr(column, "plain", column)
    if getattr(model_admin.opts.get_field(name), "choices", None):
        return methodcaller(f"get_{name}_display")
    return attrgetter(name)


def _cell(value, zone):
    """Return a value as a cell: a number, a day, a time in a zone, or a text."""
    if type(value) is str:  # most are
        return value
    match value:
        case None | bool() | int() | Decimal():
            return value
        case datetime():
            return value.astimezone(zone).replace(microsecond=0)
        case date():
            return value
        case SafeString():
            return " ".join(unescape(re.sub(r"<[^>]+>", " ", value)).split())
    return str(value)


def _written(cell):
    """Return a cell as a CSV file has it."""
    if isinstance(cell, str):
        return cell
    match cell:
        case None:
            return ""
        case bool():
            return "yes" if cell else "no"
        case datetime():
            return cell.isoformat(" ")
        case date():
            return cell.isoformat()
        case Decimal():
            return f"{cell:f}"
    return str(cell)
