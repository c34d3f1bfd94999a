"""What staff do about instructions: carry them out by hand, and say so. Each deed says who may, and what it did."""

from collections import defaultdict

from django import forms
from django.conf import settings
from django.db.models import Q
from django.utils import timezone

from ... import operations
from ...models import Instruction
from ...rules import BY_ANOTHER_PERSON, Refusal
from ...texts.formats import counted

NAMED = 10
# The field that a refusal of a verb is about.
_FIELD_OF = {Refusal.NO_REFERENCE: "reference", Refusal.NO_REASON: "why"}


def _now():
    """Return the time with its offset: the zone that pages are read in may be another when the form comes back."""
    return timezone.now().isoformat()


class WorkForm(forms.Form):
    """A deed, done to the instructions that were ticked, or to `all` that the list showed. A subclass names it."""

    verb = button = permission = ""

    all = forms.BooleanField(required=False)
    shown_at = forms.DateTimeField(required=False, widget=forms.HiddenInput, initial=_now)
    reference = forms.CharField(max_length=500, required=False)
    why = forms.CharField(
        label="Why it was not done",
        help_text="If it was to be unlocked, the customer reads this.",
        max_length=500,
        required=False,
    )

    def __init__(self, *args, ticked=(), **kwargs):
        super().__init__(*args, label_suffix="", **kwargs)
        self.ticked = set(ticked)
        self.fields["reference"].label = f"Reference in {settings.VENDOR_NAME}"
        self.fields["reference"].help_text = f"What {settings.VENDOR_NAME} or your ticket there calls it."

    def clean(self):
        cleaned = super().clean()
        if not self.verb:
            self.add_error(None, "Press the button that says what became of them.")
        elif not cleaned.get("all") and not self.ticked:
            self.add_error(None, "Tick the batches that you mean.")
        elif cleaned.get("all") and not cleaned.get("shown_at"):
            self.add_error(None, "This page is not as it was sent. Load it again, then say what you mean.")
        return cleaned

    def meant(self, listed):
        """Leave those of a list that were on it when the page was shown, by whoever had taken them then."""
        shown = Q(sent_at__lte=self.cleaned_data["shown_at"]) | Q(sent_at=None)
        return listed.filter(shown, queued_at__lte=self.cleaned_data["shown_at"])

    def carry_out(self, instructions, by):
        """Call the verb and return what to say, as (level, message); None when it was refused."""
        try:
            return self.did(instructions, by)
        except operations.Refused as refused:
            self.add_error(_FIELD_OF.get(refused.code), str(refused))
            return None

    def did(self, instructions, by):
        raise NotImplementedError

    def said(self, done, message, *, refused=0):
        """Say what was done to how many, and that the rest of what was picked had changed meanwhile."""
        said = [("success", message)] if done else []
        rest = 0 if self.cleaned_data["all"] else len(self.ticked) - done - refused
        if rest > 0:
            what = "it" if rest == 1 else "them"
            changed = f"{counted(rest, 'batch', 'batches')} that you ticked had changed meanwhile"
            said.append(("warning", f"{changed}: nothing was done to {what} now."))
        elif not done and not refused:
            said.append(("warning", "Nothing was done: nothing is left of what the list showed."))
        return said


class StartForm(WorkForm):
    verb = "start"
    button = "Start"
    permission = operations.start_instructions.permission

    def did(self, instructions, by):
        over = operations.start_instructions(instructions, by=by)
        what = "it" if len(over.sent) == 1 else "them"
        message = f"{_are(over.sent)} yours now. Do {what} in {settings.VENDOR_NAME}, then say so here."
        refused = [*_canceled(over.canceled), *_of_others(over.refused)]
        return [
            *self.said(len(over.sent), message, refused=len(over.canceled) + len(over.refused)),
            *(("warning", text) for text in refused),
        ]


class DoneForm(WorkForm):
    verb = "done"
    button = "Done"
    permission = operations.answer_by_hand.permission

    def clean(self):
        cleaned = super().clean()
        if cleaned.get("why"):
            self.add_error("why", "You also wrote why it was not done. Clear that, or press Not done.")
        return cleaned

    def did(self, instructions, by):
        done = operations.answer_by_hand(instructions, done=True, text=self.cleaned_data["reference"], by=by)
        return self.said(done, f"{_are(done)} recorded as done, with the reference {self.cleaned_data['reference']}.")


class NotDoneForm(WorkForm):
    verb = "not_done"
    button = "Not done"
    permission = operations.answer_by_hand.permission

    def clean(self):
        cleaned = super().clean()
        if cleaned.get("reference"):
            self.add_error("reference", "You also gave a reference. Clear that, or press Done.")
        return cleaned

    def did(self, instructions, by):
        done = operations.answer_by_hand(instructions, done=False, text=self.cleaned_data["why"], by=by)
        return self.said(done, f"{_are(done)} recorded as not done: {self.cleaned_data['why']}")


class PutBackForm(WorkForm):
    verb = "put_back"
    button = "Put back"
    permission = operations.put_back.permission

    def did(self, instructions, by):
        done = getattr(operations, self.verb)(instructions, by=by)
        return self.said(done, f"{_are(done)} put back: anyone may start {'it' if done == 1 else 'them'}.")


class PutBackForOthersForm(PutBackForm):
    verb = "put_back_for_others"
    permission = operations.put_back_for_others.permission


class TryAgainForm(WorkForm):
    verb = "try_again"
    button = "Ask again"
    permission = operations.try_again.permission

    def did(self, instructions, by):
        done = operations.try_again(instructions, by=by)
        about = counted(done, "batch", "batches")
        return self.said(done, f"{settings.VENDOR_NAME} will be asked again about {about}.")


WORK_FORMS = {
    form.verb: form for form in (StartForm, DoneForm, NotDoneForm, PutBackForm, PutBackForOthersForm, TryAgainForm)
}


def _are(instructions):
    count = instructions if isinstance(instructions, int) else len(instructions)
    return f"{counted(count, 'batch is', 'batches are')}"


def _canceled(instructions):
    """Say which were canceled, by the reason that each was given."""
    reasons = dict(Instruction.objects.filter(pk__in=[one.pk for one in instructions]).values_list("pk", "answer"))
    groups = defaultdict(list)
    for one in instructions:
        groups[reasons[one.pk]].append(one)
    for why, group in sorted(groups.items()):
        yield f"{_are(group)} canceled, and must not be unlocked. {why}: {_named(group)}."


def _of_others(refused):
    """Say which wait for another person, by what whoever wanted to start them did before."""
    groups = defaultdict(list)
    for code, one in refused:
        groups[BY_ANOTHER_PERSON[code]].append(one)
    for what, group in sorted(groups.items()):
        count = counted(len(group), "batch waits", "batches wait")
        yield f"{count} for someone else, because you {what}: {_named(group)}."


def _named(instructions):
    named = ", ".join(one.batch.number for one in instructions[:NAMED])
    more = len(instructions) - NAMED
    return f"{named} and {more:,} more" if more > 0 else named
