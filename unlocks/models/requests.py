from urllib.parse import quote

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.urls import reverse

from .accounts import Account, Contact
from .batches import Batch
from .ordering import LatestFirst
from .tracking import Tracked

BYPASS_OTHER = 200  # letters
TICKET = 60  # letters


class UnlockRequest(models.Model):
    """A request by an Admin of an account that Support unlock the bypassed batches it names."""

    class Channel(models.TextChoices):
        PHONE = "phone", "Phone"
        EMAIL = "email", "Email"
        CHAT = "chat", "Chat"
        PORTAL = "portal", "Customer portal"

    class BypassReason(models.TextChoices):
        ALREADY_ENTERED = "already_entered", "Already in the accounting software"
        MIRRORS_MANUAL_CHANGE = "mirrors_manual_change", "Adjustment that mirrors a manual change there"
        INVENTORY_ADJUSTMENT = "inventory_adjustment", "Inventory adjustment that does not need to be exported"
        NO_INTEGRATION = "no_integration", "No accounting integration at the time"
        BY_MISTAKE = "by_mistake", "By mistake"
        IMPORTED_DATA = "imported_data", "Imported data, marked as exported when it came in"
        OTHER = "other", "Other"
        NOT_KNOWN = "not_known", "Not known"

    class Advice(models.TextChoices):
        MANUAL_ENTRY = "manual_entry", "Customer enters the items by hand"
        WANTS_EXPORT = "wants_export", "Customer wants to export the batches"

    class Status(models.TextChoices):
        OPEN = "open", "Open"
        AWAITING_CONSENT = "awaiting_consent", "Waiting for the customer"
        CONSENTED = "consented", "Customer agreed"
        UNLOCKED = "unlocked", "Unlocked"
        CLOSED = "closed", "Closed"

    class Resolution(models.TextChoices):
        RE_EXPORTED = "re_exported", "Re-exported"
        ENTERED_MANUALLY = "entered_manually", "Entered by hand"
        RELOCKED_UNUSED = "relocked_unused", "Relocked unused"
        DECLINED = "declined", "Customer declined"
        WITHDRAWN = "withdrawn", "Consent withdrawn"
        CANCELED = "canceled", "Canceled"
        EXPIRED = "expired", "Expired"
        NOT_ELIGIBLE = "not_eligible", "Not eligible"

    class PinTypedBy(models.TextChoices):
        CUSTOMER = "customer", "by the customer"
        AGENT = "agent", "typed by an agent (lower assurance)"

    class Stage(models.TextChoices):
        NEW = "new", "New"
        SENT = "sent", "Link not opened yet"
        READING = "reading", "Customer opened the link"
        READY = "ready", "Ready to unlock"
        PRODUCT = "product", "With the product"
        UNLOCKED = "unlocked", "Unlocked"
        TO_CLOSE = "to_close", "To be closed"

    class Step(models.TextChoices):
        """How far a case came; when it first did is in the column `<step>_at`."""

        OPENED = "opened", "Opened"
        ASKED = "asked", "Consent asked for"
        CONSENTED = "consented", "Customer agreed"
        UNLOCKED = "unlocked", "Unlocked"
        RE_EXPORTED = "re_exported", "Re-exported"
        CLOSED = "closed", "Closed"

    class Trouble(models.TextChoices):
        PRODUCT = "product", "The product did not do it"
        EMAIL = "email", "An email failed"
        NO_LINK = "no_link", "No link works"
        NOBODYS = "nobodys", "Nobody’s"
        GONE = "gone", "Colleague deactivated"

    # In these cases the items are in the books already, and unlocking leads to duplicates.
    DUPLICATE_LIKELY = (BypassReason.ALREADY_ENTERED, BypassReason.MIRRORS_MANUAL_CHANGE)

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="requests")
    requester = models.ForeignKey(Contact, on_delete=models.PROTECT, related_name="requests", verbose_name="asked by")
    channel = models.CharField(max_length=10, choices=Channel.choices)
    bypass_reason = models.CharField("why bypassed", max_length=30, choices=BypassReason.choices)
    bypass_other = models.CharField("other reason", max_length=BYPASS_OTHER, blank=True)
    reason = models.TextField("reason for the unlock", max_length=2000)
    status = models.CharField(max_length=20, choices=Status.choices, default=Status.OPEN)
    assignee = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    opened_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    opened_at = models.DateTimeField()
    ticket_system = models.CharField(max_length=TICKET, blank=True)
    ticket_number = models.CharField("ticket", max_length=TICKET, blank=True)
    advice = models.CharField("safer route", max_length=20, choices=Advice.choices, blank=True)
    advised_at = models.DateTimeField(null=True, blank=True)
    pin_verified_at = models.DateTimeField("PIN verified at", null=True, blank=True)
    pin_typed_by = models.CharField("PIN typed", max_length=10, choices=PinTypedBy.choices, blank=True)
    pin_verified_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    closed_at = models.DateTimeField(null=True, blank=True)
    resolution = models.CharField(max_length=20, choices=Resolution.choices, blank=True)
    # Derived by `unlocks.stages`, for the queue: what a closed case has none of is blank.
    stage = models.CharField(max_length=10, choices=Stage.choices, blank=True, editable=False)
    stage_since = models.DateTimeField(null=True, blank=True, editable=False)
    due_at = models.DateTimeField(null=True, blank=True, editable=False)
    trouble = models.CharField(max_length=10, choices=Trouble.choices, blank=True, editable=False)
    # What its lines sum up to: a list finds no request by a sum that it has to make first. Of a closed one, as it was.
    batch_count = models.PositiveIntegerField("batches", db_default=0, default=0, editable=False)
    amount = models.DecimalField("total", max_digits=18, decimal_places=2, db_default=0, default=0, editable=False)
    # When it first came so far, for the managers' figures.
    asked_at = models.DateTimeField("consent asked for", null=True, blank=True, editable=False)
    consented_at = models.DateTimeField("customer agreed", null=True, blank=True, editable=False)
    unlocked_at = models.DateTimeField("unlocked", null=True, blank=True, editable=False)
    re_exported_at = models.DateTimeField("re-exported", null=True, blank=True, editable=False)
    rework = models.BooleanField("unlocked again within 90 days", db_default=False, default=False, editable=False)
    warned = models.BooleanField("warning overridden", db_default=False, default=False, editable=False)

    history = Tracked(
        no_db_index=["account", "requester", "assignee", "opened_by", "pin_verified_by"],
        excluded_fields=[
            "stage",
            "stage_since",
            "due_at",
            "trouble",
            "batch_count",
            "amount",
            "asked_at",
            "consented_at",
            "unlocked_at",
            "re_exported_at",
            "rework",
            "warned",
        ],
    )

    class Meta:
        ordering = ["-id"]
        permissions = [
            ("open_request", "Can open unlock requests and work on them"),
            ("verify_pin", "Can verify an account's PIN"),
            ("send_consent_link", "Can send and revoke consent links"),
            ("withdraw_consent", "Can record that a customer withdraws a consent"),
            ("make_case_file", "Can make the case file of a request"),
        ]
        indexes = [
            models.Index(fields=["status", "-id"], name="unlocks_request_status"),
            models.Index(fields=["assignee", "status", "-id"], name="unlocks_request_assignee"),
            models.Index(fields=["due_at", "id"], condition=Q(due_at__isnull=False), name="unlocks_request_due"),
            models.Index(fields=["stage", "due_at", "id"], condition=Q(trouble=""), name="unlocks_request_stage"),
            models.Index(fields=["due_at", "id"], condition=~Q(trouble=""), name="unlocks_request_trouble"),
            models.Index(fields=["stage_since", "id"], name="unlocks_request_since"),
            models.Index(LatestFirst("stage_since"), name="unlocks_request_since_last"),
            models.Index(fields=["ticket_number"], condition=~Q(ticket_number=""), name="unlocks_request_ticket"),
            models.Index(fields=["bypass_reason", "-id"], name="unlocks_request_reason"),
            models.Index(fields=["channel", "-id"], name="unlocks_request_channel"),
            models.Index(fields=["resolution", "-id"], name="unlocks_request_resolution"),
            models.Index(fields=["opened_at", "advice", "account"], name="unlocks_request_opened"),
            models.Index(fields=["asked_at"], condition=Q(asked_at__isnull=False), name="unlocks_request_asked"),
            models.Index(
                fields=["consented_at"], condition=Q(consented_at__isnull=False), name="unlocks_request_agreed"
            ),
            models.Index(
                fields=["unlocked_at"], condition=Q(unlocked_at__isnull=False), name="unlocks_request_unlocked"
            ),
            models.Index(
                fields=["re_exported_at"], condition=Q(re_exported_at__isnull=False), name="unlocks_request_exported"
            ),
            # With all that how long its steps took is counted by: no row has to be read for that.
            models.Index(
                fields=["closed_at", "opened_at", "asked_at", "consented_at", "unlocked_at"],
                condition=Q(closed_at__isnull=False),
                name="unlocks_request_closed",
            ),
            models.Index(fields=["stage", "opened_at"], condition=~Q(stage=""), name="unlocks_request_backlog"),
            models.Index(fields=["unlocked_at"], condition=Q(rework=True), name="unlocks_request_rework"),
            models.Index(fields=["closed_at"], condition=Q(warned=True), name="unlocks_request_warned"),
            models.Index(fields=["amount"], name="unlocks_request_amount"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(status__in=["open", "awaiting_consent", "consented", "unlocked", "closed"]),
                name="unlocks_request_status_known",
                violation_error_message="A request is open, waiting, ready, unlocked or closed.",
            ),
            models.CheckConstraint(
                condition=Q(status="closed", closed_at__isnull=False) & ~Q(resolution="")
                | ~Q(status="closed") & Q(closed_at__isnull=True, resolution=""),
                name="unlocks_request_closed_has_resolution",
                violation_error_message="A request has a resolution and a closing time exactly while it is closed.",
            ),
            models.CheckConstraint(
                condition=Q(bypass_reason="other") & ~Q(bypass_other="")
                | ~Q(bypass_reason="other") & Q(bypass_other=""),
                name="unlocks_request_other_reason_said",
                violation_error_message="Say what the other reason is, and only then.",
            ),
        ]

    def __str__(self) -> str:
        return self.reference

    @property
    def reference(self) -> str:
        return self.reference_of(self.pk)

    @staticmethod
    def reference_of(pk: int) -> str:
        return f"UR-{pk:06d}"

    @property
    def why_bypassed(self) -> str:
        """Why the batches were bypassed, in the words of whoever said another reason than those on the form."""
        label = self.get_bypass_reason_display()
        return f"{label}: {self.bypass_other}" if self.bypass_other else label

    @property
    def duplicate_likely(self) -> bool:
        return self.bypass_reason in self.DUPLICATE_LIKELY

    @property
    def ticket(self) -> str:
        return " ".join(filter(None, [self.ticket_system, self.ticket_number]))

    @property
    def ticket_url(self) -> str:
        """The address of the ticket, '' unless there is a pattern for its system."""
        pattern = settings.TICKET_SYSTEMS.get(self.ticket_system, "") if self.ticket_number else ""
        return pattern.replace("{}", quote(self.ticket_number, safe=""))

    def get_absolute_url(self) -> str:
        return reverse("admin:unlocks_unlockrequest_change", args=[self.pk])


