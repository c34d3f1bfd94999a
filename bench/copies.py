"""Copy moulds by SQL alone: ids counted on, times moved into the past, another number in every text, a new chain.

What a copy of a value is, is said once, by the field that holds it (`_copied`). The texts of a ledger entry are copied
by their facts, which name their fields; digests are taken again by the database, and the chain is sealed by it.
"""

import json
import re
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from uuid import UUID

from django.conf import settings
from django.db import models
from django.db.models import Max

from unlocks.database import fingerprint
from unlocks.digest import canonical
from unlocks.keys import derived
from unlocks.ledger import events
from unlocks.models import (
    Batch,
    BatchItem,
    Consent,
    ConsentedBatch,
    ConsentLink,
    Contact,
    LedgerEntry,
    Outgoing,
    Verdict,
)

# Hashes of secrets that nobody has: another one in each copy.
_SECRETS = {"token_hash", "receipt_hash"}
# Facts that name a row and repeat no column.
_NAMED = {"link": ConsentLink, "consent": Consent, "to": Contact}
_MARKED = re.compile('"?\ue000(\\d+)\ue001"?')
_NL, _TAB = "chr(10)", "chr(9)"


def copy_all(cursor, *copyings):
    """Write the rows of all copies, and then the ledger that tells of them."""
    # Fingerprints are taken of items, and repeated from batches.
    first = [BatchItem, Batch]
    models = dict.fromkeys(model for copying in copyings for model in copying.mould.keys if model is not LedgerEntry)
    for copying in copyings:
        copying.number(cursor)
    for model in [*first, *(model for model in models if model not in first)]:
        with _unindexed(cursor, model):
            for copying in copyings:
                if model in copying.mould.keys:
                    copying.write(cursor, model)
    cursor.execute("CREATE TEMP TABLE told ON COMMIT DROP AS SELECT * FROM unlocks_ledgerentry")
    for copying in copyings:
        copying.tell(cursor)
    with _unindexed(cursor, LedgerEntry):
        _seal_anew(cursor)


@contextmanager
def _unindexed(cursor, model):
    """Have a table filled without its indexes, but that of its key: made afterwards, they take a tenth of the time."""
    table = model._meta.db_table
    cursor.execute(
        "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index "
        "WHERE indrelid = %s::regclass AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)",
        [table],
    )
    indexes = cursor.fetchall()
    for name, _ in indexes:
        cursor.execute(f"DROP INDEX {name}")
    yield
    for _, definition in indexes:
        cursor.execute(definition)
    cursor.execute(f"ANALYZE {table}")


