"""Measure unlocking, importing and the pages: `make bench`, or `N=100000 make bench` for more batches.

SQLite always, PostgreSQL when DATABASE_URL_PG (or the usual local address) answers. Each in a database of its own,
which is made and thrown away. Writes bench/results.json and bench/results.md.
"""

import argparse
import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import psycopg

from .report import report

HERE = Path(__file__).parent
POSTGRESQL = os.environ.get("DATABASE_URL_PG", "postgres://postgres@127.0.0.1:5432/")
NAME = "bench_unlock_desk"


def main():
    options = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    options.add_argument("--batches", type=int, default=int(os.environ.get("N", 10_000)), help="how many to unlock")
    n = options.parse_args().batches
    if n < 100:
        options.error("fewer than 100 batches tell nothing")
    results = {"unlock": {}, "import": {}, "one request": {}, "pages": {}, "stock": {}}
    for vendor, database in {"sqlite": sqlite, "postgresql": postgresql}.items():
        with database() as url:
            if url is None:
                print("No PostgreSQL answers (DATABASE_URL_PG): left out.")
                continue
            print(f"Measuring on {vendor} ...", flush=True)
            for subject, found in measured(url, n).items():
                results[subject][vendor] = found
    (HERE / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    text = report(results)
    (HERE / "results.md").write_text(text + "\n")
    print(text)


def measured(url, n):
    run = subprocess.run(
        [sys.executable, "-m", "bench.measure", str(n)],
        env=os.environ | {"DATABASE_URL": url, "UNLOCK_DESK_TRIAL": "1"},
        stdout=subprocess.PIPE,
        check=True,
    )
    return json.loads(run.stdout)


@contextmanager
def sqlite():
    with TemporaryDirectory(prefix="unlock-desk-bench-") as folder:
        yield f"sqlite:///{folder}/{NAME}.sqlite3"


@contextmanager
def postgresql():
    """Yield the address of a new database, dropped afterwards; None when no PostgreSQL answers."""
    url = urlsplit(POSTGRESQL)
    try:
        server = psycopg.connect(url._replace(path="/postgres").geturl(), autocommit=True, connect_timeout=5)
    except psycopg.OperationalError:
        yield None
        return
    with server:
        server.execute(f"DROP DATABASE IF EXISTS {NAME}")
        server.execute(f"CREATE DATABASE {NAME}")
        try:
            yield url._replace(path=f"/{NAME}").geturl()
        finally:
            server.execute(f"DROP DATABASE {NAME} WITH (FORCE)")


main()
