"""Asking for the customer's consent, recording it, and taking it back."""

import hashlib
import secrets

from django.conf import settings
from django.db import transaction
from django.db.models import F, OuterRef, Subquery
from django.urls import reverse
from django.utils import timezone

from .. import fingerprint, history, ledger, mails, wording
from ..models import (
    Batch,
    CaseEvent,
    Consent,
    ConsentedBatch,
    ConsentLink,
    ConsentTerms,
    ConsentWithdrawal,
    RequestedBatch,
    UnlockRequest,
)
from ..rules import Refusal
from .links import live, opened
from .pin import counts_still, knows_pin
from .requests import end
from .unlock import relock_under
from .verbs import Refused, customer_verb, locked, refuse_own_contacts, staff_verb


@staff_verb("unlocks.send_consent_link")
@transaction.atomic
def send_consent_link(request, *, contact, by):
    """Mail an Admin contact a link to the consent form and return its address; an older link stops working.

    The address is in nobody's hands afterwards but the reader's: only a hash of its token is kept. Whoever typed the
    account's PIN gets '' instead: with link and PIN together they could agree for the customer.
    """
    request = locked(request)
    if request.status == UnlockRequest.Status.UNLOCKED:
        raise Refused.because(Refusal.ALREADY_RECORDED, names="unlocked; open a new request for other batches")
    if not request.advice:
        raise Refused.because(Refusal.ADVICE_FIRST)
    if contact.account_id != request.account_id or not contact.is_admin:
        raise Refused.because(Refusal.NOT_AN_ADMIN, name=contact.name, admins="Links go to Admin contacts only.")
    refuse_own_contacts(request.account, by)
    if not request.account.pin_hash:
        raise Refused.because(Refusal.NO_PIN)
    history.lock(_asked(request))
    fingerprint.take(_asked(request))
    at = timezone.now()
    _revoke(request, at)
    token = secrets.token_urlsafe(32)
    link = ConsentLink.objects.create(
        request=request,
        sent_to=contact,
        email=contact.email,
        terms=ConsentTerms.objects.exclude(published_at=None).first(),
        token_hash=_hash(token),
        sent_by=by.user,
        sent_at=at,
        expires_at=at + settings.CONSENT_LINK_LIFETIME,
    )
    if request.status != UnlockRequest.Status.AWAITING_CONSENT:
        request.status = UnlockRequest.Status.AWAITING_CONSENT
        history.save(request, by=by, why="Consent link sent")
    ledger.note(
        CaseEvent.Kind.LINK_SENT,
        request=request,
        by=by,
        at=at,
        link=link.pk,
        to=contact.email,
        contact=contact.pk,
        name=contact.name,
        terms=link.terms.version,
        expires=link.expires_at.isoformat(),
    )
    url = settings.PUBLIC_URL + reverse("consent_link", args=[token])
    mails.send(
        "consent_link",
        contact.email,
        about=request,
        link=link,
        request=request,
        account=request.account,
        url=url,
        expires=link.expires_at,
    )
    return "" if knows_pin(request.account, by.user) else url


@staff_verb("unlocks.send_consent_link")
@transaction.atomic
def revoke_consent_link(request, *, by):
    """Make the request's consent link useless at once."""
    request = locked(request)
    if not _revoke(request, timezone.now()):
        raise Refused.because(Refusal.NO_LINK)
    ledger.note(CaseEvent.Kind.LINK_REVOKED, request=request, by=by)


def _revoke(request, at):
    return ConsentLink.objects.filter(request=request, used_at=None, revoked_at=None).update(revoked_at=at)


def link_for(token):
    """Return the consent link with this token, or None."""
    links = ConsentLink.objects.select_related("request__account", "request__requester", "sent_to", "terms")
    return links.filter(token_hash=_hash(token)).first()


def receipt_for(token):
    """Return the consent whose receipt has this token, or None."""
    consents = Consent.objects.select_related("request__account", "terms", "contact")
    return consents.filter(receipt_hash=_hash(token)).first()


