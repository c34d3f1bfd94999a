import uuid

from django.conf import settings
from django.db import models


class Import(models.Model):
    """Records that came in together: from whom, by which way, and when."""

    class Source(models.TextChoices):
        FILE = "file", "File"
        COMMAND = "command", "Command"
        API = "api", "API"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    source = models.CharField(max_length=10, choices=Source.choices)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+")
    actor = models.CharField(max_length=200)
    at = models.DateTimeField()

    class Meta:
        ordering = ["-at"]

    def __str__(self) -> str:
        return f"Import of {self.at:%Y-%m-%d %H:%M:%S}"
