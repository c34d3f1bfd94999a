import gc

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class UnlocksConfig(AppConfig):
    name = "unlocks"
    verbose_name = "Unlock Desk"

    def ready(self):
        from . import checks, roles  # noqa: F401  checks register themselves
        from .database import guards

        # Rows are freed without it: looking for cycles after each 700 of them takes a fifth of a file of the ledger.
        gc.set_threshold(50_000, 20, 20)
        post_migrate.connect(guards.after_migrate, sender=self, dispatch_uid="unlocks.guards")
        post_migrate.connect(roles.after_migrate, dispatch_uid="unlocks.roles")
