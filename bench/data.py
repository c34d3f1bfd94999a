"""Fill a bench database with requests that customers have agreed to, by bulk SQL while the guards are lifted.

An account has ten requests of ten batches of three items. Ids are counted: line 437 is of batch 437, consent 44 of
request 44.
"""

import uuid
from datetime import timedelta
from decimal import Decimal

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.core.management.color import no_style
from django.db import connection, transaction
from django.db.models import F
from django.utils import timezone

from unlocks import history, operations
from unlocks.actors import Actor
from unlocks.database import fingerprint, guards
from unlocks.ledger import chain, events, invariants
from unlocks.models import (
    Account,
    Batch,
    BatchItem,
    Consent,
    ConsentedBatch,
    ConsentLink,
    ConsentTerms,
    Contact,
    LinkOpening,
    RequestedBatch,
    UnlockRequest,
)

BATCHES_AN_ACCOUNT = 100

_EMAIL = "'admin' || ((id + 9) / 10) || '@customer.example'"

# A model: how many of it an account has, its columns, and what is selected for them from `n`, the new ids.
ROWS = {
    Account: (
        1,
        "id, number, name, accounting_software, active, time_zone, external_id, pin_hash, pending_pin_hash, "
        "pin_issued_at, pin_failures",
        "id, 'A' || id, 'Account ' || id, 'quickbooks_online', true, '', '', '', '', NULL, 0",
    ),
    Contact: (
        1,
        "id, account_id, name, email, phone, is_admin, entered_at, confirmed_how, external_id",
        "id, id, 'Admin ' || id, 'admin' || id || '@customer.example', '', true, %(at)s, '', ''",
    ),
    Batch: (
        100,
        "id, account_id, number, name, status, total, item_count, posted_on, bypassed_on, period_closed, fingerprint, "
        "reached_by, differs, external_id, items_sha256",
        "id, (id + 99) / 100, 'B' || id, 'Invoices', 'bypassed', 300.75, 3, %(day)s, %(day)s, false, '', '', '', "
        "'', ''",
    ),
    BatchItem: (
        300,
        "id, batch_id, kind, number, date, customer, amount, memo, export_id, lines, disposition, "
        "job_number, business_unit, external_id",
        "id, (id + 2) / 3, 'invoice', 'I' || id, %(day)s, 'Customer ' || id, 100.25, '', '', '[]', '', '', '', ''",
    ),
    UnlockRequest: (
        10,
        "id, account_id, requester_id, channel, bypass_reason, reason, status, assignee_id, opened_by_id, opened_at, "
        "advice, advised_at, pin_verified_at, pin_typed_by, resolution, batch_count, amount, bypass_other, "
        "ticket_system, ticket_number, stage, stage_since, due_at, trouble, asked_at, consented_at, rework, warned",
        "id, (id + 9) / 10, (id + 9) / 10, 'phone', 'by_mistake', 'Wrong filter.', 'consented', %(user)s, %(user)s, "
        "%(at)s, 'wants_export', %(at)s, %(at)s, 'customer', '', 10, 3007.5, '', '', '', "
        "'ready', %(at)s, %(until)s, '', %(at)s, %(at)s, false, false",
    ),
    ConsentLink: (
        10,
        "id, unlock_request_id, sent_to_id, email, terms_id, token_hash, sent_by_id, sent_at, expires_at, "
        "pin_verified_at, used_at",
        "id, id, (id + 9) / 10, " + _EMAIL + ", %(terms)s, 'link ' || id, %(user)s, %(at)s, %(until)s, %(at)s, %(at)s",
    ),
    LinkOpening: (10, "id, link_id, position, at, browser", "id, id, 1, %(at)s, ''"),
    Consent: (
        10,
        "id, unlock_request_id, link_id, opening_id, terms_id, text, text_sha256, decision, signer_name, signer_role, "
        "contact_id, contact_name, email, pin_typed_by, ticked, pressed, browser, how, given_at, valid_until, "
        "batch_count, receipt_hash",
        "id, id, id, id, %(terms)s, 'Text ' || id, {text_sha256}, 'agreed', 'Admin', 'Controller', (id + 9) / 10, "
        "'Admin', " + _EMAIL + ", 'customer', '[]', '', '', 'link', %(at)s, %(until)s, 10, 'receipt ' || id",
    ),
    RequestedBatch: (
        100,
        "id, unlock_request_id, batch_id, outcome, consented_id",
        "id, (id + 9) / 10, id, 'waiting', id",
    ),
    ConsentedBatch: (
        100,
        "id, consent_id, requested_batch_id, batch_id, position, number, name, total, item_count, fingerprint",
        "id, (id + 9) / 10, id, id, (id - 1) %% 10 + 1, "
        + ", ".join(
            f"(SELECT b.{column} FROM unlocks_batch b WHERE b.id = n.id)"
            for column in ("number", "name", "total", "item_count", "fingerprint")
        ),
    ),
}


