from typing import Self

from django.conf import settings
from django.contrib.auth.models import User
from django.db import models
from django.db.models import Q


class SavedViewQuerySet(models.QuerySet["SavedView"]):
    def visible_to(self, user: User) -> Self:
        """Leave those that `user` saved, or that a colleague shares."""
        return self.filter(Q(owner=user) | Q(shared=True))


class SavedView(models.Model):
    """A list as someone narrowed and sorted it, under a name. `list` is the name of its model, `query` the address's.

    Working data of its owner, not evidence: it may be changed and deleted.
    """

    list = models.CharField(max_length=40)
    name = models.CharField(max_length=60)
    query = models.CharField(max_length=2000)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", db_index=False)
    shared = models.BooleanField("share it with colleagues", default=False)
    made_at = models.DateTimeField()

    objects = SavedViewQuerySet.as_manager()

    class Meta:
        ordering = ["name", "id"]
        default_permissions = ()
        indexes = [models.Index(fields=["list"], condition=Q(shared=True), name="unlocks_view_shared")]
        constraints = [
            models.UniqueConstraint(
                fields=["owner", "list", "name"],
                name="unlocks_view_name_once",
                violation_error_message="You have a view with this name already.",
            ),
        ]

    def __str__(self) -> str:
        return self.name
