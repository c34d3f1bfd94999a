"""What a system reads. Lists are pages in the order of their keys: `after` the last one, `next` leads on."""

import json
from typing import Annotated

from django.db.models import Count
from django.shortcuts import get_object_or_404
from django.utils import timezone
from ninja import Path, Query

from .. import rules
from ..ledger import chain, events
from ..ledger.emails import of_link, of_request
from ..models import Account, Batch, BatchItem, Consent, ConsentLink, LedgerEntry, RequestedBatch, UnlockRequest
from ..operations import link_state
from . import schemas
from .access import Token
from .endpoints import read

PERSONAL = "api.see_personal"
After = Annotated[int, Query(ge=0, le=2**63 - 1)]
Limit = Annotated[int, Query(ge=1, le=200)]
Key = Annotated[int, Path(ge=1, le=2**63 - 1)]
Named = Annotated[schemas.Number | None, Query()]


@read("/me", schemas.MeOut, Token.ANY)
def me(request):
    """Say which system and token call."""
    token = request.auth.token
    return schemas.MeOut(
        system=request.auth.name, token=token.name, scopes=token.scopes.split(), expires_at=token.expires_at
    )


@read("/accounts", schemas.AccountsOut)
def accounts(request, after: After = 0, limit: Limit = 50, number: Named = None):
    """List accounts, all of them or the one with a number."""
    rows = Account.objects.all() if number is None else Account.objects.filter(number=number)
    rows, following = _page(rows, after, limit)
    return schemas.AccountsOut(data=[schemas.AccountOut(**_account(row)) for row in rows], next=following)


@read("/accounts/{account}", schemas.AccountDetailOut)
def account(request, account: Key):
    """Read an account and its contacts."""
    found = get_object_or_404(Account, pk=account)
    contacts = [_contact(contact, request.auth) for contact in found.contacts.order_by("pk")]
    return schemas.AccountDetailOut(**_account(found), contacts=contacts)


@read("/batches", schemas.BatchesOut)
def batches(
    request,
    after: After = 0,
    limit: Limit = 50,
    account: Named = None,
    number: Named = None,
    status: schemas.BatchStatus | None = None,
):
    """List batches, each with whether this system could unlock it now, and if not, why.

    Narrow the list by the account's number, the batch's number and the status.
    """
    asked = {"account__number": account, "number": number, "status": status}
    narrowed = Batch.objects.filter(**{name: value for name, value in asked.items() if value is not None})
    rows, following = _page(narrowed, after, limit)
    return schemas.BatchesOut(data=judged([row.pk for row in rows], request.auth), next=following)


@read("/batches/{batch}", schemas.BatchOut)
def batch(request, batch: Key):
    """Read a batch, with whether this system could unlock it now."""
    return judged([get_object_or_404(Batch, pk=batch).pk], request.auth)[0]


@read("/batches/{batch}/items", schemas.ItemsOut)
def items(request, batch: Key, after: After = 0, limit: Limit = 50):
    """List the items of a batch."""
    rows, following = _page(BatchItem.objects.filter(batch=get_object_or_404(Batch, pk=batch)), after, limit)
    return schemas.ItemsOut(data=[_item(row, request.auth) for row in rows], next=following)


@read("/requests", schemas.RequestsOut)
def requests(
    request,
    after: After = 0,
    limit: Limit = 50,
    account: Named = None,
    status: schemas.RequestStatus | None = None,
):
    """List requests, all of them, those of an account or those with a status."""
    asked = {"account__number": account, "status": status}
    narrowed = UnlockRequest.objects.filter(**{name: value for name, value in asked.items() if value is not None})
    rows, following = _page(narrowed.select_related("account"), after, limit)
    data = [schemas.RequestOut(**unlock_request(row, request.auth)) for row in rows]
    return schemas.RequestsOut(data=data, next=following)


@read("/requests/{case}", schemas.RequestDetailOut)
def one_request(request, case: Key):
    """Read a request: its batches by outcome, its newest consent link, and each consent with where it stands."""
    return detail(get_object_or_404(UnlockRequest.objects.select_related("account"), pk=case), request.auth)


@read("/requests/{case}/batches", schemas.LinesOut)
def request_batches(request, case: Key, after: After = 0, limit: Limit = 50):
    """List the batches of a request, with their outcomes, by the key of the batch."""
    lines = RequestedBatch.objects.filter(unlock_request=get_object_or_404(UnlockRequest, pk=case), batch__gt=after)
    outcomes = dict(lines.order_by("batch").values_list("batch", "outcome")[: limit + 1])
    keys = list(outcomes)[:limit]
    data = [schemas.LineOut(**row.dict(), outcome=outcomes[row.id]) for row in judged(keys, request.auth)]
    return schemas.LinesOut(data=data, next=keys[-1] if len(outcomes) > limit else None)


@read("/events", schemas.EventsOut, "api.read_events")
def feed(request, after: After = 0, limit: Limit = 50):
    """Follow the ledger: what happened after an entry, in its order, at least once and without a gap.

    Remember `next`, and ask after it. Sequences that are left out are seals, which tell of nothing else. An entry that
    was tampered with comes as `altered`.
    """
    entries = LedgerEntry.objects.filter(sequence__gt=after).exclude(kind=events.Sealed.kind)
    found = list(entries.order_by("sequence")[:limit])
    data = [_event(entry, request.auth) for entry in found]
    return schemas.EventsOut(data=data, next=data[-1].id if data else after)


