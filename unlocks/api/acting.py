"""What a system does: each call is one verb, which asks for the permission, the rules and the key of the act."""

from django.db.models import F
from django.shortcuts import get_object_or_404

from .. import operations, rules
from ..models import Account, Batch, RequestedBatch, UnlockRequest
from ..texts import normalize
from . import reading, schemas
from .endpoints import act
from .problems import Problem
from .reading import Key

LISTED = 1000  # verdicts in an answer
NAMED = 20
Outcome = RequestedBatch.Outcome


def _verb(path, answer, verb, *, status=200):
    """Register a view that calls a verb, for those who may call it."""
    return act(path, answer, verb.permission, status=status)


@_verb("/requests", schemas.RequestDetailOut, operations.open_request, status=201)
def open_request(request, body: schemas.OpenIn):
    """Open a request for batches of an account, as one of its Admins asks."""
    account = Account.objects.filter(number=normalize.number(body.account)).first()
    if account is None:
        raise Problem(409, "no_such_account", f"Nothing was done: there is no account {body.account}.")
    opened = operations.open_request(
        account=account,
        requester=_contact(account, body.requester),
        channel=body.channel,
        bypass_reason=body.bypass_reason,
        bypass_other=body.bypass_other,
        reason=body.reason,
        ticket_system=body.ticket_system,
        ticket_number=body.ticket_number,
        batches=_numbered(account.batches, body.batches),
        **_by(request),
    )
    return reading.detail(opened, request.auth), f"/api/v1/requests/{opened.pk}"


@_verb("/requests/{case}/add-batches", schemas.RequestDetailOut, operations.add_batches)
def add_batches(request, case: Key, body: schemas.NumbersIn):
    """Add batches of its account to a request, until the customer has agreed. The consent link stays as it is."""
    return _changed(request, case, body, operations.add_batches)


@_verb("/requests/{case}/take-out-batches", schemas.RequestDetailOut, operations.take_out_batches)
def take_out_batches(request, case: Key, body: schemas.NumbersIn):
    """Take batches out of a request, until the customer has agreed. They stay locked, and one at least is left."""
    return _changed(request, case, body, operations.take_out_batches)


@_verb("/requests/{case}/advice", schemas.RequestDetailOut, operations.record_advice)
def record_advice(request, case: Key, body: schemas.AdviceIn):
    """Record what the customer chose when offered the safer route: first of all, before consent is asked for."""
    advised = operations.record_advice(_case(case), advice=body.advice, **_by(request))
    return reading.detail(advised, request.auth)


@_verb("/requests/{case}/consent-links", schemas.LinkOut, operations.send_consent_link, status=201)
def send_consent_link(request, case: Key, body: schemas.LinkIn):
    """Ask for consent: a link is emailed to an Admin. An older one stops working. No system ever sees a link."""
    found = _case(case)
    contact = _contact(found.account, body.contact)
    return reading.link(operations.send_consent_link(found, contact=contact, **_by(request)))


@_verb("/requests/{case}/notes", schemas.RequestDetailOut, operations.add_note, status=201)
def add_note(request, case: Key, body: schemas.NoteIn):
    """Put a note on the timeline of a request. It can't be changed or deleted."""
    found = _case(case)
    operations.add_note(found, text=body.text, **_by(request))
    return reading.detail(found, request.auth)


@_verb("/requests/{case}/close", schemas.RequestDetailOut, operations.close_request)
def close_request(request, case: Key, body: schemas.CloseIn):
    """Close or cancel a request. Its batches that wait leave it, and its consent link stops working."""
    closed = operations.close_request(_case(case), resolution=body.resolution, why=body.why, **_by(request))
    return reading.detail(closed, request.auth)


