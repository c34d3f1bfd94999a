"""Reading the batch numbers that someone pasted: which batches of the account they name, and which may name others."""

import re
from functools import cache

from django import forms
from django.core.validators import MaxLengthValidator

from ...digest import sha256
from ...texts import normalize

LONGEST = 40
NAMED = 100
MOST_NUMBERS = 10_000
AT_ONCE = 30_000  # SQLite takes 32,766 parameters


def numbers_field(help_text, *, rows):
    """Return the field that batch numbers are pasted into."""
    return forms.CharField(
        label="Batch numbers",
        required=False,
        help_text=help_text,
        validators=[MaxLengthValidator(500_000)],  # with `max_length` the browser would cut the rest off silently
        widget=forms.Textarea(attrs={"rows": rows, "spellcheck": "false", "autocomplete": "off"}),
    )


class NumbersForm(forms.Form):
    """A form with `numbers` of batches of its `account`. Those that name none can be left out in one click.

    `without` names, by their digest, the unknown numbers that are to be left out.
    """

    unknown = None
    and_then = ""  # what the button that leaves them out does besides

    def clean_numbers(self):
        """Return the numbers of the account's batches that were pasted, in the order in which they came."""
        pasted = Pasted(self.cleaned_data["numbers"], self.account.batches)
        if (count := len(pasted.found) + len(pasted.unknown)) > MOST_NUMBERS:
            raise forms.ValidationError(
                f"{count:,} numbers are more than one request can take at once ({MOST_NUMBERS:,}).", code="too_many"
            )
        for run, whole in list(pasted.doubtful.items())[:NAMED]:
            self.add_error("numbers", forms.ValidationError(_doubt(run, whole), code="doubtful"))
        if pasted.unknown:
            self._leave_out(pasted)
        return pasted.found

    def _leave_out(self, pasted):
        """Leave out the unknown numbers if just these were meant, or say which they are."""
        digest = sha256("\n".join(pasted.unknown))
        if not pasted.doubtful and self.data.get("without") == digest:
            self.data = self.data.copy()
            self.data["numbers"] = "\n".join(pasted.found)
            return
        self.add_error("numbers", forms.ValidationError(_unknown(self.account, pasted), code="unknown"))
        if not pasted.doubtful:
            self.unknown = {"count": len(pasted.unknown), "digest": digest, "rest": bool(pasted.found)}


class Pasted:
    """The numbers in a text: a line of its own, what stands between commas, semicolons and tabs, or single words.

    The first of these that is a number of the account counts: the one that is spelled so, with its own dashes and
    quotes or with those on our keys, or else the only one that is the same but for capitals, quotes and dashes.
    `found` are such numbers, `unknown` what is none, and `doubtful` pairs the numbers that a comma parts ("12,345")
    with the one that they may be.
    """

    def __init__(self, text, batches):
        self._batches, self._alike = batches, cache(_alike)
        lines = list(filter(None, map(_Line, re.split(r"[\r\n]+", text))))
        self._known = {}
        self._learn({self._alike(reading) for line in lines for reading in line.readings} - {""})
        self.found = list(dict.fromkeys(number for line in lines for number in self._found_in(line)))
        self.unknown = list(dict.fromkeys(word for line in lines for word in self._unknown_in(line)))
        self.doubtful = {run: whole for line in lines for run, whole in self._doubtful_in(line)}

    def _learn(self, numbers):
        """Note which numbers of the account are the same as `numbers` but for capitals, quotes and dashes."""
        asked = sorted({spelling for number in numbers for spelling in normalize.spellings(number)})
        for start in range(0, len(asked), AT_ONCE):
            batches = self._batches.order_by().filter(number_plain__in=asked[start : start + AT_ONCE])
            for number in batches.values_list("number", flat=True):
                self._known.setdefault(self._alike(number), set()).add(number)

    def _number(self, reading):
        alike = self._known.get(self._alike(reading))
        if not alike:
            return None
        spelled = (normalize.bare(reading), normalize.number(reading))
        return next((number for number in spelled if number in alike), min(alike) if len(alike) == 1 else None)

    def _parts(self, line):
        if self._number(line.whole):
            return [line.whole]
        return [part for field in line.fields for part in ([field] if self._number(field) else field.split())]

    def _found_in(self, line):
        return [number for part in self._parts(line) if (number := self._number(part))]

    def _unknown_in(self, line):
        return [normalize.bare(part) for part in self._parts(line) if self._alike(part) and not self._number(part)]

    def _doubtful_in(self, line):
        if not self._number(line.whole):
            yield from ((run, whole) for run, whole in line.grouped.items() if self._number(whole))

    def meant(self):
        """Pair unknown numbers with those of the account that differ from them by capitals or leading zeros alone."""
        zeros = {word: _other_zeros(word) for word in self.unknown[:NAMED] if re.fullmatch("[0-9]+", word)}
        asked = {number for numbers in zeros.values() for number in numbers}
        there = set(self._batches.order_by().filter(number__in=asked).values_list("number", flat=True)) if asked else ()
        for word in self.unknown[:NAMED]:
            meant = [number for number in zeros.get(word, ()) if number in there]
            yield word, sorted(self._known.get(self._alike(word), ())) + meant


class _Line:
    """A line that was pasted, and how it may be read. `grouped` are runs of digits that may be one number in groups."""

    def __init__(self, text):
        self.whole = text
        self.fields = list(filter(str.strip, re.split(r"[,;\t]", text)))
        self.grouped = {run: run.replace(",", "") for run in _grouped(normalize.plain(text))}
        words = {word for field in self.fields for word in field.split()}
        self.readings = {self.whole, *self.fields, *words, *self.grouped.values()}

    def __bool__(self):
        return bool(self.fields)


def _alike(number):
    """Return what numbers have in common that differ by capitals, quotes and dashes alone."""
    return normalize.number(number).upper()


def _grouped(text):
    """Find "12,345" and the like, in longer runs as well."""
    for run in re.findall(r"(?<![^\s;\"'])[0-9]+(?:,[0-9]+)+(?![^\s;\"'])", text):
        parts = run.split(",")
        for start, first in enumerate(parts):
            end = start + 1
            while len(first) <= 3 and end < len(parts) and len(parts[end]) == 3 and (end - start) * 4 < LONGEST:
                end += 1
                yield ",".join(parts[start:end])


def _other_zeros(digits):
    bare = digits.lstrip("0")
    return [bare.zfill(length) for length in range(len(bare), LONGEST + 1) if length != len(digits)] if bare else []


def _doubt(run, whole):
    parts = run.replace(",", ", ")
    return f"“{run}” may be the batch {whole}, or several: {parts}. Write {whole}, or each on a line of its own."


def _unknown(account, pasted):
    count = len(pasted.unknown)
    named = ", ".join(
        word[:60] + (f" (did you mean {' or '.join(meant)}?)" if meant else "") for word, meant in pasted.meant()
    )
    more = f" and {count - NAMED:,} more" if count > NAMED else ""
    finding = "no batch with this number" if count == 1 else f"no batches with these {count:,} numbers"
    return f"{account} has {finding}: {named}{more}."
