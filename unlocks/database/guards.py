"""The promise, kept by the database itself.

Each guard is declared once, as the condition that is refused, and rendered for SQLite (a trigger a row) and for
PostgreSQL (one function a table and event, which judges all rows of the statement at once). They are installed after
every migrate; `missing()` compares what is stored with what should be, and `unlock` refuses while anything differs.

In a condition `{new}` and `{old}` are the row after and before, `{now}` is the database's clock, `{half_an_hour_ago}`
what it showed then, and `<!>` means "differs, NULL counted as a value". `of` narrows a guard to the columns that an
UPDATE names; never for a key, which SQLite knows by other names too (`SET rowid = ...`).
"""

from contextlib import contextmanager
from dataclasses import dataclass

from django.apps import apps
from django.db import connections, transaction

from . import fingerprint


@dataclass(frozen=True)
class Guard:
    name: str
    table: str
    event: str
    refused_when: str
    says: str
    of: tuple = ()


def _changes(columns):
    return " OR ".join(f"{{new}}.{column} <!> {{old}}.{column}" for column in columns)


def _along(column, arrows):
    allowed = " OR ".join(f"({{old}}.{column} = '{a}' AND {{new}}.{column} = '{b}')" for a, b in arrows)
    return f"{{new}}.{column} <> {{old}}.{column} AND NOT ({allowed})"


BATCH_ARROWS = [
    ("pending", "posted"),
    ("posted", "pending"),
    ("posted", "exported"),
    ("posted", "bypassed"),
    ("bypassed", "unlocked"),
    ("unlocked", "exported"),
    ("unlocked", "bypassed"),
]
REQUEST_ARROWS = [
    ("open", "awaiting_consent"),
    ("awaiting_consent", "consented"),
    ("consented", "awaiting_consent"),
    ("consented", "unlocked"),
    ("open", "closed"),
    ("awaiting_consent", "closed"),
    ("consented", "closed"),
    ("unlocked", "closed"),
]
LINE_ARROWS = [
    ("waiting", "unlocked"),
    ("waiting", "not_unlocked"),
    ("unlocked", "re_exported"),
    ("unlocked", "relocked"),
]

_GRANT_HOLDS = """EXISTS (
  SELECT 1 FROM unlocks_consentedbatch cb
  JOIN unlocks_consent c ON c.id = cb.consent_id
  JOIN unlocks_requestedbatch l ON l.id = cb.requested_batch_id
  JOIN unlocks_unlockrequest r ON r.id = l.unlock_request_id
  JOIN unlocks_account a ON a.id = r.account_id
  WHERE cb.id = {new}.grant_id AND cb.batch_id = {new}.id AND l.batch_id = {new}.id
    AND l.outcome = 'waiting' AND l.consented_id = cb.id
    AND r.id = c.unlock_request_id AND r.status IN ('consented', 'unlocked')
    AND a.id = {new}.account_id AND a.active
    AND c.decision = 'agreed' AND c.valid_until > {now}
    AND (c.recorded_by_id IS NULL OR c.recorded_by_id <> {new}.unlocked_by_id)
    AND cb.fingerprint = {new}.fingerprint AND cb.fingerprint <> ''
    AND NOT EXISTS (SELECT 1 FROM unlocks_consentwithdrawal w WHERE w.consent_id = c.id))"""

