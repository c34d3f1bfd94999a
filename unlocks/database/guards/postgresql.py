"""The guards of PostgreSQL: one function a table and event, which sees all rows of the statement in transition tables.

What joins the rows after with the rows before goes through EXECUTE: it is planned for the number of rows at hand.
A plan kept from an update of one row would compare each of a hundred thousand with all others.
Compiling that plan (JIT) would take a second, more than ten thousand rows do.
"""

from typing import NamedTuple

from .. import fingerprint
from . import declared

_NAMES = {
    "new": "n",
    "old": "o",
    "now": "clock_timestamp()",
    "half_an_hour_ago": "clock_timestamp() - interval '30 minutes'",
    "fingerprint": fingerprint.sql("postgresql", "n"),
    "differs": "IS DISTINCT FROM",
}
# pg_trigger.tgtype
_BITS = {"BEFORE": 2, "AFTER": 0, "INSERT": 4, "DELETE": 8, "UPDATE": 16, "TRUNCATE": 32}
# Unlock and withdrawal meet on the consent's row; without this lock both could commit.
_LOCKS = {
    ("unlocks_batch", "UPDATE"): """
  IF EXISTS (SELECT 1 FROM new_rows WHERE status = 'unlocked') THEN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
      RAISE EXCEPTION USING ERRCODE = '23514', MESSAGE = 'Batches are unlocked at READ COMMITTED only.';
    END IF;
    EXECUTE $sql$SELECT 1 FROM unlocks_consent c WHERE c.id IN (SELECT cb.consent_id FROM new_rows n
      JOIN unlocks_consentedbatch cb ON cb.id = n.grant_id) ORDER BY c.id FOR SHARE$sql$;
  END IF;""",
    ("unlocks_consentwithdrawal", "INSERT"): """
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE EXCEPTION USING ERRCODE = '23514', MESSAGE = 'Consents are withdrawn at READ COMMITTED only.';
  END IF;
  PERFORM 1 FROM unlocks_consent c WHERE c.id IN (SELECT consent_id FROM new_rows) ORDER BY c.id FOR UPDATE;""",
}


class _Function(NamedTuple):
    """A trigger function, and the trigger of the same name that calls it."""

    name: str
    table: str
    timing: str
    events: list
    body: str

    @property
    def bits(self):
        return sum(_BITS[word] for word in [self.timing, *self.events])

    @property
    def transition_tables(self):
        if self.timing == "BEFORE":
            return ""
        before = "OLD TABLE AS old_rows " if self.events == ["UPDATE"] else ""
        return f"REFERENCING {before}NEW TABLE AS new_rows"


def expected(connection):
    """Return {name: what the catalogs say} of the triggers that should be there."""
    settings = [f"search_path={_search_path(connection)}", "jit=off"]
    return {
        function.name: (function.table, function.bits, "A", True, settings, f"\n{function.body}\n")
        for function in _functions(connection)
    }


def stored(connection):
    """Return {name: what the catalogs say} of the triggers that are there."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT t.tgname, c.relname, t.tgtype, t.tgenabled, p.prosecdef, p.proconfig, p.prosrc "
            "FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_proc p ON p.oid = t.tgfoid "
            "WHERE NOT t.tgisinternal AND t.tgqual IS NULL AND t.tgattr = '' AND p.proname = t.tgname "
            "AND p.pronamespace = c.relnamespace AND p.provolatile = 'v' "
            "AND c.relnamespace = to_regnamespace(current_schema())"
        )
        return {name: tuple(rest) for name, *rest in cursor.fetchall()}


def removals(connection):
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT proname FROM pg_proc WHERE starts_with(proname, 'unlocks_guard_') "
            "AND pronamespace = to_regnamespace(current_schema())"
        )
        drops = [f"DROP FUNCTION {name}() CASCADE" for (name,) in cursor.fetchall()]
    # A trigger can't be dropped while its table still waits for the check of a deferred foreign key.
    return ["SET CONSTRAINTS ALL IMMEDIATE", *drops, "SET CONSTRAINTS ALL DEFERRED"]


def statements(connection):
    statements, path = removals(connection), _search_path(connection)
    for function in _functions(connection):
        name, table = function.name, function.table
        statements += [
            f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER "
            f"SET search_path = {path} SET jit = off AS $guard$\n{function.body}\n$guard$",
            f"CREATE TRIGGER {name} {function.timing} {' OR '.join(function.events)} ON {table} "
            f"{function.transition_tables} FOR EACH STATEMENT EXECUTE FUNCTION {name}()",
            f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {name}",
        ]
    return statements


def _search_path(connection):
    """Name pg_temp, and last: left out it comes first, and a temporary table could stand in for a real one."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT quote_ident(current_schema()) || ', pg_temp'")
        return cursor.fetchone()[0]


