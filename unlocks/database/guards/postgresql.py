"""The guards of PostgreSQL: one function a table and event, which sees all rows of the statement in transition tables.

What joins the rows after with the rows before goes through EXECUTE: it is planned for the number of rows at hand.
A plan kept from an update of one row would compare each of a hundred thousand with all others.
Compiling that plan (JIT) would take a second, more than ten thousand rows do.
"""

import re
from typing import NamedTuple

from .. import fingerprint
from . import constraints, declared


class _Seconds:
    """A time in whole seconds."""

    def __format__(self, time):
        return f"floor(extract(epoch FROM {time}))"


_NAMES = {
    "seconds": _Seconds(),
    "new": "n",
    "old": "o",
    "now": "clock_timestamp()",
    "half_an_hour_ago": "clock_timestamp() - interval '30 minutes'",
    "in_four_days": "clock_timestamp() + interval '4 days'",
    "fingerprint": fingerprint.sql("postgresql", "n"),
    "differs": "IS DISTINCT FROM",
}
# pg_trigger.tgtype
_BITS = {"BEFORE": 2, "AFTER": 0, "INSERT": 4, "DELETE": 8, "UPDATE": 16, "TRUNCATE": 32}
# Unlock, handing over and withdrawal meet on the consent's row; without this lock both could commit.
_LOCKS = {
    ("unlocks_batch", "UPDATE"): """
  IF EXISTS (SELECT 1 FROM new_rows WHERE status = 'unlocking') THEN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
      RAISE EXCEPTION USING ERRCODE = '23514', MESSAGE = 'Batches are unlocked at READ COMMITTED only.';
    END IF;
    EXECUTE $sql$SELECT 1 FROM unlocks_consent c WHERE c.id IN (SELECT cb.consent_id FROM new_rows n
      JOIN unlocks_consentedbatch cb ON cb.id = n.grant_id) ORDER BY c.id FOR SHARE$sql$;
  END IF;""",
    ("unlocks_instruction", "UPDATE"): """
  IF EXISTS (SELECT 1 FROM new_rows WHERE what = 'unlock' AND state = 'sent') THEN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
      RAISE EXCEPTION USING ERRCODE = '23514', MESSAGE = 'Unlocks are handed over at READ COMMITTED only.';
    END IF;
    EXECUTE $sql$SELECT 1 FROM unlocks_consent c WHERE c.id IN (SELECT cb.consent_id FROM new_rows n
      JOIN unlocks_batch b ON b.id = n.batch_id JOIN unlocks_consentedbatch cb ON cb.id = b.grant_id)
      ORDER BY c.id FOR SHARE$sql$;
  END IF;""",
    ("unlocks_consentwithdrawal", "INSERT"): """
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE EXCEPTION USING ERRCODE = '23514', MESSAGE = 'Consents are withdrawn at READ COMMITTED only.';
  END IF;
  PERFORM 1 FROM unlocks_consent c WHERE c.id IN (SELECT consent_id FROM new_rows) ORDER BY c.id FOR UPDATE;""",
    # Two tokens of one system, made at once, meet on its row.
    ("unlocks_apitoken", "INSERT"): """
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE EXCEPTION USING ERRCODE = '23514', MESSAGE = 'API tokens are made at READ COMMITTED only.';
  END IF;
  PERFORM 1 FROM auth_user u WHERE u.id IN (SELECT system_id FROM new_rows) ORDER BY u.id FOR NO KEY UPDATE;""",
}

