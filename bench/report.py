"""Say in two tables what was measured."""

UNLOCK = {
    "the desk's `unlock`, seconds": lambda found: found["seconds"]["verb"],
    "hand-written SQL, seconds": lambda found: found["seconds"]["sql"],
    "a loop of `save()`, seconds": lambda found: found["seconds"]["save_loop"],
    "`unlock` to SQL (target: at most 1.5)": lambda found: found["ratio_to_sql"],
    "the loop to `unlock` (target: at least 20)": lambda found: found["speedup_over_save_loop"],
    "`unlock` of a single batch, seconds": lambda found: found["seconds_for_one_batch"],
    "statements of `unlock`": lambda found: found["statements"],
    "statements for 10 batches": lambda found: found["statements_for_10"],
    "Python's peak memory, MiB": lambda found: found["peak_python_mib"],
    "the same for a tenth of the batches": lambda found: found["peak_python_mib_at_a_tenth"],
}


IMPORT = {
    "the desk's import, seconds": lambda found: found["seconds"]["desk"],
    "of that, reading and staging": lambda found: found["seconds"]["staging"],
    "the other program, seconds": lambda found: found["seconds"]["bare"],
    "the import to the other program (target: at most 2 on SQLite, 1.5 on PostgreSQL)": lambda found: found["ratio"],
    "the same files again, seconds": lambda found: found["seconds"]["again"],
    "the same files again to the first time (target: at most a third)": lambda found: found["again_to_first"],
    "peak memory of the command, MiB (target: below 300)": lambda found: found["mib"],
}


def report(results):
    """Return the results as Markdown."""
    parts = [
        _unlock(results["unlock"]),
        _import(results["import"]),
        _one_request(results["one request"]),
        _pages(results["pages"]),
        _stock(results["stock"]),
    ]
    return "\n".join(["# What `make bench` measured", *(line for part in parts for line in ("", *part))])


def _unlock(databases):
    first = next(iter(databases.values()))
    yield f"## Unlocking {first['n']:,} batches, ten in a request"
    yield ""
    yield (
        "Guards on in all three ways; medians of rounds that take turns, on batches not touched before; a ratio is the "
        "median of the rounds' ratios. The loop runs in one transaction on "
        f"{first['save_loop_measured_on']:,} batches; its time is scaled up."
    )
    yield ""
    yield from _table(["", *databases], [[label, *map(value, databases.values())] for label, value in UNLOCK.items()])


def _import(databases):
    first = next(iter(databases.values()))
    yield f"## Importing {first['n']:,} batches with {first['n'] * 10:,} items from CSV"
    yield ""
    yield (
        "With history, and the guards on in both. The other program reads the same columns with Python's csv, looks "
        "for nothing on file, and writes the same rows with hand-written SQL. Medians of rounds that take turns; a "
        "ratio is the median of the rounds' ratios."
    )
    yield ""
    yield from _table(["", *databases], [[label, *map(value, databases.values())] for label, value in IMPORT.items()])


def _one_request(databases):
    yield "## One request: the customer agrees, Support unlocks, the customer withdraws"
    yield ""
    yield "Seconds by the number of its batches, beside those of the other tables; each on batches not touched before."
    yield ""
    rows = [
        [vendor, state, verb, *(costs[verb] for costs in sizes.values())]
        for vendor, states in databases.items()
        for state, sizes in states.items()
        for verb in next(iter(sizes.values()))
    ]
    sizes = next(iter(next(iter(databases.values())).values()))
    yield from _table(["", "statistics", "verb", *(f"{int(size):,} batches" for size in sizes)], rows)


def _pages(databases):
    yield "## Pages, as an agent gets them"
    yield ""
    rows = [
        [vendor, page, *(f"{at['queries']} queries, {at['ms']} ms" for at in (small, large)), ratio]
        for vendor, pages in databases.items()
        for page, (small, large, ratio) in ((page, sizes.values()) for page, sizes in pages.items())
    ]
    sizes = [f"{int(size):,} batches" for size in list(next(iter(next(iter(databases.values())).values())))[:2]]
    yield from _table(["", "page", *sizes, "ratio"], rows)


def _stock(databases):
    yield "## The same pages of a stock admin"
    yield ""
    yield (
        "Django's admin with SimpleHistoryAdmin over the same tables, with 100,000 batches, for a superuser; the desk "
        "for a manager. They take turns; medians, and a ratio is the median of the rounds' ratios. Above 1 the desk is "
        "ahead."
    )
    yield ""
    rows = [
        [vendor, page, *(f"{cost['queries']} queries, {cost['ms']} ms" for cost in sides), ratio]
        for vendor, pages in databases.items()
        for page, (*sides, ratio) in ((page, found.values()) for page, found in pages.items())
    ]
    yield from _table(["", "page", "the desk", "stock admin", "stock to desk (target: at least 1)"], rows)


def _table(head, rows):
    yield f"| {' | '.join(head)} |"
    yield "|---" * len(head) + "|"
    for row in rows:
        yield f"| {' | '.join(map(str, row))} |"