@customer_verb
@transaction.atomic
def open_consent_link(link, *, by):
    """Record when and from where the customer first opened the form."""
    request, link = live(link)
    if link.first_opened_at:
        return link
    link.first_opened_at, link.first_opened_ip, link.first_opened_browser = timezone.now(), by.ip, by.browser
    link.save(update_fields=["first_opened_at", "first_opened_ip", "first_opened_browser"])
    ledger.note(CaseEvent.Kind.LINK_OPENED, request=request, by=by, link=link.pk, browser=by.browser)
    return link


@transaction.atomic
def refuse_staff(link, *, by):
    """Record that a logged-in member of staff stood on the customer's page."""
    ledger.note(CaseEvent.Kind.STAFF_REFUSED, request=link.request, by=by, link=link.pk)


def shown_text(link):
    """Return all that the customer is shown and agrees to or declines, as plain text, as the batches stand now."""
    account, terms = link.request.account, link.terms
    batches = list(_asked(link.request).annotate(content=fingerprint.expression("default")).order_by("number"))
    items, total = sum(batch.item_count for batch in batches), sum(batch.total for batch in batches)
    return "\n".join(
        [
            f"{wording.TITLE} ({link.request.reference})",
            wording.asked(account),
            "",
            f"{wording.ACCOUNT_HEADING}: {account.name}, number {account.number}",
            f"{wording.BATCHES_HEADING}: {wording.batches_summary(len(batches), items, total)}",
            *(_batch_in_words(batch) for batch in batches),
            "",
            wording.ADVICE_HEADING,
            *wording.ADVICE,
            "",
            wording.terms_heading(terms),
            terms.text,
            "",
            wording.DECISION_HEADING,
            f"[ ] {wording.authorised(account)}",
            f"[ ] {wording.agree(terms)}",
            f"[{wording.AGREE_BUTTON}] [{wording.DECLINE_BUTTON}]",
        ]
    )


def _batch_in_words(batch):
    return (
        f"- {batch.number}, {batch.name or 'no name'}: "
        f"{wording.counted(batch.item_count, 'item', 'items')}, {wording.money(batch.total)}, "
        f"posted {wording.day(batch.posted_on)}, bypassed {wording.day(batch.bypassed_on)}, content {batch.content}"
    )


@customer_verb
@transaction.atomic
def give_consent(link, *, name, role, shown, by):
    """Record that the customer agreed to exactly `shown`; return the consent and the token of its receipt.

    Raises Refused: LINK_DEAD, NOT_OPENED, PIN_STALE, CHANGED_WHILE_READING.
    """
    request, link = opened(link)
    if not counts_still(link.pin_verified_at, settings.PIN_VERIFICATION_LIFETIME):
        raise Refused.because(Refusal.PIN_STALE)
    history.lock(_asked(request))
    if shown_text(link) != shown:
        raise Refused.because(Refusal.CHANGED_WHILE_READING)
    fingerprint.take(_asked(request))
    at = timezone.now()
    waiting = RequestedBatch.objects.filter(request=request, outcome=RequestedBatch.Outcome.WAITING)
    consent, token = _record(
        link,
        Consent.Decision.AGREED,
        name=name,
        role=role,
        shown=shown,
        by=by,
        at=at,
        valid_until=at + settings.CONSENT_LIFETIME,
        batch_count=waiting.count(),
    )
    history.insert_select(
        ConsentedBatch,
        waiting,
        consent_id=consent.pk,
        requested_batch_id=F("pk"),
        batch_id=F("batch_id"),
        fingerprint=F("batch__fingerprint"),
    )
    covered = ConsentedBatch.objects.filter(consent=consent, requested_batch=OuterRef("pk")).values("pk")
    history.update(waiting, by=by, why="Consent given", at=at, consented=Subquery(covered))
    request.status = UnlockRequest.Status.CONSENTED
    request.pin_verified_at, request.pin_verified_by = link.pin_verified_at, None
    request.pin_typed_by = UnlockRequest.PinTypedBy.CUSTOMER
    history.save(request, by=by, why="Consent given")
    ledger.note(
        CaseEvent.Kind.CONSENTED, request=request, by=by, at=at, batches=consent.batch_count, **_facts(consent, by)
    )
    _mail_receipt("receipt", consent, token)
    return consent, token


