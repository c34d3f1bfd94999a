"""Each clause of each guard has a row here that is refused, or let through, because of that clause alone.

A row is a generator over the scene. Up to its `yield` no guard is in place, so that whatever a guard relies on
another for is tried as well; what follows meets one guard alone. `python -m tests.mutants` deletes the clauses one by
one and sees whether a row notices.
"""

import re
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import product
from unittest import mock
from uuid import uuid4

import pytest
from django.apps import apps
from django.contrib.auth import get_user_model
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from tests import factories
from tests.attacks import (
    CONFIRMED,
    a_staff_link,
    a_token,
    an_extension,
    an_instruction,
    as_shown,
    decide,
    ended,
    evidence,
    extend,
    forge_consent,
    grant,
    hand_over,
    instruction,
    ledger_entry,
    line,
    make_scene,
    open_link,
    published_terms,
    rows,
    said_by,
    sql,
    to_review,
    unlock,
    unlocked_now,
    unlocking_under,
    used_link,
    write,
)
from unlocks.database import fingerprint, guards
from unlocks.database.guards import declared
from unlocks.models import (
    Account,
    Act,
    ApiToken,
    Batch,
    BatchItem,
    Consent,
    ConsentedBatch,
    ConsentLink,
    ConsentTerms,
    ConsentWithdrawal,
    Contact,
    Instruction,
    LedgerEntry,
    LinkOpening,
    Outgoing,
    RequestedBatch,
    ResentReceipt,
    Review,
    StaffLink,
    UnlockRequest,
    Verdict,
)

pytestmark = pytest.mark.django_db
User = get_user_model()


@dataclass(frozen=True)
class Row:
    guard: str
    name: str
    steps: callable
    refused: bool
    only: str = ""


ROWS = []


def refuses(guard, name="", only=""):
    return _listed(guard, name, only, refused=True)


def allows(guard, name="", only=""):
    return _listed(guard, name, only, refused=False)


def _listed(guard, name, only, refused):
    def listed(steps):
        ROWS.append(Row(guard, name or steps.__name__, steps, refused, only))
        return steps

    return listed


@pytest.fixture(scope="module")
def scene(shared):
    made = make_scene()
    for table in ("account", "contact", "batch", "batchitem"):
        sql(f"UPDATE unlocks_{table} SET external_id = 'E-' || id")
    connection.check_constraints()  # PostgreSQL drops no trigger of a table with checks still to come
    guards.remove()
    return made


@contextmanager
def in_place(*names, keeping=False, blanking=False):
    """Put these guards in place and no others; `keeping` and `blanking` stand for those that are declared by table."""
    growing = declared.append_only_tables() if keeping else {}
    with mock.patch.multiple(
        declared,
        GUARDS=[guard for guard in declared.GUARDS if guard.name in names],
        NEVER_DELETED=declared.NEVER_DELETED if keeping else {},
        BLANKED_BY=declared.BLANKED_BY if blanking else [],
        append_only_tables=lambda: growing,
    ):
        guards.install()
        yield


def change(model, row, **columns):
    """Change one row by one statement."""
    assert rows(model, row).update(**columns) == 1


# --- A batch ----------------------------------------------------------------------------------------------------------


def in_status(scene, status):
    """Return the columns of a batch of that status, as the constraints ask for them."""
    granted = status in Batch.GRANTED
    held = (
        {"grant": grant(scene.ready), "unlocked_by": scene.agent} if granted else {"grant": None, "unlocked_by": None}
    )
    end = timezone.now() if status == "unlocked" else None
    return {"status": status, "bypassed_on": "2026-05-02", "exported_on": "2026-05-03", "unlocked_until": end, **held}


for _status in ("pending", "posted", "exported", "bypassed"):

    @allows("batch_starts_locked", f"starts_{_status}")
    def _starts(scene, status=_status):
        yield
        write(Batch(account=scene.home, number="new", **in_status(scene, status)))


for _status in Batch.GRANTED:

    @refuses("batch_starts_locked", f"starts_{_status}")
    def _starts_granted(scene, status=_status):
        yield
        write(Batch(account=scene.home, number="new", **in_status(scene, status)))


@refuses("batch_starts_locked")
def starts_with_a_fingerprint(scene):
    yield
    write(Batch(account=scene.home, number="new", fingerprint="f" * 64, **in_status(scene, "bypassed")))


def in_outcome(scene, outcome):
    return {"outcome": outcome}


def at_stage(scene, status):
    """Return the columns of a request of that status, as the constraints ask for them."""
    closed = {"closed_at": timezone.now(), "resolution": "canceled"} if status == "closed" else {}
    return {"status": status, "closed_at": None, "resolution": "", **closed}


def in_state(scene, state):
    return {"state": state, "done_at": timezone.now() if state in ("done", "refused", "canceled") else None}


def _bare(scene):
    return scene.bare


def _asked(scene):
    return instruction(scene.unlocking)


def _waiting_line(scene):
    return line(scene.awaiting)


def _waiting_request(scene):
    return scene.awaiting.unlock_request


_MOVES = [
    ("batch_moves_along_the_arrows", declared.BATCH_ARROWS, Batch, _bare, in_status),
    ("line_moves_along_the_arrows", declared.LINE_ARROWS, RequestedBatch, _waiting_line, in_outcome),
    ("request_moves_along_the_arrows", declared.REQUEST_ARROWS, UnlockRequest, _waiting_request, at_stage),
    ("instruction_moves_along_the_arrows", declared.INSTRUCTION_ARROWS, Instruction, _asked, in_state),
]
for _guard, _arrows, _model, _row, _columns in _MOVES:
    _statuses = sorted({status for arrow in _arrows for status in arrow})
    for _old, _new in [(_old, _new) for _old in _statuses for _new in _statuses]:
        _list = allows if _old == _new or (_old, _new) in _arrows else refuses

        @_list(_guard, f"{_old}_to_{_new}")
        def _moves(scene, model=_model, row=_row, columns=_columns, old=_old, new=_new):
            change(model, row(scene), **columns(scene, old))
            yield
            change(model, row(scene), **columns(scene, new))


# What a row keeps, and another value for it.
_KEPT = {
    "batch_keeps_its_identity": (Batch, _bare, ["account_id", "number"]),
    "line_keeps_its_identity": (RequestedBatch, _waiting_line, ["unlock_request_id", "batch_id"]),
    "request_keeps_its_identity": (
        UnlockRequest,
        _waiting_request,
        ["account_id", "requester_id", "opened_by_id", "opened_at"],
    ),
    "account_keeps_its_number": (Account, lambda scene: scene.emptyaccount, ["number"]),
    "contact_keeps_its_account": (Contact, lambda scene: scene.stranger, ["account_id"]),
    "item_keeps_its_key": (BatchItem, lambda scene: scene.bare.items.first(), []),
    "terms_keep_their_key": (ConsentTerms, lambda scene: scene.draft, ["version"]),
    "user_keeps_the_key": (User, lambda scene: scene.idle, ["username"]),
    "link_goes_one_way": (
        ConsentLink,
        lambda scene: scene.awaiting.link,
        ["unlock_request_id", "sent_to_id", "email", "terms_id", "token_hash", "sent_by_id", "sent_at"],
    ),
    "outgoing_keeps_what_it_is": (
        Outgoing,
        lambda scene: scene.outgoing,
        [
            "email",
            "address",
            "account_id",
            "unlock_request_id",
            "contact_id",
            "link_id",
            "consent_id",
            "resent_id",
            "entered_id",
            "actor",
            "mac",
            "queued_at",
        ],
    ),
    "token_goes_one_way": (
        ApiToken,
        lambda scene: scene.portal,
        ["name", "system_id", "scopes", "token_hash", "made_by_id", "made_at", "expires_at"],
    ),
    "staff_link_goes_one_way": (
        StaffLink,
        lambda scene: scene.staff_link,
        ["user_id", "sent_by_id", "sent_at", "expires_at", "token_hash"],
    ),
    "instruction_keeps_what_it_is": (
        Instruction,
        _asked,
        ["key", "what", "batch_id", "line_id", "act_id", "queued_at"],
    ),
}
_OTHER = {
    "account_id": lambda scene: scene.neighbour.account.pk,
    "number": lambda scene: "other",
    "unlock_request_id": lambda scene: scene.neighbour.unlock_request.pk,
    "batch_id": lambda scene: scene.bare.pk,
    "requester_id": lambda scene: scene.neighbour.admin.pk,
    "opened_by_id": lambda scene: scene.second.pk,
    "opened_at": lambda scene: timezone.now(),
    "version": lambda scene: 9,
    "username": lambda scene: "other",
    "sent_to_id": lambda scene: scene.neighbour.admin.pk,
    "email": lambda scene: "a@example.com",
    "terms_id": lambda scene: scene.draft.pk,
    "token_hash": lambda scene: "f" * 64,
    "mac": lambda scene: "f" * 64,
    "sent_by_id": lambda scene: scene.second.pk,
    "sent_at": lambda scene: timezone.now(),
    "address": lambda scene: "elsewhere@example.com",
    "contact_id": lambda scene: scene.neighbour.admin.pk,
    "link_id": lambda scene: scene.neighbour.link.pk,
    "consent_id": lambda scene: scene.neighbour.consent.pk,
    "resent_id": lambda scene: ResentReceipt.objects.get().pk,
    "entered_id": lambda scene: scene.neighbour.admin.history.first().pk,
    "actor": lambda scene: "Somebody else",
    "queued_at": lambda scene: timezone.now(),
    "key": lambda scene: uuid4(),
    "what": lambda scene: "lock",
    "line_id": lambda scene: line(scene.ready).pk,
    "act_id": lambda scene: scene.idle_act.pk,
    "name": lambda scene: "Other",
    "system_id": lambda scene: scene.feed.system_id,
    "scopes": lambda scene: "read",
    "made_by_id": lambda scene: scene.agent.pk,
    "made_at": lambda scene: scene.portal.made_at - timedelta(days=1),
    "expires_at": lambda scene: scene.portal.expires_at + timedelta(days=1),
    "user_id": lambda scene: scene.second.pk,
}
for _guard, (_model, _row, _columns) in _KEPT.items():
    # PostgreSQL refuses another key before it asks any guard.
    @refuses(_guard, "another_id", only="sqlite")
    def _another_id(scene, model=_model, row=_row):
        yield
        key = model._meta.pk.get_db_prep_value(row(scene).pk, connection)
        sql(f"UPDATE {model._meta.db_table} SET id = 999999 WHERE id = %s", key)

    for _column in _columns:

        @refuses(_guard, f"another_{_column}")
        def _another_value(scene, model=_model, row=_row, column=_column):
            yield
            change(model, row(scene), **{column: _OTHER[column](scene)})


# --- An unlock --------------------------------------------------------------------------------------------------------


@allows("batch_unlocked_only_with_consent")
def everything_is_as_it_should_be(scene):
    yield
    unlock(scene.ready.batch, grant(scene.ready), scene.agent)


@allows("batch_unlocked_only_with_consent")
def the_second_batch_of_an_unlocked_request(scene):
    change(UnlockRequest, scene.ready.unlock_request, status="unlocked")
    second = scene.ready.batches[1]
    yield
    unlock(second, grant(scene.ready, second), scene.agent)


@allows("batch_unlocked_only_with_consent")
def recorded_by_phone_and_unlocked_by_another(scene):
    yield
    unlock(scene.by_phone.batch, grant(scene.by_phone), scene.second)


@allows("batch_unlocked_only_with_consent")
def another_status_needs_no_consent(scene):
    yield
    change(Batch, scene.bare, status="exported", exported_on="2026-05-03")


@allows("batch_unlocked_only_with_consent")
def unlocking_as_before(scene):
    change(RequestedBatch, line(scene.unlocking), outcome="relocked")
    yield
    change(Batch, scene.unlocking.batch, status="unlocking")


@refuses("batch_unlocked_only_with_consent")
def in_a_closed_period(scene):
    change(Batch, scene.ready.batch, period_closed=True)
    yield
    unlock(scene.ready.batch, grant(scene.ready), scene.agent)


for _column, _value in {
    "number": "other",
    "name": "Other",
    "total": 1,
    "item_count": 9,
    "posted_on": "2026-05-09",
    "bypassed_on": "2026-05-09",
}.items():

    @refuses("batch_unlocked_only_with_consent", f"with_another_{_column}")
    def _changed(scene, column=_column, value=_value):
        columns = unlocking_under(grant(scene.ready), scene.agent) | {column: value}
        yield
        change(Batch, scene.ready.batch, **columns)


def withdraw(consent):
    write(ConsentWithdrawal(consent=consent, at=timezone.now(), actor="raw", why="Raw"))


def not_ready(spoil):
    """List a row: the ready batch can't be unlocked once `spoil` has been at its grant and its line."""

    @refuses("batch_unlocked_only_with_consent", spoil.__name__)
    def steps(scene):
        consented = grant(scene.ready)
        spoil(scene, consented, line(scene.ready))
        yield
        unlock(scene.ready.batch, consented, scene.agent)

    return spoil


@not_ready
def its_grant_is_of_another_batch(scene, consented, requested):
    change(ConsentedBatch, consented, batch=scene.bare)


@not_ready
def its_line_is_of_another_batch(scene, consented, requested):
    change(RequestedBatch, requested, batch=scene.bare)


@not_ready
def its_grant_is_of_another_line(scene, consented, requested):
    change(ConsentedBatch, consented, requested_batch=line(scene.ready, scene.ready.batches[1]))


@not_ready
def its_line_names_no_consent(scene, consented, requested):
    change(RequestedBatch, requested, consented=None)


@not_ready
def its_line_was_unlocked_before(scene, consented, requested):
    change(RequestedBatch, requested, outcome="relocked")


@not_ready
def its_line_is_of_another_request(scene, consented, requested):
    change(RequestedBatch, requested, unlock_request=scene.reasked.unlock_request)


@not_ready
def its_request_is_of_another_account(scene, consented, requested):
    change(UnlockRequest, scene.ready.unlock_request, account=scene.neighbour.account)


@not_ready
def its_request_was_asked_again(scene, consented, requested):
    change(UnlockRequest, scene.ready.unlock_request, status="awaiting_consent")


