"""Delete each clause of each guard and each reason of the rule in turn, and list what no test notices.

    python -m tests.mutants [--sample SECONDS] [--seed N] [--only TEXT] [--database postgres://...]

A mutant is tried by the tests near it alone: for a guard, the rows of `tests/database/test_clauses.py` and the attacks
that name it; for the rule, `tests/test_rules.py` and `tests/operations/test_unlock.py`. It is one session of pytest
with one database. A mutant is put in place when a test's fixtures are, inside the test's transaction, and goes with it.
Exits with 1 when a mutant survives that is not in ACCEPTED.
"""

import argparse
import ast
import inspect
import os
import random
import re
import sys
import time
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from unittest import mock

import django
import pytest
from _pytest.runner import runtestprotocol


def options():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sample", type=float, metavar="SECONDS", help="stop after so long")
    parser.add_argument("--seed", type=int, default=0, help="the order they are tried in")
    parser.add_argument("--only", default="", metavar="TEXT", help="those alone with this in their description")
    parser.add_argument("--database", metavar="URL", help="a PostgreSQL to try them on, instead of SQLite")
    parser.add_argument("--verbose", action="store_true", help="say which test notices each")
    return parser.parse_args()


# Before the app is imported: the settings say which database the guards are for.
OPTIONS = options()
if OPTIONS.database:
    os.environ["DATABASE_URL"] = OPTIONS.database
os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
django.setup()

from django.db import connection  # noqa: E402

from tests.clauses import clauses  # noqa: E402
from unlocks import rules  # noqa: E402
from unlocks.database.guards import declared, postgresql, sqlite  # noqa: E402

# What no test can notice, as (whose, clause): why.
_EVERY_STATUS = "Every status may be followed by closed, so that it makes no difference which one it is."
_KEEPS_ITS_ID = "A batch keeps its id, so that the one after and the one before are the same."
_NO_PARTNER = "PostgreSQL refuses another key before it asks any guard: the row has no partner among the rows before."
_KEY = "{new}.id <!> {old}.id"
ACCEPTED = {
    **{
        ("request_moves_along_the_arrows", f"{{old}}.status = '{old}'{nth}"): _EVERY_STATUS
        for old, nth in [("open", " (2)"), ("awaiting_consent", " (2)"), ("consented", " (3)"), ("unlocked", "")]
    },
    **{("unlocks_guard_unlocks_batch_update_blanks_fingerprint", key): _KEEPS_ITS_ID for key in ("NEW.id", "OLD.id")},
}
ACCEPTED_ON = {
    "sqlite": {
        ("terms_start_as_a_draft", "t.id <> {new}.id"): "SQLite judges a row before it is there to be found.",
    },
    "postgresql": {
        (guard.name, clause): _NO_PARTNER
        for guard in declared.GUARDS
        for clause in (_KEY, "all of it")
        if _KEY in guard.refused_when and (clause == _KEY or guard.refused_when == _KEY)
    },
}

CLAUSES, ATTACKS = "tests/database/test_clauses.py", "tests/test_attacks.py"
RULE = ("tests/test_rules.py", "tests/operations/test_unlock.py")
LOCKS = "tests/test_concurrency.py"


# The mutants


@dataclass(frozen=True)
class Mutant:
    """Something without one of its clauses. `put_in_place` is a context manager; `near` says which tests may notice."""

    whose: str
    clause: str
    put_in_place: callable
    near: callable

    def __str__(self):
        return f"{self.whose}: without {self.clause}"

    def accepted(self, vendor):
        return (ACCEPTED | ACCEPTED_ON[vendor]).get((self.whose, self.clause))


def mutants(vendor):
    made = [*_of_guards(vendor), *_of_blanking(), *_of_rule()]
    made += _of_triggers() if vendor == "sqlite" else _of_functions()
    return _numbered(made)


def _numbered(made):
    """Tell clauses apart that read the same."""
    seen = defaultdict(int)
    for mutant in made:
        seen[mutant.whose, mutant.clause] += 1
        nth = seen[mutant.whose, mutant.clause]
        yield replace(mutant, clause=f"{mutant.clause} ({nth})") if nth > 1 else mutant


