"""The ledger: one chain of entries, each sealed with HMAC-SHA256 to the one before.

The hash covers the previous hash, the sequence and the canonical JSON of the entry (sorted keys, no blanks, UTF-8),
kept as text in `body`. The key is LEDGER_KEY, outside the database: who can write the table cannot seal an entry.
"""

import hashlib
import hmac
import json
from dataclasses import dataclass, field
from itertools import islice

from django.conf import settings
from django.db import connections, transaction
from django.utils import timezone

from ..digest import canonical
from ..models import LedgerEntry

GENESIS = "0" * 64
_AT_ONCE = 10_000  # entries a statement: an act on any number of requests stays within some 15 MiB
_LOCK = 7_014_401  # the advisory lock that orders appends on PostgreSQL; any number nobody else uses

_COLUMNS = (
    "sequence",
    "unlock_request_id",
    "account_id",
    "kind",
    "at",
    "user_id",
    "actor",
    "ip",
    "body",
    "previous_hash",
    "hash",
)


@dataclass(frozen=True)
class Entry:
    """What happened: a LedgerEntry.Kind, the ids of its request and account (None where there is none), and the facts.

    `facts` holds only what JSON holds.
    """

    kind: str
    unlock_request: int | None = None
    account: int | None = None
    facts: dict = field(default_factory=dict)


def note(kind, *, by, unlock_request=None, account=None, at=None, **facts):
    """Append one entry about a request, or about an account alone."""
    account_id = unlock_request.account_id if unlock_request else account.pk if account else None
    return append([Entry(kind, unlock_request.pk if unlock_request else None, account_id, facts)], by=by, at=at)


def append(entries, *, by, at=None):
    """Append entries in one statement (ten thousand at a time), inside the caller's transaction; return how many.

    The chain's lock is taken here, so this comes last in a verb.
    """
    connection = connections["default"]
    if not connection.in_atomic_block:
        raise transaction.TransactionManagementError("The ledger is appended to inside the transaction of its act.")
    at = at or timezone.now()
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        sealed, appended = _sealed(entries, by, at, *head()), 0
        adapt = [LedgerEntry._meta.get_field(name).get_db_prep_save for name in _COLUMNS]
        while rows := list(islice(sealed, _AT_ONCE)):
            cursor.executemany(
                f"INSERT INTO unlocks_ledgerentry ({', '.join(_COLUMNS)}) VALUES ({', '.join(['%s'] * len(_COLUMNS))})",
                [[prepare(value, connection) for prepare, value in zip(adapt, row, strict=True)] for row in rows],
            )
            appended += len(rows)
    return appended


def head():
    """Return the sequence and hash of the newest entry; (0, GENESIS) while there is none."""
    newest = LedgerEntry.objects.order_by("-sequence").values_list("sequence", "hash").first()
    return newest or (0, GENESIS)


def _sealed(entries, by, at, sequence, previous):
    user_id = by.user.pk if by.user else None
    ip = LedgerEntry._meta.get_field("ip").get_prep_value(by.ip)  # as the column will hold it
    for entry in entries:
        sequence += 1
        body = canonical(
            {
                "account": entry.account,
                "actor": by.name,
                "at": at.isoformat(),
                "facts": entry.facts,
                "ip": ip,
                "kind": str(entry.kind),
                "unlock_request": entry.unlock_request,
                "user": user_id,
            }
        )
        sealed = seal(previous, sequence, body)
        yield (
            sequence,
            entry.unlock_request,
            entry.account,
            str(entry.kind),
            at,
            user_id,
            by.name,
            ip,
            body,
            previous,
            sealed,
        )
        previous = sealed


def seal(previous, sequence, body):
    """Return the hash (hex) of an entry: HMAC-SHA256 of previous hash, sequence and body, a line each."""
    return hmac.new(
        settings.LEDGER_KEY.encode(), f"{previous}\n{sequence}\n{body}".encode(), hashlib.sha256
    ).hexdigest()


def first_fault():
    """Recompute the chain from its beginning; return a sentence on the first entry that differs, or ''."""
    return next((sentence for _, sentence in faults()), "")


def faults():
    """Recompute the chain from its beginning; yield (kind of fault, a sentence) for each entry that differs.

    After a fault the walk goes on from the entry as it stands, so that one change is not told of every entry after.
    """
    expected, previous = 1, GENESIS
    for event in LedgerEntry.objects.order_by("sequence").iterator():
        if event.sequence < expected:
            yield "stray", f"Ledger entry {event.sequence} does not belong: entries are numbered from 1."
            continue
        if event.sequence > expected:
            yield "missing", _missing(expected, event.sequence)
            previous = event.previous_hash
        if event.previous_hash != previous:
            yield "order", f"Ledger entry {event.sequence} does not follow entry {event.sequence - 1}."
        elif not fits(event):
            yield "hash", f"Ledger entry {event.sequence} was altered or forged: its hash does not fit its content."
        elif (differs := _column_that_differs(event)) is not None:
            said = f"its column {differs} differs from what was sealed."
            yield "column", f"Ledger entry {event.sequence} was altered: {said}"
        expected, previous = event.sequence + 1, event.hash


def fits(event):
    """Say whether an entry's hash is the one of its content; its columns and what is around it are not looked at."""
    return hmac.compare_digest(event.hash.encode(), seal(event.previous_hash, event.sequence, event.body).encode())


def _missing(first, found):
    if found == first + 1:
        return f"Ledger entry {first} is missing: entry {found} comes next."
    return f"Ledger entries {first} to {found - 1} are missing: entry {found} comes next."


def _column_that_differs(event):
    sealed = json.loads(event.body)
    columns = {
        "account": event.account_id,
        "actor": event.actor,
        "at": event.at.isoformat(),
        "ip": event.ip,
        "kind": event.kind,
        "unlock_request": event.unlock_request_id,
        "user": event.user_id,
    }
    return next((name for name, value in columns.items() if sealed[name] != value), None)
