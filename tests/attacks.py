"""The table of attacks: each tries by one path to unlock without consent, or to alter or lose consent or audit.

An attack is a function of the `Scene`. `refused_by` says what refuses it: a guard, by its name or that of the table
whose rows stay; a constraint; the code of a Refusal; or what else the error says. With more than one of them it
depends on the database which comes first. `only` names the database it is for; `needs_guards=False` says that something
else than a guard refuses it as well (a constraint, a verb, a view), so that it fails with the guards lifted too.
"""

import json
import re
import time
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache, partial
from uuid import uuid4

import time_machine
from django.apps import apps
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import DatabaseError, connection, models
from django.test import Client, override_settings
from django.urls import reverse
from django.utils import timezone

from tests import factories, importing
from unlocks import history, operations, pins
from unlocks.actors import Actor
from unlocks.database import fingerprint
from unlocks.database.guards import declared
from unlocks.digest import sha256
from unlocks.imports.kinds import KINDS
from unlocks.imports.staging import Records
from unlocks.models import (
    Account,
    Act,
    ApiToken,
    Batch,
    BatchItem,
    Consent,
    ConsentedBatch,
    ConsentEvidence,
    ConsentLink,
    ConsentTerms,
    ConsentWithdrawal,
    Contact,
    Import,
    Instruction,
    LedgerEntry,
    LinkOpening,
    OrderedAct,
    Outgoing,
    RequestedBatch,
    Review,
    ReviewDecision,
    Selection,
    StaffLink,
    UnlockRequest,
    Verdict,
)
from unlocks.operations.ordered import carry_out_ordered
from unlocks.outbox.secrets import hashed
from unlocks.rules import Refusal
from unlocks.texts.shown import shown_text, text_to_read_out

User = get_user_model()


@dataclass(frozen=True)
class Attack:
    name: str
    carry_out: callable
    refused_by: tuple = ()
    only: str = ""
    needs_guards: bool = True
    writes_verdicts: bool = False


ATTACKS = []


def attack(*refused_by, name="", **declared):
    def listed(carry_out):
        ATTACKS.append(Attack(name or carry_out.__name__, carry_out, refused_by, **declared))
        return carry_out

    return listed


def said_by(name):
    """Return what a guard says, by its name or its table's; anything else stands for itself."""
    says = {guard.name: guard.says for guard in declared.GUARDS}
    says |= {table: declared.ONLY_GROWS.format(table=table) for table in declared.append_only_tables()}
    says |= {table: declared.STAYS.format(table=table) for table in declared.NEVER_DELETED}
    return says.get(name, name)


@dataclass
class Scene:
    """A desk in the midst of its work: one case of each kind, and what attacks aim at."""

    agent: User
    second: User
    manager: User
    auditor: User
    superuser: User
    idle: User
    cases: dict = field(default_factory=dict)

    def __getattr__(self, name):
        try:
            return self.__dict__["cases"][name]
        except KeyError:
            raise AttributeError(name) from None


def make_scene():
    made = factories.make_user
    # First what was long ago: the ledger's time does not go backwards. An account of its own: whoever was shown an
    # active link of the other one may not type its PIN.
    with time_machine.travel(timezone.now() - timedelta(minutes=31)):
        scene = Scene(
            agent=made("agent", group="Agent", email="agent@vendor.example"),
            second=made("second-agent", group="Agent"),
            manager=made("manager", group="Manager"),
            auditor=made("auditor", group="Auditor"),
            superuser=made("superuser", is_superuser=True),
            idle=made("idle"),
        )
        agent, by, cases = scene.agent, factories.acting(scene.agent), scene.cases
        phone = factories.make_account()
        cases["phoned_long_ago"] = factories.case_awaiting(agent, account=phone)
        operations.revoke_consent_link(cases["phoned_long_ago"].unlock_request, by=by)
        operations.verify_pin(cases["phoned_long_ago"].unlock_request, pin=factories.PIN, by=by)
    home = factories.make_account()
    cases["home"] = home
    cases["feed"], _ = factories.make_token("feed", "contacts", "records", by=scene.superuser)
    cases["portal"], _ = factories.make_token("portal", "requests", "unlock", by=scene.superuser)
    over, _ = factories.make_token("portal", "read", by=scene.superuser)
    cases["revoked_token"] = operations.revoke_api_token(over, by=factories.acting(scene.superuser))
    cases["staff_link"] = operations.send_staff_link(scene.agent, by=factories.acting(scene.superuser))
    operations.send_staff_link(scene.agent, by=factories.acting(scene.superuser))
    cases["ready"] = factories.case_consented(agent, account=home)
    cases["neighbour"] = factories.case_consented(agent)
    cases["awaiting"] = factories.case_awaiting(agent, account=home)
    cases["unlocked"] = factories.case_unlocked(agent, account=home)
    cases["used"] = factories.case_unlocked(agent, account=home)
    with override_settings(REVIEW_SHARE=100):
        factories.relock(cases["used"].rows, why="Not used", by=factories.acting(scene.manager))
        reviewed = cases["reviewed"] = factories.case_consented(agent)
        factories.unlock(reviewed.rows, by=factories.acting(scene.second))
        factories.relock(reviewed.rows, why="Not used", by=factories.acting(scene.manager))
    operations.flag_case(reviewed.unlock_request, note="Who called?", by=factories.acting(scene.manager))
    cases["reasked"] = _agreed_again(factories.case_consented(agent, account=home))
    cases["declined"] = factories.case_awaiting(agent, account=home)
    link = cases["declined"].link
    operations.open_consent_link(link, by=factories.customer(link.sent_to))
    cases["declined"].consent, _ = operations.decline_consent(
        link, name="Dana Whitfield", role="", why="", shown=shown_text(link), by=factories.customer(link.sent_to)
    )
    cases["scanned"] = factories.case_awaiting(agent, account=home)
    operations.open_consent_link(cases["scanned"].link, by=factories.customer(cases["scanned"].admin))
    cases["withdrawn"] = factories.case_consented(agent, account=home)
    operations.withdraw_consent(cases["withdrawn"].consent, why="Changed their mind", by=by)
    with override_settings(CONSENT_LIFETIME=timedelta(seconds=-1)):
        cases["expired"] = factories.case_consented(agent, account=home)
    cases["period"] = factories.case_consented(agent, account=home)
    history.update(cases["period"].rows, by=Actor.desk(), period_closed=True)
    cases["differs"] = factories.case_consented(agent, account=home)
    history.update(cases["differs"].rows, by=Actor.desk(), differs="exported")
    cases["changed"] = factories.case_consented(agent, account=home)
    _change_an_item(cases["changed"].batch)
    cases["inactive"] = factories.case_consented(agent)
    history.update(Account.objects.filter(pk=cases["inactive"].account.pk), by=Actor.desk(), active=False)
    cases["by_phone"] = _recorded_by_phone(factories.case_awaiting(agent, account=phone), by=agent)
    cases["phoned"] = factories.case_awaiting(agent, account=phone)
    operations.revoke_consent_link(cases["phoned"].unlock_request, by=by)
    operations.verify_pin(cases["phoned"].unlock_request, pin=factories.PIN, by=by)
    write(evidence(scene, cases["by_phone"].consent))
    operations.resend_receipt(cases["ready"].consent, by=by)
    factories.record_certificate_key()
    operations.issue_certificate(cases["ready"].consent, by=by)
    opened = cases["opened"] = factories.case_awaiting(agent, account=factories.make_account(pin="195538"))
    operations.open_consent_link(opened.link, by=factories.customer(opened.admin))
    opened.earlier_hash = opened.account.pin_hash
    factories.issue_pin(opened.account, by=scene.manager)
    cases["bare"] = factories.make_batch(account=home)
    cases["empty"] = factories.make_batch(account=home, items=0)
    cases["phone_stranger"] = factories.make_contact(account=phone, is_admin=False)
    cases["stranger"] = factories.make_contact(account=home, is_admin=False)
    cases["emptyaccount"] = factories.make_account(admin=False, pin="")
    cases["emptyaccount"].words.all().delete()  # they refer to it
    for name, user in (("imported", agent), ("second_import", scene.second)):
        cases[name] = Import.objects.create(
            number=Import.objects.count() + 1,
            source="file",
            state="done",
            user=user,
            actor=user.username,
            at=timezone.now(),
        )
    cases["draft"] = ConsentTerms.objects.create(version=2, title="Draft", text="Draft")
    cases["outgoing"] = Outgoing.objects.get(link=cases["awaiting"].link)
    cases["idle_act"] = factories.unlock(Batch.objects.none(), by=by)
    cases["refused"] = factories.case_unlocking(agent, account=home)
    factories.carry_out(refuse="Exported meanwhile")
    # What the product was asked and has not answered comes last, or it would answer for the others.
    cases["sent"] = factories.case_unlocking(agent, account=home)
    factories.hand_over()
    cases["relocking"] = factories.case_unlocked(agent, account=home)
    operations.relock(cases["relocking"].rows, why="Not used", by=factories.acting(scene.manager))
    cases["unlocking"] = factories.case_unlocking(agent, account=home)
    with override_settings(CONSENT_LIFETIME=timedelta(seconds=8)):
        cases["late"] = factories.case_unlocking(agent, account=home)
    cases["own"] = _recorded_by_phone(factories.case_awaiting(agent, account=phone), by=agent)
    operations.unlock(cases["own"].rows, by=factories.acting(scene.second))
    for case in cases.values():
        if isinstance(case, factories.Case):
            case.refresh()
    connection.check_constraints()
    return scene


def _agreed_again(case):
    by = factories.customer(case.admin)
    operations.send_consent_link(case.unlock_request, contact=case.admin, by=factories.acting(case.agent))
    link = case.link
    operations.open_consent_link(link, by=by)
    operations.verify_customer_pin(link, pin=factories.PIN, by=by)
    case.first, shown = case.consent, shown_text(link)
    case.consent, _ = operations.give_consent(link, name="Admin", role="Controller", shown=shown, by=by)
    return case


def _recorded_by_phone(case, by):
    """Have a consent taken down on the phone."""
    operations.revoke_consent_link(case.unlock_request, by=factories.acting(by))
    return factories.record_by_phone(case, by)


def published_terms():
    return ConsentTerms.objects.exclude(published_at=None).first()


def _agreement(case, at=None):
    at = at or timezone.now()
    text = f"What was shown of {case.unlock_request}"
    return {
        "unlock_request": case.unlock_request,
        "text": text,
        "text_sha256": "0" * 64,
        "decision": "agreed",
        "signer_name": "Somebody",
        "signer_role": "Owner",
        "email": case.admin.email,
        "given_at": at,
        "valid_until": at + timedelta(days=3),
        "batch_count": case.unlock_request.lines.count(),
        "receipt_hash": f"{case.unlock_request.pk:064d}",
    }


def write(row):
    """Write a row as a fixture is written: no verb, no history, no check of Django's."""
    models.Model.save_base(row, raw=True, force_insert=row._state.adding)
    return row


def sql(statement, *params):
    with connection.cursor() as cursor:
        cursor.execute(statement, params or None)
        return cursor.rowcount


def rows(model, row):
    return model.objects.filter(pk=row.pk)


def line(case, batch=None):
    return RequestedBatch.objects.get(unlock_request=case.unlock_request, batch=batch or case.batch)


def grant(case, batch=None):
    return ConsentedBatch.objects.get(consent=case.consent, batch=batch or case.batch)


def instruction(case, batch=None, what="unlock"):
    return Instruction.objects.get(line=line(case, batch), what=what)


def unlocking_under(consented, by):
    return {"status": "unlocking", "grant_id": consented.pk, "unlocked_by": by}


def unlock(batch, consented, by):
    """Set a batch to unlocking with one raw UPDATE, under that ConsentedBatch: the way in to an unlock."""
    if not rows(Batch, batch).update(**unlocking_under(consented, by)):
        raise AssertionError("There was no batch to unlock.")


def _stand_on(case, consent):
    """Write what stands between a consent and an unlock, for each batch of a case."""
    for position, requested in enumerate(case.unlock_request.lines.select_related("batch"), start=1):
        fingerprint.take(rows(Batch, requested.batch))
        requested.batch.refresh_from_db()
        covered = ConsentedBatch(
            consent=consent,
            requested_batch=requested,
            batch=requested.batch,
            fingerprint=requested.batch.fingerprint,
            **as_shown(requested.batch, position),
        )
        RequestedBatch.objects.filter(pk=requested.pk).update(consented=write(covered))
    rows(UnlockRequest, case.unlock_request).update(status="consented")


def as_shown(batch, position=1):
    return {name: getattr(batch, name) for name in ("number", "name", "total", "item_count")} | {"position": position}


def _change_an_item(batch):
    history.update(batch.items.all(), by=Actor.desk(), memo="Changed since")


# To unlock without consent: a batch that nobody asked for.


@attack("batch_unlocked_only_with_consent")
def sql_update_under_a_grant_of_another_batch(scene):
    sql(
        "UPDATE unlocks_batch SET status = 'unlocking', grant_id = %s, unlocked_by_id = %s WHERE id = %s",
        grant(scene.ready).pk,
        scene.agent.pk,
        scene.bare.pk,
    )


def _sql_update_of_the_status_alone(status, scene):
    sql("UPDATE unlocks_batch SET status = %s WHERE id = %s", status, scene.bare.pk)


