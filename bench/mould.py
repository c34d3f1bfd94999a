"""The accounts that bench data at size is copied from: walked through the work by the desk's own verbs."""

import logging

from django.core import mail
from django.db import models
from django.db.models import Max
from django.test import override_settings

from tests import factories
from unlocks import operations
from unlocks.models import Batch
from unlocks.texts.shown import shown_text

# Batches of an account that nobody asked to unlock, by status; its requests have the rest.
OTHERS = {"exported": 40, "bypassed": 12, "posted": 8, "pending": 4}


class Mould:
    """An account with all that belongs to it, found by the keys that came in with it.

    `mark` stands for its number in every text of it.
    """

    def __init__(self, mark, walk, models):
        self.mark = mark
        before = {model: _keys(model) for model in models}
        walk(_account(mark))
        self.keys = {model: (before[model], after) for model in models if (after := _keys(model)) != before[model]}

    def rows(self, model):
        """Return the condition, in SQL, of the rows of a model that are the mould's."""
        before, after = self.keys[model]
        if isinstance(model._meta.pk, models.UUIDField):
            listed = "', '".join(sorted(map(str, after - before)))
            return f"id IN ('{listed}')"
        return f"{model._meta.pk.column} > {before} AND {model._meta.pk.column} <= {after}"


def _keys(model):
    """Return the highest key of a table, or all its keys where they have no order."""
    if isinstance(model._meta.pk, models.UUIDField):
        return frozenset(model._base_manager.values_list("pk", flat=True))
    return model._base_manager.aggregate(last=Max("pk"))["last"] or 0


@override_settings(EMAIL_BACKEND="django.core.mail.backends.locmem.EmailBackend")
def moulds(models):
    """Make both moulds: the account whose requests are all closed, and the one whose requests are all open."""
    mail.outbox = []
    logging.disable(logging.ERROR)  # no key signs certificates, so that none are made
    agents = [factories.make_user(f"agent{number}", group="Agent") for number in range(1, 4)]
    manager = factories.make_user("manager1", group="Manager")
    closed = Mould("K0000001", lambda account: _closed(account, agents, manager), models)
    return closed, Mould("K0000002", lambda account: _open(account, agents, manager), models)


def _account(mark):
    account = factories.make_account(number=mark, name=f"Bayside Plumbing {mark}", admin=False)
    factories.make_contact(account=account, name=f"Alex Admin {mark}", email=f"alex@{mark.lower()}.example")
    factories.make_contact(account=account, name=f"Billie {mark}", email=f"b@{mark.lower()}.example", is_admin=False)
    for status, n in OTHERS.items():
        _batches(account, n, status=status)
    return account


def _batches(account, n, **fields):
    """Make batches numbered on; return those that can be asked for."""
    have = account.batches.count()
    keys = [
        factories.make_batch(account=account, items=2, number=f"{account.number}-{have + place}", **fields).pk
        for place in range(1, n + 1)
    ]
    return list(Batch.objects.filter(pk__in=keys).order_by("pk"))


def _closed(account, agents, manager):
    """Walk ten requests to their ends, most of them re-exported."""
    for place, n in enumerate((10, 5, 2, 1)):
        case = factories.case_unlocked(agents[place % 3], batches=_batches(account, n))
        operations.mark_re_exported(case.rows, by=factories.acting(agents[place % 3]))
        _close(case, "re_exported")
    case = factories.case_unlocked(agents[1], batches=_batches(account, 4))
    factories.relock(case.rows, why="The customer did not export them.", by=factories.acting(manager))
    _close(case, "relocked_unused")
    case = factories.case_unlocked(agents[2], batches=_batches(account, 3))
    operations.withdraw_own_consent(case.consent, why="Keyed by hand.", by=factories.customer(case.admin))
    factories.carry_out()
    case = factories.case_unlocking(agents[0], batches=_batches(account, 2))
    factories.carry_out(refuse="The accounting period is closed.")
    _close(case, "not_eligible")
    _decline(factories.case_awaiting(agents[1], batches=_batches(account, 3)))
    case = factories.open_case(agents[2], batches=_batches(account, 5))
    operations.record_advice(case.unlock_request, advice="manual_entry", by=factories.acting(agents[2]))
    _close(factories.open_case(agents[0], batches=_batches(account, 1)), "canceled")
    factories.deliver()


def _close(case, resolution):
    request = case.refresh().unlock_request
    if request.status != "closed":
        operations.close_request(request, resolution=resolution, why="Done.", by=factories.acting(case.agent))


def _decline(case):
    link, by = case.link, factories.customer(case.admin)
    operations.open_consent_link(link, by=by)
    operations.verify_customer_pin(link, pin=factories.PIN, by=by)
    operations.decline_consent(link, name=case.admin.name, role="", why="We key them.", shown=shown_text(link), by=by)


def _open(account, agents, manager):
    """Walk ten requests to where they stand while the work goes on."""
    factories.open_case(agents[0], batches=_batches(account, 2))
    for agent, n in zip(agents, (1, 3, 6), strict=True):
        factories.case_awaiting(agent, batches=_batches(account, n))
    case = factories.case_awaiting(agents[0], batches=_batches(account, 2))
    operations.open_consent_link(case.link, by=factories.customer(case.admin))
    for agent, n in zip(agents[:2], (10, 2), strict=True):
        factories.case_consented(agent, batches=_batches(account, n))
    for agent, n in zip(agents[1:], (6, 2), strict=True):
        factories.case_unlocked(agent, batches=_batches(account, n))
    factories.case_unlocking(agents[2], batches=_batches(account, 2))
    factories.deliver()
