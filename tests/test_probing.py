"""What a prober sends: every address, as every role, by every method, with odd values.

The quick run takes a seeded sample; `HYPOTHESIS_PROFILE=long` (`make long`) sends all of it. Nothing answers 5xx.
Only a POST that is answered with a redirect may have changed anything; refusals of it may be on record.
"""

import logging
import os
import random
import re
from copy import deepcopy
from itertools import product

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import transaction
from django.test import Client

from tests import factories
from tests.attacks import difference, snapshot
from unlocks.admin.permissions import addresses
from unlocks.models import Account, Batch, Consent, ConsentTerms, LedgerEntry, UnlockRequest

pytestmark = pytest.mark.django_db

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
SEED = 20261126
SAMPLE = 250  # of 8,000 combinations, in the quick run

METHODS = ["GET", "GET", "POST", "POST", "POST", "POST", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE", "TRACE"]
STAFF = ["agent", "manager", "auditor", "superuser", "nobody"]
ROLES = [*STAFF, "stranger", "customer", "reader"]
# Their POSTs change nothing, whatever the answer.
WITHOUT_VERBS = ["auditor", "nobody", "stranger"]
REFUSALS = {"pin_wrong", "pin_locked", "staff_refused", "unlock_refused"}

ODD = [
    "",
    "0",
    "1",
    "-1",
    "1e5",
    "1.5",
    "9" * 18,
    "9" * 19,
    "9" * 400,
    "0x10",
    "١٢٣",
    "²",
    "a",
    "a\0b",
    "🙂",
    "%00",
    "%",
    "_",
    "..",
    "../../etc/passwd",
    "' OR 1=1 --",
    "<script>",
    "true",
    "null",
    "[]",
    "{}",
    "2026-13-45",
    "9999-12-31",
    "0000-00-00",
    "None",
    "x" * 5000,
    "\r\n",
    "\u202e",
    "00000000-0000-0000-0000-000000000000",
    "UR-" + "9" * 30,
    "CN-" + "9" * 12 + "-" + "9" * 6,
]
# Beside the fields of the page itself: what Django's admin and this desk read out of an address or a form.
FIELDS = re.findall(
    r"\S+",
    """
    _saveasnew _continue _addanother _popup _to_field _changelist_filters _selected_action action select_across index
    p o q e all next account contact batch selection batches only page show bypassed_since day actor kind seen verb key
    id pk form-TOTAL_FORMS form-INITIAL_FORMS contacts-TOTAL_FORMS contacts-INITIAL_FORMS contacts-0-id
    contacts-0-account contacts-0-name app_label model_name field_name term old new check answers shown pin file number
    code groups is_active period_closed__exact account__id__exact username password picked numbers requester reason
""",
)


def filled(address, values, pick):
    """Return an address with one of `values` in the place of each parameter."""
    parameter = r"<[^>]*>|\(\[\^/\]\+\)|\(\?P<[^)]*\)"
    address = re.sub(parameter, lambda found: pick(values), address)
    return "/" + re.sub(r"[\^$]", "", address)


def fields_of(client, address):
    """Return what the page at this address would send back, untouched."""
    answer = client.get(address)
    page = b"".join(answer).decode("utf-8", "replace") if "text/html" in answer.get("Content-Type", "") else ""
    found = {}
    for tag in re.findall(r"<(?:input|select|textarea|button)\b[^>]*>", page):
        if name := re.search(r'\bname="([^"]+)"', tag):
            value = re.search(r'\bvalue="([^"]*)"', tag)
            found[name[1]] = value[1] if value else ""
    return found


@pytest.fixture
def roles(db, settings, evidence_place):
    """Return a browser for each role, at a desk that has rows of every kind."""
    settings.PHONE_CONSENT = True
    settings.CHECK_LIMIT = 10**9
    users = {
        "agent": factories.make_user("agent", group="Agent"),
        "manager": factories.make_user("manager", group="Manager"),
        "auditor": factories.make_user("auditor", group="Auditor"),
        "superuser": factories.make_user("superuser", is_superuser=True),
        "nobody": factories.make_user("nobody"),
    }
    browsers = {role: Client(raise_request_exception=False) for role in ROLES}
    for role, user in users.items():
        browsers[role].force_login(user)
    factories.case_unlocked(users["agent"])
    factories.open_case(users["agent"])
    waiting, agreed = factories.case_awaiting(users["agent"]), factories.case_consented(users["manager"])
    factories.case_recorded_by_phone(users["agent"])
    browsers["customer"].get(f"/consent/{waiting.token}/")
    browsers["reader"].get(f"/receipt/{agreed.receipt}/")
    return browsers


def sent(pick, address, method, client):
    """Send one request; return what was sent with it, and the answer."""
    names = pick([1, 2, 4])
    odd = {pick(FIELDS): pick(ODD) for _ in range(names)}
    if method == "GET":
        return odd, client.get(address, odd)
    if method == "POST":
        typed = fields_of(client, address)
        odd |= {pick([*typed, "_saveasnew"]): pick(ODD) for _ in range(names)}
        typed |= odd
        if pick([True, False, False]):
            typed["file"] = SimpleUploadedFile(pick(["a.pdf", "a\0.eml", "x" * 300]), pick([b"", b"%PDF-", b"\0{"]))
        return typed, client.post(address, typed)
    return {}, client.generic(method, address)


def test_nothing_breaks_and_nothing_changes(roles):
    """Say what was sent to which page as whom, and what it changed or how it broke."""
    draw = random.Random(SEED)
    everything = list(product(addresses(), ROLES, METHODS))
    chosen = everything if LONG else draw.sample(everything, SAMPLE)
    logging.disable(logging.CRITICAL)
    rows = [
        row.pk for model in (Account, Batch, Consent, ConsentTerms, UnlockRequest) for row in model.objects.all()[:4]
    ]
    values = [*map(str, rows), *["unlock"] * 5, *ODD]
    found = []
    before, head = snapshot(), LedgerEntry.objects.latest("sequence").sequence
    for pattern, role, method in chosen:
        address, client = filled(pattern, values, draw.choice), deepcopy(roles[role])
        around = transaction.atomic()
        around._from_testcase = True
        with around:
            data, answer = sent(draw.choice, address, method, client)
            broke = answer.status_code >= 500
            changed = [] if broke else changes(before, head)
            transaction.set_rollback(True)
        done = method == "POST" and answer.status_code == 302 and role not in WITHOUT_VERBS
        if broke or (changed and not done):
            found.append((role, method, address[:200], data, answer.status_code, changed))
    logging.disable(logging.NOTSET)
    assert found == []


def changes(before, head):
    """Return the tables that changed, apart from attempts that are only counted, and from refusals on record."""
    differ = difference(before, snapshot())
    new = set(LedgerEntry.objects.filter(sequence__gt=head).values_list("kind", flat=True))
    only = ["unlocks_checkattempts", *(["unlocks_ledgerentry", "unlocks_account"] if new and new <= REFUSALS else [])]
    return [table for table in differ if table not in only]
