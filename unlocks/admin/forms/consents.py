"""The forms about a consent: recording one by phone, its evidence, its receipt and its certificate."""

from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from django.utils.crypto import constant_time_compare

from ... import evidence, operations
from ...certificates import facts
from ...customer.forms import Line
from ...digest import sha256
from ...ledger import events
from ...models import ConsentEvidence, Contact
from ...templatetags.desk import on_file
from ...texts.shown import terms_in_force, text_to_read_out
from .base import CaseForm, ContactField

CHANGED = (
    "What you read out has changed in the meantime: a batch or the terms. Nothing was recorded. "
    "Read the text out again as it stands now, and tick what they answer to that."
)


class EvidenceField(forms.FileField):
    """A signed paper or an email, validated before anything is recorded; its bytes are `content`."""

    widget = forms.FileInput(attrs={"accept": ",".join(f".{extension}" for extension in evidence.EXTENSIONS)})

    def __init__(self, **kwargs):
        size = settings.EVIDENCE_MAX_BYTES // (1024 * 1024)
        kinds = "PDF, PNG, JPEG or a saved email (.eml)"
        super().__init__(**{"help_text": f"{kinds}, at most {size} MiB. It can't be removed afterwards."} | kwargs)
        self.error_messages["empty"] = "This file is empty. Choose another one."

    def clean(self, data, initial=None):
        file = super().clean(data, initial)
        if not file:
            return None
        if file.size > settings.EVIDENCE_MAX_BYTES:
            raise ValidationError(evidence.too_big(file.size), code="too_big")
        file.content = file.read()
        try:
            evidence.media_type(evidence.clean_name(file.name), file.content)
        except evidence.Unfit as unfit:
            raise ValidationError(str(unfit), code="unfit") from None
        return file


class WithFile:
    """A form with a file, which has to be chosen again after an error: browsers do not send it twice."""

    @property
    def choose_again(self):
        return bool(self.errors) and bool(self.files.get("file"))

    def attach(self, consent, by):
        file = self.cleaned_data["file"]
        return operations.attach_evidence(
            consent, what=self.cleaned_data["what"], file_name=file.name, content=file.content, by=by
        )


class ConsentForm(CaseForm):
    """A verb of the case's consent."""

    def clean(self):
        if self.case.consent is None:
            raise ValidationError("The customer has not answered in this request yet.", code="no_consent")
        return super().clean()


class RecordByPhoneForm(CaseForm):
    """Leads to the page with the text to read out; what was answered is recorded there (`AnswersForm`)."""

    verb = "record_by_phone"
    title = "Record the consent by phone"
    button = "Record the consent by phone…"
    permission = operations.record_phone_consent.permission

    @classmethod
    def fits(cls, case, user):
        return case.obstacle_to_phone_consent == ""


