"""Importing accounts, contacts, batches, items and lines: staged, judged, and written part by part.

A part is at most 5,000 accounts, contacts or batches with their items: one transaction, one act, one entry in the
ledger. Whoever is killed leaves whole parts behind, and the worker goes on with the next one.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db import DatabaseError, IntegrityError, OperationalError, connections, transaction
from django.db.models import Case, Count, DateTimeField, F, Max, OuterRef, Q, QuerySet, Subquery, Sum, Value, When
from django.db.models.functions import Greatest
from django.utils import timezone

from .. import history, stages
from ..actors import Actor
from ..imports import judging, staging
from ..imports.problems import Problem
from ..imports.staging import Source
from ..ledger import chain, events
from ..models import (
    Account,
    Act,
    Batch,
    BatchItem,
    Contact,
    Import,
    ImportProblem,
    Judgment,
    RequestedBatch,
    StagedBatch,
    StagedItem,
    StagedLines,
    UnlockRequest,
)
from ..rules import Refusal, kept_from
from .accounts import end_links, tell_admins
from .acts import perform
from .requests import sum_up
from .search_words import learn_words
from .unlock import ACTIONS
from .verbs import Refused, obstacle, staff_verb

PART = 5_000  # accounts, contacts or batches
UNKNOWN = 10  # columns of a file that are ignored, and named
LEASE = timedelta(minutes=5)
READ_WITHIN = timedelta(hours=1)
KEPT = timedelta(days=7)  # what was read and is neither imported nor discarded
FRESH = timedelta(hours=1)  # after which it is worth noting that the product still says the same
State, Source_, NEW, CHANGED = Import.State, Import.Source, Judgment.NEW, Judgment.CHANGED
WRITTEN = (NEW, CHANGED)
_ATTEMPTS = 3
log = logging.getLogger(__name__)
_LOCK = 7_014_402  # the advisory lock that orders the numbers of imports on PostgreSQL


@dataclass(frozen=True)
class Part:
    """Records of one kind, by their places."""

    kind: str
    places: tuple[int, int]


@staff_verb("unlocks.import_records")
def stage_import(
    sources: Sequence[Source], *, source: str, by: Actor, judge: bool = True, id: UUID | None = None
) -> Import:
    """Read records and return the import that they are staged in, judged for a preview unless told not to.

    `source` is an `Import.Source`: what "api" brings is the product's own word, so that only a system may bring it, by
    its token, and of that only what the token lets it put. Raises Refused: NOTHING_TO_IMPORT; IMPORT_OVER, when the
    worker has given it up; and whatever reading raises. Then the import is on record as failed, and nothing is staged.
    """
    kinds = sorted({one.kind.name for one in sources})
    if source == Source_.API and not by.token:
        raise PermissionDenied(f"{by.name} may not do this: only a system brings records by the API.")
    if by.token and (missing := [needed for kind in kinds if not by.may(needed := to_put(kind))]):
        raise PermissionDenied(f"{by.name} may not do this: it needs the permission {missing[0]}.")
    imported = _begin(source, kinds, by, id)
    reader = staging.Staging(imported)
    try:
        reader.read(sources)
        _end_reading(imported, reader, sources)
        if judge:
            judge_import(imported)
        _make_ready(imported)
    except BaseException as error:
        _end(imported, State.FAILED, str(error)[:500] or type(error).__name__)
        raise
    return imported


@transaction.atomic
def _make_ready(imported: Import) -> None:
    """Let it be started or discarded: only now, or who judges it would judge it a second time meanwhile."""
    _locked(imported, State.STAGING)
    imported.state = State.READY
    if imported.source != Source_.API:  # there, what is not written at once broke off
        imported.leased_until = imported.at + KEPT
    imported.save(update_fields=["state", "leased_until"])


def to_put(kind: str) -> str:
    """Return the permission that a system needs to put records of a kind: contacts are apart from all others."""
    return "api.put_contacts" if kind == "contacts" else "api.put_records"


def _begin(source: str, kinds: list[str], by: Actor, id: UUID | None) -> Import:
    with transaction.atomic():
        if connections["default"].vendor == "postgresql":
            with connections["default"].cursor() as cursor:
                cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        newest = Import.objects.aggregate(newest=Max("number"))["newest"] or 0
        return Import.objects.create(
            id=id or uuid4(),
            number=newest + 1,
            source=source,
            user=by.user,
            actor=by.name,
            ip=by.ip,
            at=by.act.at,
            kinds=kinds,
            leased_until=by.act.at + READ_WITHIN,
        )


def _end_reading(imported: Import, reader: staging.Staging, sources: Sequence[Source]) -> None:
    imported.files = [
        {
            "name": one.name,
            "kind": one.kind.name,
            "sha256": one.sha256,
            "unknown": list(one.unknown_columns[:UNKNOWN]),
            "unknown_count": len(one.unknown_columns),
        }
        for one in sources
    ]
    imported.staged = dict(reader.rows) | {"batches": len(reader.lines)}
    if not any(imported.staged.values()) and not imported.problems.exists():
        raise Refused.because(Refusal.NOTHING_TO_IMPORT)
    imported.parts = len(parts_of(imported))
    imported.save(update_fields=["files", "staged", "incomplete", "parts"])


def parts_of(imported: Import) -> list[Part]:
    """Return the parts that an import is written in, in their order."""
    ends = {kind: imported.first_place + imported.staged.get(kind, 0) for kind in ("accounts", "contacts", "batches")}
    return [
        Part(kind, (first, min(first + PART, end) - 1))
        for kind, end in ends.items()
        for first in range(imported.first_place, end, PART)
    ]


def what_was_lost(imported: Import) -> str:
    """Say that what was read for the next part is not there any more; '' if it is.

    PostgreSQL does not log what is staged, and empties those tables when it recovers. What was read first is lost
    first, and items are read after their batches.
    """
    for part in parts_of(imported)[imported.done : imported.done + 1]:
        first, last = part.places
        if staging.STAGED[part.kind].objects.filter(place__range=part.places).count() != last - first + 1:
            return "What was read was lost when the database restarted. Import it again."
    return ""


def judge_import(imported: Import) -> None:
    """Judge all records of an import as things are now, for a preview."""
    imported.problems.filter(found=ImportProblem.Found.JUDGING)._raw_delete("default")
    counts = _counts_of_reading(imported)
    for part in parts_of(imported):
        with transaction.atomic():
            _JUDGE[part.kind](imported, part.places)
            _note_problems(imported, part)
            _add(counts, _counts(part))
    imported.counts = counts
    imported.save(update_fields=["counts"])


@staff_verb("unlocks.import_records")
def start_import(imported: Import, *, re_exported: bool = False, by: Actor) -> Import:
    """Have the worker write the records of an import, and return it: failed, if what was read was lost.

    `re_exported` lets a file close the lines of unlocked batches that it says are exported. Raises Refused:
    IMPORT_OVER, OTHERS_IMPORT.
    """
    return _start(imported, re_exported, by, timezone.now())


@staff_verb("unlocks.import_records")
def import_records(
    imported: Import, *, re_exported: bool = False, by: Actor, follow: Callable[[Import], None] | None = None
) -> Import:
    """Write the records of an import, and return it. `follow` is called after each part.

    Part by part, each of which is judged once more; who is killed meanwhile is followed by the worker. Raises Refused:
    IMPORT_OVER, OTHERS_IMPORT.
    """
    imported = _start(imported, re_exported, by, timezone.now() + LEASE)
    while imported.state == State.APPLYING:
        imported = _next_part(imported)
        if follow:
            follow(imported)
    _clean(imported)
    return imported


@transaction.atomic
def _start(imported: Import, re_exported: bool, by: Actor, leased_until: Any) -> Import:
    needed = ACTIONS[Act.Kind.RE_EXPORT].permission
    if re_exported and not by.may(needed):
        raise PermissionDenied(f"{by.name} may not mark batches as re-exported: it needs the permission {needed}.")
    imported = _locked(imported, State.READY)
    if imported.user_id != by.member.pk:  # who wrote the contacts in it is barred from confirming them
        raise Refused.because(Refusal.OTHERS_IMPORT, name=imported.actor)
    if lost := what_was_lost(imported):
        _end(imported, State.FAILED, lost)
        return imported
    imported.state, imported.re_exported, imported.leased_until = State.APPLYING, re_exported, leased_until
    imported.previewed = imported.counts
    imported.user, imported.actor, imported.ip = by.user, by.name, by.ip
    imported.problems.filter(found=ImportProblem.Found.JUDGING)._raw_delete("default")
    imported.counts = _counts_of_reading(imported)
    imported.save()
    return imported


@staff_verb("unlocks.import_records")
def discard_import(imported: Import, *, by: Actor) -> Import:
    """Drop what an import staged, without writing any of it. Raises Refused: IMPORT_OVER."""
    return _end_from(State.READY, imported, State.DISCARDED)


def _locked(imported: Import, state: str) -> Import:
    imported = Import.objects.select_for_update(no_key=True).get(pk=imported.pk)
    if imported.state != state:
        raise Refused.because(
            Refusal.IMPORT_OVER, name=str(imported).lower(), state=imported.get_state_display().lower()
        )
    return imported


@transaction.atomic
def _end_from(state: str, imported: Import, *becomes: str) -> Import:
    """End an import that is in `state`, and return it. Raises Refused: IMPORT_OVER."""
    imported = _locked(imported, state)
    _end(imported, *becomes)
    return imported


def _end(imported: Import, state: str, why: str = "") -> None:
    imported.state, imported.why_failed, imported.done_at = state, why, timezone.now()
    imported.leased_until = timezone.now()
    imported.save(update_fields=["state", "why_failed", "done_at", "leased_until"])
    _clean(imported)


def _clean(imported: Import) -> None:
    """Drop what is staged no longer for anything; until that is done, the worker looks after it."""
    staging.drop(imported)
    imported.leased_until = None
    imported.save(update_fields=["leased_until"])


# The worker


def _over(imported: Import) -> tuple[str, str] | None:
    """Return what becomes of an import, and why, that nobody goes on with; None of one that is half written."""
    if imported.state == State.READY and imported.source != Source_.API:
        return State.DISCARDED, f"Nobody imported it within {KEPT.days} days."
    if imported.state in (State.STAGING, State.READY):
        return State.FAILED, "Reading it was interrupted. Import it again."
    return None


def finish_imports() -> int:
    """Take the next step of an import that nobody works at any more; return how many were taken: 1 or 0."""
    now = timezone.now()
    with transaction.atomic():
        waiting = Import.objects.filter(leased_until__lte=now).order_by("leased_until")
        imported = waiting.select_for_update(skip_locked=True, no_key=True).first()
        if imported is None:
            return 0
        if over := _over(imported):
            _end(imported, *over)
            return 1
        imported.leased_until = now + LEASE
        imported.save(update_fields=["leased_until"])
    if imported.state == State.APPLYING:
        imported = _next_part(imported)
        # Whoever is free takes the next one.
        Import.objects.filter(pk=imported.pk, state=State.APPLYING).update(leased_until=timezone.now())
    if imported.state != State.APPLYING:
        _clean(imported)
    return 1


def _next_part(imported: Import) -> Import:
    """Write the next part of an import; return it as it is then. What can't be written fails the import."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return _written(imported)
        except OperationalError:
            raise  # the database is away, or busy: the worker tries again
        except (history.ConcurrentChange, DatabaseError) as error:
            # Of what someone else wrote meanwhile, another try finds that it is there.
            if attempt == _ATTEMPTS or not isinstance(error, (history.ConcurrentChange, IntegrityError)):
                log.error("%s: part %d can't be written: %s", imported, imported.done + 1, type(error).__name__)
                why = f"Part {imported.done + 1} can't be written: {type(error).__name__}."
                with suppress(Refused):  # another worker ended it meanwhile
                    return _end_from(State.APPLYING, imported, State.FAILED, why)
                break
    return Import.objects.get(pk=imported.pk)


