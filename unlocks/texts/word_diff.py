"""What differs between two texts, word by word, for people to read."""

import re
from difflib import SequenceMatcher
from itertools import groupby

_PARAGRAPHS = re.compile(r"\n+|[^\n]+")
# A placeholder; a word with what joins its parts; blanks; or a single mark.
_WORDS = re.compile(r"\{\w+\}|\w+(?:['’-]\w+)*|\s+|[^\w\s]")


def differences(old, new):
    """Return the pieces of both texts in reading order, as (kind, piece): the kind is "same", "del" or "ins".

    Without "ins" they are the old text, and without "del" the new one, character by character.
    """
    pieces = []
    for same, removed, added in _compared(old, new, _PARAGRAPHS):
        if same or not (removed and added):
            pieces += [("same", same), ("del", removed), ("ins", added)]
            continue
        for same_words, removed_words, added_words in _compared(removed, added, _WORDS):
            pieces += [("same", same_words), ("del", removed_words), ("ins", added_words)]
    return _with_phrases_joined([(kind, piece) for kind, piece in pieces if piece])


def _compared(old, new, unit):
    """Yield (same, removed, added) for each run of units: either the first is '', or both others are."""
    before, after = unit.findall(old), unit.findall(new)
    for operation, i, j, k, m in SequenceMatcher(str.isspace, before, after).get_opcodes():
        removed, added = "".join(before[i:j]), "".join(after[k:m])
        yield (removed, "", "") if operation == "equal" else ("", removed, added)


def _with_phrases_joined(pieces):
    """Make the blank between two changes a part of both, so that a changed phrase reads as one change."""
    kinds = ["same", *(kind for kind, _ in pieces), "same"]

    def is_changed(index):
        kind, piece = pieces[index]
        is_between_changes = "same" not in (kinds[index], kinds[index + 2])
        return kind != "same" or (piece.isspace() and "\n" not in piece and is_between_changes)

    joined = []
    for changed, indexes in groupby(range(len(pieces)), is_changed):
        run = [pieces[index] for index in indexes]
        for kind in ("del", "ins") if changed else ("same",):
            if any(kind == other for other, _ in run):
                joined.append((kind, "".join(piece for other, piece in run if other in (kind, "same"))))
    return joined
