"""Workers that are killed, servers that are down, lines that are cut: nothing is lost, and little comes twice.

Real processes and real servers. The quick run takes a sample; `HYPOTHESIS_PROFILE=long` (`make long`) kills at every
step, twenty times each.
"""

import http.client
import os
import socket
import threading
import time
from collections import Counter
from contextlib import ExitStack
from datetime import timedelta
from urllib.parse import urlencode

import pytest
import time_machine
from django.utils import timezone

from tests import factories, mail_servers
from tests.admin.test_request_page import done, page_of, seen_on
from tests.factories import acting
from tests.mail_servers import until
from tests.operations import facts_of
from tests.outbox.processes import DESK, DYING, WORKER, cut, gone, started
from unlocks import operations
from unlocks.ledger import verify
from unlocks.models import LedgerEntry, Outgoing
from unlocks.outbox import rows, worker

pytestmark = pytest.mark.django_db(transaction=True)

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
ROUNDS = 20 if LONG else 1


@pytest.fixture
def server():
    with mail_servers.running() as server:
        yield server


@pytest.fixture(autouse=True)
def nobody_else_stays(transactional_db):
    yield
    gone()


def at_last():
    """Send what waits once the leases of the killed have run out; find each row sent, told once, and nothing amiss."""
    gone()
    with time_machine.travel(timezone.now() + rows.LEASE):
        worker.send_due()
        assert Counter(Outgoing.objects.values_list("state", flat=True)) == {"sent": Outgoing.objects.count()}
        told = [facts_of(entry)["outgoing"] for entry in LedgerEntry.objects.filter(kind="email_sent")]
        assert sorted(told) == sorted(str(pk) for pk in Outgoing.objects.values_list("pk", flat=True))
        assert verify.findings() == []


def copies(server):
    """Return {how many copies of an email arrived: of how many emails}. Copies do not differ."""
    arrived = Counter(email["Message-ID"] for email in server.received)
    assert len({(email["Message-ID"], email["To"], email.get_content()) for email in server.received}) == len(arrived)
    assert set(arrived) == {rows.message_id(row) for row in Outgoing.objects.all()}
    return Counter(arrived.values())


# A worker that is killed


TALKING = {"greeting": 1, "MAIL": 1, "RCPT": 1, "DATA": 1, ".": 2, "QUIT": 2}


@pytest.mark.parametrize(("when", "times"), [item for item in TALKING.items() if LONG or item[0] in ("RCPT", "QUIT")])
def test_a_worker_killed_while_it_talks_loses_nothing(server, agent, when, times):
    """It comes twice only if the server had accepted it, which at "." is before the worker knows."""
    for _ in range(ROUNDS):
        factories.case_awaiting(agent)
        with started(server, *WORKER) as process:

            def kill(session, process=process):
                if when == ".":
                    server.received.append(session.email)
                process.kill()

            server.answers[when] = kill
            assert process.wait(20) == -9
        server.answers.clear()
    at_last()
    assert copies(server) == {times: ROUNDS}


def steps_of_one_email(server, agent, tmp_path):
    """Return the steps that a worker takes for one email, and the first one after."""
    factories.case_awaiting(agent)
    with started(server, *DYING, STEPS=str(tmp_path / "steps")):
        until(lambda: numbered(read(tmp_path), TELL, "COMMIT", ""))
    steps = read(tmp_path)
    return steps[: numbered(steps, TELL, "COMMIT", "")]


def read(folder):
    return (folder / "steps").read_text().splitlines() if (folder / "steps").exists() else []


def numbered(steps, *starts):
    """Return the number of the step that starts like the last of these, after one for each of the others."""
    number = 0
    for start in starts:
        numbers = (one for one, step in enumerate(steps, 1) if one > number and step.startswith(start))
        if (number := next(numbers, None)) is None:
            return None
    return number


TAKE, WRITE, TELL = 'SELECT "unlocks_outgoing"', 'UPDATE "unlocks_outgoing"', "INSERT INTO unlocks_ledgerentry"
QUEUE = 'INSERT INTO "unlocks_outgoing"'
MOMENTS = {
    "before it takes the row": ([TAKE], 1),
    "before its lease is kept": ([WRITE, "COMMIT"], 1),
    "with its lease": ([WRITE, "COMMIT", ""], 1),
    "before the end is written": ([WRITE, "COMMIT", WRITE], 2),
    "before the end is told": ([TELL], 2),
    "before the end is kept": ([TELL, "COMMIT"], 2),
    "after the end": ([TELL, "COMMIT", ""], 1),
}


