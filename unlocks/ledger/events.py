"""The events that the ledger records, one class for each kind.

A class names its kind and label, its facts with their types, and which of them are personal. `fact("column")` says
that a fact repeats a column of the row that the event is about; the audit compares the two, in both directions
(`unlocks.ledger.rows`). A new kind is one class here.
"""

import dataclasses
import hashlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from functools import cache
from inspect import get_annotations
from itertools import groupby
from typing import Any, ClassVar, Self, TypeVar, dataclass_transform, get_type_hints
from uuid import UUID

from django.contrib.auth.models import User
from django.db.models import Count, Model, Q, QuerySet, Sum

from .. import pins
from ..digest import parsed, sha256
from ..models import (
    Account,
    Act,
    ApiToken,
    Certificate,
    Consent,
    ConsentedBatch,
    ConsentEvidence,
    ConsentLink,
    ConsentTerms,
    ConsentWithdrawal,
    Contact,
    LedgerEntry,
    LinkOpening,
    RequestedBatch,
    ResentReceipt,
    Review,
    ReviewDecision,
    StaffLink,
    UnlockRequest,
    Verdict,
)
from ..rules import short_name
from ..texts.formats import counted, moment, span

KINDS: dict[str, type["Event"]] = {}
E = TypeVar("E", bound="Event")


def fact(column: str = "", *, personal: bool = False, quoted: bool = False, digests: str = "", **options: Any) -> Any:
    """Declare a fact. It repeats `column` of the row, or is the SHA-256 (hex) of the column `digests`.

    A `quoted` one is what someone wrote; the timeline quotes it.
    """
    metadata = {"column": column, "personal": personal, "quoted": quoted, "digests": digests}
    return field(metadata=metadata, **options)


@dataclass(frozen=True, kw_only=True)
class Event:
    """What happened. `about_id` is the key of the row it is about, if it is about one."""

    kind: ClassVar[str] = ""
    label: ClassVar[str] = ""
    tone: ClassVar[str] = ""
    about: ClassVar[type[Model] | None] = None
    # What the row repeats of the entry itself, as {column of the row: column of the entry}.
    columns: ClassVar[dict[str, str]] = {}
    # What every row that such an event is about holds.
    holds: ClassVar[dict[str, Any]] = {}
    # Which rows have to have such an entry; None: none has to.
    required: ClassVar[Q | None] = None

    about_id: int | None = None

    @classmethod
    def of(cls, row: Model, **facts: Any) -> Self:
        """Return the event about a row, with the facts that its columns hold and those given."""
        read = {}
        for declared in cls.declared():
            if column := declared.metadata["column"]:
                read[declared.name] = _column(row, column)
            elif column := declared.metadata["digests"]:
                read[declared.name] = sha256(_column(row, column))
        return cls(about_id=row.pk, **read | facts)

    @classmethod
    @cache
    def declared(cls) -> tuple[dataclasses.Field, ...]:
        return tuple(declared for declared in dataclasses.fields(cls) if declared.metadata)

    @classmethod
    @cache
    def types(cls) -> dict[str, Any]:
        return get_type_hints(cls)

    def facts(self, *, personal: bool) -> dict[str, Any]:
        """Return the facts that are personal, or those that are not, as JSON values."""
        return {
            declared.name: _as_json(getattr(self, declared.name))
            for declared in self.declared()
            if declared.metadata["personal"] == personal
        }

    @classmethod
    def recomputed(cls, entries: Sequence[LedgerEntry]) -> dict[int, dict[str, Any]]:
        """Return those facts of entries of this kind that sum up a set of rows, as the rows have it now.

        By the entries' sequences; one or two queries for all of them.
        """
        return {}

    @property
    def rest(self) -> str:
        """What follows the label in a sentence on the timeline."""
        return ""

    @property
    def quote(self) -> str:
        """What someone wrote."""
        return next((getattr(self, declared.name) for declared in self.declared() if declared.metadata["quoted"]), "")


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(fact,))
def facts_of(cls: type[E]) -> type[E]:
    """Make a frozen dataclass whose every annotation is a fact; for what several kinds share."""
    for name in get_annotations(cls):
        if name not in cls.__dict__:
            setattr(cls, name, fact())
    return dataclass(frozen=True, kw_only=True)(cls)


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(fact,))
def event(
    kind: str,
    label: str,
    *,
    tone: str = "",
    about: type[Model] | None = None,
    columns: dict[str, str] | None = None,
    holds: dict[str, Any] | None = None,
    required: Q | None = None,
) -> Callable[[type[E]], type[E]]:
    """Register a class as a kind of event. `tone` is good, wait, bad, info or ''."""

    def declare(cls: type[E]) -> type[E]:
        cls = facts_of(cls)
        cls.kind, cls.label, cls.tone, cls.about = kind, label, tone, about
        cls.columns, cls.holds, cls.required = columns or {}, holds or {}, required
        KINDS[kind] = cls
        return cls

    return declare


def read(entry: LedgerEntry) -> Event:
    """Return the event of an entry; `Altered` when its texts can't be read."""
    try:
        facts, personal = _parsed(entry.facts)["facts"], _parsed(entry.personal)["personal"]
        cls = KINDS[entry.kind]
        values = {name: _from_json(cls.types()[name], value) for name, value in (facts | personal).items()}
        return cls(about_id=entry.about_id, **values)
    except (ValueError, TypeError, LookupError, ArithmeticError):
        return Altered()


_OfAct = tuple[UUID, int | None]


