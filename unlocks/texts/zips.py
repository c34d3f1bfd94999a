"""ZIP files, written piece by piece into a stream, so that a large one costs no memory."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo


class Stream:
    """What a ZIP file is written to, which nobody can seek in; `taken` hands out what is there."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, piece: bytes) -> int:
        self._pieces.append(bytes(piece))
        return len(piece)

    def flush(self) -> None:
        pass

    def taken(self) -> bytes:
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)


def zipped(files: Iterable[tuple[str, Iterable[bytes]]], *, at: datetime) -> Iterator[bytes]:
    """Yield the pieces of a ZIP file with these files, (path, pieces) each, all of them dated `at`, in UTC.

    The same files at the same time give the same bytes. The table of contents comes last: a file that breaks off is
    none.
    """
    stream = Stream()
    with ZipFile(stream, "w") as archive:  # type: ignore[call-overload]
        for path, pieces in files:
            with archive.open(_entry(path, at), "w", force_zip64=True) as file:
                for piece in pieces:
                    file.write(piece)
                    yield stream.taken()
    yield stream.taken()


def _entry(path: str, at: datetime) -> ZipInfo:
    entry = ZipInfo(path, date_time=at.astimezone(UTC).timetuple()[:6])
    entry.compress_type, entry.external_attr = ZIP_DEFLATED, 0o644 << 16
    return entry
