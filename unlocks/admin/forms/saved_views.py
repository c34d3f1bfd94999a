"""What staff type to keep a list as they narrowed it."""

from django import forms
from django.utils import timezone

from ...models import SavedView
from .records import RecordLine

MOST = 30  # views of one list that a person has


class SaveViewForm(forms.Form):
    """Saves the `query` of a list under a name."""

    name = RecordLine(label="Name", max_length=60)
    shared = forms.BooleanField(label="Share it: colleagues may open and copy it", required=False)
    query = forms.CharField(
        widget=forms.HiddenInput,
        max_length=2000,
        error_messages={
            "required": "This is the whole list. Filter or sort it first.",
            "max_length": "These filters are too long to be saved. Take some off.",
        },
    )

    def __init__(self, *args, **kwargs):
        super().__init__(*args, label_suffix="", **kwargs)

    def carry_out(self, list_name, owner):
        """Save the view and return it; None when it was refused, which is said beside the name."""
        typed = self.cleaned_data
        own = SavedView.objects.filter(list=list_name, owner=owner)
        if own.filter(name__iexact=typed["name"]).exists():
            return self.add_error("name", "You have a view with this name already. Choose another name.")
        if own.count() >= MOST:
            return self.add_error("name", f"You have {MOST} views of this list. Delete one of them first.")
        rest = {"query": typed["query"], "shared": typed["shared"], "made_at": timezone.now()}
        # Of two at once with this name, the second finds the first's.
        return SavedView.objects.get_or_create(list=list_name, owner=owner, name=typed["name"], defaults=rest)[0]
