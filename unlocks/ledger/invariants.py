"""The promise as queries that return offenders. All of them empty: the promise holds.

Used alike by the tests, by `verify_audit` and after a restore.
"""

from django.apps import apps
from django.db import connection
from django.db.models import CharField, Count, Exists, F, OuterRef, Q, Subquery, Value
from django.db.models.expressions import RawSQL
from django.db.models.functions import Cast, Concat

from ..database import fingerprint
from ..models import (
    Batch,
    Certificate,
    Consent,
    ConsentedBatch,
    ConsentEvidence,
    ConsentLink,
    ConsentTerms,
    ConsentWithdrawal,
    LedgerEntry,
    RequestedBatch,
    ResentReceipt,
    UnlockRequest,
)

Unlocked, Line = Batch.Status.UNLOCKED, RequestedBatch.Outcome


def offenders():
    """Yield (what is wrong, queryset of the rows that offend), in a fixed order."""
    unlocked = Batch.objects.filter(status=Unlocked)
    yield (
        "unlocked without an agreed consent of its account for this batch",
        unlocked.exclude(
            grant__batch=F("pk"),
            grant__consent__decision=Consent.Decision.AGREED,
            grant__consent__unlock_request__account=F("account"),
        ),
    )
    yield "unlocked under a withdrawn consent", unlocked.filter(grant__consent__withdrawal__isnull=False)
    yield (
        "unlocked by the person who took the consent down",
        unlocked.filter(grant__consent__recorded_by=F("unlocked_by")),
    )
    yield (
        "unlocked, but no open request shows it",
        unlocked.exclude(
            Exists(
                RequestedBatch.objects.filter(batch=OuterRef("pk"), outcome=Line.UNLOCKED, consented=OuterRef("grant"))
            )
        ),
    )
    yield (
        "shown as unlocked, but its batch is not",
        RequestedBatch.objects.filter(outcome=Line.UNLOCKED).exclude(batch__status=Unlocked),
    )
    yield (
        "fingerprint does not fit the content",
        Batch.objects.exclude(fingerprint="").exclude(fingerprint=fingerprint.expression("default")),
    )
    yield (
        "text does not fit its hash",
        Consent.objects.exclude(text_sha256=_sha256_of("unlocks_consent", "text")),
    )
    yield (
        "covers another number of batches than was shown",
        Consent.objects.annotate(covered=Count("batches")).exclude(covered=F("batch_count")),
    )
    yield (
        "covers a batch of another request",
        ConsentedBatch.objects.exclude(
            requested_batch__unlock_request=F("consent__unlock_request"), requested_batch__batch=F("batch")
        ),
    )
    yield (
        "recorded without a ledger entry",
        Consent.objects.exclude(
            _told(
                "consent",
                [LedgerEntry.Kind.CONSENTED, LedgerEntry.Kind.DECLINED, LedgerEntry.Kind.RECORDED_BY_PHONE],
                "unlock_request",
                "pk",
            )
        ),
    )
    right = LedgerEntry.objects.filter(unlock_request=OuterRef("unlock_request"), kind=LedgerEntry.Kind.PIN_VERIFIED)
    agreed = Consent.objects.filter(decision=Consent.Decision.AGREED)
    yield (
        "agreed, but the ledger shows no PIN verified",
        agreed.filter(how=Consent.How.LINK).exclude(Exists(right)),
    )
    yield (
        "taken down, but the ledger shows no PIN verified by whoever did",
        agreed.filter(how=Consent.How.PHONE).exclude(Exists(right.filter(user=OuterRef("recorded_by")))),
    )
    yield (
        "attached without a ledger entry",
        ConsentEvidence.objects.exclude(
            _told("evidence", [LedgerEntry.Kind.EVIDENCE], "consent__unlock_request", "pk")
        ),
    )
    published = ConsentTerms.objects.filter(published_at__isnull=False).exclude(version=1)
    version = Concat(Value('"version":'), Cast(OuterRef("version"), CharField()), Value("}"))
    of_it = LedgerEntry.objects.filter(kind=LedgerEntry.Kind.TERMS_PUBLISHED, body__contains=version)
    yield (
        "published without a ledger entry",
        published.annotate(digest=_sha256_of("unlocks_consentterms", "text")).exclude(
            Exists(of_it.filter(body__contains=OuterRef("digest")))
        ),
    )
    yield (
        "sent again without a ledger entry",
        ResentReceipt.objects.exclude(
            _told("receipt", [LedgerEntry.Kind.RECEIPT_RESENT], "consent__unlock_request", "pk")
        ),
    )
    yield (
        "issued without a ledger entry",
        Certificate.objects.exclude(
            Exists(
                LedgerEntry.objects.filter(
                    unlock_request=OuterRef("consent__unlock_request"),
                    kind=LedgerEntry.Kind.CERTIFIED,
                    body__contains=OuterRef("sha256"),
                )
            )
        ),
    )
    yield (
        "content does not fit its hash",
        Certificate.objects.exclude(sha256=_sha256_of("unlocks_certificate", "content")),
    )
    yield (
        "sent without a ledger entry",
        ConsentLink.objects.exclude(_told("link", [LedgerEntry.Kind.LINK_SENT], "unlock_request", "pk")),
    )
    yield (
        "withdrawn without a ledger entry",
        ConsentWithdrawal.objects.exclude(
            _told("consent", [LedgerEntry.Kind.WITHDRAWN], "consent__unlock_request", "consent_id")
        ),
    )
    yield (
        "unlocked without a ledger entry of its request",
        unlocked.exclude(
            Exists(
                LedgerEntry.objects.filter(
                    unlock_request=OuterRef("grant__consent__unlock_request"), kind=LedgerEntry.Kind.UNLOCKED
                )
            )
        ),
    )
    yield (
        "opened without a ledger entry",
        UnlockRequest.objects.exclude(
            Exists(LedgerEntry.objects.filter(unlock_request=OuterRef("pk"), kind=LedgerEntry.Kind.OPENED))
        ),
    )
    yield (
        "closed with batches still open in it",
        UnlockRequest.objects.filter(status=UnlockRequest.Status.CLOSED, lines__outcome__in=RequestedBatch.OPEN),
    )
    for model in apps.get_app_config("unlocks").get_models():
        if hasattr(model, "history"):
            yield (
                f"{model._meta.verbose_name}: the newest history row tells something else",
                _differs_from_history(model),
            )


