from django.conf import settings
from django.db import models
from django.db.models import Q

from .accounts import Account
from .requests import UnlockRequest

# What the desk does by itself, under the name of `Actor.desk()`.
BY_THE_DESK = Q(user__isnull=True, actor="Unlock Desk")
# What customers do, under the names of `Actor.customer()`.
BY_CUSTOMERS = Q(Q(actor__prefix="Link for ") | Q(actor__prefix="Receipt for "), user__isnull=True)


class LedgerEntry(models.Model):
    """An entry of the ledger, sealed to the one before it (see `unlocks.ledger.chain`).

    `facts` and `personal` are canonical JSON, each hashed with a salt of its own, so that what is personal could be
    erased one day while the chain still verifies. The other columns repeat parts of them for queries: `about` and
    `about_id` name the row that the entry is about (a model in lower case and its key), `act` is the act's id;
    `amount`, `fields` (the names of those that were changed) and `refusals` (their reasons) are facts of some kinds.
    """

    sequence = models.PositiveBigIntegerField(unique=True)
    appended_at = models.DateTimeField()
    unlock_request = models.ForeignKey(UnlockRequest, on_delete=models.PROTECT, null=True, related_name="entries")
    account = models.ForeignKey(Account, on_delete=models.PROTECT, null=True, related_name="+", db_index=False)
    kind = models.CharField(max_length=20)
    about = models.CharField(max_length=30, blank=True)
    about_id = models.BigIntegerField(null=True)
    act = models.UUIDField(db_index=True)
    at = models.DateTimeField()
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+", db_index=False
    )
    actor = models.CharField(max_length=200)
    ip = models.GenericIPAddressField(null=True)
    amount = models.DecimalField(max_digits=20, decimal_places=2, null=True)
    fields = models.CharField(max_length=300, blank=True)
    refusals = models.CharField(max_length=1000, blank=True)
    facts = models.TextField()
    facts_salt = models.CharField(max_length=32)
    facts_hash = models.CharField(max_length=64)
    personal = models.TextField()
    personal_salt = models.CharField(max_length=32)
    personal_hash = models.CharField(max_length=64)
    previous_hash = models.CharField(max_length=64)
    hash = models.CharField(max_length=64)

    class Meta:
        ordering = ["-sequence"]
        verbose_name_plural = "ledger entries"
        permissions = [("order_verification", "Can have the worker verify the record")]
        indexes = [
            models.Index(fields=["about", "about_id"], name="unlocks_entry_about"),
            models.Index(fields=["account", "kind"], name="unlocks_entry_account"),
            models.Index(fields=["at", "sequence"], name="unlocks_entry_at"),
            models.Index(fields=["kind", "at", "sequence"], name="unlocks_entry_kind"),
            models.Index(fields=["user", "at", "sequence"], name="unlocks_entry_user"),
            # What someone never did would be looked for among all that they did, or all that was ever done.
            models.Index(
                fields=["user", "kind", "at", "sequence"],
                condition=Q(user__isnull=False),
                name="unlocks_entry_user_kind",
            ),
            models.Index(
                fields=["actor", "kind", "at", "sequence"],
                condition=Q(user__isnull=True),
                name="unlocks_entry_actor",
                opclasses=["varchar_pattern_ops", "varchar_ops", "timestamptz_ops", "int8_ops"],
            ),
            models.Index(fields=["kind", "at", "sequence"], condition=~BY_THE_DESK, name="unlocks_entry_not_own"),
            models.Index(fields=["kind", "at", "sequence"], condition=BY_CUSTOMERS, name="unlocks_entry_customers"),
            models.Index(fields=["ip", "at", "sequence"], condition=Q(ip__isnull=False), name="unlocks_entry_ip"),
            models.Index(fields=["amount"], condition=Q(amount__isnull=False), name="unlocks_entry_amount"),
            models.Index(fields=["fields", "at", "sequence"], condition=~Q(fields=""), name="unlocks_entry_fields"),
            models.Index(
                fields=["refusals", "at", "sequence"], condition=~Q(refusals=""), name="unlocks_entry_refusals"
            ),
            # Who typed a PIN for a request is asked for each batch, and must not cost all that they ever did.
            models.Index(
                fields=["unlock_request", "user"],
                condition=Q(kind="pin_typed"),
                name="unlocks_entry_pin_typed",
            ),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["previous_hash"],
                name="unlocks_entry_follows_one",
                violation_error_message="Another entry follows this one already.",
            ),
            models.UniqueConstraint(
                fields=["hash"],
                name="unlocks_entry_hash_once",
                violation_error_message="This entry is in the ledger already.",
            ),
        ]

    def __str__(self) -> str:
        return f"Entry {self.sequence}"
