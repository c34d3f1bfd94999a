"""Every attack of the table is refused and leaves no trace; without the guards the same attacks succeed."""

import inspect

import pytest
from django.core.exceptions import ObjectDoesNotExist, PermissionDenied
from django.db import DatabaseError, connection, transaction
from django.db.models import ProtectedError
from django.http import HttpResponseBase

from tests.attacks import ATTACKS, difference, make_scene, said_by, snapshot
from unlocks import operations
from unlocks.database import guards
from unlocks.ledger import chain
from unlocks.models import Act, Batch, LedgerEntry

pytestmark = pytest.mark.django_db

REFUSALS = (DatabaseError, ProtectedError, PermissionDenied, operations.Refused, ObjectDoesNotExist)
LEDGER = LedgerEntry._meta.db_table
NO_EFFECT = {200, 302, 400, 403, 404, 405, 410, 422}


def each(attacks):
    marks = {"": [], "sqlite": [pytest.mark.sqlite], "postgresql": [pytest.mark.postgresql]}
    return [pytest.param(attack, id=attack.name, marks=marks[attack.only]) for attack in attacks]


@pytest.fixture(scope="module")
def scene(shared):
    made = make_scene()
    made.before, made.granted = snapshot(), granted()
    assert list(chain.faults()) == []
    return made


@pytest.fixture(scope="class")
def without_guards(scene):
    connection.check_constraints()  # PostgreSQL drops no trigger of a table with checks still to come
    with guards.lifted():
        yield


def carried_out(attack, scene, tmp_path):
    """Carry out an attack up to where a commit would accept it; return what it came to."""
    needs_path = "tmp_path" in inspect.signature(attack.carry_out).parameters
    result = attack.carry_out(scene, **({"tmp_path": tmp_path} if needs_path else {}))
    connection.check_constraints()
    return result


def test_table_is_as_long_as_it_says():
    names = [attack.name for attack in ATTACKS]
    assert len(names) == len(set(names)) > 100


@pytest.mark.parametrize("attack", each(ATTACKS))
def test_attack_is_refused(attack, scene, tmp_path):
    with transaction.atomic():
        result, around = None, transaction.atomic()
        around._from_testcase = True  # a PIN try is a transaction of its own
        try:
            with around:
                result = carried_out(attack, scene, tmp_path)
        except REFUSALS as error:
            why = error.code if isinstance(error, operations.Refused) else str(error)
            assert any(words in why for words in map(said_by, attack.refused_by)), why
        else:  # an error took everything back
            assert refused(result), f"{attack.name} went through"
            after = snapshot()
            assert difference(scene.before, after, may_grow=True) == []
            assert granted() == scene.granted
            assert after[LEDGER] == scene.before[LEDGER] or list(chain.faults()) == []
        transaction.set_rollback(True)


def granted():
    return set(Batch.objects.filter(status__in=Batch.GRANTED).values_list("pk", "status", "grant"))


def refused(result):
    if isinstance(result, Act):
        return result.verdicts.exists() and not result.verdicts.filter(refusal="").exists()
    return isinstance(result, HttpResponseBase) and result.status_code in NO_EFFECT


class TestWithoutGuards:
    """The table can fail: what only the guards refuse succeeds once they are lifted."""

    @pytest.mark.parametrize("attack", each(attack for attack in ATTACKS if attack.needs_guards))
    def test_attack_succeeds(self, attack, scene, without_guards, tmp_path):
        with transaction.atomic():
            carried_out(attack, scene, tmp_path)
            assert difference(scene.before, snapshot()) != []
            transaction.set_rollback(True)
