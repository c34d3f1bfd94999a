"""A transactional test empties the tables afterwards; the next test finds the guards and what migrations made."""

import pytest
from django.contrib.auth.models import Group
from django.db import connection, transaction

from tests import factories
from unlocks.database import guards
from unlocks.models import Batch, ConsentTerms, LedgerEntry


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("turn", [1, 2])
def test_each_turn_starts_the_same(turn, agent):
    assert guards.missing() == []
    assert not Batch.objects.exists()
    assert LedgerEntry.objects.get().about_id == agent.pk
    assert list(Group.objects.order_by("name").values_list("name", flat=True)) == ["Agent", "Auditor", "Manager"]
    assert ConsentTerms.objects.get().published_at
    assert agent.has_perm("unlocks.unlock_batch")
    factories.case_unlocked(agent)
    with pytest.raises(Exception, match="evidence"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("DELETE FROM unlocks_ledgerentry")


def test_guards_stay_where_the_database_is_no_test_database(db, monkeypatch):
    monkeypatch.setitem(connection.settings_dict, "NAME", "desk.sqlite3")
    with pytest.raises(RuntimeError, match="disposable"), guards.lifted():
        pass
    assert guards.missing() == []
