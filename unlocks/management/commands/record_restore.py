from pathlib import Path

from django.core.management.base import BaseCommand, CommandError

from ... import operations
from ...actors import Actor
from ...ledger import chain
from . import anchors_in


class Command(BaseCommand):
    help = (
        "Record that an older backup was put back, before anyone works in it. The ledger then says which of its "
        "entries were lost and which anchors show it, and the numbers of requests, consents and certificates skip to "
        "the next thousand, so that none is given twice."
    )

    def add_arguments(self, parser):
        parser.add_argument(
            "--anchor",
            action="append",
            type=Path,
            required=True,
            metavar="FILE",
            help="what the ledger was once, before and after the backup was made: a file of export_anchor, its email, "
            "or the JSON of a certificate. Can be given several times.",
        )
        parser.add_argument("--why", required=True, metavar="TEXT", help="what happened, and which backup was put back")

    def handle(self, *args, anchor, why, **options):
        heads = [head for path in anchor for head in anchors_in(path)]
        try:
            restored = operations.record_restore(heads, why=why, by=Actor.desk())
        except operations.Refused as refused:
            raise CommandError(str(refused)) from refused
        except chain.WrongKey as wrong:
            raise CommandError(f"Nothing was recorded. {wrong}") from wrong
        self.stdout.write(
            f"Recorded: ledger entries {restored.after + 1:,} to {restored.upto:,} were lost. The next request and "
            "consent, and the next certificate of each earlier consent, begin at a new thousand. Now run verify_audit "
            "with the same anchors."
        )
