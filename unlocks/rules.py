"""The one rule: may this batch be unlocked, and if not, why? One query, for one batch or a hundred thousand."""

from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.db.models import (
    BigIntegerField,
    BooleanField,
    Case,
    CharField,
    Count,
    DateTimeField,
    DecimalField,
    DurationField,
    Exists,
    ExpressionWrapper,
    F,
    FilteredRelation,
    OuterRef,
    Q,
    QuerySet,
    Subquery,
    Sum,
    TextChoices,
    Value,
    When,
)
from django.db.models.expressions import RawSQL
from django.db.models.functions import Cast, Coalesce, Round
from django.db.models.lookups import Exact
from django.utils import timezone

from .models import (
    Account,
    ApiToken,
    Batch,
    BatchItem,
    Consent,
    ConsentLink,
    ConsentWithdrawal,
    Contact,
    Instruction,
    LedgerEntry,
    RequestedBatch,
    UnlockRequest,
)
from .texts import formats


class Refusal(TextChoices):
    """Why something may not be done. The label is the sentence that staff read; `sentence` fills it in."""

    EXPORTED = (
        "exported",
        "Exported on {exported_on}. Support can't unlock exported batches. "
        "The customer can enter an adjustment invoice.",
    )
    PENDING = "pending", "Still pending. The customer can edit it without an unlock."
    POSTED = "posted", "Posted, not bypassed. The customer can unpost it without Support."
    ALREADY_UNLOCKED = "already_unlocked", "Already unlocked{until}."
    UNLOCKING = "unlocking", "Being unlocked. The product has not answered yet."
    RELOCKING = "relocking", "Being relocked. The product has not answered yet."
    STATUS_DIFFERS = (
        "status_differs",
        "Bypassed here, but {differs} in the product, without an unlock. Find out there what happened; "
        "once the product says bypassed again, it can be unlocked.",
    )
    PERIOD_CLOSED = "period_closed", "Its accounting period is closed. The customer has to open the period first."
    WHICH_OTHER_REASON = "which_other_reason", "Say which other reason it was, and only where the reason is Other."
    ACCOUNT_INACTIVE = "account_inactive", "The account is not active."
    IN_ANOTHER_REQUEST = "in_another_request", "Already in {unlock_request}, which is still open."
    NOT_REQUESTED = "not_requested", "Not in an open request. Open a request first."
    NOT_ASKED = "not_asked", "The customer has not been asked for consent yet ({unlock_request})."
    AWAITING_CUSTOMER = "awaiting_customer", "Waiting for the customer's consent ({unlock_request})."
    NOT_COVERED = "not_covered", "The customer's consent does not cover this batch ({unlock_request})."
    WITHDRAWN = "withdrawn", "The customer has withdrawn the consent ({unlock_request})."
    CONSENT_EXPIRED = (
        "consent_expired",
        "The customer's consent has expired. Send a new consent link ({unlock_request}).",
    )
    CHANGED = "changed", "Changed since the customer consented. Send a new consent link ({unlock_request})."
    OWN_RECORDING = (
        "own_recording",
        "You recorded this consent yourself, so another person has to unlock ({unlock_request}).",
    )
    OWN_CUSTOMER = (
        "own_customer",
        "You were shown a consent link of this request or typed a PIN for it, so another person has to unlock "
        "({unlock_request}).",
    )
    OWN_CUSTOMERS_ADDRESS = (
        "own_customers_address",
        "You entered or imported the address of the contact who consented, made them an Admin, or made the API token "
        "that they came by, so another person has to unlock ({unlock_request}).",
    )
    TOKENS_MAKER = (
        "tokens_maker",
        "A person who made an API token of this system obtained the consent, or entered the address of an Admin of the "
        "account, so someone else has to do this. That way, no one on staff can make up a customer.",
    )
    NOT_UNLOCKED = "not_unlocked", "Not unlocked."
    WINDOW_OVER = "window_over", "Its window has ended{until}, and it is being relocked. Open a new request for it."
    EXTENDED = "extended", "Its window was extended once already{until}. Open a new request for it once it is relocked."
    NOT_LATER = "not_later", "Its window ends no earlier as it is{until}. Choose a longer one."
    CONSENT_RAN_OUT = (
        "consent_ran_out",
        "The customer's consent has expired, so the window stays as it is{until}. Open a new request for it.",
    )
    HANDED_OVER = (
        "handed_over",
        "The product may have got this already, so it can't be canceled. Relock it once it is unlocked or given up.",
    )
    NOT_UNLOCKING = "not_unlocking", "Not being unlocked, so there is nothing to cancel."

    OWN_CASE = (
        "own_case",
        "You opened this case, recorded its consent, unlocked batches of it or carried that out, or made an API token "
        "of a system that did, so another person has to review it.",
    )
    NOT_TO_REVIEW = "not_to_review", "This case is not to be reviewed."
    NOT_FLAGGED = "not_flagged", "The case is not flagged, so there is nothing to resolve."
    FLAGGED = "flagged", "The case is flagged. Resolve that first."

    # About a window, a request, a PIN, a link or terms, not about one batch.
    WINDOW_UNFIT = (
        "window_unfit",
        "Nothing was done: batches can be unlocked for 1 hour at least, and {longest} at most.",
    )
    NO_BATCHES = "no_batches", "Choose at least one batch to unlock."
    OTHER_ACCOUNT = "other_account", "Not in this account: {names}."
    NOT_AN_ADMIN = "not_an_admin", "{name} is not an Admin of the account. {admins}"
    OWN_CONTACT = (
        "own_contact",
        "You entered or imported the address of {name}, made them an Admin, or made the API token that they came by, "
        "so another person has to do this. That way, no one on staff can make up a customer.",
    )
    NOT_CONFIRMED = (
        "not_confirmed",
        "The address of {name} has not been confirmed by a second person yet, so it does not count. Anyone may confirm "
        "it on the page of the contact, except whoever entered it.",
    )
    NO_HOW = "no_how", "Say how you know that the address is right. It stays with the record."
    ADDRESS_CHANGED = (
        "address_changed",
        "{actor} changed the address of {name} meanwhile: it is {email} now. Nothing was confirmed. Check the new one.",
    )
    NOT_AN_AGENT = "not_an_agent", "{name} can't work on unlock requests. Choose an agent or a manager."
    CLOSED = "closed", "{unlock_request} is closed and can no longer be changed. Open a new request instead."
    ADVICE_FIRST = "advice_first", "First offer the safer route, and record what the customer chose."
    NO_PIN = (
        "no_pin",
        "No PIN of the account counts yet, so the customer can't agree. A manager issues one; it counts once emailed.",
    )
    NO_ADMIN = "no_admin", "The account has no Admin contact on file to email the PIN to. Add one first."
    PIN_WRONG = "pin_wrong", "That PIN is not correct. {left}"
    PIN_LOCKED = "pin_locked", "{state}"
    PIN_UNFIT = "pin_unfit", "A PIN has four to twelve digits."
    LINK_SEEN = (
        "link_seen",
        "You were shown the consent link, so you may not also know the PIN. The customer enters it on the "
        "consent page, or another agent verifies it.",
    )
    PIN_STALE = "pin_stale", "The PIN has to be entered again. It is valid for 30 minutes."
    LINK_DEAD = "link_dead", "This consent link can no longer be used. Ask Support to send a new one."
    NOT_OPENED = "not_opened", "The consent form has not been opened yet, so nothing can be decided on it."
    NO_LINK = "no_link", "There is no active consent link to revoke."
    CHANGED_WHILE_READING = (
        "changed_while_reading",
        "What you were shown has changed. Please read it again before you decide.",
    )
    ALL_LEFT_OUT = (
        "all_left_out",
        "You left out every batch, so there is nothing to agree to. Decline instead, or agree to at least one.",
    )
    ANSWERED = (
        "answered",
        "The customer has agreed already, so the batches of {unlock_request} can't change anymore. "
        "Open a new request for others.",
    )
    NOT_WAITING = "not_waiting", "Not among the batches that {unlock_request} asks for: {names}."
    LAST_BATCHES = (
        "last_batches",
        "No batch would be left in {unlock_request}. If none is to be unlocked, cancel the request instead.",
    )
    STILL_UNLOCKED = "still_unlocked", "Before closing, relock its batches or mark them as re-exported: {names}."
    WRONG_RESOLUTION = "wrong_resolution", "None of its batches was {names}, so it can't be closed that way."
    CONSENT_OVER = "consent_over", "There is no consent to withdraw: {names}."
    ALREADY_RECORDED = "already_recorded", "Already recorded as {names}."
    BEGUN = "begun", "The worker has begun with it, so it can't be canceled anymore. Its page says what comes of it."
    NO_REASON = "no_reason", "Give a reason. It stays with the record."
    NO_REFERENCE = "no_reference", "Give the reference of what you did in the product. It stays with the record."
    PHONE_CONSENT_OFF = (
        "phone_consent_off",
        "The vendor's policy does not let staff record a consent by phone. Send the customer a consent link.",
    )
    PIN_NOT_BY_YOU = (
        "pin_not_by_you",
        "First verify the account PIN for this request. The person who records the consent has to do it, "
        "within the last 30 minutes.",
    )
    NOT_BY_PHONE = (
        "not_by_phone",
        "{name} was given by the customer through the link, so no evidence is needed or accepted.",
    )
    MAKES_UP_CUSTOMERS = (
        "makes_up_customers",
        "A system that puts contacts or sets PINs can't open requests or unlock: it could make up a customer alone. "
        "{name} has, or had, a token for the one. Make a token for the other under another system.",
    )
    NOT_A_SYSTEM = "not_a_system", "{name} is not a system but a member of staff. Name the system otherwise."
    NAME_TAKEN = "name_taken", "This username is taken, or reads like {name}, which is."
    LAST_SUPERUSER = (
        "last_superuser",
        "{name} is the last superuser who can sign in. Make another colleague a superuser first.",
    )
    NOT_A_COLLEAGUE = "not_a_colleague", "{name} may not sign in, so no link is sent."
    NO_ADDRESS = "no_address", "{name} has no email address here. Save one first."
    ADDRESS_TYPED = (
        "address_typed",
        "You typed the address of {name}, who has signed in before, so another superuser has to send the link.",
    )
    STAFF_LINK_DEAD = "staff_link_dead", "This link no longer works. Ask a superuser for a new one."
    FACTORS_NOT_RECORDED = (
        "factors_not_recorded",
        "Your second factors are not those that the record tells of, so they are not accepted. Ask two superusers to "
        "reset them, and to run the audit.",
    )
    COMPANY_CONNECTED = "company_connected", "A company account is connected already. Two superusers take it away."
    OWN_FACTORS = "own_factors", "You can't do this for your own account. “Your sign-in” is where you change it."
    NO_FACTORS = "no_factors", "{name} has no second factor and no company account that could be taken away."
    RESET_NOT_ASKED = "reset_not_asked", "Nobody has asked for this in the last 24 hours."
    ASKED_YOURSELF = "asked_yourself", "You asked for this, so another superuser has to do it."
    SYSTEM_SIGNS_IN = (
        "system_signs_in",
        "{name} is a system, which acts by its API tokens. It has no password and no rights on these pages.",
    )
    DRAFT_THERE = (
        "draft_there",
        "{name} is already drafting version {version}. Change that draft, or have it published first.",
    )
    TERMS_FROZEN = (
        "terms_frozen",
        "Version {version} is published, and published terms never change. Start a new version instead.",
    )
    TERMS_CHANGED = (
        "terms_changed",
        "{name} has changed this draft ({at}). Read the new draft first.",
    )
    TERMS_SAME = "terms_same", "It says the same as version {version}, which is in force. Change it first."
    TERMS_FLAWED = "terms_flawed", "{problem}"
    OWN_DRAFT = "own_draft", "You worked on this version, so another person has to publish it: {names}."
    SAME_FILE = "same_file", "This file is already attached, as {name}."
    UNFIT_FILE = "unfit_file", "{why}"
    DAMAGED_FILE = (
        "damaged_file",
        "Nothing was attached. A file with the same content was attached before, and the stored copy is damaged. "
        "{why} Tell an administrator, who has to restore the evidence from a backup.",
    )
    NOT_STORED = (
        "not_stored",
        "Nothing was attached: the file could not be stored ({why}). Tell the people who run this desk.",
    )
    GUARDS_MISSING = (
        "guards_missing",
        "Nothing was unlocked: the database's guards are missing or altered ({names}). "
        "An administrator has to run “manage.py migrate” and find out why.",
    )
    NOTHING_LOST = "nothing_lost", "Nothing was recorded: every anchor fits the ledger, so nothing was lost."
    OTHER_LEDGER = (
        "other_ledger",
        "Nothing was recorded: these anchors don't tell of a restore. One from before the backup has to fit the "
        "ledger, and those that don't fit have to be newer, by a million entries at most.",
    )
    NO_CERTIFICATE_KEY = (
        "no_certificate_key",
        "No certificate can be signed: the desk's key for it is not in place. Tell the people who run this desk.",
    )
    NO_REQUESTS = "no_requests", "Nothing was ordered: choose at least one request."
    TOO_MANY_REQUESTS = (
        "too_many_requests",
        "Nothing was ordered: {most} requests are the most for one ZIP, and these are more. Narrow the list, by dates "
        "for example.",
    )
    NO_ZIP = "no_zip", "There is nothing to download: {state}."
    ZIP_DAMAGED = (
        "zip_damaged",
        "The ZIP is missing, or it is not the one that was made, so it is not handed out. Order the case files again, "
        "and tell the people who run this desk.",
    )
    NOT_ORDERED = "not_ordered", "This is not what the desk was told to make. Order the case files again."
    IMPORT_OVER = "import_over", "Nothing was done: {name} is {state} already."
    OTHERS_IMPORT = "others_import", "Nothing was done: {name} read these files, so only {name} can import them."
    NOTHING_TO_IMPORT = "nothing_to_import", "There is nothing to import: no row was found."
    OWN_IMPORT = (
        "own_import",
        "You imported these contacts, entered one of them, or made the API token that one came by, so another person "
        "has to confirm them.",
    )
    IMPORT_GOING_ON = (
        "import_going_on",
        "{name} is still being written. Confirm its contacts once all of them are there.",
    )
    NOTHING_TO_CONFIRM = "nothing_to_confirm", "No Admin's address of {name} waits to be confirmed."
    BUSY = "busy", "Someone else was changing the same batches. Nothing was changed. Try again."


