"""The promise as queries that return offenders. All of them empty: the promise holds.

Used alike by the tests, by `verify_audit` and after a restore.
"""

from collections.abc import Iterator
from decimal import Decimal
from functools import cache, reduce
from operator import or_
from typing import Any

from django.apps import apps
from django.db import connection
from django.db.models import (
    BooleanField,
    Count,
    Exists,
    ExpressionWrapper,
    F,
    Field,
    IntegerField,
    Max,
    OuterRef,
    Q,
    QuerySet,
    Subquery,
    Sum,
)
from django.db.models.expressions import RawSQL
from django.db.models.functions import Coalesce

from ..database import fingerprint
from ..models import (
    CONFIRMED,
    Act,
    ApiToken,
    Batch,
    Certificate,
    Consent,
    ConsentedBatch,
    ConsentLink,
    Contact,
    Instruction,
    LedgerEntry,
    LinkOpening,
    RequestedBatch,
    ReviewDecision,
    UnlockRequest,
    Verdict,
)
from ..rules import PIN_TYPED, entered_by, took_part, window_end
from . import events, rows

Line = RequestedBatch.Outcome
What, State = Instruction.What, Instruction.State
# What an act asks of the product, and what another says that it answered.
_ASKS = {Act.Kind.UNLOCK: What.UNLOCK, Act.Kind.RELOCK: What.LOCK}
_ANSWERS = {
    Act.Kind.UNLOCKED: (What.UNLOCK, State.DONE),
    Act.Kind.REFUSED: (What.UNLOCK, State.REFUSED),
    Act.Kind.RELOCKED: (What.LOCK, State.DONE),
}


def offenders(*, unlocked: bool = False) -> Iterator[tuple[str, QuerySet]]:
    """Yield (what is wrong, queryset of the rows that offend), in a fixed order; or only of what is unlocked now."""
    for wrong, asked in _once(unlocked):
        yield wrong, asked.all()  # never the rows that someone else read


@cache
def _once(unlocked: bool) -> list[tuple[str, QuerySet]]:
    return list(_of_unlocked() if unlocked else _queries())


def _of_unlocked() -> Iterator[tuple[str, QuerySet]]:
    unlocked = Batch.objects.filter(status__in=Batch.GRANTED)
    yield (
        "unlocked without an agreed consent of its account for this batch",
        unlocked.exclude(
            grant__batch=F("pk"),
            grant__consent__decision=Consent.Decision.AGREED,
            grant__consent__unlock_request__account=F("account"),
        ),
    )
    in_use = unlocked.exclude(status=Batch.Status.RELOCKING)
    yield "unlocked under a withdrawn consent", in_use.filter(grant__consent__withdrawal__isnull=False)
    yield (
        "unlocked by the person who recorded the consent by phone",
        unlocked.filter(grant__consent__recorded_by=F("unlocked_by")),
    )
    of_its_request = {"unlock_request": OuterRef("grant__consent__unlock_request")}
    seen = ConsentLink.objects.filter(**of_its_request, shown_to=OuterRef("unlocked_by"))
    yield "unlocked by a person who was shown a consent link of the request", unlocked.filter(Exists(seen))
    tried = LedgerEntry.objects.filter(**of_its_request, kind=PIN_TYPED, user=OuterRef("unlocked_by"))
    yield "unlocked by a person who typed a PIN for the request", unlocked.filter(Exists(tried))
    given_at, contact = OuterRef("grant__consent__given_at"), OuterRef("grant__consent__contact")
    entered = entered_by(OuterRef("unlocked_by")).filter(_by_then(given_at), id=contact)
    yield "unlocked by a person who entered the address of the contact who consented", unlocked.filter(Exists(entered))
    maker, of_its_request = OuterRef("made_by"), {"unlock_request": OuterRef(of_its_request["unlock_request"])}
    obtained = Q(made_by=OuterRef("grant__consent__recorded_by"))
    obtained |= Q(Exists(ConsentLink.objects.filter(**of_its_request, shown_to=maker)))
    obtained |= Q(Exists(LedgerEntry.objects.filter(**of_its_request, kind=PIN_TYPED, user=maker)))
    obtained |= Q(Exists(entered_by(maker).filter(_by_then(OuterRef(given_at)), id=OuterRef(contact))))
    tokens = ApiToken.objects.filter(obtained, system=OuterRef("unlocked_by"), made_at__lte=given_at)
    yield "unlocked by a system with a token made by a person who obtained the consent", unlocked.filter(Exists(tokens))
    yield (
        "unlocked, but no open request shows it",
        unlocked.exclude(
            Exists(
                RequestedBatch.objects.filter(
                    batch=OuterRef("pk"), outcome=OuterRef("status"), consented=OuterRef("grant")
                )
            )
        ),
    )
    yield (
        "shown as unlocked, but its batch is not",
        RequestedBatch.objects.filter(outcome__in=RequestedBatch.GRANTED).exclude(batch__status=F("outcome")),
    )