def _sha256_of(table, column):
    """The SHA-256 (hex) of a text column, taken by the database."""
    return RawSQL(fingerprint.sha256(connection.vendor, f'"{table}"."{column}"'), [])


def _told(fact, kinds, unlock_request, key):
    """The ledger has an entry of these kinds about the outer row's request which names its key as that fact."""
    named = Concat(Value(f'"{fact}":'), Cast(OuterRef(key), CharField()), Value(","))
    return Exists(
        LedgerEntry.objects.filter(unlock_request=OuterRef(unlock_request), kind__in=kinds, body__contains=named)
    )


def _differs_from_history(model):
    """Rows of a tracked model that were changed, or made, past `history.py`."""
    past = model.history.model
    newest = past.objects.filter(id=OuterRef("pk")).order_by("-history_id")
    fields = [field for field in past.tracked_fields if field.attname != "id"]
    same = Q(pk=F("pk"))
    for field in fields:
        equal = Q(**{field.attname: OuterRef(field.attname)})
        same &= equal | Q(**{f"{field.attname}__isnull": True}) & _null(field) if field.null else equal
    fits = past.objects.filter(history_id=OuterRef("newest")).filter(same)
    return model.objects.annotate(newest=Subquery(newest.values("history_id")[:1])).exclude(Exists(fits))


def _null(field):
    """The outer row's value of this field is NULL too."""
    model = field.model
    return Exists(model.objects.filter(pk=OuterRef(OuterRef("pk")), **{f"{field.attname}__isnull": True}))
