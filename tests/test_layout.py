"""The house rules that a reader of one file can't see: which way imports point, and who writes what."""

import ast
from functools import cache
from pathlib import Path

import pytest
from django.apps import apps

UNLOCKS = Path(__file__).parent.parent / "unlocks"

# From the ground up; a module imports from its own floor and those below. A new module needs a place here.
FLOORS = [
    {
        "keys",
        "pins",
        "factors",
        "certificates.verify_certificate",
        "texts.word_diff",
        "texts.first_terms",
        "texts.normalize",
        "texts.cells",
        "imports",
        "digest",
        "working_time",
        "database.sqlite",
    },
    {"models"},
    {"actors", "roles"},
    {"history"},
    {"rules", "stages", "database", "texts"},
    {"ledger", "evidence", "changes"},
    {"outbox", "product", "figures"},
    {"certificates", "imports.staging", "imports.judging"},
    {"operations"},
    {"outbox.emails", "outbox.worker"},
    {"templatetags"},
    {"customer.forms", "customer.rate_limit", "admin.forms"},
    {"customer"},
    {"admin", "api", "callback", "health", "checks", "management", "apps", "signin"},
]
ROOMS = {"unlocks", *(f"unlocks.{name.split('.')[0]}" for names in FLOORS for name in names)}
FLOOR_OF = {name: floor for floor, names in enumerate(FLOORS) for name in names}

WRITES = {"save", "delete", "create", "update", "get_or_create", "update_or_create", "bulk_create", "bulk_update"}
# Calls that look like a write of a tracked row and are none: (file, call).
NOT_TRACKED = {
    ("admin/histories.py", "formset.save"),  # with commit=False
    ("certificates/pdf.py", "super().save"),  # of a canvas
    ("management/commands/import_records.py", "bar.update"),  # of the progress bar
    ("operations/certificate.py", "certificate.save"),
    ("operations/consent.py", "link.save"),
    ("operations/imports.py", "imported.save"),
    ("operations/review.py", "decided.save"),
    ("operations/signing_in.py", "user.save"),
    ("operations/staff.py", "user.save"),
    ("operations/staff_links.py", "link.save"),
    ("operations/staff_links.py", "user.save"),
    ("operations/tokens.py", "token.save"),
    ("operations/tokens.py", "user.save"),
    ("outbox/rows.py", "row.save"),
    ("signin/sessions.py", "super().delete"),
    ("signin/views.py", "session.delete"),
}


def sources():
    """Return the app's own files, its history module and frozen migrations apart."""
    return [
        path
        for path in sorted(UNLOCKS.rglob("*.py"))
        if path != UNLOCKS / "history.py" and "migrations" not in path.parts
    ]


def name_of(path):
    return path.relative_to(UNLOCKS).as_posix()


@cache
def tree_of(path):
    return ast.parse(path.read_text())


def floor_of(module):
    """Return the floor of `unlocks.<module>`: its own, or that of the room it is in."""
    parts = module.split(".")[1:]
    return next(FLOOR_OF[name] for n in (2, 1) if (name := ".".join(parts[:n])) in FLOOR_OF)


