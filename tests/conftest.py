import gc
import os
from inspect import signature
from pathlib import Path
from zlib import crc32

import hypothesis
import pytest
from django.db import connection, transaction
from django.test import Client, TransactionTestCase

from tests import factories
from unlocks.database import guards
from unlocks.product.sandbox import Sandbox

HERE = Path(__file__).parent
SAMPLED = {
    *("admin", "api", "customer", "imports", "ledger", "operations", "outbox", "product", "signin"),
    *("test_docs.py", "test_failed_emails.py", "test_load_sample.py", "test_probing.py", "test_product_attacks.py"),
}
SHARES = {"postgresql": [0], "sqlite": [1, 2, 3, 4]}  # of ten

# A usual run tries the same few examples each time; `HYPOTHESIS_PROFILE=long` looks for new ones.
hypothesis.settings.register_profile("usual", max_examples=20, deadline=None, derandomize=True)
hypothesis.settings.register_profile("long", max_examples=1000, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "usual"))


def pytest_collection_modifyitems(config, items):
    for item in items:
        for only in ("postgresql", "sqlite"):
            if item.get_closest_marker(only) and connection.vendor != only:
                item.add_marker(pytest.mark.skip(reason=f"{only} only"))
    left_out = {item for item in items if _not_in_sample(item)}
    if connection.vendor == "postgresql":
        # What uses no database was tried on SQLite.
        left_out |= {item for item in items if not _uses_database(item)}
    config.hook.pytest_deselected(items=list(left_out))
    items[:] = [item for item in items if item not in left_out]


def _uses_database(item):
    marked = item.get_closest_marker("django_db") or item.get_closest_marker("postgresql")
    named = {"db", "transactional_db", "django_db_setup"}.intersection(item.fixturenames)
    # Whoever takes `request` may ask it for any fixture.
    return bool(marked or named or "request" in signature(item.function).parameters)


def _not_in_sample(item):
    """Say whether a test is left out of this database's run, with SAMPLE=1.

    Of the tests in SAMPLED, one in ten runs on PostgreSQL, four others run on SQLite, and all without SAMPLE. What
    is about the database itself always runs on both, but for attacks that succeed where no guard stands.
    """
    of_one = any(item.get_closest_marker(name) for name in ("postgresql", "sqlite"))
    if "SAMPLE" not in os.environ or of_one or not _uses_database(item):
        return False
    sampled = item.path.relative_to(HERE).parts[0] in SAMPLED
    unguarded = item.cls is not None and item.cls.__name__ == "TestWithoutGuards"
    return (sampled or unguarded) and crc32(item.nodeid.encode()) % 10 not in SHARES[connection.vendor]


def pytest_collection_finish():
    # What is imported by now stays to the end: looking through it again and again takes a twentieth of the run.
    gc.freeze()


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup, django_db_blocker):
    """After a transactional test leave nothing in the tables but what migrations made.

    The guards refuse that; they are lifted for it, and only a disposable test database lets them be lifted. Django's
    own flush truncates every table, which takes a second on PostgreSQL, and makes groups and permissions anew.
    """
    with django_db_blocker.unblock():
        made = _contents()

    def start_again(case):
        with guards.lifted(), transaction.atomic(), connection.cursor() as cursor:
            for table in _contents():
                cursor.execute(f"DELETE FROM {table}")
            for table, rows in made.items():
                cursor.executemany(f"INSERT INTO {table} VALUES ({', '.join(['%s'] * len(rows[0]))})", rows)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransactionTestCase, "_fixture_teardown", start_again)
        yield


def _contents():
    """Return {table: rows} of the tables that hold any."""
    with connection.cursor() as cursor:
        tables = connection.introspection.django_table_names(only_existing=True, include_views=False)
        rows = {table: cursor.execute(f"SELECT * FROM {table}").fetchall() for table in tables}
    return {table: rows for table, rows in rows.items() if rows}


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
def case_file_place(tmp_path, settings):
    """An empty folder for the ZIPs of one test alone."""
    kept = {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": str(tmp_path / "zips")}}
    settings.STORAGES = {**settings.STORAGES, "case_files": kept}
    return tmp_path / "zips"


@pytest.fixture
def sandbox(settings, tmp_path):
    """The made-up product, chosen by the desk, with a memory of this test alone."""
    settings.PRODUCT, settings.SANDBOX_FILE = "sandbox", str(tmp_path / "product.sqlite3")
    return Sandbox()


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
    factories.sign_in(client, user)
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