class Copying:
    """The copies of one mould: `n` of them, numbered from `first`, spread evenly from `age` ago to `until` ago.

    Keys go on where those of `after`, other copies, end.
    """

    def __init__(self, mould, *, n, first, age, until=timedelta(0), after=None):
        self.mould, self.n, self.table = mould, n, f"copies_{mould.mark}"
        self.first, self.age, self.until = first, age, until
        self.last = {model: after.last[model] if after else _last(model) for model in _numbered(mould.keys)}
        self.strides = {model: self._stride(model) for model in self.last}

    def _stride(self, model):
        """Return (what is added to a key once, what is added for each copy)."""
        before, after = self.mould.keys[model]
        once, each = self.last[model] - after, after - before
        self.last[model] += self.n * each
        return once, each

    def number(self, cursor):
        """Write the table of the copies: the number, mark and age of each."""
        seconds, step = int(self.age.total_seconds()), (self.age - self.until).total_seconds() / max(self.n, 1)
        cursor.execute(
            f"CREATE TEMP TABLE {self.table} ON COMMIT DROP AS "
            "SELECT c, mark, lower(mark) AS small, back * interval '1 second' AS back, "
            "back / 86400 AS days FROM (SELECT c, 'K' || lpad((c + %s)::text, 7, '0') AS mark, "
            "(%s - (c - 1) * %s)::int AS back FROM generate_series(1, %s) c) numbered",
            [self.first - 1, seconds, step, self.n],
        )
        cursor.execute(f"ANALYZE {self.table}")

    def write(self, cursor, model):
        """Write the copies' rows of a model."""
        fields = [field for field in model._meta.concrete_fields if not field.generated]
        columns = ", ".join(field.column for field in fields)
        selected = ", ".join(f"{self._copied(field, f't.{field.column}')} AS {field.column}" for field in fields)
        rows = f"SELECT {selected} FROM {model._meta.db_table} t CROSS JOIN {self.table} WHERE {self.mould.rows(model)}"
        if model is Outgoing:
            rows += " AND t.state <> 'queued'"
        final = ", ".join(_taken(model, field) for field in fields)
        cursor.execute(f"INSERT INTO {model._meta.db_table} ({columns}) SELECT {final} FROM ({rows}) j")

    def tell(self, cursor):
        """Write their ledger entries into the table `told`."""
        for entry in LedgerEntry.objects.extra(where=[self.mould.rows(LedgerEntry)]).order_by("sequence"):
            cursor.execute(self._told(entry))

    def _copied(self, field, sql):
        """Return the SQL for the copy of a field's value, beside the table of the copies."""
        target = field.target_field if field.is_relation else field
        of = field.related_model if field.is_relation else field.model if field.primary_key else None
        if field.name == "id" and not field.primary_key:
            of = field.model.instance_type  # a row of history names its record
        match target:
            case models.UUIDField():
                return _another_uuid(sql)
            case _ if of in self.strides:
                return self._key(of, sql)
            case models.DateTimeField():
                return f"{sql} - back"
            case models.DateField():
                return f"{sql} - days"
            case _ if field.name in _SECRETS:
                return f"encode(sha256(convert_to({sql} || mark, 'UTF8')), 'hex')"
            case models.JSONField():
                return f"{self._renamed(f'{sql}::text')}::jsonb"
            case models.CharField() | models.TextField() if not field.choices:
                return self._renamed(sql)
        return sql

    def _renamed(self, sql):
        mark = self.mould.mark
        return f"replace(replace({sql}, '{mark}', mark), '{mark.lower()}', small)"

    def _key(self, model, sql):
        once, each = self.strides[model]
        return f"({sql} + {once} + c * {each})"

    def _told(self, entry):
        """Return the statement that writes the copies of a ledger entry, not yet sealed."""
        texts = {"facts": self._facts(entry), "personal": self._personal(entry)}
        values = {}
        for field in entry._meta.concrete_fields:
            name = field.attname
            if name in texts:
                values[name] = texts[name]
            elif name.endswith("_salt"):
                values[name] = f"md5('{getattr(entry, name)}' || c)"
            elif name == "about_id" and entry.about:
                values[name] = self._value(self._about(entry), entry.about_id)
            elif name in ("id", "sequence"):
                values[name] = str(entry.sequence)
            else:
                values[name] = self._copied(field, _literal(getattr(entry, name)))
        return f"INSERT INTO told ({', '.join(values)}) SELECT {', '.join(values.values())} FROM {self.table}"

    def _about(self, entry):
        model = events.KINDS[entry.kind].about
        return model._meta.pk if model else None

    def _value(self, field, value):
        return "NULL" if value is None else self._copied(field, _literal(value))

    def _facts(self, entry):
        told = _Template(self)
        sealed = json.loads(entry.facts)
        columns = LedgerEntry._meta
        content = {
            "about": sealed["about"],
            "about_id": told.by(self._about(entry), sealed["about_id"]),
            "account": told.by(columns.get_field("account"), sealed["account"]),
            "act": told.by(columns.get_field("act"), sealed["act"]),
            "at": told.by(columns.get_field("at"), sealed["at"]),
            "kind": sealed["kind"],
            "unlock_request": told.by(columns.get_field("unlock_request"), sealed["unlock_request"]),
            "user": sealed["user"],
            "rows": sealed["rows"],
            "facts": {name: told.fact(entry, name, value) for name, value in sealed["facts"].items()},
        }
        return told.text(content | {name: sealed[name] for name in sealed.keys() - content.keys()})

    def _personal(self, entry):
        told, sealed = _Template(self), json.loads(entry.personal)
        personal = {name: told.fact(entry, name, value) for name, value in sealed["personal"].items()}
        return told.text(sealed | {"personal": personal})


