"""Opening, advising and sending the link in one: whole, or not at all."""

import uuid

import pytest

from tests.attacks import difference, snapshot
from tests.factories import acting, enter_contact, make_account, make_batches, make_contact
from tests.operations import kinds, only_for, refused
from unlocks import operations
from unlocks.models import Batch, SearchWord, UnlockRequest
from unlocks.rules import Refusal

pytestmark = pytest.mark.django_db


def call(batches, by, **fields):
    account = batches[0].account
    return operations.open_and_send(
        **{
            "account": account,
            "requester": account.contacts.first(),
            "channel": "phone",
            "bypass_reason": "other",
            "bypass_other": "The bookkeeper was told to.",
            "reason": "They want to export it.",
            "batches": Batch.objects.filter(pk__in=[batch.pk for batch in batches]),
            "advice": "wants_export",
            "by": by,
        }
        | fields
    )


def test_the_link_is_on_its_way_when_the_case_is_open(agent):
    batches, key = make_batches(n=2), uuid.uuid4()
    opened, link = call(batches, acting(agent), key=key)
    opened.refresh_from_db()
    assert (opened.status, opened.advice, opened.why_bypassed, opened.lines.count(), link.sent_to) == (
        "awaiting_consent",
        "wants_export",
        "Other: The bookkeeper was told to.",
        2,
        opened.requester,
    )
    assert kinds(opened) == ["opened", "advised", "link_sent"]
    before = snapshot()
    assert call(batches, acting(agent), key=key) == (opened, link)
    assert difference(before, snapshot()) == []


def test_it_is_opened_without_the_link_or_closed_at_once(agent):
    opened, link = call(make_batches(), acting(agent), advice="", send=False)
    closed, none = call(make_batches(), acting(agent), advice="manual_entry", send=False)
    assert (opened.status, kinds(opened), link, none) == ("open", ["opened"], None, None)
    assert (closed.status, closed.resolution) == ("closed", "entered_manually")


def test_nothing_is_opened_when_one_of_the_three_is_refused(manager):
    without_pin, own, batches = make_account(pin=""), make_account(), make_batches()
    enter_contact(account=own, by=manager)
    kept = make_batches(account=without_pin), make_batches(account=own)
    for chosen, advice, code in [
        (kept[0], "wants_export", Refusal.NO_PIN),
        (kept[1], "wants_export", Refusal.OWN_CONTACT),
        (batches, "", Refusal.ADVICE_FIRST),
        (batches, "manual_entry", Refusal.CLOSED),
    ]:
        with refused(code):
            call(chosen, acting(manager), advice=advice)


def test_only_for_those_who_open_requests(db):
    batches = make_batches()
    only_for(["Agent", "Manager"], lambda by: call(batches, by))
    assert UnlockRequest.objects.count() == 1


def test_an_account_is_found_by_what_is_on_file_now(agent, manager):
    account = make_account(number="A-4711", name="Müller & Sons", admin=False)
    contact = make_contact(account=account, name="Dana O'Hara", email="d.ohara@north.example", phone="+1 (555) 010-22")
    own = {"a-4711", "a", "4711", "muller", "sons"}
    theirs = {"dana", "o'hara", "o", "hara", "d.ohara@north.example", "d", "ohara", "north", "example", "155501022"}
    assert set(account.words.values_list("word", flat=True)) == own | theirs
    contact.name, contact.email, contact.phone = "Eve", "eve@north.example", ""
    operations.save_record(contact, by=acting(manager))
    words = own | {"eve", "eve@north.example", "north", "example"}
    assert set(account.words.values_list("word", flat=True)) == words
    account.name = "Sons"
    operations.save_record(account, by=acting(manager))
    assert set(SearchWord.objects.values_list("word", flat=True)) == words - {"muller"}
