"""The page Connections: what it says of workers, emails and seals at each moment."""

import html
import re
from datetime import timedelta

import pytest
import time_machine
from django.utils import timezone
from django.utils.html import strip_tags

from tests import factories, mail_servers
from tests.admin.test_contacts import text
from tests.factories import acting, case_unlocking, deliver, make_batches
from unlocks import operations
from unlocks.actors import Actor
from unlocks.ledger import seals
from unlocks.models import Instruction
from unlocks.operations import handing_over
from unlocks.operations.weekly import queue_weekly
from unlocks.outbox import heartbeat, worker
from unlocks.texts.formats import moment

pytestmark = pytest.mark.django_db
PAGE = "/desk/unlocks/worker/"
NO_WORKER = "No worker was seen in the last three minutes. Without one emails wait, and the history is not sealed."


@pytest.fixture
def read(manager_client):
    """Return the words of the page."""

    def words():
        return text(manager_client.get(PAGE))

    return words


def test_says_whether_a_worker_runs(read):
    assert NO_WORKER in read()
    heartbeat.beat(heartbeat.name())
    assert "The worker was seen just now. Nothing waits for it." in read()
    assert heartbeat.name() in read()
    heartbeat.stop(heartbeat.name())
    assert NO_WORKER in read()


def test_a_worker_that_was_killed_is_gone_after_three_minutes(read):
    heartbeat.beat(heartbeat.name())
    with time_machine.travel(timezone.now() + timedelta(minutes=2)):
        assert "The worker was seen 2 minutes ago." in read()
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
        assert "The worker was seen just now. Nothing waits for it." in page
        assert "Sent in the last 24 hours 1" in page


def test_says_of_an_email_that_is_about_no_account_that_it_is_the_desks(read, agent, manager, settings):
    manager.email = "mona@example.com"
    manager.save()
    factories.open_case(agent)
    now = timezone.localtime(timezone=timezone.get_default_timezone())
    settings.WEEKLY_EMAIL = (now.weekday(), now.hour)
    assert queue_weekly(by=Actor.desk()) == 1
    with mail_servers.running() as server:
        server.answers["RCPT"] = "451 Try later"
        worker.send_due()
    page = read()
    assert re.search("Weekly figures to mona@example.com the desk 1 .*451 Try later", page)
    with time_machine.travel(timezone.now() + timedelta(minutes=30)):
        deliver()
    assert "Weekly figures" not in read()


def test_says_when_the_history_was_sealed(read, agent):
    factories.open_case(agent)
    assert "Last sealed not yet" in read()
    assert seals.seal_when_due(by=Actor.desk()) > 0
    page = read()
    assert "Last sealed not yet" not in page
    assert "Not sealed yet 0 rows" in page


# The product


@pytest.fixture
def product(manager_client):
    """Return what the page says of the product: {what: how it is}, and the rows of what was tried in vain."""

    def facts():
        page = manager_client.get(PAGE).content.decode()
        section = re.search('aria-labelledby="product">(.*?)</section>', page, re.DOTALL)[1]
        said = dict(zip(_words("dt", section), _words("dd", section), strict=True))
        cells = _words("t[dh]", section.partition("<tbody>")[2])
        return said, [cells[start : start + 5] for start in range(0, len(cells), 5)]

    return facts


def _words(tag, markup):
    found = re.findall(rf"<{tag}\b.*?>(.*?)</{tag}>", markup, re.DOTALL)
    return [" ".join(html.unescape(strip_tags(one)).split()) for one in found]


def test_says_what_staff_have_to_do_by_hand(product, read, agent):
    nothing = {
        "How it is reached": "by hand: staff do in ServiceTitan what the desk lists",
        "Waiting to be started": "0 batches",
        "Started, not answered": "0 batches",
        "Last started": "nothing yet",
        "Last answer": "none yet",
    }
    assert product() == (nothing, [])
    canceled = case_unlocking(agent)
    operations.cancel_unlock(canceled.rows, why="Asked", by=acting(agent))
    assert product() == (nothing, [])
    case_unlocking(agent)
    heartbeat.beat(heartbeat.name())
    oldest = moment(Instruction.objects.filter(state="queued").latest("pk").queued_at)
    waits = {"Waiting to be started": f"2 batches, the oldest since {oldest}"}
    assert product() == (nothing | waits, [])
    first = Instruction.objects.filter(pk=Instruction.objects.filter(state="queued").earliest("pk").pk)
    operations.start_instructions(Instruction.objects.all(), by=acting(agent))
    started = {
        "Started, not answered": f"2 batches, the oldest since {moment(first[0].sent_at)}",
        "Last started": moment(first[0].sent_at),
    }
    assert product() == (nothing | started, [])
    operations.answer_by_hand(first, done=True, text="T-1", by=acting(agent))
    answered = {
        "Started, not answered": f"1 batch, the oldest since {moment(first[0].sent_at)}",
        "Last answer": moment(first[0].done_at),
    }
    assert product() == (nothing | started | answered, [])