@transaction.atomic(durable=True)
def _written(imported: Import) -> Import:
    imported = Import.objects.select_for_update(no_key=True).get(pk=imported.pk)
    if imported.state != State.APPLYING:
        return imported
    if lost := what_was_lost(imported):
        _end(imported, State.FAILED, lost)
        return imported
    if connections["default"].vendor == "postgresql":
        with connections["default"].cursor() as cursor:
            # The items of a part are sorted without a file.
            cursor.execute("SET LOCAL work_mem = '64MB'")
    by = Actor(name=imported.actor, user=imported.user, ip=imported.ip)
    parts = parts_of(imported)
    counts: dict[str, Counter[str]] = {}
    entries: list[chain.Entry] = []
    if imported.done < len(parts):
        part = parts[imported.done]
        entries = _WRITE[part.kind](imported, part.places, by)
        _note_problems(imported, part)
        _add(counts, _counts(part))
        _add(imported.counts, counts)
        imported.done += 1
    if imported.done == len(parts):
        imported.state, imported.done_at = State.DONE, timezone.now()
    imported.leased_until = timezone.now() + LEASE
    imported.save()
    if by.act.rows or imported.state == State.DONE:
        chain.append_all([chain.Entry(_told(imported, len(parts), counts)), *entries], by=by)
    return imported


