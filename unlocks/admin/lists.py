"""What every list of the desk has in common: a capped count, filters, an indexed search, selections; no deleting."""

import re
from contextlib import nullcontext
from copy import copy
from datetime import timedelta
from functools import reduce
from itertools import islice
from operator import attrgetter, or_

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.views.main import PAGE_VAR, ChangeList
from django.contrib.admin.widgets import RelatedFieldWidgetWrapper
from django.core.exceptions import BadRequest, PermissionDenied
from django.core.paginator import Paginator
from django.db import connection, transaction
from django.db.models import Case, Exists, F, IntegerField, OuterRef, Q, Value, When
from django.db.models.functions import Concat
from django.db.models.lookups import In
from django.forms import Media
from django.http import Http404, StreamingHttpResponse
from django.shortcuts import redirect
from django.urls import path, register_converter
from django.urls.converters import IntConverter
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.http import content_disposition_header
from django.utils.text import capfirst, slugify
from django.views.decorators.http import require_POST

from .. import history, operations
from ..actors import Actor
from ..models import Account, Batch, OrderedAct, SearchWord, Selection
from ..texts import normalize
from . import files
from .forms.records import RECORD_FIELDS
from .saved_views import SavedViews, pairs_of, written

PHONE = r"[0-9 ()+./-]{7,40}"
OLDER, NEWER = "before", "after"  # what a list by keys has in its address: the row that its page goes on from
MOST_WORDS = 6  # of a search; each further one is left out


class KeyConverter(IntConverter):
    """`<key:pk>` in an address: a number that a row's key can be. SQLite raises on one that is longer."""

    regex = "[0-9]{1,18}"


register_converter(KeyConverter, "key")


def is_key(text):
    """Say whether a piece of an address can be the key of a row."""
    return re.fullmatch(KeyConverter.regex, text) is not None


@IntegerField.register_lookup
class InRange(In):
    """`pk__in=[...]` without the numbers that no column holds, which forms ask for unread: SQLite raises on them."""

    def get_prep_lookup(self):
        values = super().get_prep_lookup()
        return [value for value in values if abs(value) < 2**63] if self.rhs_is_direct_value() else values


def starts_with(field, term):
    """Return the condition that `field` starts with `term`, in any of the usual ways to write capitals.

    A `..._plain` column holds capitals only, so that there it is any way at all; asked for others too, PostgreSQL walks
    through the whole index that has the list's order.
    """
    condition, plain = Q(), field.endswith("_plain")
    for spelling in normalize.spellings(term):
        if not (plain and re.search("[a-z]", spelling)):
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
    if isinstance(record, Account):
        words = operations.words_of(record.number, record.name)
    else:
        words = operations.words_of(record.name, record.email, phone=record.phone)
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
    # What a worker has yet to do stays.
    needed = Exists(OrderedAct.objects.filter(selection=OuterRef("pk"), state=OrderedAct.State.QUEUED))
    Selection.objects.filter(~needed, made_by=request.user, made_at__lt=now - timedelta(days=1)).delete()
    selection = Selection.objects.create(made_by=request.user, made_at=now)
    history.insert_select(
        Selection.batches.through,
        Batch.objects.filter(pk__in=batches.order_by().values("pk")).order_by(),
        selection=selection.pk,
        batch=F("pk"),
    )
    return selection


def on_first_page(request):
    """Return a request as if it asked for the first page of its list."""
    first = copy(request)
    first.GET = request.GET.copy()
    for name in (PAGE_VAR, OLDER, NEWER):
        first.GET.pop(name, None)
    return first


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


def column(description, path, write=None, **options):
    """Return a column of a list: the attribute at a dotted `path` of each row, written by the function `write`.

    In a file the attribute itself stands.
    """

    @admin.display(description=description, **options)
    def column(model_admin, row):
        value = attrgetter(path)(row)
        return write(value) if write and value is not None else value

    column.plain = attrgetter(path)
    return column