class RequestedBatch(models.Model):
    """One batch in one request, and its outcome. `consented` is the consent that covers it, if any."""

    class Outcome(models.TextChoices):
        WAITING = "waiting", "Not unlocked yet"
        UNLOCKING = "unlocking", "Unlocking"
        UNLOCKED = "unlocked", "Unlocked"
        RELOCKING = "relocking", "Relocking"
        RE_EXPORTED = "re_exported", "Re-exported"
        RELOCKED = "relocked", "Relocked"
        REFUSED = "refused", "Refused by the product"
        NOT_UNLOCKED = "not_unlocked", "Never unlocked"

    # While its batch has a grant; the names are those of the batch's status.
    GRANTED = (Outcome.UNLOCKING, Outcome.UNLOCKED, Outcome.RELOCKING)
    OPEN = (Outcome.WAITING, *GRANTED)
    # Once it was unlocked, and is not any more.
    LOCKED_AGAIN = (Outcome.RE_EXPORTED, Outcome.RELOCKED)

    unlock_request = models.ForeignKey(UnlockRequest, on_delete=models.PROTECT, related_name="lines")
    batch = models.ForeignKey(Batch, on_delete=models.PROTECT, related_name="lines")
    outcome = models.CharField(max_length=12, choices=Outcome.choices, default=Outcome.WAITING)
    consented = models.ForeignKey(
        "ConsentedBatch", on_delete=models.PROTECT, null=True, blank=True, related_name="+", editable=False
    )

    history = Tracked(no_db_index=["unlock_request", "batch", "consented"])

    class Meta:
        ordering = ["id"]
        verbose_name_plural = "requested batches"
        constraints = [
            models.UniqueConstraint(
                fields=["unlock_request", "batch"],
                name="unlocks_line_once_a_request",
                violation_error_message="This batch is already in this request.",
            ),
            models.UniqueConstraint(
                fields=["batch"],
                condition=Q(outcome__in=["waiting", "unlocking", "unlocked", "relocking"]),
                name="unlocks_line_one_open_request",
                violation_error_message="This batch is already in another open request.",
            ),
            models.CheckConstraint(
                condition=Q(
                    outcome__in=[
                        "waiting",
                        "unlocking",
                        "unlocked",
                        "relocking",
                        "re_exported",
                        "relocked",
                        "refused",
                        "not_unlocked",
                    ]
                ),
                name="unlocks_line_outcome_known",
                violation_error_message="This is not a known outcome.",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.batch} in {self.unlock_request}"
