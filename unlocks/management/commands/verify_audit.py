from django.core.management.base import BaseCommand, CommandError

from unlocks import guards, invariants, ledger
from unlocks.models import CaseEvent


class Command(BaseCommand):
    help = "Recompute the ledger and check every invariant; exits non-zero and names the first offender."

    def handle(self, *args, **options):
        if fault := ledger.first_fault():
            raise CommandError(fault)
        for wrong, rows in invariants.offenders():
            if first := rows.order_by("pk").first():
                raise CommandError(f"{first._meta.verbose_name.capitalize()} {first} (id {first.pk}): {wrong}.")
        if missing := guards.missing():
            raise CommandError(f"Guards are missing or altered in the database: {', '.join(missing)}.")
        newest = CaseEvent.objects.first()
        head = f"head {newest.sequence} {newest.hash}" if newest else "empty"
        self.stdout.write(f"The audit holds: ledger intact ({head}), every invariant holds, every guard is in place.")
