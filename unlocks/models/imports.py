import uuid
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Q

from .accounts import Account, Contact
from .batches import Batch, BatchItem

PLACES = 2**32  # of one import; also the lines of one file
BELOW = 2**18  # the lines of one record that came by the API: that of itself, and one of each of its items


class Import(models.Model):
    """Records that came in together: from whom, by which way, and what became of them.

    `files` is a list of objects: name, kind and SHA-256 (hex) of each, how many of its columns are unknown, and the
    first of them. `kinds` says which of them came in, and `staged` how many records of each. `counts` is
    {kind: {judgment: number}} as they were judged last, `previewed` as they were when it was started. An import is
    written in `parts`, each a transaction; `done` of them are. Whoever reads or writes it holds it until
    `leased_until`, None when there is nothing to do.
    """

    class Source(models.TextChoices):
        FILE = "file", "File"
        COMMAND = "command", "Command"
        API = "api", "API"

    class State(models.TextChoices):
        STAGING = "staging", "Being read"
        READY = "ready", "Ready to import"
        APPLYING = "applying", "Being imported"
        DONE = "done", "Imported"
        DISCARDED = "discarded", "Discarded"
        FAILED = "failed", "Failed"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    number = models.PositiveIntegerField(unique=True)
    source = models.CharField(max_length=10, choices=Source.choices)
    state = models.CharField(max_length=10, choices=State.choices, default=State.STAGING)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+")
    actor = models.CharField(max_length=200)
    ip = models.GenericIPAddressField(null=True)
    at = models.DateTimeField()
    files = models.JSONField(default=list)
    kinds = models.JSONField(default=list)
    staged = models.JSONField(default=dict)
    # A row of items that could not be read may belong to any batch: then no item is taken to be no longer listed.
    incomplete = models.BooleanField(default=False)
    re_exported = models.BooleanField("close lines as re-exported", default=False)
    counts = models.JSONField(default=dict)
    previewed = models.JSONField(default=dict)
    parts = models.PositiveIntegerField(default=0)
    done = models.PositiveIntegerField("parts done", default=0)
    leased_until = models.DateTimeField(null=True)
    done_at = models.DateTimeField(null=True)
    why_failed = models.CharField(max_length=500, blank=True)

    class Meta:
        ordering = ["-number"]
        permissions = [("import_records", "Can import accounts, contacts and batches")]
        indexes = [
            # What the worker looks for all the time.
            models.Index(
                fields=["leased_until"], condition=Q(leased_until__isnull=False), name="unlocks_import_going_on"
            ),
        ]

    def __str__(self) -> str:
        return f"Import {self.number:,}"

    @property
    def first_place(self) -> int:
        return self.number * PLACES

    @property
    def places(self) -> tuple[int, int]:
        """The first and the last place that a staged record of this import may have."""
        return self.first_place, self.first_place + PLACES - 1

    def file_and_line(self, line: int) -> tuple[str, int]:
        """Return the name of the file and the line that stand behind the `line` of a staged record or a problem.

        Of what came by the API it is the number of the record.
        """
        file, line = divmod(line, PLACES)
        return self.files[file]["name"], (line // BELOW or line) if self.source == self.Source.API else line


class Judgment(models.TextChoices):
    """What an import makes of a record."""

    NEW = "new", "New"
    CHANGED = "changed", "Changed"
    SAME = "same", "As on file"
    LEFT_ALONE = "left_alone", "Left alone"
    REFUSED = "refused", "Refused"


class ImportProblem(models.Model):
    """Why a row of an import was refused or left alone, or what about it does not add up.

    Kept when the import is done: `errors.csv` is made from these. `found` says when: as it was read, or as it was
    judged, which is done again.
    """

    class Found(models.TextChoices):
        READING = "reading", "While reading"
        JUDGING = "judging", "While judging"

    DOES_NOT_ADD_UP = "adds_up"  # instead of a judgment

    id = models.BigAutoField(primary_key=True)
    imported = models.ForeignKey(Import, on_delete=models.CASCADE, related_name="problems")
    kind = models.CharField(max_length=10)
    judgment = models.CharField(max_length=10)
    line = models.BigIntegerField()
    column = models.CharField(max_length=40, blank=True)
    value = models.CharField(max_length=400, blank=True)
    sentence = models.TextField()
    found = models.CharField(max_length=10, choices=Found.choices)

    class Meta:
        ordering = ["id"]
        default_permissions = ()

    def __str__(self) -> str:
        return self.sentence


def _target(model: Any) -> Any:
    """Name the record on file. Not a constraint: nothing refers to what is staged, and a check a row costs time."""
    return models.ForeignKey(
        model, on_delete=models.DO_NOTHING, null=True, db_constraint=False, db_index=False, related_name="+"
    )


class Staged(models.Model):
    """A record as it was read, waiting to be judged and written. Working data, dropped when the import ends.

    PostgreSQL does not log these tables, and empties them when it recovers from a crash.

    `place` counts the records of a kind from `Import.first_place` on, so that a part of them is a range. `line` is
    where it stood: the number of its file times PLACES, plus the line. An empty value is None.
    """

    place = models.BigIntegerField(primary_key=True)
    line = models.BigIntegerField(null=True)
    judgment = models.CharField(max_length=10, choices=Judgment.choices, blank=True, db_default="")
    why = models.TextField(blank=True, db_default="")
    held = models.TextField(blank=True, db_default="")  # why it is refused, whatever is on file

    class Meta:
        abstract = True


class StagedAccount(Staged):
    number = models.CharField(max_length=20)
    name = models.CharField(max_length=200)
    accounting_software = models.CharField(max_length=20, null=True)  # noqa: DJ001
    active = models.BooleanField(null=True)
    time_zone = models.CharField(max_length=40, null=True)  # noqa: DJ001
    external_id = models.CharField(max_length=80, null=True)  # noqa: DJ001
    account = _target(Account)

    class Meta:
        default_permissions = ()
        indexes = [models.Index(fields=["number"], name="unlocks_staged_account")]

    def __str__(self) -> str:
        return self.number


class StagedContact(Staged):
    account_number = models.CharField(max_length=20)
    name = models.CharField(max_length=200)
    email = models.CharField(max_length=254)
    phone = models.CharField(max_length=40, null=True)  # noqa: DJ001
    is_admin = models.BooleanField(null=True)
    external_id = models.CharField(max_length=80, null=True)  # noqa: DJ001
    account = _target(Account)
    contact = _target(Contact)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.email


class StagedBatch(Staged):
    """`line` is None where only items or lines of a batch came in. `status` is what it comes to with `reached_by`.

    Of the items: how many came in, what they come to, and their SHA-256 (hex), which is that of `Batch.items_sha256`
    while nothing of them changes: then they are not staged, and `left_out`. How many of them are on file, and on file
    as they came in, and how many the batch lists now. None: no items came in for it.
    """

    account_number = models.CharField(max_length=20)
    number = models.CharField(max_length=40)
    name = models.CharField(max_length=200, null=True)  # noqa: DJ001
    status = models.CharField(max_length=10, null=True)  # noqa: DJ001
    reached_by = models.CharField(max_length=20, null=True)  # noqa: DJ001
    posted_on = models.DateField(null=True)
    bypassed_on = models.DateField(null=True)
    exported_on = models.DateField(null=True)
    period_closed = models.BooleanField(null=True)
    item_count = models.PositiveIntegerField(null=True)
    total = models.DecimalField(max_digits=14, decimal_places=2, null=True)
    as_of = models.DateTimeField(null=True)
    external_id = models.CharField(max_length=80, null=True)  # noqa: DJ001
    account = _target(Account)
    batch = _target(Batch)
    items = models.PositiveIntegerField(null=True)
    amount = models.DecimalField(max_digits=20, decimal_places=2, null=True)
    items_sha256 = models.CharField(max_length=64, blank=True, db_default="")
    left_out = models.BooleanField(db_default=False)
    items_known = models.PositiveIntegerField(null=True)
    items_same = models.PositiveIntegerField(null=True)
    items_listed = models.PositiveIntegerField(null=True)
    other_lines = models.PositiveIntegerField(db_default=0)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.number


class StagedItem(models.Model):
    """An item, by the place of its batch: in a range of batches are their items."""

    pk = models.CompositePrimaryKey("batch", "line")
    batch = models.ForeignKey(
        StagedBatch, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="staged_items"
    )
    line = models.BigIntegerField()
    kind = models.CharField(max_length=20)
    number = models.CharField(max_length=40)
    date = models.DateField()
    customer = models.CharField(max_length=200, null=True)  # noqa: DJ001
    amount = models.DecimalField(max_digits=14, decimal_places=2)
    memo = models.TextField(null=True)  # noqa: DJ001
    export_id = models.CharField(max_length=80, null=True)  # noqa: DJ001
    external_id = models.CharField(max_length=80, null=True)  # noqa: DJ001
    job_number = models.CharField(max_length=40, null=True)  # noqa: DJ001
    business_unit = models.CharField(max_length=100, null=True)  # noqa: DJ001
    item = _target(BatchItem)

    class Meta:
        default_permissions = ()
        ordering = ["batch", "line"]

    def __str__(self) -> str:
        return self.number


class StagedLines(models.Model):
    """The lines of one item, as `BatchItem.lines` keeps them; `line` is that of the first."""

    pk = models.CompositePrimaryKey("batch", "line")
    batch = models.ForeignKey(
        StagedBatch, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="staged_lines"
    )
    line = models.BigIntegerField()
    kind = models.CharField(max_length=20)
    number = models.CharField(max_length=40)
    count = models.PositiveIntegerField()
    lines = models.TextField()
    item = _target(BatchItem)

    class Meta:
        default_permissions = ()
        verbose_name_plural = "staged lines"
        ordering = ["batch", "line"]

    def __str__(self) -> str:
        return self.number
