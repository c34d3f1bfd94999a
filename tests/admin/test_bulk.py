"""Bulk actions: the preview judges the very set that the act then takes, once, and the report names every batch."""

import re
import uuid
from datetime import timedelta
from html import unescape

import pytest
from django.contrib.auth.models import Group
from django.db import connection
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from tests import factories
from unlocks import history, operations
from unlocks.actors import Actor
from unlocks.admin.lists import freeze
from unlocks.models import Act, Batch, LedgerEntry, OrderedAct, Selection, UnlockRequest
from unlocks.operations.ordered import carry_out_ordered
from unlocks.outbox import heartbeat
from unlocks.texts.formats import moment

KINDS = list(operations.ACTIONS)

REQUESTS = "/desk/unlocks/unlockrequest/"


@pytest.fixture(autouse=True)
def by_webhook(settings):
    settings.PRODUCT = "webhook"


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


# Too big to wait for


def test_above_a_set_size_the_worker_does_it_and_the_page_follows(agent, agent_client, second_agent_client, settings):
    settings.BULK_IN_WORKER = 2
    case = factories.case_consented(agent, batches=factories.make_batches(n=3))
    selection = select(agent, case.batches)
    page = confirm(agent_client, selection)
    waiting = agent_client.get(page.url)
    assert "No worker runs, so nothing is done now." in waiting.content.decode()
    assert " · 3 batches</p>" in waiting.content.decode()
    assert (statuses(case.batches), Act.objects.count()) == (["bypassed"] * 3, 0)
    assert agent_client.get(page.url, {"stamp": "queued-0"}).status_code == 204
    assert agent_client.get(address(selection)).url == page.url
    assert second_agent_client.get("/desk/unlocks/act/none/change/").status_code == 404
    Selection.objects.update(made_at=timezone.now() - timedelta(days=3))
    select(agent, [])
    assert carry_out_ordered() == 1
    report = agent_client.get(page.url, {"stamp": "queued-0"})
    assert (report.status_code, report.context["done"]) == (200, 3)
    assert statuses(case.batches) == ["unlocking"] * 3


def test_what_the_worker_was_refused_is_said_once_and_is_followed_no_longer(agent, agent_client, settings):
    settings.BULK_IN_WORKER = 2
    case = factories.case_consented(agent, batches=factories.make_batches(n=3))
    page = confirm(agent_client, select(agent, case.batches)).url
    agent.groups.clear()
    assert carry_out_ordered() == 1
    agent.groups.add(Group.objects.get(name="Agent"))
    refused = agent_client.get(page).content.decode()
    said = "agent may not do this any more. Someone who may has to choose the batches again."
    assert f"<b>Nothing was done.</b> {said}" in refused
    assert (" · 3 batches</p>" in refused, "Refresh" in refused, "live.js" in refused) == (True, False, False)
    assert statuses(case.batches) == ["bypassed"] * 3


def test_what_waits_for_the_worker_is_shown_to_who_ordered_it_and_canceled(
    agent, agent_client, second_agent_client, manager_client, settings
):
    settings.BULK_IN_WORKER = 1
    case, other = factories.case_consented(agent), factories.case_consented(agent)
    pages = [confirm(agent_client, select(agent, one.batches)).url for one in (case, other)]
    for place in ("/desk/", "/desk/unlocks/batch/"):
        shown = agent_client.get(place).content.decode()
        assert "2 bulk actions of yours wait for the worker:" in shown
        assert all(f'<a href="{page}">Unlock, ordered ' in shown for page in pages)
        assert "for the worker" not in second_agent_client.get(place).content.decode()
    cancel = [page.replace("change", "cancel") for page in pages]
    assert f'action="{cancel[0]}"' in agent_client.get(pages[0]).content.decode()
    assert f'action="{cancel[0]}"' not in second_agent_client.get(pages[0]).content.decode()
    assert second_agent_client.post(cancel[0]).status_code == 403
    assert agent_client.get(cancel[0]).status_code == 405
    for client, way, page, who in zip((agent_client, manager_client), cancel, pages, ("agent", "manager"), strict=True):
        assert client.post(way).url == page
        said = client.get(page).content.decode()
        assert f"<b>Nothing was done.</b> {who} canceled it. To do it after all, choose the batches again." in said
    assert carry_out_ordered() == 0
    assert (statuses(case.batches + other.batches), Act.objects.count()) == (["bypassed"] * 4, 0)
    assert "for the worker" not in agent_client.get("/desk/").content.decode()


