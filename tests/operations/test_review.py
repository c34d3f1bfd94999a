"""Which closed cases are reviewed, and what a second person says of them."""

from decimal import Decimal

import pytest
from django.core.exceptions import PermissionDenied

from tests.factories import acting, carry_out, case_consented, case_unlocked, make_batches, make_user, open_case
from tests.operations import recorded, refused
from unlocks import operations
from unlocks.ledger import events, invariants
from unlocks.models import ReviewDecision
from unlocks.rules import Refusal

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def nothing_drawn(settings):
    settings.REVIEW_BY_PHONE = settings.REVIEW_WARNED = True
    settings.REVIEW_AMOUNT, settings.REVIEW_SHARE = None, 0


@pytest.fixture
def reviewer(db):
    return make_user("reviewer", group="Manager")


def closed(agent, **fields):
    case = case_unlocked(agent, **fields)
    operations.mark_re_exported(case.rows, by=acting(agent))
    return case.refresh()


def due(case):
    review = getattr(case.refresh().unlock_request, "review", None)
    return review and review.reasons


VERBS = {"signed_off": operations.sign_off, "flagged": operations.flag_case, "resolved": operations.resolve_flag}


def review(case, decision, by, note="", **more):
    return VERBS[decision](case.unlock_request, note=note, by=acting(by), **more)


def said(case):
    decisions = ReviewDecision.objects.filter(review__unlock_request=case.unlock_request)
    return [(one.position, one.decision, one.note, one.by.username) for one in decisions]


def offenders():
    return [wrong for wrong, rows in invariants.offenders() if rows.exists()]


def test_a_case_without_a_reason_is_not_reviewed(agent):
    assert due(closed(agent)) is None


@pytest.mark.parametrize("reason", ["already_entered", "manual_change"])
def test_a_warning_that_was_overridden(agent, settings, reason):
    settings.REVIEW_WARNED = reason == "already_entered"
    case = closed(agent, bypass_reason=reason)
    assert due(case) == (["Warning overridden"] if settings.REVIEW_WARNED else None)


def test_an_item_that_may_be_in_the_books(agent):
    batches = make_batches(n=1)
    batches[0].items.update(export_id="TXN-1")
    assert due(closed(agent, batches=batches)) == ["Warning overridden"]


@pytest.mark.parametrize(("more", "found"), [(0, ["Over the amount"]), (1, None)])
def test_from_an_amount_on(agent, settings, more, found):
    batches = make_batches(n=2)
    settings.REVIEW_AMOUNT = sum((batch.total for batch in batches), Decimal(0)) + more
    assert due(closed(agent, batches=batches)) == found


def test_a_share_is_drawn_as_the_case_closes_and_kept(agent, settings):
    settings.REVIEW_SHARE = 100
    case = closed(agent)
    settings.REVIEW_SHARE = 0
    assert due(case) == ["Drawn at random"]
    assert recorded(case.unlock_request)[-1] == (
        "review_due",
        {"by_phone": False, "warned": False, "large": False, "drawn": True},
    )


def test_only_a_case_of_which_something_was_unlocked(agent, settings):
    settings.REVIEW_SHARE = 100
    never, refused_by_product = case_consented(agent), case_consented(agent)
    operations.close_request(never.unlock_request, resolution="canceled", why="Called back", by=acting(agent))
    operations.unlock(refused_by_product.rows, by=acting(agent))
    carry_out(refuse="Exported meanwhile")
    operations.close_request(
        refused_by_product.unlock_request, resolution="not_eligible", why="Exported", by=acting(agent)
    )
    assert (due(never), due(refused_by_product)) == (None, None)


def test_each_closed_case_of_one_act_is_drawn_for_itself(agent, settings):
    settings.REVIEW_SHARE = 100
    cases = [case_unlocked(agent) for _ in range(3)]
    rows = cases[0].rows.model.objects.filter(grant__consent__unlock_request__in=[one.unlock_request for one in cases])
    operations.mark_re_exported(rows, by=acting(agent))
    assert [due(case) for case in cases] == [["Drawn at random"]] * 3


@pytest.fixture
def case(agent, settings):
    settings.REVIEW_SHARE = 100
    return closed(agent)


def test_is_signed_off_once(case, reviewer, manager):
    review(case, "signed_off", reviewer)
    with refused(Refusal.ALREADY_RECORDED):
        review(case, "signed_off", manager)
    assert said(case) == [(1, "signed_off", "", "reviewer")]
    assert recorded(case.unlock_request)[-1] == ("signed_off", {"position": 1, "note": ""})
    assert offenders() == []


def test_a_flag_stays_until_it_is_resolved(case, reviewer, manager):
    with refused(Refusal.NO_REASON):
        review(case, "flagged", reviewer, note=" ")
    with refused(Refusal.NOT_FLAGGED):
        review(case, "resolved", reviewer, note="Nothing to resolve")
    review(case, "flagged", reviewer, note="Who called?")
    with refused(Refusal.NO_REASON):
        review(case, "resolved", manager, note="")
    for decision in ("signed_off", "flagged"):
        with refused(Refusal.FLAGGED):
            review(case, decision, manager, note="Again")
    review(case, "resolved", manager, note="The owner did: see the ticket.")
    review(case, "flagged", reviewer, note="Which ticket?")
    assert said(case) == [
        (1, "flagged", "Who called?", "reviewer"),
        (2, "resolved", "The owner did: see the ticket.", manager.username),
        (3, "flagged", "Which ticket?", "reviewer"),
    ]
    assert offenders() == []


def test_the_same_key_decides_once(case, reviewer):
    key = "5f0c9a52-6a53-4f6e-9c4c-0c5f3f5f8a01"
    calls = [review(case, "flagged", reviewer, note="Twice?", key=key) for _ in range(2)]
    assert calls[0] == calls[1]
    assert len(said(case)) == 1


def test_what_is_not_to_be_reviewed_is_not(agent, reviewer, settings):
    settings.REVIEW_SHARE = 0
    for case in (open_case(agent), closed(agent)):
        with refused(Refusal.NOT_TO_REVIEW):
            review(case, "signed_off", reviewer)


@pytest.mark.parametrize("part", ["opened", "unlocked", "opened by a system", "recorded by phone"])
def test_whoever_took_part_does_not_review(part, agent, second_agent, reviewer, settings, request):
    settings.REVIEW_SHARE = 100
    if part == "opened":
        case = closed(reviewer)
    elif part == "unlocked":
        case = case_consented(agent)
        operations.unlock(case.rows, by=acting(reviewer))
        carry_out()
        operations.mark_re_exported(case.rows, by=acting(agent))
    else:
        pytest.skip("in the table of attacks")
    with refused(Refusal.OWN_CASE):
        review(case, "signed_off", reviewer)
    assert said(case) == []


@pytest.mark.parametrize("who", ["agent", "auditor"])
def test_only_managers_review(case, request, who):
    with pytest.raises(PermissionDenied):
        review(case, "signed_off", request.getfixturevalue(who))
    assert said(case) == []


def test_events_and_decisions_are_the_same():
    assert [cls.holds["decision"] for cls in (events.SignedOff, events.Flagged, events.FlagResolved)] == list(
        ReviewDecision.Decision
    )
