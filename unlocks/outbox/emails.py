"""The emails, each written at every try from the rows that it is about.

What became untrue meanwhile is not sent, nor what the desk did not queue: who writes or changes a row of the outbox by
hand gets no link and no PIN by it.
"""

import json
import logging
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.core.mail import EmailMessage
from django.db import Error
from django.db.models import Count, Exists, Max, Min, OuterRef
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.utils.http import urlencode

from .. import figures, roles
from ..actors import Actor
from ..figures import Figures, Period
from ..ledger import signing_keys
from ..ledger.emails import is_queued_by_the_desk
from ..models import CONFIRMED, Consent, Contact, Instruction, Outgoing, RequestedBatch, UnlockRequest
from ..operations import weekly
from ..operations.certificate import issue_certificate
from ..operations.links import link_state
from ..operations.pin import is_new_pin
from ..operations.receipts import withdrawal_context
from ..operations.staff_links import staff_link_for
from ..texts import batches, wording
from ..texts.formats import moment, time_left, zone_of
from ..texts.shown import with_content
from . import rows, secrets

Email, Outcome = Outgoing.Email, RequestedBatch.Outcome
Context = dict[str, Any]
ATTACHED_AT_MOST = 5 * 1024 * 1024
_TYPES = {"json": "application/json", "csv": "text/csv", "txt": "text/plain"}

log = logging.getLogger(__name__)


class Outdated(Exception):
    """The email would say what is not so any more. The message says why, for staff."""


class NotYet(Exception):
    """What the email tells has not come about yet; it is looked at again at `until`."""

    def __init__(self, until: datetime) -> None:
        super().__init__(until)
        self.until = until


def written(row: Outgoing) -> EmailMessage:
    """Return the email of `templates/unlocks/email/<email>.txt`, whose first line is the subject.

    Times are in the zone of the account, or the desk's where it is about none. Raises Outdated, NotYet.
    """
    if not is_queued_by_the_desk(row):
        raise Outdated("It is not what the desk queued.")
    with timezone.override(zone_of(row.account) if row.account else timezone.get_default_timezone()):
        context = _WRITERS[row.email](row)
        subject, _, body = render_to_string(f"unlocks/email/{row.email}.txt", context).partition("\n")
    message = EmailMessage(
        " ".join(subject.removeprefix("Subject:").split()),
        body.lstrip("\n"),
        to=[row.address],
        headers={"Message-ID": rows.message_id(row)},
    )
    for name, content in context.get("attached", {}).items():
        message.attach(name, content, _TYPES[name.rpartition(".")[2]])
    return message


def secret(row: Outgoing) -> str:
    """Return the token or PIN in the email of a row that is not done; '' if it holds none."""
    if not row.nonce:
        return ""
    return secrets.pin(row.nonce) if row.email == Email.NEW_PIN else secrets.token(row.nonce)


def _consent_link(row: Outgoing) -> Context:
    link = _the(row.link)
    if (state := link_state(link)) != "live":
        raise Outdated({"used": "The link was used before.", "expired": "The link has expired."}.get(state, _REVOKED))
    unlock_request = link.unlock_request
    asked = with_content(unlock_request)
    listed = {f"{unlock_request}-{batches.FILE_NAME}": batches.as_csv(asked)} if len(asked) > batches.FEW else {}
    return {
        "summary": batches.summary(asked),
        "attached": _if_small(listed),
        "link": link,
        "unlock_request": unlock_request,
        "account": unlock_request.account,
        "url": settings.PUBLIC_URL + reverse("consent_link", args=[secret(row)]),
        "expires": link.expires_at,
    }


def _receipt(row: Outgoing) -> Context:
    consent = _the(row.consent)
    goes_by = row.resent or consent
    if consent.contact.email != goes_by.email:
        raise Outdated(_OTHER_ADDRESS)
    context = {
        "consent": consent,
        "unlock_request": consent.unlock_request,
        "account": consent.unlock_request.account,
        "text": consent.text,
        "resent": row.resent is not None,
    }
    if row.email == Email.WITHDRAWN:
        context |= withdrawal_context(consent.withdrawal)
    if token := secret(row):
        context["url"] = settings.PUBLIC_URL + reverse("receipt_link", args=[token])
    context |= {"attached": (signed := _certificate(consent)), "check_at": settings.PUBLIC_URL + reverse("check")}
    return context | {"certificate": bool(signed)} | _in_files(consent, signed)