# What a colleague may do all the same, and what the person refused did.
BY_ANOTHER_PERSON = {
    Refusal.OWN_RECORDING: "recorded this consent by phone",
    Refusal.OWN_CUSTOMER: "saw a consent link of this request or typed a PIN for it",
    Refusal.OWN_CUSTOMERS_ADDRESS: "entered or imported the address of the contact who consented, made them an Admin, "
    "or made the API token that they came by",
    Refusal.TOKENS_MAKER: "had an API token made by someone who obtained this consent",
}

# Of the history rows of a contact: whether the address is still kept from who entered it.
_CONFIRMED_SINCE = Contact.history.filter(
    ~Q(confirmed_by=OuterRef("entered_by")),
    id=OuterRef("id"),
    history_id__gte=OuterRef("history_id"),
    confirmed_by__isnull=False,
)
STILL_THEIRS = Q(entered_in=None) | ~Exists(_CONFIRMED_SINCE)

# Subqueries, not joins: PostgreSQL plans at most eight joined tables well, and would otherwise judge every batch.
_INACTIVE = Exists(Account.objects.filter(pk=OuterRef("account"), active=False))
WAITS_TO_BE_HANDED_OVER = Exists(Instruction.objects.not_handed_over().filter(batch=OuterRef("pk")))
_WITHDRAWN = Exists(ConsentWithdrawal.objects.filter(consent=OuterRef("line__consented__consent")))