GUARDS = [
    Guard(
        "batch_starts_locked",
        "unlocks_batch",
        "INSERT",
        "{new}.status NOT IN ('pending', 'posted', 'exported', 'bypassed') OR {new}.fingerprint <> ''",
        "A batch starts pending, posted, exported or bypassed, with no fingerprint.",
    ),
    Guard(
        "batch_moves_along_the_arrows",
        "unlocks_batch",
        "UPDATE",
        _along("status", BATCH_ARROWS),
        "A batch cannot move from that status to this one.",
        of=("status",),
    ),
    Guard(
        "batch_keeps_its_identity",
        "unlocks_batch",
        "UPDATE",
        _changes(["id", "account_id", "number"]),
        "A batch keeps its account and number.",
    ),
    Guard(
        "batch_unlocked_only_with_consent",
        "unlocks_batch",
        "UPDATE",
        "{new}.status = 'unlocked' AND {old}.status <> 'unlocked' AND ({new}.period_closed OR "
        f"({_changes(fingerprint.BATCH_CONTENT)}) OR NOT {_GRANT_HOLDS})",
        "No unlock without a recorded, agreed, unexpired and unwithdrawn consent for this batch as it stands.",
        of=("status",),
    ),
    Guard(
        "batch_grant_does_not_change",
        "unlocks_batch",
        "UPDATE",
        "{new}.status = 'unlocked' AND {old}.status = 'unlocked' AND "
        f"({_changes(['grant_id', 'unlocked_until', 'unlocked_by_id'])})",
        "An unlocked batch keeps its grant, its end and who unlocked it.",
        of=("grant_id", "unlocked_until", "unlocked_by_id"),
    ),
    Guard(
        "batch_grant_is_used_up",
        "unlocks_batch",
        "UPDATE",
        "{old}.status = 'unlocked' AND {new}.status <> 'unlocked' AND NOT EXISTS (SELECT 1 FROM "
        "unlocks_requestedbatch l WHERE l.consented_id = {old}.grant_id AND l.outcome = 'unlocked')",
        "The request does not show this batch as unlocked.",
        of=("status",),
    ),
    Guard(
        "batch_fingerprint_is_true",
        "unlocks_batch",
        "UPDATE",
        "{new}.fingerprint <> {old}.fingerprint AND {new}.fingerprint <> '' AND {new}.fingerprint <> {fingerprint}",
        "This is not the fingerprint of the batch's content.",
        of=("fingerprint",),
    ),
    Guard(
        "line_starts_waiting",
        "unlocks_requestedbatch",
        "INSERT",
        "{new}.outcome <> 'waiting' OR {new}.consented_id IS NOT NULL OR NOT EXISTS (SELECT 1 FROM "
        "unlocks_unlockrequest r JOIN unlocks_batch b ON b.account_id = r.account_id "
        "WHERE r.id = {new}.unlock_request_id AND b.id = {new}.batch_id AND r.status <> 'closed')",
        "A batch joins an open request of its own account, waiting.",
    ),
    Guard(
        "line_moves_along_the_arrows",
        "unlocks_requestedbatch",
        "UPDATE",
        _along("outcome", LINE_ARROWS),
        "A requested batch cannot move from that outcome to this one.",
        of=("outcome",),
    ),
    Guard(
        "line_keeps_its_identity",
        "unlocks_requestedbatch",
        "UPDATE",
        _changes(["id", "unlock_request_id", "batch_id"]),
        "A requested batch keeps its request and batch.",
    ),
    Guard(
        "line_follows_its_batch",
        "unlocks_requestedbatch",
        "UPDATE",
        "{new}.outcome <> {old}.outcome AND NOT EXISTS (SELECT 1 FROM "
        "unlocks_batch b WHERE b.id = {new}.batch_id AND ("
        "({new}.outcome = 'not_unlocked' AND (b.status <> 'unlocked' OR b.grant_id <!> {new}.consented_id)) OR "
        "({new}.outcome = 'unlocked' AND b.status = 'unlocked' AND b.grant_id = {new}.consented_id) OR "
        "({new}.outcome = 're_exported' AND b.status = 'exported') OR "
        "({new}.outcome = 'relocked' AND b.status = 'bypassed')))",
        "The outcome does not fit the batch.",
        of=("outcome",),
    ),
    Guard(
        "line_stands_on_its_own_consent",
        "unlocks_requestedbatch",
        "UPDATE",
        "{new}.consented_id <!> {old}.consented_id AND ({old}.outcome <> 'waiting' OR NOT EXISTS (SELECT 1 FROM "
        "unlocks_consentedbatch cb WHERE cb.id = {new}.consented_id AND cb.requested_batch_id = {new}.id))",
        "A requested batch stands on a consent given for it.",
        of=("consented_id",),
    ),
    Guard(
        "request_starts_open",
        "unlocks_unlockrequest",
        "INSERT",
        "{new}.status <> 'open'",
        "A request starts open.",
    ),
    Guard(
        "request_moves_along_the_arrows",
        "unlocks_unlockrequest",
        "UPDATE",
        _along("status", REQUEST_ARROWS),
        "A request cannot move from that status to this one.",
        of=("status",),
    ),
    Guard(
        "request_keeps_its_identity",
        "unlocks_unlockrequest",
        "UPDATE",
        f"{{old}}.status = 'closed' OR {_changes(['id', 'account_id', 'requester_id', 'opened_by_id', 'opened_at'])}",
        "A request keeps its account, requester and opening, and a closed one does not change.",
    ),
    Guard(
        "request_ready_only_with_consent",
        "unlocks_unlockrequest",
        "UPDATE",
        "{new}.status = 'consented' AND {old}.status <> 'consented' AND NOT EXISTS (SELECT 1 FROM unlocks_consent c "
        "WHERE c.unlock_request_id = {new}.id AND c.decision = 'agreed' AND NOT EXISTS (SELECT 1 FROM "
        "unlocks_consentwithdrawal w WHERE w.consent_id = c.id))",
        "A request is ready to unlock only once the customer has agreed.",
        of=("status",),
    ),
    Guard(
        "request_closed_without_open_batches",
        "unlocks_unlockrequest",
        "UPDATE",
        "{new}.status = 'closed' AND EXISTS (SELECT 1 FROM unlocks_requestedbatch l "
        "WHERE l.unlock_request_id = {new}.id AND l.outcome IN ('waiting', 'unlocked'))",
        "A request is closed only when none of its batches is waiting or unlocked.",
        of=("status",),
    ),
    Guard(
        "terms_start_as_a_draft",
        "unlocks_consentterms",
        "INSERT",
        # Version 1 comes published, from a migration.
        "{new}.version <> 1 AND ({new}.published_at IS NOT NULL OR EXISTS (SELECT 1 FROM unlocks_consentterms t "
        "WHERE t.published_at IS NULL AND t.id <> {new}.id))",
        "Terms start as a draft, one at a time.",
    ),
    Guard(
        "terms_published_by_somebody",
        "unlocks_consentterms",
        "UPDATE",
        f"{{new}}.published_at IS NOT NULL AND ({{new}}.published_by_id IS NULL OR {_changes(['title', 'text'])})",
        "Terms are published by a named member of staff, just as they were drafted.",
    ),
    Guard(
        "terms_frozen",
        "unlocks_consentterms",
        "UPDATE",
        "{old}.published_at IS NOT NULL",
        "Published terms do not change.",
    ),
    Guard(
        "link_goes_to_an_admin",
        "unlocks_consentlink",
        "INSERT",
        "NOT EXISTS (SELECT 1 FROM unlocks_contact p JOIN unlocks_unlockrequest r ON r.account_id = p.account_id "
        "WHERE p.id = {new}.sent_to_id AND p.is_admin AND p.email = {new}.email AND r.id = {new}.unlock_request_id) "
        "OR NOT EXISTS (SELECT 1 FROM unlocks_consentterms t WHERE t.id = {new}.terms_id "
        "AND t.published_at IS NOT NULL)",
        "A consent link goes to an Admin on file of the request's account, with published terms.",
    ),
    Guard(
        "link_goes_one_way",
        "unlocks_consentlink",
        "UPDATE",
        _changes(["id", "unlock_request_id", "sent_to_id", "email", "terms_id", "token_hash", "sent_by_id", "sent_at"])
        + " OR {new}.expires_at > {old}.expires_at"
        + f" OR ({{old}}.first_opened_at IS NOT NULL AND ({_changes(['first_opened_ip', 'first_opened_browser'])}))"
        + f" OR ({{old}}.used_at IS NOT NULL AND ({_changes(['pin_verified_at', 'expires_at'])}))"
        + "".join(
            f" OR ({{old}}.{column} IS NOT NULL AND {{new}}.{column} <!> {{old}}.{column})"
            for column in ("used_at", "revoked_at", "first_opened_at")
        ),
        "A consent link keeps what it was sent with; used, opened and revoked cannot be taken back.",
    ),
    Guard(
        "consent_comes_by_its_link",
        "unlocks_consent",
        "INSERT",
        "{new}.how = 'link' AND NOT EXISTS (SELECT 1 FROM unlocks_consentlink k WHERE k.id = {new}.link_id "
        "AND k.unlock_request_id = {new}.unlock_request_id AND k.terms_id = {new}.terms_id AND k.revoked_at IS NULL "
        "AND k.sent_to_id = {new}.contact_id AND k.email = {new}.email "
        "AND EXISTS (SELECT 1 FROM unlocks_contact p WHERE p.id = k.sent_to_id AND p.is_admin AND p.email = k.email) "
        "AND k.used_at IS NOT NULL AND k.first_opened_at IS NOT NULL "
        "AND k.expires_at > {new}.given_at AND k.expires_at > {now} "
        "AND ({new}.decision = 'declined' OR k.pin_verified_at IS NOT NULL))",
        "A consent comes by a link of its request that was opened, PIN-verified, used in time and not revoked.",
    ),
    Guard(
        "consent_recorded_by_phone_with_the_pin",
        "unlocks_consent",
        "INSERT",
        "{new}.how = 'phone' AND NOT ({new}.decision = 'agreed' AND EXISTS (SELECT 1 FROM unlocks_unlockrequest r "
        "JOIN unlocks_account a ON a.id = r.account_id JOIN unlocks_contact p ON p.account_id = a.id "
        "JOIN unlocks_ledgerentry e ON e.unlock_request_id = r.id JOIN unlocks_consentterms t ON t.id = {new}.terms_id "
        "WHERE r.id = {new}.unlock_request_id AND r.status <> 'closed' AND r.pin_verified_by_id = {new}.recorded_by_id "
        "AND p.id = {new}.contact_id AND p.is_admin AND p.email = {new}.email AND t.published_at IS NOT NULL "
        "AND e.kind = 'pin_verified' AND e.user_id = {new}.recorded_by_id AND e.at > {half_an_hour_ago} "
        "AND (a.pin_issued_at IS NULL OR e.at >= a.pin_issued_at)))",
        "Whoever takes a consent down for an Admin has verified the PIN for this request within 30 minutes.",
    ),
    Guard(
        "evidence_is_of_a_consent_recorded_by_phone",
        "unlocks_consentevidence",
        "INSERT",
        "NOT EXISTS (SELECT 1 FROM unlocks_consent c WHERE c.id = {new}.consent_id AND c.how = 'phone')",
        "Evidence belongs to a consent that staff took down.",
    ),
    Guard(
        "consented_batch_is_of_its_request",
        "unlocks_consentedbatch",
        "INSERT",
        "NOT EXISTS (SELECT 1 FROM unlocks_consent c "
        "JOIN unlocks_requestedbatch l ON l.unlock_request_id = c.unlock_request_id "
        "JOIN unlocks_batch b ON b.id = l.batch_id "
        "WHERE c.id = {new}.consent_id AND c.decision = 'agreed' AND l.id = {new}.requested_batch_id "
        "AND b.id = {new}.batch_id AND {new}.fingerprint <> '' AND b.fingerprint = {new}.fingerprint "
        "AND b.number = {new}.number AND b.name = {new}.name AND b.total = {new}.total "
        "AND b.item_count = {new}.item_count) "
        "OR (SELECT count(*) FROM unlocks_consentedbatch x WHERE x.consent_id = {new}.consent_id) "
        "> (SELECT c.batch_count FROM unlocks_consent c WHERE c.id = {new}.consent_id)",
        "A consent covers the batches of its own request as they stood, and no more of them than were shown.",
    ),
    Guard(
        "withdrawal_after_relock",
        "unlocks_consentwithdrawal",
        "INSERT",
        "EXISTS (SELECT 1 FROM unlocks_consentedbatch cb JOIN unlocks_batch b ON b.grant_id = cb.id "
        "WHERE cb.consent_id = {new}.consent_id AND b.status = 'unlocked')",
        "A consent in use cannot be withdrawn before its batches are locked again.",
    ),
    Guard(
        "ledger_is_a_chain",
        "unlocks_ledgerentry",
        "INSERT",
        "NOT (({new}.sequence = 1 AND {new}.previous_hash = '" + "0" * 64 + "') OR EXISTS (SELECT 1 FROM "
        "unlocks_ledgerentry p WHERE p.sequence = {new}.sequence - 1 AND p.hash = {new}.previous_hash))",
        "A ledger entry follows the one before it.",
    ),
    Guard(
        "account_keeps_its_number",
        "unlocks_account",
        "UPDATE",
        _changes(["id", "number"]),
        "An account keeps its number.",
    ),
    Guard(
        "contact_keeps_its_account",
        "unlocks_contact",
        "UPDATE",
        _changes(["id", "account_id"]),
        "A contact keeps its account.",
    ),
    Guard("item_keeps_its_key", "unlocks_batchitem", "UPDATE", _changes(["id"]), "An item keeps its key."),
    Guard(
        "terms_keep_their_key",
        "unlocks_consentterms",
        "UPDATE",
        _changes(["id", "version"]),
        "Terms keep their key and version.",
    ),
    Guard(
        "user_keeps_the_key",
        "auth_user",
        "UPDATE",
        # Evidence names staff by it.
        _changes(["id", "username"]),
        "A user keeps the key and the user name.",
    ),
]

