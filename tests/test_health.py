from datetime import timedelta

import pytest
import time_machine
from django.db import connection
from django.test import Client
from django.utils import timezone

from tests.attacks import snapshot
from unlocks.database import guards
from unlocks.outbox import heartbeat

pytestmark = pytest.mark.django_db


def test_is_well_while_every_guard_stands(client):
    answer = client.get("/health/")

    assert (answer.status_code, answer.json(), answer["Cache-Control"]) == (
        200,
        {"well": True, "worker": False},
        "no-store",
    )


def test_says_whether_a_worker_runs(client):
    heartbeat.beat(heartbeat.name())
    assert client.get("/health/").json() == {"well": True, "worker": True}
    with time_machine.travel(timezone.now() + timedelta(minutes=4)):
        assert client.get("/health/").json() == {"well": True, "worker": False}


def test_is_not_well_without_the_guards_and_names_none(client):
    with guards.lifted():
        answer = client.get("/health/")

    assert (answer.status_code, answer.json()) == (503, {"well": False})


@pytest.mark.parametrize("asked", [{"HTTP_HOST": "10.0.0.7:8000", "secure": True}, {"HTTP_HOST": "desk.example"}])
def test_answers_by_any_address_and_without_tls(settings, asked):
    settings.ALLOWED_HOSTS, settings.SECURE_SSL_REDIRECT = ["desk.example"], True
    answer = Client().get("/health/", **asked)

    assert (answer.status_code, answer.json()) == (200, {"well": True, "worker": False})
    elsewhere = Client().get("/staff/sign-in/", **asked)
    assert elsewhere.status_code == (400 if "secure" in asked else 301)


@pytest.fixture
def nothing_can_be_written(transactional_db):
    """A database that answers and takes nothing: a standby, a read-only file."""
    switch = {"sqlite": "PRAGMA query_only = {}", "postgresql": "SET default_transaction_read_only = {}"}
    with connection.cursor() as cursor:
        cursor.execute(switch[connection.vendor].format("on"))
    yield
    with connection.cursor() as cursor:
        cursor.execute(switch[connection.vendor].format("off"))


def test_is_not_well_while_nothing_can_be_written(client, nothing_can_be_written):
    answer = client.get("/health/")

    assert (answer.status_code, answer.json()) == (503, {"well": False})


def test_writes_the_same_row_however_often_it_is_asked(client):
    client.get("/health/")
    before = snapshot()
    client.get("/health/")

    assert snapshot() == before


def test_only_answers(client):
    assert client.post("/health/").status_code == 405
