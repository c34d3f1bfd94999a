"""The bench writes its rows by plain SQL: what a new column needs there is named here."""

import pytest

from bench.data import ROWS


@pytest.mark.parametrize("model", ROWS, ids=lambda model: model.__name__)
def test_each_column_that_has_to_have_a_value_gets_one(model):
    named = ROWS[model][1].split(", ")
    needed = {field.column for field in model._meta.concrete_fields if not field.null and not field.generated}
    assert needed - set(named) == set()
