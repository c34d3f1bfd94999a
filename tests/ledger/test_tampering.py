"""Whatever somebody who owns the database does to the record, with every guard lifted, shows and is named.

Each tampering is carried out on real cases, and the audit has to say exactly what stands beside it: what is wrong
where, and nothing else.
"""

from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
import time_machine
from django.contrib.auth.models import Group, User
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.test import override_settings
from django.utils import timezone

from tests import factories
from tests.attacks import sql
from unlocks import operations, pins
from unlocks.actors import Actor
from unlocks.database import guards
from unlocks.ledger import anchors, chain, events, seals
from unlocks.management.commands import verify_audit
from unlocks.models import (
    Account,
    Batch,
    ConsentedBatch,
    ConsentEvidence,
    ConsentLink,
    ConsentTerms,
    Contact,
    Instruction,
    LedgerEntry,
    LinkOpening,
    Outgoing,
    RequestedBatch,
    UnlockRequest,
    Verdict,
)

pytestmark = pytest.mark.django_db

# What the audit says, less the numbers.
FORGED = "Ledger entry {{{0}}} was altered or forged: its hash does not fit its content."
COLUMN = "Ledger entry {{fresh_note}} was altered: its column {0} differs from what was sealed."
SEALED = (
    "{0} in unlocks_{1} {2}, at row {3} or later: it is not what ledger entry {{seal}} sealed of rows 1 to {{{1}_to}}."
)
COVERS = "Consent {done_consent}: the rows that ledger entry {done_consented} sums up (covered) are different now."
TOLD = "{0} {{{1}}}: its column {2} differs from what ledger entry {{{3}}} tells."
GONE = "Ledger entry {{{0}}} is about {1}, which is not there any more."

BY_NOBODY = "The unlock of batch {{{0}_number}} (id {{{0}_batch}}) was asked for by no act that the ledger tells of."
UNLOCKED_BY_NOBODY = BY_NOBODY.format("half") + " 2 more like it."
USERNAME = "User {agent}: its username differs from what ledger entry {agent_first} tells."
UNTOLD_STAFF = (
    "User {0} (id {{{1}}}): no ledger entry tells of is_active, is_staff, is_superuser, groups, permissions, password, "
    "which say who signs in and what they may do. If you know who made it so, record it with "
    "“manage.py record_staff {0}”."
)
NO_EMAIL_TOLD = "Outgoing {emailed}: no ledger entry tells that it is sent."
NO_STAFF_TOLD = UNTOLD_STAFF.format("agent", "agent") + " 4 more like it."
OUTCOME = (
    "Requested batch {relocked_number} in UR-{relocked:06} (id {relocked_line}): its outcome is not what the newest "
    "act made of it."
)
UNTOLD = "History in unlocks_historical{0}, row {{{1}}}: no ledger entry tells of its act."
LOST = "History in unlocks_historicalbatch: 2 rows of the act of ledger entry {{{0}}} should be there, and {1} are."
OTHER = (
    "History in unlocks_historicalbatch, row {historicalbatch_second}: ledger entry {second_imported} tells of another "
    "person, address or time."
)


@dataclass(frozen=True)
class Tampering:
    """What is done (statements, or a function of the scene) and what the audit says of it, a finding a line.

    In both, `{names}` stand for the numbers of the scene. `anchors`: how many of the scene's two the audit is given.
    """

    name: str
    does: object
    says: tuple
    anchors: int = 0

    def carry_out(self, scene):
        if callable(self.does):
            self.does(scene)
        for statement in () if callable(self.does) else self.does:
            sql(statement.format(**scene.numbers))


def tampering(name, does, *says, anchors=0):
    return Tampering(name, (does,) if isinstance(does, str) else does, says, anchors)


@dataclass
class Scene:
    agent: object
    cases: dict
    numbers: dict
    anchors: list


def make_scene():
    """Make cases of each kind, seal them, and let the work go on: one case unlocked after that, and one opened."""
    with time_machine.travel(timezone.now() - timedelta(hours=1)):
        agent = factories.make_user("agent", group="Agent")
        tried = factories.make_account()  # a wrong PIN is one from before its issue if both are told at once
    by, cases, heads = factories.acting(agent), {}, []
    done = cases["done"] = factories.case_unlocked(agent)
    operations.mark_re_exported(done.rows, by=by)
    staff = cases["staff"] = factories.case_recorded_by_phone(agent)
    mail = b"From: dana@customer.example\nDate: Mon, 4 May 2026 10:00:00 -0500\n\nYes, unlock them.\n"
    operations.attach_evidence(staff.consent, what="email", file_name="yes.eml", content=mail, by=by)
    operations.resend_receipt(staff.consent, by=by)
    back = cases["back"] = factories.case_consented(agent)
    operations.withdraw_consent(back.consent, why="Changed their mind", by=by)
    factories.record_certificate_key()
    certificate = operations.issue_certificate(done.consent, by=by)
    seals.seal_history(by=Actor.desk())
    heads.append(anchors.now(timezone.now() - timedelta(days=1)))
    _staff_and_records(agent, done)
    _what_goes_on(agent, cases, tried)
    half = cases["half"] = factories.case_consented(agent)
    factories.unlock(half.rows.filter(pk=half.batch.pk), by=by)
    fresh = cases["fresh"] = factories.case_unlocked(agent)
    operations.add_note(fresh.unlock_request, text="They called again", by=by)
    cases["last"] = factories.open_case(agent, account=factories.make_account(pin=""))
    operations.add_note(fresh.unlock_request, text="They called once more", by=by)
    heads.append(anchors.now(timezone.now()))
    connection.check_constraints()
    return Scene(agent, cases, _numbers(cases, certificate, heads), heads)


def _staff_and_records(agent, case):
    """Have a superuser make an agent and a colleague, and change account and contact of a case."""
    User.objects.create(username="untold", is_staff=True)  # who may do nothing has to be told by nobody
    root = factories.acting(factories.make_user("root", is_superuser=True))
    for name in ("colleague", "newcomer"):
        user = User(username=name, is_staff=True)

        def write(user=user):
            user.save()
            user.groups.add(Group.objects.get(name="Agent"))

        operations.change_staff(user, write, by=root)
    case.account.refresh_from_db()
    case.account.name, case.admin.phone = "Renamed", "(555) 010-0123"
    case.admin.email = "renamed@customer.example"
    operations.save_record(case.account, by=root)
    operations.save_record(case.admin, by=root)
    factories.confirm(case.admin, agent)
    factories.enter_contact(account=case.account, by=root.user, name="Waiting", email="waiting@customer.example")
    operations.draft_terms(by=root)


def _what_goes_on(agent, cases, tried):
    """Send and revoke links, let the customer type a PIN, rightly and wrongly."""
    by = factories.acting(agent)
    revoked = cases["revoked"] = factories.case_awaiting(agent)
    operations.revoke_consent_link(revoked.unlock_request, by=by)
    typed = cases["typed"] = factories.case_awaiting(agent)
    operations.open_consent_link(typed.link, by=factories.customer(typed.admin))
    operations.verify_customer_pin(typed.link, pin=factories.PIN, by=factories.customer(typed.admin))
    wrong = cases["wrong"] = factories.case_awaiting(agent, account=tried)
    operations.open_consent_link(wrong.link, by=factories.customer(wrong.admin))
    for _ in range(5):
        with suppress(operations.Refused):
            operations.verify_customer_pin(wrong.link, pin="000000", by=factories.customer(wrong.admin).begin())
    relocked = cases["relocked"] = factories.case_unlocked(agent)
    manager = factories.make_user("manager", group="Manager")
    factories.issue_pin(Account.objects.get(pk=revoked.account.pk), by=manager)
    factories.relock(relocked.rows, why="Not used", by=factories.acting(manager))


def queued():
    return Outgoing.objects.filter(state="queued").earliest("queued_at", "pk")