def _of_acts(entries: Iterable[LedgerEntry]) -> dict[int, _OfAct]:
    """Return {sequence: the act and the unlock request of the entry}."""
    return {entry.sequence: (entry.act, entry.unlock_request_id) for entry in entries}


def _moved(entries: Sequence[LedgerEntry], name: str, outcome: str) -> dict[int, dict[str, Any]]:
    """Return, as `name`, to how many batches of its request the act of each entry gave this outcome."""
    of_acts = _of_acts(entries)
    acts, requests = {act for act, _ in of_acts.values()}, {request for _, request in of_acts.values()}
    lines = RequestedBatch.objects.filter(unlock_request__in=requests)
    moved = RequestedBatch.history.filter(id__in=lines.values("pk"), history_act__in=acts, outcome=outcome)
    rows = moved.order_by().values_list("history_act", "unlock_request_id").annotate(n=Count("pk"))
    counts = {(act, request): n for act, request, n in rows}
    return {sequence: {name: counts.get(of_act, 0)} for sequence, of_act in of_acts.items()}


# Unlock requests


@event(
    "opened",
    "Opened",
    about=UnlockRequest,
    columns={"account_id": "account_id", "opened_by_id": "user_id", "opened_at": "at"},
    required=Q(),
)
class Opened(Event):
    requester: int = fact("requester_id")
    channel: str = fact("channel")
    bypass_reason: str = fact("bypass_reason")
    reason: str = fact("reason", personal=True, quoted=True)
    bypass_other: str = fact("bypass_other", personal=True, default="")
    ticket_system: str = fact("ticket_system", default="")
    ticket_number: str = fact("ticket_number", default="")
    batches: int
    amount: Decimal

    @property
    def rest(self) -> str:
        channel = _label(UnlockRequest.Channel, self.channel)
        why = _label(UnlockRequest.BypassReason, self.bypass_reason)
        if self.bypass_other:
            why = f"{why} ({self.bypass_other})"
        return f" with {_batches(self.batches)}. Channel: {channel}. Why bypassed: {why}"


@facts_of
class _Moved(Event):
    """Batches that joined or left a case; `outcome` is the one that they got by that."""

    outcome: ClassVar[str] = ""

    batches: int
    amount: Decimal
    numbers: list[str]

    @classmethod
    def recomputed(cls, entries: Sequence[LedgerEntry]) -> dict[int, dict[str, Any]]:
        return _moved(entries, "batches", cls.outcome)

    @property
    def rest(self) -> str:
        return _of_batches(self.batches, self.numbers)


@event("batches_added", "Batches added", tone="wait")
class BatchesAdded(_Moved):
    outcome = RequestedBatch.Outcome.WAITING.value


@event("batches_taken_out", "Batches taken out", tone="wait")
class BatchesTakenOut(_Moved):
    outcome = RequestedBatch.Outcome.NOT_UNLOCKED.value


@event("note", "Note")
class Note(Event):
    text: str = fact(personal=True, quoted=True)


@event("assigned", "Assigned")
class Assigned(Event):
    """`to` is None where a colleague's case was handed over to nobody."""

    to: int | None
    name: str = fact(personal=True)

    @property
    def rest(self) -> str:
        return f" to {self.name or 'nobody'}"


@event("advised", "Safer route offered")
class Advised(Event):
    advice: str

    @property
    def rest(self) -> str:
        return f": {_label(UnlockRequest.Advice, self.advice)}"


@event(
    "closed",
    "Closed",
    about=UnlockRequest,
    columns={"closed_at": "at"},
    holds={"status": UnlockRequest.Status.CLOSED},
    required=Q(status=UnlockRequest.Status.CLOSED),
)
class Closed(Event):
    resolution: str = fact("resolution")
    why: str = fact(personal=True, quoted=True)

    @property
    def rest(self) -> str:
        return f": {_label(UnlockRequest.Resolution, self.resolution)}"


# Reviewing closed cases


@event("review_due", "Review required", tone="wait", about=Review, columns={"due_at": "at"}, required=Q())
class ReviewDue(Event):
    by_phone: bool = fact("by_phone")
    warned: bool = fact("warned")
    large: bool = fact("large")
    drawn: bool = fact("drawn")

    @property
    def rest(self) -> str:
        facts = {name: getattr(self, name) for name in Review.REASONS}
        return f": {', '.join(Review(**facts).reasons).lower()}"


_REVIEWED = {"by_id": "user_id", "at": "at"}
_SIGNED_OFF, _FLAGGED, _RESOLVED = ReviewDecision.Decision


@facts_of
class _Reviewed(Event):
    position: int = fact("position")
    note: str = fact("note", personal=True, quoted=True)


def _reviewed(kind: str, decision: ReviewDecision.Decision, tone: str) -> Any:
    holds = {"decision": decision}
    return event(
        kind,
        decision.label,
        tone=tone,
        about=ReviewDecision,
        columns=_REVIEWED,
        holds=holds,
        required=Q(decision=decision),
    )


@_reviewed("signed_off", _SIGNED_OFF, "good")
class SignedOff(_Reviewed):
    """A reviewer found nothing wrong."""


@_reviewed("flagged", _FLAGGED, "bad")
class Flagged(_Reviewed):
    """A reviewer found something, which stays in sight until it is resolved."""


@_reviewed("flag_resolved", _RESOLVED, "good")
class FlagResolved(_Reviewed):
    """What was flagged is settled."""


# The PIN