@not_ready
def its_account_is_not_active(scene, consented, requested):
    change(Account, scene.home, active=False)


@not_ready
def its_consent_was_declined(scene, consented, requested):
    # By what it says alone: a declined consent has no end and would be refused for that.
    with constraint_lifted(Consent, "unlocks_consent_is_signed"):
        change(Consent, scene.ready.consent, decision="declined")


@not_ready
def its_consent_has_expired(scene, consented, requested):
    change(Consent, scene.ready.consent, valid_until=timezone.now() - timedelta(seconds=1))


@not_ready
def its_content_is_another_than_was_agreed(scene, consented, requested):
    change(ConsentedBatch, consented, fingerprint="f" * 64)


@not_ready
def its_content_and_what_was_agreed_are_blank(scene, consented, requested):
    change(ConsentedBatch, consented, fingerprint="")
    change(Batch, scene.ready.batch, fingerprint="")


@not_ready
def its_consent_was_withdrawn(scene, consented, requested):
    withdraw(scene.ready.consent)


@refuses("batch_unlocked_only_with_consent")
def under_a_grant_of_another_request(scene):
    yield
    unlock(scene.ready.batch, grant(scene.neighbour), scene.agent)


@refuses("batch_unlocked_only_with_consent")
def withdrawn_while_an_earlier_consent_of_the_request_stands(scene):
    withdraw(scene.reasked.consent)
    yield
    unlock(scene.reasked.batch, grant(scene.reasked), scene.agent)


@refuses("batch_unlocked_only_with_consent")
def by_the_person_who_recorded_the_consent(scene):
    # By what the consent says alone: they typed the PIN as well.
    LedgerEntry.objects.filter(user=scene.agent).update(user=scene.second)
    yield
    unlock(scene.by_phone.batch, grant(scene.by_phone), scene.agent)


@not_ready
def by_the_person_who_was_shown_the_link(scene, consented, requested):
    change(ConsentLink, scene.ready.consent.link, shown_to=scene.agent)


def entered(contact, user):
    """Write a version of a contact whose address that person entered."""
    newest = contact.history.latest("history_id")
    newest.pk, newest.entered_by = None, user
    newest._state.adding = True
    write(newest)


@not_ready
def by_the_person_who_entered_the_address(scene, consented, requested):
    entered(scene.ready.admin, scene.agent)


def version(contact, entered_by=None, confirmed_by=None, **fields):
    """Write a version of a contact as its newest one, but with these people; it was imported unless fields say else."""
    newest = contact.history.latest("history_id")
    newest.pk, newest.entered_by, newest.confirmed_by = None, entered_by, confirmed_by
    newest.entered_in_id = fields.get("entered_in_id", uuid4())
    newest._state.adding = True
    write(newest)


def _imported(contact, other, user, second):
    version(contact, user)


def _imported_and_confirmed_by_another(contact, other, user, second):
    version(contact, user)
    version(contact, user, confirmed_by=second)


def _typed_and_confirmed_by_another(contact, other, user, second):
    version(contact, user, entered_in_id=None)
    version(contact, user, confirmed_by=second, entered_in_id=None)


def _imported_after_another_confirmed(contact, other, user, second):
    version(contact, second, confirmed_by=second)
    version(contact, user)


def _imported_beside_another_contact_that_was_confirmed(contact, other, user, second):
    version(contact, user)
    version(other, user, confirmed_by=second)


def _imported_and_confirmed_by_themselves(contact, other, user, second):
    version(contact, user)
    version(contact, second, confirmed_by=user)


def _imported_after_what_another_confirmed_and_changed_since(contact, other, user, second):
    version(contact, user)
    version(contact, user, confirmed_by=second)
    version(contact, second)


# What became of a contact that someone imported: who may have to do with it again.
_VERSIONS = {
    _imported: refuses,
    _imported_and_confirmed_by_another: allows,
    _typed_and_confirmed_by_another: refuses,
    _imported_after_another_confirmed: refuses,
    _imported_beside_another_contact_that_was_confirmed: refuses,
    _imported_and_confirmed_by_themselves: refuses,
    _imported_after_what_another_confirmed_and_changed_since: allows,
}
for _versions, _listed_as in _VERSIONS.items():

    @_listed_as("batch_unlocked_only_with_consent", f"by_who{_versions.__name__}")
    def _unlocked_by_who_imported(scene, versions=_versions):
        versions(scene.ready.admin, scene.neighbour.admin, scene.agent, scene.second)
        yield
        unlock(scene.ready.batch, grant(scene.ready), scene.agent)


def put_by(scene, contact, maker, *, scopes="contacts", made=-1, entered_by=None, system=None):
    """Write a version of a contact that a system put, an hour after that person made its token."""
    token = a_token(scene, system=scene.idle, scopes=scopes, made_by=maker, made_at=_in(made)(scene))
    newest = contact.history.latest("history_id")
    newest.pk, newest.entered_by, newest.history_date = None, entered_by, timezone.now()
    newest.history_user = system or token.system
    newest._state.adding = True
    write(newest)


def _put(scene, contact, other, user):
    put_by(scene, contact, user)


def _put_and_typed_since(scene, contact, other, user):
    put_by(scene, contact, user)
    entered(contact, scene.manager)


def _put_by_another_system(scene, contact, other, user):
    put_by(scene, contact, user, system=scene.feed.system)


def _put_by_a_token_of_another(scene, contact, other, user):
    put_by(scene, contact, scene.manager)


def _put_before_the_token_was_made(scene, contact, other, user):
    put_by(scene, contact, user, made=1)


def _put_by_no_token_for_contacts(scene, contact, other, user):
    put_by(scene, contact, user, scopes="pins records")


def _put_of_what_staff_entered(scene, contact, other, user):
    put_by(scene, contact, user, entered_by=scene.manager)


def _put_of_another_contact(scene, contact, other, user):
    put_by(scene, other, user)


# What a system put: who may have to do with it.
_PUTS = {
    _put: refuses,
    _put_and_typed_since: refuses,
    _put_by_another_system: allows,
    _put_by_a_token_of_another: allows,
    _put_before_the_token_was_made: allows,
    _put_by_no_token_for_contacts: allows,
    _put_of_what_staff_entered: allows,
    _put_of_another_contact: allows,
}
for _puts, _listed_as in _PUTS.items():

    @_listed_as("batch_unlocked_only_with_consent", f"by_who_made_the_token{_puts.__name__}")
    def _unlocked_by_the_maker(scene, puts=_puts):
        puts(scene, scene.ready.admin, scene.neighbour.admin, scene.second)
        yield
        unlock(scene.ready.batch, grant(scene.ready), scene.second)

    @_listed_as("instruction_handed_over_with_consent", f"by_who_made_the_token{_puts.__name__}")
    def _carried_out_by_the_maker(scene, puts=_puts):
        puts(scene, scene.unlocking.admin, scene.neighbour.admin, scene.second)
        yield
        hand_over(instruction(scene.unlocking), started_by=scene.second)


@refuses("batch_unlocked_only_with_consent")
def the_product_says_something_else(scene):
    change(Batch, scene.ready.batch, differs="exported")
    yield
    unlock(scene.ready.batch, grant(scene.ready), scene.agent)


@allows("batch_unlocked_only_with_consent")
def the_product_says_the_same(scene):
    change(Batch, scene.ready.batch, differs="bypassed")
    yield
    unlock(scene.ready.batch, grant(scene.ready), scene.agent)


@allows("batch_unlocked_only_with_consent", "by_another_than_who_entered_the_address")
def _by_another_than_who_entered(scene):
    entered(scene.ready.admin, scene.second)
    entered(scene.neighbour.admin, scene.agent)
    yield
    unlock(scene.ready.batch, grant(scene.ready), scene.agent)


@refuses("batch_unlocked_only_with_consent", "by_the_person_who_typed_a_pin")
def _by_the_person_who_typed_a_pin(scene):
    entry_like(scene, "pin_typed", scene.ready, scene.agent)
    yield
    unlock(scene.ready.batch, grant(scene.ready), scene.agent)


def entry_like(scene, kind, case, user):
    """Write a ledger entry of that kind, about that case and by that person."""
    newest = LedgerEntry.objects.order_by("-sequence").first()
    follows = {"sequence": newest.sequence + 1, "previous_hash": newest.hash, "hash": "f" * 64}
    write(ledger_entry(newest, kind=kind, unlock_request_id=case.unlock_request.pk, user_id=user.pk, **follows))


@allows("batch_unlocked_only_with_consent", "by_another_than_who_typed_a_pin")
def _by_another(scene):
    entry_like(scene, "pin_typed", scene.ready, scene.second)
    entry_of_another_kind = LedgerEntry.objects.filter(kind="opened", unlock_request=scene.ready.unlock_request)
    assert entry_of_another_kind.filter(user=scene.agent).exists()
    yield
    unlock(scene.ready.batch, grant(scene.ready), scene.agent)


@allows("batch_unlocked_only_with_consent", "by_who_typed_a_pin_for_another_request")
def _for_another_request(scene):
    entry_like(scene, "pin_typed", scene.neighbour, scene.agent)
    change(ConsentLink, scene.neighbour.consent.link, shown_to=scene.agent)
    yield
    unlock(scene.ready.batch, grant(scene.ready), scene.agent)


# --- While it is unlocked, and after ----------------------------------------------------------------------------------


def _held_on(name, column, value, listed=refuses, **status):
    """List a row: a batch of the case of that name, which has a grant, has one of its columns changed."""

    @listed("batch_grant_does_not_change", f"{name}_{column}_{'_'.join(status.values())}")
    def steps(scene):
        batch = scene.cases[name].batch
        with constraint_lifted(Batch, "unlocks_batch_window_once_unlocked"):
            yield
            change(Batch, batch, **{column: value(scene)} | status)


def _far_off(scene):
    return timezone.now() + timedelta(days=3650)


for _name in Batch.GRANTED:
    _held_on(_name, "grant", lambda scene: grant(scene.ready))
    _held_on(_name, "unlocked_by", lambda scene: scene.second)
    _held_on(_name, "unlocked_until", _far_off)
_held_on("unlocking", "unlocked_until", _far_off, allows, status="unlocked")
_held_on("unlocking", "unlocked_until", _far_off, status="relocking")
_held_on("unlocked", "unlocked_until", _far_off, status="relocking")
_held_on("unlocked", "unlocked_until", lambda scene: None, status="unlocked")


def _extension_on(name, listed, hours=48, before=False, **status):
    """List a row: a batch of the case of that name is extended, once more if it was `before`."""

    @listed("batch_grant_does_not_change", f"{name}_extended_{'again' if before else ''}_{'_'.join(status.values())}")
    def steps(scene):
        case = scene.cases[name]
        first, second = an_extension(case), an_extension(case)
        if before:
            extend(case, first)
        with constraint_lifted(Batch, "unlocks_batch_window_once_unlocked"):
            yield
            change(Batch, case.batch, extension=second, unlocked_until=_far_off(scene), **status)


_extension_on("unlocked", allows)
_extension_on("unlocked", refuses, before=True)
_extension_on("unlocked", refuses, status="relocking")
_extension_on("unlocking", refuses)
_extension_on("unlocking", refuses, status="unlocked")
_extension_on("relocking", refuses)
_extension_on("relocking", refuses, status="unlocked")


@refuses("batch_grant_does_not_change")
def extension_taken_back(scene):
    extend(scene.unlocked, an_extension(scene.unlocked))
    yield
    change(Batch, scene.unlocked.batch, extension=None)


@allows("batch_grant_does_not_change")
def the_same_as_before(scene):
    held = rows(Batch, scene.unlocked.batch).values("grant", "unlocked_until", "unlocked_by").get()
    yield
    change(Batch, scene.unlocked.batch, **held)


@allows("batch_grant_does_not_change")
def set_to_unlocking(scene):
    yield
    unlock(scene.ready.batch, grant(scene.ready), scene.agent)


for _name in Batch.GRANTED:

    @allows("batch_grant_does_not_change", f"locked_again_from_{_name}")
    def _locked_again(scene, name=_name):
        yield
        change(Batch, scene.cases[name].batch, **in_status(scene, "bypassed"))

    @refuses("batch_grant_is_used_up", f"{_name}_and_locked_while_its_line_waits")
    def _locked_while_it_waits(scene, name=_name):
        change(RequestedBatch, line(scene.cases[name]), outcome="waiting")
        yield
        change(Batch, scene.cases[name].batch, **in_status(scene, "bypassed"))

    @allows("batch_grant_is_used_up", f"{_name}_and_locked_while_its_line_shows_it")
    def _locked_while_shown(scene, name=_name):
        yield
        change(Batch, scene.cases[name].batch, **in_status(scene, "bypassed"))


@refuses("batch_grant_is_used_up")
def locked_while_the_line_of_another_shows_it(scene):
    change(RequestedBatch, line(scene.unlocked), outcome="relocked")
    yield
    change(Batch, scene.unlocked.batch, **in_status(scene, "bypassed"))


@allows("batch_grant_is_used_up")
def bypassed_without_having_been_unlocked(scene):
    change(Batch, scene.bare, **in_status(scene, "posted"))
    yield
    change(Batch, scene.bare, **in_status(scene, "bypassed"))


@allows("batch_grant_is_used_up")
def still_unlocked_while_its_line_waits(scene):
    change(RequestedBatch, line(scene.unlocked), outcome="waiting")
    yield
    change(Batch, scene.unlocked.batch, status="unlocked")


# --- What the product said --------------------------------------------------------------------------------------------


def said(case, state, what="unlock", batch=None):
    """Have the instruction of a batch be in that state."""
    asked = instruction(case, batch, what)
    change(Instruction, asked, **in_state(None, state))
    return asked


def _by_the_answer(guard, name, listed, to, state, case="sent", what="unlock", spoil=None):
    """List a row: the instruction is in that state, or altered by `spoil`, and its batch changes its status."""

    @listed(guard, name)
    def steps(scene):
        asked = said(scene.cases[case], state, what)
        if spoil:
            spoil(scene, asked)
        yield
        change(Batch, scene.cases[case].batch, **(unlocked_now() if to == "unlocked" else in_status(scene, to)))


