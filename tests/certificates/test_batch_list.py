"""The list of batches as a CSV file."""

import csv
import hashlib
import io
import json
from pathlib import Path

import pytest

from unlocks.certificates import batch_list

from . import samples


def rows(facts):
    return list(csv.reader(io.StringIO(batch_list.content(facts).decode("utf-8-sig"), newline="")))


def test_every_batch_is_listed_as_recorded():
    facts = samples.closed()
    facts["batches"] = facts["batches"][:2]
    facts["batches"][1] |= dict.fromkeys(("name", "total", "item_count", "ended_at", "ended_by"))
    prints = [batch["fingerprint"] for batch in facts["batches"]]
    facts["batches"][1]["refusal"] = "=1+1"
    unlocked = ["2026-11-23T14:01:45.000110+00:00", "agent2", "2026-11-23T14:02:10.000116+00:00"]
    assert rows(facts) == [
        [
            "Number",
            "Name",
            "Items",
            "Total",
            "Outcome",
            "Unlock instructed at (UTC)",
            "Unlock instructed by",
            "Unlocked at (UTC)",
            "Ended at (UTC)",
            "Ended by",
            "Why it could not be unlocked",
            "Fingerprint",
        ],
        [
            "INV-20261101-01",
            "Invoices, Service dept.",
            "14",
            "11920.00",
            "re_exported",
            *unlocked,
            "2026-11-24T09:12:06.000111+00:00",
            "agent2",
            "",
            prints[0],
        ],
        ["PAY-20261101-02", "", "", "", "re_exported", *unlocked, "", "", "'=1+1", prints[1]],
    ]


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+1", "'+1"),
        ("-1+cmd", "'-1+cmd"),
        ("-", "'-"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("\r=1", "'\r=1"),
        ("＝1", "'＝1"),
        ("-12.50", "-12.50"),
        ("a=1", "a=1"),
        ('two\nlines, "quoted"', 'two\nlines, "quoted"'),
        ("Zoë 😀", "Zoë 😀"),
    ],
)
def test_no_cell_is_a_formula(name, cell):
    facts = samples.closed()
    facts["batches"] = [facts["batches"][0] | {"name": name}]
    assert rows(facts)[1][1] == cell


def test_negative_total_stays_a_number():
    facts = samples.closed()
    facts["batches"][0]["total"] = "-12.50"
    assert rows(facts)[1][3] == "-12.50"


def test_same_facts_same_bytes_and_their_hash():
    content = batch_list.content(samples.many(600))
    assert content == batch_list.content(samples.many(600))
    assert content.startswith("\ufeffNumber,Name,".encode())
    assert content.endswith(b"\r\n")
    assert batch_list.sha256(samples.many(600)) == hashlib.sha256(content).hexdigest()


def test_list_of_the_certificate_that_is_kept_stays_the_same():
    """Its hash is on paper: another way to write the list needs another format of certificates."""
    golden = Path(__file__).parent / "golden" / "unlock-desk-certificate-1.json"
    facts = json.loads(golden.read_text())["certificate"]
    assert batch_list.sha256(facts) == "18c6bfde2ac280fcef6f4ad1e358784428fbd065862edf0d1917c0eb9d64b46c"


def test_file_is_named_after_the_certificate():
    assert batch_list.file_name(samples.closed()) == "CN-000012-2-batches.csv"
