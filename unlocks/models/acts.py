import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q

from .batches import Batch
from .requests import RequestedBatch

LONGEST_WINDOW = 30 * 24  # hours; a setting allows less


class Selection(models.Model):
    """The batches that someone picked for a bulk action, frozen: the preview and the act judge the same set.

    Working data of one person, not evidence.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    made_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    made_at = models.DateTimeField()
    batches = models.ManyToManyField(Batch, related_name="selections")

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"Selection {self.pk}"


class Act(models.Model):
    """One act on a set of batches: what staff or the desk decided, or what the product answered, and when.

    Its id is also on every history row that the act wrote. `hours` is how long the batches stay unlocked, counted from
    the product's answer, as it was chosen at the unlock or when it was extended.
    """

    class Kind(models.TextChoices):
        UNLOCK = "unlock", "Unlock"
        CANCEL = "cancel", "Cancel the unlock"
        UNLOCKED = "unlocked", "Unlocked"
        REFUSED = "refused", "Refused by the product"
        EXTEND = "extend", "Extend the window"
        RELOCK = "relock", "Relock"
        RELOCKED = "relocked", "Relocked"
        RE_EXPORT = "re_export", "Mark as re-exported"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    kind = models.CharField(max_length=10, choices=Kind.choices)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+")
    actor = models.CharField(max_length=200)
    at = models.DateTimeField()
    why = models.TextField(blank=True)
    hours = models.IntegerField(null=True)

    # Set on what a verb returns: this call did nothing, for an earlier one with its key had done it.
    repeated = False

    class Meta:
        ordering = ["-at"]
        constraints = [
            models.CheckConstraint(
                condition=Q(kind__in=["unlock", "extend"], hours__gte=1, hours__lte=LONGEST_WINDOW)
                | ~Q(kind__in=["unlock", "extend"]) & Q(hours__isnull=True),
                name="unlocks_act_window",
                violation_error_message="An unlock and an extension have a window, of 30 days at most.",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} at {self.at:%Y-%m-%d %H:%M:%S}"


class OrderedAct(models.Model):
    """A bulk action that someone confirmed and the worker carries out as them: whole or not at all, and once.

    `id` is the key of the act, `options` what was typed for the verb. `mac` proves that the desk took the order, for
    these batches: nothing is done for who writes a row of their own. Working data; the Act is what counts.
    """

    class State(models.TextChoices):
        QUEUED = "queued", "Waits for the worker"
        DONE = "done", "Done"
        REFUSED = "refused", "Refused"
        CANCELED = "canceled", "Canceled"

    id = models.UUIDField(primary_key=True, editable=False)
    kind = models.CharField(max_length=10, choices=Act.Kind.choices)
    selection = models.ForeignKey(Selection, on_delete=models.SET_NULL, null=True, related_name="orders")
    options = models.JSONField(default=dict)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", db_index=False)
    ip = models.GenericIPAddressField(null=True)
    browser = models.CharField(max_length=400, blank=True)
    at = models.DateTimeField()
    mac = models.CharField(max_length=64, editable=False)
    state = models.CharField(max_length=10, choices=State.choices, default=State.QUEUED)
    tries = models.PositiveSmallIntegerField(default=0)
    next_try_at = models.DateTimeField()
    answer = models.TextField(blank=True)
    done_at = models.DateTimeField(null=True)

    class Meta:
        default_permissions = ()
        permissions = [("cancel_ordered_act", "Can cancel a bulk action that someone else left to the worker")]
        indexes = [models.Index(fields=["at"], condition=Q(state="queued"), name="unlocks_ordered_waits")]

    def __str__(self) -> str:
        return f"{self.get_kind_display()}, {self.get_state_display().lower()}"


class Verdict(models.Model):
    """What an act made of one batch: done ('' in `refusal`), or refused and why.

    `fingerprint` is the batch's as it was judged: a later edit blanks the batch's own.
    """

    act = models.ForeignKey(Act, on_delete=models.PROTECT, related_name="verdicts", db_index=False)
    batch = models.ForeignKey(Batch, on_delete=models.PROTECT, related_name="+")  # the audit log finds a batch's acts
    line = models.ForeignKey(RequestedBatch, on_delete=models.PROTECT, null=True, related_name="+", db_index=False)
    refusal = models.CharField(max_length=30, blank=True)
    fingerprint = models.CharField(max_length=64, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["act", "batch"],
                name="unlocks_verdict_once",
                violation_error_message="An act judges a batch once.",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.batch}: {self.refusal or 'done'}"
