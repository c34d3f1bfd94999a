"""What is done to sets of batches. A single batch is a set of one.

Every act costs the same number of statements whatever the size of its set: the verdicts are inserted from one
judging query and the writes select from the verdicts, so that what is written is what was judged.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any

from django.db.models import F, Func, QuerySet, UUIDField, Value

from .. import history, stages
from ..actors import Actor
from ..ledger import chain, events
from ..models import Act, Batch, Instruction, RequestedBatch, UnlockRequest, Verdict
from ..outbox.rows import LEASE

Change = Callable[[Actor, datetime], dict[str, Any]]


@dataclass(frozen=True)
class BulkAct:
    """What can be done to a set of batches: how each is judged, and what becomes of it, its line and its request.

    `instructs` is what the product is asked to do to each, `hours` the window that was chosen for them, and `then` what
    follows in the same transaction.
    """

    kind: Act.Kind
    judge: Callable[..., QuerySet[Any]]
    outcome: RequestedBatch.Outcome
    event: type[events.Done]
    changes: Change
    instructs: Instruction.What | None = None
    cancels: bool = False
    hours: int | None = None
    then: Callable[[Act, Actor], None] | None = None


class _NewKey(Func):
    """128 random bits, drawn by the database for each row."""

    output_field = UUIDField()

    def as_sqlite(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        return self.as_sql(compiler, connection, template="lower(hex(randomblob(16)))")

    def as_postgresql(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        return self.as_sql(compiler, connection, template="gen_random_uuid()")


def perform(doing: BulkAct, batches: QuerySet[Batch], *, by: Actor, why: str) -> Act:
    """Do it to each batch of a queryset that may have it done; return the Act, whose id is the one that `by` is in.

    Raises ConcurrentChange, with nothing written.
    """
    picked = batches.order_by().values("pk")
    chosen = Batch.objects.filter(pk__in=picked)
    open_lines = RequestedBatch.objects.filter(batch__in=picked, outcome__in=RequestedBatch.OPEN)
    history.lock(UnlockRequest.objects.filter(pk__in=open_lines.values("unlock_request")))
    history.lock(chosen)

    at = by.act.at
    act = Act.objects.create(
        pk=by.act.id, kind=doing.kind, by=by.user, actor=by.name, at=at, why=why, hours=doing.hours
    )
    history.insert_select(
        Verdict,
        doing.judge(chosen, by=by.user, at=at).order_by("pk"),
        act_id=act.pk,
        batch_id=F("pk"),
        line_id=F("line__id"),
        refusal=F("refusal"),
        fingerprint=F("fingerprint"),
    )
    done = Verdict.objects.filter(act=act, refusal="")
    if doing.cancels:
        Instruction.objects.not_handed_over().filter(line__in=done.values("line")).update(
            state=Instruction.State.CANCELED, answer=why[:500], done_at=at
        )
    recorded: dict[str, Any] = {"by": by, "why": why or str(doing.kind.label)}
    written = history.update(Batch.objects.filter(pk__in=done.values("batch")), **recorded, **doing.changes(by, at))
    lines = RequestedBatch.objects.filter(pk__in=done.values("line"))
    history.update(lines, **recorded, outcome=Value(doing.outcome.value))
    if doing.instructs or doing.outcome == RequestedBatch.Outcome.RE_EXPORTED:
        # Whether the product did it is not asked any more.
        Instruction.objects.filter(line__in=done.values("line"), state=Instruction.State.GIVEN_UP).update(
            state=Instruction.State.CANCELED, done_at=at
        )
    if doing.instructs:
        _instruct(doing.instructs, act, done)
    if doing.kind == Act.Kind.UNLOCKED:
        agreed = UnlockRequest.objects.filter(
            pk__in=done.values("line__unlock_request"), status=UnlockRequest.Status.CONSENTED.value
        )
        history.update(agreed, **recorded, status=UnlockRequest.Status.UNLOCKED.value)
    if written != done.count():
        raise history.ConcurrentChange("The batches changed while they were being judged.")
    stages.keep(UnlockRequest.objects.filter(pk__in=requests_of(act)), at=at)
    chain.append_all(_entries(doing, act, why), by=by)
    if doing.then:
        doing.then(act, by)
    return act


def requests_of(act: Act) -> QuerySet[Any]:
    """Return the keys of the requests whose batches an act did something to."""
    return act.verdicts.filter(refusal="").values("line__unlock_request")


def _instruct(what: Instruction.What, act: Act, done: QuerySet[Verdict]) -> None:
    """Write an instruction for each batch that an act did something to.

    To lock follows on the answer to unlock: where that was put off for longer than a lease, it is asked for now.
    """
    if what == Instruction.What.LOCK:
        Instruction.objects.filter(
            line__in=done.values("line"), state__in=Instruction.PENDING, started_by=None, next_try_at__gt=act.at + LEASE
        ).update(next_try_at=act.at)
    history.insert_select(
        Instruction,
        done.order_by("batch_id"),
        key=_NewKey(),
        what=what.value,
        batch_id=F("batch_id"),
        line_id=F("line_id"),
        act_id=act.pk,
        state=Instruction.State.QUEUED.value,
        queued_at=act.at,
        next_try_at=act.at,
        tries=0,
        answer="",
    )


def _entries(doing: BulkAct, act: Act, why: str) -> Iterator[chain.Entry]:
    """Yield one ledger entry a request for what was done, and one for what was refused."""
    verdicts = (
        Verdict.objects.filter(act=act, line__isnull=False)
        .order_by("line__unlock_request_id", "batch_id")
        .values_list(
            "line__unlock_request_id",
            "batch__account_id",
            "refusal",
            "batch_id",
            "batch__number",
            "batch__total",
            "fingerprint",
        )
    )
    window: dict[str, Any] = {"hours": doing.hours} if doing.hours else {}
    for about, rows in groupby(verdicts.iterator(chunk_size=2000), key=lambda row: row[:2]):
        refusals: Counter[str] = Counter()
        done = events.sum_up(row[3:] for row in rows if not _counted(row[2], refusals))
        if done["batches"]:
            yield chain.Entry(doing.event(why=why, **window, **done), *about)
        if refusals and doing.kind == Act.Kind.UNLOCK:
            yield chain.Entry(events.UnlockRefused(refusals=dict(refusals)), *about)


def _counted(refusal: str, refusals: Counter[str]) -> bool:
    """Count a refusal ('' for none); say whether there was one."""
    if refusal:
        refusals[refusal] += 1
    return bool(refusal)
