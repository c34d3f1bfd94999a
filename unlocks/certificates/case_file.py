"""The case file of a request: all that is on record of it in one folder, with a signed list of its files.

Nothing of it is kept: each file is read twice, once for the list and once as it is handed out, a piece at a time. One
that is not the same then breaks the ZIP off, which looks like none.
"""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from django.conf import settings
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone

from .. import changes, evidence
from ..digest import canonical, sha256
from ..ledger import chain, events, signing_keys
from ..models import Certificate, ConsentEvidence, LedgerEntry
from ..texts import changed
from ..texts.cells import csv_file
from ..texts.formats import counted, moment_with_seconds, zone_of
from ..texts.zips import zipped
from . import batch_list, keys, verify_certificate

FORMAT = "unlock-desk-case-file/1"
_AT_ONCE = 500  # entries
_GONE = "The ledger tells of it, and it is not on record any more."
_ENDINGS = {media_type: ending for ending, media_type in reversed(evidence.EXTENSIONS.items())}
_SEALED = ("sequence", "appended_at", "previous_hash", "hash")
_TEXTS = ("facts", "facts_salt", "facts_hash", "personal", "personal_salt", "personal_hash")
_COLUMNS = (
    "Batch",
    "Name",
    "Unlocked at (UTC)",
    "Ended at (UTC)",
    "What is known",
    "Of what",
    "Field",
    "At the unlock",
    "Since",
)


class Changed(Exception):
    """A file is not what it was when the list was made. The ZIP broke off."""


@dataclass(frozen=True)
class Piece:
    """A file of a case file: its path, what it is in words, and what reads it, in pieces and as often as asked to."""

    path: str
    about: str
    read: Callable[[], Iterable[bytes]]

    @property
    def listed(self):
        """Read the file, and return it as the list has it."""
        size, digest = 0, hashlib.sha256()
        for piece in self.read():
            size += len(piece)
            digest.update(piece)
        return {"path": self.path, "size": size, "sha256": digest.hexdigest()}


@dataclass(frozen=True)
class CaseFile:
    """The files of a case file, the list of them among them, and what the list says. `papers` are those attached."""

    manifest: dict[str, Any]
    content: bytes
    pieces: list[Piece]
    papers: list[ConsentEvidence]

    @property
    def name(self):
        return f"{self.manifest['request']}-case-file.zip"

    @property
    def sha256(self):
        """The SHA-256 (hex) of its manifest.json."""
        return sha256(self.content)

    def zip(self):
        """Yield the pieces of the ZIP file. Raises Changed."""
        return zipped(self.files(), at=datetime.fromisoformat(self.manifest["made_at"]))

    def files(self):
        """Yield (path, pieces) of each file, in the folder that it is unpacked to. Raises Changed."""
        folder = self.manifest["request"]
        for piece, listed in zip(self.pieces, self.manifest["files"], strict=True):
            yield f"{folder}/{piece.path}", _same(piece, listed["sha256"])
        yield f"{folder}/{verify_certificate.MANIFEST}", [self.content]


def case_file(unlock_request, *, made_at, made_by, public_key, faults=()):
    """Return the case file of a request as it stands now. `faults` are what is known to be missing or damaged."""
    # Read first: what is appended later is not in it.
    sequence, head = chain.head()
    entries = LedgerEntry.objects.filter(unlock_request=unlock_request, sequence__lte=sequence).order_by("sequence")
    zone = zone_of(unlock_request.account)
    with timezone.override(zone):
        papers, paper_pieces, paper_faults = _papers(unlock_request, entries)
        certificates, certificate_faults = _certificates(unlock_request, entries)
        pieces = [
            *certificates,
            *_changes(unlock_request),
            *paper_pieces,
            Piece(
                "timeline.txt",
                f"what happened, in words, in order: {counted(entries.count(), 'entry', 'entries')} of the ledger",
                partial(_timeline, entries, zone),
            ),
            Piece("ledger.jsonl", "the same entries with their hashes", partial(_log, entries)),
            Piece("verify_certificate.py", "the script that checks this folder", _script),
        ]
        faults = [*faults, *certificate_faults, *paper_faults, *_altered(entries)]
        readme = _readme(unlock_request, pieces, faults, made_at, made_by, sequence, head)
    pieces.insert(0, Piece("README.txt", "", lambda: [readme]))
    manifest = _manifest(
        request=unlock_request.reference,
        made_at=made_at.isoformat(),
        made_by=made_by,
        public_key=public_key,
        files=[piece.listed for piece in pieces],
        faults=faults,
        head={"sequence": sequence, "hash": head},
    )
    return CaseFile(manifest, keys.manifest(manifest).encode(), pieces, papers)


