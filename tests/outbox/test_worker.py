"""What a worker does with each answer of a server, and that nothing is lost or sent twice."""

import threading
import time
from datetime import timedelta
from io import StringIO

import pytest
import time_machine
from django.core.management import CommandError, call_command
from django.db import connection, connections
from django.utils import timezone

from tests import factories, mail_servers
from tests.factories import acting, deliver
from tests.operations import facts_of
from unlocks import operations, pins
from unlocks.actors import Actor
from unlocks.database import guards
from unlocks.ledger import chain, seals
from unlocks.ledger.emails import mac
from unlocks.models import LedgerEntry, Outgoing
from unlocks.outbox import heartbeat, rows, secrets, smtp, worker

pytestmark = pytest.mark.django_db


@pytest.fixture
def server():
    with mail_servers.running() as server:
        yield server


@pytest.fixture
def asked(agent):
    return factories.case_awaiting(agent)


def stands(row):
    row.refresh_from_db()
    return row.state, row.tries, row.answer


def told(*kinds):
    kinds = kinds or ("email_sent", "email_failed", "email_canceled")
    entries = LedgerEntry.objects.filter(kind__in=kinds).order_by("sequence")
    return [(entry.kind, facts_of(entry)) for entry in entries]


def facts(row, **more):
    ids = {"outgoing": str(row.pk), "consent": row.consent_id, "link": row.link_id}
    return {"email": row.email, "to": row.address} | ids | more


def test_what_is_accepted_is_sent_once_and_told_once(server, asked):
    row = Outgoing.objects.get()
    assert worker.send_due() == {"sent": 1}
    assert worker.send_due() == {}
    assert stands(row) == ("sent", 1, "")
    assert told() == [("email_sent", facts(row))]
    entry = LedgerEntry.objects.get(kind="email_sent")
    assert (entry.unlock_request, entry.account, entry.actor) == (asked.unlock_request, asked.account, "Unlock Desk")
    (email,) = server.received
    assert (email["To"], email["Message-ID"]) == (row.address, rows.message_id(row))
    assert asked.url in email.get_content()
    assert list(chain.faults()) == []


REFUSED = [
    ("RCPT", "550 5.1.1 No such mailbox", "550 5.1.1 No such mailbox"),
    ("DATA", "554 Not today", "554 Not today"),
    (".", "554-Looks like\r\n554 spam", "554 Looks like spam"),
]


@pytest.mark.parametrize(("when", "answer", "words"), REFUSED)
def test_what_a_server_refuses_for_good_is_not_tried_again(server, asked, when, answer, words):
    server.answers[when] = answer
    row = Outgoing.objects.get()
    assert worker.send_due() == {"refused": 1}
    assert stands(row) == ("refused", 1, words)
    assert told() == [("email_failed", facts(row, error=words, given_up=False))]
    with time_machine.travel(timezone.now() + timedelta(days=1)):
        assert worker.send_due() == {}
    assert server.received == []


LATER = [
    ("greeting", "421 Too busy", "421 Too busy"),
    ("greeting", "554 Not for you", "554 Not for you"),  # says nothing of this email
    ("RCPT", "451 Greylisted", "451 Greylisted"),
    ("MAIL", "451 Later", "451 Later"),
    ("MAIL", "530 Authentication required", "530 Authentication required"),
    (".", "452 No room", "452 No room"),
]


@pytest.mark.parametrize(("when", "answer", "words"), LATER)
def test_what_may_work_later_is_tried_again(server, asked, when, answer, words):
    server.answers[when] = answer
    row = Outgoing.objects.get()
    assert (worker.send_due(), stands(row), told()) == ({"queued": 1}, ("queued", 1, words), [])
    assert worker.send_due() == {}
    server.answers.clear()
    with time_machine.travel(timezone.now() + timedelta(seconds=6)):
        assert worker.send_due() == {"sent": 1}
    assert (stands(row), told()) == (("sent", 2, ""), [("email_sent", facts(row))])
    assert len(server.received) == 1


def test_each_try_is_the_same_email(server, asked):
    bodies = []
    server.answers["."] = "451 Later"
    with time_machine.travel(timezone.now(), tick=False) as clock:
        for wait in (0, 6, 301):
            clock.shift(timedelta(seconds=wait))
            emails_before = len(bodies)
            server.answers["."] = lambda session: bodies.append(session.email) or "451 Later"
            deliver()
            assert len(bodies) == emails_before + 1
    assert len({(email["Message-ID"], email.get_content()) for email in bodies}) == 1


