"""Verifying and issuing account PINs.

A try is taken before the hash is looked at, in a transaction of its own: of 24 wrong guesses at once five are judged,
and no error afterwards gives a try back.
"""

import hmac
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Case, F, Q, QuerySet, Value, When
from django.utils import timezone

from .. import history, pins
from ..actors import Actor
from ..ledger import chain, events
from ..models import Account, ApiToken, ConsentLink, LedgerEntry, Outgoing, UnlockRequest
from ..outbox import rows, secrets
from ..rules import PIN_TYPED, Refusal
from ..texts import normalize
from .links import opened
from .verbs import Refused, customer_verb, locked, refuse_own_contacts, staff_verb


@staff_verb("unlocks.verify_pin")
def verify_pin(unlock_request: UnlockRequest, *, pin: str, by: Actor) -> UnlockRequest:
    """Check a PIN that an agent types for the customer: lower assurance, and recorded as that.

    Raises Refused: LINK_SEEN before a try is taken, PIN_WRONG and PIN_LOCKED with the try kept.
    """
    chain.fitting_head()
    with transaction.atomic(durable=True):
        account = locked(unlock_request).account
        taken = _take_attempt(account)  # which locks the account: a link that is being sent is there by then
        if link_seen(unlock_request, by.member):
            raise Refused.because(Refusal.LINK_SEEN)
        chain.append(events.PinTyped(), by=by, unlock_request=unlock_request)
    _judge(account, pin, taken, unlock_request=unlock_request, by=by)
    with transaction.atomic():
        unlock_request = locked(unlock_request)
        unlock_request.pin_verified_at, unlock_request.pin_verified_by = by.act.at, by.user
        unlock_request.pin_typed_by = UnlockRequest.PinTypedBy.AGENT
        history.save(unlock_request, by=by, why="PIN verified")
        _record_right(account, unlock_request, by)
    return unlock_request


@customer_verb
def verify_customer_pin(link: ConsentLink, *, pin: str, by: Actor) -> None:
    """Check the PIN that the customer types on the consent page; it counts for this link, 30 minutes.

    Raises Refused: LINK_DEAD and NOT_OPENED, when no try is taken; PIN_WRONG and PIN_LOCKED.
    """
    with transaction.atomic():
        unlock_request, _ = opened(link)
    chain.fitting_head()
    with transaction.atomic(durable=True):
        taken = _take_attempt(unlock_request.account)
    _judge(unlock_request.account, pin, taken, unlock_request=unlock_request, by=by)
    with transaction.atomic():
        unlock_request, _ = opened(link)
        ConsentLink.objects.filter(pk=link.pk).update(pin_verified_at=by.act.at)
        _record_right(unlock_request.account, unlock_request, by)
    link.refresh_from_db(fields=["pin_verified_at"])


def _judge(account: Account, pin: str, taken: int, *, unlock_request: UnlockRequest, by: Actor) -> None:
    """Judge a PIN once a try was taken for it, or could not be. Raises Refused."""
    if not taken:
        with transaction.atomic():
            chain.append(events.PinLocked(), by=by, unlock_request=unlock_request)
        account.refresh_from_db()
        raise Refused.because(Refusal.PIN_LOCKED, state=account.pin_state or "The PIN is locked; try again later.")
    account.refresh_from_db()
    right, issued = pins.matches(pin, account.pin_hash), _is_issued(account)
    if right and issued:
        return
    with transaction.atomic():
        chain.append(events.PinWrong(tries=account.pin_failures), by=by, unlock_request=unlock_request)
    if account.pin_failures in (*pins.LOCKOUTS, pins.LAST_TRY) and account.pin_hash:
        raise Refused.because(Refusal.PIN_WRONG, left=account.pin_state)
    raise Refused.because(Refusal.PIN_WRONG, left="After five wrong tries it is locked for a while.")


