from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, ParamSpec, Protocol, Self, TypeVar, cast
from uuid import UUID

from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db.models import Exists, OuterRef, QuerySet
from structlog.contextvars import bind_contextvars

from .. import history
from ..actors import Actor
from ..ledger import chain, events
from ..models import Account, Batch, Contact, LedgerEntry, UnlockRequest
from ..rules import Refusal, entered_by, kept_from, sentence

P = ParamSpec("P")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Refused(Exception):
    """A verb was refused; nothing was written. `refusals` is a list of (Refusal, sentence), never empty."""

    def __init__(self, *refusals: tuple[Refusal, str]) -> None:
        self.refusals = list(refusals)
        super().__init__(" ".join(said for _, said in self.refusals))

    @classmethod
    def because(cls, code: str, batch: Batch | None = None, **facts: Any) -> Self:
        return cls((Refusal(code), sentence(code, batch, **facts)))

    @property
    def code(self) -> Refusal:
        return self.refusals[0][0]


class StaffVerb(Protocol[P, T_co]):
    """A verb that staff with `permission` may call."""

    permission: str

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T_co: ...


@contextmanager
def _logged() -> Iterator[None]:
    """Have what is logged from now on say why a verb was refused, by its code: sentences name people."""
    try:
        yield
    except Refused as refused:
        bind_contextvars(refused=refused.code.value)
        raise


def staff_verb(permission: str) -> Callable[[Callable[P, T]], StaffVerb[P, T]]:
    """Let only an active member of staff with `permission` call the verb. Superusers pass no rule by this."""

    def declared(verb: Callable[P, T]) -> StaffVerb[P, T]:
        @wraps(verb)
        def called(*args: Any, by: Actor, **kwargs: Any) -> T:
            if not by.may(permission):
                raise PermissionDenied(f"{by.name} may not do this: it needs the permission {permission}.")
            with _logged():
                return cast(Any, verb)(*args, by=by.begin(), **kwargs)

        staff_only = cast("StaffVerb[P, T]", called)
        staff_only.permission = permission
        return staff_only

    return declared


def once(kind: type[events.Event], first: Callable[[LedgerEntry], T]) -> Callable[[Callable[..., T]], Callable[..., T]]:
    """Let a verb take a `key` (a UUID), which names its act: a second call with it does nothing.

    It returns the same as the first, which `first` reads from the entry, of this kind, that the first one appended. A
    call that comes while the first is under way waits for it. The verb's own `first` says what a key did, if anything.
    Raises PermissionDenied when the act is someone else's.
    """

    def declared(verb: Callable[..., T]) -> Callable[..., T]:
        @wraps(verb)
        def called(*args: Any, by: Actor, key: UUID | None = None, **kwargs: Any) -> T:
            if key is None:
                return verb(*args, by=by, **kwargs)
            if entry := chain.entry_of_act(key, kind):
                return _first(entry, by)
            try:
                named = by.begin(key)
                named.act.once = True
                return verb(*args, by=named, **kwargs)
            except (Refused, chain.ActThere):
                # While this one waited for its locks, the first one was done.
                if entry := chain.entry_of_act(key, kind):
                    return _first(entry, by)
                raise

        def _first(entry: LedgerEntry, by: Actor) -> T:
            if entry.kind != kind.kind or entry.user_id != by.member.pk:
                raise PermissionDenied("This act is someone else's.")
            return first(entry)

        def done_before(key: UUID | None, by: Actor) -> T | None:
            entry = chain.entry_of_act(key, kind) if key else None
            return _first(entry, by) if entry else None

        once_only: Any = called
        once_only.first = done_before
        return called

    return declared


def request_of(entry: LedgerEntry) -> UnlockRequest:
    """Return the request that an entry is about."""
    return UnlockRequest.objects.select_related("account").get(pk=entry.unlock_request_id or 0)


def customer_verb(verb: Callable[P, T]) -> Callable[P, T]:
    """Let only a customer call the verb: no one on staff can decide for one."""

    @wraps(verb)
    def called(*args: Any, by: Actor, **kwargs: Any) -> T:
        if by.user is not None:
            raise PermissionDenied("Staff cannot act for the customer here.")
        with _logged():
            return cast(Any, verb)(*args, by=by.begin(), **kwargs)

    return cast("Callable[P, T]", called)


def refuse_own_contacts(account: Account, by: Actor) -> None:
    """Raise Refused when one of the account's Admins is of `by`'s own making: PINs and links go to all of them."""
    if admin := own_admins(by.member).filter(account=account).first():
        raise Refused.because(Refusal.OWN_CONTACT, name=admin.name)
    if by.token:
        of_its_makers = Exists(entered_by(OuterRef("made_by")).filter(id__in=account.contacts.filter(is_admin=True)))
        if by.member.api_tokens.filter(of_its_makers).exists():
            raise Refused.because(Refusal.TOKENS_MAKER)


def own_admins(user: User) -> QuerySet[Contact]:
    """Return the Admins of any account that are of `user`'s own making."""
    return Contact.objects.filter(kept_from(user), is_admin=True)


def own_contact(account: Account, user: User) -> str:
    """Say why `user` may send no link and issue no PIN for an account; '' when they may."""
    return obstacle(refuse_own_contacts, account, user)


def obstacle(
    refuse: Callable[[Any, Actor], None], about: Any, user: User, *, permission: str = "", no: str = ""
) -> str:
    """Say why `user` can't do something, '' when they can: `no` without the permission, or what `refuse` says."""
    by = Actor.staff(user)
    if permission and not by.may(permission):
        return no
    try:
        refuse(about, by)
    except Refused as refused:
        return str(refused)
    return ""


def refuse_unless_confirmed(contact: Contact, said: str) -> None:
    """Raise Refused unless a contact is an Admin whose address counts."""
    if not contact.is_admin:
        raise Refused.because(Refusal.NOT_AN_ADMIN, name=contact.name, admins=said)
    if not contact.is_confirmed:
        raise Refused.because(Refusal.NOT_CONFIRMED, name=contact.name)


def locked(unlock_request: UnlockRequest) -> UnlockRequest:
    """Lock a request for the rest of the transaction and return it as it stands now. Raises Refused when closed."""
    unlock_request = history.lock_row(UnlockRequest.objects.select_related("account"), unlock_request.pk)
    if unlock_request.status == UnlockRequest.Status.CLOSED:
        raise Refused.because(Refusal.CLOSED, unlock_request=unlock_request.reference)
    return unlock_request
