"""One rule, asked of one batch or of all, by the page, the list and the verb: always the same answer."""

from dataclasses import replace
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tests import factories
from tests.attacks import instruction, make_scene, rows, write
from tests.factories import Case, acting, agree, confirm, enter_contact, make_account, make_batches
from unlocks import history, operations
from unlocks.actors import Actor
from unlocks.database import guards
from unlocks.models import (
    Account,
    Batch,
    Consent,
    ConsentLink,
    ConsentWithdrawal,
    Contact,
    Instruction,
    LedgerEntry,
    RequestedBatch,
)
from unlocks.rules import (
    Refusal,
    eligible,
    entered_by,
    has_possible_duplicates,
    judged,
    judged_again,
    judged_granted,
    judged_to_cancel,
    judged_to_relock,
    sentence,
    who_entered,
)

pytestmark = pytest.mark.django_db

# What the scene's cases come to: (to unlock now, to join a new request).
VERDICTS = {
    "ready": ("", Refusal.IN_ANOTHER_REQUEST),
    "neighbour": ("", Refusal.IN_ANOTHER_REQUEST),
    "awaiting": (Refusal.AWAITING_CUSTOMER, Refusal.IN_ANOTHER_REQUEST),
    "unlocked": (Refusal.ALREADY_UNLOCKED, Refusal.ALREADY_UNLOCKED),
    "used": (Refusal.NOT_REQUESTED, ""),
    "reasked": ("", Refusal.IN_ANOTHER_REQUEST),
    "declined": (Refusal.NOT_REQUESTED, ""),
    "withdrawn": (Refusal.NOT_REQUESTED, ""),
    "expired": (Refusal.CONSENT_EXPIRED, Refusal.IN_ANOTHER_REQUEST),
    "period": (Refusal.PERIOD_CLOSED, Refusal.PERIOD_CLOSED),
    "differs": (Refusal.STATUS_DIFFERS, Refusal.STATUS_DIFFERS),
    "changed": (Refusal.CHANGED, Refusal.IN_ANOTHER_REQUEST),
    "inactive": (Refusal.ACCOUNT_INACTIVE, Refusal.ACCOUNT_INACTIVE),
    "by_phone": (Refusal.OWN_RECORDING, Refusal.IN_ANOTHER_REQUEST),
    "bare": (Refusal.NOT_REQUESTED, ""),
    "empty": (Refusal.NOT_REQUESTED, ""),
    "refused": (Refusal.NOT_REQUESTED, ""),
    "sent": (Refusal.UNLOCKING, Refusal.UNLOCKING),
    "unlocking": (Refusal.UNLOCKING, Refusal.UNLOCKING),
    "relocking": (Refusal.RELOCKING, Refusal.RELOCKING),
}
# What follows an unlock: (to be handed over, to cancel, to relock, to mark as re-exported).
AFTERWARDS = {
    "ready": (Refusal.NOT_UNLOCKING, Refusal.NOT_UNLOCKING, Refusal.NOT_UNLOCKED, Refusal.NOT_UNLOCKED),
    "used": (Refusal.NOT_UNLOCKING, Refusal.NOT_UNLOCKING, Refusal.NOT_UNLOCKED, Refusal.NOT_UNLOCKED),
    "refused": (Refusal.NOT_UNLOCKING, Refusal.NOT_UNLOCKING, Refusal.NOT_UNLOCKED, Refusal.NOT_UNLOCKED),
    "unlocking": ("", "", Refusal.UNLOCKING, ""),
    "sent": ("", Refusal.HANDED_OVER, Refusal.UNLOCKING, ""),
    "unlocked": (Refusal.NOT_UNLOCKING, Refusal.NOT_UNLOCKING, "", ""),
    "relocking": (Refusal.NOT_UNLOCKING, Refusal.NOT_UNLOCKING, Refusal.RELOCKING, ""),
}


@pytest.fixture(scope="module")
def scene(shared):
    return make_scene()


def first_of(scene, name):
    aim = scene.cases[name]
    return aim.batch if isinstance(aim, Case) else aim


