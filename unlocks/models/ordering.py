from typing import Any

from django.db.models import F
from django.db.models.expressions import OrderBy
from django.db.models.indexes import IndexExpression


class UnknownLast(F):
    """A column to sort by, either way round, in which what is not known comes last on both databases."""

    name: str

    def asc(self, **kwargs: Any) -> OrderBy:
        return super().asc(nulls_last=True)

    def desc(self, **kwargs: Any) -> OrderBy:
        return LatestFirst(self.name)


class LatestFirst(OrderBy):
    """The order of a column with the latest first and what is not known last, for queries and for their index."""

    def __init__(self, column: str) -> None:
        super().__init__(F(column), descending=True, nulls_last=True)

    def as_sqlite(self, compiler: Any, connection: Any) -> tuple[str, list[Any]]:
        """Return the order that SQLite takes for this one by itself: in an index it allows no word about NULL."""
        sql, params = compiler.compile(self.expression)
        return f"{sql} DESC", params


# An index knows an order by its very class.
IndexExpression.register_wrappers(*IndexExpression.wrapper_classes, LatestFirst)
