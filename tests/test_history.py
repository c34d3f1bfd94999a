"""History written by sets says the same as history written by one row."""

from datetime import date
from decimal import Decimal

import pytest
from django.db import DatabaseError, connection, transaction
from django.db.models import F, Value
from django.db.models.functions import Concat
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tests.factories import acting, make_account, make_batch, make_batches, make_item
from unlocks import history
from unlocks.actors import Actor
from unlocks.models import Account, Batch, BatchItem, Contact

pytestmark = pytest.mark.django_db

COLUMNS = [field.attname for field in Batch.history.model.tracked_fields]
WHO = ["history_type", "history_user_id", "history_actor", "history_ip", "history_change_reason"]


def rows():
    return Batch.objects.all()


def test_by_one_row_and_by_sets_is_the_same(agent):
    by = Actor(name="agent", user=agent, ip="203.0.113.7")
    one, two = make_batches(n=2)
    one.name = "New name"
    history.save(one, by=by, why="Renamed")
    history.update(rows().filter(pk=two.pk), by=by, why="Renamed", name="New name")

    columns = [*COLUMNS, *WHO]
    first, second = (batch.history.values(*columns).first() for batch in (one, two))
    assert first | {"id": 0, "number": ""} == second | {"id": 0, "number": ""}
    assert (second["history_type"], second["history_actor"], second["history_ip"], second["history_user_id"]) == (
        "~",
        "agent",
        "203.0.113.7",
        agent.pk,
    )


def test_history_holds_what_the_table_holds_afterwards(agent):
    make_batches(n=3)
    by = acting(agent)
    written = history.update(
        rows(),
        by=by,
        name=Concat(F("name"), Value(" again")),
        item_count=F("item_count") + 1,
    )
    assert written == 3
    recorded = Batch.history.filter(history_act=by.act.id, history_date=by.act.at).order_by("id")
    assert list(recorded.values(*COLUMNS)) == list(rows().order_by("pk").values(*COLUMNS))
    assert all(batch.name.endswith(" again") for batch in rows())


def test_a_change_of_the_very_column_that_chose_the_rows(agent):
    make_batches(n=2, status="pending")
    assert history.update(rows().filter(status="pending"), by=acting(agent), status="posted") == 2
    assert Batch.history.filter(status="posted").count() == 2


def test_a_set_costs_two_statements(agent):
    make_batches(n=20)
    with CaptureQueriesContext(connection) as captured:
        history.update(rows(), by=acting(agent), name="Same")
    assert [query["sql"].split(" ")[0] for query in captured if "SAVEPOINT" not in query["sql"]] == ["INSERT", "UPDATE"]


@pytest.mark.parametrize("amount", ["1000000000000.00", "9999999999999.99", "-1000000000000.00"])
def test_an_amount_that_is_too_long_is_refused(manager_client, agent, amount):
    largest = Decimal("999999999999.99")
    batch = make_batch(total=largest, number="BIG")
    make_item(batch=batch, amount=-largest)
    for record in (Batch(account=batch.account, number="NEW", total=Decimal(amount)), _item(batch, amount)):
        with pytest.raises(DatabaseError), transaction.atomic():
            history.save(record, by=acting(agent))
    for change in ({"total": Decimal(amount)}, {"total": F("total") * 100}):
        with pytest.raises(DatabaseError), transaction.atomic():
            history.update(rows(), by=acting(agent), **change)
    pages = ["/desk/unlocks/batch/", f"/desk/unlocks/batch/{batch.pk}/change/", "/desk/unlocks/batchitem/"]
    assert [manager_client.get(page).status_code for page in pages] == [200, 200, 200]
    assert "$999,999,999,999.99" in manager_client.get(pages[0]).content.decode()


def _item(batch, amount):
    return BatchItem(batch=batch, number="NEW", date=date(2026, 11, 1), amount=Decimal(amount))


@pytest.mark.parametrize("nothing", [Batch.objects.none(), Batch.objects.filter(pk=0)])
def test_no_rows_no_history(agent, nothing):
    history.lock(nothing)
    assert history.update(nothing, by=acting(agent), name="Same") == 0
    assert not Batch.history.exists()


def test_rows_that_changed_meanwhile_are_told(agent, monkeypatch):
    make_batches(n=2)
    insert_select = history.insert_select
    monkeypatch.setattr(history, "insert_select", lambda *args, **kwargs: insert_select(*args, **kwargs) + 1)
    with pytest.raises(history.ConcurrentChange):
        history.update(rows(), by=acting(agent), name="Same")
    assert not rows().filter(name="Same").exists()
    assert not Batch.history.filter(name="Same").exists()


def test_a_row_saved_leaves_what_is_not_tracked_alone(agent):
    account = make_account()
    stale = Account.objects.get()
    Account.objects.update(pin_failures=4)
    stale.name, stale.pin_failures = "New name", 0
    history.save(stale, by=acting(agent))
    account.refresh_from_db()
    assert (account.name, account.pin_failures) == ("New name", 4)
    assert "pin_hash" not in {field.name for field in Account.history.model._meta.fields}


def test_who_acted_does_not_stick_to_the_row(agent):
    batch = history.save(Batch(account=make_account(), number="1"), by=acting(agent), why="Made")
    history.save(batch, by=Actor.desk())
    assert list(batch.history.values_list("history_actor", "history_user", "history_change_reason")) == [
        ("Unlock Desk", None, None),
        ("agent", agent.pk, "Made"),
    ]


def test_inserts_with_history(agent):
    account = make_account()
    make_batches(account=account, n=3)
    made = history.insert(
        Contact,
        account.batches.all(),
        by=acting(agent),
        why="From batches",
        account_id=account.pk,
        name="Somebody",
        email=Concat(F("number"), Value("@customer.example")),
        phone="",
        is_admin=False,
        entered_at=timezone.now(),
        confirmed_how="",
        external_id="",
    )
    new = account.contacts.filter(name="Somebody")
    assert made == new.count() == 3
    assert list(Contact.history.filter(name="Somebody").values_list("id", "email", "history_type").order_by("id")) == [
        (contact.pk, contact.email, "+") for contact in new.order_by("pk")
    ]


def test_what_is_not_tracked_is_changed_apart(agent):
    batch = make_batch()
    with pytest.raises(ValueError, match="name: tracked"):
        history.update_untracked(rows(), name="Past history")
    assert batch.history.count() == 1
