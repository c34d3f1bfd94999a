from typing import Any

from django.db import models
from django.db.models import F, Value
from django.db.models.functions import Replace, Upper
from django.db.models.lookups import StartsWith


@models.CharField.register_lookup
class Prefix(models.Lookup):
    """`number__prefix="2026"`: starts with, by the column's index on both databases.

    SQLite's LIKE reads the whole table. PostgreSQL has an index for LIKE, while its order of words knows no ranges.
    """

    lookup_name = "prefix"

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, Any]:
        return StartsWith(self.lhs, self.rhs).as_sql(compiler, connection)

    def as_sqlite(self, compiler: Any, connection: Any) -> tuple[str, Any]:
        column, params = self.process_lhs(compiler, connection)
        return f"({column} >= %s AND {column} < %s)", [*params, self.rhs, *params, f"{self.rhs}\U0010ffff"]


def plain(column: str) -> models.GeneratedField:
    """Return a column as a search compares it: in capitals, quotes and dashes as on our keys; indexed."""
    text: F | Replace = F(column)
    for typed, ours in {"\u2018": "'", "\u2019": "'", "\u2013": "-", "\u2014": "-"}.items():
        text = Replace(text, Value(typed), Value(ours))
    field = models.CharField(max_length=400)
    return models.GeneratedField(expression=Upper(text), output_field=field, db_persist=True, db_index=True)


class SearchWord(models.Model):
    """A word that an account is found by, as `normalize.words` writes it; working data, made from the records again."""

    LONGEST = 80  # letters

    account = models.ForeignKey("Account", on_delete=models.CASCADE, related_name="words")
    word = models.CharField(max_length=LONGEST)

    class Meta:
        default_permissions = ()
        constraints = [
            # What a word begins with is asked for by LIKE, which PostgreSQL has an order of its own for.
            models.UniqueConstraint(
                fields=["word", "account"],
                opclasses=["varchar_pattern_ops", ""],
                name="unlocks_searchword_once",
            ),
        ]

    def __str__(self) -> str:
        return self.word
