"""`manage.py import_records`: what it prints, what it writes, and how it ends."""

import io

import pytest
from django.core.management import CommandError, call_command
from django.db import DataError, OperationalError, connection

from tests.factories import make_user
from tests.importing import HEADS
from unlocks.models import Account, Batch, Import

pytestmark = pytest.mark.django_db


@pytest.fixture
def folder(tmp_path):
    make_user("manager", group="Manager")
    (tmp_path / "a.csv").write_text("Account Number;Name;Colour\nA-1;Northwind;red\nA-2;\n")
    rows = "A-1,B-1,May,bypassed,,,5/2/2026,,,,,,\nA-9,B-2,June,posted,,,,,,,,,\n"
    (tmp_path / "b.csv").write_text(f"{HEADS['batches']}\n{rows}")
    return tmp_path


def run(*arguments):
    """Run the command; return its exit code and what it printed."""
    out, code = io.StringIO(), 0
    try:
        call_command("import_records", *map(str, arguments), stdout=out)
    except SystemExit as ended:
        code = ended.code
    return code, out.getvalue()


def test_says_what_became_of_each_record(folder):
    accounts, batches, errors = folder / "a.csv", folder / "b.csv", folder / "errors.csv"
    read = f"{accounts}: accounts.\n  Ignored, as they are unknown: Colour.\n{batches}: batches.\nReading ...\n"
    became = "  accounts: 1 new, 1 refused\n  batches: 1 new, 1 refused\n"
    code, said = run(accounts, batches, "--as", "manager", "--preview", "--errors", errors)
    assert (code, said) == (
        1,
        f"{read}Import 1, a preview: nothing was written.\n{became}{errors} says what was wrong: 2 rows.\n",
    )
    assert errors.read_text(encoding="utf-8-sig").splitlines() == [
        "File,Line,Column,Value,Problem",
        'a.csv,3,,,"This row has too few cells: 2, and the header has 3. A delimiter or a quotation mark may be '
        'missing. Excel leaves out empty cells at the end: save the file as a workbook (.xlsx) then."',
        'b.csv,3,,,"There is no account A-9. Add it to a file of accounts, or correct the number."',
    ]
    assert (Account.objects.count(), Import.objects.get().state) == (0, "discarded")

    code, said = run(accounts, batches, "--as", "manager")
    assert code == 1
    assert said.startswith(f"{read}Part 1 of 2 is written.\nPart 2 of 2 is written.\nImport 2 is done.\n{became}")
    assert said.endswith(
        "  b.csv, line 3: There is no account A-9. Add it to a file of accounts, or correct the number.\n"
    )
    assert list(Batch.objects.values_list("number", "status")) == [("B-1", "bypassed")]

    (folder / "b.csv").write_text(f"{HEADS['batches']}\nA-1,B-1,May,bypassed,,,5/2/2026,,,,,,\n")
    code, said = run(batches, "--as", "manager")
    assert (code, said.splitlines()[-1]) == (0, "  batches: 1 as on file")

    (folder / "c.csv").write_text(f"{HEADS['contacts']}\nA-1,Owner,owner@northwind.example,,yes,\n")
    code, said = run(folder / "c.csv", "--as", "manager")
    assert (code, said.splitlines()[-1]) == (
        0,
        "1 Admin contact waits for a second person: see the queue of the desk.",
    )


def test_says_why_it_failed(folder):
    for error, says in (
        (
            DataError,
            "Import 1 failed. Part 1 can't be written: DataError. 0 of 1 parts were written before.",
        ),
        (OperationalError, "The database failed: OperationalError. What was being written, the worker goes on with;"),
    ):

        def failing(execute, sql, *rest, error=error):
            if 'INSERT INTO "unlocks_account"' in sql:
                raise error
            return execute(sql, *rest)

        with connection.execute_wrapper(failing), pytest.raises(CommandError, match=says):
            run(folder / "a.csv", "--as", "manager")
    assert list(Import.objects.values_list("state", flat=True)) == ["applying", "failed"]
    assert not Account.objects.exists()


def test_says_that_what_was_read_was_lost(folder):
    def crashing(execute, sql, *rest):
        if 'COUNT(*) AS "__count" FROM "unlocks_stagedaccount"' in sql:
            execute('DELETE FROM "unlocks_stagedaccount"', None, *rest[1:])
        return execute(sql, *rest)

    says = "^Import 1 failed. What was read was lost when the database restarted. Import it again. 0 of 1 parts"
    with connection.execute_wrapper(crashing), pytest.raises(CommandError, match=says):
        run(folder / "a.csv", "--as", "manager")
    assert not Account.objects.exists()


def test_what_can_not_be_read_is_not_imported(folder):
    (folder / "c.csv").write_bytes(b"\x00\x01")
    for arguments, says in (
        ((folder / "c.csv", "--as", "manager"), "Nothing was imported. "),
        ((folder / "none.csv", "--as", "manager"), "can't be read: No such file or directory."),
        ((folder / "a.csv", "--as", "nobody"), "there is no user nobody who can sign in."),
    ):
        with pytest.raises(CommandError, match=says):
            run(*arguments)
    assert not Import.objects.exists()
