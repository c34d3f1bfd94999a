"""What staff type at the request desk. A form of a case carries out one verb and says what it did."""

import re
import uuid

from django import forms
from django.contrib.admin.widgets import AutocompleteSelect
from django.contrib.auth import get_user_model
from django.db.models import Q

from ... import operations
from ...customer.forms import PinField
from ...models import Account, Act, Batch, Contact, LedgerEntry, RequestedBatch, UnlockRequest
from ...rules import Refusal
from .base import CaseForm, ContactField, text
from .consents import AttachEvidenceForm, RecordByPhoneForm, ResendReceiptForm

Kind = LedgerEntry.Kind

LISTED_BATCHES = 50
FEW_BATCHES = 3  # up to so many, each is ticked by itself
MOST_NUMBERS = 10_000


class AccountForm(forms.Form):
    """The first step of opening a request: whose batches?"""

    account = forms.ModelChoiceField(
        queryset=Account.objects.filter(active=True),
        help_text="Its number or name, or how it begins.",
        error_messages=dict.fromkeys(["required", "invalid_choice"], "Choose one of the active accounts."),
    )

    def __init__(self, *args, site, **kwargs):
        super().__init__(*args, label_suffix="", **kwargs)
        field = UnlockRequest._meta.get_field("account")
        attrs = {"data-width": "100%", "data-dropdown-parent": "#account-box"}
        self.fields["account"].widget = AutocompleteSelect(field, site, attrs=attrs)
        self.fields["account"].widget.choices = self.fields["account"].choices


class OpenRequestForm(forms.Form):
    """The second step: who asks, why, and for which batches of the account; in the order of the page.

    `only_batches` leaves everything but the batches unasked: that is what "Check the batches" needs.
    """

    requester = ContactField(
        label="Asked by",
        queryset=Contact.objects.none(),
        widget=forms.RadioSelect,
        error_messages={"required": "Choose who asks for the unlock."},
    )
    bypass_reason = forms.ChoiceField(
        label="Why were the batches bypassed?",
        choices=UnlockRequest.BypassReason.choices,
        widget=forms.RadioSelect,
        error_messages={"required": "Choose why the batches were bypassed."},
    )
    channel = forms.ChoiceField(
        label="How they reached us",
        choices=UnlockRequest.Channel.choices,
        widget=forms.RadioSelect,
        error_messages={"required": "Choose how they reached us."},
    )
    reason = text(
        "Reason for the unlock",
        help_text="In the customer's words: what do they want to do with them?",
        missing="Write down what the customer wants to do with the batches.",
    )
    numbers = forms.CharField(
        label="Batch numbers",
        required=False,
        help_text="Paste as many as you like, with commas, semicolons, spaces or lines between them.",
        widget=forms.Textarea(attrs={"rows": 4, "spellcheck": "false", "autocomplete": "off"}),
    )
    picked = forms.ModelMultipleChoiceField(
        label="Bypassed batches", queryset=Batch.objects.none(), required=False, widget=forms.CheckboxSelectMultiple
    )

    def __init__(self, data=None, *args, account, only_batches=False, **kwargs):
        super().__init__(data, *args, label_suffix="", **kwargs)
        self.account = account
        self.only_batches = only_batches
        self.chosen = Batch.objects.none()
        self.fields["requester"].queryset = account.contacts.all()
        self.fields["picked"].queryset = self._pickable()
        if only_batches:
            for field in self.fields.values():
                field.required = False

    def _pickable(self):
        """List the first bypassed batches that are in no open request, and whatever was ticked before."""
        busy = RequestedBatch.objects.filter(outcome__in=RequestedBatch.OPEN, batch__account=self.account)
        bypassed = self.account.batches.filter(status=Batch.Status.BYPASSED)
        listed = set(bypassed.exclude(pk__in=busy.values("batch")).values_list("pk", flat=True)[: LISTED_BATCHES + 1])
        self.more_to_pick = len(listed) > LISTED_BATCHES
        if self.more_to_pick:
            listed.remove(min(listed))
        if self.is_bound:
            ticked = self.data.getlist(self.add_prefix("picked"))[:MOST_NUMBERS]
            listed |= {int(key) for key in ticked if re.fullmatch(r"[0-9]{1,18}", key)}
        return self.account.batches.filter(pk__in=listed)

    def pickable(self):
        """Pair each tick box with its batch."""
        return [(box, box.data["value"].instance) for box in self["picked"]]

    def clean_numbers(self):
        """Fold what was pasted into distinct numbers, in the order in which they came."""
        numbers = list(dict.fromkeys(re.split(r"[,;\s]+", self.cleaned_data["numbers"].strip())))
        if len(numbers) > MOST_NUMBERS:
            raise forms.ValidationError(
                f"{len(numbers):,} numbers are more than one request can take at once ({MOST_NUMBERS:,}).",
                code="too_many",
            )
        return [number for number in numbers if number]

    def clean(self):
        cleaned = super().clean()
        numbers = cleaned.get("numbers", [])
        picked = [batch.pk for batch in cleaned.get("picked", [])]
        self.chosen = self.account.batches.filter(Q(pk__in=picked) | Q(number__in=numbers))
        if numbers:
            self._refuse_unknown(numbers)
        if not numbers and not picked and not self.errors.keys() & {"numbers", "picked"}:
            self.add_error("numbers", "Tick a batch, or paste the number of one.")
        return cleaned

    def _refuse_unknown(self, numbers):
        known = set(self.account.batches.filter(number__in=numbers).values_list("number", flat=True))
        unknown = [number for number in numbers if number not in known]
        if not unknown:
            return
        named = ", ".join(number[:60] for number in unknown[:100])
        more = f" and {len(unknown) - 100:,} more" if len(unknown) > 100 else ""
        said = "no batch with this number" if len(unknown) == 1 else f"no batches with these {len(unknown):,} numbers"
        self.add_error("numbers", forms.ValidationError(f"{self.account} has {said}: {named}{more}.", code="unknown"))

    def carry_out(self, by, batches):
        """Open the request for `batches`, which are among those chosen."""
        return operations.open_request(
            account=self.account,
            requester=self.cleaned_data["requester"],
            channel=self.cleaned_data["channel"],
            bypass_reason=self.cleaned_data["bypass_reason"],
            reason=self.cleaned_data["reason"],
            batches=batches,
            by=by,
        )