@customer_verb
@transaction.atomic
def decline_consent(link, *, name, role, why, shown, by):
    """Record that the customer declined, and close the case; return the consent record and its receipt's token."""
    request, link = opened(link)
    consent, token = _record(
        link, Consent.Decision.DECLINED, name=name, role=role, shown=shown, by=by, at=timezone.now()
    )
    ledger.note(CaseEvent.Kind.DECLINED, request=request, by=by, why=why, **_facts(consent, by))
    end(request, resolution=UnlockRequest.Resolution.DECLINED, by=by, why=why or "Customer declined")
    _mail_receipt("declined", consent, token)
    return consent, token


@staff_verb("unlocks.withdraw_consent")
def withdraw_consent(consent, *, why, by):
    """Record that the customer takes a consent back; batches unlocked under it are locked again in the same act."""
    if not why.strip():
        raise Refused.because(Refusal.NO_REASON)
    with transaction.atomic():
        request = locked(consent.request)
        if consent.decision != Consent.Decision.AGREED:
            raise Refused.because(Refusal.CONSENT_OVER, names="the customer declined")
        if ConsentWithdrawal.objects.filter(consent=consent).exists():
            raise Refused.because(Refusal.CONSENT_OVER, names="it was withdrawn already")
        relock_under(consent, by=by, why=f"Consent withdrawn: {why}")
        ConsentWithdrawal.objects.create(consent=consent, at=timezone.now(), by=by.user, actor=by.name, why=why)
        ledger.note(CaseEvent.Kind.WITHDRAWN, request=request, by=by, consent=consent.pk, why=why)
        end(request, resolution=UnlockRequest.Resolution.WITHDRAWN, by=by, why=why)
        mails.send(
            "withdrawn",
            consent.email,
            about=request,
            consent=consent,
            request=request,
            account=request.account,
            why=why,
        )


def _asked(request):
    """The batches that the request still waits to unlock."""
    lines = RequestedBatch.objects.filter(request=request, outcome=RequestedBatch.Outcome.WAITING)
    return Batch.objects.filter(pk__in=lines.values("batch"))


def _record(link, decision, *, name, role, shown, by, at, valid_until=None, batch_count=0):
    link.used_at = at
    link.save(update_fields=["used_at"])
    token = secrets.token_urlsafe(32)
    consent = Consent.objects.create(
        request=link.request,
        link=link,
        terms=link.terms,
        text=shown,
        text_sha256=hashlib.sha256(shown.encode()).hexdigest(),
        decision=decision,
        signer_name=name,
        signer_role=role,
        contact=link.sent_to,
        email=link.email,
        ip=by.ip,
        browser=by.browser,
        how=Consent.How.LINK,
        given_at=at,
        valid_until=valid_until,
        batch_count=batch_count,
        receipt_hash=_hash(token),
    )
    return consent, token


def _facts(consent, by):
    return {
        "consent": consent.pk,
        "link": consent.link_id,
        "name": consent.signer_name,
        "role": consent.signer_role,
        "text_sha256": consent.text_sha256,
        "terms": consent.terms.version,
        "browser": by.browser,
    }


def _mail_receipt(template, consent, token):
    mails.send(
        template,
        consent.email,
        about=consent.request,
        consent=consent,
        request=consent.request,
        account=consent.request.account,
        url=settings.PUBLIC_URL + reverse("receipt_link", args=[token]),
        text=consent.text,
    )


def _hash(token):
    return hashlib.sha256(token.encode()).hexdigest()
