"""What the tests of verbs have in common."""

import json
from contextlib import contextmanager, suppress

import pytest
from django.core.exceptions import PermissionDenied

from tests.attacks import difference, snapshot
from tests.factories import acting, make_user
from unlocks import operations
from unlocks.actors import Actor
from unlocks.ledger import chain
from unlocks.models import LedgerEntry


@contextmanager
def refused(*codes, says=None, writes=()):
    """Expect Refused with these codes, and nothing written but in the tables that `writes` names."""
    before = snapshot()
    with pytest.raises(operations.Refused) as caught:
        yield
    assert [code for code, _ in caught.value.refusals] == list(codes)
    if says is not None:
        assert str(caught.value) == says
    assert difference(before, snapshot()) == list(writes)
    assert list(chain.faults()) == []


def only_for(groups, verb):
    """Call a verb as one of each group, and as nobody of any: those not named are denied, and nothing is written.

    Those named are let through, whatever the verb then says.
    """
    for group in ("Agent", "Manager", "Auditor", None):
        by = acting(make_user(f"one-{group}", group=group))
        before = snapshot()
        if group in groups:
            with suppress(operations.Refused):
                verb(by)
        else:
            with pytest.raises(PermissionDenied):
                verb(by)
            assert difference(before, snapshot()) == []


def recorded(unlock_request=None, **where):
    """Return the events in the ledger, oldest first, as (kind, facts); what tests start from apart."""
    entries = LedgerEntry.objects.filter(
        **({"unlock_request": unlock_request} if unlock_request else {}), **where
    ).exclude(kind__in=["staff_changed", "imported", "pin_issued", "certificate_key"], actor=Actor.desk().name)
    return [(entry.kind, facts_of(entry)) for entry in entries.order_by("sequence")]


def facts_of(entry):
    """Return all facts of an entry as JSON values, those that are personal too; but for HMACs of secrets."""
    facts = json.loads(entry.facts)["facts"] | json.loads(entry.personal)["personal"]
    return {name: value for name, value in facts.items() if name not in ("password_mac", "factors_mac")}


def kinds(unlock_request):
    return [kind for kind, _ in recorded(unlock_request)]