def _of_another_batch(scene, asked):
    change(Instruction, asked, batch=scene.bare)


def _to_lock(scene, asked):
    change(Instruction, asked, what="lock")


def _to_unlock(scene, asked):
    Instruction.objects.filter(line=asked.line, what="unlock").delete()
    change(Instruction, asked, what="unlock")


def _under_another_grant(scene, asked):
    change(RequestedBatch, line(scene.ready), consented=None)
    change(Instruction, asked, line=line(scene.ready))


_unlocks = partial(_by_the_answer, "batch_unlocked_once_the_product_did_it")
_unlocks("done", allows, "unlocked", "done")
for _state in ("queued", "sent", "unknown", "given_up", "refused", "canceled"):
    _unlocks(_state, refuses, "unlocked", _state)
_unlocks("done_for_another_batch", refuses, "unlocked", "done", spoil=_of_another_batch)
_unlocks("done_to_lock", refuses, "unlocked", "done", spoil=_to_lock)
_unlocks("done_under_another_grant", refuses, "unlocked", "done", spoil=_under_another_grant)
_unlocks("relocking_all_the_same", allows, "relocking", "unknown")


@allows("batch_unlocked_once_the_product_did_it")
def relocking_to_unlocked_is_for_another_guard(scene):
    yield
    change(Batch, scene.ready.batch, **in_status(scene, "unlocked"))


def _for(hours, name, listed, *, status="unlocked", spoil=None):
    """List a row: the product unlocked a batch for 24 hours, altered by `spoil`, and it is set to end after so many."""

    @listed("batch_unlocked_for_the_window_chosen", name)
    def steps(scene):
        asked = said(scene.sent, "done")
        if spoil:
            spoil(scene, asked)
        yield
        asked.refresh_from_db()
        end = asked.done_at + timedelta(hours=hours)
        with constraint_lifted(Batch, "unlocks_batch_window_once_unlocked"):
            change(Batch, scene.sent.batch, status=status, unlocked_until=end)


def _without_a_window(scene, asked):
    change(Instruction, asked, act=Act.objects.filter(kind="relocked").first())


_for(24, "as_long_as_chosen", allows)
_for(24.001, "longer", refuses)
_for(0.5, "without_a_window", refuses, spoil=_without_a_window)
_for(24.001, "longer_by_an_answer_for_another_batch", allows, spoil=_of_another_batch)
_for(24.001, "longer_by_an_answer_to_lock", allows, spoil=_to_lock)
_for(24.001, "longer_under_another_grant", allows, spoil=_under_another_grant)
_for(24.001, "longer_by_a_refusal", allows, spoil=lambda scene, asked: change(Instruction, asked, state="refused"))
_for(24.001, "longer_while_relocking", allows, status="relocking")


@allows("batch_unlocked_for_the_window_chosen")
def longer_than_chosen_once_it_is_unlocked(scene):
    yield
    change(Batch, scene.unlocked.batch, status="unlocked", unlocked_until=_far_off(scene))


def _extended(name, listed, *, hours=47, spoil=None, **act):
    """List a row: a window is extended to so many hours from now by an act, altered by `spoil`."""

    @listed("batch_window_extended_with_consent", name)
    def steps(scene):
        made = an_extension(scene.unlocked, **{"hours": 48} | act)
        if spoil:
            spoil(scene, made)
        yield
        extend(scene.unlocked, made, hours=hours)


def _on_another_batch(scene, made):
    change(Verdict, made.verdicts.get(), batch=scene.bare)


def _by_another_act(scene, made):
    change(Verdict, made.verdicts.get(), act=scene.idle_act)


def _consent_expired(scene, made):
    change(Consent, scene.unlocked.consent, valid_until=timezone.now() - timedelta(seconds=1))


def _asked_otherwise(**columns):
    return lambda scene, made: change(Instruction, instruction(scene.unlocked), **columns)


_extended("as_far_as_the_act_allows", allows)
_extended("beyond_what_the_act_allows", refuses, hours=49)
_extended(
    "beyond_it_by_an_answer_for_another_batch",
    allows,
    hours=49,
    spoil=lambda scene, made: change(Instruction, instruction(scene.unlocked), batch=scene.bare),
)
_extended(
    "beyond_it_under_another_grant",
    allows,
    hours=49,
    spoil=lambda scene, made: _under_another_grant(scene, instruction(scene.unlocked)),
)
_extended("beyond_it_by_an_answer_to_lock", allows, hours=49, spoil=_asked_otherwise(what="lock"))
_extended("beyond_it_by_a_refusal", allows, hours=49, spoil=_asked_otherwise(state="refused"))
_extended("by_an_unlock", refuses, kind="unlock")
_extended(
    "by_an_unlock_beside_an_extension",
    refuses,
    kind="unlock",
    spoil=lambda scene, made: an_extension(scene.unlocked),
)
_extended("though_it_was_refused", refuses, refusal="extended")
_extended("by_an_act_on_another_batch", refuses, spoil=_on_another_batch)
_extended("by_an_act_with_no_verdict", refuses, spoil=_by_another_act)
_extended("under_an_expired_consent", refuses, spoil=_consent_expired)
_extended("under_a_withdrawn_consent", refuses, spoil=lambda scene, made: withdraw(scene.unlocked.consent))
_extended("under_another_withdrawn_consent", allows, spoil=lambda scene, made: withdraw(scene.ready.consent))


@allows("batch_window_extended_with_consent")
def the_same_extension_as_before(scene):
    made = an_extension(scene.unlocked)
    extend(scene.unlocked, made)
    change(Consent, scene.unlocked.consent, valid_until=timezone.now() - timedelta(seconds=1))
    yield
    change(Batch, scene.unlocked.batch, extension=made)


@allows("batch_window_extended_with_consent")
def no_extension_any_more(scene):
    extend(scene.unlocked, an_extension(scene.unlocked))
    change(Consent, scene.unlocked.consent, valid_until=timezone.now() - timedelta(seconds=1))
    yield
    change(Batch, scene.unlocked.batch, extension=None)


_gives_back = partial(_by_the_answer, "batch_given_back_only_if_not_unlocked")
for _state in ("refused", "canceled"):
    _gives_back(_state, allows, "bypassed", _state)
for _state in ("queued", "sent", "unknown", "given_up", "done"):
    _gives_back(_state, refuses, "bypassed", _state)
_gives_back("refused_for_another_batch", refuses, "bypassed", "refused", spoil=_of_another_batch)
_gives_back("refused_to_lock", refuses, "bypassed", "refused", spoil=_to_lock)
_gives_back("refused_under_another_grant", refuses, "bypassed", "refused", spoil=_under_another_grant)
_gives_back("exported_all_the_same", allows, "exported", "done")


@allows("batch_given_back_only_if_not_unlocked")
def bypassed_as_it_was(scene):
    yield
    change(Batch, scene.bare, **in_status(scene, "bypassed"))


def _beside_a_refusal(name, listed, state, spoil=None):
    """List a row: the product refused, but another instruction, altered by `spoil`, is in that state."""

    @listed("batch_given_back_only_if_not_unlocked", f"refused_and_{name}")
    def steps(scene):
        said(scene.sent, "refused")
        columns = {"state": state} if state != "done" else ended("done")
        another = an_instruction(scene.sent.batch, line(scene.sent), **columns)
        if spoil:
            spoil(scene, another)
        yield
        change(Batch, scene.sent.batch, **in_status(scene, "bypassed"))


for _state in ("queued", "sent", "unknown", "given_up", "done"):
    _beside_a_refusal(_state, refuses, _state)
_beside_a_refusal("done_for_another_batch", allows, "done", _of_another_batch)
_beside_a_refusal("to_be_locked", allows, "queued", _to_lock)
_beside_a_refusal("done_under_another_grant", allows, "done", _under_another_grant)

_locks = partial(_by_the_answer, "batch_relocked_once_the_product_did_it", case="relocking", what="lock")
_locks("done", allows, "bypassed", "done")
for _state in ("queued", "sent", "unknown", "given_up", "refused", "canceled"):
    _locks(_state, refuses, "bypassed", _state)
_locks("done_for_another_batch", refuses, "bypassed", "done", spoil=_of_another_batch)
_locks("done_to_unlock", refuses, "bypassed", "done", spoil=_to_unlock)
_locks("done_under_another_grant", refuses, "bypassed", "done", spoil=_under_another_grant)
_locks("exported_all_the_same", allows, "exported", "queued")


@allows("batch_relocked_once_the_product_did_it")
def given_back_without_a_lock(scene):
    yield
    change(Batch, scene.sent.batch, **in_status(scene, "bypassed"))


# --- An instruction ---------------------------------------------------------------------------------------------------


def _instructed(name, listed, case="sent", what="unlock", spoil=None, **columns):
    """List a row: an instruction is written for a batch of that case, altered as told; `spoil` alters the scene."""

    @listed("instruction_has_its_grant", name)
    def steps(scene):
        chosen = scene.cases[case]
        requested = line(chosen)
        Instruction.objects.filter(line=requested).delete()
        if spoil:
            spoil(scene, requested)
        yield
        values = {column: value(scene) for column, value in columns.items()}
        an_instruction(values.pop("batch", chosen.batch), values.pop("requested", requested), what, **values)


_instructed("to_unlock", allows)
_instructed("to_lock", allows, "relocking", "lock")
_instructed("to_lock_what_is_unlocking", refuses, what="lock")
_instructed("to_lock_what_is_unlocked", refuses, "unlocked", "lock")
_instructed("to_unlock_what_is_relocking", refuses, "relocking")
_instructed("to_unlock_what_is_unlocked", refuses, "unlocked")
_instructed("to_unlock_what_is_bypassed", refuses, "ready")
_instructed("sent", refuses, state=lambda scene: "sent")
_instructed("tried", refuses, tries=lambda scene: 1)
_instructed("handed_over_before", refuses, sent_at=lambda scene: timezone.now())
_instructed("taken", refuses, started_by=lambda scene: scene.second)
_instructed("put_off_by_three_days", allows, next_try_at=lambda scene: timezone.now() + timedelta(days=3))
_instructed("put_off_by_a_week", refuses, next_try_at=lambda scene: timezone.now() + timedelta(days=7))
_instructed("for_another_batch", refuses, batch=lambda scene: scene.ready.batch)
_instructed("under_another_line", refuses, requested=lambda scene: line(scene.unlocking))
_instructed(
    "under_another_consent",
    refuses,
    spoil=lambda scene, requested: change(RequestedBatch, requested, consented=grant(scene.ready)),
)
_instructed(
    "while_its_line_waits",
    refuses,
    spoil=lambda scene, requested: change(RequestedBatch, requested, outcome="waiting"),
)


def _instruction_becomes(name, listed, after, before=None, guard="instruction_keeps_what_it_is"):
    """List a row: an instruction that stands as told changes."""

    @listed(guard, name)
    def steps(scene):
        asked = instruction(scene.unlocking)
        if before:
            change(Instruction, asked, **{column: value(scene) for column, value in before.items()})
        yield
        change(Instruction, asked, **{column: value(scene) for column, value in after.items()})


_instruction_becomes("answered", allows, {"answer": lambda scene: "Later"}, {"state": lambda scene: "unknown"})
_instruction_becomes(
    "given_up_and_answered", allows, {"answer": lambda scene: "?"}, {"state": lambda scene: "given_up"}
)
for _state in ("done", "refused", "canceled"):
    _columns = {"state": lambda scene, state=_state: state, "done_at": lambda scene: timezone.now()}
    _instruction_becomes(_state, allows, _columns, {"tries": lambda scene: 1})
    _instruction_becomes(f"{_state}_and_answered_again", refuses, {"answer": lambda scene: "Other"}, _columns)


def _handed_over(name, listed, spoil=None, case="unlocking", what="unlock", **columns):
    """List a row: an instruction is handed over, once `spoil` has been at its batch, its grant and itself."""

    @listed("instruction_handed_over_with_consent", name)
    def steps(scene):
        asked = instruction(scene.cases[case], what=what)
        if spoil:
            spoil(scene, asked)
        yield
        hand_over(asked, **{column: value(scene) for column, value in columns.items()})


_handed_over("with_all_as_it_should_be", allows)
_handed_over("to_lock", allows, case="relocking", what="lock")
_handed_over(
    "not_handed_over_but_canceled",
    allows,
    lambda scene, asked: change(Batch, asked.batch, period_closed=True),
    state=lambda scene: "canceled",
    done_at=lambda scene: timezone.now(),
)


def not_handed_over(spoil):
    _handed_over(spoil.__name__.removeprefix("_"), refuses, spoil)
    return spoil


@not_handed_over
def _once_it_is_relocking(scene, asked):
    change(Batch, asked.batch, status="relocking")


@not_handed_over
def _for_another_batch(scene, asked):
    change(Instruction, asked, batch=scene.bare)


@not_handed_over
def _for_another_line(scene, asked):
    change(Instruction, asked, line=line(scene.unlocking, scene.unlocking.batches[1]))


@not_handed_over
def _in_a_closed_period(scene, asked):
    change(Batch, asked.batch, period_closed=True)


@not_handed_over
def _once_the_product_says_something_else(scene, asked):
    change(Batch, asked.batch, differs="exported")


_handed_over(
    "once_the_product_says_the_same", allows, lambda scene, asked: change(Batch, asked.batch, differs="bypassed")
)
for _versions, _listed_as in _VERSIONS.items():

    def _by_who_imported(scene, asked, versions=_versions):
        versions(scene.unlocking.admin, scene.neighbour.admin, scene.agent, scene.second)

    _handed_over(f"unlocked_by_who{_versions.__name__}", _listed_as, _by_who_imported)


@not_handed_over
def _once_the_account_is_not_active(scene, asked):
    change(Account, scene.home, active=False)


@not_handed_over
def _once_the_consent_has_expired(scene, asked):
    change(Consent, scene.unlocking.consent, valid_until=timezone.now() - timedelta(seconds=1))


@not_handed_over
def _once_the_content_is_another(scene, asked):
    change(Batch, asked.batch, fingerprint="")


