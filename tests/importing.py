"""Files for imports, written as their rows, and what became of them."""

import io

from tests.factories import acting
from unlocks import operations
from unlocks.actors import Actor
from unlocks.imports.reading import open_file
from unlocks.imports.staging import STAGED
from unlocks.models import Account, ApiToken, Batch, BatchItem, Contact

HEADS = {
    "accounts": "account_number,name,accounting_software,active,time_zone,external_id",
    "contacts": "account_number,name,email,phone,is_admin,external_id",
    "batches": "account_number,batch_number,name,status,reached_by,posted_on,bypassed_on,exported_on,period_closed,"
    "item_count,total,as_of,external_id",
    "items": "account_number,batch_number,kind,number,date,customer,amount,memo,export_id,external_id,job_number,"
    "business_unit",
    "lines": "account_number,batch_number,kind,number,line,sku,description,quantity,price,total,gl_account",
}


def files(head=None, **rows):
    """Return a file of each kind named, with these rows; `head` are other columns than all."""
    opened = []
    for kind, text in rows.items():
        lines = [row.strip() for row in text.strip().splitlines()]
        content = "\n".join([(head or {}).get(kind, HEADS[kind]), *lines]).encode()
        opened.append(open_file(f"{kind}.csv", io.BytesIO(content), kind=kind))
    return opened


def lose_what_is_staged():
    """Empty the tables of what is read, as PostgreSQL does when it recovers from a crash."""
    for model in STAGED.values():
        model.objects.all()._raw_delete("default")


def bringing(by, source="file"):
    """Return who brings records: `by`, or the system that `by` is by a token."""
    if source != "api":
        return acting(by)
    return Actor.system(ApiToken(system=by, scopes="contacts records"))


def staged(by, *, source="file", judge=True, head=None, **rows):
    return operations.stage_import(files(head, **rows), source=source, by=bringing(by, source), judge=judge)


def bring(by, *, source="file", re_exported=False, head=None, **rows):
    """Import rows, and return the import as it is then."""
    imported = staged(by, source=source, head=head, judge=False, **rows)
    return operations.import_records(imported, re_exported=re_exported, by=bringing(by, source))


def problems(imported):
    """Return what was wrong, as (kind, line, column, value, judgment, sentence)."""
    return [
        (
            problem.kind,
            imported.file_and_line(problem.line)[1],
            problem.column,
            problem.value,
            problem.judgment,
            problem.sentence,
        )
        for problem in imported.problems.order_by("pk")
    ]


def sentences(imported):
    return [f"{kind} {line}: {judgment}: {said}" for kind, line, _, _, judgment, said in problems(imported)]


def on_file():
    """Return what is on file of all records, without keys."""
    return {
        "accounts": list(Account.objects.order_by("number").values_list("number", "name", "active", "external_id")),
        "contacts": list(
            Contact.objects.order_by("account__number", "email").values_list(
                "account__number", "name", "email", "is_admin", "external_id"
            )
        ),
        "batches": list(
            Batch.objects.order_by("account__number", "number").values_list(
                "account__number", "number", "name", "status", "differs", "total", "item_count", "external_id"
            )
        ),
        "items": list(
            BatchItem.objects.listed()
            .order_by("batch__account__number", "batch__number", "pk")
            .values_list("batch__number", "kind", "number", "customer", "amount", "memo", "lines")
        ),
    }
