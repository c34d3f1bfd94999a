"""What an agent does while the customer is on the phone, in one: the case, the answer, the link."""

from typing import Any
from uuid import UUID, uuid4, uuid5

from django.db import transaction
from django.db.models import QuerySet

from .. import history
from ..actors import Actor
from ..models import Account, Batch, ConsentLink, Contact, UnlockRequest
from .consent import send_consent_link
from .requests import open_request, record_advice


@transaction.atomic
def open_and_send(
    *,
    account: Account,
    requester: Contact,
    batches: QuerySet[Batch],
    advice: str,
    send: bool = True,
    key: UUID | None = None,
    by: Actor,
    **asked: Any,
) -> tuple[UnlockRequest, ConsentLink | None]:
    """Open a case, record what the customer chose (`advice`, '' for not asked yet) and have the link emailed.

    Return the case, and the link to whoever asked, None if it is not to be sent. Each is done by its own verb, and
    `key` names all three acts. Raises what they raise, with nothing written.
    """
    key = key or uuid4()
    # The first verb takes the ledger's lock: what the last one locks has to be held before.
    history.lock(Contact.objects.filter(pk=requester.pk))
    history.lock(Batch.objects.filter(pk__in=batches.order_by().values("pk")))
    history.lock(Account.objects.filter(pk=account.pk))
    opened = open_request(account=account, requester=requester, batches=batches, key=key, by=by, **asked)
    if advice:
        opened = record_advice(opened, advice=advice, key=uuid5(key, "advice"), by=by)
    link = send_consent_link(opened, contact=requester, key=uuid5(key, "link"), by=by) if send else None
    return opened, link
