"""What the product puts: accounts, contacts, batches with their items, and PINs.

Records go the way of every import. Their values are read as those of a file are, each record by itself, and each gets
its answer; many at once are written by the worker. A PIN is hashed at once, and kept nowhere else.
"""

from datetime import timedelta
from typing import Annotated
from uuid import UUID, uuid4

from django.db.models import Q
from django.shortcuts import get_object_or_404
from django.utils import timezone
from ninja import Path
from pydantic import ValidationError

from .. import operations
from ..digest import sha256
from ..imports.kinds import KINDS
from ..imports.problems import Problem as Flaw
from ..imports.problems import Problems, told
from ..imports.staging import Records
from ..imports.values import Cells, Unclear
from ..models import Account, ApiCall, Import, ImportProblem, Judgment
from ..models.imports import BELOW, PLACES
from ..operations.imports import to_put
from ..texts import normalize
from . import problems, schemas
from .access import Token
from .endpoints import act, again, answered, call_of, kept, put, read
from .reading import After, Limit

LONGEST = 16 * 1024 * 1024  # bytes of a body
AT_ONCE = 20_000  # accounts, contacts, batches, items and lines: more of them are left to the worker
ROWS = 200_000
NAMED = 100  # faults in an answer; flaws of a record
UNDER_WAY = timedelta(minutes=5)
BODIES = (schemas.PutAccountsIn, schemas.PutContactsIn, schemas.PutBatchesIn)
ANSWERS = {200: schemas.PutOut, 202: schemas.ImportOut}
State, Found = Import.State, ImportProblem.Found
# What is called otherwise here than in a file, where it stands beside what it belongs to.
_NAMES = {"account_number": "account", "batch_number": "number"}
_ERASED = {"phone", "customer", "memo", "export_id", "job_number", "business_unit"}  # by '', which says something here
_EMPTIED = "A batch can't be emptied here. List its items, or leave this out."


@put("/accounts", ANSWERS, to_put("accounts"), schemas.PutAccountsIn)
def put_accounts(request):
    """Put accounts, as your product has them, each known by its number."""
    return _put(request, "accounts", schemas.PutAccountsIn, lambda body: [_flat("accounts", body.accounts)])


@put("/contacts", ANSWERS, to_put("contacts"), schemas.PutContactsIn)
def put_contacts(request):
    """Put contacts, each known by its account and address, or by its external id. Nobody is emailed."""
    return _put(request, "contacts", schemas.PutContactsIn, lambda body: [_flat("contacts", body.contacts)])


@put("/batches", ANSWERS, to_put("batches"), schemas.PutBatchesIn)
def put_batches(request):
    """Put batches, each known by its account and number, with all their items.

    An item that is no longer listed counts no more. What changes after the customer agreed is not what they agreed to:
    the consent no longer fits then. A batch that is unlocked and now exported is re-exported. Nothing is unlocked.
    """
    return _put(request, "batches", schemas.PutBatchesIn, lambda body: _with_items(body.batches))


@read("/imports/{imported}", schemas.ImportOut, Token.ANY)
def one_import(request, imported: Annotated[schemas.Key, Path()], after: After = 0, limit: Limit = 50):
    """Follow what this system has put, and read what was wrong with it."""
    found = get_object_or_404(Import, pk=imported, source=Import.Source.API, user=request.auth.user)
    if not all(request.auth.may(to_put(kind)) for kind in found.kinds):
        raise problems.not_found()
    return _followed(found, after, limit)


@act("/accounts/{path:number}/pin", schemas.PinSetOut, "api.set_pins", once=False, method="PUT")
def set_pin(request, number: Annotated[schemas.Number, Path()], body: schemas.PinIn):
    """Set the PIN of an account, given by its number, that your product has given the customer.

    It is hashed at once, and no answer or log has it. The same PIN again changes nothing.
    """
    account = get_object_or_404(Account, number=normalize.number(number))
    changed = operations.set_pin(account, pin=body.pin, by=request.auth)
    return schemas.PinSetOut(account=account.number, changed=changed)


