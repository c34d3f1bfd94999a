"""What staff type to open a request: whose batches, then who asks, why and for which."""

import re

from django import forms
from django.contrib.admin.widgets import AutocompleteSelect
from django.db.models import Q

from ... import operations
from ...models import Account, Batch, Contact, RequestedBatch, UnlockRequest
from .base import ContactField, text

LISTED_BATCHES = 50
MOST_NUMBERS = 10_000


class AccountForm(forms.Form):
    """The first step of opening a request: whose batches?"""

    account = forms.ModelChoiceField(
        queryset=Account.objects.filter(active=True),
        help_text="Type its number, or the start of its number or name.",
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
        finding = (
            "no batch with this number" if len(unknown) == 1 else f"no batches with these {len(unknown):,} numbers"
        )
        self.add_error(
            "numbers", forms.ValidationError(f"{self.account} has {finding}: {named}{more}.", code="unknown")
        )

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