def test_what_the_database_broke_off_says_so_and_that_it_is_tried_again(agent, agent_client, settings):
    settings.BULK_IN_WORKER = 1
    page = confirm(agent_client, select(agent, factories.case_consented(agent).batches)).url
    heartbeat.beat("worker")
    assert "The worker does it to all of them at once" in agent_client.get(page).content.decode()
    OrderedAct.objects.update(tries=1)
    shown = agent_client.get(page, {"stamp": "queued-0"}).content.decode()
    assert "<b>Nothing was done yet: the database broke off the last try.</b> The worker tries again after " in shown


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
    assert "The product will be asked to unlock 2 batches, $200.00." in page
    assert "Exported on May 3, 2026. Support can&#x27;t unlock exported batches." in page
    assert statuses(case.batches) == ["bypassed"] * 3
    assert (LedgerEntry.objects.count(), Act.objects.count()) == (before, 0)


def test_the_preview_leads_back_to_the_one_request_that_it_is_about(agent, agent_client):
    case, other = factories.case_consented(agent), factories.case_consented(agent)
    back = f'/ <a href="{case.unlock_request.get_absolute_url()}">{case.unlock_request}</a>'
    assert back in agent_client.get(address(select(agent, case.batches))).content.decode()
    assert back not in agent_client.get(address(select(agent, case.batches + other.batches))).content.decode()


def test_nothing_to_do_has_no_button(agent, agent_client):
    batch = factories.make_batch()
    page = agent_client.get(address(select(agent, [batch])))
    assert "No batch can be unlocked." in page.content.decode()
    assert 'class="btn main"' not in page.content.decode()
    assert agent_client.get(address(select(agent, []))).status_code == 200


def test_a_long_group_names_ten_and_shows_a_hundred_at_most(agent, agent_client):
    account = factories.make_account()
    batches = factories.make_batches(account=account, n=205, items=0)
    response = agent_client.get(address(select(agent, batches)))
    (group,) = response.context["groups"]
    assert (len(group["first"]), len(group["rest"]), group["unlisted"]) == (10, 90, 105)
    assert "And 105 more for the same reason." in response.content.decode()


@pytest.mark.parametrize("kind", KINDS)
def test_a_selection_is_its_makers_alone(agent, second_agent, manager, manager_client, second_agent_client, kind):
    case = factories.case_unlocked(agent)
    selection = select(agent, case.batches)
    for client in (manager_client, second_agent_client):
        assert client.get(address(selection, kind)).status_code == 404
        assert client.post(address(selection, kind), {"key": uuid.uuid4(), "why": "x"}).status_code == 404
    assert statuses(case.batches) == ["unlocked"] * 2


@pytest.mark.parametrize("kind", KINDS)
def test_an_auditor_does_no_act(agent, auditor, auditor_client, kind):
    case = factories.case_unlocked(agent)
    selection = select(auditor, case.batches)
    assert auditor_client.get(address(selection, kind)).status_code == 403
    assert auditor_client.post(address(selection, kind), {"key": uuid.uuid4(), "why": "x"}).status_code == 403
    assert statuses(case.batches) == ["unlocked"] * 2


def test_unknown_selections_and_acts_are_not_found(agent, agent_client):
    selection = select(agent, [factories.make_batch()])
    for kind in ("delete", "unlocked", "refused", "relocked"):
        assert agent_client.get(address(selection, kind)).status_code == 404, kind
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
    assert statuses([*case.batches, stranger]) == ["bypassed", "unlocking", "unlocking", "bypassed"]
    report = agent_client.get(response.url)
    page = report.content.decode()
    assert "2 batches: their unlock was instructed." in page
    assert "2 were refused and stayed as they were." in page
    assert [(code, n) for code, _, n in report.context["groups"]] == [("changed", 1), ("not_requested", 1)]
    for batch in [*case.batches, stranger]:
        assert batch.number in page
    assert f'href="{case.unlock_request.get_absolute_url()}"' in page


