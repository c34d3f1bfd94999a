"""The form above the dashboard: which days, and in which parts."""

from datetime import timedelta

from django import forms
from django.core.validators import MinValueValidator
from django.utils import timezone

from ...figures import FIRST, Period

USUAL = 30  # days
BY_DAY, MOST = 92, 1830  # days
_NOT_BEFORE = MinValueValidator(FIRST, f"There is nothing from before {FIRST.year}.")


class _Day(forms.DateField):
    widget = forms.DateInput({"type": "date"})

    def __init__(self, label):
        wrong = {"invalid": "This is no day.", "required": "Choose a day."}
        super().__init__(label=label, input_formats=["%Y-%m-%d"], validators=[_NOT_BEFORE], error_messages=wrong)


class PeriodForm(forms.Form):
    since, until = _Day("From"), _Day("To")
    by = forms.ChoiceField(
        choices=[("day", "Days"), ("week", "Weeks")], error_messages={"invalid_choice": "There is no such choice."}
    )

    @classmethod
    def of(cls, asked):
        """Return the form as an address fills it; what it does not say is as usual."""
        return cls({**initial(latest(USUAL)), **{name: value for name, value in asked.items() if value}})

    def clean(self):
        since, until = self.cleaned_data.get("since"), self.cleaned_data.get("until")
        if since and until:
            today, days = timezone.localdate(), (until - since).days + 1
            if days < 1:
                self.add_error("until", "The last day is before the first one.")
            elif days > MOST:
                self.add_error("since", f"These are {days:,} days. Choose at most {MOST:,}, five years.")
            elif since > today:
                self.add_error("since", "This day is to come.")
            elif days > BY_DAY and self.cleaned_data.get("by") == "day":
                self.add_error("by", f"Days are shown of up to {BY_DAY} of them. Choose weeks.")

    @property
    def period(self):
        """The period that was chosen, or else the usual one."""
        if self.is_valid():
            return Period(self.cleaned_data["since"], self.cleaned_data["until"])
        return latest(USUAL)

    @property
    def parts(self):
        return self.cleaned_data["by"] if self.is_valid() else "day"


def latest(days):
    """Return the period of so many days that ends today."""
    today = timezone.localdate()
    return Period(today - timedelta(days - 1), today)


def initial(period):
    return {**period.in_address, "by": "day" if period.days <= BY_DAY else "week"}
