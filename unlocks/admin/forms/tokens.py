"""What a superuser types to make a token of the API."""

import uuid
from datetime import timedelta

from django import forms
from django.utils import timezone

from ... import operations
from ...models import ApiToken
from .records import RecordLine, VisibleUsernameField

DAYS = [30, 90, 180, 365]


class MakeTokenForm(forms.Form):
    """`key` makes a second submit the same act: the token is not shown again."""

    key = forms.UUIDField(widget=forms.HiddenInput, initial=uuid.uuid4)
    system = VisibleUsernameField(
        max_length=150,
        label="System",
        help_text="Who acts by it, such as billing-portal. A system that is not there yet is added. It can't sign in, "
        "and the record names it forever.",
        error_messages={"required": "Name the system that gets the token."},
    )
    name = RecordLine(
        max_length=80,
        label="What is it for?",
        help_text="Such as: nightly feed, server 2. To tell its tokens apart.",
        error_messages={"required": "Say what the token is for."},
    )
    scopes = forms.MultipleChoiceField(
        label="What may it do?",
        choices=ApiToken.Scope.choices,
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": "Choose what it may do."},
    )
    days = forms.TypedChoiceField(
        label="How long does it work?",
        choices=[(days, f"{days} days") for days in DAYS],
        coerce=int,
        initial=DAYS[1],
        widget=forms.RadioSelect,
        error_messages={"required": "Choose how long it works."},
    )

    def __init__(self, *args, **kwargs):
        super().__init__(*args, label_suffix="", **kwargs)

    def carry_out(self, by):
        """Make the token and return it, with the text that is shown once; '' when it was made before."""
        return operations.make_api_token(
            self.cleaned_data["system"],
            name=self.cleaned_data["name"],
            scopes=self.cleaned_data["scopes"],
            expires_at=timezone.now() + timedelta(days=self.cleaned_data["days"]),
            key=self.cleaned_data["key"],
            by=by,
        )