for _status in Batch.GRANTED:
    attack(
        "unlocks_batch_grant_iff_unlocked",
        "batch_moves_along_the_arrows",
        "batch_unlocked_only_with_consent",
        name=f"sql_update_of_the_status_alone_to_{_status}",
        needs_guards=False,
    )(partial(_sql_update_of_the_status_alone, _status))


@attack("batch_unlocked_only_with_consent")
def queryset_update(scene):
    unlock(scene.bare, grant(scene.ready), scene.agent)


@attack("batch_starts_locked")
def insert_an_unlocking_batch(scene):
    sql(
        "INSERT INTO unlocks_batch (account_id, number, name, status, total, item_count, bypassed_on, period_closed, "
        "fingerprint, reached_by, differs, external_id, grant_id, unlocked_by_id) SELECT account_id, 'new', name, "
        "'unlocking', total, item_count, bypassed_on, period_closed, '', reached_by, differs, external_id, %s, %s "
        "FROM unlocks_batch WHERE id = %s",
        grant(scene.ready).pk,
        scene.agent.pk,
        scene.bare.pk,
    )


@attack("batch_starts_locked")
def bulk_create_unlocking(scene):
    made = Batch(account=scene.home, number="new", bypassed_on="2026-05-02")
    for name, value in unlocking_under(grant(scene.ready), scene.agent).items():
        setattr(made, name, value)
    Batch.objects.bulk_create([made])


def _dressed_as_unlocking(scene):
    batch = Batch.objects.get(pk=scene.bare.pk)
    for name, value in unlocking_under(grant(scene.ready), scene.agent).items():
        setattr(batch, name, value)
    return batch


@attack("batch_unlocked_only_with_consent")
def bulk_update(scene):
    Batch.objects.bulk_update([_dressed_as_unlocking(scene)], ["status", "grant", "unlocked_by"])


@attack("unlocks_batch", "batch_unlocked_only_with_consent")
def bulk_create_as_upsert(scene):
    Batch.objects.bulk_create(
        [_dressed_as_unlocking(scene)],
        update_conflicts=True,
        unique_fields=["account", "number"],
        update_fields=["status", "grant", "unlocked_by"],
    )


@attack("unlocks_batch", "batch_unlocked_only_with_consent")
def insert_on_conflict_do_update(scene):
    sql(
        "INSERT INTO unlocks_batch (id, account_id, number, name, status, total, item_count, bypassed_on, "
        "period_closed, fingerprint, reached_by, differs, external_id) SELECT id, account_id, number, name, "
        "'bypassed', total, item_count, bypassed_on, period_closed, '', reached_by, differs, external_id "
        "FROM unlocks_batch WHERE id = %s ON CONFLICT (id) DO UPDATE SET status = 'unlocking', "
        "grant_id = %s, unlocked_by_id = %s",
        scene.bare.pk,
        grant(scene.ready).pk,
        scene.agent.pk,
    )


@attack("batch_unlocked_only_with_consent", only="postgresql")
def merge(scene):
    sql(
        "MERGE INTO unlocks_batch b USING (SELECT %s::bigint AS id) s ON b.id = s.id WHEN MATCHED THEN UPDATE SET "
        "status = 'unlocking', grant_id = %s, unlocked_by_id = %s",
        scene.bare.pk,
        grant(scene.ready).pk,
        scene.agent.pk,
    )


@attack("batch_unlocked_only_with_consent")
def model_save(scene):
    _dressed_as_unlocking(scene).save()


@attack("batch_unlocked_only_with_consent")
def load_a_fixture(scene, tmp_path):
    fields = {
        "account": scene.home.pk,
        "number": scene.bare.number,
        "bypassed_on": "2026-05-02",
        "period_closed": False,
    }
    fields |= {"status": "unlocking", "grant": grant(scene.ready).pk, "unlocked_by": scene.agent.pk}
    fixture = tmp_path / "batch.json"
    fixture.write_text(json.dumps([{"model": "unlocks.batch", "pk": scene.bare.pk, "fields": fields}]))
    call_command("loaddata", fixture, verbosity=0)


@attack("batch_unlocked_only_with_consent", "batch_moves_along_the_arrows")
def unlock_a_posted_batch(scene):
    posted = factories.make_batch(account=scene.home, status="posted", bypassed_on="2026-05-02")
    unlock(posted, grant(scene.ready), scene.agent)


@attack("batch_moves_along_the_arrows")
def turn_exported_into_bypassed(scene):
    exported = factories.make_batch(account=scene.home, status="exported", bypassed_on="2026-05-02")
    rows(Batch, exported).update(status="bypassed")


@attack("unlocks_batch_status_known", "batch_moves_along_the_arrows", needs_guards=False)
def a_status_that_is_almost_unlocked(scene):
    rows(Batch, scene.ready.batch).update(status="Unlocked")


# Under a consent that is not for it.


@attack("batch_unlocked_only_with_consent")
def swap_to_another_batch_of_the_same_request(scene):
    first, second = scene.ready.batches
    unlock(first, grant(scene.ready, second), scene.agent)


@attack("batch_unlocked_only_with_consent")
def consent_of_another_account(scene):
    unlock(scene.ready.batch, grant(scene.neighbour), scene.agent)


@attack("line_names_its_own_consent")
def line_on_another_lines_consent(scene):
    first, second = scene.ready.batches
    rows(RequestedBatch, line(scene.ready, first)).update(consented=grant(scene.ready, second))


@attack("batch_unlocked_only_with_consent")
def an_older_consent_that_was_asked_anew(scene):
    older = ConsentedBatch.objects.get(consent=scene.reasked.first, batch=scene.reasked.batch)
    unlock(scene.reasked.batch, older, scene.agent)


@attack("line_starts_waiting")
def line_of_another_account(scene):
    write(RequestedBatch(unlock_request=scene.ready.unlock_request, batch=factories.make_batch()))


@attack("line_starts_waiting")
def line_that_starts_unlocked(scene):
    write(RequestedBatch(unlock_request=scene.ready.unlock_request, batch=scene.bare, outcome="unlocked"))


@attack("line_comes_back_before_a_consent")
def line_that_was_left_out_waits_again(scene):
    rows(RequestedBatch, line(scene.ready)).update(outcome="not_unlocked")
    rows(RequestedBatch, line(scene.ready)).update(outcome="waiting")
    unlock(scene.ready.batch, grant(scene.ready), scene.agent)


@attack("batch_unlocked_only_with_consent")
def batch_that_was_left_out(scene):
    rows(RequestedBatch, line(scene.ready)).update(outcome="not_unlocked")
    unlock(scene.ready.batch, grant(scene.ready), scene.agent)


@attack("consented_batch_is_of_its_request")
def batch_that_was_taken_out_is_consented_to(scene):
    case = scene.awaiting
    rows(RequestedBatch, line(case)).update(outcome="not_unlocked")
    forge_consent(case)


@attack("line_keeps_its_identity")
def line_moved_to_another_batch(scene):
    rows(RequestedBatch, line(scene.ready)).update(batch=scene.bare)


@attack("batch_keeps_its_identity")
def batch_moved_to_another_account(scene):
    rows(Batch, scene.neighbour.batch).update(account=scene.home)


@attack("request_keeps_its_identity")
def request_moved_to_another_account(scene):
    rows(UnlockRequest, scene.neighbour.unlock_request).update(account=scene.home)


@attack("line_starts_waiting")
def line_joins_a_closed_request(scene):
    write(RequestedBatch(unlock_request=scene.withdrawn.unlock_request, batch=scene.bare))


# Under a consent that does not hold.


@attack("ConsentedBatch matching query does not exist", needs_guards=False)
def declined(scene):
    unlock(scene.declined.batch, grant(scene.declined), scene.agent)


@attack("consented_batch_is_of_its_request")
def declined_and_then_covered_all_the_same(scene):
    requested = line(scene.declined)
    covered = ConsentedBatch(
        consent=scene.declined.consent,
        requested_batch=requested,
        batch=scene.declined.batch,
        fingerprint="0" * 64,
        **as_shown(scene.declined.batch),
    )
    unlock(scene.declined.batch, write(covered), scene.agent)


@attack("batch_unlocked_only_with_consent")
def expired(scene):
    unlock(scene.expired.batch, grant(scene.expired), scene.agent)


@attack("batch_unlocked_only_with_consent")
def withdrawn(scene):
    unlock(scene.withdrawn.batch, grant(scene.withdrawn), scene.agent)


def _take_back(scene):
    """Take the ready case's consent back by a raw write, which leaves its request and lines as they were."""
    write(ConsentWithdrawal(consent=scene.ready.consent, at=timezone.now(), actor="raw", why="Raw"))


@attack("batch_unlocked_only_with_consent")
def withdrawn_with_all_else_as_it_was(scene):
    _take_back(scene)
    unlock(scene.ready.batch, grant(scene.ready), scene.agent)


@attack("batch_unlocked_only_with_consent")
def by_the_person_who_took_it_down(scene):
    unlock(scene.by_phone.batch, grant(scene.by_phone), scene.agent)


@attack("batch_unlocked_only_with_consent")
def by_the_person_who_entered_the_address(scene):
    admin = Contact.objects.get(pk=scene.ready.admin.pk)
    admin.email = "typed@customer.example"
    operations.save_record(admin, by=factories.acting(scene.superuser))
    unlock(scene.ready.batch, grant(scene.ready), scene.superuser)


@attack("batch_unlocked_only_with_consent")
def unlocked_by_who_imported_the_address_anew(scene):
    admin = Contact.objects.get(pk=scene.ready.admin.pk)
    factories.import_contact(admin, by=scene.second, email="imported@customer.example")
    unlock(scene.ready.batch, grant(scene.ready), scene.second)


@attack("batch_unlocked_only_with_consent")
def exported_in_the_product(scene):
    unlock(scene.differs.batch, grant(scene.differs), scene.agent)


@attack("batch_unlocked_only_with_consent")
def period_closed(scene):
    unlock(scene.period.batch, grant(scene.period), scene.agent)


@attack("batch_unlocked_only_with_consent")
def account_inactive(scene):
    unlock(scene.inactive.batch, grant(scene.inactive), scene.agent)


@attack("batch_unlocked_only_with_consent")
def request_not_ready(scene):
    rows(UnlockRequest, scene.ready.unlock_request).update(status="awaiting_consent")
    unlock(scene.ready.batch, grant(scene.ready), scene.agent)


@attack("request_ready_only_with_consent")
def request_made_ready_without_consent(scene):
    rows(UnlockRequest, scene.awaiting.unlock_request).update(status="consented")


@attack("request_starts_open")
def request_that_starts_ready(scene):
    fields = {"account": scene.home, "requester": scene.ready.admin, "opened_by": scene.agent}
    write(UnlockRequest(**fields, opened_at=timezone.now(), status="consented"))


@attack("request_keeps_its_identity", "request_moves_along_the_arrows")
def closed_request_opened_again(scene):
    rows(UnlockRequest, scene.withdrawn.unlock_request).update(status="open", closed_at=None, resolution="")


@attack("request_keeps_its_identity")
def closed_request_gets_another_resolution(scene):
    rows(UnlockRequest, scene.withdrawn.unlock_request).update(resolution="re_exported")


# For a batch that is not what the customer saw any more.


@attack("batch_unlocked_only_with_consent")
def content_changed(scene):
    unlock(scene.changed.batch, grant(scene.changed), scene.agent)


@attack("batch_unlocked_only_with_consent")
def batch_changed_first(scene):
    rows(Batch, scene.ready.batch).update(total=1)
    unlock(scene.ready.batch, grant(scene.ready), scene.agent)


@attack("batch_unlocked_only_with_consent")
def item_added_first(scene):
    write(BatchItem(batch=scene.ready.batch, number="new", date="2026-05-01", amount=1))
    unlock(scene.ready.batch, grant(scene.ready), scene.agent)


@attack("batch_unlocked_only_with_consent")
def item_changed_first(scene):
    scene.ready.batch.items.update(amount=1)
    unlock(scene.ready.batch, grant(scene.ready), scene.agent)


@attack("batch_unlocked_only_with_consent")
def item_moved_in_first(scene):
    scene.bare.items.update(batch=scene.ready.batch)
    unlock(scene.ready.batch, grant(scene.ready), scene.agent)


@attack("batch_unlocked_only_with_consent")
def item_moved_out_first(scene):
    scene.ready.batch.items.update(batch=scene.bare)
    unlock(scene.ready.batch, grant(scene.ready), scene.agent)


@attack("item_keeps_its_key", "Rows keep their keys.")
def item_under_another_key_first(scene):
    """The items' order is part of the content."""
    item = scene.ready.batch.items.first()
    sql("UPDATE unlocks_batchitem SET id = 999999 WHERE id = %s", item.pk)


@attack("batch_fingerprint_is_true")
def changed_and_fingerprint_forged_back(scene):
    consented = grant(scene.ready)
    rows(Batch, scene.ready.batch).update(total=1)
    rows(Batch, scene.ready.batch).update(fingerprint=consented.fingerprint)
    unlock(scene.ready.batch, consented, scene.agent)


@attack("batch_unlocked_only_with_consent")
def changed_in_the_statement_that_unlocks(scene):
    consented = grant(scene.ready)
    rows(Batch, scene.ready.batch).update(
        total=1, fingerprint=consented.fingerprint, **unlocking_under(consented, scene.agent)
    )


@attack("batch_fingerprint_is_true")
def fingerprint_written_by_hand(scene):
    rows(Batch, scene.bare).update(fingerprint="f" * 64)