def together(folder, cases, faults, *, narrowed, made_by):
    """Yield (path, pieces) of each file of a folder with several case files, which are asked for one after the other.

    Its list has the lists of them. `faults` are what is known to be missing by the end; those of the case files are
    added. Raises Changed.
    """
    listed = []
    for made in cases:
        yield from ((f"{folder}/{path}", pieces) for path, pieces in made.files())
        request = made.manifest["request"]
        path = f"{request}/{verify_certificate.MANIFEST}"
        listed.append({"path": path, "size": len(made.content), "sha256": made.sha256})
        faults += [fault(f"{request}/{one['path']}", one["why"]) for one in made.manifest["faults"]]
    key, made_at, (sequence, head) = signing_keys.newest(), timezone.now(), chain.head()
    about = {"folder": folder, "count": len(listed), "narrowed": narrowed, "faults": faults, "made_at": made_at}
    context = about | {"made_by": made_by, "check_at": settings.PUBLIC_URL + reverse("check")}
    readme = render_to_string("unlocks/case_files.txt", context).encode()
    manifest = _manifest(
        request=None,
        made_at=made_at.isoformat(),
        made_by=made_by,
        public_key=key.key,
        files=[{"path": "README.txt", "size": len(readme), "sha256": sha256(readme)}, *listed],
        faults=faults,
        head={"sequence": sequence, "hash": head},
    )
    yield f"{folder}/README.txt", [readme]
    yield f"{folder}/{verify_certificate.MANIFEST}", [keys.manifest(manifest).encode()]


def _manifest(**facts):
    return {
        "format": FORMAT,
        "vendor": settings.VENDOR_NAME,
        "check_at": settings.PUBLIC_URL + reverse("check"),
    } | facts


def fault(path, why):
    """Return what the list says of a file that is not in the case file, or of one that shows a breach of the record."""
    return {"path": path, "why": why}


def _same(piece, expected):
    """Yield a file a piece at a time. Raises Changed at its end when it is another than expected."""
    digest = hashlib.sha256()
    for part in piece.read():
        digest.update(part)
        yield part
    if digest.hexdigest() != expected:
        raise Changed(piece.path)


def _certificates(unlock_request, entries):
    """Return the pieces of all certificates, and the faults: those that are not what the ledger says was issued."""
    issued = _told_of(entries, events.Certified)
    found, faults = [], []
    of_request = Certificate.objects.filter(consent__unlock_request=unlock_request).select_related("consent")
    for certificate in of_request.defer("content", "pdf").order_by("consent_id", "ordinal"):
        event = issued.pop(certificate.pk, None)
        state = "interim" if certificate.interim else "final"
        about = f"certificate of {certificate.consent}, {state}, issued {moment_with_seconds(certificate.issued_at)}"
        for ending, name, told_as in (("pdf", "pdf", "pdf_sha256"), ("json", "content", "sha256")):
            path = f"certificates/{certificate.number}.{ending}"
            piece = Piece(path, about, partial(_column, certificate.pk, name))
            if piece.listed["sha256"] != getattr(event, told_as, ""):
                faults.append(fault(path, "It is not what the ledger says was issued, so it is not in this folder."))
                continue
            found.append(piece)
            if name == "content" and certificate.consent.batch_count:
                csv = f"certificates/{certificate.number}-batches.csv"
                found.append(Piece(csv, "its batches, for a spreadsheet", partial(_batches, certificate.pk)))
    faults += [fault(f"certificates/{event.certificate}", _GONE) for event in issued.values()]
    return found, faults


def _told_of(entries, kind):
    """Return what the entries of a kind tell, by the key of the row that each is about; not those that were altered."""
    told = entries.filter(kind=kind.kind).iterator(chunk_size=_AT_ONCE)
    return {entry.about_id: event for entry in told if isinstance(event := chain.event_of(entry), kind)}


def _column(pk, name):
    content = Certificate.objects.values_list(name, flat=True).get(pk=pk)
    return [content.encode() if isinstance(content, str) else bytes(content)]


def _batches(pk):
    [content] = _column(pk, "content")
    return [batch_list.content(json.loads(content)["certificate"])]


