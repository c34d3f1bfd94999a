"""Whether the desk runs, and whether what is asked of it can be recorded, as a load balancer and a monitor ask."""

import shutil
from datetime import timedelta

import pytest
import time_machine
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tests import factories
from tests.attacks import snapshot
from unlocks.database import guards
from unlocks.outbox import heartbeat

pytestmark = pytest.mark.django_db

NEEDED = ["read", "write", "migrations", "guards", "ledger_key"]
BESIDE = ["worker", "outgoing", "instruction", "evidence", "case_files"]
WELL = {
    "ready": True,
    "well": True,
    "checks": dict.fromkeys([*NEEDED, *BESIDE], True),
    "oldest_seconds": {"outgoing": None, "instruction": None},
}


@pytest.fixture(autouse=True)
def running(evidence_place, case_file_place):
    """A desk whose worker runs."""
    heartbeat.beat(heartbeat.name())


def asked(client=None):
    answer = (client or Client()).get("/health/ready")
    return answer.status_code, answer.json()


def without(*names, oldest=None):
    """Return the answer of a desk that is not well for these reasons."""
    is_ready = not set(names) & set(NEEDED)
    said = {"ready": is_ready, "well": False, "checks": WELL["checks"] | dict.fromkeys(names, False)}
    return (200 if is_ready else 503), said | {"oldest_seconds": (oldest or WELL["oldest_seconds"]) if is_ready else {}}


def test_says_that_all_is_well(client):
    assert asked() == (200, WELL)
    assert client.get("/health/ready")["Cache-Control"] == "no-store"


def test_lives_whatever_its_database_does(client):
    with guards.lifted(), CaptureQueriesContext(connection) as queries:
        answer = client.get("/health/live")

    assert (answer.status_code, answer.json(), answer["Cache-Control"]) == (200, {"live": True}, "no-store")
    assert len(queries) == 0


def test_is_ready_without_a_worker_and_not_well():
    with time_machine.travel(timezone.now() + timedelta(minutes=4)):
        assert asked() == without("worker")


def test_is_not_ready_without_the_guards_and_names_none():
    with guards.lifted():
        assert asked() == without("guards")


def test_is_not_ready_before_it_is_migrated():
    MigrationRecorder.Migration.objects.filter(app="unlocks").latest("id").delete()

    assert asked() == without("migrations")


@pytest.mark.parametrize(("place", "kept"), [("evidence_place", "evidence"), ("case_file_place", "case_files")])
def test_is_not_well_where_files_can_not_be_kept(request, place, kept):
    place = request.getfixturevalue(place)
    shutil.rmtree(place, ignore_errors=True)
    place.write_text("no folder")

    assert asked() == without(kept)


def test_leaves_nothing_where_files_are_kept(evidence_place, case_file_place):
    asked()
    assert [*evidence_place.iterdir(), *case_file_place.iterdir()] == []


def test_says_since_when_the_oldest_email_waits_and_that_it_waits_for_long(agent):
    factories.case_awaiting(agent)
    with time_machine.travel(timezone.now() + timedelta(minutes=59), tick=False):
        heartbeat.beat(heartbeat.name())
        (status, said) = asked()
        assert (status, said["well"], said["checks"]["outgoing"]) == (200, True, True)
        assert 59 * 60 <= said["oldest_seconds"]["outgoing"] < 60 * 60
    with time_machine.travel(timezone.now() + timedelta(minutes=61), tick=False):
        heartbeat.beat(heartbeat.name())
        assert asked() == without("outgoing", oldest=asked()[1]["oldest_seconds"])


def test_says_since_when_the_oldest_instruction_waits_and_that_it_is_late(agent, sandbox, settings):
    factories.case_unlocking(agent)
    now = timezone.now()
    with time_machine.travel(now + timedelta(minutes=11), tick=False):
        heartbeat.beat(heartbeat.name())
        status, said = asked()
        assert (status, said["well"], said["checks"]["instruction"]) == (200, False, False)
        assert 11 * 60 <= said["oldest_seconds"]["instruction"] < 12 * 60
        settings.PRODUCT = "by_hand"
        assert asked()[1]["checks"]["instruction"] is True
        assert asked()[1]["oldest_seconds"]["instruction"] is None


@pytest.mark.parametrize("address", ["/health/live", "/health/ready"])
@pytest.mark.parametrize("asked", [{"HTTP_HOST": "10.0.0.7:8000", "secure": True}, {"HTTP_HOST": "desk.example"}])
def test_answers_by_any_address_and_without_tls(settings, address, asked):
    settings.ALLOWED_HOSTS, settings.SECURE_SSL_REDIRECT = ["desk.example"], True

    assert Client().get(address, **asked).status_code == 200
    elsewhere = Client().get("/staff/sign-in/", **asked)
    assert elsewhere.status_code == (400 if "secure" in asked else 301)


@pytest.fixture
def nothing_can_be_written(transactional_db):
    """A database that answers and takes nothing: a standby, a read-only file."""
    heartbeat.beat(heartbeat.name())
    switch = {"sqlite": "PRAGMA query_only = {}", "postgresql": "SET default_transaction_read_only = {}"}
    with connection.cursor() as cursor:
        cursor.execute(switch[connection.vendor].format("on"))
    yield
    with connection.cursor() as cursor:
        cursor.execute(switch[connection.vendor].format("off"))


def test_is_not_ready_while_nothing_can_be_written(nothing_can_be_written):
    assert asked() == without("write")


@pytest.fixture
def nothing_can_be_read(transactional_db, settings):
    """A database that is away."""
    connection.close()
    connection.settings_dict["NAME"], name = f"{settings.BASE_DIR}/nowhere/at/all", connection.settings_dict["NAME"]
    yield
    connection.close()
    connection.settings_dict["NAME"] = name


def test_is_not_ready_while_nothing_can_be_read(nothing_can_be_read):
    assert asked() == without(*NEEDED, *BESIDE)


def test_writes_the_same_row_however_often_it_is_asked():
    asked()
    before = snapshot()
    asked()

    assert snapshot() == before


@pytest.mark.parametrize("address", ["/health/live", "/health/ready"])
def test_only_answers(client, address):
    assert client.head(address).status_code == 200
    assert client.post(address).status_code == 405


def test_has_no_other_address(client):
    assert {client.get(address).status_code for address in ("/health/", "/health/live/", "/health/ready/")} == {404}
