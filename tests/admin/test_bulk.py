"""Bulk actions: the preview judges the very set that the act then takes, once, and the report names every batch."""

import uuid

import pytest
from django.db import connection
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from tests import factories
from unlocks import history, operations
from unlocks.actors import Actor
from unlocks.admin.lists import freeze
from unlocks.models import Act, Batch, LedgerEntry, UnlockRequest
from unlocks.texts.formats import moment

KINDS = list(Act.Kind)
REQUESTS = "/desk/unlocks/unlockrequest/"


def select(user, batches):
    request = RequestFactory().get("/")
    request.user = user
    return freeze(request, Batch.objects.filter(pk__in=[0, *(batch.pk for batch in batches)]))


def address(selection, kind="unlock"):
    return reverse("admin:selection_act", args=[selection.pk, kind])


def confirm(client, selection, kind="unlock", **typed):
    """Submit the preview as it was shown, and return the answer."""
    shown = client.get(address(selection, kind))
    key = shown.context["form"]["key"].value() if shown.status_code == 200 else uuid.uuid4()
    return client.post(address(selection, kind), {"key": key, **typed})


def statuses(batches):
    return [Batch.objects.get(pk=batch.pk).status for batch in batches]


def changed(batch):
    item = batch.items.first()
    item.memo = "Changed afterwards"
    history.save(item, by=Actor.desk())


# The preview


def test_the_preview_groups_by_reason_and_changes_nothing(agent, agent_client):
    case = factories.case_consented(agent, batches=factories.make_batches(n=3))
    changed(case.batch)
    exported = [factories.make_batch(account=case.account, status="exported") for _ in range(2)]
    selection = select(agent, case.batches + exported)
    before = LedgerEntry.objects.count()
    response = agent_client.get(address(selection))
    page = response.content.decode()
    assert response.context["ready"]["n"] == 2
    assert [(group["refusal"], group["n"]) for group in response.context["groups"]] == [("exported", 2), ("changed", 1)]
    assert "Unlock 2 batches</button>" in page
    assert "Exported on May 3, 2026. Support can&#x27;t unlock exported batches." in page
    assert statuses(case.batches) == ["bypassed"] * 3
    assert (LedgerEntry.objects.count(), Act.objects.count()) == (before, 0)


def test_nothing_to_do_has_no_button(agent, agent_client):
    batch = factories.make_batch()
    page = agent_client.get(address(select(agent, [batch])))
    assert "No batch can be unlocked." in page.content.decode()
    assert 'class="btn main"' not in page.content.decode()
    assert agent_client.get(address(select(agent, []))).status_code == 200


def test_a_long_group_names_ten_and_shows_two_hundred_at_most(agent, agent_client):
    account = factories.make_account()
    batches = factories.make_batches(account=account, n=205, items=0)
    response = agent_client.get(address(select(agent, batches)))
    (group,) = response.context["groups"]
    assert (len(group["first"]), len(group["rest"]), group["unlisted"]) == (10, 190, 5)
    assert "And 5 more for the same reason." in response.content.decode()


@pytest.mark.parametrize("kind", KINDS)
def test_a_selection_is_its_makers_alone(agent, second_agent, manager, manager_client, second_agent_client, kind):
    case = factories.case_unlocked(agent)
    selection = select(agent, case.batches)
    for client in (manager_client, second_agent_client):
        expected = 403 if kind == "relock" and client is second_agent_client else 404
        assert client.get(address(selection, kind)).status_code == expected
        assert client.post(address(selection, kind), {"key": uuid.uuid4(), "why": "x"}).status_code == expected
    assert statuses(case.batches) == ["unlocked"] * 2


@pytest.mark.parametrize("kind", KINDS)
def test_an_auditor_does_no_act(agent, auditor, auditor_client, kind):
    case = factories.case_unlocked(agent)
    selection = select(auditor, case.batches)
    assert auditor_client.get(address(selection, kind)).status_code == 403
    assert auditor_client.post(address(selection, kind), {"key": uuid.uuid4(), "why": "x"}).status_code == 403
    assert statuses(case.batches) == ["unlocked"] * 2


def test_an_agent_does_not_lock_again(agent, agent_client):
    case = factories.case_unlocked(agent)
    assert confirm(agent_client, select(agent, case.batches), "relock", why="x").status_code == 403
    assert statuses(case.batches) == ["unlocked"] * 2


