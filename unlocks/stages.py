"""Where each open case stands and since when, what ends next, what is wrong with it, and when it first came how far.

These columns of the queue and of the managers' figures are derived from the case and no evidence of anything, so that
history does not hold them. Each act that tells the ledger of a case keeps them (`ledger.chain`), and so does what
changes an instruction, an email or a colleague without it. Nothing in them changes by time alone: whether a case is
overdue is its deadline compared with the clock.
"""

from datetime import datetime, timedelta
from typing import Any

from django.db.models import (
    Case,
    CharField,
    DateTimeField,
    Exists,
    ExpressionWrapper,
    F,
    OuterRef,
    Q,
    QuerySet,
    Subquery,
    Value,
    When,
)
from django.db.models.functions import Concat, Least

from . import history, rules
from .models import (
    ApiToken,
    Consent,
    ConsentLink,
    Instruction,
    LinkOpening,
    Outgoing,
    RequestedBatch,
    UnlockRequest,
)

Status, Stage, Trouble = UnlockRequest.Status, UnlockRequest.Stage, UnlockRequest.Trouble
Outcome = RequestedBatch.Outcome
UNOPENED_AFTER = timedelta(days=2)  # from then on a link that nobody opened wants a call
ANSWERED_WITHIN = timedelta(minutes=15)  # what the product is asked
REWORK_WITHIN = timedelta(days=90)  # of its last unlock, a batch that is unlocked once more is work done twice
UNDER_WAY = (Outcome.UNLOCKING, Outcome.RELOCKING)  # the names are those of the batch's status


def keep(requests: QuerySet[UnlockRequest], *, at: datetime) -> None:
    """Derive the columns of those of some requests that are open, in one statement, inside the act's transaction.

    It writes the requests' rows, which come first in the order of locks.
    """
    _KEPT.run(open_ones(requests), at=at)


def _kept(at: datetime) -> dict[str, Any]:
    now = derived(at)
    since = Case(When(stage=now["stage"], then=F("stage_since")), default=Value(at), output_field=DateTimeField())
    return {"stage_since": since, **now, **_steps(at)}


def _steps(at: datetime) -> dict[str, Any]:
    """Return when a case first came how far, and whether a batch of it was unlocked a short while before."""

    def first(column: str, *reached: Any, **state: Any) -> Case:
        return Case(When(*reached, **{column: None}, **state, then=Value(at)), default=F(column))

    lately = ExpressionWrapper(Value(at) - REWORK_WITHIN, output_field=DateTimeField())
    before = RequestedBatch.objects.filter(
        batch=OuterRef("batch"), outcome__in=RequestedBatch.LOCKED_AGAIN, unlock_request__unlocked_at__gte=lately
    )
    again = Exists(_lines(*RequestedBatch.OPEN).filter(Exists(before.order_by())))
    return {
        "asked_at": first("asked_at", status=Status.AWAITING_CONSENT),
        "consented_at": first("consented_at", status__in=[Status.CONSENTED, Status.UNLOCKED]),
        "unlocked_at": first("unlocked_at", status=Status.UNLOCKED),
        "re_exported_at": first("re_exported_at", _has(Outcome.RE_EXPORTED)),
        "rework": Case(When(again, status=Status.UNLOCKED, unlocked_at=None, then=True), default=F("rework")),
    }


def repair(*, at: datetime) -> None:
    """Keep what changed past the desk, in a shell or by SQL: cases of colleagues who can't sign in, or can again."""
    unlike = Q(_AWAY, trouble="") | Q(~_AWAY, trouble=Trouble.GONE)
    keep(UnlockRequest.objects.filter(unlike), at=at)


def clear(requests: QuerySet[UnlockRequest]) -> None:
    """Leave nothing in the queue's columns of requests that are about to be closed: then their rows do not change.

    Whether a warning was overridden is known by then, and kept.
    """
    history.update_untracked(
        requests, stage="", stage_since=None, due_at=None, trouble="", warned=rules.went_past_a_warning()
    )


def open_ones(requests: QuerySet[UnlockRequest]) -> QuerySet[UnlockRequest]:
    """Return those of some requests that are not closed."""
    return requests.exclude(status=Status.CLOSED)


def overdue(at: datetime) -> Q:
    """Return the condition that something of an open request has ended by then."""
    return Q(due_at__lt=at)


