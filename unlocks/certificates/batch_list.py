"""The batches of a certificate as a CSV file, for a spreadsheet: what is too long to be listed on paper."""

from .. import digest
from ..texts.cells import csv_file

_COLUMNS = {
    "number": "Number",
    "name": "Name",
    "item_count": "Items",
    "total": "Total",
    "outcome": "Outcome",
    "instructed_at": "Unlock instructed at (UTC)",
    "unlocked_by": "Unlock instructed by",
    "unlocked_at": "Unlocked at (UTC)",
    "ended_at": "Ended at (UTC)",
    "ended_by": "Ended by",
    "refusal": "Why it could not be unlocked",
    "fingerprint": "Fingerprint",
}


def content(facts):
    """Return the CSV file. The same facts give the same bytes."""
    return csv_file(_COLUMNS.values(), ([batch[key] for key in _COLUMNS] for batch in facts["batches"]))


def sha256(facts):
    """Return the SHA-256 (hex) of the CSV file."""
    return digest.sha256(content(facts))


def file_name(facts):
    return f"{facts['number']}-batches.csv"
