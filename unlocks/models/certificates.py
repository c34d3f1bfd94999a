from django.conf import settings
from django.db import models

from .consents import Consent


class Certificate(models.Model):
    """What proves a consent outside the desk: its facts as they stood when it was issued, signed.

    `content` is the JSON file and `pdf` the PDF file, byte for byte as they are downloaded, with the SHA-256 (hex) of
    each. `upto` is the sequence of the case's newest ledger entry that it tells of. Interim: the case was still open.
    """

    consent = models.ForeignKey(Consent, on_delete=models.PROTECT, related_name="certificates")
    ordinal = models.PositiveIntegerField()
    code = models.CharField(max_length=20)
    interim = models.BooleanField()
    upto = models.PositiveBigIntegerField()
    issued_at = models.DateTimeField()
    issued_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+")
    content = models.TextField()
    sha256 = models.CharField("SHA-256 of the JSON", max_length=64, unique=True)
    pdf = models.BinaryField()
    pdf_sha256 = models.CharField("SHA-256 of the PDF", max_length=64, unique=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["consent", "ordinal"],
                name="unlocks_certificate_numbered_once",
                violation_error_message="This consent has a certificate with this number already.",
            ),
        ]

    def __str__(self):
        return self.number

    @property
    def number(self):
        return f"{self.consent.reference}-{self.ordinal}"


class CheckTry(models.Model):
    """How often the public check page was used from one place in one stretch of time. No evidence; swept away."""

    place = models.CharField(max_length=64)
    since = models.DateTimeField()
    count = models.PositiveIntegerField()

    class Meta:
        default_permissions = ()
        verbose_name_plural = "check tries"
        constraints = [
            models.UniqueConstraint(
                fields=["place", "since"],
                name="unlocks_check_try_once",
                violation_error_message="This stretch of time is counted already.",
            ),
        ]

    def __str__(self):
        return f"{self.count} tries since {self.since}"
