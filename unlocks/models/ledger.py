import json

from django.conf import settings
from django.db import models

from .accounts import Account
from .requests import UnlockRequest


class LedgerEntry(models.Model):
    """An entry of the ledger, sealed to the one before it (see `unlocks.ledger`). A case's timeline is its entries.

    `body` is the canonical JSON that the hash covers; the other columns repeat parts of it for queries.
    """

    class Kind(models.TextChoices):
        OPENED = "opened", "Opened"
        NOTE = "note", "Note"
        ASSIGNED = "assigned", "Assigned"
        ADVISED = "advised", "Safer route offered"
        PIN_ISSUED = "pin_issued", "New PIN issued"
        PIN_VERIFIED = "pin_verified", "PIN verified"
        PIN_WRONG = "pin_wrong", "Wrong PIN"
        PIN_LOCKED = "pin_locked", "PIN try refused: locked"
        LINK_SENT = "link_sent", "Consent link sent"
        LINK_OPENED = "link_opened", "Consent link opened"
        LINK_REVOKED = "link_revoked", "Consent link revoked"
        STAFF_REFUSED = "staff_refused", "Staff refused on the consent page"
        EMAIL_SENT = "email_sent", "Mail sent"
        EMAIL_FAILED = "email_failed", "Mail could not be sent"
        CONSENTED = "consented", "Consent given"
        DECLINED = "declined", "Consent declined"
        RECORDED_BY_PHONE = "recorded_by_phone", "Consent taken down by staff"
        EVIDENCE = "evidence", "Evidence attached"
        WITHDRAWN = "withdrawn", "Consent withdrawn"
        RECEIPT_RESENT = "receipt_resent", "Receipt sent again"
        CERTIFIED = "certified", "Certificate issued"
        UNLOCKED = "unlocked", "Unlocked"
        REFUSED = "refused", "Unlock refused"
        RELOCKED = "relocked", "Locked again"
        RE_EXPORTED = "re_exported", "Marked as re-exported"
        CLOSED = "closed", "Closed"
        STAFF_CHANGED = "staff_changed", "Staff account changed"
        TERMS_DRAFTED = "terms_drafted", "Consent terms drafted"
        TERMS_PUBLISHED = "terms_published", "Consent terms published"
        SEALED = "sealed", "History sealed"

    sequence = models.PositiveBigIntegerField(unique=True)
    unlock_request = models.ForeignKey(UnlockRequest, on_delete=models.PROTECT, null=True, related_name="entries")
    account = models.ForeignKey(Account, on_delete=models.PROTECT, null=True, related_name="+", db_index=False)
    kind = models.CharField(max_length=20, choices=Kind.choices)
    at = models.DateTimeField()
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+")
    actor = models.CharField(max_length=200)
    ip = models.GenericIPAddressField(null=True)
    body = models.TextField()
    previous_hash = models.CharField(max_length=64, unique=True)
    hash = models.CharField(max_length=64, unique=True)

    class Meta:
        ordering = ["-sequence"]
        verbose_name = "audit entry"
        verbose_name_plural = "audit log"

    def __str__(self):
        return f"{self.sequence}: {self.get_kind_display()}"

    @property
    def facts(self):
        """What the entry tells beyond who and when. Raises ValueError or KeyError for a body that was tampered with."""
        return json.loads(self.body)["facts"]
