"""What is asked on the public check page: a file, or the number and code that stand on a certificate."""

import re

from crispy_forms.helper import FormHelper
from django import forms

NUMBER = re.compile(r"CN-?([0-9]{1,12})-([0-9]{1,6})")
# Codes hold no letter that is taken for a digit; whoever reads one off paper may still type it.
LOOKALIKES = str.maketrans("OIL", "011")
CODE_LENGTH = 12


class CheckForm(forms.Form):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.helper = FormHelper()
        self.helper.form_tag = False
        # The template writes the form tag and its token.
        self.helper.disable_csrf = True


class FileForm(CheckForm):
    """The certificate as it was downloaded. What the file is called, and says it is, makes no difference."""

    file = forms.FileField(
        label="PDF or JSON file",
        help_text="As it was downloaded. Up to 20 MB; it is not kept.",
        widget=forms.FileInput(attrs={"accept": ".pdf,.json,application/pdf,application/json"}),
        max_length=None,
        error_messages={
            "required": "Choose the PDF or JSON file of the certificate.",
            "invalid": "Choose the PDF or JSON file of the certificate.",
            "missing": "Choose the PDF or JSON file of the certificate.",
            "empty": "This file is empty. Choose the file as it was downloaded.",
        },
    )


class NumberForm(CheckForm):
    """Number and code, forgiving in all that doesn't tell one code from another: case, blanks, dashes, O for 0."""

    number = forms.CharField(
        label="Number",
        help_text="Such as CN-000012-1.",
        max_length=40,
        widget=forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "characters", "spellcheck": "false"}),
        error_messages={"required": "Type the number of the certificate."},
    )
    code = forms.CharField(
        label="Code",
        help_text="Such as 7K4Q-9M2X-TB6R.",
        max_length=40,
        widget=forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "characters", "spellcheck": "false"}),
        error_messages={"required": "Type the code that stands beside the number."},
    )

    def clean_number(self):
        """Return the consent's key and the certificate's ordinal."""
        number = re.sub(r"[‐-―−]", "-", re.sub(r"\s", "", self.cleaned_data["number"])).upper()
        if found := NUMBER.fullmatch(number):
            return int(found[1]), int(found[2])
        raise forms.ValidationError("A number looks like CN-000012-1. Type it as it stands on the certificate.")

    def clean_code(self):
        """Return the code as it is issued: in capitals, in groups of four."""
        code = re.sub(r"[\W_]", "", self.cleaned_data["code"]).upper().translate(LOOKALIKES)
        if len(code) != CODE_LENGTH or not code.isascii():
            raise forms.ValidationError(
                "A code has twelve letters and digits. Type it as it stands on the certificate."
            )
        return "-".join(code[place : place + 4] for place in range(0, CODE_LENGTH, 4))
