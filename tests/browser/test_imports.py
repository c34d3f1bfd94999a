"""Files imported in a real browser: one person uploads them, the worker writes them, a second person confirms."""

from itertools import cycle

import pytest

from tests.browser.conftest import press
from unlocks import operations
from unlocks.imports import samples
from unlocks.imports.kinds import KINDS
from unlocks.models import Batch, Contact
from unlocks.outbox import heartbeat

pytestmark = pytest.mark.django_db(transaction=True)


def test_files_are_imported_and_their_contacts_confirmed(new_context, desk, axe, sign_in, tmp_path, manager, agent):
    schemes = cycle(["light", "dark"])

    def look(page):
        """Assert that a page fits, wide and narrow, and is accessible, in the light and in the dark by turns."""
        page.emulate_media(color_scheme=next(schemes))
        for width in (1440, 390):
            page.set_viewport_size({"width": width, "height": 844})
            assert page.evaluate("document.documentElement.scrollWidth") == width, page.url
        axe(page)

    # An empty desk says what to do. The samples lie beside the form; two files are wrong.
    first = sign_in(new_context().new_page(), manager)
    first.goto(f"{desk}/desk/")
    look(first)
    press(first.get_by_role("link", name="Import files"))
    files = {kind: tmp_path / f"{kind}.csv" for kind in KINDS}
    for kind, file in files.items():
        with first.expect_download() as downloading:
            first.get_by_role("link", name=f"Sample of {kind}").click()
        downloading.value.save_as(file)
        assert file.read_bytes() == samples.sample(kind)
    empty, photo = tmp_path / "empty.csv", tmp_path / "photo.png"
    empty.write_bytes(b"")
    photo.write_bytes(b"\x89PNG\r\n\x1a\n\0\0\xff")
    chooser = first.get_by_label("Files", exact=True)
    chooser.set_input_files([files["accounts"], empty, photo])
    press(first.get_by_role("button", name="Read the files"))
    look(first)
    assert first.locator("#problems").evaluate("problems => problems === document.activeElement")
    assert first.get_by_role("row", name="empty.csv").inner_text().endswith("The file is empty.")
    press(first.get_by_role("link", name="All columns, and what they hold"))
    look(first)
    press(first.get_by_role("link", name="Import files"))

    # The preview of the right ones, one row of which is not.
    files["batches"].write_text(files["batches"].read_text().replace("11/3/2026", "13/13/2026", 1))
    chooser.set_input_files(list(files.values()))
    press(first.get_by_role("button", name="Read the files"))
    look(first)
    assert first.get_by_text("Nothing has been imported yet.").is_visible()
    assert first.get_by_role("row", name="batches.csv, line 2").first.is_visible()
    with first.expect_download() as downloading:
        first.get_by_role("link", name="Download errors.csv").click()
    assert downloading.value.suggested_filename == "errors of import 1.csv"
    assert downloading.value.path().read_text("utf-8-sig").splitlines()[1].startswith("batches.csv,2,bypassed_on,")

    # The page follows what the worker does by itself.
    press(first.get_by_role("button", name="Import", exact=True))
    look(first)
    assert first.get_by_text("No worker runs, so nothing is written now.").is_visible()
    heartbeat.beat(heartbeat.name())
    while operations.finish_imports():
        pass
    first.get_by_text("Imported on").wait_for()
    look(first)
    assert Batch.objects.count() == 19
    assert first.get_by_text("Ask agent.").is_visible()
    press(first.get_by_role("link", name="Imports").first)
    look(first)

    # Someone else finds the contacts on the queue, says nothing at first, and then how they know.
    second = sign_in(new_context().new_page(), agent)
    second.goto(f"{desk}/desk/")
    look(second)
    press(second.get_by_role("link", name="Admin contacts of import 1 wait to be confirmed"))
    press(second.get_by_role("button", name="Confirm all 3 addresses"))
    look(second)
    assert second.locator("#problems").evaluate("problems => problems === document.activeElement")
    second.get_by_label("How do you know that these are their addresses?").fill("Compared with the contracts")
    press(second.get_by_role("button", name="Confirm all 3 addresses"))
    look(second)
    assert set(Contact.objects.filter(is_admin=True).values_list("confirmed_by__username", flat=True)) == {"agent"}
