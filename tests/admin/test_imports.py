"""The pages of imports: uploading, the preview, what became of it, and the second person."""

import html
import re
import zipfile
from io import BytesIO
from uuid import uuid4

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse
from django.utils.html import strip_tags

from tests import factories
from tests.factories import acting
from tests.importing import HEADS, lose_what_is_staged, staged
from tests.imports.files import workbook
from tests.operations import recorded
from unlocks import operations
from unlocks.admin.imports import HOLDS
from unlocks.imports import samples
from unlocks.imports.kinds import KINDS
from unlocks.models import Account, Batch, BatchItem, Contact, Import
from unlocks.outbox import heartbeat

pytestmark = pytest.mark.django_db
ADD = "/desk/unlocks/import/add/"
LIST = "/desk/unlocks/import/"
ACCOUNTS = "account_number,name\nA-1,Northwind\n"
CONTACTS = (
    "account_number,name,email,is_admin\nA-1,Dana,dana@northwind.example,yes\nA-1,Omar,omar@northwind.example,no\n"
)


def text(response):
    """Return the words of a page, as they are read."""
    return " ".join(
        html.unescape(strip_tags(response.content.decode().replace("<wbr>", "").replace("<", " <"))).split()
    )


def upload(client, files, **more):
    """Send files, {name: content}, to the page."""
    sent = [
        SimpleUploadedFile(name, content.encode() if isinstance(content, str) else content) for name, content in files
    ]
    return client.post(ADD, {"files": sent} | more)


def page_of(imported, name="change"):
    return reverse(f"admin:unlocks_import_{name}", args=[imported.pk])


def finish():
    while operations.finish_imports():
        pass


def numbers(response):
    """Return the table of counts: {kind: {judgment: number}}, without noughts."""
    markup = response.content.decode()
    rows = re.findall(r'<tr>\s*<th scope="row">(\w+)</th>(.*?)</tr>', markup.partition('class="counts"')[2], re.DOTALL)
    return {
        kind: {name: n for name, n in re.findall(r'data-label="([^"]+)">([\d,]+)<', cells) if n != "0"}
        for kind, cells in rows
    }


# From the files to the result


def test_files_are_read_shown_and_written_by_the_worker(manager_client):
    response = upload(manager_client, [(f"{kind}.csv", samples.sample(kind)) for kind in KINDS])
    imported = Import.objects.get()
    assert response["Location"] == page_of(imported)
    page = manager_client.get(page_of(imported))
    rows = {
        "Accounts": {"New": "3"},
        "Contacts": {"New": "6"},
        "Batches": {"New": "20"},
        "Items": {"New": "75"},
        "Lines": {"New": "73"},
    }
    assert numbers(page) == rows
    assert "Nothing has been imported yet. 177 records would be new and 0 would change." in text(page)
    assert "20261102-INV 6001 · Invoices, Service dept. New Bypassed, 4 items, $1,155.64" in text(page)
    assert Account.objects.count() == 0

    response = manager_client.post(page_of(imported), {"verb": "import"})
    assert response["Location"] == page_of(imported)
    page = manager_client.get(page_of(imported))
    assert (page["Refresh"], "No worker runs, so nothing is written now." in text(page)) == ("3", True)
    heartbeat.beat(heartbeat.name())
    operations.finish_imports()
    page = manager_client.get(page_of(imported))
    assert "Being imported. The worker writes it part by part" in text(page)
    assert "1 of 3 parts written" in text(page)
    finish()

    page = manager_client.get(page_of(imported))
    assert (numbers(page), "Refresh" in page) == (rows, False)
    assert "177 records are new and 0 changed." in text(page)
    assert "3 Admin contacts wait for a second person." in text(page)
    first = Batch.objects.get(number="20261102-INV")
    assert reverse("admin:unlocks_batch_change", args=[first.pk]) in page.content.decode()
    assert BatchItem.objects.count() == 75
    assert "Import 1 5 files Imported File manager" in text(manager_client.get(LIST))


