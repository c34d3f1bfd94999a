"""What staff are warned of before they ask for a consent and before they unlock, and where it is shown."""

import re
from datetime import timedelta
from html import unescape

import pytest
from django.urls import reverse
from django.utils import timezone

from tests import factories
from tests.factories import acting, make_account, make_batch, make_batches, make_item, open_case
from unlocks import history, operations
from unlocks.actors import Actor
from unlocks.admin import doubts
from unlocks.models import Account, Batch
from unlocks.rules import has_other_totals
from unlocks.texts.formats import moment

pytestmark = pytest.mark.django_db

BOOKS = (
    "{} may be in the books already: an item has an export ID, or an integration marked the batch as exported. "
    "Have the customer look there first."
)
TOTALS = (
    "The items on file don't add up to the count and total of {}. Have the items imported again, or look them up in "
    "the product."
)
OLD = (
    "What is on file of {} is older than 24 hours: the oldest is from {}. Have it imported again, or look it up in the "
    "product."
)


def shown(client, address):
    return " ".join(unescape(re.sub("<[^>]*>", " ", client.get(address).content.decode())).split())


def fact(page, name):
    return re.search(rf"{name} (.{{0,60}})", page)[1]


@pytest.fixture
def two_days_ago():
    return timezone.now() - timedelta(days=2)


@pytest.fixture
def doubtful(two_days_ago):
    """Two batches of one account: nothing adds up, and nothing is new."""
    batches = make_batches(n=2, items=2, as_of=two_days_ago, reached_by="marked_by_api")
    history.update(batches[0].items.filter(amount=100), by=Actor.desk(), left_at=timezone.now())
    history.update(batches[1].items.all(), by=Actor.desk(), export_id="QB-1")
    return Batch.objects.filter(account=batches[0].account).order_by("pk")


@pytest.mark.parametrize(
    ("amounts", "left", "says", "differs"),
    [
        (["0.10", "0.10", "0.10"], [], (3, "0.30"), False),
        (["0.10", "0.10", "0.11"], [], (3, "0.30"), True),
        (["0.10", "0.20"], [], (3, "0.30"), True),
        (["0.10", "0.20", "9.99"], [2], (2, "0.30"), False),
        (["0.10", "-0.10"], [0, 1], (0, "0.00"), False),
        (["0.10"], [0], (1, "0.10"), True),
        ([], [], (3, "0.30"), None),
    ],
)
def test_items_are_compared_with_what_the_batch_says(amounts, left, says, differs):
    batch = make_batch(items=0, item_count=says[0], total=says[1])
    for place, amount in enumerate(amounts):
        make_item(batch=batch, amount=amount, left_at=timezone.now() if place in left else None)
    assert [one.other for one in Batch.objects.annotate(other=has_other_totals())] == [differs]


def test_each_doubt_is_a_sentence_and_all_are_one_query(doubtful, two_days_ago, django_assert_num_queries):
    fine = [*make_batches(n=2, as_of=timezone.now()), make_batch(items=0, item_count=3)]
    with django_assert_num_queries(1):
        assert doubts.of(Batch.objects.filter(pk__in=[batch.pk for batch in fine])) == []
    assert doubts.of(doubtful) == [
        BOOKS.format("2 batches"),
        TOTALS.format("1 batch"),
        OLD.format("2 batches", moment(two_days_ago)),
    ]
    history.update(doubtful, by=Actor.desk(), reached_by="sent", as_of=None)
    assert doubts.of(doubtful) == [BOOKS.format("1 batch"), TOTALS.format("1 batch")]


def test_is_old_once_the_time_that_was_set_is_over(doubtful, settings):
    settings.DATA_AGE_WARNING = timedelta(days=3)
    assert doubts.of(doubtful) == [BOOKS.format("2 batches"), TOTALS.format("1 batch")]
    assert [doubts.is_outdated(None), doubts.is_outdated(doubtful[0].as_of)] == [False, False]


def test_they_are_told_before_a_link_is_sent_and_before_an_unlock(agent, agent_client, doubtful, two_days_ago):
    case = open_case(agent, batches=list(doubtful))
    said = f"{BOOKS.format('2 batches')} {TOTALS.format('1 batch')} {OLD.format('2 batches', moment(two_days_ago))}"
    page = reverse("admin:unlocks_unlockrequest_change", args=[case.unlock_request.pk])
    assert said not in shown(agent_client, page)
    operations.record_advice(case.unlock_request, advice="wants_export", by=acting(agent))
    assert said in shown(agent_client, page)
    case.url = operations.send_consent_link(case.unlock_request, contact=case.admin, by=acting(agent)).url
    factories.agree(case)
    preview = agent_client.post(page, {"verb": "unlock", "seen": ""}, follow=True)
    assert preview.context["doubts"] == doubts.of(doubtful)
    assert said in shown(agent_client, preview.redirect_chain[-1][0])


def test_the_case_says_how_old_its_data_is(agent, agent_client, doubtful, two_days_ago):
    history.update(doubtful.filter(pk=doubtful[1].pk), by=Actor.desk(), as_of=None, differs="exported")
    case = open_case(agent, batches=[*make_batches(account=doubtful[0].account, n=1), doubtful[0]])
    page = shown(agent_client, reverse("admin:unlocks_unlockrequest_change", args=[case.unlock_request.pk]))
    assert f"Data from {moment(two_days_ago)} Old the oldest; not recorded for 1" in page
    assert "Possible duplicate Items don't add up" in page
    other = open_case(agent)
    page = shown(agent_client, reverse("admin:unlocks_unlockrequest_change", args=[other.unlock_request.pk]))
    assert fact(page, "Data from").startswith("not recorded Opened")


def test_the_batch_page_says_what_the_product_told(agent_client, doubtful, two_days_ago):
    batch = doubtful[0]
    history.update(doubtful, by=Actor.desk(), differs="exported", external_id="")
    page = shown(agent_client, reverse("admin:unlocks_batch_change", args=[batch.pk]))
    assert "Can't be unlocked now. Bypassed here, but exported in the product, without an unlock." in page
    assert fact(page, "How it got there").startswith("Marked as exported by an integration In the product Exported")
    assert fact(page, "Data from").startswith(f"{moment(two_days_ago)} Old")
    assert (
        "Items 1 · Possible duplicates The items on file don't add up: 1, $200.00. The batch says 2, $300.00." in page
    )
    assert page.index("$200.00 none") < page.index("$100.00 none No longer listed since")


def test_an_account_has_a_time_zone(superuser_client):
    account = make_account()
    address = reverse("admin:unlocks_account_change", args=[account.pk])
    typed = {"name": account.name, "accounting_software": "none", "active": "on"}
    empty = {"contacts-TOTAL_FORMS": "0", "contacts-INITIAL_FORMS": "0"}
    refused = superuser_client.post(address, typed | empty | {"time_zone": "Mars/Olympus"})
    assert "Mars/Olympus is not one of the available choices." in refused.content.decode()
    superuser_client.post(address, typed | empty | {"time_zone": "America/Chicago"})
    assert Account.objects.get().time_zone == "America/Chicago"