class DeskList(ChangeList):
    """A list with its saved views and its filters: some are a row of pills, the others are fields of one form."""

    forms = files.NAMES.items()

    def __init__(self, request, *args):
        self.user = request.user
        super().__init__(request, *args)
        self._saved = self.model_admin.views_of(request)
        self.asked, _ = self.model_admin.known(request, request.GET.urlencode())
        if request.method == "POST" and self.problems:
            # An action on all of the list would take what the filter was to leave out.
            raise BadRequest("A filter in the address can't be read. Nothing was done.")

    def get_filters(self, request):
        specs, *rest, _ = super().get_filters(request)
        return specs, *rest, any(spec.is_on for spec in specs)

    @cached_property
    def views(self):
        """The saved views that one may open here: one's own first, then those that colleagues share."""
        return sorted(self._saved, key=lambda view: view.owner_id != self.user.pk)

    @property
    def own_views(self):
        return [view for view in self.views if view.owner_id == self.user.pk]

    @property
    def shared_views(self):
        return [view for view in self.views if view.owner_id != self.user.pk]

    @cached_property
    def current_view(self):
        """The saved view that is shown, if it is one."""
        return next((view for view in self.views if view.query == self.asked), None)

    @property
    def in_form(self):
        return [spec for spec in self.filter_specs if spec.in_form]

    @property
    def on(self):
        """The filters of the form that narrow the list, each with the address of the list without it."""
        return [(spec, self.get_query_string(remove=[spec.parameter_name])) for spec in self.in_form if spec.is_on]

    def in_parts(self, request, n):
        """Yield the rows of all pages, `n` at a time: keys come first, what is annotated is asked for a part alone.

        Outside a transaction PostgreSQL finds all keys before it hands out one. On SQLite one keeps out who writes.
        """
        keys = self.queryset.prefetch_related(None).values_list("pk", flat=True).iterator()
        with transaction.atomic() if connection.vendor == "postgresql" else nullcontext():
            while some := list(islice(keys, n)):
                yield self.model_admin.told(request, self.queryset.filter(pk__in=some))

    @property
    def problems(self):
        return [spec for spec in self.filter_specs if spec.problem]

    @property
    def narrowed(self):
        """What the list is narrowed by, in words."""
        searched = [f"Search: {self.query}"] if self.query else []
        return [*searched, *(f"{capfirst(spec.title)}: {spec.said}" for spec in self.filter_specs if spec.is_on)]

    @property
    def opens_form(self):
        return any(spec.in_form for spec in self.problems)

    @property
    def beside_the_form(self):
        """What the address says besides the fields of the form: it goes along when the form is sent."""
        fields = {spec.parameter_name for spec in self.in_form}
        return [(name, value) for name, value in self.params.items() if name not in fields]


class KeysetList(DeskList):
    """A list of ledger entries whose pages go on from an entry: the last one costs what the first one does."""

    def __init__(self, request, *args):
        self.going_on = {name: request.GET[name] for name in (OLDER, NEWER) if name in request.GET}
        super().__init__(on_first_page(request), *args)

    def get_results(self, request):
        self.result_list, more = self._page()
        self.result_count, self.full_result_count = len(self.result_list), None
        self.show_full_result_count = self.show_admin_actions = self.can_show_all = self.multi_page = False
        self.has_newer, self.has_older = (more, True) if NEWER in self.going_on else (OLDER in self.going_on, more)

    @property
    def older(self):
        """The address of the page with the entries before these; '' if there are none."""
        return self._going_on(OLDER, -1) if self.has_older and self.result_list else ""

    @property
    def newer(self):
        return self._going_on(NEWER, 0) if self.has_newer and self.result_list else ""

    def _going_on(self, name, place):
        return self.get_query_string({name: self.result_list[place].sequence})

    def _page(self):
        """Return the rows of the page, the newest first, and whether others follow in its direction."""
        key, backwards = self._key(), NEWER in self.going_on
        if key and backwards:
            at, sequence = key
            condition = (Q(at__gt=at) | Q(sequence__gt=sequence)) & Q(at__gte=at)
            found = self.first(condition, ["at", "sequence"], self.list_per_page + 1)
        else:
            found = self._older_than(key, self.list_per_page + 1)
        page = found[: self.list_per_page]
        return page[::-1] if backwards else page, len(found) > len(page)

    def in_parts(self, request, n):
        """Yield the rows of all pages, `n` at a time. No cursor is held: the ledger only grows, at its other end."""
        key = None
        while rows := self._older_than(key, n):
            yield rows
            key = rows[-1].at, rows[-1].sequence

    def _older_than(self, key, n):
        condition = Q()
        if key:
            at, sequence = key
            condition = (Q(at__lt=at) | Q(sequence__lt=sequence)) & Q(at__lte=at)
        return self.first(condition, ["-at", "-sequence"], n)

    def first(self, condition, order, n):
        """Return the first rows of the list that meet a condition, in this order."""
        return list(self.queryset.filter(condition).order_by(*order)[:n])

    def _key(self):
        """Return the time and the sequence of the entry that the page goes on from."""
        sequence = next(iter(self.going_on.values()), "")
        found = self.root_queryset.filter(sequence=sequence) if is_key(sequence) else self.root_queryset.none()
        key = found.values_list("at", "sequence").first()
        self.is_lost = bool(self.going_on) and key is None
        self.going_on = {} if self.is_lost else self.going_on
        return key


