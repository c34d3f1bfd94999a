"""Under another key than the one that sealed the ledger nothing is recorded, and everybody who meets it is told."""

from runpy import run_module

import pytest
from django.core import mail
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext

from tests import factories
from tests.attacks import difference, snapshot, sql
from tests.factories import PIN, acting
from unlocks import checks, operations
from unlocks.actors import Actor
from unlocks.database import guards
from unlocks.ledger import chain, events
from unlocks.models import LedgerEntry
from unlocks.texts.shown import shown_text

pytestmark = pytest.mark.django_db

WRONG = (
    "Ledger entry {}, the newest, does not fit LEDGER_KEY. Either this is not the key that sealed the ledger, or the "
    "entry was altered. Put the right key into LEDGER_KEY and start the desk again. If it is the right one, stop "
    "unlocking and run “manage.py verify_audit”."
)


@pytest.fixture
def case(agent, settings):
    """A case whose customer has opened the link; then the desk was started with another key."""
    case = factories.case_awaiting(agent)
    operations.open_consent_link(case.link, by=factories.customer(case.admin))
    settings.LEDGER_KEY = "not-the-key-of-this-ledger"
    return case


def append_a_note():
    with transaction.atomic():
        chain.append(events.Note(text="Called"), by=Actor.desk())


def says():
    return WRONG.format(LedgerEntry.objects.latest("sequence").sequence)


def test_an_empty_ledger_takes_any_key(settings):
    settings.LEDGER_KEY = "the-first-key-it-is-given"
    append_a_note(), append_a_note()
    assert list(chain.faults()) == []


ACTS = {
    "note": lambda case, by: operations.add_note(case.unlock_request, text="Called", by=by),
    "link": lambda case, by: operations.send_consent_link(case.unlock_request, contact=case.admin, by=by),
    "close": lambda case, by: operations.close_request(case.unlock_request, resolution="canceled", why="", by=by),
    "unlock": lambda case, by: factories.unlock(case.rows, by=by),
    "PIN": lambda case, by: operations.verify_pin(case.unlock_request, pin=PIN, by=by),
    "PIN of the customer": lambda case, by: operations.verify_customer_pin(
        case.link, pin=PIN, by=factories.customer(case.admin)
    ),
    "decline": lambda case, by: operations.decline_consent(
        case.link, name="Dana", role="", why="", shown=shown_text(case.link), by=factories.customer(case.admin)
    ),
}


@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
def test_the_whole_act_is_rolled_back(case, act):
    before = snapshot()
    with pytest.raises(chain.WrongKey) as caught, factories.delivered():
        act(case, acting(case.agent))
    assert (str(caught.value), difference(before, snapshot()), mail.outbox) == (says(), [], [])


def test_a_newest_entry_that_was_altered_is_not_built_upon(agent):
    case = factories.case_awaiting(agent)
    connection.check_constraints()
    with guards.lifted():
        sql("UPDATE unlocks_ledgerentry SET facts = '{}' WHERE sequence = %s", chain.head()[0])
    with pytest.raises(chain.WrongKey):
        operations.add_note(case.unlock_request, text="Called", by=acting(agent))


def test_it_costs_no_further_query():
    append_a_note()
    with CaptureQueriesContext(connection) as queries:
        append_a_note()
    assert sum("SELECT" in query["sql"] and "unlocks_ledgerentry" in query["sql"] for query in queries) == 1


# Who meets it.


def test_staff_read_what_happened_and_what_to_do(case):
    client, before = Client(raise_request_exception=False), snapshot()
    client.force_login(case.agent)
    page = client.post(f"/desk/unlocks/unlockrequest/{case.unlock_request.pk}/change/", {"verb": "note", "text": "Hi"})
    assert page.status_code == 503
    assert "The desk could not record what you sent, so it did not do it." in page.content.decode()
    assert "Traceback" not in page.content.decode()
    assert difference(before, snapshot()) == []


def test_so_do_customers(case):
    client, before = Client(raise_request_exception=False), snapshot()
    client.get(f"/consent/{case.token}/", follow=True)
    page = client.post("/consent/", {"action": "open"})
    assert (page.status_code, difference(before, snapshot())) == (503, [])
    assert "<h1>Nothing was recorded</h1>" in page.content.decode()


def test_seal_history_says_it_and_fails(case):
    before = snapshot()
    with pytest.raises(CommandError) as caught:
        call_command("seal_history")
    assert (str(caught.value), caught.value.returncode) == (f"Nothing was sealed. {says()}", 1)
    assert difference(before, snapshot()) == []


def test_load_sample_says_it_and_fails(settings):
    append_a_note()
    settings.PRODUCT = "sandbox"
    settings.LEDGER_KEY = "not-the-key-of-this-ledger"
    before = snapshot()
    with pytest.raises(CommandError) as caught:
        call_command("load_sample")
    assert str(caught.value) == f"Nothing was recorded. {says()}"
    assert difference(before, snapshot()) == []


def test_the_desk_is_not_ready(client, case):
    answer = client.get("/health/ready")
    checks = answer.json()["checks"]
    assert (answer.status_code, checks["ledger_key"], checks["guards"]) == (503, False, True)


def test_the_deployment_check_names_it(case):
    assert [(error.id, error.msg) for error in checks.ledger_key_fits(None)] == [("unlocks.E007", says())]


def test_the_deployment_check_takes_the_right_key_and_an_empty_ledger(settings):
    assert checks.ledger_key_fits(None) == []
    append_a_note()
    assert checks.ledger_key_fits(None) == []


@pytest.mark.django_db(transaction=True)
def test_the_desk_does_not_start(settings):
    run_module("config.wsgi")
    append_a_note()
    run_module("config.wsgi")
    settings.LEDGER_KEY = "not-the-key-of-this-ledger"
    with pytest.raises(ImproperlyConfigured) as caught:
        run_module("config.wsgi")
    assert str(caught.value) == says()
