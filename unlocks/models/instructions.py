import uuid
from typing import Self

from django.conf import settings
from django.db import models
from django.db.models import Exists, F, OuterRef, Q

from .acts import Act
from .batches import Batch
from .requests import RequestedBatch


class InstructionQuerySet(models.QuerySet["Instruction"]):
    def not_handed_over(self) -> Self:
        """Leave those that wait, and that the product can't have got."""
        return self.filter(state=Instruction.State.QUEUED, sent_at=None)

    def in_turn(self) -> Self:
        """Leave those whose batch has no earlier instruction that is not ended."""
        # By the batch alone, not by their states or keys: PostgreSQL would take the index of those that are due, or of
        # the keys, and read all of it for each.
        pending = Instruction.objects.filter(done_at=None).exclude(state=Instruction.State.GIVEN_UP)
        earlier = pending.alias(number=F("pk") + 0).filter(batch=OuterRef("batch"), number__lt=OuterRef("pk"))
        return self.exclude(Exists(earlier))


class Instruction(models.Model):
    """What the product is asked to do to one batch, and what it answered.

    `key` names it to the product, which does the same key once. Instructions of one batch are carried out in the order
    of their ids. `sent_at` is when the product last may have got it: what it can't have got can be canceled. `answer`
    is the product's reference, its reason, or what went wrong last; `started_by` whoever carries it out by hand.
    """

    class What(models.TextChoices):
        UNLOCK = "unlock", "Unlock"
        LOCK = "lock", "Lock"

    class State(models.TextChoices):
        QUEUED = "queued", "Waits to be handed over"
        SENT = "sent", "Handed over"
        UNKNOWN = "unknown", "Being asked about"
        DONE = "done", "Done"
        REFUSED = "refused", "Refused"
        CANCELED = "canceled", "Canceled"
        GIVEN_UP = "given_up", "Given up"

    # The worker, or whoever carries it out by hand, goes on with these; one that was given up may be taken up again.
    PENDING = (State.QUEUED, State.SENT, State.UNKNOWN)
    OPEN = (*PENDING, State.GIVEN_UP)

    id = models.BigAutoField(primary_key=True)
    key = models.UUIDField(unique=True, default=uuid.uuid4, editable=False)
    what = models.CharField(max_length=10, choices=What.choices)
    batch = models.ForeignKey(Batch, on_delete=models.PROTECT, related_name="instructions", db_index=False)
    line = models.ForeignKey(RequestedBatch, on_delete=models.PROTECT, related_name="instructions", db_index=False)
    act = models.ForeignKey(Act, on_delete=models.PROTECT, related_name="instructions", db_index=False)
    state = models.CharField(max_length=10, choices=State.choices, default=State.QUEUED)
    queued_at = models.DateTimeField()
    next_try_at = models.DateTimeField()
    tries = models.PositiveSmallIntegerField(default=0)
    sent_at = models.DateTimeField(null=True, blank=True)
    started_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+", db_index=False
    )
    answer = models.CharField(max_length=500, blank=True)
    done_at = models.DateTimeField(null=True, blank=True)

    objects = InstructionQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        default_permissions = ("view",)
        permissions = [
            ("carry_out_instruction", "Can carry out instructions in the product by hand"),
            ("put_back_instruction", "Can put back what others started to carry out by hand"),
        ]
        indexes = [
            models.Index(
                fields=["next_try_at", "id"],
                condition=Q(state__in=["queued", "sent", "unknown"]),
                name="unlocks_instruction_due",
            ),
            models.Index(fields=["-done_at"], condition=Q(done_at__isnull=False), name="unlocks_instruction_done"),
            models.Index(
                fields=["state", "-id"],
                condition=Q(state__in=["refused", "canceled", "given_up"]),
                name="unlocks_instruction_undone",
            ),
            models.Index(fields=["batch", "-id"], name="unlocks_instruction_batch"),
            models.Index(fields=["line", "-id"], name="unlocks_instruction_line"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["batch", "what"],
                condition=Q(state__in=["queued", "sent", "unknown"]),
                name="unlocks_instruction_once",
                violation_error_message="The product is already asked to do this to the batch.",
            ),
            models.CheckConstraint(
                condition=Q(what__in=["unlock", "lock"]),
                name="unlocks_instruction_known",
                violation_error_message="The product is asked to unlock or to lock.",
            ),
            models.CheckConstraint(
                condition=Q(state__in=["queued", "sent", "unknown", "given_up"], done_at__isnull=True)
                | Q(state__in=["done", "refused", "canceled"], done_at__isnull=False),
                name="unlocks_instruction_ended",
                violation_error_message="What is done, refused or canceled has a time.",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_what_display()} {self.batch}"