def _functions(connection):
    tables = set(connection.introspection.table_names())
    functions = [*_judging(), *_growing(), *_staying()]
    return [function for function in functions if function.table in tables]


def _judging():
    """Yield a function for each table and event that a guard judges or that blanks fingerprints."""
    guards = {}
    for guard in declared.GUARDS:
        guards.setdefault((guard.table, guard.event), []).append(guard)
    for table, event, _, _ in declared.BLANKED_BY:
        guards.setdefault((table, event), [])
    for (table, event), judges in guards.items():
        steps = _LOCKS.get((table, event), "") + _check(event, judges) + _blank(table, event)
        body = f"DECLARE\n  refused text;\n  stale bigint[];\nBEGIN{steps}\n  RETURN NULL;\nEND"
        yield _Function(f"unlocks_guard_{table}_{event.lower()}", table, "AFTER", [event], body)


def _check(event, guards):
    """Judge each row once, by all guards of its table; the first that refuses it says why."""
    if not guards:
        return ""
    rows, cases = "new_rows n", []
    if event == "UPDATE":
        # A row whose key changed has no partner.
        rows = "new_rows n LEFT JOIN old_rows o ON o.id = n.id"
        cases = ["WHEN o.id IS NULL THEN 'Rows keep their keys.'"]
    cases += [f"WHEN {guard.condition(**_NAMES)} THEN {_quoted(guard.says)}" for guard in guards]
    judged = f"SELECT CASE {' '.join(cases)} END AS says FROM {rows}"
    # Not EXISTS, not LIMIT 1: for a first row alone PostgreSQL compares each row after with all rows before.
    first = f"SELECT min(says) FROM ({judged}) judged"
    asked = f"EXECUTE $sql${first}$sql$ INTO refused" if event == "UPDATE" else f"refused := ({first})"
    return (
        f"\n  {asked};\n  IF refused IS NOT NULL THEN\n"
        "    RAISE EXCEPTION USING ERRCODE = '23514', MESSAGE = refused;\n  END IF;"
    )


def _blank(table, event):
    for blanking_table, blanking_event, key, columns in declared.BLANKED_BY:
        if (blanking_table, blanking_event) != (table, event):
            continue
        changed = " OR ".join(f"n.{column} IS DISTINCT FROM o.{column}" for column in columns)
        keys = f"SELECT n.{key} FROM new_rows n"
        if event == "UPDATE":
            joined = f"FROM new_rows n JOIN old_rows o ON o.id = n.id WHERE {changed}"
            keys = f"SELECT n.{key} {joined} UNION SELECT o.{key} {joined}"
        lock = ""
        if table != "unlocks_batch":
            # Without the lock, a consent given meanwhile would fingerprint the content without this change.
            lock = "\n  PERFORM 1 FROM unlocks_batch b WHERE b.id = ANY (stale) ORDER BY b.id FOR NO KEY UPDATE;"
        blanked = "b.id = ANY (stale) AND b.fingerprint <> ''"
        # Statement triggers fire for no rows too: without the IF this one would call itself for ever.
        return (
            f"\n  EXECUTE $sql$SELECT array({keys})$sql$ INTO stale;{lock}\n"
            f"  IF EXISTS (SELECT 1 FROM unlocks_batch b WHERE {blanked}) THEN\n"
            f"    UPDATE unlocks_batch b SET fingerprint = '' WHERE {blanked};\n  END IF;"
        )
    return ""


def _growing():
    for table in declared.append_only_tables():
        refusal = _refuse(declared.ONLY_GROWS.format(table=table))
        yield _Function(f"unlocks_guard_{table}_grows", table, "BEFORE", ["DELETE", "UPDATE", "TRUNCATE"], refusal)


def _staying():
    for table in declared.NEVER_DELETED:
        refusal = _refuse(declared.STAYS.format(table=table))
        yield _Function(f"unlocks_guard_{table}_stays", table, "BEFORE", ["DELETE", "TRUNCATE"], refusal)


def _refuse(says):
    return f"BEGIN\n  RAISE EXCEPTION USING ERRCODE = '23514', MESSAGE = {_quoted(says)};\nEND"


def _quoted(says):
    return "'{}'".format(says.replace("'", "''"))
