"""What every list of the desk has in common: a capped count, filters, an indexed search, selections; no deleting."""

import re
from datetime import timedelta
from functools import reduce
from operator import attrgetter, or_

from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import BadRequest, PermissionDenied
from django.core.paginator import Paginator
from django.db import transaction
from django.db.models import Case, CharField, F, IntegerField, Lookup, Q, Value, When
from django.db.models.functions import Concat
from django.db.models.lookups import In, StartsWith
from django.http import Http404
from django.urls import register_converter
from django.urls.converters import IntConverter
from django.utils import timezone
from django.utils.dateparse import parse_date
from django.utils.functional import cached_property
from django.utils.text import capfirst

from .. import history
from ..models import Account, Batch, SearchWord, Selection
from ..texts import normalize
from ..texts.formats import day
from .forms.records import RECORD_FIELDS

PHONE = r"[0-9 ()+./-]{7,40}"
MOST_WORDS = 6  # of a search; each further one is left out


class KeyConverter(IntConverter):
    """`<key:pk>` in an address: a number that a row's key can be. SQLite raises on one that is longer."""

    regex = "[0-9]{1,18}"


register_converter(KeyConverter, "key")


def is_key(text):
    """Say whether a piece of an address can be the key of a row."""
    return re.fullmatch(KeyConverter.regex, text) is not None


@CharField.register_lookup
class Prefix(Lookup):
    """`number__prefix="2026"`: starts with, by the column's index on both databases.

    SQLite's LIKE reads the whole table. PostgreSQL has an index for LIKE, while its order of words knows no ranges.
    """

    lookup_name = "prefix"

    def as_sql(self, compiler, connection):
        return StartsWith(self.lhs, self.rhs).as_sql(compiler, connection)

    def as_sqlite(self, compiler, connection):
        column, params = self.process_lhs(compiler, connection)
        return f"({column} >= %s AND {column} < %s)", [*params, self.rhs, *params, f"{self.rhs}\U0010ffff"]


@IntegerField.register_lookup
class InRange(In):
    """`pk__in=[...]` without the numbers that no column holds, which forms ask for unread: SQLite raises on them."""

    def get_prep_lookup(self):
        values = super().get_prep_lookup()
        return [value for value in values if abs(value) < 2**63] if self.rhs_is_direct_value() else values


def starts_with(field, term):
    """Return the condition that `field` starts with `term`, in any of the usual ways to write capitals.

    A `..._plain` column holds capitals only, so that there it is any way at all.
    """
    condition = Q()
    for spelling in normalize.spellings(term):
        condition |= Q(**{f"{field}__prefix": spelling})
    return condition


def keys(rows, column="pk"):
    """Return what a column of a queryset holds, read at once: PostgreSQL walks a whole list for an OR across joins."""
    return list(rows.order_by().values_list(column, flat=True).distinct())


def accounts_numbered(term):
    """Return the accounts with this number, however it was typed."""
    return Account.objects.filter(number_plain__in=normalize.spellings(term))


def accounts_found(term, accounts):
    """Leave the accounts that have, for each word of a search, one that begins so: of theirs or of their contacts'."""
    ways = [Q(*map(_word, way[:MOST_WORDS])) for way in _ways(term) if way]
    return accounts.filter(reduce(or_, ways)) if ways else accounts.none()


def _word(begun):
    found = SearchWord.objects.filter(word__prefix=begun[: SearchWord.LONGEST])
    return Q(pk__in=found.values("account"))


def contacts_found(term, contacts):
    """Return the contacts among few ones that have, for each word of a search, one that begins so."""
    return [contact for contact in contacts if has_words(contact, term)]


def has_words(record, term):
    """Say whether an account or a contact has, by itself, a word for each one of a search, as `accounts_found` asks."""
    texts = (record.number, record.name) if isinstance(record, Account) else (record.name, record.email)
    phone = normalize.phone(getattr(record, "phone", ""))
    words = set(phone).union(*(normalize.words(text, SearchWord.LONGEST) for text in texts))
    return any(
        way and all(any(word.startswith(begun) for word in words) for begun in way[:MOST_WORDS]) for way in _ways(term)
    )


def _ways(term):
    """Return the lists of words that a search may mean: a phone number counts as one, however it was grouped."""
    return [normalize.searched(term), normalize.phone(term)[:1] if re.fullmatch(PHONE, term) else []]


def best_first(accounts, term):
    """Order accounts by their names, the one that has just this number before all."""
    is_it = Case(When(number_plain__in=normalize.spellings(term), then=0), default=1)
    return accounts.order_by(is_it, "name", "pk")


def account_is(term):
    """Return the condition that `account` is one with this number."""
    return Q(account__in=keys(accounts_numbered(term)))


def by_number(path="number"):
    """Return the order of few rows by a batch's number: an expression, for which no plan walks the index of all."""
    return Concat(path, Value(""))


@transaction.atomic
def freeze(request, batches):
    """Keep the batches of a queryset as a new Selection of this user's, in one statement whatever their number."""
    now = timezone.now()
    Selection.objects.filter(made_by=request.user, made_at__lt=now - timedelta(days=1)).delete()
    selection = Selection.objects.create(made_by=request.user, made_at=now)
    history.insert_select(
        Selection.batches.through,
        Batch.objects.filter(pk__in=batches.order_by().values("pk")).order_by(),
        selection=selection.pk,
        batch=F("pk"),
    )
    return selection


