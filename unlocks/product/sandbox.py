"""A made-up product, for trials and tests: it holds what it did in a file of its own, and fails when it is told to.

It stands for another system. What it is asked to do, and how it behaves, is the same for all processes of one machine,
and outlives them.
"""

import sqlite3
import time
from collections.abc import Container, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, Self
from uuid import UUID

from django.conf import settings
from django.db.models import TextChoices
from django.utils import timezone

from ..models import Instruction
from .port import Answer, NotHandedOver, State, Stopped

BUSY = 20.0  # seconds to wait for another process
SECONDS = 10

PERIOD_LOCKED = "The batch is locked by the accounting period."
EXPORTED = "The customer exported this batch meanwhile."
FAILED = "500 Internal Server Error"
LOST = "The connection ended before an answer came."
UNREACHABLE = "Connection refused"
GONE = "410 Gone: this product takes no more instructions."

# `done_at` is NULL for what it refused, and lies ahead for what it accepted. A batch is one of an account.
_TABLES = (
    """CREATE TABLE IF NOT EXISTS instruction (
        number INTEGER PRIMARY KEY,
        key TEXT NOT NULL UNIQUE,
        what TEXT NOT NULL,
        account TEXT NOT NULL,
        batch TEXT NOT NULL,
        at REAL NOT NULL,
        done_at REAL,
        reason TEXT NOT NULL,
        asked INTEGER NOT NULL DEFAULT 1
    )""",
    "CREATE INDEX IF NOT EXISTS instruction_batch ON instruction (account, batch, done_at)",
    """CREATE TABLE IF NOT EXISTS behavior (
        number INTEGER PRIMARY KEY CHECK (number = 1),
        how TEXT NOT NULL,
        calls INTEGER CHECK (calls > 0),
        seconds REAL NOT NULL
    )""",
)
# What it did last to a batch says how it holds it.
_UNLOCKED = """
    SELECT account, batch FROM (
        SELECT *, row_number() OVER (PARTITION BY account, batch ORDER BY done_at DESC, number DESC) AS before
        FROM instruction WHERE done_at <= ?
    ) WHERE before = 1 AND what = ? ORDER BY account, batch
"""


class How(TextChoices):
    """How it behaves."""

    WORKS = "works", "Does what it is asked, and says so at once"
    SLOW = "slow", "Takes a while before it does it"
    FAILS = "fails", "Fails: a server error, and nothing is done"
    LOSES_ANSWER = "loses_answer", "Does it, but the answer gets lost"
    LATER = "later", "Accepts it, and does it after a while"
    REFUSES = "refuses", "Refuses: the batch is locked by the accounting period"
    EXPORTED = "exported", "Refuses: the customer exported the batch meanwhile"
    DOWN = "down", "Can’t be reached"
    GONE = "gone", "Wants no more calls"


# These befall any call, the others only one that hands over: whoever asks what became of it gets an answer.
ANY_CALL = (How.SLOW, How.FAILS, How.DOWN, How.GONE)
TAKES_TIME = (How.SLOW, How.LATER)
REASONS = {How.REFUSES: PERIOD_LOCKED, How.EXPORTED: EXPORTED}


class Behavior(NamedTuple):
    """How it behaves for how many more calls, or None until it is told otherwise."""

    how: How = How.WORKS
    calls: int | None = None
    seconds: float = SECONDS


class Instructed(NamedTuple):
    """What it was asked to do, and how often. `done_at` is None for what it refused, for a reason."""

    number: int
    key: UUID
    what: str
    account: str
    batch: str
    at: datetime
    done_at: datetime | None
    reason: str
    asked: int

    @classmethod
    def read(cls, row: Sequence[Any]) -> Self:
        """Return a row of the table."""
        number, key, what, account, batch, at, done_at, reason, asked = row
        done = None if done_at is None else _moment(done_at)
        return cls(number, UUID(key), what, account, batch, _moment(at), done, reason, asked)

    @property
    def reference(self) -> str:
        return f"SBX-{self.number:06d}"

    @property
    def what_label(self) -> str:
        return str(Instruction.What(self.what).label)

    @property
    def state(self) -> State:
        if self.done_at is None:
            return State.REFUSED
        return State.DONE if self.done_at <= timezone.now() else State.ACCEPTED

    @property
    def answer(self) -> Answer:
        return Answer(self.key, self.state, self.reason or self.reference)


