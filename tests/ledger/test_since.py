"""`verify_audit --since SEAL`: what was written since a seal, and what is unlocked now, is recomputed; no more is."""

import pytest
from django.core.management import CommandError, call_command

from tests.attacks import sql
from tests.factories import acting, case_consented, case_unlocked, make_user
from unlocks import operations
from unlocks.actors import Actor
from unlocks.database import guards
from unlocks.ledger import chain, seals, verify
from unlocks.models import Contact

pytestmark = pytest.mark.django_db

# Statement, and how what is said of it begins.
SINCE = {
    "an entry": (
        "UPDATE unlocks_ledgerentry SET facts = facts || ' ' WHERE sequence = {newest}",
        "Ledger entry {newest} was altered or forged",
    ),
    "an entry that is gone": (
        "DELETE FROM unlocks_ledgerentry WHERE sequence = {newest} - 1",
        "Ledger entry {newest_but_one} is missing",
    ),
    "the seal": (
        "UPDATE unlocks_ledgerentry SET appended_at = at WHERE sequence = {seal}",
        "Ledger entry {seal} was altered or forged",
    ),
    "history that is gone": (
        "DELETE FROM unlocks_historicalunlockrequest WHERE history_id = "
        "(SELECT max(history_id) FROM unlocks_historicalunlockrequest)",
        "History in unlocks_historicalunlockrequest: 1 row of the act",
    ),
    "history without an entry": (
        "UPDATE unlocks_historicalunlockrequest SET history_act = '{other_act}' WHERE history_id = "
        "(SELECT max(history_id) FROM unlocks_historicalunlockrequest)",
        "History in unlocks_historicalunlockrequest, row",
    ),
    "a row that an entry tells of": (
        "UPDATE unlocks_unlockrequest SET resolution = 'expired' WHERE id = {closed}",
        "Unlock request {closed}: its column resolution differs",
    ),
    "an unlock": (
        "UPDATE unlocks_batch SET status = 'unlocking', grant_id = {other_grant}, unlocked_by_id = {agent} "
        "WHERE id = {locked}",
        "Batch {number} (id {locked}): unlocked without an agreed consent",
    ),
}


@pytest.fixture(scope="module")
def record(shared):
    """A seal, with an unlocked case before it and a closed one after it."""
    agent = make_user("agent", group="Agent")
    earlier, case = case_unlocked(agent), case_consented(agent)
    seals.seal_history(by=Actor.desk())
    sealed = seals.newest().sequence
    operations.add_note(case.unlock_request, text="They will enter it by hand.", by=acting(agent))
    operations.close_request(case.unlock_request, resolution="canceled", why="No longer wanted.", by=acting(agent))
    newest = chain.head()[0]
    return {
        "seal": sealed,
        "newest": newest,
        "newest_but_one": newest - 1,
        "closed": case.unlock_request.pk,
        "locked": case.batch.pk,
        "number": case.batch.number,
        "other_grant": earlier.batch.grant_id,
        "agent": agent.pk,
        "contact": earlier.admin.pk,
        "other_act": "0" * 32,
    }


def test_holds_and_names_the_seal_to_go_on_from(record, capsys):
    seal, (newest, head) = record["seal"], chain.head()

    call_command("verify_audit", since=seal)

    assert capsys.readouterr().out.splitlines()[:3] == [
        f"The audit holds: ledger intact since entry {seal} (head {newest} {head}), and so is what is unlocked now, "
        "every guard is in place.",
        "What was written before that was not read: run “manage.py verify_audit” for all of it.",
        f"The newest seal is entry {seal}: --since {seal} goes on from it.",
    ]
    assert verify.findings() == []


@pytest.mark.parametrize("what", SINCE)
def test_names_what_was_tampered_with_since(record, what):
    statement, begins = SINCE[what]
    with guards.lifted():
        sql(statement.format(**record))

    found = verify.findings(after=record["seal"])

    assert [sentence for sentence in found if sentence.startswith(begins.format(**record))] != []


def test_reads_nothing_from_before(record):
    with guards.lifted():
        sql("UPDATE unlocks_ledgerentry SET facts = facts || ' ' WHERE sequence = 1")
        Contact.objects.filter(pk=record["contact"]).update(phone="1")

    assert verify.findings(after=record["seal"]) == []
    assert [sentence.split()[0] for sentence in verify.findings()] != []


@pytest.mark.parametrize("sequence", [-1, 1, 10**9])
def test_of_no_seal_nothing_is_checked(record, sequence):
    with pytest.raises(CommandError, match=f"ledger entry {sequence} is no seal that fits") as refused:
        call_command("verify_audit", since=sequence)

    assert refused.value.returncode == 2