def _of_guards(vendor):
    for guard in declared.GUARDS:
        without = [(clause.text, replace(guard, refused_when=clause.without)) for clause in clauses(guard.refused_when)]
        if guard.refused_when != "1 = 0":
            without.append(("all of it", replace(guard, refused_when="1 = 0")))
        if vendor == "sqlite" and len(guard.of) > 1:
            for column in guard.of:
                others = tuple(other for other in guard.of if other != column)
                without.append((f"OF {column}", replace(guard, of=others)))
        for text, mutated in without:
            yield Mutant(guard.name, text, partial(_guards_with, mutated), partial(_names, guard.name))


@contextmanager
def _guards_with(mutated):
    guards_now = [mutated if guard.name == mutated.name else guard for guard in declared.GUARDS]
    with mock.patch.object(declared, "GUARDS", guards_now), _in_the_database():
        yield


def _of_blanking():
    for entry in declared.BLANKED_BY:
        table, event, key, columns = entry
        without = [("all of it", None)]
        for column in columns:
            others = tuple(other for other in columns if other != column)
            without.append((column, (table, event, key, others)))
        for text, mutated in without:
            whose = f"blanking by {event} of {table}"
            yield Mutant(whose, text, partial(_blanking_with, entry, mutated), _is_about_blanking)


@contextmanager
def _blanking_with(entry, mutated):
    entries = [mutated if other == entry else other for other in declared.BLANKED_BY]
    with mock.patch.object(declared, "BLANKED_BY", [*filter(None, entries)]), _in_the_database():
        yield


def _of_triggers():
    """Yield mutants of the triggers of SQLite that are declared by table."""
    for name, table, sql in chain(sqlite._blanking(), sqlite._growing(), sqlite._staying()):
        near = _is_about_blanking if "blanks" in name else partial(_names, table)
        for text, mutated in _shortened(sql):
            yield Mutant(name, text, partial(_trigger_with, name, mutated), near)


def _shortened(sql):
    """Yield (what is gone, the trigger without it); the trigger is None once it is gone altogether."""
    yield "all of it", None
    if condition := re.search(r"\nWHEN (.*)\nBEGIN", sql, re.S):
        for clause in clauses(condition[1]):
            yield clause.text, sql.replace(condition[1], clause.without)
    if columns := re.search(r" OF (\w+(?:, \w+)+) ON", sql):
        names = columns[1].split(", ")
        for name in names:
            yield f"OF {name}", sql.replace(columns[1], ", ".join(other for other in names if other != name))
    if keys := re.search(r"IN \((NEW\.\w+), (OLD\.\w+)\)", sql):
        for key, other in (keys.groups(), keys.groups()[::-1]):
            yield key, sql.replace(keys[0], f"IN ({other})")


@contextmanager
def _trigger_with(name, mutated):
    triggers = sqlite._triggers

    def with_mutant():
        return [
            (other, table, mutated if other == name else sql)
            for other, table, sql in triggers()
            if other != name or mutated
        ]

    with mock.patch.object(sqlite, "_triggers", with_mutant), _in_the_database():
        yield


_LOCKING = [
    (r"\n    IF current_setting\('transaction_isolation'\).*?END IF;", "the isolation of an unlock or hand-over"),
    (r"\n  IF current_setting\('transaction_isolation'\).*?END IF;", "the isolation of a withdrawal"),
    (
        r"\n    EXECUTE \$sql\$SELECT 1 FROM unlocks_consent c .*?FOR SHARE\$sql\$;",
        "the lock of an unlock or hand-over",
    ),
    (r"\n  PERFORM 1 FROM unlocks_consent c .*?FOR UPDATE;", "the lock of a withdrawal"),
    (r"\n  PERFORM 1 FROM unlocks_batch b .*?FOR NO KEY UPDATE;", "the lock of a change of items"),
    (r" UNION SELECT o\.\w+ [^$]*?(?=\)\$sql\$ INTO stale)", "the batch an item moves from"),
    (r"SELECT n\.batch_id FROM new_rows n JOIN [^$]*? UNION ", "the batch an item moves to"),
]


