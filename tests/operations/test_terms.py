import hashlib

import pytest
import time_machine
from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied
from django.utils import timezone

from tests.attacks import difference, snapshot
from tests.factories import PIN, acting, case_awaiting, customer, make_account, make_user
from tests.operations import only_for, recorded, refused
from tests.test_concurrency import at_once, holds
from unlocks import operations
from unlocks.models import ConsentTerms, LedgerEntry
from unlocks.rules import Refusal
from unlocks.texts import first_terms
from unlocks.texts.shown import shown_text, terms_in_force

pytestmark = pytest.mark.django_db

TITLE, TEXT = "Other terms", "{vendor} has no part in what you do in {accounting_software}."


@pytest.fixture
def second_manager(db):
    return make_user("second-manager", group="Manager")


def sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()


def drafted(user, title=TITLE, text=TEXT):
    draft = operations.draft_terms(by=acting(user))
    return operations.edit_terms(draft, title=title, text=text, by=acting(user))


def published(drafter, publisher, **words):
    draft = drafted(drafter, **words)
    return operations.publish_terms(draft, seen=operations.terms_seen(draft), by=acting(publisher))


def rows():
    fields = "version", "title", "text", "drafted_by__username", "published_by__username"
    return list(ConsentTerms.objects.order_by("version").values_list(*fields))


FIRST = (1, first_terms.TITLE, first_terms.TEXT, None, None)


# Drafting


def test_a_draft_begins_with_the_words_in_force(manager):
    with time_machine.travel(timezone.now(), tick=False):
        draft = operations.draft_terms(by=acting(manager))
        assert (draft.drafted_at, draft.published_at) == (timezone.now(), None)
    assert rows() == [FIRST, (2, first_terms.TITLE, first_terms.TEXT, "manager", None)]
    assert recorded() == [
        ("terms_drafted", {"version": 2, "title": first_terms.TITLE, "sha256": sha256(first_terms.TEXT)})
    ]
    entry = LedgerEntry.objects.get(kind="terms_drafted")
    assert (entry.user, entry.unlock_request, entry.account, entry.at) == (manager, None, None, draft.drafted_at)


def test_the_next_draft_begins_with_the_newest_version(manager, second_manager):
    published(manager, second_manager)
    operations.draft_terms(by=acting(manager))
    assert rows()[1:] == [(2, TITLE, TEXT, "manager", "second-manager"), (3, TITLE, TEXT, "manager", None)]


def test_there_is_one_draft_at_a_time(manager, second_manager):
    operations.draft_terms(by=acting(manager))
    says = "manager is already drafting version 2. Change that draft, or have it published first."
    for by in (manager, second_manager):
        with refused(Refusal.DRAFT_THERE, says=says):
            operations.draft_terms(by=acting(by))


def test_only_managers_draft(db):
    only_for(["Manager"], lambda by: operations.draft_terms(by=by))
    assert [row[0] for row in rows()] == [1, 2]


# Changing a draft


def test_whoever_changed_a_draft_last_drafted_it(manager, second_manager):
    draft = drafted(manager)
    with time_machine.travel(timezone.now(), tick=False):
        operations.edit_terms(
            draft, title=TITLE, text="Less.", seen=operations.terms_seen(draft), by=acting(second_manager)
        )
        draft.refresh_from_db()
        assert draft.drafted_at == timezone.now()
    assert rows() == [FIRST, (2, TITLE, "Less.", "second-manager", None)]
    assert recorded()[1:] == [
        ("terms_drafted", {"version": 2, "title": TITLE, "sha256": sha256(TEXT)}),
        ("terms_drafted", {"version": 2, "title": TITLE, "sha256": sha256("Less.")}),
    ]


@pytest.mark.parametrize("seen", [None, "as it is", "long ago"])
def test_saving_without_a_change_changes_nothing(manager, second_manager, seen):
    draft = drafted(manager)
    seen, before = operations.terms_seen(draft) if seen == "as it is" else seen, snapshot()
    operations.edit_terms(draft, title=TITLE, text=TEXT, seen=seen, by=acting(second_manager))
    assert difference(before, snapshot()) == []


def test_the_second_of_two_writers_is_told(manager, second_manager):
    draft = drafted(manager)
    seen = operations.terms_seen(draft)
    with time_machine.travel("2031-01-27 15:00:01Z", tick=False):
        operations.edit_terms(draft, title=TITLE, text="First.", seen=seen, by=acting(second_manager))
        says = "second-manager has changed this draft (Jan 27, 2031, 10:00:01 AM EST). Read the new draft first."
        with refused(Refusal.TERMS_CHANGED, says=says):
            operations.edit_terms(draft, title=TITLE, text="Second.", seen=seen, by=acting(manager))
        with refused(Refusal.TERMS_CHANGED):
            operations.edit_terms(draft, title=TITLE, text="Second.", seen="", by=acting(manager))


def test_a_changed_title_counts_as_a_change(manager):
    draft = drafted(manager)
    seen = operations.terms_seen(draft)
    operations.edit_terms(draft, title="Another", text=TEXT, seen=seen, by=acting(manager))
    with refused(Refusal.TERMS_CHANGED):
        operations.edit_terms(draft, title=TITLE, text="Second.", seen=seen, by=acting(manager))