@event("pin_drawn", "New PIN queued", about=Account, required=~Q(pending_pin_hash=""))
class PinDrawn(Event):
    """A PIN was drawn and is emailed to these Admins. `pin_mac` binds the account to its hash, which is pending."""

    to: list[int]
    pin_mac: str

    @classmethod
    def of(cls, row: Any, **facts: Any) -> Self:
        return super().of(row, pin_mac=pins.mac(row.pk, row.pending_pin_hash), **facts)


@event("pin_dropped", "New PIN dropped: no Admin could be emailed", tone="bad", about=Account)
class PinDropped(Event):
    """The PIN before it stands."""


@event("pin_issued", "New PIN in force", about=Account, required=~Q(pin_hash=""))
class PinIssued(Event):
    """A server took the first email with it. `pin_mac` binds the account to its hash: no other in its row counts."""

    to: list[int]
    pin_mac: str

    @classmethod
    def of(cls, row: Any, **facts: Any) -> Self:
        return super().of(row, pin_mac=pins.mac(row.pk, row.pin_hash), **facts)


@event("pin_typed", "PIN typed by staff")
class PinTyped(Event):
    """Written before the PIN is judged: whoever holds it by then is shown no link, whatever becomes of the try."""


@event("pin_verified", "PIN verified", tone="good")
class PinVerified(Event):
    pass


@event("pin_wrong", "Wrong PIN", tone="wait")
class PinWrong(Event):
    tries: int

    @property
    def rest(self) -> str:
        return f", {self.tries} in a row"


@event("pin_locked", "PIN attempt refused: locked", tone="bad")
class PinLocked(Event):
    pass


# The consent link, and emails


@event(
    "link_sent",
    "Consent link issued",
    about=ConsentLink,
    columns={"unlock_request_id": "unlock_request_id", "sent_by_id": "user_id", "sent_at": "at"},
    required=Q(),
)
class LinkSent(Event):
    contact: int = fact("sent_to_id")
    terms: int = fact("terms__version")
    expires: datetime = fact("expires_at")
    shown_to: int | None = fact("shown_to_id")
    to: str = fact("email", personal=True)
    name: str = fact(personal=True)

    @property
    def rest(self) -> str:
        return f" to {self.name} <{self.to}>, terms version {self.terms}, works until {moment(self.expires)}"


@event(
    "link_opened",
    "Consent link opened",
    about=LinkOpening,
    columns={"link__unlock_request_id": "unlock_request_id", "at": "at", "ip": "ip"},
    required=Q(),
)
class LinkOpened(Event):
    link: int = fact("link_id")
    position: int = fact("position")
    browser: str = fact("browser", personal=True)

    @property
    def rest(self) -> str:
        return f" (opening {self.position})"


@event("link_revoked", "Consent link revoked")
class LinkRevoked(Event):
    pass


@event("staff_refused", "Staff refused on the consent page", tone="bad")
class StaffRefused(Event):
    link: int | None = fact(default=None)
    consent: int | None = fact(default=None)


EMAILS = {
    "consent_link": "the consent link",
    "receipt": "the receipt of the consent",
    "recorded_by_phone": "the receipt of the consent recorded by phone",
    "declined": "the receipt of the refusal",
    "withdrawn": "the receipt of the withdrawal",
    "unlocked": "the result of the unlock",
    "extended": "the notice of a longer unlock",
    "ending": "the reminder that the unlock ends",
    "ended": "the notice of the end of the unlock",
    "new_pin": "a new PIN",
    "admin_entered": "the notice of a new Admin address",
    "not_relocked": "the notice of a relock that failed",
    "weekly": "the weekly figures",
    "staff_link": "a link to set a password",
    "break_glass": "the notice of an emergency sign-in",
}


@facts_of
class _Email(Event):
    """`outgoing` is the row of the outbox."""

    outgoing: str = fact(default="")
    email: str
    consent: int | None
    link: int | None = fact(default=None)
    to: str = fact(personal=True)

    @property
    def rest(self) -> str:
        return f": {EMAILS.get(self.email, self.email)} to {self.to}"


@event("email_sent", "Email sent")
class EmailSent(_Email):
    pass


@event("email_failed", "Email could not be sent", tone="bad")
class EmailFailed(_Email):
    """The server refused it, in the words of `error`, or it was tried for so long that it was given up."""

    error: str = fact(personal=True)
    given_up: bool = fact(default=False)

    @property
    def rest(self) -> str:
        return f"{super().rest} ({self.error}{'; given up' if self.given_up else ''})"


@event("email_canceled", "Email not sent", tone="wait")
class EmailCanceled(_Email):
    """By the time it could be sent, it would have said what was not so anymore. `tries` counts those before that."""

    why: str
    tries: int = fact(default=0)

    @property
    def rest(self) -> str:
        return f"{super().rest}. {self.why}"


# The consent


def _covered(consents: Iterable[int | None]) -> dict[int | None, str]:
    """Return {consent: the SHA-256 (hex) over the batches that it covers}, a line each, in the order of their keys."""
    digests = {consent: hashlib.sha256(b"unlock-desk consented batches/1\n") for consent in consents}
    columns = ("consent_id", "batch_id", "number", "name", "total", "item_count", "fingerprint")
    rows = ConsentedBatch.objects.filter(consent__in=digests).order_by("consent_id", "requested_batch_id")
    for consent, *row in rows.values_list(*columns).iterator(chunk_size=2000):
        digest = digests[consent]
        digest.update("\t".join(map(str, row)).encode() + b"\n")
    return {consent: digest.hexdigest() for consent, digest in digests.items()}


