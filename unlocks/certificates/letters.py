"""Text as a font can show it on paper: nothing is dropped, and writing from right to left reads as it should.

A PDF names glyphs from left to right, whatever the language, so Hebrew and Arabic are turned around here, and Arabic
letters joined. This knows runs inside a line, which names and file names need, not every rule of Unicode's.
"""

import unicodedata
from functools import cache

_TO_THE_LEFT = ("R", "AL")
_HIDDEN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")  # what has no shape of its own, and could mislead
_HIDDEN_TOO = {0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180B, 0x180C, 0x180D, *range(0xFE00, 0xFE10)}
_NUMBERS = ("EN", "AN")


def visible(text, glyphs):
    """Write each character that is not in `glyphs`, or has no shape, as its number: "[U+4E2D]"."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_shown(char, glyphs) for char in text)


def _shown(char, glyphs):
    number = ord(char)
    if char == "\t":
        return "    "
    # Beyond U+FFFF reportlab writes a wrong number for what is copied from the PDF.
    if number > 0xFFFF or number not in glyphs or number in _HIDDEN_TOO or unicodedata.category(char) in _HIDDEN:
        return f"[U+{number:04X}]"
    return char


def from_left(line, glyphs):
    """Return the glyphs' characters of a line from left to right."""
    if line.isascii() or not any(unicodedata.bidirectional(char) in _TO_THE_LEFT for char in line):
        return line
    return "".join(_turned(run, glyphs) if turned else run for run, turned in _runs(line))


def _runs(line):
    """Yield (run, is it written from right to left): such a run begins and ends with a letter that is."""
    start = end = None
    begin = 0
    for place, char in enumerate(line):
        direction = unicodedata.bidirectional(char)
        if direction in _TO_THE_LEFT:
            start = place if start is None else start
            end = place + 1
        elif start is not None and direction == "NSM" and end == place:
            end = place + 1
        elif start is not None and direction == "L":
            yield line[begin:start], False
            yield line[start:end], True
            begin, start = end, None
    if start is not None:
        yield line[begin:start], False
        yield line[start:end], True
        begin = end
    yield line[begin:], False


def _turned(run, glyphs):
    clusters = []  # a character with its marks, or a whole number
    for char in _joined(run, glyphs):
        before = unicodedata.bidirectional(clusters[-1][-1]) if clusters else ""
        direction = unicodedata.bidirectional(char)
        if clusters and (direction == "NSM" or (direction in _NUMBERS and before in _NUMBERS)):
            clusters[-1] += char
        else:
            clusters.append(_MIRRORED.get(char, char))
    return "".join(reversed(clusters))


_MIRRORED = {**dict(zip("()[]{}<>«»", ")(][}{><»«", strict=True))}


def _joined(run, glyphs):
    """Give each Arabic letter the form that its place in the word asks for, where the font has it."""
    forms, letters = _forms(), list(run)
    places = [place for place, char in enumerate(run) if unicodedata.bidirectional(char) != "NSM"]
    for nth, place in enumerate(places):
        char = run[place]
        before = run[places[nth - 1]] if nth else ""
        after = run[places[nth + 1]] if nth + 1 < len(places) else ""
        joins_before = (before, "initial") in forms and (char, "final") in forms
        joins_after = (char, "initial") in forms and (after, "final") in forms
        form = {(True, True): "medial", (True, False): "final", (False, True): "initial"}.get(
            (joins_before, joins_after), "isolated"
        )
        shaped = forms.get((char, form), char)
        letters[place] = shaped if ord(shaped) in glyphs else char
    return letters


@cache
def _forms():
    """Return {(letter, form): the character of that form}, from Unicode's Arabic presentation forms."""
    forms = {}
    for number in (*range(0xFB50, 0xFDFC), *range(0xFE70, 0xFEFD)):
        form, *letters = unicodedata.decomposition(chr(number)).split() or [""]
        if len(letters) == 1 and form in ("<initial>", "<medial>", "<final>", "<isolated>"):
            forms.setdefault((chr(int(letters[0], 16)), form[1:-1]), chr(number))
    return forms