@_verb("/requests/{case}/unlock", schemas.ActOut, operations.unlock)
def unlock(request, case: Key, body: schemas.UnlockIn):
    """Unlock the batches of a request that may be unlocked, and say of each other why not.

    The product is instructed: a batch is unlocked once it says so, and its window begins. At the end of that it is
    relocked.
    """
    return _done(operations.unlock(_batches(case, body, Outcome.WAITING), hours=body.hours, **_by(request)))


@_verb("/requests/{case}/cancel-unlock", schemas.ActOut, operations.cancel_unlock)
def cancel_unlock(request, case: Key, body: schemas.ReasonIn):
    """Cancel the unlock of what the product was not asked yet to unlock."""
    return _done(operations.cancel_unlock(_batches(case, body, Outcome.UNLOCKING), why=body.why, **_by(request)))


@_verb("/requests/{case}/extend-window", schemas.ActOut, operations.extend_window)
def extend_window(request, case: Key, body: schemas.ExtendIn):
    """Let unlocked batches of a request stay unlocked for longer, once and while the consent holds."""
    batches = _batches(case, body, Outcome.UNLOCKED)
    return _done(operations.extend_window(batches, hours=body.hours, why=body.why, **_by(request)))


@_verb("/requests/{case}/relock", schemas.ActOut, operations.relock)
def relock(request, case: Key, body: schemas.ReasonIn):
    """Have unlocked batches of a request relocked."""
    return _done(operations.relock(_batches(case, body, Outcome.UNLOCKED), why=body.why, **_by(request)))


@_verb("/requests/{case}/re-exported", schemas.ActOut, operations.mark_re_exported)
def mark_re_exported(request, case: Key, body: schemas.BatchesIn):
    """Say that the customer has really exported unlocked batches of a request."""
    return _done(operations.mark_re_exported(_batches(case, body, Outcome.UNLOCKED), **_by(request)))


def _changed(request, case, body, verb):
    found = _case(case)
    changed = verb(found, batches=_numbered(found.account.batches, body.batches), **_by(request))
    return reading.detail(changed, request.auth)


def _by(request):
    return {"by": request.auth, "key": request.act_key}


def _case(key):
    return get_object_or_404(UnlockRequest.objects.select_related("account"), pk=key)


def _contact(account, address):
    found = account.contacts.filter(email=normalize.email(address)).first()
    if found is None:
        detail = f"Nothing was done: {account} has no contact with this address."
        raise Problem(409, "no_such_contact", detail)
    return found


def _batches(case, body, outcome):
    """Return the batches of a request that a body names, or else those with an outcome."""
    found = _case(case)
    if body.batches is not None:
        return _numbered(Batch.objects.filter(lines__unlock_request=found), body.batches)
    return Batch.objects.filter(lines__unlock_request=found, lines__outcome=outcome)


def _numbered(batches, numbers):
    """Return those of some batches that have these numbers. Raises Problem when one of them is none of these."""
    found = batches.filter(number__in=numbers)
    unknown = set(numbers) - set(found.values_list("number", flat=True))
    if unknown:
        more = f" and {len(unknown) - NAMED:,} more" if len(unknown) > NAMED else ""
        names = ", ".join(sorted(unknown)[:NAMED]) + more
        raise Problem(409, "no_such_batch", f"Nothing was done: there is no batch here with the number {names}.")
    return found


def _done(done):
    rows = done.verdicts.order_by("-refusal", "batch").select_related("batch")
    rows = rows.annotate(open_request=F("line__unlock_request"))
    refused = done.verdicts.exclude(refusal="").count()
    return schemas.ActOut(
        act=done.pk,
        kind=done.kind,
        at=done.at,
        done=done.verdicts.count() - refused,
        refused=refused,
        verdicts=[_verdict(row) for row in rows[:LISTED]],
    )


def _verdict(row):
    row.batch.open_request = row.open_request
    said = rules.sentence(row.refusal, row.batch)
    batch = {"batch": row.batch_id, "number": row.batch.number}
    return schemas.DoneOut(**batch, done=not row.refusal, code=row.refusal, sentence=said)