def test_the_preview_tells_what_changes_and_why_not(manager, manager_client, agent):
    operations.import_records(
        staged(
            manager,
            accounts="A-1,Northwind,none,yes,,",
            batches="A-1,B-1,May,posted,,5/1/2026,,,no,3,6.00,,",
            items="""A-1,B-1,invoice,I-1,5/1/2026,,1.00,,,,,
                A-1,B-1,invoice,I-2,5/1/2026,,2.00,,,,,
                A-1,B-1,invoice,I-3,5/1/2026,,3.00,,,,,""",
        ),
        by=acting(manager),
    )
    asked = factories.case_awaiting(agent)
    upload(
        manager_client,
        [
            ("accounts.csv", "account_number,name\nA-1,Northwind Heating\n"),
            (
                "batches.csv",
                "account_number,batch_number,name,status,posted_on,total,item_count,weather\n"
                "A-1,B-1,May,posted,5/1/2026,7.00,3,fine\n"
                f"{asked.account.number},{asked.batch.number},Other,posted,,,,fine\n"
                "A-1,B-2,=1+1,posted,25/12/2026,7.00,0,fine\n"
                "A-1,B-3,June,posted,6/1/2026,20.00,2,fine\n",
            ),
            (
                "items.csv",
                f"{HEADS['items']}\nA-1,B-3,invoice,I-1,6/1/2026,,19.00,,,,,\n"
                "A-1,B-1,invoice,I-1,5/1/2026,,1.00,,,,,\nA-1,B-1,invoice,I-2,5/1/2026,,2.50,,,,,\n"
                "A-1,B-1,invoice,I-4,5/1/2026,,3.50,,,,,\n",
            ),
        ],
    )
    imported = Import.objects.first()
    page = text(manager_client.get(page_of(imported)))
    assert "batches.csv batches 1 unknown column ignored: weather" in page
    assert "A-1 Northwind Heating Changed Name Northwind → Northwind Heating" in page
    assert "B-1 A-1 · May Changed Total $6.00 → $7.00 Items 1 new, 1 changed, 1 no longer listed" in page
    assert f"batches.csv, line 3 The customer was asked about batch {asked.batch.number} as it stands" in page
    assert "batches.csv, line 4 posted_on 25/12/2026 There is no such month." in page
    assert "Totals that don't add up 1 File and line Why batches.csv, line 5 The items of batch B-3 don't" in page
    errors = manager_client.get(page_of(imported, "errors"))
    lines = b"".join(errors.streaming_content).decode("utf-8-sig").splitlines()
    assert [line.split(",")[:4] for line in lines] == [
        ["File", "Line", "Column", "Value"],
        ["batches.csv", "3", "", ""],
        ["batches.csv", "4", "posted_on", "25/12/2026"],
        ["batches.csv", "5", "", ""],
    ]
    assert errors["Content-Disposition"] == f'attachment; filename="errors of import {imported.number}.csv"'
    taken = {"what": "imports", "form": "csv", "narrowed": [f"errors of import {imported.number}"]}
    assert recorded(kind="exported") == [("exported", taken)]


def test_what_is_on_file_already_or_refused_is_said_so(manager, manager_client):
    upload(manager_client, [("accounts.csv", ACCOUNTS)])
    manager_client.post(page_of(Import.objects.get()), {"verb": "import"})
    finish()
    upload(manager_client, [("accounts.csv", ACCOUNTS)])
    page = manager_client.get(page_of(Import.objects.first()))
    assert "Everything is on file already." in text(page)
    upload(manager_client, [("contacts.csv", CONTACTS.replace("A-1", "A-2"))])
    page = manager_client.get(page_of(Import.objects.first()))
    assert "Nothing of this can be imported." in text(page)
    assert 'value="import"' not in page.content.decode()


def test_a_batch_is_marked_as_re_exported_only_when_that_is_ticked(manager_client, agent):
    rows = "account_number,batch_number,status,exported_on\n{0.account.number},{0.batch.number},exported,11/20/2026\n"
    cases = [factories.case_unlocked(agent) for _ in range(2)]
    results = []
    for case, ticked in zip(cases, ({}, {"re_exported": "on"}), strict=True):
        upload(manager_client, [("batches.csv", rows.format(case))])
        imported = Import.objects.first()
        page = text(manager_client.get(page_of(imported)))
        assert "Mark 1 batch as re-exported The files say that it is exported, and it is unlocked here." in page
        assert "Nothing of this is imported unless you tick the box." in page
        manager_client.post(page_of(imported), {"verb": "import"} | ticked)
        finish()
        results.append(text(manager_client.get(page_of(imported))))
    assert ["0 records are new and 1 changed." in page for page in results] == [False, True]
    assert ["Something changed after the preview" in page for page in results] == [False, False]
    assert [Batch.objects.get(pk=case.batch.pk).status for case in cases] == ["unlocked", "exported"]
    upload(manager_client, [("accounts.csv", ACCOUNTS)])
    assert "re-exported" not in text(manager_client.get(page_of(Import.objects.first())))


