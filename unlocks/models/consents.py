from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import OuterRef, Q, QuerySet, Subquery

from ..texts import normalize
from .accounts import Contact
from .batches import Batch
from .requests import RequestedBatch, UnlockRequest


class ConsentTerms(models.Model):
    """A version of the text that customers agree to: a draft until it is published, then frozen.

    `text` may hold the placeholders of `unlocks.texts.wording`. `drafted_by` is who changed it last.
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

    def __str__(self) -> str:
        return f"Terms version {self.version}"


class ConsentLink(models.Model):
    """A link emailed to an Admin contact. It works once, and only the SHA-256 of its token is stored."""

    unlock_request = models.ForeignKey(UnlockRequest, on_delete=models.PROTECT, related_name="links")
    sent_to = models.ForeignKey(Contact, on_delete=models.PROTECT, related_name="+")
    email = models.EmailField()
    terms = models.ForeignKey(ConsentTerms, on_delete=models.PROTECT, related_name="+")
    token_hash = models.CharField(max_length=64, editable=False)
    sent_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    shown_to = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, db_index=False, related_name="+"
    )
    sent_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    pin_verified_at = models.DateTimeField(null=True, blank=True)
    used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    # Only in the process that sends it.
    url: str = ""

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["token_hash"],
                name="unlocks_link_token_once",
                violation_error_message="This token is in use already.",
            ),
            models.UniqueConstraint(
                fields=["unlock_request"],
                condition=Q(used_at__isnull=True, revoked_at__isnull=True),
                name="unlocks_link_one_live_a_request",
                violation_error_message="This request already has a consent link. Revoke it first.",
            ),
        ]

    def __str__(self) -> str:
        return f"Link for {self.email}"


class LinkOpening(models.Model):
    """The first time that the form behind a link was opened from one address with one browser.

    Scanners of mailboxes open it too. `position` counts from 1 to MOST; what opens the form after that leaves no row.
    """

    MOST = 50

    link = models.ForeignKey(ConsentLink, on_delete=models.PROTECT, related_name="openings")
    position = models.PositiveSmallIntegerField()
    at = models.DateTimeField()
    ip = models.GenericIPAddressField(null=True, blank=True)
    browser = models.CharField(max_length=400, blank=True)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                fields=["link", "position"],
                name="unlocks_opening_position",
                violation_error_message="This link already has an opening at this position.",
            ),
            models.CheckConstraint(
                condition=Q(position__lte=50),
                name="unlocks_opening_at_most_fifty",
                violation_error_message="At most 50 openings of a link are recorded.",
            ),
        ]

    def __str__(self) -> str:
        return f"Opening {self.position} of link {self.link_id}"


class Consent(models.Model):
    """A customer's decision: agreed to, or declined, exactly the text and the batches that were shown.

    `text` is all that was shown or read to the customer, word for word, and `text_sha256` its SHA-256 in hex.
    `ticked` lists the labels of the boxes that were checked, and `pressed` is the label of the button.
    `contact_name` is the name that was on file, and `opening` the one that led to the decision; a link that was opened
    more often than is recorded has none. A row never changes; what is empty was not recorded.
    """

    class Decision(models.TextChoices):
        AGREED = "agreed", "Agreed"
        DECLINED = "declined", "Declined"

    class How(models.TextChoices):
        LINK = "link", "By the customer, through the consent link"
        PHONE = "phone", "Recorded by phone (lower assurance)"

    unlock_request = models.ForeignKey(UnlockRequest, on_delete=models.PROTECT, related_name="consents")
    link = models.OneToOneField(ConsentLink, on_delete=models.PROTECT, null=True, blank=True, related_name="consent")
    opening = models.ForeignKey(
        LinkOpening, on_delete=models.PROTECT, null=True, blank=True, db_index=False, related_name="+"
    )
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
    receipt_hash = models.CharField(max_length=64, editable=False)

    class Meta:
        ordering = ["-id"]
        permissions = [
            ("record_phone_consent", "Can record a customer's consent by phone, where the policy allows it"),
        ]
        indexes = [
            models.Index(fields=["unlock_request"], condition=Q(how="phone"), name="unlocks_consent_by_phone"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["receipt_hash"],
                name="unlocks_consent_receipt_once",
                violation_error_message="This token is in use already.",
            ),
            models.CheckConstraint(
                condition=~Q(signer_name="")
                & (
                    Q(decision="agreed", valid_until__isnull=False, batch_count__gt=0) & ~Q(signer_role="")
                    | Q(decision="declined", valid_until__isnull=True, batch_count=0)
                ),
                name="unlocks_consent_is_signed",
                violation_error_message="A decision has a signer; an agreed one also has a role, batches and an end.",
            ),
            models.CheckConstraint(
                condition=Q(how="link", link__isnull=False, recorded_by__isnull=True)
                | Q(how="phone", link__isnull=True, opening__isnull=True, recorded_by__isnull=False),
                name="unlocks_consent_how_matches",
                violation_error_message="A consent comes through a link, or is recorded by a named member of staff.",
            ),
        ]

    def __str__(self) -> str:
        return self.reference

    @property
    def reference(self) -> str:
        return f"CN-{self.pk:06d}"

    @property
    def signed_by_another(self) -> bool:
        """Whether the name that was typed is another than that of the contact on file."""
        known = bool(self.signer_name and self.contact_name)
        return known and normalize.person(self.signer_name) != normalize.person(self.contact_name)

    @property
    def recorded_by_phone(self) -> bool:
        return self.how == self.How.PHONE


def how_consented(unlock_request: Any) -> Subquery:
    """Return, as an expression, how the latest answer in the request with this key was given: a `Consent.How`."""
    return Subquery(Consent.objects.filter(unlock_request=unlock_request).order_by("-pk").values("how")[:1])


def consented(requests: QuerySet[UnlockRequest], how: str) -> QuerySet[UnlockRequest]:
    """Return those of some requests whose latest answer came this way, a `Consent.How`."""
    if how == Consent.How.PHONE:  # few, and an index has them; of the other kind most requests are
        requests = requests.filter(pk__in=Consent.objects.filter(how=how).values("unlock_request"))
    return requests.alias(latest=how_consented(OuterRef("pk"))).filter(latest=how)


class ConsentedBatch(models.Model):
    """A batch that a consent covers, as it was when the consent was given, with the fingerprint of its content."""

    consent = models.ForeignKey(Consent, on_delete=models.PROTECT, related_name="batches", db_index=False)
    requested_batch = models.ForeignKey(RequestedBatch, on_delete=models.PROTECT, related_name="+")
    batch = models.ForeignKey(Batch, on_delete=models.PROTECT, related_name="+")
    number = models.CharField(max_length=40, blank=True)
    name = models.CharField(max_length=200, blank=True)
    total = models.DecimalField(max_digits=14, decimal_places=2, null=True)
    item_count = models.PositiveIntegerField("items", null=True)
    fingerprint = models.CharField(max_length=64)
    # From 1 to the consent's batch_count, so that nothing joins a consent later.
    position = models.PositiveIntegerField()

    class Meta:
        verbose_name_plural = "consented batches"
        constraints = [
            models.UniqueConstraint(
                fields=["consent", "position"],
                name="unlocks_consented_position",
                violation_error_message="This consent already has a batch at this position.",
            ),
            models.UniqueConstraint(
                fields=["consent", "batch"],
                name="unlocks_consented_once",
                violation_error_message="This consent already covers this batch.",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.batch} under {self.consent}"


class ConsentWithdrawal(models.Model):
    """The withdrawal of a consent by the customer. The consent itself stays as it was given."""

    consent = models.OneToOneField(Consent, on_delete=models.PROTECT, related_name="withdrawal")
    at = models.DateTimeField()
    by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    actor = models.CharField(max_length=200)
    why = models.TextField(max_length=2000)

    def __str__(self) -> str:
        return f"{self.consent} withdrawn"


class ResentReceipt(models.Model):
    """A receipt that was emailed again, with a new link. Only the SHA-256 of its token is stored."""

    consent = models.ForeignKey(Consent, on_delete=models.PROTECT, related_name="resent_receipts")
    email = models.EmailField()
    token_hash = models.CharField(max_length=64, editable=False)
    sent_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    sent_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["token_hash"],
                name="unlocks_resent_token_once",
                violation_error_message="This token is in use already.",
            ),
        ]

    def __str__(self) -> str:
        return f"Receipt of {self.consent} issued again"


class ConsentEvidence(models.Model):
    """A signed paper or an email that shows what the customer agreed to. The file is stored by its SHA-256."""

    class What(models.TextChoices):
        SIGNED_PAPER = "signed_paper", "Signed paper"
        EMAIL = "email", "Email from the customer"

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
                violation_error_message="This file is already attached to this consent.",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_what_display()}: {self.file_name}"
