"""The ledger's entries of a case, as the timeline shows them."""

from dataclasses import dataclass

from ..ledger import chain, events
from ..models import Act, LedgerEntry


@dataclass(frozen=True)
class Line:
    entry: LedgerEntry
    event: events.Event

    @property
    def act(self):
        """The act whose report says what became of each batch; None when there is none."""
        return self.entry.act if self.event.about is Act else None


def line(entry):
    """Return an entry with what it tells."""
    return Line(entry, chain.event_of(entry))