# After these changes the database blanks the batch's fingerprint: a consent given before no longer fits.
_BLANKED_BY = [
    ("unlocks_batch", "UPDATE", "id", fingerprint.BATCH_CONTENT),
    ("unlocks_batchitem", "INSERT", "batch_id", ()),
    ("unlocks_batchitem", "UPDATE", "batch_id", (*fingerprint.ITEM_CONTENT, "batch_id")),
]

_APPEND_ONLY = {
    "unlocks_consent": ("link_id", "receipt_hash"),
    "unlocks_consentedbatch": (("consent_id", "batch_id"),),
    "unlocks_consentwithdrawal": ("consent_id",),
    "unlocks_consentevidence": (("consent_id", "sha256"),),
    "unlocks_resentreceipt": ("token_hash",),
    "unlocks_certificate": ("sha256", "pdf_sha256", ("consent_id", "ordinal")),
    "unlocks_ledgerentry": ("sequence", "previous_hash", "hash"),
    "unlocks_act": (),
    "unlocks_verdict": (("act_id", "batch_id"),),
}
_NEVER_DELETED = {
    "unlocks_account": ("number",),
    "unlocks_contact": (("account_id", "email"),),
    "unlocks_batch": (("account_id", "number"),),
    "unlocks_batchitem": (),
    "unlocks_unlockrequest": (),
    "unlocks_requestedbatch": (("unlock_request_id", "batch_id"),),
    "unlocks_consentterms": ("version",),
    "unlocks_consentlink": ("token_hash",),
    "auth_user": ("username",),
}
# REPLACE makes room by deleting the row in the way, without any DELETE trigger: partial unique indexes as well.
_REPLACE_ALSO = {
    "unlocks_requestedbatch": "EXISTS (SELECT 1 FROM unlocks_requestedbatch x WHERE x.batch_id = NEW.batch_id "
    "AND x.outcome IN ('waiting', 'unlocked') AND NEW.outcome IN ('waiting', 'unlocked'))",
    "unlocks_consentlink": "EXISTS (SELECT 1 FROM unlocks_consentlink x "
    "WHERE x.unlock_request_id = NEW.unlock_request_id "
    "AND x.used_at IS NULL AND x.revoked_at IS NULL AND NEW.used_at IS NULL AND NEW.revoked_at IS NULL)",
}


