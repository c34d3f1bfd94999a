"""The queue: each open request stands in exactly one section, by what ends first, and says what it waits for."""

from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest
from django.utils import timezone

from tests import factories, mail_servers
from tests.factories import acting, deliver
from unlocks import operations
from unlocks.admin import queue
from unlocks.models import Instruction, UnlockRequest
from unlocks.texts.formats import lasting, moment

QUEUE = "/desk/queue/"
REQUESTS = "/desk/unlocks/unlockrequest/"


@pytest.fixture(autouse=True)
def by_webhook(settings):
    settings.PRODUCT = "webhook"


def sections(client, **query):
    """Return the requests in each section of the queue, in their order."""
    shown = client.get(QUEUE, query).context["sections"]
    return {section["key"]: [row.pk for row in section["rows"]] for section in shown}


def rows(client, **query):
    return {row.pk: row for section in client.get(QUEUE, query).context["sections"] for row in section["rows"]}


def listed(client, key):
    return {row.pk for row in client.get(REQUESTS, {"show": key}).context["cl"].result_list}


def text(client, address=QUEUE, **query):
    return " ".join(client.get(address, query).content.decode().split())


@pytest.fixture
def scene(agent, second_agent, manager, superuser):
    """Make a request of every kind, by the section that it stands in and what it waits for."""
    made, by = {}, acting(agent)
    with mail_servers.running() as server:
        server.answers["RCPT"] = "550 No such mailbox"
        made["act_now", "Someone to see why an email failed"] = factories.case_awaiting(agent)
        deliver()
    made["act_now", "A new consent link: none works"] = unlinked = factories.case_awaiting(agent)
    operations.revoke_consent_link(unlinked.unlock_request, by=by)
    made["act_now", "Someone to see why ServiceTitan did not do it"] = stuck = factories.case_unlocked(agent)
    operations.relock(stuck.rows, why="Asked", by=acting(manager))
    factories.carry_out(refuse="Someone has it open.")
    made["act_now", "Someone to take it: leaver was deactivated"] = left = factories.open_case(second_agent)
    made["act_now", "Someone to take it"] = nobodys = factories.open_case(second_agent)
    for case, name in ((left, "leaver"), (nobodys, "handing over")):
        leaver = factories.make_user(name, group="Agent")
        operations.assign(case.unlock_request, to=leaver, by=by)
    operations.deactivate(leaver, deactivating(leaver), cases_to=None, by=acting(superuser))
    leaver = left.refresh().unlock_request.assignee
    operations.change_staff(leaver, deactivating(leaver), by=acting(superuser))
    made["new", "A consent link to be sent"] = factories.open_case(agent)
    made["waiting", "The customer to open the link"] = factories.case_awaiting(second_agent)
    made["waiting", "The customer to decide"] = reading = factories.case_awaiting(agent)
    operations.open_consent_link(reading.link, by=factories.customer(reading.admin))
    made["to_close", "Closing"] = done = factories.case_unlocking(agent)
    factories.carry_out(refuse="Exported meanwhile.")
    made["unlocked", "The customer to re-export"] = factories.case_unlocked(agent)
    made["ready", "The unlock"] = factories.case_consented(second_agent)
    made["under_way", "An answer of ServiceTitan"] = factories.case_unlocking(agent)
    closed = factories.open_case(agent)
    operations.close_request(closed.unlock_request, resolution="canceled", why="Asked", by=by)
    assert done.refresh().unlock_request.status == "consented"
    return {kind: case.unlock_request.pk for kind, case in made.items()}


def deactivating(user):
    def write():
        user.is_active = False
        user.save()

    return write


