"""What staff type into a record: an account, a contact, a colleague."""

from django import forms
from django.contrib.auth.forms import AdminUserCreationForm, UsernameField
from django.db import models

from ...customer.forms import Line
from ...texts import normalize


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


class AccountRecordForm(forms.ModelForm):
    class Meta:
        field_classes = {"number": NumberField}


class NewColleagueForm(AdminUserCreationForm):
    class Meta(AdminUserCreationForm.Meta):
        field_classes = {"username": VisibleUsernameField}