_HERE = "to_regnamespace(current_schema())"
_NO_EXTENSIONS = (
    "NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = '{catalog}'::regclass AND d.objid = {oid} "
    "AND d.deptype = 'e')"
)
# All triggers but those of foreign keys that are on; the words have to be those of `expected`.
_TRIGGERS = f"""
SELECT t.tgname, c.relname, t.tgtype::text, t.tgenabled, coalesce(t.tgoldtable, ''), coalesce(t.tgnewtable, ''),
  CASE WHEN t.tgqual IS NULL AND t.tgattr = '' AND t.tgnargs = 0 AND t.tgconstraint = 0 AND p.proname = t.tgname
    THEN 'plain trigger' ELSE 'altered trigger' END,
  CASE WHEN p.prosecdef AND p.provolatile = 'v' AND l.lanname = 'plpgsql' AND p.proowner = c.relowner
      AND p.pronamespace = c.relnamespace AND p.proacl IS NOT NULL
      AND NOT EXISTS (SELECT 1 FROM aclexplode(p.proacl) a WHERE a.grantee <> p.proowner)
    THEN 'plpgsql function of the table''s owner, for nobody else' ELSE 'altered function' END,
  array_to_string(p.proconfig, E'\n'), p.prosrc
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_proc p ON p.oid = t.tgfoid
  JOIN pg_language l ON l.oid = p.prolang
WHERE c.relnamespace = {_HERE} AND NOT (t.tgisinternal AND t.tgenabled = 'O')"""
_FOREIGN = f"""
SELECT format('rule %s on %s', r.rulename, c.relname) FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class
  WHERE c.relnamespace = {_HERE} AND {_NO_EXTENSIONS.format(catalog="pg_class", oid="c.oid")}
UNION ALL SELECT format('policy %s on %s', p.polname, c.relname) FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid
  WHERE c.relnamespace = {_HERE}
UNION ALL SELECT format('row security on %s', c.relname) FROM pg_class c
  WHERE c.relnamespace = {_HERE} AND (c.relrowsecurity OR c.relforcerowsecurity)
UNION ALL SELECT format('table %s inherits from %s', i.inhrelid::regclass, c.relname)
  FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhparent WHERE c.relnamespace = {_HERE} AND c.relkind = 'r'
UNION ALL SELECT format('%s on %s granted to %s', lower(a.privilege_type), c.relname,
    CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(a.grantee) END)
  FROM pg_class c CROSS JOIN aclexplode(c.relacl) a WHERE c.relnamespace = {_HERE} AND c.relkind = 'r'
  AND a.grantee <> c.relowner AND a.privilege_type IN ('TRUNCATE', 'TRIGGER', 'REFERENCES')
UNION ALL SELECT format('%s owned by %s', c.relname, pg_get_userbyid(c.relowner)) FROM pg_class c
  WHERE c.relnamespace = {_HERE} AND c.relkind = 'r' AND {_NO_EXTENSIONS.format(catalog="pg_class", oid="c.oid")}
  AND c.relowner <> (SELECT b.relowner FROM pg_class b WHERE b.relname = 'unlocks_batch' AND b.relnamespace = {_HERE})
UNION ALL SELECT format('function %s', p.oid::regprocedure) FROM pg_proc p
  WHERE p.pronamespace = {_HERE} AND {_NO_EXTENSIONS.format(catalog="pg_proc", oid="p.oid")}
  AND NOT EXISTS (SELECT 1 FROM pg_trigger t WHERE t.tgfoid = p.oid AND t.tgname = p.proname)
UNION ALL SELECT format('operator %s', o.oid::regoperator) FROM pg_operator o
  WHERE o.oprnamespace = {_HERE} AND {_NO_EXTENSIONS.format(catalog="pg_operator", oid="o.oid")}
UNION ALL SELECT format('cast from %s to %s', k.castsource::regtype, k.casttarget::regtype) FROM pg_cast k
  WHERE k.oid >= 16384 AND {_NO_EXTENSIONS.format(catalog="pg_cast", oid="k.oid")}"""
_CONSTRAINTS = f"""
SELECT c.relname, k.conname, pg_get_constraintdef(k.oid) FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
  WHERE c.relnamespace = {_HERE} AND k.contype IN ('c', 'u') AND k.convalidated AND NOT k.condeferrable
UNION ALL SELECT c.relname, i.relname, pg_get_indexdef(x.indexrelid) FROM pg_index x
  JOIN pg_class c ON c.oid = x.indrelid JOIN pg_class i ON i.oid = x.indexrelid
  WHERE c.relnamespace = {_HERE} AND x.indisunique AND x.indisvalid AND x.indexrelid NOT IN (
    SELECT conindid FROM pg_constraint)
UNION ALL SELECT c.relname, format('unique %s.%s', c.relname, a.attname), 'unique ()' FROM pg_index x
  JOIN pg_class c ON c.oid = x.indrelid JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = x.indkey[0]
  WHERE c.relnamespace = {_HERE} AND x.indisunique AND x.indisvalid AND x.indpred IS NULL AND x.indexprs IS NULL
  AND x.indimmediate AND x.indnkeyatts = 1"""