@attack("batch_starts_locked")
def batch_that_starts_with_a_fingerprint(scene):
    write(Batch(account=scene.home, number="new", fingerprint="f" * 64))


# To keep it unlocked, or to unlock once more.


@attack("batch_unlocked_only_with_consent")
def used_up_grant(scene):
    unlock(scene.used.batch, line(scene.used).consented, scene.agent)


@attack("line_follows_its_batch", "line_moves_along_the_arrows")
def used_up_line_set_back_to_waiting(scene):
    rows(RequestedBatch, line(scene.used)).update(outcome="waiting")
    unlock(scene.used.batch, line(scene.used).consented, scene.agent)


@attack("batch_unlocked_only_with_consent")
def used_up_grant_in_a_new_request(scene):
    operations.open_request(
        account=scene.home,
        requester=scene.ready.admin,
        channel="phone",
        bypass_reason="by_mistake",
        reason="Once more",
        batches=rows(Batch, scene.used.batch),
        by=factories.acting(scene.agent),
    )
    unlock(scene.used.batch, grant(scene.used), scene.agent)


_HELD = {
    "in_another_name": lambda scene: {"unlocked_by": scene.second},
    "under_another_grant": lambda scene: {"grant": grant(scene.ready)},
    "for_longer": lambda scene: {"unlocked_until": timezone.now() + timedelta(days=3650)},
    "for_ever": lambda scene: {"unlocked_until": None},
}


def _keep_it(name, held, scene):
    rows(Batch, scene.cases[name].batch).update(**_HELD[held](scene))


for _name in Batch.GRANTED:
    for _held in _HELD:
        # While it is unlocking it has no end, and while it is unlocked it has one, by a constraint.
        _bound = (_name, _held) in {("unlocking", "for_longer"), ("unlocked", "for_ever")}
        if (_name, _held) != ("unlocking", "for_ever"):
            attack(
                "batch_grant_does_not_change",
                "unlocks_batch_window_once_unlocked",
                name=f"keep_it_{_name}_{_held}",
                needs_guards=not _bound,
            )(partial(_keep_it, _name, _held))


@attack("batch_grant_does_not_change")
def an_end_of_what_never_was_unlocked(scene):
    rows(Batch, scene.unlocking.batch).update(status="relocking", unlocked_until=timezone.now())


@attack("batch_grant_is_used_up")
def end_it_without_using_up_the_grant(scene):
    """Unlocking by a raw write, the line waits still: the same consent could serve twice."""
    batch = scene.ready.batch
    unlock(batch, grant(scene.ready), scene.agent)
    rows(Batch, batch).update(status="exported", exported_on="2026-05-03", grant=None, unlocked_by=None)


@attack("line_follows_its_batch")
def line_of_an_unlocked_batch_dropped(scene):
    """Unlocking, but its request knows nothing of it, and nobody can lock it again."""
    unlock(scene.ready.batch, grant(scene.ready), scene.agent)
    rows(RequestedBatch, line(scene.ready)).update(outcome="not_unlocked")


def _line_shown_as(name, outcome, scene):
    rows(RequestedBatch, line(scene.cases[name])).update(outcome=outcome)


for _name in RequestedBatch.GRANTED:
    for _outcome in RequestedBatch.Outcome:
        if _outcome != _name:
            attack("line_follows_its_batch", "line_moves_along_the_arrows", name=f"{_name}_line_shown_as_{_outcome}")(
                partial(_line_shown_as, _name, _outcome)
            )


@attack("line_moves_along_the_arrows")
def line_shown_as_relocked_that_never_was_unlocked(scene):
    rows(RequestedBatch, line(scene.ready)).update(outcome="relocked")


@attack("request_moves_along_the_arrows")
def unlocked_request_set_back(scene):
    rows(UnlockRequest, scene.unlocked.unlock_request).update(status="awaiting_consent")


def _close_while(name, scene):
    rows(UnlockRequest, scene.cases[name].unlock_request).update(
        status="closed", closed_at=timezone.now(), resolution="relocked_unused"
    )


for _name in ("ready", *RequestedBatch.GRANTED):
    attack("request_closed_without_open_batches", name=f"close_a_request_while_{_name}")(partial(_close_while, _name))


def _withdraw_while(name, scene):
    write(ConsentWithdrawal(consent=scene.cases[name].consent, at=timezone.now(), actor="agent", why="Raw"))


for _name in ("unlocking", "sent", "unlocked"):
    attack("withdrawal_after_relock", name=f"withdraw_while_{_name}")(partial(_withdraw_while, _name))


# Past the product: what it did not say, or was not asked.


def _locked():
    return {"grant": None, "unlocked_by": None, "unlocked_until": None}


def unlocked_now():
    return {"status": "unlocked", "unlocked_until": timezone.now() + timedelta(hours=1)}


def ended(state):
    return {"state": state, "done_at": timezone.now()}


@attack("batch_moves_along_the_arrows")
def unlocked_without_asking_the_product(scene):
    held = unlocking_under(grant(scene.ready), scene.agent)
    rows(Batch, scene.ready.batch).update(**held | unlocked_now())


@attack("batch_moves_along_the_arrows")
def relocking_what_never_was_unlocked(scene):
    """Withdrawn, it could be unlocked by an answer that comes late."""
    rows(Batch, scene.ready.batch).update(**unlocking_under(grant(scene.ready), scene.agent) | {"status": "relocking"})


@attack("batch_moves_along_the_arrows")
def unlocked_again_while_it_is_relocking(scene):
    rows(Batch, scene.relocking.batch).update(status="unlocked")


@attack("batch_moves_along_the_arrows")
def locked_without_asking_the_product(scene):
    rows(Batch, scene.unlocked.batch).update(status="bypassed", **_locked())


@attack("batch_unlocked_once_the_product_did_it")
def unlocked_before_the_product_was_asked(scene):
    rows(Batch, scene.unlocking.batch).update(**unlocked_now())


@attack("batch_unlocked_once_the_product_did_it")
def unlocked_before_the_product_answered(scene):
    rows(Batch, scene.sent.batch).update(**unlocked_now())


@attack("batch_unlocked_once_the_product_did_it")
def unlocked_by_the_answer_for_another_batch(scene):
    first, second = scene.sent.batches
    rows(Instruction, instruction(scene.sent, second)).update(**ended("done"))
    rows(Batch, first).update(**unlocked_now())


@attack("batch_unlocked_once_the_product_did_it")
def unlocked_after_the_product_refused(scene):
    rows(Instruction, instruction(scene.sent)).update(**ended("refused"))
    rows(Batch, scene.sent.batch).update(**unlocked_now())


@attack("batch_given_back_only_if_not_unlocked")
def given_back_while_the_product_is_asked(scene):
    """The same consent could serve again, and the first answer would come all the same."""
    rows(Batch, scene.sent.batch).update(status="bypassed", **_locked())


@attack("batch_given_back_only_if_not_unlocked")
def given_back_after_the_product_unlocked_it(scene):
    rows(Instruction, instruction(scene.sent)).update(**ended("done"))
    rows(Batch, scene.sent.batch).update(status="bypassed", **_locked())


@attack("batch_given_back_only_if_not_unlocked")
def given_back_when_the_product_was_given_up(scene):
    rows(Instruction, instruction(scene.sent)).update(state="given_up")
    rows(Batch, scene.sent.batch).update(status="bypassed", **_locked())


@attack("batch_relocked_once_the_product_did_it")
def locked_before_the_product_did_it(scene):
    rows(Batch, scene.relocking.batch).update(status="bypassed", **_locked())


@attack("batch_relocked_once_the_product_did_it")
def locked_by_a_refusal(scene):
    asked = instruction(scene.relocking, what="lock")
    rows(Instruction, asked).update(state="sent", sent_at=timezone.now())
    rows(Instruction, asked).update(**ended("refused"))
    rows(Batch, scene.relocking.batch).update(status="bypassed", **_locked())


# For longer than was chosen.


@attack("batch_unlocked_for_the_window_chosen")
def unlocked_for_longer_than_was_chosen(scene):
    rows(Instruction, instruction(scene.sent)).update(**ended("done"))
    longer = {"unlocked_until": timezone.now() + timedelta(hours=25)}
    rows(Batch, scene.sent.batch).update(**unlocked_now() | longer)


def an_extension(case, *, hours=72, kind="extend", refusal="", batch=None):
    """Write an act that extends the window of a batch past the verb, and return it."""
    now, batch = timezone.now(), batch or case.batch
    act = write(Act(kind=kind, actor="raw", at=now, why="Raw", hours=hours))
    write(Verdict(act=act, batch=batch, line=line(case), refusal=refusal, fingerprint=batch.fingerprint))
    return act


def extend(case, act, *, hours=48):
    """Have a batch name the act that extended its window, and end so many hours from now, by a raw write."""
    rows(Batch, case.batch).update(extension=act, unlocked_until=timezone.now() + timedelta(hours=hours))


@attack("batch_window_extended_with_consent")
def extended_by_its_unlock(scene):
    extend(scene.unlocked, instruction(scene.unlocked).act, hours=23)


@attack("batch_window_extended_with_consent")
def extended_by_an_act_on_another_batch(scene):
    extend(scene.unlocked, an_extension(scene.unlocked, batch=scene.unlocked.batches[1]))


@attack("batch_window_extended_with_consent")
def extended_though_it_was_refused(scene):
    extend(scene.unlocked, an_extension(scene.unlocked, refusal="extended"))


@attack("batch_window_extended_with_consent")
def extended_beyond_what_the_act_allows(scene):
    extend(scene.unlocked, an_extension(scene.unlocked), hours=73)


@attack("unlocks_act_window", needs_guards=False)
def extended_for_more_than_a_month(scene):
    an_extension(scene.unlocked, hours=721)


@attack("batch_grant_does_not_change")
def extended_twice(scene):
    extend(scene.unlocked, an_extension(scene.unlocked))
    extend(scene.unlocked, an_extension(scene.unlocked))


@attack("batch_grant_does_not_change")
def extension_taken_out_to_extend_again(scene):
    extend(scene.unlocked, an_extension(scene.unlocked))
    rows(Batch, scene.unlocked.batch).update(extension=None)


@attack("batch_grant_does_not_change")
def extended_while_it_is_relocking(scene):
    extend(scene.relocking, an_extension(scene.relocking))


# With an instruction of one's own.


def an_instruction(batch, requested, what="unlock", **columns):
    """Write an instruction past the verb."""
    at = timezone.now()
    act = Instruction.objects.values_list("act", flat=True).first()
    columns = {"act_id": act, "queued_at": at, "next_try_at": at} | columns
    return write(Instruction(batch=batch, line=requested, what=what, **columns))


def _instruct(name, what, scene):
    case = scene.cases[name]
    an_instruction(case.batch, line(case), what)


for _name, _what in [
    ("ready", "unlock"),
    ("awaiting", "unlock"),
    ("withdrawn", "unlock"),
    ("used", "unlock"),
    ("refused", "unlock"),
    ("unlocked", "unlock"),
    ("relocking", "unlock"),
    ("ready", "lock"),
    ("unlocked", "lock"),
    ("unlocking", "lock"),
]:
    attack("instruction_has_its_grant", name=f"instruction_to_{_what}_what_is_{_name}")(
        partial(_instruct, _name, _what)
    )


@attack("instruction_has_its_grant")
def instruction_for_a_batch_under_the_line_of_another(scene):
    an_instruction(scene.bare, line(scene.unlocking))


@attack("instruction_has_its_grant")
def instruction_under_the_line_of_another_batch(scene):
    first, second = scene.sent.batches
    rows(Instruction, instruction(scene.sent, first)).update(state="given_up")
    an_instruction(first, line(scene.sent, second))


@attack("instruction_has_its_grant")
def instruction_for_a_line_that_does_not_show_it(scene):
    unlock(scene.ready.batch, grant(scene.ready), scene.agent)
    an_instruction(scene.ready.batch, line(scene.ready))


_STARTS = {
    "sent": lambda scene: {"state": "sent", "sent_at": timezone.now()},
    "unknown": lambda scene: {"state": "unknown"},
    "given_up": lambda scene: {"state": "given_up"},
    "done": lambda scene: ended("done"),
    "tried_before": lambda scene: {"tries": 1000},
    "handed_over": lambda scene: {"sent_at": timezone.now()},
    "taken": lambda scene: {"started_by": scene.second},
    "put_off_for_ever": lambda scene: {"next_try_at": timezone.now() + timedelta(days=365_000)},
}


def _instruction_starts(how, scene):
    rows(Instruction, instruction(scene.sent)).update(state="given_up")
    an_instruction(scene.sent.batch, line(scene.sent), **_STARTS[how](scene))


for _how in _STARTS:
    attack("instruction_has_its_grant", name=f"instruction_that_starts_{_how}")(partial(_instruction_starts, _how))


@attack("unlocks_instruction_once", "unlocks_instruction", needs_guards=False)
def instruction_beside_the_one_that_waits(scene):
    an_instruction(scene.unlocking.batch, line(scene.unlocking))


_MADE_ANOTHER = {
    "to_another_batch": lambda scene: {"batch": scene.ready.batch},
    "to_another_line": lambda scene: {"line": line(scene.ready)},
    "to_another_batch_and_line": lambda scene: {"batch": scene.ready.batch, "line": line(scene.ready)},
    "with_another_key": lambda scene: {"key": uuid4()},
    "of_another_act": lambda scene: {"act": scene.idle_act},
    "queued_at_another_time": lambda scene: {"queued_at": timezone.now()},
}


