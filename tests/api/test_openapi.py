"""The description of the API is the one in docs/, and schemathesis finds nothing that is not as it says.

The usual run tries a few calls of each operation, the same each time; `make long` looks for new ones.
"""

import json
import os
from pathlib import Path

import pytest
import schemathesis
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, transaction
from hypothesis import HealthCheck, assume, given, settings
from schemathesis import GenerationMode

from tests.api import ON_REQUESTS, THE_FEED, caller
from tests.factories import case_awaiting, case_consented, case_unlocked, case_unlocking, make_user
from unlocks.api import openapi
from unlocks.digest import canonical
from unlocks.ledger import chain

pytestmark = pytest.mark.django_db
FILE = Path(__file__).parent.parent.parent / "docs" / "openapi.json"
LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
TRIED = settings(
    max_examples=100 if LONG else 3,
    derandomize=not LONG,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
described = schemathesis.openapi.from_wsgi("/api/v1/openapi.json", WSGIHandler())
OPERATIONS = [found.ok() for found in described.get_all_operations()]


def test_the_description_is_the_one_in_docs():
    written = json.dumps(json.loads(canonical(openapi.description())), indent=1, ensure_ascii=False) + "\n"
    assert FILE.read_text() == written, "Write docs/openapi.json anew, as this test does."


@pytest.fixture(scope="module")
def tokens(shared):
    """Return tokens by scope, of two systems that may do all between them, at a desk with cases of each kind."""
    agent, root = make_user("agent", group="Agent"), make_user("superuser", is_superuser=True)
    for make in (case_unlocked, case_awaiting, case_consented, case_unlocking):
        make(agent)
    # As Django's own test client does: the connection is the test's, with its transaction.
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield {scope: by.headers["authorization"] for by, scopes in _systems(root) for scope in scopes}
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


def _systems(root):
    yield caller(root, *THE_FEED, system="feed"), THE_FEED
    yield caller(root), ON_REQUESTS


def _scope(operation):
    """Return a scope of the system that may call an operation."""
    puts = operation.definition.raw["operationId"].startswith(("put_", "set_"))
    return "records" if puts else "read"


@pytest.mark.parametrize("mode", GenerationMode)
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.label)
def test_schemathesis_finds_nothing(tokens, settings, operation, mode):
    settings.API_LIMIT, settings.PRODUCT = 10**9, "polling"

    @TRIED
    @given(case=operation.as_strategy(generation_mode=mode))
    def call(case):
        # What is empty leaves nothing in an address that could be refused.
        assume(all(value not in ({}, []) for value in (case.query or {}).values()))
        around = transaction.atomic()
        around._from_testcase = True  # handing over is a transaction of its own, as in any test
        with around:
            case.call_and_validate(headers={"Authorization": tokens[_scope(operation)]})
            transaction.set_rollback(True)

    call()
    assert list(chain.faults()) == []