def test_each_case_of_the_scene(scene):
    asked = {name: first_of(scene, name).pk for name in VERDICTS}
    every = Batch.objects.all()
    unlock = dict(judged(every, by=scene.agent).values_list("pk", "refusal"))
    join = dict(eligible(every).values_list("pk", "obstacle"))
    assert {name: (unlock[pk], join[pk]) for name, pk in asked.items()} == VERDICTS


def test_one_by_one_and_all_at_once_are_judged_alike(scene):
    every = Batch.objects.order_by("pk")
    at_once = list(judged(every, by=scene.agent).values_list("pk", "refusal"))
    one_by_one = [judged(every.filter(pk=batch.pk), by=scene.agent).get() for batch in every]
    assert at_once == [(batch.pk, batch.refusal) for batch in one_by_one]


def test_preview_and_act_say_the_same(scene):
    preview = dict(judged(Batch.objects.all(), by=scene.agent).values_list("pk", "refusal"))
    act = factories.unlock(Batch.objects.all(), by=acting(scene.agent))
    assert dict(act.verdicts.values_list("batch", "refusal")) == preview


def test_another_person_may_unlock_what_one_took_down(scene):
    own = Batch.objects.filter(pk=scene.by_phone.batch.pk)
    assert judged(own, by=scene.agent).get().refusal == Refusal.OWN_RECORDING
    assert judged(own, by=scene.second).get().refusal == ""


def test_who_could_have_agreed_may_not_unlock_that_request_but_others(scene, settings):
    settings.SHOW_CONSENT_LINK = True
    other = scene.awaiting.unlock_request
    operations.send_consent_link(other, contact=scene.awaiting.admin, by=acting(scene.second))
    with pytest.raises(operations.Refused):
        operations.verify_pin(other, pin="000000", by=acting(scene.manager))
    agree(scene.awaiting)
    for by in (scene.second, scene.manager):
        batches = (scene.awaiting.batch, scene.ready.batch)
        assert [refusals(batch, by=by) for batch in batches] == [[Refusal.OWN_CUSTOMER], [""]]


def refusals(batch, *, by, **at):
    return list(judged(Batch.objects.filter(pk=batch.pk), by=by, **at).values_list("refusal", flat=True))


def test_a_batch_that_joined_after_the_consent_is_not_covered(scene):
    write(RequestedBatch(unlock_request=scene.ready.unlock_request, batch=scene.bare))
    assert refusals(scene.bare, by=scene.agent) == [Refusal.NOT_COVERED]


def test_a_consent_that_was_withdrawn_past_the_verb_is_none(scene):
    write(ConsentWithdrawal(consent=scene.ready.consent, at=timezone.now(), actor="raw", why="Raw"))
    assert refusals(scene.ready.batch, by=scene.agent) == [Refusal.WITHDRAWN]


def test_a_consent_counts_up_to_its_end(scene):
    end = scene.ready.consent.valid_until
    moments = (end - timedelta(microseconds=1), end)
    judgments = [refusals(scene.ready.batch, by=scene.agent, at=at) for at in moments]
    assert judgments == [[""], [Refusal.CONSENT_EXPIRED]]


def test_what_may_follow_an_unlock(scene):
    now, by = timezone.now(), scene.manager
    every = Batch.objects.all()
    judgments = [
        dict(judged.values_list("pk", "refusal"))
        for judged in (
            judged_again(every, by=None, at=now),
            judged_to_cancel(every, by=by),
            judged_to_relock(every, by=by),
            judged_granted(every, by=by),
        )
    ]
    found = {name: tuple(judged[first_of(scene, name).pk] for judged in judgments) for name in AFTERWARDS}
    assert found == AFTERWARDS