def _made_another(how, scene):
    assert rows(Instruction, instruction(scene.unlocking)).update(**_MADE_ANOTHER[how](scene))


for _how in _MADE_ANOTHER:
    attack("instruction_keeps_what_it_is", name=f"instruction_{_how}")(partial(_made_another, _how))


@attack("instruction_keeps_what_it_is")
def lock_made_an_unlock(scene):
    rows(Instruction, instruction(scene.relocking, what="lock")).update(what="unlock")


@attack("instruction_keeps_what_it_is")
def answer_of_the_product_reworded(scene):
    rows(Instruction, instruction(scene.unlocked)).update(answer="P-2")


@attack("instruction_keeps_what_it_is", "instruction_moves_along_the_arrows")
def refusal_of_the_product_turned_over(scene):
    rows(Instruction, instruction(scene.refused)).update(state="done")


@attack("instruction_keeps_what_it_is", "instruction_moves_along_the_arrows")
def unlock_that_was_done_handed_over_again(scene):
    rows(Instruction, instruction(scene.used)).update(state="queued", done_at=None)


@attack("instruction_moves_along_the_arrows", "instruction_canceled_before_the_product_got_it")
def canceled_after_it_was_handed_over(scene):
    """The batch would wait again, and be unlocked by the product all the same."""
    rows(Instruction, instruction(scene.sent)).update(**ended("canceled"))


@attack("instruction_canceled_before_the_product_got_it", "instruction_answered_once_handed_over")
def canceled_while_it_may_be_on_its_way(scene):
    """It waits again, but a call from before may still come to the product."""
    asked = instruction(scene.sent)
    rows(Instruction, asked).update(state="queued")
    rows(Instruction, asked).update(sent_at=None, **ended("canceled"))


@attack("instruction_answered_once_handed_over")
def canceled_once_it_is_forgotten_that_it_may_be_on_its_way(scene):
    asked = instruction(scene.sent)
    rows(Instruction, asked).update(state="queued")
    rows(Instruction, asked).update(sent_at=None)
    rows(Instruction, asked).update(**ended("canceled"))


@attack("instruction_answered_once_handed_over")
def unlocked_by_an_answer_to_what_was_not_asked(scene):
    """The consent is not judged again, and no longer holds: the content is another."""
    rows(Batch, scene.unlocking.batch).update(name="Another")
    rows(Instruction, instruction(scene.unlocking)).update(**ended("done"))
    rows(Batch, scene.unlocking.batch).update(**unlocked_now())


def _lost_to_another(scene):
    """Have two instructions to unlock one batch, the first of them given up."""
    first = instruction(scene.sent)
    rows(Instruction, first).update(state="given_up")
    an_instruction(scene.sent.batch, line(scene.sent))
    return first


@attack("unlocks_instruction", only="sqlite")
def update_or_replace_an_instruction(scene):
    sql("UPDATE OR REPLACE unlocks_instruction SET state = 'unknown' WHERE id = %s", _lost_to_another(scene).pk)


# To hand over what the consent does not hold for any more.


def hand_over(asked, **columns):
    """Mark an instruction as handed over to the product by a raw write."""
    assert rows(Instruction, asked).update(**{"state": "sent", "sent_at": timezone.now()} | columns)


def relocking(case):
    """Set the first batch of a case that is unlocking to relocking, and its line, by raw writes."""
    rows(Batch, case.batch).update(status="relocking")
    rows(RequestedBatch, line(case)).update(outcome="relocking")


@attack("instruction_handed_over_with_consent")
def handed_over_while_relocking(scene):
    relocking(scene.unlocking)
    hand_over(instruction(scene.unlocking))


@attack("instruction_handed_over_with_consent")
def handed_over_after_the_withdrawal(scene):
    first, second = scene.unlocking.batches
    for batch in (first, second):
        rows(Batch, batch).update(status="relocking")
        rows(RequestedBatch, line(scene.unlocking, batch)).update(outcome="relocking")
    _withdraw_while("unlocking", scene)
    hand_over(instruction(scene.unlocking))


@attack("instruction_handed_over_with_consent")
def handed_over_after_the_consent_expired(scene):
    time.sleep(max(0, (scene.late.consent.valid_until - timezone.now()).total_seconds()))
    hand_over(instruction(scene.late))


@attack("instruction_handed_over_with_consent")
def handed_over_after_its_content_changed(scene):
    scene.unlocking.batch.items.update(amount=1)
    hand_over(instruction(scene.unlocking))


@attack("instruction_handed_over_with_consent")
def handed_over_after_its_period_was_closed(scene):
    rows(Batch, scene.unlocking.batch).update(period_closed=True)
    hand_over(instruction(scene.unlocking))


@attack("instruction_handed_over_with_consent")
def handed_over_after_it_was_exported_in_the_product(scene):
    rows(Batch, scene.unlocking.batch).update(differs="exported")
    hand_over(instruction(scene.unlocking))


@attack("instruction_handed_over_with_consent")
def handed_over_after_who_unlocked_it_imported_the_address_anew(scene):
    admin = Contact.objects.get(pk=scene.unlocking.admin.pk)
    factories.import_contact(admin, by=scene.agent, email="imported@customer.example")
    hand_over(instruction(scene.unlocking))


@attack("instruction_handed_over_with_consent", only="postgresql")
def handed_over_and_its_period_closed_in_one_statement(scene):
    sql(
        "WITH closed AS (UPDATE unlocks_batch SET period_closed = true WHERE id = %s) "
        "UPDATE unlocks_instruction SET state = 'sent', sent_at = now() WHERE id = %s",
        scene.unlocking.batch.pk,
        instruction(scene.unlocking).pk,
    )


@attack("instruction_handed_over_with_consent")
def handed_over_after_the_account_left(scene):
    rows(Account, scene.home).update(active=False)
    hand_over(instruction(scene.unlocking))


@attack("instruction_handed_over_with_consent")
def handed_over_once_it_is_exported(scene):
    rows(Batch, scene.unlocking.batch).update(status="exported", exported_on="2026-05-03", **_locked())
    hand_over(instruction(scene.unlocking))


@attack("instruction_handed_over_with_consent", "unlocks_instruction")
def handed_over_by_an_upsert(scene):
    relocking(scene.unlocking)
    asked = instruction(scene.unlocking)
    asked.state, asked.sent_at = "sent", timezone.now()
    conflict = {"update_conflicts": True, "unique_fields": ["key"], "update_fields": ["state", "sent_at"]}
    Instruction.objects.bulk_create([asked], **conflict)


@attack("instruction_moves_along_the_arrows")
def handed_over_by_way_of_giving_up(scene):
    """Given up, then asked about, then accepted by the product, which never got it before."""
    relocking(scene.unlocking)
    asked = instruction(scene.unlocking)
    for state in ("given_up", "unknown", "sent"):
        rows(Instruction, asked).update(state=state)


@attack("instruction_moves_along_the_arrows")
def asked_about_before_it_was_handed_over(scene):
    rows(Instruction, instruction(scene.unlocking)).update(state="unknown")


@attack("instruction_handed_over_with_consent")
def carried_out_by_the_person_who_took_the_consent_down(scene):
    hand_over(instruction(scene.own), started_by=scene.agent)


@attack("instruction_carried_out_by_who_took_it")
def carried_out_by_another_than_who_took_it(scene):
    hand_over(instruction(scene.own), started_by=scene.manager)
    rows(Instruction, instruction(scene.own)).update(started_by=scene.agent)


@attack("instruction_carried_out_by_who_took_it")
def instruction_that_no_worker_hands_over(scene):
    rows(Instruction, instruction(scene.relocking, what="lock")).update(started_by=scene.agent)


@attack("instruction_is_tried_in_time")
def instruction_tried_too_often_to_count_one_more(scene):
    rows(Instruction, instruction(scene.unlocking)).update(tries=1000)


@attack("instruction_is_tried_in_time")
def instruction_counted_up_to_no_further_try(scene):
    counted = instruction(scene.unlocking)
    for tries in range(1, 1002):
        rows(Instruction, counted).update(tries=tries)


@attack("instruction_is_tried_in_time")
def instruction_put_off_for_ever(scene):
    never = timezone.now() + timedelta(days=365_000)
    rows(Instruction, instruction(scene.relocking, what="lock")).update(next_try_at=never)


# With a consent that was made up.


def forge(scene, **link):
    """Make up an agreed consent of the waiting case by its link, altered as told, and unlock under it."""
    case = scene.awaiting
    opening = open_link(case.link)
    rows(ConsentLink, case.link).update(**{"pin_verified_at": timezone.now(), "used_at": timezone.now()} | link)
    forge_by(scene, case.link, opening=opening)


def open_link(link, position=1):
    return write(LinkOpening(link=link, position=position, at=timezone.now(), browser=f"Browser {position}"))


def forge_by(scene, link, **changes):
    case = scene.awaiting
    if "opening" not in changes and link:
        changes["opening"] = link.openings.first()
    consent = forge_consent(case, link=link, **changes)
    unlock(case.batch, ConsentedBatch.objects.get(consent=consent, batch=case.batch), scene.agent)


def forge_consent(case, covers=True, **changes):
    """Make up an agreed consent of a waiting case, by its own link unless told otherwise."""
    if "link" not in changes:
        at = timezone.now()
        changes["opening"] = open_link(case.link)
        rows(ConsentLink, case.link).update(pin_verified_at=at, used_at=at)
    fields = {"link": case.link, "how": "link", "terms": published_terms(), "contact": case.admin} | changes
    consent = write(Consent(**_agreement(case) | fields))
    if covers:
        _stand_on(case, consent)
    return consent


@attack("unlocks_consent_how_matches", "consent_comes_by_its_link", needs_guards=False)
def consent_without_a_link(scene):
    forge_by(scene, None)


@attack("consent_comes_by_its_link")
def consent_by_an_unused_link(scene):
    forge(scene, used_at=None)


@attack("consent_comes_by_its_link")
def consent_by_an_unopened_link(scene):
    rows(ConsentLink, scene.awaiting.link).update(pin_verified_at=timezone.now(), used_at=timezone.now())
    forge_by(scene, scene.awaiting.link)


@attack("consent_comes_by_its_link")
def consent_by_an_opening_of_another_link(scene):
    rows(ConsentLink, scene.awaiting.link).update(pin_verified_at=timezone.now(), used_at=timezone.now())
    forge_by(scene, scene.awaiting.link, opening=scene.ready.consent.opening)


@attack("consent_comes_by_its_link")
def consent_by_none_of_the_openings_on_record(scene):
    open_link(scene.awaiting.link)
    rows(ConsentLink, scene.awaiting.link).update(pin_verified_at=timezone.now(), used_at=timezone.now())
    forge_by(scene, scene.awaiting.link, opening=None)


@attack("opening_is_of_a_link_that_works")
def opening_made_up_after_the_decision(scene):
    open_link(scene.ready.consent.link, position=2)


@attack("opening_is_of_a_link_that_works")
def last_opening_without_those_before_it(scene):
    open_link(scene.awaiting.link, position=50)


@attack("consent_comes_by_its_link")
def consent_by_a_link_without_pin(scene):
    forge(scene, pin_verified_at=None)


@attack("consent_comes_by_its_link")
def consent_by_a_revoked_link(scene):
    forge(scene, revoked_at=timezone.now())


@attack("consent_comes_by_its_link")
def consent_by_an_expired_link(scene):
    forge(scene, expires_at=timezone.now() - timedelta(hours=1))


@attack("consent_comes_by_its_link")
def consent_by_an_expired_link_backdated(scene):
    at, opening = timezone.now(), open_link(scene.awaiting.link)
    rows(ConsentLink, scene.awaiting.link).update(pin_verified_at=at, used_at=at, expires_at=at - timedelta(hours=1))
    forge_by(scene, scene.awaiting.link, given_at=at - timedelta(hours=2), opening=opening)


@attack("unlocks_consent", "unlocks_consent_link_id_key", needs_guards=False)
def consent_by_a_link_that_was_used(scene):
    forge_by(scene, scene.ready.consent.link)


def used_link(scene, case, **fields):
    """Make up a link that was opened, verified and used, in place of the case's own."""
    at = timezone.now()
    ConsentLink.objects.filter(unlock_request=case.unlock_request, used_at=None, revoked_at=None).update(revoked_at=at)
    link = write(
        ConsentLink(
            **{
                "unlock_request": case.unlock_request,
                "sent_to": case.admin,
                "email": case.admin.email,
                "terms": published_terms(),
                "token_hash": "f" * 64,
                "sent_by": scene.agent,
                "sent_at": at,
                "expires_at": at + timedelta(days=1),
            }
            | fields
        )
    )
    open_link(link)
    rows(ConsentLink, link).update(pin_verified_at=at, used_at=at)
    return link


@attack("consent_comes_by_its_link")
def consent_by_a_link_of_another_request(scene):
    forge_by(scene, used_link(scene, scene.ready))


@attack("consent_comes_by_its_link")
def consent_by_somebody_elses_link(scene):
    forge_by(scene, used_link(scene, scene.neighbour))


@attack("link_goes_to_an_admin")
def consent_by_a_link_to_another_account(scene):
    sent_to = scene.neighbour.admin
    link = used_link(scene, scene.awaiting, sent_to=sent_to, email=sent_to.email)
    forge_by(scene, link, contact=sent_to, email=sent_to.email)