def test_unknown_selections_and_acts_are_not_found(agent, agent_client):
    selection = select(agent, [factories.make_batch()])
    assert agent_client.get(address(selection, "delete")).status_code == 404
    assert agent_client.get(f"/desk/selection/{uuid.uuid4()}/unlock/").status_code == 404
    assert agent_client.get(f"/desk/unlocks/act/{uuid.uuid4()}/change/").status_code == 404


# The act


def test_unlocking_does_what_was_shown_and_reports_each(agent, agent_client):
    case = factories.case_consented(agent, batches=factories.make_batches(n=3))
    changed(case.batch)
    stranger = factories.make_batch()
    response = confirm(agent_client, select(agent, [*case.batches, stranger]))
    act = Act.objects.get()
    assert response.url == reverse("admin:unlocks_act_change", args=[act.pk])
    assert statuses([*case.batches, stranger]) == ["bypassed", "unlocked", "unlocked", "bypassed"]
    report = agent_client.get(response.url)
    page = report.content.decode()
    assert "2 batches were unlocked." in page
    assert "2 were refused and stayed as they were." in page
    assert [(code, n) for code, _, n in report.context["groups"]] == [("changed", 1), ("not_requested", 1)]
    for batch in [*case.batches, stranger]:
        assert batch.number in page
    assert f'href="{case.unlock_request.get_absolute_url()}"' in page


def test_the_report_says_until_when_and_what_to_tell_the_customer(agent, agent_client):
    case = factories.case_consented(agent)
    address_of_report = confirm(agent_client, select(agent, case.batches)).url
    until = moment(case.refresh().batch.unlocked_until)
    page = " ".join(agent_client.get(address_of_report).content.decode().split())
    assert f"They stay unlocked until <b>{until}</b>. Tell the customer to edit and export before then" in page
    operations.mark_re_exported(case.rows.filter(pk=case.batch.pk), by=factories.acting(agent))
    assert f"1 still stays unlocked until <b>{until}</b>." in agent_client.get(address_of_report).content.decode()
    operations.mark_re_exported(case.rows, by=factories.acting(agent))
    assert "unlocked until" not in agent_client.get(address_of_report).content.decode()


def test_the_second_submit_finds_the_report_of_the_first(agent, agent_client):
    case = factories.case_consented(agent)
    selection = select(agent, case.batches)
    key = agent_client.get(address(selection)).context["form"]["key"].value()
    first = agent_client.post(address(selection), {"key": key})
    second = agent_client.post(address(selection), {"key": key})
    back = agent_client.get(address(selection))
    assert first.url == second.url == back.url
    assert "This was already done on" in agent_client.get(second.url).content.decode()
    assert Act.objects.count() == 1
    assert [batch.history.filter(status="unlocked").count() for batch in case.batches] == [1, 1]


def test_two_people_with_the_same_batches_get_one_unlock(agent, agent_client, second_agent, second_agent_client):
    case = factories.case_consented(agent)
    mine, theirs = select(agent, case.batches), select(second_agent, case.batches)
    shown = second_agent_client.get(address(theirs))
    assert shown.context["ready"]["n"] == 2
    confirm(agent_client, mine)
    response = second_agent_client.post(address(theirs), {"key": shown.context["form"]["key"].value()})
    page = second_agent_client.get(response.url).content.decode()
    assert "No batch was unlocked." in page
    assert "Already unlocked, until" in page
    assert [batch.history.filter(status="unlocked").count() for batch in case.batches] == [1, 1]


def test_somebody_elses_key_is_refused(agent, second_agent, agent_client, second_agent_client):
    case = factories.case_consented(agent)
    confirm(agent_client, select(agent, case.batches))
    theirs = select(second_agent, case.batches)
    assert second_agent_client.post(address(theirs), {"key": Act.objects.get().pk}).status_code == 403


@pytest.mark.parametrize("key", ["", "x", "1234"])
def test_a_wrong_key_does_nothing(agent, agent_client, key):
    case = factories.case_consented(agent)
    selection = select(agent, case.batches)
    assert agent_client.post(address(selection), {"key": key}).status_code == 422
    assert statuses(case.batches) == ["bypassed"] * 2


