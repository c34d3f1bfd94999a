from typing import Any, Self

from django.conf import settings
from django.db import models
from django.db.models import Exists, OuterRef, Q

from .requests import UnlockRequest


class ReviewQuerySet(models.QuerySet["Review"]):
    def waiting(self) -> Self:
        """Leave those of which nobody has decided anything yet."""
        return self.filter(~Exists(ReviewDecision.objects.filter(review=OuterRef("pk"))))

    def flagged(self) -> Self:
        """Leave those whose flag is not resolved."""
        later = ReviewDecision.objects.filter(review=OuterRef("review"), position__gt=OuterRef("position"))
        flags = ReviewDecision.objects.filter(~Exists(later), decision=ReviewDecision.Decision.FLAGGED)
        return self.filter(pk__in=flags.order_by().values("review"))


class Review(models.Model):
    """A closed case that someone else is to look at, and why. Written as the case closes; it never changes."""

    REASONS = ("by_phone", "warned", "large", "drawn")

    unlock_request = models.OneToOneField(UnlockRequest, on_delete=models.PROTECT, related_name="review")
    by_phone = models.BooleanField("Consent recorded by phone")
    warned = models.BooleanField("Warning overridden")
    large = models.BooleanField("Over the amount")
    drawn = models.BooleanField("Drawn at random")
    due_at = models.DateTimeField()

    objects = ReviewQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        default_permissions = ("view",)
        permissions = [("review_case", "Can review closed cases")]
        constraints = [
            models.CheckConstraint(
                condition=Q(by_phone=True) | Q(warned=True) | Q(large=True) | Q(drawn=True),
                name="unlocks_review_has_a_reason",
                violation_error_message="A case is reviewed for a reason.",
            ),
        ]

    def __str__(self) -> str:
        return f"Review of {self.unlock_request}"

    @property
    def reasons(self) -> list[str]:
        """Why it is to be reviewed, in words."""
        words: dict[str, Any] = {field.name: field.verbose_name for field in self._meta.concrete_fields}
        return [str(words[name]) for name in self.REASONS if getattr(self, name)]


class ReviewDecision(models.Model):
    """What a reviewer said of a case. A flag is followed by its resolution; `position` counts them from 1."""

    class Decision(models.TextChoices):
        SIGNED_OFF = "signed_off", "Signed off"
        FLAGGED = "flagged", "Flagged"
        RESOLVED = "resolved", "Flag resolved"

    review = models.ForeignKey(Review, on_delete=models.PROTECT, related_name="decisions", db_index=False)
    position = models.PositiveSmallIntegerField()
    decision = models.CharField(max_length=10, choices=Decision.choices)
    note = models.TextField(blank=True)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    at = models.DateTimeField()

    class Meta:
        ordering = ["review", "position"]
        default_permissions = ("view",)
        indexes = [
            models.Index(fields=["review", "position"], condition=Q(decision="flagged"), name="unlocks_review_flagged"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["review", "position"],
                name="unlocks_review_decision_once",
                violation_error_message="Someone else decided meanwhile.",
            ),
            models.CheckConstraint(
                condition=Q(decision="signed_off") | Q(~Q(note=""), decision__in=["flagged", "resolved"]),
                name="unlocks_review_decision_known",
                violation_error_message="A flag and its resolution have a note.",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_decision_display()} ({self.review})"