@attack("link_goes_to_an_admin")
def consent_by_a_link_to_somebody_who_is_no_admin(scene):
    link = used_link(scene, scene.awaiting, sent_to=scene.stranger, email=scene.stranger.email)
    forge_by(scene, link, contact=scene.stranger, email=scene.stranger.email)


@attack("link_goes_to_an_admin")
def consent_by_a_link_to_an_address_not_on_file(scene):
    link = used_link(scene, scene.awaiting, email="elsewhere@example.com")
    forge_by(scene, link, email="elsewhere@example.com")


@attack("link_goes_to_an_admin")
def consent_by_a_link_to_an_admin_whom_nobody_confirmed(scene):
    made_up = typed_by(scene, scene.stranger)
    forge_by(scene, used_link(scene, scene.awaiting, sent_to=made_up, email=made_up.email), contact=made_up)


@attack("consent_comes_by_its_link")
def consent_of_an_admin_whose_address_is_typed_anew(scene):
    link = used_link(scene, scene.awaiting)
    typed_by(scene, scene.awaiting.admin)
    forge_by(scene, link)


@attack("consent_comes_by_its_link")
def consent_in_the_name_of_somebody_else(scene):
    forge_by(scene, used_link(scene, scene.awaiting), contact=scene.neighbour.admin)


@attack("consent_comes_by_its_link")
def consent_from_another_address(scene):
    forge_by(scene, used_link(scene, scene.awaiting), email="elsewhere@example.com")


@attack("consent_comes_by_its_link")
def consent_dated_after_the_end_of_its_link(scene):
    forge_by(scene, used_link(scene, scene.awaiting), given_at=timezone.now() + timedelta(days=2))


@attack("consent_comes_by_its_link")
def consent_to_other_terms_than_sent(scene):
    link = used_link(scene, scene.awaiting)
    rows(ConsentTerms, scene.draft).update(published_at=timezone.now(), published_by=scene.manager)
    forge_by(scene, link, terms=scene.draft)


@attack("consented_batch_is_of_its_request")
def consent_covers_another_batch_than_its_line(scene):
    consent = forge_consent(scene.awaiting, batch_count=9)
    known = ConsentedBatch.objects.filter(consent=consent).first()
    write(
        ConsentedBatch(
            consent=consent,
            requested_batch=known.requested_batch,
            batch=scene.bare,
            fingerprint=known.fingerprint,
            **as_shown(scene.bare, position=9),
        )
    )


@attack("consented_batch_is_of_its_request")
def consent_to_a_content_that_comes_only_later(scene):
    batch = scene.awaiting.batch
    rows(Batch, batch).update(name="Later")
    fingerprint.take(rows(Batch, batch))
    later = Batch.objects.get(pk=batch.pk).fingerprint
    rows(Batch, batch).update(name=batch.name)
    consent = forge_consent(scene.awaiting, batch_count=9, covers=False)
    covered = {"consent": consent, "requested_batch": line(scene.awaiting), "batch": batch}
    write(ConsentedBatch(**covered, fingerprint=later, **as_shown(batch)))


@attack("link_goes_to_an_admin")
def consent_to_terms_never_published(scene):
    forge_by(scene, used_link(scene, scene.awaiting, terms=scene.draft), terms=scene.draft)


@attack("consented_batch_is_of_its_request")
def batch_added_to_a_consent_afterwards(scene):
    requested = write(RequestedBatch(unlock_request=scene.ready.unlock_request, batch=scene.bare))
    fingerprint.take(rows(Batch, scene.bare))
    taken = Batch.objects.get(pk=scene.bare.pk).fingerprint
    covered = {"consent": scene.ready.consent, "requested_batch": requested, "batch": scene.bare}
    after_the_last = as_shown(scene.bare, scene.ready.consent.batch_count + 1)
    write(ConsentedBatch(**covered, fingerprint=taken, **after_the_last))


@attack("unlocks_consentedbatch", "unlocks_consented_position", needs_guards=False)
def batch_added_to_a_consent_in_the_place_of_another(scene):
    requested = write(RequestedBatch(unlock_request=scene.ready.unlock_request, batch=scene.bare))
    fingerprint.take(rows(Batch, scene.bare))
    taken = Batch.objects.get(pk=scene.bare.pk).fingerprint
    covered = {"consent": scene.ready.consent, "requested_batch": requested, "batch": scene.bare}
    write(ConsentedBatch(**covered, fingerprint=taken, **as_shown(scene.bare)))


@attack("consented_batch_is_of_its_request")
def consent_covers_a_batch_as_it_never_stood(scene):
    requested = line(scene.changed)
    fields = {"consent": scene.changed.consent, "requested_batch": requested, "batch": scene.bare}
    write(ConsentedBatch(**fields, fingerprint="0" * 64, **as_shown(scene.bare, position=3)))


@attack("consented_batch_is_of_its_request")
def consent_covers_a_batch_under_another_total(scene):
    consent = forge_consent(scene.awaiting, batch_count=9, covers=False)
    requested = line(scene.awaiting)
    fingerprint.take(rows(Batch, requested.batch))
    requested.batch.refresh_from_db()
    covered = {"consent": consent, "requested_batch": requested, "batch": requested.batch}
    told = as_shown(requested.batch) | {"total": "1.00"}
    write(ConsentedBatch(**covered, fingerprint=requested.batch.fingerprint, **told))


@attack("link_goes_one_way")
def used_link_made_unused(scene):
    rows(ConsentLink, scene.ready.consent.link).update(used_at=None)


@attack("link_goes_one_way")
def revoked_link_made_live(scene):
    revoked = factories.case_awaiting(scene.agent)
    operations.revoke_consent_link(revoked.unlock_request, by=factories.acting(scene.agent))
    rows(ConsentLink, revoked.link).update(revoked_at=None)


@attack("link_goes_one_way")
def link_that_lives_longer(scene):
    rows(ConsentLink, scene.awaiting.link).update(expires_at=timezone.now() + timedelta(days=3650))


@attack("link_goes_one_way")
def link_sent_to_somebody_else_afterwards(scene):
    rows(ConsentLink, scene.awaiting.link).update(email="elsewhere@example.com")


@attack("link_goes_one_way")
def link_with_a_token_one_knows(scene):
    rows(ConsentLink, scene.awaiting.link).update(token_hash=hashed("known"))


@attack(Refusal.LINK_DEAD, needs_guards=False)
def link_used_twice(scene):
    link = scene.reasked.link
    operations.give_consent(
        link,
        name="Admin",
        role="Owner",
        shown=shown_text(link),
        by=factories.customer(link.sent_to),
    )


@attack("Staff cannot act for the customer", needs_guards=False)
def staff_agree_for_the_customer(scene):
    link = scene.awaiting.link
    operations.give_consent(
        link, name="Admin", role="Owner", shown=shown_text(link), by=factories.acting(scene.superuser)
    )


# With an Admin that staff made up.


def typed_by(scene, contact):
    """Have the manager's name put to a contact's address, as an Admin, and return it."""
    rows(Contact, contact).update(is_admin=True, entered_by=scene.manager)
    return contact


CONFIRMED = {"confirmed_at": timezone.now(), "confirmed_how": "They say so"}


@attack("contact_confirmed_by_a_second_person")
def address_confirmed_by_who_entered_an_earlier_one(scene):
    typed = factories.enter_contact(account=scene.home, by=scene.manager)
    typed.email = "typed@customer.example"
    operations.save_record(typed, by=factories.acting(scene.superuser))
    rows(Contact, typed).update(confirmed_by=scene.manager, **CONFIRMED)


@attack("unlocks_contact_confirmed_by_another", "contact_confirmed_by_a_second_person", needs_guards=False)
def address_confirmed_by_who_entered_it(scene):
    typed = factories.enter_contact(account=scene.home, by=scene.manager)
    rows(Contact, typed).update(confirmed_by=scene.manager, **CONFIRMED)


@attack("unlocks_contact_confirmed_by_another", "contact_confirmed_by_a_second_person", needs_guards=False)
def imported_address_confirmed_by_who_imported_it(scene):
    imported = factories.import_contact(account=scene.home, by=scene.manager)
    rows(Contact, imported).update(confirmed_by=scene.manager, **CONFIRMED)


@attack("contact_confirmed_by_a_second_person")
def address_confirmed_by_who_imported_an_earlier_one(scene):
    imported = factories.import_contact(account=scene.home, by=scene.manager)
    imported.email = "typed@customer.example"
    operations.save_record(imported, by=factories.acting(scene.superuser))
    rows(Contact, imported).update(confirmed_by=scene.manager, **CONFIRMED)


@attack("unlocks_contact_imported_by_somebody", needs_guards=False)
def imported_address_that_nobody_imported(scene):
    imported = factories.import_contact(account=scene.home, by=scene.manager)
    rows(Contact, imported).update(entered_by=None)


@attack("contact_confirmed_by_a_second_person")
def another_address_under_the_same_confirmation(scene):
    typed = factories.enter_contact(account=scene.home, by=scene.manager)
    factories.confirm(typed, scene.agent)
    rows(Contact, typed).update(email="typed@customer.example")


@attack("contact_starts_unconfirmed")
def contact_confirmed_before_it_is_there(scene):
    typed = {"name": "New", "email": "new@customer.example", "is_admin": True, "entered_by": scene.manager}
    write(Contact(account=scene.home, **typed, confirmed_by=scene.agent, **CONFIRMED))


# What an import may not


@attack("only a system brings records by the API", needs_guards=False)
def word_of_the_product_by_a_superuser(scene):
    operations.stage_import([], source="api", by=factories.acting(scene.superuser))


@attack(Refusal.OTHERS_IMPORT, needs_guards=False)
def import_started_by_who_did_not_read_it(scene):
    imported = importing.staged(scene.manager, accounts="A-NEW,New,,,,")
    operations.start_import(imported, by=factories.acting(scene.superuser))


@attack(Refusal.OWN_IMPORT, needs_guards=False)
def contacts_of_an_import_confirmed_by_who_imported_them(scene):
    imported = importing.bring(scene.manager, contacts=f"{scene.home.number},Eve,eve@vendor.example,,yes,")
    operations.confirm_import(imported, how="They say so", by=factories.acting(scene.manager))


@attack(Refusal.OWN_IMPORT, needs_guards=False)
def contacts_of_an_import_confirmed_by_who_imported_them_before(scene):
    row = f"{scene.home.number},Eve,{{}}@vendor.example,,yes,C-9"
    importing.bring(scene.manager, contacts=row.format("eve"))
    imported = importing.bring(scene.superuser, contacts=row.format("pat"))
    operations.confirm_import(imported, how="They say so", by=factories.acting(scene.manager))


@attack("unlocks.mark_re_exported_batch", needs_guards=False)
def re_exports_ticked_by_who_may_not_mark_them(scene):
    feed = Actor.system(scene.feed)
    rows_of_unlocked = f"{scene.home.number},{scene.unlocked.batch.number},,exported,sent,,,6/7/2026,,,,,"
    imported = operations.stage_import(importing.files(batches=rows_of_unlocked), source="api", by=feed)
    operations.start_import(imported, re_exported=True, by=feed)


@attack("IntegrityError", needs_guards=False)
def unlocked_by_records_that_nobody_read(scene):
    names = {"account_number": scene.home.number, "batch_number": scene.ready.batch.number, "status": "unlocked"}
    row = tuple((dict.fromkeys(KINDS["batches"].header) | names).values())
    by = Actor.system(scene.feed)
    imported = operations.stage_import([Records(KINDS["batches"], [(1, row)])], source="api", by=by)
    raise DatabaseError(operations.import_records(imported, by=by).why_failed)


@attack(Refusal.OWN_CONTACT, needs_guards=False)
def address_confirmed_by_the_verb_by_who_entered_it(scene):
    factories.confirm(factories.enter_contact(account=scene.home, by=scene.manager), scene.manager)


def made_up(scene):
    """Have whoever holds the feed's token put a customer of their own in the ready case, as its Admin."""
    admin = Contact.objects.get(pk=scene.ready.admin.pk)
    factories.put_contact(admin, token=scene.feed, email="superuser@vendor.example")


@attack(Refusal.OWN_CONTACT, needs_guards=False)
def link_sent_by_the_verb_by_who_made_the_token_that_put_the_address(scene):
    made_up(scene)
    contact = scene.awaiting.admin
    operations.send_consent_link(scene.awaiting.unlock_request, contact=contact, by=factories.acting(scene.superuser))


@attack(Refusal.OWN_CONTACT, needs_guards=False)
def pin_issued_by_the_verb_by_who_made_the_token_that_put_the_address(scene):
    made_up(scene)
    operations.issue_pin(scene.home, by=factories.acting(scene.superuser))


@attack(Refusal.TOKENS_MAKER, needs_guards=False)
def link_sent_by_a_system_of_who_made_the_token_that_put_the_address(scene):
    made_up(scene)
    operations.send_consent_link(scene.awaiting.unlock_request, contact=scene.awaiting.admin, by=by_portal(scene))


@attack("batch_unlocked_only_with_consent")
def unlocked_by_who_made_the_token_that_put_the_address(scene):
    made_up(scene)
    unlock(scene.ready.batch, grant(scene.ready), scene.superuser)


@attack("batch_unlocked_only_with_consent")
def unlocked_as_a_system_by_who_made_the_token_that_put_the_address(scene):
    made_up(scene)
    unlock(scene.ready.batch, grant(scene.ready), scene.portal.system)


