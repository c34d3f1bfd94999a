"""Records: the rows that ledger entries tell of are there, and say what the ledger was told of them.

This holds from the moment an entry is written, before any seal covers the row. Facts that older entries do not have
are not compared.
"""

import hashlib
import json
from dataclasses import dataclass, field
from itertools import groupby, islice

from django.db.models import F, OuterRef, Subquery

from ..digest import sha256
from ..models import (
    Act,
    Batch,
    Certificate,
    Consent,
    ConsentedBatch,
    ConsentEvidence,
    ConsentLink,
    ConsentTerms,
    ConsentWithdrawal,
    LedgerEntry,
    ResentReceipt,
    UnlockRequest,
    Verdict,
)
from ..texts import first_terms
from . import chain

_AT_ONCE = 500  # SQLite takes no more than 999 parameters in a statement
Kind = LedgerEntry.Kind


@dataclass(frozen=True)
class _Told:
    """Of which row an entry tells: the fact `named` is its `key`. Each column is the fact beside it.

    Of the columns in `digested` the fact is the SHA-256 (hex); those in `always` hold the value beside them.
    """

    model: type
    named: str
    key: str
    columns: dict
    digested: dict = field(default_factory=dict)
    always: dict = field(default_factory=dict)


_AGREED, _DECLINED = Consent.Decision.AGREED, Consent.Decision.DECLINED
_BY_LINK, _BY_STAFF = Consent.How.LINK, Consent.How.PHONE
_OF_A_CONSENT = {
    "unlock_request_id": "unlock_request",
    "link_id": "link",
    "terms__version": "terms",
    "text_sha256": "text_sha256",
    "signer_name": "name",
    "signer_role": "role",
    "contact_id": "contact",
    "contact_name": "contact_name",
    "email": "to",
    "ticked": "ticked",
    "pressed": "pressed",
    "pin_verified_at": "pin_verified",
    "pin_typed_by": "pin_typed_by",
    "link__used_at": "link_used",
    "receipt_hash": "receipt_sha256",
    "given_at": "given",
    "valid_until": "valid_until",
}
_OF_THE_BROWSER = {"ip": "ip", "browser": "browser"}
_OF_AN_AGREEMENT = {"given_at": "at", "batch_count": "batches"}


def _consent(decision, how, columns):
    return _Told(
        Consent,
        "consent",
        "pk",
        _OF_A_CONSENT | columns,
        digested={"text": "text_sha256"},
        always={"decision": decision, "how": how},
    )


def _act(kind):
    columns = {"at": "at", "actor": "actor", "by_id": "user", "why": "why"}
    return _Told(Act, "act", "pk", columns, always={"kind": kind})


TOLD = {
    Kind.OPENED: _Told(
        UnlockRequest,
        "unlock_request",
        "pk",
        {"account_id": "account", "requester_id": "requester", "opened_by_id": "user", "opened_at": "at"},
    ),
    Kind.LINK_SENT: _Told(
        ConsentLink,
        "link",
        "pk",
        {
            "unlock_request_id": "unlock_request",
            "sent_to_id": "contact",
            "email": "to",
            "terms__version": "terms",
            "sent_by_id": "user",
            "sent_at": "at",
            "expires_at": "expires",
        },
    ),
    Kind.LINK_OPENED: _Told(
        ConsentLink,
        "link",
        "pk",
        {
            "unlock_request_id": "unlock_request",
            "first_opened_at": "opened",
            "first_opened_ip": "ip",
            "first_opened_browser": "browser",
        },
    ),
    Kind.CONSENTED: _consent(_AGREED, _BY_LINK, _OF_AN_AGREEMENT | _OF_THE_BROWSER),
    Kind.RECORDED_BY_PHONE: _consent(_AGREED, _BY_STAFF, _OF_AN_AGREEMENT | {"recorded_by_id": "user"}),
    Kind.DECLINED: _consent(_DECLINED, _BY_LINK, _OF_THE_BROWSER),
    Kind.WITHDRAWN: _Told(
        ConsentWithdrawal,
        "consent",
        "consent_id",
        {"why": "why", "actor": "actor", "by_id": "user", "at": "withdrawn"},
    ),
    Kind.RECEIPT_RESENT: _Told(
        ResentReceipt,
        "receipt",
        "pk",
        {
            "consent_id": "consent",
            "email": "to",
            "token_hash": "receipt_sha256",
            "sent_by_id": "user",
            "sent_at": "at",
        },
    ),
    Kind.EVIDENCE: _Told(
        ConsentEvidence,
        "evidence",
        "pk",
        {
            "consent_id": "consent",
            "what": "what",
            "file_name": "file_name",
            "size": "size",
            "sha256": "sha256",
            "attached_by_id": "user",
            "attached_at": "at",
        },
    ),
    Kind.CERTIFIED: _Told(
        Certificate,
        "sha256",
        "sha256",
        {
            "consent_id": "consent",
            "interim": "interim",
            "pdf_sha256": "pdf_sha256",
            "issued_by_id": "user",
            "issued_at": "at",
        },
        digested={"content": "sha256", "pdf": "pdf_sha256"},
    ),
    Kind.TERMS_PUBLISHED: _Told(
        ConsentTerms,
        "version",
        "version",
        {
            "published_by_id": "user",
            "published_at": "at",
            "title": "title",
            "drafted_by_id": "drafted_by",
            "drafted_at": "drafted_at",
        },
        digested={"text": "sha256"},
    ),
    Kind.UNLOCKED: _act(Act.Kind.UNLOCK),
    Kind.REFUSED: _act(Act.Kind.UNLOCK),
    Kind.RELOCKED: _act(Act.Kind.RELOCK),
    Kind.RE_EXPORTED: _act(Act.Kind.RE_EXPORT),
}


