from datetime import datetime

from django.conf import settings
from django.db import models
from django.db.models import Q


class CaseFiles(models.Model):
    """Case files of several requests in one ZIP, which the worker makes as whoever ordered it and keeps for some days.

    `id` is that of the act that ordered it, whose ledger entry has the digest of `requests`, their keys: nothing is
    made for who writes a row of their own. `sha256` is that of the ZIP file. Working data; what was ordered, made and
    downloaded is in the ledger.
    """

    class State(models.TextChoices):
        QUEUED = "queued", "Being made"
        MADE = "made", "Ready"
        FAILED = "failed", "Not made"
        DELETED = "deleted", "Deleted"
        CANCELED = "canceled", "Canceled"

    id = models.UUIDField(primary_key=True, editable=False)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", db_index=False)
    at = models.DateTimeField()
    requests = models.JSONField(default=list)
    narrowed = models.JSONField(default=list)
    state = models.CharField(max_length=10, choices=State.choices, default=State.QUEUED)
    tries = models.PositiveSmallIntegerField(default=0)
    next_try_at = models.DateTimeField()
    done = models.PositiveIntegerField(default=0)
    faults = models.PositiveIntegerField(default=0)
    size = models.PositiveBigIntegerField(null=True)
    sha256 = models.CharField(max_length=64, blank=True)
    answer = models.TextField(blank=True)
    done_at = models.DateTimeField(null=True)

    class Meta:
        default_permissions = ("view",)
        ordering = ["-at"]
        verbose_name = verbose_name_plural = "case files"
        indexes = [models.Index(fields=["next_try_at"], condition=Q(state="queued"), name="unlocks_case_files_wait")]

    def __str__(self) -> str:
        return f"case-files-{self.at:%Y-%m-%d}-{str(self.id)[:8]}"

    @property
    def keep_until(self) -> datetime | None:
        """When its ZIP is deleted; None where there never was one."""
        made = self.state in (self.State.MADE, self.State.DELETED)
        return self.done_at + settings.CASE_FILE_LIFETIME if self.done_at and made else None