@not_handed_over
def _once_the_consent_is_withdrawn(scene, asked):
    withdraw(scene.unlocking.consent)


@allows("instruction_handed_over_with_consent")
def the_product_says_once_more_that_it_has_it(scene):
    asked = said(scene.unlocking, "unknown")
    change(Batch, asked.batch, status="relocking")
    yield
    hand_over(asked)


@refuses("instruction_handed_over_with_consent")
def withdrawn_while_an_earlier_consent_for_the_batch_stands(scene):
    case = scene.reasked
    unlock(case.batch, grant(case), scene.agent)
    change(RequestedBatch, line(case), outcome="unlocking")
    asked = an_instruction(case.batch, line(case))
    withdraw(case.consent)
    yield
    hand_over(asked)


def _obtained_by(user):
    """List rows: the consent was obtained by that person, who instructed the unlock, or who carries it out."""

    def recorded(scene, asked, case=None):
        consent = (case or scene.unlocking).consent
        change(Consent, consent, how="phone", link=None, opening=None, recorded_by=user(scene))

    def shown(scene, asked, case=None):
        change(ConsentLink, (case or scene.unlocking).consent.link, shown_to=user(scene))

    def typed(scene, asked, case=None):
        entry_like(scene, "pin_typed", case or scene.unlocking, user(scene))

    def typed_the_address(scene, asked, case=None):
        entered((case or scene.unlocking).admin, user(scene))

    return recorded, shown, typed, typed_the_address


def _the_second(scene):
    return scene.second


def _by_a_system_of(maker, name, listed):
    """List rows: a token of the system that unlocks was made by that person, and the superuser obtained the consent."""
    for obtained in _obtained_by(lambda scene: scene.superuser):

        @listed("batch_unlocked_only_with_consent", f"by_a_system_of_{name}_{obtained.__name__}")
        def unlocks(scene, obtained=obtained):
            token = a_token(scene, system=scene.idle, scopes="unlock", made_by=maker(scene))
            obtained(scene, None, scene.ready)
            yield
            unlock(scene.ready.batch, grant(scene.ready), token.system)

        @listed("instruction_handed_over_with_consent", f"to_a_system_of_{name}_{obtained.__name__}")
        def instructed(scene, obtained=obtained):
            a_token(scene, system=scene.agent, scopes="unlock", made_by=maker(scene))
            obtained(scene, None)
            yield
            hand_over(instruction(scene.unlocking))


_by_a_system_of(lambda scene: scene.superuser, "who", refuses)
_by_a_system_of(lambda scene: scene.second, "another_than_who", allows)


for _spoil in _obtained_by(lambda scene: scene.agent):
    _handed_over(f"by_whoever_instructed_it_and_{_spoil.__name__}", refuses, _spoil)
    _handed_over(f"by_another_though_who_instructed_it_{_spoil.__name__}", refuses, _spoil, started_by=_the_second)
for _spoil in _obtained_by(_the_second):
    _handed_over(f"by_the_product_though_another_{_spoil.__name__}", allows, _spoil)
    _handed_over(f"by_another_who_{_spoil.__name__}", refuses, _spoil, started_by=_the_second)
    _handed_over(f"by_a_third_though_another_{_spoil.__name__}", allows, _spoil, started_by=lambda scene: scene.manager)


@allows("instruction_handed_over_with_consent", "by_who_could_have_agreed_to_another_request")
def _agreed_to_another(scene):
    entry_like(scene, "pin_typed", scene.neighbour, scene.agent)
    assert LedgerEntry.objects.filter(unlock_request=scene.unlocking.unlock_request, user=scene.agent).exists()
    change(ConsentLink, scene.neighbour.consent.link, shown_to=scene.agent)
    entered(scene.neighbour.admin, scene.agent)
    yield
    hand_over(instruction(scene.unlocking))


def _canceled(name, listed, status="", sent_at=timezone.now, state="canceled"):
    """List a row: an instruction that the product may have got is canceled."""

    @listed("instruction_canceled_before_the_product_got_it", name)
    def steps(scene):
        asked = instruction(scene.unlocking)
        change(Instruction, asked, sent_at=sent_at())
        if status:
            change(Batch, asked.batch, **in_status(scene, status))
        yield
        change(Instruction, asked, sent_at=None, **in_state(scene, state))


_canceled("not_got_by_the_product", allows, sent_at=lambda: None)
_canceled("got_by_the_product", refuses)
_canceled("refused_by_the_product", allows, state="refused")
for _status in ("relocking", "exported"):
    _canceled(f"of_what_is_{_status}", allows, _status)


@allows("instruction_canceled_before_the_product_got_it")
def got_while_another_batch_is_unlocking(scene):
    asked = instruction(scene.unlocking)
    change(Instruction, asked, sent_at=timezone.now(), batch=scene.bare)
    yield
    change(Instruction, asked, **in_state(scene, "canceled"))


_is_taken = partial(_instruction_becomes, guard="instruction_carried_out_by_who_took_it")
_taken_by, _by_nobody = {"started_by": _the_second}, {"started_by": lambda scene: None}
_sent_now, _queued_now = {"state": lambda scene: "sent"}, {"state": lambda scene: "queued"}
_unknown_now = {"state": lambda scene: "unknown"}
_is_taken("taken", allows, _sent_now | _taken_by)
_is_taken("put_back", allows, _queued_now | _by_nobody, _sent_now | _taken_by)
_is_taken("kept", allows, {"answer": lambda scene: "?"}, _sent_now | _taken_by)
_is_taken("kept_by_name", allows, _taken_by, _sent_now | _taken_by)
_is_taken("taken_over", refuses, {"started_by": lambda scene: scene.manager}, _sent_now | _taken_by)
_is_taken("reserved", refuses, _taken_by)
_is_taken("reserved_by_asking", refuses, _unknown_now | _taken_by)
_is_taken("taken_once_it_was_asked_about", refuses, _sent_now | _taken_by, _unknown_now)
_is_taken("put_back_once_it_was_asked_about", allows, _queued_now | _by_nobody, _unknown_now | _taken_by)
_is_taken("given_away_by_asking", refuses, _unknown_now | _by_nobody, _sent_now | _taken_by)

_is_answered = partial(_instruction_becomes, guard="instruction_answered_once_handed_over")


def _now(scene):
    return timezone.now()


def _before(scene):
    return timezone.now() - timedelta(hours=1)


_done_now, _refused_now = ({"state": lambda scene, s=s: s, "done_at": _now} for s in ("done", "refused"))
_got, _got_before, _not_got = {"sent_at": _now}, {"sent_at": _before}, {"sent_at": lambda scene: None}
_is_answered("done_once_got", allows, _done_now, _sent_now | _got)
_is_answered("refused_once_got", allows, _refused_now, _sent_now | _got)
_is_answered("done_and_never_got", refuses, _done_now)
_is_answered("refused_and_never_got", refuses, _refused_now)
_is_answered("got_at_a_time", allows, _sent_now | _got)
_is_answered("got_at_no_time", refuses, _sent_now)
_is_answered("got_once_more", allows, _sent_now | _got, _queued_now | _got_before)
_is_answered("got_before_it_is_sent", refuses, _got)
_is_answered("got_at_another_time", refuses, _got, _sent_now | _got_before)
_is_answered("not_got_after_all", allows, _queued_now | _not_got, _sent_now | _got)
_is_answered("not_got_though_it_waits_for_an_answer", refuses, _not_got, _sent_now | _got)
_is_answered("not_got_though_it_may_have_been", refuses, _not_got, _queued_now | _got_before)
_is_answered("not_got_though_nobody_knows", refuses, _queued_now | _not_got, _unknown_now | _got)
_is_answered("waits_again_and_may_have_got_it", allows, _queued_now, _sent_now | _got)

_is_asked = partial(_instruction_becomes, guard="instruction_is_tried_in_time")
for _name, _list, _before, _after in [
    ("tried_once_more", allows, 1, 2),
    ("as_often_as_before", allows, 3, 3),
    ("counted_anew", allows, 5, 0),
    ("counted_anew_once_accepted", allows, 5, 1),
    ("tried_three_times_at_once", refuses, 1, 4),
    ("tried_less", refuses, 5, 4),
    ("tried_for_the_thousandth_time", allows, 999, 1000),
    ("tried_more_than_a_thousand_times", refuses, 1000, 1001),
]:
    _is_asked(_name, _list, {"tries": lambda scene, n=_after: n}, {"tries": lambda scene, n=_before: n})
_is_asked("put_off_by_three_days", allows, {"next_try_at": lambda scene: timezone.now() + timedelta(days=3)})
_is_asked("put_off_by_a_week", refuses, {"next_try_at": lambda scene: timezone.now() + timedelta(days=7)})


# --- The fingerprint --------------------------------------------------------------------------------------------------


@refuses("batch_fingerprint_is_true")
def made_up(scene):
    yield
    change(Batch, scene.bare, fingerprint="f" * 64)


@allows("batch_fingerprint_is_true")
def blanked(scene):
    yield
    change(Batch, scene.ready.batch, fingerprint="")


@allows("batch_fingerprint_is_true")
def taken(scene):
    yield
    assert fingerprint.take(rows(Batch, scene.bare)) == 1


@allows("batch_fingerprint_is_true")
def written_over_itself(scene):
    """It was judged when it came, and is not taken again for each later change of the row."""
    change(Batch, scene.bare, fingerprint="f" * 64)
    yield
    change(Batch, scene.bare, fingerprint="f" * 64)


# --- A line of a request ----------------------------------------------------------------------------------------------


@allows("line_starts_waiting")
def joins_an_open_request(scene):
    yield
    write(RequestedBatch(unlock_request=scene.ready.unlock_request, batch=scene.bare))


@refuses("line_starts_waiting")
def line_starts_unlocked(scene):
    yield
    write(RequestedBatch(unlock_request=scene.ready.unlock_request, batch=scene.bare, outcome="unlocked"))


@refuses("line_starts_waiting")
def line_starts_consented(scene):
    yield
    write(RequestedBatch(unlock_request=scene.ready.unlock_request, batch=scene.bare, consented=grant(scene.ready)))


@refuses("line_starts_waiting")
def joins_a_request_of_another_account(scene):
    yield
    write(RequestedBatch(unlock_request=scene.neighbour.unlock_request, batch=scene.bare))


@refuses("line_starts_waiting")
def joins_a_closed_request(scene):
    yield
    write(RequestedBatch(unlock_request=scene.withdrawn.unlock_request, batch=scene.bare))


def _line_becomes(to, case="unlocked", batch_is="", **columns):
    """Return steps: a line, changed as told, its batch in that status, comes to an outcome."""

    def steps(scene):
        requested = line(scene.cases[case])
        if columns:
            change(RequestedBatch, requested, **columns)
        if batch_is:
            change(Batch, requested.batch, **in_status(scene, batch_is))
        yield
        change(RequestedBatch, requested, outcome=to)

    return steps


for _name, _list, _steps in [
    ("dropped", allows, _line_becomes("not_unlocked", "ready")),
    ("dropped_without_a_consent", allows, _line_becomes("not_unlocked", "awaiting")),
    ("re_exported", allows, _line_becomes("re_exported", batch_is="exported")),
    ("re_exported_while_unlocked", refuses, _line_becomes("re_exported")),
    ("re_exported_while_bypassed", refuses, _line_becomes("re_exported", batch_is="bypassed")),
    ("relocked", allows, _line_becomes("relocked", batch_is="bypassed")),
    ("relocked_while_relocking", refuses, _line_becomes("relocked", "relocking")),
    ("relocked_while_exported", refuses, _line_becomes("relocked", batch_is="exported")),
    ("refused", allows, _line_becomes("refused", "unlocking", batch_is="bypassed")),
    ("refused_while_unlocking", refuses, _line_becomes("refused", "unlocking")),
    ("waits_again", allows, _line_becomes("waiting", "unlocking", batch_is="bypassed")),
    ("waits_again_while_unlocking", refuses, _line_becomes("waiting", "unlocking")),
    ("waiting_as_before", allows, _line_becomes("waiting", "ready")),
]:
    _list("line_follows_its_batch", _name)(_steps)
for _name in RequestedBatch.GRANTED:
    _follows = partial(_line_becomes, _name)
    for _rest, _list, _steps in [
        ("as_its_batch_is", allows, _follows(_name, outcome="waiting")),
        ("while_bypassed", refuses, _follows("ready")),
        ("while_exported", refuses, _follows("ready", batch_is="exported")),
        ("for_another", refuses, _follows(_name, outcome="waiting", consented=None)),
        ("dropped_for_another", allows, _line_becomes("not_unlocked", _name, outcome="waiting", consented=None)),
        ("dropped_for_it", refuses, _line_becomes("not_unlocked", _name, outcome="waiting")),
        *(
            (f"while_{_other}", refuses, _follows(_other, outcome="waiting"))
            for _other in RequestedBatch.GRANTED
            if _other != _name
        ),
    ]:
        _list("line_follows_its_batch", f"{_name}_{_rest}")(_steps)


@refuses("line_follows_its_batch")
def unlocked_under_a_grant_that_was_left_over(scene):
    requested = line(scene.unlocked)
    change(RequestedBatch, requested, outcome="waiting")
    with constraint_lifted(Batch, "unlocks_batch_grant_iff_unlocked"):
        change(Batch, requested.batch, status="bypassed", unlocked_until=None)
    yield
    change(RequestedBatch, requested, outcome="unlocked")


def _earlier(scene):
    """Return the grant that an earlier consent gave to a line."""
    return ConsentedBatch.objects.get(consent=scene.reasked.first, batch=scene.reasked.batch)


@allows("line_names_its_own_consent")
def another_consent_given_for_it(scene):
    yield
    change(RequestedBatch, line(scene.reasked), consented=_earlier(scene))


@refuses("line_names_its_own_consent")
def a_consent_given_for_another_line(scene):
    yield
    change(RequestedBatch, line(scene.reasked), consented=grant(scene.reasked, scene.reasked.batches[1]))