@attack("batch_unlocked_only_with_consent")
def unlocked_as_a_system_by_who_entered_the_address(scene):
    admin = Contact.objects.get(pk=scene.ready.admin.pk)
    admin.email = "superuser@vendor.example"
    operations.save_record(admin, by=factories.acting(scene.superuser))
    unlock(scene.ready.batch, grant(scene.ready), scene.portal.system)


@attack("contact_confirmed_by_a_second_person")
def address_confirmed_by_who_made_the_token_that_put_an_earlier_one(scene):
    put = factories.put_contact(account=scene.home, token=scene.feed)
    put.email = "typed@customer.example"
    operations.save_record(put, by=factories.acting(scene.manager))
    rows(Contact, put).update(confirmed_by=scene.superuser, **CONFIRMED)


# With a consent that staff took down.


def recorded_by_phone(case, by, **changes):
    """Write a consent as if `by` had recorded it by phone, past the verb, and return the grant for its first batch."""
    consent = forge_consent(case, link=None, how="phone", recorded_by=by, **changes)
    return ConsentedBatch.objects.get(consent=consent, batch=case.batch)


def unlock_as_recorded_by_phone(scene, by, **changes):
    case = scene.phoned
    unlock(case.batch, recorded_by_phone(case, by, **changes), scene.manager)


@attack("consent_recorded_by_phone_with_the_pin")
def recorded_by_phone_without_the_pin(scene):
    unlock(scene.awaiting.batch, recorded_by_phone(scene.awaiting, scene.agent), scene.manager)


@attack("consent_recorded_by_phone_with_the_pin")
def recorded_by_phone_with_a_pin_that_another_verified(scene):
    unlock_as_recorded_by_phone(scene, scene.second)


@attack("consent_recorded_by_phone_with_the_pin")
def recorded_by_phone_with_a_pin_for_another_request(scene):
    rows(UnlockRequest, scene.awaiting.unlock_request).update(
        pin_verified_by=scene.agent, pin_verified_at=timezone.now()
    )
    unlock(scene.awaiting.batch, recorded_by_phone(scene.awaiting, scene.agent), scene.manager)


@attack("consent_recorded_by_phone_with_the_pin")
def recorded_by_phone_long_after_the_pin(scene):
    unlock(scene.phoned_long_ago.batch, recorded_by_phone(scene.phoned_long_ago, scene.agent), scene.manager)


@attack("consent_recorded_by_phone_with_the_pin")
def recorded_by_phone_with_a_pin_that_is_no_more(scene):
    rows(Account, scene.phoned.account).update(pin_issued_at=timezone.now())
    unlock_as_recorded_by_phone(scene, scene.agent)


@attack("consent_recorded_by_phone_with_the_pin")
def recorded_by_phone_for_somebody_who_is_no_admin(scene):
    unlock_as_recorded_by_phone(scene, scene.agent, contact=scene.phone_stranger, email=scene.phone_stranger.email)


@attack("consent_recorded_by_phone_with_the_pin")
def recorded_by_phone_for_an_admin_whom_nobody_confirmed(scene):
    made_up = typed_by(scene, scene.phone_stranger)
    unlock_as_recorded_by_phone(scene, scene.agent, contact=made_up, email=made_up.email)


@attack("consent_recorded_by_phone_with_the_pin")
def recorded_by_phone_for_an_admin_of_another_account(scene):
    admin = scene.neighbour.admin
    unlock_as_recorded_by_phone(scene, scene.agent, contact=admin, email=admin.email)


@attack("consent_recorded_by_phone_with_the_pin")
def recorded_by_phone_for_an_address_not_on_file(scene):
    unlock_as_recorded_by_phone(scene, scene.agent, email="elsewhere@example.com")


@attack("consent_recorded_by_phone_with_the_pin")
def recorded_by_phone_on_terms_never_published(scene):
    unlock_as_recorded_by_phone(scene, scene.agent, terms=scene.draft)


@attack("batch_unlocked_only_with_consent")
def recorded_by_phone_and_unlocked_by_the_same_person(scene):
    unlock(scene.phoned.batch, recorded_by_phone(scene.phoned, scene.agent), scene.agent)


@attack("unlocks_consent_how_matches", "consent_recorded_by_phone_with_the_pin", needs_guards=False)
def recorded_by_phone_by_nobody(scene):
    unlock_as_recorded_by_phone(scene, None)


@attack(Refusal.PHONE_CONSENT_OFF, needs_guards=False)
def recorded_by_phone_against_the_policy(scene):
    case = scene.phoned
    with override_settings(PHONE_CONSENT=False):
        operations.record_phone_consent(
            case.unlock_request,
            contact=case.admin,
            name="Admin",
            role="Owner",
            shown=text_to_read_out(case.unlock_request),
            by=factories.acting(scene.agent),
        )


@attack(Refusal.LINK_SEEN, needs_guards=False)
def pin_typed_for_one_request_with_the_link_of_another_in_hand(scene):
    """With both, one agent could agree for the customer."""
    by, case = factories.acting(scene.agent), scene.awaiting
    with override_settings(SHOW_CONSENT_LINK=True):
        operations.send_consent_link(case.unlock_request, contact=case.admin, by=by)
    operations.verify_pin(scene.ready.unlock_request, pin=factories.PIN, by=factories.acting(scene.agent))


@attack("ConsentLink matching query does not exist", needs_guards=False)
def link_sent_in_another_tab_while_the_pin_is_judged(scene):
    """With both, one agent could agree for the customer."""
    case = scene.phoned
    send = partial(
        operations.send_consent_link, case.unlock_request, contact=case.admin, by=factories.acting(scene.second)
    )
    with override_settings(SHOW_CONSENT_LINK=True):
        link = factories.while_the_pin_is_judged(case, send, pin=factories.PIN, user=scene.second)
    shown = ConsentLink.objects.get(pk=link.pk, shown_to=scene.second)
    operations.open_consent_link(shown, by=factories.customer(case.admin))


def agree_with_another_pin(scene, pin, pin_hash):
    """Put a hash into the row of an account, be its customer on the real pages, and put the old one back."""
    case, client = scene.opened, Client()
    account = rows(Account, case.account)
    before = account.values("pin_hash", "pin_failures", "pin_locked_until").get()
    account.update(pin_hash=pin_hash)
    client.get(reverse("consent_link", args=[case.token]))
    typed = {"action": "check", "name": "Somebody", "role": "Owner", "authorized": "on", "agree": "on", "pin": pin}
    page = client.post(reverse("consent"), typed | {"shown": sha256(shown_text(case.link))})
    if answers := re.search('name="answers" value="([^"]*)"', page.content.decode()):
        page = client.post(reverse("consent"), {"action": "agree", "answers": answers[1]})
    account.update(**before)
    return page


@attack(needs_guards=False)
def customer_by_a_pin_of_their_own(scene):
    return agree_with_another_pin(scene, "654321", pins.hashed("654321"))


@attack(needs_guards=False)
def customer_by_the_pin_of_another_account(scene):
    return agree_with_another_pin(scene, factories.PIN, Account.objects.get(pk=scene.home.pk).pin_hash)


@attack(needs_guards=False)
def customer_by_an_earlier_pin(scene):
    """An Admin who has left remembers it, and a copy of the row was kept."""
    return agree_with_another_pin(scene, "195538", scene.opened.earlier_hash)


@attack("evidence_is_of_a_consent_recorded_by_phone")
def evidence_for_a_consent_that_came_by_the_link(scene):
    write(evidence(scene, scene.ready.consent))


def evidence(scene, consent, sha256="1" * 64):
    return ConsentEvidence(
        consent=consent,
        what="email",
        file_name="mail.eml",
        media_type="message/rfc822",
        size=1,
        sha256=sha256,
        attached_by=scene.agent,
        attached_at=timezone.now(),
    )


# With terms that nobody published.


@attack("terms_start_as_a_draft")
def terms_that_start_published(scene):
    write(ConsentTerms(version=9, title="Forged", text="Forged", published_at=timezone.now()))


@attack("terms_start_as_a_draft")
def terms_from_before_the_first_version(scene):
    write(ConsentTerms(version=0, title="Forged", text="Forged", published_at=timezone.now()))


@attack("user_keeps_the_key")
def user_under_another_name(scene):
    rows(User, scene.idle).update(username="agent-of-another-name")


@attack("terms_published_by_somebody")
def terms_published_by_nobody(scene):
    rows(ConsentTerms, scene.draft).update(published_at=timezone.now())


@attack("terms_published_by_somebody")
def terms_changed_while_published(scene):
    rows(ConsentTerms, scene.draft).update(published_at=timezone.now(), published_by=scene.manager, text="Other")


@attack("terms_start_as_a_draft")
def terms_drafted_beside_another_draft(scene):
    write(ConsentTerms(version=9, title="Second draft", text="Second draft"))


@attack("terms_keep_their_key")
def terms_of_another_version(scene):
    rows(ConsentTerms, scene.draft).update(version=9)


@attack("link_goes_one_way")
def pin_of_a_used_link_put_off(scene):
    rows(ConsentLink, scene.ready.consent.link).update(pin_verified_at=timezone.now() + timedelta(hours=1))


def decide(case, by, decision="signed_off", position=1):
    review = Review.objects.get(unlock_request=case.unlock_request)
    given = {"review": review, "decision": decision, "position": position, "by": by, "note": "Said"}
    write(ReviewDecision(at=timezone.now(), **given))


@attack("review_by_another_person")
def reviewed_by_whoever_opened_and_unlocked_it(scene):
    decide(scene.used, scene.agent)


@attack("review_by_another_person")
def flag_resolved_by_whoever_unlocked_it(scene):
    decide(scene.reviewed, scene.second, "resolved", position=2)


@attack("review_decided_in_turn")
def signed_off_while_it_is_flagged(scene):
    decide(scene.reviewed, scene.superuser, position=2)


@attack("review_decided_in_turn")
def resolved_before_it_was_flagged(scene):
    decide(scene.used, scene.manager, "resolved")


def to_review(case):
    """Have a case reviewed, by no verb."""
    unlock_request = case.unlock_request
    given = {"by_phone": False, "warned": False, "large": False, "drawn": True, "due_at": timezone.now()}
    return write(Review(unlock_request=unlock_request, **given))


@attack("review_of_a_closed_case")
def reviewed_while_it_is_open(scene):
    to_review(scene.ready)


# To alter or lose what was recorded.

_WORDS = {
    "unlocks_consentevidence": "file_name",
    "unlocks_resentreceipt": "email",
    "unlocks_certificate": "content",
    "unlocks_consent": "text",
    "unlocks_consentedbatch": "fingerprint",
    "unlocks_consentwithdrawal": "why",
    "unlocks_ledgerentry": "actor",
    "unlocks_act": "why",
    "unlocks_verdict": "refusal",
    "unlocks_review": "large",
    "unlocks_reviewdecision": "note",
    "unlocks_account": "name",
    "unlocks_contact": "name",
    "unlocks_batch": "name",
    "unlocks_batchitem": "memo",
    "unlocks_unlockrequest": "reason",
    "unlocks_requestedbatch": "outcome",
    "unlocks_consentterms": "title",
    "unlocks_consentlink": "token_hash",
    "unlocks_linkopening": "browser",
    "unlocks_outgoing": "answer",
    "unlocks_instruction": "answer",
    "unlocks_import": "actor",
    "unlocks_apitoken": "name",
    "unlocks_stafflink": "token_hash",
    "auth_user": "first_name",
}


def _model(table):
    return next(model for model in apps.get_models() if model._meta.db_table == table)


def _victim(scene, table):
    """Return the key of a row that no other refers to, so that nothing but a guard stands in the way of losing it."""
    chosen = {
        "unlocks_consent": lambda: scene.declined.consent,
        "unlocks_consentedbatch": lambda: ConsentedBatch.objects.filter(consent=scene.reasked.first).first(),
        "unlocks_act": lambda: scene.idle_act,
        "unlocks_account": lambda: scene.emptyaccount,
        "unlocks_contact": lambda: scene.stranger,
        "unlocks_batch": lambda: scene.empty,
        "unlocks_requestedbatch": lambda: line(scene.awaiting),
        "unlocks_consentterms": lambda: scene.draft,
        "unlocks_consentlink": lambda: scene.awaiting.link,
        "unlocks_linkopening": lambda: scene.scanned.link.openings.get(),
        "auth_user": lambda: scene.idle,
    }
    model = _model(table)
    victim = chosen.get(table, lambda: model.objects.order_by("pk").first())()
    return model._meta.pk.get_db_prep_value(victim.pk, connection)


def _key(table):
    return _model(table)._meta.pk.column


def _numbered(table):
    return not isinstance(_model(table)._meta.pk, models.UUIDField)


def _forged(column):
    """Return another value for a column, as SQL."""
    return {"outcome": "'not_unlocked'", "large": "'1'"}.get(column, "'forged'")


def update_row(table, scene):
    column = _WORDS.get(table, "history_change_reason")
    sql(f"UPDATE {table} SET {column} = {_forged(column)} WHERE {_key(table)} = %s", _victim(scene, table))


def delete_row(table, scene):
    sql(f"DELETE FROM {table} WHERE {_key(table)} = %s", _victim(scene, table))


def delete_by_queryset(table, scene):
    _model(table)._base_manager.filter(pk=_victim(scene, table)).delete()


def truncate(table, scene):
    sql(f"TRUNCATE {table} CASCADE")