_POWERS = f"""
SELECT 'is a superuser' FROM pg_roles WHERE rolname = current_user AND rolsuper
UNION ALL SELECT format('owns %s, or is a member of the role that does', min(c.relname)) FROM pg_class c
  WHERE c.relnamespace = {_HERE} AND c.relkind = 'r' AND pg_has_role(current_user, c.relowner, 'MEMBER')
  HAVING count(*) > 0
UNION ALL SELECT format('may create in the schema %s', current_schema())
  WHERE has_schema_privilege(current_user, current_schema(), 'CREATE')
UNION ALL SELECT 'may create temporary tables'
  WHERE has_database_privilege(current_user, current_database(), 'TEMPORARY')
UNION ALL SELECT 'may create schemas' WHERE has_database_privilege(current_user, current_database(), 'CREATE')"""


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
    def names_of_transition_tables(self):
        """Return the names of the rows before and after, '' for those that the trigger does not see."""
        after = "new_rows" if self.timing == "AFTER" else ""
        return ("old_rows" if after and self.events == ["UPDATE"] else "", after)

    @property
    def transition_tables(self):
        before, after = self.names_of_transition_tables
        tables = [f"{word} TABLE AS {name}" for word, name in (("OLD", before), ("NEW", after)) if name]
        return f"REFERENCING {' '.join(tables)}" if tables else ""


def expected(connection):
    """Return {name: what the catalogs say} of the triggers that should be there."""
    settings = f"search_path={_search_path(connection)}\njit=off"
    return {
        function.name: [
            function.table,
            str(function.bits),
            "A",
            *function.names_of_transition_tables,
            "plain trigger",
            "plpgsql function of the table's owner, for nobody else",
            settings,
            f"\n{function.body}\n",
        ]
        for function in _functions()
    }


def stored(connection):
    """Return {name: what the catalogs say} of the triggers that are there, and of all that could get round them."""
    with connection.cursor() as cursor:
        cursor.execute(_TRIGGERS)
        found = {}
        for name, table, *said in cursor.fetchall():
            # Two tables can have a trigger of one name.
            known = name.startswith(f"unlocks_guard_{table}_")
            found[name if known else f"trigger {name} on {table}"] = [table, *said]
        cursor.execute(_FOREIGN)
        return found | dict.fromkeys((name for (name,) in cursor.fetchall()), "foreign")


def missing_constraints(connection):
    """Return the names of those that are absent, not valid or altered."""
    with connection.cursor() as cursor:
        cursor.execute(_CONSTRAINTS)
        there = {(table, name): _words(definition) for table, name, definition in cursor.fetchall()}
    return [
        name
        for name, table, definition in constraints.declared(connection.alias)
        if there.get((table, name)) != ([] if name.startswith("unique ") else _words(definition))
    ]


def powers(connection):
    with connection.cursor() as cursor:
        cursor.execute(_POWERS)
        return [power for (power,) in cursor.fetchall()]


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
    tables = set(connection.introspection.table_names())  # not all of them, after migrating to zero
    for function in _functions():
        name, table = function.name, function.table
        if table not in tables:
            continue
        statements += [
            f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER "
            f"SET search_path = {path} SET jit = off AS $guard$\n{function.body}\n$guard$",
            f"CREATE TRIGGER {name} {function.timing} {' OR '.join(function.events)} ON {table} "
            f"{function.transition_tables} FOR EACH STATEMENT EXECUTE FUNCTION {name}()",
            f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {name}",
            # Whoever may execute it can hang it on a table of their own, and run code of theirs as the owner. Triggers
            # fire all the same.
            f"REVOKE EXECUTE ON FUNCTION {name}() FROM PUBLIC",
        ]
    return statements


def _search_path(connection):
    """Name pg_temp, and last: left out it comes first, and a temporary table could stand in for a real one."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT quote_ident(current_schema()) || ', pg_temp'")
        return cursor.fetchone()[0]


def _functions():
    return [*_judging(), *_growing(), *_staying()]


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
        # Statement triggers fire for no rows too: without the IF this one would call itself forever.
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


def _words(definition):
    """Return the names, texts, numbers and comparisons of an SQL definition, sorted.

    PostgreSQL writes a definition back in its own way: `IN ('a', 'b')` as `= ANY (ARRAY['a'::text, 'b'::text])`.
    """
    plain = re.sub(r"::(character varying|timestamp with time zone|\w+)(\(\d+\))?(\[\])?", "", definition)
    plain = re.sub(r"'(-?[0-9]+)'", r"\1", plain)  # as it quotes a number of more than 32 bits
    words = re.findall(r"'(?:[^']|'')*'|-?\w+|[<>!~]=?|<>", plain[plain.index("(") :].replace('"', ""))
    return sorted(word.lower() for word in words if word.lower() not in ("in", "any", "array"))


def _quoted(says):
    return "'{}'".format(says.replace("'", "''"))