def _told(imported: Import, parts: int, counts: dict[str, Counter[str]]) -> events.Imported:
    return events.Imported(
        source=imported.source,
        number=imported.number,
        part=imported.done,
        parts=parts,
        files=[f"{file['kind']} {file['sha256']}".strip() for file in imported.files],
        names=[file["name"] for file in imported.files],
        counts={kind: dict(sorted(count.items())) for kind, count in counts.items()},
    )


# Writing one part


def _write_accounts(imported: Import, places: judging.Places, by: Actor) -> list[chain.Entry]:
    rows, values = judging.accounts(places), judging.values_of_accounts()
    history.lock(Account.objects.filter(number__in=rows.values("number")))
    judging.judge_accounts(imported, places)
    recorded: dict[str, Any] = {"by": by, "why": str(imported)}
    changed = rows.filter(judgment=CHANGED)
    entries = list(_changes(changed, "account", values, events.AccountChanged))
    history.update_from(changed, "account", **recorded, **values)
    untouched: dict[str, Any] = {"pin_hash": "", "pending_pin_hash": "", "pin_failures": 0}
    history.insert(Account, rows.filter(judgment=NEW), **recorded, number=F("number"), **values, **untouched)
    learn_words(Account.objects.filter(number__in=rows.filter(judgment__in=WRITTEN).values("number")))
    return entries


