"""The ledger: one chain of entries, each sealed with HMAC-SHA256 to the one before.

An entry has two texts, `facts` and `personal`, in canonical JSON. Each is hashed with a salt of its own, and the
chain covers the previous hash, the sequence, the time of appending and these two hashes: without a personal text the
chain still verifies. The key is LEDGER_KEY, outside the database: who can write the table cannot seal an entry.
`docs/evidence.md` has the format with test vectors.
"""

import hmac
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from functools import reduce
from itertools import islice
from operator import attrgetter, or_
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connections, transaction
from django.db.models import Q, Subquery
from django.utils import timezone
from structlog.contextvars import bind_contextvars

from .. import history, stages
from ..actors import Actor
from ..digest import canonical, parsed, sha256
from ..models import Account, LedgerEntry, UnlockRequest
from . import events
from .events import Event

GENESIS = "0" * 64
WRONG_KEY = (
    "Ledger entry {sequence}, the newest, does not fit LEDGER_KEY. Either this is not the key that sealed the ledger, "
    "or the entry was altered. Put the right key into LEDGER_KEY and start the desk again. If it is the right one, "
    "stop unlocking and run “manage.py verify_audit”."
)
BACKWARDS = timedelta(seconds=5)  # how far the clocks of two machines may be apart
_AT_ONCE = 10_000  # entries a statement: an act on any number of requests stays within some 15 MiB
WALKED_AT_ONCE = 2000  # each part costs some queries, and its texts are kept parsed
_LOCK = 7_014_401  # the advisory lock that orders appends on PostgreSQL; any number nobody else uses

# What the columns repeat of the two texts, as {name in a text: column}.
_IN_FACTS = {
    "about": "about",
    "about_id": "about_id",
    "account": "account_id",
    "act": "act",
    "at": "at",
    "kind": "kind",
    "unlock_request": "unlock_request_id",
    "user": "user_id",
}
_IN_PERSONAL = {"actor": "actor", "ip": "ip"}


class WrongKey(Exception):
    """The newest entry does not fit LEDGER_KEY; nothing is appended to it. The message says so to who runs the desk."""


class ActThere(Exception):
    """An act that is done once is in the ledger already; nothing was appended."""


@dataclass(frozen=True)
class Entry:
    """An event with the keys of the unlock request and the account that it belongs to."""

    event: Event
    unlock_request_id: int | None = None
    account_id: int | None = None


def append(
    event: Event, *, by: Actor, unlock_request: UnlockRequest | None = None, account: Account | None = None
) -> None:
    """Append one entry about an unlock request, or about an account alone, inside the caller's transaction.

    Where the request stands after the act is kept for the queue.
    """
    if unlock_request:
        bind_contextvars(case=unlock_request.reference)
        stages.keep(UnlockRequest.objects.filter(pk=unlock_request.pk), at=by.act.at)
    account_id = unlock_request.account_id if unlock_request else account.pk if account else None
    append_all([Entry(event, unlock_request.pk if unlock_request else None, account_id)], by=by)


def append_all(entries: Iterable[Entry], *, by: Actor) -> int:
    """Append entries in one statement (ten thousand at a time), inside the caller's transaction; return how many.

    The chain's lock is taken here, so this comes last in a verb, after `stages.keep` for the cases of the act. Raises
    WrongKey and ActThere, which roll the act back.
    """
    connection = connections["default"]
    if not connection.in_atomic_block:
        raise transaction.TransactionManagementError("The ledger is appended to inside the transaction of its act.")
    lock()
    if by.act.once and LedgerEntry.objects.filter(act=by.act.id).exists():
        raise ActThere
    by.act.once = False
    sealed, appended = _sealed(entries, by, *fitting_head()), 0
    while rows := list(islice(sealed, _AT_ONCE)):
        history.insert_rows(LedgerEntry, rows)
        appended += len(rows)
    return appended


def entry_of_act(act: UUID, kind: type[Event]) -> LedgerEntry | None:
    """Return the first entry of an act, of this kind if there is one of it; None if the act is not in the ledger."""
    entries = list(LedgerEntry.objects.filter(act=act).order_by("sequence")[:10])
    return next((entry for entry in entries if entry.kind == kind.kind), entries[0] if entries else None)


def lock() -> None:
    """Let nobody else append until the transaction ends. SQLite has one writer at a time."""
    if connections["default"].vendor == "postgresql":
        with connections["default"].cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])


