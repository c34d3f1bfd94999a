"""A template and a sample file of each kind. The samples belong together: three accounts and all that is theirs."""

import csv
import io
from pathlib import Path

from .kinds import KINDS

FOLDER = Path(__file__).parent / "samples"


def sample(kind: str) -> bytes:
    """Return the sample file of a kind."""
    return (FOLDER / f"{KINDS[kind].name}.csv").read_bytes()


def template(kind: str) -> bytes:
    """Return a CSV file with nothing but the header."""
    file = io.StringIO()
    csv.writer(file).writerow(KINDS[kind].header)
    return file.getvalue().encode()
