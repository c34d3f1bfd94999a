"""Batches as customers read them when there are many: added up by the day of their bypass, and as a CSV file."""

from collections.abc import Iterable, Sequence
from datetime import date
from decimal import Decimal
from itertools import groupby
from typing import Any

from .cells import csv_file
from .formats import day
from .wording import NOT_RECORDED, batches_summary

FEW = 10  # so many are listed as they are
MOST_BOXES = 500  # above that, batches are left out by the day and by ranges of numbers
FILE_NAME = "batches.csv"
_COLUMNS = ("number", "name", "posted_on", "bypassed_on", "item_count", "total")
_HEADINGS = ("Batch", "Name", "Posted on", "Bypassed on", "Items", "Total")


class Group:
    """Batches that are told as one."""

    def __init__(self, batches: Sequence[Any]) -> None:
        self.batches = batches

    @property
    def items(self) -> int | None:
        return _sum(batch.item_count for batch in self.batches)

    @property
    def total(self) -> Decimal | None:
        return _sum(batch.total for batch in self.batches)


class Part(Group):
    """Batches of one day that follow each other by their numbers."""

    @property
    def key(self) -> str:
        return f"{self.batches[0].pk}-{self.batches[-1].pk}"

    @property
    def name(self) -> str:
        first, last = self.batches[0].number, self.batches[-1].number
        return first if first == last else f"{first} to {last}"


class Day(Group):
    """The batches that were bypassed on one day, in the order given; `on` is None where it is not recorded.

    `parts` are what a long day is cut into.
    """

    UNKNOWN = "unknown"

    def __init__(self, on: date | None, batches: Sequence[Any]) -> None:
        super().__init__(batches)
        self.on = on
        self.parts: list[Part] = []

    @property
    def key(self) -> str:
        return self.on.isoformat() if self.on else self.UNKNOWN

    @property
    def name(self) -> str:
        return day(self.on) or f"Day {NOT_RECORDED}"


def by_day(batches: Iterable[Any]) -> list[Day]:
    """Group batches by the day on which they were bypassed, the first day first and what is not recorded last."""
    ordered = sorted(batches, key=lambda batch: batch.bypassed_on or date.max)
    return [Day(on, list(of_it)) for on, of_it in groupby(ordered, key=lambda batch: batch.bypassed_on)]


def cut(days: Sequence[Day], most: int) -> None:
    """Cut days into parts, together at most `most`, of as few batches as that allows; what would be one is not cut."""
    counts, size = [len(one.batches) for one in days], 2
    while sum(-(-count // size) for count in counts if count > size) > most:
        size += 1
    for one in days:
        if len(one.batches) > size:
            one.parts = [Part(one.batches[start : start + size]) for start in range(0, len(one.batches), size)]


def summary(batches: Sequence[Any]) -> str:
    """Return how much there is in batches, of which all is recorded."""
    return batches_summary(len(batches), _sum(b.item_count for b in batches), _sum(b.total for b in batches))


def as_csv(batches: Iterable[Any], **more: str) -> bytes:
    """Return the list of batches as a CSV file; `more` are further columns, each a heading by its attribute."""
    names = (*_COLUMNS, *more)
    return csv_file((*_HEADINGS, *more.values()), ([getattr(batch, name) for name in names] for batch in batches))


def _sum(values: Iterable[Any]) -> Any:
    """Add up values; None when one of them is not recorded."""
    known = list(values)
    return None if None in known else sum(known)
