"""What is recorded of a restore: the lost entries, the anchors that show it, and numbers that are not given twice."""

from datetime import timedelta

import pytest
import time_machine
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from tests.attacks import sql
from tests.factories import acting, case_consented, open_case, record_certificate_key
from tests.operations import refused
from unlocks import operations
from unlocks.actors import Actor
from unlocks.database import guards
from unlocks.ledger import anchors, chain, events
from unlocks.ledger.anchors import Anchor
from unlocks.models import Consent, LedgerEntry, UnlockRequest
from unlocks.rules import Refusal

pytestmark = pytest.mark.django_db


@pytest.fixture
def case(agent):
    record_certificate_key()
    return case_consented(agent)


def work_lost(case, notes):
    """Work on, write an anchor down, and lose that work: return the anchors before and after."""
    before = Anchor(*chain.head())
    for _ in range(notes):
        operations.add_note(case.unlock_request, text="Lost", by=acting(case.agent))
    after = Anchor(*chain.head(), "2026-11-25T06:30:00+00:00")
    connection.check_constraints()
    with guards.lifted():
        sql("DELETE FROM unlocks_ledgerentry WHERE sequence > %s", before.sequence)
    return before, after


def record(*heads, why="The disk failed. The backup of Nov 24 was put back."):
    return operations.record_restore(heads, why=why, by=Actor.desk())


def test_names_what_was_lost_and_accepts_its_anchors_from_then_on(case):
    before, after = work_lost(case, 3)
    assert [kind for kind, _ in anchors.faults([before, after])] == ["anchor"]
    restored = record(after, before)
    assert restored == events.Restored(
        after=before.sequence,
        upto=before.sequence + 3,
        anchors=[str(after)],
        why="The disk failed. The backup of Nov 24 was put back.",
    )
    entry = LedgerEntry.objects.get(kind="restored")
    assert (chain.event_of(entry), entry.sequence, entry.previous_hash) == (
        restored,
        before.sequence + 1,
        before.hash,
    )
    assert list(anchors.faults([before, after])) == []
    of_a_certificate, other = Anchor(after.sequence, after.hash), Anchor(after.sequence, "0" * 64)
    assert list(anchors.faults([of_a_certificate])) == []
    assert [kind for kind, _ in anchors.faults([before, after, other])] == ["anchor"]


def test_where_the_desk_worked_on_the_newest_fitting_anchor_bounds_the_loss(case):
    before, after = work_lost(case, 2)
    for _ in range(5):
        operations.add_note(case.unlock_request, text="As if nothing had happened", by=acting(case.agent))
    assert record(before, after).after == before.sequence


def test_numbers_skip_to_the_next_thousand(case, agent):
    certificate = operations.issue_certificate(case.consent, by=acting(agent))
    before, after = work_lost(case, 2)
    record(before, after)
    again = case_consented(agent)
    for new, old in ((again.unlock_request, case.unlock_request), (again.consent, case.consent)):
        assert (new.pk % 1000, old.pk < new.pk < old.pk + 1004) == (1, True)
    assert operations.issue_certificate(again.consent, by=acting(agent)).ordinal == 1
    operations.add_note(case.unlock_request, text="After", by=acting(agent))
    assert (certificate.ordinal, operations.issue_certificate(case.consent, by=acting(agent)).ordinal) == (1, 1001)
    operations.add_note(case.unlock_request, text="And again", by=acting(agent))
    assert operations.issue_certificate(case.consent, by=acting(agent)).ordinal == 1002


def test_more_lost_entries_than_a_thousand_skip_further(case, agent):
    before = Anchor(*chain.head())
    record(before, Anchor(before.sequence + 1500, "ab" * 32))
    new, old = open_case(agent).unlock_request.pk, case.unlock_request.pk
    assert (new % 1000, old + 1500 < new < old + 2504) == (1, True)


def test_a_second_restore_skips_a_second_time(case, agent):
    with time_machine.travel(timezone.now() + timedelta(days=1)):
        record(*work_lost(case, 1))
        record(*work_lost(case, 1))
    new, old = open_case(agent).unlock_request.pk, case.unlock_request.pk
    assert (new % 1000, old + 1000 < new < old + 2004) == (1, True)
    assert operations.issue_certificate(case.consent, by=acting(agent)).ordinal == 2001


@pytest.mark.parametrize(
    ("chosen", "why", "refusal"),
    [
        ("before", "Why", Refusal.NOTHING_LOST),
        ("after", "Why", Refusal.OTHER_LEDGER),
        ("made up in between", "Why", Refusal.OTHER_LEDGER),
        ("far off", "Why", Refusal.OTHER_LEDGER),
        ("both", " ", Refusal.NO_REASON),
    ],
)
def test_refused_with_nothing_recorded(case, agent, chosen, why, refusal):
    before, after = work_lost(case, 1)
    head = chain.head()
    anchors_of = {
        "before": [before],
        "after": [after],
        "both": [before, after],
        "made up in between": [before, Anchor(before.sequence - 1, "ab" * 32)],
        "far off": [before, Anchor(10**19, "ab" * 32)],
    }
    with refused(refusal):
        record(*anchors_of[chosen], why=why)
    assert chain.head() == head
    assert open_case(agent).unlock_request.pk < case.unlock_request.pk + 5


def test_the_same_anchors_are_recorded_once(case):
    before, after = work_lost(case, 1)
    record(before, after)
    with refused(Refusal.NOTHING_LOST):
        record(before, after)


def test_the_command_reads_anchors_from_files(case, tmp_path, capsys):
    before, after = work_lost(case, 2)
    file = tmp_path / "anchors.txt"
    file.write_text(f"{before}\n{after}\n")
    with pytest.raises(CommandError, match="is gone"):
        call_command("verify_audit", anchor=[file])
    call_command("record_restore", anchor=[file], why="The disk failed.")
    said = capsys.readouterr().out
    assert said.startswith(
        f"Recorded: ledger entries {before.sequence + 1} to {after.sequence} were lost. The next request"
    )
    with pytest.raises(CommandError, match="Nothing was recorded: every anchor fits the ledger"):
        call_command("record_restore", anchor=[file], why="Once more.")
    with pytest.raises(CommandError, match="could not be read"):
        call_command("record_restore", anchor=[tmp_path / "nowhere"], why="The disk failed.")
    assert (UnlockRequest.objects.count(), Consent.objects.count()) == (1, 1)