def test_the_result_says_what_became_different_after_the_preview(manager, manager_client):
    rows = {"accounts": "A-1,Northwind,none,yes,,\nA-2,Blue Ridge,none,yes,,"}
    imported = staged(manager, **rows)
    operations.import_records(staged(manager, accounts="A-1,Northwind,none,yes,,"), by=acting(manager))
    manager_client.post(page_of(imported), {"verb": "import"})
    finish()
    said = "Something changed after the preview: 1 new instead of 2, 1 as on file instead of 0."
    assert said in text(manager_client.get(page_of(imported)))


def test_what_the_database_lost_is_said_and_not_offered(manager, manager_client):
    imported = staged(manager, accounts="A-1,Northwind,none,yes,,")
    lose_what_is_staged()
    page = manager_client.get(page_of(imported))
    lost = "What was read was lost when the database restarted. Import it again."
    assert f"Nothing of this can be imported. {lost}" in text(page)
    assert re.findall(r'name="verb" value="(\w+)"', page.content.decode()) == ["discard"]
    manager_client.post(page_of(imported), {"verb": "import"})
    assert f"{lost} Nothing of it was written." in text(manager_client.get(page_of(imported)))


def test_a_failed_import_says_why_and_what_to_do(manager, manager_client):
    imported = staged(manager, accounts="A-1,Northwind,none,yes,,")
    Import.objects.filter(pk=imported.pk).update(
        state="failed", why_failed="Part 1 can't be written: DataError.", done_at=imported.at
    )
    page = text(manager_client.get(page_of(imported)))
    assert "Part 1 can't be written: DataError. Nothing of it was written. Correct the cause and import" in page
    Import.objects.filter(pk=imported.pk).update(state="staging", done_at=None)
    page = manager_client.get(page_of(imported))
    assert (page["Refresh"], "The records are being read." in text(page)) == ("3", True)


# Files that can't be read


def bomb():
    """Return an archive that is small, and huge when it is unpacked."""
    file = BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("xl/workbook.xml", "<workbook/>")
        archive.writestr("xl/worksheets/sheet1.xml", b"\0" * 500_000_000)
    return file.getvalue()


WRONG = {
    "nothing": ([], "Choose the files."),
    "0 bytes": ([("a.csv", "")], "a.csv Can't be read The file is empty."),
    "binary": ([("a.csv", bytes(range(256)) * 9)], "a.csv Can't be read"),
    "no header": ([("a.csv", "Weather,Wind\nfine,none\n")], "a.csv Can't be read"),
    "one of two": ([("a.csv", ACCOUNTS), ("b.csv", "")], "a.csv Accounts 1 row b.csv Can't be read The file is empty."),
    "one name twice": ([("a.csv", ACCOUNTS), ("a.csv", CONTACTS)], "a.csv Can't be read Two files have this name."),
    "a bomb": ([("a.xlsx", bomb)], "a.xlsx Can't be read"),
    "no workbook": ([("a.xlsx", b"PK\3\4" + b"x" * 999)], "a.xlsx Can't be read"),
    "one long line": ([("a.csv", "x" * 2_000_000)], "a.csv Can't be read"),
    "only a header": ([("a.csv", "account_number,name\n")], "There is nothing to import: no row was found."),
}


def test_files_that_can_not_be_read_are_named_and_nothing_is_kept(manager_client):
    for name, (files, said) in WRONG.items():
        response = upload(manager_client, [(at, content() if callable(content) else content) for at, content in files])
        assert (name, response.status_code, said in text(response)) == (name, 422, True), text(response)
    assert set(Import.objects.values_list("state", flat=True)) <= {"failed"}
    assert manager_client.post(ADD, b"--x", content_type="multipart/form-data; boundary=x").status_code == 422


def test_odd_files_that_can_be_read_lead_to_a_page(manager_client):
    header = ["account_number", "name", *(f"column {n}" for n in range(10_000))]
    odd = {
        "wide.csv": ",".join(header) + "\nA-1,Northwind" + "," * 10_000 + "\n",
        "huge.csv": f"account_number,name\nA-1,{'x' * 900_000}\nA-2,\0\n",
        "../../<b>.csv": ACCOUNTS,
        "book.xlsx": workbook([["account_number", "name"], ["A-1", "=HYPERLINK(1)"], [4711.0, "Northwind"]]),
    }
    for name, content in odd.items():
        response = upload(manager_client, [(name, content)])
        imported = Import.objects.first()
        assert (name, response.status_code) == (name, 302)
        page = manager_client.get(page_of(imported))
        assert (page.status_code, len(page.content) < 40_000) == (200, True)
        assert manager_client.get(page_of(imported, "errors")).status_code == 200