def _of_functions():
    """Yield mutants of what PostgreSQL's functions have that no condition declares."""
    for function in postgresql._functions():
        for pattern, text in _LOCKING:
            mutated = re.sub(pattern, "", function.body, flags=re.S)
            if mutated != function.body:
                near = _is_about_blanking if "moves" in text else _is_about_locks
                yield Mutant(function.name, text, partial(_function_with, function.name, mutated), near)
        for event in function.events if function.timing == "BEFORE" else ():
            skipped = f"BEGIN\n  IF TG_OP = '{event}' THEN RETURN NULL; END IF;"
            mutated = function.body.replace("BEGIN", skipped, 1)
            near = partial(_names, function.table)
            yield Mutant(function.name, event, partial(_function_with, function.name, mutated), near)


@contextmanager
def _function_with(name, mutated):
    functions = postgresql._functions

    def with_mutant():
        every = functions()
        return [function._replace(body=mutated) if function.name == name else function for function in every]

    with mock.patch.object(postgresql, "_functions", with_mutant), _in_the_database():
        yield


@contextmanager
def _in_the_database():
    """Replace the triggers that are there and should be others now. Whatever runs the test takes that back."""
    dialect = {"sqlite": sqlite, "postgresql": postgresql}[connection.vendor]
    expected, stored = dialect.expected(connection), dialect.stored(connection)
    # A test that has lifted the guards installs what it needs, with the mutant in it.
    names = [name for name in stored if name.startswith("unlocks_guard_") and stored[name] != expected.get(name)]
    with connection.cursor() as cursor:
        for name in names:
            if connection.vendor == "sqlite":
                cursor.execute(f'DROP TRIGGER "{name}"')
                if name in expected:
                    cursor.execute(expected[name], None)
            else:
                body = expected[name][-1]
                path = postgresql._search_path(connection)
                cursor.execute(
                    f"CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER "
                    f"SET search_path = {path} SET jit = off AS $guard${body}$guard$",
                    None,
                )
    yield


_RULE = {
    "_INACTIVE",
    "WAITS_TO_BE_HANDED_OVER",
    "_WITHDRAWN",
    "_CONFIRMED_SINCE",
    "STILL_THEIRS",
    "_STATUS",
    "_CLOSED",
    "with_open_line",
    "eligible",
    "judged",
    "judged_again",
    "judged_to_cancel",
    "judged_to_relock",
    "judged_granted",
    "_judged_in",
    "_consent_is_over",
    "_by_another_person",
    "_could_have_agreed",
    "entered_by",
    "kept_from",
    "who_entered",
    "has_possible_duplicates",
    "has_other_totals",
}


def _of_rule():
    """Yield mutants of the rule: without a reason, an operand, a filter's condition or a part of what is compared."""
    source = Path(rules.__file__).read_text()
    for n in range(len(_pieces(ast.parse(source)))):
        tree = ast.parse(source)
        whose, pieces, piece = _pieces(tree)[n]
        text = ast.unparse(piece)
        pieces.remove(piece)
        code = compile(ast.unparse(tree), rules.__file__, "exec")
        yield Mutant(f"rules.{whose}", text, partial(_rules_from, code), _is_about_rule)


def _pieces(tree):
    """Return (whose, the list it is in, what can be deleted) for the rule's part of a syntax tree."""
    found = []
    for statement in tree.body:
        name = getattr(statement, "name", None) or getattr(getattr(statement, "targets", [None])[0], "id", None)
        if name in _RULE:
            found += [(name, *piece) for node in ast.walk(statement) for piece in _deletable(node)]
    return found


def _deletable(node):
    match node:
        case ast.Call(func=ast.Attribute(attr="filter" | "exclude"), keywords=keywords):
            return [(keywords, keyword) for keyword in keywords]
        case ast.Call(func=ast.Name(id="_why" | "_judged_in"), args=parts) | ast.List(elts=parts):
            return [(parts, part) for part in parts if isinstance(part, ast.Call)]
        case ast.BoolOp(values=parts) | ast.Assign(targets=[ast.Name()], value=ast.Tuple(elts=parts)):
            return [(parts, part) for part in parts]
    return []


