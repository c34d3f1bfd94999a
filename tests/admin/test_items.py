"""The page of one transaction of a batch."""

import re

import pytest
from django.urls import reverse

from tests.factories import make_batch, make_item
from unlocks import history
from unlocks.actors import Actor
from unlocks.digest import canonical


def page_of(client, item):
    return client.get(reverse("admin:unlocks_batchitem_change", args=[item.pk])).content.decode()


@pytest.fixture
def batch(db):
    return make_batch(items=0)


def test_shows_a_row_for_each_line(agent_client, batch):
    service = {"sku": "SVC", "description": "Service <call>", "quantity": "1", "price": "90.00", "total": "90.00"}
    part = {"sku": "PART", "total": "10.00", "gl_account": "4000"}
    page = page_of(agent_client, make_item(batch=batch, lines=canonical([service, part])))
    assert "SVC · Service &lt;call&gt; · 1 · 90.00 · 90.00<br>PART · 10.00 · 4000" in page


def test_shows_none_for_an_item_without_lines(agent_client, batch):
    page = page_of(agent_client, make_item(batch=batch))
    assert re.search(r'<label>Lines:</label>\s*<div class="readonly">(.*?)</div>', page)[1] == "–"


def test_history_shows_lines_as_they_are_kept(agent_client, batch):
    item = make_item(batch=batch)
    item.lines = '[{"sku":"SVC"}]'
    history.save(item, by=Actor.desk())
    page = agent_client.get(reverse("admin:unlocks_batchitem_history", args=[item.pk])).content.decode()
    assert "[{&quot;sku&quot;:&quot;SVC&quot;}]" in page
    assert "<del>nothing</del>" in page
