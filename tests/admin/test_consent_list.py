"""The list of consents: how they are found, what it says of each, what it costs."""

from datetime import timedelta

from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tests import factories
from tests.admin.test_consents import CONSENTS, listed, shown
from unlocks import operations
from unlocks.database import guards
from unlocks.models import Consent
from unlocks.templatetags.desk import moment


def found(client, **query):
    return {consent.pk for consent in client.get(CONSENTS, query).context["cl"].result_list}


def test_consents_are_found_by_reference_request_account_and_kind(agent, agent_client):
    own, staff = factories.case_consented(agent), factories.case_recorded_by_phone(agent)
    for term in (staff.consent.reference, staff.consent.reference.lower(), f"{staff.consent.pk}"):
        assert found(agent_client, q=term) == {staff.consent.pk}
    assert found(agent_client, q=own.unlock_request.reference) == {own.consent.pk}
    assert found(agent_client, q=own.account.number) == {own.consent.pk}
    assert found(agent_client, how__exact="phone") == {staff.consent.pk}
    assert found(agent_client, decision__exact="declined") == set()
    assert found(agent_client, decision__exact="agreed") == {own.consent.pk, staff.consent.pk}


def test_the_list_costs_the_same_at_one_and_at_ten_and_reads_no_text(agent, manager_client, django_assert_num_queries):
    for _ in range(2):
        factories.case_recorded_by_phone(agent)
    manager_client.get(CONSENTS)
    with CaptureQueriesContext(connection) as counted:
        manager_client.get(CONSENTS)
    assert not any('"unlocks_consent"."text"' in query["sql"] for query in counted)
    for _ in range(8):
        factories.case_consented(agent)
    with django_assert_num_queries(len(counted)):
        assert len(manager_client.get(CONSENTS).context["cl"].result_list) == 10


def test_every_page_links_to_the_list(agent_client):
    assert f'<a href="{CONSENTS}">Consents</a>' in agent_client.get("/desk/").content.decode()


def test_list_and_page_say_what_is_no_longer_in_force(agent, manager, agent_client):
    stands = factories.case_recorded_by_phone(agent)
    used, closed = factories.case_unlocked(agent), factories.case_consented(agent)
    withdrawn, expired = factories.case_recorded_by_phone(agent), factories.case_consented(agent)
    by = factories.acting(agent)
    operations.close_request(closed.unlock_request, resolution="canceled", why="No.", by=by)
    operations.withdraw_consent(withdrawn.consent, why="No.", by=by)
    with guards.lifted():
        Consent.objects.filter(pk=expired.consent.pk).update(valid_until=timezone.now() - timedelta(minutes=1))
    cases = [expired, withdrawn, closed, used, stands]
    for case in cases:
        case.consent.refresh_from_db()
    was = [f"was {moment(case.consent.valid_until)}" for case in cases]
    assert listed(agent_client) == [
        [expired.consent.reference, "Agreed", "2", f"{was[0]} expired"],
        [withdrawn.consent.reference, "Withdrawn Recorded by phone", "2", f"{was[1]} withdrawn"],
        [closed.consent.reference, "Agreed", "2", f"{was[2]} the request is closed"],
        [used.consent.reference, "Agreed", "2", f"{was[3]} no batch is waiting under it"],
        [stands.consent.reference, "Agreed Recorded by phone", "2", moment(stands.consent.valid_until)],
    ]
    assert ["<dt>Was valid until</dt>" in shown(agent_client, case) for case in cases] == [True] * 4 + [False]
    assert ["<dt>Valid until</dt>" in shown(agent_client, case) for case in cases] == [False] * 4 + [True]
