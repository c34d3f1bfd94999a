"""The customer takes a consent back; staff do it for them. Twin of the pages' tests in tests/test_withdrawal.py."""

import pytest
from django.core.exceptions import PermissionDenied

from tests import factories
from tests.attacks import difference, snapshot
from tests.factories import PIN, acting, case_awaiting, case_consented, case_unlocked, case_unlocking, customer
from tests.operations import kinds, recorded, refused
from unlocks import operations
from unlocks.models import Act, Batch, ConsentWithdrawal, Instruction
from unlocks.operations import handing_over
from unlocks.rules import Refusal
from unlocks.texts.shown import shown_text

pytestmark = pytest.mark.django_db


def take_back(case, why="", consent=None):
    operations.withdraw_own_consent(consent or case.consent, why=why, by=customer(case.admin))


def test_before_the_unlock_nothing_can_be_unlocked_any_more(agent):
    case = case_consented(agent)
    take_back(case)
    unlock_request = case.refresh().unlock_request
    assert (unlock_request.status, unlock_request.resolution) == ("closed", "withdrawn")
    assert set(unlock_request.lines.values_list("outcome", flat=True)) == {"not_unlocked"}
    act = factories.unlock(case.rows, by=acting(agent))
    assert set(act.verdicts.values_list("refusal", flat=True)) == {"not_requested"}
    assert kinds(unlock_request)[-2:] == ["withdrawn", "closed"]


def test_afterwards_it_has_all_locked_again(agent):
    case = case_unlocked(agent)
    first, second = case.batches
    operations.mark_re_exported(Batch.objects.filter(pk=first.pk), by=acting(agent))
    take_back(case, why="Wrong month")

    case.refresh()
    assert [batch.status for batch in case.batches] == ["exported", "relocking"]
    assert [line.outcome for line in case.unlock_request.lines.order_by("pk")] == ["re_exported", "relocking"]
    assert case.unlock_request.status == "unlocked"
    relock = Act.objects.get(kind="relock")
    assert (relock.by, relock.actor) == (None, f"Link for {case.admin.name}")
    assert relock.why == "Consent withdrawn by the customer: Wrong month"
    assert set(second.history.filter(history_act=relock.pk).values_list("history_actor", flat=True)) == {relock.actor}
    factories.carry_out()
    assert [batch.status for batch in case.refresh().batches] == ["exported", "bypassed"]
    assert [line.outcome for line in case.unlock_request.lines.order_by("pk")] == ["re_exported", "relocked"]
    assert (case.unlock_request.status, case.unlock_request.resolution) == ("closed", "withdrawn")
    assert kinds(case.unlock_request)[-4:] == ["relock_instructed", "withdrawn", "relocked", "closed"]


def test_what_the_product_was_not_asked_yet_is_canceled(agent):
    case = case_unlocking(agent)
    take_back(case)
    assert [batch.status for batch in case.refresh().batches] == ["bypassed", "bypassed"]
    assert set(case.unlock_request.lines.values_list("outcome", flat=True)) == {"not_unlocked"}
    assert set(Instruction.objects.values_list("what", "state")) == {("unlock", "canceled")}
    assert (case.unlock_request.status, case.unlock_request.resolution) == ("closed", "withdrawn")
    assert factories.hand_over() == []


@pytest.mark.parametrize("answer", ["done", "refused"])
def test_what_the_product_was_asked_is_locked_whatever_it_answers(agent, answer):
    case = case_unlocking(agent)
    asked = factories.hand_over()
    take_back(case)
    assert [batch.status for batch in case.refresh().batches] == ["relocking", "relocking"]
    assert factories.hand_over() == []  # first it answers
    factories.answer(asked, answer, "P-7")
    assert [batch.status for batch in case.refresh().batches] == ["relocking", "relocking"]
    factories.carry_out()
    assert [batch.status for batch in case.refresh().batches] == ["bypassed", "bypassed"]
    assert (case.unlock_request.status, case.unlock_request.resolution) == ("closed", "withdrawn")
    late = [(facts["batches"], facts["why"]) for _, facts in recorded(case.unlock_request, kind="unlocked_late")]
    assert late == ([(2, "P-7")] if answer == "done" else [])


def test_a_product_that_answers_later_is_asked_at_once(agent):
    case = case_unlocking(agent)
    factories.answer(factories.hand_over(), "accepted")
    take_back(case)
    assert [one.what for one in handing_over.lease()] == ["unlock", "unlock"]


def test_meanwhile_nothing_else_can_be_done_with_the_case(agent):
    case = case_unlocked(agent)
    take_back(case)
    by = acting(agent)
    with refused(Refusal.STILL_UNLOCKED):
        operations.close_request(case.unlock_request, resolution="canceled", why="", by=by)
    with refused(Refusal.ALREADY_RECORDED):
        operations.send_consent_link(case.unlock_request, contact=case.admin, by=by)
    with refused(Refusal.CONSENT_OVER):
        take_back(case)
    act = operations.unlock(case.rows, by=by)
    assert set(act.verdicts.values_list("refusal", flat=True)) == {"relocking"}


def test_takes_back_every_consent_of_the_case(agent):
    case = case_consented(agent)
    first = case.consent
    operations.send_consent_link(case.unlock_request, contact=case.admin, by=acting(agent))
    link, by = case.link, customer(case.admin)
    operations.open_consent_link(link, by=by)
    operations.verify_customer_pin(link, pin=PIN, by=by)
    second, _ = operations.give_consent(link, name="Ann", role="Owner", shown=shown_text(link), by=by)
    factories.unlock(case.rows, by=acting(agent))

    take_back(case, consent=first)

    assert list(ConsentWithdrawal.objects.order_by("consent").values_list("consent", flat=True)) == [
        first.pk,
        second.pk,
    ]
    assert {batch.status for batch in case.refresh().batches} == {"relocking"}


def test_a_second_time_is_refused(agent):
    case = case_consented(agent)
    take_back(case)
    with refused(Refusal.CLOSED):
        take_back(case)


def test_what_was_declined_has_nothing_to_take_back(agent):
    case = case_awaiting(agent)
    operations.open_consent_link(case.link, by=customer(case.admin))
    declined, _ = operations.decline_consent(
        case.link, name="Dana Whitfield", role="", why="", shown=shown_text(case.link), by=customer(case.admin)
    )
    with refused(Refusal.CLOSED):
        take_back(case, consent=declined)


def test_what_the_product_refused_has_nothing_to_take_back(agent):
    case = case_unlocking(agent)
    factories.carry_out(refuse="Exported meanwhile")
    said = "There is no consent to withdraw: nothing is unlocked under it, and nothing waits to be."
    with refused(Refusal.CONSENT_OVER, says=said):
        take_back(case)


def test_a_closed_case_stays_as_it_ended(agent):
    case = case_unlocked(agent)
    operations.mark_re_exported(case.rows, by=acting(agent))
    with refused(Refusal.CLOSED):
        take_back(case)


def test_not_for_staff(agent, superuser):
    case = case_consented(agent)
    for user in (agent, superuser):
        before = snapshot()
        with pytest.raises(PermissionDenied):
            operations.withdraw_own_consent(case.consent, why="", by=acting(user))
        assert difference(before, snapshot()) == []


def test_the_customer_is_told_by_mail(agent, mailoutbox):
    case = case_consented(agent)
    with factories.delivered():
        take_back(case)
    (message,) = mailoutbox
    assert (message.to, message.subject) == (
        [case.admin.email],
        f"{case.consent.reference}: your consent was withdrawn",
    )
    assert "Reason:       none given" in message.body
