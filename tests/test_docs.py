"""The documents say what is: every path, name, command and setting exists, and every format is what the desk writes."""

import doctest
import json
import re
from datetime import date, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from uuid import UUID

import pytest
from django.contrib.auth.hashers import check_password
from django.core.management import get_commands

from tests.factories import acting, case_recorded_by_phone, case_unlocked
from tests.test_layout import FLOORS
from unlocks import operations, pins
from unlocks.actors import Actor
from unlocks.certificates import keys
from unlocks.certificates.verify_certificate import key_id
from unlocks.database import fingerprint
from unlocks.ledger import chain, events, seals
from unlocks.models import Batch, Consent, ConsentedBatch, LedgerEntry, Verdict

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
MAKEFILE = (ROOT / "Makefile").read_text()
FOLDERS = (".ci", "bench", "config", "docs", "static", "templates", "tests", "unlocks")

FENCE = re.compile(r"^```.*?^```$", re.M | re.S)
SPAN = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.M)
NAME = re.compile(r"[A-Za-z_][\w.]*(?:\(\))?")


def of_document(path):
    return path.relative_to(ROOT).as_posix()


def prose(path):
    """Return a document without its fenced blocks."""
    return FENCE.sub("", path.read_text())


def spans(path):
    return SPAN.findall(prose(path))


def commands(path):
    """Return what is to be typed: the lines of a document's shell blocks, and its code spans."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", path.read_text(), re.M | re.S)
    return [*"\n".join(blocks).splitlines(), *spans(path)]


def anchors(path):
    """Return the anchors that GitHub gives to the headings of a document."""
    return {re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-") for text in HEADING.findall(prose(path))}


@cache
def files():
    return [path.relative_to(ROOT) for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file()]


@cache
def words():
    """Return every word that occurs in code, templates and configuration."""
    read = [ROOT / path for path in files() if path.suffix in {".py", ".html", ".txt", ".css"}]
    read += [ROOT / name for name in ("Makefile", "pyproject.toml", "requirements.txt", "requirements-dev.txt")]
    return {word for path in read for word in re.findall(r"\w+", path.read_text(errors="replace"))}


def names_a_path(span):
    return re.fullmatch(r"[\w./*-]+", span) and (
        (span.split("/")[0] in FOLDERS and "/" in span) or re.search(r"\w\.(py|md|html|css|json|toml|png|txt)$", span)
    )


def exists(path):
    """Say whether a path is one from the root, or the end of one: `rules.py`, `operations/unlock.py`."""
    if "*" in path or path.endswith("/"):
        return any(ROOT.glob(path.rstrip("/")))
    return (ROOT / path).exists() or any(f"/{file.as_posix()}".endswith(f"/{path}") for file in files())


@pytest.fixture(scope="module")
def documented():
    """What docs/evidence.md defines, once all of it came out as it says."""
    path = ROOT / "docs" / "evidence.md"
    found = doctest.DocTestParser().get_doctest(path.read_text(), {}, path.name, str(path), 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        said = []
        results = doctest.DocTestRunner().run(found, out=said.append, clear_globs=False)
    assert results.failed == 0, "".join(said)
    assert results.attempted > 40
    return found.globs


@pytest.mark.parametrize("path", DOCUMENTS, ids=of_document)
def test_links_lead_somewhere(path):
    dead = []
    for link in LINK.findall(prose(path)):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = path.parent / file if file else path
        if not target.exists() or (anchor and anchor not in anchors(target)):
            dead.append(link)
    assert dead == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=of_document)
def test_paths_exist(path):
    assert [span for span in spans(path) if names_a_path(span) and not exists(span)] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=of_document)
def test_names_exist(path):
    """What stands between backticks and looks like a name of the code is one, or one of the document's examples."""
    known = words() | set(re.findall(r"\w+", " ".join(FENCE.findall(path.read_text()))))
    unknown = [
        span
        for span in spans(path)
        if NAME.fullmatch(span) and re.search(r"[_.(]|[a-z][A-Z]|[A-Z]{4}", span) and not names_a_path(span)
        if not set(re.findall(r"\w+", span)) <= known
    ]
    assert unknown == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=of_document)
def test_commands_exist(path):
    typed = "\n".join(commands(path))
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.M))
    assert set(re.findall(r"\bmake ([a-z-]+)", typed)) - targets == set()
    assert set(re.findall(r"\bmanage\.py ([a-z_]+)", typed)) - get_commands().keys() == set()


def test_the_example_of_health_has_what_is_answered(db, client):
    example = json.loads(re.search(r"^```json\n(.*?)^```$", (ROOT / "docs/production.md").read_text(), re.M | re.S)[1])
    answered = client.get("/health/ready").json()
    assert (example.keys(), example["checks"].keys()) == (answered.keys(), answered["checks"].keys())
    assert example["oldest_seconds"].keys() == answered["oldest_seconds"].keys()