def _write_contacts(imported: Import, places: judging.Places, by: Actor) -> list[chain.Entry]:
    rows, values = judging.contacts(places), judging.values_of_contacts()
    accounts = Account.objects.filter(number__in=rows.values("account_number"))
    history.lock(UnlockRequest.objects.filter(account__in=accounts).exclude(status=UnlockRequest.Status.CLOSED))
    history.lock(Contact.objects.filter(account__in=accounts))
    judging.judge_contacts(imported, places)
    recorded: dict[str, Any] = {"by": by, "why": str(imported)}
    by_product = imported.source == Source_.API
    entered: dict[str, Any] = {
        "entered_by_id": None if by_product else by.member.pk,
        "entered_in_id": None if by_product else imported.pk,
        "entered_at": by.act.at,
        "confirmed_by_id": None,
        "confirmed_at": None,
        "confirmed_how": "",
    }
    changed, new = rows.filter(judgment=CHANGED), rows.filter(judgment=NEW)
    facts = {"by_product": True} if by_product else {"imported": str(imported.pk)}
    entries = list(_changes(changed, "contact", values, events.ContactChanged, **facts))
    again = judging.to_be_confirmed(values)
    ended = list(changed.filter(judging.other_recipient(values)).values_list("contact", flat=True))
    entered_again = list(changed.filter(again).values_list("pk", flat=True))
    history.update_from(changed.filter(pk__in=entered_again), "contact", **recorded, **values, **entered)
    history.update_from(changed.exclude(pk__in=entered_again), "contact", **recorded, **values)
    history.insert(Contact, new, **recorded, account_id=F("account_id"), **values, **entered)
    if not by_product:
        written = Contact.history.filter(history_act=by.act.id, entered_in=imported, confirmed_by=None)
        told = Contact.objects.filter(pk__in=written.filter(entered_at=by.act.at).values("id"))
        tell_admins(told, by=by)
    entries += end_links(Contact.objects.filter(pk__in=ended), by=by)  # links before accounts
    learn_words(Account.objects.filter(number__in=rows.filter(judgment__in=WRITTEN).values("account_number")))
    return entries