def faults():
    """Compare the rows with what the ledger tells; yield (model and fault, a sentence) for each that differs."""
    entries = LedgerEntry.objects.filter(kind__in=TOLD).order_by("sequence").iterator(chunk_size=_AT_ONCE)
    while some := list(islice(entries, _AT_ONCE)):
        # An entry that was altered is the ledger's to tell, and tells of nothing.
        intact = [(event.sequence, json.loads(event.body)) for event in some if chain.fits(event)]
        for kind, told in TOLD.items():
            of_kind = [(sequence, body | body["facts"]) for sequence, body in intact if body["kind"] == kind]
            yield from _differing(told, of_kind)
        yield from _covering(intact)
    yield from _unlocked()
    first = ConsentTerms.objects.filter(version=1).values_list("title", "text").first()
    if first != (first_terms.TITLE, first_terms.TEXT):
        yield "terms", "Consent terms version 1 are not the text that the desk came with."


def covered(consent_id):
    """Return the SHA-256 (hex) over the batches of a consent as it covers them, a line each, in order of their keys."""
    digest = hashlib.sha256()
    columns = ("batch_id", "number", "name", "total", "item_count", "fingerprint")
    rows = ConsentedBatch.objects.filter(consent=consent_id).order_by("requested_batch_id").values_list(*columns)
    for row in rows.iterator(chunk_size=2000):
        digest.update("\t".join(map(str, row)).encode() + b"\n")
    return digest.hexdigest()


def _covering(intact):
    """Compare what consents cover with what the ledger was told when they were given."""
    for sequence, body in intact:
        facts = body["facts"]
        if "covered" in facts and covered(facts["consent"]) != facts["covered"]:
            said = f"the batches that it covers differ from what ledger entry {sequence} tells"
            yield "covered differs", f"Consent {facts['consent']}: {said}."


def _unlocked():
    """Compare each unlocked batch with the act that unlocked it, as the ledger tells of that act in its case."""
    acts = Batch.history.filter(id=OuterRef("pk")).order_by("-history_id").values("history_act")[:1]
    unlocked = Batch.objects.filter(status=Batch.Status.UNLOCKED).annotate(
        act=Subquery(acts), case=F("grant__consent__unlock_request")
    )
    rows = unlocked.order_by("case", "act", "unlocked_by", "pk").values_list(
        "case", "act", "unlocked_by", "pk", "number"
    )
    for (case, act, user), batches in groupby(rows.iterator(chunk_size=2000), key=lambda row: row[:3]):
        done = _done(case, act, user)
        for *_, pk, number in batches:
            if pk not in done:
                yield "unlocked untold", f"Batch {number} (id {pk}) is unlocked by no act that the ledger tells of."


def _done(case, act, user):
    """Return the keys of the batches that an act of `user` unlocked in a case; none if the ledger tells otherwise."""
    entries = LedgerEntry.objects.filter(kind=Kind.UNLOCKED, unlock_request=case, user=user)
    told = (event.facts for event in entries if event.body.endswith("}"))  # a body that was emptied tells nothing
    numbers = [facts["batches"] for facts in told if facts["act"] == str(act)]
    done = set(Verdict.objects.filter(act=act, line__unlock_request=case, refusal="").values_list("batch", flat=True))
    return done if numbers == [len(done)] else set()


def _differing(told, entries):
    named = told.model._meta.verbose_name
    rows = _rows(told, {facts[told.named] for _, facts in entries if facts.get(told.named) is not None})
    for sequence, facts in entries:
        if (key := facts.get(told.named)) is None:
            continue
        which = f"{named} {key}" if told.key == "pk" else f"{named} ({told.key} {key})"
        if (row := rows.get(str(key))) is None:
            yield f"{named} gone", f"Ledger entry {sequence} tells of {which}, which is not there any more."
        elif column := _column_that_differs(told, row, facts):
            said = f"its column {column} differs from what ledger entry {sequence} tells"
            yield f"{named} differs", f"{which.capitalize()}: {said}."


def _rows(told, keys):
    if not keys:
        return {}
    columns = [*told.columns, *told.digested, *told.always]
    found = told.model._base_manager.filter(**{f"{told.key}__in": keys}).values(told.key, *columns)
    rows = {}
    for row in found.iterator(chunk_size=50):  # whole texts and PDFs are not all kept
        rows[str(row[told.key])] = row | {column: sha256(row[column]) for column in told.digested}
    return rows


def _column_that_differs(told, row, facts):
    for column, fact in [*told.columns.items(), *told.digested.items()]:
        if fact in facts and _as_told(row[column]) != facts[fact]:
            return column
    return next((column for column, value in told.always.items() if row[column] != value), None)


def _as_told(value):
    return value.isoformat() if hasattr(value, "isoformat") else value
