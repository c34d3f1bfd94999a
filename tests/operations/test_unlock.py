import sys
import uuid
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest
from django.core.exceptions import PermissionDenied
from django.db import IntegrityError, connection, transaction
from django.db.models import CharField, Value
from django.test.utils import CaptureQueriesContext

from tests import factories
from tests.attacks import difference, snapshot
from tests.factories import (
    acting,
    agree,
    case_awaiting,
    case_consented,
    case_unlocked,
    case_unlocking,
    make_account,
    make_batch,
    make_batches,
    open_case,
)
from tests.operations import only_for, recorded, refused
from unlocks import history, operations, rules
from unlocks.actors import Actor
from unlocks.database import guards
from unlocks.ledger import invariants
from unlocks.models import Account, Act, Batch, Instruction, UnlockRequest
from unlocks.rules import Refusal

pytestmark = pytest.mark.django_db


def verdicts(act):
    return dict(act.verdicts.values_list("batch__number", "refusal"))


def test_unlocks_under_the_consent_given_for_it(agent, second_agent):
    case = case_consented(agent)
    act = operations.unlock(case.rows, by=acting(second_agent))

    assert verdicts(act) == {batch.number: "" for batch in case.batches}
    case.refresh()
    for batch in case.batches:
        line = batch.lines.get()
        assert (batch.status, batch.grant, batch.unlocked_by, batch.unlocked_until) == (
            "unlocking",
            line.consented,
            second_agent,
            None,
        )
        assert (line.outcome, line.consented.consent) == ("unlocking", case.consent)
        row = batch.history.first()
        assert (row.status, row.history_user, row.history_act, row.history_change_reason) == (
            "unlocking",
            second_agent,
            act.pk,
            "Unlock",
        )
        asked = batch.instructions.get()
        assert (asked.what, asked.state, asked.line, asked.act, asked.queued_at, asked.tries) == (
            "unlock",
            "queued",
            line,
            act,
            act.at,
            0,
        )
    assert Instruction.objects.values("key").distinct().count() == 2
    assert case.unlock_request.status == "consented"
    assert case.unlock_request.entries.latest("sequence").act == act.pk
    kind, facts = recorded(case.unlock_request)[-1]
    assert (kind, facts["amount"], facts["batches"], facts["numbers"]) == (
        "unlock_instructed",
        "200.00",
        2,
        [batch.number for batch in case.batches],
    )
    assert [(wrong, list(rows)) for wrong, rows in invariants.offenders() if rows.exists()] == []


def test_only_for_those_who_unlock(agent):
    case = case_consented(agent)
    only_for(["Agent", "Manager"], lambda by: operations.unlock(case.rows, by=by))
    assert Act.objects.count() == 2
    assert Batch.objects.filter(status="unlocking").count() == 2


def _expired(agent, settings):
    settings.CONSENT_LIFETIME = timedelta(seconds=-1)
    return case_consented(agent).batch


def _changed(agent, settings):
    case = case_consented(agent)
    history.update(case.batch.items.all(), by=Actor.desk(), memo="Changed")
    return case.batch


def _closed_period(agent, settings):
    case = case_consented(agent)
    history.update(case.rows, by=Actor.desk(), period_closed=True)
    return case.batch


def _differs(agent, settings):
    case = case_consented(agent)
    history.update(case.rows, by=Actor.desk(), differs="exported")
    return case.batch


def _inactive(agent, settings):
    case = case_consented(agent)
    history.update(Account.objects.filter(pk=case.account.pk), by=Actor.desk(), active=False)
    return case.batch


def _withdrawn(agent, settings):
    case = case_consented(agent)
    operations.withdraw_consent(case.consent, why="Asked", by=acting(agent))
    return case.batch


def _relocking(agent, settings):
    case = case_unlocked(agent)
    operations.withdraw_consent(case.consent, why="Asked", by=acting(agent))
    return case.batch


REFUSED = {
    Refusal.EXPORTED: lambda agent, settings: make_batch(status="exported"),
    Refusal.PENDING: lambda agent, settings: make_batch(status="pending"),
    Refusal.POSTED: lambda agent, settings: make_batch(status="posted"),
    Refusal.UNLOCKING: lambda agent, settings: case_unlocking(agent).batch,
    Refusal.ALREADY_UNLOCKED: lambda agent, settings: case_unlocked(agent).batch,
    Refusal.RELOCKING: _relocking,
    Refusal.NOT_REQUESTED: lambda agent, settings: make_batch(),
    Refusal.NOT_ASKED: lambda agent, settings: open_case(agent).batch,
    Refusal.AWAITING_CUSTOMER: lambda agent, settings: case_awaiting(agent).batch,
    Refusal.CONSENT_EXPIRED: _expired,
    Refusal.CHANGED: _changed,
    Refusal.PERIOD_CLOSED: _closed_period,
    Refusal.STATUS_DIFFERS: _differs,
    Refusal.ACCOUNT_INACTIVE: _inactive,
}


@pytest.mark.parametrize(("code", "make"), REFUSED.items(), ids=[str(code) for code in REFUSED])
def test_refuses_with_the_reason_and_changes_nothing(agent, settings, code, make):
    batch = make(agent, settings)
    before = snapshot()
    act = operations.unlock(Batch.objects.filter(pk=batch.pk), by=acting(agent))
    assert verdicts(act) == {batch.number: code}
    assert difference(before, snapshot(), may_grow=True) == []
    assert [facts["refusals"] for kind, facts in recorded() if kind == "refused"] == (
        [{code: 1}] if act.verdicts.get().line else []
    )