# The kind of ledger entry that says that someone on staff typed a PIN, right or wrong, written before it is judged.
PIN_TYPED = "pin_typed"


def _could_have_agreed(user: Any, unlock_request: OuterRef) -> Q:
    """Whether `user` held the customer's link, or typed a PIN: alone they could have agreed for the customer."""
    seen = ConsentLink.objects.filter(unlock_request=unlock_request, shown_to=user)
    # In plain SQL: SQLite looks into the index of these entries only for values that stand in the statement.
    typed = RawSQL(f"kind = '{PIN_TYPED}'", [], output_field=BooleanField())
    entries = LedgerEntry.objects.alias(typed=typed)
    tried = entries.filter(unlock_request=unlock_request, user=user, typed=True)
    return Q(Exists(seen)) | Q(Exists(tried))


_STATUS = [
    When(status=Batch.Status.EXPORTED, then=Value(Refusal.EXPORTED)),
    When(status=Batch.Status.PENDING, then=Value(Refusal.PENDING)),
    When(status=Batch.Status.POSTED, then=Value(Refusal.POSTED)),
    When(status=Batch.Status.UNLOCKING, then=Value(Refusal.UNLOCKING)),
    When(status=Batch.Status.UNLOCKED, then=Value(Refusal.ALREADY_UNLOCKED)),
    When(status=Batch.Status.RELOCKING, then=Value(Refusal.RELOCKING)),
]
_CLOSED = [
    # Nothing else can be unlocked: the product should say the same, and it does while an unlock is on its way.
    When(~Q(differs__in=["", Batch.Status.BYPASSED]), then=Value(Refusal.STATUS_DIFFERS)),
    When(_INACTIVE, then=Value(Refusal.ACCOUNT_INACTIVE)),
    When(period_closed=True, then=Value(Refusal.PERIOD_CLOSED)),
]


