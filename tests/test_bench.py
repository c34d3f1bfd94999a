"""The bench writes its rows by plain SQL and tries every filter: what a new column or filter needs there is named."""

import pytest

from bench.data import ROWS
from bench.looking import SEARCHES, _narrowed
from tests import factories


@pytest.mark.parametrize("model", ROWS, ids=lambda model: model.__name__)
def test_each_column_that_has_to_have_a_value_gets_one(model):
    named = ROWS[model][1].split(", ")
    needed = {field.column for field in model._meta.concrete_fields if not field.null and not field.generated}
    assert needed - set(named) == set()


@pytest.mark.django_db
def test_a_value_is_known_for_each_filter_of_each_list():
    manager, account = factories.make_user("manager1", group="Manager"), factories.make_account()
    tried = [query for model in SEARCHES for query in _narrowed(model, manager, account)]
    assert f"batch={account.number}-17" in tried
