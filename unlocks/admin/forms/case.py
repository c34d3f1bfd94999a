"""The verbs of a case. Each form says who may, when it makes sense, what is typed for it and what it did."""

from django import forms
from django.contrib.auth import get_user_model

from ... import operations, roles
from ...customer.forms import PinField
from ...ledger import events
from ...models import Act, Batch, Contact, UnlockRequest
from ...rules import Refusal
from ...templatetags.desk import on_file
from ...texts.formats import counted, moment, span
from .asking import AddBatchesForm, TakeOutForm
from .base import CaseForm, ContactField, reason, text
from .consents import AttachEvidenceForm, RecordByPhoneForm, ResendReceiptForm
from .reviews import FlagForm, ResolveFlagForm, SignOffForm

LISTED_BATCHES = 50
FEW_BATCHES = 3  # up to so many, each is ticked by itself


class AdviseForm(CaseForm):
    verb = "advise"
    title = "Offer the safer route"
    button = "Record the answer"
    permission = operations.record_advice.permission
    writes = (events.Advised,)

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
        operations.record_advice(self.unlock_request, advice=self.cleaned_data["advice"], by=by, key=self.act_key)
        if self.cleaned_data["advice"] == UnlockRequest.Advice.MANUAL_ENTRY:
            return f"{self.unlock_request} is closed: the customer enters the items by hand, and nothing is unlocked."
        return "Recorded: the customer wants to export the batches."


class VerifyPinForm(CaseForm):
    verb = "verify_pin"
    title = "Verify the PIN for the customer"
    button = "Verify the PIN"
    permission = operations.verify_pin.permission
    writes = (events.PinVerified, events.PinWrong, events.PinLocked)
    by_itself = True  # an attempt has to stay counted if a later step fails

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
    permission = operations.issue_pin.permission
    costly = True
    writes = (events.PinDrawn,)

    @classmethod
    def fits(cls, case, user):
        return case.before_consent and bool(case.unlock_request.account.pin_state) and not case.own_contact

    def prepare(self):
        to = [f"{admin.name}, {admin.email}, {on_file(admin)}" for admin in self.case.admins]
        self.where = f"It goes to {'; and to '.join(to)}." if to else ""

    def carry_out(self, by):
        operations.issue_pin(self.unlock_request.account, by=by)
        to = f"the Admin contacts of {self.unlock_request.account}"
        return f"A new PIN waits to be sent to {to}. Nobody here can see it."


class SendLinkForm(CaseForm):
    verb = "send_link"
    title = "Send a consent link"
    button = "Send the consent link"
    permission = operations.send_consent_link.permission
    costly = True
    writes = (events.LinkSent,)

    contact = ContactField(
        label="To which Admin?",
        queryset=Contact.objects.none(),
        widget=forms.RadioSelect,
        error_messages={"required": "Choose the Admin who gets the link."},
    )

    def prepare(self):
        self.fields["contact"].queryset = self.case.admins
        self.fields["contact"].initial = self.unlock_request.requester_id
        self.doubts = self.case.doubts

    @classmethod
    def fits(cls, case, user):
        begun = case.granted or case.unlock_request.status == UnlockRequest.Status.UNLOCKED
        sendable = case.is_open and case.waiting and not begun and not case.own_contact
        return bool(sendable and case.unlock_request.advice) and bool(case.unlock_request.account.pin_hash)

    def carry_out(self, by):
        contact = self.cleaned_data["contact"]
        self.link = operations.send_consent_link(self.unlock_request, contact=contact, by=by, key=self.act_key)
        return f"The consent link waits to be sent to {contact}."


class RevokeLinkForm(CaseForm):
    verb = "revoke_link"
    title = "Revoke the consent link"
    button = "Revoke the link"
    permission = operations.revoke_consent_link.permission
    writes = (events.LinkRevoked,)

    @classmethod
    def fits(cls, case, user):
        return case.is_open and case.link_state == "live"

    def carry_out(self, by):
        operations.revoke_consent_link(self.unlock_request, by=by, key=self.act_key)
        return "The consent link is revoked: it opens nothing any more."