@pytest.mark.parametrize("name", ["sent", "relocking"])
def test_the_product_is_asked_to_lock_once_it_is_given_up(scene, name):
    case = scene.cases[name]
    newest = Instruction.objects.filter(batch=case.batch).latest("pk")
    rows(Instruction, newest).filter(state="queued").update(state="sent", sent_at=timezone.now())
    rows(Instruction, newest).update(state="given_up")
    of_case = judged_to_relock(case.rows, by=scene.manager).order_by("pk")
    still = Refusal.UNLOCKING if name == "sent" else Refusal.RELOCKING
    assert list(of_case.values_list("refusal", flat=True)) == ["", still]


def again(case, at=None, by=None):
    """Return why the instruction to unlock the first batch of a case may not be handed over."""
    return judged_again(rows(Batch, case.batch), by=by, at=at or timezone.now()).get().refusal


def test_an_instruction_waits_for_no_longer_than_its_consent(scene):
    end = scene.unlocking.consent.valid_until
    judgments = [again(scene.unlocking, at=at) for at in (end - timedelta(microseconds=1), end)]
    assert judgments == ["", Refusal.CONSENT_EXPIRED]


def _withdrawn(scene, case):
    write(ConsentWithdrawal(consent=case.consent, at=timezone.now(), actor="raw", why="Raw"))


def _changed(scene, case):
    case.rows.update(fingerprint="")  # as the database does when the content changes


def _period_closed(scene, case):
    case.rows.update(period_closed=True)


def _exported_in_the_product(scene, case):
    case.rows.update(differs="exported")


def _imported_the_address(scene, case):
    factories.import_contact(Contact.objects.get(pk=case.admin.pk), by=scene.agent, email="imported@customer.example")


def _account_left(scene, case):
    rows(Account, case.account).update(active=False)


def _recorded(scene, case):
    rows(Consent, case.consent).update(how="phone", link=None, opening=None, recorded_by=scene.agent)


def _saw_the_link(scene, case):
    rows(ConsentLink, case.consent.link).update(shown_to=scene.agent)


def _typed_a_pin(scene, case):
    entries = LedgerEntry.objects.filter(kind="pin_verified", unlock_request=case.unlock_request)
    entries.update(kind="pin_typed", user=scene.agent)


def _typed_the_address(scene, case):
    case.admin.history.update(entered_by=scene.agent)


@pytest.mark.parametrize(
    ("spoil", "refusal"),
    [
        (_withdrawn, Refusal.WITHDRAWN),
        (_changed, Refusal.CHANGED),
        (_period_closed, Refusal.PERIOD_CLOSED),
        (_exported_in_the_product, Refusal.STATUS_DIFFERS),
        (_imported_the_address, Refusal.OWN_CUSTOMERS_ADDRESS),
        (_account_left, Refusal.ACCOUNT_INACTIVE),
        (_recorded, Refusal.OWN_RECORDING),
        (_saw_the_link, Refusal.OWN_CUSTOMER),
        (_typed_a_pin, Refusal.OWN_CUSTOMER),
        (_typed_the_address, Refusal.OWN_CUSTOMERS_ADDRESS),
    ],
)
def test_an_instruction_is_judged_again(scene, spoil, refusal):
    """The agent instructed it, under a consent that held then."""
    connection.check_constraints()  # PostgreSQL drops no trigger of a table with checks still to come
    with guards.lifted():
        spoil(scene, scene.unlocking)
        connection.check_constraints()
    assert again(scene.unlocking) == again(scene.unlocking, by=scene.manager) == refusal


def test_whoever_obtained_a_consent_does_not_carry_out_what_it_allows(scene):
    judgments = [again(scene.own, by=by) for by in (None, scene.second, scene.agent)]
    assert judgments == ["", "", Refusal.OWN_RECORDING]
    assert instruction(scene.own).state == Instruction.State.QUEUED


@pytest.mark.parametrize("n", [1, 30])
def test_judging_is_one_query(scene, n):
    account = make_account()
    make_batches(account=account, n=n, items=0)
    with CaptureQueriesContext(connection) as captured:
        batches = list(judged(Batch.objects.filter(account=account), by=scene.agent))
        assert [sentence(batch.refusal, batch) for batch in batches] == [str(Refusal.NOT_REQUESTED.label)] * n
    assert len(captured) == 1