def test_one_refused_of_two_admins_stops_only_that_one(server, manager):
    account = factories.make_account()
    second = factories.make_contact(account=account)
    server.answers[second.email] = "550 No such mailbox"
    operations.issue_pin(account, by=acting(manager))
    assert worker.send_due() == {"sent": 1, "refused": 1}
    assert {row.address: row.state for row in Outgoing.objects.all()} == {
        second.email: "refused",
        account.contacts.get(pk=account.contacts.exclude(pk=second.pk).get().pk).email: "sent",
    }


def test_what_nobody_takes_for_days_is_given_up(asked):
    row = Outgoing.objects.get()
    with mail_servers.none(), time_machine.travel(timezone.now(), tick=False) as clock:
        for _ in range(20):
            worker.send_due()
            row.refresh_from_db()
            if row.done_at:
                break
            clock.move_to(row.next_try_at)
    answer = "ConnectionRefusedError: [Errno 111] Connection refused"
    assert stands(row) == ("given_up", 7, answer)
    assert told() == [("email_failed", facts(row, error=answer, given_up=True))]


def test_a_server_that_says_nothing_holds_no_worker_up(server, asked, settings):
    settings.EMAIL_TIMEOUT = 0.2
    server.answers["greeting"] = lambda session: time.sleep(1)
    row, start = Outgoing.objects.get(), time.monotonic()
    assert worker.send_due() == {"queued": 1}
    assert time.monotonic() - start < 1
    assert stands(row)[:2] == ("queued", 1)


@pytest.mark.parametrize("when", ["greeting", "RCPT", "."])
def test_a_server_that_answers_letter_by_letter_is_hung_up_on(server, asked, monkeypatch, when):
    monkeypatch.setattr(smtp, "DEADLINE", 0.4)
    server.answers[when] = mail_servers.trickles
    start = time.monotonic()
    assert worker.send_due() == {"queued": 1}
    assert 0.3 < time.monotonic() - start < 3


def test_a_link_used_before_its_first_try_is_not_sent(server, asked):
    row = Outgoing.objects.get()
    factories.agree(asked)
    assert worker.send_due() == {"canceled": 1, "sent": 1}
    assert stands(row) == ("canceled", 1, "The link was used before.")
    assert told("email_canceled") == [("email_canceled", facts(row, why="The link was used before.", tries=0))]
    assert [asked.url in email.get_content() for email in server.received] == [False]


def test_an_answer_that_repeats_the_secret_is_kept_without_it(server, asked, caplog):
    server.answers["."] = f"554 Blocked for {asked.url}"
    row = Outgoing.objects.get()
    worker.send_due()
    assert stands(row)[2] == f"554 Blocked for {asked.url.replace(asked.token, '...')}"
    assert asked.token not in caplog.text + str(told())


def test_an_email_that_cannot_be_written_stops_no_other(server, asked, agent, caplog):
    broken = Outgoing.objects.get()
    with guards.lifted():
        broken.link_id = 999_999
        Outgoing.objects.filter(pk=broken.pk).update(link_id=broken.link_id, mac=mac(broken))
    factories.enter_contact(account=asked.account, by=factories.make_user("boss", group="Manager"))
    assert worker.send_due() == {"queued": 1, "sent": 1}
    assert stands(broken) == ("queued", 1, "DoesNotExist")
    assert f"An email (consent_link, {broken.pk}) was not sent: DoesNotExist" in caplog.text


def test_nothing_is_sent_under_another_key(server, asked, settings):
    settings.LEDGER_KEY = "another"
    with pytest.raises(chain.WrongKey):
        worker.send_due()
    with pytest.raises(CommandError, match="Nothing more was sent"):
        call_command("work", once=True)
    assert (server.received, stands(Outgoing.objects.get())) == ([], ("queued", 0, ""))


def test_once_says_what_it_did(server, asked):
    def said():
        out = StringIO()
        call_command("work", once=True, stdout=out)
        return out.getvalue().strip()

    server.answers["RCPT"] = "451 Later"
    assert said() == "Emails: 1 to be tried again."
    with time_machine.travel(timezone.now() + timedelta(seconds=6)):
        server.answers.clear()
        assert said() == "Emails: 1 sent."
        assert said() == "No email is due."


# Several workers, and lines that are cut


def queued(n, agent, account=None):
    """Queue n links of as many requests."""
    return [factories.case_awaiting(agent, account=account) for _ in range(n)]


