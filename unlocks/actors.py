"""Who acts: a member of staff, a customer or the desk itself. Every verb takes one as `by`."""

import ipaddress
from dataclasses import dataclass

from django.conf import settings


@dataclass(frozen=True)
class Actor:
    """`user` is None unless a member of staff acts; `name` is never empty; `ip` and `browser` only when known."""

    name: str
    user: object = None
    ip: str | None = None
    browser: str = ""

    @classmethod
    def staff(cls, user, request=None):
        return cls(name=user.get_username(), user=user, **_from_where(request))

    @classmethod
    def customer(cls, contact, request=None, *, through="Link"):
        """Whoever acts by what was mailed to a contact (`through`: Link or Receipt): that it is they is not known."""
        return cls(name=f"{through} sent to {contact.name}"[:200], **_from_where(request))

    @classmethod
    def desk(cls):
        return cls(name="Unlock Desk")

    def may(self, permission):
        return self.user is not None and self.user.is_staff and self.user.has_perm(permission)

    def on_history(self):
        """Return the columns that say who acted on a history row."""
        return {"history_user": self.user, "history_actor": self.name, "history_ip": self.ip}


def _from_where(request):
    if request is None:
        return {}
    return {"ip": client_ip(request), "browser": request.headers.get("User-Agent", "")[:400]}


def client_ip(request):
    """Return the address of whoever called, believing only as many proxies as TRUSTED_PROXIES says."""
    if settings.TRUSTED_PROXIES:
        hops = [hop.strip() for hop in request.META.get("HTTP_X_FORWARDED_FOR", "").split(",") if hop.strip()]
        if len(hops) >= settings.TRUSTED_PROXIES:
            return _address(hops[-settings.TRUSTED_PROXIES])
    return _address(request.META.get("REMOTE_ADDR"))


def _address(text):
    try:
        return str(ipaddress.ip_address(text.partition("%")[0]))
    except (AttributeError, ValueError):
        return None