def _changes(
    rows: QuerySet[Any], target: str, values: dict[str, Any], kind: Any, **facts: Any
) -> Iterator[chain.Entry]:
    """Yield an entry for each account or contact that is changed: what an earlier one tells of it is past."""
    new = {f"new_{name}": value for name, value in values.items()}
    old = {f"old_{name}": F(f"{target}__{name}") for name in values}
    for row in rows.order_by("pk").annotate(**new, **old).values("account_id", f"{target}_id", *new, *old).iterator():
        changed = {
            name: [row[f"old_{name}"], row[f"new_{name}"]]
            for name in values
            if row[f"old_{name}"] != row[f"new_{name}"]
        }
        event = kind(
            about_id=row[f"{target}_id"], fields=sorted(changed), name=row["new_name"], changed=changed, **facts
        )
        yield chain.Entry(event, account_id=row["account_id"])


def _write_batches(imported: Import, places: judging.Places, by: Actor) -> list[chain.Entry]:
    """Write the batches of a part with their items. Locks requests, then batches, as an unlock does."""
    rows = judging.batches(places)
    on_file = judging.on_file(places)
    lines = RequestedBatch.objects.filter(batch__in=on_file.values("pk"))
    asking = stages.open_ones(UnlockRequest.objects.filter(pk__in=lines.values("unlock_request")))
    history.lock(asking)
    history.lock(on_file)
    judging.judge_batches(imported, places)
    recorded: dict[str, Any] = {"by": by, "why": str(imported)}
    values = judging.values_of_batches()
    there, changed = set(rows.order_by().values_list("judgment", flat=True).distinct()), rows.filter(judgment=CHANGED)
    if NEW in there:
        _insert_batches(imported, rows.filter(judgment=NEW), values, recorded)
        _insert_items(imported, judging.items(places).filter(batch__judgment=NEW), recorded)
    if CHANGED in there:
        # What differs is found before anything is written.
        differing = list(changed.filter(judging.ITEMS_DIFFER).values_list("pk", "batch"))
        _change_batches(changed, values, recorded)
        sum_up(asking.filter(pk__in=lines.filter(batch__in=changed.values("batch")).values("unlock_request")))
        _change_items(imported, dict(differing), recorded, by)
        _change_lines(judging.lines(places).filter(batch__judgment=CHANGED, item__isnull=False), recorded)
    if there & {CHANGED, Judgment.SAME}:
        _note_what_was_said(imported, rows)
    if CHANGED in there:
        _mark_re_exported(imported, changed, by)
    return []


def _insert_batches(
    imported: Import, new: QuerySet[StagedBatch], values: dict[str, Any], recorded: dict[str, Any]
) -> None:
    history.insert(
        Batch,
        new,
        **recorded,
        account_id=F("account_id"),
        number=F("number"),
        **values,
        as_of=judging.as_of(imported),
        items_sha256=F("items_sha256"),
        fingerprint="",
    )
    theirs = Batch.objects.filter(account=OuterRef("account_id"), number=OuterRef("number"))
    history.update_each(new, batch=Subquery(theirs.values("pk")))


