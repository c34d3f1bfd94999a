"""The case files of several requests in one ZIP: ordered on the list, made by the worker, downloaded within days."""

import hashlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO
from uuid import UUID, uuid5

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.core.files.storage import storages
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from .. import evidence
from ..actors import Actor
from ..certificates import case_file, keys
from ..digest import canonical, sha256
from ..ledger import chain, events, signing_keys
from ..models import CaseFiles, UnlockRequest
from ..outbox.rows import LEASE, wait_after
from ..rules import Refusal
from ..texts.zips import zipped
from .case_files import make_case_file
from .ordered import CANCELS_OTHERS
from .verbs import Refused, staff_verb

State = CaseFiles.State
MOST = 1_000  # requests in one ZIP
MOST_TRIES = 5
_STRAYS_STAY = timedelta(days=1)  # what a worker that died has left behind

log = logging.getLogger(__name__)


class _Lost(Exception):
    """Another worker has taken this over, or it was canceled."""


@staff_verb("unlocks.make_case_file")
@transaction.atomic
def order_case_files(requests: QuerySet[UnlockRequest], *, narrowed: Sequence[str], by: Actor) -> CaseFiles:
    """Have the worker make the case files of requests, as `by`; `narrowed` says in words which they are.

    While the same person's order of the same requests is being made, that one is returned. Raises Refused with nothing
    written: NO_REQUESTS, TOO_MANY_REQUESTS.
    """
    picked = list(requests.order_by("pk").values_list("pk", flat=True)[: MOST + 1])
    if not picked:
        raise Refused.because(Refusal.NO_REQUESTS)
    if len(picked) > MOST:
        raise Refused.because(Refusal.TOO_MANY_REQUESTS, most=f"{MOST:,}")
    chain.lock()  # two submits at once find each other
    if there := CaseFiles.objects.filter(by=by.member, state=State.QUEUED, requests=picked).first():
        return there
    at = by.act.at
    ordered = CaseFiles.objects.create(
        id=by.act.id, by=by.member, at=at, next_try_at=at, requests=picked, narrowed=list(narrowed)
    )
    told = events.CaseFilesOrdered(**_facts(ordered), sha256=_picked(ordered), narrowed=list(narrowed))
    chain.append_all([chain.Entry(told)], by=by)
    return ordered


@staff_verb("unlocks.make_case_file")
@transaction.atomic
def cancel_case_files(ordered: CaseFiles, *, by: Actor) -> CaseFiles:
    """Have the worker stop before its next case, and return the order; one that was canceled stays as it is.

    Whoever ordered it may, and who holds CANCELS_OTHERS. Raises PermissionDenied, and Refused: ALREADY_RECORDED.
    """
    if ordered.by_id != by.member.pk and not by.may(CANCELS_OTHERS):
        raise PermissionDenied(f"{by.name} may not do this: it needs the permission {CANCELS_OTHERS}.")
    canceled = {"state": State.CANCELED, "answer": f"{by.name} canceled it.", "done_at": timezone.now()}
    done = CaseFiles.objects.filter(pk=ordered.pk, state=State.QUEUED).update(**canceled)
    ordered.refresh_from_db()
    if done:
        chain.append_all([chain.Entry(events.CaseFilesCanceled(**_facts(ordered)))], by=by.begin(_canceled(ordered)))
    elif ordered.state != State.CANCELED:
        raise Refused.because(Refusal.ALREADY_RECORDED, names=ordered.get_state_display().lower())
    return ordered


@staff_verb("unlocks.make_case_file")
def take_case_files(ordered: CaseFiles, *, by: Actor) -> BinaryIO:
    """Return the ZIP file, opened, and record who downloads it. Raises Refused: NO_ZIP, ZIP_DAMAGED."""
    if ordered.state != State.MADE:
        raise Refused.because(Refusal.NO_ZIP, state=ordered.get_state_display().lower())
    try:
        file = _place(ordered).open("rb")
    except OSError:
        raise Refused.because(Refusal.ZIP_DAMAGED) from None
    made = _told(_made(ordered), events.CaseFilesMade)
    digest = hashlib.file_digest(file, "sha256").hexdigest()
    if made is None or digest != made.sha256:
        file.close()
        raise Refused.because(Refusal.ZIP_DAMAGED)
    file.seek(0)
    with transaction.atomic():
        chain.append_all([chain.Entry(events.CaseFilesTaken(**_facts(ordered), sha256=digest))], by=by)
    return file


