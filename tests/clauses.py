"""The clauses of an SQL condition, each of which `tests.mutants` deletes in turn."""

import re
from dataclasses import dataclass

_TOKEN = re.compile(r"'(?:[^']|'')*'|\w+|\s+|.", re.S)


@dataclass(frozen=True)
class Clause:
    """A piece of a condition, and the condition without it."""

    text: str
    without: str


def clauses(condition):
    """Return the clauses of an SQL condition, at any depth of its parentheses.

    A clause is an operand of AND or OR, all of a WHERE or ON, or a member of an IN list of texts.
    """
    return [
        Clause(" ".join(condition[start:end].split()), condition[:cut] + instead + condition[cut_end:])
        for (start, end), (cut, cut_end), instead in _Reader(condition).read()
    ]


class _Reader:
    """Finds each clause as (its span, the span to cut, what to put there), one level of parentheses after the other."""

    def __init__(self, text):
        self.text = text
        self.spans = [match.span() for match in _TOKEN.finditer(text) if not match[0].isspace()]
        self.found = []

    def read(self):
        self._level(0, "1 = 0")
        return self.found

    def _word(self, at):
        start, end = self.spans[at]
        return self.text[start:end]

    def _level(self, at, alone):
        """Read up to the parenthesis that closes this level; return its place. `alone` stands for a single operand."""
        operands, members, instead = [[at, at, ""]], [], alone
        while at < len(self.spans) and self._word(at) != ")":
            word = self._word(at).upper()
            if word in ("AND", "OR"):
                operands.append([at + 1, at + 1, word])
            elif word in ("WHERE", "ON", "SELECT", "FROM", "JOIN", "GROUP", "ORDER"):
                self._operands(operands, instead)
                # Between these words stands no condition.
                operands, instead = [[at + 1, at + 1, ""]], "1 = 1" if word in ("WHERE", "ON") else None
            elif word == "(":
                is_list = self._word(at - 1).upper() == "IN"
                first = at + 1
                at = self._level(first, None)
                if is_list:
                    members = [place for place in range(first, at) if self._word(place) != ","]
                    self._members(members)
            at += 1
            operands[-1][1] = at
        self._operands(operands, instead)
        return at

    def _operands(self, operands, alone):
        """Add the operands of one condition. With OR beside AND, what AND joins is an operand of OR."""
        if len(operands) == 1:
            if alone:
                self._add(*operands[0][:2], alone)
            return
        groups = []
        for operand in operands:
            if operand[2] != "AND":
                groups.append([])
            groups[-1].append(operand)
        if len(groups) > 1:
            self._cut([(group[0][0], group[-1][1]) for group in groups])
        for group in groups:
            if len(group) > 1:
                self._cut([(first, last) for first, last, _ in group])

    def _members(self, places):
        if len(places) > 1 and all(self._word(place).startswith("'") for place in places):
            self._cut([(place, place + 1) for place in places])

    def _cut(self, parts):
        """Add each part with the word that joins it: the one before it, or after the first."""
        for n, (first, last) in enumerate(parts):
            span = self.spans[first][0], self.spans[last - 1][1]
            cut = (self.spans[first - 1][0], span[1]) if n else (span[0], self.spans[parts[1][0]][0])
            self.found.append((span, cut, ""))

    def _add(self, first, last, instead):
        span = self.spans[first][0], self.spans[last - 1][1]
        self.found.append((span, span, instead))