def in_trouble(at: datetime) -> Q:
    """Return the condition that something is wrong with an open request that is not overdue."""
    return ~Q(trouble="") & (Q(due_at=None) | Q(due_at__gte=at))


def derived(at: datetime) -> dict[str, Case]:
    """Return what `keep` writes, as expressions over open requests."""
    return {"stage": _stage(), "due_at": _due_at(at), "trouble": _trouble()}


def _stage() -> Case:
    return Case(
        When(status=Status.OPEN, then=Value(Stage.NEW)),
        When(_OPENED, status=Status.AWAITING_CONSENT, then=Value(Stage.READING)),
        When(status=Status.AWAITING_CONSENT, then=Value(Stage.SENT)),
        When(_has(*UNDER_WAY), then=Value(Stage.PRODUCT)),
        When(_has(Outcome.UNLOCKED), then=Value(Stage.UNLOCKED)),
        When(_has(Outcome.WAITING), then=Value(Stage.READY)),
        default=Value(Stage.TO_CLOSE),
        output_field=CharField(),
    )


def _due_at(at: datetime) -> Case:
    """Return when what the stage waits for ends: link, consent, the product's time to answer, or window."""
    answered = ExpressionWrapper(Value(at) + ANSWERED_WITHIN, output_field=DateTimeField())
    return Case(
        When(status=Status.OPEN, then=None),
        When(_OPENED, status=Status.AWAITING_CONSENT, then=Subquery(_LINK.values("expires_at"))),
        When(status=Status.AWAITING_CONSENT, then=Subquery(_LINK.values(unopened=_UNOPENED))),
        When(_has(*UNDER_WAY), then=Case(When(stage=Stage.PRODUCT, then=F("due_at")), default=answered)),
        When(_has(Outcome.UNLOCKED), then=Subquery(_UNLOCKED)),
        When(_has(Outcome.WAITING), then=Subquery(_AGREED.values("valid_until")[:1])),
        default=None,
        output_field=DateTimeField(),
    )


def _trouble() -> Case:
    """Return what keeps a case from going on by itself: the first of what is wrong."""
    return Case(
        When(Exists(_lines(*UNDER_WAY).exclude(Exists(_PENDING))), then=Value(Trouble.PRODUCT)),
        When(Exists(Outgoing.objects.that_failed().filter(unlock_request=OuterRef("pk"))), then=Value(Trouble.EMAIL)),
        When(~Exists(_LINK), status=Status.AWAITING_CONSENT, then=Value(Trouble.NO_LINK)),
        When(Exists(ApiToken.objects.filter(system=OuterRef("assignee"))), then=Value(Trouble.NOBODYS)),
        When(assignee=None, then=Value(Trouble.NOBODYS)),
        When(_AWAY, then=Value(Trouble.GONE)),
        default=Value(""),
        output_field=CharField(),
    )


def _lines(*outcomes: str) -> QuerySet[RequestedBatch]:
    return RequestedBatch.objects.filter(unlock_request=OuterRef("pk"), outcome__in=outcomes).order_by()


def _has(*outcomes: str) -> Exists:
    return Exists(_lines(*outcomes))


def _added(moment: str, wait: timedelta) -> ExpressionWrapper:
    return ExpressionWrapper(F(moment) + wait, output_field=DateTimeField())


_AWAY = Q(assignee__is_active=False) | Q(assignee__is_staff=False)
_LINK = ConsentLink.objects.filter(unlock_request=OuterRef("pk"), used_at=None, revoked_at=None).order_by()
_OPENED = Exists(
    LinkOpening.objects.filter(link__unlock_request=OuterRef("pk"), link__used_at=None, link__revoked_at=None)
)
_UNOPENED = Least(_added("sent_at", UNOPENED_AFTER), F("expires_at"))
# By the line alone: PostgreSQL takes what is pending for little, and would read all of it for each line.
_PENDING = Instruction.objects.filter(line=OuterRef("pk")).alias(is_in=Concat("state", Value("")))
_PENDING = _PENDING.filter(is_in__in=Instruction.PENDING)
_UNLOCKED = _lines(Outcome.UNLOCKED).order_by("batch__unlocked_until").values("batch__unlocked_until")[:1]
_AGREED = Consent.objects.filter(unlock_request=OuterRef("pk"), decision=Consent.Decision.AGREED).order_by("-pk")
_KEPT = history.Prepared(UnlockRequest, _kept)
