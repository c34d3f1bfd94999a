"""What tests start from, made by real writes: history for tracked rows, and verbs for every step of a case."""

import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from functools import cache
from itertools import count

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.core import mail
from django.db import connection, transaction
from django.test import override_settings
from django.utils import timezone

from unlocks import history, operations, pins, stages
from unlocks.actors import Actor
from unlocks.ledger import chain, events
from unlocks.models import Account, Batch, BatchItem, Contact, Import, UnlockRequest
from unlocks.operations import handing_over
from unlocks.outbox import worker
from unlocks.product import port
from unlocks.texts.shown import shown_text, text_to_read_out

PIN = "482915"

_numbers = count(1001)
# Hashing is slow on purpose; one hash a PIN is enough for a run.
_hash = cache(pins.hashed)


@dataclass
class Case:
    """An unlock request with what a test needs around it; `url`, `consent` and `receipt` once the case has them."""

    unlock_request: object
    account: Account
    admin: Contact
    batches: list = field(default_factory=list)
    agent: object = None
    url: str = ""
    consent: object = None
    receipt: str = ""

    @property
    def batch(self):
        return self.batches[0]

    @property
    def rows(self):
        """The batches as a queryset, which is what verbs take."""
        return Batch.objects.filter(pk__in=[batch.pk for batch in self.batches])

    @property
    def token(self):
        return self.url.rstrip("/").rsplit("/", 1)[-1]

    @property
    def link(self):
        return self.unlock_request.links.latest("pk")

    def refresh(self):
        """Read request and batches again, and return the case."""
        self.unlock_request.refresh_from_db()
        for batch in self.batches:
            batch.refresh_from_db()
        return self


def acting(user):
    return Actor.staff(user)


def customer(contact):
    return Actor.customer(contact)


@transaction.atomic
def imported(*records, by=None):
    """Write records as an import does, with history and one ledger entry; return the first."""
    by = by or Actor.desk()
    for record in records:
        history.save(record, by=by)
    found = {getattr(record, "account_id", record.pk) for record in records if type(record) in (Account, Contact)}
    if found:
        operations.learn_words(Account.objects.filter(pk__in=found))
    chain.append(events.Imported(source="tests"), by=by)
    return records[0]


def make_user(username, *, group=None, password=None, is_staff=True, **fields):
    """Make a member of staff, told in the ledger, who signs in with `force_login` unless a password is given."""
    user = get_user_model().objects.create_user(username, password=password, is_staff=is_staff, **fields)
    if group:
        user.groups.add(Group.objects.get(name=group))
    operations.record_staff(user, by=Actor.desk())
    return user


def sign_in(client, user):
    """Sign a user in as the page to sign in leaves it: no page has to note that somebody is there."""
    client.force_login(user)
    session = client.session
    session["began"] = session["seen"] = int(time.time())
    session.save()


def make_token(system, *scopes, by, days=90, **fields):
    """Have the superuser `by` make a token for a system; return its row and the token."""
    expires_at = timezone.now() + timedelta(days=days)
    named = {"name": "Tests", "scopes": scopes, "expires_at": expires_at} | fields
    return operations.make_api_token(system, **named, by=acting(by))


def make_account(*, pin=PIN, admin=True, **fields):
    """Make an account with an Admin contact. `pin=""`: none was issued; `admin=False`: no contact."""
    number = fields.pop("number", None) or f"A-{next(_numbers)}"
    account, by = Account(**{"number": number, "name": f"Account {number}"} | fields), Actor.desk()
    if pin:
        account.pin_hash, account.pin_issued_at = _hash(pin), by.act.at
    imported(account, *([new_contact(account=account)] if admin else []), by=by)
    if pin:
        with transaction.atomic():
            chain.append(events.PinIssued.of(account, to=[]), by=by, account=account)
    return account


def make_contact(**fields):
    return imported(new_contact(**fields))


def new_contact(*, account, is_admin=True, **fields):
    number = next(_numbers)
    return Contact(
        **{
            "account": account,
            "name": f"{'Admin' if is_admin else 'Contact'} {number}",
            "email": f"contact-{number}@customer.example",
            "is_admin": is_admin,
        }
        | fields
    )


def enter_contact(*, account, by, is_admin=True, **fields):
    """Have `by` type in a contact, as on the account's page: it counts once someone else has confirmed it."""
    number = next(_numbers)
    typed = {"name": f"Typed {number}", "email": f"typed-{number}@customer.example", "is_admin": is_admin} | fields
    return operations.save_record(Contact(account=account, **typed), by=acting(by))