def replace_row(table, scene):
    word = _WORDS.get(table, "history_change_reason")
    columns = [column.column for column in _model(table)._meta.concrete_fields if not column.generated]
    values = [_forged(column) if column in (word, "outcome") else column for column in columns]
    names = ", ".join(f'"{column}"' for column in columns)
    values = ", ".join(value if value.startswith("'") else f'"{value}"' for value in values)
    sql(
        f"INSERT OR REPLACE INTO {table} ({names}) SELECT {values} FROM {table} WHERE {_key(table)} = %s",
        _victim(scene, table),
    )


def another_key(table, scene):
    """Move a row away under another key: what was known by the old one is lost."""
    other = _model(table)._meta.pk.get_db_prep_value(999999 if _numbered(table) else uuid4(), connection)
    sql(f"UPDATE {table} SET {_key(table)} = %s WHERE {_key(table)} = %s", other, _victim(scene, table))


def another_key_by_alias(table, scene):
    """SQLite knows an integer key by other names too, which no `UPDATE OF` names."""
    sql(f"UPDATE {table} SET _rowid_ = 999999 WHERE {_key(table)} = %s", _victim(scene, table))


_GROWING = sorted(declared.append_only_tables())
_STAYING = sorted(declared.NEVER_DELETED)
# Each case has entries in the ledger, which refer to it.
_REFERRED_TO = {"unlocks_unlockrequest"}

_BY_DJANGO = {
    "unlocks_unlockrequest": "protected foreign keys",
    # PostgreSQL's first refusal is of the history rows that would forget the user.
    "auth_user": "only grows",
}
_KEPT_BY = {guard.table: guard.name for guard in declared.GUARDS if "{new}.id <!> {old}.id" in guard.refused_when}

for _table in _GROWING:
    attack(_table, name=f"update_{_table}")(partial(update_row, _table))
for _table in [*_GROWING, *_STAYING]:
    _free = _table not in _REFERRED_TO
    _by = (_table, *filter(None, [_BY_DJANGO.get(_table)]))
    attack(_table, name=f"delete_from_{_table}", needs_guards=_free)(partial(delete_row, _table))
    attack(*_by, name=f"delete_by_queryset_from_{_table}", needs_guards=_free)(partial(delete_by_queryset, _table))
    attack(_table, name=f"truncate_{_table}", only="postgresql")(partial(truncate, _table))
    attack(_table, name=f"replace_in_{_table}", only="sqlite")(partial(replace_row, _table))
for _table, _guard in _KEPT_BY.items():
    _free, _name = _table not in _REFERRED_TO, f"another_key_in_{_table}"
    attack(_guard, "Rows keep their keys.", name=_name, needs_guards=_free)(partial(another_key, _table))
    if _numbered(_table):
        _alias = partial(another_key_by_alias, _table)
        attack(_guard, name=f"{_name}_by_alias", only="sqlite", needs_guards=_free)(_alias)


def insert_over_a_rowid(table, scene):
    """SQLite keeps a row under a rowid: where the key is another column, two things are unique."""
    pk = _model(table)._meta.pk
    columns = ", ".join(f'"{field.column}"' for field in _model(table)._meta.concrete_fields if field is not pk)
    sql(
        f"INSERT OR REPLACE INTO {table} (rowid, {pk.column}, {columns}) SELECT rowid, %s, {columns} FROM {table} "
        f"WHERE {pk.column} = %s",
        pk.get_db_prep_value(uuid4(), connection),
        _victim(scene, table),
    )


def insert_in_the_way_of_every_new_row(table, scene):
    """For SQLite's triggers a new row that names no rowid has -1: no other could be added after this one."""
    pk = _model(table)._meta.pk
    columns = ", ".join(f'"{field.column}"' for field in _model(table)._meta.concrete_fields if field is not pk)
    sql(f"INSERT INTO {table} ({pk.column}, {columns}) SELECT -1, {columns} FROM {table} LIMIT 1")


def update_over_a_rowid(table, scene):
    key, victim = _key(table), _victim(scene, table)
    sql(
        f"UPDATE OR REPLACE {table} SET _rowid_ = (SELECT rowid FROM {table} WHERE {key} = %s) "
        f"WHERE {key} = (SELECT max({key}) FROM {table} WHERE {key} <> %s)",
        victim,
        victim,
    )


for _table in [*_GROWING, *_STAYING]:
    if not _numbered(_table):
        attack(_table, name=f"insert_over_a_rowid_of_{_table}", only="sqlite")(partial(insert_over_a_rowid, _table))
        attack(_table, name=f"update_over_a_rowid_of_{_table}", only="sqlite")(partial(update_over_a_rowid, _table))
for _table in ("unlocks_historicalbatch", "unlocks_batchitem"):
    _name = f"insert_in_the_way_of_every_new_row_of_{_table}"
    attack(_table, name=_name, only="sqlite")(partial(insert_in_the_way_of_every_new_row, _table))


@attack("outgoing_keeps_what_it_is")
def email_sent_to_another_address(scene):
    rows(Outgoing, scene.outgoing).update(address="mine@example.com")


@attack("outgoing_keeps_what_it_is")
def email_with_a_secret_of_one_s_own(scene):
    rows(Outgoing, scene.outgoing).update(nonce="0" * 64)


@attack("outgoing_keeps_what_it_is")
def email_sent_a_second_time(scene):
    done = {"nonce": "", "done_at": timezone.now()}
    rows(Outgoing, scene.outgoing).update(state=Outgoing.State.SENT, **done)
    rows(Outgoing, scene.outgoing).update(state=Outgoing.State.QUEUED, done_at=None)


@attack("outgoing_keeps_what_it_is")
def email_that_was_refused_called_sent(scene):
    done = {"nonce": "", "done_at": timezone.now()}
    rows(Outgoing, scene.outgoing).update(state=Outgoing.State.REFUSED, **done)
    rows(Outgoing, scene.outgoing).update(state=Outgoing.State.SENT)


@attack("outgoing_is_tried_in_time")
def email_tried_too_often_to_count_one_more(scene):
    rows(Outgoing, scene.outgoing).update(tries=32767)


@attack("outgoing_is_tried_in_time")
def email_counted_up_to_no_further_try(scene):
    for tries in range(scene.outgoing.tries + 1, 1002):
        rows(Outgoing, scene.outgoing).update(tries=tries)


@attack("outgoing_is_tried_in_time")
def email_put_off_for_ever(scene):
    rows(Outgoing, scene.outgoing).update(next_try_at=timezone.now() + timedelta(days=365_000))


def _another_email(scene, **columns):
    columns = {"nonce": "f" * 64, "actor": "agent", "next_try_at": timezone.now()} | columns
    like = scene.outgoing
    write(Outgoing(email=like.email, address=like.address, link=like.link, queued_at=like.queued_at, **columns))


@attack("outgoing_starts_untried")
def email_that_starts_tried_too_often(scene):
    _another_email(scene, tries=32767)


@attack("outgoing_starts_untried")
def email_that_starts_put_off_for_ever(scene):
    _another_email(scene, next_try_at=timezone.now() + timedelta(days=365_000))


@attack("terms_frozen", "terms_published_by_somebody")
def published_terms_edited(scene):
    ConsentTerms.objects.filter(version=1).update(text="We are liable for everything.")


@attack("terms_frozen", "terms_published_by_somebody")
def terms_published_and_then_edited(scene):
    rows(ConsentTerms, scene.draft).update(published_at=timezone.now(), published_by=scene.manager)
    rows(ConsentTerms, scene.draft).update(text="Other")


@attack("terms_frozen")
def published_terms_taken_back(scene):
    ConsentTerms.objects.filter(version=1).update(published_at=None)


@attack("account_keeps_its_number")
def account_number_changed(scene):
    rows(Account, scene.home).update(number="other")


@attack("batch_keeps_its_identity")
def batch_number_changed(scene):
    rows(Batch, scene.bare).update(number="other")


@attack("protected foreign keys", needs_guards=False)
def cascade_from_an_account(scene):
    scene.home.delete()


@attack("protected foreign keys", needs_guards=False)
def cascade_from_a_user(scene):
    scene.agent.delete()


@attack("protected foreign keys", needs_guards=False)
def cascade_from_a_request(scene):
    scene.ready.unlock_request.delete()


@attack("only grows")
def clean_the_history(scene):
    call_command("clean_old_history", days=0, auto=True, verbosity=0)


@attack("ledger_is_a_chain")
def ledger_entry_out_of_chain(scene):
    newest = LedgerEntry.objects.first()
    write(ledger_entry(newest, sequence=newest.sequence + 1, previous_hash="e" * 64, hash="f" * 64))


@attack("ledger_is_a_chain")
def ledger_entry_after_a_gap(scene):
    newest = LedgerEntry.objects.first()
    write(ledger_entry(newest, sequence=newest.sequence + 2, previous_hash=newest.hash, hash="f" * 64))


@attack("unlocks_ledgerentry", "unlocks_entry_follows_one", needs_guards=False)
def ledger_forked(scene):
    newest = LedgerEntry.objects.first()
    write(ledger_entry(newest, sequence=newest.sequence + 1, previous_hash=newest.previous_hash, hash="f" * 64))


def ledger_entry(like, **fields):
    columns = {field.attname: getattr(like, field.attname) for field in LedgerEntry._meta.concrete_fields}
    return LedgerEntry(**columns | {"id": None} | fields)


@attack("unlocks_verdict")
def verdict_turned_over_by_upsert(scene):
    verdict = Verdict.objects.first()
    verdict.refusal = "forged"
    Verdict.objects.bulk_create(
        [verdict], update_conflicts=True, unique_fields=["act", "batch"], update_fields=["refusal"]
    )


# By what one database alone can do.


@attack("unlocks_batch", only="sqlite")
def update_or_replace_a_batch(scene):
    sql("UPDATE OR REPLACE unlocks_batch SET number = %s WHERE id = %s", scene.empty.number, scene.bare.pk)


@attack("batch_keeps_its_identity", only="sqlite")
def update_or_replace_by_alias_of_the_key(scene):
    sql("UPDATE OR REPLACE unlocks_batch SET rowid = %s WHERE id = %s", scene.empty.pk, _spare(scene).pk)


def _spare(scene):
    return factories.make_batch(account=scene.home, items=0)


@attack("item_keeps_its_key", only="sqlite")
def update_or_replace_an_item_of_a_consented_batch(scene):
    item = scene.ready.batch.items.first()
    sql("UPDATE OR REPLACE unlocks_batchitem SET _rowid_ = %s WHERE id = %s", item.pk, scene.bare.items.first().pk)
    unlock(scene.ready.batch, grant(scene.ready), scene.agent)


@attack("unlocks_contact", only="sqlite")
def update_or_replace_a_contact(scene):
    spare = factories.make_contact(account=scene.home)
    sql("UPDATE OR REPLACE unlocks_contact SET email = %s WHERE id = %s", scene.stranger.email, spare.pk)


@attack("auth_user", only="sqlite")
def update_or_replace_a_user(scene):
    sql("UPDATE OR REPLACE auth_user SET username = 'idle' WHERE id = %s", scene.second.pk)


@attack("unlocks_consentterms", only="sqlite")
def update_or_replace_published_terms(scene):
    rows(ConsentTerms, scene.draft).update(published_at=timezone.now(), published_by=scene.manager)
    draft = write(ConsentTerms(version=3, title="Next", text="Next"))
    sql("UPDATE OR REPLACE unlocks_consentterms SET version = 2 WHERE id = %s", draft.pk)


@attack("batch_unlocked_only_with_consent", only="sqlite")
def checks_of_rows_ignored(scene):
    sql("PRAGMA ignore_check_constraints = ON")
    try:
        rows(Batch, scene.bare).update(status="unlocking")
    finally:
        connection.connection.execute("PRAGMA ignore_check_constraints = OFF")


@attack("batch_unlocked_only_with_consent", only="postgresql")
def triggers_off_as_on_a_replica(scene):
    sql("SET LOCAL session_replication_role = replica")
    unlock(scene.bare, grant(scene.ready), scene.agent)


@attack("batch_unlocked_only_with_consent")
def temporary_table_instead_of_the_real_one(scene):
    """The consent was withdrawn, but a temporary table of the same name knows nothing of it."""
    _take_back(scene)
    real = "SELECT * FROM unlocks_consentwithdrawal WHERE 1 = 0"
    sql(f"CREATE TEMPORARY TABLE unlocks_consentwithdrawal AS {real}")
    unlock(scene.ready.batch, grant(scene.ready), scene.agent)


@attack("batch_unlocked_only_with_consent", only="postgresql")
def unlocked_and_withdrawn_in_one_statement(scene):
    sql(
        "WITH w AS (INSERT INTO unlocks_consentwithdrawal (consent_id, at, actor, why) VALUES (%s, now(), '', 'Both') "
        "RETURNING 1) UPDATE unlocks_batch SET status = 'unlocking', grant_id = %s, unlocked_by_id = %s "
        "WHERE id = %s",
        scene.ready.consent.pk,
        grant(scene.ready).pk,
        scene.agent.pk,
        scene.ready.batch.pk,
    )


# By verbs, where every rule is asked once more.


def _unlock_by_verb(name, scene):
    by = factories.acting(scene.second)
    aim = scene.cases[name]
    return operations.unlock(rows(Batch, aim.batch if isinstance(aim, factories.Case) else aim), by=by)


