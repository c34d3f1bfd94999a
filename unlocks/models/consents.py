from django.conf import settings
from django.db import models
from django.db.models import Q

from .accounts import Contact
from .batches import Batch
from .requests import RequestedBatch, UnlockRequest


class ConsentTerms(models.Model):
    """A version of the text that customers agree to: a draft until it is published, then frozen.

    `text` may hold the placeholders of `unlocks.wording`. `drafted_by` is whoever last changed it.
    """

    version = models.PositiveIntegerField(unique=True)
    title = models.CharField(max_length=200)
    text = models.TextField()
    drafted_at = models.DateTimeField(null=True, blank=True)
    drafted_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    published_at = models.DateTimeField(null=True, blank=True)
    published_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )

    class Meta:
        ordering = ["-version"]
        verbose_name = verbose_name_plural = "consent terms"
        permissions = [
            ("draft_terms", "Can draft consent terms"),
            ("publish_terms", "Can publish consent terms"),
        ]

    def __str__(self):
        return f"Terms version {self.version}"


class ConsentLink(models.Model):
    """The address mailed to an Admin contact. Only the SHA-256 of its token is kept; it works once."""

    unlock_request = models.ForeignKey(UnlockRequest, on_delete=models.PROTECT, related_name="links")
    sent_to = models.ForeignKey(Contact, on_delete=models.PROTECT, related_name="+")
    email = models.EmailField()
    terms = models.ForeignKey(ConsentTerms, on_delete=models.PROTECT, related_name="+")
    token_hash = models.CharField(max_length=64, unique=True, editable=False)
    sent_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    sent_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    first_opened_at = models.DateTimeField(null=True, blank=True)
    first_opened_ip = models.GenericIPAddressField(null=True, blank=True)
    first_opened_browser = models.CharField(max_length=400, blank=True)
    pin_verified_at = models.DateTimeField(null=True, blank=True)
    used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["unlock_request"],
                condition=Q(used_at__isnull=True, revoked_at__isnull=True),
                name="unlocks_link_one_live_a_request",
                violation_error_message="This request has a consent link already; revoke it first.",
            ),
        ]

    def __str__(self):
        return f"Link sent to {self.email}"


class Consent(models.Model):
    """One act of the customer: agreed to, or declined, exactly the text and the batches that were shown.

    `text` is all that was shown (or read out), word for word; `text_sha256` its SHA-256 in hex. `ticked` lists the
    words beside the boxes that were ticked, `pressed` are those on the button. `contact_name` is the name on file then.
    Never changed once written; what is empty was not recorded.
    """

    class Decision(models.TextChoices):
        AGREED = "agreed", "Agreed"
        DECLINED = "declined", "Declined"

    class How(models.TextChoices):
        LINK = "link", "By the customer, through the consent link"
        PHONE = "phone", "Taken down by staff (weaker)"

    unlock_request = models.ForeignKey(UnlockRequest, on_delete=models.PROTECT, related_name="consents")
    link = models.OneToOneField(ConsentLink, on_delete=models.PROTECT, null=True, blank=True, related_name="consent")
    terms = models.ForeignKey(ConsentTerms, on_delete=models.PROTECT, related_name="+")
    text = models.TextField("text as shown")
    text_sha256 = models.CharField("SHA-256 of the text", max_length=64)
    decision = models.CharField(max_length=10, choices=Decision.choices)
    signer_name = models.CharField(max_length=200, blank=True)
    signer_role = models.CharField(max_length=200, blank=True)
    ticked = models.JSONField(default=list, blank=True)
    pressed = models.CharField(max_length=200, blank=True)
    contact = models.ForeignKey(Contact, on_delete=models.PROTECT, related_name="+")
    contact_name = models.CharField(max_length=200, blank=True)
    email = models.EmailField()
    pin_verified_at = models.DateTimeField("PIN verified at", null=True, blank=True)
    pin_typed_by = models.CharField("PIN typed", max_length=10, choices=UnlockRequest.PinTypedBy.choices, blank=True)
    ip = models.GenericIPAddressField(null=True, blank=True)
    browser = models.CharField(max_length=400, blank=True)
    how = models.CharField(max_length=10, choices=How.choices)
    recorded_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    given_at = models.DateTimeField()
    valid_until = models.DateTimeField(null=True, blank=True)
    batch_count = models.PositiveIntegerField(default=0)
    receipt_hash = models.CharField(max_length=64, unique=True, editable=False)

    class Meta:
        ordering = ["-id"]
        permissions = [
            ("record_phone_consent", "Can take a consent down for the customer (phone), where the policy allows it"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(decision="agreed", valid_until__isnull=False, batch_count__gt=0)
                & ~Q(signer_name="")
                & ~Q(signer_role="")
                | Q(decision="declined", valid_until__isnull=True, batch_count=0),
                name="unlocks_consent_agreed_is_signed",
                violation_error_message="A consent that was agreed to has a signer, their role, batches and an end.",
            ),
            models.CheckConstraint(
                condition=Q(how="link", link__isnull=False, recorded_by__isnull=True)
                | Q(how="phone", link__isnull=True, recorded_by__isnull=False),
                name="unlocks_consent_how_matches",
                violation_error_message="A consent comes by a link, or is taken down by a named member of staff.",
            ),
        ]

    def __str__(self):
        return self.reference

    @property
    def reference(self):
        return f"CN-{self.pk:06d}"

    @property
    def recorded_by_phone(self):
        return self.how == self.How.PHONE


