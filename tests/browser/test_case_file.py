"""Case files, from the desk to the check on a machine without a network."""

import shutil
import subprocess
import sys
from zipfile import ZipFile

import pytest
from playwright.sync_api import expect

from tests import factories
from tests.browser.conftest import press
from tests.papers import PDF
from unlocks import operations
from unlocks.outbox import heartbeat, worker

pytestmark = pytest.mark.django_db(transaction=True)

# Runs a script as Python does, but ends it at once if it opens a socket.
WITHOUT_NETWORK = """
import runpy, sys
sys.addaudithook(lambda event, given: sys.exit(event) if event.startswith("socket.") else None)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def check(folder, *given, script=None):
    """Run the script that lies in a folder, or another; return its exit status and what it says."""
    script = script or folder / "verify_certificate.py"
    command = [sys.executable, "-I", "-S", "-c", WITHOUT_NETWORK, script, folder, *given]
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


def test_several_are_ordered_in_the_list_followed_and_taken(page, desk, sign_in, on_each_screen, tmp_path, settings):
    kept = {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": str(tmp_path)}}
    settings.STORAGES = {**settings.STORAGES, "case_files": kept}
    factories.record_certificate_key()
    agent = factories.make_user("agent", group="Agent")
    cases = [factories.case_consented(agent) for _ in range(2)]
    heartbeat.beat("a worker")
    sign_in(page, factories.make_user("manager", group="Manager"))
    page.goto(f"{desk}/desk/unlocks/unlockrequest/")
    for case in cases:
        page.get_by_role("checkbox", name=f"Select {case.unlock_request}").check()
    page.get_by_label("Action:").select_option("case_files")
    press(page.get_by_role("button", name="Go"))
    expect(page.get_by_text("0 of 2 requests done.")).to_be_visible()
    on_each_screen(page)

    worker.make_case_files()
    ready = page.get_by_role("button", name="Download the ZIP")
    expect(ready).to_be_visible(timeout=15_000)  # the page follows
    on_each_screen(page)
    with page.expect_download() as download:
        ready.click()
    with ZipFile(download.value.path()) as archive:
        archive.extractall(tmp_path / "out")
    [folder] = (tmp_path / "out").iterdir()
    script = shutil.copy(folder / str(cases[0].unlock_request) / "verify_certificate.py", tmp_path)
    status, said = check(folder, script=script)
    assert (status, "Case file    2 in one\n" in said) == (0, True), said