def _put(request, kind, schema, sources):
    """Bring in what was sent, once for each Idempotency-Key, and answer."""
    sent = request.read(LONGEST + 1)
    if len(sent) > LONGEST:
        raise problems.too_large(f"the body is longer than {LONGEST:,} bytes. Send fewer records in a call.")
    body, call, id = _parsed(schema, sent), call_of(request, sent), uuid4()
    if call:
        if before := _before(call, request.auth):
            return before
        _claim(call, id)
    response = _brought_in(kind, sources(body), sha256(sent), request.auth, id)
    return kept(call, response) if call else response


def _parsed(schema, sent):
    try:
        return schema.model_validate_json(sent)
    except ValidationError as invalid:
        faults = invalid.errors(include_url=False, include_context=False, include_input=False)
    if faults[0]["type"] == "json_invalid":
        raise problems.no_json()
    raise problems.unreadable((".".join(map(str, ("body", *one["loc"]))), one["msg"]) for one in faults[:NAMED])


# Once. A call is written in several transactions, so its import is claimed first.


def _before(call, by):
    """Return what a call with this key was answered, or the import that it became; None if it came to nothing."""
    if call.status:
        return again(call)
    if not call.location:
        return None
    imported = Import.objects.filter(pk=UUID(call.location.rpartition("/")[2])).first()
    broke_off = call.at < timezone.now() - UNDER_WAY
    if imported and imported.state == State.READY and broke_off:
        imported = operations.start_import(imported, by=by)
    if imported and imported.state != State.FAILED:
        return answered((_followed(imported), call.location), 202)
    if not imported and not broke_off:
        raise _under_way()
    return None


def _claim(call, id):
    ours = {"pk": call.pk, "status": 0, "location": call.location}
    if not ApiCall.objects.filter(**ours).update(location=_address(id), at=timezone.now()):
        raise _under_way()


def _under_way():
    detail = "Nothing was done: another call with this Idempotency-Key is under way. Send it again in a moment."
    return problems.Problem(409, "under_way", detail)


def _address(id):
    return f"/api/v1/imports/{id}"


# The import


def _brought_in(kind, sources, digest, by, id):
    rows = sum(len(source.records) for source in sources)
    if rows > ROWS:
        raise problems.too_large(f"there are {rows:,} records, items and lines, and {ROWS:,} are the most in a call.")
    named = [Records(source.kind, source.records, sha256=digest) for source in sources]
    imported = operations.stage_import(named, source=Import.Source.API, by=by, judge=False, id=id)
    if rows > AT_ONCE:
        return answered((_followed(operations.start_import(imported, by=by)), _address(id)), 202)
    results = []
    imported = operations.import_records(imported, by=by, follow=lambda one: results.append(operations.became_of(one)))
    if not results:  # what was read was lost
        raise problems.unavailable(imported.why_failed)
    records = _records(kind, imported, results[-1], len(named[0].records))
    return answered((schemas.PutOut(id=id, counts=imported.counts, records=records), _address(id)))


def _records(kind, imported, results, rows):
    """Return what became of each record, in their order."""
    of_these = Q(found=Found.READING) | Q(judgment=ImportProblem.DOES_NOT_ADD_UP)
    flaws = {}
    for problem in imported.problems.filter(of_these):
        record, flaw = _flaw(imported, problem)
        flaws.setdefault(record, []).append(flaw)
    answers = []
    for record in range(rows):
        result, why = results.get((record + 1) * BELOW, (Judgment.REFUSED, ""))
        own = [schemas.FlawOut(where=f"body.{kind}.{record}", code=result, sentence=why)] if why else []
        found = (own + flaws.get(record, []))[:NAMED]
        answers.append(schemas.RecordOut(record=record, result=result, problems=found))
    return answers


def _followed(imported, after=0, limit=50):
    """Return an import as it stands, with a page of what was wrong."""
    found = list(imported.problems.filter(pk__gt=after).order_by("pk")[: limit + 1])
    return schemas.ImportOut(
        id=imported.pk,
        state=imported.state,
        at=imported.at,
        done_at=imported.done_at,
        parts=imported.parts,
        done=imported.done,
        counts=imported.counts,
        why_failed=imported.why_failed,
        problems=[_flaw(imported, problem)[1] for problem in found[:limit]],
        next=found[limit - 1].pk if len(found) > limit else None,
    )