def imports(tree, package):
    """Return the `unlocks.` modules that a file of `package` imports, inside functions too."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*base, *filter(None, [node.module])])
            named = {f"{module}.{alias.name}" for alias in node.names}
            found |= named if module in ROOMS else {module}
    return {module for module in found if module.startswith("unlocks.")}


def upward_imports(tree, module, package):
    return [used for used in sorted(imports(tree, package)) if floor_of(used) > floor_of(module)]


def tracked_writes(tree):
    """Return the calls that may write a tracked row past `history`: a heuristic, by the name of the method.

    `history` itself, a `digest` and models without history are let through.
    """
    untracked = {model.__name__ for model in apps.get_models() if not hasattr(model, "history")}
    calls = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in WRITES:
            receiver = node.func.value
            while isinstance(receiver, ast.Attribute | ast.Call):
                receiver = receiver.func if isinstance(receiver, ast.Call) else receiver.value
            if isinstance(receiver, ast.Name) and receiver.id in untracked | {"history", "digest"}:
                continue
            calls.append(ast.unparse(node.func))
    return calls


def assigned_statuses(tree):
    """Return the lines that set a status: by assignment, by `setattr` or through `history`."""
    lines = set()
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(attr="status", ctx=ast.Store()):
                lines.add(node.lineno)
            case ast.Call(func=ast.Name("setattr"), args=[_, ast.Constant("status"), _]):
                lines.add(node.lineno)
            case ast.Call(func=ast.Attribute(ast.Name("history"), "update"), keywords=named):
                lines |= {node.lineno for word in named if word.arg == "status"}
    return sorted(lines)


def case_forms():
    """Return (file, class) for each class that derives from CaseForm, through others too."""
    bases = {
        (name_of(path), node.name): {ast.unparse(base).rpartition(".")[2] for base in node.bases}
        for path in sources()
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ClassDef)
    }
    known, found = {"CaseForm"}, set()
    while new := {key for key, names in bases.items() if names & known} - found:
        found |= new
        known |= {name for _, name in new}
    return found


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_imports_point_one_way(path):
    parts = ["unlocks", *path.relative_to(UNLOCKS).with_suffix("").parts]
    if parts[1] == "__init__":
        assert imports(tree_of(path), "unlocks") == set()
        return
    assert upward_imports(tree_of(path), ".".join(parts), ".".join(parts[:-1])) == []


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_only_history_writes_tracked_rows(path):
    assert [call for call in tracked_writes(tree_of(path)) if (name_of(path), call) not in NOT_TRACKED] == []


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_only_verbs_set_a_status(path):
    if path.relative_to(UNLOCKS).parts[0] != "operations":
        assert assigned_statuses(tree_of(path)) == []


def test_forms_that_read_a_case_are_beside_the_pages_that_know_it():
    found = case_forms()
    assert {("admin/forms/case.py", "CloseForm"), ("admin/forms/consents.py", "AttachEvidenceForm")} <= found
    assert {file for file, _ in found if not file.startswith("admin/forms/")} == set()


def test_allow_list_holds_nothing_that_is_gone():
    assert {(name, call) for name, call in NOT_TRACKED if call not in tracked_writes(tree_of(UNLOCKS / name))} == set()


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from . import customer", ["unlocks.customer"]),
        ("from .customer import access", ["unlocks.customer.access"]),
        ("from .customer.access import keep", ["unlocks.customer.access"]),
        ("from .admin.batches import BatchAdmin", ["unlocks.admin.batches"]),
        ("import unlocks.operations", ["unlocks.operations"]),
        ("def late():\n    from unlocks.admin import site", ["unlocks.admin.site"]),
        ("from . import history, pins\nfrom .models import Batch\nimport django.views", []),
    ],
)
def test_imports_upward_are_seen(source, found):
    assert upward_imports(ast.parse(source), "unlocks.rules", "unlocks") == found


def test_imports_of_a_package_are_seen_from_inside_it():
    tree = ast.parse("from .. import customer\nfrom .batches import Batch\nfrom ..operations.unlocking import unlock")
    assert upward_imports(tree, "unlocks.models.acts", "unlocks.models") == [
        "unlocks.customer",
        "unlocks.operations.unlocking",
    ]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("batch.save()", ["batch.save"]),
        ("Batch.objects.filter(pk=1).update(name='')", ["Batch.objects.filter(pk=1).update"]),
        ("request.lines.all().delete()", ["request.lines.all().delete"]),
        ("Batch.objects.bulk_update(rows, ['name'])", ["Batch.objects.bulk_update"]),
        ("account.batches.create(number='1')", ["account.batches.create"]),
        ("history.update(rows, by=by, name='')\nhistory.save(batch, by=by)", []),
        ("ConsentLink.objects.create(request=request)\nSelection(id=key).save()", []),
    ],
)
def test_writes_past_history_are_seen(source, found):
    assert tracked_writes(ast.parse(source)) == found


@pytest.mark.parametrize(
    "source",
    [
        "batch.status = 'unlocked'",
        "batch.status, batch.name = 'unlocked', ''",
        "batch.status += 'ed'",
        "setattr(batch, 'status', 'unlocked')",
        "history.update(rows, by=by, status='unlocked')",
    ],
)
def test_statuses_set_elsewhere_are_seen(source):
    assert assigned_statuses(ast.parse(source)) == [1]


def test_statuses_that_are_read_are_no_finding():
    source = "status = batch.status\nBatch(status='bypassed')\nresponse.status_code = 410\nif batch.status == 1: pass"
    assert assigned_statuses(ast.parse(source)) == []