def test_locking_again_needs_a_reason(agent, manager, manager_client):
    case = factories.case_unlocked(agent)
    selection = select(manager, case.batches)
    response = confirm(manager_client, selection, "relock", why=" ")
    assert response.status_code == 422
    assert "Give the reason. It stays with the record." in response.content.decode()
    assert statuses(case.batches) == ["unlocked"] * 2
    response = confirm(manager_client, selection, "relock", why="The window is over.")
    assert "2 batches were relocked." in manager_client.get(response.url).content.decode()
    assert statuses(case.batches) == ["bypassed"] * 2
    assert Act.objects.get(kind="relock").why == "The window is over."


def test_marking_as_re_exported(agent, agent_client):
    case = factories.case_unlocked(agent)
    response = confirm(agent_client, select(agent, case.batches), "re_export")
    assert "2 batches were marked as re-exported." in agent_client.get(response.url).content.decode()
    assert statuses(case.batches) == ["exported"] * 2


def test_a_refused_verb_is_said_on_the_preview(monkeypatch, agent, agent_client):
    case = factories.case_consented(agent)
    monkeypatch.setattr("unlocks.database.guards.missing", lambda *args: ["unlocks_guard_batch"])
    response = confirm(agent_client, select(agent, case.batches))
    assert response.status_code == 422
    assert "Nothing was unlocked: the database&#x27;s guards are missing" in response.content.decode()
    assert statuses(case.batches) == ["bypassed"] * 2


# The report


def test_the_report_is_its_makers_and_of_who_may_see_acts(agent, agent_client, auditor_client, client):
    case = factories.case_consented(agent)
    act = factories.unlock(case.rows, by=factories.acting(agent))
    report = reverse("admin:unlocks_act_change", args=[act.pk])
    nobody = factories.make_user("nobody-yet")
    assert client.get(report).status_code == 302
    client.force_login(nobody)
    assert client.get(report).status_code == 403
    for allowed in (agent_client, auditor_client):
        assert allowed.get(report).status_code == 200
    assert auditor_client.get(f"/desk/unlocks/act/{act.pk}/").url == report
    assert "Unlock" in auditor_client.get("/desk/unlocks/act/").content.decode()


def test_the_report_is_paged_and_filtered(agent, agent_client):
    case = factories.case_consented(agent, batches=factories.make_batches(n=101))
    changed(case.batch)
    act = factories.unlock(case.rows, by=factories.acting(agent))
    report = reverse("admin:unlocks_act_change", args=[act.pk])
    assert len(agent_client.get(report).context["page"].object_list) == 100
    assert len(agent_client.get(report, {"page": "2"}).context["page"].object_list) == 1
    refused = agent_client.get(report, {"only": "changed"})
    assert [verdict.batch_id for verdict in refused.context["page"].object_list] == [case.batch.pk]
    assert len(agent_client.get(report, {"only": "done", "page": "x"}).context["page"].object_list) == 100
    assert agent_client.get(report, {"only": "nonsense"}).context["page"].paginator.count == 101


def test_preview_and_report_cost_the_same_for_one_batch_and_for_thirty(agent, agent_client, django_assert_num_queries):
    def prepared(n):
        case = factories.case_consented(agent, batches=factories.make_batches(n=2 * n))
        for batch in case.batches[:n]:
            changed(batch)
        return select(agent, case.batches)

    small, large = prepared(1), prepared(30)
    agent_client.get(address(small))
    with CaptureQueriesContext(connection) as counted:
        agent_client.get(address(small))
    with django_assert_num_queries(len(counted)):
        page = agent_client.get(address(large))
    assert page.context["ready"]["n"] == 30
    reports = [confirm(agent_client, selection).url for selection in (small, large)]
    with CaptureQueriesContext(connection) as counted:
        agent_client.get(reports[0])
    with django_assert_num_queries(len(counted)):
        agent_client.get(reports[1])


# The request list and its actions


def act_on(client, action, cases, **more):
    keys = [case.unlock_request.pk for case in cases]
    return client.post(REQUESTS, {"action": action, "_selected_action": keys, **more})


def listed(client, **query):
    return [case.pk for case in client.get(REQUESTS, query).context["cl"].result_list]


