"""A case file, from the request page to the check on a machine without a network."""

import subprocess
import sys
from zipfile import ZipFile

import pytest

from tests import factories
from tests.papers import PDF
from unlocks import operations

pytestmark = pytest.mark.django_db(transaction=True)

# Runs a script as Python does, but ends it at once if it opens a socket.
WITHOUT_NETWORK = """
import runpy, sys
sys.addaudithook(lambda event, given: sys.exit(event) if event.startswith("socket.") else None)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def check(folder, *given):
    """Run the script that lies in a folder; return its exit status and what it says."""
    command = [sys.executable, "-I", "-S", "-c", WITHOUT_NETWORK, folder / "verify_certificate.py", folder, *given]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


def test_a_case_file_is_taken_unpacked_and_checked(page, desk, sign_in, on_each_screen, evidence_place):
    factories.record_certificate_key()
    agent = factories.make_user("agent", group="Agent")
    case = factories.case_recorded_by_phone(agent)
    operations.attach_evidence(
        case.consent, what="signed_paper", file_name="signed.pdf", content=PDF, by=factories.acting(agent)
    )
    sign_in(page, factories.make_user("auditor", group="Auditor"))
    page.goto(f"{desk}{case.unlock_request.get_absolute_url()}")
    on_each_screen(page)
    with page.expect_download() as download:
        page.get_by_role("button", name="Case file (ZIP)").click()
    assert download.value.suggested_filename == f"{case.unlock_request}-case-file.zip"
    with ZipFile(download.value.path()) as archive:
        archive.extractall(place := evidence_place.parent)
    (place / "keys.json").write_bytes(page.request.get(f"{desk}/check/keys.json").body())

    folder = place / case.unlock_request.reference
    status, said = check(folder, "--keys", place / "keys.json")
    assert (status, said.splitlines()[0][:8]) == (0, "GENUINE:"), said
    assert "Not checked here: the chain of the ledger's entries." in said
    (folder / "evidence" / f"{case.consent}-1.pdf").write_bytes(PDF + b"\n")
    said = f"NOT GENUINE: evidence/{case.consent}-1.pdf was changed.\n"
    assert check(folder, "--keys", place / "keys.json") == (1, said)