class _Template:
    """A JSON text of which some values are SQL: each stands as a mark until `text` puts the expressions in."""

    def __init__(self, copying):
        self.copying, self.expressions = copying, []

    def sql(self, expression, *, quoted):
        self.expressions.append(f"'\"' || {expression} || '\"'" if quoted else f"({expression})::text")
        return f"\ue000{len(self.expressions) - 1}\ue001"

    def by(self, field, value):
        """Return the copy of a value that this field holds."""
        if value is None or field is None:
            return value
        expression = self.copying._copied(field, _literal(value))
        target = field.target_field if field.is_relation else field
        if isinstance(target, models.DateTimeField):
            expression = _iso(f"('{value}'::timestamptz - back)")
        elif isinstance(target, models.CharField | models.TextField) and field.name not in _SECRETS:
            return value  # with the mark of its mould, which `text` replaces
        elif isinstance(value, list | dict | bool):
            return value
        return self.sql(expression, quoted=isinstance(value, str))

    def fact(self, entry, name, value):
        kind, copying = events.KINDS[entry.kind], self.copying
        metadata = next(declared.metadata for declared in kind.declared() if declared.name == name)
        if digest := self._digest(kind, entry, name):
            return self.sql(digest, quoted=True)
        if metadata["column"]:
            return self.by(_field(kind.about, metadata["column"]), value)
        if name in _NAMED and isinstance(value, int | list):
            model = _NAMED[name]
            keys = [self.sql(copying._key(model, str(key)), quoted=False) for key in _listed(value)]
            return keys if isinstance(value, list) else keys[0]
        if name == "outgoing" and value:
            return self.sql(_another_uuid(_literal(UUID(value))), quoted=True)
        return value

    def _digest(self, kind, entry, name):
        """Return the SQL for a digest that an entry tells of rows, or None."""
        copying = self.copying
        about = copying._key(kind.about, str(entry.about_id)) if kind.about in copying.strides else None
        match name:
            case "text_sha256":
                return f"(SELECT text_sha256 FROM unlocks_consent WHERE id = {about})"
            case "covered":
                return _covered(about)
            case "sha256" if issubclass(kind, events.Done):
                request = copying._key(entry._meta.get_field("unlock_request").related_model, entry.unlock_request_id)
                return _summed_up(_another_uuid(_literal(entry.act)), request)
            case "pin_mac":
                return _pin_mac(about)
        return None

    def text(self, content):
        """Return the SQL of the whole text."""
        pieces = _MARKED.split(canonical(content))
        return " || ".join(
            self.expressions[int(piece)] if place % 2 else self._marked(piece) for place, piece in enumerate(pieces)
        )

    def _marked(self, piece):
        mark = self.copying.mould.mark
        quoted = piece.replace("'", "''").replace(mark, "' || mark || '").replace(mark.lower(), "' || small || '")
        return f"'{quoted}'"


def _seal_anew(cursor):
    """Seal all entries of `told` in the order of their times, as the desk seals, into an empty ledger."""
    columns = [field.column for field in LedgerEntry._meta.concrete_fields]
    sealed = {
        "id": "n",
        "sequence": "n",
        "facts_hash": _text_hash("facts"),
        "personal_hash": _text_hash("personal"),
        "previous_hash": "previous",
        "hash": "sealed",
    }
    cursor.execute("DELETE FROM unlocks_ledgerentry")
    appended = _iso("e.appended_at")
    cursor.execute(
        "CREATE FUNCTION pg_temp.seal_anew() RETURNS void LANGUAGE plpgsql AS $$ "
        f"DECLARE e record; n bigint := 0; previous text := repeat('0', 64); sealed text; facts_hashed text; "
        "personal_hashed text; BEGIN "
        "FOR e IN SELECT * FROM told ORDER BY appended_at, account_id, sequence LOOP n := n + 1; "
        f"facts_hashed := {_text_hash('facts')}; personal_hashed := {_text_hash('personal')}; "
        f"sealed := {_hmac(settings.LEDGER_KEY.encode(), _lines(appended))}; "
        f"INSERT INTO unlocks_ledgerentry ({', '.join(columns)}) "
        f"VALUES ({', '.join(sealed.get(column, f'e.{column}') for column in columns)}); "
        "previous := sealed; END LOOP; END $$"
    )
    cursor.execute("SELECT pg_temp.seal_anew()")


def _lines(appended):
    entry = ["'unlock-desk ledger entry/2'", "previous", "n", appended, "facts_hashed", "personal_hashed"]
    return f" || {_NL} || ".join(entry)


