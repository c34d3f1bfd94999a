from django.conf import settings
from django.db import models


class StaffLink(models.Model):
    """A link by which a colleague sets their own password: the invitation, or a reset. Only the newest one works.

    `token_hash` is the SHA-256 of its token, which is in the email and nowhere else.
    """

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="staff_links")
    sent_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    sent_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    token_hash = models.CharField(max_length=64, unique=True, editable=False)
    used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"Link of {self.user}"
