"""What confirms a bulk action."""

from django import forms

from .base import reason, window


class BulkActionForm(forms.Form):
    """The key that makes a second submit the same act, and the window and the reason where the words ask for them."""

    key = forms.UUIDField(widget=forms.HiddenInput)

    def __init__(self, *args, words, key, **kwargs):
        super().__init__(*args, label_suffix="", **kwargs)
        self.fields["key"].initial = key
        if words.window:
            self.fields["hours"] = window(words.window)
        if words.why:
            self.fields["why"] = reason(words.why)
