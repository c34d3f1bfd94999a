"""A key names an act: the same key again does nothing, and returns what the first one did."""

from uuid import uuid4

import pytest
from django.core.exceptions import PermissionDenied

from tests.attacks import snapshot
from tests.factories import acting, case_awaiting, case_consented, open_case
from unlocks import operations

pytestmark = pytest.mark.django_db


def _advise(case, **by):
    return operations.record_advice(case.unlock_request, advice="manual_entry", **by)


def _send(case, **by):
    return operations.send_consent_link(case.unlock_request, contact=case.admin, **by)


def _close(case, **by):
    return operations.close_request(case.unlock_request, resolution="canceled", why="They left", **by)


def _withdraw(case, **by):
    return operations.withdraw_consent(case.consent, why="They changed their mind", **by)


VERBS = {
    "advise": (open_case, _advise),
    "note": (open_case, lambda case, **by: operations.add_note(case.unlock_request, text="Called", **by)),
    "send": (case_awaiting, _send),
    "revoke": (case_awaiting, lambda case, **by: operations.revoke_consent_link(case.unlock_request, **by)),
    "close": (open_case, _close),
    "withdraw": (case_consented, _withdraw),
    "unlock": (case_consented, lambda case, **by: operations.unlock(case.rows, **by)),
}


@pytest.mark.parametrize("verb", VERBS)
def test_the_same_key_again_does_nothing(agent, second_agent, verb):
    make, call = VERBS[verb]
    case, key = make(agent), uuid4()
    first = call(case, by=acting(agent), key=key)
    before = snapshot()
    assert call(case, by=acting(agent), key=key) == first
    with pytest.raises(PermissionDenied):
        call(case, by=acting(second_agent), key=key)
    assert snapshot() == before


def test_a_request_is_opened_once(agent):
    key = uuid4()
    case = open_case(agent, key=key)
    before = snapshot()
    assert open_case(agent, batches=case.batches, key=key).unlock_request == case.unlock_request
    assert operations.open_request.first(key, acting(agent)) == case.unlock_request
    assert operations.open_request.first(uuid4(), acting(agent)) is None
    with pytest.raises(PermissionDenied):
        operations.add_note(case.unlock_request, text="Another verb", by=acting(agent), key=key)
    assert snapshot() == before