def test_the_result_names_the_first_records_and_counts_the_rest(manager, manager_client):
    imported = staged(manager, accounts="\n".join(f"A-{n},Northwind,none,yes,," for n in range(10)))
    manager_client.post(page_of(imported), {"verb": "import"})
    finish()
    page = text(manager_client.get(page_of(imported)))
    assert "A-7 Northwind And 2 more. All accounts of the desk" in page
    assert "A-8 Northwind" not in page


def test_files_have_a_size_and_a_number_of_rows_at_most(manager_client, settings):
    settings.IMPORT_MAX_ROWS = 2
    response = upload(manager_client, [("a.csv", ACCOUNTS), ("b.csv", CONTACTS)])
    assert "The files have more than 2 rows. Split them, or import them with the command" in text(response)
    settings.IMPORT_MAX_BYTES = 100
    response = upload(manager_client, [("a.csv", ACCOUNTS), ("b.csv", CONTACTS)])
    assert "The files have 0.0 MiB, and 0 are the most. Split them" in text(response)
    assert Import.objects.count() == 0


def test_who_imports_says_which_order_dates_have_and_of_which_kind_files_are(manager_client):
    text_ = "account_number,name,batch_number,status,posted_on\nA-1,Northwind,B-1,posted,3/4/2026\n"
    accounts = ("accounts.csv", ACCOUNTS)
    upload(manager_client, [accounts, ("batches.csv", text_)], day_first="on")
    manager_client.post(page_of(Import.objects.first()), {"verb": "import"})
    finish()
    assert str(Batch.objects.get().posted_on) == "2026-04-03"
    upload(manager_client, [("all.csv", text_)], kind="accounts")
    assert Import.objects.first().files[0]["kind"] == "accounts"
    assert upload(manager_client, [accounts], kind="weather").status_code == 422


# Who may, and two at once


def test_only_who_read_the_files_imports_them_and_once(manager, manager_client, agent_client, auditor_client, client):
    imported = staged(manager, accounts="A-1,Northwind,none,yes,,")
    colleague = Client()
    colleague.force_login(factories.make_user("colleague", group="Manager"))
    page = text(colleague.get(page_of(imported)))
    assert "manager read these files, so only manager can import them." in page
    refused = colleague.post(page_of(imported), {"verb": "import"}, follow=True)
    assert "Nothing was done: manager read these files, so only manager can import them." in text(refused)
    assert "manager read these files, so only manager can import them." in text(agent_client.get(page_of(imported)))
    assert manager_client.post(page_of(imported), {"verb": "unlock"}).status_code == 400
    for stranger in (agent_client, auditor_client):
        assert 'value="discard"' not in stranger.get(page_of(imported)).content.decode()
        for verb in ("import", "discard"):
            assert stranger.post(page_of(imported), {"verb": verb}).status_code == 403
        assert upload(stranger, [("a.csv", ACCOUNTS)]).status_code == 403
    for name in ("change", "errors", "confirm"):
        assert client.get(page_of(imported, name))["Location"].startswith("/desk/login/")
        assert manager_client.get(reverse(f"admin:unlocks_import_{name}", args=[uuid4()])).status_code == 404
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(manager)
    assert (strict.post(page_of(imported), {"verb": "import"}).status_code, Import.objects.get().state) == (
        403,
        "ready",
    )
    assert upload(strict, [("a.csv", ACCOUNTS)]).status_code == 403

    manager_client.post(page_of(imported), {"verb": "import"})
    again = manager_client.post(page_of(imported), {"verb": "import"}, follow=True)
    assert "Nothing was done: import 1 is being imported already." in text(again)
    assert "is being imported already" in text(colleague.post(page_of(imported), {"verb": "discard"}, follow=True))
    finish()
    assert (Import.objects.get().state, Account.objects.count()) == ("done", 1)


