"""What differs between two texts, word by word, for people to read."""

import re
from difflib import SequenceMatcher
from itertools import groupby

_PARAGRAPHS = re.compile(r"\n+|[^\n]+")
# A placeholder; a word with what joins its parts; blanks; or a single mark.
_WORDS = re.compile(r"\{\w+\}|\w+(?:['’-]\w+)*|\s+|[^\w\s]")


def differences(old, new):
    """Return the pieces of both texts in reading order, as (what, piece): what is "same", "del" or "ins".

    Without "ins" they are the old text, without "del" the new one, to the letter.
    """
    pieces = []
    for same, gone, come in _compared(old, new, _PARAGRAPHS):
        if same or not (gone and come):
            pieces += [("same", same), ("del", gone), ("ins", come)]
            continue
        for same_words, gone_words, come_words in _compared(gone, come, _WORDS):
            pieces += [("same", same_words), ("del", gone_words), ("ins", come_words)]
    return _without_crumbs([(what, piece) for what, piece in pieces if piece])


def _compared(old, new, kind):
    """Yield what both have, what only the old has and what only the new has; the first or the others are ''."""
    before, after = kind.findall(old), kind.findall(new)
    for what, i, j, k, m in SequenceMatcher(str.isspace, before, after).get_opcodes():
        gone, come = "".join(before[i:j]), "".join(after[k:m])
        yield (gone, "", "") if what == "equal" else ("", gone, come)


def _without_crumbs(pieces):
    """Take a blank between two changes into both, so that a changed phrase reads as one change."""
    kinds = ["same", *(what for what, _ in pieces), "same"]

    def changed(place):
        what, piece = pieces[place]
        crumb = piece.isspace() and "\n" not in piece and "same" not in (kinds[place], kinds[place + 2])
        return what != "same" or crumb

    read = []
    for is_changed, places in groupby(range(len(pieces)), changed):
        run = [pieces[place] for place in places]
        for what in ("del", "ins") if is_changed else ("same",):
            if any(what == other for other, _ in run):
                read.append((what, "".join(piece for other, piece in run if other in (what, "same"))))
    return read
