"""Staff accounts: who gives whom which right, and sets whose password, stands in the ledger.

Only what is done on the desk. Commands (`createsuperuser`, `changepassword`, `load_sample`) are whoever runs the
machine, and leave no entry; nor does signing in, which is no change of the account.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import is_password_usable
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db import transaction

from .. import history
from ..actors import Actor
from ..ledger import chain, events
from .verbs import staff_verb

W = TypeVar("W")
FIELDS = ("username", "first_name", "last_name", "email", "is_active", "is_staff", "is_superuser")


@staff_verb("auth.change_user")
def change_staff(user: User, write: Callable[[], W], *, by: Actor) -> W:
    """Have `write()` add or change a staff account, or set its password; return what that returns.

    Whatever is different afterwards is one entry in the ledger; when nothing is, there is none.
    """
    return _noted(user, write, by)


def change_own_password(write: Callable[[], W], *, by: Actor) -> W:
    """Have `write()` set the password of whoever acts; return what that returns. All of staff may."""
    if by.user is None:
        raise PermissionDenied("Only staff have a password here.")
    return _noted(by.user, write, by)


@transaction.atomic
def _noted(user: User, write: Callable[[], W], by: Actor) -> W:
    before = _account(user.pk)
    written = write()
    after = _account(user.pk)
    if changed := _changes(before, after):
        event = events.StaffChanged(about_id=user.pk, fields=sorted(changed), name=user.get_username(), changed=changed)
        chain.append(event, by=by)
    return written


def _account(pk: Any) -> dict[str, Any]:
    """Lock an account and return what is kept of it; {} when it is not there yet."""
    users = get_user_model().objects.filter(pk=pk)
    history.lock(users)
    if not (user := users.first()):
        return {}
    permissions = user.user_permissions.values_list("content_type__app_label", "codename")
    return {
        **{name: getattr(user, name) for name in FIELDS},
        "groups": sorted(user.groups.values_list("name", flat=True)),
        "permissions": sorted(f"{app}.{codename}" for app, codename in permissions),
        "password": user.password,
    }


def _changes(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Return {field: [old, new]}, old being None where there was no account; of a password only that it was set."""
    changed = {
        name: [before.get(name), value]
        for name, value in after.items()
        if name != "password" and value != before.get(name)
    }
    old, new = before.get("password"), after["password"]
    if is_password_usable(new):
        return changed | ({"password": "set"} if new != old else {})
    # One that can't be used is another one each time.
    return changed | ({"password": "disabled"} if old is None or is_password_usable(old) else {})