def _text_hash(name):
    return _sha256(f"'unlock-desk ledger {name}/2' || {_NL} || e.{name}_salt || {_NL} || e.{name}")


def _sha256(text):
    return fingerprint.sha256("postgresql", text)


def _hmac(key, message):
    """Return the SQL for the HMAC-SHA256 (hex) of a text; PostgreSQL's own needs an extension."""
    if len(key) > 64:
        raise ValueError("A longer key is hashed first.")
    inner, outer = (bytes(byte ^ pad for byte in key.ljust(64, b"\0")).hex() for pad in (0x36, 0x5C))
    message = f"convert_to({message}, 'UTF8')"
    return f"encode(sha256('\\x{outer}'::bytea || sha256('\\x{inner}'::bytea || {message})), 'hex')"


def _pin_mac(account):
    pin_hash = f"(SELECT pin_hash FROM unlocks_account WHERE id = {account})"
    message = f"'unlock-desk issued PIN/1' || {_NL} || {account} || {_NL} || {pin_hash}"
    return _hmac(derived("issued PIN"), message)


def _covered(consent):
    columns = f" || {_TAB} || ".join(("batch_id", "number", "name", "total", "item_count", "fingerprint"))
    rows = f"SELECT string_agg({columns} || {_NL}, '' ORDER BY requested_batch_id) FROM unlocks_consentedbatch"
    return _sha256(f"'unlock-desk consented batches/1' || {_NL} || ({rows} WHERE consent_id = {consent})")


def _summed_up(act, request):
    columns = f" || {_TAB} || ".join(("b.id", "b.number", "v.fingerprint"))
    rows = (
        f"SELECT string_agg({columns} || {_NL}, '' ORDER BY b.id) FROM unlocks_verdict v "
        "JOIN unlocks_requestedbatch l ON l.id = v.line_id JOIN unlocks_batch b ON b.id = v.batch_id "
        f"WHERE v.act_id = {act} AND l.unlock_request_id = {request} AND v.refusal = ''"
    )
    return _sha256(f"'unlock-desk batches/1' || {_NL} || ({rows})")


def _taken(model, field):
    """Return what is written into a column, from the copied row `j`: fingerprints and hashes are taken again."""
    column = f"j.{field.column}"
    match model, field.name:
        case _ if (model, field.name) == (Batch, "fingerprint"):
            return f"CASE WHEN {column} = '' THEN '' ELSE {fingerprint.sql('postgresql', 'j')} END"
        case _ if field.name == "fingerprint" and model in (ConsentedBatch, Verdict):
            of_batch = "(SELECT b.fingerprint FROM unlocks_batch b WHERE b.id = j.batch_id)"
            return f"CASE WHEN {column} = '' THEN '' ELSE {of_batch} END"
        case _ if (model, field.name) == (Consent, "text_sha256"):
            return _sha256("j.text")
    return column


def _numbered(listed):
    return [model for model in listed if not isinstance(model._meta.pk, models.UUIDField)]


def _last(model):
    return model._base_manager.aggregate(last=Max("pk"))["last"]


def _another_uuid(sql):
    return f"md5({sql}::text || mark)::uuid"


def _iso(sql):
    """Return the SQL for a time as Python writes it; who has no microseconds writes none."""
    day = 'YYYY-MM-DD"T"HH24:MI:SS'
    whole, parts = (f"to_char({sql} AT TIME ZONE 'UTC', '{day}{rest}\"+00:00\"')" for rest in ("", ".US"))
    return f"CASE extract(microseconds FROM {sql})::int % 1000000 WHEN 0 THEN {whole} ELSE {parts} END"


def _literal(value):
    """Return a value as an SQL literal."""
    if value is None:
        return "NULL"
    if isinstance(value, int | Decimal):
        return str(value)
    text = str(value).replace("'", "''")
    kind = "::uuid" if isinstance(value, UUID) else "::timestamptz" if hasattr(value, "isoformat") else "::text"
    return f"'{text}'{kind}"


def _field(model, path):
    for name in path.split("__"):
        field = model._meta.get_field(name)
        model = field.related_model
    return field


def _listed(value):
    return value if isinstance(value, list) else [value]