class AnswersForm(WithFile, CaseForm):
    """What the customer answered on the phone to the text that was read out. `text` is that text as it stands now."""

    verb = "record"
    title = "What they answered"
    button = "Record the consent"
    permission = operations.record_phone_consent.permission
    writes = (events.RecordedByPhone,)

    TICKS = ("read_out", "authorized", "agreed")

    contact = ContactField(
        label="Which Admin is on the phone?",
        queryset=Contact.objects.none(),
        widget=forms.RadioSelect,
        error_messages={"required": "Choose the Admin who is on the phone. Nobody else can consent."},
    )
    name = Line(
        label="Full name, as they said it",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
        error_messages={"required": "Type the full name that they gave."},
    )
    role = Line(
        label="Role in the company, as they said it",
        help_text="Such as Owner, Controller or Office manager.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
        error_messages={"required": "Ask for their role, and type it."},
    )
    read_out = forms.BooleanField(
        label="I read the whole text out",
        error_messages={"required": "Read the whole text out first; then tick this."},
    )
    authorized = forms.BooleanField(
        label="They said that they are authorized to decide",
        error_messages={"required": "Without that, nothing can be recorded. Ask for an Admin who is authorized."},
    )
    agreed = forms.BooleanField(
        label="They said that they agree",
        error_messages={"required": "If they do not agree, record nothing: add a note or close the request."},
    )
    what = forms.ChoiceField(
        label="Is there a signed paper or an email already?",
        choices=[("", "Not now; it can be attached later"), *ConsentEvidence.What.choices],
        required=False,
        widget=forms.RadioSelect,
    )
    file = EvidenceField(label="File", required=False)
    shown = forms.CharField(widget=forms.HiddenInput, required=False)

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.fields["shown"].initial = sha256(self.text)

    def ticks(self):
        return [self[name] for name in self.TICKS]

    def prepare(self):
        self.text = text_to_read_out(self.unlock_request)
        self.fields["contact"].queryset = self.case.admins
        self.fields["contact"].initial = self.unlock_request.requester_id
        self.fields["authorized"].label += f" for {self.unlock_request.account.name}"
        self.fields["agreed"].label += f" to the terms (version {terms_in_force().version})"

    def clean(self):
        cleaned = super().clean()
        as_shown = constant_time_compare(cleaned.get("shown", ""), sha256(self.text))
        if not as_shown or cleaned.get("seen") is None:
            self._ask_again()
            raise ValidationError(CHANGED, code="changed")
        if cleaned.get("what") and not cleaned.get("file") and "file" not in self.errors:
            self.add_error("file", "Choose the file, or “Not now”.")
        if cleaned.get("file") and not cleaned.get("what"):
            self.add_error("what", "Say what the file is.")
        return cleaned

    def _ask_again(self):
        """Show the new text, with no tick left from the old one; what was typed stays."""
        self.data = self.data.copy()
        self.data["shown"] = sha256(self.text)
        for tick in self.TICKS:
            self.data.pop(tick, None)
            self._errors.pop(tick, None)

    def carry_out(self, by):
        consent = operations.record_phone_consent(
            self.unlock_request,
            contact=self.cleaned_data["contact"],
            name=self.cleaned_data["name"],
            role=self.cleaned_data["role"],
            shown=self.text,
            by=by,
        )
        attached = bool(self.cleaned_data["file"]) and self.attach(consent, by)
        paper = f" {attached.file_name} is attached." if attached else ""
        return (
            f"{consent.reference} is recorded by phone: {consent.signer_name} said yes.{paper} Another person unlocks."
        )


class AttachEvidenceForm(WithFile, ConsentForm):
    verb = "attach"
    title = "Attach a signed paper or an email"
    button = "Attach the file"
    permission = operations.attach_evidence.permission

    what = forms.ChoiceField(
        label="What is it?",
        choices=ConsentEvidence.What.choices,
        widget=forms.RadioSelect,
        error_messages={"required": "Say what the file is."},
    )
    file = EvidenceField(label="File", error_messages={"required": "Choose the file."})

    @classmethod
    def fits(cls, case, user):
        return case.recorded_by_phone

    def carry_out(self, by):
        attached = self.attach(self.case.consent, by)
        return f"Attached to {self.case.consent.reference}: {attached.file_name}, under SHA-256 {attached.sha256}."


class ResendReceiptForm(ConsentForm):
    verb = "resend_receipt"
    title = "Send the receipt again"
    button = "Send the receipt again"
    permission = operations.resend_receipt.permission
    writes = (events.ReceiptResent,)

    @classmethod
    def fits(cls, case, user):
        return case.receipt_failed and not case.own_contact

    def prepare(self):
        if self.case.consent:
            contact = self.case.consent.contact
            self.where = f"It goes to {contact.name}, {contact.email}, {on_file(contact)}."

    def same(self, event):
        return event.consent == self.case.consent.pk

    def carry_out(self, by):
        resent = operations.resend_receipt(self.case.consent, by=by)
        return f"The receipt of {self.case.consent.reference} waits to be sent to {resent.email}."


class CertificateForm(ConsentForm):
    verb = "certify"
    title = "Issue a certificate"
    button = "Issue a certificate"
    permission = "unlocks.view_consent"
    by_itself = True  # a long PDF takes seconds, which is too long to hold locks

    def prepare(self):
        newest = next(iter(self.case.certificates), None)
        if newest is None:
            return
        upto = facts.entries_of(self.unlock_request).order_by("-sequence").values_list("sequence", flat=True).first()
        if (newest.upto, newest.interim) == (upto, self.case.is_open):
            self.title = self.button = f"Show {newest.number}"
            self.where = "Nothing has happened in the case since it was issued, so it still says it all."
        elif newest.interim and not self.case.is_open:
            self.title = self.button = "Issue a newer one (final)"
        else:
            self.title = self.button = "Issue a newer one"

    def carry_out(self, by):
        """Issue it and return its number: the page of the certificate, which comes next, says the rest."""
        self.issued = operations.issue_certificate(self.case.consent, by=by)
        return self.issued.number


CONSENT_FORMS = {form.verb: form for form in (CertificateForm, AttachEvidenceForm, ResendReceiptForm)}
