"""Asking for the customer's consent, and recording the answer."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F, OuterRef, QuerySet, Subquery, Sum, Value, Window
from django.db.models.functions import RowNumber
from django.urls import reverse

from .. import history
from ..actors import Actor
from ..database import fingerprint
from ..digest import sha256
from ..ledger import chain, events
from ..models import (
    Account,
    Batch,
    Consent,
    ConsentedBatch,
    ConsentLink,
    Contact,
    LinkOpening,
    Outgoing,
    RequestedBatch,
    UnlockRequest,
)
from ..outbox import rows, secrets
from ..rules import Refusal
from ..texts import wording
from ..texts.shown import asked_for, shown_text, terms_in_force, text_to_read_out
from .links import led_by, live, opened
from .pin import counts_still, knows_pin, verified_by
from .receipts import queue_receipt
from .requests import end, refuse_once_unlocking, sum_up
from .verbs import (
    Refused,
    customer_verb,
    locked,
    obstacle,
    once,
    refuse_own_contacts,
    refuse_unless_confirmed,
    staff_verb,
)


@staff_verb("unlocks.send_consent_link")
@once(events.LinkSent, lambda entry: ConsentLink.objects.get(pk=entry.about_id or 0))
@transaction.atomic
def send_consent_link(unlock_request: UnlockRequest, *, contact: Contact, by: Actor) -> ConsentLink:
    """Have a link to the consent form emailed to an Admin contact and return it; an older link stops working.

    Only a hash of its token is kept, so `url` is known here and to the reader of the email. `shown_to` says whether
    `by` may see it: that takes SHOW_CONSENT_LINK, and a person who never typed the account's PIN. With link and PIN
    together they could agree for the customer. No system may.
    """
    unlock_request = locked(unlock_request)
    refuse_once_unlocking(unlock_request)
    if not unlock_request.advice:
        raise Refused.because(Refusal.ADVICE_FIRST)
    contact = _admin_now(contact, unlock_request, "Links go to Admin contacts only.")
    refuse_own_contacts(unlock_request.account, by)
    if not unlock_request.account.pin_hash:
        raise Refused.because(Refusal.NO_PIN)
    history.lock(asked_for(unlock_request))
    fingerprint.take(asked_for(unlock_request))
    at = by.act.at
    _revoke(unlock_request, at)
    history.lock(Account.objects.filter(pk=unlock_request.account_id))  # as whoever types its PIN does
    nonce = secrets.new_nonce()
    token = secrets.token(nonce)
    link = ConsentLink.objects.create(
        unlock_request=unlock_request,
        sent_to=contact,
        email=contact.email,
        terms=terms_in_force(),
        token_hash=secrets.hashed(token),
        sent_by=by.member,
        shown_to=by.member if _may_see_links(by) and not knows_pin(unlock_request.account, by.member) else None,
        sent_at=at,
        expires_at=at + settings.CONSENT_LINK_LIFETIME,
    )
    if unlock_request.status != UnlockRequest.Status.AWAITING_CONSENT:
        unlock_request.status = UnlockRequest.Status.AWAITING_CONSENT
        history.save(unlock_request, by=by, why="Consent link issued")
    rows.queue(
        Outgoing.Email.CONSENT_LINK,
        link.email,
        by=by,
        nonce=nonce,
        account=unlock_request.account,
        unlock_request=unlock_request,
        contact=contact,
        link=link,
    )
    chain.append(events.LinkSent.of(link, name=contact.name), by=by, unlock_request=unlock_request)
    link.url = settings.PUBLIC_URL + reverse("consent_link", args=[token])
    return link


def _may_see_links(by: Actor) -> bool:
    return settings.SHOW_CONSENT_LINK and by.token is None


@staff_verb("unlocks.send_consent_link")
@once(events.LinkRevoked, lambda entry: None)
@transaction.atomic
def revoke_consent_link(unlock_request: UnlockRequest, *, by: Actor) -> None:
    """Make the request's consent link useless at once."""
    unlock_request = locked(unlock_request)
    if not _revoke(unlock_request, by.act.at):
        raise Refused.because(Refusal.NO_LINK)
    chain.append(events.LinkRevoked(), by=by, unlock_request=unlock_request)