def test_each_open_request_stands_in_exactly_one_section(scene, agent, agent_client, time_machine):
    expected = {key: [] for key in queue.SECTIONS if key != "overdue"}
    for (key, _), pk in scene.items():
        expected[key].append(pk)
    shown = sections(agent_client)
    assert {key: sorted(pks) for key, pks in shown.items()} == {key: sorted(pks) for key, pks in expected.items()}
    assert sorted(pk for pks in shown.values() for pk in pks) == sorted(scene.values())
    assert {pk: row.waits_for for pk, row in rows(agent_client).items()} == {
        pk: words for (_, words), pk in scene.items()
    }
    assert {key: listed(agent_client, key) for key in shown} == {key: {*pks} for key, pks in shown.items()}
    assert factories.kept_stages() == factories.derived_stages()
    # Once all that ends has ended.
    time_machine.move_to(timezone.now() + timedelta(days=4))
    agent_client.force_login(agent)
    shown = sections(agent_client)
    assert [*shown] == ["overdue", "act_now", "new", "to_close"]
    assert sorted(pk for pks in shown.values() for pk in pks) == sorted(scene.values())
    assert {key: listed(agent_client, key) for key in shown} == {key: {*pks} for key, pks in shown.items()}
    deadlines = dict(UnlockRequest.objects.values_list("pk", "due_at"))
    assert shown["overdue"] == sorted(shown["overdue"], key=lambda pk: (deadlines[pk], pk))


def _a_friday():
    """Return 4 PM of the Friday in New York that the guards, which go by their own clock, take for not far from now."""
    soon = timezone.now().astimezone(ZoneInfo("America/New_York")) + timedelta(days=4, minutes=-1)
    friday = (soon - timedelta(days=(soon.weekday() - 4) % 7)).replace(hour=16, minute=0, second=0, microsecond=0)
    return friday if friday <= soon else friday - timedelta(days=7)


def test_a_row_says_what_ends_when_and_how_long_it_took(agent, agent_client, time_machine, settings):
    settings.STAGE_TARGETS = {"ready": timedelta(hours=2)}
    friday = _a_friday()
    time_machine.move_to(friday, tick=False)  # 4 PM
    case = factories.case_consented(agent)
    ends = case.consent.valid_until
    # Monday, 9:30 AM: the desk was closed meanwhile.
    monday = (friday + timedelta(days=3)).replace(hour=9, minute=30)
    time_machine.move_to(monday, tick=False)
    agent_client.force_login(agent)
    row = rows(agent_client)[case.unlock_request.pk]
    assert (row.left, row.ends) == (f"{lasting(ends - monday)} left", f"Consent ends {moment(ends)}")
    assert row.in_stage == ("1 h 30 min of 2 h", False)
    assert (row.batch_count, row.amount) == (2, 200)
    time_machine.move_to(ends + timedelta(hours=3, minutes=10), tick=False)
    agent_client.force_login(agent)
    row = rows(agent_client)[case.unlock_request.pk]
    assert (row.left, row.ends) == ("Overdue by 3 h 10 min", f"Consent ended {moment(ends)}")
    assert (row.waits_for, row.in_stage) == ("A new consent", ("9 h of 2 h", True))
    assert '<span class="tag bad">Overdue by 3 h 10 min</span>' in text(agent_client)
    assert '<span class="tag bad">9 h of 2 h</span>' in text(agent_client, REQUESTS)


def test_the_queue_is_everyones_a_teams_or_ones_own(agent, manager, agent_client, manager_client):
    mine, theirs = factories.open_case(agent).unlock_request, factories.open_case(manager).unlock_request
    factories.make_user("agent-2", group="Agent")
    colleague = factories.open_case(type(agent).objects.get(username="agent-2")).unlock_request
    assert sections(agent_client) == {"new": [mine.pk, theirs.pk, colleague.pk]}
    assert sections(agent_client, whose="team") == {"new": [mine.pk, colleague.pk]}
    assert sections(agent_client, whose="mine") == {"new": [mine.pk]}
    assert sections(manager_client, whose="mine") == {"new": [theirs.pk]}
    assert sections(agent_client, whose="nobody-like-it") == sections(agent_client)
    assert '<a href="?whose=mine" aria-current="true">Mine</a>' in text(agent_client, whose="mine")


def test_who_is_in_a_team_is_read_before_its_requests(agent):
    """In one statement PostgreSQL joins a million requests to find them."""
    theirs = queue.those_of(UnlockRequest.objects.all(), "team", agent)
    assert "auth_user" not in str(theirs.query)