class ConsentedBatch(models.Model):
    """A batch that a consent covers, as it stood when the consent was given, with the fingerprint of its content."""

    consent = models.ForeignKey(Consent, on_delete=models.PROTECT, related_name="batches")
    requested_batch = models.ForeignKey(RequestedBatch, on_delete=models.PROTECT, related_name="+")
    batch = models.ForeignKey(Batch, on_delete=models.PROTECT, related_name="+")
    number = models.CharField(max_length=40, blank=True)
    name = models.CharField(max_length=200, blank=True)
    total = models.DecimalField(max_digits=14, decimal_places=2, null=True)
    item_count = models.PositiveIntegerField("items", null=True)
    fingerprint = models.CharField(max_length=64)

    class Meta:
        verbose_name_plural = "consented batches"
        constraints = [
            models.UniqueConstraint(
                fields=["consent", "batch"],
                name="unlocks_consented_once",
                violation_error_message="This consent covers this batch already.",
            ),
        ]

    def __str__(self):
        return f"{self.batch} under {self.consent}"


class ConsentWithdrawal(models.Model):
    """The customer takes a consent back. The consent itself stays as it was given."""

    consent = models.OneToOneField(Consent, on_delete=models.PROTECT, related_name="withdrawal")
    at = models.DateTimeField()
    by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    actor = models.CharField(max_length=200)
    why = models.TextField(max_length=2000)

    def __str__(self):
        return f"{self.consent} withdrawn"


class ResentReceipt(models.Model):
    """A receipt mailed once more, with a link of its own. Only the SHA-256 of its token is kept."""

    consent = models.ForeignKey(Consent, on_delete=models.PROTECT, related_name="resent_receipts")
    email = models.EmailField()
    token_hash = models.CharField(max_length=64, unique=True, editable=False)
    sent_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    sent_at = models.DateTimeField()

    def __str__(self):
        return f"Receipt of {self.consent} sent again"


class ConsentEvidence(models.Model):
    """A signed paper or a mail that shows what the customer agreed to. The file is kept under its own SHA-256."""

    class What(models.TextChoices):
        SIGNED_PAPER = "signed_paper", "Signed paper"
        MAIL = "mail", "Mail from the customer"

    consent = models.ForeignKey(Consent, on_delete=models.PROTECT, related_name="evidence")
    what = models.CharField(max_length=20, choices=What.choices)
    file_name = models.CharField(max_length=200)
    media_type = models.CharField(max_length=40)
    size = models.PositiveIntegerField()
    sha256 = models.CharField("SHA-256 of the file", max_length=64)
    attached_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    attached_at = models.DateTimeField()

    class Meta:
        ordering = ["id"]
        verbose_name_plural = "consent evidence"
        constraints = [
            models.UniqueConstraint(
                fields=["consent", "sha256"],
                name="unlocks_evidence_once",
                violation_error_message="This file is attached to this consent already.",
            ),
        ]

    def __str__(self):
        return f"{self.get_what_display()}: {self.file_name}"
