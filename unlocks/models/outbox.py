import uuid
from typing import Any, Self

from django.db import models
from django.db.models import Exists, OuterRef, Q

from .accounts import Account, Contact
from .consents import Consent, ConsentLink, ResentReceipt
from .requests import UnlockRequest


def _key(to: Any, *, indexed: bool = False) -> models.ForeignKey:
    # Not a constraint in the database: where one refuses a deletion first, no test tells that a guard would have.
    return models.ForeignKey(
        to,
        on_delete=models.DO_NOTHING,
        null=True,
        blank=True,
        db_constraint=False,
        db_index=indexed,
        related_name="outgoing" if indexed else "+",
    )


# What nobody got; a receipt and a PIN that were canceled count too.
_UNSENT = Q(state__in=["refused", "given_up"]) | Q(
    state="canceled", email__in=["receipt", "recorded_by_phone", "declined", "withdrawn", "new_pin"]
)


class OutgoingQuerySet(models.QuerySet["Outgoing"]):
    def that_failed(self) -> Self:
        """Leave what was refused or given up, and was followed by none of its kind that was sent, or failed as well.

        A consent link matters while it is waited for, and what tells of the end while batches may be unlocked.
        """
        tried = Outgoing.objects.filter(state__in=["sent", "refused", "given_up"]).order_by()
        later = tried.filter(queued_at__gt=OuterRef("queued_at"))
        same_case = later.filter(unlock_request=OuterRef("unlock_request"))
        same_account = later.filter(account=OuterRef("account"), email=OuterRef("email"))
        receipt = Q(email__in=Outgoing.RECEIPTS)
        followed = (
            Q(Exists(same_case.filter(email=OuterRef("email"))), email="consent_link")
            | Q(Exists(same_case.filter(consent=OuterRef("consent"), email__in=Outgoing.RECEIPTS)), receipt)
            | Q(
                Exists(same_case.filter(email=OuterRef("email"))),
                email__in=["unlocked", "extended", "ending", "ended"],
            )
            | Q(Exists(same_account), email="new_pin")
            | Q(
                Exists(same_account.filter(address=OuterRef("address"), entered__id=OuterRef("entered__id"))),
                email="admin_entered",
            )
            | Q(Exists(same_case.filter(email=OuterRef("email"), address=OuterRef("address"))), email="not_relocked")
        )
        waited_for = (
            ~Q(email__in=["consent_link", "extended", "ending"])
            | Q(email="consent_link", unlock_request__status=UnlockRequest.Status.AWAITING_CONSENT)
            | Q(email__in=["extended", "ending"], unlock_request__status=UnlockRequest.Status.UNLOCKED)
        )
        return self.filter(waited_for, _UNSENT).exclude(followed)


class Outgoing(models.Model):
    """An email that is to be sent, or what became of it: written with the act, and carried by the worker.

    It holds keys, never a token, a PIN or a text. Those are derived from `nonce` at each try (`unlocks.outbox`), which
    is erased when the row is done. `mac` proves that the desk queued it: who writes a row of their own gets nothing
    sent by it. `id` is the Message-ID as well. `entered` is the row of history that says what was entered, `actor` who
    acted, and `answer` what the server said last.
    """

    class Email(models.TextChoices):
        CONSENT_LINK = "consent_link", "Consent link"
        RECEIPT = "receipt", "Receipt of the consent"
        RECORDED_BY_PHONE = "recorded_by_phone", "Receipt of the consent recorded by phone"
        DECLINED = "declined", "Receipt of the refusal"
        WITHDRAWN = "withdrawn", "Receipt of the withdrawal"
        UNLOCKED = "unlocked", "Result of the unlock"
        EXTENDED = "extended", "Notice of a longer unlock"
        ENDING = "ending", "Reminder that the unlock ends"
        ENDED = "ended", "Notice of the end of the unlock"
        NEW_PIN = "new_pin", "New PIN"
        ADMIN_ENTERED = "admin_entered", "Notice of a new Admin address"
        NOT_RELOCKED = "not_relocked", "Notice of a relock that failed"
        WEEKLY = "weekly", "Weekly figures"
        STAFF_LINK = "staff_link", "Link to set a password"
        BREAK_GLASS = "break_glass", "Notice of an emergency sign-in"

    RECEIPTS = (Email.RECEIPT, Email.RECORDED_BY_PHONE, Email.DECLINED, Email.WITHDRAWN)

    class State(models.TextChoices):
        QUEUED = "queued", "Waits to be sent"
        SENT = "sent", "Sent"
        REFUSED = "refused", "Refused by the server"
        GIVEN_UP = "given_up", "Given up"
        CANCELED = "canceled", "Canceled"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    email = models.CharField(max_length=20, choices=Email.choices)
    address = models.EmailField()
    account = _key(Account, indexed=True)
    unlock_request = _key(UnlockRequest, indexed=True)
    contact = _key(Contact)
    link = _key(ConsentLink)
    consent = _key(Consent)
    resent = _key(ResentReceipt)
    entered = _key("unlocks.HistoricalContact")
    actor = models.CharField(max_length=200)
    nonce = models.CharField(max_length=64, blank=True, editable=False)
    mac = models.CharField(max_length=64, editable=False)
    state = models.CharField(max_length=10, choices=State.choices, default=State.QUEUED)
    queued_at = models.DateTimeField()
    next_try_at = models.DateTimeField()
    tries = models.PositiveSmallIntegerField(default=0)
    answer = models.CharField(max_length=500, blank=True)
    done_at = models.DateTimeField(null=True, blank=True)

    objects = OutgoingQuerySet.as_manager()

    class Meta:
        verbose_name = verbose_name_plural = "outgoing"
        default_permissions = ()
        indexes = [
            models.Index(fields=["next_try_at"], condition=Q(state="queued"), name="unlocks_outgoing_due"),
            models.Index(fields=["-done_at"], condition=Q(state="sent"), name="unlocks_outgoing_sent"),
            models.Index(fields=["queued_at"], condition=Q(email="weekly"), name="unlocks_outgoing_weekly"),
            models.Index(
                fields=["-done_at"],
                condition=_UNSENT,
                name="unlocks_outgoing_failed",
            ),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(state="queued", done_at__isnull=True)
                | Q(state__in=["sent", "refused", "given_up", "canceled"], done_at__isnull=False, nonce=""),
                name="unlocks_outgoing_done",
                violation_error_message="What is done has a time, and nothing that a secret could be derived from.",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_email_display()} to {self.address}"


class Worker(models.Model):
    """A worker that sends what the outbox holds, by host and process, and when it was last seen."""

    name = models.CharField(max_length=200, primary_key=True)
    started_at = models.DateTimeField()
    seen_at = models.DateTimeField()

    class Meta:
        default_permissions = ("view",)

    def __str__(self) -> str:
        return self.name
