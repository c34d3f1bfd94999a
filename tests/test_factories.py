from tests import factories
from unlocks.models import Batch, UnlockRequest


def test_a_case_of_each_kind(agent):
    opened = factories.open_case(agent)
    awaiting = factories.case_awaiting(agent, bypass_reason="already_entered")
    consented = factories.case_consented(agent, account=opened.account)
    unlocked = factories.case_unlocked(agent, batches=[factories.make_batch(items=2)])
    assert [case.refresh().unlock_request.status for case in (opened, awaiting, consented, unlocked)] == [
        UnlockRequest.Status.OPEN,
        UnlockRequest.Status.AWAITING_CONSENT,
        UnlockRequest.Status.CONSENTED,
        UnlockRequest.Status.UNLOCKED,
    ]
    assert consented.account == opened.account
    assert (unlocked.batch.status, unlocked.batch.total, unlocked.batch.unlocked_by) == ("unlocked", 300, agent)
    assert set(consented.rows.values_list("status", flat=True)) == {Batch.Status.BYPASSED}
    assert consented.consent.batch_count == len(consented.batches) == 2


def test_a_batch_of_each_status(db):
    account = factories.make_account()
    for status in ("pending", "posted", "exported", "bypassed"):
        batch = factories.make_batch(account=account, status=status)
        assert (batch.status, batch.items.count(), batch.history.count()) == (status, batch.item_count, 1)
