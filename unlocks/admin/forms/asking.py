"""Changing which batches a request asks for: what is pasted and ticked."""

from django import forms
from django.db.models import Q

from ... import operations
from ...ledger import events
from ...models import Batch
from ...texts.formats import counted
from .base import CaseForm
from .pasted import NumbersForm, numbers_field


class AskingForm(CaseForm, NumbersForm):
    """Batches named by their numbers, as long as the customer has not answered."""

    card = "batches"
    missing = ""

    numbers = numbers_field("As many as you like, with commas, semicolons, spaces or lines between them.", rows=3)

    @classmethod
    def fits(cls, case, user):
        return case.before_consent and case.consent is None

    @property
    def account(self):
        return self.unlock_request.account

    def clean(self):
        cleaned = super().clean()
        if not self.errors and not cleaned["numbers"] and not cleaned.get("batches"):
            self.add_error("numbers", self.missing)
        return cleaned

    def named(self):
        return self.account.batches.filter(number__in=self.cleaned_data["numbers"])

    def _what_now(self, what, count):
        asked = "The customer's page shows what is asked now. " if self.case.link_is_live else ""
        return f"{counted(count, 'batch', 'batches')} {what}. {asked}".strip()


class AddBatchesForm(AskingForm):
    verb = "add_batches"
    title = button = "Add batches"
    and_then = "add the rest"
    missing = "Paste the number of a batch."
    permission = operations.add_batches.permission
    writes = (events.BatchesAdded,)

    def same(self, event):
        return not set(event.numbers).isdisjoint(self.cleaned_data["numbers"])

    def carry_out(self, by):
        batches = self.named()
        count = batches.count()
        operations.add_batches(self.unlock_request, batches=batches, by=by, key=self.act_key)
        return self._what_now("added", count)


class TakeOutForm(AskingForm):
    verb = "take_out_batches"
    title = button = "Take batches out"
    and_then = "take out the rest"
    missing = "Tick a batch, or paste the number of one."
    permission = operations.take_out_batches.permission
    writes = (events.BatchesTakenOut,)

    batches = forms.ModelMultipleChoiceField(
        label="Which are not to be unlocked?",
        queryset=Batch.objects.none(),
        required=False,
        widget=forms.CheckboxSelectMultiple,
    )

    @classmethod
    def fits(cls, case, user):
        return super().fits(case, user) and case.waiting > 1

    def prepare(self):
        # The whole request, not only what waits: a second submit reaches the verb, which answers it.
        self.fields["batches"].queryset = Batch.objects.filter(lines__unlock_request=self.unlock_request)
        listed = [(batch.pk, f"{batch.number} {batch.name}") for batch in self.case.listed_waiting]
        self.fields["batches"].choices = listed
        self.fields["numbers"].label = "Or their numbers"
        self.order_fields(["seen", "key", "batches", "numbers"])

    def same(self, event):
        return not set(event.numbers).isdisjoint(self._chosen().values_list("number", flat=True))

    def carry_out(self, by):
        batches = self._chosen()
        count = batches.count()
        operations.take_out_batches(self.unlock_request, batches=batches, by=by, key=self.act_key)
        return self._what_now("taken out", count)

    def _chosen(self):
        ticked = self.cleaned_data.get("batches", Batch.objects.none())
        return self.account.batches.filter(Q(number__in=self.cleaned_data["numbers"]) | Q(pk__in=ticked.values("pk")))
