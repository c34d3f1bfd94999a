import json
from pathlib import Path

from django.core.management.base import BaseCommand, CommandError

from unlocks import guards, invariants, ledger, seals
from unlocks.models import CaseEvent


class Command(BaseCommand):
    help = "Recompute the ledger and its seals and check every invariant; exits non-zero and names the first offender."

    def add_arguments(self, parser):
        parser.add_argument(
            "--anchor", type=Path, metavar="FILE", help="a head exported earlier (export_anchor): shows a cut tail"
        )

    def handle(self, *args, anchor, **options):
        fault = ledger.first_fault() or (anchor and self._off_the_anchor(anchor)) or seals.first_fault()
        if fault:
            raise CommandError(fault)
        for wrong, rows in invariants.offenders():
            if first := rows.order_by("pk").first():
                raise CommandError(f"{first._meta.verbose_name.capitalize()} {first} (id {first.pk}): {wrong}.")
        if missing := guards.missing():
            raise CommandError(f"Guards are missing or altered in the database: {', '.join(missing)}.")
        sequence, head = ledger.head()
        self.stdout.write(
            f"The audit holds: ledger intact (head {sequence} {head}), every seal and invariant holds, "
            "every guard is in place."
        )

    def _off_the_anchor(self, path):
        try:
            anchor = json.loads(path.read_text())
            sequence, expected = int(anchor["sequence"]), str(anchor["hash"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CommandError(f"{path} is not an anchor: {error}") from error
        found = CaseEvent.objects.filter(sequence=sequence).values_list("hash", flat=True).first()
        if sequence == 0 or found == expected:
            return ""
        if found is None:
            return f"Ledger entry {sequence} of the anchor is gone: the tail was cut after entry {ledger.head()[0]}."
        return f"Ledger entry {sequence} is not the one of the anchor: the ledger was written anew."