def _take_attempt(account: Account) -> int:
    """Take a try unless the PIN is locked; return 1 or 0. Committed by itself: no error afterwards gives it back."""
    now = timezone.now()
    return history.update_untracked(
        Account.objects.filter(
            Q(pin_locked_until=None) | Q(pin_locked_until__lte=now), pk=account.pk, pin_failures__lt=pins.LAST_TRY
        ),
        pin_failures=F("pin_failures") + 1,
        pin_locked_until=Case(
            *(When(pin_failures=tries - 1, then=Value(now + wait)) for tries, wait in pins.LOCKOUTS.items()),
            default=None,
        ),
    )


def _is_issued(account: Account) -> bool:
    """Say whether the account's PIN is the one of its newest entry, and not another that was put into its row."""
    return _is_told(account, account.pin_hash, events.PinIssued)


def _is_told(account: Account, pin_hash: str, kind: type[events.PinIssued | events.PinDrawn]) -> bool:
    told = LedgerEntry.objects.filter(about="account", about_id=account.pk, kind=kind.kind)
    newest = told.order_by("-sequence").first()
    event = chain.event_of(newest) if newest else None
    told_mac = event.pin_mac if isinstance(event, kind) else ""
    return hmac.compare_digest(told_mac, pins.mac(account.pk, pin_hash))


def _record_right(account: Account, unlock_request: UnlockRequest, by: Actor) -> None:
    """Give the tries back. Raises Refused when another PIN was issued since this one was typed."""
    same = Account.objects.filter(pk=account.pk, pin_hash=account.pin_hash)
    if not history.update_untracked(same, pin_failures=0, pin_locked_until=None):
        raise Refused.because(Refusal.PIN_WRONG, left="A new one has been issued since.")
    chain.append(events.PinVerified(), by=by, unlock_request=unlock_request)


@staff_verb("unlocks.issue_pin")
def issue_pin(account: Account, *, by: Actor) -> None:
    """Draw a new PIN and have it emailed to the account's confirmed Admins, unseen by staff.

    The old one stands until a server has taken the first of these emails (`end_pin_email`).
    Raises Refused: OWN_CONTACT, NO_ADMIN, NOT_CONFIRMED.
    """
    refuse_own_contacts(account, by)
    admins = list(account.contacts.confirmed_admins())
    if not admins:
        if waiting := account.contacts.filter(is_admin=True).first():
            raise Refused.because(Refusal.NOT_CONFIRMED, name=waiting.name)
        raise Refused.because(Refusal.NO_ADMIN)
    nonce = secrets.new_nonce()
    account.pending_pin_hash = pins.hashed(secrets.pin(nonce))
    with transaction.atomic():
        history.update_untracked(Account.objects.filter(pk=account.pk), pending_pin_hash=account.pending_pin_hash)
        for contact in admins:
            rows.queue(Outgoing.Email.NEW_PIN, contact.email, by=by, nonce=nonce, account=account, contact=contact)
        drawn = events.PinDrawn.of(account, to=[contact.pk for contact in admins])
        chain.append(drawn, by=by, account=account)
    account.refresh_from_db()


def set_pin(account: Account, *, pin: str, by: Actor) -> bool:
    """Put a PIN in force that the product has given the customer; return whether it was another one until then.

    Nobody on staff may: who knows a PIN and sees a consent link could agree for the customer. The PIN is hashed at
    once. Being in force ends being locked out, but the same PIN again does not. Raises Refused: PIN_UNFIT.
    """
    if by != Actor.desk() and (by.token is None or by.member.is_staff or not by.may("api.set_pins")):
        raise PermissionDenied(f"{by.name} may not do this: the product sets PINs, or who runs the desk.")
    if not pins.FIT.fullmatch(normalize.pin(pin)):
        raise Refused.because(Refusal.PIN_UNFIT)
    if pins.matches(pin, account.pin_hash) and _is_issued(account):
        return False
    pin_hash, by = pins.hashed(pin), by.begin()
    with transaction.atomic():
        hold_pin(account)
        account.pending_pin_hash = pin_hash
        _put_in_force(account, [], by)
    account.refresh_from_db()
    return True


