import json

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from tests.factories import case_unlocked, make_account, make_batch
from unlocks import guards, ledger, seals
from unlocks.actors import Actor
from unlocks.models import Batch, CaseEvent

pytestmark = pytest.mark.django_db


def written():
    return sum(model.objects.count() for model in seals.history_models())


def tamper(sql):
    with guards.lifted(), connection.cursor() as cursor:
        cursor.execute(sql)


def test_seals_what_was_written_since_the_last_seal(agent):
    case_unlocked(agent)
    first = written()

    assert seals.seal_history(by=Actor.desk()) == first
    assert seals.seal_history(by=Actor.desk()) == 0
    make_account(admin=False)
    assert seals.seal_history(by=Actor.desk()) == 1
    assert seals.first_fault() == ""
    assert ledger.first_fault() == ""


@pytest.mark.parametrize(
    ("sql", "then", "now"),
    [
        ("UPDATE unlocks_historicalbatch SET name = 'other' WHERE history_id = {first}", 2, 2),
        ("DELETE FROM unlocks_historicalbatch WHERE history_id = {first}", 2, 1),
        ("UPDATE unlocks_historicalbatch SET history_actor = '' WHERE history_id = {first}", 2, 2),
        ("UPDATE unlocks_historicalbatch SET history_id = history_id + 100 WHERE history_id = {first} + 1", 2, 1),
    ],
)
def test_names_the_sealed_rows_that_differ(sql, then, now):
    batches = make_batch(items=0), make_batch(items=0)
    seals.seal_history(by=Actor.desk())
    first = Batch.history.order_by("history_id").values_list("history_id", flat=True)[0]
    sealed = json.loads(CaseEvent.objects.get().body)["facts"]["tables"]["unlocks_historicalbatch"]

    tamper(sql.format(first=first))

    assert len(batches) == sealed["rows"]
    assert seals.first_fault() == (
        f"History in unlocks_historicalbatch, rows {sealed['after'] + 1} to {sealed['to']}, differs from what ledger "
        f"entry 1 sealed: {then} rows then, {now} now."
    )
    with pytest.raises(CommandError, match="differs from what ledger entry 1 sealed"):
        call_command("verify_audit")


def test_an_anchor_shows_a_cut_tail(agent, tmp_path, capsys):
    case_unlocked(agent)
    anchor = tmp_path / "anchor.json"
    call_command("export_anchor", to=anchor)
    sequence, head = ledger.head()
    assert json.loads(anchor.read_text()) | {"at": ""} == {"at": "", "hash": head, "sequence": sequence}
    call_command("verify_audit", anchor=anchor)

    tamper(f"DELETE FROM unlocks_caseevent WHERE sequence = {sequence}")

    assert ledger.first_fault() == ""
    with pytest.raises(CommandError, match=f"entry {sequence} of the anchor is gone: the tail was cut after"):
        call_command("verify_audit", anchor=anchor)


def test_an_anchor_shows_a_ledger_written_anew(agent, tmp_path):
    case_unlocked(agent)
    anchor = tmp_path / "anchor.json"
    anchor.write_text(json.dumps({"sequence": 1, "hash": "f" * 64}))

    with pytest.raises(CommandError, match="entry 1 is not the one of the anchor"):
        call_command("verify_audit", anchor=anchor)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"sequence": "x", "hash": ""}'])
def test_refuses_a_file_that_is_no_anchor(text, tmp_path):
    anchor = tmp_path / "anchor.json"
    anchor.write_text(text)

    with pytest.raises(CommandError, match="is not an anchor"):
        call_command("verify_audit", anchor=anchor)


def test_an_anchor_goes_somewhere_or_the_command_says_so(tmp_path, mailoutbox):
    with pytest.raises(CommandError, match="Say where the anchor goes"):
        call_command("export_anchor")
    with pytest.raises(CommandError, match="could not be written"):
        call_command("export_anchor", to=tmp_path / "missing" / "anchor.json")
    call_command("export_anchor", mail="audit@vendor.example")
    assert [(mail.to, mail.subject) for mail in mailoutbox] == [(["audit@vendor.example"], "Unlock Desk anchor 0")]