def test_the_batches_of_selected_requests_are_unlocked(agent, agent_client):
    ready, asked = factories.case_consented(agent), factories.case_awaiting(agent)
    left_alone = factories.case_consented(agent)
    response = act_on(agent_client, "unlock_their_batches", [ready, asked])
    preview = agent_client.get(response.url)
    assert preview.context["ready"]["n"] == 2
    assert [(group["refusal"], group["n"]) for group in preview.context["groups"]] == [("awaiting_customer", 2)]
    agent_client.post(response.url, {"key": preview.context["form"]["key"].value()})
    assert statuses(ready.batches + asked.batches) == ["unlocked"] * 2 + ["bypassed"] * 2
    assert statuses(left_alone.batches) == ["bypassed"] * 2


def test_all_that_match_are_taken_across_pages(agent, agent_client):
    cases = [factories.case_consented(agent, batches=factories.make_batches(n=1)) for _ in range(2)]
    response = act_on(agent_client, "unlock_their_batches", cases[:1], select_across="1", index="0")
    assert agent_client.get(response.url).context["ready"]["n"] == 2


def test_selected_requests_are_taken(agent, second_agent, second_agent_client):
    mine, closed = factories.open_case(agent), factories.open_case(agent)
    operations.close_request(closed.unlock_request, resolution="canceled", why="No.", by=factories.acting(agent))
    response = act_on(second_agent_client, "take", [mine, closed])
    page = second_agent_client.get(response.url).content.decode()
    assert f"Yours now: {mine.unlock_request}." in page
    assert f"{closed.unlock_request} is closed and can no longer be changed." in page
    assert (mine.refresh().unlock_request.assignee, closed.refresh().unlock_request.assignee) == (second_agent, agent)


def test_an_auditor_has_no_actions(auditor_client, agent):
    case = factories.case_consented(agent)
    for action in ("unlock_their_batches", "take", "delete_selected"):
        act_on(auditor_client, action, [case])
    assert statuses(case.batches) == ["bypassed"] * 2
    assert case.refresh().unlock_request.assignee == agent
    assert 'name="action"' not in auditor_client.get(REQUESTS).content.decode()


def test_the_list_is_filtered_in_one_click(agent, second_agent, agent_client):
    opened, theirs = factories.open_case(agent), factories.open_case(second_agent)
    asked, ready = factories.case_awaiting(second_agent), factories.case_consented(second_agent)
    unlocked, closed = factories.case_unlocked(second_agent), factories.open_case(agent)
    operations.close_request(closed.unlock_request, resolution="canceled", why="No.", by=factories.acting(agent))
    assert listed(agent_client, show="mine") == [opened.unlock_request.pk]
    assert listed(agent_client, show="waiting") == [asked.unlock_request.pk]
    assert listed(agent_client, show="ready") == [ready.unlock_request.pk]
    assert listed(agent_client, show="unlocked") == [unlocked.unlock_request.pk]
    assert listed(agent_client, show="closed") == [closed.unlock_request.pk]
    everything = [case.unlock_request.pk for case in (closed, unlocked, ready, asked, theirs, opened)]
    assert listed(agent_client) == everything


def test_the_list_is_searched(agent, agent_client):
    cases = [factories.open_case(agent) for _ in range(3)]
    wanted = cases[1]
    for term in (
        wanted.unlock_request.reference,
        wanted.unlock_request.reference.lower(),
        str(wanted.unlock_request.pk),
        wanted.account.number,
        wanted.batches[1].number,
        f"  {wanted.unlock_request.reference} ",
    ):
        assert wanted.unlock_request.pk in listed(agent_client, q=term)
    assert listed(agent_client, q=wanted.account.number) == [wanted.unlock_request.pk]
    for term in ("UR-999999", "'; --", "%", "9" * 60):
        assert listed(agent_client, q=term) == []


def test_the_list_shows_each_request_with_its_sum_and_time(agent, agent_client):
    case = factories.open_case(agent, batches=factories.make_batches(n=2, items=5))
    page = agent_client.get(REQUESTS).content.decode()
    assert "$3,000.00" in page
    assert "just now" in page
    assert f"{case.unlock_request.opened_at.astimezone():%Y}" in page
    assert "My open requests" in page


def test_the_list_costs_the_same_for_one_request_and_for_thirty(agent, agent_client, django_assert_num_queries):
    factories.open_case(agent)
    agent_client.get(REQUESTS)
    with CaptureQueriesContext(connection) as counted:
        agent_client.get(REQUESTS)
    for _ in range(29):
        factories.open_case(agent, batches=factories.make_batches(n=1))
    with django_assert_num_queries(len(counted)):
        agent_client.get(REQUESTS)
    assert UnlockRequest.objects.count() == 30