class AdviseForm(CaseForm):
    verb = "advise"
    title = "Offer the safer route"
    button = "Record the answer"
    permission = "unlocks.open_request"
    writes = (Kind.ADVISED,)

    advice = forms.ChoiceField(
        label="What did the customer choose?",
        choices=UnlockRequest.Advice.choices,
        widget=forms.RadioSelect,
        error_messages={"required": "Choose what the customer wants to do."},
    )

    @classmethod
    def fits(cls, case, user):
        return case.before_consent

    def carry_out(self, by):
        operations.record_advice(self.unlock_request, advice=self.cleaned_data["advice"], by=by)
        if self.cleaned_data["advice"] == UnlockRequest.Advice.MANUAL_ENTRY:
            return f"{self.unlock_request} is closed: the customer enters the items by hand, and nothing is unlocked."
        return "Recorded: the customer wants to export the batches."


class VerifyPinForm(CaseForm):
    verb = "verify_pin"
    title = "Verify the PIN for the customer"
    button = "Verify the PIN"
    permission = "unlocks.verify_pin"
    writes = (Kind.PIN_VERIFIED, Kind.PIN_WRONG, Kind.PIN_LOCKED)
    by_itself = True  # a try must stay taken whatever happens afterwards

    pin = PinField(
        label="Account PIN",
        help_text="Better: let the customer type it on the consent page. Typed by you it counts as lower assurance.",
    )

    @classmethod
    def fits(cls, case, user):
        return case.before_consent and not case.unlock_request.account.pin_state and not case.link_seen

    def carry_out(self, by):
        operations.verify_pin(self.unlock_request, pin=self.cleaned_data["pin"], by=by)
        return "The PIN is right. It counts for this request, for 30 minutes."