def with_open_line(batches: QuerySet[Batch]) -> QuerySet[Any]:
    """Join each batch to its line in an open request, as `line` (at most one: a constraint says so)."""
    return batches.annotate(
        line=FilteredRelation("lines", condition=Q(lines__outcome__in=RequestedBatch.OPEN)),
    )


def eligible(batches: QuerySet[Batch]) -> QuerySet[Any]:
    """Annotate a Batch queryset with `obstacle`: why it can't join a new request ('' when it can)."""
    return with_open_line(batches).annotate(
        obstacle=_why(*_STATUS, *_CLOSED, When(line__isnull=False, then=Value(Refusal.IN_ANOTHER_REQUEST))),
        open_request=F("line__unlock_request_id"),
    )


def judged(batches: QuerySet[Batch], *, by: User, at: datetime | None = None) -> QuerySet[Any]:
    """Annotate a Batch queryset with `refusal`: why the user `by` may not unlock it now ('' when they may)."""
    at = at or timezone.now()
    waiting, asked = UnlockRequest.Status.OPEN, UnlockRequest.Status.AWAITING_CONSENT
    return with_open_line(batches).annotate(
        refusal=_why(
            *_STATUS,
            *_CLOSED,
            When(line__isnull=True, then=Value(Refusal.NOT_REQUESTED)),
            When(line__unlock_request__status=waiting, then=Value(Refusal.NOT_ASKED)),
            When(line__unlock_request__status=asked, then=Value(Refusal.AWAITING_CUSTOMER)),
            When(line__consented__isnull=True, then=Value(Refusal.NOT_COVERED)),
            *_consent_is_over(at),
            *_by_another_person(by.pk),
        ),
        open_request=F("line__unlock_request_id"),
    )