def case_files_wait() -> bool:
    """Say whether the worker has case files to make."""
    return CaseFiles.objects.filter(state=State.QUEUED, next_try_at__lte=timezone.now()).exists()


def make_ordered_case_files() -> int:
    """Make the case files that have waited for longest; return how many orders that were: 1 or 0.

    Nothing is locked meanwhile: a lease is renewed with each of them, and that of a worker who dies runs out.
    """
    if (ordered := _leased()) is None:
        return 0
    try:
        _make(ordered)
    except (Refused, PermissionDenied) as why:
        _end(ordered, State.FAILED, answer=str(why))
    except (OSError, case_file.Changed, evidence.Damaged) as error:
        log.error("Case files (%s) broke off: %s", ordered.pk, type(error).__name__)
        _again(ordered, f"{type(error).__name__}: {error}")
    except _Lost:
        pass
    return 1


def delete_old_case_files() -> int:
    """Delete each ZIP that was kept for long enough, and what workers that died have left; return how many ended."""
    now = timezone.now()
    over = list(CaseFiles.objects.filter(state=State.MADE, done_at__lte=now - settings.CASE_FILE_LIFETIME))
    kept = {_place(one).name for one in CaseFiles.objects.filter(state=State.MADE)} - {_place(one).name for one in over}
    try:
        for ordered in over:
            _place(ordered).unlink(missing_ok=True)
            CaseFiles.objects.filter(pk=ordered.pk).update(state=State.DELETED)
        for file in Path(storages["case_files"].path("")).glob("*.zip"):
            if file.name not in kept and file.stat().st_mtime < (now - _STRAYS_STAY).timestamp():
                file.unlink()
    except OSError as error:
        log.error("Old case files can't be deleted: %s", type(error).__name__)
    return len(over)


def _leased() -> CaseFiles | None:
    """Take the order that has waited for longest, which counts as a try; None when none is due."""
    now = timezone.now()
    with transaction.atomic(durable=True):
        due = CaseFiles.objects.filter(state=State.QUEUED, next_try_at__lte=now).order_by("next_try_at")
        ordered = due.select_for_update(skip_locked=True, no_key=True).first()
        if ordered and ordered.tries >= MOST_TRIES:
            _end(ordered, State.FAILED, answer=_given_up(ordered))
            return None
        if ordered:
            ordered.tries += 1
            changes = {"tries": ordered.tries, "next_try_at": now + LEASE, "done": 0, "answer": ""}
            CaseFiles.objects.filter(pk=ordered.pk).update(**changes)
    return ordered


def _given_up(ordered: CaseFiles) -> str:
    last = f"broke off ({ordered.answer})" if ordered.answer else "ended with its worker"
    what_next = "Tell whoever looks after the server, and then order the case files again."
    return f"It was tried {MOST_TRIES} times, and the last try {last}. {what_next}"


def _make(ordered: CaseFiles) -> None:
    """Write the ZIP file, and record that it is there. Raises Refused, PermissionDenied, OSError, _Lost and others."""
    by = _who_ordered(ordered)
    key = signing_keys.newest()
    if key is None or key.key not in keys.configured():
        raise Refused.because(Refusal.NO_CERTIFICATE_KEY)
    faults: list[dict[str, str]] = []
    files = case_file.together(
        str(ordered), _cases(ordered, by, faults), faults, narrowed=ordered.narrowed, made_by=by.name
    )
    size, digest = _write(_place(ordered), zipped(files, at=ordered.at))
    told = events.CaseFilesMade(**_facts(ordered), faults=len(faults), sha256=digest)
    with transaction.atomic():
        if not _end(ordered, State.MADE, size=size, sha256=digest, faults=len(faults)):
            _place(ordered).unlink(missing_ok=True)
            raise _Lost
        chain.append_all([chain.Entry(told)], by=by.begin(_made(ordered)))


