from django.conf import settings
from django.db import models

from .consents import Consent


class Certificate(models.Model):
    """Proof of a consent for use outside the desk: its facts at the time of issue, signed.

    `content` is the JSON file and `pdf` the PDF file, byte for byte as they are downloaded, with the SHA-256 (hex) of
    each. `upto` is the sequence of the newest ledger entry it includes. An interim one was issued for an open case.
    """

    consent = models.ForeignKey(Consent, on_delete=models.PROTECT, related_name="certificates")
    ordinal = models.PositiveIntegerField()
    code = models.CharField(max_length=20)
    interim = models.BooleanField()
    upto = models.PositiveBigIntegerField()
    issued_at = models.DateTimeField()
    issued_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+")
    content = models.TextField()
    sha256 = models.CharField("SHA-256 of the JSON", max_length=64)
    pdf = models.BinaryField()
    pdf_sha256 = models.CharField("SHA-256 of the PDF", max_length=64)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["sha256"],
                name="unlocks_certificate_json_once",
                violation_error_message="This file is a certificate already.",
            ),
            models.UniqueConstraint(
                fields=["pdf_sha256"],
                name="unlocks_certificate_pdf_once",
                violation_error_message="This file is a certificate already.",
            ),
            models.UniqueConstraint(
                fields=["consent", "ordinal"],
                name="unlocks_certificate_numbered_once",
                violation_error_message="This consent already has a certificate with this number.",
            ),
        ]

    def __str__(self) -> str:
        return self.number

    @property
    def number(self) -> str:
        return f"{self.consent.reference}-{self.ordinal}"


class CheckAttempts(models.Model):
    """How often the public check page was used from one network, or the API by one token, in one window of time.

    Not evidence; soon deleted.
    """

    network = models.CharField(max_length=64)
    window_start = models.DateTimeField()
    count = models.PositiveIntegerField()

    class Meta:
        default_permissions = ()
        verbose_name_plural = "check attempts"
        constraints = [
            models.UniqueConstraint(
                fields=["network", "window_start"],
                name="unlocks_check_attempts_once",
                violation_error_message="This network and window are counted already.",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.count} attempts since {self.window_start}"