def judged_again(batches: QuerySet[Batch], *, by: User | None, at: datetime) -> QuerySet[Any]:
    """Annotate a Batch queryset with `refusal`: why the product may not be handed the instruction to unlock it.

    Whoever instructed it is judged once more, and so is `by`, who carries it out by hand (None: the product does it).
    """
    own = _by_another_person(by.pk) if by else []
    return with_open_line(batches).annotate(
        refusal=_why(
            When(~Q(status=Batch.Status.UNLOCKING), then=Value(Refusal.NOT_UNLOCKING)),
            *_CLOSED,
            *_consent_is_over(at),
            *_by_another_person(),
            *own,
        ),
        open_request=F("line__unlock_request_id"),
    )


def judged_to_cancel(batches: QuerySet[Batch], *, by: User | None, at: datetime | None = None) -> QuerySet[Any]:
    """Annotate a Batch queryset with `refusal`: why its unlock can't be canceled any more."""
    return _judged_in(
        batches,
        When(~Q(status=Batch.Status.UNLOCKING), then=Value(Refusal.NOT_UNLOCKING)),
        When(~Q(WAITS_TO_BE_HANDED_OVER), then=Value(Refusal.HANDED_OVER)),
    )


def judged_to_relock(batches: QuerySet[Batch], *, by: User | None, at: datetime | None = None) -> QuerySet[Any]:
    """Annotate a Batch queryset with `refusal`: why the product can't be asked to lock it.

    Beside the unlocked ones, it can be asked again about those that it refused to lock, and to lock those of which it
    did not say in three days whether it unlocked them.
    """
    asked = Instruction.objects.filter(batch=OuterRef("pk"), state__in=Instruction.PENDING)
    return _judged_in(
        batches,
        When(status=Batch.Status.UNLOCKED, then=Value("")),
        When(status=Batch.Status.UNLOCKING, then=_why(When(Exists(asked), then=Value(Refusal.UNLOCKING)))),
        When(status=Batch.Status.RELOCKING, then=_why(When(Exists(asked), then=Value(Refusal.RELOCKING)))),
        default=Refusal.NOT_UNLOCKED,
    )