def _queries() -> Iterator[tuple[str, QuerySet]]:
    yield from _of_unlocked()
    by_themselves = entered_by(OuterRef("confirmed_by")).filter(id=OuterRef("pk"))
    yield "its address was confirmed by a person who entered it", Contact.objects.filter(Exists(by_themselves))
    answered = Consent.objects.filter(unlock_request=OuterRef("unlock_request"), given_at__lt=OuterRef("history_date"))
    left = RequestedBatch.history.filter(
        id=OuterRef("id"), outcome=Line.NOT_UNLOCKED, history_id__lt=OuterRef("history_id")
    )
    back = RequestedBatch.history.filter(Exists(left), Exists(answered), outcome=Line.WAITING, consented=None)
    yield "asked for again after its customer had answered", RequestedBatch.objects.filter(pk__in=back.values("id"))
    yield from _instructions()
    yield (
        "fingerprint does not fit the content",
        Batch.objects.exclude(fingerprint="").exclude(fingerprint=fingerprint.expression("default")),
    )
    at_the_time = Contact.history.filter(id=OuterRef("sent_to"), history_date__lte=OuterRef("sent_at"))
    newest = at_the_time.order_by("-history_date", "-history_id").values("history_id")[:1]
    on_record = Contact.history.filter(history_id=OuterRef("newest"), email=OuterRef("email"), is_admin=True)
    counted = on_record.filter(CONFIRMED)
    yield (
        "went to an address that its contact did not have on record then",
        ConsentLink.objects.annotate(newest=Subquery(newest)).exclude(Exists(counted)),
    )
    openings = LinkOpening.objects.filter(link=OuterRef("link"))
    by_link = Consent.objects.filter(how=Consent.How.LINK)
    yield (
        "decided by a link, but no opening of it led there",
        by_link.exclude(Exists(openings.filter(pk=OuterRef("opening")))).exclude(
            Exists(openings.filter(position=LinkOpening.MOST)), opening=None
        ),
    )
    yield (
        "text does not fit its hash",
        Consent.objects.exclude(text_sha256=_sha256_of("unlocks_consent", "text")),
    )
    yield (
        "covers another number of batches than was shown",
        Consent.objects.annotate(covered=Count("batches")).exclude(covered=F("batch_count")),
    )
    yield (
        "covers a batch of another request",
        ConsentedBatch.objects.exclude(
            requested_batch__unlock_request=F("consent__unlock_request"), requested_batch__batch=F("batch")
        ),
    )
    right = LedgerEntry.objects.filter(unlock_request=OuterRef("unlock_request"), kind=events.PinVerified.kind)
    agreed = Consent.objects.filter(decision=Consent.Decision.AGREED)
    yield (
        "agreed, but the ledger shows no PIN verified",
        agreed.filter(how=Consent.How.LINK).exclude(Exists(right)),
    )
    yield (
        "recorded by phone, but the ledger shows no PIN verified by the person who recorded it",
        agreed.filter(how=Consent.How.PHONE).exclude(Exists(right.filter(user=OuterRef("recorded_by")))),
    )
    yield from rows.without_entry()
    yield (
        "content does not fit its hash",
        Certificate.objects.exclude(sha256=_sha256_of("unlocks_certificate", "content")),
    )
    yield (
        "closed with batches still open in it",
        UnlockRequest.objects.filter(status=UnlockRequest.Status.CLOSED, lines__outcome__in=RequestedBatch.OPEN),
    )
    own = took_part(OuterRef("by"), OuterRef("review__unlock_request"))
    yield "reviewed by a person who took part in the case", ReviewDecision.objects.filter(own)
    yield from _sums()
    yield from _outcomes()
    for model in apps.get_app_config("unlocks").get_models():
        if hasattr(model, "history"):
            yield (
                f"{model._meta.verbose_name}: the newest history row tells something else",
                _differs_from_history(model),
            )