@pytest.mark.parametrize("path", DOCUMENTS, ids=of_document)
def test_lines_are_short(path):
    assert [line for line in path.read_text().splitlines() if len(line) > 120] == []


def test_the_layers_are_those_that_hold():
    text = (ROOT / "docs" / "architecture.md").read_text()
    listed = re.findall(r"^\d+\. (`(?:[a-z_.`,\s]+)`):", text.partition("## Layers")[2], re.M)
    assert [set(SPAN.findall(layer.replace("\n", " "))) for layer in listed] == FLOORS


# The formats


def test_each_format_is_what_the_code_makes(documented, settings):
    settings.LEDGER_KEY = documented["LEDGER_KEY"].decode()
    at, fingerprint = "2026-11-26T00:38:05.000340+00:00", "a" * 64
    hashes = documented["facts_hash"], documented["personal_hash"]
    assert documented["text_hash"]("facts", "salt", "text") == chain.text_hash("facts", "salt", "text")
    assert documented["entry_hash"]("0" * 64, 1, at, *hashes) == chain.seal(
        "0" * 64, 1, datetime.fromisoformat(at), *hashes
    )
    summed = events.sum_up([(41, "B-1", Decimal("12.50"), fingerprint)])
    assert documented["batches"]([("41", "B-1", fingerprint)]) == summed["sha256"]
    assert documented["code"]("CN-000012-1", at) == keys.code("CN-000012-1", at)
    assert check_password(documented["peppered"]("482915"), pins.hashed("482915"))
    assert documented["pin_mac"](41, "argon2$") == pins.mac(41, "argon2$")
    assert documented["key"] == keys.configured()[0]
    assert documented["key_id"](documented["key"]) == key_id(documented["key"])


@pytest.mark.django_db
class TestWhatTheDeskWrote:
    @pytest.fixture(autouse=True)
    def desk(self, agent, documented, settings):
        settings.LEDGER_KEY = documented["LEDGER_KEY"].decode()
        self.case = case_unlocked(agent)
        case_recorded_by_phone(agent)
        operations.add_note(self.case.unlock_request, text="Zoë called", by=acting(agent))
        seals.seal_history(by=Actor.desk())

    def test_entries(self, documented):
        previous = "0" * 64
        for sequence, entry in enumerate(LedgerEntry.objects.order_by("sequence"), start=1):
            facts = documented["text_hash"]("facts", entry.facts_salt, entry.facts)
            personal = documented["text_hash"]("personal", entry.personal_salt, entry.personal)
            previous = documented["entry_hash"](previous, sequence, entry.appended_at.isoformat(), facts, personal)
            assert (facts, personal, previous) == (entry.facts_hash, entry.personal_hash, entry.hash)
            assert json.loads(entry.facts).keys() == json.loads(documented["facts"]).keys()
            assert json.loads(entry.personal).keys() == json.loads(documented["personal"]).keys()

    def test_fingerprints(self, documented):
        for batch in Batch.objects.annotate(content=fingerprint.expression("default")):
            items = [_text_of(item, fingerprint.ITEM_CONTENT) for item in batch.items.order_by("pk")]
            for item in items:
                item["lines"] = json.loads(item["lines"])
            assert documented["fingerprint"](_text_of(batch, fingerprint.BATCH_CONTENT), items) == batch.content

    def test_texts(self, documented):
        for consent in Consent.objects.all():
            assert documented["sha256"](consent.text) == consent.text_sha256

    def test_covered_batches(self, documented):
        columns = ("batch_id", "number", "name", "total", "item_count", "fingerprint")
        consent = self.case.consent
        rows = ConsentedBatch.objects.filter(consent=consent).order_by("requested_batch_id").values_list(*columns)
        entry = LedgerEntry.objects.get(kind="consented", about_id=consent.pk)
        assert json.loads(entry.facts)["facts"]["covered"] == documented["covered"]([map(str, row) for row in rows])

    def test_unlocked_batches(self, documented):
        entry = LedgerEntry.objects.get(kind="unlocked")
        rows = Verdict.objects.filter(act=entry.act, refusal="").order_by("batch_id")
        lines = [map(str, row) for row in rows.values_list("batch_id", "batch__number", "fingerprint")]
        assert json.loads(entry.facts)["facts"]["sha256"] == documented["batches"](lines)

    def test_seals(self, documented):
        tables = json.loads(LedgerEntry.objects.get(kind="sealed").facts)["facts"]["tables"]
        models = {model._meta.db_table: model for model in seals.sealed_columns()}
        assert len(tables) > 8
        for table, sealed in tables.items():
            rows = models[table]._base_manager.filter(pk__gt=sealed["after"], pk__lte=sealed["to"]).order_by("pk")
            lines = [[_json(value) for value in row] for row in rows.values_list(*sealed["columns"])]
            assert (len(lines), documented["seal"](lines)) == (sealed["rows"], sealed["sha256"])


def _text_of(row, names):
    return {name: _json(getattr(row, name)) for name in names}


def _json(value):
    if isinstance(value, datetime | date):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal | UUID) else value
