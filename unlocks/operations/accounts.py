"""Accounts and contacts as staff type them, and the second person who confirms an Admin's address."""

from collections import defaultdict
from typing import Any, TypeVar

from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet

from .. import history, stages
from ..actors import Actor
from ..ledger import chain, events
from ..models import CONFIRMED, Account, ConsentLink, Contact, LedgerEntry, Outgoing, UnlockRequest
from ..outbox import rows
from ..rules import Refusal, entered_by, to_be_confirmed
from .search_words import learn_words
from .verbs import Refused, obstacle, staff_verb

CLOSED = UnlockRequest.Status.CLOSED
R = TypeVar("R", Account, Contact)
K = TypeVar("K", Account, Contact, User)
_EVENTS = {Account: events.AccountChanged, Contact: events.ContactChanged}


@transaction.atomic
def save_record(record: R, *, by: Actor) -> R:
    """Write an account or a contact, new or changed, and return it; one that is as it was is not written.

    A contact's new address, or a new Admin, counts only once a second person has confirmed it (`confirm_contact`), and
    the account's other Admins are told. Raises PermissionDenied unless `by` may add or change such a record.
    """
    by, model, adding = by.begin(), type(record), record._state.adding
    permission = f"unlocks.{'add' if adding else 'change'}_{model._meta.model_name}"
    if not by.may(permission):
        raise PermissionDenied(f"{by.name} may not do this: it needs the permission {permission}.")
    before = None if adding else hold(record)
    names = [
        field.name
        for field in model.history.model.tracked_fields
        if field.editable and field.name not in ("id", "account")
    ]
    changed: dict[str, Any] = {
        name: [before and getattr(before, name), getattr(record, name)]
        for name in names
        if before is None or getattr(before, name) != getattr(record, name)
    }
    if changed:
        entered = isinstance(record, Contact) and _enter(record, before, changed, by)
        history.save(record, by=by)
        if entered:
            tell_admins(Contact.objects.filter(pk=record.pk), by=by)
        event = _EVENTS[model](about_id=record.pk, fields=sorted(changed), name=record.name, changed=changed)
        account_id = record.pk if isinstance(record, Account) else record.account_id
        ended = isinstance(record, Contact) and changed.keys() & {"email", "is_admin"}
        # Links before accounts, as a PIN that comes into force locks them.
        links: list[chain.Entry] = end_links(Contact.objects.filter(pk=record.pk), by=by) if ended else []
        learn_words(Account.objects.filter(pk=account_id))
        chain.append_all([chain.Entry(event, account_id=account_id), *links], by=by)
    return record


def _enter(contact: Contact, before: Contact | None, changed: dict[str, Any], by: Actor) -> bool:
    """Set who entered the address and who confirmed it: as it was, unless it has to be confirmed again.

    Return whether the account's other Admins have to be told.
    """
    if before and not to_be_confirmed(changed):
        for name in (
            "entered_by_id",
            "entered_in_id",
            "entered_at",
            "confirmed_by_id",
            "confirmed_at",
            "confirmed_how",
        ):
            setattr(contact, name, getattr(before, name))
        return False
    contact.entered_by, contact.entered_in, contact.entered_at = by.user, None, by.act.at
    contact.confirmed_by = contact.confirmed_at = None
    contact.confirmed_how = ""
    return contact.is_admin


def tell_admins(entered: QuerySet[Contact], *, by: Actor) -> None:
    """Email, of each new Admin or new address of one, who entered it, inside the act that did.

    The accounts' other confirmed Admins are told, and the address of the contact that counted last.
    """
    contacts = list(entered.filter(is_admin=True).select_related("account").order_by("pk"))
    others = defaultdict(list)
    for admin in Contact.objects.confirmed_admins().filter(account__in=entered.values("account")).order_by("pk"):
        others[admin.account_id].append(admin)
    past = Contact.history.filter(id__in=entered.values("pk")).order_by("history_id")
    rows_now = {row.id: row for row in past.filter(history_act=by.act.id)}
    # Also when they were no Admin for a while.
    counted = {row.id: row.email for row in past.filter(CONFIRMED, is_admin=True)}
    emails = []
    for contact in contacts:
        told = {admin.email: admin for admin in others[contact.account_id] if admin.pk != contact.pk}
        if (last := counted.get(contact.pk, contact.email)) != contact.email:
            told[last] = contact
        keys = {"account": contact.account, "entered": rows_now[contact.pk]}
        emails += [(email, {"contact": admin} | keys) for email, admin in told.items()]
    rows.queue_all(Outgoing.Email.ADMIN_ENTERED, emails, by=by)