@pytest.mark.django_db(transaction=True)
def test_two_workers_at_once_send_each_email_once(server, agent):
    queued(12, agent)
    counts = []

    def run():
        try:
            counts.append(sum(worker.send_due().values()))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counts) == 12
    assert sorted(email["To"] for email in server.received) == sorted(row.address for row in Outgoing.objects.all())
    assert {row.state for row in Outgoing.objects.all()} == {"sent"}
    assert list(chain.faults()) == []


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_a_worker_passes_by_the_row_that_another_one_takes(agent):
    queued(2, agent)
    first, second = Outgoing.objects.order_by("next_try_at")
    taken, done = threading.Event(), threading.Event()

    def hold():
        with connection.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute("SELECT 1 FROM unlocks_outgoing WHERE id = %s FOR UPDATE", [first.pk])
            taken.set()
            done.wait(10)
            cursor.execute("ROLLBACK")
        connections.close_all()

    thread = threading.Thread(target=hold)
    thread.start()
    taken.wait(10)
    leased = rows.lease()
    done.set()
    thread.join()
    assert leased == second


@pytest.mark.django_db(transaction=True)
def test_a_worker_that_is_told_to_stop_ends_after_its_email(server, agent):
    queued(2, agent)
    stopping = threading.Event()
    server.answers["RCPT"] = lambda session: stopping.set() or "250 OK"
    worker.work(stopping)
    assert sorted(row.state for row in Outgoing.objects.all()) == ["queued", "sent"]


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_an_email_whose_end_cannot_be_recorded_is_sent_again(server, agent, caplog):
    """The one way in which an email goes out twice: the line to the database is cut after the server's answer."""
    queued(1, agent)
    row, stopping = Outgoing.objects.get(), threading.Event()

    def cut(session):
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        connections.close_all()
        stopping.set()
        return "250 Taken"

    server.answers["."] = cut
    worker.work(stopping)
    assert "The worker waits for the database: OperationalError" in caplog.text
    assert (stands(row), told(), len(server.received)) == (("queued", 1, ""), [], 1)
    server.answers.clear()
    with time_machine.travel(timezone.now() + rows.LEASE):
        assert worker.send_due() == {"sent": 1}
    assert (stands(row), len({email["Message-ID"] for email in server.received})) == (("sent", 2, ""), 1)


@pytest.mark.django_db(transaction=True)
def test_what_a_full_copy_of_the_database_holds_opens_nothing(agent, manager):
    """While emails wait, and after: no table holds a token or a PIN."""
    case = queued(1, agent)[0]
    consented = factories.case_consented(agent)
    operations.issue_pin(factories.make_account(), by=acting(manager))
    made = [case.token, consented.token, consented.receipt]
    made += [secrets.pin(row.nonce) for row in Outgoing.objects.filter(email="new_pin")]

    def found():
        with connection.cursor() as cursor:
            tables = connection.introspection.table_names(cursor)
            dump = "\n".join(str(cursor.execute(f'SELECT * FROM "{table}"').fetchall()) for table in tables)
        return [secret for secret in made if secret in dump]

    assert (len(made), found()) == (4, [])
    deliver()
    assert found() == []


def test_a_second_answer_about_the_same_email_is_not_told(server, asked):
    row = rows.lease()
    assert worker._end(row, Outgoing.State.SENT) == "sent"
    assert worker._end(row, Outgoing.State.REFUSED, "550 Late") == "refused"
    assert told() == [("email_sent", facts(row))]
    assert row.actor == Actor.staff(asked.agent).name


def test_each_run_says_so_and_seals_what_no_seal_covers(asked):
    call_command("work", once=True, stdout=StringIO())
    assert [worker.name for worker in heartbeat.running()] == [heartbeat.name("now and then")]
    assert seals.unsealed() == 0


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_a_worker_that_was_stopped_is_no_worker_any_more(asked):
    seen = []

    class Stops(threading.Event):
        def wait(self, timeout=None):
            seen.extend(heartbeat.running())
            self.set()

    worker.work(Stops())
    assert ([one.name for one in seen], list(heartbeat.running())) == ([heartbeat.name()], [])


@pytest.mark.django_db(transaction=True)
def test_two_workers_that_end_the_last_two_emails_of_a_pin_drop_it_once(server, manager):
    account = factories.make_account()
    factories.make_contact(account=account)
    operations.issue_pin(account, by=acting(manager))
    both = threading.Barrier(2)
    server.answers["RCPT"] = lambda session: both.wait(10) is None or "550 No such mailbox"

    def run():
        try:
            worker.send_next()
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kinds = LedgerEntry.objects.filter(account=account, kind__startswith="pin_").order_by("sequence")
    assert list(kinds.values_list("kind", flat=True)) == ["pin_issued", "pin_drawn", "pin_dropped"]
    account.refresh_from_db()
    assert (account.pending_pin_hash, pins.matches(factories.PIN, account.pin_hash)) == ("", True)
