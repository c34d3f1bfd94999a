"""Case files: one from the request page, several from the list of requests."""

import io
import re
from zipfile import ZipFile

import pytest
from django.contrib.messages import get_messages
from django.utils import timezone

from tests import factories
from unlocks.models import CaseFiles, LedgerEntry
from unlocks.operations import several_case_files
from unlocks.outbox import heartbeat, worker

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("case_file_place")]


@pytest.fixture
def case(agent):
    return factories.case_awaiting(agent)


def address(case):
    return f"{case.unlock_request.get_absolute_url().removesuffix('change/')}case-file/"


@pytest.mark.parametrize(("role", "offered"), [("agent", 0), ("manager", 1), ("auditor", 1), ("superuser", 1)])
def test_it_is_offered_to_those_who_may_have_it(request, case, role, offered):
    page = request.getfixturevalue(f"{role}_client").get(case.unlock_request.get_absolute_url()).content.decode()
    assert page.count(f'action="{address(case)}"') == offered
    assert page.count("Case file (ZIP)") == offered


def test_it_is_sent_as_a_zip_once_that_is_on_record(auditor_client, auditor, case):
    factories.record_certificate_key()
    response = auditor_client.post(address(case))
    newest = LedgerEntry.objects.latest("sequence")
    assert (newest.kind, newest.user, newest.unlock_request) == ("case_file_made", auditor, case.unlock_request)
    assert (response.status_code, response["Content-Type"], response["Content-Disposition"]) == (
        200,
        "application/zip",
        f'attachment; filename="{case.unlock_request}-case-file.zip"',
    )
    with ZipFile(io.BytesIO(response.getvalue())) as archive:
        assert archive.testzip() is None
        assert f"{case.unlock_request}/README.txt" in archive.namelist()


def test_only_a_post_takes_it_and_not_for_agents(agent_client, manager_client, case):
    factories.record_certificate_key()
    before = LedgerEntry.objects.count()
    assert manager_client.get(address(case)).status_code == 405
    assert agent_client.post(address(case)).status_code == 403
    assert manager_client.post(address(case).replace(str(case.unlock_request.pk), "9" * 30)).status_code == 404
    assert LedgerEntry.objects.count() == before


def test_without_a_key_the_page_says_what_is_wrong(manager_client, case):
    before = LedgerEntry.objects.count()
    response = manager_client.post(address(case))
    assert (response.status_code, response.url) == (302, case.unlock_request.get_absolute_url())
    [message] = get_messages(response.wsgi_request)
    assert str(message).startswith("No case file was made. No certificate can be signed")
    assert LedgerEntry.objects.count() == before


# --- Several ---------------------------------------------------------------------------------------------------------

REQUESTS, ORDERS = "/desk/unlocks/unlockrequest/", "/desk/unlocks/casefiles/"


def order(client, cases, query="", **more):
    picked = [case.unlock_request.pk for case in cases]
    return client.post(f"{REQUESTS}{query}", {"action": "case_files", "_selected_action": picked} | more)


def page_of(client, response):
    assert (response.status_code, response.url[: len(ORDERS)]) == (302, ORDERS)
    return client.get(response.url).content.decode()


@pytest.mark.parametrize(("role", "offered"), [("agent", False), ("manager", True), ("auditor", True)])
def test_the_action_is_offered_to_those_who_may(request, case, role, offered):
    client = request.getfixturevalue(f"{role}_client")
    assert ("Case files of selected requests (ZIP)" in client.get(REQUESTS).content.decode()) is offered
    response = order(client, [case])
    assert (response.status_code == 302 and response.url.startswith(ORDERS)) is offered
    assert CaseFiles.objects.count() == offered


