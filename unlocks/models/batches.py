from typing import Self

from django.conf import settings
from django.db import models
from django.db.models import Q

from .accounts import EXTERNAL_ID, Account
from .ordering import LatestFirst
from .searched import plain
from .tracking import Tracked

MONEY_ENDS = 10**12  # SQLite would keep a longer amount than the column has digits for, and fail to read it


class Batch(models.Model):
    """A batch of an account's transactions, as the vendor's product holds it.

    `grant` is the consent that it is unlocked under and `unlocked_by` who instructed it, from unlocking to relocking;
    `unlocked_until` is set from the product's answer on, and `extension` is the act that moved it, once. `fingerprint`
    is the SHA-256 (hex) of its content and items, '' when they changed since it was last taken; the database blanks it.

    Of what the product says, `as_of` is when it said so, `reached_by` how the batch came to its state, and `differs`
    a status that no arrow of ours leads to, '' for none: exported there, say, and bypassed here.
    """

    class Status(models.TextChoices):
        PENDING = "pending", "Pending"
        POSTED = "posted", "Posted"
        EXPORTED = "exported", "Exported"
        BYPASSED = "bypassed", "Bypassed"
        UNLOCKING = "unlocking", "Unlocking"
        UNLOCKED = "unlocked", "Unlocked"
        RELOCKING = "relocking", "Relocking"

    class ReachedBy(models.TextChoices):
        SENT = "sent", "Sent to the accounting software"
        BYPASSED = "bypassed", "Bypassed by the customer"
        IMPORTED = "imported", "Imported into the product"
        MARKED_BY_API = "marked_by_api", "Marked as exported by an integration"
        ZERO_PAYMENT = "zero_payment", "Bypassed by itself: a payment of $0"

    # While it has a grant: from the instruction to unlock it to the answer that it is relocked.
    GRANTED = (Status.UNLOCKING, Status.UNLOCKED, Status.RELOCKING)

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="batches", db_index=False)
    number = models.CharField(max_length=40)
    number_plain = plain("number")
    name = models.CharField(max_length=200, blank=True)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.PENDING)
    total = models.DecimalField(max_digits=14, decimal_places=2, default=0)
    item_count = models.PositiveIntegerField("items", default=0)
    posted_on = models.DateField(null=True, blank=True)
    bypassed_on = models.DateField(null=True, blank=True)
    exported_on = models.DateField(null=True, blank=True)
    period_closed = models.BooleanField("accounting period closed", default=False)
    fingerprint = models.CharField(max_length=64, blank=True, editable=False)
    grant = models.ForeignKey(
        "ConsentedBatch", on_delete=models.PROTECT, null=True, blank=True, related_name="+", editable=False
    )
    unlocked_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+", editable=False
    )
    unlocked_until = models.DateTimeField(null=True, blank=True, editable=False)
    extension = models.ForeignKey(
        "Act", on_delete=models.PROTECT, null=True, blank=True, related_name="+", editable=False, db_index=False
    )
    reached_by = models.CharField(max_length=20, choices=ReachedBy.choices, blank=True, editable=False)
    differs = models.CharField("in the product", max_length=10, choices=Status.choices, blank=True, editable=False)
    as_of = models.DateTimeField("data as of", null=True, blank=True, editable=False)
    external_id = models.CharField("external ID", max_length=EXTERNAL_ID, blank=True, editable=False)
    # Of the items as an import brought them last: what comes in the same once more is not compared one by one.
    items_sha256 = models.CharField(max_length=64, blank=True, db_default="", editable=False)

    # Not `as_of`: that the product says the same again is no change.
    history = Tracked(
        no_db_index=["account", "grant", "unlocked_by", "extension"],
        excluded_fields=["fingerprint", "number_plain", "as_of", "items_sha256"],
    )

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "batches"
        permissions = [
            ("unlock_batch", "Can unlock batches"),
            ("relock_batch", "Can relock unlocked batches"),
            ("extend_window", "Can extend the window of unlocked batches"),
            ("mark_re_exported_batch", "Can mark unlocked batches as re-exported"),
        ]
        indexes = [
            models.Index(fields=["account", "-id"], name="unlocks_batch_account"),
            models.Index(fields=["status", "-id"], name="unlocks_batch_status"),
            models.Index(fields=["bypassed_on"], name="unlocks_batch_bypassed_on"),
            models.Index(LatestFirst("bypassed_on"), name="unlocks_batch_bypassed_last"),
            models.Index(fields=["-id"], condition=Q(period_closed=True), name="unlocks_batch_period_closed"),
            models.Index(fields=["unlocked_until"], condition=Q(status="unlocked"), name="unlocks_batch_window"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["account", "number"],
                name="unlocks_batch_number_once",
                violation_error_message="This account already has a batch with this number.",
            ),
            models.CheckConstraint(
                condition=Q(
                    status__in=["pending", "posted", "exported", "bypassed", "unlocking", "unlocked", "relocking"]
                ),
                name="unlocks_batch_status_known",
                violation_error_message="A batch is pending, posted, exported, bypassed, unlocking, unlocked or "
                "relocking.",
            ),
            models.CheckConstraint(
                condition=Q(
                    status__in=["unlocking", "unlocked", "relocking"], grant__isnull=False, unlocked_by__isnull=False
                )
                | ~Q(status__in=["unlocking", "unlocked", "relocking"])
                & Q(grant__isnull=True, unlocked_by__isnull=True),
                name="unlocks_batch_grant_iff_unlocked",
                violation_error_message="A batch has a grant and an unlocker exactly from unlocking to relocking.",
            ),
            models.CheckConstraint(
                condition=Q(status="unlocked", unlocked_until__isnull=False)
                | Q(status="relocking")
                | ~Q(status__in=["unlocked", "relocking"]) & Q(unlocked_until__isnull=True, extension__isnull=True),
                name="unlocks_batch_window_once_unlocked",
                violation_error_message="An unlocked batch has an end, from the product's answer on.",
            ),
            models.CheckConstraint(
                condition=Q(total__gt=-MONEY_ENDS, total__lt=MONEY_ENDS),
                name="unlocks_batch_total_fits",
                violation_error_message="A total has at most twelve digits before the point.",
            ),
            models.CheckConstraint(
                condition=~Q(status="exported") | Q(exported_on__isnull=False),
                name="unlocks_batch_exported_has_day",
                violation_error_message="An exported batch has an export date.",
            ),
            models.CheckConstraint(
                condition=~Q(status__in=["bypassed", "unlocking", "unlocked", "relocking"])
                | Q(bypassed_on__isnull=False),
                name="unlocks_batch_bypassed_has_day",
                violation_error_message="A batch that was bypassed has a bypass date.",
            ),
            models.CheckConstraint(
                condition=Q(reached_by__in=["", "sent", "bypassed", "imported", "marked_by_api", "zero_payment"]),
                name="unlocks_batch_reached_by_known",
                violation_error_message="A batch reached its state by being sent, bypassed, imported, marked by an "
                "integration, or as a payment of $0.",
            ),
            models.CheckConstraint(
                condition=Q(differs__in=["", "pending", "posted", "exported", "bypassed"]),
                name="unlocks_batch_differs_known",
                violation_error_message="The product says that a batch is pending, posted, exported or bypassed.",
            ),
            models.UniqueConstraint(
                fields=["account", "external_id"],
                condition=~Q(external_id=""),
                name="unlocks_batch_external_id_once",
                violation_error_message="Another batch of this account has this external ID.",
            ),
        ]

    def __str__(self) -> str:
        return self.number

    @property
    def other_status(self) -> bool:
        """Whether the product says something else than it should; of one with a grant, bypassed is no news."""
        return self.differs not in ("", self.status, self.Status.BYPASSED if self.status in self.GRANTED else "")


