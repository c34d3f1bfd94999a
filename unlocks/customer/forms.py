"""The forms of the customer's pages, and the signed answers that travel from one page to the next."""

import re

from crispy_forms.helper import FormHelper
from crispy_forms.layout import Layout
from django import forms
from django.conf import settings
from django.core import signing
from django.db.models import Q, QuerySet

from ..models import Batch
from ..product.sandbox import SECONDS, How
from ..rules import Refusal
from ..texts import normalize, wording
from ..texts.batches import MOST_BOXES, Day, by_day, cut

CERTIFICATE_NUMBER = re.compile(r"CN-?([0-9]{1,12})-([0-9]{1,6})")
# Certificate codes have no letters that look like digits, but a reader may type one for the other.
LOOKALIKES = str.maketrans("OIL", "011")
CODE_LENGTH = 12
FIRST_DAYS = 3
FIRST_BATCHES = 2  # as in customer.css


class Line(forms.CharField):
    """One line of text that reads as it is stored: no invisible characters, single spaces, and a letter in it."""

    multiline = False
    needs_letter = True

    def __init__(self, *, joiners=True, **kwargs):
        super().__init__(**{"max_length": 200} | kwargs)
        self.joiners = joiners

    def to_python(self, value):
        value = normalize.composed(super().to_python(value))
        if not self.multiline:
            return " ".join(filter(None, value.split(" ")))
        return value.replace("\r\n", "\n")

    def validate(self, value):
        super().validate(value)
        seen = re.sub(r"[\n\t]", " ", value) if self.multiline else value
        if normalize.hides(seen, joiners=self.joiners):
            raise forms.ValidationError(
                "This holds characters that can't be seen. Type it instead of pasting it.", code="invisible"
            )
        if value and self.needs_letter and not any(map(str.isalpha, value)):
            raise forms.ValidationError("Use at least one letter.", code="no_letter")


class Lines(Line):
    """Several lines of text, on the same terms."""

    widget = forms.Textarea
    multiline = True


class PinField(forms.CharField):
    """The account PIN: typed each time, and never sent back to the browser."""

    def __init__(self, **kwargs):
        attrs = {"inputmode": "numeric", "autocomplete": "one-time-code"}
        super().__init__(**{"max_length": 64, "widget": forms.PasswordInput(attrs=attrs, render_value=False)} | kwargs)

    def to_python(self, value):
        return normalize.pin(super().to_python(value))


class CustomerForm(forms.Form):
    """A form of the customer's pages. Their templates write the form tag and its CSRF token."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.helper = FormHelper()
        self.helper.form_tag = False
        self.helper.disable_csrf = True


class SignedForm(CustomerForm):
    """What a customer decides in their own name. Whose name is not the contact's is asked about it, by a box."""

    name = Line(
        label=wording.NAME_LABEL,
        widget=forms.TextInput(attrs={"autocomplete": "name"}),
        error_messages={"required": "Enter your full name."},
    )

    def __init__(self, *args, link, **kwargs):
        super().__init__(*args, **kwargs)
        self.contact, name = link.sent_to.name, normalize.person(self["name"].value() or "")
        if name and name != normalize.person(self.contact):
            label = wording.signs_instead(self.contact, link.unlock_request.account)
            self.fields["another"] = forms.BooleanField(label=label, required=False)
            self.order_fields(["name", "another"])

    def clean(self):
        cleaned = super().clean()
        if "another" in self.fields and "name" in cleaned and not cleaned["another"]:
            asked = wording.is_another(self.contact)
            self.add_error("another", f"{asked} If so, check the box below your name. If not, correct the name.")
        return cleaned