def append_only_tables():
    """Return the tables that only grow, with the columns (or tuples of them) that are unique in each."""
    histories = {
        model._meta.db_table: () for model in apps.get_app_config("unlocks").get_models() if _is_history(model)
    }
    return _APPEND_ONLY | histories


def missing(using="default"):
    """Return the names of the guards that are absent, disabled or altered, sorted. Empty: the promise is kept."""
    connection = connections[using]
    expected, stored = _dialect(connection).expected(connection), _dialect(connection).stored(connection)
    return sorted(name for name in expected if stored.get(name) != expected[name])


def after_migrate(sender, using, **kwargs):
    install(using)


def install(using="default"):
    """Put every guard in place anew."""
    connection = connections[using]
    with transaction.atomic(using=using), connection.cursor() as cursor:
        for statement in _dialect(connection).statements(connection):
            cursor.execute(statement, None)


def remove(using="default"):
    """Take the guards of a disposable test database away. Raises RuntimeError on any other."""
    connection = connections[using]
    _refuse_unless_disposable(connection)
    with transaction.atomic(using=using), connection.cursor() as cursor:
        for statement in _dialect(connection).removals(connection):
            cursor.execute(statement, None)


@contextmanager
def lifted(using="default"):
    """Lift the guards of a disposable test database for a while. The one way, and there is none for the app."""
    remove(using)
    try:
        yield
    finally:
        install(using)


