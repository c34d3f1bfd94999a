"""Whatever is done to the ledger or the record, with every guard lifted, shows and is named."""

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction

from tests.factories import acting, case_consented, case_unlocked, open_case
from unlocks import guards, ledger, operations
from unlocks.actors import Actor
from unlocks.models import CaseEvent

pytestmark = pytest.mark.django_db


@pytest.fixture
def case(agent):
    made = case_unlocked(agent)
    connection.check_constraints()
    return made


def tamper(*statements):
    with guards.lifted(), connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def audit():
    with pytest.raises(CommandError) as caught:
        call_command("verify_audit")
    return str(caught.value)


def test_an_honest_record_holds(case, capsys):
    call_command("verify_audit")
    newest = CaseEvent.objects.first()
    assert capsys.readouterr().out == (
        f"The audit holds: ledger intact (head {newest.sequence} {newest.hash}), every seal and invariant holds, "
        "every guard is in place.\n"
    )


def test_an_empty_record_holds(db):
    call_command("verify_audit")


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        (
            "UPDATE unlocks_caseevent SET body = replace(body, 'phone', 'email') WHERE sequence = 1",
            "Ledger entry 1 was altered: its hash does not fit its content.",
        ),
        (
            "UPDATE unlocks_caseevent SET actor = 'somebody else' WHERE sequence = 2",
            "Ledger entry 2 was altered: its column actor differs from what was sealed.",
        ),
        (
            "UPDATE unlocks_caseevent SET kind = 'note' WHERE sequence = 2",
            "Ledger entry 2 was altered: its column kind differs from what was sealed.",
        ),
        (
            "UPDATE unlocks_caseevent SET request_id = NULL WHERE sequence = 2",
            "Ledger entry 2 was altered: its column request differs from what was sealed.",
        ),
        (
            "UPDATE unlocks_caseevent SET user_id = NULL WHERE sequence = 2",
            "Ledger entry 2 was altered: its column user differs from what was sealed.",
        ),
        (
            "UPDATE unlocks_caseevent SET account_id = NULL WHERE sequence = 2",
            "Ledger entry 2 was altered: its column account differs from what was sealed.",
        ),
        (
            "UPDATE unlocks_caseevent SET ip = '203.0.113.1' WHERE sequence = 2",
            "Ledger entry 2 was altered: its column ip differs from what was sealed.",
        ),
        (
            "UPDATE unlocks_caseevent SET at = '2020-01-01 00:00:00' WHERE sequence = 2",
            "Ledger entry 2 was altered: its column at differs from what was sealed.",
        ),
        ("DELETE FROM unlocks_caseevent WHERE sequence = 1", "Ledger entry 1 is missing: entry 2 comes next."),
        ("DELETE FROM unlocks_caseevent WHERE sequence = 3", "Ledger entry 3 is missing: entry 4 comes next."),
    ],
)
def test_names_the_entry_that_differs(case, statement, says):
    tamper(statement)
    assert audit() == says


def test_two_entries_swapped(case):
    tamper(
        "UPDATE unlocks_caseevent SET sequence = 999 WHERE sequence = 2",
        "UPDATE unlocks_caseevent SET sequence = 2 WHERE sequence = 3",
        "UPDATE unlocks_caseevent SET sequence = 3 WHERE sequence = 999",
    )
    assert audit() == "Ledger entry 2 does not follow entry 1."


def test_an_entry_slipped_in(case):
    tamper(
        "UPDATE unlocks_caseevent SET sequence = sequence + 1000 WHERE sequence > 2",
        "UPDATE unlocks_caseevent SET previous_hash = 'made up' WHERE sequence = 1003",
        "INSERT INTO unlocks_caseevent (sequence, kind, at, actor, body, previous_hash, hash) "
        "SELECT 3, kind, at, actor, body, hash, 'made up' FROM unlocks_caseevent WHERE sequence = 2",
        "UPDATE unlocks_caseevent SET sequence = sequence - 999 WHERE sequence > 1000",
    )
    assert audit() == "Ledger entry 3 was altered: its hash does not fit its content."


def test_a_link_of_the_chain_cut_out_and_closed(case):
    """The entries are renumbered and chained anew, but nobody without the key can seal them."""
    tamper(
        "DELETE FROM unlocks_caseevent WHERE sequence = 2",
        "UPDATE unlocks_caseevent SET previous_hash = "
        "(SELECT hash FROM unlocks_caseevent WHERE sequence = 1) WHERE sequence = 3",
        "UPDATE unlocks_caseevent SET sequence = 2 WHERE sequence = 3",
    )
    assert audit() == "Ledger entry 2 was altered: its hash does not fit its content."


def test_sealed_with_another_key(case, settings):
    settings.LEDGER_KEY = "another key"
    assert audit() == "Ledger entry 1 was altered: its hash does not fit its content."


def test_a_history_row_edited(case):
    newest = case.batch.history.first().history_id
    tamper(f"UPDATE unlocks_historicalbatch SET status = 'exported' WHERE history_id = {newest}")
    assert audit() == f"Batch {case.batch} (id {case.batch.pk}): batch: the newest history row tells something else."


def test_a_text_rewritten(case):
    tamper(f"UPDATE unlocks_consent SET text = 'Other' WHERE id = {case.consent.pk}")
    assert audit() == f"Consent {case.consent} (id {case.consent.pk}): text does not fit its hash."


def test_guards_gone(case):
    guards.remove()
    assert audit().startswith("Guards are missing or altered in the database: unlocks_guard_")
    guards.install()


def test_the_cut_tail_of_a_consent_shows_without_an_anchor(agent):
    case = case_consented(agent)
    connection.check_constraints()
    newest = CaseEvent.objects.filter(kind="consented").get().sequence
    tamper(f"DELETE FROM unlocks_caseevent WHERE sequence >= {newest}")
    assert audit() == f"Consent {case.consent} (id {case.consent.pk}): recorded without a ledger entry."


@pytest.mark.parametrize(
    "ip", [None, "203.0.113.7", "2001:db8::1", "::ffff:203.0.113.7", "::ffff:cb00:7107", "2001:DB8:0:0:1:0:0:1"]
)
def test_addresses_of_every_kind_fit_what_was_sealed(agent, ip):
    case = open_case(agent)
    operations.add_note(case.request, text="From afar", by=Actor(name="agent", user=agent, ip=ip))
    assert ledger.first_fault() == ""


@pytest.mark.parametrize("text", ["Ärger – „so“ \U0001f980", 'a "quoted" \\ back\\slash', "lines\r\nof\ttext", ""])
def test_text_of_every_kind_fits_what_was_sealed(agent, text):
    case = open_case(agent)
    operations.add_note(case.request, text=text, by=acting(agent))
    assert ledger.first_fault() == ""


@pytest.mark.django_db(transaction=True)
def test_nothing_is_appended_outside_a_transaction(agent):
    with pytest.raises(transaction.TransactionManagementError):
        ledger.note("note", by=acting(agent), text="Alone")
    assert not CaseEvent.objects.exists()
