"""What is typed to sign in, and to set up a second factor."""

from json import JSONDecodeError, JSONDecoder

from allauth.account import forms as account
from allauth.account.adapter import get_adapter as get_account_adapter
from allauth.core import context
from allauth.mfa.adapter import get_adapter
from allauth.mfa.base import forms as codes
from allauth.mfa.totp import forms as totp
from allauth.mfa.webauthn import forms as webauthn
from cryptography.exceptions import InvalidSignature
from django.contrib.admin.forms import AdminPasswordChangeForm
from django.contrib.auth.forms import SetPasswordForm
from django.core.exceptions import ValidationError
from django.forms import CharField, HiddenInput

from .. import operations
from ..actors import Actor
from ..rules import Refusal, sentence
from . import tries


class Plain:
    """A form of allauth's with labels instead of placeholders."""

    required = {}

    def __init__(self, *args, **kwargs):
        super().__init__(*args, label_suffix="", **kwargs)
        for name, field in self.fields.items():
            field.widget.attrs.pop("placeholder", None)
            if name in self.required:
                field.error_messages["required"] = self.required[name]


class SignInForm(Plain, account.LoginForm):
    """`typed` is a form that was sent while signed out (`unlocks.admin.typed`)."""

    required = {"login": "Type your username.", "password": "Type your password."}
    typed = CharField(required=False, widget=HiddenInput)
    field_order = ["login", "password"]

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.fields["password"].help_text = ""
        self.fields["login"].widget.attrs |= {"autofocus": True, "autocapitalize": "none", "maxlength": 150}


class ConfirmForm(Plain, account.ReauthenticateForm):
    required = {"password": "Type your password."}

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.fields["password"].help_text = ""
        self.fields["password"].widget.attrs["autofocus"] = True


class OwnPasswordForm(Plain, SetPasswordForm):
    required = {"new_password1": "Type a password.", "new_password2": "Type it once more."}

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.fields["new_password1"].label, self.fields["new_password2"].label = "Password", "The same once more"

    def validate_password_for_user(self, user, *field):
        """Say beside the password itself what is wrong with it."""
        super().validate_password_for_user(user, "new_password1")


class ChangePasswordForm(AdminPasswordChangeForm):
    """Staff's own password. Tries with a wrong old one are counted and told like those of signing in."""

    def clean_old_password(self):
        typed = self.cleaned_data["old_password"]
        if not get_account_adapter().reauthenticate(self.user, typed):
            raise ValidationError(self.error_messages["password_incorrect"], code="password_incorrect")
        return typed


class Code(Plain):
    required = {"code": "Type the code."}

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.fields["code"].widget.attrs |= {"autofocus": True, "autocapitalize": "none", "maxlength": 20}


class OwnCode(Code):
    """A code of whoever types it: believed if the record tells of their factors, and told if it is used up by that."""

    def clean_code(self):
        by = Actor.staff(self.user, context.request)
        try:
            wrong = operations.change_own_factors(self._wrong, by=by)
        except operations.Refused as refused:
            wrong = ValidationError(str(refused), code="factors")
        if wrong is None:
            return self.cleaned_data["code"]
        self._tell({"incorrect_code": "code", "too_many_login_attempts": "too_many"}.get(wrong.code, wrong.code))
        raise wrong

    def _wrong(self):
        """Return what is wrong with the code, or None. Raised here, it would undo what counts the tries."""
        try:
            super().clean_code()
        except ValidationError as wrong:
            return wrong
        return None

    def _tell(self, why):
        request = context.request
        if why == "too_many" and tries.is_told(request, self.user.get_username(), "too many codes"):
            return
        by = Actor.staff(self.user, request) if request.user == self.user else Actor.nobody(request)
        operations.record_failed_sign_in(self.user, why=why, by=by)


class CodeForm(OwnCode, codes.AuthenticateForm):
    pass


class CodeAgainForm(OwnCode, codes.ReauthenticateForm):
    pass


class SetUpAppForm(Code, totp.ActivateTOTPForm):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.fields["code"].label = "Code that the app shows"


class Decoder(JSONDecoder):
    """Takes what is nested too deep, or holds too long a number, for no JSON."""

    def decode(self, text):
        try:
            return super().decode(text)
        except (ValueError, RecursionError) as error:
            raise JSONDecodeError("It can't be read", text, 0) from error


class Passkey:
    """What a browser says of a passkey, or someone makes up: fido2 raises on what has another shape."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.fields["credential"].decoder = Decoder

    def clean_credential(self):
        inner = getattr(super(), "clean_credential", lambda: self.cleaned_data["credential"])
        return self._tried(inner)

    def _tried(self, step):
        try:
            return step()
        except (InvalidSignature, LookupError, AttributeError, TypeError, ValueError):
            raise get_adapter().validation_error("incorrect_code") from None


class PasskeySignInForm(Passkey, webauthn.LoginWebAuthnForm):
    pass


class PasskeyForm(Passkey, webauthn.AuthenticateWebAuthnForm):
    pass


class PasskeyAgainForm(Passkey, webauthn.ReauthenticateWebAuthnForm):
    def clean(self):
        """Believe the passkey if the record tells of their factors, as signing in does."""
        cleaned = super().clean()
        if not operations.factors_are_recorded(self.user):
            raise ValidationError(sentence(Refusal.FACTORS_NOT_RECORDED))
        return cleaned


class AddPasskeyForm(Plain, Passkey, webauthn.AddWebAuthnForm):
    required = {"name": "Name it.", "credential": "Your browser gave no passkey. Try again."}

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.fields["name"].label = "Name"
        self.fields["name"].max_length = 40
        self.fields["name"].help_text = "Such as: work laptop. To tell your passkeys apart."
        self.fields["passwordless"].label = "Sign in with it alone, without the password"
        self.fields["passwordless"].initial = True
        self.fields["passwordless"].help_text = "It then asks for your finger, your face or its own PIN."

    def clean(self):
        return self._tried(super().clean)

    def clean_name(self):
        return self.cleaned_data["name"][:40] or "without a name"