def _refuse_unless_disposable(connection):
    name = str(connection.settings_dict["NAME"]).rsplit("/", 1)[-1]
    if not (name.startswith(("test_", "bench_")) or "mode=memory" in name or name == ":memory:"):
        raise RuntimeError(f"Guards are lifted on disposable test databases only, and {name!r} is not one.")


def _is_history(model):
    return hasattr(model, "history_object")


def _existing(connection):
    with connection.cursor() as cursor:
        return set(connection.introspection.table_names(cursor))


def _dialect(connection):
    return {"sqlite": _SQLite, "postgresql": _PostgreSQL}[connection.vendor]


def _primary_key(table):
    return next(model._meta.pk.column for model in apps.get_models() if model._meta.db_table == table)


class _SQLite:
    """A trigger a guard, judged row by row."""

    NOW = "strftime('%Y-%m-%d %H:%M:%f', 'now')"
    HALF_AN_HOUR_AGO = "strftime('%Y-%m-%d %H:%M:%f', 'now', '-30 minutes')"

    @classmethod
    def expected(cls, connection):
        triggers = {}

        def trigger(name, table, timing, event, when, then, of=()):
            columns = f" OF {', '.join(of)}" if of else ""
            condition = f"\nWHEN {when}" if when else ""
            triggers[f"unlocks_guard_{name}"] = (
                table,
                f'CREATE TRIGGER "unlocks_guard_{name}" {timing} {event}{columns} ON "{table}"\n'
                f"FOR EACH ROW{condition}\nBEGIN\n  {then};\nEND",
            )

        for guard in GUARDS:
            when = _filled(guard, cls, "NEW", "OLD", "sqlite").replace("<!>", "IS NOT")
            trigger(guard.name, guard.table, "AFTER", guard.event, when, _raise(guard.says), guard.of)
        for table, event, key, columns in _BLANKED_BY:
            when = " OR ".join(f"NEW.{column} IS NOT OLD.{column}" for column in columns)
            keys = f"NEW.{key}, OLD.{key}" if event == "UPDATE" else f"NEW.{key}"
            trigger(
                f"{table}_{event.lower()}_blanks_fingerprint",
                table,
                "AFTER",
                event,
                when,
                f"UPDATE unlocks_batch SET fingerprint = '' WHERE id IN ({keys}) AND fingerprint <> ''",
                columns,
            )
        for table, unique in append_only_tables().items():
            says = _raise(f"{table} only grows: its rows are evidence.")
            trigger(f"{table}_no_update", table, "BEFORE", "UPDATE", "", says)
            trigger(f"{table}_no_delete", table, "BEFORE", "DELETE", "", says)
            trigger(f"{table}_no_replace", table, "BEFORE", "INSERT", cls._in_the_way(table, unique), says)
        for table, unique in _NEVER_DELETED.items():
            says = _raise(f"Rows of {table} are never deleted.")
            trigger(f"{table}_no_delete", table, "BEFORE", "DELETE", "", says)
            trigger(f"{table}_no_replace", table, "BEFORE", "INSERT", cls._in_the_way(table, unique), says)
            for columns in _groups(unique):
                another = f"x.id <> OLD.id AND {_same(columns)}"
                in_the_way = f"EXISTS (SELECT 1 FROM {table} x WHERE {another})"
                name = f"{table}_no_replace_by_{'_'.join(columns)}"
                trigger(name, table, "BEFORE", "UPDATE", in_the_way, says, columns)
        tables = _existing(connection)
        return {name: sql for name, (table, sql) in triggers.items() if table in tables}

    @staticmethod
    def _in_the_way(table, unique):
        groups = [(_primary_key(table),), *_groups(unique)]
        clauses = [f"EXISTS (SELECT 1 FROM {table} x WHERE {_same(columns)})" for columns in groups]
        return " OR ".join([*clauses, *filter(None, [_REPLACE_ALSO.get(table)])])

    @staticmethod
    def stored(connection):
        with connection.cursor() as cursor:
            cursor.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
            return dict(cursor.fetchall())

    @classmethod
    def removals(cls, connection):
        return [f'DROP TRIGGER "{name}"' for name in cls.stored(connection) if name.startswith("unlocks_guard_")]

    @classmethod
    def statements(cls, connection):
        return [*cls.removals(connection), *cls.expected(connection).values()]