def _in_files(consent: Consent, signed: dict[str, bytes]) -> Context:
    """Return what a receipt says of many batches: how much there is; their list and the text are attached."""
    covered = list(consent.batches.select_related("batch").order_by("number", "pk"))
    if len(covered) <= batches.FEW or hasattr(consent, "withdrawal"):
        return {}
    for one in covered:
        one.posted_on, one.bypassed_on = one.batch.posted_on, one.batch.bypassed_on
    files = {
        f"{consent.reference}-text.txt": consent.text.encode(),
        f"{consent.reference}-{batches.FILE_NAME}": batches.as_csv(covered),
    }
    return {
        "summary": batches.summary(covered),
        "text": "",
        "attached": signed | (sent := _if_small(files)),
        "files": sent,
    }


def _if_small(files: dict[str, bytes]) -> dict[str, bytes]:
    """Return the files, or none that many email servers would refuse for their size; the customer's page has them."""
    return files if sum(map(len, files.values())) <= ATTACHED_AT_MOST else {}


def _certificate(consent: Consent) -> dict[str, bytes]:
    """Return the files that go with a receipt: a certificate of the case as it is now, and the keys to check it with.

    So the customer holds an anchor of the ledger from the first minute. There are none while no key signs, and none
    that many email servers would refuse for their size; the receipt's page has them.
    """
    try:
        certificate = issue_certificate(consent, by=Actor.desk())
    except Error:
        raise
    except Exception as error:
        # The customer gets the receipt all the same, and the certificate from its page.
        log.error("A receipt goes out without a certificate: %s", type(error).__name__)
        return {}
    content = certificate.content.encode()
    if len(content) > ATTACHED_AT_MOST:
        return {}
    keys = json.dumps(signing_keys.published(), indent=1)
    return {f"{certificate.number}.json": content, "keys.json": keys.encode()}


def _unlocked(row: Outgoing) -> Context:
    """Return what became of the unlock so far. Raises Outdated when the customer has to be told nothing of it."""
    consent = _of_consent(row)
    unlock_request = consent.unlock_request
    counts = _counts(unlock_request)
    if not counts.keys() - {Outcome.WAITING, Outcome.NOT_UNLOCKED}:
        raise Outdated("The unlock was canceled.")
    if not counts.keys() - {Outcome.WAITING, Outcome.NOT_UNLOCKED, Outcome.UNLOCKING}:
        raise NotYet(timezone.now() + rows.RESULT_AFTER)
    if not counts.keys() & {Outcome.UNLOCKED, Outcome.UNLOCKING, Outcome.REFUSED} and _ended_tells_it(row):
        raise Outdated("It has ended since, which another email tells.")
    refused = unlock_request.lines.filter(outcome=Outcome.REFUSED)
    reasons = refused.filter(instructions__state="refused").order_by("pk").distinct()
    return {
        "consent": consent,
        "unlock_request": unlock_request,
        "account": unlock_request.account,
        "unlocking": counts[Outcome.UNLOCKING],
        "ended": counts[Outcome.RE_EXPORTED] + counts[Outcome.RELOCKED] + counts[Outcome.RELOCKING],
        "refused_count": counts[Outcome.REFUSED],
        "refused": [
            {"number": number, "reason": reason}
            for number, reason in reasons.values_list("batch__number", "instructions__answer")[:50]
        ],
    } | _window(unlock_request)


def _ended_tells_it(row: Outgoing) -> bool:
    """Say whether another email tells, or told, the same customer how the unlock ended."""
    states = [Outgoing.State.QUEUED, Outgoing.State.SENT]
    ended = Outgoing.objects.filter(unlock_request=row.unlock_request_id, email=Email.ENDED, state__in=states)
    return ended.filter(address=row.address).exists()


def _extended(row: Outgoing) -> Context:
    """Return until when batches are unlocked now that have more time. Raises Outdated when none is any more."""
    consent = _of_consent(row)
    unlock_request = consent.unlock_request
    window = _window(unlock_request, batch__extension__isnull=False, batch__unlocked_until__gt=timezone.now())
    if window["until"] is None:
        raise Outdated("Nothing is unlocked for longer any more.")
    others = _window(unlock_request, batch__extension=None)["unlocked"]
    about = {"consent": consent, "unlock_request": unlock_request, "account": unlock_request.account, "others": others}
    return about | window