def _sums() -> Iterator[tuple[str, QuerySet]]:
    """What requests say they are for, against their lines. What ends one leaves its sums as they were."""
    lines = RequestedBatch.objects.filter(unlock_request=OuterRef("pk")).order_by().values("unlock_request")
    there = lines.exclude(outcome=Line.NOT_UNLOCKED)
    withdrawn = Consent.objects.filter(unlock_request=OuterRef("pk"), withdrawal__isnull=False)
    ended = Q(status=UnlockRequest.Status.CLOSED) | Q(Exists(withdrawn))
    counted = UnlockRequest.objects.alias(
        ended=ExpressionWrapper(ended, output_field=BooleanField()),
        least=Coalesce(Subquery(there.annotate(n=Count("pk")).values("n")), 0),
        most=Coalesce(Subquery(lines.annotate(n=Count("pk")).values("n")), 0),
    )
    yield (
        "its number of batches is not that of its lines",
        counted.exclude(Q(batch_count=F("least")) | Q(ended=True, batch_count__range=(F("least"), F("most")))),
    )
    total = there.annotate(total=Sum("batch__total")).values("total")
    yield (
        "its total is not that of its batches",
        counted.filter(ended=False).exclude(amount=Coalesce(Subquery(total), Decimal(0))),
    )


def _by_then(given_at: OuterRef) -> Q:
    """What was imported or put after a consent, nobody consented by."""
    return Q(entered_in=None, entered_by__isnull=False) | Q(history_date__lte=given_at)


def _instructions() -> Iterator[tuple[str, QuerySet]]:
    """What the product is asked and what it said, against where the batches are and what the acts tell."""
    asked = Instruction.objects.filter(batch=OuterRef("pk"), line__consented=OuterRef("grant"))
    to_unlock, to_lock = asked.filter(what=What.UNLOCK), asked.filter(what=What.LOCK)
    yield (
        "unlocking, but the product is not asked to unlock it",
        Batch.objects.filter(~Exists(to_unlock.filter(state__in=Instruction.OPEN)), status=Batch.Status.UNLOCKING),
    )
    yield (
        "unlocked, but the product did not say so",
        Batch.objects.filter(~Exists(to_unlock.filter(state=State.DONE)), status=Batch.Status.UNLOCKED),
    )
    # Not `extension__hours`: that would leave out the batches without one.
    extended = Act.objects.filter(pk=OuterRef(OuterRef("extension"))).values("hours")
    allowed = Coalesce(Subquery(extended), F("act__hours"), output_field=IntegerField())
    yield (
        "unlocked for longer than an act allows",
        Batch.objects.filter(status__in=Batch.GRANTED, unlocked_until__gt=window_end(allowed)),
    )
    extends = Verdict.objects.filter(refusal="", act__kind=Act.Kind.EXTEND, batch=OuterRef("pk"))
    yield (
        "its window was extended by no act",
        Batch.objects.filter(~Exists(extends.filter(act=OuterRef("extension"))), extension__isnull=False),
    )
    not_locked = (*Instruction.OPEN, State.REFUSED)
    yield (
        "relocking, but the product is not asked to lock it",
        Batch.objects.filter(~Exists(to_lock.filter(state__in=not_locked)), status=Batch.Status.RELOCKING),
    )
    yield (
        "to be unlocked in the product, but the batch is not unlocking",
        Instruction.objects.filter(what=What.UNLOCK, state=State.QUEUED, tries=0).exclude(
            batch__status__in=[Batch.Status.UNLOCKING, Batch.Status.RELOCKING]
        ),
    )
    obtained_it = Instruction.objects.filter(what=What.UNLOCK, line__consented__consent__recorded_by=F("started_by"))
    yield "carried out by the person who recorded the consent by phone", obtained_it
    done = Verdict.objects.filter(refusal="")
    by_its_act = done.filter(act=OuterRef("act"), batch=OuterRef("batch"), line=OuterRef("line"))
    asking = [Q(Exists(by_its_act.filter(act__kind=kind)), what=what) for kind, what in _ASKS.items()]
    earlier = Instruction.objects.filter(act=OuterRef("act"), batch=OuterRef("batch"), pk__lt=OuterRef("pk"))
    yield "no act asked the product for it", Instruction.objects.exclude(reduce(or_, asking) & ~Exists(earlier))
    of_its_line = Instruction.objects.filter(batch=OuterRef("batch"), line=OuterRef("line"))
    by_it = of_its_line.filter(act=OuterRef("act"))
    unasked = [Q(~Exists(by_it.filter(what=what)), act__kind=kind) for kind, what in _ASKS.items()]
    yield "the product should be asked for it, but no instruction is there", done.filter(reduce(or_, unasked))
    unsaid = [
        Q(~Exists(of_its_line.filter(what=what, state=state)), act__kind=kind)
        for kind, (what, state) in _ANSWERS.items()
    ]
    yield "told as the answer of the product, but no instruction has that answer", done.filter(reduce(or_, unsaid))