@staff_verb("unlocks.confirm_contact")
@transaction.atomic
def confirm_contact(contact: Contact, *, address: str, how: str, by: Actor) -> Contact:
    """Confirm that `address`, as `by` was shown it, is an Admin's, and say how they know; from then on it counts.

    Raises Refused: ADDRESS_CHANGED, NO_HOW, and what `obstacle_to_confirming` says.
    """
    contact = history.lock_row(Contact.objects, contact.pk)
    if contact.email != address:
        who = last_changed_by(contact, "email") or "Someone else"
        raise Refused.because(Refusal.ADDRESS_CHANGED, actor=who, name=contact.name, email=contact.email)
    _refuse_to_confirm(contact, by)
    if not how.strip():
        raise Refused.because(Refusal.NO_HOW)
    contact.confirmed_by, contact.confirmed_at, contact.confirmed_how = by.member, by.act.at, how
    history.save(contact, by=by, why="Address confirmed")
    confirmed = events.ContactConfirmed(about_id=contact.pk, to=contact.email, name=contact.name, how=how)
    chain.append_all([chain.Entry(confirmed, account_id=contact.account_id)], by=by)
    return contact


def obstacle_to_confirming(contact: Contact, user: User) -> str:
    """Say why this member of staff can't confirm a contact's address as it stands; '' when they can."""
    no = "You may not confirm addresses: an agent or a manager does."
    return obstacle(_refuse_to_confirm, contact, user, permission=confirm_contact.permission, no=no)


def _refuse_to_confirm(contact: Contact, by: Actor) -> None:
    if not contact.is_admin:
        raise Refused.because(Refusal.NOT_AN_ADMIN, name=contact.name, admins="Only an Admin's address is confirmed.")
    if contact.is_confirmed:
        who = f"confirmed by {contact.confirmed_by}" if contact.confirmed_by else "an address from the product"
        raise Refused.because(Refusal.ALREADY_RECORDED, names=who)
    if entered_by(by.member).filter(id=contact.pk).exists():
        raise Refused.because(Refusal.OWN_CONTACT, name=contact.name)


def end_links(contacts: QuerySet[Contact], *, by: Actor) -> list[chain.Entry]:
    """Revoke what was sent to contacts whose address or Admin flag changed; return an entry for each link."""
    links = ConsentLink.objects.filter(sent_to__in=contacts.values("pk"), used_at=None, revoked_at=None).order_by("pk")
    ended = links.exclude(unlock_request__status=CLOSED)
    about = {pk: keys for pk, *keys in ended.values_list("pk", "unlock_request", "unlock_request__account")}
    ConsentLink.objects.filter(pk__in=about).update(revoked_at=by.act.at)
    stages.keep(UnlockRequest.objects.filter(pk__in=[keys[0] for keys in about.values()]), at=by.act.at)
    return [chain.Entry(events.LinkRevoked(), *keys) for keys in about.values()]


def hold(record: K) -> K:
    """Lock an account, a contact or a colleague until the transaction ends, and return it as it is now.

    The account's open requests come first, in the order of locks: a change may end their links.
    """
    if not isinstance(record, User):
        account_id = record.pk if isinstance(record, Account) else record.account_id
        history.lock(UnlockRequest.objects.filter(account=account_id).exclude(status=CLOSED))
    rows = type(record)._base_manager.filter(pk=record.pk)
    history.lock(rows)
    return rows.get()


def phone_entered_by(contact: Contact) -> str:
    """Return who typed or imported the phone number of a contact, '' if it came from the product."""
    past = Contact.history.filter(id=contact.pk).order_by("history_id")
    before = past.exclude(phone=contact.phone).last()
    first = past.filter(history_id__gt=before.history_id if before else 0).first()
    return first.history_user.get_username() if first and first.history_user else ""


def last_changed_by(record: K, field: str) -> str:
    """Return who changed a field of a record last, '' if that is not on record."""
    entries = LedgerEntry.objects.filter(about=record._meta.model_name, about_id=record.pk).order_by("-sequence")
    fits = (entry.actor for entry in entries.iterator() if field in getattr(chain.event_of(entry), "fields", []))
    return next(fits, "")
