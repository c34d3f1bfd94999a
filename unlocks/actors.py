"""Who acts: a member of staff, a system, a customer or the desk itself. Every verb takes one as `by`."""

import ipaddress
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Any, Self
from uuid import UUID, uuid4

from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.utils import timezone
from structlog.contextvars import bind_contextvars

from .models import ApiToken, Contact
from .roles import SCOPES


class CurrentAct:
    """What an actor is doing: the id and time that every history row and ledger entry of it carries.

    `rows` counts, by table, the history rows written and not yet told to the ledger. An act that is done `once` is not
    appended when another one with its id was.
    """

    once = False

    def __init__(self, id: UUID | None = None) -> None:
        self.id = id or uuid4()
        self.rows: Counter[str] = Counter()

    @cached_property
    def at(self) -> datetime:
        """The time of the act: when it is first asked for, so that a verb has taken its locks before."""
        return timezone.now()

    def take_rows(self) -> dict[str, int]:
        """Return the rows counted so far, and start again at none."""
        rows, self.rows = dict(self.rows), Counter()
        return rows


@dataclass(frozen=True)
class Actor:
    """`user` is None unless a member of staff or a system acts; `name` is never empty; `ip` and `browser` when known.

    A system acts by its `token`, and may what that may.
    """

    name: str
    user: User | None = None
    ip: str | None = None
    browser: str = ""
    token: ApiToken | None = field(default=None, repr=False)
    act: CurrentAct = field(default_factory=CurrentAct, compare=False, repr=False)

    @classmethod
    def staff(cls, user: User, request: HttpRequest | None = None) -> Self:
        return cls(name=user.get_username(), user=user, **_from_where(request))

    @classmethod
    def system(cls, token: ApiToken, request: HttpRequest | None = None) -> Self:
        user = token.system
        return cls(name=user.get_username(), user=user, token=token, **_from_where(request))

    @classmethod
    def customer(cls, contact: Contact, request: HttpRequest | None = None, *, through: str = "Link") -> Self:
        """Whoever acts by what was emailed to a contact (`through`: Link or Receipt): that it is they is not known."""
        return cls(name=f"{through} for {contact.name}"[:200], **_from_where(request))

    @classmethod
    def nobody(cls, request: HttpRequest | None = None) -> Self:
        """Whoever is not signed in, and of whom nothing is known but where they are."""
        return cls(name="Not signed in", **_from_where(request))

    @classmethod
    def provider(cls, request: HttpRequest | None = None) -> Self:
        """The company's provider, which says who someone is and which roles they have."""
        return cls(name=settings.OIDC_NAME, **_from_where(request))

    @classmethod
    def desk(cls) -> Self:
        return cls(name="Unlock Desk")

    @classmethod
    def product(cls) -> Self:
        """The product behind the desk, which says what it did."""
        return cls(name=settings.VENDOR_NAME)

    def begin(self, id: UUID | None = None) -> Self:
        """Return the same actor at the beginning of another act. What is logged from now on names it, and staff."""
        begun = replace(self, act=CurrentAct(id))
        bind_contextvars(act=str(begun.act.id), **({"user": self.name} if self.user else {}))
        return begun

    @property
    def member(self) -> User:
        """The member of staff, or the system, that acts. Raises PermissionDenied when it is neither."""
        if self.user is None:
            raise PermissionDenied(f"{self.name} is not a member of staff.")
        return self.user

    def may(self, permission: str) -> bool:
        if self.token:
            return any(permission in SCOPES[scope] for scope in self.token.scope_set & SCOPES.keys())
        return self.user is not None and self.user.is_staff and self.user.has_perm(permission)

    def on_history(self) -> dict[str, Any]:
        """Return the columns that say who acted on a history row, when, and in which act."""
        return {
            "history_user": self.user,
            "history_actor": self.name,
            "history_ip": self.ip,
            "history_act": self.act.id,
        }


def _from_where(request: HttpRequest | None) -> dict[str, Any]:
    if request is None:
        return {}
    return {"ip": client_ip(request), "browser": request.headers.get("User-Agent", "")[:400]}


def client_ip(request: HttpRequest) -> str | None:
    """Return the address of whoever called, believing only as many proxies as TRUSTED_PROXIES says."""
    if settings.TRUSTED_PROXIES:
        hops = [hop.strip() for hop in request.META.get("HTTP_X_FORWARDED_FOR", "").split(",") if hop.strip()]
        if len(hops) >= settings.TRUSTED_PROXIES:
            return _address(hops[-settings.TRUSTED_PROXIES])
    return _address(request.META.get("REMOTE_ADDR"))


def _address(text: str | None) -> str | None:
    """Return the address in what a proxy or the server wrote, or None. Some proxies write the port behind it."""
    with_port = re.fullmatch(r"\[(.+)\](?::[0-9]+)?|([0-9.]+):[0-9]+", text or "")
    bare = (with_port[1] or with_port[2]) if with_port else text or ""
    try:
        address = ipaddress.ip_address(bare.partition("%")[0])
    except ValueError:
        return None
    return str(getattr(address, "ipv4_mapped", None) or address)