class PreviewForm(CaseForm):
    """Leads to the preview of a bulk action (`kind`), where it is confirmed."""

    kind = ""
    card = "batches"

    @classmethod
    def picked(cls, case):
        """Return the batches of the case that it is about."""
        raise NotImplementedError


class UnlockForm(PreviewForm):
    verb = "unlock"
    kind = Act.Kind.UNLOCK
    title = "Unlock"
    permission = operations.unlock.permission

    def prepare(self):
        self.button = f"Unlock {counted(self.case.ready, 'batch', 'batches')}…"

    @classmethod
    def picked(cls, case):
        return case.waiting_batches()

    @classmethod
    def fits(cls, case, user):
        return case.ready > 0


class ActForm(CaseForm):
    """A bulk action on batches of the case."""

    card = "batches"


class CancelUnlockForm(ActForm):
    verb = "cancel_unlock"
    title = "Cancel the unlock"
    permission = operations.cancel_unlock.permission
    danger = "danger"

    why = reason("Why is the unlock canceled?")

    def prepare(self):
        self.button = f"Cancel the unlock of {counted(self.case.cancelable, 'batch', 'batches')}"
        why = self.fields["why"]
        why.help_text = "The product was not asked yet. The batches stay locked, and can be unlocked later."

    @classmethod
    def fits(cls, case, user):
        return case.cancelable > 0

    def carry_out(self, by):
        # All that are unlocking: of those that were handed over meanwhile, the report says so.
        return operations.cancel_unlock(
            self.case.unlocking_batches(), why=self.cleaned_data["why"], by=by, key=self.act_key
        )


class TryAgainForm(CaseForm):
    verb = "try_again"
    title = "Try again"
    button = "Have the product asked again"
    permission = operations.try_again.permission
    card = "batches"

    @classmethod
    def fits(cls, case, user):
        return case.given_up > 0

    def carry_out(self, by):
        count = operations.try_again(self.case.instructions_given_up(), by=by)
        if not count:
            return "The product is being asked already, or has answered. Nothing was done now."
        return f"The product is asked again what became of {counted(count, 'batch', 'batches')}."


class RelockForm(ActForm):
    verb = "relock"
    title = "Relock"
    permission = operations.relock.permission
    danger = "danger"

    why = reason("Why are they relocked?")

    def prepare(self):
        self.button = f"Relock {counted(self.case.relockable, 'batch', 'batches')}"

    @classmethod
    def fits(cls, case, user):
        return case.relockable > 0

    def carry_out(self, by):
        return operations.relock(self.case.relockable_batches(), why=self.cleaned_data["why"], by=by, key=self.act_key)


class ExtendForm(ActForm):
    verb = "extend"
    title = "Extend the window"
    permission = operations.extend_window.permission

    hours = forms.TypedChoiceField(
        label="How long from the unlock on?",
        coerce=int,
        widget=forms.RadioSelect,
        error_messages={"required": "Choose how long they stay unlocked."},
    )
    why = reason("Why is it extended?")

    def prepare(self):
        self.button = f"Extend the window of {counted(self.case.unlocked, 'batch', 'batches')}"
        ends = self.case.longer_windows
        self.fields["hours"].choices = [(hours, f"{span(hours)}: until {moment(end)}") for hours, end in ends]
        self.fields["hours"].initial = ends[0][0] if len(ends) == 1 else None
        self.fields["why"].help_text = "A window can be extended once."

    @classmethod
    def fits(cls, case, user):
        return bool(case.longer_windows)

    def carry_out(self, by):
        # All that are unlocked: of those that can't be extended any more, the report says so.
        return operations.extend_window(
            self.case.unlocked_batches(),
            hours=self.cleaned_data["hours"],
            why=self.cleaned_data["why"],
            by=by,
            key=self.act_key,
        )