def _numbers(cases, certificate, heads):
    """Name what the tamperings aim at: sequences of entries by kind, keys of rows by case or as the table's first."""
    seal = LedgerEntry.objects.get(kind="sealed")
    numbers = {"head": heads[1].sequence, "seal": seal.sequence, "certificate": certificate.sha256}
    numbers["mail"] = ConsentEvidence.objects.get().sha256
    numbers |= {f"anchored_{place}": f"{head.of_when}" for place, head in enumerate(heads)}
    for name, case in cases.items():
        numbers |= {name: case.unlock_request.pk, f"{name}_batch": case.batch.pk, f"{name}_number": case.batch.number}
        for event in LedgerEntry.objects.filter(unlock_request=case.unlock_request).order_by("-sequence"):
            numbers[f"{name}_{event.kind}"] = event.sequence
        if opening := LinkOpening.objects.filter(link__unlock_request=case.unlock_request).first():
            numbers[f"{name}_opening"] = opening.pk
        if case.consent:
            numbers |= {f"{name}_consent": case.consent.pk, f"{name}_link": case.consent.link_id}
            numbers[f"{name}_covered"] = ConsentedBatch.objects.filter(consent=case.consent).earliest("pk").pk
    for table, sealed in events.read(seal).tables.items():
        model = next(model for model in seals.sealed_columns() if model._meta.db_table == table)
        keys = [*model._base_manager.order_by("pk").values_list("pk", flat=True), None]
        name = table.removeprefix("unlocks_")
        numbers |= {f"{name}_first": keys[0], f"{name}_second": keys[1], f"{name}_newest": keys[-2]}
        numbers |= {f"{name}_to": sealed["to"], f"{name}_rows": sealed["rows"]}
    act = _act_of(cases["done"])
    newest = Batch.history.latest("history_id")
    consented, unlocked, done = (
        LedgerEntry.objects.get(sequence=numbers[name])
        for name in ("fresh_consented", "fresh_unlock_instructed", "done_unlock_instructed")
    )
    second, first = (Batch.history.get(history_id=numbers[f"historicalbatch_{name}"]) for name in ("second", "first"))
    colleague, draft = User.objects.get(username="colleague"), ConsentTerms.objects.get(version=2)
    return numbers | {
        "act": act,
        "queued_email": queued().pk,
        "emailed": Outgoing.objects.get(state="sent").pk,
        "unlock_act": done.act,
        "fresh_act": unlocked.act,
        **{f"{name}_asked": _asked(cases[name]).pk for name in ("done", "fresh", "relocked")},
        "relocked_told": Verdict.objects.get(act__kind="relocked", batch=cases["relocked"].batch).pk,
        "relocked_instructed": Verdict.objects.get(act__kind="unlock", batch=cases["relocked"].batch).pk,
        "relocked_unlocked_told": Verdict.objects.get(act__kind="unlocked", batch=cases["relocked"].batch).pk,
        "fresh_told": Verdict.objects.get(act__kind="unlocked", batch=cases["fresh"].batch).pk,
        "second_imported": LedgerEntry.objects.get(act=second.history_act).sequence,
        "first_imported": LedgerEntry.objects.get(act=first.history_act).sequence,
        "last_imported": LedgerEntry.objects.get(act=newest.history_act).sequence,
        "acts_on_batches": Batch.history.values("history_act").distinct().count() - 1,
        "request_history": _first(UnlockRequest, consented),
        "line_history": _first(RequestedBatch, consented),
        "batch_history": _first(Batch, unlocked),
        "unlock_history": _first(Batch, done),
        "half_act": LedgerEntry.objects.get(sequence=numbers["half_unlock_instructed"]).act,
        "made_up": Contact.history.latest("history_id").history_id + 1000,
        "next": numbers["fresh_note"] + 1,
        "before_last": numbers["last_opened"] - 1,
        "after_done": numbers["done_closed"] + 1,
        "act_verdict": Verdict.objects.filter(act=act).earliest("pk").pk,
        "newest_batch": newest.id,
        "newest_number": newest.number,
        "beyond": heads[1].sequence + 1,
        "item": cases["done"].batch.items.earliest("pk").pk,
        "line": cases["done"].unlock_request.lines.earliest("pk").pk,
        "contact": cases["fresh"].admin.pk,
        "agent": cases["done"].agent.pk,
        "agent_made": LedgerEntry.objects.filter(kind="staff_changed", about_id=cases["done"].agent.pk).get().sequence,
        "mallory": 999,
        "untold": User.objects.get(username="untold").pk,
        "agent_first": LedgerEntry.objects.filter(user=cases["done"].agent).earliest("sequence").sequence,
        "colleague": colleague.pk,
        "colleague_staff": _about("staff_changed", colleague),
        "draft": draft.pk,
        "draft_entry": _about("terms_drafted", draft),
        "fresh_line": cases["fresh"].unlock_request.lines.get(batch=cases["fresh"].batch).pk,
        "relocked_line": cases["relocked"].unlock_request.lines.earliest("pk").pk,
        **{f"{name}_link": cases[name].link.pk for name in ("revoked", "typed", "wrong")},
        "wrong_account": cases["wrong"].account.pk,
        "wrong_pin_wrong": LedgerEntry.objects.filter(kind="pin_wrong").latest("sequence").sequence,
        "certificate_key": LedgerEntry.objects.get(kind="certificate_key").sequence,
        "certificate_number": certificate.number,
        "own_hash": pins.hashed("123456"),
        "earlier_hash": cases["revoked"].account.pin_hash,
        "reissued_account": cases["revoked"].account.pk,
        "reissued_pin": _about("pin_issued", cases["revoked"].account),
        "fresh_account": cases["fresh"].account.pk,
        "fresh_pin": _about("pin_issued", cases["fresh"].account),
        "last_account": cases["last"].account.pk,
        "last_account_named": cases["last"].account,
        "changed_contact": cases["done"].admin.pk,
        "changed_account": cases["done"].account.pk,
        "contact_entry": _about("contact_changed", cases["done"].admin),
        "confirmed_entry": _about("contact_confirmed", cases["done"].admin),
        "waiting": Contact.objects.get(name="Waiting").pk,
        "waiting_entry": _about("contact_changed", Contact.objects.get(name="Waiting")),
        "account_entry": _about("account_changed", cases["done"].account),
        "changed_contact_history": cases["done"].admin.history.order_by("-history_id")[1].history_id,
        "batches_less_one": Batch.objects.count() - 1,
        "after_opened": heads[1].sequence - numbers["fresh_opened"],
        "after_note": heads[1].sequence - numbers["fresh_note"] + 1,
    }


def _asked(case):
    """Return the instruction to unlock the first batch of a case."""
    return Instruction.objects.get(batch=case.batch, what="unlock")


def _about(kind, row):
    return LedgerEntry.objects.filter(kind=kind, about_id=row.pk).latest("sequence").sequence


def _first(model, entry):
    return model.history.filter(history_act=entry.act).earliest("history_id").history_id


def _act_of(case):
    return LedgerEntry.objects.get(kind="re_exported", unlock_request=case.unlock_request).act


@pytest.fixture(scope="module")
def scene(shared):
    return make_scene()


@pytest.fixture
def taken_back(scene):
    """Whatever is done to the scene is taken back after the test."""
    with taking_back():
        yield


@contextmanager
def taking_back():
    around = transaction.atomic()
    around._from_testcase = True
    with around:
        yield
        transaction.set_rollback(True)


@contextmanager
def owning_the_database():
    """Lift the guards, and let keys point nowhere."""
    with guards.lifted():
        if connection.vendor == "postgresql":
            sql("SET LOCAL session_replication_role = replica")
        yield
        if connection.vendor == "postgresql":
            sql("SET LOCAL session_replication_role = origin")


def audit(*files):
    """Return what the audit finds, a line each, less the advice that ends it."""
    try:
        call_command("verify_audit", anchor=files)
    except CommandError as error:
        *found, advice = str(error).split("\n")
        assert advice == verify_audit.NEXT
        return found
    return []


COLUMNS = [field.attname for field in LedgerEntry._meta.concrete_fields]
BUT_THE_PLACE = [name for name in COLUMNS if name not in ("id", "sequence", "previous_hash", "hash")]
EVERYTHING_BUT_THE_PLACE = ", ".join(BUT_THE_PLACE)


# What takes more than a statement.


def write_anew(first, key):
    """Chain every entry from `first` on again, sealed with another key."""
    previous = LedgerEntry.objects.filter(sequence=first - 1).values_list("hash", flat=True).first() or chain.GENESIS
    for event in LedgerEntry.objects.filter(sequence__gte=first).order_by("sequence"):
        facts = chain.text_hash("facts", event.facts_salt, event.facts)
        personal = chain.text_hash("personal", event.personal_salt, event.personal)
        with override_settings(LEDGER_KEY=key):
            made = chain.seal(previous, event.sequence, event.appended_at, facts, personal)
        columns = "previous_hash = %s, facts_hash = %s, personal_hash = %s, hash = %s"
        sql(f"UPDATE unlocks_ledgerentry SET {columns} WHERE id = %s", previous, facts, personal, made, event.pk)
        previous = made


def body_changed_and_chained_anew(key):
    def tamper(scene):
        first = scene.numbers["fresh_opened"]
        sql(f"UPDATE unlocks_ledgerentry SET facts = replace(facts, 'phone', 'email') WHERE sequence = {first}")
        write_anew(first, key)

    return tamper


def whole_ledger_written_anew(scene):
    write_anew(1, "a key of their own")


def forged_at_the_end(source):
    """Append a copy of an entry, chained to the head."""

    def tamper(scene):
        head, same = scene.numbers["head"], EVERYTHING_BUT_THE_PLACE
        sql(
            f"INSERT INTO unlocks_ledgerentry (sequence, previous_hash, hash, {same}) SELECT %s, "
            f"(SELECT hash FROM unlocks_ledgerentry WHERE sequence = %s), %s, {same} FROM unlocks_ledgerentry "
            "WHERE sequence = %s",
            head + 1,
            head,
            "f" * 64,
            scene.numbers[source],
        )

    return tamper