class DecisionForm(SignedForm):
    """The customer's decision about a consent link. The view checks the PIN once everything else is valid.

    `batches` are those that the link asks about. The boxes of `leave_out` stand beside them on the page, one for each
    batch, or for each day and each part of a long day when there are very many.
    """

    role = Line(
        label=wording.ROLE_LABEL,
        help_text="For example: Owner, Controller or Office manager.",
        widget=forms.TextInput(attrs={"autocomplete": "organization-title"}),
        error_messages={"required": "Enter your role in the company."},
    )
    pin = PinField(
        label=wording.PIN_LABEL,
        help_text="The number that confirms your account to Support. This page does not keep it.",
        error_messages={"required": "Enter the account PIN."},
    )
    authorized = forms.BooleanField(
        error_messages={
            "required": "Check this box if you are authorized. If not, an Admin of the account has to decide."
        }
    )
    agree = forms.BooleanField(
        error_messages={"required": f"Check this box if you agree. If not, choose “{wording.DECLINE_BUTTON}”."}
    )

    leave_out = forms.MultipleChoiceField(
        required=False,
        error_messages={"invalid_choice": "Check again which batches to leave out: one is not asked about."},
    )

    def __init__(self, *args, link, batches, **kwargs):
        super().__init__(*args, link=link, **kwargs)
        self.fields["authorized"].label = wording.authorized(link.unlock_request.account)
        self.fields["agree"].label = wording.agree(link.terms)
        self.batches, self.days = batches, by_day(batches)
        self.each = len(batches) <= MOST_BOXES
        self.boxes = {str(batch.pk): [batch] for batch in batches} if self.each else self._boxes_of_days()
        # Of one, all would be left out.
        self.can_leave_out = len(self.boxes) > 1
        self.fields["leave_out"].choices = [(key, key) for key in self.boxes]
        self.helper.layout = Layout(*(name for name in self.fields if name != "leave_out"))

    def _boxes_of_days(self):
        """Return the batches that each box stands for, of a number of boxes that is at most MOST_BOXES or the days'."""
        cut(self.days, max(MOST_BOXES - len(self.days), 0))
        groups = [*(self.days if len(self.days) > 1 else ()), *(part for day in self.days for part in day.parts)]
        return {group.key: group.batches for group in groups}

    @property
    def left_out(self):
        """The boxes that are checked."""
        return set(self["leave_out"].value() or ())

    @property
    def first_days(self):
        """Pair the first days with whether a box of theirs is checked."""
        return self._with_checked(self.days[:FIRST_DAYS])

    @property
    def more_batches(self):
        """The batches that a phone shows when they are asked for."""
        return self.batches[FIRST_BATCHES:]

    @property
    def more_batches_checked(self):
        return not self.left_out.isdisjoint(str(batch.pk) for batch in self.more_batches)

    @property
    def more_days(self):
        return self._with_checked(self.days[FIRST_DAYS:])

    @property
    def more_checked(self):
        return any(checked for _, checked in self.more_days)

    def _with_checked(self, days):
        boxes = self.left_out
        return [(day, not boxes.isdisjoint(_keys_of(day))) for day in days]

    def clean_leave_out(self):
        left_out = self.cleaned_data["leave_out"]
        if len({batch.pk for key in left_out for batch in self.boxes[key]}) == len(self.batches):
            raise forms.ValidationError(Refusal.ALL_LEFT_OUT.label, code=Refusal.ALL_LEFT_OUT)
        return left_out


def _keys_of(day):
    """Return the boxes that a day may have."""
    return [day.key, *(part.key for part in day.parts), *(str(batch.pk) for batch in day.batches)]


def left_out_of(batches: QuerySet[Batch], boxes: list[str]) -> QuerySet[Batch]:
    """Return those of some batches that the boxes checked stand for: a batch, a day's, or a part of a day's."""
    keys = [box for box in boxes if box.isdecimal()]
    ends = [tuple(map(int, box.split("-"))) for box in boxes if re.fullmatch("[0-9]+-[0-9]+", box)]
    days = [box for box in boxes if re.fullmatch("[0-9]+(-[0-9]+){2}", box)]
    wanted = Q(pk__in=keys) | Q(bypassed_on__in=days)
    if Day.UNKNOWN in boxes:
        wanted |= Q(bypassed_on=None)
    found = batches.in_bulk([pk for pair in ends for pk in pair])
    for first, last in ends:
        if first in found and last in found:
            numbers = (found[first].number, found[last].number)
            wanted |= Q(bypassed_on=found[first].bypassed_on, number__gte=numbers[0], number__lte=numbers[1])
    return batches.filter(wanted)


def optional_reason(label):
    return Lines(
        label=label,
        required=False,
        max_length=2000,
        help_text="Support reads this.",
        widget=forms.Textarea(attrs={"rows": 4}),
    )