def judged_to_mark(batches: QuerySet[Batch], *, by: User | None, at: datetime | None = None) -> QuerySet[Any]:
    """Annotate a Batch queryset with `refusal`: why the customer can't have exported it."""
    return _judged_in(
        batches,
        When(~Q(status__in=Batch.GRANTED), then=Value(Refusal.NOT_UNLOCKED)),
        When(Q(status=Batch.Status.UNLOCKING) & WAITS_TO_BE_HANDED_OVER, then=Value(Refusal.UNLOCKING)),
    )


def judged_granted(batches: QuerySet[Batch], *, by: User | None, at: datetime | None = None) -> QuerySet[Any]:
    """Annotate a Batch queryset with `refusal`: why nothing that follows an unlock can become of it."""
    return _judged_in(batches, When(~Q(status__in=Batch.GRANTED), then=Value(Refusal.NOT_UNLOCKED)))


def judged_to_extend(
    batches: QuerySet[Batch], *, hours: int, by: User | None, at: datetime | None = None
) -> QuerySet[Any]:
    """Annotate a Batch queryset with `refusal`: why it can't stay unlocked for so many hours from the answer on."""
    at = at or timezone.now()
    return _judged_in(
        batches,
        When(~Q(status=Batch.Status.UNLOCKED), then=Value(Refusal.NOT_UNLOCKED)),
        When(unlocked_until__lte=at, then=Value(Refusal.WINDOW_OVER)),
        When(extension__isnull=False, then=Value(Refusal.EXTENDED)),
        When(_WITHDRAWN, then=Value(Refusal.WITHDRAWN)),
        When(line__consented__consent__valid_until__lte=at, then=Value(Refusal.CONSENT_RAN_OUT)),
        When(unlocked_until__gte=window_end(Value(hours)), then=Value(Refusal.NOT_LATER)),
    )


def window_end(hours: Any) -> Subquery:
    """Return an expression over batches: the end of a window of so many hours, from the product's answer on.

    `hours` is an expression over instructions.
    """
    lasts = ExpressionWrapper(hours * Value(timedelta(hours=1)), output_field=DurationField())
    ends = ExpressionWrapper(F("done_at") + lasts, output_field=DateTimeField())
    return Subquery(_unlocks_done().annotate(ends=ends).values("ends")[:1])


def unlocked_at() -> Subquery:
    """Return an expression over batches: when the product said that it unlocked them."""
    return Subquery(_unlocks_done().values("done_at")[:1])


def _unlocks_done() -> QuerySet[Instruction]:
    """Return the instructions by which a batch of an outer query was unlocked under its grant, the newest first."""
    done = Instruction.objects.filter(
        batch=OuterRef("pk"),
        line__consented=OuterRef("grant"),
        what=Instruction.What.UNLOCK,
        state=Instruction.State.DONE,
    )
    return done.order_by("-done_at")  # by its key, PostgreSQL would walk the keys of all there are


def windows() -> list[int]:
    """Return the windows that are offered, in hours, the shortest first."""
    offered = {1, 4, 24, 72, whole_hours(settings.UNLOCK_WINDOW), longest_window()}
    return sorted(hours for hours in offered if hours <= longest_window())