def _revoke(unlock_request: UnlockRequest, at: datetime) -> int:
    return ConsentLink.objects.filter(unlock_request=unlock_request, used_at=None, revoked_at=None).update(
        revoked_at=at
    )


def link_for(token: str) -> ConsentLink | None:
    """Return the consent link with this token, or None."""
    links = ConsentLink.objects.select_related(
        "unlock_request__account", "unlock_request__requester", "sent_to", "terms"
    )
    return links.filter(token_hash=secrets.hashed(token)).first()


@customer_verb
@transaction.atomic
def open_consent_link(link: ConsentLink, *, by: Actor) -> LinkOpening | None:
    """Record that the form was opened, once for each address and browser, and return that opening.

    None is returned, and nothing recorded, once a link has as many openings as are kept. Raises Refused: LINK_DEAD.
    """
    unlock_request, link = live(link)
    known = link.openings.filter(ip=by.ip, browser=by.browser).first()
    count = link.openings.count()
    if known or count >= LinkOpening.MOST:
        return known
    opening = LinkOpening.objects.create(link=link, position=count + 1, at=by.act.at, ip=by.ip, browser=by.browser)
    chain.append(events.LinkOpened.of(opening), by=by, unlock_request=unlock_request)
    return opening


@transaction.atomic
def refuse_staff(found: Consent | ConsentLink, *, by: Actor) -> None:
    """Record that a logged-in member of staff stood on the customer's page of a link, or of a consent's receipt."""
    which = "consent" if isinstance(found, Consent) else "link"
    chain.append(events.StaffRefused(**{which: found.pk}), by=by, unlock_request=found.unlock_request)


@customer_verb
@transaction.atomic
def give_consent(
    link: ConsentLink,
    *,
    name: str,
    role: str,
    shown: str,
    by: Actor,
    opening: int | None = None,
    another: bool = False,
    left_out: QuerySet[Batch] | None = None,
) -> tuple[Consent, str]:
    """Record that the customer agreed to exactly `shown`; return the consent and the token of its receipt.

    `opening` is the key of the opening that the customer's browser kept, and `another` says that they checked that
    they are not the contact. The batches that they left out leave the request.

    Raises Refused: LINK_DEAD, NOT_OPENED, PIN_STALE, CHANGED_WHILE_READING, ALL_LEFT_OUT.
    """
    unlock_request, link = opened(link)
    if not counts_still(link.pin_verified_at, settings.PIN_VERIFICATION_LIFETIME):
        raise Refused.because(Refusal.PIN_STALE)
    _refuse_unless_shown(link, shown, left_out)
    without = _leave_out(unlock_request, left_out, by) if left_out is not None else {}
    by_link = _by_link(link, led_by(link, opening, by), by)
    consent, token = _agree(
        unlock_request,
        by_link | {"pin_verified_at": link.pin_verified_at, "pin_typed_by": UnlockRequest.PinTypedBy.CUSTOMER},
        name=name,
        role=role,
        shown=shown,
        ticked=[*_signs_instead(link, another), wording.authorized(unlock_request.account), wording.agree(link.terms)],
        pressed=wording.AGREE_BUTTON,
        by=by,
    )
    unlock_request.pin_verified_at, unlock_request.pin_verified_by = link.pin_verified_at, None
    unlock_request.pin_typed_by = UnlockRequest.PinTypedBy.CUSTOMER
    _make_ready(unlock_request, consent, events.Consented.of(consent, **without), by=by, why="Consent given")
    return consent, token


@customer_verb
@transaction.atomic
def decline_consent(
    link: ConsentLink,
    *,
    name: str,
    role: str,
    why: str,
    shown: str,
    by: Actor,
    opening: int | None = None,
    another: bool = False,
) -> tuple[Consent, str]:
    """Record that the customer declined, and close the case; return the consent record and its receipt's token.

    `opening` and `another` are those of `give_consent`.

    Raises Refused: LINK_DEAD, NOT_OPENED, CHANGED_WHILE_READING.
    """
    unlock_request, link = opened(link)
    _refuse_unless_shown(link, shown)
    consent, token = _record(
        unlock_request,
        Consent.Decision.DECLINED,
        name=name,
        role=role,
        shown=shown,
        ticked=_signs_instead(link, another),
        pressed=wording.CONFIRM_DECLINE_BUTTON,
        by=by,
        **_by_link(link, led_by(link, opening, by), by),
    )
    chain.append(events.Declined.of(consent, why=why), by=by, unlock_request=unlock_request)
    end(unlock_request, resolution=UnlockRequest.Resolution.DECLINED, by=by, why=why or "Customer declined")
    return consent, token