@contextmanager
def _rules_from(mutated):
    """Let the functions of the rule, wherever they were imported, do what other code of the module says."""
    other = {name: rules.__dict__[name] for name in ("__name__", "__package__", "__file__")}
    exec(mutated, other)
    own = {name: rules.__dict__[name] for name in _RULE}
    codes = {function: function.__code__ for function in own.values() if inspect.isfunction(function)}
    for name, value in own.items():
        if inspect.isfunction(value):
            value.__code__ = other[name].__code__
        else:
            setattr(rules, name, other[name])
    try:
        yield
    finally:
        for function, code in codes.items():
            function.__code__ = code
        rules.__dict__.update(own)


# The tests near a mutant


def _names(name, item):
    """Say whether a test is a row about that guard or table."""
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    if item.originalname == "test_attack_is_refused":
        return name in parameters["attack"].refused_by
    return item.originalname == "test_row" and parameters["row"].guard == name


def _is_about_blanking(item):
    return _is_in(item, CLAUSES) and "blanks" in item.originalname


def _is_about_locks(item):
    return _is_in(item, LOCKS)


def _is_about_rule(item):
    return _is_in(item, *RULE)


def _is_in(item, *files):
    return item.location[0] in files


# The run

# SQL that no database takes, or an error of this file: such a mutant shows nothing.
_NO_MUTANT = re.compile(r"syntax error|no such column|no such table|UndefinedColumn|tests/mutants\.py:")


class Run:
    """A plugin of pytest that runs the tests it collects once for each mutant that they are near to."""

    mutant = None

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item):
        if self.mutant is None:
            return (yield)
        with self.mutant.put_in_place():
            return (yield)

    def pytest_runtestloop(self, session):
        self.say = session.config.get_terminal_writer().line
        chosen = [mutant for mutant in mutants(connection.vendor) if OPTIONS.only in str(mutant)]
        if not chosen:
            raise pytest.UsageError(f"No mutant has {OPTIONS.only!r} in its description.")
        random.Random(OPTIONS.seed).shuffle(chosen)
        until = time.monotonic() + (OPTIONS.sample or float("inf"))
        tried, accepted, survivors = 0, 0, []
        for mutant in chosen:
            if time.monotonic() > until:
                break
            tried += 1
            if self.noticed(mutant, session.items):
                continue
            if why := mutant.accepted(connection.vendor):
                accepted += 1
                self.say(f"accepted  {mutant}  ({why})")
            else:
                survivors.append(mutant)
                self.say(f"SURVIVED  {mutant}")
        self.finish(session)
        killed = tried - accepted - len(survivors)
        self.say(
            f"{tried} of {len(chosen)} mutants tried on {connection.vendor}: {killed} killed, {accepted} accepted, "
            f"{len(survivors)} survived; {time.process_time():.0f} s of CPU"
        )
        session.testsfailed = len(survivors)
        return True

    def noticed(self, mutant, items):
        """Say whether a test near the mutant fails because of it."""
        for item in items:
            if not mutant.near(item):
                continue
            if failure := self.failure(item, mutant):
                if _NO_MUTANT.search(failure):
                    raise pytest.UsageError(f"{mutant} can't be put in place:\n{failure}")
                if failure := self.failure(item):
                    raise pytest.UsageError(f"{item.nodeid} fails without any mutant:\n{failure}")
                if OPTIONS.verbose:
                    self.say(f"killed    {mutant}  by {item.name}")
                return True
        return False

    def failure(self, item, mutant=None):
        """Run a test, and leave what it shares with others of its module; return what failed, or ''."""
        self.mutant = mutant
        item.session._setupstate.teardown_exact(item)
        reports = runtestprotocol(item, log=False, nextitem=item.parent)
        self.mutant = None
        return "".join(report.longreprtext for report in reports if report.failed)

    def finish(self, session):
        session._setupstate.teardown_exact(None)


if __name__ == "__main__":
    files = [CLAUSES, ATTACKS, *RULE, LOCKS]
    sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "--no-summary", *files], plugins=[Run()]))