def longest_window() -> int:
    """Return the longest window that may be chosen, in hours."""
    return whole_hours(settings.UNLOCK_WINDOW_MAX)


def whole_hours(lasts: timedelta) -> int:
    return lasts // timedelta(hours=1)


def _judged_in(batches: QuerySet[Batch], *cases: When, default: str = "") -> QuerySet[Any]:
    return with_open_line(batches).annotate(
        refusal=_why(*cases, default=default), open_request=F("line__unlock_request_id")
    )


def _consent_is_over(at: datetime) -> list[When]:
    return [
        When(_WITHDRAWN, then=Value(Refusal.WITHDRAWN)),
        When(line__consented__consent__valid_until__lte=at, then=Value(Refusal.CONSENT_EXPIRED)),
        When(~Q(fingerprint=F("line__consented__fingerprint")), then=Value(Refusal.CHANGED)),
    ]


@lru_cache(maxsize=64)  # each page judges for its reader, and putting this together takes as long as a query
def _by_another_person(key: int | None = None) -> list[When]:
    """Refuse whoever obtained the consent: the user of this key, or else who instructed the unlock."""
    user: Any = F("unlocked_by") if key is None else key
    in_subquery: Any = OuterRef("unlocked_by") if key is None else key
    consent, unlock_request = "line__consented__consent", OuterRef("line__unlock_request")
    contact = entered_by(in_subquery).filter(id=OuterRef(f"{consent}__contact"))
    # Whoever made a token of a system can act as that system.
    maker = OuterRef("made_by")
    makers_contact = entered_by(maker).filter(id=OuterRef(OuterRef(f"{consent}__contact")))
    obtained = Q(made_by=OuterRef(f"{consent}__recorded_by")) | Q(Exists(makers_contact))
    obtained |= _could_have_agreed(maker, OuterRef(unlock_request))
    return [
        When(**{f"{consent}__recorded_by": user}, then=Value(Refusal.OWN_RECORDING)),
        When(_could_have_agreed(in_subquery, unlock_request), then=Value(Refusal.OWN_CUSTOMER)),
        When(Exists(contact), then=Value(Refusal.OWN_CUSTOMERS_ADDRESS)),
        When(Exists(ApiToken.objects.filter(obtained, system=in_subquery)), then=Value(Refusal.TOKENS_MAKER)),
    ]


def took_part(person: Any, case: OuterRef) -> Q:
    """Return the condition that a person took part in a case, by the keys that the two expressions name.

    Whoever opened it, recorded its consent by phone, instructed an unlock of it or carried one out by hand; and, of a
    system that did, whoever made a token of it.
    """
    made = ApiToken.objects.filter(_acted_in(OuterRef(case), OuterRef("system")), made_by=person)
    return _acted_in(case, person) | Q(Exists(made))


def _acted_in(case: OuterRef, person: Any) -> Q:
    unlocks = Instruction.objects.filter(line__unlock_request=case, what=Instruction.What.UNLOCK)
    return (
        Q(Exists(UnlockRequest.objects.filter(pk=case, opened_by=person)))
        | Q(Exists(Consent.objects.filter(unlock_request=case, recorded_by=person)))
        | Q(Exists(unlocks.filter(Q(act__by=person) | Q(started_by=person))))
    )


def sentence(code: str, batch: Batch | None = None, **facts: Any) -> str:
    """Return the sentence for a refusal ('' for none), filled in from `batch` and the facts given."""
    if not code:
        return ""
    return Refusal(code).label.format(
        **facts,
        exported_on=_day(getattr(batch, "exported_on", None)),
        differs=getattr(batch, "differs", ""),
        until=_until(getattr(batch, "unlocked_until", None)),
        **({} if "unlock_request" in facts else {"unlock_request": _reference(getattr(batch, "open_request", None))}),
    )


def short_name(code: str) -> str:
    """Name a refusal in a word or two, for a group of batches, such as "Period closed"."""
    if code in BY_ANOTHER_PERSON:
        return "Someone else must unlock"
    known = Refusal(code).name if code in Refusal.values else code
    return known.replace("_", " ").capitalize()


