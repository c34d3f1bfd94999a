"""The forms of an import: its files, and how its contacts were confirmed."""

from collections import Counter
from itertools import islice
from typing import NamedTuple

from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError

from ... import operations
from ...customer.forms import Line
from ...imports.kinds import KINDS
from ...imports.problems import Unreadable
from ...imports.reading import File, open_file
from ...models import Import
from ...texts.normalize import one_line

OTHERWISE = "Split them, or import them with the command “manage.py import_records”, which takes files of any size."


class FilesInput(forms.FileInput):
    allow_multiple_selected = True

    def value_from_datadict(self, data, files, name):
        return files.getlist(name)


class FilesField(forms.FileField):
    """Any number of files, as a list."""

    widget = FilesInput(attrs={"accept": ".csv,.txt,.tsv,.xlsx"})

    def clean(self, data, initial=None):
        if not data:
            raise ValidationError(self.error_messages["required"], code="required")
        return data


class Read(NamedTuple):
    """A file that was uploaded, and how many rows it has; `problem` says why it can't be read."""

    name: str
    file: File | None = None
    rows: int = 0
    problem: str = ""


class UploadForm(forms.Form):
    """The files of an import. They are opened here, and `read` says what each of them is."""

    files = FilesField(
        label="Files",
        help_text=f"CSV or Excel (.xlsx): all at once, {settings.IMPORT_MAX_BYTES >> 20} MiB and "
        f"{settings.IMPORT_MAX_ROWS:,} rows at most. Their first row tells what they hold.",
        error_messages={"required": "Choose the files."},
    )
    day_first = forms.BooleanField(
        label="In the dates of these files, the day comes first",
        help_text="Then 3/4/2026 is April 3. Leave it unticked for American files; 2026-04-03 is understood anyway.",
        required=False,
    )
    kind = forms.ChoiceField(
        label="What they hold",
        choices=[("", "As their first row tells"), *((name, name.capitalize()) for name in KINDS)],
        required=False,
    )

    def __init__(self, *args, **kwargs):
        super().__init__(*args, label_suffix="", **kwargs)
        self.read = []

    def clean(self):
        cleaned = super().clean()
        files = cleaned.get("files", [])
        if (size := sum(file.size for file in files)) > settings.IMPORT_MAX_BYTES:
            most = settings.IMPORT_MAX_BYTES >> 20
            self.add_error("files", f"The files have {size / 2**20:,.1f} MiB, and {most} are the most. {OTHERWISE}")
            return cleaned
        self.read = [self._opened(file) for file in files]
        times = Counter(read.name for read in self.read)
        self.read = [
            read._replace(problem="Two files have this name. Give one another name, so that errors can say which.")
            if times[read.name] > 1
            else read
            for read in self.read
        ]
        if any(read.problem for read in self.read):
            self.add_error("files", "Correct what is wrong with the files below, and choose all of them again.")
        elif sum(read.rows for read in self.read) > settings.IMPORT_MAX_ROWS:
            self.add_error("files", f"The files have more than {settings.IMPORT_MAX_ROWS:,} rows. {OTHERWISE}")
        return cleaned

    def _opened(self, uploaded):
        name = one_line(uploaded.name)[:100]
        try:
            kind, day_first = self.cleaned_data.get("kind"), self.cleaned_data["day_first"]
            file = open_file(name, uploaded, kind=kind or None, day_first=day_first)
            return Read(name, file, sum(1 for _ in islice(file.rows(), settings.IMPORT_MAX_ROWS + 1)))
        except Unreadable as unreadable:
            return Read(name, problem=str(unreadable))

    def carry_out(self, by):
        return operations.stage_import([read.file for read in self.read], source=Import.Source.FILE, by=by)


class ConfirmImportForm(forms.Form):
    """How the addresses of the Admins were confirmed that came in with an import."""

    how = Line(
        label="How do you know that these are their addresses?",
        help_text="Such as: compared with the list in our contract system. It stays with the record of each.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
        error_messages={"required": "Say how you know that the addresses are right."},
    )

    def __init__(self, *args, **kwargs):
        super().__init__(*args, label_suffix="", **kwargs)
