import json
from pathlib import Path

from django.core.mail import send_mail
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from unlocks import ledger


class Command(BaseCommand):
    help = "Write the head of the ledger somewhere else, so that a tail cut off later shows (verify_audit --anchor)."

    def add_arguments(self, parser):
        parser.add_argument("--to", type=Path, metavar="FILE", help="a file, best on another machine's disk")
        parser.add_argument("--mail", metavar="ADDRESS", help="a mailbox that the desk's database owner cannot empty")

    def handle(self, *args, to, mail, **options):
        sequence, head = ledger.head()
        anchor = json.dumps({"at": timezone.now().isoformat(), "hash": head, "sequence": sequence}, indent=1) + "\n"
        if not (to or mail):
            raise CommandError("Say where the anchor goes: --to FILE, --mail ADDRESS, or both.")
        if to:
            try:
                to.write_text(anchor)
            except OSError as error:
                raise CommandError(f"The anchor could not be written to {to}: {error.strerror}.") from error
        if mail:
            send_mail(f"Unlock Desk anchor {sequence}", anchor, None, [mail])
        self.stdout.write(f"Anchor: entry {sequence}, {head}")