class IssuePinForm(CaseForm):
    verb = "issue_pin"
    title = "Have a new PIN issued"
    button = "Issue a new PIN"
    permission = "unlocks.issue_pin"
    writes = (Kind.PIN_ISSUED,)

    @classmethod
    def fits(cls, case, user):
        return case.before_consent and bool(case.unlock_request.account.pin_state)

    def carry_out(self, by):
        operations.issue_pin(self.unlock_request.account, by=by)
        return (
            f"A new PIN is on its way to the Admin contacts of {self.unlock_request.account}. Nobody here can see it."
        )


class SendLinkForm(CaseForm):
    verb = "send_link"
    title = "Send a consent link"
    button = "Send the consent link"
    permission = "unlocks.send_consent_link"
    writes = (Kind.LINK_SENT,)

    contact = ContactField(
        label="To which Admin?",
        queryset=Contact.objects.none(),
        widget=forms.RadioSelect,
        error_messages={"required": "Choose the Admin who gets the link."},
    )

    def prepare(self):
        admins = self.unlock_request.account.contacts.filter(is_admin=True)
        self.fields["contact"].queryset = admins
        self.fields["contact"].initial = self.unlock_request.requester_id

    @classmethod
    def fits(cls, case, user):
        sendable = case.is_open and case.unlock_request.status != UnlockRequest.Status.UNLOCKED
        return sendable and bool(case.unlock_request.advice) and bool(case.unlock_request.account.pin_hash)

    def carry_out(self, by):
        self.link_url = operations.send_consent_link(self.unlock_request, contact=self.cleaned_data["contact"], by=by)
        hidden = "" if self.link_url else " You know the account's PIN, so its address is not shown to you."
        return f"The consent link is on its way to {self.cleaned_data['contact']}.{hidden}"


class RevokeLinkForm(CaseForm):
    verb = "revoke_link"
    title = "Revoke the consent link"
    button = "Revoke the link"
    permission = "unlocks.send_consent_link"
    writes = (Kind.LINK_REVOKED,)

    @classmethod
    def fits(cls, case, user):
        return case.is_open and case.link_state == "live"

    def carry_out(self, by):
        operations.revoke_consent_link(self.unlock_request, by=by)
        return "The consent link is revoked: it opens nothing any more."


class UnlockForm(CaseForm):
    """Leads to the preview; the unlock itself is confirmed there."""

    verb = "unlock"
    title = "Unlock"
    button = "Unlock…"
    permission = "unlocks.unlock_batch"

    def prepare(self):
        self.button = f"Unlock {self.case.ready:,} batch{'' if self.case.ready == 1 else 'es'}…"

    @classmethod
    def fits(cls, case, user):
        return case.ready > 0


class RelockForm(CaseForm):
    verb = "relock"
    title = "Lock again"
    button = "Lock again"
    permission = "unlocks.relock_batch"
    danger = "danger"

    why = text("Why are they locked again?", rows=2, missing="Say why they are locked again: it stays with the record.")
    key = forms.UUIDField(widget=forms.HiddenInput)

    def prepare(self):
        self.fields["key"].initial = uuid.uuid4
        self.button = f"Lock {self.case.unlocked:,} again"

    @classmethod
    def fits(cls, case, user):
        return case.unlocked > 0

    def carry_out(self, by):
        self.act = operations.relock(
            self.case.unlocked_batches(), why=self.cleaned_data["why"], by=by, key=self.cleaned_data["key"]
        )
        return "Locked again."