_BY_LINK = {"unlock_request_id": "unlock_request_id", "ip": "ip"}
_AGREED, _DECLINED = Consent.Decision.AGREED, Consent.Decision.DECLINED


@facts_of
class _Consent(Event):
    """What was recorded of a customer's answer: all of it, the text by its hash."""

    link: int | None = fact("link_id")
    opening: int | None = fact("opening_id")
    terms: int = fact("terms__version")
    text_sha256: str = fact("text_sha256", digests="text")
    contact: int = fact("contact_id")
    ticked: list[str] = fact("ticked")
    pressed: str = fact("pressed")
    pin_verified: datetime | None = fact("pin_verified_at")
    pin_typed_by: str = fact("pin_typed_by")
    link_used: datetime | None = fact("link__used_at")
    receipt_sha256: str = fact("receipt_hash")
    given: datetime = fact("given_at")
    valid_until: datetime | None = fact("valid_until")
    name: str = fact("signer_name", personal=True)
    role: str = fact("signer_role", personal=True)
    contact_name: str = fact("contact_name", personal=True)
    to: str = fact("email", personal=True)
    browser: str = fact("browser", personal=True)

    @property
    def signer(self) -> str:
        return ", ".join(filter(None, [self.name, self.role]))


@facts_of
class _Agreement(_Consent):
    batches: int = fact("batch_count")
    amount: Decimal
    covered: str

    @classmethod
    def of(cls, row: Model, **facts: Any) -> Self:
        amount = ConsentedBatch.objects.filter(consent=row.pk).aggregate(amount=Sum("total"))["amount"]
        return super().of(row, amount=amount, covered=_covered([row.pk])[row.pk], **facts)

    @classmethod
    def recomputed(cls, entries: Sequence[LedgerEntry]) -> dict[int, dict[str, Any]]:
        digests = _covered({entry.about_id for entry in entries})
        return {entry.sequence: {"covered": digests[entry.about_id]} for entry in entries}


@event(
    "consented",
    "Consent given",
    tone="good",
    about=Consent,
    columns=_BY_LINK | {"given_at": "at"},
    holds={"decision": _AGREED, "how": Consent.How.LINK},
    required=Q(decision=_AGREED, how=Consent.How.LINK),
)
class Consented(_Agreement):
    """The customer left `left_out` batches out, which left the request with it."""

    left_out: int = fact(default=0)
    left_out_amount: Decimal = fact(default=Decimal(0))

    @classmethod
    def recomputed(cls, entries: Sequence[LedgerEntry]) -> dict[int, dict[str, Any]]:
        left = _moved(entries, "left_out", RequestedBatch.Outcome.NOT_UNLOCKED)
        return {sequence: facts | left[sequence] for sequence, facts in super().recomputed(entries).items()}

    @property
    def rest(self) -> str:
        without = f", {_batches(self.left_out)} left out" if self.left_out else ""
        return f" by {self.signer}, for {_batches(self.batches)}{without}, terms version {self.terms}"


@event(
    "recorded_by_phone",
    "Consent recorded by phone",
    tone="wait",
    about=Consent,
    columns={"unlock_request_id": "unlock_request_id", "recorded_by_id": "user_id", "given_at": "at"},
    holds={"decision": _AGREED, "how": Consent.How.PHONE},
    required=Q(decision=_AGREED, how=Consent.How.PHONE),
)
class RecordedByPhone(_Agreement):
    @property
    def rest(self) -> str:
        return f": {self.signer}, said yes to {_batches(self.batches)}, terms version {self.terms}"


@event(
    "declined",
    "Consent declined",
    tone="bad",
    about=Consent,
    columns=_BY_LINK | {"given_at": "at"},
    holds={"decision": _DECLINED, "how": Consent.How.LINK},
    required=Q(decision=_DECLINED),
)
class Declined(_Consent):
    why: str = fact(personal=True, quoted=True)

    @property
    def rest(self) -> str:
        return f" by {self.signer}, terms version {self.terms}"


@event(
    "withdrawn",
    "Consent withdrawn",
    tone="bad",
    about=ConsentWithdrawal,
    columns={"actor": "actor", "by_id": "user_id", "at": "at"},
    required=Q(),
)
class Withdrawn(Event):
    consent: int = fact("consent_id")
    why: str = fact("why", personal=True, quoted=True)


@event(
    "evidence",
    "Evidence attached",
    tone="info",
    about=ConsentEvidence,
    columns={"attached_by_id": "user_id", "attached_at": "at"},
    required=Q(),
)
class EvidenceAttached(Event):
    consent: int = fact("consent_id")
    what: str = fact("what")
    size: int = fact("size")
    sha256: str = fact("sha256")
    file_name: str = fact("file_name", personal=True)

    @property
    def rest(self) -> str:
        return f": {_label(ConsentEvidence.What, self.what)}, {self.file_name} ({self.size:,} bytes)"


@event("evidence_opened", "Evidence opened", about=ConsentEvidence)
class EvidenceOpened(Event):
    """The file was handed out to someone, as it was attached."""

    consent: int = fact("consent_id")
    sha256: str = fact("sha256")
    file_name: str = fact("file_name", personal=True)

    @property
    def rest(self) -> str:
        return f": {self.file_name}"