def _papers(unlock_request, entries):
    """Return the files of evidence that are whole, as rows and as pieces, and the faults: those that are not."""
    attached = _told_of(entries, events.EvidenceAttached)
    whole, pieces, faults = [], [], []
    of_request = ConsentEvidence.objects.filter(consent__unlock_request=unlock_request)
    numbers = {}
    for kept in of_request.select_related("consent", "attached_by").order_by("consent_id", "pk"):
        number = numbers[kept.consent] = numbers.get(kept.consent, 0) + 1
        path = f"evidence/{kept.consent}-{number}.{_ENDINGS.get(kept.media_type, 'bin')}"
        about = (
            f"“{kept.file_name}”: {kept.get_what_display().lower()}, attached by {kept.attached_by} "
            f"{moment_with_seconds(kept.attached_at)}"
        )
        piece, event = Piece(path, about, partial(evidence.pieces, kept.sha256)), attached.pop(kept.pk, None)
        try:
            if event is None or event.sha256 != kept.sha256:
                raise evidence.Damaged("It is not what the ledger says was attached.")
            piece.listed  # noqa: B018  reads it
        except evidence.Damaged as damaged:
            faults.append(fault(path, f"“{kept.file_name}” (SHA-256 {kept.sha256}): {damaged}"))
        else:
            whole.append(kept)
            pieces.append(piece)
    faults += [
        fault("evidence", f"“{event.file_name}” (SHA-256 {event.sha256}): {_GONE}") for event in attached.values()
    ]
    return whole, pieces, faults


def _changes(unlock_request):
    """Return the piece with what changed while batches were unlocked, if any was."""
    if not (unlocked := changes.while_unlocked(unlock_request.lines.all())):
        return []
    content = csv_file(_COLUMNS, (row for change in unlocked for row in _rows(change)))
    count = sum(change.differs for change in unlocked)
    about = f"what changed in the batches while they were unlocked: {count:,} of {len(unlocked):,} did, as far as known"
    return [Piece("changed-while-unlocked.csv", about, lambda: [content])]


def _rows(change):
    """Return the rows of a batch: one for each field that differs, or one that says that none does, or is not known."""
    batch = change.line.batch
    ended_at = change.ended_at and change.ended_at.isoformat()
    of_batch = [batch.number, batch.name, change.unlocked_at.isoformat(), ended_at]
    if not change.differs:
        known = "the same in newer data from the product" if change.is_known else "not known: no newer data since"
        return [[*of_batch, known, *[""] * 4]]
    of_what, rows = "", []
    for named, *cells in changed.rows(change):
        of_what = named or of_what
        rows.append([*of_batch, "changed", of_what, *cells])
    return rows


def _some(entries):
    """Yield lists of entries."""
    found = entries.iterator(chunk_size=_AT_ONCE)
    while some := list(islice(found, _AT_ONCE)):
        yield some


def _timeline(entries, zone):
    for some in _some(entries):
        with timezone.override(zone):
            text = "".join(map(_told, some))
        yield text.encode()


def _told(entry):
    """Write what an entry tells as the timeline of the request has it."""
    event = chain.event_of(entry)
    where = f", from {entry.ip}" if entry.ip else ""
    quoted = "".join(f"    {line}\n" for line in event.quote.splitlines())
    head = f"{moment_with_seconds(entry.at)} · {entry.actor}{where} · entry {entry.sequence}"
    return f"{head}\n{event.label}{event.rest}\n{quoted}\n"


def _log(entries):
    for some in _some(entries):
        yield "".join(f"{canonical(_as_sealed(entry))}\n" for entry in some).encode()


def _as_sealed(entry):
    """Return all that the hash of an entry is made of, as JSON values."""
    values = {name: getattr(entry, name) for name in _SEALED + _TEXTS}
    return values | {"appended_at": entry.appended_at.isoformat()}


def _altered(entries):
    """Return the faults of entries that do not fit their hashes."""
    return [
        fault("ledger.jsonl", f"Entry {entry.sequence} was altered: its hash does not fit what it says.")
        for some in _some(entries)
        for entry in some
        if not chain.fits(entry)
    ]


def _script():
    return [Path(verify_certificate.__file__).read_bytes()]


def _readme(unlock_request, pieces, faults, made_at, made_by, sequence, head):
    context = {
        "unlock_request": unlock_request,
        "pieces": pieces,
        "width": max(len(piece.path) for piece in pieces) + 2,
        "faults": faults,
        "made_at": made_at,
        "made_by": made_by,
        "sequence": sequence,
        "head": head,
        "check_at": settings.PUBLIC_URL + reverse("check"),
    }
    return render_to_string("unlocks/case_file.txt", context).encode()
