"""Text as the fonts of a certificate can print it: nothing is dropped, and writing from right to left reads so.

A PDF names glyphs from left to right whatever the language, so Arabic letters are joined and right-to-left runs turned
around before they are drawn.
"""

import re
import unicodedata

from arabic_reshaper import ArabicReshaper
from bidi.algorithm import get_display  # the package's own get_display leaves brackets as they are

from ..texts.normalize import is_invisible

# Fillers and variation selectors, which Unicode counts as letters and marks: they show nothing either.
_SHAPELESS = {0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180B, 0x180C, 0x180D, 0x2800, 0x3164, 0xFFA0}
_SHAPELESS |= set(range(0xFE00, 0xFE10))
_JOINING = ArabicReshaper({"delete_harakat": False, "ARABIC LIGATURE ALLAH": False})
_DIRECTIONS = {"L": "L", "R": "R", "AL": "R", "NSM": "m"}
_BRACKETED = re.compile(r"[(\[{«][^()\[\]{}«»]*[)\]}»]")
_CODE = r"\[U\+[0-9A-F]{4,6}\]"
_JOINER = "\u2060"  # before a blank that is none: a line may break there; printable text has no other


def printable(text, glyphs):
    """Return `text` in characters that are in `glyphs`, Arabic letters joined, no blank to be lost.

    A character that is not among them, or has no shape, is written as its code: "[U+4E2D]".
    """
    if not (text.isascii() and text.isprintable()):
        text = "".join(_printed(char, glyphs) for char in text)
        joined = _JOINING.reshape(text)
        text = "".join(char if ord(char) in glyphs else unicodedata.normalize("NFKC", char) for char in joined)
    return re.sub("  +", lambda blanks: "\xa0" * (len(blanks[0]) - 1) + " ", text)


def _printed(char, glyphs):
    number = ord(char)
    if char == "\t":
        return "    "
    # Beyond U+FFFF ReportLab writes a wrong number for what is copied from the PDF.
    if number > 0xFFFF or number not in glyphs or number in _SHAPELESS or is_invisible(char):
        return f"[U+{number:04X}]"
    return char


def breakable(text):
    """Let a line of printable text break before and after a code, so that it never breaks within one."""
    text = re.sub(rf"(?<=[^ ]){_CODE}", rf"{_JOINER} \g<0>", text)
    return re.sub(rf"{_CODE}(?=[^ {_JOINER}])", rf"\g<0>{_JOINER} ", text)


def from_left(line):
    """Return the characters of a line in the order of its glyphs from left to right, where it did not break joined.

    A right-to-left run is set apart from what surrounds it, as Unicode's isolates are, so that an amount after a name
    stays after it.
    """
    line = re.sub(f"{_JOINER} ?", "", line)
    kinds = "".join(_DIRECTIONS.get(unicodedata.bidirectional(char), "o") for char in line)
    for pair in _BRACKETED.finditer(line):  # brackets belong to the run that they hold
        start, end, inside = pair.start(), pair.end(), kinds[pair.start() + 1 : pair.end() - 1]
        if "R" in inside and "L" not in inside:
            kinds = f"{kinds[:start]}R{inside}R{kinds[end:]}"
    parts, done = [], 0
    for run in re.finditer("R(?:[^L]*[Rm])?", kinds):
        parts += [line[done : run.start()], get_display(line[run.start() : run.end()], base_dir="R")]
        done = run.end()
    return "".join([*parts, line[done:]])