@pytest.mark.sqlite  # the planner of PostgreSQL reads small tables whole
def test_who_typed_a_pin_is_found_by_the_index_of_those_entries(scene):
    plan = judged(Batch.objects.all(), by=scene.agent).explain()
    assert "INDEX unlocks_entry_pin_typed (unlock_request_id=? AND user_id=?)" in plan


def test_every_refusal_of_a_batch_has_its_sentence(scene):
    for batch in judged(Batch.objects.all(), by=scene.agent):
        said = sentence(batch.refusal, batch)
        assert (said == "") == (batch.refusal == "")
        assert "{" not in said
        assert "None" not in said
    batch = judged(scene.awaiting.rows, by=scene.agent).first()
    assert sentence(batch.refusal, batch) == f"Waiting for the customer's consent ({scene.awaiting.unlock_request})."


def test_an_export_id_is_a_red_flag_and_so_is_what_an_integration_took(scene):
    flagged = Batch.objects.annotate(flag=has_possible_duplicates()).filter(flag=True).order_by("pk")
    assert not flagged.exists()
    scene.bare.items.update(export_id="QB-1")
    assert list(flagged) == [scene.bare]
    rows(Batch, scene.empty).update(reached_by="marked_by_api")
    assert list(flagged.all()) == [scene.bare, scene.empty]
    scene.bare.items.update(left_at=timezone.now())
    assert list(flagged.all()) == [scene.empty]


def test_what_the_product_says_of_an_unlock_on_its_way_is_no_difference(scene):
    rows(Batch, scene.unlocking.batch).update(differs="bypassed")
    assert again(scene.unlocking) == ""


def test_a_difference_is_told_with_what_to_do(scene):
    batch = judged(scene.differs.rows, by=scene.agent).first()
    assert sentence(batch.refusal, batch) == (
        "Bypassed here, but exported in the product, without an unlock. Find out there what happened; once the product "
        "says bypassed again, it can be unlocked."
    )


# Who entered a contact


@pytest.fixture
def contact(scene):
    return enter_contact(account=scene.home, by=scene.manager, is_admin=False)


def changed(contact, by, **fields):
    for name, value in fields.items():
        setattr(contact, name, value)
    operations.save_record(contact, by=acting(by))


def entered(contact, scene):
    return [entered_by(user).filter(id=contact.pk).exists() for user in (scene.manager, scene.superuser, scene.agent)]


def test_whoever_made_a_contact_entered_it(contact, scene):
    assert entered(contact, scene) == [True, False, False]
    assert not entered_by(scene.manager).filter(id=scene.ready.admin.pk).exists()


@pytest.mark.parametrize("fields", [{"email": "other@customer.example"}, {"is_admin": True}])
def test_whoever_changed_the_address_or_made_an_admin_entered_it_and_so_did_those_before(contact, scene, fields):
    changed(contact, scene.superuser, **fields)
    assert entered(contact, scene) == [True, True, False]


def test_whoever_changed_something_else_or_confirmed_it_did_not_enter_it(contact, scene):
    changed(contact, scene.superuser, name="Anna", phone="555-0100")
    changed(contact, scene.manager, is_admin=True)
    confirm(contact, scene.agent)
    changed(contact, scene.superuser, is_admin=False)
    assert entered(contact, scene) == [True, False, False]


def test_whoever_imported_a_contact_entered_it_until_a_second_person_confirmed_it(scene):
    admin = factories.import_contact(account=scene.home, by=scene.manager)
    assert entered(admin, scene) == [True, False, False]
    admin = confirm(admin, scene.agent)
    assert entered(admin, scene) == [False, False, False]
    changed(admin, scene.superuser, name="Anna", phone="555-0100")
    assert entered(admin, scene) == [False, False, False]

    admin = factories.import_contact(admin, by=scene.manager, email="another@customer.example")
    confirm(factories.import_contact(account=scene.home, by=scene.manager), scene.agent)
    assert entered(admin, scene) == [True, False, False]
    admin = confirm(admin, scene.agent)
    assert entered(admin, scene) == [False, False, False]

    changed(admin, scene.manager, email="typed@customer.example")
    confirm(admin, scene.agent)
    assert entered(admin, scene) == [True, False, False]