def said(client, report):
    """Return what a report says first, in one line."""
    page = client.get(report).content.decode()
    callout = page.split('class="callout')[1].split("<p>")[1].split("</p>")[0]
    return " ".join(unescape(re.sub(r"<[^>]+>", "", callout)).split())


def test_the_report_follows_what_became_of_what_was_asked(agent, manager, agent_client):
    case = factories.case_consented(agent, batches=factories.make_batches(n=3))
    report = confirm(agent_client, select(agent, case.batches)).url
    asked, end = "3 batches: their unlock was instructed.", f"{case.unlock_request} {case.account.name}"
    assert said(agent_client, report) == f"{asked} 3 wait for an answer. {end}"
    first, second, third = factories.hand_over()
    factories.answer([first], "done")
    until = moment(case.refresh().batch.unlocked_until)
    tell = (
        "Tell the customer to edit and export before then: auto-batching may put invoices into new batches within "
        "seconds."
    )
    assert said(agent_client, report) == (
        f"{asked} 2 wait for an answer; 1 is unlocked now, until {until}. {tell} {end}"
    )
    factories.answer([second], "refused", "Exported meanwhile.")
    factories.answer([third], "unknown", "Timeout")
    assert said(agent_client, report) == (
        f"{asked} 1 waits for an answer; 1 is unlocked now, until {until}; 1 was refused by the product. {tell} {end}"
    )
    page = agent_client.get(report).content.decode()
    assert re.findall(r"now: ([a-z ]+)<", page) == ["unlocked", "refused by the product", "unlocking"]
    factories.answer([third], "done")
    operations.mark_re_exported(case.rows.filter(pk=first.batch_id), by=factories.acting(agent))
    operations.relock(case.rows.filter(pk=third.batch_id), why="Asked.", by=factories.acting(manager))
    assert said(agent_client, report) == (
        f"{asked} 1 waits to be relocked; 1 is re-exported; 1 was refused by the product. {end}"
    )


def test_what_the_product_answered_is_reported_too(agent, agent_client, settings):
    settings.VENDOR_NAME = "Acme"
    case = factories.case_unlocking(agent)
    done, refused = factories.hand_over()
    factories.answer([done], "done", "P-1")
    factories.answer([refused], "refused", "Exported meanwhile.")
    end = f"{case.unlock_request} {case.account.name}"
    reports = {act.kind: reverse("admin:unlocks_act_change", args=[act.pk]) for act in Act.objects.filter(by=None)}
    assert said(agent_client, reports["refused"]) == f"The product refused to unlock 1 batch. {end}"
    assert said(agent_client, reports["unlocked"]).startswith("1 batch was unlocked. 1 is unlocked now, until ")
    shown = " ".join(agent_client.get(reports["refused"]).content.decode().split())
    assert "<h1>Refused by the product: 1 batch</h1>" in shown
    assert "· Exported meanwhile.</p>" in shown
    assert ">Acme, " in shown
    log = agent_client.get("/desk/unlocks/act/").content.decode()
    assert [">Refused by the product<" in log, ">Unlocked<" in log, ">Acme<" in log] == [True] * 3


def test_by_hand_it_is_said_that_someone_does_it(agent, manager, agent_client, manager_client, settings):
    settings.PRODUCT = "by_hand"
    case = factories.case_consented(agent)
    selection = select(agent, case.batches)
    shown, on_list = agent_client.get(address(selection)).context, "2 batches, $200.00, will go on the list"
    assert (shown["will"], shown["then"]) == (
        f"{on_list} “To do in ServiceTitan”.",
        "Someone on staff unlocks them there. The window for the customer to edit and export starts then. "
        "At its end they go on the list to be relocked.",
    )
    asked = "2 batches: staff were asked to unlock them in ServiceTitan. 2 wait for an answer."
    assert said(agent_client, confirm(agent_client, selection).url).startswith(asked)
    factories.carry_out()
    selection = select(manager, case.batches)
    shown = manager_client.get(address(selection, "relock")).context
    assert (shown["will"], shown["then"]) == (
        f"{on_list} “To do in ServiceTitan”.",
        "Someone on staff locks them there.",
    )
    report = confirm(manager_client, selection, "relock", why="Asked.").url
    assert said(manager_client, report).startswith("2 batches: staff were asked to lock them in ServiceTitan.")


