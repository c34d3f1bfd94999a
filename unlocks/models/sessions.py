from importlib import import_module
from typing import Any

from django.conf import settings
from django.contrib.sessions.base_session import AbstractBaseSession
from django.db import models


class DeskSession(AbstractBaseSession):
    """A browser that is signed in, or about to. `session_key` is a hash of the key, which the browser alone holds.

    Its data is encrypted for this row alone (`unlocks.signin.sessions`): what someone typed while signed out, and a
    secret that is being set up, pass through it.
    """

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, null=True, blank=True, related_name="sessions"
    )

    class Meta:
        verbose_name = "session"
        default_permissions = ()

    def __str__(self) -> str:
        return f"Session of {self.user}" if self.user else "Session of nobody yet"

    @classmethod
    def get_session_store_class(cls) -> Any:
        return import_module(settings.SESSION_ENGINE).SessionStore


class CacheRow(models.Model):
    """What all processes share for a while, as JSON: how many codes were tried, and which were used. Soon deleted."""

    cache_key = models.CharField(max_length=255, primary_key=True)
    value = models.TextField()
    expires = models.DateTimeField(db_index=True)

    class Meta:
        db_table = "unlocks_cache"
        default_permissions = ()

    def __str__(self) -> str:
        return self.cache_key
