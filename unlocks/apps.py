from django.apps import AppConfig
from django.db.models.signals import post_migrate


class UnlocksConfig(AppConfig):
    name = "unlocks"
    verbose_name = "Unlock Desk"

    def ready(self):
        from . import checks, roles  # noqa: F401  checks register themselves
        from .database import guards

        post_migrate.connect(guards.after_migrate, sender=self, dispatch_uid="unlocks.guards")
        post_migrate.connect(roles.after_migrate, dispatch_uid="unlocks.roles")
