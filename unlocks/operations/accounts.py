"""Accounts and contacts as staff type them."""

from typing import TypeVar

from django.core.exceptions import PermissionDenied
from django.db import transaction

from .. import history
from ..actors import Actor
from ..ledger import chain, events
from ..models import Account, Contact

R = TypeVar("R", Account, Contact)
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
    before = None
    if not adding:
        rows = model.objects.filter(pk=record.pk)
        history.lock(rows)
        before = rows.get()
    names = [field.name for field in model.history.model.tracked_fields if field.name not in ("id", "account")]
    changed = {
        name: [before and getattr(before, name), getattr(record, name)]
        for name in names
        if before is None or getattr(before, name) != getattr(record, name)
    }
    if changed:
        history.save(record, by=by)
        event = _EVENTS[model](about_id=record.pk, fields=sorted(changed), name=record.name, changed=changed)
        chain.append(event, by=by, account=record if isinstance(record, Account) else record.account)
    return record