@staff_verb("unlocks.record_phone_consent")
@transaction.atomic
def record_phone_consent(
    unlock_request: UnlockRequest, *, contact: Contact, name: str, role: str, shown: str, by: Actor
) -> Consent:
    """Record what the customer agreed to on the phone, as a lower-assurance consent; another person has to unlock.

    Raises Refused: what `obstacle_to_phone_consent` says, NOT_AN_ADMIN, NOT_CONFIRMED, CHANGED_WHILE_READING.
    """
    unlock_request = locked(unlock_request)
    _refuse_phone_consent(unlock_request, by)
    contact, terms = _admin_now(contact, unlock_request, "Only an Admin of the account can consent."), terms_in_force()
    history.lock(asked_for(unlock_request))
    if text_to_read_out(unlock_request, terms) != shown:
        raise Refused.because(Refusal.CHANGED_WHILE_READING)
    consent, _ = _agree(
        unlock_request,
        {
            "how": Consent.How.PHONE,
            "recorded_by": by.user,
            "terms": terms,
            "contact": contact,
            "contact_name": contact.name,
            "email": contact.email,
            "pin_verified_at": unlock_request.pin_verified_at,
            "pin_typed_by": unlock_request.pin_typed_by,
        },
        name=name,
        role=role,
        shown=shown,
        by=by,
    )
    if _revoke(unlock_request, consent.given_at):
        chain.append(events.LinkRevoked(), by=by, unlock_request=unlock_request)
    if unlock_request.status != UnlockRequest.Status.AWAITING_CONSENT:
        unlock_request.status = UnlockRequest.Status.AWAITING_CONSENT
        history.save(unlock_request, by=by, why="Consent asked for on the phone")
    told = events.RecordedByPhone.of(consent)
    _make_ready(unlock_request, consent, told, by=by, why="Consent recorded by phone")
    return consent


def obstacle_to_phone_consent(unlock_request: UnlockRequest, user: User) -> str:
    """Say why this member of staff can't record a consent by phone for the request now; '' when they can."""
    no = "You may not record consents by phone."
    return obstacle(_refuse_phone_consent, unlock_request, user, permission=record_phone_consent.permission, no=no)


def _refuse_phone_consent(unlock_request: UnlockRequest, by: Actor) -> None:
    if not settings.PHONE_CONSENT:
        raise Refused.because(Refusal.PHONE_CONSENT_OFF)
    if unlock_request.status == UnlockRequest.Status.CLOSED:
        raise Refused.because(Refusal.CLOSED, unlock_request=unlock_request.reference)
    refuse_once_unlocking(unlock_request)
    if not unlock_request.advice:
        raise Refused.because(Refusal.ADVICE_FIRST)
    refuse_own_contacts(unlock_request.account, by)
    if not verified_by(unlock_request, by.member):
        raise Refused.because(Refusal.PIN_NOT_BY_YOU)


def _admin_now(contact: Contact, unlock_request: UnlockRequest, said: str) -> Contact:
    """Lock a contact and return it as it stands now. Raises Refused unless it is a confirmed Admin of the account."""
    contact = history.lock_row(Contact.objects, contact.pk)
    if contact.account_id != unlock_request.account_id:
        raise Refused.because(Refusal.NOT_AN_ADMIN, name=contact.name, admins=said)
    refuse_unless_confirmed(contact, said)
    return contact


def _refuse_unless_shown(link: ConsentLink, shown: str, left_out: QuerySet[Batch] | None = None) -> None:
    """Lock the batches that a link is about. Raises Refused unless `shown` is what it says of them now."""
    history.lock(asked_for(link.unlock_request))
    if shown_text(link, left_out) != shown:
        raise Refused.because(Refusal.CHANGED_WHILE_READING)


