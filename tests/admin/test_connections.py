"""The page Connections: what it says of workers, emails and seals at each moment."""

from datetime import timedelta

import pytest
import time_machine
from django.utils import timezone

from tests import factories, mail_servers
from tests.admin.test_contacts import text
from tests.factories import deliver
from unlocks.actors import Actor
from unlocks.ledger import seals
from unlocks.outbox import heartbeat, worker

pytestmark = pytest.mark.django_db
PAGE = "/desk/unlocks/worker/"
NO_WORKER = "No worker runs. Emails wait, and the history is not sealed."


@pytest.fixture
def read(manager_client):
    """Return the words of the page."""

    def words():
        return text(manager_client.get(PAGE))

    return words


def test_says_whether_a_worker_runs(read):
    assert NO_WORKER in read()
    heartbeat.beat(heartbeat.name())
    assert "The worker runs. Nothing waits for it." in read()
    assert heartbeat.name() in read()
    heartbeat.stop(heartbeat.name())
    assert NO_WORKER in read()


def test_a_worker_that_was_killed_is_gone_after_three_minutes(read):
    heartbeat.beat(heartbeat.name())
    with time_machine.travel(timezone.now() + timedelta(minutes=4)):
        assert NO_WORKER in read()


def test_says_what_waits_and_what_came_back(read, agent):
    heartbeat.beat(heartbeat.name())
    case = factories.case_awaiting(agent)
    assert "Waiting 1, the oldest since" in read()
    assert "Last one sent none yet" in read()
    with mail_servers.running() as server:
        server.answers["RCPT"] = "451 Try later"
        worker.send_due()
    page = read()
    assert f"Consent link to {case.admin.email}" in page
    assert "451 Try later" in page
    with time_machine.travel(timezone.now() + timedelta(minutes=30)):
        heartbeat.beat(heartbeat.name())
        assert "emails wait that should have been tried by now" in read()
        deliver()
        page = read()
        assert "The worker runs. Nothing waits for it." in page
        assert "Sent in the last 24 hours 1" in page


def test_says_when_the_history_was_sealed(read, agent):
    factories.open_case(agent)
    assert "Last sealed not yet" in read()
    assert seals.seal_when_due(by=Actor.desk()) > 0
    page = read()
    assert "Last sealed not yet" not in page
    assert "Not sealed yet 0 rows" in page
