"""Anchors: the ledger's head, written down where the database's owner does not reach. Against one a cut tail shows.

A file of anchors holds one JSON object after the other, oldest first, and any text around them. A
customer's certificate (JSON) is an anchor too: it names its case's entries and the head.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ..models import LedgerEntry
from . import chain, events


class NotAnchors(Exception):
    """The text holds no anchors, or a broken one; says which, in a sentence."""


@dataclass(frozen=True, order=True)
class Anchor:
    """What the ledger's head was once: sequence and hash (hex), and when it was written down (ISO 8601, or '')."""

    sequence: int
    hash: str
    at: str = ""

    def __str__(self) -> str:
        """As a line of a file."""
        return json.dumps({"at": self.at, "hash": self.hash, "sequence": self.sequence})

    @property
    def of_when(self) -> str:
        """' of 2026-11-23 14:05 UTC', or '' where that is not known."""
        try:
            return f" of {datetime.fromisoformat(self.at).astimezone(UTC):%Y-%m-%d %H:%M} UTC"
        except ValueError:
            return ""


def now(at: datetime) -> Anchor:
    """Return the anchor of the ledger's present head."""
    return Anchor(*chain.head(), at.isoformat())


def read(text: str) -> list[Anchor]:
    """Return the anchors in a text: a file of them, an email, or a certificate. Raises NotAnchors."""
    if pieces := _anchors_of_certificate(text):
        return [_anchor(piece) for piece in pieces]
    # Blanks mean nothing in an anchor, and email programs put some in.
    packed = "".join(text.replace("\ufeff", "").split())
    found = [_anchor(_object(piece)) for piece in re.findall(r"\{[^{}]*\}", packed)]
    if re.search(r"[{}]", re.sub(r"\{[^{}]*\}", "", packed)):
        raise NotAnchors("one of its anchors is broken off")
    if not found:
        raise NotAnchors("there is none in it")
    return found


def _anchors_of_certificate(text: str) -> list[Any]:
    try:
        ledger = json.loads(text)["certificate"]["ledger"]
        return [*ledger["entries"], ledger["head"]]
    except (ValueError, KeyError, TypeError):
        return []


def _object(piece: str) -> Any:
    try:
        return json.loads(piece)
    except ValueError:
        raise NotAnchors(f"{piece[:80]} is none") from None


def _anchor(piece: Any) -> Anchor:
    piece = piece if isinstance(piece, dict) else {}
    sequence, head, at = piece.get("sequence"), piece.get("hash"), piece.get("at", "")
    if type(sequence) is not int or sequence < 0 or not re.fullmatch(r"[0-9a-f]{64}", str(head)):
        raise NotAnchors(f"{json.dumps(piece, separators=(',', ':'))[:80]} is none")
    return Anchor(sequence, head, str(at))


def faults(anchors: Iterable[Anchor]) -> Iterator[tuple[str, str]]:
    """Compare anchors with the ledger; yield ("anchor", a sentence) for each that does not fit, the oldest first."""
    yield from (("anchor", said) for _, said in unfit(anchors))


def unfit(anchors: Iterable[Anchor]) -> Iterator[tuple[Anchor, str]]:
    """Yield each anchor that does not fit the ledger, the oldest first, with a sentence that says how.

    One that a recorded restore lost is known to be gone.
    """
    told = {anchor for _, restored in restores() for line in restored.anchors for anchor in read(line)}
    fitting, lost = None, {(anchor.sequence, anchor.hash) for anchor in told}
    for anchor, found in _beside_the_ledger(sorted(anchors)):
        if found == anchor.hash:
            fitting = anchor
        elif (anchor.sequence, anchor.hash) not in lost:
            yield anchor, _gone(anchor) if found is None else _another(anchor, fitting)


def restores() -> Iterator[tuple[LedgerEntry, events.Restored]]:
    """Yield the entries of recorded restores that nobody altered, the oldest first, each with its event."""
    for entry in LedgerEntry.objects.filter(kind=events.Restored.kind).order_by("sequence"):
        if isinstance(restored := chain.event_of(entry), events.Restored):
            yield entry, restored


def _beside_the_ledger(anchors: list[Anchor]) -> Iterator[tuple[Anchor, str | None]]:
    """Yield each anchor with the hash that the ledger has in its place; None where there is no such entry."""
    for start in range(0, len(anchors), chain.WALKED_AT_ONCE):
        some = anchors[start : start + chain.WALKED_AT_ONCE]
        hashes = {0: chain.GENESIS} | dict(
            LedgerEntry.objects.filter(sequence__in=[anchor.sequence for anchor in some]).values_list(
                "sequence", "hash"
            )
        )
        yield from ((anchor, hashes.get(anchor.sequence)) for anchor in some)


def _gone(anchor: Anchor) -> str:
    said = f"Ledger entry {anchor.sequence}, which is the anchor{anchor.of_when}, is gone"
    newest, _ = chain.head()
    if newest > anchor.sequence:
        return f"{said}."
    return f"{said}: the ledger ends with entry {newest}. Its tail was cut, or an older database was put in its place."


def _another(anchor: Anchor, fitting: Anchor | None) -> str:
    said = f"Ledger entry {anchor.sequence} is not the one of the anchor{anchor.of_when}: the ledger was rewritten"
    if fitting:
        return f"{said} after entry {fitting.sequence}, where the anchor{fitting.of_when} still fits."
    return f"{said}, or the anchor is another desk's."