@event(
    "receipt_resent",
    "Receipt issued again",
    about=ResentReceipt,
    columns={"sent_by_id": "user_id", "sent_at": "at"},
    required=Q(),
)
class ReceiptResent(Event):
    consent: int = fact("consent_id")
    receipt_sha256: str = fact("token_hash")
    to: str = fact("email", personal=True)
    name: str = fact(personal=True)

    @property
    def rest(self) -> str:
        return f" to {self.name} <{self.to}>"


@event(
    "certified",
    "Certificate issued",
    tone="info",
    about=Certificate,
    columns={"issued_by_id": "user_id", "issued_at": "at"},
    required=Q(),
)
class Certified(Event):
    consent: int = fact("consent_id")
    certificate: str
    interim: bool = fact("interim")
    key: str
    sha256: str = fact("sha256", digests="content")
    pdf_sha256: str = fact("pdf_sha256", digests="pdf")

    @property
    def rest(self) -> str:
        return f": {self.certificate}{' (interim)' if self.interim else ''}"


@event("case_file_made", "Case file made", tone="info")
class CaseFileMade(Event):
    """Someone was handed all that is on record of a case; `faults` of it were missing or damaged.

    `sha256` is that of the signed list of its files, its manifest.json.
    """

    files: int
    faults: int
    sha256: str

    @property
    def rest(self) -> str:
        faults = f", {self.faults:,} missing or damaged" if self.faults else ""
        return f": {counted(self.files, 'file', 'files')}{faults}"


@facts_of
class _CaseFiles(Event):
    """The case files of several requests in one ZIP; `order` is the act in which they were ordered."""

    order: str
    requests: int

    @property
    def rest(self) -> str:
        return f": {counted(self.requests, 'request', 'requests')}"


@event("case_files_ordered", "Case files ordered", tone="info")
class CaseFilesOrdered(_CaseFiles):
    """`sha256` is that of the keys of the requests, as canonical JSON."""

    sha256: str
    narrowed: list[str] = fact(personal=True)

    @property
    def rest(self) -> str:
        return f"{super().rest}, {'; '.join(self.narrowed) or 'all of them'}"


@event("case_files_canceled", "Case files canceled", tone="info")
class CaseFilesCanceled(_CaseFiles):
    pass


@event("case_files_made", "Case files ready", tone="info")
class CaseFilesMade(_CaseFiles):
    """`sha256` is that of the ZIP file."""

    faults: int
    sha256: str

    @property
    def rest(self) -> str:
        faults = f", {self.faults:,} missing or damaged" if self.faults else ""
        return f"{super().rest}{faults}"


@event("case_files_taken", "Case files downloaded", tone="info")
class CaseFilesTaken(_CaseFiles):
    sha256: str


@event("certificate_key", "Certificate key recorded", tone="info")
class CertificateKey(Event):
    """From here on certificates are signed with this key (public, hex), and with no earlier one."""

    key: str
    key_id: str

    @property
    def rest(self) -> str:
        return f": {self.key_id}"


# What is done to batches. Such an event is about an act, which the entry names by its act id.

NUMBERS_LISTED = 50


def verdicts(of_acts: Collection[_OfAct], *, refused: bool = False) -> QuerySet[Verdict]:
    """Return what acts made of the batches of unlock requests, given by their keys in pairs.

    It is also returned of an act and a request that stand in two of the pairs.
    """
    acts, requests = {act for act, _ in of_acts}, {request for _, request in of_acts}
    of_requests = Verdict.objects.filter(act__in=acts, line__unlock_request__in=requests)
    return of_requests.exclude(refusal="") if refused else of_requests.filter(refusal="")


def sum_up(verdicts: Iterable[tuple[int, str, Decimal, str]]) -> dict[str, Any]:
    """Return the facts that sum up verdicts, each given as its batch's key, number and total and its fingerprint."""
    digest, numbers, count, amount = hashlib.sha256(b"unlock-desk batches/1\n"), [], 0, Decimal(0)
    for batch, number, total, fingerprint in verdicts:
        digest.update(f"{batch}\t{number}\t{fingerprint}\n".encode())
        count, amount = count + 1, amount + total
        if count <= NUMBERS_LISTED:
            numbers.append(number)
    return {"batches": count, "amount": amount, "numbers": numbers, "sha256": digest.hexdigest()}


_OF_AN_ACT = {"at": "at", "actor": "actor", "by_id": "user_id"}


@facts_of
class Done(Event):
    """What was done to the batches of one request in one act; `on_receipt` says so to the customer."""

    on_receipt: ClassVar[str] = ""

    batches: int
    amount: Decimal
    numbers: list[str]
    sha256: str
    why: str = fact("why", personal=True, quoted=True)

    @classmethod
    def recomputed(cls, entries: Sequence[LedgerEntry]) -> dict[int, dict[str, Any]]:
        of_acts = _of_acts(entries)
        columns = ("act_id", "line__unlock_request_id", "batch_id", "batch__number", "batch__total", "fingerprint")
        rows = verdicts(of_acts.values()).order_by(*columns[:3]).values_list(*columns).iterator(chunk_size=2000)
        sums = {key: sum_up(row[2:] for row in of_one) for key, of_one in groupby(rows, key=lambda row: row[:2])}
        none = sum_up([])
        again = {sequence: sums.get(of_act, none) for sequence, of_act in of_acts.items()}
        return {
            sequence: {name: facts[name] for name in ("batches", "numbers", "sha256")}
            for sequence, facts in again.items()
        }

    @property
    def rest(self) -> str:
        return _of_batches(self.batches, self.numbers)


