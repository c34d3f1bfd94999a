"""Recording who takes lists out of the desk."""

from collections.abc import Sequence

from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Model

from ..actors import Actor
from ..ledger import chain, events


@transaction.atomic
def record_export(model: type[Model], *, form: str, narrowed: Sequence[str], by: Actor) -> None:
    """Record that someone takes the list of a model out of the desk, before they get any of it.

    `narrowed` are its filters in words. Raises PermissionDenied for those who may not view it.
    """
    options = model._meta
    needed = f"{options.app_label}.view_{options.model_name}"
    if not by.may(needed):
        raise PermissionDenied(f"{by.name} may not do this: it needs the permission {needed}.")
    named = str(options.verbose_name_plural)
    chain.append(events.Exported(what=named, form=form, narrowed=list(narrowed)), by=by.begin())
