"""What the API takes and gives. Money is text with two digits behind the point; times are ISO 8601, in UTC."""

from datetime import date, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from ninja import Schema
from pydantic import BeforeValidator, ConfigDict, Field

from ..models import (
    BYPASS_OTHER,
    LONGEST_WINDOW,
    TICKET,
    Act,
    Batch,
    BatchItem,
    Consent,
    Import,
    Instruction,
    Judgment,
    RequestedBatch,
    UnlockRequest,
)

# It begins with something to be seen, and holds no controls but line breaks and tabs.
_TEXT = r"^[^\u0000-\u0020\u007f-\u00a0][^\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f]*$"
_LINE = r"^[^\u0000-\u001f\u007f]+$"
MOST = 5000  # batches named in a call

Text = Annotated[str, Field(min_length=1, max_length=2000, pattern=_TEXT)]
Number = Annotated[str, Field(min_length=1, max_length=40, pattern=_LINE)]
Line = Annotated[str, Field(pattern=r"^([^\u0000-\u0020\u007f-\u00a0][^\u0000-\u001f\u007f]*)?$")]
Email = Annotated[str, Field(min_length=3, max_length=254, pattern=r"^[!-~]+@[!-~]+$")]
Key = Annotated[str, Field(pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$")]


def _one_of(choices):
    return Literal[tuple(choices.values)]


Channel, BypassReason = _one_of(UnlockRequest.Channel), _one_of(UnlockRequest.BypassReason)
Advice, Outcome = _one_of(UnlockRequest.Advice), _one_of(RequestedBatch.Outcome)
RequestStatus, BatchStatus = _one_of(UnlockRequest.Status), _one_of(Batch.Status)


def _whole(value):
    """Return a number without its decimals where they say nothing: 5.0 is a whole number in JSON."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class In(Schema):
    """A body: what it does not know is refused, for a typing error would be passed over otherwise."""

    model_config = ConfigDict(extra="forbid", strict=True)


class OpenIn(In):
    account: Number = Field(description="The account’s number.")
    requester: Email = Field(description="The address of the Admin who asks.")
    channel: Channel
    bypass_reason: BypassReason
    bypass_other: Line = Field("", max_length=BYPASS_OTHER, description="Which other reason, when it is other.")
    reason: Text = Field(description="What the customer wants to do with the batches, in their words.")
    ticket_system: Line = Field("", max_length=TICKET, description="The help desk, as TICKET_SYSTEMS names it.")
    ticket_number: Line = Field("", max_length=TICKET, description="The ticket there.")
    batches: list[Number] = Field(min_length=1, max_length=MOST, description="Numbers of the account’s batches.")


class AdviceIn(In):
    advice: Advice = Field(description="What the customer chose. Entering the items by hand closes the request.")


class LinkIn(In):
    contact: Email = Field(description="The address of the Admin who gets the link.")


class NoteIn(In):
    text: Text


class CloseIn(In):
    resolution: Literal["re_exported", "entered_manually", "relocked_unused", "canceled", "expired", "not_eligible"]
    why: Text


class BatchesIn(In):
    batches: list[Number] | None = Field(
        None, min_length=1, max_length=MOST, description="Numbers of its batches; null: all that it fits."
    )


class UnlockIn(BatchesIn):
    hours: int | None = Field(
        None,
        ge=1,
        le=LONGEST_WINDOW,
        description="How long they stay unlocked, from the product's answer on; null: as the desk presets it.",
    )


class ReasonIn(BatchesIn):
    why: Text


class NumbersIn(In):
    batches: list[Number] = Field(min_length=1, max_length=MOST, description="Numbers of the account’s batches.")


class ExtendIn(ReasonIn):
    hours: Annotated[int, BeforeValidator(_whole)] = Field(
        ge=1,
        le=LONGEST_WINDOW,
        description="How long they stay unlocked in all, from the product's answer on.",
    )


class AnswerIn(In):
    key: Key
    state: Literal["done", "accepted", "refused", "not_known"]
    reference: str | None = Field(None, max_length=500, description="Of what you did, when it is done.")
    reason: str | None = Field(None, max_length=500, description="Why you did not do it, when it is refused.")


class AnswersIn(In):
    answers: list[AnswerIn] = Field(min_length=1, max_length=500)


class PullIn(In):
    most: Annotated[int, BeforeValidator(_whole)] = Field(100, ge=1, le=500)


# What is put: the values are read as those of a file are, each record by itself. Null says nothing.
Said = str | None
Flag = bool | str | None
Amount = str | int | float | None


class AccountIn(In):
    number: Said
    name: Said
    accounting_software: Said = None
    active: Flag = None
    time_zone: Said = None
    external_id: Said = None


class ContactIn(In):
    account: Said = Field(description="The account’s number.")
    name: Said
    email: Said
    phone: Said = None
    is_admin: Flag = None
    external_id: Said = None


class LineIn(In):
    sku: Said = None
    description: Said = None
    quantity: Amount = None
    price: Amount = None
    total: Amount = None
    gl_account: Said = None


class ItemIn(In):
    kind: Said
    number: Said
    date: Said
    customer: Said = None
    amount: Amount
    memo: Said = None
    export_id: Said = None
    external_id: Said = None
    job_number: Said = None
    business_unit: Said = None
    lines: list[LineIn] | None = Field(None, description="In their order; null or none: they stay as they are.")


class BatchIn(In):
    account: Said = Field(description="The account’s number.")
    number: Said
    name: Said = None
    status: Said
    reached_by: Said = None
    posted_on: Said = None
    bypassed_on: Said = None
    exported_on: Said = None
    period_closed: Flag = None
    item_count: Amount = None
    total: Amount = None
    as_of: Said = None
    external_id: Said = None
    items: list[ItemIn] | None = Field(None, description="All of them; null: they stay as they are.")


class PutAccountsIn(In):
    accounts: list[AccountIn] = Field(min_length=1, max_length=MOST)


class PutContactsIn(In):
    contacts: list[ContactIn] = Field(min_length=1, max_length=MOST)


class PutBatchesIn(In):
    batches: list[BatchIn] = Field(min_length=1, max_length=MOST)


class PinIn(In):
    pin: str = Field(pattern=r"^[0-9]{4,12}$")


class VerdictOut(Schema):
    possible: bool
    code: str = Field(description="The refusal’s code; empty when it is possible.")
    sentence: str = Field(description="Why not, as staff read it; empty when it is possible.")


class MeOut(Schema):
    system: str
    token: str
    scopes: list[str]
    expires_at: datetime


class ContactOut(Schema):
    id: int
    is_admin: bool
    external_id: str
    counts: bool = Field(description="An Admin whose address is from the product, or was confirmed.")
    name: str | None = Field(None, description="Only with the scope personal, as the next two.")
    email: str | None = None
    phone: str | None = None


class AccountOut(Schema):
    id: int
    number: str
    name: str
    external_id: str
    accounting_software: str
    time_zone: str
    active: bool
    pin_counts: bool = Field(description="Whether the customer can agree: a PIN is in force and not locked.")


class AccountDetailOut(AccountOut):
    contacts: list[ContactOut]


class BatchOut(Schema):
    id: int
    account: str
    number: str
    name: str
    external_id: str
    status: BatchStatus
    reached_by: str = Field(description="How it came to its status in the product.")
    differs: str = Field(description="A status that the product says and that nothing on the desk leads to.")
    as_of: datetime | None = Field(description="From when what is on file of it is.")
    total: str
    item_count: int
    posted_on: date | None
    bypassed_on: date | None
    exported_on: date | None
    period_closed: bool
    unlocked_until: datetime | None
    request: str | None = Field(description="The open request that it is in.")
    possible_duplicate: bool = Field(description="An item has an export id: it may be in the books already.")
    can_be_unlocked: VerdictOut = Field(description="By this system, now.")


class LineOut(BatchOut):
    outcome: Outcome = Field(description="What became of it in this request.")


class ItemOut(Schema):
    id: int
    kind: _one_of(BatchItem.Kind)
    number: str
    date: date
    amount: str
    export_id: str
    external_id: str
    job_number: str
    business_unit: str
    left_at: datetime | None = Field(description="Since when the product does not list it in this batch any more.")
    customer: str | None = Field(None, description="Only with the scope personal, as the memo.")
    memo: str | None = None
    lines: list[dict[str, Any]]


class ConsentOut(Schema):
    reference: str
    state: Literal["agreed", "declined", "withdrawn", "expired"]
    how: _one_of(Consent.How)
    given_at: datetime
    valid_until: datetime | None
    batches: int
    text_sha256: str
    signer_name: str | None = Field(None, description="Only with the scope personal, as the role.")
    signer_role: str | None = None


class LinkOut(Schema):
    id: int
    state: Literal["live", "used", "revoked", "expired"]
    sent_at: datetime
    expires_at: datetime
    email: Literal["queued", "sent", "refused", "given_up", "canceled"] | None = Field(
        description="What became of the email."
    )
    opened: int = Field(description="From how many places the form was opened. Scanners open it too.")


class RequestOut(Schema):
    id: int
    reference: str
    account: str
    status: RequestStatus
    requester: int
    channel: Channel
    bypass_reason: BypassReason
    advice: Advice | Literal[""]
    opened_at: datetime
    closed_at: datetime | None
    resolution: str
    ticket_system: str
    ticket_number: str
    bypass_other: str | None = Field(None, description="Only with the scope personal.")
    reason: str | None = Field(None, description="Only with the scope personal.")


class RequestDetailOut(RequestOut):
    batches: dict[str, int] = Field(description="How many of its batches have which outcome.")
    link: LinkOut | None = Field(description="The newest consent link.")
    consents: list[ConsentOut] = Field(description="The newest first.")


class DoneOut(Schema):
    batch: int
    number: str
    done: bool
    code: str
    sentence: str


class ActOut(Schema):
    act: UUID
    kind: _one_of(Act.Kind)
    at: datetime
    done: int
    refused: int
    verdicts: list[DoneOut] = Field(description="What became of each, at most 1,000.")


class InstructionOut(Schema):
    key: UUID
    ask: Literal["carry_out", "state"] = Field(description="Do it, or say what became of it.")
    what: _one_of(Instruction.What)
    account: str
    batch: str
    request: str
    instructed_at: datetime


class PulledOut(Schema):
    instructions: list[InstructionOut]


class StateOut(Schema):
    key: UUID
    state: _one_of(Instruction.State) | Literal["not_known"]


class StatesOut(Schema):
    answers: list[StateOut]


class EventOut(Schema):
    id: int = Field(description="The sequence in the ledger. It only grows; numbers may be left out.")
    kind: str
    label: str
    at: datetime
    act: UUID
    request: str | None
    account: int | None
    user: int | None = Field(description="The member of staff or the system who acted; null: a customer or the desk.")
    facts: dict[str, Any]
    actor: str | None = Field(None, description="Only with the scope personal, as the next two.")
    ip: str | None = None
    personal: dict[str, Any] | None = None


class EventsOut(Schema):
    data: list[EventOut]
    next: int = Field(description="Ask after this number next.")


class Page(Schema):
    next: int | None = Field(description="Ask after this id next; null: this was the last page.")


class AccountsOut(Page):
    data: list[AccountOut]


class BatchesOut(Page):
    data: list[BatchOut]


class LinesOut(Page):
    data: list[LineOut]


class ItemsOut(Page):
    data: list[ItemOut]


class RequestsOut(Page):
    data: list[RequestOut]


class FlawOut(Schema):
    where: str = Field(description="The field, such as body.batches.0.items.2.amount, or the record.")
    code: Literal["unreadable", "came_before", "refused", "left_alone", "does_not_add_up"]
    sentence: str


class RecordOut(Schema):
    record: int = Field(description="Its place in what was sent, from 0.")
    result: _one_of(Judgment)
    problems: list[FlawOut]


class PutOut(Schema):
    id: UUID = Field(description="Of the import that it was.")
    counts: dict[str, dict[str, int]] = Field(description="How many records of each kind came to what.")
    records: list[RecordOut] = Field(description="What became of each, in the order in which they were sent.")


class ImportOut(Schema):
    id: UUID
    state: _one_of(Import.State)
    at: datetime
    done_at: datetime | None
    parts: int = Field(description="Parts that it is written in.")
    done: int = Field(description="How many of them are written.")
    counts: dict[str, dict[str, int]] = Field(description="How many records of each kind came to what, so far.")
    why_failed: str
    problems: list[FlawOut] = Field(description="What was refused, left alone or does not add up, page by page.")
    next: int | None = Field(description="Ask after this number next; null: there is no more.")


class PinSetOut(Schema):
    account: str
    changed: bool = Field(description="Whether it was another one until now.")
