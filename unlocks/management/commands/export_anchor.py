import os
from pathlib import Path

from django.core.mail import send_mail
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction
from django.utils import timezone

from ...actors import Actor
from ...ledger import anchors, chain, events

EMAIL = (
    "This is how far the ledger of Unlock Desk has come. Keep this email: if the end of the ledger is ever cut "
    "off, or an older database is put in its place, this shows it.\nTo check: save this email as a file, and "
    "run “manage.py verify_audit --anchor FILE” on the desk.\n\n{anchor}\n"
)


class Command(BaseCommand):
    help = (
        "Write the head of the ledger down somewhere else, so that a tail cut off later shows (verify_audit --anchor). "
        "Run it daily, after seal_history."
    )

    def add_arguments(self, parser):
        parser.add_argument(
            "--to",
            type=Path,
            metavar="FILE",
            help="a file, best on another machine's disk. A line is added for each export and nothing in it is ever "
            "overwritten; when an anchor that is in it does not fit the ledger any more, nothing is written and the "
            "command exits with 1. For each month or year a new file can be begun.",
        )
        parser.add_argument("--email", metavar="ADDRESS", help="a mailbox that the desk's database owner cannot empty")

    def handle(self, *args, to, email, **options):
        if not (to or email):
            raise CommandError("Say where the anchor goes: --to FILE, --email ADDRESS, or both.")
        anchor = anchors.now(timezone.now())
        if to:
            self._add(anchor, to)
        if email:
            self._email(anchor, email, to)
        self._tell(anchor, email, to)
        self.stdout.write(f"Anchor: entry {anchor.sequence}, {anchor.hash}")

    def _tell(self, anchor, email, to):
        try:
            with transaction.atomic():
                chain.append(events.Anchored(head=anchor.sequence, file=str(to or ""), to=email or ""), by=Actor.desk())
        except chain.WrongKey as wrong:
            raise CommandError(f"The anchor is written, but the ledger can't tell of it. {wrong}") from wrong

    def _add(self, anchor, path):
        try:
            there = path.read_text() if path.exists() else ""
            for _, fault in anchors.faults(anchors.read(there)) if there.strip() else ():
                raise CommandError(
                    f"Nothing was written: {path} holds an anchor that does not fit. {fault} Run “manage.py "
                    f"verify_audit --anchor {path}”; after a restore that you know of, “manage.py record_restore”."
                )
            with path.open("a") as file:
                file.write(f"{anchor}\n" if there.endswith("\n") or not there else f"\n{anchor}\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise CommandError(f"The anchor could not be written to {path}: {error.strerror}.") from error
        except (anchors.NotAnchors, UnicodeDecodeError) as error:
            raise CommandError(f"Nothing was written: {path} is not a file of anchors: {error}.") from error

    def _email(self, anchor, address, path):
        try:
            send_mail(f"Unlock Desk anchor {anchor.sequence}", EMAIL.format(anchor=anchor), None, [address])
        except (OSError, ValueError) as error:  # SMTPException is an OSError
            written = f" It was written to {path}." if path else ""
            reason = " ".join(str(error).split()) or type(error).__name__
            raise CommandError(f"The anchor could not be emailed to {address}: {reason}.{written}") from error
