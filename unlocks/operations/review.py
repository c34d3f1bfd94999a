"""Reviewing closed cases: which ones, drawn as they close, and what a second person says of them."""

import secrets
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet, Subquery

from .. import history
from ..actors import Actor
from ..ledger import chain, events
from ..models import (
    Consent,
    Instruction,
    LedgerEntry,
    Review,
    ReviewDecision,
    UnlockRequest,
)
from ..rules import Refusal, took_part
from .verbs import Refused, obstacle, once, staff_verb

Decision = ReviewDecision.Decision
_PERCENT = 100


def draw_reviews(closed: QuerySet[UnlockRequest], *, by: Actor) -> list[chain.Entry]:
    """Have those of some locked cases reviewed that have to be, inside the verb that closes them; return the entries.

    Only a case of which something was unlocked is. The share that is drawn is drawn here, and kept: no one can tell
    from a case's number.
    """
    unlocked = Instruction.objects.filter(
        line__unlock_request=OuterRef("pk"), what=Instruction.What.UNLOCK, state=Instruction.State.DONE
    )
    by_phone = Consent.objects.filter(
        unlock_request=OuterRef("pk"), decision=Consent.Decision.AGREED, how=Consent.How.PHONE
    )
    found = closed.filter(Exists(unlocked)).annotate(phone=Exists(by_phone))
    rows = [
        {
            "unlock_request_id": pk,
            "by_phone": phone and settings.REVIEW_BY_PHONE,
            "warned": warned and settings.REVIEW_WARNED,
            "large": settings.REVIEW_AMOUNT is not None and amount >= settings.REVIEW_AMOUNT,
            "drawn": secrets.randbelow(_PERCENT) < settings.REVIEW_SHARE,
            "due_at": by.act.at,
        }
        for pk, phone, warned, amount in found.order_by("pk").values_list("pk", "phone", "warned", "amount")
    ]
    due = [row for row in rows if any(row[name] for name in Review.REASONS)]
    history.insert_rows(Review, due)
    reviews = Review.objects.filter(unlock_request__in=[row["unlock_request_id"] for row in due])
    return [
        chain.Entry(events.ReviewDue.of(review), review.unlock_request_id, review.unlock_request.account_id)
        for review in reviews.order_by("pk").select_related("unlock_request")
    ]


def _decision_of(entry: LedgerEntry) -> ReviewDecision:
    return ReviewDecision.objects.get(pk=entry.about_id or 0)


@staff_verb("unlocks.review_case")
@once(events.SignedOff, _decision_of)
@transaction.atomic
def sign_off(unlock_request: UnlockRequest, *, note: str = "", by: Actor) -> ReviewDecision:
    """Say that nothing is wrong. Raises Refused: NOT_TO_REVIEW, OWN_CASE, FLAGGED, ALREADY_RECORDED."""
    review, newest = _to_decide(unlock_request, by)
    if newest:
        raise Refused.because(Refusal.ALREADY_RECORDED, names=newest.get_decision_display().lower())
    return _decide(review, newest, events.SignedOff, note, by)


@staff_verb("unlocks.review_case")
@once(events.Flagged, _decision_of)
@transaction.atomic
def flag_case(unlock_request: UnlockRequest, *, note: str, by: Actor) -> ReviewDecision:
    """Say what is wrong with a closed case, signed off or not. Raises Refused: NOT_TO_REVIEW, OWN_CASE, FLAGGED."""
    review, newest = _to_decide(unlock_request, by)
    return _decide(review, newest, events.Flagged, _needed(note), by)


@staff_verb("unlocks.review_case")
@once(events.FlagResolved, _decision_of)
@transaction.atomic
def resolve_flag(unlock_request: UnlockRequest, *, note: str, by: Actor) -> ReviewDecision:
    """Say how the flag of a case was resolved. Raises Refused: NOT_TO_REVIEW, OWN_CASE, NOT_FLAGGED, NO_REASON."""
    review, newest = _to_decide(unlock_request, by, flagged=True)
    return _decide(review, newest, events.FlagResolved, _needed(note), by)


def _to_decide(
    unlock_request: UnlockRequest, by: Actor, *, flagged: bool = False
) -> tuple[Review, ReviewDecision | None]:
    """Lock a case and return its review with the newest decision."""
    unlock_request = history.lock_row(UnlockRequest.objects.all(), unlock_request.pk)
    review = Review.objects.filter(unlock_request=unlock_request).select_related("unlock_request__account").first()
    if review is None:
        raise Refused.because(Refusal.NOT_TO_REVIEW)
    refuse_own_case(unlock_request, by)
    newest = review.decisions.order_by("-position").first()
    if flagged != (newest is not None and newest.decision == Decision.FLAGGED):
        raise Refused.because(Refusal.NOT_FLAGGED if flagged else Refusal.FLAGGED)
    return review, newest


def _needed(note: str) -> str:
    if not note.strip():
        raise Refused.because(Refusal.NO_REASON)
    return note


def _decide(
    review: Review, newest: ReviewDecision | None, event: type[events.Event], note: str, by: Actor
) -> ReviewDecision:
    """Write the decision that an event tells of, and the event."""
    position = newest.position + 1 if newest else 1
    decided = ReviewDecision(
        review=review, position=position, note=note.strip(), by=by.member, at=by.act.at, **event.holds
    )
    decided.save(force_insert=True)
    chain.append(event.of(decided), by=by, unlock_request=review.unlock_request)
    return decided


def refuse_own_case(unlock_request: UnlockRequest, by: Actor) -> None:
    """Raise Refused when whoever would review a case took part in it."""
    if UnlockRequest.objects.filter(took_part(by.member.pk, OuterRef("pk")), pk=unlock_request.pk).exists():
        raise Refused.because(Refusal.OWN_CASE)


def obstacle_to_review(unlock_request: UnlockRequest, user: User) -> str:
    """Say why this member of staff can't review a case; '' when they can."""
    no = "You may not review cases: a manager does."
    return obstacle(refuse_own_case, unlock_request, user, permission=sign_off.permission, no=no)


def with_state(reviews: QuerySet[Review]) -> QuerySet[Any]:
    """Annotate reviews with `state` (the newest decision; None before the first), `decided_by` and `decided_at`."""
    newest = ReviewDecision.objects.filter(review=OuterRef("pk")).order_by("-position")
    columns = {"state": "decision", "decided_by": "by__username", "decided_at": "at"}
    return reviews.annotate(**{name: Subquery(newest.values(column)[:1]) for name, column in columns.items()})