@event("unlock_instructed", "Unlock instructed", about=Act, columns=_OF_AN_ACT, holds={"kind": Act.Kind.UNLOCK})
class UnlockInstructed(Done):
    """The product is asked to unlock them. What it answers is told by entries of their own."""

    on_receipt = "Support asked for the unlock of {batches}"

    hours: int = fact("hours", default=24)

    @property
    def rest(self) -> str:
        return f"{super().rest}, for {span(self.hours)}"


@event(
    "unlock_canceled", "Unlock canceled", tone="wait", about=Act, columns=_OF_AN_ACT, holds={"kind": Act.Kind.CANCEL}
)
class UnlockCanceled(Done):
    """Before the product was asked."""

    on_receipt = "The unlock of {batches} was canceled"


@event("unlocked", "Unlocked", tone="good", about=Act, columns=_OF_AN_ACT, holds={"kind": Act.Kind.UNLOCKED})
class Unlocked(Done):
    on_receipt = "Unlocked: {batches}"


@event(
    "product_refused",
    "Refused by the product",
    tone="bad",
    about=Act,
    columns=_OF_AN_ACT,
    holds={"kind": Act.Kind.REFUSED},
)
class ProductRefused(Done):
    on_receipt = "Could not be unlocked: {batches}"


@event(
    "window_extended", "Window extended", tone="wait", about=Act, columns=_OF_AN_ACT, holds={"kind": Act.Kind.EXTEND}
)
class WindowExtended(Done):
    """They stay unlocked for so many hours, from the product's answer on."""

    on_receipt = "Unlocked for longer: {batches}"

    hours: int = fact("hours")

    @property
    def rest(self) -> str:
        return f"{super().rest}, to {span(self.hours)} from the unlock"


@event("relock_instructed", "Relock instructed", about=Act, columns=_OF_AN_ACT, holds={"kind": Act.Kind.RELOCK})
class RelockInstructed(Done):
    on_receipt = "Relock asked for: {batches}"


@event("relocked", "Relocked", about=Act, columns=_OF_AN_ACT, holds={"kind": Act.Kind.RELOCKED})
class Relocked(Done):
    on_receipt = "Relocked: {batches}"


@event(
    "re_exported",
    "Marked as re-exported",
    tone="good",
    about=Act,
    columns=_OF_AN_ACT,
    holds={"kind": Act.Kind.RE_EXPORT},
)
class ReExported(Done):
    on_receipt = "Exported: {batches}"


@event("refused", "Unlock refused", tone="wait", about=Act, columns=_OF_AN_ACT, holds={"kind": Act.Kind.UNLOCK})
class UnlockRefused(Event):
    refusals: dict[str, int]

    @classmethod
    def recomputed(cls, entries: Sequence[LedgerEntry]) -> dict[int, dict[str, Any]]:
        of_acts = _of_acts(entries)
        rows = verdicts(of_acts.values(), refused=True).order_by()
        found: dict[_OfAct, dict[str, int]] = defaultdict(dict)
        columns = ("act_id", "line__unlock_request_id", "refusal")
        for act, request, refusal, n in rows.values_list(*columns).annotate(n=Count("pk")):
            found[act, request][refusal] = n
        return {sequence: {"refusals": found[of_act]} for sequence, of_act in of_acts.items()}

    @property
    def rest(self) -> str:
        reasons = ", ".join(f"{n:,} {short_name(code).lower()}" for code, n in sorted(self.refusals.items()))
        return f" for {_batches(sum(self.refusals.values()))}: {reasons}"


@facts_of
class _Said(Event):
    """What the product answered, and nothing followed from."""

    batches: int
    numbers: list[str]
    why: str = fact(personal=True, quoted=True)

    @property
    def rest(self) -> str:
        return _of_batches(self.batches, self.numbers)


@event("unlocked_late", "Unlocked in the product after all", tone="bad")
class UnlockedLate(_Said):
    """When something else had become of them already: they are to be relocked, or were exported."""


@event("relock_refused", "Relock refused by the product", tone="bad")
class RelockRefused(_Said):
    """They stay unlocked there until it is asked again, or they are exported."""


# Accounts, contacts and staff

STAFF_FIELDS = {
    "username": "username",
    "first_name": "first name",
    "last_name": "last name",
    "is_active": "can sign in",
    "is_staff": "staff",
    "is_superuser": "superuser",
    "factors": "second factors",
}


@facts_of
class _Changed(Event):
    """`changed` holds [old, new] of each of `fields`; all old values are null where the record is new."""

    fields: list[str]
    name: str = fact(personal=True)
    changed: dict[str, Any] = fact(personal=True)

    @property
    def rest(self) -> str:
        changes = "; ".join(_change(*change) for change in self.changed.items())
        return f": {self.name} ({changes})"

    @property
    def changes(self) -> list[tuple[str, str, str]]:
        """The label of each field that was changed, what it was and what it became."""
        both = {name: change if isinstance(change, list) else (None, change) for name, change in self.changed.items()}
        return [(field_label(name), _value(old), _value(new)) for name, (old, new) in both.items()]


@event("account_changed", "Account changed", tone="wait", about=Account)
class AccountChanged(_Changed):
    pass


@event("contact_changed", "Contact changed", tone="wait", about=Contact)
class ContactChanged(_Changed):
    """By the product, the system of record, the address counts at once. `imported` is the key of a file's import."""

    by_product: bool = fact(default=False)
    imported: str = fact(default="")