@pytest.mark.parametrize("moment", MOMENTS if LONG else ["with its lease", "before the end is kept"])
def test_a_worker_killed_at_any_moment_loses_nothing(server, agent, tmp_path, moment):
    starts, times = MOMENTS[moment]
    number = numbered(steps_of_one_email(server, agent, tmp_path), *starts)
    for _ in range(ROUNDS):
        factories.case_awaiting(agent)
        with started(server, *DYING, STEPS=os.devnull, DIES_BEFORE=str(number)) as process:
            assert process.wait(20) == -9
    at_last()
    assert copies(server) == Counter({1: 1}) + Counter({times: ROUNDS})


@pytest.mark.skipif(not LONG, reason="long")
def test_a_worker_killed_before_each_step_loses_nothing(server, agent, tmp_path):
    steps = steps_of_one_email(server, agent, tmp_path)
    for number in range(1, len(steps) + 1):
        factories.case_awaiting(agent)
        with started(server, *DYING, STEPS=os.devnull, DIES_BEFORE=str(number)) as process:
            assert process.wait(20) == -9
    at_last()
    assert set(copies(server)) == {1, 2}


# A desk that is killed


class Desk:
    """The desk under gunicorn, to which somebody signed in sends consent links."""

    def __init__(self, client, folder):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = "127.0.0.1:{1}".format(*free.getsockname())
        self.client, self.folder = client, folder
        self.command = [*DESK, "--bind", self.address]

    def send_link(self, case, *, dies_before=0):
        """Press the button, and return the answer's status; None if there was none."""
        token = "a" * 32
        typed = {"verb": "send_link", "contact": case.admin.pk, "seen": seen_on(self.client, case, "send_link")}
        line = http.client.HTTPConnection(self.address, timeout=20)
        try:
            line.request(
                "POST",
                page_of(case),
                urlencode(typed | {"csrfmiddlewaretoken": token}),
                {
                    "Content-Type": "application/x-www-form-urlencoded",
                    "Cookie": f"sessionid={self.client.cookies['sessionid'].value}; csrftoken={token}",
                    "Dies-Before": str(dies_before),
                },
            )
            return line.getresponse().status
        except ConnectionError:
            return None
        finally:
            line.close()

    def answers(self):
        host, port = self.address.split(":")
        with socket.socket() as line:
            return line.connect_ex((host, int(port))) == 0


def advised(agent):
    case = factories.open_case(agent)
    operations.record_advice(case.unlock_request, advice="wants_export", by=acting(agent))
    return case.refresh()


def written(case):
    """Return how many links, emails and entries an act left."""
    entries = case.unlock_request.entries.filter(kind="link_sent")
    return case.unlock_request.links.count(), case.unlock_request.outgoing.count(), entries.count()


def test_a_desk_killed_before_its_answer_has_queued_the_email_with_the_act_or_not_at_all(
    server, agent, agent_client, tmp_path
):
    desk = Desk(agent_client, tmp_path)
    with started(server, *desk.command, STEPS=str(tmp_path / "steps")):
        until(desk.answers)
        assert desk.send_link(advised(agent)) == 302
        steps = read(tmp_path)
        queued, kept = numbered(steps, QUEUE), numbered(steps, QUEUE, "COMMIT")
        numbers = 20 * [queued, queued + 1, kept, kept + 1, len(steps)] if LONG else [queued, kept, len(steps)]
        for number in [*numbers, *(range(1, len(steps) + 1) if LONG else [])]:
            case = advised(agent)
            assert desk.send_link(case, dies_before=number) is None
            assert written(case) == (3 * (1,) if number > kept else 3 * (0,)), steps[number - 1]
            if number <= kept:
                assert desk.send_link(case) == 302
                assert written(case) == (1, 1, 1)
    gone()
    worker.send_due()
    at_last()
    assert set(copies(server)) == {1}


# A line to the database that is cut


@pytest.mark.postgresql
def test_a_worker_whose_line_is_cut_while_it_waits_goes_on(server, agent):
    with started(server, *WORKER) as process:
        for _ in range(5 if LONG else 2):
            factories.case_awaiting(agent)
            until(lambda: not Outgoing.objects.exclude(state="sent").exists())
            cut()
        assert process.poll() is None
    at_last()
    assert set(copies(server)) == {1}


@pytest.mark.postgresql
@pytest.mark.parametrize(("when", "times"), [item for item in TALKING.items() if LONG or item[0] == "RCPT"])
def test_a_worker_whose_line_is_cut_while_it_talks_goes_on(server, agent, when, times):
    """Wherever that is, the email goes out and its end cannot be recorded; it comes again with the same Message-ID."""
    factories.case_awaiting(agent)
    first, talks, goes_on = Outgoing.objects.get(), threading.Event(), threading.Event()
    usual = {"greeting": "220 mail.example", "DATA": "354 Go on", "QUIT": "221 Bye"}.get(when, "250 OK")

    def hold(session):
        talks.set()
        goes_on.wait(20)
        return usual

    server.answers[when] = hold
    with started(server, *WORKER) as process:
        assert talks.wait(20)
        cut()
        server.answers.clear()
        goes_on.set()
        factories.case_awaiting(agent)
        until(lambda: Outgoing.objects.filter(state="sent").exists())
        assert process.poll() is None
    first.refresh_from_db()
    assert (first.state, first.tries) == ("queued", 1)
    at_last()
    assert copies(server) == {1: 1, 2: 1}