def is_new_pin(account: Account, pin: str) -> bool:
    """Say whether a PIN that is to be emailed is the account's, or the one that waits to become it."""
    return _is_pending(account, pin) or (pins.matches(pin, account.pin_hash) and _is_issued(account))


def _is_pending(account: Account, pin: str) -> bool:
    pending = account.pending_pin_hash
    return pins.matches(pin, pending) and _is_told(account, pending, events.PinDrawn)


def hold_pin(account: Account | None) -> None:
    """Lock what a new PIN changes until the transaction ends: the account's links, then the account."""
    if account:
        history.lock(ConsentLink.objects.filter(unlock_request__account=account, used_at=None))
        history.lock(Account.objects.filter(pk=account.pk))


def end_pin_email(email: Outgoing, *, sent: bool, by: Actor) -> None:
    """Put a PIN in force once the first email with it was taken, or drop it once none was and none waits.

    Being in force ends being locked out, and what was verified with the old PIN counts no more. `email` is the row as
    it was leased, which just ended; `hold_pin` was called before that.
    """
    account = Account.objects.filter(pk=email.account_id or 0).first()
    if account is None or not _is_pending(account, secrets.pin(email.nonce)):
        return
    if sent:
        _put_in_force(account, [email.contact_id], by)
    elif not Outgoing.objects.filter(account=account, nonce=email.nonce, state=Outgoing.State.QUEUED).exists():
        history.update_untracked(Account.objects.filter(pk=account.pk), pending_pin_hash="")
        chain.append(events.PinDropped(about_id=account.pk), by=by, account=account)


def _put_in_force(account: Account, to: list[Any], by: Actor) -> None:
    account.pin_hash = account.pending_pin_hash
    history.update_untracked(
        Account.objects.filter(pk=account.pk),
        pin_hash=account.pin_hash,
        pending_pin_hash="",
        pin_issued_at=by.act.at,
        pin_failures=0,
        pin_locked_until=None,
    )
    ConsentLink.objects.filter(unlock_request__account=account, used_at=None).update(pin_verified_at=None)
    chain.append(events.PinIssued.of(account, to=to), by=by, account=account)


def links_shown_to(user: User) -> QuerySet[ConsentLink]:
    """Return the consent links that `user` was shown and that still work: they may not type the PIN of such an account.

    With both, in one request or in two, they could agree for the customer.
    """
    return ConsentLink.objects.filter(used_at=None, revoked_at=None, expires_at__gt=timezone.now(), shown_to=user)


def link_seen(unlock_request: UnlockRequest, user: User) -> bool:
    """Say whether `user` was shown such a link of the account."""
    return links_shown_to(user).filter(unlock_request__account=unlock_request.account_id).exists()


def knows_pin(account: Account, user: User) -> bool:
    """Say whether `user` typed a PIN since the account has its present one: a wrong try may be a slip on purpose.

    Whoever ever made a token that sets PINs may know any.
    """
    if ApiToken.objects.filter(made_by=user, scopes__contains=ApiToken.Scope.PINS).exists():
        return True
    tries = LedgerEntry.objects.filter(kind=PIN_TYPED, account=account, user=user)
    return tries.filter(at__gte=account.pin_issued_at).exists() if account.pin_issued_at else tries.exists()


def verified_by(unlock_request: UnlockRequest, user: User) -> bool:
    """Say whether `user` typed the PIN that the account has now for this request, not more than 30 minutes ago."""
    right = LedgerEntry.objects.filter(kind=events.PinVerified.kind, unlock_request=unlock_request, user=user)
    if issued := unlock_request.account.pin_issued_at:
        right = right.filter(at__gte=issued)
    return (
        unlock_request.pin_verified_by_id == user.pk
        and counts_still(unlock_request.pin_verified_at, settings.PIN_VERIFICATION_LIFETIME)
        and right.filter(at__gte=unlock_request.pin_verified_at).exists()
    )


def counts_still(verified_at: datetime | None, lifetime: timedelta) -> bool:
    """Say whether a PIN verified at that time (or None) still counts."""
    return verified_at is not None and timezone.now() - verified_at <= lifetime