def test_says_what_the_product_was_asked_and_answered(product, read, agent, settings):
    settings.PRODUCT, settings.PRODUCT_URL = (
        "webhook",
        "https://desk:secret@hooks.vendor.example:8443/unlock?key=secret",
    )
    case = case_unlocking(agent, batches=make_batches(n=4))
    sent = factories.hand_over()
    for one, state in zip(sent, ("unknown", "stopped", "done", "accepted"), strict=True):
        factories.answer([one], state, f"It says {state}")
    unknown, given_up, done, _ = Instruction.objects.order_by("pk")
    said, rows = product()
    assert said == {
        "How it is reached": "by a webhook at hooks.vendor.example",
        "Waiting to be handed over": "0 batches",
        "Handed over, not answered": f"1 batch, the oldest since {moment(done.sent_at)}",
        "Being asked about": "1 batch: whether it was done is not known",
        "Given up": "1 batch. Which ones",
        "Last handed over": moment(done.sent_at),
        "Last answer": moment(done.done_at),
    }
    about = f"{case.unlock_request} {case.account}"
    assert rows == [
        [f"Unlock {given_up.batch.number}", about, "1", "It says stopped", "given up"],
        [f"Unlock {unknown.batch.number}", about, "1", "It says unknown", moment(unknown.next_try_at)],
    ]
    assert "secret" not in read()


@pytest.mark.parametrize(
    ("product_is", "says"),
    [("webhook", "by a webhook, but no address is set"), ("sandbox", "not at all: the sandbox makes its answers up")],
)
def test_says_how_the_product_is_reached(product, settings, product_is, says):
    settings.PRODUCT, settings.PRODUCT_URL = product_is, ""
    assert product()[0]["How it is reached"] == says


def test_the_newest_call_counts_though_it_was_answered_before_an_older_one(product, agent, settings):
    settings.PRODUCT = "webhook"
    case_unlocking(agent, batches=make_batches(n=1))
    (older,) = factories.hand_over()
    with time_machine.travel(timezone.now() + timedelta(minutes=5)):
        case_unlocking(agent, batches=make_batches(n=1))
        (newer,) = factories.hand_over()
        factories.answer([newer], "done", "P-1")
        factories.answer([older], "done", "P-2")
    newer.refresh_from_db()
    assert product()[0]["Last handed over"] == moment(newer.sent_at)


def test_warns_when_the_product_should_have_been_asked(read, agent, agent_client, settings):
    settings.PRODUCT = "webhook"
    case_unlocking(agent)
    deliver_emails_only()
    late = timezone.now() + timedelta(minutes=11)
    assert "ServiceTitan was not asked" not in text(agent_client.get("/desk/"))
    assert "Without one emails wait, ServiceTitan is asked nothing, and the history is not sealed." in read()
    with time_machine.travel(late):
        heartbeat.beat(heartbeat.name())
        assert (
            "The worker was seen just now, but 2 batches wait of which ServiceTitan should have been asked by now"
            in read()
        )
        queue = text(agent_client.get("/desk/"))
        assert "ServiceTitan was not asked about 2 batches that are due, the oldest since" in queue
        assert "Tell a manager." in queue
        factories.hand_over()
        factories.answer(Instruction.objects.all(), "accepted")
        assert "The worker was seen just now. What waits is sent as it becomes due." in read()
        assert "ServiceTitan was not asked" not in text(agent_client.get("/desk/"))


def test_warns_of_nothing_that_waits_for_its_turn(read, agent, settings):
    """A lock waits for its unlock to be answered, and is not late."""
    settings.PRODUCT = "webhook"
    case = case_unlocking(agent)
    factories.answer(factories.hand_over(), "accepted")
    operations.withdraw_own_consent(case.consent, why="", by=factories.customer(case.admin))
    deliver_emails_only()
    factories.answer(handing_over.lease(), "accepted")
    with time_machine.travel(timezone.now() + timedelta(minutes=12)):
        heartbeat.beat(heartbeat.name())
        assert "The worker was seen just now. What waits is sent as it becomes due." in read()


def test_no_worker_is_late_with_what_staff_do_by_hand(read, agent, agent_client):
    case_unlocking(agent)
    deliver_emails_only()
    with time_machine.travel(timezone.now() + timedelta(hours=3)):
        heartbeat.beat(heartbeat.name())
        deliver_emails_only()
        assert "The worker was seen just now. What waits is sent as it becomes due." in read()
        assert "was not asked" not in text(agent_client.get("/desk/"))


def deliver_emails_only():
    """Have the emails sent that are due, and nothing handed over."""
    while worker.send_next():
        pass
