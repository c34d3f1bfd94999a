"""What the audit says when a row of the outbox tells something else than the ledger about an email."""

import pytest
from django.db import transaction
from django.utils import timezone

from tests import factories, mail_servers
from tests.factories import deliver
from unlocks.database import guards
from unlocks.ledger import present
from unlocks.models import LedgerEntry, Outgoing

pytestmark = pytest.mark.django_db

CHANGES = [
    {"state": "sent"},
    {"state": "given_up"},
    {"address": "mine@example.com"},
    {"email": "receipt"},
    {"link_id": None},
    {"consent_id": 1},
]


@pytest.fixture
def refused(agent):
    """An email that was refused by its server."""
    factories.case_awaiting(agent)
    with mail_servers.running() as server:
        server.answers["RCPT"] = "550 No such mailbox"
        deliver()
    return Outgoing.objects.get()


def change(row, **columns):
    with transaction.atomic(), guards.lifted():
        Outgoing.objects.filter(pk=row.pk).update(**columns)


def test_an_honest_outbox_is_as_it_was_told(agent, refused):
    factories.case_consented(agent)
    deliver()
    factories.case_awaiting(agent)
    assert sorted(Outgoing.objects.values_list("state", flat=True)) == ["canceled", "queued", "refused", "sent"]
    assert list(present.faults()) == []


@pytest.mark.parametrize("columns", CHANGES, ids=str)
def test_a_row_that_was_changed(refused, columns):
    change(refused, **columns)
    entry = LedgerEntry.objects.get(kind="email_failed").sequence
    (column,) = columns
    finding = f"Outgoing {refused.pk}: its column {column} differs from what ledger entry {entry} tells."
    assert list(present.faults()) == [("outgoing differs now", finding)]


def test_a_row_that_is_done_of_which_no_entry_tells(agent):
    factories.case_awaiting(agent)
    row = Outgoing.objects.get()
    Outgoing.objects.filter(pk=row.pk).update(state="sent", nonce="", done_at=timezone.now())
    finding = f"Outgoing {row.pk}: no ledger entry tells that it is sent."
    assert list(present.faults()) == [("email without entry", finding)]