def test_those_that_were_ticked_are_made_followed_and_downloaded(manager_client, case, agent):
    factories.record_certificate_key()
    other = factories.open_case(agent)
    response = order(manager_client, [case])
    heartbeat.beat("a worker")
    page = page_of(manager_client, response)
    assert "0 of 1 request done." in page
    assert "Chosen one by one" in page
    assert case.unlock_request.reference in page
    assert other.unlock_request.reference not in page
    stamp = re.search('data-stamp="([^"]+)"', page)[1]
    assert manager_client.get(response.url, {"stamp": stamp}).status_code == 204
    made = CaseFiles.objects.get()
    zip_address = f"{ORDERS}{made.pk}/zip/"
    assert zip_address not in page
    assert manager_client.post(zip_address).status_code == 302
    worker.make_case_files()
    assert manager_client.get(response.url, {"stamp": stamp}).status_code == 200
    page = manager_client.get(response.url).content.decode()
    assert f'action="{zip_address}"' in page
    assert "Case files of 1 request: ready" in page
    assert manager_client.get(zip_address).status_code == 405
    sent = manager_client.post(zip_address)
    assert (sent["Content-Type"], sent["Content-Disposition"]) == (
        "application/zip",
        f'attachment; filename="{made}.zip"',
    )
    assert LedgerEntry.objects.latest("sequence").kind == "case_files_taken"
    with ZipFile(io.BytesIO(b"".join(sent.streaming_content))) as archive:
        assert f"{made}/{case.unlock_request}/manifest.json" in archive.namelist()


def test_all_that_a_filter_leaves_are_ordered_in_its_words(manager_client, case, agent):
    other = factories.open_case(agent)
    query = f"?account={case.account.number}"
    page = page_of(manager_client, order(manager_client, [case], query, select_across="1"))
    made = CaseFiles.objects.get()
    assert (made.requests, made.narrowed) == ([case.unlock_request.pk], [f"Account number: {case.account.number}"])
    assert f"Account number: {case.account.number}" in page
    order(manager_client, [case, other], select_across="1")
    assert CaseFiles.objects.order_by("at").last().narrowed == []


def test_too_many_are_refused_in_a_sentence(manager_client, case, agent, monkeypatch):
    monkeypatch.setattr(several_case_files, "MOST", 1)
    response = order(manager_client, [case, factories.open_case(agent)])
    [message] = get_messages(response.wsgi_request)
    assert str(message).startswith("Nothing was ordered: 1 requests are the most for one ZIP")
    assert not CaseFiles.objects.exists()


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({}, "No worker runs, so nothing is made now."),
        (
            {"answer": "OSError: disk full"},
            "the last try broke off</b> (OSError: disk full). The worker tries again after ",
        ),
        ({"state": "failed", "answer": "It is so."}, "<b>No ZIP was made.</b> It is so."),
        ({"state": "deleted"}, "<b>The ZIP was deleted: it was kept until "),
        ({"state": "made", "size": 5 << 20, "faults": 2}, "2 files on record are missing or damaged."),
        ({"state": "made", "size": 5 << 20}, '<b id="ready">The ZIP is ready: 5.0\xa0MB.</b>'),
    ],
)
def test_the_page_says_how_it_stands(manager_client, case, columns, said):
    response = order(manager_client, [case])
    if "answer" in columns:
        heartbeat.beat("a worker")
    CaseFiles.objects.update(**columns, done_at=timezone.now())
    assert said in page_of(manager_client, response)
    listed = manager_client.get(ORDERS).content.decode()
    assert CaseFiles.objects.get().get_state_display() in listed


def test_an_order_that_waits_is_canceled_on_its_page(manager_client, auditor_client, agent_client, case):
    response = order(manager_client, [case])
    address = f"{ORDERS}{CaseFiles.objects.get().pk}/cancel/"
    assert f'action="{address}"' in page_of(manager_client, response)
    assert address not in page_of(auditor_client, response)
    assert [client.post(address).status_code for client in (auditor_client, agent_client)] == [403, 403]
    assert manager_client.get(address).status_code == 405
    assert manager_client.post(address).url == response.url
    page = page_of(manager_client, response)
    assert "<b>No ZIP was made.</b> manager canceled it. If it is needed after all" in page
    assert address not in page
    assert LedgerEntry.objects.latest("sequence").kind == "case_files_canceled"
    assert CaseFiles.objects.get().keep_until is None
    CaseFiles.objects.update(state="failed", answer="It is so.")
    [message] = get_messages(manager_client.post(address).wsgi_request)
    assert str(message) == "Already recorded as not made."


def test_an_order_that_is_none_is_not_found(manager_client):
    for key in ("nothing", "9" * 30, "00000000-0000-0000-0000-000000000000"):
        assert manager_client.get(f"{ORDERS}{key}/change/").status_code == 404
    for what in ("zip", "cancel"):
        assert manager_client.post(f"{ORDERS}00000000-0000-0000-0000-000000000000/{what}/").status_code == 404