def test_what_someone_imported_is_theirs_no_longer_once_another_address_is_confirmed(scene):
    admin = factories.import_contact(account=scene.home, by=scene.manager)
    changed(admin, scene.superuser, email="typed@customer.example")
    assert entered(admin, scene) == [True, True, False]
    confirm(admin, scene.agent)
    assert entered(admin, scene) == [False, True, False]


def test_whoever_entered_the_customers_address_does_not_unlock(scene):
    admin = scene.ready.admin
    changed(admin, scene.manager, email="other@customer.example")
    # Whoever changes it later: a product's import, too.
    history.update(
        Contact.objects.filter(pk=admin.pk), by=Actor.desk(), email="right@customer.example", entered_by=None
    )
    assert refusals(scene.ready.batch, by=scene.manager) == [Refusal.OWN_CUSTOMERS_ADDRESS]
    assert refusals(scene.ready.batch, by=scene.agent) == [""]
    assert refusals(scene.neighbour.batch, by=scene.manager) == [""]


def test_what_a_system_put_is_kept_from_whoever_had_made_a_token_that_it_could_put_it_by(scene):
    makers = [factories.make_user(f"maker-{n}", is_superuser=True) for n in range(3)]
    admin = factories.put_contact(account=scene.home, token=scene.feed)
    factories.make_token("feed", "contacts", "events", by=makers[0])
    factories.make_token("feed", "records", by=makers[1])
    factories.make_token("other-feed", "contacts", by=makers[2])
    operations.revoke_api_token(scene.feed, by=acting(scene.superuser))
    assert [*who_entered(admin)] == [scene.superuser]

    factories.put_contact(admin, token=scene.feed, email="another@customer.example")
    changed(admin, scene.manager, email="typed@customer.example")
    confirm(admin, scene.agent)
    assert {*who_entered(admin)} == {scene.superuser, makers[0], scene.manager}
    assert [*who_entered(scene.ready.admin)] == []


def test_a_system_that_changes_the_phone_of_what_staff_entered_did_not_put_it(scene, contact):
    contact.phone = "555-0100"
    factories.imported(contact, by=Actor.system(scene.feed))
    assert [*who_entered(contact)] == [scene.manager]


def test_whoever_made_the_token_that_put_the_customers_address_does_not_unlock(scene):
    admin = Contact.objects.get(pk=scene.ready.admin.pk)
    factories.put_contact(admin, token=scene.feed, email="superuser@vendor.example")
    other = factories.make_token("other-portal", "unlock", by=factories.make_user("maker", is_superuser=True))[0]
    by = (scene.superuser, scene.portal.system, other.system, scene.agent)
    assert [refusals(scene.ready.batch, by=user) for user in by] == [
        [Refusal.OWN_CUSTOMERS_ADDRESS],
        [Refusal.TOKENS_MAKER],
        [""],
        [""],
    ]
    assert [refusals(scene.neighbour.batch, by=user) for user in by] == [[""]] * 4


@pytest.mark.parametrize("spoil", [_recorded, _saw_the_link, _typed_a_pin, _typed_the_address])
def test_no_system_unlocks_what_whoever_made_its_token_obtained(scene, spoil):
    token, _ = factories.make_token("portal-2", "unlock", by=scene.superuser)
    other = factories.make_token("other-portal", "unlock", by=factories.make_user("maker", is_superuser=True))[0]
    connection.check_constraints()
    with guards.lifted():
        spoil(replace(scene, agent=scene.superuser), scene.ready)
        connection.check_constraints()
    operations.revoke_api_token(token, by=acting(scene.superuser))
    assert refusals(scene.ready.batch, by=token.system) == [Refusal.TOKENS_MAKER]
    assert refusals(scene.ready.batch, by=other.system) == [""]
    assert refusals(scene.neighbour.batch, by=token.system) == [""]
