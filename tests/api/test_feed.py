"""The ledger as a feed: in its order, at least once, without a gap, and no more of it than the token may see."""

import json

import pytest
from django.db import connection

from tests.api import caller
from tests.attacks import sql
from tests.factories import case_unlocked, make_token
from unlocks.actors import Actor
from unlocks.database import guards
from unlocks.ledger import seals
from unlocks.models import LedgerEntry

pytestmark = pytest.mark.django_db


def read_all(by, limit=7):
    """Follow the feed from its beginning, as an integration does; return the events."""
    found, after = [], 0
    while True:
        page = by.get(f"/events?after={after}&limit={limit}").json()
        if not page["data"]:
            assert page["next"] == after
            return found
        found, after = found + page["data"], page["next"]


def test_every_entry_but_the_seals_comes_once_in_order(superuser, agent):
    case_unlocked(agent)
    seals.seal_history(by=Actor.desk())
    by = caller(superuser, "events", "personal")
    events = read_all(by)
    entries = LedgerEntry.objects.exclude(kind="sealed").order_by("sequence")
    assert [(one["id"], one["kind"]) for one in events] == list(entries.values_list("sequence", "kind"))
    assert LedgerEntry.objects.filter(kind="sealed").count() == 1
    consented, entry = next(one for one in events if one["kind"] == "consented"), entries.get(kind="consented")
    assert consented["facts"] == json.loads(entry.facts)["facts"]
    assert consented["personal"] == json.loads(entry.personal)["personal"]
    assert (consented["actor"], consented["ip"], consented["user"]) == (entry.actor, None, None)


def test_personal_texts_are_for_those_who_may_see_them(superuser, agent):
    case = case_unlocked(agent)
    events = read_all(caller(superuser, "events"))
    assert {(one["actor"], one["ip"], json.dumps(one["personal"])) for one in events} == {(None, None, "null")}
    text = json.dumps(events)
    for word in (case.admin.name, case.admin.email, "Bypassed by mistake", "Controller"):
        assert word not in text
    assert f'"user": {agent.pk}' in text


def test_no_secret_is_in_it(superuser, agent):
    case = case_unlocked(agent)
    _, token = make_token("other", "read", by=superuser)
    text = json.dumps(read_all(caller(superuser, "events", "personal")))
    for secret in (case.token, case.receipt, token, case.account.pin_hash):
        assert secret not in text


def test_an_entry_that_was_tampered_with_tells_nothing(superuser, agent):
    case = case_unlocked(agent)
    connection.check_constraints()  # PostgreSQL drops no trigger of a table with checks still to come
    with guards.lifted():
        sql("UPDATE unlocks_ledgerentry SET facts = '{}' WHERE kind = 'consented'")
    events = read_all(caller(superuser, "events", "personal"))
    (altered,) = [one for one in events if one["kind"] == "altered"]
    assert (altered["facts"], altered["personal"], altered["request"]) == ({}, None, case.unlock_request.reference)
