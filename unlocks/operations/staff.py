"""Staff accounts: who gives whom which right, and sets whose password, stands in the ledger.

What is done on the desk, and by the desk's own commands (`createsuperuser`, `changepassword`, `load_sample`), which
act as the desk: who runs the machine is not known. What is done otherwise, in a shell or by SQL, leaves no entry, and
the audit names the user until `record_staff` tells of it. Signing in is no change of the account.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from allauth.socialaccount.models import SocialAccount
from django.contrib.auth.hashers import is_password_usable
from django.contrib.auth.models import Group, User
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Q, QuerySet

from .. import history, pins, stages
from ..actors import Actor
from ..factors import factors_mac, factors_of
from ..ledger import chain, events
from ..models import ApiToken, DeskSession, LedgerEntry, UnlockRequest
from ..rules import Refusal
from ..texts import normalize
from .requests import assign
from .verbs import Refused, staff_verb

W = TypeVar("W")
_SECRETS = ("password", "password_mac", "factors", "factors_mac")
_SUPERUSER = ("is_superuser", "is_staff", "is_active")
FIELDS = ("username", "first_name", "last_name", "email", "is_active", "is_staff", "is_superuser")


@staff_verb("auth.change_user")
@transaction.atomic
def change_staff(user: User, write: Callable[[], W], *, by: Actor) -> W:
    """Have `write()` add or change a staff account, or set its password; return what that returns.

    Whatever is different afterwards is one entry in the ledger; when nothing is, there is none.
    """
    if user.pk:
        history.lock(open_cases(user))  # whose stage may change with the account, and which come first
    return noted(user, write, by)


@staff_verb("auth.change_user")
@transaction.atomic
def deactivate(user: User, write: Callable[[], W], *, cases_to: User | None, by: Actor) -> W:
    """Have `write()` deactivate a colleague, whose open cases go to another, or to nobody; return what that returns.

    Raises Refused: NOT_AN_AGENT, LAST_SUPERUSER.
    """
    cases = open_cases(user)
    history.lock(cases)
    before = _account(user.pk)
    if cases_to and (cases_to == user or not cases_to.has_perm(assign.permission)):
        raise Refused.because(Refusal.NOT_AN_AGENT, name=cases_to)
    handed_over = _hand_over(cases, cases_to, by)
    written = write()
    after = _account(user.pk)
    _check(user, before, after)
    _append(user, _changes(before, after), by, *handed_over)
    return written


def open_cases(user: User) -> QuerySet[UnlockRequest]:
    """Return the open cases that are assigned to a colleague."""
    return stages.open_ones(UnlockRequest.objects.filter(assignee=user.pk))


def _hand_over(cases: QuerySet[UnlockRequest], to: User | None, by: Actor) -> list[chain.Entry]:
    """Assign locked cases to another colleague, or to nobody, inside a verb; return an entry for each."""
    about = dict(cases.order_by("pk").values_list("pk", "account_id"))
    handed_over = UnlockRequest.objects.filter(pk__in=about)
    history.update(handed_over, by=by, why="Handed over", assignee=to.pk if to else None)
    stages.keep(handed_over, at=by.act.at)
    assigned = events.Assigned(to=to.pk if to else None, name=to.get_username() if to else "")
    return [chain.Entry(assigned, *keys) for keys in about.items()]


def change_own_password(write: Callable[[], W], *, by: Actor) -> W:
    """Have `write()` set the password of whoever acts; return what that returns. All of staff may."""
    if by.user is None:
        raise PermissionDenied("Only staff have a password here.")
    return noted(by.user, write, by)


@transaction.atomic
def change_own_factors(write: Callable[[], W], *, by: Actor) -> W:
    """Have `write()` add or take away second factors of whoever acts; return what that returns. All of staff may.

    Raises Refused: FACTORS_NOT_RECORDED, or the entry would tell of a factor that was put there past the desk.
    """
    if by.user:
        _check_factors(by.user)
    return change_own_password(write, by=by.begin())


@transaction.atomic
def link_company_account(user: User, write: Callable[[], W], *, by: Actor) -> W:
    """Have `write()` note which account at the company's provider is a colleague's, for that provider: one at most.

    Raises Refused: FACTORS_NOT_RECORDED, COMPANY_CONNECTED.
    """
    _check_factors(user)
    if SocialAccount.objects.filter(user=user.pk).exists():
        raise Refused.because(Refusal.COMPANY_CONNECTED)
    return noted(user, write, by.begin())


def factors_are_recorded(user: User) -> bool:
    """Say whether the newest entry that tells of this user's second factors tells of these, and none if none does."""
    told = (event.factors_mac for _, event in changes_told(user.pk) if "factors" in event.changed)
    return next(told, "") == factors_mac(user.pk)


def changes_told(user_id: int) -> Iterator[tuple[LedgerEntry, events.StaffChanged]]:
    """Yield the entries that tell of changes of an account, with what each tells, the newest first."""
    entries = LedgerEntry.objects.filter(kind=events.StaffChanged.kind, about_id=user_id).order_by("-sequence")
    for entry in entries.iterator():
        if isinstance(event := chain.event_of(entry), events.StaffChanged):
            yield entry, event


def lock_account(pk: Any) -> None:
    """Lock an account, and those of all superusers: whoever takes it from one has to know that another stays.

    One by one, two who take it from each other would wait for each other.
    """
    history.lock(User.objects.filter(Q(pk=pk) | Q(is_superuser=True)))


def _check_factors(user: User) -> None:
    lock_account(user.pk)
    if not factors_are_recorded(user):
        raise Refused.because(Refusal.FACTORS_NOT_RECORDED)