def slipped_in(scene):
    at, same = scene.numbers["fresh_note"], EVERYTHING_BUT_THE_PLACE
    sql(f"UPDATE unlocks_ledgerentry SET previous_hash = '{'f' * 64}' WHERE sequence = {at}")
    sql(f"UPDATE unlocks_ledgerentry SET sequence = sequence + 1000 WHERE sequence >= {at}")
    sql(
        f"INSERT INTO unlocks_ledgerentry (sequence, previous_hash, hash, {same}) "
        f"SELECT {at}, hash, '{'f' * 64}', {same} FROM unlocks_ledgerentry WHERE sequence = {at - 1}"
    )
    sql("UPDATE unlocks_ledgerentry SET sequence = sequence - 999 WHERE sequence > 1000")


def entries_swapped(*columns):
    """Let two entries trade these columns."""

    def tamper(scene):
        one, other = (
            LedgerEntry.objects.filter(sequence=scene.numbers[name]).values("pk", *columns).get()
            for name in ("fresh_note", "last_opened")
        )
        # Out of each other's way first: some of the columns are unique.
        away = {"sequence": 1_000_000, "hash": "a", "previous_hash": "a"}
        for row, values in ((one, away), (other, one), (one, other)):
            values = {name: values[name] for name in columns if name in values}
            if values:
                LedgerEntry.objects.filter(pk=row["pk"]).update(**values)

    return tamper


def cut_and_grown_again(scene):
    """The desk itself goes on where the tail was cut: its entries are genuine."""
    sql(f"DELETE FROM unlocks_ledgerentry WHERE sequence = {scene.numbers['head']}")
    operations.add_note(scene.cases["fresh"].unlock_request, text="Another", by=factories.acting(scene.agent))


def history_swapped(scene):
    first, second = scene.numbers["historicalbatch_first"], scene.numbers["historicalbatch_second"]
    for was, becomes in ((first, -1), (second, first), (-1, second)):
        sql(f"UPDATE unlocks_historicalbatch SET history_id = {becomes} WHERE history_id = {was}")


def slipped_into_history(scene):
    """A row from after the seal, put before all others, where no sealed range seems to begin."""
    newest = scene.numbers["historicalbatch_newest"]
    sql(f"UPDATE unlocks_historicalbatch SET history_id = -5 WHERE history_id = {newest}")


def case_wiped_out(name):
    """Delete a case, all that hangs on it, its history and its ledger entries."""

    def tamper(scene):
        unlock_request = scene.numbers[name]
        lines = f"SELECT id FROM unlocks_requestedbatch WHERE unlock_request_id = {unlock_request}"
        consents = f"SELECT id FROM unlocks_consent WHERE unlock_request_id = {unlock_request}"
        sql(f"DELETE FROM unlocks_ledgerentry WHERE unlock_request_id = {unlock_request}")
        for table in ("verdict", "instruction"):
            sql(f"DELETE FROM unlocks_{table} WHERE line_id IN ({lines})")
        for table in ("consentedbatch", "consentwithdrawal", "certificate", "consentevidence", "resentreceipt"):
            sql(f"DELETE FROM unlocks_{table} WHERE consent_id IN ({consents})")
        links = f"SELECT id FROM unlocks_consentlink WHERE unlock_request_id = {unlock_request}"
        sql(f"DELETE FROM unlocks_linkopening WHERE link_id IN ({links})")
        for table in ("consent", "consentlink", "requestedbatch", "historicalrequestedbatch"):
            sql(f"DELETE FROM unlocks_{table} WHERE unlock_request_id = {unlock_request}")
        for table in ("unlockrequest", "historicalunlockrequest"):
            sql(f"DELETE FROM unlocks_{table} WHERE id = {unlock_request}")

    return tamper


def tail_cut_with_its_case(scene):
    case_wiped_out("last")(scene)
    sql(f"DELETE FROM unlocks_ledgerentry WHERE sequence > {scene.numbers['last_opened']}")


def made_up_history(act):
    """Add a row of history, backdated and in a colleague's name, under an act of its own or that of the newest case."""

    def tamper(scene):
        opened = LedgerEntry.objects.get(sequence=scene.numbers["fresh_opened"])
        made_up = Contact.history.latest("history_id")
        made_up.history_id, made_up.history_act = scene.numbers["made_up"], act or opened.act
        made_up.history_date, made_up.history_actor = made_up.history_date - timedelta(days=30), "colleague"
        made_up.save(force_insert=True)

    return tamper


def made_up_and_sealed(scene):
    made_up_history(None)(scene)
    seals.seal_history(by=Actor.desk())


def unlocked_the_other_one(scene):
    """Give all that the one unlocked batch has of its unlock to the other consented one, its history too."""
    case = scene.cases["half"]
    one, other = case.batches
    grants = dict(ConsentedBatch.objects.filter(consent=case.consent).values_list("batch", "pk"))
    lines = dict(case.unlock_request.lines.values_list("batch", "pk"))
    unlocked = Batch.objects.filter(pk=one.pk).values("status", "unlocked_by_id", "unlocked_until").get()
    Batch.objects.filter(pk=other.pk).update(grant=grants[other.pk], **unlocked)
    Batch.objects.filter(pk=one.pk).update(status="bypassed", grant=None, unlocked_by=None, unlocked_until=None)
    RequestedBatch.objects.filter(pk=lines[other.pk]).update(outcome="unlocked")
    RequestedBatch.objects.filter(pk=lines[one.pk]).update(outcome="waiting")
    Verdict.objects.filter(batch=one.pk).update(batch=other.pk, line=lines[other.pk])
    Instruction.objects.filter(batch=one.pk).update(batch=other.pk, line=lines[other.pk])
    Batch.history.filter(id=one.pk, status__in=Batch.GRANTED).update(
        id=other.pk, number=other.number, name=other.name, grant_id=grants[other.pk]
    )
    RequestedBatch.history.filter(id=lines[one.pk], outcome__in=RequestedBatch.GRANTED).update(
        id=lines[other.pk], batch_id=other.pk, consented_id=grants[other.pk]
    )


def made_up_instruction(scene):
    """Ask the product once more to unlock what was relocked, in the name of the act that asked before."""
    again = _asked(scene.cases["relocked"])
    again.pk, again.key, again.state, again.done_at = 999, uuid4(), "unknown", None
    again.save(force_insert=True)


def on_the_note(change):
    return f"UPDATE unlocks_ledgerentry SET {change} WHERE sequence = {{fresh_note}}"


