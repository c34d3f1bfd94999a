"""What staff type into a record: an account, a contact, a colleague."""

from django import forms
from django.contrib.auth.forms import UserChangeForm, UsernameField
from django.contrib.auth.models import User
from django.db import models

from ... import operations, roles
from ...customer.forms import Line
from ...rules import Refusal, sentence
from ...texts import normalize
from ...texts.fields import NOTHING, shown
from ...texts.formats import counted


class RecordLine(Line):
    """A line of a record, such as the name of a customer or a phone number."""

    needs_letter = False


class NumberField(forms.CharField):
    """The number of a record, as it is compared."""

    def to_python(self, value):
        return normalize.number(super().to_python(value))


class AddressField(forms.EmailField):
    """An email address, as it is compared."""

    def to_python(self, value):
        return normalize.email(super().to_python(value))


class VisibleUsernameField(UsernameField, RecordLine):
    """A username in which everything can be seen."""


# For `formfield_overrides`.
RECORD_FIELDS = {models.CharField: {"form_class": RecordLine}, models.EmailField: {"form_class": AddressField}}


class RecordForm(forms.ModelForm):
    """Writes what was touched on its page, and nothing over what someone else changed there meanwhile.

    The page sends back each value as it was shown: what differs from that was touched.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        told = not self.is_bound or any(name.startswith(self.add_initial_prefix("")) for name in self.data)
        for field in self.fields.values():
            field.show_hidden_initial = told and self.instance.pk is not None and not field.disabled

    def clean(self):
        cleaned = super().clean()
        if self.instance.pk is None:
            return cleaned
        now = operations.hold(self.instance)
        for field in self.instance._meta.get_fields():
            if field.name in self.fields:
                self._keep(field, now)
            elif field.concrete and not field.many_to_many and not field.generated:
                setattr(self.instance, field.attname, getattr(now, field.attname))
        return self.cleaned_data

    def _keep(self, field, now):
        """Keep a value that was not touched as it is `now`; refuse one that was, if it is not now what was shown."""
        name, form_field = field.name, self.fields[field.name]
        current = form_field.prepare_value(field.value_from_object(now))
        if name not in self.changed_data:
            self.cleaned_data[name] = field.value_from_object(now) if field.many_to_many else getattr(now, name)
        elif form_field.show_hidden_initial and name in self.cleaned_data:
            typed = form_field.prepare_value(self.cleaned_data[name])
            if self._differs(name, current) and form_field.has_changed(current, typed):
                self.add_error(name, self._changed_meanwhile(field, now))
                self._show(name, current)

    def _differs(self, name, current):
        """Say whether a value is another one now than the page showed."""
        field = self.fields[name]
        was = field.hidden_widget().value_from_datadict(self.data, self.files, self.add_initial_prefix(name))
        return field.has_changed(field.prepare_value(field.to_python(was)), current)

    def _show(self, name, current):
        """Take the value as it is now for what the page showed: who saves once more has read of it."""
        self.data = self.data.copy()
        values = current if isinstance(current, list) else ["" if current is None else current]
        self.data.setlist(self.add_initial_prefix(name), [str(value) for value in values])

    def _changed_meanwhile(self, field, now):
        who = operations.last_changed_by(now, field.name) or "Someone else"
        groups = ", ".join(map(str, field.value_from_object(now))) if field.many_to_many else ""
        what = groups or (NOTHING if field.many_to_many else shown(now, field))
        return f"{who} changed this to “{what}” meanwhile. Save once more to put what is here in its place."


class ConfirmContactForm(forms.Form):
    """How an Admin's address was confirmed. `address` is the one that the page showed."""

    how = Line(
        label="How do you know that this is their address?",
        help_text="Such as: called the number in our contract; asked the other Admin. It stays with the record.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
        error_messages={"required": "Say how you know that the address is right."},
    )
    address = forms.CharField(widget=forms.HiddenInput)

    def __init__(self, *args, contact, **kwargs):
        super().__init__(*args, label_suffix="", **kwargs)
        self.contact = contact
        self.fields["address"].initial = contact.email

    def show(self, contact):
        """Take the address as it is now for the one that the page showed: who submits once more has read of it."""
        self.data = self.data.copy()
        self.data["address"] = contact.email

    def carry_out(self, by):
        how, address = self.cleaned_data["how"], self.cleaned_data["address"]
        return operations.confirm_contact(self.contact, address=address, how=how, by=by)


class AccountRecordForm(RecordForm):
    class Meta:
        field_classes = {"number": NumberField}


class ColleagueForm(RecordForm, UserChangeForm):
    """A colleague's account, on the same terms. Whoever deactivates it says whom the open requests go to."""

    NOBODY = "nobody"
    password = None  # of which nobody is shown anything
    cases_to = forms.ChoiceField(label="Their open requests go to", required=False)

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.was_last_superuser = operations.is_last_superuser(self.instance)
        count = operations.open_cases(self.instance).count()
        if not count:
            del self.fields["cases_to"]
            return
        field = self.fields["cases_to"]
        able = roles.staff_who_may(operations.assign.permission).exclude(pk=self.instance.pk)
        field.choices = [
            ("", "Choose a colleague, or nobody"),
            *((str(colleague.pk), str(colleague)) for colleague in able),
            (self.NOBODY, "Nobody: anyone takes them from the queue"),
        ]
        field.show_hidden_initial = False
        field.help_text = f"For a deactivation only. They have {counted(count, 'open request', 'open requests')}."

    def clean(self):
        cleaned = super().clean()
        deactivates = "is_active" in self.changed_data and not cleaned.get("is_active")
        if "cases_to" in self.fields and deactivates and not cleaned.get("cases_to"):
            self.add_error("cases_to", "Choose who goes on with their open requests, or nobody.")
        for name in ("is_active", "is_superuser"):
            if name in self.changed_data and not cleaned.get(name) and self.was_last_superuser:
                self.add_error(name, sentence(Refusal.LAST_SUPERUSER, name=self.instance))
        return cleaned

    @property
    def hands_over(self):
        return not self.cleaned_data["is_active"] and bool(self.cleaned_data.get("cases_to"))

    @property
    def successor(self):
        """Whom the open requests go to; None for nobody."""
        chosen = self.cleaned_data["cases_to"]
        return None if chosen == self.NOBODY else User.objects.get(pk=chosen)


class NewColleagueForm(forms.ModelForm):
    """A colleague, who gets a link by email and chooses a password of their own."""

    class Meta:
        model = User
        fields = ("username", "first_name", "last_name", "email")
        field_classes = {"username": VisibleUsernameField, "email": AddressField}

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.instance.is_staff = True
        self.instance.set_unusable_password()
        self.fields["email"].required = True
        self.fields["email"].help_text = "The invitation goes there."
        self.fields["username"].help_text = "They sign in with it, and the record names them by it forever."

    def clean_username(self):
        """Refuse a name that is taken for another one: the record names people by it."""
        username = self.cleaned_data["username"]
        if not username.isascii():
            raise forms.ValidationError(
                "Use letters from a to z, digits and @ . + - _ only: others can look like these."
            )
        if taken := operations.who_reads_like(username):
            raise forms.ValidationError(sentence(Refusal.NAME_TAKEN, name=taken))
        return username
