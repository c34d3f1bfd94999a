"""What is typed or pasted, as it is stored and compared: numbers, PINs, emails, names, terms of a search."""

import re
import unicodedata
from typing import Literal

_CATEGORIES = {
    "Cc",  # controls
    "Cf",  # format marks, such as those that change the direction of writing
    "Cn",  # unassigned
    "Co",  # private use
    "Cs",  # surrogates
    "Zl",  # line and paragraph separators
    "Zp",
}
# Letters, marks and a symbol to Unicode, but blank: fillers, the grapheme joiner, variation selectors, empty Braille.
_BLANK = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")
# What Persian and other scripts, ideographs and emoji need; after a letter of ours it would only hide.
_JOINED = re.compile(
    "(?<=[\u0600-\U0010ffff])(?:[\ufe00-\ufe0f\U000e0100-\U000e01ef]|[\u200c\u200d](?=[\u0600-\U0010ffff]))"
)

_QUOTES = "\"' \u2018\u2019\u201a\u201b\u201c\u201d\u201e\u201f\u00ab\u00bb\u00b4`"
_MARKS = _QUOTES + ".,;:!?()[]<>/\\-"
# Ordering a run of combining marks takes a time that grows with its square.
_AT_ONCE = 2000

_PLAIN = str.maketrans(
    dict.fromkeys("\u2018\u2019\u201a\u201b\u2032\u00b4`", "'")
    | dict.fromkeys("\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb", '"')
    | {"\u2212": "-"}
)


_LOOK_ALIKE = str.maketrans("01i|", "olll")


def is_invisible(character: str) -> bool:
    """Return whether a character shows nothing, line breaks included; spaces are visible."""
    return unicodedata.category(character) in _CATEGORIES or bool(_BLANK.match(character))


def hides(text: str, *, joiners: bool = True) -> bool:
    """Return whether something in `text` can't be seen, line breaks included, and joiners that join nothing."""
    return any(map(is_invisible, _JOINED.sub("", text) if joiners else text))


def composed(text: str, form: Literal["NFC", "NFKD"] = "NFC") -> str:
    """Return `text` in a normal form of Unicode, each 2,000 characters by themselves."""
    pieces = (text[start : start + _AT_ONCE] for start in range(0, len(text), _AT_ONCE))
    return "".join(unicodedata.normalize(form, piece) for piece in pieces)


def plain(text: str) -> str:
    """Return one line as it is compared: nothing invisible, single spaces; digits, hyphens, quotes as on our keys."""
    return " ".join("".join(map(_plain, composed(text))).split()).translate(_PLAIN)


def _plain(character: str) -> str:
    if unicodedata.decomposition(character).startswith(("<wide>", "<narrow>", "<noBreak>")):
        return "".join(map(_plain, unicodedata.normalize("NFKC", character)))  # a wide macron is two
    if (digit := unicodedata.decimal(character, None)) is not None:
        return str(digit)
    if unicodedata.category(character) == "Pd":
        return "-"
    return "" if is_invisible(character) and not character.isspace() else character


def line(text: str) -> str:
    """Return one line as it is stored: composed, single spaces, nothing hidden but joiners that join."""
    text = " ".join(text.split())
    for _ in range(2):  # what is left out may leave a joiner with nothing to join
        kept = {place for joined in _JOINED.finditer(text) for place in range(*joined.span())}
        text = "".join(char for place, char in enumerate(text) if place in kept or not is_invisible(char))
    if hides(text):
        text = "".join(char for char in text if not is_invisible(char))
    return " ".join(composed(text).split())


def one_line(text: str) -> str:
    """Return what another system said, in one line that shows all of it: a space for whatever shows nothing."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def number(text: str) -> str:
    """Return the number of an account or batch, or a reference, out of the quotes that a CSV or a letter puts on it."""
    return plain(text).strip("\"' ")


def bare(text: str) -> str:
    """Return a number as it is spelled, out of its quotes and without what can't be seen."""
    return "".join(character for character in text if not is_invisible(character)).strip(_QUOTES)


def pin(text: str) -> str:
    """Return a PIN without what it was grouped or quoted with."""
    return re.sub(r"[\W_]", "", plain(text))


def email(text: str) -> str:
    """Return an address as it is stored, in small letters: nobody has two mailboxes that differ by capitals."""
    return plain(text).replace(" ", "").lower()


def look_alike(username: str) -> str:
    """Return a username as it looks at a glance: two that give the same are taken for each other."""
    letters = composed(composed(plain(username), "NFKD").casefold(), "NFKD").translate(_LOOK_ALIKE)
    return letters.replace("rn", "m").replace("vv", "w").replace(" ", "")


def person(text: str) -> str:
    """Return a person's name as it is compared: without regard to capitals, accents and spaces."""
    letters = composed(composed(plain(text), "NFKD").casefold(), "NFKD")
    return "".join(letter for letter in letters if not unicodedata.combining(letter) and not letter.isspace())


def words(text: str, longest: int) -> set[str]:
    """Return the words of a text as a search compares them: in small letters without accents, cut at `longest`.

    A word with marks in it counts as a whole and in its parts: an address, O'Hara, A-12.
    """
    return {word[:longest] for whole in searched(text) for word in {whole, *re.findall(r"\w+", whole)}}


def searched(text: str) -> list[str]:
    """Return what stands between spaces, in small letters without accents and the marks around it."""
    letters = composed(composed(plain(text), "NFKD").casefold(), "NFKD")
    bare = "".join(letter for letter in letters if not unicodedata.combining(letter))
    return [word.strip(_MARKS) for word in bare.split() if re.search(r"\w", word)]


def phone(text: str) -> list[str]:
    """Return the digits of a phone number, and the same without the 1 of North America."""
    digits = re.sub(r"[^0-9]", "", plain(text))
    return [digits, digits[1:]] if re.fullmatch("1[0-9]{10}", digits) else [digits] if digits else []


def spellings(term: str) -> set[str]:
    """Return a term in the usual ways to write capitals, and in those a database without Unicode makes of them."""
    usual = {term, term.lower(), term.upper(), term.title(), term[:1].upper() + term[1:]}
    return usual | {re.sub("[a-z]+", lambda letters: letters[0].upper(), spelling) for spelling in usual}