@refuses("line_names_its_own_consent")
def another_consent_once_it_is_unlocked(scene):
    change(RequestedBatch, line(scene.reasked), outcome="unlocked")
    yield
    change(RequestedBatch, line(scene.reasked), consented=_earlier(scene))


@allows("line_names_its_own_consent")
def the_same_consent_once_it_is_unlocked(scene):
    change(RequestedBatch, line(scene.reasked), outcome="unlocked")
    yield
    change(RequestedBatch, line(scene.reasked), consented=grant(scene.reasked))


# --- A request --------------------------------------------------------------------------------------------------------


def _open(scene, status):
    opened = {"account": scene.home, "requester": scene.ready.admin, "opened_by": scene.agent}
    write(UnlockRequest(**opened, opened_at=timezone.now(), status=status))


@allows("request_starts_open")
def starts_open(scene):
    yield
    _open(scene, "open")


@refuses("request_starts_open")
def starts_ready(scene):
    yield
    _open(scene, "consented")


@refuses("request_keeps_its_identity")
def a_closed_one_changes(scene):
    yield
    change(UnlockRequest, scene.withdrawn.unlock_request, resolution="re_exported")


@allows("request_keeps_its_identity")
def an_open_one_changes(scene):
    yield
    change(UnlockRequest, scene.awaiting.unlock_request, reason="Another")


def _becomes_ready(case, status="awaiting_consent"):
    def steps(scene):
        unlock_request = scene.cases[case].unlock_request
        change(UnlockRequest, unlock_request, **at_stage(scene, status))
        yield
        change(UnlockRequest, unlock_request, status="consented")

    return steps


allows("request_ready_only_with_consent", "agreed")(_becomes_ready("ready"))
allows("request_ready_only_with_consent", "ready_as_before")(_becomes_ready("awaiting", "consented"))
refuses("request_ready_only_with_consent", "not_agreed")(_becomes_ready("awaiting"))
refuses("request_ready_only_with_consent", "declined")(_becomes_ready("declined"))
refuses("request_ready_only_with_consent", "withdrawn")(_becomes_ready("withdrawn"))


@allows("request_ready_only_with_consent")
def another_status_without_consent(scene):
    yield
    change(UnlockRequest, scene.awaiting.unlock_request, status="open")


def _closes(*outcomes):
    def steps(scene):
        unlock_request = scene.ready.unlock_request
        for requested, outcome in zip(unlock_request.lines.order_by("pk"), outcomes, strict=True):
            change(RequestedBatch, requested, outcome=outcome)
        yield
        change(UnlockRequest, unlock_request, **at_stage(scene, "closed"))

    return steps


allows("request_closed_without_open_batches", "all_done")(_closes("relocked", "re_exported"))
for _outcome in RequestedBatch.OPEN:
    refuses("request_closed_without_open_batches", f"one_is_{_outcome}")(_closes("relocked", _outcome))


@allows("request_closed_without_open_batches")
def another_status_while_batches_wait(scene):
    yield
    change(UnlockRequest, scene.awaiting.unlock_request, status="open")


# --- Terms ------------------------------------------------------------------------------------------------------------


def _new_terms(version, **fields):
    write(ConsentTerms(version=version, title="New", text="New", **fields))


@allows("terms_start_as_a_draft")
def the_only_draft(scene):
    rows(ConsentTerms, scene.draft).delete()
    yield
    _new_terms(9)


@refuses("terms_start_as_a_draft")
def a_second_draft(scene):
    yield
    _new_terms(9)


@refuses("terms_start_as_a_draft")
def published_at_once(scene):
    rows(ConsentTerms, scene.draft).delete()
    yield
    _new_terms(9, published_at=timezone.now())


@allows("terms_start_as_a_draft")
def the_first_version_published_at_once(scene):
    change(ConsentTerms, published_terms(), version=5)
    yield
    _new_terms(1, published_at=timezone.now())


def _published(scene, **fields):
    return {"published_at": timezone.now(), "published_by": scene.manager} | fields


for _name, _fields in {
    "by_nobody": {"published_by": None},
    "with_another_title": {"title": "Other"},
    "with_another_text": {"text": "Other"},
}.items():

    @refuses("terms_published_by_somebody", f"published_{_name}")
    def _publishes(scene, fields=_fields):
        yield
        change(ConsentTerms, scene.draft, **_published(scene, **fields))


@allows("terms_published_by_somebody")
def published_as_drafted(scene):
    yield
    change(ConsentTerms, scene.draft, **_published(scene))


@allows("terms_published_by_somebody")
def a_draft_is_written_on(scene):
    yield
    change(ConsentTerms, scene.draft, title="Other", text="Other")


@refuses("terms_frozen")
def published_terms_are_written_on(scene):
    yield
    change(ConsentTerms, published_terms(), title="Other")


@allows("terms_frozen")
def a_draft_is_published(scene):
    yield
    change(ConsentTerms, scene.draft, **_published(scene))


# --- A link -----------------------------------------------------------------------------------------------------------


def _link_sent(name, listed, /, **fields):
    @listed("link_goes_to_an_admin", name)
    def steps(scene):
        yield
        used_link(scene, scene.awaiting, **{column: value(scene) for column, value in fields.items()})


def _stranger(scene):
    return scene.stranger


def _strangers_address(scene):
    return scene.stranger.email


def _typed(scene, contact="stranger"):
    change(Contact, scene.cases[contact], is_admin=True, entered_by=scene.manager)
    return scene.cases[contact]


def _confirmed(scene, contact="stranger"):
    change(Contact, _typed(scene, contact), confirmed_by=scene.agent, **CONFIRMED)
    return scene.cases[contact]


def _elsewhere(scene):
    return "elsewhere@example.com"


_link_sent("to_an_admin", allows)
_link_sent(
    "to_an_admin_of_another_account",
    refuses,
    sent_to=lambda scene: scene.neighbour.admin,
    email=lambda scene: scene.neighbour.admin.email,
)
_link_sent("to_somebody_who_is_no_admin", refuses, sent_to=_stranger, email=_strangers_address)
_link_sent("to_an_admin_whom_nobody_confirmed", refuses, sent_to=_typed, email=_strangers_address)
_link_sent("to_a_confirmed_admin", allows, sent_to=_confirmed, email=_strangers_address)
_link_sent("to_somebody_else_at_an_admins_address", refuses, sent_to=_stranger)
_link_sent("to_an_address_not_on_file", refuses, email=_elsewhere)
_link_sent("with_terms_never_published", refuses, terms=lambda scene: scene.draft)


def _link_becomes(name, listed, after, /, **before):
    """List a row: a link that stands as told changes."""

    @listed("link_goes_one_way", name)
    def steps(scene):
        change(ConsentLink, scene.awaiting.link, **{"sent_at": _then - timedelta(hours=1)} | before)
        yield
        change(ConsentLink, scene.awaiting.link, **after)


_then = timezone.now()
_later = _then + timedelta(hours=1)
_link_becomes("lives_longer", refuses, {"expires_at": _then + timedelta(days=3650)})
_link_becomes("lives_shorter", allows, {"expires_at": _later})
_link_becomes("verified", allows, {"pin_verified_at": _then})
_link_becomes("used", allows, {"used_at": _then, "pin_verified_at": _then, "expires_at": _later})
_link_becomes("revoked", allows, {"revoked_at": _then})
_link_becomes("used_before_and_revoked", allows, {"revoked_at": _then}, used_at=_then)
_link_becomes("revoked_before_and_shortened", allows, {"expires_at": _later}, revoked_at=_then)
_link_becomes("used_and_verified_later", refuses, {"pin_verified_at": _later}, used_at=_then, pin_verified_at=_then)
_link_becomes("used_and_shortened", refuses, {"expires_at": _later}, used_at=_then)
for _column in ("used_at", "revoked_at"):
    _link_becomes(f"{_column}_unset", refuses, {_column: None}, **{_column: _then})
    _link_becomes(f"{_column}_moved", refuses, {_column: _later}, **{_column: _then})


@refuses("link_goes_one_way")
def shown_to_another_member_of_staff(scene):
    yield
    ConsentLink.objects.filter(pk=scene.awaiting.link.pk).update(shown_to=scene.second)


# --- Tokens of the API ------------------------------------------------------------------------------------------------


def _token_becomes(name, listed, after, before=None):
    @listed("token_goes_one_way", name)
    def steps(scene):
        if before:
            change(ApiToken, scene.portal, **before(scene))
        yield
        change(ApiToken, scene.portal, **after(scene))


def _revoked(scene):
    return {"revoked_at": _then, "revoked_by": scene.superuser}


def _used(scene):
    return {"last_used_at": _then}


_token_becomes("used_and_used_again", allows, lambda scene: {"last_used_at": _later}, before=_used)
_token_becomes("used_before", refuses, lambda scene: {"last_used_at": _then - timedelta(days=1)}, before=_used)
_token_becomes("never_used_after_all", refuses, lambda scene: {"last_used_at": None}, before=_used)
_token_becomes("revoked", allows, _revoked)
_token_becomes("revoked_at_another_time", refuses, lambda scene: {"revoked_at": _later}, before=_revoked)
_token_becomes("revoked_by_another", refuses, lambda scene: {"revoked_by": scene.agent}, before=_revoked)
_token_becomes("revoked_and_used_by_a_call_under_way", allows, _used, before=_revoked)


def _token_is_made(name, listed, guard="token_made_by_a_superuser_for_a_system", user=None, maker=None, **columns):
    """List a row: a token is made for a new system, with `user` and `maker` changed before, as told."""

    @listed(guard, name)
    def steps(scene):
        system = write(User(**{"username": "new-system", "password": "!none"} | (user or {})))
        if maker:
            change(User, scene.superuser, **maker)
        yield
        a_token(scene, system=system, **{key: value(scene) for key, value in columns.items()})


_token_is_made("for_a_system", allows)
_token_is_made("revoked_from_the_start", refuses, revoked_at=lambda _: _then, revoked_by=lambda scene: scene.superuser)
_token_is_made("for_staff", refuses, user={"is_staff": True})
_token_is_made("for_a_superuser", refuses, user={"is_superuser": True})
_token_is_made("for_who_has_a_password", refuses, user={"password": "md5$x$y"})
_token_is_made("by_no_superuser", refuses, maker={"is_superuser": False})
_token_is_made("by_who_left", refuses, maker={"is_active": False})
_may = partial(_token_is_made, guard="token_makes_up_no_customer")
for _first, _second in product(("contacts", "pins"), ("requests", "unlock")):
    _may(f"{_first}_and_{_second}", refuses, scopes=lambda _, both=f"{_first} {_second}": both)
_may("what_goes_together", allows, scopes=lambda _: "contacts events personal pins product read records")
_may("the_other_ones", allows, scopes=lambda _: "events personal product read requests unlock")
_may("of_another_system", allows, scopes=lambda _: "contacts")


def _another_token(name, listed, first, second):
    @listed("token_makes_up_no_customer", name)
    def steps(scene):
        system = write(User(username="new-system", password="!none"))
        a_token(scene, system=system, scopes=first, token_hash="e" * 64)
        yield
        a_token(scene, system=system, scopes=second)


for _first, _second in product(("contacts", "pins"), ("requests", "unlock")):
    _another_token(f"{_first}_then_{_second}", refuses, _first, _second)
    _another_token(f"{_second}_then_{_first}", refuses, _second, _first)
_another_token("contacts_then_records", allows, "contacts", "records")
_another_token("records_then_contacts", allows, "records", "contacts")
_another_token("requests_then_unlock", allows, "requests", "unlock")
_another_token("records_then_product", allows, "records", "product")


def _user_becomes(name, listed, aim, **columns):
    @listed("system_never_signs_in", name)
    def steps(scene):
        yield
        change(User, aim(scene), **columns)


_user_becomes("system_deactivated", allows, lambda scene: scene.portal.system, is_active=False)
_user_becomes("colleague_with_a_password", allows, lambda scene: scene.idle, password="md5$x$y", is_superuser=True)
_user_becomes("system_on_the_staff", refuses, lambda scene: scene.portal.system, is_staff=True)
_user_becomes("system_as_superuser", refuses, lambda scene: scene.portal.system, is_superuser=True)


# --- Links to set a password ------------------------------------------------------------------------------------------


def _staff_link_becomes(name, listed, after, before=None):
    @listed("staff_link_goes_one_way", name)
    def steps(scene):
        if before:
            change(StaffLink, scene.staff_link, used_at=before)
        yield
        change(StaffLink, scene.staff_link, used_at=after)


_staff_link_becomes("used", allows, _then)
_staff_link_becomes("used_at_another_time", refuses, _later, before=_then)
_staff_link_becomes("unused", refuses, None, before=_then)


def _staff_link_is_sent(name, listed, sender=None, user=None, **columns):
    @listed("staff_link_sent_by_a_superuser", name)
    def steps(scene):
        change(User, scene.superuser, **sender or {"is_active": True})
        change(User, scene.idle, **user or {"is_active": True})
        yield
        a_staff_link(scene, **{"user": scene.idle} | columns)


_staff_link_is_sent("to_staff", allows)
_staff_link_is_sent("used_from_the_start", refuses, used_at=_then)
_staff_link_is_sent("by_no_superuser", refuses, sender={"is_superuser": False})
_staff_link_is_sent("by_who_left", refuses, sender={"is_active": False})
_staff_link_is_sent("to_no_staff", refuses, user={"is_staff": False})
_staff_link_is_sent("to_who_left", refuses, user={"is_active": False})
_user_becomes("system_with_a_password", refuses, lambda scene: scene.portal.system, password="md5$x$y")


# --- What is emailed --------------------------------------------------------------------------------------------------


def _email_becomes(name, listed, after, before=None, guard="outgoing_keeps_what_it_is"):
    """List a row: an email that stands as told changes."""

    @listed(guard, name)
    def steps(scene):
        change(Outgoing, scene.outgoing, **before or {"tries": 1})
        yield
        change(Outgoing, scene.outgoing, **after)


