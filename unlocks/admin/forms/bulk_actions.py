"""What confirms a bulk action."""

from django import forms

from ...models import Act
from .base import text


class BulkActionForm(forms.Form):
    """The key that makes a second submit the same act, and for a relock the reason."""

    key = forms.UUIDField(widget=forms.HiddenInput)
    why = text("Why are they relocked?", rows=2, missing="Give the reason. It stays with the record.")

    def __init__(self, *args, kind, key, **kwargs):
        super().__init__(*args, label_suffix="", **kwargs)
        self.fields["key"].initial = key
        if kind != Act.Kind.RELOCK:
            del self.fields["why"]