def test_published_terms_are_not_edited(manager, superuser):
    says = "Version 1 is published, and published terms never change. Start a new version instead."
    for by in (manager, superuser):
        with refused(Refusal.TERMS_FROZEN, says=says):
            operations.edit_terms(ConsentTerms.objects.get(), title=TITLE, text=TEXT, by=acting(by))


def test_only_managers_edit(manager):
    draft = drafted(manager)
    only_for(["Manager"], lambda by: operations.edit_terms(draft, title=TITLE, text=by.name, by=by))
    assert rows()[1] == (2, TITLE, "one-Manager", "one-Manager", None)


# Publishing


def test_another_person_publishes(manager, second_manager):
    draft = drafted(manager)
    assert operations.obstacle_to_publishing(draft, second_manager) == ""
    with time_machine.travel(timezone.now(), tick=False):
        operations.publish_terms(draft, seen=operations.terms_seen(draft), by=acting(second_manager))
        assert ConsentTerms.objects.get(version=2).published_at == timezone.now()
    assert rows() == [FIRST, (2, TITLE, TEXT, "manager", "second-manager")]
    told_of = {"version": 2, "title": TITLE, "sha256": sha256(TEXT), "drafted_by": manager.pk}
    assert recorded()[2:] == [("terms_published", told_of | {"drafted_at": draft.drafted_at.isoformat()})]
    assert terms_in_force() == draft


def test_publishing_counts_once(manager, second_manager):
    draft = published(manager, second_manager)
    says = "Version 2 is published, and published terms never change. Start a new version instead."
    with refused(Refusal.TERMS_FROZEN, says=says):
        operations.publish_terms(draft, seen=operations.terms_seen(draft), by=acting(second_manager))


def test_only_managers_publish(manager):
    draft = drafted(manager)
    only_for(["Manager"], lambda by: operations.publish_terms(draft, seen=operations.terms_seen(draft), by=by))
    assert rows()[1] == (2, TITLE, TEXT, "manager", "one-Manager")


def test_obstacle_to_publishing_without_the_permission(manager, agent, auditor):
    draft = drafted(manager)
    for user in (agent, auditor):
        assert operations.obstacle_to_publishing(draft, user) == "You may not publish terms: a manager does."


def test_nobody_publishes_what_they_did_not_read(manager, second_manager):
    draft = drafted(manager)
    seen = operations.terms_seen(draft)
    operations.edit_terms(draft, title="Another", text=TEXT, by=acting(manager))
    for wrong in (seen, "", sha256(TEXT)):
        with refused(Refusal.TERMS_CHANGED):
            operations.publish_terms(draft, seen=wrong, by=acting(second_manager))


def test_whoever_wrote_at_it_does_not_publish(manager, second_manager):
    draft = drafted(manager)
    says = "You worked on this version, so another person has to publish it: second-manager."
    with refused(Refusal.OWN_DRAFT, says=says):
        operations.publish_terms(draft, seen=operations.terms_seen(draft), by=acting(manager))
    assert operations.obstacle_to_publishing(draft, manager) == says
    # Saved by another without a change, it is still whose it was.
    operations.edit_terms(draft, title=TITLE, text=TEXT, by=acting(second_manager))
    assert operations.obstacle_to_publishing(draft, manager) == says
    make_user("third-manager", group="Manager")
    # A word of another takes the rest over from nobody.
    draft = operations.edit_terms(draft, title=TITLE, text=f"{TEXT} ", by=acting(second_manager))
    says = says.replace("second-manager", "third-manager")
    assert operations.obstacle_to_publishing(draft, manager) == says
    assert operations.obstacle_to_publishing(draft, second_manager) == says


def test_where_everybody_wrote_at_it_anybody_publishes(manager, second_manager):
    draft = drafted(manager)
    draft = operations.edit_terms(draft, title=TITLE, text="Other.", by=acting(second_manager))
    assert operations.obstacle_to_publishing(draft, manager) == ""


def test_a_superuser_passes_no_rule_and_counts_as_another(manager, superuser):
    draft = drafted(superuser)
    with refused(Refusal.OWN_DRAFT, says="You worked on this version, so another person has to publish it: manager."):
        operations.publish_terms(draft, seen=operations.terms_seen(draft), by=acting(superuser))
    assert operations.obstacle_to_publishing(draft, manager) == ""


def test_where_nobody_else_could_the_drafter_publishes(manager, agent, auditor):
    make_user("left", group="Manager", is_active=False)
    make_user("left-above", is_superuser=True, is_active=False)
    get_user_model().objects.create_user("no-staff", is_superuser=True, is_staff=False)
    published(manager, manager)
    assert rows()[1] == (2, TITLE, TEXT, "manager", "manager")


def test_terms_that_say_the_same_are_not_published(manager, second_manager):
    draft = operations.draft_terms(by=acting(manager))
    says = "It says the same as version 1, which is in force. Change it first."
    with refused(Refusal.TERMS_SAME, says=says):
        operations.publish_terms(draft, seen=operations.terms_seen(draft), by=acting(second_manager))
    draft = operations.edit_terms(draft, title="A new title is a change", text=first_terms.TEXT, by=acting(manager))
    operations.publish_terms(draft, seen=operations.terms_seen(draft), by=acting(second_manager))