_sent = {"state": "sent", "nonce": "", "done_at": _then}
_email_becomes("tried_again", allows, {"tries": 2, "next_try_at": _later, "answer": "421 Later"})
_email_becomes("sent", allows, _sent)
_email_becomes("sent_without_a_secret", allows, _sent, before={"nonce": ""})
_email_becomes("another_secret", refuses, {"nonce": "0" * 64})
_email_becomes("a_secret_where_there_was_none", refuses, {"nonce": "0" * 64}, before={"nonce": ""})
_email_becomes("no_secret_before_it_is_done", refuses, {"nonce": ""})
_email_becomes("sent_and_queued_again", refuses, {"state": "queued", "done_at": None}, before=_sent)
_email_becomes("sent_and_answered_once_more", refuses, {"answer": "Other"}, before=_sent)


@refuses("outgoing_keeps_what_it_is")
def sent_with_another_secret(scene):
    with constraint_lifted(Outgoing, "unlocks_outgoing_done"):
        yield
        change(Outgoing, scene.outgoing, **_sent | {"nonce": "0" * 64})


_is_tried = partial(_email_becomes, guard="outgoing_is_tried_in_time")
_is_tried("answered", allows, {"answer": "421 Later"})
_is_tried("tried_once_more", allows, {"tries": 2})
_is_tried("tried_three_times_at_once", refuses, {"tries": 4})
_is_tried("tried_less", refuses, {"tries": 0})
_is_tried("tried_for_the_thousandth_time", allows, {"tries": 1000}, before={"tries": 999})
_is_tried("tried_for_the_thousandth_time_and_ended", allows, _sent, before={"tries": 1000})
_is_tried("tried_more_than_a_thousand_times", refuses, {"tries": 1001}, before={"tries": 1000})
_is_tried("put_off_by_three_days", allows, {"next_try_at": _then + timedelta(days=3)})
_is_tried("put_off_by_a_week", refuses, {"next_try_at": _then + timedelta(days=7)})


def _email_starts(name, listed, **columns):
    @listed("outgoing_starts_untried", name)
    def steps(scene):
        yield
        made = Outgoing(email="receipt", address="a@example.com", actor="agent", queued_at=_then, next_try_at=_then)
        for column, value in columns.items():
            setattr(made, column, value)
        write(made)


_email_starts("due_at_once", allows)
_email_starts("due_in_three_days", allows, next_try_at=_then + timedelta(days=3))
_email_starts("put_off_from_the_start", refuses, next_try_at=_then + timedelta(days=7))
_email_starts("tried_before", refuses, tries=1)


# --- A contact --------------------------------------------------------------------------------------------------------


@refuses("contact_starts_unconfirmed")
def starts_confirmed(scene):
    yield
    write(_new_contact(scene, confirmed_by=scene.agent, **CONFIRMED))


@allows("contact_starts_unconfirmed")
def starts_typed(scene):
    yield
    write(_new_contact(scene))


def _new_contact(scene, **fields):
    typed = {"name": "New", "email": "new@customer.example", "is_admin": True, "entered_by": scene.manager}
    return Contact(account=scene.home, **typed | fields)


def _contact_becomes(name, listed, /, before=None, **after):
    """List a row: an Admin that the manager typed, who stands as told, changes."""

    @listed("contact_confirmed_by_a_second_person", name)
    def steps(scene):
        _typed(scene)
        entered(scene.stranger, scene.manager)
        entered(scene.neighbour.admin, scene.agent)
        change(
            Contact, scene.stranger, name="Typed", **{column: value(scene) for column, value in (before or {}).items()}
        )
        yield
        change(Contact, scene.stranger, **{column: value(scene) for column, value in after.items()})


def _is(value):
    return lambda scene: value


_by_the_agent = {"confirmed_by": lambda scene: scene.agent, **{name: _is(value) for name, value in CONFIRMED.items()}}
# Of a contact that someone else entered last, so that no constraint is in the way.
_by_the_manager = _by_the_agent | {
    "confirmed_by": lambda scene: scene.manager,
    "entered_by": lambda scene: scene.second,
}
_contact_becomes("confirmed", allows, **_by_the_agent)
_contact_becomes("confirmed_by_who_entered_it_once", refuses, **_by_the_manager)
_contact_becomes("confirmed_with_another_address", refuses, **_by_the_agent, email=_elsewhere)
_contact_becomes("another_address", refuses, _by_the_agent, email=_elsewhere)
_contact_becomes("another_address_unconfirmed", allows, email=_elsewhere)
_contact_becomes("another_name", allows, _by_the_agent, name=_is("Other"))
_contact_becomes("an_admin", refuses, _by_the_agent | {"is_admin": _is(False)}, is_admin=_is(True))
_contact_becomes("no_admin", allows, _by_the_agent, is_admin=_is(False))
_contact_becomes("another_name_of_no_admin", allows, _by_the_agent | {"is_admin": _is(False)}, name=_is("Other"))


for _versions, _listed_as in _VERSIONS.items():

    @_listed_as("contact_confirmed_by_a_second_person", f"by_who{_versions.__name__}")
    def _confirmed_by_who_imported(scene, versions=_versions):
        _typed(scene)
        change(Contact, scene.stranger, entered_by=scene.second)
        versions(scene.stranger, scene.neighbour.admin, scene.manager, scene.second)
        yield
        change(Contact, scene.stranger, confirmed_by=scene.manager, **CONFIRMED)


for _puts, _listed_as in _PUTS.items():

    @_listed_as("contact_confirmed_by_a_second_person", f"by_who_made_the_token{_puts.__name__}")
    def _confirmed_by_the_maker(scene, puts=_puts):
        _typed(scene)
        change(Contact, scene.stranger, entered_by=scene.manager)
        puts(scene, scene.stranger, scene.neighbour.admin, scene.second)
        yield
        change(Contact, scene.stranger, confirmed_by=scene.second, **CONFIRMED)


# --- The opening of a link --------------------------------------------------------------------------------------------


def _opening(name, listed, /, position=1, at=None, **link):
    """List a row: the link of the waiting case, altered as told, is opened."""

    @listed("opening_is_of_a_link_that_works", name)
    def steps(scene):
        if link:
            change(ConsentLink, scene.awaiting.link, **{column: value(scene) for column, value in link.items()})
        yield
        opened = LinkOpening(link=scene.awaiting.link, position=position, at=(at or _in(0))(scene))
        write(opened)


def _in(hours):
    return lambda scene: timezone.now() + timedelta(hours=hours)


_opening("first", allows)
_opening("before_the_first", refuses, position=0)
_opening("without_the_one_before", refuses, position=2)
_opening("after_the_link_was_used", refuses, used_at=_in(0))
_opening("after_the_link_was_revoked", refuses, revoked_at=_in(0))
_opening("dated_after_the_end_of_the_link", refuses, at=_in(24 * 365))
_opening("after_the_end_of_the_link_and_backdated", refuses, at=_in(-2), expires_at=_in(-1))


@allows("opening_is_of_a_link_that_works")
def next_one(scene):
    open_link(scene.awaiting.link)
    yield
    open_link(scene.awaiting.link, position=2)


@refuses("opening_is_of_a_link_that_works")
def next_one_of_another_link(scene):
    yield
    open_link(scene.awaiting.link, position=2)


@refuses("opening_is_of_a_link_that_works")
def later_than_the_next_one(scene):
    open_link(scene.awaiting.link)
    yield
    open_link(scene.awaiting.link, position=3)


# --- A consent by its link --------------------------------------------------------------------------------------------


def _consent_by_link(name, listed, /, link=None, **fields):
    """List a row: the waiting case gets a consent, its link or itself altered as told."""

    @listed("consent_comes_by_its_link", name)
    def steps(scene):
        case, at = scene.awaiting, timezone.now()
        used = {"pin_verified_at": at, "used_at": at}
        opening = open_link(case.link)
        change(ConsentLink, case.link, **used | {column: value(scene) for column, value in (link or {}).items()})
        made = {"link": case.link, "opening": opening} | {column: value(scene) for column, value in fields.items()}
        yield
        forge_consent(case, covers=False, **made)


def _unset(scene):
    return None


def _draft_now_published(scene):
    change(ConsentTerms, scene.draft, **_published(scene))
    return scene.draft


def _after_fifty(scene):
    open_link(scene.awaiting.link, position=50)


def _after_fifty_of_another(scene):
    open_link(scene.ready.link, position=50)


def _another_after_fifty(scene):
    open_link(scene.awaiting.link, position=50)
    return open_link(scene.ready.link, 9)


_DECLINED = {"decision": lambda scene: "declined", "valid_until": _unset, "batch_count": lambda scene: 0}
_consent_by_link("as_it_should_be", allows)
_consent_by_link("declined_without_a_pin", allows, link={"pin_verified_at": _unset}, **_DECLINED)
_consent_by_link("without_a_pin", refuses, link={"pin_verified_at": _unset})
_consent_by_link("by_none_of_the_openings_on_record", refuses, opening=_unset)
_consent_by_link("by_an_opening_of_another_link", refuses, opening=lambda scene: open_link(scene.ready.link, 9))
_consent_by_link("after_more_openings_than_are_recorded", allows, opening=_after_fifty)
_consent_by_link("after_fifty_openings_of_another_link", refuses, opening=_after_fifty_of_another)
_consent_by_link("by_an_opening_of_another_link_after_fifty", refuses, opening=_another_after_fifty)
_consent_by_link("unused", refuses, link={"used_at": _unset})
_consent_by_link("revoked", refuses, link={"revoked_at": _in(0)})
_consent_by_link("dated_after_its_end", refuses, given_at=_in(24 * 365))
_consent_by_link("after_its_end_and_backdated", refuses, link={"expires_at": _in(-1)}, given_at=_in(-2))
_consent_by_link("under_other_terms", refuses, terms=_draft_now_published)
_consent_by_link("in_the_name_of_somebody_else", refuses, contact=_stranger)
_consent_by_link("from_another_address", refuses, email=_elsewhere)
_consent_by_link("sent_to_an_address_not_on_file", refuses, link={"email": _elsewhere}, email=_elsewhere)
_consent_by_link(
    "sent_to_an_admin_whom_nobody_confirmed",
    refuses,
    link={"sent_to": _typed, "email": _strangers_address},
    contact=_stranger,
    email=_strangers_address,
)
_consent_by_link(
    "sent_to_a_confirmed_admin",
    allows,
    link={"sent_to": _confirmed, "email": _strangers_address},
    contact=_stranger,
    email=_strangers_address,
)
_consent_by_link(
    "sent_to_somebody_who_is_no_admin",
    refuses,
    link={"sent_to": _stranger, "email": _strangers_address},
    contact=_stranger,
    email=_strangers_address,
)
_consent_by_link("sent_to_somebody_else_at_an_admins_address", refuses, link={"sent_to": _stranger}, contact=_stranger)


@refuses("consent_comes_by_its_link")
def by_a_link_of_another_request(scene):
    at = timezone.now()
    change(ConsentLink, scene.awaiting.link, pin_verified_at=at, used_at=at)
    other = used_link(scene, scene.ready)
    yield
    forge_consent(scene.awaiting, covers=False, link=other, opening=other.openings.get())


@refuses("consent_comes_by_its_link")
def by_a_revoked_link_beside_one_that_was_used(scene):
    revoked = scene.awaiting.link
    change(ConsentLink, revoked, revoked_at=timezone.now())
    other = used_link(scene, scene.awaiting)
    yield
    forge_consent(scene.awaiting, covers=False, link=revoked, opening=other.openings.get())


@allows("consent_comes_by_its_link")
def recorded_by_phone_without_a_link(scene):
    yield
    record_by_phone(scene)


# --- A consent recorded by phone --------------------------------------------------------------------------------------


def record_by_phone(scene, case=None, by=None, **fields):
    fields = {"link": None, "how": "phone", "recorded_by": by or scene.agent} | fields
    forge_consent(case or scene.phoned, covers=False, **fields)


def _verified(scene):
    """Return the entry that says that the PIN was verified for the request of `phoned`."""
    return LedgerEntry.objects.get(unlock_request=scene.phoned.unlock_request, kind="pin_verified")


def _consent_by_phone(name, listed, /, spoil=None, **fields):
    """List a row: `phoned` gets a consent recorded by phone, itself altered as told, once `spoil` was at its case."""

    @listed("consent_recorded_by_phone_with_the_pin", name)
    def steps(scene):
        if spoil:
            spoil(scene)
        made = {column: value(scene) for column, value in fields.items()}
        yield
        record_by_phone(scene, **made)


def _phoned_request(**columns):
    return lambda scene: change(UnlockRequest, scene.phoned.unlock_request, **columns)


def _pin_issued(at):
    return lambda scene: change(Account, scene.phoned.account, pin_issued_at=at(scene))


_consent_by_phone("as_it_should_be", allows)
_consent_by_phone("with_a_pin_issued_nobody_knows_when", allows, _pin_issued(_unset))
_consent_by_phone("with_a_pin_issued_since", refuses, _pin_issued(_in(0)))
_consent_by_phone("declined", refuses, **_DECLINED)
_consent_by_phone(
    "for_a_closed_request", refuses, _phoned_request(status="closed", closed_at=_then, resolution="canceled")
)
_consent_by_phone(
    "by_another_than_the_request_names",
    refuses,
    lambda scene: change(UnlockRequest, scene.phoned.unlock_request, pin_verified_by=scene.second),
)
_consent_by_phone(
    "by_another_than_the_ledger_names",
    refuses,
    lambda scene: change(UnlockRequest, scene.phoned.unlock_request, pin_verified_by=scene.second),
    by=lambda scene: scene.second,
)
_consent_by_phone("with_a_wrong_pin", refuses, lambda scene: change(LedgerEntry, _verified(scene), kind="pin_wrong"))
_consent_by_phone(
    "long_after_the_pin",
    refuses,
    lambda scene: (
        change(LedgerEntry, _verified(scene), at=timezone.now() - timedelta(minutes=31)),
        change(Account, scene.phoned.account, pin_issued_at=timezone.now() - timedelta(days=1)),
    ),
)
_consent_by_phone(
    "of_an_admin_of_another_account",
    refuses,
    lambda scene: change(Account, scene.neighbour.account, pin_issued_at=timezone.now() - timedelta(days=1)),
    contact=lambda scene: scene.neighbour.admin,
    email=lambda scene: scene.neighbour.admin.email,
)
_consent_by_phone(
    "of_somebody_who_is_no_admin",
    refuses,
    contact=lambda scene: scene.phone_stranger,
    email=lambda scene: scene.phone_stranger.email,
)
for _name, _listed_as, _contact in [
    ("whom_nobody_confirmed", refuses, _typed),
    ("who_is_confirmed", allows, _confirmed),
]:
    _consent_by_phone(
        f"of_an_admin_{_name}",
        _listed_as,
        contact=lambda scene, contact=_contact: contact(scene, "phone_stranger"),
        email=lambda scene: scene.phone_stranger.email,
    )