def newest_of_each(*kinds: type[Event]) -> dict[type[Event], LedgerEntry]:
    """Return the newest entry of each of these kinds that there is one of, in one query."""
    # Not by the sequence: of a kind that hardly ever comes, PostgreSQL would look through the whole ledger.
    newest = (
        LedgerEntry.objects.filter(kind=kind.kind).order_by("-at", "-sequence").values("pk")[:1] for kind in kinds
    )
    found = LedgerEntry.objects.filter(reduce(or_, (Q(pk=Subquery(one)) for one in newest)))
    return {events.KINDS[entry.kind]: entry for entry in found}


def newest(*kinds: type[Event]) -> LedgerEntry | None:
    """Return the newest entry of these kinds; None when there is none."""
    return max(newest_of_each(*kinds).values(), key=attrgetter("sequence"), default=None)


def head() -> tuple[int, str]:
    """Return the sequence and hash of the newest entry; (0, GENESIS) while there is none."""
    newest = LedgerEntry.objects.order_by("-sequence").values_list("sequence", "hash").first()
    return newest or (0, GENESIS)


def fitting_head() -> tuple[int, str]:
    """Return `head`. Raises WrongKey when its entry does not fit LEDGER_KEY; an empty ledger takes any key."""
    newest = LedgerEntry.objects.order_by("-sequence").first()
    if newest is None:
        return 0, GENESIS
    if not fits(newest):
        raise WrongKey(WRONG_KEY.format(sequence=newest.sequence))
    return newest.sequence, newest.hash


def _sealed(entries: Iterable[Entry], by: Actor, sequence: int, previous: str) -> Iterator[dict[str, Any]]:
    """Yield the columns of each entry. The first one counts the history rows of the act."""
    appended_at = timezone.now()
    ip = LedgerEntry._meta.get_field("ip").get_prep_value(by.ip)  # as the column will hold it
    for entry in entries:
        sequence += 1
        about = entry.event.about
        row = {
            "sequence": sequence,
            "appended_at": appended_at,
            "unlock_request_id": entry.unlock_request_id,
            "account_id": entry.account_id,
            "kind": entry.event.kind,
            "about": about._meta.model_name if about else "",
            "about_id": entry.event.about_id,
            "act": by.act.id,
            "at": by.act.at,
            "user_id": by.user.pk if by.user else None,
            "actor": by.name,
            "ip": ip,
        }
        facts = entry.event.facts(personal=False)
        row |= _of_event(facts)
        row |= _hashed("facts", _repeated(row, _IN_FACTS) | {"facts": facts, "rows": by.act.take_rows()})
        row |= _hashed("personal", _repeated(row, _IN_PERSONAL) | {"personal": entry.event.facts(personal=True)})
        row["previous_hash"] = previous
        row["hash"] = previous = seal(previous, sequence, appended_at, row["facts_hash"], row["personal_hash"])
        yield row