def _groups(unique):
    return [(columns,) if isinstance(columns, str) else columns for columns in unique]


def _same(columns):
    return " AND ".join(f"x.{column} = NEW.{column}" for column in columns)


def _filled(guard, dialect, new, old, vendor):
    return guard.refused_when.format(
        new=new,
        old=old,
        now=dialect.NOW,
        half_an_hour_ago=dialect.HALF_AN_HOUR_AGO,
        fingerprint=fingerprint.sql(vendor, new),
    )


def _raise(says):
    return "SELECT RAISE(ABORT, '{}')".format(says.replace("'", "''"))


class _PostgreSQL:
    """One function a table and event, which sees all rows of the statement in transition tables.

    What joins the rows after with the rows before goes through EXECUTE: it is planned for the number of rows at hand.
    A plan kept from an update of one row would compare each of a hundred thousand with all others.
    Compiling that plan (JIT) would take a second, more than ten thousand rows do.
    """

    NOW = "clock_timestamp()"
    HALF_AN_HOUR_AGO = "clock_timestamp() - interval '30 minutes'"
    ROW_EVENTS = {"INSERT": 4, "DELETE": 8, "UPDATE": 16}
    BEFORE, TRUNCATE = 2, 32
    # Unlock and withdrawal meet on the consent's row; without this lock both could commit.
    LOCKS = {
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

    @classmethod
    def _functions(cls, connection):
        """Return {name: (table, timing, events, transition tables, body)}."""
        functions = {}
        grouped = {}
        for guard in GUARDS:
            grouped.setdefault((guard.table, guard.event), []).append(guard)
        for (table, event), guards in grouped.items():
            steps = cls.LOCKS.get((table, event), "") + cls._check(event, guards) + cls._blank(table, event)
            body = f"DECLARE\n  refused text;\n  stale bigint[];\nBEGIN{steps}\n  RETURN NULL;\nEND"
            functions[f"unlocks_guard_{table}_{event.lower()}"] = (table, "AFTER", [event], body)
        for table, event, _, _ in _BLANKED_BY:
            if (table, event) not in grouped:
                body = f"DECLARE\n  stale bigint[];\nBEGIN{cls._blank(table, event)}\n  RETURN NULL;\nEND"
                functions[f"unlocks_guard_{table}_{event.lower()}"] = (table, "AFTER", [event], body)
        for table in append_only_tables():
            says = f"{table} only grows: its rows are evidence."
            functions[f"unlocks_guard_{table}_grows"] = (
                table,
                "BEFORE",
                ["DELETE", "UPDATE", "TRUNCATE"],
                cls._refuse(says),
            )
        for table in _NEVER_DELETED:
            says = f"Rows of {table} are never deleted."
            functions[f"unlocks_guard_{table}_stays"] = (table, "BEFORE", ["DELETE", "TRUNCATE"], cls._refuse(says))
        tables = _existing(connection)
        return {name: parts for name, parts in functions.items() if parts[0] in tables}

    @classmethod
    def _check(cls, event, guards):
        """Judge each row once, by all guards of its table; the first that refuses it says why."""
        rows, cases = "new_rows n", []
        if event == "UPDATE":
            # A row whose key changed has no partner.
            rows = "new_rows n LEFT JOIN old_rows o ON o.id = n.id"
            cases = ["WHEN o.id IS NULL THEN 'Rows keep their keys.'"]
        for guard in guards:
            when = _filled(guard, cls, "n", "o", "postgresql").replace("<!>", "IS DISTINCT FROM")
            cases.append(f"WHEN {when} THEN '{guard.says.replace(chr(39), chr(39) * 2)}'")
        judged = f"SELECT CASE {' '.join(cases)} END AS says FROM {rows}"
        # Not EXISTS, not LIMIT 1: for a first row alone PostgreSQL compares each row after with all rows before.
        said = f"SELECT min(says) FROM ({judged}) judged"
        asked = f"EXECUTE $sql${said}$sql$ INTO refused" if event == "UPDATE" else f"refused := ({said})"
        return (
            f"\n  {asked};\n  IF refused IS NOT NULL THEN\n"
            "    RAISE EXCEPTION USING ERRCODE = '23514', MESSAGE = refused;\n  END IF;"
        )

    @staticmethod
    def _blank(table, event):
        for blanking_table, blanking_event, key, columns in _BLANKED_BY:
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

    @staticmethod
    def _refuse(says):
        return f"BEGIN\n  RAISE EXCEPTION USING ERRCODE = '23514', MESSAGE = '{says}';\nEND"

    @classmethod
    def expected(cls, connection):
        path = cls._search_path(connection)
        return {
            name: (table, cls._bits(timing, events), "A", True, [f"search_path={path}", "jit=off"], f"\n{body}\n")
            for name, (table, timing, events, body) in cls._functions(connection).items()
        }

    @staticmethod
    def _search_path(connection):
        """Name pg_temp, and last: left out it comes first, and a temporary table could stand in for a real one."""
        with connection.cursor() as cursor:
            cursor.execute("SELECT quote_ident(current_schema()) || ', pg_temp'")
            return cursor.fetchone()[0]

    @classmethod
    def _bits(cls, timing, events):
        bits = cls.BEFORE if timing == "BEFORE" else 0
        return bits + sum(cls.TRUNCATE if event == "TRUNCATE" else cls.ROW_EVENTS[event] for event in events)

    @staticmethod
    def stored(connection):
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT t.tgname, c.relname, t.tgtype, t.tgenabled, p.prosecdef, p.proconfig, p.prosrc "
                "FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_proc p ON p.oid = t.tgfoid "
                "WHERE NOT t.tgisinternal AND t.tgqual IS NULL AND t.tgattr = '' AND p.proname = t.tgname "
                "AND p.pronamespace = c.relnamespace AND p.provolatile = 'v' "
                "AND c.relnamespace = to_regnamespace(current_schema())"
            )
            return {name: tuple(rest) for name, *rest in cursor.fetchall()}

    @classmethod
    def removals(cls, connection):
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT proname FROM pg_proc WHERE starts_with(proname, 'unlocks_guard_') "
                "AND pronamespace = to_regnamespace(current_schema())"
            )
            drops = [f"DROP FUNCTION {name}() CASCADE" for (name,) in cursor.fetchall()]
        # A trigger can't be dropped while its table still waits for the check of a deferred foreign key.
        return ["SET CONSTRAINTS ALL IMMEDIATE", *drops, "SET CONSTRAINTS ALL DEFERRED"]

    @classmethod
    def statements(cls, connection):
        statements = cls.removals(connection)
        for name, (table, timing, events, body) in cls._functions(connection).items():
            transition = {
                "INSERT": "REFERENCING NEW TABLE AS new_rows",
                "UPDATE": "REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows",
            }.get(events[0] if timing == "AFTER" else "", "")
            statements += [
                f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER "
                f"SET search_path = {cls._search_path(connection)} SET jit = off AS $guard$\n{body}\n$guard$",
                f"CREATE TRIGGER {name} {timing} {' OR '.join(events)} ON {table} {transition} "
                f"FOR EACH STATEMENT EXECUTE FUNCTION {name}()",
                f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {name}",
            ]
        return statements
