"""Measure the download of the whole audit log, as CSV and as Excel, from what `python -m bench.size 460_000` made.

`python -m bench.exporting` prints rows, seconds, the first byte, the file's size, and what memory the process takes
beyond that of before.
"""

import resource
from time import perf_counter

from bench import size  # the settings, before anything else

from django.contrib.auth import get_user_model  # isort: skip
from django.test import Client  # isort: skip


def main():
    client = Client(SERVER_NAME="localhost")
    client.force_login(get_user_model().objects.get(username="manager1"))
    client.get("/desk/unlocks/ledgerentry/")
    for form in ("csv", "xlsx"):
        before, start = _mib(), perf_counter()
        pieces = iter(client.post("/desk/unlocks/ledgerentry/file/", {"form": form}).streaming_content)
        length, first = len(next(pieces)), perf_counter() - start
        for piece in pieces:
            length += len(piece)
        took = perf_counter() - start
        print(
            f"{form}: {took:.1f} s, the first byte after {first:.2f} s, {length / 2**20:.0f} MiB; "
            f"{_mib() - before} MiB of memory more",
            flush=True,
        )


def _mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    print(size.NAME)
    main()