def _leave_out(unlock_request: UnlockRequest, left_out: QuerySet[Batch], by: Actor) -> dict[str, Any]:
    """Let what the customer leaves out leave the request, and return the facts that say so."""
    waiting = RequestedBatch.objects.filter(unlock_request=unlock_request, outcome=RequestedBatch.Outcome.WAITING)
    leaving = waiting.filter(batch__in=left_out.order_by().values("pk"))
    amount = leaving.aggregate(amount=Sum("batch__total"))["amount"] or 0
    count = history.update(
        leaving, by=by, why="Left out by the customer", outcome=Value(RequestedBatch.Outcome.NOT_UNLOCKED.value)
    )
    if not waiting.exists():
        raise Refused.because(Refusal.ALL_LEFT_OUT)
    sum_up(UnlockRequest.objects.filter(pk=unlock_request.pk))
    return {"left_out": count, "left_out_amount": amount} if count else {}


def _signs_instead(link: ConsentLink, another: bool) -> list[str]:
    return [wording.signs_instead(link.sent_to.name, link.unlock_request.account)] if another else []


def _by_link(link: ConsentLink, opening: LinkOpening | None, by: Actor) -> dict[str, Any]:
    """Use the link up, and return what a consent given through it holds."""
    link.used_at = by.act.at
    link.save(update_fields=["used_at"])
    return {
        "how": Consent.How.LINK,
        "link": link,
        "opening": opening,
        "terms": link.terms,
        "contact": link.sent_to,
        "contact_name": link.sent_to.name,
        "email": link.email,
        "ip": by.ip,
        "browser": by.browser,
    }


def _agree(
    unlock_request: UnlockRequest,
    given: dict[str, Any],
    *,
    name: str,
    role: str,
    shown: str,
    by: Actor,
    ticked: Iterable[str] = (),
    pressed: str = "",
) -> tuple[Consent, str]:
    """Record an agreement to what the request still asks for, each batch as it stands; the batches are locked."""
    fingerprint.take(asked_for(unlock_request))
    waiting = RequestedBatch.objects.filter(unlock_request=unlock_request, outcome=RequestedBatch.Outcome.WAITING)
    consent, token = _record(
        unlock_request,
        Consent.Decision.AGREED,
        name=name,
        role=role,
        shown=shown,
        ticked=list(ticked),
        pressed=pressed,
        by=by,
        valid_until=by.act.at + settings.CONSENT_LIFETIME,
        batch_count=waiting.count(),
        **given,
    )
    history.insert_select(
        ConsentedBatch,
        waiting,
        consent_id=consent.pk,
        requested_batch_id=F("pk"),
        batch_id=F("batch_id"),
        number=F("batch__number"),
        name=F("batch__name"),
        total=F("batch__total"),
        item_count=F("batch__item_count"),
        fingerprint=F("batch__fingerprint"),
        position=Window(RowNumber(), order_by="pk"),
    )
    # The consent by an expression: PostgreSQL must not look it up by an index and read all of it for each row.
    covered = ConsentedBatch.objects.alias(under=F("consent_id") + 0).filter(
        requested_batch=OuterRef("pk"), under=consent.pk
    )
    history.update(waiting, by=by, why="Consent given", consented=Subquery(covered.values("pk")))
    return consent, token


def _make_ready(unlock_request: UnlockRequest, consent: Consent, told: events.Event, *, by: Actor, why: str) -> None:
    unlock_request.status = UnlockRequest.Status.CONSENTED
    history.save(unlock_request, by=by, why=why)
    chain.append(told, by=by, unlock_request=unlock_request)


def _record(
    unlock_request: UnlockRequest, decision: str, *, name: str, role: str, shown: str, by: Actor, **given: Any
) -> tuple[Consent, str]:
    nonce = secrets.new_nonce()
    token = secrets.token(nonce)
    consent = Consent.objects.create(
        unlock_request=unlock_request,
        text=shown,
        text_sha256=sha256(shown),
        decision=decision,
        signer_name=name,
        signer_role=role,
        given_at=by.act.at,
        receipt_hash=secrets.hashed(token),
        **given,
    )
    queue_receipt(consent, nonce, by=by)
    return consent, token
