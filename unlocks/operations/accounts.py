"""Accounts and contacts as staff type them."""

from typing import Any, TypeVar

from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db import transaction

from .. import history
from ..actors import Actor
from ..ledger import chain, events
from ..models import Account, ConsentLink, Contact, LedgerEntry, UnlockRequest

CLOSED = UnlockRequest.Status.CLOSED
R = TypeVar("R", Account, Contact)
K = TypeVar("K", Account, Contact, User)
_EVENTS = {Account: events.AccountChanged, Contact: events.ContactChanged}


@transaction.atomic
def save_record(record: R, *, by: Actor) -> R:
    """Write an account or a contact, new or changed, and return it; one that is as it was is not written.

    Raises PermissionDenied unless `by` may add or change such a record.
    """
    by, model, adding = by.begin(), type(record), record._state.adding
    permission = f"unlocks.{'add' if adding else 'change'}_{model._meta.model_name}"
    if not by.may(permission):
        raise PermissionDenied(f"{by.name} may not do this: it needs the permission {permission}.")
    before = None if adding else hold(record)
    names = [field.name for field in model.history.model.tracked_fields if field.name not in ("id", "account")]
    changed: dict[str, Any] = {
        name: [before and getattr(before, name), getattr(record, name)]
        for name in names
        if before is None or getattr(before, name) != getattr(record, name)
    }
    if changed:
        history.save(record, by=by)
        event = _EVENTS[model](about_id=record.pk, fields=sorted(changed), name=record.name, changed=changed)
        account_id = record.pk if isinstance(record, Account) else record.account_id
        chain.append_all([chain.Entry(event, account_id=account_id), *_ended_links(record, changed, by)], by=by)
    return record


def _ended_links(record: Account | Contact, changed: dict[str, Any], by: Actor) -> list[chain.Entry]:
    """Revoke what was sent to a contact whose address or Admin flag changed; return an entry for each link."""
    if isinstance(record, Account) or not changed.keys() & {"email", "is_admin"}:
        return []
    links = ConsentLink.objects.filter(sent_to=record, used_at=None, revoked_at=None).order_by("pk")
    ended = dict(links.exclude(unlock_request__status=CLOSED).values_list("pk", "unlock_request"))
    ConsentLink.objects.filter(pk__in=ended).update(revoked_at=by.act.at)
    return [chain.Entry(events.LinkRevoked(), unlock_request, record.account_id) for unlock_request in ended.values()]


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


def last_changed_by(record: K, field: str) -> str:
    """Return who changed a field of a record last, '' if that is not on record."""
    entries = LedgerEntry.objects.filter(about=record._meta.model_name, about_id=record.pk).order_by("-sequence")
    fits = (entry.actor for entry in entries[:50] if field in getattr(chain.event_of(entry), "fields", []))
    return next(fits, "")