def test_the_preview_says_when_the_window_starts(agent, agent_client):
    case = factories.case_consented(agent)
    selection = select(agent, case.batches)
    shown = agent_client.get(address(selection)).context
    assert shown["then"] == (
        "The window for the customer to edit and export starts when it says that they are unlocked. "
        "At its end they are relocked by themselves."
    )
    field = shown["form"]["hours"]
    offered = [(1, "1 hour"), (4, "4 hours"), (24, "24 hours"), (72, "3 days")]
    assert (field.field.choices, field.initial) == (offered, 24)
    assert confirm(agent_client, selection, hours="500").status_code == 422
    assert statuses(case.batches) == ["bypassed"] * 2
    confirm(agent_client, selection, hours="4")
    assert Act.objects.get(kind="unlock").hours == 4


def test_an_unlock_is_canceled_before_the_product_is_asked(agent, agent_client):
    case = factories.case_unlocking(agent, batches=factories.make_batches(n=3))
    sent = operations.hand_over([case.batches[0].instructions.get()], by=Actor.desk()).sent
    assert len(sent) == 1
    selection = select(agent, case.batches)
    shown = agent_client.get(address(selection, "cancel"))
    assert (shown.context["ready"]["n"], [g["refusal"] for g in shown.context["groups"]]) == (2, ["handed_over"])
    assert "The product will not be asked to unlock 2 batches, $200.00." in shown.content.decode()
    assert confirm(agent_client, selection, "cancel", why=" ").status_code == 422
    response = confirm(agent_client, selection, "cancel", why="The customer called.")
    assert said(agent_client, response.url).startswith(
        "2 batches: their unlock was canceled before the product was asked. 1 was refused and stayed as it was."
    )
    assert statuses(case.batches) == ["unlocking", "bypassed", "bypassed"]


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
    assert [batch.history.filter(status="unlocking").count() for batch in case.batches] == [1, 1]


def test_two_people_with_the_same_batches_get_one_unlock(agent, agent_client, second_agent, second_agent_client):
    case = factories.case_consented(agent)
    mine, theirs = select(agent, case.batches), select(second_agent, case.batches)
    shown = second_agent_client.get(address(theirs))
    assert shown.context["ready"]["n"] == 2
    confirm(agent_client, mine)
    response = second_agent_client.post(address(theirs), {"key": shown.context["form"]["key"].value()})
    page = second_agent_client.get(response.url).content.decode()
    assert "Nothing was done." in page
    assert "Being unlocked. The product has not answered yet." in page
    assert [batch.history.filter(status="unlocking").count() for batch in case.batches] == [1, 1]


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
    report = response.url
    assert said(manager_client, report).startswith("2 batches: their relock was instructed. 2 wait to be relocked.")
    assert statuses(case.batches) == ["relocking"] * 2
    factories.carry_out()
    assert said(manager_client, report).startswith("2 batches: their relock was instructed. 2 are relocked.")
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
    assert statuses(ready.batches + asked.batches) == ["unlocking"] * 2 + ["bypassed"] * 2
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


def test_an_auditor_has_no_action_that_changes_anything(auditor_client, agent):
    case = factories.case_consented(agent)
    for action in ("unlock_their_batches", "take", "delete_selected"):
        act_on(auditor_client, action, [case])
    assert statuses(case.batches) == ["bypassed"] * 2
    assert case.refresh().unlock_request.assignee == agent
    page = auditor_client.get(REQUESTS).content.decode()
    assert [action for action in ("unlock_their_batches", "take", "case_files") if f'"{action}"' in page] == [
        "case_files"
    ]


