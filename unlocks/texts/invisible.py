"""Characters that a reader can't see. Text that holds one reads differently from what is stored."""

import unicodedata

# What Persian and other scripts, and emoji, put between letters.
JOINERS = "\u200c\u200d"

_CATEGORIES = {
    "Cc",  # controls
    "Cf",  # format marks, such as those that change the direction of writing
    "Cn",  # unassigned
    "Co",  # private use
    "Cs",  # surrogates
    "Zl",  # line and paragraph separators
    "Zp",
}


def is_invisible(character: str) -> bool:
    """Return whether a character shows nothing, line breaks included; spaces are visible."""
    return unicodedata.category(character) in _CATEGORIES