def _ending(row: Outgoing) -> Context:
    """Return until when batches are unlocked. Raises NotYet while that is longer than the reminder comes before it."""
    consent, now = _of_consent(row), timezone.now()
    unlock_request = consent.unlock_request
    window = _window(unlock_request, batch__unlocked_until__gt=now)
    if window["until"] is None:
        raise Outdated("Nothing is unlocked any more, or the time for it is over.")
    if window["until"] > now + rows.REMINDED_BEFORE:
        raise NotYet(window["until"] - rows.REMINDED_BEFORE)
    return {"consent": consent, "unlock_request": unlock_request, "account": unlock_request.account} | window


def _ended(row: Outgoing) -> Context:
    """Return what is not unlocked any more, and whether the case is closed. Raises Outdated, NotYet."""
    unlock_request, contact = _the(row.unlock_request), _the(row.contact)
    if contact.email != row.address:
        raise Outdated(_OTHER_ADDRESS)
    if row.consent is None:
        _look_whether_the_link_arrived(row)
    elif withdrawn := Outgoing.objects.filter(email=Email.WITHDRAWN, consent=row.consent_id, resent=None).first():
        _look_whether_that_is_told(withdrawn, unlock_request)
    counts = _counts(unlock_request)
    return _window(unlock_request) | {
        "contact": contact,
        "consent": row.consent,
        "unlock_request": unlock_request,
        "account": unlock_request.account,
        "closed": unlock_request.status == UnlockRequest.Status.CLOSED,
        "resolution": wording.RESOLUTIONS.get(unlock_request.resolution),
        "counts": {outcome.value: counts[outcome] for outcome in Outcome},
    }


def _look_whether_the_link_arrived(row: Outgoing) -> None:
    """Raise Outdated where whoever was to decide never got the link, so that its end means nothing to them."""
    link = row.unlock_request.links.filter(email=row.address).order_by("-pk").first()
    emailed = Outgoing.objects.filter(email=Email.CONSENT_LINK, link=link).first()
    if (link and link.shown_to_id) or (emailed and emailed.state == Outgoing.State.SENT):
        return
    if emailed and emailed.state == Outgoing.State.QUEUED:
        raise NotYet(timezone.now() + rows.RESULT_AFTER)
    raise Outdated("The link was never sent.")


def _look_whether_that_is_told(withdrawn: Outgoing, unlock_request: UnlockRequest) -> None:
    """Raise Outdated where the confirmation of a withdrawal was written after the case had ended, NotYet before that.

    A row's last lease begins when it is written.
    """
    if unlock_request.closed_at is None or withdrawn.state == Outgoing.State.QUEUED:
        raise NotYet(timezone.now() + rows.RESULT_AFTER)
    if withdrawn.state == Outgoing.State.SENT and withdrawn.next_try_at - rows.LEASE >= unlock_request.closed_at:
        raise Outdated("The confirmation of the withdrawal tells it.")


def _of_consent(row: Outgoing) -> Consent:
    """Return the consent that a row is about. Raises Outdated where its contact has another address by now."""
    consent: Consent = _the(row.consent)
    if consent.contact.email != consent.email:
        raise Outdated(_OTHER_ADDRESS)
    return consent


def _counts(unlock_request: UnlockRequest) -> Counter[str]:
    """Count the batches of a request by what became of them."""
    counts = unlock_request.lines.order_by().values("outcome").annotate(n=Count("pk"))
    return Counter({row["outcome"]: row["n"] for row in counts})


def _window(unlock_request: UnlockRequest, **which: Any) -> Context:
    """Return how many batches of a request are unlocked, until when the first is, and whether others are for longer."""
    unlocked = unlock_request.lines.filter(outcome=Outcome.UNLOCKED, **which)
    ends = unlocked.aggregate(n=Count("pk"), first=Min("batch__unlocked_until"), last=Max("batch__unlocked_until"))
    first, last = ends["first"], ends["last"]
    return {
        "unlocked": ends["n"],
        "until": first,
        "over": first is not None and first <= timezone.now(),
        "some_longer": moment(first) != moment(last),
        "left": first and time_left(first),
    }


def _new_pin(row: Outgoing) -> Context:
    account, contact, pin = _the(row.account), _the(row.contact), secret(row)
    if not contact.is_confirmed_admin or contact.email != row.address or contact.account_id != account.pk:
        raise Outdated(_NO_ADMIN)
    if not is_new_pin(account, pin):
        raise Outdated("A newer PIN was issued.")
    return {"account": account, "contact": contact, "pin": pin}


