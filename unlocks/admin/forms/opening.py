"""What staff type to open a request: whose batches, then who asks, why and for which."""

import re
import uuid

from django import forms
from django.contrib.admin.widgets import AutocompleteSelect
from django.core.validators import MaxLengthValidator
from django.db.models import Q

from ... import operations
from ...models import Account, Batch, Contact, RequestedBatch, UnlockRequest
from .base import ContactField, text
from .pasted import NAMED, Pasted

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

    `key` makes a second submit the same act. `selection` holds what was ticked in a list. `only_batches` leaves
    everything but the batches unasked: that is what "Check the batches" needs.
    """

    key = forms.UUIDField(required=False, widget=forms.HiddenInput, initial=uuid.uuid4)
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
        help_text="Paste as many as you like, with commas, semicolons, spaces or lines between them. "
        "A number that has spaces in it goes on a line of its own.",
        validators=[MaxLengthValidator(500_000)],  # with `max_length` the browser would cut the rest off silently
        widget=forms.Textarea(attrs={"rows": 4, "spellcheck": "false", "autocomplete": "off"}),
    )
    picked = forms.ModelMultipleChoiceField(
        label="Bypassed batches", queryset=Batch.objects.none(), required=False, widget=forms.CheckboxSelectMultiple
    )

    def __init__(self, data=None, *args, account, selection=None, only_batches=False, **kwargs):
        super().__init__(data, *args, label_suffix="", **kwargs)
        self.account = account
        self.only_batches = only_batches
        self.selected = account.batches.filter(selections=selection) if selection else Batch.objects.none()
        self.chosen = self.selected
        self.fields["requester"].queryset = account.contacts.select_related("entered_by", "confirmed_by")
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
        ticked = self.data.getlist("picked")[:MOST_NUMBERS] if self.is_bound else self.initial.get("picked", [])
        listed |= {int(key) for key in ticked if re.fullmatch(r"[0-9]{1,18}", key)}
        return self.account.batches.filter(pk__in=listed)

    def pickable(self):
        """Pair each tick box with its batch."""
        return [(box, box.data["value"].instance) for box in self["picked"]]

    def clean_numbers(self):
        """Return the numbers of the account's batches that were pasted, in the order in which they came."""
        pasted = Pasted(self.cleaned_data["numbers"], self.account.batches)
        if (count := len(pasted.found) + len(pasted.unknown)) > MOST_NUMBERS:
            raise forms.ValidationError(
                f"{count:,} numbers are more than one request can take at once ({MOST_NUMBERS:,}).", code="too_many"
            )
        for run, whole in list(pasted.doubtful.items())[:NAMED]:
            self.add_error("numbers", forms.ValidationError(_doubt(run, whole), code="doubtful"))
        if pasted.unknown:
            self.add_error("numbers", forms.ValidationError(self._unknown(pasted), code="unknown"))
        return pasted.found

    def clean(self):
        cleaned = super().clean()
        numbers = cleaned.get("numbers", [])
        picked = [batch.pk for batch in cleaned.get("picked", [])]
        selected = self.selected.order_by().values("pk")
        self.chosen = self.account.batches.filter(Q(pk__in=picked) | Q(number__in=numbers) | Q(pk__in=selected))
        named = numbers or picked or selected.exists()
        if not named and not self.errors.keys() & {"numbers", "picked"}:
            self.add_error("numbers", "Tick a batch, or paste the number of one.")
        return cleaned

    def _unknown(self, pasted):
        count = len(pasted.unknown)
        named = ", ".join(
            word[:60] + (f" (did you mean {' or '.join(meant)}?)" if meant else "") for word, meant in pasted.meant()
        )
        more = f" and {count - NAMED:,} more" if count > NAMED else ""
        finding = "no batch with this number" if count == 1 else f"no batches with these {count:,} numbers"
        return f"{self.account} has {finding}: {named}{more}."

    def carry_out(self, by, batches):
        """Open the request for `batches`, which are among those chosen."""
        return operations.open_request(
            account=self.account,
            requester=self.cleaned_data["requester"],
            channel=self.cleaned_data["channel"],
            bypass_reason=self.cleaned_data["bypass_reason"],
            reason=self.cleaned_data["reason"],
            batches=batches,
            key=self.cleaned_data["key"],
            by=by,
        )


def _doubt(run, whole):
    parts = run.replace(",", ", ")
    return f"“{run}” may be the batch {whole}, or several: {parts}. Write {whole}, or each on a line of its own."
