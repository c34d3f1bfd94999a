"""What staff type to open a request: who asks, why and for which batches, and what the customer chose."""

import re
import uuid

from django import forms
from django.conf import settings
from django.db.models import Q

from ... import operations
from ...models import Batch, Contact, RequestedBatch, UnlockRequest
from ...rules import has_possible_duplicates
from ...texts import normalize
from .base import ContactField, Line, text
from .pasted import MOST_NUMBERS, NumbersForm, numbers_field

LISTED_BATCHES = 50
Reason, Advice = UnlockRequest.BypassReason, UnlockRequest.Advice


class OpenRequestForm(NumbersForm):
    """Who asks, why, for which batches of the account, and what they chose; in the order of the page.

    `key` makes a second submit the same act. `selection` holds what was ticked in a list. `only_batches` leaves
    everything but the batches unasked: that is what "Check the batches" needs. `send` says whether the link is to go
    out at once.
    """

    key = forms.UUIDField(required=False, widget=forms.HiddenInput, initial=uuid.uuid4)
    requester = ContactField(
        label="Asked by",
        queryset=Contact.objects.none(),
        widget=forms.RadioSelect,
        error_messages={"required": "Choose who asks for the unlock."},
    )
    channel = forms.ChoiceField(
        label="How they reached us",
        choices=UnlockRequest.Channel.choices,
        widget=forms.RadioSelect,
        error_messages={"required": "Choose how they reached us."},
    )
    ticket_system = forms.ChoiceField(label="Help desk", required=False)
    ticket_number = forms.CharField(
        label="Ticket number",
        required=False,
        max_length=UnlockRequest._meta.get_field("ticket_number").max_length,
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    numbers = numbers_field(
        "Paste as many as you like, with commas, semicolons, spaces or lines between them. "
        "A number that has spaces in it goes on a line of its own.",
        rows=4,
    )
    picked = forms.ModelMultipleChoiceField(
        label="Bypassed batches", queryset=Batch.objects.none(), required=False, widget=forms.CheckboxSelectMultiple
    )
    bypass_reason = forms.ChoiceField(
        label="Why were the batches bypassed?",
        choices=Reason.choices,
        widget=forms.RadioSelect,
        error_messages={"required": "Choose why the batches were bypassed."},
    )
    bypass_other = Line(
        label="If for another reason: which?",
        required=False,
        max_length=UnlockRequest._meta.get_field("bypass_other").max_length,
    )
    reason = text(
        "Reason for the unlock",
        help_text="In the customer's words: what do they want to do with them?",
        missing="Write down what the customer wants to do with the batches.",
    )
    advice = forms.ChoiceField(
        label="I offered the safer route. What did the customer choose?",
        choices=Advice.choices,
        required=False,
        widget=forms.RadioSelect,
        help_text="Entering the items by hand is the surest way to avoid duplicates. Nothing is unlocked then, and the "
        "request is closed at once.",
    )

    def __init__(self, data=None, *args, account, selection=None, only_batches=False, send=False, **kwargs):
        super().__init__(data, *args, label_suffix="", **kwargs)
        self.account, self.only_batches, self.send = account, only_batches, send
        self.selected = account.batches.filter(selections=selection) if selection else Batch.objects.none()
        self.chosen = self.selected
        self.fields["requester"].queryset = account.contacts.select_related("entered_by", "confirmed_by")
        self.fields["picked"].queryset = self._pickable()
        self._offer_tickets()
        if only_batches:
            for field in self.fields.values():
                field.required = False

    def _offer_tickets(self):
        """Leave out the choice of a help desk where there is none, and choose the only one."""
        systems = list(settings.TICKET_SYSTEMS)
        if not systems:
            del self.fields["ticket_system"]
            return
        field = self.fields["ticket_system"]
        field.choices = [("", "None"), *((name, name) for name in systems)]
        field.initial = systems[0] if len(systems) == 1 else ""

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
        return self.account.batches.filter(pk__in=listed).annotate(possible_duplicate=has_possible_duplicates())

    def pickable(self):
        """Pair each tick box with its batch."""
        return [(box, box.data["value"].instance) for box in self["picked"]]

    def clean_ticket_number(self):
        return normalize.number(self.cleaned_data["ticket_number"])

    def clean(self):
        cleaned = super().clean()
        numbers = cleaned.get("numbers", [])
        picked = [batch.pk for batch in cleaned.get("picked", [])]
        selected = self.selected.order_by().values("pk")
        self.chosen = self.account.batches.filter(Q(pk__in=picked) | Q(number__in=numbers) | Q(pk__in=selected))
        named = numbers or picked or selected.exists()
        if not named and not self.errors.keys() & {"numbers", "picked"}:
            self.add_error("numbers", "Tick a batch, or paste the number of one.")
        if not self.only_batches:
            self._clean_answers(cleaned)
        return cleaned

    def _clean_answers(self, cleaned):
        other = cleaned.get("bypass_reason") == Reason.OTHER
        if other and not cleaned.get("bypass_other"):
            self.add_error("bypass_other", "Say what the other reason is.")
        if not other and cleaned.get("bypass_other"):
            self.add_error("bypass_other", "Choose “Other” above, or leave this empty.")
        if not cleaned.get("ticket_number"):
            cleaned["ticket_system"] = ""
        if self.send and not cleaned.get("advice"):
            self.add_error("advice", "Offer the safer route first, and choose what the customer wants to do.")
        if self.send and cleaned.get("advice") == Advice.MANUAL_ENTRY:
            self.add_error(
                "advice",
                "Then there is nothing to consent to. Open without emailing: the request is closed at once.",
            )

    def carry_out(self, by, batches):
        """Open the request for `batches`, which are among those chosen; return it, and the link or None."""
        typed = (
            "requester",
            "channel",
            "bypass_reason",
            "bypass_other",
            "reason",
            "ticket_system",
            "ticket_number",
            "advice",
            "key",
        )
        answers = {name: self.cleaned_data[name] for name in typed if name in self.cleaned_data}
        return operations.open_and_send(account=self.account, batches=batches, send=self.send, by=by, **answers)
