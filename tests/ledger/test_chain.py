"""The ledger as it is written; what becomes of it when somebody tampers with it: test_tampering.py."""

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction

from tests.attacks import sql
from tests.factories import acting, case_consented, open_case
from unlocks import operations
from unlocks.actors import Actor
from unlocks.database import guards
from unlocks.ledger import chain, events
from unlocks.management.commands import verify_audit
from unlocks.models import LedgerEntry, RequestedBatch, UnlockRequest

pytestmark = pytest.mark.django_db


def test_an_empty_record_holds(capsys):
    call_command("verify_audit")
    assert capsys.readouterr().out == (
        f"The audit holds: ledger intact (head 0 {'0' * 64}), every seal and invariant holds, every guard is in "
        "place.\n"
    )


def test_the_cut_tail_of_a_consent_shows_without_an_anchor(agent):
    case = case_consented(agent)
    connection.check_constraints()
    entry = LedgerEntry.objects.get(kind="consented")
    line, opened = (
        model.history.filter(history_act=entry.act).earliest("history_id").history_id
        for model in (RequestedBatch, UnlockRequest)
    )
    with guards.lifted():
        sql("DELETE FROM unlocks_ledgerentry WHERE sequence >= %s", entry.sequence)
    with pytest.raises(CommandError) as caught:
        call_command("verify_audit")
    assert str(caught.value) == (
        f"History in unlocks_historicalrequestedbatch, row {line}: no ledger entry tells of its act.\n"
        f"History in unlocks_historicalunlockrequest, row {opened}: no ledger entry tells of its act.\n"
        f"Consent {case.consent} (id {case.consent.pk}): no ledger entry “Consent given” is about it.\n"
        f"{verify_audit.NEXT}"
    )


@pytest.mark.parametrize(
    "ip", [None, "203.0.113.7", "2001:db8::1", "::ffff:203.0.113.7", "::ffff:cb00:7107", "2001:DB8:0:0:1:0:0:1"]
)
def test_addresses_of_every_kind_fit_what_was_sealed(agent, ip):
    case = open_case(agent)
    operations.add_note(case.unlock_request, text="From afar", by=Actor(name="agent", user=agent, ip=ip))
    assert list(chain.faults()) == []


@pytest.mark.parametrize("text", ["Ärger – „so“ \U0001f980", 'a "quoted" \\ back\\slash', "lines\r\nof\ttext", ""])
def test_text_of_every_kind_fits_what_was_sealed(agent, text):
    case = open_case(agent)
    operations.add_note(case.unlock_request, text=text, by=acting(agent))
    assert list(chain.faults()) == []


@pytest.mark.django_db(transaction=True)
def test_nothing_is_appended_outside_a_transaction(agent):
    with pytest.raises(transaction.TransactionManagementError):
        chain.append(events.Note(text="Alone"), by=acting(agent))
    assert not LedgerEntry.objects.filter(kind="note").exists()