def test_a_withdrawn_consent_leaves_the_batch_without_request(agent, settings):
    batch = _withdrawn(agent, settings)
    act = operations.unlock(Batch.objects.filter(pk=batch.pk), by=acting(agent))
    assert verdicts(act) == {batch.number: Refusal.NOT_REQUESTED}


def test_unlocks_what_it_may_and_says_why_not_the_rest(agent):
    account = make_account()
    ready, waiting = case_consented(agent, account=account), case_awaiting(agent, account=account)
    exported = make_batch(account=account, status="exported")
    act = operations.unlock(Batch.objects.filter(account=account), by=acting(agent))
    assert verdicts(act) == {
        **{batch.number: "" for batch in ready.batches},
        **{batch.number: Refusal.AWAITING_CUSTOMER for batch in waiting.batches},
        exported.number: Refusal.EXPORTED,
    }
    assert list(Batch.objects.filter(status="unlocking").order_by("pk")) == ready.batches
    assert [kind for kind, _ in recorded(waiting.unlock_request)][-1] == "refused"


def test_second_unlock_is_told(agent, second_agent):
    case = case_unlocked(agent)
    before = snapshot()
    act = operations.unlock(case.rows, by=acting(second_agent))
    assert set(verdicts(act).values()) == {Refusal.ALREADY_UNLOCKED}
    assert difference(before, snapshot(), may_grow=True) == []


def test_one_key_one_act(agent):
    case, key = case_consented(agent), uuid.uuid4()
    first = operations.unlock(case.rows, by=acting(agent), key=key)
    before = snapshot()
    second = operations.unlock(case.rows, by=acting(agent), key=key)
    assert (first, first.repeated, second.repeated) == (second, False, True)
    assert difference(before, snapshot()) == []


def test_a_key_is_its_owners_and_of_one_kind(agent, second_agent, manager):
    case, key = case_consented(agent), uuid.uuid4()
    operations.unlock(case.rows, by=acting(agent), key=key)
    with pytest.raises(PermissionDenied):
        operations.unlock(case.rows, by=acting(second_agent), key=key)
    with pytest.raises(PermissionDenied):
        operations.mark_re_exported(case.rows, by=acting(agent), key=key)


@pytest.mark.parametrize("nothing", [Batch.objects.none(), Batch.objects.filter(pk__in=[]), Batch.objects.filter(pk=0)])
def test_unlocking_nothing_does_nothing(agent, nothing):
    act = operations.unlock(nothing, by=acting(agent))
    assert not act.verdicts.exists()


def test_refuses_all_while_a_guard_is_missing(agent):
    case = case_consented(agent)
    connection.check_constraints()
    with guards.lifted(), refused(Refusal.GUARDS_MISSING):
        operations.unlock(case.rows, by=acting(agent))
    operations.unlock(case.rows, by=acting(agent))


def test_were_the_rule_wrong_the_database_would_refuse_the_act(agent, monkeypatch):
    case = case_consented(agent)
    history.update(case.rows, by=Actor.desk(), period_closed=True)
    module = sys.modules["unlocks.operations.unlock"]
    monkeypatch.setattr(module, "_UNLOCK", replace(module._UNLOCK, judge=all_ready))
    before = snapshot()
    with pytest.raises(IntegrityError, match="No unlock without"), transaction.atomic():
        operations.unlock(case.rows, by=acting(agent))
    assert difference(before, snapshot()) == []


def all_ready(batches, *, by, at):
    return rules.with_open_line(batches).annotate(refusal=Value("", output_field=CharField()))


def statements(agent, n):
    account = make_account()
    case = case_consented(agent, batches=make_batches(account=account, n=n, items=0))
    with CaptureQueriesContext(
        connection,
    ) as captured:
        operations.unlock(case.rows, by=acting(agent))
    assert Batch.objects.filter(account=account, status="unlocking").count() == n
    return [query["sql"].split(" ", 1)[0] for query in captured]


def test_costs_the_same_statements_at_1_and_at_200(agent):
    assert agent.has_perm("unlocks.unlock_batch")  # asked once a login, and kept by the user
    assert statements(agent, 1) == statements(agent, 200)


def rows_read():
    """Return how many rows the transaction has read so far by indexes, by table."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT relname, idx_tup_fetch FROM pg_stat_xact_user_tables WHERE idx_tup_fetch > 0")
        return Counter(dict(cursor.fetchall()))


@pytest.mark.postgresql
def test_no_batch_reads_what_its_request_or_its_agent_has(agent, manager):
    """Such a plan is quadratic: for one request of 10,000 batches, agreeing took 5 seconds and unlocking 23."""
    n = 200
    for _ in range(10):
        case_unlocked(agent)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")  # so that a request is expected to be small
    case = case_awaiting(agent, batches=make_batches(account=make_account(), n=n, items=0))
    for _ in range(n):
        operations.add_note(case.unlock_request, text="An entry of the agent", by=acting(agent))
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
    for verb in (
        lambda: agree(case),
        lambda: operations.unlock(case.rows, by=acting(agent)),
        factories.carry_out,
        lambda: operations.relock(case.rows, why="Nobody answers", by=acting(manager)),
        factories.carry_out,
    ):
        before = rows_read()
        verb()
        assert {table: rows // n for table, rows in (rows_read() - before).items() if rows > 60 * n} == {}


def test_several_requests_of_several_accounts_in_one_act(agent):
    cases = [case_consented(agent) for _ in range(3)]
    act = factories.unlock(Batch.objects.all(), by=acting(agent))
    assert act.verdicts.filter(refusal="").count() == 6
    assert set(UnlockRequest.objects.values_list("status", flat=True)) == {"unlocked"}
    assert [kind for kind, _ in recorded(kind="unlocked")] == ["unlocked"] * len(cases)