# A server that is down, or worse


def send_link(client, case):
    return done(client, case, "send_link", contact=case.admin.pk, seen=seen_on(client, case, "send_link"))


def due():
    return Outgoing.objects.filter(state="queued").earliest("next_try_at").next_try_at


def test_a_server_that_is_down_for_an_hour_holds_nobody_up(agent, agent_client):
    start, tried = timezone.now(), []
    with time_machine.travel(start, tick=False) as clock:
        with mail_servers.none():
            for _ in range(3):
                assert "Link waits to be sent" in send_link(agent_client, advised(agent))
            while due() < start + timedelta(hours=1):
                clock.move_to(due())
                tried.append(((timezone.now() - start).seconds, worker.send_due()))
                assert worker.send_due() == {}
        assert tried == [(seconds, {"queued": 3}) for seconds in (0, 5, 305, 2105)]
        clock.move_to(start + timedelta(seconds=2105) + rows.WAITS[3])
        with mail_servers.running() as server:
            assert worker.send_due() == {"sent": 3}
        assert Outgoing.objects.filter(tries=5).count() == 3
        assert verify.findings() == []
    assert copies(server) == {1: 3}


@pytest.mark.parametrize("when", ["greeting", "MAIL", "RCPT", "DATA", "."])
def test_a_server_that_closes_the_connection_is_asked_again(server, agent, when):
    factories.case_awaiting(agent)
    server.answers[when] = mail_servers.closes
    assert worker.send_due() == {"queued": 1}
    assert Outgoing.objects.get().answer == "SMTPServerDisconnected: Connection unexpectedly closed"
    server.answers.clear()
    at_last()
    assert copies(server) == {1: 1}


def test_a_server_that_hangs_holds_up_no_page(server, agent, agent_client):
    """As a ratio, and before the worker is done with its server: that takes it ten seconds."""

    def seconds():
        case = advised(agent)
        start = time.monotonic()
        send_link(agent_client, case)
        return time.monotonic() - start

    up = sum(seconds() for _ in range(3))
    worker.send_due()
    hangs, goes_on = threading.Event(), threading.Event()
    server.answers["RCPT"] = lambda session: hangs.set() or (goes_on.wait(60) and "250 OK")
    factories.case_awaiting(agent)
    first = Outgoing.objects.get(state="queued")
    with started(server, *WORKER):
        assert hangs.wait(20)
        hanging = sum(seconds() for _ in range(3))
        first.refresh_from_db()
        assert (first.tries, first.answer) == (1, "")
        goes_on.set()
        until(lambda: not Outgoing.objects.exclude(state="sent").exists())
    assert hanging < 10 * up
    at_last()
    assert copies(server) == {1: 7}


# Many workers


def notices(n, manager):
    """Queue n emails by two acts: an address is entered, and every Admin of the account is told."""
    account = factories.make_account()
    contacts = [factories.new_contact(account=account) for _ in range(n // 2 - 1)]
    factories.imported(*contacts)
    for _ in range(2):
        factories.enter_contact(account=account, by=manager)
    assert Outgoing.objects.filter(state="queued").count() == n


@pytest.mark.parametrize("workers", [2, 4] if LONG else [2])
def test_many_workers_send_each_email_once(server, manager, workers):
    notices(200 if LONG else 100, manager)
    with ExitStack() as stack:
        processes = [stack.enter_context(started(server, *WORKER)) for _ in range(workers)]
        until(lambda: not Outgoing.objects.filter(state="queued").exists(), seconds=60)
        assert [process.poll() for process in processes] == [None] * workers
    at_last()
    assert copies(server) == {1: 200 if LONG else 100}
    assert set(Outgoing.objects.values_list("tries", flat=True)) == {1}


@pytest.mark.skipif(not LONG, reason="long")
@pytest.mark.parametrize("killed", [1, 3])
def test_what_killed_workers_held_is_sent_by_the_others(server, manager, killed):
    """Four at once, of which some are killed in the midst: each email of theirs comes at most twice."""
    notices(100, manager)
    with ExitStack() as stack:
        processes = [stack.enter_context(started(server, *WORKER)) for _ in range(4)]
        until(lambda: len(server.received) > 20)
        for process in processes[:killed]:
            process.kill()
        until(lambda: Outgoing.objects.filter(next_try_at__lte=timezone.now(), state="queued").count() == 0)
        until(lambda: Outgoing.objects.filter(state="queued").count() <= killed)
    at_last()
    found = copies(server)
    assert found[1] + found[2] == 100
    assert found[2] <= killed
