"""Measure a customer's agreement to one request, its unlock, the product's answers and its withdrawal, by size."""

from datetime import date
from time import perf_counter
from uuid import uuid4

from django.core import mail
from django.db import connection
from django.test import override_settings

from tests import factories
from unlocks import operations
from unlocks.models import Batch
from unlocks.texts.shown import shown_text

from . import data

SIZES = [300, 2_500, 10_000]
STATES = ["as it comes", "after ANALYZE"]


@override_settings(EMAIL_BACKEND="django.core.mail.backends.locmem.EmailBackend")
def measure(*, analyze):
    """Return the seconds of each verb by size; with `analyze`, the database knows all rows but those of the verb."""
    mail.outbox = []
    factories.carry_out()  # what was instructed before
    return {str(size): _costs(size, analyze) for size in SIZES}


def _costs(size, analyze):
    by = data.agent()
    account = factories.make_account(number=uuid4().hex[:12])
    bypassed = (
        Batch(account=account, number=str(n), status="bypassed", bypassed_on=date(2026, 5, 2)) for n in range(size)
    )
    factories.imported(*bypassed)
    case = factories.case_awaiting(by.user, batches=list(account.batches.all()))
    link, customer = case.link, factories.customer(case.admin)
    operations.open_consent_link(link, by=customer)
    operations.verify_customer_pin(link, pin=factories.PIN, by=customer)
    shown = shown_text(link)
    if analyze:
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")
    signed = {"name": case.admin.name, "role": "Controller", "shown": shown}
    agree, (consent, _) = _timed(operations.give_consent, link, **signed, by=customer)
    unlock, _ = _timed(operations.unlock, account.batches.all(), by=by)
    carry_out, _ = _timed(factories.carry_out)
    withdraw, _ = _timed(operations.withdraw_own_consent, consent, why="", by=factories.customer(case.admin))
    return {"agree": agree, "unlock": unlock, "carry out": carry_out, "withdraw": withdraw}


def _timed(verb, *args, **kwargs):
    start = perf_counter()
    returned = verb(*args, **kwargs)
    return round(perf_counter() - start, 3), returned