def _change_batches(changed: QuerySet[StagedBatch], values: dict[str, Any], recorded: dict[str, Any]) -> None:
    """Write what is new of batches; one that was pending comes to its state by way of posted, as there."""
    posted = changed.filter(batch__status=Batch.Status.PENDING).exclude(
        Q(status=None) | Q(status__in=[Batch.Status.PENDING, Batch.Status.POSTED])
    )
    history.update_from(posted, "batch", **recorded, status=Value(Batch.Status.POSTED.value))
    history.update_from(judging.changed(changed, values, "batch"), "batch", **recorded, **values)


def _change_items(imported: Import, differing: dict[int, int], recorded: dict[str, Any], by: Actor) -> None:
    """Write the items of batches, given by their places, that are not all on file as they came in."""
    if not differing:
        return
    rows, values = StagedItem.objects.filter(batch__in=list(differing)), judging.values_of_items()
    known = rows.filter(item__isnull=False)
    listed = BatchItem.objects.listed().filter(batch__in=list(differing.values()))
    history.update(listed.exclude(pk__in=known.order_by().values("item")), **recorded, left_at=by.act.at)
    changed = judging.changed(known, values | {"left_at": Value(None, output_field=DateTimeField())}, "item")
    history.update_from(changed, "item", **recorded, **values, left_at=None)
    _insert_items(imported, rows.filter(item=None), recorded)


def _change_lines(lines: QuerySet[StagedLines], recorded: dict[str, Any]) -> None:
    other = judging.changed(lines, {"lines": F("lines")}, "item")
    history.update_from(other, "item", **recorded, lines=F("lines"))


def _insert_items(imported: Import, rows: QuerySet[StagedItem], recorded: dict[str, Any]) -> None:
    history.insert(
        BatchItem,
        rows,
        **recorded,
        batch_id=F("batch__batch_id"),
        **judging.values_of_items(new=True),
        lines=judging.lines_of_a_new_item(imported),
        disposition="",
    )


def _note_what_was_said(imported: Import, rows: QuerySet[StagedBatch]) -> None:
    """Note how new the data of batches is, unless that is within the hour, and which items came in."""
    as_of = judging.as_of(imported)
    newer = Q(batch__as_of=None) | Q(batch__as_of__lt=as_of)
    older = Q(batch__as_of=None) | Q(batch__as_of__lt=as_of - FRESH)
    said = rows.filter(Q(newer, judgment=CHANGED) | Q(older, judgment=Judgment.SAME))
    history.update_select(Batch, said, "batch", as_of=as_of)
    others = rows.filter(judgment__in=[CHANGED, Judgment.SAME], items__isnull=False)
    others = others.exclude(items_sha256=F("batch__items_sha256"))
    history.update_select(Batch, others, "batch", items_sha256=F("items_sha256"))


def _mark_re_exported(imported: Import, changed: QuerySet[StagedBatch], by: Actor) -> None:
    """Close the lines of unlocked batches that the product exported, by the act that staff do it by."""
    exported = changed.filter(judging.RE_EXPORTED).order_by()
    if not exported.exists():
        return
    doing = ACTIONS[Act.Kind.RE_EXPORT].act
    day = Subquery(exported.filter(batch=OuterRef("pk")).values("exported_on"))

    def changes(by: Actor, at: Any) -> dict[str, Any]:
        return doing.changes(by, at) | {"exported_on": day}

    batches = Batch.objects.filter(pk__in=list(exported.values_list("batch", flat=True)))
    perform(replace(doing, changes=changes), batches, by=by.begin(), why=str(imported))


# What became of the records