TAMPERINGS = [
    # An entry of the ledger is changed.
    tampering("body", on_the_note("personal = replace(personal, 'They', 'Nobody')"), FORGED.format("fresh_note")),
    tampering("actor", on_the_note("actor = 'somebody else'"), COLUMN.format("actor")),
    tampering("kind", on_the_note("kind = 'opened'"), COLUMN.format("kind")),
    tampering("time", on_the_note("at = '2020-01-01 00:00:00'"), COLUMN.format("at")),
    tampering("user", on_the_note("user_id = NULL"), COLUMN.format("user")),
    tampering("account", on_the_note("account_id = NULL"), COLUMN.format("account")),
    tampering("address", on_the_note("ip = '203.0.113.1'"), COLUMN.format("ip")),
    tampering("moved_to_another_request", on_the_note("unlock_request_id = {last}"), COLUMN.format("unlock_request")),
    tampering(
        "moved_to_another_request_in_its_body_too",
        on_the_note(
            "unlock_request_id = {last}, "
            "facts = replace(facts, '\"unlock_request\":{fresh}', '\"unlock_request\":{last}')"
        ),
        FORGED.format("fresh_note"),
    ),
    tampering(
        "hash",
        on_the_note(f"hash = '{'f' * 64}'"),
        FORGED.format("fresh_note"),
        "Ledger entry {next} does not follow entry {fresh_note}.",
    ),
    tampering(
        "hash_that_is_no_hex",
        on_the_note("hash = 'ä'"),
        FORGED.format("fresh_note"),
        "Ledger entry {next} does not follow entry {fresh_note}.",
    ),
    tampering(
        "previous_hash",
        on_the_note(f"previous_hash = '{'f' * 64}'"),
        "Ledger entry {fresh_note} does not follow entry {fresh_unlocked}.",
    ),
    tampering(
        "body_and_hashes_of_another_key",
        body_changed_and_chained_anew("a key of their own"),
        FORGED.format("fresh_opened") + " {after_opened} more like it.",
        BY_NOBODY.format("fresh") + " 1 more like it.",
    ),
    tampering(
        "whole_ledger_with_another_key",
        whole_ledger_written_anew,
        "None of the {head} ledger entries fits LEDGER_KEY: this is not the key that sealed them, or the whole ledger "
        "was rewritten.",
        "Ledger entry {seal} is not the one of the anchor{anchored_0}: the ledger was rewritten, "
        "or the anchor is another desk's. 1 more like it.",
        UNLOCKED_BY_NOBODY,
        NO_STAFF_TOLD,
        NO_EMAIL_TOLD,
        anchors=2,
    ),
    tampering(
        "email_sent_elsewhere",
        lambda scene: Outgoing.objects.filter(pk=queued().pk).update(address="mine@example.com"),
        "Outgoing {queued_email}: it is not what the desk queued.",
    ),
    tampering(
        "email_that_was_sent_is_gone",
        lambda scene: Outgoing.objects.filter(state="sent").delete(),
        "Outgoing {emailed}: it is gone, and a ledger entry tells how it ended.",
    ),
    tampering(
        "seal_made_a_note",
        "UPDATE unlocks_ledgerentry SET kind = 'note' WHERE sequence = {seal}",
        "Ledger entry {seal} was altered: its column kind differs from what was sealed.",
    ),
    tampering(
        "seal_emptied", "UPDATE unlocks_ledgerentry SET facts = '' WHERE sequence = {seal}", FORGED.format("seal")
    ),
    tampering("note_made_a_seal", on_the_note("kind = 'sealed'"), COLUMN.format("kind")),
    tampering("about", on_the_note("about = 'consent', about_id = 1"), COLUMN.format("about")),
    tampering(
        "about_another_row",
        "UPDATE unlocks_ledgerentry SET about_id = {staff_consent} WHERE sequence = {done_consented}",
        "Ledger entry {done_consented} was altered: its column about_id differs from what was sealed.",
        TOLD.format("Consent", "staff_consent", "link_id", "done_consented"),
        "Consent CN-{done_consent:06} (id {done_consent}): no ledger entry “Consent given” is about it.",
    ),
    tampering("amount_of_an_entry", on_the_note("amount = 1"), COLUMN.format("amount")),
    tampering("fields_of_an_entry", on_the_note("fields = 'name'"), COLUMN.format("fields")),
    tampering("act_of_an_entry", on_the_note("act = '00000000000000000000000000000000'"), COLUMN.format("act")),
    tampering("when_it_was_appended", on_the_note("appended_at = '2020-01-01 00:00:00'"), FORGED.format("fresh_note")),
    tampering(
        "personal_text_erased",
        on_the_note("personal = '', personal_salt = ''"),
        "Ledger entry {fresh_note}: its personal text was erased.",
    ),
    tampering(
        "personal_text_erased_and_its_hash",
        on_the_note("personal = '', personal_salt = '', personal_hash = ''"),
        FORGED.format("fresh_note"),
    ),
    # Entries are taken away, added, put elsewhere.
    tampering(
        "first_entry_deleted",
        "DELETE FROM unlocks_ledgerentry WHERE sequence = 1",
        "Ledger entry 1 is missing: entry 2 comes next.",
        UNTOLD_STAFF.format("agent", "agent"),
    ),
    tampering(
        "entry_deleted",
        "DELETE FROM unlocks_ledgerentry WHERE sequence = {fresh_note}",
        "Ledger entry {fresh_note} is missing: entry {next} comes next.",
    ),
    tampering(
        "consent_and_unlock_deleted",
        "DELETE FROM unlocks_ledgerentry WHERE sequence BETWEEN {fresh_consented} AND {fresh_unlocked}",
        "Ledger entries {fresh_consented} to {fresh_unlocked} are missing: entry {fresh_note} comes next.",
        UNTOLD.format("batch", "batch_history") + " 1 more like it.",
        UNTOLD.format("requestedbatch", "line_history") + " 2 more like it.",
        UNTOLD.format("unlockrequest", "request_history") + " 1 more like it.",
        BY_NOBODY.format("fresh") + " 1 more like it.",
        "Consent CN-{fresh_consent:06} (id {fresh_consent}): no ledger entry “Consent given” is about it.",
    ),
    tampering(
        "entry_before_the_first",
        f"INSERT INTO unlocks_ledgerentry (sequence, previous_hash, hash, {EVERYTHING_BUT_THE_PLACE}) "
        f"SELECT 0, 'a', 'b', {EVERYTHING_BUT_THE_PLACE} FROM unlocks_ledgerentry WHERE sequence = 1",
        "Ledger entry 0 does not belong: entries are numbered from 1.",
    ),
    tampering(
        "entry_slipped_in",
        slipped_in,
        FORGED.format("fresh_note") + " {after_note} more like it.",
    ),
    tampering(
        "entry_appended",
        forged_at_the_end("head"),
        "Ledger entry {beyond} was altered or forged: its hash does not fit its content.",
    ),
    tampering(
        "old_entry_replayed",
        forged_at_the_end("fresh_consented"),
        "Ledger entry {beyond} was altered or forged: its hash does not fit its content.",
    ),
    tampering(
        "sequences_swapped",
        entries_swapped("sequence"),
        "Ledger entry {fresh_note} does not follow entry {fresh_unlocked}. 3 more like it.",
    ),
    tampering("texts_swapped", entries_swapped("facts", "personal"), FORGED.format("fresh_note") + " 1 more like it."),
    tampering("contents_swapped", entries_swapped(*BUT_THE_PLACE), FORGED.format("fresh_note") + " 1 more like it."),
    tampering(
        "rows_swapped",
        entries_swapped(*BUT_THE_PLACE, "hash", "previous_hash"),
        "Ledger entry {fresh_note} does not follow entry {fresh_unlocked}. 3 more like it.",
    ),
    # The tail: only against an anchor.
    tampering(
        "tail_cut",
        "DELETE FROM unlocks_ledgerentry WHERE sequence = {head}",
        "Ledger entry {head}, which is the anchor{anchored_1}, is gone: the ledger ends with entry {last_opened}. "
        "Its tail was cut, or an older database was put in its place.",
        anchors=2,
    ),
    tampering(
        "tail_cut_and_grown_again",
        cut_and_grown_again,
        "Ledger entry {head} is not the one of the anchor{anchored_1}: the ledger was rewritten after entry {seal}, "
        "where the anchor{anchored_0} still fits.",
        anchors=2,
    ),
    tampering(
        "tail_cut_with_its_case",
        tail_cut_with_its_case,
        "Ledger entry {head}, which is the anchor{anchored_1}, is gone: the ledger ends with entry {before_last}. "
        "Its tail was cut, or an older database was put in its place.",
        anchors=2,
    ),
    # History.
    tampering(
        "sealed_history_edited",
        "UPDATE unlocks_historicalbatch SET name = 'Other' WHERE history_id = {historicalbatch_second}",
        SEALED.format("History", "historicalbatch", "was altered", "{historicalbatch_second}"),
    ),
    tampering(
        "who_did_it_in_sealed_history",
        "UPDATE unlocks_historicalbatch SET history_actor = 'x' WHERE history_id = {historicalbatch_second}",
        SEALED.format("History", "historicalbatch", "was altered", "{historicalbatch_second}"),
        OTHER,
    ),
    tampering(
        "time_in_sealed_history",
        "UPDATE unlocks_historicalbatch SET history_date = '2020-01-01' WHERE history_id = {historicalbatch_second}",
        SEALED.format("History", "historicalbatch", "was altered", "{historicalbatch_second}"),
        OTHER,
    ),
    tampering(
        "sealed_history_deleted",
        "DELETE FROM unlocks_historicalbatch WHERE history_id = {historicalbatch_second}",
        SEALED.format("History", "historicalbatch", "lost 1 row", "{historicalbatch_second}"),
        LOST.format("second_imported", 1),
    ),
    tampering(
        "sealed_history_swapped", history_swapped, SEALED.format("History", "historicalbatch", "was altered", "1")
    ),
    tampering(
        "row_slipped_into_sealed_history",
        slipped_into_history,
        SEALED.format("History", "historicalbatch", "gained 1 row", "1"),
    ),
    tampering(
        "history_emptied",
        "DELETE FROM unlocks_historicalbatch",
        SEALED.format("History", "historicalbatch", "lost {historicalbatch_rows} rows", "1"),
        LOST.format("first_imported", 0) + " {acts_on_batches} more like it.",
        UNLOCKED_BY_NOBODY,
        "Batch {done_number} (id {done_batch}): batch: the newest history row tells something else. "
        "{batches_less_one} more like it.",
    ),
    tampering(
        "newest_history_edited",
        "UPDATE unlocks_historicalbatch SET name = 'Other' WHERE history_id = {historicalbatch_newest}",
        "Batch {newest_number} (id {newest_batch}): batch: the newest history row tells something else.",
    ),
    tampering(
        "newest_history_deleted",
        "DELETE FROM unlocks_historicalbatch WHERE history_id = {historicalbatch_newest}",
        LOST.format("last_imported", 1),
        "Batch {newest_number} (id {newest_batch}): batch: the newest history row tells something else.",
    ),
    tampering(
        "history_made_up",
        made_up_history(UUID(int=1)),
        UNTOLD.format("contact", "made_up"),
    ),
    tampering(
        "history_made_up_in_a_real_act",
        made_up_history(None),
        "History in unlocks_historicalcontact: 0 rows of the act of ledger entry {fresh_opened} should be there, and 1 "
        "are.",
        "History in unlocks_historicalcontact, row {made_up}: ledger entry {fresh_opened} tells of another person, "
        "address or time.",
    ),
    tampering(
        "another_batch_unlocked_instead",
        unlocked_the_other_one,
        "Act {half_act}: the rows that ledger entry {half_unlock_instructed} sums up (numbers) are different now. "
        "1 more like it.",
    ),
    # A row changed past the verbs.
    tampering(
        "batch",
        "UPDATE unlocks_batch SET name = 'Other' WHERE id = {done_batch}",
        "Batch {done_number} (id {done_batch}): fingerprint does not fit the content.",
        "Batch {done_number} (id {done_batch}): batch: the newest history row tells something else.",
    ),
    tampering(
        "item",
        "UPDATE unlocks_batchitem SET amount = 1 WHERE id = {item}",
        "Batch {done_number} (id {done_batch}): fingerprint does not fit the content.",
        "Batch item Invoice INV-{done_number}-1 (id {item}): batch item: the newest history row tells something else.",
    ),
    tampering(
        "contact",
        "UPDATE unlocks_contact SET email = 'thief@example.com', name = 'X' WHERE id = {contact}",
        "Contact X <thief@example.com> (id {contact}): contact: the newest history row tells something else.",
    ),
    tampering(
        "reason",
        "UPDATE unlocks_unlockrequest SET reason = 'Other' WHERE id = {done}",
        TOLD.format("Unlock request", "done", "reason", "done_opened"),
        "Unlock request UR-{done:06} (id {done}): unlock request: the newest history row tells something else.",
    ),
    tampering(
        "outcome",
        "UPDATE unlocks_requestedbatch SET outcome = 'not_unlocked' WHERE id = {line}",
        "Requested batch {done_number} in UR-{done:06} (id {line}): its outcome is not what the newest act made of it.",
        "Requested batch {done_number} in UR-{done:06} (id {line}): requested batch: the newest history row tells "
        "something else.",
    ),
    tampering(
        "who_opened",
        "UPDATE unlocks_unlockrequest SET opened_by_id = 999 WHERE id = {done}",
        TOLD.format("Unlock request", "done", "opened_by_id", "done_opened"),
        "Unlock request UR-{done:06} (id {done}): unlock request: the newest history row tells something else.",
    ),
    tampering(
        "receipt_made_up",
        "INSERT INTO unlocks_resentreceipt (id, consent_id, email, token_hash, sent_by_id, sent_at) "
        "SELECT 999, id, email, receipt_hash, (SELECT min(id) FROM auth_user), given_at FROM unlocks_consent "
        "WHERE id = {fresh_consent}",
        "Resent receipt Receipt of CN-{fresh_consent:06} issued again (id 999): no ledger entry “Receipt issued again” "
        "is about it.",
    ),
    tampering(
        "receipt_under_another_token",
        "UPDATE unlocks_consent SET receipt_hash = 'Other' WHERE id = {fresh_consent}",
        TOLD.format("Consent", "fresh_consent", "receipt_hash", "fresh_consented"),
    ),
    tampering(
        "unlocked_by_somebody_else",
        "UPDATE unlocks_verdict SET refusal = 'changed' WHERE batch_id = {fresh_batch} AND act_id = "
        "(SELECT history_act FROM unlocks_historicalbatch WHERE id = {fresh_batch} AND status = 'unlocking')",
        "Act {fresh_act}: the rows that ledger entry {fresh_unlock_instructed} sums up (batches) are different now.",
        BY_NOBODY.format("fresh") + " 1 more like it.",
        "Instruction Unlock {fresh_number} (id {fresh_asked}): no act asked the product for it.",
    ),
    tampering(
        "instruction_answered_otherwise",
        "UPDATE unlocks_instruction SET state = 'refused' WHERE id = {fresh_asked}",
        "Batch {fresh_number} (id {fresh_batch}): unlocked, but the product did not say so.",
        "Verdict {fresh_number}: done (id {fresh_told}): told as the answer of the product, but no instruction has "
        "that answer.",
    ),
    tampering(
        "instruction_answered_otherwise_after_all_was_over",
        "UPDATE unlocks_instruction SET state = 'canceled' WHERE batch_id = {relocked_batch} AND what = 'lock'",
        "Verdict {relocked_number}: done (id {relocked_told}): told as the answer of the product, but no instruction "
        "has that answer.",
    ),
    tampering(
        "instruction_deleted",
        "DELETE FROM unlocks_instruction WHERE id = {relocked_asked}",
        "Verdict {relocked_number}: done (id {relocked_instructed}): the product should be asked for it, but no "
        "instruction is there.",
        "Verdict {relocked_number}: done (id {relocked_unlocked_told}): told as the answer of the product, but no "
        "instruction has that answer.",
    ),
    tampering(
        "instruction_made_up",
        made_up_instruction,
        "Instruction Unlock {relocked_number} (id 999): no act asked the product for it.",
    ),
    # What may change, against the newest entry about it.
    tampering(
        "username",
        "UPDATE auth_user SET username = 'x' WHERE username = 'agent'",
        TOLD.format("User", "agent", "username", "agent_made"),
        USERNAME,
    ),
    tampering(
        "usernames_swapped",
        (
            "UPDATE auth_user SET username = 'x' WHERE username = 'agent'",
            "UPDATE auth_user SET username = 'agent' WHERE username = 'manager'",
            "UPDATE auth_user SET username = 'manager' WHERE username = 'x'",
        ),
        TOLD.format("User", "agent", "username", "agent_made") + " 1 more like it.",
        USERNAME + " 1 more like it.",
    ),
    tampering(
        "superuser_made_up",
        "INSERT INTO auth_user (id, username, password, first_name, last_name, email, is_active, is_staff, "
        "is_superuser, date_joined) SELECT 999, 'mallory', password, '', '', '', false, false, true, date_joined "
        "FROM auth_user WHERE id = {agent}",
        UNTOLD_STAFF.format("mallory", "mallory"),
    ),
    tampering(
        "untold_user_made_superuser",
        "UPDATE auth_user SET is_superuser = true WHERE id = {untold}",
        UNTOLD_STAFF.format("untold", "untold"),
    ),
    tampering(
        "group_of_an_untold_user",
        "INSERT INTO auth_user_groups (user_id, group_id) SELECT {untold}, id FROM auth_group WHERE name = 'Manager'",
        UNTOLD_STAFF.format("untold", "untold"),
    ),
    tampering(
        "permission_of_an_untold_user",
        "INSERT INTO auth_user_user_permissions (user_id, permission_id) "
        "SELECT {untold}, id FROM auth_permission WHERE codename = 'unlock_batch'",
        UNTOLD_STAFF.format("untold", "untold"),
    ),
    *(
        tampering(
            name,
            f"UPDATE auth_user SET {name} = {value} WHERE username = 'colleague'",
            TOLD.format("User", "colleague", name, "colleague_staff"),
        )
        for name, value in (("is_superuser", "true"), ("is_active", "false"), ("is_staff", "false"), ("email", "'x'"))
    ),
    tampering(
        "group_of_a_user",
        "UPDATE auth_user_groups SET group_id = (SELECT id FROM auth_group WHERE name = 'Manager') "
        "WHERE user_id = {colleague}",
        TOLD.format("User", "colleague", "groups", "colleague_staff"),
    ),
    tampering(
        "permission_of_a_user",
        "INSERT INTO auth_user_user_permissions (user_id, permission_id) "
        "SELECT {colleague}, id FROM auth_permission WHERE codename = 'unlock_batch'",
        TOLD.format("User", "colleague", "permissions", "colleague_staff"),
    ),
    tampering(
        "permission_of_a_group",
        "INSERT INTO auth_group_permissions (group_id, permission_id) SELECT g.id, p.id FROM auth_group g, "
        "auth_permission p WHERE g.name = 'Agent' AND p.codename = 'issue_pin'",
        "Group Agent: its permissions are not those that the desk gives it.",
    ),
    tampering(
        "link_pin_verified",
        "UPDATE unlocks_consentlink SET pin_verified_at = sent_at WHERE id = {wrong_link}",
        TOLD.format("Consent link", "wrong_link", "pin_verified_at", "wrong_link_sent"),
    ),
    tampering(
        "link_pin_verified_later",
        "UPDATE unlocks_consentlink SET pin_verified_at = '2036-01-01 00:00:00' WHERE id = {typed_link}",
        TOLD.format("Consent link", "typed_link", "pin_verified_at", "typed_pin_verified"),
    ),
    tampering(
        "link_works_again",
        "UPDATE unlocks_consentlink SET revoked_at = NULL WHERE id = {revoked_link}",
        TOLD.format("Consent link", "revoked_link", "revoked_at", "revoked_link_revoked"),
    ),
    tampering(
        "link_revoked_by_nobody",
        "UPDATE unlocks_consentlink SET revoked_at = sent_at WHERE id = {typed_link}",
        TOLD.format("Consent link", "typed_link", "revoked_at", "typed_link_sent"),
    ),
    *(
        tampering(
            f"draft_of_terms_{column}",
            f"UPDATE unlocks_consentterms SET {column} = {value} WHERE version = 2",
            TOLD.format("Consent terms", "draft", column, "draft_entry"),
        )
        for column, value in (
            ("title", "'Other'"),
            ("text", "'Other'"),
            ("drafted_by_id", "{colleague}"),
            ("drafted_at", "'2020-01-01 00:00:00'"),
        )
    ),
    tampering(
        "pin_tries_given_back",
        "UPDATE unlocks_account SET pin_failures = 0, pin_locked_until = NULL WHERE id = {wrong_account}",
        "Account {wrong_account}: its column pin_failures allows more tries than ledger entry {wrong_pin_wrong} tells.",
    ),
    tampering(
        "pin_unlocked",
        "UPDATE unlocks_account SET pin_locked_until = NULL WHERE id = {wrong_account}",
        "Account {wrong_account}: its column pin_locked_until allows more tries than ledger entry {wrong_pin_wrong} "
        "tells.",
    ),
    tampering(
        "certificate_key_of_another",
        "UPDATE unlocks_ledgerentry SET facts = replace(facts, '7a1d2754', '00000000') WHERE kind = 'certificate_key'",
        FORGED.format("certificate_key"),
        "Certificate {certificate_number} was signed with key 2e92382f8aa642f9 when no key was recorded.",
    ),
    tampering(
        "pin_of_their_own",
        "UPDATE unlocks_account SET pin_hash = '{own_hash}' WHERE id = {fresh_account}",
        TOLD.format("Account", "fresh_account", "pin_hash", "fresh_pin"),
    ),
    tampering(
        "pin_of_another_account",
        "UPDATE unlocks_account SET pin_hash = (SELECT pin_hash FROM unlocks_account WHERE id = {reissued_account}) "
        "WHERE id = {fresh_account}",
        TOLD.format("Account", "fresh_account", "pin_hash", "fresh_pin"),
    ),
    tampering(
        "earlier_pin_put_back",
        "UPDATE unlocks_account SET pin_hash = '{earlier_hash}' WHERE id = {reissued_account}",
        TOLD.format("Account", "reissued_account", "pin_hash", "reissued_pin"),
    ),
    tampering(
        "pin_of_an_account_without_one",
        "UPDATE unlocks_account SET pin_hash = '{own_hash}' WHERE id = {last_account}",
        "Account {last_account_named} (id {last_account}): no ledger entry “New PIN in force” is about it.",
    ),
    tampering(
        "used_consent_made_usable_again",
        (
            "UPDATE unlocks_requestedbatch SET outcome = 'waiting' WHERE id = {relocked_line}",
            "UPDATE unlocks_historicalrequestedbatch SET outcome = 'waiting' WHERE id = {relocked_line}",
        ),
        "Unlock request UR-{relocked:06} (id {relocked}): closed with batches still open in it.",
        OUTCOME,
    ),
    tampering(
        "relocked_shown_as_re_exported",
        (
            "UPDATE unlocks_requestedbatch SET outcome = 're_exported' WHERE id = {relocked_line}",
            "UPDATE unlocks_historicalrequestedbatch SET outcome = 're_exported' WHERE id = {relocked_line}",
        ),
        OUTCOME,
    ),
    tampering(
        "closed_with_another_resolution",
        (
            "UPDATE unlocks_unlockrequest SET resolution = 're_exported' WHERE id = {relocked}",
            "UPDATE unlocks_historicalunlockrequest SET resolution = 're_exported' WHERE id = {relocked}",
        ),
        TOLD.format("Unlock request", "relocked", "resolution", "relocked_closed"),
    ),
    *(
        tampering(
            f"{table}_{column}",
            (
                f"UPDATE unlocks_{table} SET {column} = 'x@example.com' WHERE id = {{{key}}}",
                f"UPDATE unlocks_historical{table} SET {column} = 'x@example.com' WHERE id = {{{key}}} AND "
                f"history_id = (SELECT max(history_id) FROM unlocks_historical{table} WHERE id = {{{key}}})",
            ),
            TOLD.format(table.capitalize(), key, column, f"{table}_entry"),
        )
        for table, column, key in (("contact", "email", "changed_contact"), ("account", "name", "changed_account"))
    ),
    tampering(
        "confirmed_by_nobody",
        (
            *(
                f"UPDATE unlocks_{table} SET confirmed_by_id = {{colleague}}, confirmed_at = entered_at, "
                "confirmed_how = 'Called' WHERE id = {waiting}"
                for table in ("contact", "historicalcontact")
            ),
        ),
        TOLD.format("Contact", "waiting", "confirmed_by_id", "waiting_entry"),
        "Contact Waiting <waiting@customer.example> (id {waiting}): no ledger entry “Admin address confirmed” is about "
        "it.",
    ),
    *(
        tampering(
            f"contact_{column}",
            (
                f"UPDATE unlocks_contact SET {column} = {value} WHERE id = {{changed_contact}}",
                f"UPDATE unlocks_historicalcontact SET {column} = {value} WHERE history_id = "
                "(SELECT max(history_id) FROM unlocks_historicalcontact WHERE id = {changed_contact})",
            ),
            TOLD.format("Contact", "changed_contact", column, entry),
        )
        for column, value, entry in (
            ("entered_by_id", "{colleague}", "contact_entry"),
            ("entered_at", "'2020-01-01 00:00:00'", "contact_entry"),
            ("confirmed_by_id", "{colleague}", "confirmed_entry"),
            ("confirmed_at", "'2020-01-01 00:00:00'", "confirmed_entry"),
            ("confirmed_how", "'Other'", "confirmed_entry"),
        )
    ),
    tampering(
        "typed_contact_made_one_of_the_product",
        (
            "UPDATE unlocks_contact SET entered_by_id = NULL WHERE id = {waiting}",
            "UPDATE unlocks_historicalcontact SET entered_by_id = NULL WHERE id = {waiting}",
        ),
        TOLD.format("Contact", "waiting", "entered_by_id", "waiting_entry"),
    ),
    tampering(
        "who_entered_a_contact",
        "UPDATE unlocks_historicalcontact SET history_user_id = {colleague}, history_actor = 'colleague' "
        "WHERE history_id = {changed_contact_history}",
        "History in unlocks_historicalcontact, row {changed_contact_history}: ledger entry {contact_entry} tells of "
        "another person, address or time.",
    ),
    tampering(
        "history_made_up_and_sealed",
        made_up_and_sealed,
        "History in unlocks_historicalcontact: 0 rows of the act of ledger entry {fresh_opened} should be there, and 1 "
        "are.",
        "History in unlocks_historicalcontact, row {made_up}: ledger entry {fresh_opened} tells of another person, "
        "address or time.",
    ),
    # A consent, sealed ("done", "staff", "back") and not yet sealed ("fresh").
    tampering(
        "signer",
        "UPDATE unlocks_consent SET signer_name = 'Other' WHERE id = {done_consent}",
        SEALED.format("Evidence", "consent", "was altered", "1"),
        TOLD.format("Consent", "done_consent", "signer_name", "done_consented"),
    ),
    tampering(
        "signer_of_today",
        "UPDATE unlocks_consent SET signer_name = 'Other' WHERE id = {fresh_consent}",
        TOLD.format("Consent", "fresh_consent", "signer_name", "fresh_consented"),
    ),
    tampering(
        "when_agreed",
        "UPDATE unlocks_consent SET given_at = '2020-01-01 00:00:00' WHERE id = {fresh_consent}",
        TOLD.format("Consent", "fresh_consent", "given_at", "fresh_consented"),
    ),
    tampering(
        "how_long",
        "UPDATE unlocks_consent SET valid_until = '2036-01-01 00:00:00' WHERE id = {done_consent}",
        SEALED.format("Evidence", "consent", "was altered", "1"),
        TOLD.format("Consent", "done_consent", "valid_until", "done_consented"),
    ),
    tampering(
        "text",
        "UPDATE unlocks_consent SET text = 'Other' WHERE id = {fresh_consent}",
        TOLD.format("Consent", "fresh_consent", "text", "fresh_consented"),
        "Consent CN-{fresh_consent:06} (id {fresh_consent}): text does not fit its hash.",
    ),
    tampering(
        "weaker_kind_made_the_strong_one",
        "UPDATE unlocks_consent SET how = 'link', link_id = {fresh_link} + 1000, recorded_by_id = NULL "
        "WHERE id = {staff_consent}",
        SEALED.format("Evidence", "consent", "was altered", "{staff_consent}"),
        TOLD.format("Consent", "staff_consent", "link_id", "staff_recorded_by_phone"),
        "Consent CN-{staff_consent:06} (id {staff_consent}): decided by a link, but no opening of it led there.",
        "Consent CN-{staff_consent:06} (id {staff_consent}): no ledger entry “Consent given” is about it.",
    ),
    tampering(
        "who_took_it_down",
        "UPDATE unlocks_consent SET recorded_by_id = 999 WHERE id = {staff_consent}",
        SEALED.format("Evidence", "consent", "was altered", "{staff_consent}"),
        TOLD.format("Consent", "staff_consent", "recorded_by_id", "staff_recorded_by_phone"),
        "Consent CN-{staff_consent:06} (id {staff_consent}): recorded by phone, but the ledger shows no PIN "
        "verified by the person who recorded it.",
    ),
    tampering(
        "consent_deleted",
        "DELETE FROM unlocks_consent WHERE id = {done_consent}",
        SEALED.format("Evidence", "consent", "lost 1 row", "1"),
        GONE.format("done_consented", "consent {done_consent}"),
    ),
    tampering(
        "consent_of_today_deleted",
        "DELETE FROM unlocks_consent WHERE id = {fresh_consent}",
        GONE.format("fresh_consented", "consent {fresh_consent}"),
        BY_NOBODY.format("fresh") + " 1 more like it.",
        "Batch {fresh_number} (id {fresh_batch}): unlocked without an agreed consent of its account for this batch. "
        "1 more like it.",
    ),
    tampering(
        "covered_batch",
        "UPDATE unlocks_consentedbatch SET total = 1 WHERE id = {done_covered}",
        SEALED.format("Evidence", "consentedbatch", "was altered", "1"),
        COVERS,
    ),
    tampering(
        "covered_batches_deleted",
        "DELETE FROM unlocks_consentedbatch WHERE consent_id = {done_consent}",
        SEALED.format("Evidence", "consentedbatch", "lost 2 rows", "1"),
        COVERS,
        "Consent CN-{done_consent:06} (id {done_consent}): covers another number of batches than was shown.",
    ),
    tampering(
        "withdrawal",
        "UPDATE unlocks_consentwithdrawal SET why = 'Other' WHERE consent_id = {back_consent}",
        SEALED.format("Evidence", "consentwithdrawal", "was altered", "1"),
        "Consent withdrawal {consentwithdrawal_first}: its column why differs from what ledger entry "
        "{back_withdrawn} tells.",
    ),
    tampering(
        "withdrawal_deleted",
        "DELETE FROM unlocks_consentwithdrawal WHERE consent_id = {back_consent}",
        SEALED.format("Evidence", "consentwithdrawal", "lost 1 row", "1"),
        GONE.format("back_withdrawn", "consent withdrawal {consentwithdrawal_first}"),
    ),
    tampering(
        "link_sent_elsewhere",
        "UPDATE unlocks_consentlink SET email = 'thief@example.com' WHERE id = {fresh_link}",
        TOLD.format("Consent link", "fresh_link", "email", "fresh_link_sent"),
        "Consent link Link for thief@example.com (id {fresh_link}): went to an address that its contact did not have "
        "on record then.",
    ),
    tampering(
        "link_made_to_last",
        "UPDATE unlocks_consentlink SET expires_at = '2036-01-01 00:00:00' WHERE id = {fresh_link}",
        TOLD.format("Consent link", "fresh_link", "expires_at", "fresh_link_sent"),
    ),
    tampering(
        "link_opened_elsewhere",
        "UPDATE unlocks_linkopening SET ip = '203.0.113.1' WHERE id = {fresh_opening}",
        TOLD.format("Link opening", "fresh_opening", "ip", "fresh_link_opened"),
    ),
    tampering(
        "link_opened_at_another_time",
        "UPDATE unlocks_linkopening SET at = '2026-01-01 00:00:00' WHERE id = {fresh_opening}",
        TOLD.format("Link opening", "fresh_opening", "at", "fresh_link_opened"),
    ),
    tampering(
        "link_opened_with_another_browser",
        "UPDATE unlocks_linkopening SET browser = 'Another' WHERE id = {fresh_opening}",
        TOLD.format("Link opening", "fresh_opening", "browser", "fresh_link_opened"),
    ),
    tampering(
        "decision_led_by_another_opening",
        "UPDATE unlocks_consent SET opening_id = {typed_opening} WHERE id = {fresh_consent}",
        TOLD.format("Consent", "fresh_consent", "opening_id", "fresh_consented"),
        "Consent CN-{fresh_consent:06} (id {fresh_consent}): decided by a link, but no opening of it led there.",
    ),
    tampering(
        "link_with_another_token",
        f"UPDATE unlocks_consentlink SET token_hash = '{'f' * 64}' WHERE id = {{done_link}}",
        SEALED.format("Evidence", "consentlink", "was altered", "1"),
    ),
    tampering(
        "link_deleted",
        "DELETE FROM unlocks_consentlink WHERE id = {fresh_link}",
        GONE.format("fresh_link_sent", "consent link {fresh_link}"),
        GONE.format("fresh_link_opened", "link opening {fresh_opening}"),
        TOLD.format("Consent", "fresh_consent", "link__used_at", "fresh_consented"),
    ),
    tampering(
        "evidence",
        "UPDATE unlocks_consentevidence SET file_name = 'other.eml'",
        SEALED.format("Evidence", "consentevidence", "was altered", "1"),
        "Consent evidence {consentevidence_first}: its column file_name differs from what ledger entry "
        "{staff_evidence} tells.",
    ),
    tampering(
        "receipt",
        "UPDATE unlocks_resentreceipt SET email = 'other@example.com'",
        SEALED.format("Evidence", "resentreceipt", "was altered", "1"),
        TOLD.format("Resent receipt", "resentreceipt_first", "email", "staff_receipt_resent"),
    ),
    tampering(
        "certificate",
        "UPDATE unlocks_certificate SET pdf = '0'",
        SEALED.format("Evidence", "certificate", "was altered", "1"),
        "Certificate {certificate_first}: its column pdf differs from what ledger entry {done_certified} tells.",
    ),
    tampering(
        "certificate_deleted",
        "DELETE FROM unlocks_certificate",
        SEALED.format("Evidence", "certificate", "lost 1 row", "1"),
        GONE.format("done_certified", "certificate {certificate_first}"),
    ),
    tampering(
        "act",
        "UPDATE unlocks_act SET actor = 'Other' WHERE kind = 're_export'",
        SEALED.format("Evidence", "verdict", "was altered", "{act_verdict}"),
        TOLD.format("Act", "act", "actor", "done_re_exported"),
    ),
    tampering(
        "why_of_an_act",
        "UPDATE unlocks_act SET why = 'Other' WHERE kind = 're_export'",
        SEALED.format("Evidence", "verdict", "was altered", "{act_verdict}"),
        TOLD.format("Act", "act", "why", "done_re_exported"),
    ),
    tampering(
        "verdict",
        "UPDATE unlocks_verdict SET refusal = 'not_bypassed' WHERE id = {verdict_first}",
        SEALED.format("Evidence", "verdict", "was altered", "1"),
        "Act {unlock_act}: the rows that ledger entry {done_unlock_instructed} sums up (batches) are different now.",
        "Instruction Unlock {done_number} (id {done_asked}): no act asked the product for it.",
    ),
    tampering(
        "terms",
        "UPDATE unlocks_consentterms SET text = 'Other' WHERE version = 1",
        "Consent terms version 1 are not the text that the desk came with.",
    ),
    # A whole case.
    tampering(
        "case_of_today_wiped_out",
        case_wiped_out("last"),
        "Ledger entry {last_opened} is missing: entry {head} comes next.",
    ),
    tampering(
        "case_wiped_out",
        case_wiped_out("done"),
        "Ledger entries {done_opened} to {done_closed} are missing: entry {after_done} comes next. 1 more like it.",
        SEALED.format("Evidence", "certificate", "lost 1 row", "1"),
        SEALED.format("Evidence", "consent", "lost 1 row", "1"),
        SEALED.format("Evidence", "consentedbatch", "lost 2 rows", "1"),
        SEALED.format("Evidence", "consentlink", "lost 1 row", "1"),
        SEALED.format("History", "historicalrequestedbatch", "lost 10 rows", "1"),
        SEALED.format("History", "historicalunlockrequest", "lost 6 rows", "1"),
        SEALED.format("Evidence", "linkopening", "lost 1 row", "1"),
        SEALED.format("Evidence", "verdict", "lost 6 rows", "1"),
        UNTOLD.format("batch", "unlock_history") + " 2 more like it.",
    ),
]