class ReExportForm(ActForm):
    verb = "mark_re_exported"
    title = "Mark as re-exported"
    button = "Mark as re-exported"
    permission = operations.mark_re_exported.permission
    costly = True

    all = forms.BooleanField(required=False)
    batches = forms.ModelMultipleChoiceField(
        label="Which did the customer export?",
        queryset=Batch.objects.none(),
        required=False,
        widget=forms.CheckboxSelectMultiple,
    )

    @classmethod
    def fits(cls, case, user):
        return case.exportable > 0

    def prepare(self):
        count = self.case.exportable
        only_unlocked = count == self.case.unlocked
        self.fields["all"].label = f"All {count:,} that {'are unlocked' if only_unlocked else 'may have been exported'}"
        if count > LISTED_BATCHES:
            del self.fields["batches"]
        else:
            exportable = self.case.exportable_batches().order_by("number")
            # The whole request, not only what is still unlocked: a second submit reaches the verb, which answers it.
            self.fields["batches"].queryset = Batch.objects.filter(lines__unlock_request=self.unlock_request)
            self.fields["batches"].choices = [(batch.pk, f"{batch.number} {batch.name}") for batch in exportable]
        if count <= FEW_BATCHES:
            del self.fields["all"]

    def clean(self):
        cleaned = super().clean()
        if not cleaned.get("all") and not cleaned.get("batches") and "batches" not in self.errors:
            self.add_error(
                "batches" if "batches" in self.fields else "all", "Tick what the customer has really exported."
            )
        return cleaned

    def carry_out(self, by):
        batches = self.case.exportable_batches() if self.cleaned_data.get("all") else self.cleaned_data["batches"]
        return operations.mark_re_exported(batches, by=by, key=self.act_key)


class NoteForm(CaseForm):
    verb = "note"
    title = "Add a note"
    button = "Add the note"
    permission = operations.add_note.permission
    writes = (events.Note,)

    text = text(
        "Note",
        help_text="Stays in the record; it can't be changed or deleted. Never put a PIN here.",
        missing="Write the note first.",
    )

    @classmethod
    def fits(cls, case, user):
        return True

    def same(self, event):
        return event.text == self.cleaned_data["text"]

    def carry_out(self, by):
        operations.add_note(self.unlock_request, text=self.cleaned_data["text"], by=by, key=self.act_key)
        return "The note is on the timeline."


class TakeForm(CaseForm):
    verb = "take"
    title = "Take this request"
    button = "Assign to me"
    permission = operations.assign.permission
    writes = (events.Assigned,)

    @classmethod
    def fits(cls, case, user):
        return case.is_open and case.unlock_request.assignee_id != user.pk

    def carry_out(self, by):
        operations.assign(self.unlock_request, to=self.user, by=by, key=self.act_key)
        return f"{self.unlock_request} is yours."


class HandOverForm(CaseForm):
    verb = "hand_over"
    title = "Hand over"
    button = "Hand over"
    permission = operations.assign.permission
    costly = True
    writes = (events.Assigned,)

    to = forms.ModelChoiceField(
        label="To",
        queryset=get_user_model().objects.none(),
        empty_label="Choose a colleague",
        error_messages={"required": "Choose the colleague who takes it over."},
    )

    def prepare(self):
        able = roles.staff_who_may(self.permission)
        self.fields["to"].queryset = able.exclude(pk=self.unlock_request.assignee_id)

    def carry_out(self, by):
        operations.assign(self.unlock_request, to=self.cleaned_data["to"], by=by, key=self.act_key)
        return f"{self.unlock_request} is handed over to {self.cleaned_data['to'].get_username()}."