def entered_by(user: Any) -> QuerySet[Any]:
    """Return the keys of the contacts whose address `user` entered, or that they made an Admin.

    Someone else has to confirm them, send them links and PINs and unlock, whoever changes them later. What was
    imported is kept from who imported it only until a second person has confirmed the contact. What a system put is
    kept from whoever had made a token that it could put contacts by.
    """
    tokens = ApiToken.objects.filter(
        system=OuterRef("history_user"),
        made_by=OuterRef(user) if isinstance(user, OuterRef) else user,
        made_at__lte=OuterRef("history_date"),
        scopes__contains=ApiToken.Scope.CONTACTS,
    )
    put = Q(Exists(tokens), entered_by=None)
    return Contact.history.filter(Q(STILL_THEIRS, entered_by=user) | put).values("id")


def kept_from(user: User) -> Exists:
    """Return an expression: whether a contact is kept from `user`."""
    return Exists(entered_by(user).filter(id=OuterRef("pk")))


def who_entered(contact: Contact) -> QuerySet[User]:
    """Return the people whom a contact is kept from."""
    return User.objects.filter(Exists(entered_by(OuterRef("pk")).filter(id=contact.pk)))


def to_be_confirmed(changed: dict[str, Any]) -> bool:
    """Say whether a contact, changed like this ({field: [old, new]}), counts only once it is confirmed."""
    return "email" in changed or changed.get("is_admin", [None, False])[1]


def has_possible_duplicates() -> ExpressionWrapper:
    """Return an expression: whether the batch may be in the books already, by an export id of an item or as a whole.

    What an integration marked as exported, it has most likely taken.
    """
    with_export_id = BatchItem.objects.listed().filter(batch=OuterRef("pk")).exclude(export_id="")
    taken = Q(reached_by=Batch.ReachedBy.MARKED_BY_API)
    return ExpressionWrapper(taken | Q(Exists(with_export_id)), output_field=BooleanField())


def went_past_a_warning() -> ExpressionWrapper:
    """Return an expression: whether something of the request was unlocked that the desk warned of as in the books."""
    lines = RequestedBatch.objects.filter(
        unlock_request=OuterRef(OuterRef("pk")), outcome__in=RequestedBatch.LOCKED_AGAIN
    )
    doubtful = Batch.objects.filter(has_possible_duplicates(), pk__in=lines.values("batch"))
    reason = Q(bypass_reason__in=UnlockRequest.DUPLICATE_LIKELY, unlocked_at__isnull=False)
    return ExpressionWrapper(reason | Q(Exists(doubtful)), output_field=BooleanField())


def has_other_totals() -> ExpressionWrapper:
    """Return an expression: whether the items listed are not as many as the batch says, or not of its total.

    Nothing is compared where the batch has no items on file: then it is NULL.
    """
    listed = Q(left_at=None)
    count = _of_items(Count("pk", filter=listed))
    cents = _of_items(_cents(Coalesce(Sum("amount", filter=listed), Decimal(0))))
    same = Q(Exact(count, F("item_count"))) & Q(Exact(cents, _cents(F("total"))))
    return ExpressionWrapper(~same, output_field=BooleanField(null=True))


def _of_items(aggregate: Any) -> Subquery:
    """Sum up the items of a batch; NULL where there are none."""
    of_it = BatchItem.objects.filter(batch=OuterRef("pk")).order_by().values("batch")
    return Subquery(of_it.annotate(sum=aggregate).values("sum"))


def _cents(amount: Any) -> Cast:
    """Whole cents: SQLite adds amounts up as binary fractions."""
    hundredfold = ExpressionWrapper(amount * 100, output_field=DecimalField(max_digits=20, decimal_places=2))
    return Cast(Round(hundredfold), BigIntegerField())


def _why(*cases: When, default: str = "") -> Case:
    return Case(*cases, default=Value(default), output_field=CharField(max_length=30))


def _day(day: date | None) -> str:
    return formats.day(day) or "an unknown day"


def _until(moment: datetime | None) -> str:
    return f", until {formats.moment(moment)}" if moment else ""


def _reference(pk: int | None) -> str:
    return UnlockRequest.reference_of(pk) if pk else "another request"
