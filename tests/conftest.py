import os
from importlib import import_module

import hypothesis
import pytest
from django.apps import apps
from django.db import connections, transaction
from django.test import Client, TransactionTestCase

from tests import factories
from unlocks.database import guards

# A usual run tries the same few examples each time; `HYPOTHESIS_PROFILE=long` looks for new ones.
hypothesis.settings.register_profile("usual", max_examples=20, deadline=None, derandomize=True)
hypothesis.settings.register_profile("long", max_examples=1000, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "usual"))


def pytest_collection_modifyitems(items):
    vendor = connections["default"].vendor
    for item in items:
        for only in ("postgresql", "sqlite"):
            if item.get_closest_marker(only) and vendor != only:
                item.add_marker(pytest.mark.skip(reason=f"{only} only"))


@pytest.fixture(scope="session", autouse=True)
def _flush_despite_guards():
    """Let a transactional test empty its tables afterwards, which the guards refuse, and put back what migrations made.

    The guards are lifted for the flush alone, and only a disposable test database lets them be lifted. The groups come
    back by themselves after the flush (`roles.after_migrate`).
    """
    flush = TransactionTestCase._fixture_teardown

    def flush_despite_guards(self):
        for using in self._databases_names(include_mirrors=False):
            guards.remove(using)
        try:
            flush(self)
        finally:
            for using in self._databases_names(include_mirrors=False):
                guards.install(using)
        import_module("unlocks.migrations.0002_first_terms").publish(apps, None)

    TransactionTestCase._fixture_teardown = flush_despite_guards
    yield
    TransactionTestCase._fixture_teardown = flush


@pytest.fixture(scope="module")
def shared(django_db_setup, django_db_blocker):
    """Keep what a module's fixtures write for all its tests, whose own writes are rolled back.

    Not for a module with transactional tests.
    """
    around = transaction.atomic()
    around._from_testcase = True  # a PIN try and a seal are transactions of their own, as in any test
    with django_db_blocker.unblock(), around:
        yield
        transaction.set_rollback(True)


@pytest.fixture
def evidence_place(tmp_path, settings):
    """An empty folder for the evidence of one test alone."""
    kept = {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": str(tmp_path / "kept")}}
    settings.STORAGES = {**settings.STORAGES, "evidence": kept}
    return tmp_path / "kept"


@pytest.fixture
def agent(db):
    return factories.make_user("agent", group="Agent")


@pytest.fixture
def second_agent(db):
    return factories.make_user("second-agent", group="Agent")


@pytest.fixture
def manager(db):
    return factories.make_user("manager", group="Manager")


@pytest.fixture
def auditor(db):
    return factories.make_user("auditor", group="Auditor")


@pytest.fixture
def superuser(db):
    return factories.make_user("superuser", is_superuser=True)


def _signed_in(user):
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def agent_client(agent):
    return _signed_in(agent)


@pytest.fixture
def second_agent_client(second_agent):
    return _signed_in(second_agent)


@pytest.fixture
def manager_client(manager):
    return _signed_in(manager)


@pytest.fixture
def auditor_client(auditor):
    return _signed_in(auditor)


@pytest.fixture
def superuser_client(superuser):
    return _signed_in(superuser)