def test_the_scene_itself_holds(scene, capsys):
    assert audit() == []
    assert capsys.readouterr().out == (
        f"The audit holds: ledger intact (head {scene.anchors[1].sequence} {scene.anchors[1].hash}), every seal and "
        f"invariant holds, every guard is in place.\n"
        f"The newest seal is entry {scene.numbers['seal']}: --since {scene.numbers['seal']} goes on from it.\n"
        f"Not sealed yet: {seals.unsealed()} rows of history and evidence. “manage.py seal_history” does it.\n"
    )


def test_the_table_is_as_long_as_it_says():
    names = [tampering.name for tampering in TAMPERINGS]
    assert len(names) == len(set(names)) > 70


def groups():
    """Put three together that stand far apart in the table; what needs anchors stays alone."""
    plain = [tampering for tampering in TAMPERINGS if not tampering.anchors]
    number = -(-len(plain) // 3)
    found = [plain[first::number] for first in range(number)]
    found += [[tampering] for tampering in TAMPERINGS if tampering.anchors]
    return [pytest.param(group, id="+".join(tampering.name for tampering in group)) for group in found]


@pytest.mark.parametrize("group", groups())
def test_shows_and_is_named(scene, group, tmp_path):
    """An audit takes long: three are shown by one. Where they get in each other's way, each has its own."""
    together = len(group) > 1 and sorted(said(scene, group)) == sorted(audited(scene, group, tmp_path))
    for tampering in () if together else group:
        assert audited(scene, [tampering], tmp_path) == said(scene, [tampering])


def said(scene, group):
    return [sentence.format(**scene.numbers) for tampering in group for sentence in tampering.says]


def audited(scene, group, tmp_path):
    """Return what the audit finds after these tamperings, which are taken back."""
    files = []
    for place, anchor in enumerate(scene.anchors[: group[0].anchors]):
        files.append(tmp_path / f"anchor-{place}")
        files[-1].write_text(str(anchor))
    with taking_back():
        with owning_the_database():
            for tampering in group:
                tampering.carry_out(scene)
        # SQLite also says which rows name one that is gone; PostgreSQL checks that itself.
        return [sentence for sentence in audit(*files) if not sentence.startswith("The row in table ")]


UNSEEN = {
    "a row of history, not sealed and not the newest": (
        "UPDATE unlocks_historicalbatch SET name = 'Other' WHERE history_id = (SELECT min(history_id) "
        "FROM unlocks_historicalbatch WHERE id = {fresh_batch})",
    ),
    "a live row together with its newest row of history, not sealed": (
        "UPDATE unlocks_contact SET phone = '1' WHERE id = {contact}",
        "UPDATE unlocks_historicalcontact SET phone = '1' WHERE id = {contact}",
    ),
    "an entry at the very end, without an anchor": ("DELETE FROM unlocks_ledgerentry WHERE sequence = {head}",),
}


@pytest.mark.parametrize("statements", UNSEEN.values(), ids=UNSEEN)
def test_the_limit_is_not_seen_before_the_next_seal_or_without_an_anchor(scene, taken_back, statements):
    """Stated so that nobody relies on more: what no seal covers yet and no anchor holds can be altered unseen."""
    with owning_the_database():
        for statement in statements:
            sql(statement.format(**scene.numbers))
    assert audit() == []


@pytest.mark.parametrize("statements", list(UNSEEN.values())[:2], ids=list(UNSEEN)[:2])
def test_the_same_shows_once_a_seal_covers_it(scene, taken_back, statements):
    assert seals.seal_history(by=Actor.desk()) > 0
    with owning_the_database():
        for statement in statements:
            sql(statement.format(**scene.numbers))
    (found,) = audit()
    assert f"it is not what ledger entry {scene.numbers['head'] + 1} sealed of rows" in found


def test_faults_of_every_kind_are_told_in_one_run_and_the_advice_once(scene, taken_back):
    n = scene.numbers
    act = Contact.history.get(history_id=n["historicalcontact_first"]).history_act
    made = LedgerEntry.objects.get(act=act, kind="imported").sequence
    with owning_the_database():
        for statement in (
            on_the_note("facts = 'x'"),
            "DELETE FROM unlocks_historicalcontact WHERE history_id = {historicalcontact_first}",
            "UPDATE unlocks_consent SET signer_role = 'Owner'",
            "UPDATE unlocks_contact SET phone = '1'",
        ):
            sql(statement.format(**n))
    with pytest.raises(CommandError) as caught:
        call_command("verify_audit")
    first = Contact.objects.earliest("pk")
    sent = ConsentLink.objects.get(sent_to=first)
    assert str(caught.value).split("\n") == [
        FORGED.format("fresh_note").format(**n),
        SEALED.format("Evidence", "consent", "was altered", "1").format(**n),
        SEALED.format("History", "historicalcontact", "lost 1 row", "1").format(**n),
        TOLD.format("Consent", "done_consent", "signer_role", "done_consented").format(**n) + " 5 more like it.",
        f"History in unlocks_historicalcontact: 1 row of the act of ledger entry {made} should be there, and 0 are.",
        f"Contact {n['changed_contact']}: its column phone differs from what ledger entry {n['contact_entry']} tells. "
        "1 more like it.",
        f"Consent link {sent} (id {sent.pk}): went to an address that its contact did not have on record then.",
        f"Contact {first} (id {first.pk}): contact: the newest history row tells something else. "
        f"{Contact.objects.count() - 1} more like it.",
        verify_audit.NEXT,
    ]
    assert caught.value.returncode == 1


def test_guards_that_are_gone_have_an_advice_of_their_own(scene, taken_back):
    connection.check_constraints()
    guards.remove()
    with pytest.raises(CommandError) as caught:
        call_command("verify_audit")
    found, advice = str(caught.value).split("\n")
    assert found == f"Guards are missing or altered in the database: {', '.join(guards.missing())}."
    assert advice == verify_audit.NEXT_FOR_GUARDS


@pytest.mark.sqlite
@pytest.mark.parametrize("user", ["999999", "x'31'"])
def test_a_batch_unlocked_by_nobody_who_exists_is_named(scene, taken_back, user):
    with owning_the_database():
        sql(f"UPDATE unlocks_batch SET unlocked_by_id = {user} WHERE id = {scene.numbers['fresh_batch']}")
    assert [found for found in audit() if "auth_user" in found] == [
        f"The row in table 'unlocks_batch' with primary key '{scene.numbers['fresh_batch']}' has an invalid foreign "
        f"key: unlocks_batch.unlocked_by_id contains a value '{999999 if user == '999999' else b'1'}' that does not "
        "have a corresponding value in auth_user.id."
    ]


@pytest.mark.sqlite
def test_a_key_prints_no_line_of_its_own(scene, taken_back):
    """A value that is no key can hold anything; tables of others say nothing about ours."""
    sql("CREATE TABLE stray (id integer PRIMARY KEY, of integer REFERENCES nowhere (id)) WITHOUT ROWID")
    with owning_the_database():
        sql(f"UPDATE unlocks_contact SET account_id = 'x\n\x1bNo fault.' WHERE id = {scene.numbers['contact']}")
    found = [sentence for sentence in audit() if sentence.startswith("The row in table ")]
    assert len(found) == 1
    assert "unlocks_contact.account_id contains a value 'xNo fault.' that" in found[0]


def test_an_evidence_file_that_is_gone_is_named(scene, taken_back, settings, tmp_path):
    storages = {name: dict(storage) for name, storage in settings.STORAGES.items()}
    storages["evidence"]["OPTIONS"] = {"location": str(tmp_path)}
    settings.STORAGES = storages
    assert audit() == [
        f"Evidence yes.eml of {scene.cases['staff'].consent} (SHA-256 {scene.numbers['mail']}): The file is missing."
    ]


@pytest.mark.sqlite
def test_what_cannot_even_be_read_is_told_and_the_rest_checked(scene, taken_back):
    with owning_the_database():
        sql(
            "UPDATE unlocks_historicalbatch SET history_date = '2026-99-99 00:00' WHERE history_id = "
            "(SELECT min(history_id) FROM unlocks_historicalbatch)"
        )
        sql("UPDATE unlocks_contact SET phone = '1' WHERE id = {contact}".format(**scene.numbers))
    broke_off, rows_broke_off, contact = audit()
    assert broke_off.startswith("The check of the seals broke off: ValueError: ")
    assert rows_broke_off.startswith("The check of what the ledger tells of broke off: ValueError: ")
    assert contact.endswith("contact: the newest history row tells something else.")


def test_with_another_key_nothing_fits_and_the_key_is_named(scene, settings):
    settings.LEDGER_KEY = "another key"
    queued = Outgoing.objects.filter(state="queued").order_by("queued_at", "pk")
    assert audit() == [
        f"None of the {scene.numbers['head']} ledger entries fits LEDGER_KEY: this is not the key that sealed them, "
        "or the whole ledger was rewritten.",
        UNLOCKED_BY_NOBODY.format(**scene.numbers),
        NO_STAFF_TOLD.format(**scene.numbers),
        f"Outgoing {queued[0].pk}: it is not what the desk queued. {len(queued) - 1} more like it.",
        NO_EMAIL_TOLD.format(**scene.numbers),
    ]


def test_before_migrate_nothing_is_checked_and_it_says_what_to_run_first(scene, taken_back):
    sql("DELETE FROM django_migrations WHERE app = 'unlocks' AND name = '0002_first_terms'")
    with pytest.raises(CommandError, match="run migrate first") as caught:
        call_command("verify_audit")
    assert caught.value.returncode == 2


@pytest.mark.parametrize("text", [None, "no anchor"], ids=["no file", "another file"])
def test_what_could_not_be_checked_exits_with_2(scene, tmp_path, text):
    if text:
        (tmp_path / "file").write_text(text)
    with pytest.raises(CommandError) as caught:
        call_command("verify_audit", anchor=[tmp_path / "file"])
    assert caught.value.returncode == 2
