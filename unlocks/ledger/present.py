"""The present: what may change in a row is what the entries, read in their order, made of it last."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import islice
from typing import Any
from uuid import UUID

from django.contrib.auth.models import Group, Permission, User
from django.db.models import F, Model, Q

from .. import pins, roles
from ..digest import sha256
from ..factors import factors_mac
from ..models import (
    Account,
    ApiToken,
    ConsentLink,
    ConsentTerms,
    Contact,
    LedgerEntry,
    Outgoing,
    StaffLink,
    UnlockRequest,
)
from ..rules import to_be_confirmed
from . import chain, emails, events
from .chain import Fault

# A wrong try that is judged beside a right one may be told after it, though its count is from before.
_BESIDE = timedelta(seconds=10)
_RIGHTS = ("is_active", "is_staff", "is_superuser", "groups", "permissions", "password")
_KINDS = (
    events.StaffChanged,
    events.AccountChanged,
    events.ContactChanged,
    events.ContactConfirmed,
    events.TermsDrafted,
    events.Opened,
    events.Assigned,
    events.Advised,
    events.LinkSent,
    events.LinkRevoked,
    events.Consented,
    events.Declined,
    events.Closed,
    events.PinVerified,
    events.PinIssued,
    events.PinDrawn,
    events.PinDropped,
    events.PinWrong,
    events.EmailSent,
    events.EmailFailed,
    events.EmailCanceled,
    events.ApiTokenMade,
    events.ApiTokenRevoked,
    events.StaffLinkSent,
    events.StaffLinkUsed,
)
_NAMES = frozenset(kind.kind for kind in _KINDS)


def faults() -> Iterator[Fault]:
    """Compare rows with the newest entries about them; yield (kind of fault, a sentence) for each that differs."""
    told = Told()
    for entries in _entries():
        yield from told.add(entries)
    yield from told.faults()


def _entries() -> Iterator[list[LedgerEntry]]:
    entries = LedgerEntry.objects.filter(kind__in=_NAMES).order_by("sequence").iterator(chunk_size=chain.WALKED_AT_ONCE)
    while some := list(islice(entries, chain.WALKED_AT_ONCE)):
        # The chain reports an altered entry; nothing is compared with it.
        yield [entry for entry in some if chain.fits(entry)]


class Told:
    """What the entries tell so far: {model: {key: {column: (its value, the entry's sequence)}}}."""

    def __init__(self) -> None:
        self.rows: dict[type[Model], dict[Any, dict[str, tuple[Any, int]]]] = defaultdict(lambda: defaultdict(dict))
        self.active: dict[int, int] = {}  # the link of a request that can still be used
        self.unused: dict[int, set[int]] = defaultdict(set)  # the links of an account that were not used
        self.wrong: dict[int, tuple[int, datetime, int]] = {}  # wrong tries of an account in a row
        self.reset: dict[int, datetime] = {}
        self.ended: dict[type[Model], set[Any]] = defaultdict(set)
        self.emails: set[UUID] = set()  # that were sent, or that nobody sends any more

    def tell(self, entry: LedgerEntry, model: Any, pk: Any, **columns: Any) -> None:
        for column, value in columns.items():
            self.rows[model][pk][column] = value, entry.sequence

    def add(self, entries: Iterable[LedgerEntry]) -> Iterator[Fault]:
        """Go on with some entries that fit their hashes, in the order of their sequences.

        What comes to its end in them is compared with them at once, and not kept.
        """
        for entry in entries:
            if entry.kind in _NAMES:
                self._add(entry)
        for model in (Outgoing, UnlockRequest):
            ended = {pk: self.rows[model].pop(pk) for pk in self.ended[model] if pk in self.rows[model]}
            yield from _differing(model, ended)
        self.emails |= self.ended[Outgoing]
        self.ended.clear()

    def faults(self) -> Iterator[Fault]:
        """Compare what else is there with what was told of it last."""
        if found := list(self._differences()):
            # The desk goes on working meanwhile: what differs only between two reads is no fault.
            told = Told()
            for entries in _entries():
                for _ in told.add(entries):
                    pass
            again = set(told._differences())
            yield from (fault for fault in found if fault in again)

    def _differences(self) -> Iterator[Fault]:
        for model, rows in self.rows.items():
            yield from _differing(model, rows)
        yield from _pin_tries(self.wrong)
        yield from _untold(self.rows[User])
        yield from _untold_factors(self.rows[User])
        yield from _untold_emails(self.emails)
        yield from _usernames()
        yield from _groups()

    def _add(self, entry: LedgerEntry) -> None:
        event: Any = events.read(entry)
        request: Any = entry.unlock_request_id
        match event:
            case events.StaffChanged() | events.AccountChanged() | events.ContactChanged():
                changed = {name: change[1] for name, change in event.changed.items() if name != "password"}
                if isinstance(event, events.StaffChanged):
                    macs = {"password": event.password_mac, "factors": event.factors_mac}
                    changed |= {name: mac for name, mac in macs.items() if name in event.changed}
                self.tell(entry, event.about, event.about_id, **changed)
                if isinstance(event, events.ContactChanged) and to_be_confirmed(event.changed):
                    user = None if event.by_product else entry.user_id
                    came_in = UUID(event.imported) if event.imported else None
                    entered = {"entered_by_id": user, "entered_in_id": came_in, "entered_at": entry.at}
                    unconfirmed = {"confirmed_by_id": None, "confirmed_at": None, "confirmed_how": ""}
                    self.tell(entry, Contact, event.about_id, **entered, **unconfirmed)
            case events.ContactConfirmed():
                confirmed = {"confirmed_by_id": entry.user_id, "confirmed_at": entry.at, "confirmed_how": event.how}
                self.tell(entry, Contact, event.about_id, **confirmed)
            case events.TermsDrafted():
                drafted = {"title": event.title, "text": event.sha256}
                by = {"drafted_by_id": entry.user_id, "drafted_at": entry.at}
                self.tell(entry, ConsentTerms, event.about_id, **drafted, **by)
            case events.Opened():
                self.tell(entry, UnlockRequest, request, assignee_id=entry.user_id, advice="", advised_at=None)
            case events.Assigned():
                self.tell(entry, UnlockRequest, request, assignee_id=event.to)
            case events.Advised():
                self.tell(entry, UnlockRequest, request, advice=event.advice, advised_at=entry.at)
            case events.LinkSent() | events.LinkRevoked() | events.Closed() | events.Consented() | events.Declined():
                self._link(entry, event)
            case events.PinDrawn():
                self.tell(entry, Account, entry.account_id, pending_pin_hash=event.pin_mac)
            case events.PinDropped():
                self.tell(entry, Account, entry.account_id, pending_pin_hash=pins.mac(entry.account_id or 0, ""))
            case events.PinVerified() | events.PinIssued() | events.PinWrong():
                self._pin(entry, event)
            case events.ApiTokenMade():
                self.tell(entry, ApiToken, event.about_id, revoked_at=None, revoked_by_id=None)
            case events.ApiTokenRevoked():
                self.tell(entry, ApiToken, event.about_id, revoked_at=entry.at, revoked_by_id=entry.user_id)
            case events.StaffLinkSent():
                self.tell(entry, StaffLink, event.about_id, used_at=None)
            case events.StaffLinkUsed():
                self.tell(entry, StaffLink, event.about_id, used_at=entry.at)
            case events.EmailSent() | events.EmailFailed() | events.EmailCanceled() if event.outgoing:
                ended = {"email": event.email, "address": event.to, "link_id": event.link, "consent_id": event.consent}
                self.tell(entry, Outgoing, UUID(event.outgoing), state=_state(event), **ended)
                self.ended[Outgoing].add(UUID(event.outgoing))

    def _link(self, entry: LedgerEntry, event: Any) -> None:
        if isinstance(event, events.Closed):
            self.ended[UnlockRequest].add(entry.unlock_request_id)
        ended, account = self.active.pop(entry.unlock_request_id or 0, None), entry.account_id or 0
        if isinstance(event, events.Consented | events.Declined):
            self.unused[account].discard(event.link or 0)
        elif ended:
            self.tell(entry, ConsentLink, ended, revoked_at=entry.at)
        if isinstance(event, events.LinkSent) and event.about_id:
            self.active[entry.unlock_request_id or 0] = event.about_id
            self.unused[account].add(event.about_id)
            self.tell(entry, ConsentLink, event.about_id, revoked_at=None, pin_verified_at=None)

    def _pin(self, entry: LedgerEntry, event: Any) -> None:
        account = entry.account_id or 0
        if isinstance(event, events.PinWrong):
            if account not in self.reset or entry.at > self.reset[account] + _BESIDE:
                self.wrong[account] = event.tries, entry.at, entry.sequence
            return
        self.reset[account] = entry.at
        self.wrong.pop(account, None)
        if isinstance(event, events.PinIssued):
            none = pins.mac(account, "")
            self.tell(entry, Account, account, pin_issued_at=entry.at, pin_hash=event.pin_mac, pending_pin_hash=none)
            for link in self.unused[account]:
                self.tell(entry, ConsentLink, link, pin_verified_at=None)
        elif entry.user_id is None and (opened := self.active.get(entry.unlock_request_id or 0)):
            self.tell(entry, ConsentLink, opened, pin_verified_at=entry.at)


def _state(event: Any) -> str:
    if isinstance(event, events.EmailFailed):
        return Outgoing.State.GIVEN_UP if event.given_up else Outgoing.State.REFUSED
    return Outgoing.State.SENT if isinstance(event, events.EmailSent) else Outgoing.State.CANCELED


def _differing(model: type[Model], rows: dict[Any, dict[str, tuple[Any, int]]]) -> Iterator[Fault]:
    named, keys = str(model._meta.verbose_name), sorted(rows)
    for start in range(0, len(keys), chain.WALKED_AT_ONCE):
        some = keys[start : start + chain.WALKED_AT_ONCE]
        related = ("groups", "user_permissions__content_type") if model is User else ()
        found = {row.pk: row for row in model._base_manager.filter(pk__in=some).prefetch_related(*related)}
        # What is gone is named beside the entry that is about it.
        for pk in (pk for pk in some if pk in found):
            for column, (value, sequence) in rows[pk].items():
                if _now(found[pk], column) != value:
                    finding = f"its column {column} differs from what ledger entry {sequence} tells"
                    yield f"{named} differs now", f"{named.capitalize()} {pk}: {finding}."
                    break


def _now(row: Any, column: str) -> Any:
    match row, column:
        case User(), "groups":
            return sorted(group.name for group in row.groups.all())
        case User(), "permissions":
            return sorted(f"{held.content_type.app_label}.{held.codename}" for held in row.user_permissions.all())
        case User(), "password":
            return pins.password_mac(row.pk, row.password)
        case User(), "factors":
            return factors_mac(row.pk)
        case Account(), "pin_hash" | "pending_pin_hash":
            return pins.mac(row.pk, getattr(row, column))
        case ConsentTerms(), "text":
            return sha256(row.text)
    return getattr(row, column)


def _pin_tries(wrong: dict[int, tuple[int, datetime, int]]) -> Iterator[Fault]:
    for pk, (tries, at, sequence) in wrong.items():
        account = Account.objects.filter(pk=pk).first()
        if account is None:
            continue
        until, wait = account.pin_locked_until, pins.LOCKOUTS.get(tries)
        lifted = wait and account.pin_failures == tries and (until is None or until < at + wait - _BESIDE)
        if account.pin_failures < tries or lifted:
            column = "pin_locked_until" if lifted else "pin_failures"
            finding = f"its column {column} allows more tries than ledger entry {sequence} tells"
            yield "tries", f"Account {pk}: {finding}."


def _untold(told: dict[int, dict[str, tuple[Any, int]]]) -> Iterator[Fault]:
    """Name whoever may do anything by rights that no entry tells of: some by one entry, the others by another."""
    for pk, username in roles.who_may_do_anything().values_list("pk", "username").iterator():
        if untold := [column for column in _RIGHTS if column not in told.get(pk, {})]:
            finding = f"no ledger entry tells of {', '.join(untold)}, which say who signs in and what they may do"
            advice = f"If you know who made it so, record it with “manage.py record_staff {username}”."
            yield "untold", f"User {username} (id {pk}): {finding}. {advice}"


def _untold_factors(told: dict[int, dict[str, tuple[Any, int]]]) -> Iterator[Fault]:
    has_any = Q(authenticator__isnull=False) | Q(socialaccount__isnull=False)
    for user in User.objects.filter(has_any).distinct().order_by("pk").iterator():
        if "factors" not in told.get(user.pk, {}):
            yield "untold", f"User {user} (id {user.pk}): no ledger entry tells of their second factors."


def _untold_emails(told: set[UUID]) -> Iterator[Fault]:
    there = set()
    for row in Outgoing.objects.order_by("queued_at", "pk").iterator():
        there.add(row.pk)
        if row.state == Outgoing.State.QUEUED and not emails.is_queued_by_the_desk(row):
            yield "email not ours", f"Outgoing {row.pk}: it is not what the desk queued."
        elif row.state != Outgoing.State.QUEUED and row.pk not in told:
            finding = f"no ledger entry tells that it is {row.get_state_display().lower()}"
            yield "email without entry", f"Outgoing {row.pk}: {finding}."
    for pk in sorted(told - there):
        yield "email gone", f"Outgoing {pk}: it is gone, and a ledger entry tells how it ended."


def _usernames() -> Iterator[Fault]:
    """Compare the username of each member of staff with the name that every entry of theirs was sealed under."""
    others = LedgerEntry.objects.filter(user__isnull=False).exclude(actor=F("user__username")).order_by("sequence")
    named: set[int | None] = set()
    for entry in others.iterator():
        # Columns that differ from what was sealed are the chain's to report.
        intact = chain.fits(entry) and not chain.erased(entry) and chain.column_that_differs(entry) is None
        if intact and entry.user_id not in named:
            named.add(entry.user_id)
            yield (
                "username",
                f"User {entry.user_id}: its username differs from what ledger entry {entry.sequence} tells.",
            )


def _groups() -> Iterator[Fault]:
    """Compare what each group may with `roles`; a group of another name may nothing."""
    ours = list(Permission.objects.filter(content_type__app_label="unlocks"))
    for group in Group.objects.order_by("name"):
        holds = roles.GROUPS.get(group.name, lambda permission: False)
        may = {permission.pk for permission in ours if holds(permission)}
        if set(group.permissions.values_list("pk", flat=True)) != may:
            yield "group", f"Group {group.name}: its permissions are not those that the desk gives it."