_consent_by_phone("of_somebody_else_at_an_admins_address", refuses, contact=lambda scene: scene.phone_stranger)
_consent_by_phone("at_an_address_not_on_file", refuses, email=_elsewhere)
_consent_by_phone("on_terms_never_published", refuses, terms=lambda scene: scene.draft)


@refuses("consent_recorded_by_phone_with_the_pin")
def with_a_pin_verified_for_another_request(scene):
    other = factories.case_awaiting(scene.agent, account=scene.phoned.account)
    yield
    record_by_phone(scene, case=other)


@refuses("consent_recorded_by_phone_with_the_pin")
def with_a_pin_that_the_ledger_knows_of_another_request(scene):
    other = factories.case_awaiting(scene.agent, account=scene.phoned.account)
    change(UnlockRequest, other.unlock_request, pin_verified_by=scene.agent)
    yield
    record_by_phone(scene, case=other)


@allows("consent_recorded_by_phone_with_the_pin")
def by_a_link_without_the_phone(scene):
    yield
    forge_consent(scene.awaiting, covers=False)


def _attach(case):
    def steps(scene):
        yield
        write(evidence(scene, scene.cases[case].consent, sha256="2" * 64))

    return steps


allows("evidence_is_of_a_consent_recorded_by_phone", "by_phone")(_attach("by_phone"))
refuses("evidence_is_of_a_consent_recorded_by_phone", "by_link")(_attach("ready"))


# --- Reviews ----------------------------------------------------------------------------------------------------------


@allows("review_of_a_closed_case")
def of_one_that_is_closed(scene):
    Review.objects.filter(unlock_request=scene.used.unlock_request).delete()
    yield
    to_review(scene.used)


@refuses("review_of_a_closed_case")
def of_one_that_is_open(scene):
    yield
    to_review(scene.unlocked)


def _decided(name, listed, took_part=None, by="idle"):
    """List a row: a review is decided by somebody who took part in the case in one way alone."""

    @listed("review_by_another_person", name)
    def steps(scene):
        case = scene.by_phone if name.startswith("recorded") else scene.used
        if case is scene.by_phone:
            to_review(case)
        if took_part:
            took_part(scene)
        person = scene.portal.made_by if by == "maker" else scene.idle
        change(UnlockRequest, case.unlock_request, opened_by=_opener(scene, name))
        yield
        decide(case, person)


def _opener(scene, name):
    """Return who opened the case: another one than decides, but where it is about just that."""
    if name.startswith("opened_by_a_system"):
        return scene.portal.system
    return scene.idle if name == "opened" else scene.auditor


def _instructed(**columns):
    def step(scene):
        asked = Instruction.objects.get(line=line(scene.used), what="unlock")
        change(Instruction, asked, **{name: value(scene) for name, value in columns.items()})

    return step


def _lock_started_by_idle(scene):
    change(Instruction, Instruction.objects.get(line=line(scene.used), what="lock"), started_by=scene.idle)


def _recorded_by(person):
    return lambda scene: change(Consent, scene.by_phone.consent, recorded_by=person(scene))


def _idle(scene):
    return scene.idle


def _portal(scene):
    return scene.portal.system


def _idle_in_other_cases(scene):
    to_review(scene.ready)
    change(UnlockRequest, scene.ready.unlock_request, opened_by=scene.idle)
    change(Consent, scene.by_phone.consent, recorded_by=scene.idle)
    change(Instruction, Instruction.objects.get(line=line(scene.unlocked), what="unlock"), started_by=scene.idle)


_decided("who_took_no_part", allows)
_decided("who_took_part_in_other_cases", allows, _idle_in_other_cases)
_decided("opened", refuses)
_decided("opened_by_a_system", refuses, by="maker")
_decided("opened_by_a_system_of_another", allows)
_decided("recorded_by_another", allows)
_decided("recorded", refuses, _recorded_by(_idle))
_decided("recorded_by_a_system", refuses, _recorded_by(_portal), by="maker")
_decided("carried_out", refuses, _instructed(started_by=_idle))
_decided("carried_out_by_a_system", refuses, _instructed(started_by=_portal), by="maker")
_decided("a_lock_carried_out", allows, _lock_started_by_idle)


@refuses("review_by_another_person")
def by_whoever_instructed_the_unlock(scene):
    change(UnlockRequest, scene.used.unlock_request, opened_by=scene.superuser)
    yield
    decide(scene.used, scene.agent)


@allows("review_by_another_person")
def by_whoever_instructed_the_relock(scene):
    yield
    decide(scene.used, scene.manager)


def _in_turn(name, listed, case, decision, position):
    @listed("review_decided_in_turn", name)
    def steps(scene):
        yield
        decide(scene.cases[case], scene.idle, decision, position)


_in_turn("signed_off_first", allows, "used", "signed_off", 1)
_in_turn("signed_off_second", refuses, "used", "signed_off", 2)
_in_turn("flagged_first", allows, "used", "flagged", 1)
_in_turn("resolved_first", refuses, "used", "resolved", 1)
_in_turn("resolved_once_flagged", allows, "reviewed", "resolved", 2)
_in_turn("resolved_out_of_turn", refuses, "reviewed", "resolved", 3)
_in_turn("flagged_before_its_turn", refuses, "used", "flagged", 2)
_in_turn("flagged_twice", refuses, "reviewed", "flagged", 2)
_in_turn("signed_off_while_flagged", refuses, "reviewed", "signed_off", 2)


def _once_resolved(name, listed, decision):
    @listed("review_decided_in_turn", name)
    def steps(scene):
        decide(scene.reviewed, scene.idle, "resolved", 2)
        yield
        decide(scene.reviewed, scene.idle, decision, 3)


_once_resolved("flagged_again", allows, "flagged")
_once_resolved("signed_off_after_a_flag", refuses, "signed_off")
_once_resolved("resolved_twice", refuses, "resolved")


@refuses("review_decided_in_turn")
def resolved_after_it_was_signed_off(scene):
    decide(scene.used, scene.idle)
    yield
    decide(scene.used, scene.idle, "resolved", 2)


@allows("review_decided_in_turn")
def what_stands_after_it_does_not_count(scene):
    decide(scene.used, scene.idle, "flagged", 2)
    yield
    decide(scene.used, scene.idle, "flagged", 1)


@allows("review_decided_in_turn")
def flagged_after_it_was_signed_off(scene):
    decide(scene.used, scene.idle)
    yield
    decide(scene.used, scene.idle, "flagged", 2)


# --- What a consent covers --------------------------------------------------------------------------------------------


def _covers(name, listed, /, batch_count=9, **fields):
    """List a row: a consent of the waiting case comes to cover its first batch, altered as told."""

    @listed("consented_batch_is_of_its_request", name)
    def steps(scene):
        case = scene.awaiting
        consent = forge_consent(case, covers=False, batch_count=batch_count)
        fingerprint.take(Batch.objects.all())
        covered = _covered(consent, line(case), case.batch) | {column: value(scene) for column, value in fields.items()}
        yield
        write(ConsentedBatch(**covered))


def _covered(consent, requested, batch):
    batch.refresh_from_db()
    shown = as_shown(batch) | {"fingerprint": batch.fingerprint}
    return {"consent": consent, "requested_batch": requested, "batch": batch} | shown


_covers("as_it_stood", allows)
_covers("with_another_fingerprint", refuses, fingerprint=lambda scene: "f" * 64)
_covers("with_another_number", refuses, number=lambda scene: "other")
_covers("with_another_name", refuses, name=lambda scene: "Other")
_covers("with_another_total", refuses, total=lambda scene: 1)
_covers("with_another_item_count", refuses, item_count=lambda scene: 9)
_covers("at_the_last_position", allows, position=lambda scene: 9)
_covers("after_the_last_position", refuses, position=lambda scene: 10)
_covers("before_the_first_position", refuses, position=lambda scene: 0)
_covers("another_batch_by_its_own_facts", refuses, batch=lambda scene: scene.awaiting.batches[1])
_covers(
    "by_the_line_of_another_batch",
    refuses,
    requested_batch=lambda scene: line(scene.awaiting, scene.awaiting.batches[1]),
)


@refuses("consented_batch_is_of_its_request")
def a_batch_without_a_fingerprint(scene):
    consent = forge_consent(scene.awaiting, covers=False, batch_count=9)
    change(Batch, scene.awaiting.batch, fingerprint="")
    covered = _covered(consent, line(scene.awaiting), scene.awaiting.batch)
    yield
    write(ConsentedBatch(**covered))


@refuses("consented_batch_is_of_its_request")
def a_batch_that_was_taken_out(scene):
    consent = forge_consent(scene.awaiting, covers=False, batch_count=9)
    fingerprint.take(Batch.objects.all())
    covered = _covered(consent, line(scene.awaiting), scene.awaiting.batch)
    change(RequestedBatch, covered["requested_batch"], outcome="not_unlocked")
    yield
    write(ConsentedBatch(**covered))


@allows("line_comes_back_before_a_consent")
def before_the_customer_answered(scene):
    change(RequestedBatch, line(scene.awaiting), outcome="not_unlocked")
    yield
    change(RequestedBatch, line(scene.awaiting), outcome="waiting")


@allows("line_comes_back_before_a_consent")
def before_the_customer_was_asked(scene):
    change(RequestedBatch, line(scene.awaiting), outcome="not_unlocked")
    change(UnlockRequest, scene.awaiting.unlock_request, status="open")
    yield
    change(RequestedBatch, line(scene.awaiting), outcome="waiting")


@allows("line_comes_back_before_a_consent")
def stays_out_after_the_customer_answered(scene):
    change(RequestedBatch, line(scene.ready), outcome="not_unlocked")
    yield
    change(RequestedBatch, line(scene.ready), outcome="not_unlocked")


@refuses("line_comes_back_before_a_consent")
def after_the_customer_answered(scene):
    forge_consent(scene.awaiting, covers=False, batch_count=9)
    change(RequestedBatch, line(scene.awaiting), outcome="not_unlocked")
    yield
    change(RequestedBatch, line(scene.awaiting), outcome="waiting")


@refuses("line_comes_back_before_a_consent")
def of_a_request_that_asks_no_more(scene):
    change(RequestedBatch, line(scene.awaiting), outcome="not_unlocked")
    change(UnlockRequest, scene.awaiting.unlock_request, status="consented")
    yield
    change(RequestedBatch, line(scene.awaiting), outcome="waiting")


@allows("line_comes_back_before_a_consent")
def from_an_instruction_that_was_canceled(scene):
    change(RequestedBatch, line(scene.ready), outcome="unlocking")
    yield
    change(RequestedBatch, line(scene.ready), outcome="waiting")


@refuses("consented_batch_is_of_its_request")
def a_batch_of_another_request(scene):
    consent = forge_consent(scene.awaiting, covers=False, batch_count=9)
    covered = _covered(consent, line(scene.ready), scene.ready.batch)
    yield
    write(ConsentedBatch(**covered))


@refuses("consented_batch_is_of_its_request")
def a_batch_that_no_line_asks_for(scene):
    consent = forge_consent(scene.awaiting, covers=False, batch_count=9)
    fingerprint.take(Batch.objects.all())
    covered = _covered(consent, line(scene.awaiting), scene.bare)
    yield
    write(ConsentedBatch(**covered))


@refuses("consented_batch_is_of_its_request")
def by_a_consent_that_was_declined(scene):
    """Another consent of the same request was agreed."""
    first = scene.reasked.first
    with constraint_lifted(Consent, "unlocks_consent_is_signed"):
        change(Consent, first, decision="declined")
    rows(ConsentedBatch, _earlier(scene)).delete()
    covered = _covered(first, line(scene.reasked), scene.reasked.batch)
    yield
    write(ConsentedBatch(**covered))


# --- A withdrawal, and the ledger -------------------------------------------------------------------------------------


@allows("withdrawal_after_relock")
def nothing_is_unlocked_under_it(scene):
    yield
    withdraw(scene.ready.consent)


@allows("withdrawal_after_relock")
def all_are_relocking_under_it(scene):
    yield
    withdraw(scene.relocking.consent)


@allows("withdrawal_after_relock")
def a_grant_was_left_over(scene):
    with constraint_lifted(Batch, "unlocks_batch_grant_iff_unlocked"):
        for batch in scene.unlocked.batches:
            change(Batch, batch, status="bypassed", unlocked_until=None)
    yield
    withdraw(scene.unlocked.consent)


@refuses("withdrawal_after_relock")
def a_batch_is_unlocked_under_it(scene):
    yield
    withdraw(scene.unlocked.consent)


@refuses("withdrawal_after_relock")
def a_batch_is_unlocking_under_it(scene):
    yield
    withdraw(scene.unlocking.consent)


def _appended(name, listed, /, alone=False, **fields):
    """List a row: an entry is appended, the only one or after the newest, altered as told."""

    @listed("ledger_is_a_chain", name)
    def steps(scene):
        newest = LedgerEntry.objects.first()
        if alone:
            LedgerEntry.objects.all().delete()
        follows = {"sequence": newest.sequence + 1, "previous_hash": newest.hash, "hash": "f" * 64}
        yield
        write(ledger_entry(newest, **follows | {column: value(newest) for column, value in fields.items()}))


_appended("the_next", allows)
_appended("the_first", allows, alone=True, sequence=lambda newest: 1, previous_hash=lambda newest: "0" * 64)
_appended("the_first_after_something", refuses, alone=True, sequence=lambda newest: 1)
_appended("after_nothing_and_not_the_first", refuses, alone=True, previous_hash=lambda newest: "0" * 64)
_appended("after_a_gap", refuses, sequence=lambda newest: newest.sequence + 2)
_appended("after_another_hash", refuses, previous_hash=lambda newest: "e" * 64)


