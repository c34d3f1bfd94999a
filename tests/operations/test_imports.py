"""Importing files: what is made of each record, and what is written."""

import pytest

from tests.operations.importing import bring, sentences
from unlocks.ledger import verify
from unlocks.models import Batch, BatchItem

pytestmark = pytest.mark.django_db

FIRST = {
    "accounts": """A-1,Northwind,quickbooks_online,yes,America/New_York,X1
        A-2,Blue Ridge,none,no,,""",
    "contacts": """A-1,Dana,dana@northwind.example,555,yes,C1
        A-1,Omar,omar@northwind.example,,no,""",
    "batches": """A-1,B-1,May,bypassed,,5/1/2026,5/2/2026,,no,2,30.00,,E1
        A-1,B-2,June,posted,,6/1/2026,,,no,1,5.00,,
        A-2,B-1,Other,exported,bypassed,,,7/1/2026,,0,0,,""",
    "items": """A-1,B-1,invoice,I-1,5/1/2026,R. Alvarez,10.00,Memo,,,J1,North
        A-1,B-1,invoice,I-2,5/1/2026,K. Brandt,20.00,,QBO-1,,,
        A-1,B-2,payment,P-1,6/1/2026,,5.00,,,,,""",
    "lines": """A-1,B-1,invoice,I-1,2,SKU2,,1,4.00,4.00,
        A-1,B-1,invoice,I-1,1,SKU1,Service,2,3.00,6.00,Income""",
}


def test_a_first_import(manager):
    imported = bring(manager, **FIRST)
    assert sentences(imported) == []
    assert (imported.state, imported.parts, imported.done) == ("done", 3, 3)
    assert imported.counts == {
        "accounts": {"new": 2},
        "contacts": {"new": 2},
        "batches": {"new": 3},
        "items": {"new": 3},
        "lines": {"new": 2},
    }
    assert verify.findings() == []


def test_the_same_again_changes_nothing(manager):
    bring(manager, **FIRST)
    before = Batch.history.count(), BatchItem.history.count()
    again = bring(manager, **FIRST)
    assert again.counts == {
        "accounts": {"same": 2},
        "contacts": {"same": 2},
        "batches": {"same": 3},
        "items": {"same": 3},
        "lines": {"same": 2},
    }
    assert (Batch.history.count(), BatchItem.history.count()) == before