def test_a_section_shows_its_first_and_leads_to_the_rest(agent, agent_client, monkeypatch):
    monkeypatch.setattr(queue, "LISTED", 2)
    cases = [factories.open_case(agent).unlock_request.pk for _ in range(3)]
    assert sections(agent_client) == {"new": cases[:2]}
    assert f'<a href="{REQUESTS}?show=new">All 3 of these</a>' in text(agent_client)
    assert listed(agent_client, "new") == {*cases}


def test_what_the_product_gave_up_is_with_it_again_once_tried_again(agent, manager, agent_client):
    case = factories.case_unlocking(agent)
    factories.answer(factories.hand_over(), "stopped", "410 Gone")
    assert sections(agent_client) == {"act_now": [case.unlock_request.pk]}
    operations.try_again(Instruction.objects.all(), by=acting(agent))
    assert sections(agent_client) == {"under_way": [case.unlock_request.pk]}


def test_a_request_opened_by_a_system_is_nobodys_until_someone_takes_it(agent, superuser, agent_client):
    case = factories.open_case(agent)
    token, _ = factories.make_token("ticket-system", "requests", by=superuser)
    UnlockRequest.objects.filter(pk=case.unlock_request.pk).update(assignee=token.system)
    operations.record_advice(case.unlock_request, advice="wants_export", by=acting(agent))
    assert sections(agent_client) == {"act_now": [case.unlock_request.pk]}
    operations.assign(case.unlock_request, to=agent, by=acting(agent))
    assert sections(agent_client) == {"new": [case.unlock_request.pk]}


def test_the_queue_shows_the_emails_that_failed_until_they_are_followed_up(agent, manager, agent_client):
    """Each kind of email: refused, on the queue, and gone from there once it was sent again."""
    linked, agreed = factories.case_awaiting(agent), factories.case_awaiting(agent)
    deliver()
    factories.agree(agreed)
    account = factories.make_account()
    first = account.contacts.get()

    def again():
        operations.send_consent_link(linked.unlock_request, contact=linked.admin, by=acting(agent))
        operations.resend_receipt(agreed.consent, by=acting(agent))
        operations.issue_pin(account, by=acting(manager))

    def shown():
        failed = [*agent_client.get(QUEUE).context["failed"]["rows"]]
        failed += [row.failed for row in rows(agent_client).values() if row.failed]
        return sorted((email.email, email.address, email.unlock_request_id) for email in failed)

    with mail_servers.running() as server:
        server.answers["RCPT"] = "550 No such mailbox"
        again()
        deliver()
        case = linked.unlock_request.pk
        expected = [
            ("consent_link", linked.admin.email, case),
            ("new_pin", first.email, None),
            ("receipt", agreed.admin.email, agreed.unlock_request.pk),
        ]
        assert shown() == expected
        page = text(agent_client)
        assert "refused by the server" in page
        assert "550 No such mailbox" in page
        again()
        deliver()
        assert shown() == expected
        again()
        server.answers.clear()
        deliver()
    assert shown() == []
    assert "Emails that failed" not in text(agent_client)
    assert sections(agent_client) == {"waiting": [linked.unlock_request.pk], "ready": [agreed.unlock_request.pk]}


def test_a_failed_link_of_a_case_that_no_longer_waits_for_it_is_off_the_queue(agent, agent_client):
    case = factories.case_awaiting(agent)
    with mail_servers.running() as server:
        server.answers["RCPT"] = "550 No such mailbox"
        deliver()
    assert sections(agent_client) == {"act_now": [case.unlock_request.pk]}
    operations.close_request(case.unlock_request, resolution="canceled", why="Asked", by=acting(agent))
    assert (sections(agent_client), len(agent_client.get(QUEUE).context["failed"]["rows"])) == ({}, 0)


def test_an_empty_queue_says_what_to_do(agent_client):
    factories.make_account()
    for query, words in (({}, "No request is open."), ({"whose": "mine"}, "Nothing is assigned to you.")):
        assert words in text(agent_client, **query)
        assert '<a class="btn main" href="/desk/unlocks/unlockrequest/add/">' in text(agent_client, **query)
