"""Three ways to unlock a selection of batches: the desk's verb, hand-written SQL, a loop of save()."""

from decimal import Decimal
from itertools import groupby

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from unlocks.ledger import chain, events
from unlocks.models import Batch, RequestedBatch

_BATCH = "number, name, total, item_count, posted_on, bypassed_on, exported_on, period_closed, account_id"
_REQUEST = (
    "account_id, requester_id, channel, bypass_reason, reason, assignee_id, opened_by_id, opened_at, advice, "
    "advised_at, pin_verified_at, pin_typed_by, pin_verified_by_id, closed_at, resolution"
)
_HISTORY = "history_date, history_type, history_change_reason, history_user_id, history_actor, history_act"
_RECORDED = "%(at)s, '~', 'Unlock', %(user)s, %(actor)s, %(act)s"
_CHOSEN = "SELECT batch_id FROM unlocks_selection_batches WHERE selection_id = %(selection)s"
_LINES = f"outcome = 'waiting' AND batch_id IN ({_CHOSEN})"
_REQUESTS = (
    "status = 'consented' AND id IN (SELECT l.unlock_request_id FROM unlocks_verdict v "
    "JOIN unlocks_requestedbatch l ON l.id = v.line_id WHERE v.act_id = %(act)s)"
)

# What the verb writes, by somebody who knows that every batch of the set is ready.
STATEMENTS = [
    "INSERT INTO unlocks_act (id, kind, by_id, actor, at, why) "
    "VALUES (%(act)s, 'unlock', %(user)s, %(actor)s, %(at)s, '')",
    "INSERT INTO unlocks_verdict (act_id, batch_id, line_id, refusal, fingerprint) "
    "SELECT %(act)s, l.batch_id, l.id, '', b.fingerprint FROM unlocks_requestedbatch l "
    f"JOIN unlocks_batch b ON b.id = l.batch_id WHERE {_LINES}",
    f"INSERT INTO unlocks_historicalbatch (id, status, grant_id, unlocked_by_id, unlocked_until, {_BATCH}, {_HISTORY}) "
    f"SELECT b.id, 'unlocked', l.consented_id, %(user)s, %(until)s, b.{_BATCH.replace(', ', ', b.')}, {_RECORDED} "
    "FROM unlocks_verdict v JOIN unlocks_batch b ON b.id = v.batch_id "
    "JOIN unlocks_requestedbatch l ON l.id = v.line_id WHERE v.act_id = %(act)s",
    "UPDATE unlocks_batch SET status = 'unlocked', unlocked_by_id = %(user)s, unlocked_until = %(until)s, "
    "grant_id = l.consented_id FROM unlocks_requestedbatch l "
    f"WHERE l.batch_id = unlocks_batch.id AND l.outcome = 'waiting' AND unlocks_batch.id IN ({_CHOSEN})",
    f"INSERT INTO unlocks_historicalrequestedbatch (id, unlock_request_id, batch_id, consented_id, outcome, "
    f"{_HISTORY}) SELECT id, unlock_request_id, batch_id, consented_id, 'unlocked', {_RECORDED} "
    f"FROM unlocks_requestedbatch WHERE {_LINES}",
    f"UPDATE unlocks_requestedbatch SET outcome = 'unlocked' WHERE {_LINES}",
    f"INSERT INTO unlocks_historicalunlockrequest (id, status, {_REQUEST}, {_HISTORY}) "
    f"SELECT id, 'unlocked', {_REQUEST}, {_RECORDED} FROM unlocks_unlockrequest WHERE {_REQUESTS}",
    f"UPDATE unlocks_unlockrequest SET status = 'unlocked' WHERE {_REQUESTS}",
]
_DONE = (
    "SELECT l.unlock_request_id, b.account_id, b.id, b.number, b.total, v.fingerprint FROM unlocks_verdict v "
    "JOIN unlocks_batch b ON b.id = v.batch_id JOIN unlocks_requestedbatch l ON l.id = v.line_id "
    "WHERE v.act_id = %(act)s ORDER BY l.unlock_request_id, b.id"
)


def verb(selection, by):
    """Unlock a selection as the desk does."""
    operations.unlock(Batch.objects.filter(selections=selection), by=by)


@transaction.atomic
def sql(selection, by):
    """Write what the verb writes with literal SQL, judging nothing. Sealing is the ledger's: SQL has no key."""
    by, ops = by.begin(), connection.ops
    at = by.act.at
    values = {
        "act": by.act.id.hex,
        "selection": selection.pk.hex,
        "at": ops.adapt_datetimefield_value(at),
        "until": ops.adapt_datetimefield_value(at + settings.UNLOCK_WINDOW),
        "user": by.user.pk,
        "actor": by.name,
    }
    with connection.cursor() as cursor:
        for statement in STATEMENTS:
            cursor.execute(statement, values)
        cursor.execute(_DONE, values)
        chain.append_all(_entries(cursor), by=by)


def _entries(rows):
    for about, batches in groupby(rows, key=lambda row: row[:2]):
        done = events.sum_up((batch, number, Decimal(total), mark) for _, _, batch, number, total, mark in batches)
        yield chain.Entry(events.Unlocked(why="", **done), *about)


@transaction.atomic
def save_loop(selection, by):
    """Unlock as admin actions usually do: save() batch by batch, with simple-history. No verdicts, no ledger."""
    lines = RequestedBatch.objects.filter(batch__selections=selection, outcome=RequestedBatch.Outcome.WAITING)
    until = timezone.now() + settings.UNLOCK_WINDOW
    for line in lines.select_related("batch"):
        batch = line.batch
        batch.status, batch.grant_id = Batch.Status.UNLOCKED, line.consented_id
        batch.unlocked_by, batch.unlocked_until = by.user, until
        batch.save()
        line.outcome = RequestedBatch.Outcome.UNLOCKED
        line.save()