def test_the_list_is_filtered_in_one_click(agent, second_agent, agent_client):
    opened, theirs = factories.open_case(agent), factories.open_case(second_agent)
    asked, ready = factories.case_awaiting(second_agent), factories.case_consented(second_agent)
    unlocked, closed = factories.case_unlocked(second_agent), factories.open_case(agent)
    operations.close_request(closed.unlock_request, resolution="canceled", why="No.", by=factories.acting(agent))
    refused = factories.case_unlocking(second_agent)
    factories.carry_out(refuse="Exported meanwhile.")
    exported = factories.case_unlocked(second_agent)
    operations.mark_re_exported(exported.rows, by=factories.acting(agent))
    unlocking = factories.case_unlocking(second_agent)
    shown = {
        "mine": [opened],
        "waiting": [asked],
        "ready": [ready],
        "new": [theirs, opened],
        "under_way": [unlocking],
        "overdue": [],
        "act_now": [],
        "unlocked": [unlocked],
        "to_close": [refused],
        "closed": [exported, closed],
    }
    assert {show: listed(agent_client, show=show) for show in shown} == {
        show: [case.unlock_request.pk for case in cases] for show, cases in shown.items()
    }
    everything = [unlocking, exported, refused, closed, unlocked, ready, asked, theirs, opened]
    assert listed(agent_client) == [case.unlock_request.pk for case in everything]


def test_a_request_is_ready_while_batches_of_it_wait(agent, agent_client):
    case = factories.case_consented(agent, batches=factories.make_batches(n=3))
    key = case.unlock_request.pk

    def shown():
        return [
            show for show in ("ready", "under_way", "unlocked", "to_close") if key in listed(agent_client, show=show)
        ]

    by = factories.acting(agent)
    assert shown() == ["ready"]
    operations.unlock(case.rows.filter(pk=case.batches[0].pk), by=by)
    assert shown() == ["under_way"]
    factories.carry_out()
    assert shown() == ["unlocked"]
    operations.mark_re_exported(case.rows.filter(pk=case.batches[0].pk), by=by)
    assert shown() == ["ready"]
    operations.unlock(case.rows, by=by)
    assert shown() == ["under_way"]
    factories.carry_out()
    operations.mark_re_exported(case.rows, by=by)
    assert shown() == []


@pytest.mark.parametrize("held_up", ["late", "given_up", "relock_refused"])
def test_what_the_product_holds_up_is_shown(agent, manager, agent_client, time_machine, held_up):
    case = factories.case_unlocking(agent)
    if held_up == "late":
        factories.hand_over()
        time_machine.move_to(timezone.now() + timedelta(minutes=15, seconds=1))
    elif held_up == "given_up":
        factories.answer(factories.hand_over(), "stopped", "410 Gone")
    else:
        factories.carry_out()
        operations.relock(case.rows, why="Asked.", by=factories.acting(manager))
        factories.answer(factories.hand_over(), "refused", "Someone has it open.")
    fresh = factories.case_unlocking(agent)
    section = "overdue" if held_up == "late" else "act_now"
    assert listed(agent_client, show=section) == [case.unlock_request.pk]
    assert listed(agent_client, show="under_way") == [fresh.unlock_request.pk]


def test_the_list_calls_a_request_unlocked_only_while_it_is(agent, manager, agent_client):
    case = factories.case_consented(agent, batches=factories.make_batches(n=3))

    def tags():
        page = agent_client.get(REQUESTS).content.decode()
        return re.findall(
            r'<span class="tag[^>]*>([^<]+)</span>', page.split('class="field-status_tag')[1].split("</td>")[0]
        )

    def in_words(of):
        page = agent_client.get(f"/desk/unlocks/{of._meta.model_name}/{of.pk}/change/").content.decode()
        return re.search(r'data-label="Status">([^<]*)<', page.split('id="requests"')[1])[1].strip()

    steps = [tags()]
    operations.unlock(case.rows.exclude(pk=case.batches[2].pk), by=factories.acting(agent))
    steps.append(tags())
    first, second = factories.hand_over()
    factories.answer([first], "done")
    steps.append(tags())
    factories.answer([second], "refused", "Exported.")
    steps.append(tags())
    operations.relock(case.rows, why="Asked.", by=factories.acting(manager))
    steps.append(tags())
    assert [in_words(case.batch), in_words(case.account)] == ["Relocking, refused by the product"] * 2
    factories.carry_out()
    steps.append(tags())
    assert steps == [
        ["Customer agreed"],
        ["Customer agreed", "Unlocking"],
        ["Unlocked", "Unlocking"],
        ["Unlocked", "Refused by the product"],
        ["Relocking", "Refused by the product"],
        ["No longer unlocked", "Refused by the product"],
    ]


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