class Listed(SavedViews, admin.ModelAdmin):
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
    in_file = ()  # the columns of the list's file, where those of the page are not enough
    comes_by_import = False
    footer_name = ""  # the name of the link to the list in the foot of every page

    def has_delete_permission(self, request, obj=None):
        return False

    def action_checkbox(self, row):
        """Return the box to tick a row. Django has a template read for each, which takes a tenth of a page's time."""
        return format_html(
            '<input type="checkbox" name="{}" value="{}" class="action-select" aria-label="Select {}">',
            ACTION_CHECKBOX_NAME,
            row.pk,
            row,
        )

    def lookup_allowed(self, lookup, value, request):
        """Narrow a list by its own filters alone: asked about any column, it would spell out a PIN's hash."""
        return lookup in {listed.parameter_name for listed in self.get_list_filter(request)}

    def get_changelist(self, request, **kwargs):
        return DeskList

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

    @property
    def media(self):
        """Load nothing of what Django loads for every page: these have none of what it serves."""
        return Media()

    def formfield_for_dbfield(self, db_field, request, **kwargs):
        """Leave out the windows that open beside a form, to add or change what it names: they take scripts."""
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        if field and isinstance(field.widget, RelatedFieldWidgetWrapper):
            field.widget = field.widget.widget
        return field

    @property
    def title(self):
        return self.list_name or capfirst(self.opts.verbose_name_plural)

    def get_urls(self):
        file = self.admin_site.admin_view(self.file_view)
        return [path("file/", file, name=self.name_of("file")), *super().get_urls()]

    def changelist_view(self, request, extra_context=None):
        """Show the list. Fields of the filters that were left empty are dropped from its address first."""
        pairs = pairs_of(request.GET)
        if request.method in ("GET", "HEAD") and "" in (value for _, value in pairs):
            return redirect(f"{request.path}?{written(pairs)}")
        return super().changelist_view(request, {"title": self.title, "subtitle": None, **(extra_context or {})})

    @method_decorator(require_POST)
    def file_view(self, request):
        """Send what the list shows, on all of its pages, as a file, and record that."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        form = request.POST.get("form")
        if form not in files.MEDIA_TYPES:
            raise BadRequest("There is no such form of a file.")
        # With a filter that can't be read, all rows would look like what it leaves: the list refuses to be read.
        changelist = self.get_changelist_instance(on_first_page(request))
        back = f"{self.list_address}?{request.GET.urlencode()}"
        if (most := files.MOST.get(form)) and files.are_more(changelist.queryset, most):
            said = f"An Excel file holds {most:,} rows, and the list has more. Narrow it, or download it as CSV."
            self.message_user(request, said, messages.ERROR)
            return redirect(back)
        if asked := files.before_many(request, changelist.queryset, back):
            return asked
        operations.record_export(
            self.model, form=form, narrowed=changelist.narrowed, by=Actor.staff(request.user, request)
        )
        pieces = files.pieces(self, request, changelist, form)
        response = StreamingHttpResponse(pieces, content_type=files.MEDIA_TYPES[form])
        response["Content-Disposition"] = content_disposition_header(True, f"{slugify(self.title)}.{form}")
        return response

    def told(self, request, rows):
        """Return rows of the list with what only some of its columns need: asked for a few rows at a time."""
        return rows

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