def _repeated(row: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """Return columns as JSON values, under the names that they have in a text."""
    return {name: _as_json(row[column]) for name, column in names.items()}


def _as_json(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value if isinstance(value, int | None) else str(value)


def _of_event(facts: dict[str, Any]) -> dict[str, Any]:
    """Return the columns that repeat facts of the event, for those that look for entries."""
    amount = facts.get("amount")
    return {
        "amount": amount and Decimal(amount),
        "fields": " ".join(facts.get("fields", ())),
        "refusals": " ".join(sorted(facts.get("refusals", ()))),
    }


def _hashed(name: str, content: dict[str, Any]) -> dict[str, str]:
    text, salt = canonical(content), secrets.token_hex(16)
    return {name: text, f"{name}_salt": salt, f"{name}_hash": text_hash(name, salt, text)}


def text_hash(name: str, salt: str, text: str) -> str:
    """Return the SHA-256 (hex) of one of an entry's two texts, `facts` or `personal`, with its salt."""
    return sha256(f"unlock-desk ledger {name}/2\n{salt}\n{text}")


def seal(previous: str, sequence: int, appended_at: datetime, facts_hash: str, personal_hash: str) -> str:
    """Return the hash (hex) of an entry: the HMAC-SHA256 of what it is made of, a line each."""
    lines = ("unlock-desk ledger entry/2", previous, sequence, appended_at.isoformat(), facts_hash, personal_hash)
    message = "\n".join(map(str, lines)).encode()
    return hmac.digest(settings.LEDGER_KEY.encode(), message, "sha256").hex()


Fault = tuple[str, str]


@dataclass
class Part:
    """Some entries of the chain as they are walked through: those that fit their hashes, others, and what is wrong."""

    fitting: list[LedgerEntry] = field(default_factory=list)
    altered: list[LedgerEntry] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)


def walk(after: int = 0) -> Iterator[Part]:
    """Recompute the chain from its beginning, or from what follows the entry `after`, which has to fit its hash.

    Yield some entries at a time, each with (kind of fault, a sentence) of what differs. After a fault the walk goes on
    from the entry as it is, so that one change is not reported for every entry after.
    """
    expected, previous, appended_at = 1, GENESIS, None
    rows = LedgerEntry.objects.filter(sequence__gte=after) if after else LedgerEntry.objects.all()
    entries = rows.order_by("sequence").iterator(chunk_size=WALKED_AT_ONCE)
    while some := list(islice(entries, WALKED_AT_ONCE)):
        part = Part()
        for entry in some:
            fitting = fits(entry)
            (part.fitting if fitting else part.altered).append(entry)
            if after and entry.sequence == after:
                expected, previous = after, entry.previous_hash
            elif entry.sequence < expected:
                stray = f"Ledger entry {entry.sequence} does not belong: entries are numbered from 1."
                part.faults.append(("stray", stray))
                continue
            if entry.sequence > expected:
                part.faults.append(("missing", _missing(expected, entry.sequence)))
                previous = entry.previous_hash
            if fault := _fault(entry, previous, appended_at, fitting):
                part.faults.append(fault)
            expected, previous, appended_at = entry.sequence + 1, entry.hash, entry.appended_at
        yield part


def faults() -> Iterator[Fault]:
    """Recompute the chain from its beginning; yield (kind of fault, a sentence) for each entry that differs."""
    for part in walk():
        yield from part.faults


def _fault(entry: LedgerEntry, previous: str, appended_at: datetime | None, fitting: bool) -> Fault | None:
    named = f"Ledger entry {entry.sequence}"
    if entry.previous_hash != previous:
        return "order", f"{named} does not follow entry {entry.sequence - 1}."
    if not fitting:
        return "hash", f"{named} was altered or forged: its hash does not fit its content."
    if (differs := column_that_differs(entry)) is not None:
        return "column", f"{named} was altered: its column {differs} differs from what was sealed."
    if erased(entry):
        return "erased", f"{named}: its personal text was erased."
    if appended_at and entry.appended_at < appended_at - BACKWARDS:
        return "time", f"{named} was appended before entry {entry.sequence - 1}, by its time."
    return None


def fits(entry: LedgerEntry) -> bool:
    """Say whether an entry's hashes are those of its content; its columns and what is around it are not looked at."""
    hashed = seal(entry.previous_hash, entry.sequence, entry.appended_at, entry.facts_hash, entry.personal_hash)
    return (
        hmac.compare_digest(entry.hash.encode(), hashed.encode())
        and text_hash("facts", entry.facts_salt, entry.facts) == entry.facts_hash
        and (erased(entry) or text_hash("personal", entry.personal_salt, entry.personal) == entry.personal_hash)
    )


def erased(entry: LedgerEntry) -> bool:
    """Say whether the personal text of an entry was erased: the chain holds without it."""
    return entry.personal == entry.personal_salt == ""


def event_of(entry: LedgerEntry) -> Event:
    """Return the event of an entry; `events.Altered` when its hashes do not fit its texts."""
    return events.read(entry) if fits(entry) else events.Altered()


def actor_of(entry: LedgerEntry) -> str:
    """Return who acted, by the sealed text of an entry; '' where that was erased."""
    return "" if erased(entry) else parsed(entry.personal)["actor"]


def _missing(first: int, found: int) -> str:
    if found == first + 1:
        return f"Ledger entry {first} is missing: entry {found} comes next."
    return f"Ledger entries {first} to {found - 1} are missing: entry {found} comes next."


def column_that_differs(entry: LedgerEntry) -> str | None:
    """Return the first column that differs from what the texts repeat of it, or None."""
    texts = [(_IN_FACTS, entry.facts)] + ([] if erased(entry) else [(_IN_PERSONAL, entry.personal)])
    for names, text in texts:
        sealed = parsed(text)
        for name, column in names.items():
            if sealed[name] != _as_json(getattr(entry, column)):
                return name
    of_event = _of_event(parsed(entry.facts)["facts"])
    return next((name for name, value in of_event.items() if getattr(entry, name) != value), None)