def _counts_of_reading(imported: Import) -> dict[str, Any]:
    """Return {kind: {"refused": rows}} of what could not be read."""
    found = imported.problems.filter(found=ImportProblem.Found.READING).order_by()
    counted = found.values("kind").annotate(n=Count("line", distinct=True)).values_list("kind", "n")
    return {kind: {Judgment.REFUSED.value: n} for kind, n in counted}


def _counts(part: Part) -> dict[str, Counter[str]]:
    """Return {kind: {judgment: number}} of the records of a part."""
    rows = staging.STAGED[part.kind].objects.filter(place__range=part.places, line__isnull=False).order_by()
    counts = {part.kind: Counter(dict(rows.values_list("judgment").annotate(n=Count("pk"))))}
    if part.kind == "batches":
        of_lines = judging.lines(part.places).order_by().values_list("batch__judgment").annotate(n=Sum("count"))
        counts |= {"items": _counts_of_items(part), "lines": Counter(dict(of_lines))}
    return {kind: +count for kind, count in counts.items() if +count}


def _counts_of_items(part: Part) -> Counter[str]:
    as_they_came = When(Q(judgment=Judgment.SAME) | Q(judgment=CHANGED, items_same=None), then=F("items"))
    same = Case(as_they_came, When(judgment=CHANGED, then=F("items_same")), default=0)
    known = Case(as_they_came, When(judgment=CHANGED, then=Greatest("items_known", "items_same")), default=0)
    listed = Case(as_they_came, When(judgment=CHANGED, then=F("items_listed")), default=0)
    rows = judging.batches(part.places).filter(items__isnull=False).order_by().values_list("judgment")
    counts: Counter[str] = Counter()
    for judgment, *sums in rows.annotate(n=Sum("items"), known=Sum(known), same=Sum(same), listed=Sum(listed)):
        n, n_known, n_same, n_listed = sums
        if judgment in (NEW, CHANGED, Judgment.SAME):
            counts += Counter({"new": n - n_known, "changed": n_known - n_same, "same": n_same})
            counts += Counter({"no_longer_listed": n_listed - n_known})
        else:
            counts += Counter({judgment: n})
    return counts


def _add(counts: dict[str, Any], more: dict[str, Any]) -> None:
    for kind, count in more.items():
        counts[kind] = dict(Counter(counts.get(kind, {})) + Counter(count))


def _note_problems(imported: Import, part: Part) -> None:
    """Note each record of a part that is refused or left alone, with its items, and totals that don't add up."""
    noted: dict[str, Any] = {
        "imported_id": imported.pk,
        "found": ImportProblem.Found.JUDGING.value,
        "value": "",
        "column": "",
    }
    model = staging.STAGED[part.kind]
    rows = model.objects.filter(place__range=part.places, judgment__in=[Judgment.REFUSED, Judgment.LEFT_ALONE])
    history.insert_select(
        ImportProblem,
        rows.filter(line__isnull=False).order_by("place"),
        **noted,
        kind=part.kind,
        judgment=F("judgment"),
        line=F("line"),
        sentence=F("why"),
    )
    if part.kind != "batches":
        return
    for kind, staged in (("items", StagedItem), ("lines", StagedLines)) if rows.exists() else ():
        of_them = staged.objects.filter(batch__in=rows.values("pk")).order_by("batch_id", "line")
        history.insert_select(
            ImportProblem,
            of_them,
            **noted,
            kind=kind,
            judgment=F("batch__judgment"),
            line=F("line"),
            sentence=F("batch__why"),
        )
    history.insert_select(
        ImportProblem,
        judging.that_do_not_add_up(part.places).order_by("place"),
        **noted,
        kind=part.kind,
        judgment=ImportProblem.DOES_NOT_ADD_UP,
        line=F("line"),
        sentence=judging.said(
            "The items of batch {number} don't add up: {items}, {amount} in total. "
            "The batch says {says_items}, {says_amount} in total."
        ),
    )