class ReExportForm(CaseForm):
    verb = "mark_re_exported"
    title = "Mark as re-exported"
    button = "Mark as re-exported"
    permission = "unlocks.mark_re_exported_batch"

    all = forms.BooleanField(required=False)
    batches = forms.ModelMultipleChoiceField(
        label="Which did the customer export?",
        queryset=Batch.objects.none(),
        required=False,
        widget=forms.CheckboxSelectMultiple,
    )
    key = forms.UUIDField(widget=forms.HiddenInput)

    def prepare(self):
        self.fields["key"].initial = uuid.uuid4
        unlocked = self.case.unlocked_batches().order_by("number")
        self.fields["all"].label = f"All {self.case.unlocked:,} that are unlocked"
        if self.case.unlocked > LISTED_BATCHES:
            del self.fields["batches"]
        else:
            # The whole request, not only what is still unlocked: a second submit reaches the verb, which answers it.
            self.fields["batches"].queryset = Batch.objects.filter(lines__unlock_request=self.unlock_request)
            self.fields["batches"].choices = [(batch.pk, f"{batch.number} {batch.name}") for batch in unlocked]
        if self.case.unlocked <= FEW_BATCHES:
            del self.fields["all"]

    @classmethod
    def fits(cls, case, user):
        return case.unlocked > 0

    def clean(self):
        cleaned = super().clean()
        if not cleaned.get("all") and not cleaned.get("batches") and "batches" not in self.errors:
            self.add_error(
                "batches" if "batches" in self.fields else "all", "Tick what the customer has really exported."
            )
        return cleaned

    def carry_out(self, by):
        batches = self.case.unlocked_batches() if self.cleaned_data.get("all") else self.cleaned_data["batches"]
        self.act = operations.mark_re_exported(batches, by=by, key=self.cleaned_data["key"])
        return "Marked as re-exported."


class NoteForm(CaseForm):
    verb = "note"
    title = "Add a note"
    button = "Add the note"
    permission = "unlocks.open_request"
    writes = (Kind.NOTE,)

    text = text(
        "Note",
        help_text="Stays in the record; it can't be changed or deleted. Never put a PIN here.",
        missing="Write the note first.",
    )

    @classmethod
    def fits(cls, case, user):
        return True

    def same(self, facts):
        return facts.get("text") == self.cleaned_data["text"]

    def carry_out(self, by):
        operations.add_note(self.unlock_request, text=self.cleaned_data["text"], by=by)
        return "The note is on the timeline."


class TakeForm(CaseForm):
    verb = "take"
    title = "Take this request"
    button = "Take it"
    permission = "unlocks.open_request"
    writes = (Kind.ASSIGNED,)

    @classmethod
    def fits(cls, case, user):
        return case.is_open and case.unlock_request.assignee_id != user.pk

    def carry_out(self, by):
        operations.assign(self.unlock_request, to=self.user, by=by)
        return f"{self.unlock_request} is yours."


class HandOverForm(CaseForm):
    verb = "hand_over"
    title = "Hand over"
    button = "Hand over"
    permission = "unlocks.open_request"
    writes = (Kind.ASSIGNED,)

    to = forms.ModelChoiceField(
        label="To",
        queryset=get_user_model().objects.none(),
        empty_label="Choose a colleague",
        error_messages={"required": "Choose the colleague who takes it over."},
    )

    def prepare(self):
        self.fields["to"].queryset = (
            get_user_model()
            .objects.with_perm(self.permission, backend="django.contrib.auth.backends.ModelBackend")
            .filter(is_staff=True)
            .exclude(pk=self.unlock_request.assignee_id)
            .order_by("username")
        )

    def carry_out(self, by):
        operations.assign(self.unlock_request, to=self.cleaned_data["to"], by=by)
        return f"{self.unlock_request} is handed over to {self.cleaned_data['to'].get_username()}."


class WithdrawForm(CaseForm):
    verb = "withdraw"
    title = "Withdraw the consent"
    button = "Withdraw the consent"
    permission = "unlocks.withdraw_consent"
    writes = (Kind.WITHDRAWN,)
    danger = "danger"

    why = text("What did the customer say?", rows=2, missing="Write down what the customer said.")

    def prepare(self):
        unlocked = self.case.unlocked
        locked = f"{unlocked:,} batch{' is' if unlocked == 1 else 'es are'}" if unlocked else ""
        at_once = f"{locked} locked again at once, and the" if unlocked else "Nothing is unlocked under it. The"
        self.fields["why"].help_text = f"{at_once} request is closed. This can't be taken back."

    @classmethod
    def fits(cls, case, user):
        return case.standing_consent is not None and bool(case.waiting or case.unlocked)

    def carry_out(self, by):
        consent = self.case.consent
        if consent is None:
            raise operations.Refused.because(Refusal.CONSENT_OVER, names="none was given")
        operations.withdraw_consent(consent, why=self.cleaned_data["why"], by=by)
        closed = f"{self.unlock_request} is closed"
        return f"The consent is withdrawn, whatever was unlocked under it is relocked, and {closed}."