class CappedPaginator(Paginator):
    """Count up to `cap` rows, so that a list of ten million rows opens as fast as one of ten thousand."""

    cap = 10_000

    @cached_property
    def _found(self):
        return self.object_list.order_by().values("pk")[: self.cap + 1].count()

    @property
    def capped(self):
        return self._found > self.cap

    @cached_property
    def count(self):
        return min(self._found, self.cap)

    def page(self, number):
        """Return a page, its keys first: annotations are evaluated for its rows alone, not for all that are skipped."""
        page = super().page(number)
        shown = list(page.object_list.values_list("pk", flat=True))
        page.object_list = self.object_list.filter(pk__in=shown)
        return page


class OneClickFilter(admin.SimpleListFilter):
    """A filter whose choices are shown above the list, one click each."""

    template = "admin/filter_pills.html"


class DayFilter(admin.SimpleListFilter):
    """A filter in which a day is typed; a subclass says what that means in `narrow`."""

    template = "admin/filter_day.html"

    def lookups(self, request, model_admin):
        return [(None, None)]  # any day can be typed

    def choices(self, changelist):
        return [
            {
                "name": self.parameter_name,
                "value": self.value() or "",
                "chosen": day(self.day),
                "without": changelist.get_query_string(remove=[self.parameter_name]),
                "others": [pair for pair in changelist.params.items() if pair[0] != self.parameter_name],
            }
        ]

    @cached_property
    def day(self):
        """The day that was typed; None for none, and for one so far off that no clock counts to it."""
        try:
            typed = parse_date(self.value() or "")
        except ValueError:
            return None
        return typed if typed and 1900 <= typed.year <= 9000 else None

    def queryset(self, request, queryset):
        return self.narrow(queryset, self.day) if self.day else queryset


def column(description, path, write=None, **options):
    """Return a column of a list: the attribute at a dotted `path` of each row, written by the function `write`."""

    @admin.display(description=description, **options)
    def column(model_admin, row):
        value = attrgetter(path)(row)
        return write(value) if write and value is not None else value

    return column


class Listed(admin.ModelAdmin):
    """Lists that cost the same at a thousand rows and at a hundred thousand, of rows that are never deleted."""

    paginator = CappedPaginator
    list_per_page = 50
    list_max_show_all = 50
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    empty_value_display = "–"
    view_on_site = False
    formfield_overrides = RECORD_FIELDS
    row_is = rows_are = ""  # what the foot of the list calls its rows, where that is not the model's name
    list_name = ""  # what the list is called, where that is not the model's plural
    empty_list = "Nothing here yet."
    comes_by_import = False
    footer_name = ""  # the name of the link to the list in the foot of every page

    def has_delete_permission(self, request, obj=None):
        return False

    def lookup_allowed(self, lookup, value, request):
        """Narrow a list by its own filters alone: asked about any column, it would spell out a PIN's hash."""
        parameters = {getattr(listed, "parameter_name", listed) for listed in self.get_list_filter(request)}
        allowed = {f"{name}{suffix}" for name in parameters for suffix in ("", "__exact", "__id__exact", "__isnull")}
        # Longer numbers than any key has raise on SQLite.
        return lookup in allowed and not re.search(r"\0|\d{19}", str(value))

    def found(self, request, object_id):
        """Return the row that an address names, for whoever may view it. Raises PermissionDenied, Http404."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        if (row := self.get_object(request, str(object_id))) is None:
            raise Http404(f"There is no such {self.row_is or self.opts.verbose_name}.")
        return row

    def response_action(self, request, queryset):
        if not all(is_key(key) for key in request.POST.getlist(ACTION_CHECKBOX_NAME)):
            raise BadRequest("What was ticked names no row.")
        return super().response_action(request, queryset)

    def changeform_view(self, request, object_id=None, form_url="", extra_context=None):
        """Refuse a copy of a record, which Django makes of any POST that says so, whatever `save_as`."""
        if "_saveasnew" in request.POST:
            raise BadRequest("No record is copied here.")
        return super().changeform_view(request, object_id, form_url, extra_context)

    def changelist_view(self, request, extra_context=None):
        title = self.list_name or capfirst(self.opts.verbose_name_plural)
        return super().changelist_view(request, {"title": title, "subtitle": None, **(extra_context or {})})

    def get_search_results(self, request, queryset, search_term):
        """Search with `matching`, as one term: words are not split, and only indexed columns are asked."""
        term = normalize.plain(search_term)
        return (queryset.filter(self.matching(term)) if term else queryset), False

    def matching(self, term):
        """Return the condition for a search: one of `search_fields` starts with the term."""
        condition = Q()
        for field in self.search_fields:
            condition |= starts_with(field, term)
        return condition


class ReadOnly:
    """Refuse adding and changing in forms, to superusers as well: verbs and imports do it."""

    def has_add_permission(self, request, obj=None):
        return False

    def has_change_permission(self, request, obj=None):
        return False


class ReadOnlyAdmin(ReadOnly, Listed):
    """Evidence, which is only shown."""

    def history_view(self, request, object_id, extra_context=None):
        raise Http404("Evidence has no history: it never changes.")