def _who_ordered(ordered: CaseFiles) -> Actor:
    """Return who ordered this, as the ledger tells. Raises Refused when it tells of no such order, or of its end."""
    told = _told(ordered.pk, events.CaseFilesOrdered)
    entry = chain.entry_of_act(ordered.pk, events.CaseFilesOrdered)
    canceled = chain.entry_of_act(_canceled(ordered), events.CaseFilesCanceled)
    if told is None or entry is None or entry.user is None or told.sha256 != _picked(ordered) or canceled:
        raise Refused.because(Refusal.NOT_ORDERED)
    return Actor(name=entry.user.get_username(), user=entry.user, ip=entry.ip)


def _told(act: UUID, kind: type[events.E]) -> events.E | None:
    """Return the event of this kind of an act, if its entry is as it was sealed."""
    entry = chain.entry_of_act(act, kind)
    if entry is None or not chain.fits(entry) or chain.column_that_differs(entry) is not None:
        return None
    event = events.read(entry)
    return event if isinstance(event, kind) else None


def _cases(ordered: CaseFiles, by: Actor, faults: list[dict[str, str]]) -> Iterator[Any]:
    """Yield the case file of each request. One that can't be made is added to the faults."""
    for done, pk in enumerate(ordered.requests):
        _renew(ordered, done)
        unlock_request = UnlockRequest.objects.select_related("account").get(pk=pk)
        try:
            yield make_case_file(unlock_request, by=by)
        except Refused as refused:
            faults.append(case_file.fault(unlock_request.reference, str(refused)))


def _renew(ordered: CaseFiles, done: int) -> None:
    """Say how many are made, and keep the order from other workers. Raises _Lost when it is no more this one's."""
    if not CaseFiles.objects.filter(**_mine(ordered)).update(done=done, next_try_at=timezone.now() + LEASE):
        raise _Lost


def _mine(ordered: CaseFiles) -> dict[str, Any]:
    """Return the condition for an order that this worker still has."""
    return {"pk": ordered.pk, "state": State.QUEUED, "tries": ordered.tries}


def _again(ordered: CaseFiles, answer: str) -> None:
    CaseFiles.objects.filter(**_mine(ordered)).update(
        answer=answer, next_try_at=timezone.now() + wait_after(ordered.tries)
    )


def _end(ordered: CaseFiles, state: State, *, answer: str = "", **columns: Any) -> bool:
    """End an order, and say whether it was still this worker's."""
    return bool(
        CaseFiles.objects.filter(**_mine(ordered)).update(state=state, answer=answer, done_at=timezone.now(), **columns)
    )


def _write(place: Path, pieces: Iterable[bytes]) -> tuple[int, str]:
    """Write a file that is there when it is whole, or not at all; return its size and SHA-256 (hex)."""
    size, digest = 0, hashlib.sha256()
    place.parent.mkdir(parents=True, exist_ok=True)
    arriving = place.with_suffix(".part.zip")
    try:
        with arriving.open("wb") as file:
            for piece in pieces:
                file.write(piece)
                digest.update(piece)
                size += len(piece)
        arriving.replace(place)
    except BaseException:
        arriving.unlink(missing_ok=True)
        raise
    return size, digest.hexdigest()


def _place(ordered: CaseFiles) -> Path:
    """Return where the ZIP is: each try has a file of its own."""
    return Path(storages["case_files"].path(f"{ordered.pk}-{ordered.tries}.zip"))


def _made(ordered: CaseFiles) -> UUID:
    """Return the id of the act in which it was made."""
    return uuid5(ordered.pk, "made")


def _canceled(ordered: CaseFiles) -> UUID:
    """Return the id of the act in which it was canceled."""
    return uuid5(ordered.pk, "canceled")


def _picked(ordered: CaseFiles) -> str:
    return sha256(canonical(ordered.requests))


def _facts(ordered: CaseFiles) -> dict[str, Any]:
    return {"order": str(ordered.pk), "requests": len(ordered.requests)}