def _page(rows, after, limit):
    """Return the rows of a page, and the key after which the next one begins; None on the last one."""
    found = list(rows.filter(pk__gt=after).order_by("pk")[: limit + 1])
    return found[:limit], found[limit - 1].pk if len(found) > limit else None


def judged(keys, by):
    """Return batches, given by their keys, as the one rule judges them for a system."""
    rows = rules.judged(Batch.objects.filter(pk__in=keys), by=by.user).select_related("account").order_by("pk")
    return [_batch(row) for row in rows.annotate(possible_duplicate=rules.has_possible_duplicates())]


def verdict(row):
    said = rules.sentence(row.refusal, row)
    return schemas.VerdictOut(possible=not row.refusal, code=row.refusal, sentence=said)


def _batch(row):
    return schemas.BatchOut(
        id=row.pk,
        account=row.account.number,
        number=row.number,
        name=row.name,
        external_id=row.external_id,
        status=row.status,
        reached_by=row.reached_by,
        differs=row.differs,
        as_of=row.as_of,
        total=f"{row.total:.2f}",
        item_count=row.item_count,
        posted_on=row.posted_on,
        bypassed_on=row.bypassed_on,
        exported_on=row.exported_on,
        period_closed=row.period_closed,
        unlocked_until=row.unlocked_until,
        request=UnlockRequest.reference_of(row.open_request) if row.open_request else None,
        possible_duplicate=row.possible_duplicate,
        can_be_unlocked=verdict(row),
    )


def _account(row):
    return {
        "id": row.pk,
        "number": row.number,
        "name": row.name,
        "external_id": row.external_id,
        "accounting_software": row.accounting_software,
        "time_zone": row.time_zone,
        "active": row.active,
        "pin_counts": not row.pin_state,
    }


def _contact(row, by):
    personal = {"name": row.name, "email": row.email, "phone": row.phone} if by.may(PERSONAL) else {}
    return schemas.ContactOut(
        id=row.pk, is_admin=row.is_admin, external_id=row.external_id, counts=row.is_confirmed_admin, **personal
    )


def _item(row, by):
    return schemas.ItemOut(
        id=row.pk,
        kind=row.kind,
        number=row.number,
        date=row.date,
        amount=f"{row.amount:.2f}",
        export_id=row.export_id,
        external_id=row.external_id,
        job_number=row.job_number,
        business_unit=row.business_unit,
        left_at=row.left_at,
        lines=json.loads(row.lines),
        **({"customer": row.customer, "memo": row.memo} if by.may(PERSONAL) else {}),
    )


def unlock_request(row, by):
    return {
        "id": row.pk,
        "reference": row.reference,
        "account": row.account.number,
        "status": row.status,
        "requester": row.requester_id,
        "channel": row.channel,
        "bypass_reason": row.bypass_reason,
        "advice": row.advice,
        "opened_at": row.opened_at,
        "closed_at": row.closed_at,
        "resolution": row.resolution,
        "ticket_system": row.ticket_system,
        "ticket_number": row.ticket_number,
        "bypass_other": row.bypass_other if by.may(PERSONAL) else None,
        "reason": row.reason if by.may(PERSONAL) else None,
    }


def detail(row, by):
    """Return a request as its page has it."""
    counts = row.lines.order_by("outcome").values_list("outcome").annotate(n=Count("pk"))
    newest = row.links.select_related("sent_to", "unlock_request").order_by("-pk").first()
    given = row.consents.select_related("withdrawal").order_by("-pk")
    return schemas.RequestDetailOut(
        **unlock_request(row, by),
        batches=dict(counts),
        link=link(newest) if newest else None,
        consents=[_consent(consent, by) for consent in given],
    )


def link(row: ConsentLink):
    email = of_link(row, of_request(row.unlock_request))
    return schemas.LinkOut(
        id=row.pk,
        state=link_state(row),
        sent_at=row.sent_at,
        expires_at=row.expires_at,
        email=email.state or None,
        opened=row.openings.count(),
    )


def _consent(row, by):
    personal = {"signer_name": row.signer_name, "signer_role": row.signer_role} if by.may(PERSONAL) else {}
    return schemas.ConsentOut(
        reference=row.reference,
        state=_state(row),
        how=row.how,
        given_at=row.given_at,
        valid_until=row.valid_until,
        batches=row.batch_count,
        text_sha256=row.text_sha256,
        **personal,
    )


def _state(consent):
    if consent.decision == Consent.Decision.DECLINED:
        return "declined"
    if hasattr(consent, "withdrawal"):
        return "withdrawn"
    return "expired" if consent.valid_until <= timezone.now() else "agreed"


def _event(entry, by):
    event, personal = chain.event_of(entry), {}
    if by.may(PERSONAL) and event.kind and not chain.erased(entry):
        personal = {"actor": chain.actor_of(entry), "ip": entry.ip, "personal": event.facts(personal=True)}
    return schemas.EventOut(
        id=entry.sequence,
        kind=event.kind or "altered",
        label=event.label,
        at=entry.at,
        act=entry.act,
        request=UnlockRequest.reference_of(entry.unlock_request_id) if entry.unlock_request_id else None,
        account=entry.account_id,
        user=entry.user_id,
        facts=event.facts(personal=False),
        **personal,
    )