# --- What stays, on SQLite: REPLACE deletes whatever is in its way without asking any trigger of DELETE ---------------

# So that only what a row is about is in the way, and no partial index.
_SETTLED = {
    "unlocks_requestedbatch": {"outcome": "'relocked'"},
    "unlocks_consentlink": {"used_at": "sent_at"},
    "unlocks_instruction": {"state": "'done'", "done_at": "queued_at"},
}


# Not every number will do.
_FRESH = {("unlocks_linkopening", "position"): "position + 1"}


def _fresh(column):
    """Return the SQL for another value than any row has."""
    return f"CASE typeof({column}) WHEN 'integer' THEN {column} + 100000 ELSE 'x' || {column} END"


def copied(table, key, /, **columns):
    """Insert a copy of a row, with some of its columns from the SQL given, and replace whatever is in the way."""
    model = next(model for model in apps.get_models() if model._meta.db_table == table)
    values = {field.column: field.column for field in model._meta.concrete_fields if not field.generated} | columns
    where = f"FROM {table} WHERE {model._meta.pk.column} = %s"
    sql(f"INSERT OR REPLACE INTO {table} ({', '.join(values)}) SELECT {', '.join(values.values())} {where}", key)


def keys(table):
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {_groups(table)[0][0]} FROM {table} ORDER BY 1")
        return [key for (key,) in cursor.fetchall()]


def _row_copied(table, name, listed, kept=(), **columns):
    """List a row: a copy of a row keeps these columns, and has new values in all others that are unique.

    `columns` are the SQL of values of its own.
    """
    unique = {_rowid(table), *(column for group in _groups(table) for column in group)}
    fresh = {column: _FRESH.get((table, column), _fresh(column)) for column in unique}

    @listed(table, name, only="sqlite")
    def steps(scene):
        yield
        copied(table, keys(table)[0], **_SETTLED.get(table, {}) | fresh | {column: column for column in kept} | columns)


def _groups(table):
    """Return the columns of each thing that is unique in a table, its key first."""
    key = "history_id" if "historical" in table else "id"
    unique = (declared.append_only_tables() | declared.NEVER_DELETED)[table]
    return [(key,), *[(columns,) if isinstance(columns, str) else columns for columns in unique]]


def _rowid(table):
    """Return the column that SQLite keeps a table's rows by: the key, if that is a whole number."""
    return "rowid" if table in ("unlocks_act", "unlocks_import", "unlocks_outgoing") else _groups(table)[0][0]


for _table in [*declared.append_only_tables(), *declared.NEVER_DELETED]:
    _row_copied(_table, "all_unique_columns_new", allows)
    _row_copied(_table, "the_rowid_that_new_rows_seem_to_have", refuses, **{_rowid(_table): "-1"})
    for _group in dict.fromkeys([*_groups(_table), (_rowid(_table),)]):
        _row_copied(_table, f"in_the_way_by_{'_'.join(_group)}", refuses, kept=_group)
    for _column in sorted({column for group in _groups(_table) if len(group) > 1 for column in group}):
        _row_copied(_table, f"the_same_{_column}_alone", allows, kept=(_column,))


def _moved(table, group, column, name, listed, value):
    """List a row: a second row, like the first in the rest of the group, gets a value made of the first one's."""

    @listed(table, name, only="sqlite")
    def steps(scene):
        first, second = keys(table)[:2]
        theirs = {other: f"(SELECT x.{other} FROM {table} x WHERE x.id = {first})" for other in group}
        like = theirs | {column: _fresh(theirs[column])} | _SETTLED.get(table, {})
        sql(f"UPDATE {table} SET {', '.join(f'{other} = {like[other]}' for other in like)} WHERE id = {second}")
        yield
        sql(f"UPDATE OR REPLACE {table} SET {column} = {value(theirs[column])} WHERE id = {second}")


def _the_same(theirs):
    return theirs


def _another(theirs):
    return _fresh(_fresh(theirs))


for _table in declared.NEVER_DELETED:
    for _group in _groups(_table)[1:]:
        _of = "of_" + "_".join(_group)
        for _column in _group:
            _moved(_table, _group, _column, f"moved_over_another_by_{_column}_{_of}", refuses, _the_same)
            _moved(_table, _group, _column, f"moved_to_a_new_{_column}_{_of}", allows, _another)
            _moved(_table, _group, _column, f"{_column}_as_before_{_of}", allows, _fresh)


def _numbered_anew(name, listed, rowid):
    @listed("unlocks_outgoing", name, only="sqlite")
    def steps(scene):
        yield
        sql(f"UPDATE OR REPLACE unlocks_outgoing SET rowid = {rowid}, tries = 1 WHERE id = %s", scene.outgoing.pk.hex)


_others = "(SELECT max(x.rowid) FROM unlocks_outgoing x WHERE x.id <> unlocks_outgoing.id)"
_numbered_anew("moved_over_another_by_rowid", refuses, _others)
_numbered_anew("moved_to_a_new_rowid", refuses, _fresh("rowid"))
_numbered_anew("rowid_as_before", allows, "rowid")


def _second_open_line(name, listed, there="waiting", outcome="waiting", batch_id="batch_id"):
    @listed("unlocks_requestedbatch", name, only="sqlite")
    def steps(scene):
        requested = line(scene.awaiting)
        change(RequestedBatch, requested, outcome=there)
        columns = {"id": "NULL", "unlock_request_id": _fresh("unlock_request_id"), "batch_id": batch_id}
        yield
        copied("unlocks_requestedbatch", requested.pk, outcome=f"'{outcome}'", **columns)


_second_open_line("a_second_waits", refuses)
_second_open_line("a_second_waits_beside_an_unlocked_one", refuses, there="unlocked")
for _outcome in RequestedBatch.GRANTED:
    _second_open_line(f"a_second_is_{_outcome}", refuses, outcome=_outcome)
    if _outcome != "unlocked":
        _second_open_line(f"a_second_waits_beside_one_that_is_{_outcome}", refuses, there=_outcome)
_second_open_line("a_second_waits_beside_one_that_is_done", allows, there="relocked")
_second_open_line("a_second_is_done", allows, outcome="relocked")
_second_open_line("one_of_another_batch_waits", allows, batch_id=_fresh("batch_id"))


def _second_instruction(name, listed, there="sent", state="sent", **columns):
    @listed("unlocks_instruction", name, only="sqlite")
    def steps(scene):
        asked = said(scene.sent, there)
        yield
        same = {"id": "NULL", "key": "'f'", "state": f"'{state}'", "done_at": "NULL"} | columns
        copied("unlocks_instruction", asked.pk, **same)


for _state in Instruction.PENDING:
    _second_instruction(f"a_second_is_{_state}", refuses, state=_state)
    _second_instruction(f"a_second_beside_one_that_is_{_state}", refuses, there=_state)
_second_instruction("a_second_beside_one_that_is_given_up", allows, there="given_up")
_second_instruction("a_second_is_given_up", allows, state="given_up")
_second_instruction("a_second_to_lock", allows, what="'lock'")
_second_instruction("a_second_for_another_batch", allows, batch_id=_fresh("batch_id"))


def _taken_up_again(name, listed, beside="sent", to="unknown", **columns):
    """List a row: one that was given up is taken up again, beside one that stands as told."""

    @listed("unlocks_instruction", name, only="sqlite")
    def steps(scene):
        asked = said(scene.sent, "given_up")
        another = an_instruction(scene.sent.batch, line(scene.sent))
        if beside:
            change(Instruction, another, **in_state(scene, beside), **{k: v(scene) for k, v in columns.items()})
        else:
            another.delete()
        done_at = ", done_at = queued_at" if to == "done" else ""
        yield
        sql(f"UPDATE OR REPLACE unlocks_instruction SET state = '{to}'{done_at} WHERE id = %s", asked.pk)


for _state in Instruction.PENDING:
    _taken_up_again(f"taken_up_again_beside_one_that_is_{_state}", refuses, _state)
    _taken_up_again(f"{_state}_beside_another", refuses, to=_state)
_taken_up_again("taken_up_again_alone", allows, beside=None)


@allows("unlocks_instruction", only="sqlite")
def asked_about_alone(scene):
    asked = said(scene.sent, "sent")
    yield
    sql("UPDATE OR REPLACE unlocks_instruction SET state = 'unknown' WHERE id = %s", asked.pk)


_taken_up_again("taken_up_again_beside_one_that_is_done", allows, "done")
_taken_up_again("done_beside_another", allows, to="done")
_taken_up_again("taken_up_again_beside_one_to_lock", allows, what=lambda scene: "lock")
_taken_up_again("taken_up_again_beside_one_of_another_batch", allows, batch=lambda scene: scene.bare)


def _second_live_link(name, listed, there=None, **columns):
    @listed("unlocks_consentlink", name, only="sqlite")
    def steps(scene):
        link = scene.awaiting.link
        if there:
            change(ConsentLink, link, **{there: timezone.now()})
        yield
        same = {"used_at": "NULL", "revoked_at": "NULL", "id": "NULL", "token_hash": "'f'"}
        copied("unlocks_consentlink", link.pk, **same | columns)


_second_live_link("a_second_is_live", refuses)
_second_live_link("a_second_is_live_beside_a_used_one", allows, there="used_at")
_second_live_link("a_second_is_live_beside_a_revoked_one", allows, there="revoked_at")
_second_live_link("a_second_is_used", allows, used_at="sent_at")
_second_live_link("a_second_is_revoked", allows, revoked_at="sent_at")
_second_live_link("one_of_another_request_is_live", allows, unlock_request_id=_fresh("unlock_request_id"))


# --- The rows are tried -----------------------------------------------------------------------------------------------


@contextmanager
def constraint_lifted(model, name):
    """Let a constraint be broken: a clause that only says the same again must be tried without it."""
    if connection.vendor == "sqlite":
        connection.connection.execute("PRAGMA ignore_check_constraints = ON")
        try:
            yield
        finally:
            connection.connection.execute("PRAGMA ignore_check_constraints = OFF")
    else:
        # No table is altered that waits for the check of a deferred foreign key.
        sql("SET CONSTRAINTS ALL IMMEDIATE")
        sql(f"ALTER TABLE {model._meta.db_table} DROP CONSTRAINT {name}")
        sql("SET CONSTRAINTS ALL DEFERRED")
        yield


def _each():
    for row in ROWS:
        marks = [getattr(pytest.mark, row.only)] if row.only else []
        yield pytest.param(row, id=f"{row.guard}-{row.name}", marks=marks)


def test_every_guard_has_rows():
    names = [(row.guard, row.name) for row in ROWS]
    assert len(names) == len(set(names))
    by_table = {*declared.append_only_tables(), *declared.NEVER_DELETED}
    guarded = names_of_guards() | by_table
    without = guarded - {row.guard for row in ROWS}
    assert not without, f"Add rows above, a @refuses and an @allows for each clause, for {', '.join(without)}."
    assert {row.guard for row in ROWS} == guarded


@pytest.mark.parametrize("row", list(_each()))
def test_row(row, scene):
    with transaction.atomic():
        steps = row.steps(scene)
        next(steps)
        with in_place(row.guard, keeping=row.guard not in names_of_guards()):
            if row.refused:
                says = re.escape(said_by(row.guard))
                with pytest.raises(DatabaseError, match=says), transaction.atomic():
                    next(steps, None)
            else:
                next(steps, None)
        transaction.set_rollback(True)


def names_of_guards():
    return {guard.name for guard in declared.GUARDS}


_CHANGED = {
    "number": "other",
    "name": "Other",
    "total": 1,
    "amount": 1,
    "item_count": 9,
    "posted_on": "2026-05-09",
    "bypassed_on": "2026-05-09",
    "kind": "payment",
    "date": "2026-05-09",
    "customer": "Other",
    "memo": "Other",
    "export_id": "Other",
    "lines": "[1]",
}


def _both(scene):
    """Return two batches with their fingerprints taken."""
    fingerprint.take(Batch.objects.all())
    return scene.ready.batch, scene.bare


def blank(*batches):
    return [Batch.objects.get(pk=batch.pk).fingerprint == "" for batch in batches]


@pytest.mark.parametrize("column", fingerprint.BATCH_CONTENT)
def test_a_change_of_a_batch_blanks(scene, column):
    batch, other = _both(scene)
    with in_place(blanking=True):
        change(Batch, batch, **{column: _CHANGED[column]})
    assert blank(batch, other) == [True, False]


@pytest.mark.parametrize("column", fingerprint.ITEM_CONTENT)
def test_a_change_of_an_item_blanks(scene, column):
    batch, other = _both(scene)
    with in_place(blanking=True):
        change(BatchItem, batch.items.first(), **{column: _CHANGED[column]})
    assert blank(batch, other) == [True, False]


def test_a_new_item_blanks(scene):
    batch, other = _both(scene)
    with in_place(blanking=True):
        write(BatchItem(batch=batch, number="new", date="2026-05-01", amount=1))
    assert blank(batch, other) == [True, False]


def test_an_item_that_is_no_longer_listed_blanks(scene):
    batch, other = _both(scene)
    with in_place(blanking=True):
        change(BatchItem, batch.items.first(), left_at=timezone.now())
    assert blank(batch, other) == [True, False]


def test_an_item_that_moves_blanks_both(scene):
    batch, other = _both(scene)
    with in_place(blanking=True):
        change(BatchItem, batch.items.first(), batch=other)
    assert blank(batch, other, scene.neighbour.batch) == [True, True, False]


def test_what_is_no_content_blanks_nothing(scene):
    batch, other = _both(scene)
    with in_place(blanking=True):
        change(Batch, batch, period_closed=True, name=batch.name)
        change(
            BatchItem,
            batch.items.first(),
            disposition="Keyed in",
            job_number="7",
            business_unit="North",
            external_id="E",
        )
        change(Batch, other, differs="exported", reached_by="bypassed", as_of=timezone.now(), external_id="E")
    assert blank(batch, other) == [False, False]