class CloseForm(CaseForm):
    verb = "close"
    title = "Close"
    button = "Close the request"
    permission = "unlocks.open_request"
    writes = (Kind.CLOSED,)

    resolution = forms.ChoiceField(
        label="How did it end?",
        choices=(),
        widget=forms.RadioSelect,
        error_messages={"required": "Choose how it ended."},
    )
    why = text("Why", rows=2)

    def prepare(self):
        resolutions = UnlockRequest.Resolution
        fitting = [resolutions.ENTERED_MANUALLY, resolutions.NOT_ELIGIBLE, resolutions.EXPIRED]
        if self.case.was_unlocked:
            fitting = []
            if self.case.re_exported:
                fitting.append(resolutions.RE_EXPORTED)
                self.fields["why"].label = "Why (not needed for Re-exported)"
            if self.case.relocked:
                fitting.append(resolutions.RELOCKED_UNUSED)
        self.fields["resolution"].choices = [(choice.value, choice.label) for choice in fitting]
        if len(fitting) == 1:
            self.fields["resolution"].initial = fitting[0]

    @classmethod
    def fits(cls, case, user):
        return case.is_open and not case.unlocked

    def clean(self):
        cleaned = super().clean()
        said = cleaned.get("resolution") == UnlockRequest.Resolution.RE_EXPORTED or cleaned.get("why", "").strip()
        if not said and not self.errors.keys() & {"resolution", "why"}:
            self.add_error("why", "Say why: it stays with the record.")
        return cleaned

    def carry_out(self, by):
        resolution = UnlockRequest.Resolution(self.cleaned_data["resolution"])
        operations.close_request(self.unlock_request, resolution=resolution, why=self.cleaned_data["why"], by=by)
        return f"{self.unlock_request} is closed: {resolution.label}."


class CancelForm(CaseForm):
    verb = "cancel"
    title = "Cancel"
    button = "Cancel the request"
    permission = "unlocks.open_request"
    writes = (Kind.CLOSED,)
    danger = "danger"

    why = text("Why is it cancelled?", rows=2, missing="Say why it is cancelled: it stays with the record.")

    @classmethod
    def fits(cls, case, user):
        return case.is_open and not case.was_unlocked

    def carry_out(self, by):
        operations.close_request(
            self.unlock_request, resolution=UnlockRequest.Resolution.CANCELED, why=self.cleaned_data["why"], by=by
        )
        return f"{self.unlock_request} is cancelled; its batches stay locked."


CASE_FORMS = {
    form.verb: form
    for form in (
        AdviseForm,
        SendLinkForm,
        VerifyPinForm,
        IssuePinForm,
        RecordByPhoneForm,
        AttachEvidenceForm,
        ResendReceiptForm,
        UnlockForm,
        ReExportForm,
        RelockForm,
        RevokeLinkForm,
        WithdrawForm,
        NoteForm,
        TakeForm,
        HandOverForm,
        CloseForm,
        CancelForm,
    )
}


class ActForm(forms.Form):
    """What confirms a bulk act: the key that makes a second submit the same act, and for a relock the reason."""

    key = forms.UUIDField(widget=forms.HiddenInput)
    why = text("Why are they locked again?", rows=2, missing="Say why they are locked again: it stays with the record.")

    def __init__(self, *args, kind, key, **kwargs):
        super().__init__(*args, label_suffix="", **kwargs)
        self.fields["key"].initial = key
        if kind != Act.Kind.RELOCK:
            del self.fields["why"]