def import_contact(contact=None, *, by, **fields):
    """Have `by` import a contact, new or changed, as a file does: it counts once someone else has confirmed it."""
    actor = acting(by)
    entered_in = Import.objects.create(
        number=Import.objects.count() + 1, source="file", state="done", user=by, actor=by.username, at=actor.act.at
    )
    contact = contact or new_contact(account=fields.pop("account", None) or make_account())
    unconfirmed = {"confirmed_by": None, "confirmed_at": None, "confirmed_how": ""}
    who = {"entered_by": by, "entered_in": entered_in, "entered_at": actor.act.at}
    for name, value in (fields | who | unconfirmed).items():
        setattr(contact, name, value)
    return imported(contact, by=actor)


def put_contact(contact=None, *, token, **fields):
    """Have a system put a contact, new or changed, as the API does: it counts at once."""
    contact = contact or new_contact(account=fields.pop("account", None) or make_account())
    from_the_product = {"entered_by": None, "entered_in": None, "confirmed_by": None, "confirmed_at": None}
    for name, value in (fields | from_the_product | {"confirmed_how": ""}).items():
        setattr(contact, name, value)
    return imported(contact, by=Actor.system(token))


def confirm(contact, by):
    return operations.confirm_contact(contact, address=contact.email, how="Called the number on file", by=acting(by))


def make_batch(*, items=3, **fields):
    """Make a batch with `items` invoices of 100.00, 200.00, ... An unlocked one comes from `case_unlocked`."""
    return make_batches(n=1, items=items, **fields)[0]


def make_item(*, batch, **fields):
    return imported(_item(batch=batch, **fields))


def _item(*, batch, **fields):
    return BatchItem(
        **{
            "batch": batch,
            "number": f"INV-{next(_numbers)}",
            "date": date(2026, 4, 30),
            "customer": "Job site",
            "amount": Decimal("100.00"),
        }
        | fields
    )


def make_batches(*, account=None, n=3, items=1, **fields):
    account, records = account or make_account(), []
    for _ in range(n):
        records += _batch_with_items(items, account=account, **fields)
    imported(*records)
    # Read anew: adding items blanks the fingerprint in the database.
    keys = [record.pk for record in records if isinstance(record, Batch)]
    return list(Batch.objects.filter(pk__in=keys).order_by("pk"))


def _batch_with_items(items, *, status="bypassed", **fields):
    number = fields.pop("number", None) or f"{next(_numbers)}"
    amounts = [Decimal(100 * (place + 1)) for place in range(items)]
    batch = Batch(
        **{
            "number": number,
            "name": f"Invoices {number}",
            "status": status,
            "total": sum(amounts, Decimal("0.00")),
            "item_count": items,
            "posted_on": None if status == "pending" else date(2026, 5, 1),
            "bypassed_on": date(2026, 5, 2) if status == "bypassed" else None,
            "exported_on": date(2026, 5, 3) if status == "exported" else None,
        }
        | fields
    )
    places = enumerate(amounts, start=1)
    return [batch, *(_item(batch=batch, number=f"INV-{number}-{place}", amount=amount) for place, amount in places)]


def open_case(agent, *, batches=None, account=None, bypass_reason="by_mistake", **fields):
    """Open a request for `batches` (all of one account; made when not given), as an agent does on the phone."""
    batches = batches or make_batches(account=account, n=2)
    account = batches[0].account
    admin = fields.pop("requester", None) or account.contacts.filter(is_admin=True).first()
    unlock_request = operations.open_request(
        **{
            "account": account,
            "requester": admin,
            "channel": "phone",
            "bypass_reason": bypass_reason,
            "reason": "Bypassed by mistake; the customer wants to export them.",
            "batches": Batch.objects.filter(pk__in=[batch.pk for batch in batches]),
            "by": acting(agent),
        }
        | fields
    )
    return Case(unlock_request=unlock_request, account=account, admin=admin, batches=list(batches), agent=agent)


def case_awaiting(agent, **fields):
    """Open a request whose consent link has been sent; its address is the case's `url`."""
    case = open_case(agent, **fields)
    operations.record_advice(case.unlock_request, advice="wants_export", by=acting(agent))
    case.url = operations.send_consent_link(case.unlock_request, contact=case.admin, by=acting(agent)).url
    return case.refresh()


def while_the_pin_is_judged(case, act, *, pin, user):
    """Have `user` type a PIN, and `act` called before it is judged; return what that returned."""
    said, returned = [], []

    def between(execute, sql, params, many, context):
        if said and not returned:
            returned.append(None)
            returned[0] = act()
        if "INSERT INTO unlocks_ledgerentry" in sql:
            said.append(sql)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(between), suppress(operations.Refused):
        operations.verify_pin(case.unlock_request, pin=pin, by=acting(user))
    return returned[0]


