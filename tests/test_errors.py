"""What is answered when something is too big, too busy or broken: a page that says so, and nothing half-done."""

import threading
from io import BytesIO

import pytest
from django.core.handlers.wsgi import WSGIRequest
from django.db import connection, transaction
from django.http import HttpResponse
from django.test import Client

from config.bodies import READ_AT_MOST, read_to_the_end
from tests import factories
from tests.attacks import difference, snapshot

pytestmark = pytest.mark.django_db

MIB = 1024 * 1024


@pytest.fixture
def client(client):
    client.raise_request_exception = False
    return client


@pytest.mark.parametrize("address", ["/staff/sign-in/", "/consent/", "/receipt/withdraw/", "/desk/nowhere/"])
def test_a_form_that_is_too_big_is_read_to_its_end(client, address):
    body = BytesIO(b"why=" + b"x" * 4 * MIB)
    asked = {"CONTENT_LENGTH": str(4 * MIB + 4), "CONTENT_TYPE": "application/x-www-form-urlencoded"}
    answer = client.request(PATH_INFO=address, REQUEST_METHOD="POST", **asked, **{"wsgi.input": body})
    assert answer.status_code < 500
    assert body.read() == b""


def test_what_is_far_too_big_is_cut_off(client):
    body = BytesIO(b"x" * (READ_AT_MOST + MIB))
    environ = client._base_environ(REQUEST_METHOD="POST", CONTENT_LENGTH=str(READ_AT_MOST + MIB))
    read_to_the_end(lambda request: HttpResponse())(WSGIRequest(environ | {"wsgi.input": body}))
    assert body.tell() == READ_AT_MOST


@pytest.fixture
def held_up(transactional_db):
    """A database in which another connection holds the lock that the next change needs, and nobody waits long."""
    short = {"sqlite": "PRAGMA busy_timeout = 50", "postgresql": "SET lock_timeout = 50"}
    long = {"sqlite": "PRAGMA busy_timeout = 20000", "postgresql": "SET lock_timeout = 0"}
    account, client = factories.make_account(), Client(raise_request_exception=False)
    client.force_login(factories.make_user("manager", group="Manager"))
    holds, done = threading.Event(), threading.Event()

    def hold():
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("UPDATE unlocks_account SET name = name")
            holds.set()
            done.wait(20)
        connection.close()

    thread = threading.Thread(target=hold)
    with connection.cursor() as cursor:
        cursor.execute(short[connection.vendor])
    thread.start()
    assert holds.wait(20)
    yield client, account
    done.set()
    thread.join()
    with connection.cursor() as cursor:
        cursor.execute(long[connection.vendor])


def test_whoever_meets_a_lock_is_asked_to_try_again(held_up):
    client, account = held_up
    before = snapshot()
    typed = {"name": "Another", "accounting_software": "none", "active": "on"}
    typed |= {"contacts-TOTAL_FORMS": 0, "contacts-INITIAL_FORMS": 0}
    answer = client.post(f"/desk/unlocks/account/{account.pk}/change/", typed)
    assert (answer.status_code, answer["Retry-After"]) == (503, "30")
    assert "Please try again in a minute" in answer.content.decode()
    assert "default-src 'self'" in answer["Content-Security-Policy"]
    assert difference(before, snapshot()) == []