class BatchItemQuerySet(models.QuerySet["BatchItem"]):
    def listed(self) -> Self:
        """Leave those that the product still lists: they are what the batch holds."""
        return self.filter(left_at=None)


class BatchItem(models.Model):
    """One transaction of a batch. A non-empty `export_id` is a warning: it may be in the books already.

    `lines` is the canonical JSON (`digest.canonical`) of a list of objects with the keys of LINE, all strings: kept as
    text, so that the same lines give the same fingerprint on every database. `left_at` is when the product first did
    not list it any more: it stays on file, and no longer counts.
    """

    LINE = ("sku", "description", "quantity", "price", "total", "gl_account")

    class Kind(models.TextChoices):
        INVOICE = "invoice", "Invoice"
        PAYMENT = "payment", "Payment"
        CREDIT_MEMO = "credit_memo", "Credit memo"
        VENDOR_BILL = "vendor_bill", "Vendor bill"
        VENDOR_CREDIT = "vendor_credit", "Vendor credit"
        BILL_PAYMENT = "bill_payment", "Bill payment"
        INVENTORY_ADJUSTMENT = "inventory_adjustment", "Inventory adjustment"
        TRANSFER = "transfer", "Transfer"
        RETURN = "return", "Return"

    batch = models.ForeignKey(Batch, on_delete=models.PROTECT, related_name="items")
    kind = models.CharField(max_length=20, choices=Kind.choices, default=Kind.INVOICE)
    number = models.CharField(max_length=40)
    date = models.DateField()
    customer = models.CharField(max_length=200, blank=True)
    amount = models.DecimalField(max_digits=14, decimal_places=2)
    memo = models.TextField(blank=True)
    export_id = models.CharField(max_length=80, blank=True)
    lines = models.TextField(default="[]")
    disposition = models.CharField(max_length=40, blank=True)
    job_number = models.CharField(max_length=40, blank=True)
    business_unit = models.CharField(max_length=100, blank=True)
    external_id = models.CharField("external ID", max_length=EXTERNAL_ID, blank=True)
    left_at = models.DateTimeField("no longer listed since", null=True, blank=True)

    objects = BatchItemQuerySet.as_manager()
    history = Tracked(no_db_index=["batch"])

    class Meta:
        ordering = ["id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(amount__gt=-MONEY_ENDS, amount__lt=MONEY_ENDS),
                name="unlocks_item_amount_fits",
                violation_error_message="An amount has at most twelve digits before the point.",
            ),
            models.UniqueConstraint(
                fields=["batch", "external_id"],
                condition=~Q(external_id=""),
                name="unlocks_item_external_id_once",
                violation_error_message="Another item of this batch has this external ID.",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.number}"
