"""What staff should know of batches before they ask for a consent, or unlock: none of it stops them."""

from django.conf import settings
from django.db.models import Count, Min, Q
from django.utils import timezone

from .. import rules
from ..models import Batch
from ..texts.formats import counted, moment


def with_doubts(batches):
    """Annotate a Batch queryset with `possible_duplicate` and `other_totals`."""
    return batches.annotate(possible_duplicate=rules.has_possible_duplicates(), other_totals=rules.has_other_totals())


def sums():
    """Return, as aggregates over such a queryset, what `said` tells."""
    return {
        "duplicates": Count("pk", filter=Q(possible_duplicate=True)),
        "unbalanced": Count("pk", filter=Q(other_totals=True)),
        "outdated": Count("pk", filter=Q(as_of__lt=_outdated())),
        "oldest": Min("as_of"),
    }


def sum_up(batches):
    """Return the same of such batches that were read."""
    batches = list(batches)
    old = [batch.as_of for batch in batches if is_outdated(batch.as_of)]
    return {
        "duplicates": sum(batch.possible_duplicate for batch in batches),
        "unbalanced": sum(bool(batch.other_totals) for batch in batches),
        "outdated": len(old),
        "oldest": min(old, default=None),
    }


def of(batches):
    """List the sentences about some batches, with one query."""
    return said(with_doubts(Batch.objects.filter(pk__in=batches.order_by().values("pk"))).aggregate(**sums()))


def said(row):
    """List the sentences for what was summed up: what is so, and what to do about it."""
    sentences = []
    if row["duplicates"]:
        sentences.append(
            f"{counted(row['duplicates'], 'batch', 'batches')} may be in the books already: an item has an export ID, "
            "or an integration marked the batch as exported. Have the customer look there first."
        )
    if row["unbalanced"]:
        sentences.append(
            f"The items on file don't add up to the count and total of {counted(row['unbalanced'], 'batch', 'batches')}"
            ". Have the items imported again, or look them up in the product."
        )
    if row["outdated"]:
        sentences.append(
            f"What is on file of {counted(row['outdated'], 'batch', 'batches')} is older than {_hours()}: the oldest "
            f"is from {moment(row['oldest'])}. Have it imported again, or look it up in the product."
        )
    return sentences


def is_outdated(as_of):
    """Say whether what the product said then is too old to be relied on; never so where that is not recorded."""
    return as_of is not None and as_of < _outdated()


def _outdated():
    return timezone.now() - settings.DATA_AGE_WARNING


def _hours():
    return counted(round(settings.DATA_AGE_WARNING.total_seconds() / 3600), "hour", "hours")