class WithdrawForm(CaseForm):
    verb = "withdraw"
    title = "Withdraw the consent"
    button = "Withdraw the consent"
    permission = operations.withdraw_consent.permission
    writes = (events.Withdrawn,)
    danger = "danger"

    why = text("What did the customer say?", rows=2, missing="Write down what the customer said.")

    def prepare(self):
        self.fields["why"].help_text = f"{self._what_follows()} This can't be undone."

    def _what_follows(self):
        canceled, asked = self.case.cancelable, self.case.granted - self.case.cancelable
        said = []
        if canceled:
            said.append(
                f"The unlock of {counted(canceled, 'batch', 'batches')} is canceled: the product was not asked yet."
            )
        if asked:
            said.append(f"The product is asked at once to lock {counted(asked, 'batch', 'batches')}.")
        if not said:
            said.append("Nothing is unlocked under it.")
        return " ".join([*said, "The request closes once all are locked." if asked else "The request is closed."])

    @classmethod
    def fits(cls, case, user):
        return case.standing_consent is not None and bool(case.waiting or case.granted)

    def carry_out(self, by):
        consent = self.case.consent
        if consent is None:
            raise operations.Refused.because(Refusal.CONSENT_OVER, names="none was given")
        operations.withdraw_consent(consent, why=self.cleaned_data["why"], by=by, key=self.act_key)
        self.unlock_request.refresh_from_db()
        if self.unlock_request.status == UnlockRequest.Status.CLOSED:
            return f"The consent is withdrawn. Nothing is unlocked under it, and {self.unlock_request} is closed."
        return (
            "The consent is withdrawn, and the product is asked to lock what was unlocked under it. "
            f"{self.unlock_request} closes once all is locked."
        )


class CloseForm(CaseForm):
    verb = "close"
    title = "Close"
    button = "Close the request"
    permission = operations.close_request.permission
    writes = (events.Closed,)

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
        if self.case.ever_unlocked:
            fitting = []
            if self.case.re_exported:
                fitting.append(resolutions.RE_EXPORTED)
                self.fields["why"].label = "Why (not needed for Re-exported)"
            if self.case.relocked:
                fitting.append(resolutions.RELOCKED_UNUSED)
        self.fields["resolution"].choices = [(choice.value, choice.label) for choice in fitting]
        if len(fitting) == 1:
            self.fields["resolution"].initial = fitting[0]
        elif self.case.refused and not self.case.waiting:
            self.fields["resolution"].initial = resolutions.NOT_ELIGIBLE

    @classmethod
    def fits(cls, case, user):
        return case.is_open and not case.granted

    def clean(self):
        cleaned = super().clean()
        explained = cleaned.get("resolution") == UnlockRequest.Resolution.RE_EXPORTED or cleaned.get("why", "").strip()
        if not explained and not self.errors.keys() & {"resolution", "why"}:
            self.add_error("why", "Say why: it stays with the record.")
        return cleaned

    def carry_out(self, by):
        resolution = UnlockRequest.Resolution(self.cleaned_data["resolution"])
        operations.close_request(
            self.unlock_request, resolution=resolution, why=self.cleaned_data["why"], by=by, key=self.act_key
        )
        return f"{self.unlock_request} is closed: {resolution.label}."


class CancelForm(CaseForm):
    verb = "cancel"
    title = "Cancel"
    button = "Cancel the request"
    permission = operations.close_request.permission
    writes = (events.Closed,)
    danger = "danger"

    why = reason("Why is it canceled?")

    @classmethod
    def fits(cls, case, user):
        return case.is_open and not case.granted and not case.ever_unlocked

    def carry_out(self, by):
        operations.close_request(
            self.unlock_request,
            resolution=UnlockRequest.Resolution.CANCELED,
            why=self.cleaned_data["why"],
            by=by,
            key=self.act_key,
        )
        return f"{self.unlock_request} is canceled; its batches stay locked."


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
        AddBatchesForm,
        TakeOutForm,
        TryAgainForm,
        CancelUnlockForm,
        ReExportForm,
        ExtendForm,
        RelockForm,
        RevokeLinkForm,
        WithdrawForm,
        NoteForm,
        TakeForm,
        HandOverForm,
        CloseForm,
        CancelForm,
        SignOffForm,
        FlagForm,
        ResolveFlagForm,
    )
}