def case_consented(agent, *, pin=PIN, **fields):
    """Walk a request up to the customer's consent, given through the link with the account's PIN."""
    return agree(case_awaiting(agent, **fields), pin=pin)


def agree(case, *, pin=PIN):
    """Have the customer agree through the case's link."""
    link, by = case.link, customer(case.admin)
    operations.open_consent_link(link, by=by)
    operations.verify_customer_pin(link, pin=pin, by=by)
    case.consent, case.receipt = operations.give_consent(
        link, name=case.admin.name, role="Controller", shown=shown_text(link), by=by
    )
    return case.refresh()


def case_unlocking(agent, **fields):
    """Walk a request up to the instruction to unlock its batches, which the product has not heard of yet."""
    case = case_consented(agent, **fields)
    operations.unlock(case.rows, by=acting(agent))
    return case.refresh()


def case_unlocked(agent, **fields):
    """Walk a request up to its batches being unlocked."""
    case = case_unlocking(agent, **fields)
    carry_out()
    return case.refresh()


def hand_over():
    """Hand over what the product is due to be asked, as the worker does; return the instructions."""
    leased = handing_over.lease()
    return operations.hand_over(leased, by=Actor.desk()).sent if leased else []


def carry_out(*, refuse=""):
    """Have the product do what it is asked to, or refuse it for a reason; of each batch the one after the other."""
    while sent := hand_over():
        answer(sent, "refused" if refuse else "done", refuse or "P-1")


def answer(instructions, state, text=""):
    """Have the product say something of instructions."""
    answers = [port.Answer(instruction.key, port.State(state), text) for instruction in instructions]
    return operations.record_answers(answers, by=Actor.product())


def unlock(batches, *, by, **more):
    """Instruct the unlock of batches, which the product carries out; return the act of the instruction."""
    act = operations.unlock(batches, by=by, **more)
    carry_out()
    return act


def relock(batches, *, by, **more):
    """Instruct the relock of batches, which the product carries out; return the act of the instruction."""
    act = operations.relock(batches, by=by, **more)
    carry_out()
    return act


def deliver():
    """Have the worker send what is due, and return the emails that went out."""
    before = len(mail.outbox)
    worker.send_due()
    return mail.outbox[before:]


def issue_pin(account, by):
    """Have `by` issue a PIN, whose emails arrive: it is in force. Nothing else that waits is sent."""
    operations.issue_pin(account, by=acting(by))
    for email in account.outgoing.filter(email="new_pin", state="queued"):
        worker.send(email)
    account.refresh_from_db()


@contextmanager
def delivered():
    """Have the worker send what is queued in the block. What waited before is sent first, and not kept."""
    del mail.outbox[len(mail.outbox) - len(deliver()) :]
    yield
    deliver()


def record_certificate_key():
    """Have the trial's key sign certificates, as `make run` does."""
    return operations.record_certificate_key(by=Actor.desk())


def record_by_phone(case, by, *, pin=PIN):
    """Have `by` verify the PIN and take the customer's consent down on the phone, as the policy allows."""
    operations.verify_pin(case.unlock_request, pin=pin, by=acting(by))
    case.unlock_request.refresh_from_db()
    with override_settings(PHONE_CONSENT=True):
        case.consent = operations.record_phone_consent(
            case.unlock_request,
            contact=case.admin,
            name=case.admin.name,
            role="Controller",
            shown=text_to_read_out(case.unlock_request),
            by=acting(by),
        )
    return case.refresh()


def case_recorded_by_phone(agent, **fields):
    """Walk a request up to a consent that `agent` took down on the phone."""
    case = open_case(agent, **fields)
    operations.record_advice(case.unlock_request, advice="wants_export", by=acting(agent))
    return record_by_phone(case, agent)


def kept_stages():
    """Return where each request stands, as its columns say: the stage, its deadline, and what is wrong."""
    return list(UnlockRequest.objects.order_by("pk").values_list("pk", *stages.derived(timezone.now())))


def derived_stages():
    """Return the same, derived anew."""
    now = {f"{name}_now": value for name, value in stages.derived(timezone.now()).items()}
    open_ones = {row[0]: row for row in UnlockRequest.objects.exclude(status="closed").values_list("pk", *now.values())}
    keys = UnlockRequest.objects.order_by("pk").values_list("pk", flat=True)
    return [open_ones.get(pk, (pk, "", None, "")) for pk in keys]