class DeclineForm(SignedForm):
    """The confirmation that the customer does not agree, in their name. Role and reason are optional."""

    role = Line(
        label=f"{wording.ROLE_LABEL} (optional)",
        required=False,
        widget=forms.TextInput(attrs={"autocomplete": "organization-title"}),
    )
    why = optional_reason("Why not (optional)")


class WithdrawForm(CustomerForm):
    """The withdrawal of a consent. Withdrawing is the safe direction, so that only an optional reason is asked."""

    why = optional_reason("Why (optional)")


class FileForm(CustomerForm):
    """A certificate to check, as it was downloaded. Its name and declared type make no difference."""

    file = forms.FileField(
        label="PDF or JSON file",
        help_text="The file as it was downloaded, up to 20 MB. It is not kept.",
        widget=forms.FileInput(attrs={"accept": ".pdf,.json,application/pdf,application/json"}),
        max_length=None,
        error_messages={
            **dict.fromkeys(["required", "invalid", "missing"], "Choose the PDF or JSON file of the certificate."),
            "empty": "This file is empty. Choose the file as it was downloaded.",
        },
    )


class NumberForm(CustomerForm):
    """The number and code of a certificate to check. Letter case, blanks, dashes and lookalikes make no difference."""

    number = forms.CharField(
        label="Number",
        help_text="For example: CN-000012-1.",
        max_length=40,
        widget=forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "characters", "spellcheck": "false"}),
        error_messages={"required": "Enter the number of the certificate."},
    )
    code = forms.CharField(
        label="Code",
        help_text="For example: 7K4Q-9M2X-TB6R.",
        max_length=40,
        widget=forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "characters", "spellcheck": "false"}),
        error_messages={"required": "Enter the code next to the number."},
    )

    def clean_number(self):
        """Return the primary key of the consent and the ordinal of its certificate."""
        number = normalize.number(self.cleaned_data["number"]).replace(" ", "").upper()
        if found := CERTIFICATE_NUMBER.fullmatch(number):
            return int(found[1]), int(found[2])
        raise forms.ValidationError("A number looks like CN-000012-1. Enter it as it is printed on the certificate.")

    def clean_code(self):
        """Return the code as it is issued: in capitals, in groups of four."""
        code = normalize.pin(self.cleaned_data["code"]).upper().translate(LOOKALIKES)
        if len(code) != CODE_LENGTH or not code.isascii():
            raise forms.ValidationError(
                "A code has twelve letters and digits. Enter it as it is printed on the certificate."
            )
        return "-".join(code[start : start + 4] for start in range(0, CODE_LENGTH, 4))


class BehaviorForm(CustomerForm):
    """How the made-up product of a trial run behaves next."""

    how = forms.ChoiceField(
        label="What it does with the next calls",
        help_text="The desk asks about a lost answer after 5 seconds, and about what was accepted every 15 minutes.",
        choices=How.choices,
        widget=forms.RadioSelect,
        error_messages={"required": "Choose one."},
    )
    calls = forms.IntegerField(
        label="For how many calls (optional)",
        help_text="A call hands over up to 500 batches. Empty: until you choose something else here.",
        required=False,
        min_value=1,
        max_value=1000,
        error_messages=dict.fromkeys(
            ["invalid", "min_value", "max_value"], "Enter 1 to 1,000 calls, or leave it empty."
        ),
    )
    seconds = forms.IntegerField(
        label="How many seconds a while is",
        initial=SECONDS,
        min_value=1,
        max_value=60,
        error_messages=dict.fromkeys(
            ["required", "invalid", "min_value", "max_value"], "Enter a number of seconds from 1 to 60."
        ),
    )


def sign_answers(link, **answers):
    """Return the answers to a link's form as signed text for a hidden field."""
    return signing.dumps({"link": link.pk} | answers, salt="unlocks.answers", compress=True)


def read_answers(value, link, *, expired_too=False):
    """Return the answers that `sign_answers` signed for this link, or None for anything else.

    They expire with the PIN's verification, unless `expired_too`.
    """
    lifetime = None if expired_too else settings.PIN_VERIFICATION_LIFETIME
    try:
        answers = signing.loads(value, salt="unlocks.answers", max_age=lifetime)
    except signing.BadSignature:
        return None
    return answers if answers["link"] == link.pk else None
