"""What is typed to sign in."""

from allauth.account import forms
from django.forms import CharField, HiddenInput


class SignInForm(forms.LoginForm):
    """`typed` is a form that was sent while signed out (`unlocks.admin.typed`)."""

    typed = CharField(required=False, widget=HiddenInput)
    field_order = ["login", "password"]

    def __init__(self, *args, **kwargs):
        super().__init__(*args, label_suffix="", **kwargs)
        for name, message in {"login": "Type your username.", "password": "Type your password."}.items():
            self.fields[name].widget.attrs.pop("placeholder", None)
            self.fields[name].error_messages["required"] = message
        self.fields["password"].help_text = ""
        self.fields["login"].widget.attrs |= {"autofocus": True, "autocapitalize": "none", "maxlength": 150}