@transaction.atomic
def give_roles(user: User, groups: Sequence[str], *, by: Actor) -> None:
    """Have a colleague be in these groups and no others, for the company's provider. None ends their sessions."""

    def write() -> None:
        user.groups.set(Group.objects.filter(name__in=groups))

    lock_account(user.pk)
    if not groups:
        DeskSession.objects.filter(user=user.pk).delete()
    if sorted(user.groups.values_list("name", flat=True)) != sorted(groups):
        noted(user, write, by.begin())


def is_system(user: User) -> bool:
    """Say whether a user acts by API tokens: such a one never signs in."""
    return ApiToken.objects.filter(system=user.pk).exists()


def set_password(user: User, password: str, *, by: Actor) -> None:
    """Set the password of a staff account, for whoever runs the machine. Raises Refused: SYSTEM_SIGNS_IN."""
    if is_system(user):
        raise Refused.because(Refusal.SYSTEM_SIGNS_IN, name=user)

    def write() -> None:
        user.set_password(password)
        user.save(update_fields=["password"])

    noted(user, write, by.begin())


@transaction.atomic
def record_staff(user: User, *, by: Actor) -> list[str]:
    """Tell in one entry what no entry tells of a staff account as it stands; return the fields, none if all is told.

    For whoever runs the machine: it makes no one's rights right, and says that they stood so then.
    """
    history.lock(open_cases(user))
    now, told = _account(user.pk), _told(user.pk)
    changed = _changes(told, now)
    _append(user, changed, by.begin())
    return sorted(changed)


@transaction.atomic
def noted(user: User, write: Callable[[], W], by: Actor) -> W:
    """Have `write()` change an account, and tell what is different afterwards; return what that returns.

    Raises Refused: NAME_TAKEN, LAST_SUPERUSER.
    """
    before = _account(user.pk)
    written = write()
    after = _account(user.pk)
    _check(user, before, after)
    _append(user, _changes(before, after), by)
    return written


def who_reads_like(username: str, *, but: int | None = None) -> str:
    """Return the username that reads like this one, or is it; '' if none does. `but` is the key of its own user."""
    name = normalize.look_alike(username)
    names = User.objects.exclude(pk=but or 0).order_by("pk").values_list("username", flat=True)
    return next((taken for taken in names.iterator() if normalize.look_alike(taken) == name), "")


def is_last_superuser(user: User) -> bool:
    """Say whether nobody else who can sign in is a superuser."""
    others = User.objects.filter(is_superuser=True, is_staff=True, is_active=True).exclude(pk=user.pk)
    return user.is_superuser and user.is_staff and user.is_active and not others.exists()


def _check(user: User, before: dict[str, Any], after: dict[str, Any]) -> None:
    if not before:
        chain.lock()  # two who add a colleague at once
        if taken := who_reads_like(after["username"], but=user.pk):
            raise Refused.because(Refusal.NAME_TAKEN, name=taken)
        return
    was_one = all(before[name] for name in _SUPERUSER)
    if was_one and not User.objects.filter(**dict.fromkeys(_SUPERUSER, True)).exists():
        raise Refused.because(Refusal.LAST_SUPERUSER, name=user)


def _append(user: User, changed: dict[str, Any], by: Actor, *handed_over: chain.Entry) -> None:
    if changed.keys() & {"is_active", "is_staff"}:
        DeskSession.objects.filter(user=user.pk).delete()
        stages.keep(open_cases(user), at=by.act.at)
    entries = list(handed_over)
    if changed:
        kept = User.objects.values_list("password", flat=True).get(pk=user.pk)
        event = events.StaffChanged(
            about_id=user.pk,
            fields=sorted(changed),
            name=user.get_username(),
            changed=changed,
            password_mac=pins.password_mac(user.pk, kept) if "password" in changed else "",
            factors_mac=factors_mac(user.pk) if "factors" in changed else "",
        )
        entries.insert(0, chain.Entry(event))
    if entries:
        chain.append_all(entries, by=by)


def _account(pk: Any) -> dict[str, Any]:
    """Lock an account and return what is kept of it; {} when it is not there yet."""
    lock_account(pk)
    if not (user := User.objects.filter(pk=pk).first()):
        return {}
    permissions = user.user_permissions.values_list("content_type__app_label", "codename")
    return {
        **{name: getattr(user, name) for name in FIELDS},
        "groups": sorted(user.groups.values_list("name", flat=True)),
        "permissions": sorted(f"{app}.{codename}" for app, codename in permissions),
        "password": user.password,
        "password_mac": pins.password_mac(user.pk, user.password),
        "factors": factors_of(user.pk),
        "factors_mac": factors_mac(user.pk),
    }


def _told(pk: Any) -> dict[str, Any]:
    """Return what the entries, read in their order, tell of an account; of its password the HMAC."""
    told: dict[str, Any] = {}
    for entry in LedgerEntry.objects.filter(kind=events.StaffChanged.kind, about_id=pk).order_by("sequence"):
        event = chain.event_of(entry)
        if isinstance(event, events.StaffChanged):
            told |= {name: change[1] for name, change in event.changed.items() if name != "password"}
            told |= {"password_mac": event.password_mac} if "password" in event.changed else {}
            told |= {"factors_mac": event.factors_mac} if "factors" in event.changed else {}
    return told


def _changes(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Return {field: [old, new]}, old being None where there was no account; of a password only that it was set."""
    changed: dict[str, Any] = {
        name: [before.get(name), value]
        for name, value in after.items()
        if name not in _SECRETS and value != before.get(name)
    }
    if after["password_mac"] != before.get("password_mac"):
        changed["password"] = "set" if is_password_usable(after["password"]) else "disabled"
    if after["factors_mac"] != before.get("factors_mac", ""):
        changed["factors"] = [before.get("factors", []), after["factors"]]
    return changed