def _flaw(imported, problem):
    """Return the place of the record that a problem is about, and what the answer says of it."""
    record, item = divmod(problem.line % PLACES, BELOW)  # both from 1
    where = ["body", "batches" if problem.kind in ("items", "lines") else problem.kind, record - 1]
    if item:
        where += ["items", item - 1] + (["lines"] if problem.kind == "lines" and problem.column else [])
    if problem.column:
        where.append(problem.column)
    code = problem.judgment
    if code == ImportProblem.DOES_NOT_ADD_UP:
        code = "does_not_add_up"
    elif problem.found == Found.READING:
        code = "unreadable" if problem.column else "came_before"
    return record - 1, schemas.FlawOut(where=".".join(map(str, where)), code=code, sentence=problem.sentence)


# Reading the values


def _flat(kind, records):
    reader = _Reader(kind)
    return Records(KINDS[kind], [((n + 1) * BELOW, reader.row((n + 1) * BELOW, one)) for n, one in enumerate(records)])


def _with_items(records):
    """Return batches, items and lines. What is wrong in a batch holds all of it back, so its other items are left out.

    So are those of a batch that came before, which is refused: they would be taken for items of the first one.
    """
    batches, items, lines, seen = [], [], [], set()
    reader, reader_of_items, reader_of_lines = _Reader("batches"), _Reader("items"), _Reader("lines")
    for number, one in enumerate(records, 1):
        place = number * BELOW
        row = reader.row(place, one)
        if one.items == [] and not isinstance(row, Problems):
            row = _flawed(
                row, Flaw(place, "items", "", "A batch can't be emptied here. List its items, or leave this out.")
            )
        batches.append((place, row))
        if isinstance(row, Problems) or row[:2] in seen or not one.items:
            continue
        seen.add(row[:2])
        theirs, their_lines = [], []
        for below, item in enumerate(one.items, place + 1):
            read = reader_of_items.row(below, item, row[:2])
            theirs.append((below, read))
            if item.lines and not isinstance(read, Problems):
                their_lines += [
                    (below, reader_of_lines.row(below, line, (*read[:4], n), before=f"{n - 1}."))
                    for n, line in enumerate(item.lines, 1)
                ]
        items += _all_or_what_is_wrong(theirs)
        lines += _all_or_what_is_wrong(their_lines)
    sources = {"batches": batches, "items": items, "lines": lines}
    return [Records(KINDS[kind], rows) for kind, rows in sources.items() if rows]


def _all_or_what_is_wrong(rows):
    return [row for row in rows if isinstance(row[1], Problems)] or rows


def _flawed(known, *flaws):
    found = Problems(flaws)
    found.known = known
    return found


class _Reader:
    """Reads the records of one kind as the cells of a file."""

    def __init__(self, kind):
        self.finish = KINDS[kind].finish
        self.columns = [
            (column.name, self._field(kind, column.name), Cells(column.read, required=column.required))
            for column in KINDS[kind].columns
        ]

    @staticmethod
    def _field(kind, column):
        return "number" if (kind, column) == ("accounts", "account_number") else _NAMES.get(column, column)

    def row(self, line, record, known=(), before=""):
        """Return the values of a record, after those that are known, or what is wrong with them."""
        values, flaws = list(known), []
        for name, field, cells in self.columns[len(known) :]:
            said = getattr(record, field)
            text = _text(said)
            try:
                values.append("" if said == "" and name in _ERASED else cells[text])
            except Unclear as unclear:
                values.append(None)
                flaws.append(Flaw(line, before + field, told(text), str(unclear)))
        if not flaws:
            try:
                return self.finish(tuple(values))
            except Unclear as unclear:
                flaws.append(Flaw(line, unclear.column, "", str(unclear)))
        return _flawed(tuple(values), *flaws)


def _text(value):
    """Return a JSON value as the text of a cell."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
