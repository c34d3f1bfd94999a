"""What the forms of the request desk have in common."""

import re
import uuid

from django import forms
from django.conf import settings
from django.utils.html import format_html
from django.utils.text import capfirst

from ... import rules
from ...digest import sha256
from ...templatetags.desk import confirmation, on_file
from ...texts import normalize
from ...texts.formats import span

# Six digits standing alone, or digits after the word PIN. Never compared with a PIN: nobody would count that try.
_MAY_BE_PIN = re.compile(r"(?<![\w.,/#-])[0-9]{6}(?![\w/-]|[.,][0-9])|\bPIN\b[^0-9\n]{0,20}[0-9]{2}", re.IGNORECASE)


class Remembers(forms.Widget):
    """Remember which text was asked about; only the same text is not asked about again."""

    asked_about = asking_about = ""

    def value_from_datadict(self, data, files, name):
        self.asked_about = data.get(f"_asked_{name}", "")
        return super().value_from_datadict(data, files, name)

    def render(self, name, value, attrs=None, renderer=None):
        typed = super().render(name, value, attrs, renderer)
        asked = format_html('<input type="hidden" name="_asked_{}" value="{}">', name, self.asking_about)
        return typed + asked if self.asking_about else typed


class LineInput(Remembers, forms.TextInput):
    pass


class TextInput(Remembers, forms.Textarea):
    pass


class Line(forms.CharField):
    """What is typed freely, and kept. What may hold a PIN is asked about once."""

    widget = LineInput

    def clean(self, value):
        typed = super().clean(value)
        if _MAY_BE_PIN.search(normalize.plain(typed)):
            self.widget.asking_about = sha256(typed)
            if self.widget.asked_about != self.widget.asking_about:
                raise forms.ValidationError(
                    "Is this a PIN? Leave it out: what is written here is kept for good. "
                    "If it is none, submit the text again as it is.",
                    code="may_be_pin",
                )
        return typed


class Text(Line):
    """Text of several lines, in which a line break counts once, as for the browser that limits what is typed."""

    widget = TextInput

    def to_python(self, value):
        return super().to_python(value).replace("\r\n", "\n")


def text(label, *, missing="", rows=3, help_text="", max_length=2000):
    """Return a field of several lines; `missing` is what is said when it is left empty, '' when it may be."""
    return Text(
        label=label,
        required=bool(missing),
        max_length=max_length,
        help_text=help_text,
        widget=TextInput(attrs={"rows": rows}),
        error_messages={"required": missing},
    )


def reason(label):
    """Return the field for a reason that has to be given."""
    return text(label, rows=2, missing="Give the reason. It stays with the record.")


def window(label):
    """Return the field for how long batches stay unlocked, in hours; None where nothing is chosen: as is preset."""
    return forms.TypedChoiceField(
        label=label,
        choices=[(hours, span(hours)) for hours in rules.windows()],
        coerce=int,
        empty_value=None,
        required=False,
        initial=rules.whole_hours(settings.UNLOCK_WINDOW),
        widget=forms.RadioSelect,
        error_messages={"invalid_choice": "Choose one of these."},
    )


class ContactField(forms.ModelChoiceField):
    """A contact of one account; says of each whether they are an Admin, and of an Admin since when and by whom."""

    def label_from_instance(self, contact):
        if not contact.is_admin:
            return f"{contact.name}, not an Admin ({contact.email})"
        origin = ", ".join(filter(None, [on_file(contact), confirmation(contact)]))
        return format_html(
            '<span>{}, Admin ({})<br><span class="muted small">{}</span></span>',
            contact.name,
            contact.email,
            capfirst(origin),
        )


class Folded:
    """A form of the request page that nothing is read for until someone opens it, by a link."""

    def __init__(self, form_class):
        self.verb, self.title, self.card = form_class.verb, form_class.title, form_class.card


class CaseForm(forms.Form):
    """One verb of a case: who may, when it makes sense, what is typed for it and what is said afterwards.

    `key` makes a second submit the same act, and `seen` tells what someone else did meanwhile.
    """

    verb = title = button = permission = danger = ""
    # The card of the request page that lists the form; '' for one that a template puts in a place of its own.
    card = ""
    # The events that the verb records: one that is newer than the page means that it is done already.
    writes = ()
    # Whether its choices take a query: then it is a link until it is opened.
    costly = False
    # Whether the verb has transactions of its own that must not be part of another one.
    by_itself = False

    seen = forms.IntegerField(required=False, widget=forms.HiddenInput)
    key = forms.UUIDField(required=False, widget=forms.HiddenInput, initial=uuid.uuid4)

    def __init__(self, *args, case, user, **kwargs):
        super().__init__(*args, auto_id=f"id_{self.verb}_%s", label_suffix="", **kwargs)
        self.case = case
        self.user = user
        self.unlock_request = case.unlock_request
        self.fields["seen"].initial = case.ledger_head
        self.prepare()

    def prepare(self):
        """Fill in the choices that depend on the case."""

    @classmethod
    def fits(cls, case, user):
        """Say whether this verb makes sense in the state of the case."""
        return case.is_open

    @classmethod
    def offered(cls, case, user):
        return user.has_perm(cls.permission) and cls.fits(case, user)

    @property
    def act_key(self):
        return self.cleaned_data["key"]

    def same(self, event):
        """Say whether an event that the verb recorded is what this form asks for once more."""
        return True

    def carry_out(self, by):
        """Call the verb and return the message that says what happened, or the Act that does.

        It runs in one transaction, unless `by_itself`.
        """
        raise NotImplementedError
