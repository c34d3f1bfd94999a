"""What confirms a bulk action."""

from django import forms

from .base import reason


class BulkActionForm(forms.Form):
    """The key that makes a second submit the same act, and the reason where `why` asks for one."""

    key = forms.UUIDField(widget=forms.HiddenInput)

    def __init__(self, *args, why, key, **kwargs):
        super().__init__(*args, label_suffix="", **kwargs)
        self.fields["key"].initial = key
        if why:
            self.fields["why"] = reason(why)
