import pytest

from unlocks.database import guards

pytestmark = pytest.mark.django_db


def test_is_well_while_every_guard_stands(client):
    answer = client.get("/health/")

    assert (answer.status_code, answer.json(), answer["Cache-Control"]) == (200, {"well": True}, "no-store")


def test_is_not_well_without_the_guards_and_names_none(client):
    with guards.lifted():
        answer = client.get("/health/")

    assert (answer.status_code, answer.json()) == (503, {"well": False})


def test_only_answers(client):
    assert client.post("/health/").status_code == 405