_JUDGE = {"accounts": judging.judge_accounts, "contacts": judging.judge_contacts, "batches": judging.judge_batches}
_WRITE = {"accounts": _write_accounts, "contacts": _write_contacts, "batches": _write_batches}


# The second person


@staff_verb("unlocks.confirm_contact")
@transaction.atomic
def confirm_import(imported: Import, *, how: str, by: Actor) -> int:
    """Confirm all Admins' addresses of an import that nobody has confirmed yet; return how many.

    Raises Refused: NO_HOW, NOTHING_TO_CONFIRM, and what `obstacle_to_confirming_import` says.
    """
    if not how.strip():
        raise Refused.because(Refusal.NO_HOW)
    waiting = waiting_contacts(imported)
    history.lock(waiting)
    _refuse_to_confirm(imported, by)
    confirmed = list(waiting.order_by("pk"))
    if not confirmed:
        raise Refused.because(Refusal.NOTHING_TO_CONFIRM, name=str(imported).lower())
    history.update(
        waiting,
        by=by,
        why="Address confirmed",
        confirmed_by=by.member.pk,
        confirmed_at=by.act.at,
        confirmed_how=how,
    )
    chain.append_all(
        (
            chain.Entry(
                events.ContactConfirmed(about_id=contact.pk, to=contact.email, name=contact.name, how=how),
                account_id=contact.account_id,
            )
            for contact in confirmed
        ),
        by=by,
    )
    return len(confirmed)


def waiting_contacts(imported: Import) -> QuerySet[Contact]:
    """Return the Admins that came in with an import and whose addresses nobody has confirmed yet."""
    return imported.contacts.filter(is_admin=True, confirmed_by=None)


def obstacle_to_confirming_import(imported: Import, user: User) -> str:
    """Say why this member of staff can't confirm the contacts of an import; '' when they can."""
    no = "You may not confirm addresses: an agent or a manager does."
    return obstacle(_refuse_to_confirm, imported, user, permission=confirm_import.permission, no=no)


def _refuse_to_confirm(imported: Import, by: Actor) -> None:
    if imported.user_id == by.member.pk or waiting_contacts(imported).filter(kept_from(by.member)).exists():
        raise Refused.because(Refusal.OWN_IMPORT)
    if Import.objects.filter(pk=imported.pk, state=State.APPLYING).exists():  # others would come in unseen
        raise Refused.because(Refusal.IMPORT_GOING_ON, name=str(imported))


# What is shown of an import


def problems_of(imported: Import, first: int | None = None) -> Iterator[tuple[str, Problem]]:
    """Yield (file, problem) of what was refused, left alone or does not add up, in the order of files and lines."""
    rows = imported.problems.order_by("line", "pk")[:first]
    for row in rows.iterator(chunk_size=2000):
        name, line = imported.file_and_line(row.line)
        yield name, Problem(line, row.column, row.value, row.sentence)


def became_of(imported: Import) -> dict[int, tuple[str, str]]:
    """Return {line: (judgment, why)} of the accounts, contacts or batches that are staged, as they were judged last."""
    return {
        line: (judgment, why)
        for kind in ("accounts", "contacts", "batches")
        if kind in imported.kinds
        for line, judgment, why in staging.STAGED[kind]
        .objects.filter(place__range=imported.places, line__isnull=False)
        .values_list("line", "judgment", "why")
    }


def groups(imported: Import, first: int = 5) -> Iterator[tuple[str, str, int, list[Any]]]:
    """Yield (kind, judgment, how many, the first of them) of what is staged, as it was judged last."""
    for kind in ("accounts", "contacts", "batches"):
        rows = staging.STAGED[kind].objects.filter(place__range=imported.places, line__isnull=False)
        for judgment in Judgment.values:
            if n := imported.counts.get(kind, {}).get(judgment, 0):
                yield kind, judgment, n, list(rows.filter(judgment=judgment).order_by("place")[:first])
    for kind in ("items", "lines"):
        for judgment, n in imported.counts.get(kind, {}).items():
            yield kind, judgment, n, []
