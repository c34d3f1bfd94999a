"""What the customer types, and the seal under which it travels to the page that asks once more."""

import unicodedata

from crispy_forms.helper import FormHelper
from django import forms
from django.conf import settings
from django.core import signing

from ..texts import wording

# Marks that turn the direction of writing: a name that holds one reads differently from what is recorded.
DIRECTION_MARKS = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class Line(forms.CharField):
    """One line of text that reads as it is stored: no control characters, no hidden marks, single spaces."""

    lines = False

    def __init__(self, **kwargs):
        super().__init__(**{"max_length": 200} | kwargs)

    def to_python(self, value):
        value = unicodedata.normalize("NFC", super().to_python(value))
        if not self.lines:
            return " ".join(filter(None, value.split(" ")))
        return value.replace("\r\n", "\n")

    def validate(self, value):
        super().validate(value)
        allowed = "\n\t" if self.lines else ""
        if any(_hidden(character) and character not in allowed for character in value):
            raise forms.ValidationError("This holds characters that can't be seen. Type it by hand.", code="hidden")
        if value and not any(character.isalnum() for character in value):
            raise forms.ValidationError("Use at least one letter.", code="no_letter")


class Lines(Line):
    """Several lines of text, on the same terms."""

    widget = forms.Textarea
    lines = True


def _hidden(character):
    return character in DIRECTION_MARKS or unicodedata.category(character) in {"Cc", "Cn", "Co", "Cs", "Zl", "Zp"}


class PinField(forms.CharField):
    """The account PIN: typed anew each time, never sent back to the browser."""

    def __init__(self, **kwargs):
        attrs = {"inputmode": "numeric", "autocomplete": "off"}
        super().__init__(**{"max_length": 64, "widget": forms.PasswordInput(attrs=attrs, render_value=False)} | kwargs)

    def to_python(self, value):
        return "".join(super().to_python(value).split())


class CustomerForm(forms.Form):
    """A form of the customer's pages; `link` says whose decision it is, where one is to be made."""

    def __init__(self, *args, link=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.link = link
        self.helper = FormHelper()
        self.helper.form_tag = False
        # The template writes the form tag and its token.
        self.helper.disable_csrf = True


class DecisionForm(CustomerForm):
    """The decision as the customer types it. Whether the PIN is right is asked only once all the rest is."""

    name = Line(
        label=wording.NAME_LABEL,
        widget=forms.TextInput(attrs={"autocomplete": "name"}),
        error_messages={"required": "Type your full name."},
    )
    role = Line(
        label=wording.ROLE_LABEL,
        help_text="Such as Owner, Controller or Office manager.",
        widget=forms.TextInput(attrs={"autocomplete": "organization-title"}),
        error_messages={"required": "Type your role in the company."},
    )
    pin = PinField(
        label=wording.PIN_LABEL,
        help_text="The number that confirms your account to Support. This page does not keep it.",
        error_messages={"required": "Type the account PIN."},
    )
    authorized = forms.BooleanField(
        error_messages={"required": "Tick this if you are authorized. If not, an Admin of the account has to decide."}
    )
    agree = forms.BooleanField(
        error_messages={"required": f"Tick this if you agree. If not, choose “{wording.DECLINE_BUTTON}”."}
    )

    def __init__(self, *args, link, **kwargs):
        super().__init__(*args, link=link, **kwargs)
        self.fields["authorized"].label = wording.authorized(link.unlock_request.account)
        self.fields["agree"].label = wording.agree(link.terms)


class DeclineForm(CustomerForm):
    """A customer who does not agree need not say who they are or why."""

    name = Line(
        label=f"{wording.NAME_LABEL} (optional)",
        required=False,
        widget=forms.TextInput(attrs={"autocomplete": "name"}),
    )
    role = Line(
        label=f"{wording.ROLE_LABEL} (optional)",
        required=False,
        widget=forms.TextInput(attrs={"autocomplete": "organization-title"}),
    )
    why = Lines(
        label="Why not (optional)",
        required=False,
        max_length=2000,
        help_text="Support reads this.",
        widget=forms.Textarea(attrs={"rows": 4}),
    )


class WithdrawForm(CustomerForm):
    """Taking a consent back is the safe direction: nothing is asked but, if they like, why."""

    why = Lines(
        label="Why (optional)",
        required=False,
        max_length=2000,
        help_text="Support reads this.",
        widget=forms.Textarea(attrs={"rows": 4}),
    )


def seal(link, **answers):
    """Sign the answers given on a link's form, so that they can travel in a hidden field."""
    return signing.dumps({"link": link.pk} | answers, salt="unlocks.answers", compress=True)


def unseal(value, link, *, however_old=False):
    """Return the answers that `seal` signed for this link, as long as a verified PIN counts; None for all else."""
    lifetime = None if however_old else settings.PIN_VERIFICATION_LIFETIME
    try:
        answers = signing.loads(value, salt="unlocks.answers", max_age=lifetime)
    except signing.BadSignature:
        return None
    return answers if answers["link"] == link.pk else None
