"""Three ways to instruct the unlock of a selection of batches: the desk's verb, hand-written SQL, a loop of save()."""

from decimal import Decimal
from itertools import groupby

from django.db import connection, transaction
from django.utils import timezone

from unlocks import operations
from unlocks.ledger import chain, events
from unlocks.models import Act, Batch, Instruction, RequestedBatch
from unlocks.operations import notices
from unlocks.stages import ANSWERED_WITHIN

_BATCH = (
    "number, name, total, item_count, posted_on, bypassed_on, exported_on, period_closed, account_id, reached_by, "
    "differs, external_id"
)
_HISTORY = "history_date, history_type, history_change_reason, history_user_id, history_actor, history_act"
_RECORDED = "%(at)s, '~', 'Unlock', %(user)s, %(actor)s, %(act)s"
_CHOSEN = "SELECT batch_id FROM unlocks_selection_batches WHERE selection_id = %(selection)s"
_LINES = f"outcome = 'waiting' AND batch_id IN ({_CHOSEN})"

# What the verb writes, by somebody who knows that every batch of the set is ready.
STATEMENTS = [
    "INSERT INTO unlocks_act (id, kind, by_id, actor, at, why, hours) "
    "VALUES (%(act)s, 'unlock', %(user)s, %(actor)s, %(at)s, '', 24)",
    "INSERT INTO unlocks_verdict (act_id, batch_id, line_id, refusal, fingerprint) "
    "SELECT %(act)s, l.batch_id, l.id, '', b.fingerprint FROM unlocks_requestedbatch l "
    f"JOIN unlocks_batch b ON b.id = l.batch_id WHERE {_LINES}",
    "INSERT INTO unlocks_historicalbatch (id, status, grant_id, unlocked_by_id, unlocked_until, extension_id, "
    f"{_BATCH}, {_HISTORY}) SELECT b.id, 'unlocking', l.consented_id, %(user)s, NULL, NULL, "
    f"b.{_BATCH.replace(', ', ', b.')}, {_RECORDED} FROM unlocks_verdict v JOIN unlocks_batch b ON b.id = v.batch_id "
    "JOIN unlocks_requestedbatch l ON l.id = v.line_id WHERE v.act_id = %(act)s",
    "UPDATE unlocks_batch SET status = 'unlocking', unlocked_by_id = %(user)s, grant_id = l.consented_id "
    "FROM unlocks_requestedbatch l "
    f"WHERE l.batch_id = unlocks_batch.id AND l.outcome = 'waiting' AND unlocks_batch.id IN ({_CHOSEN})",
    f"INSERT INTO unlocks_historicalrequestedbatch (id, unlock_request_id, batch_id, consented_id, outcome, "
    f"{_HISTORY}) SELECT id, unlock_request_id, batch_id, consented_id, 'unlocking', {_RECORDED} "
    f"FROM unlocks_requestedbatch WHERE {_LINES}",
    f"UPDATE unlocks_requestedbatch SET outcome = 'unlocking' WHERE {_LINES}",
    "INSERT INTO unlocks_instruction (key, what, batch_id, line_id, act_id, state, queued_at, next_try_at, tries, "
    "answer) SELECT {new_key}, 'unlock', batch_id, line_id, act_id, 'queued', %(at)s, %(at)s, 0, '' "
    "FROM unlocks_verdict WHERE act_id = %(act)s",
    "UPDATE unlocks_unlockrequest SET stage = 'product', stage_since = %(at)s, due_at = %(due)s WHERE id IN "
    "(SELECT l.unlock_request_id FROM unlocks_verdict v JOIN unlocks_requestedbatch l ON l.id = v.line_id "
    "WHERE v.act_id = %(act)s)",
]
_NEW_KEY = {"sqlite": "lower(hex(randomblob(16)))", "postgresql": "gen_random_uuid()"}
_DONE = (
    "SELECT l.unlock_request_id, b.account_id, b.id, b.number, b.total, v.fingerprint FROM unlocks_verdict v "
    "JOIN unlocks_batch b ON b.id = v.batch_id JOIN unlocks_requestedbatch l ON l.id = v.line_id "
    "WHERE v.act_id = %(act)s ORDER BY l.unlock_request_id, b.id"
)


def verb(selection, by):
    """Instruct the unlock of a selection as the desk does."""
    operations.unlock(Batch.objects.filter(selections=selection), by=by)


@transaction.atomic
def sql(selection, by):
    """Write what the verb writes with literal SQL, judging nothing. SQL has no key for entries and emails."""
    by, ops = by.begin(), connection.ops
    at = by.act.at
    values = {
        "act": by.act.id.hex,
        "selection": selection.pk.hex,
        "at": ops.adapt_datetimefield_value(at),
        "due": ops.adapt_datetimefield_value(at + ANSWERED_WITHIN),
        "user": by.user.pk,
        "actor": by.name,
    }
    with connection.cursor() as cursor:
        for statement in STATEMENTS:
            cursor.execute(statement.replace("{new_key}", _NEW_KEY[connection.vendor]), values)
        cursor.execute(_DONE, values)
        chain.append_all(_entries(cursor), by=by)
    notices.tell_result(Act(pk=by.act.id), by)


def _entries(rows):
    for about, batches in groupby(rows, key=lambda row: row[:2]):
        done = events.sum_up((batch, number, Decimal(total), mark) for _, _, batch, number, total, mark in batches)
        yield chain.Entry(events.UnlockInstructed(why="", hours=24, **done), *about)


@transaction.atomic
def save_loop(selection, by):
    """Unlock as admin actions usually do: save() batch by batch, with simple-history. No verdicts, no ledger."""
    lines = RequestedBatch.objects.filter(batch__selections=selection, outcome=RequestedBatch.Outcome.WAITING)
    by, now = by.begin(), timezone.now()
    act = Act.objects.create(pk=by.act.id, kind=Act.Kind.UNLOCK, by=by.user, actor=by.name, at=now, hours=24)
    for line in lines.select_related("batch"):
        batch = line.batch
        batch.status, batch.grant_id, batch.unlocked_by = Batch.Status.UNLOCKING, line.consented_id, by.user
        batch.save()
        line.outcome = RequestedBatch.Outcome.UNLOCKING
        line.save()
        Instruction.objects.create(what="unlock", batch=batch, line=line, act=act, queued_at=now, next_try_at=now)