@event(
    "contact_confirmed",
    "Admin address confirmed",
    tone="good",
    about=Contact,
    required=Q(confirmed_by__isnull=False),
)
class ContactConfirmed(Event):
    to: str = fact(personal=True)
    name: str = fact(personal=True)
    how: str = fact(personal=True, quoted=True)

    @property
    def rest(self) -> str:
        return f": {self.name} <{self.to}>"


@event("staff_changed", "Staff account changed", tone="wait", about=User)
class StaffChanged(_Changed):
    """`password_mac` is the HMAC of the password's hash where one was set, so that no other passes for it.

    `factors_mac` is that of all second factors where one of them changed.
    """

    password_mac: str = fact(default="")
    factors_mac: str = fact(default="")

    @property
    def rest(self) -> str:
        if self.changed.get("username", [""])[0] is not None:
            return super().rest
        groups = self.changed.get("groups", [None, []])[1]
        may = ["may do everything"] * self.changed.get("is_superuser", [None, False])[1]
        return f": {self.name} was added ({', '.join([*groups, *may]) or 'no group yet'})"


@event(
    "api_token_made",
    "API token made",
    tone="wait",
    about=ApiToken,
    columns={"made_by_id": "user_id", "made_at": "at"},
    required=Q(),
)
class ApiTokenMade(Event):
    """`token_mac` is the HMAC of the token, which is all that is kept of it."""

    system: int = fact("system_id")
    system_name: str = fact("system__username")
    name: str = fact("name")
    scopes: str = fact("scopes")
    expires: datetime = fact("expires_at")
    token_mac: str = fact("token_hash")

    @property
    def rest(self) -> str:
        scopes = self.scopes.replace(" ", ", ")
        return f": {self.name}, of {self.system_name}, for {scopes}, until {moment(self.expires)}"


@event("api_token_revoked", "API token revoked", tone="bad", about=ApiToken)
class ApiTokenRevoked(Event):
    name: str = fact("name")
    system_name: str = fact("system__username")

    @property
    def rest(self) -> str:
        return f": {self.name}, of {self.system_name}"


# Signing in


@event("signed_in", "Signed in", about=User)
class SignedIn(Event):
    """`how` is what they showed for it, in its order, such as password and code."""

    how: list[str]
    browser: str = fact(personal=True)

    @property
    def rest(self) -> str:
        return f" by {' and '.join(self.how)}"


@event("first_step", "Second step asked for", about=User)
class FirstStep(Event):
    name: str = fact(personal=True)
    browser: str = fact(personal=True)

    @property
    def rest(self) -> str:
        return f" of {self.name}, after the first one of signing in"


@event("sign_in_failed", "Sign-in failed", tone="wait", about=User)
class SignInFailed(Event):
    """Without a user where none has the name that was typed, which is not kept: passwords are typed there, too."""

    WHY: ClassVar[dict[str, str]] = {
        "password": "wrong password",
        "code": "wrong code",
        "passkey": "a passkey that is nobody’s or did not fit",
        "changed": "the account was changed between the two steps",
        "factors": "their second factors are not those that the record tells of",
        "unknown": "no such username",
        "not_allowed": "this account may not sign in",
        "stranger": "the company’s provider named someone who is not on the desk",
        "no_role": "the company’s provider named no role",
        "not_again": "the company’s provider did not say that it had just asked who it is",
        "too_many": "too many tries",
        "not_recorded": "the password is not the one that the record tells of",
    }

    why: str
    name: str = fact(personal=True, default="")
    browser: str = fact(personal=True)

    @property
    def rest(self) -> str:
        return f"{f' as {self.name}' if self.name else ''}: {self.WHY.get(self.why, self.why)}"


@event("session_ended", "Session ended", about=User)
class SessionEnded(Event):
    HOW: ClassVar[dict[str, str]] = {
        "signed_out": "signed out",
        "time": "it had lasted as long as one may",
        "ended": "ended from another browser",
        "idle": "nobody had used it for as long as one may wait",
    }

    how: str
    name: str = fact(personal=True)

    @property
    def rest(self) -> str:
        return f" of {self.name}: {self.HOW.get(self.how, self.how)}"


@event("break_glass", "Emergency account used", tone="bad", about=User)
class BreakGlassUsed(Event):
    """The account that BREAK_GLASS_USERNAME names signed in."""

    name: str = fact(personal=True)

    @property
    def rest(self) -> str:
        return f": {self.name} signed in"


@event(
    "staff_link_sent",
    "Link to set a password sent",
    tone="wait",
    about=StaffLink,
    columns={"sent_by_id": "user_id", "sent_at": "at"},
    required=Q(),
)
class StaffLinkSent(Event):
    colleague: int = fact("user_id")
    name: str = fact("user__username", personal=True)
    to: str = fact(personal=True)
    expires: datetime = fact("expires_at")
    token_sha256: str = fact("token_hash")

    @property
    def rest(self) -> str:
        return f" to {self.name} <{self.to}>"


@event("staff_link_used", "Link to set a password used", about=StaffLink, required=Q(used_at__isnull=False))
class StaffLinkUsed(Event):
    name: str = fact("user__username", personal=True)

    @property
    def rest(self) -> str:
        return f" by {self.name}"


@event("factor_reset_asked", "Reset of second factors asked for", tone="wait", about=User)
class FactorResetAsked(Event):
    name: str = fact(personal=True)

    @property
    def rest(self) -> str:
        return f" of {self.name}"


# Consent terms, and the ledger itself