def test_terms_with_a_broken_placeholder_are_not_published(manager, second_manager):
    draft = drafted(manager, text="{vendor} and {customer}")
    says = "{customer} is not a placeholder. Use braces only for {vendor} and {accounting_software}."
    with refused(Refusal.TERMS_FLAWED, says=says):
        operations.publish_terms(draft, seen=operations.terms_seen(draft), by=acting(second_manager))


def test_customers_publish_nothing(manager):
    draft = drafted(manager)
    by = customer(make_account().contacts.get())
    for verb in (
        lambda: operations.draft_terms(by=by),
        lambda: operations.edit_terms(draft, title=TITLE, text="", by=by),
        lambda: operations.publish_terms(draft, seen=operations.terms_seen(draft), by=by),
    ):
        with pytest.raises(PermissionDenied):
            verb()
    assert rows()[1] == (2, TITLE, TEXT, "manager", None)


# What customers agree to


def agree(case):
    link, by = case.link, customer(case.admin)
    operations.open_consent_link(link, by=by)
    operations.verify_customer_pin(link, pin=PIN, by=by)
    shown = shown_text(link)
    return operations.give_consent(link, name="Ann Admin", role="Controller", shown=shown, by=by)[0]


def test_an_open_link_keeps_its_version_and_the_next_has_the_new_one(agent, manager, second_manager):
    before = case_awaiting(agent)
    published(manager, second_manager)
    after = case_awaiting(agent, account=make_account(accounting_software="sage_intacct"))

    first, second = agree(before), agree(after)
    assert (first.terms.version, second.terms.version) == (1, 2)
    lines = first.text.splitlines()
    assert lines[lines.index("Unlocking bypassed batches (version 1)") + 1] == first_terms.TEXT
    lines = second.text.splitlines()
    assert lines[lines.index("Other terms (version 2)") + 1] == (
        "ServiceTitan has no part in what you do in Sage Intacct."
    )
    assert [facts["terms"] for _, facts in recorded(kind="consented")] == [1, 2]


def test_a_link_sent_again_has_the_new_version(agent, manager, second_manager):
    case = case_awaiting(agent)
    published(manager, second_manager)
    operations.send_consent_link(case.unlock_request, contact=case.admin, by=acting(agent))
    assert list(case.unlock_request.links.order_by("pk").values_list("terms__version", flat=True)) == [1, 2]


def test_a_draft_is_nobodys_terms(agent, manager):
    drafted(manager)
    assert case_awaiting(agent).link.terms.version == 1


# Two at once


@pytest.mark.django_db(transaction=True)
def test_two_start_a_version(manager, second_manager):
    users = [manager, second_manager] * 2
    came = at_once(*[lambda user=user: operations.draft_terms(by=acting(user)) for user in users])
    (draft,) = [one for one in came if isinstance(one, ConsentTerms)]
    refusals = [one for one in came if one is not draft]
    says = f"{draft.drafted_by} is already drafting version 2. Change that draft, or have it published first."
    assert [(type(one), str(one)) for one in refusals] == [(operations.Refused, says)] * 3
    assert ConsentTerms.objects.count() == 2
    assert [kind for kind, _ in recorded()] == ["terms_drafted"]
    holds()


@pytest.mark.django_db(transaction=True)
def test_two_change_a_draft(manager, second_manager):
    draft = drafted(manager)
    seen = operations.terms_seen(draft)
    came = at_once(
        *[
            lambda user=user: operations.edit_terms(draft, title=TITLE, text=f"By {user}", seen=seen, by=acting(user))
            for user in (manager, second_manager)
        ]
    )
    (saved,) = [one for one in came if isinstance(one, ConsentTerms)]
    (late,) = [one for one in came if one is not saved]
    assert late.code == Refusal.TERMS_CHANGED, late
    draft.refresh_from_db()
    assert (draft.text, draft.drafted_by) == (f"By {saved.drafted_by}", saved.drafted_by)
    holds()


@pytest.mark.django_db(transaction=True)
def test_two_publish_or_one_changes_and_one_publishes(manager, second_manager):
    boss = make_user("boss", group="Manager")
    draft = drafted(manager)
    seen = operations.terms_seen(draft)
    came = at_once(
        lambda: operations.publish_terms(draft, seen=seen, by=acting(second_manager)),
        lambda: operations.publish_terms(draft, seen=seen, by=acting(boss)),
        lambda: operations.edit_terms(draft, title=TITLE, text="Quickly.", seen=seen, by=acting(manager)),
    )
    done = [one for one in came if isinstance(one, ConsentTerms)]
    assert len(done) == 1, came
    assert {one.code for one in came if one is not done[0]} <= {Refusal.TERMS_FROZEN, Refusal.TERMS_CHANGED}
    draft.refresh_from_db()
    assert (draft.text, bool(draft.published_at)) in {(TEXT, True), ("Quickly.", False)}
    holds()
