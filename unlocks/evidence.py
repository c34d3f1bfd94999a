"""Files that show what a customer agreed to, each stored under its own SHA-256 and never overwritten.

They are in `storages["evidence"]`, outside what a web server serves, and are checked each time they are read.
"""

import codecs
import hashlib
import os
import re
import secrets
import unicodedata
from email.parser import BytesHeaderParser
from pathlib import Path

from django.conf import settings
from django.core.files.storage import storages

from .digest import sha256
from .models import ConsentEvidence
from .texts.normalize import is_invisible

NAME_LENGTH = 200
EXTENSIONS = {
    "pdf": "application/pdf",
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "eml": "message/rfc822",
}
NAMES = {
    "application/pdf": "a PDF",
    "image/png": "a PNG picture",
    "image/jpeg": "a JPEG picture",
    "message/rfc822": "a saved email (.eml)",
}
# What programs put before an email's first line: a byte order mark, blank lines, an mbox's "From " line.
_BEFORE_THE_HEAD = rb"\A(?:\xef\xbb\xbf)?[ \t\r\n]*(?:>?From [^\r\n]*[\r\n]+)*"
_MAIL_HEAD = 1024 * 1024
_AT_ONCE = 1024 * 1024
TAKEN = "PDF, PNG, JPEG and saved emails (.eml) are accepted"


class Unfit(Exception):
    """This file is not accepted as evidence; says why, in a sentence. Nothing was stored."""


class Damaged(Exception):
    """The stored file is missing or not the one that was attached; says so, in a sentence."""


class NotStored(Exception):
    """The file could not be written, on a full disk for example; says why, in the system's words. Nothing is left."""


def clean_name(file_name):
    """Return the bare name of a file: no folders, nothing that can't be seen, at most 200 characters, never empty."""
    name = re.split(r"[/\\]", unicodedata.normalize("NFC", file_name))[-1]
    seen = "".join(" " if character.isspace() else character for character in name)
    seen = "".join(character for character in seen if not is_invisible(character))
    stem, dot, extension = " ".join(seen.split()).strip(" .").rpartition(".")
    if not dot:
        stem, extension = extension, ""
    stem = stem.strip(" .") or "unnamed"
    return f"{stem[: NAME_LENGTH - len(dot + extension[:20])].rstrip()}{dot}{extension[:20]}"


def media_type(file_name, content):
    """Return what kind of file this is, judged by its own bytes; its extension has to say the same. Raises Unfit."""
    if not content:
        raise Unfit("This file is empty.")
    if len(content) > settings.EVIDENCE_MAX_BYTES:
        raise Unfit(too_big(len(content)))
    extension = file_name.rpartition(".")[2].lower() if "." in file_name else ""
    found = next((kind for kind, is_one in _LOOKS_LIKE.items() if is_one(content)), None)
    claimed = EXTENSIONS.get(extension)
    if found is None and claimed is None:
        raise Unfit(f"This kind of file is not taken: {TAKEN}.")
    if found is None:
        if claimed == EXTENSIONS["eml"]:
            raise Unfit(
                f"This is not {NAMES[claimed]}: an email starts with who wrote it and when (From, Date). {TAKEN}."
            )
        raise Unfit(f"This is not {NAMES[claimed]}, whatever its name says, or it is broken. {TAKEN}.")
    if found != claimed:
        named = f"its name ends in .{extension}" if extension else "its name has no ending"
        raise Unfit(f"This is {NAMES[found]}, but {named}. Save it under its right name.")
    return found


def too_big(size):
    """Say that a file of so many bytes is too big."""
    return f"This file is too big: {_mib(size)} of at most {_mib(settings.EVIDENCE_MAX_BYTES)}."


def keep(content):
    """Store content under its SHA-256 and return that. A file that exists is checked, not replaced.

    Raises Damaged, NotStored.
    """
    digest = sha256(content)
    place = _place(digest)
    if not place.exists():
        try:
            _write(place, content)
        except OSError as error:
            why = error.strerror or type(error).__name__
            raise NotStored(why) from None
    read(digest)
    return digest


def _write(place, content):
    """Write a file that is there when it is complete, or not at all."""
    place.parent.mkdir(parents=True, exist_ok=True)
    arriving = place.with_name(f"{place.name}.{secrets.token_hex(8)}")
    try:
        with arriving.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        arriving.replace(place)
    except OSError:
        arriving.unlink(missing_ok=True)
        raise


def read(digest):
    """Return the content stored under this SHA-256. Raises Damaged when it is missing or altered."""
    return b"".join(pieces(digest))


def pieces(named):
    """Yield the content stored under this SHA-256 a piece at a time, so that a large file costs no memory.

    Raises Damaged when it is missing, or, after the last piece, when it was altered.
    """
    if not re.fullmatch(r"[0-9a-f]{64}", named):
        raise Damaged("What the database holds of it is no hash.")
    digest = hashlib.sha256()
    try:
        with _place(named).open("rb") as file:
            while piece := file.read(_AT_ONCE):
                digest.update(piece)
                yield piece
    except FileNotFoundError:
        raise Damaged("The file is missing.") from None
    except OSError as error:
        raise Damaged(f"The file can't be read ({type(error).__name__}).") from None
    if digest.hexdigest() != named:
        raise Damaged("The file was altered: it does not fit the hash under which it was attached.")


def faults():
    """Read every file back; yield ("evidence", a sentence) for each that is missing or altered."""
    for kept in ConsentEvidence.objects.select_related("consent").order_by("pk").iterator():
        try:
            read(kept.sha256)
        except Damaged as damaged:
            yield "evidence", f"Evidence {kept.file_name} of {kept.consent} (SHA-256 {kept.sha256}): {damaged}"


def trouble_with_place(storage="evidence"):
    """Try to write where evidence, or another storage, has its files; return what went wrong, or ''."""
    place = Path(storages[storage].path(f"trial-{secrets.token_hex(8)}"))
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"trial")
        place.unlink()
    except OSError as error:
        return f"{place.parent}: {error.strerror or type(error).__name__}"
    return ""


def _place(digest):
    return Path(storages["evidence"].path(f"{digest[:2]}/{digest[2:]}"))


def _mib(size):
    return f"{size / (1024 * 1024):,.1f} MiB".replace(".0 ", " ")


def _is_pdf(content):
    """Return whether readers open it: they look for its head in the first 1,024 bytes, and whatever follows its end."""
    return b"%PDF-" in content[:1024] and b"%%EOF" in content


def _is_png(content):
    return content.startswith(b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR") and b"IEND\xaeB`\x82" in content


def _is_jpeg(content):
    return content.startswith(b"\xff\xd8\xff") and b"\xff\xd9" in content[3:]


def _is_mail(content):
    """Return whether this is a saved email: its headers say who wrote it and when."""
    head = content[:_MAIL_HEAD]
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        head = head.decode("utf-16", "replace").encode()
    head = re.sub(_BEFORE_THE_HEAD, b"", head)
    if not re.match(rb"[!-9;-~]+:", head):
        return False
    # As they stand there: what the parser makes of raw letters beyond ASCII is no string.
    headers = BytesHeaderParser().parsebytes(head).raw_items()
    names = {name.lower() for name, value in headers if value.strip()}
    return "from" in names and not names.isdisjoint({"date", "received"})


# In this order: an email or a picture may hold a PDF.
_LOOKS_LIKE = {
    "image/png": _is_png,
    "image/jpeg": _is_jpeg,
    "message/rfc822": _is_mail,
    "application/pdf": _is_pdf,
}