def _outcomes() -> Iterator[tuple[str, QuerySet]]:
    """What requested batches show, against their newest verdict.

    A verdict has no index of its line: all are read in one pass, which PostgreSQL does for one EXISTS beside another,
    but neither for one within an OR nor for more keys than fit into its memory.
    """
    done = Verdict.objects.filter(refusal="", line__isnull=False)
    newest = done.order_by().values("line").annotate(newest=Max("pk")).values("newest")
    fits = Q(act__kind=Act.Kind.CANCEL, line__outcome__in=[Line.WAITING, Line.NOT_UNLOCKED])
    for kind, outcome in {
        Act.Kind.UNLOCK: Line.UNLOCKING,
        Act.Kind.UNLOCKED: Line.UNLOCKED,
        Act.Kind.REFUSED: Line.REFUSED,
        Act.Kind.EXTEND: Line.UNLOCKED,
        Act.Kind.RELOCK: Line.RELOCKING,
        Act.Kind.RELOCKED: Line.RELOCKED,
        Act.Kind.RE_EXPORT: Line.RE_EXPORTED,
    }.items():
        fits |= Q(act__kind=kind, line__outcome=outcome)
    of_line = done.filter(line=OuterRef("pk"))
    yield (
        "its outcome is not what the newest act made of it",
        RequestedBatch.objects.filter(Exists(of_line), ~Exists(of_line.filter(fits, pk__in=newest))),
    )
    others = RequestedBatch.objects.exclude(outcome__in=[Line.WAITING, Line.NOT_UNLOCKED])
    yield "no act made its outcome", others.filter(~Exists(of_line))


def _sha256_of(table: str, column: str) -> RawSQL:
    """The SHA-256 (hex) of a text column, taken by the database."""
    return RawSQL(fingerprint.sha256(connection.vendor, f'"{table}"."{column}"'), [])


def _differs_from_history(model: type[Any]) -> QuerySet:
    """Rows of a tracked model that were changed, or made, past `history.py`."""
    past = model.history.model
    newest = past.objects.filter(id=OuterRef("pk")).order_by("-history_id")
    fields = [field for field in past.tracked_fields if field.attname != "id"]
    same: Any = Q(pk=F("pk"))
    for field in fields:
        equal = Q(**{field.attname: OuterRef(field.attname)})
        same &= equal | Q(**{f"{field.attname}__isnull": True}) & _null(field) if field.null else equal
    fits = past.objects.filter(history_id=OuterRef("newest")).filter(same)
    return model.objects.annotate(newest=Subquery(newest.values("history_id")[:1])).exclude(Exists(fits))


def _null(field: Field) -> Exists:
    """The outer row's value of this field is NULL too."""
    model: Any = field.model
    return Exists(model.objects.filter(pk=OuterRef(OuterRef("pk")), **{f"{field.attname}__isnull": True}))
