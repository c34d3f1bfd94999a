"""What is typed when consent terms are drafted, compared or looked at."""

from django import forms

from ...customer.forms import Line, Lines
from ...models import Account, ConsentTerms
from ...texts import wording

LONGEST = 20_000


class TermsForm(forms.Form):
    """The words of a draft. `seen` says which words its writer began with."""

    # Versions that differ in invisible characters alone would look the same.
    title = Line(
        joiners=False,
        help_text="Shown above the terms. No placeholders.",
        error_messages={"required": "Type the title."},
    )
    text = Lines(
        joiners=False,
        max_length=LONGEST,
        error_messages={"required": "Type the terms."},
        help_text=f"Placeholders: {' and '.join(wording.PLACEHOLDERS)}. A blank line begins a new paragraph.",
        widget=forms.Textarea(attrs={"rows": 15, "class": "terms-text"}),
    )
    seen = forms.CharField(widget=forms.HiddenInput, required=False)

    def __init__(self, *args, **kwargs):
        super().__init__(*args, label_suffix="", **kwargs)

    def clean_title(self):
        title = self.cleaned_data["title"]
        if "{" in title or "}" in title:
            raise forms.ValidationError("A title holds no braces: placeholders are for the text alone.")
        return title

    def clean_text(self):
        text = self.cleaned_data["text"]
        if problem := wording.terms_problem(text):
            raise forms.ValidationError(problem)
        return text


class CompareForm(forms.Form):
    """Which version to compare with."""

    other = forms.ModelChoiceField(queryset=ConsentTerms.objects.none(), empty_label=None)

    def __init__(self, *args, terms, **kwargs):
        super().__init__(*args, label_suffix="", **kwargs)
        self.fields["other"].label = f"Compare version {terms.version} with"
        self.fields["other"].to_field_name = "version"
        self.fields["other"].queryset = ConsentTerms.objects.exclude(pk=terms.pk)
        self.fields["other"].label_from_instance = lambda other: f"version {other.version}"


class SoftwareForm(forms.Form):
    """Whose page to look at: that of an account with this accounting software."""

    software = forms.ChoiceField(label="Accounting software of the example", choices=Account.Software.choices)

    def __init__(self, *args, **kwargs):
        super().__init__(*args, label_suffix="", **kwargs)
