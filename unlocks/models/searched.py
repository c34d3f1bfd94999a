from django.db import models
from django.db.models import F, Value
from django.db.models.functions import Replace, Upper


def plain(column: str) -> models.GeneratedField:
    """Return a column as a search compares it: in capitals, quotes and dashes as on our keys; indexed."""
    text: F | Replace = F(column)
    for typed, ours in {"\u2018": "'", "\u2019": "'", "\u2013": "-", "\u2014": "-"}.items():
        text = Replace(text, Value(typed), Value(ours))
    field = models.CharField(max_length=400)
    return models.GeneratedField(expression=Upper(text), output_field=field, db_persist=True, db_index=True)