class Sandbox:
    """The product as an adapter, and what a test or a trial asks of it besides."""

    def carry_out(self, instructions: Sequence[Instruction]) -> list[Answer]:
        """Do what was not done yet. Raises NotHandedOver, Stopped."""
        behavior = self._next_call(How)
        keys = [instruction.key for instruction in instructions]
        if _befalls(behavior):
            return _unknown(keys, FAILED)
        with self._file() as file:
            answers = [_carried_out(file, instruction, behavior) for instruction in instructions]
        return _unknown(keys, LOST) if behavior.how == How.LOSES_ANSWER else answers

    def state(self, instructions: Sequence[Instruction]) -> list[Answer]:
        """Say what became of instructions. Raises NotHandedOver, Stopped."""
        keys = [instruction.key for instruction in instructions]
        if _befalls(self._next_call(ANY_CALL)):
            return _unknown(keys, FAILED)
        with self._file() as file:
            return [found.answer if (found := _found(file, key)) else Answer(key, State.NOT_KNOWN) for key in keys]

    def behave(self, how: str, *, calls: int | None = None, seconds: float = SECONDS) -> None:
        """Behave like this for the next `calls`, or until told otherwise."""
        with self._file() as file:
            file.execute("INSERT OR REPLACE INTO behavior VALUES (1, ?, ?, ?)", (How(how).value, calls, seconds))

    def behavior(self) -> Behavior:
        """Return how it behaves at the next call."""
        with self._file() as file:
            return _behavior(file)

    def instructed(self, latest: int = -1) -> list[Instructed]:
        """Return what it was asked to do, the newest first; what a failed call brought it does not know."""
        with self._file() as file:
            rows = file.execute("SELECT * FROM instruction ORDER BY number DESC LIMIT ?", (latest,))
            return [Instructed.read(row) for row in rows]

    def unlocked(self) -> list[tuple[str, str]]:
        """Return the batches that it holds unlocked, as (account, batch)."""
        with self._file() as file:
            return file.execute(_UNLOCKED, (timezone.now().timestamp(), Instruction.What.UNLOCK.value)).fetchall()

    def forget(self) -> None:
        """Begin again: nothing was ever asked of it, and it works."""
        with self._file() as file:
            file.execute("DELETE FROM instruction")
            file.execute("DELETE FROM behavior")

    def _next_call(self, befall: Container[How]) -> Behavior:
        """Return how it behaves in this call, and count it; what cannot befall this call waits for another."""
        with self._file() as file:
            behavior = _behavior(file)
            if behavior.how not in befall:
                return Behavior()
            file.execute("DELETE FROM behavior WHERE calls = 1")
            file.execute("UPDATE behavior SET calls = calls - 1")
            return behavior

    @contextmanager
    def _file(self) -> Iterator[sqlite3.Connection]:
        """Open the file, for one transaction that no other process is beside."""
        path = Path(settings.SANDBOX_FILE)
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path, timeout=BUSY, isolation_level=None)) as file, file:
            file.execute("BEGIN IMMEDIATE")
            for table in _TABLES:
                file.execute(table)
            yield file


def _befalls(behavior: Behavior) -> bool:
    """Let a call take long or not get through; say whether it fails. Raises NotHandedOver, Stopped."""
    match behavior.how:
        case How.DOWN:
            raise NotHandedOver(UNREACHABLE)
        case How.GONE:
            raise Stopped(GONE)
        case How.SLOW:
            time.sleep(behavior.seconds)
    return behavior.how == How.FAILS


def _carried_out(file: sqlite3.Connection, instruction: Instruction, behavior: Behavior) -> Answer:
    now, reason = timezone.now().timestamp(), REASONS.get(behavior.how, "")
    named = instruction.batch.account.number, instruction.batch.number
    [before] = file.execute("SELECT max(done_at) FROM instruction WHERE (account, batch) = (?, ?)", named).fetchone()
    done_at = max(now + behavior.seconds if behavior.how == How.LATER else now, before or now)
    file.execute(
        "INSERT INTO instruction (key, what, account, batch, at, done_at, reason) VALUES (?, ?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (key) DO UPDATE SET asked = asked + 1",
        (
            str(instruction.key),
            instruction.what,
            *named,
            now,
            None if reason else done_at,
            reason,
        ),
    )
    found = _found(file, instruction.key)
    assert found  # noqa: S101  written above
    return found.answer


def _found(file: sqlite3.Connection, key: UUID) -> Instructed | None:
    row = file.execute("SELECT * FROM instruction WHERE key = ?", (str(key),)).fetchone()
    return Instructed.read(row) if row else None


def _behavior(file: sqlite3.Connection) -> Behavior:
    row = file.execute("SELECT how, calls, seconds FROM behavior").fetchone()
    return Behavior(How(row[0]), *row[1:]) if row else Behavior()


def _unknown(keys: Sequence[UUID], why: str) -> list[Answer]:
    return [Answer(key, State.UNKNOWN, why) for key in keys]


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
