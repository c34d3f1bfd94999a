from functools import wraps

from django.core.exceptions import PermissionDenied

from ..models import UnlockRequest
from ..rules import Refusal, entered_by, sentence


class Refused(Exception):
    """A verb was refused; nothing was written. `refusals` is a list of (Refusal, sentence), never empty."""

    def __init__(self, *refusals):
        self.refusals = list(refusals)
        super().__init__(" ".join(said for _, said in self.refusals))

    @classmethod
    def because(cls, code, batch=None, **facts):
        return cls((Refusal(code), sentence(code, batch, **facts)))

    @property
    def code(self):
        return self.refusals[0][0]


def staff_verb(permission):
    """Let only an active member of staff with `permission` call the verb. Superusers pass no rule by this."""

    def declared(verb):
        @wraps(verb)
        def called(*args, by, **kwargs):
            if not by.may(permission):
                raise PermissionDenied(f"{by.name} may not do this: it needs the permission {permission}.")
            return verb(*args, by=by.begin(), **kwargs)

        called.permission = permission
        return called

    return declared


def customer_verb(verb):
    """Let only a customer call the verb: nobody of staff can decide for one."""

    @wraps(verb)
    def called(*args, by, **kwargs):
        if by.user is not None:
            raise PermissionDenied("Staff cannot act for the customer here.")
        return verb(*args, by=by.begin(), **kwargs)

    return called


def refuse_own_contacts(account, by):
    """Raise Refused when one of the account's Admins is of `by`'s own making: PINs and links go to all of them."""
    for admin in account.contacts.filter(is_admin=True):
        if entered_by(admin, by.user):
            raise Refused.because(Refusal.OWN_CONTACT, name=admin.name)


def locked(unlock_request):
    """Lock a request for the rest of the transaction and return it as it stands now. Raises Refused when closed."""
    unlock_request = (
        UnlockRequest.objects.select_for_update(of=("self",), no_key=True)
        .select_related("account")
        .get(pk=unlock_request.pk)
    )
    if unlock_request.status == UnlockRequest.Status.CLOSED:
        raise Refused.because(Refusal.CLOSED, unlock_request=unlock_request.reference)
    return unlock_request
