"""The filters of the lists. Each reads one value of the address; the list says which ones it can't read."""

from datetime import timedelta

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.utils.dateparse import parse_date

from ..models import Account
from ..texts import normalize
from ..texts.formats import current_zone, day, midnight, money
from .lists import accounts_numbered, keys

# So far off counts no clock.
_NEAR_ENOUGH = [
    check(parse_date(end), "It is too far off.")
    for check, end in ((MinValueValidator, "1900-01-01"), (MaxValueValidator, "9000-12-31"))
]
LETTERS_TOLD = 40  # of what was typed and can't be read


class OneClickFilter(admin.SimpleListFilter):
    """A filter whose choices are shown above the list, one click each."""

    template = "admin/filter_pills.html"
    in_form = False

    def value(self):
        """Return the choice that the address names; None where it names none of ours."""
        return super().value() if super().value() in dict(self.lookup_choices) else None

    @property
    def is_on(self):
        return self.value() is not None

    @property
    def said(self):
        return dict(self.lookup_choices)[self.value()]

    @property
    def problem(self):
        return "" if self.is_on or not super().value() else "There is no such choice."


class Filter(admin.ListFilter):
    """A filter in the form above the list: its `field` reads what was chosen or typed, `narrow` says what it means."""

    template = "admin/filter_field.html"
    in_form = True
    parameter_name = problem = ""

    def __init__(self, request, params, model, model_admin):
        super().__init__(request, params, model, model_admin)
        self.user, self.model = request.user, model
        self.typed = self.read(params.pop(self.parameter_name, [""]))
        self.field = self.make_field()
        try:
            self.chosen = self.field.clean(self.typed)
        except ValidationError as error:
            self.chosen, self.problem = None, " ".join(error.messages)

    def read(self, values):
        """Return what was chosen or typed, of all that the address says."""
        return values[-1]

    def has_output(self):
        return True

    def expected_parameters(self):
        return [self.parameter_name]

    def choices(self, changelist):
        return []

    @property
    def is_on(self):
        return self.chosen not in self.field.empty_values

    @property
    def said(self):
        """What the filter is set to, in the words of the list."""
        return str(self.chosen)

    @property
    def told(self):
        """What was typed, as far as it can be repeated."""
        return self.typed[:LETTERS_TOLD].replace("\0", "�")

    @property
    def widget(self):
        about = {"aria-invalid": "true", "aria-describedby": f"filter-{self.parameter_name}-error"}
        attrs = {"id": f"filter-{self.parameter_name}", **(about if self.problem else {})}
        return self.field.widget.render(self.parameter_name, "" if self.problem else self.typed, attrs)

    def queryset(self, request, queryset):
        return self.narrow(queryset, self.chosen) if self.is_on else queryset


class ChoiceFilter(Filter):
    """A filter with a few `options`, of which one is picked."""

    def options(self):
        """Return the pairs of what stands in the address and its words."""
        raise NotImplementedError

    def make_field(self):
        errors = {"invalid_choice": "There is no such choice."}
        return forms.ChoiceField(choices=[("", "Any"), *self.options()], required=False, error_messages=errors)

    @property
    def said(self):
        return dict(self.field.choices)[self.chosen]


class ChoicesFilter(ChoiceFilter):
    """A filter with `options`, of which any number is picked."""

    ROWS = 6  # of options that are in sight

    def make_field(self):
        errors = {"invalid_choice": "There is no such choice."}
        widget = forms.SelectMultiple({"size": self.ROWS})
        return forms.MultipleChoiceField(choices=self.options(), required=False, error_messages=errors, widget=widget)

    def read(self, values):
        return [value for value in values if value]

    @property
    def said(self):
        return ", ".join(words for value, words in self.field.choices if value in self.chosen)

    @property
    def told(self):
        return ", ".join(self.typed)[:LETTERS_TOLD].replace("\0", "�")


class ColumnFilter(ChoiceFilter):
    """A filter by a column with few values: yes or no, its choices, or the rows that it can name."""

    column = ""

    def __init__(self, request, params, model, model_admin):
        self.title = model._meta.get_field(self.column).verbose_name
        super().__init__(request, params, model, model_admin)

    def options(self):
        column = self.model._meta.get_field(self.column)
        if column.is_relation:
            return [(str(row.pk), str(row)) for row in column.related_model._default_manager.all()]
        return [("1", "Yes"), ("0", "No")] if isinstance(column, models.BooleanField) else column.flatchoices

    def narrow(self, queryset, value):
        return queryset.filter(**{self.column: value})


def by_column(name):
    """Return the filter by the column of a model with this name."""
    return type(f"By{name}", (ColumnFilter,), {"column": name, "parameter_name": f"{name}__exact"})


class DayFilter(Filter):
    """A filter in which a day is typed; a subclass says what that means in `narrow`."""

    def make_field(self):
        return forms.DateField(
            required=False,
            input_formats=["%Y-%m-%d"],
            widget=forms.DateInput({"type": "date"}),
            validators=_NEAR_ENOUGH,
            error_messages={"invalid": "This is no day."},
        )

    @property
    def said(self):
        return day(self.chosen)


class _DayOfTime(DayFilter):
    """A filter by the day of the time in the column `path`, which begins when it does for whoever reads the page."""

    path = ""

    def __init__(self, *args):
        self.title = f"{self.title} ({current_zone()})"
        super().__init__(*args)


class Since(_DayOfTime):
    """A filter by the first day."""

    def narrow(self, queryset, day):
        return queryset.filter(**{f"{self.path}__gte": midnight(day)})


class Until(_DayOfTime):
    """A filter by the last day."""

    def narrow(self, queryset, day):
        return queryset.filter(**{f"{self.path}__lt": midnight(day + timedelta(days=1))})


class _AmountField(forms.DecimalField):
    """An amount as people write it: $1,250.00."""

    widget = forms.TextInput({"inputmode": "decimal"})

    def to_python(self, value):
        return super().to_python(value.strip().removeprefix("$").replace(",", ""))


class AmountFilter(Filter):
    """A filter in which an amount is typed; a subclass says what that means in `narrow`."""

    def make_field(self):
        errors = {"invalid": "This is no amount."}
        return _AmountField(required=False, max_digits=14, decimal_places=2, error_messages=errors)

    @property
    def said(self):
        return money(self.chosen)


class AtLeast(AmountFilter):
    def narrow(self, queryset, amount):
        return queryset.filter(amount__gte=amount)


class AtMost(AmountFilter):
    def narrow(self, queryset, amount):
        return queryset.filter(amount__lte=amount)


class AccountFilter(Filter):
    """A filter by the account with a number, however that is typed; by it alone where it is typed just so."""

    title = "account number"
    parameter_name = "account"

    def make_field(self):
        return forms.CharField(max_length=40, required=False)

    def narrow(self, queryset, number):
        number = normalize.plain(number)
        found = keys(Account.objects.filter(number=number)) or keys(accounts_numbered(number))
        return queryset.filter(account__in=found)
