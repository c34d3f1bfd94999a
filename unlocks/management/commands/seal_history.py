from django.core.management.base import BaseCommand

from unlocks import seals
from unlocks.actors import Actor


class Command(BaseCommand):
    help = "Seal the history rows written since the last seal into the ledger. Run it nightly."

    def handle(self, *args, **options):
        rows = seals.seal_history(by=Actor.desk())
        self.stdout.write(f"Sealed {rows} history rows." if rows else "Nothing new to seal.")