def _admin_entered(row: Outgoing) -> Context:
    entered, told = _the(row.entered), _the(row.contact)
    contact = Contact.objects.select_related("account").get(pk=entered.id)
    if not contact.is_admin or contact.email != entered.email:
        raise Outdated("What was entered has been changed since.")
    # Whoever had the address of an Admin is told, also when it was changed since: that may be why.
    had_it = Contact.history.filter(CONFIRMED, id=told.pk, account=contact.account, is_admin=True, email=row.address)
    told = had_it.order_by("-history_id").first()
    if told is None:
        raise Outdated(_NO_ADMIN)
    return {
        "account": contact.account,
        "contact": entered,
        "name": told.name,
        "by": row.actor,
        "confirmed": contact.is_confirmed,
    }


def _not_relocked(row: Outgoing) -> Context:
    unlock_request = _the(row.unlock_request)
    later = Instruction.objects.filter(line=OuterRef("line"), pk__gt=OuterRef("pk"))
    failed = Instruction.objects.filter(
        ~Exists(later),
        line__unlock_request=unlock_request,
        line__outcome=Outcome.RELOCKING,
        state__in=[Instruction.State.REFUSED, Instruction.State.GIVEN_UP],
    )
    if not (count := failed.count()):
        raise Outdated("Meanwhile it was relocked or exported, or the product was asked once more.")
    return {
        "unlock_request": unlock_request,
        "account": unlock_request.account,
        "count": count,
        "failed": failed.select_related("batch").order_by("batch__number", "pk")[:50],
        "url": settings.PUBLIC_URL + unlock_request.get_absolute_url(),
    }


def _weekly(row: Outgoing) -> Context:
    """Return the figures of the seven days before the email was due, those that want someone first."""
    if not weekly.managers().filter(email=row.address).exists():
        raise Outdated("This is not the address of a manager any more.")
    last = timezone.localdate(weekly.latest_due(row.queued_at) or row.queued_at) - timedelta(1)
    counted = Figures(Period(last - timedelta(6), last))
    return {
        "figures": counted,
        "wrong": [figure for figure in (*figures.open_now(), *counted.wrong, *counted.risky) if figure.count],
        "backlog": [(stage, sum(age.count for age in ages)) for stage, ages in counted.backlog],
        "desk": settings.PUBLIC_URL,
        "dashboard": f"{reverse('admin:index')}?{urlencode(counted.period.in_address)}",
    }


def _staff_link(row: Outgoing) -> Context:
    link = staff_link_for(token := secret(row))
    if link is None or link.user.email != row.address:
        raise Outdated("The link was replaced, used or has ended, or another address is on file.")
    return {
        "user": link.user,
        "by": row.actor,
        "url": settings.PUBLIC_URL + reverse("staff_link", args=[token]),
        "company": settings.OIDC_NAME if settings.OIDC_URL else "",
        "with_company": settings.PUBLIC_URL + reverse("openid_connect_login", args=["company"]),
        "expires": link.expires_at,
    }


def _break_glass(row: Outgoing) -> Context:
    if not roles.staff_who_may("unlocks.review_case").filter(email=row.address).exists():
        raise Outdated("This is not the address of a manager any more.")
    return {"username": row.actor, "at": row.queued_at, "log": settings.PUBLIC_URL + reverse(_LOG)}


_LOG = "admin:unlocks_ledgerentry_changelist"
_WRITERS: dict[str, Callable[[Outgoing], Context]] = {
    Email.CONSENT_LINK: _consent_link,
    Email.RECEIPT: _receipt,
    Email.RECORDED_BY_PHONE: _receipt,
    Email.DECLINED: _receipt,
    Email.WITHDRAWN: _receipt,
    Email.UNLOCKED: _unlocked,
    Email.EXTENDED: _extended,
    Email.ENDING: _ending,
    Email.ENDED: _ended,
    Email.NEW_PIN: _new_pin,
    Email.ADMIN_ENTERED: _admin_entered,
    Email.NOT_RELOCKED: _not_relocked,
    Email.WEEKLY: _weekly,
    Email.STAFF_LINK: _staff_link,
    Email.BREAK_GLASS: _break_glass,
}
_REVOKED = "The link was revoked."
_OTHER_ADDRESS = "Another address is on file for the contact now."
_NO_ADMIN = "This is not the address of a confirmed Admin any more."


def _the(row: Any) -> Any:
    """Return the row that an email is about. Raises Outdated where none is named."""
    if row is None:
        raise Outdated("What it is about is not on record.")
    return row