for _name in (
    "awaiting", "used", "declined", "withdrawn", "expired", "period", "differs", "changed", "inactive", "bare", "empty",
    "refused", "unlocking", "sent", "unlocked", "relocking",
):  # fmt: skip
    attack(name=f"verb_on_{_name}", needs_guards=False, writes_verdicts=True)(partial(_unlock_by_verb, _name))


@attack(needs_guards=False, writes_verdicts=True)
def verb_by_the_person_who_took_it_down(scene):
    return operations.unlock(scene.by_phone.rows, by=factories.acting(scene.agent))


def _ordered(scene, batch, **forged):
    """Order the unlock of a batch, change the row, and have the worker do what it says; return the row."""
    by = factories.acting(scene.second)
    selection = Selection.objects.create(made_by=scene.second, made_at=timezone.now())
    selection.batches.add(batch)
    ordered = operations.order(Act.Kind.UNLOCK, selection, options={}, by=by, key=uuid4())
    rows(OrderedAct, ordered).update(**forged)
    carry_out_ordered()
    return OrderedAct.objects.get(pk=ordered.pk)


@attack(needs_guards=False, writes_verdicts=True)
def verb_by_the_worker(scene):
    return Act.objects.get(pk=_ordered(scene, scene.bare).pk)


@attack("not what the desk was told to do", needs_guards=False)
def verb_by_the_worker_for_who_ordered_nothing(scene):
    raise DatabaseError(_ordered(scene, scene.ready.batch, by=scene.agent).answer)


@attack("needs the permission unlocks.unlock_batch", needs_guards=False)
def verb_by_an_auditor(scene):
    operations.unlock(scene.ready.rows, by=factories.acting(scene.auditor))


@attack("needs the permission unlocks.unlock_batch", needs_guards=False)
def verb_by_somebody_who_left(scene):
    scene.idle.is_superuser, scene.idle.is_active = True, False
    operations.unlock(scene.ready.rows, by=factories.acting(scene.idle))


@attack("needs the permission unlocks.unlock_batch", needs_guards=False)
def verb_by_the_desk_itself(scene):
    operations.unlock(scene.ready.rows, by=Actor.desk())


# By systems, and by tokens of one's own.


def a_token(scene, **columns):
    """Write a token without its verb."""
    made = {"name": "Own", "system": scene.portal.system, "scopes": "requests", "token_hash": "f" * 64}
    made |= {"made_by": scene.superuser, "made_at": timezone.now(), "expires_at": timezone.now() + timedelta(days=1)}
    return write(ApiToken(**made | columns))


def by_portal(scene):
    return Actor.system(scene.portal)


for _name in ("awaiting", "declined", "withdrawn", "expired", "changed", "bare"):

    @attack(name=f"system_unlocks_{_name}", needs_guards=False, writes_verdicts=True)
    def _unlock_by_a_system(scene, name=_name):
        aim = scene.cases[name]
        batch = aim.batch if isinstance(aim, factories.Case) else aim
        return operations.unlock(rows(Batch, batch), by=by_portal(scene))


@attack("needs the permission unlocks.open_request", needs_guards=False)
def system_that_puts_contacts_opens_a_request(scene):
    factories.open_case(scene.agent, batches=[scene.bare], by=Actor.system(scene.feed))


@attack("needs the permission unlocks.unlock_batch", needs_guards=False)
def system_that_puts_contacts_unlocks(scene):
    operations.unlock(scene.ready.rows, by=Actor.system(scene.feed))


@attack("Staff cannot act for the customer", needs_guards=False)
def system_agrees_for_the_customer(scene):
    link = scene.scanned.link
    operations.give_consent(link, name="Portal", role="Owner", shown=shown_text(link), by=by_portal(scene))


@attack("needs the permission unlocks.verify_pin", needs_guards=False)
def system_types_a_pin(scene):
    operations.verify_pin(scene.phoned.unlock_request, pin=factories.PIN, by=by_portal(scene))


@attack(Refusal.MAKES_UP_CUSTOMERS, needs_guards=False)
def token_by_the_verb_for_contacts_and_requests(scene):
    factories.make_token("both", "contacts", "requests", by=scene.superuser)


@attack(Refusal.MAKES_UP_CUSTOMERS, needs_guards=False)
def second_token_by_the_verb_of_a_system_that_opens_requests(scene):
    factories.make_token("portal", "pins", by=scene.superuser)


@attack(Refusal.NOT_A_SYSTEM, needs_guards=False)
def token_by_the_verb_for_a_colleague(scene):
    factories.make_token("second-agent", "unlock", by=scene.superuser)


@attack("needs the permission api.make_tokens", needs_guards=False)
def token_made_by_a_manager(scene):
    factories.make_token("own", "unlock", by=scene.manager)


@attack("token_makes_up_no_customer")
def token_for_pins_and_unlocks(scene):
    other = write(User(username="other-system", password="!none"))
    a_token(scene, system=other, scopes="pins unlock")


@attack("token_makes_up_no_customer")
def second_token_of_a_system_that_opens_requests(scene):
    a_token(scene, scopes="contacts")


@attack("token_makes_up_no_customer")
def second_token_of_a_system_that_puts_contacts(scene):
    a_token(scene, system=scene.feed.system, scopes="read unlock")


@attack("token_made_by_a_superuser_for_a_system")
def token_of_a_colleague(scene):
    a_token(scene, system=scene.agent)


@attack("token_made_by_a_superuser_for_a_system")
def token_made_by_an_agent(scene):
    a_token(scene, made_by=scene.agent)


@attack("token_goes_one_way")
def token_with_more_scopes(scene):
    rows(ApiToken, scene.feed).update(scopes="contacts records unlock")


@attack("token_goes_one_way")
def token_of_another_system(scene):
    rows(ApiToken, scene.feed).update(system=scene.portal.system)


@attack("token_goes_one_way")
def token_that_works_for_longer(scene):
    rows(ApiToken, scene.portal).update(expires_at=timezone.now() + timedelta(days=3650))


@attack("token_goes_one_way")
def token_that_works_again(scene):
    rows(ApiToken, scene.revoked_token).update(revoked_at=None, revoked_by=None)


@attack("system_never_signs_in")
def system_on_the_staff(scene):
    rows(User, scene.portal.system).update(is_staff=True)


@attack("system_never_signs_in")
def system_with_a_password(scene):
    rows(User, scene.portal.system).update(password="md5$x$y")


# By whoever makes themselves another colleague.


def a_staff_link(scene, **columns):
    """Write a link to set a password without its verb, with a token that one knows."""
    made = {"user": scene.second, "sent_by": scene.superuser, "sent_at": timezone.now(), "token_hash": "f" * 64}
    return write(StaffLink(**made | {"expires_at": timezone.now() + timedelta(days=1)} | columns))


@attack("staff_link_sent_by_a_superuser")
def staff_link_sent_by_a_manager(scene):
    a_staff_link(scene, sent_by=scene.manager)


@attack("staff_link_sent_by_a_superuser")
def staff_link_of_a_system(scene):
    a_staff_link(scene, user=scene.portal.system)


@attack("staff_link_goes_one_way")
def staff_link_with_a_token_one_knows(scene):
    rows(StaffLink, scene.staff_link).update(token_hash=hashed("known"))


@attack("staff_link_goes_one_way")
def staff_link_of_another_colleague(scene):
    rows(StaffLink, scene.staff_link).update(user=scene.second)


@attack("staff_link_goes_one_way")
def staff_link_that_works_for_longer(scene):
    rows(StaffLink, scene.staff_link).update(expires_at=timezone.now() + timedelta(days=3650))


# By the staff's own pages: forged requests, by every role.

ROLES = ("second", "manager", "auditor", "superuser")
_FORGED = {"status": "unlocked", "grant": "1", "unlocked_by": "1", "unlocked_until_0": "2126-01-01", "_save": "Save"}


def _change(model, row):
    return reverse(f"admin:unlocks_{model}_change", args=[row.pk])


_PAGES = {
    "batch_change": lambda scene: (_change("batch", scene.bare), _FORGED),
    "batch_add": lambda scene: (
        reverse("admin:unlocks_batch_add"),
        _FORGED | {"account": scene.home.pk, "number": "new"},
    ),
    "batch_delete": lambda scene: (reverse("admin:unlocks_batch_delete", args=[scene.empty.pk]), {"post": "yes"}),
    "batch_list_edit": lambda scene: (
        reverse("admin:unlocks_batch_changelist"),
        {"form-TOTAL_FORMS": 1, "form-INITIAL_FORMS": 1, "form-0-id": scene.bare.pk, "form-0-status": "unlocked"}
        | {"_save": "Save"},
    ),
    "batch_delete_selected": lambda scene: (
        reverse("admin:unlocks_batch_changelist"),
        {"action": "delete_selected", "_selected_action": scene.empty.pk, "post": "yes"},
    ),
    "batch_history": lambda scene: (
        reverse("admin:unlocks_batch_simple_history", args=[scene.used.batch.pk, _version(scene.used.batch)]),
        {"_change_history": "1"} | _FORGED,
    ),
    "batch_history_list": lambda scene: (reverse("admin:unlocks_batch_history", args=[scene.used.batch.pk]), _FORGED),
    "request_change": lambda scene: (_change("unlockrequest", scene.awaiting.unlock_request), {"status": "consented"}),
    "request_history": lambda scene: (
        reverse(
            "admin:unlocks_unlockrequest_simple_history",
            args=[scene.awaiting.unlock_request.pk, _version(scene.awaiting.unlock_request)],
        ),
        {"status": "consented"},
    ),
    "request_delete": lambda scene: (
        reverse("admin:unlocks_unlockrequest_delete", args=[scene.awaiting.unlock_request.pk]),
        {"post": "yes"},
    ),
    "item_change": lambda scene: (_change("batchitem", scene.ready.batch.items.first()), {"memo": "forged"}),
    "audit_entry_change": lambda scene: (_change("ledgerentry", LedgerEntry.objects.first()), {"actor": "forged"}),
    "audit_entry_add": lambda scene: (reverse("admin:unlocks_ledgerentry_add"), {"sequence": 1, "kind": "note"}),
    "audit_entry_delete": lambda scene: (
        reverse("admin:unlocks_ledgerentry_delete", args=[LedgerEntry.objects.first().pk]),
        {"post": "yes"},
    ),
    "terms_change": lambda scene: (
        _change("consentterms", published_terms()),
        {"text": "forged", "title": "x", "version": 1},
    ),
    "terms_delete": lambda scene: (
        reverse("admin:unlocks_consentterms_delete", args=[scene.draft.pk]),
        {"post": "yes"},
    ),
    "user_delete": lambda scene: (reverse("admin:auth_user_delete", args=[scene.idle.pk]), {"post": "yes"}),
    "account_delete": lambda scene: (
        reverse("admin:unlocks_account_delete", args=[scene.emptyaccount.pk]),
        {"post": "yes"},
    ),
    "account_history": lambda scene: (
        reverse("admin:unlocks_account_simple_history", args=[scene.home.pk, _version(scene.home)]),
        {"active": ""},
    ),
    "account_number": lambda scene: (
        _change("account", scene.home),
        {"number": "forged", "name": scene.home.name, "accounting_software": "none", "active": "on"},
    ),
}


def _version(row):
    return row.history.order_by("history_id").first().history_id


def _post(page, role, scene):
    client = Client(raise_request_exception=True)
    client.force_login(getattr(scene, role))
    address, data = _PAGES[page](scene)
    return client.post(address, data)


for _page in _PAGES:
    for _role in ROLES:
        attack(name=f"page_{_page}_as_{_role}", needs_guards=False)(partial(_post, _page, _role))


@attack(needs_guards=False)
def page_unlock_by_an_auditor(scene):
    client = Client()
    client.force_login(scene.auditor)
    return client.post(_change("unlockrequest", scene.ready.unlock_request), {"verb": "unlock"})


@attack(needs_guards=False)
def page_consent_by_staff(scene):
    """A link that was handed over, opened by somebody who is logged in as staff."""
    client = Client()
    client.force_login(scene.superuser)
    client.get(reverse("consent_link", args=[scene.awaiting.token]))
    return client.post(reverse("consent"), {"action": "agree"})


# What an attack must not change.

_MAY_GROW = {"unlocks_act", "unlocks_orderedact", "unlocks_verdict", "unlocks_ledgerentry"}


def snapshot():
    """Return every row of every table that the promise is about."""
    kept = [*apps.get_app_config("unlocks").get_models(include_auto_created=True), User]
    working = (
        "unlocks_selection",
        "unlocks_staged",
        "unlocks_searchword",
        "unlocks_cache",
        "unlocks_desksession",
    )
    return {table: _rows_of(model) for model in kept if not (table := model._meta.db_table).startswith(working)}


def _rows_of(model):
    """Return {key: row} as the database holds them: the table is run hundreds of times, and no model is needed here."""
    with connection.cursor() as cursor:
        cursor.execute(_select(model))
        return {row[0]: row for row in cursor.fetchall()}


@cache
def _select(model):
    columns = [column.column for column in model._meta.concrete_fields if column.attname != "last_login"]
    names = ", ".join(connection.ops.quote_name(name) for name in [model._meta.pk.column, *columns])
    return f"SELECT {names} FROM {model._meta.db_table}"


def difference(before, after, may_grow=False):
    """Return the tables that differ; entries, acts, orders and verdicts may be added where `may_grow`."""
    return [
        table
        for table in before
        if before[table] != after[table]
        and not (may_grow and table in _MAY_GROW and before[table].items() <= after[table].items())
    ]