def test_a_colleague_may_discard_what_nobody_imports(manager, superuser_client):
    imported = staged(manager, accounts="A-1,Northwind,none,yes,,")
    response = superuser_client.post(page_of(imported), {"verb": "discard"}, follow=True)
    assert "Import 1 was discarded. Nothing of it was written." in text(response)
    page = superuser_client.get(page_of(imported))
    assert ("Nothing of it was written." in text(page), 'name="verb"' in page.content.decode()) == (True, False)
    assert Account.objects.count() == 0


# The second person


def test_a_second_person_confirms_the_contacts_and_finds_them_on_the_queue(manager, manager_client, agent_client):
    files = {
        "accounts": "A-1,Northwind,none,yes,,",
        "contacts": "A-1,Dana,dana@northwind.example,555,yes,\nA-1,Omar,omar@northwind.example,,no,",
    }
    imported = operations.import_records(staged(manager, **files), by=acting(manager))
    confirm = page_of(imported, "confirm")
    own = (
        "entered one of them, or made the API token that one came by, so another person has to confirm them. Ask agent."
    )
    assert own in text(manager_client.get(confirm))
    assert own in text(manager_client.get(page_of(imported)))
    refused = manager_client.post(confirm, {"how": "I know them"})
    assert (refused.status_code, own in text(refused)) == (422, True)
    waits = "Admin contacts of import 1 wait to be confirmed"
    assert (waits in text(manager_client.get("/desk/")), waits in text(agent_client.get("/desk/"))) == (False, True)

    page = text(agent_client.get(confirm))
    assert "Dana dana@northwind.example 555 Northwind (A-1)" in page
    assert "Omar" not in page
    assert "Say how you know that the addresses are right." in text(agent_client.post(confirm, {"how": " "}))
    assert Contact.objects.get(name="Dana").confirmed_by is None
    done = agent_client.post(confirm, {"how": "Compared with the contract"}, follow=True)
    assert "1 address is confirmed" in text(done)
    dana = Contact.objects.get(name="Dana")
    assert (dana.confirmed_by.username, dana.confirmed_how) == ("agent", "Compared with the contract")
    assert "No Admin's address of import 1 waits to be confirmed." in text(agent_client.post(confirm, {"how": "Again"}))
    assert "Nothing waits." in text(agent_client.get(confirm))
    assert waits not in text(agent_client.get("/desk/"))


def test_an_auditor_confirms_nothing(manager, auditor_client):
    imported = staged(manager, accounts="A-1,Northwind,none,yes,,")
    assert auditor_client.get(page_of(imported, "confirm")).status_code == 403
    assert auditor_client.post(page_of(imported, "confirm"), {"how": "I do"}).status_code == 403


# An empty desk, and the columns


def test_an_empty_desk_says_what_to_do_next(manager_client, agent_client, auditor_client, superuser_client):
    assert "at least one Manager and one Agent" in text(superuser_client.get("/desk/"))
    assert "at least one Manager and one Agent" not in text(manager_client.get("/desk/"))
    assert "Bring in accounts, contacts and batches." in text(manager_client.get("/desk/"))
    for client in (agent_client, auditor_client):
        assert "No account and no batch is on file. manager or superuser can import them" in text(client.get("/desk/"))
    for address, said in {
        "/desk/unlocks/account/": "No account is on file yet. A manager imports accounts from files",
        "/desk/unlocks/batch/": "No batch is on file yet. A manager imports batches from files",
        LIST: "Nothing was imported yet.",
    }.items():
        assert said in text(agent_client.get(address))
        assert ADD in manager_client.get(address).content.decode()
        assert ADD not in agent_client.get(address).content.decode()
    factories.make_account()
    assert "Nothing is on this desk yet" not in text(manager_client.get("/desk/"))


def test_every_column_is_explained_and_every_sample_can_be_had(agent_client):
    names = {f"{kind.name}.{column.name}" for kind in KINDS.values() for column in kind.columns}
    said = {name for name in names if name in HOLDS or name.partition(".")[2] in HOLDS}
    assert (names - said, set(HOLDS) - names - {name.partition(".")[2] for name in names}) == (set(), set())
    page = agent_client.get("/desk/unlocks/import/columns/").content.decode()
    assert re.findall("<code>(.*?)</code>", page) == [column.name for kind in KINDS.values() for column in kind.columns]
    for kind in KINDS:
        assert agent_client.get(f"/desk/unlocks/import/{kind}/sample.csv").content == samples.sample(kind)
        assert agent_client.get(f"/desk/unlocks/import/{kind}/template.csv").content == samples.template(kind)
    assert agent_client.get("/desk/unlocks/import/weather/sample.csv").status_code == 404
