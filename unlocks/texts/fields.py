"""How the value of a field is written for people."""

import datetime
import json
from typing import Any

from django.db import models

from ..models import Consent, ConsentedBatch
from .formats import day, moment, money

NOTHING = "nothing"


def shown(record: Any, field: Any) -> str:
    """Write the value of `field` for staff: labels for choices, names for keys."""
    value = getattr(record, field.attname)
    if value in (None, "", "[]"):  # the last: an item without lines
        return NOTHING
    if field.is_relation:
        return _named(getattr(record, field.name, None)) or f"no. {value}"
    if field.flatchoices:
        return str(dict(field.flatchoices).get(value, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime.datetime):
        return moment(value)
    if isinstance(value, datetime.date):
        return day(value)
    if isinstance(field, models.DecimalField):
        return money(value)
    if isinstance(field, models.JSONField):
        return json.dumps(value, ensure_ascii=False) if value else NOTHING
    return str(value)


def _named(thing: Any) -> str:
    # Its own name would ask the database for the batch and the consent, on every row.
    if isinstance(thing, ConsentedBatch):
        return Consent(pk=thing.consent_id).reference
    return str(thing) if thing is not None else ""