@facts_of
class _Terms(Event):
    version: int = fact("version")
    title: str
    sha256: str

    @property
    def rest(self) -> str:
        return f": version {self.version}"


@event("terms_drafted", "Consent terms drafted", about=ConsentTerms)
class TermsDrafted(_Terms):
    pass


@event(
    "terms_published",
    "Consent terms published",
    tone="info",
    about=ConsentTerms,
    columns={"published_by_id": "user_id", "published_at": "at"},
    required=Q(published_at__isnull=False, version__gt=1),
)
class TermsPublished(_Terms):
    title: str = fact("title")
    sha256: str = fact(digests="text")
    drafted_by: int | None = fact("drafted_by_id")
    drafted_at: datetime | None = fact("drafted_at")


@event("imported", "Records imported", tone="info")
class Imported(Event):
    """Records that came in from outside; the entry says how many history rows of each kind were written.

    A large import is written in `parts`, each with its entry. `files` are the kind and the SHA-256 (hex) of each, and
    `counts` what was made of this part's records: {kind: {judgment: number}}.
    """

    source: str
    number: int | None = fact(default=None)
    part: int = fact(default=1)
    parts: int = fact(default=1)
    files: list[str] = fact(default_factory=list)
    counts: dict[str, Any] = fact(default_factory=dict)
    names: list[str] = fact(personal=True, default_factory=list)

    @property
    def rest(self) -> str:
        if self.number is None:
            return f" from {self.source}"
        named = f" ({', '.join(self.names)})" if self.names else ""
        part = f", part {self.part:,} of {self.parts:,}" if self.parts > 1 else ""
        return f": import {self.number:,} by {self.source}{named}{part}"


@event("exported", "List exported", tone="info")
class Exported(Event):
    """Someone began to download a list, as it was narrowed; `form` is csv or xlsx."""

    what: str
    form: str
    narrowed: list[str] = fact(personal=True)

    @property
    def rest(self) -> str:
        return f": {self.what}, as {self.form.upper()}, {'; '.join(self.narrowed) or 'all of it'}"


@event("restored", "Backup restored", tone="bad")
class Restored(Event):
    """An older backup was put back: the entries after `after` up to `upto` are lost, as far as `anchors` tell.

    These are anchors that no longer fit, each as the line of a file.
    """

    after: int
    upto: int
    anchors: list[str]
    why: str = fact(personal=True, quoted=True)

    @property
    def rest(self) -> str:
        return f": ledger entries {self.after + 1:,} to {self.upto:,} were lost"


@event("anchored", "Anchor exported", tone="info")
class Anchored(Event):
    """The ledger's head was written down elsewhere: in `file`, emailed to `to`, or both."""

    head: int
    file: str
    to: str = fact(personal=True)

    @property
    def rest(self) -> str:
        return f": entry {self.head:,}, to {' and '.join(filter(None, [self.file, self.to]))}"


@event("verify_ordered", "Verification ordered")
class VerificationOrdered(Event):
    """The worker is to verify the whole record."""


@facts_of
class _Verification(Event):
    """The whole record was recomputed, up to the ledger's entry `entries`."""

    entries: int
    seconds: int


@event("verified", "Record verified", tone="good")
class Verified(_Verification):
    """Nothing was found."""

    @property
    def rest(self) -> str:
        return f" up to entry {self.entries:,}: all of it holds"


@event("not_verified", "Record does not hold", tone="bad")
class NotVerified(_Verification):
    """`first` are the first sentences of `verify_audit` of all that it found."""

    findings: int
    first: list[str] = fact(personal=True)

    @property
    def rest(self) -> str:
        return f": {counted(self.findings, 'finding', 'findings')}. {' '.join(self.first[:3])}"


@event("sealed", "History sealed")
class Sealed(Event):
    tables: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Altered(Event):
    """An entry that was altered: nothing it says counts."""

    label = "Altered entry"
    tone = "bad"

    @property
    def rest(self) -> str:
        return ": its hash does not fit what it says. Run verify_audit"


def _batches(count: int) -> str:
    return counted(count, "batch", "batches")


def _of_batches(count: int, numbers: list[str]) -> str:
    more = f" and {count - 5:,} more" if count > 5 else ""
    return f": {_batches(count)} ({', '.join(numbers[:5])}{more})"


def _label(choices: Any, value: str) -> str:
    return str(dict(choices.choices).get(value, value))


def field_label(name: str) -> str:
    """Return what people call a field of an account, a contact or a staff account."""
    return STAFF_FIELDS.get(name, name.replace("_", " "))


def _change(name: str, change: Any) -> str:
    if name == "password":
        return f"{field_label(name)} {change}"
    old, new = (_value(value) for value in change)
    return f"{field_label(name)}: {old} became {new}"


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return (", ".join(value) if isinstance(value, list) else value) or "none"


def _column(row: Any, path: str) -> Any:
    for name in path.split("__"):
        row = None if row is None else getattr(row, name)
    return row


def _as_json(value: Any) -> Any:
    match value:
        case datetime():
            return value.isoformat()
        case Decimal():
            return f"{value:.2f}"
        case str():
            return str(value)  # a choice's value
    return value


def _from_json(declared: Any, value: Any) -> Any:
    if value is None:
        return None
    if declared in (datetime, datetime | None):
        return datetime.fromisoformat(value)
    return Decimal(value) if declared is Decimal else value


def _parsed(text: str) -> dict[str, Any]:
    found = parsed(text)
    if not isinstance(found, dict):
        raise TypeError("The text of an entry is an object.")
    return found