def agent():
    """Return the member of staff who does the work, made on the first call."""
    user, made = get_user_model().objects.get_or_create(username="bench", is_staff=True)
    if made:
        user.groups.add(Group.objects.get(name="Agent"))
        operations.record_staff(user, by=Actor.desk())
    return Actor.staff(user)


def fill(batches):
    """Add accounts until there are at least so many batches, all bypassed and agreed to, and nothing is amiss."""
    have, wanted = Account.objects.count(), -(-batches // BATCHES_AN_ACCOUNT)
    if wanted > have:
        with guards.lifted():
            _insert(have, wanted)
        with connection.cursor() as cursor:
            if connection.vendor == "postgresql":
                # What autovacuum does within minutes of such a load.
                cursor.execute("VACUUM ANALYZE")
    if names := guards.missing():
        raise RuntimeError(f"Guards are missing: {names}")


def assert_sound():
    """Raise RuntimeError unless the ledger and every invariant hold."""
    wrong = (wrong for wrong, rows in invariants.offenders() if rows.exists())
    if faults := [*(sentence for _, sentence in chain.faults()), *wrong]:
        raise RuntimeError(f"The bench data is not sound: {faults}")


@transaction.atomic
def _insert(have, wanted):
    at, ops = timezone.now() - timedelta(days=1), connection.ops
    values = {
        "at": ops.adapt_datetimefield_value(at),
        "until": ops.adapt_datetimefield_value(at + timedelta(days=30)),
        "day": ops.adapt_datefield_value(at.date()),
        "user": agent().user.pk,
        "terms": ConsentTerms.objects.get(version=1).pk,
    }
    text_sha256 = fingerprint.sha256(connection.vendor, "('Text ' || id)")
    with connection.cursor() as cursor:
        for model, (each, columns, selected) in ROWS.items():
            if model is ConsentedBatch:
                fingerprint.take(Batch.objects.all())
            cursor.execute(
                f"INSERT INTO {model._meta.db_table} ({columns}) "
                f"WITH RECURSIVE n (id) AS (SELECT {have * each + 1} UNION ALL SELECT id + 1 FROM n "
                f"WHERE id < {wanted * each}) SELECT {selected.format(text_sha256=text_sha256)} FROM n",
                values,
            )
            if hasattr(model, "history"):
                _record(model, have * each, at)
        for sql in ops.sequence_reset_sql(no_style(), ROWS):
            cursor.execute(sql)
    consents = Consent.objects.filter(pk__gt=have * 10).select_related(
        "unlock_request", "link__terms", "opening", "terms"
    )
    desk = Actor.desk()
    desk.act.at = at
    chain.append_all((entry for consent in consents.order_by("pk") for entry in _entries(consent)), by=desk)


def _entries(consent):
    """Yield the ledger entries of a case up to its consent."""
    told = [
        events.Opened.of(consent.unlock_request, batches=10, amount=Decimal("3007.50")),
        events.LinkSent.of(consent.link, name="Admin"),
        events.LinkOpened.of(consent.opening),
        events.PinVerified(),
        events.Consented.of(consent),
    ]
    for event in told:
        yield chain.Entry(event, consent.unlock_request_id, consent.unlock_request.account_id)


def _record(model, last, at):
    past = model.history.model
    history.insert_select(
        past,
        model.objects.filter(pk__gt=last).order_by("pk"),
        **{field.attname: F(field.attname) for field in past.tracked_fields},
        history_date=at,
        history_type="+",
        history_actor="bench",
        history_act=uuid.uuid4(),
    )
