import csv
import sys
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

from django.core.management.base import BaseCommand, CommandError

from ... import operations
from ...actors import Actor
from ...imports.values import squeezed
from ...ledger import chain
from ...models import Account
from ...texts import normalize


class Command(BaseCommand):
    help = (
        "Set the PINs that the product has given its customers, from a CSV file with the columns account_number and "
        "pin ('-': standard input). They are hashed at once and never shown. Ends with 1 if a row was refused. Delete "
        "the file afterwards."
    )

    def add_arguments(self, parser):
        parser.add_argument("file")

    def handle(self, *args, file, **options):
        done = Counter()
        try:
            with nullcontext(sys.stdin) if file == "-" else Path(file).open(newline="", encoding="utf-8-sig") as rows:
                for line, row in self._rows(rows):
                    done[self._set(line, *row)] += 1
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise CommandError(f"{file} can't be read: {type(error).__name__}.") from error
        except chain.WrongKey as wrong:
            raise CommandError(f"No further PIN was set. {wrong}") from wrong
        self.stdout.write(f"PINs: {done['set']:,} set, {done['same']:,} in force already, {done['refused']:,} refused.")
        if done["refused"]:
            raise SystemExit(1)

    def _rows(self, file):
        """Yield (line, (account number, PIN)); a row that is too short has '' for what it lacks."""
        reader = csv.reader(file)
        names = [squeezed(name) for name in next(reader, [])]
        if not {"accountnumber", "pin"} <= set(names):
            raise CommandError("The first row has to name the columns account_number and pin.")
        places = names.index("accountnumber"), names.index("pin")
        for row in reader:
            if any(map(str.strip, row)):
                yield reader.line_num, [row[place] if place < len(row) else "" for place in places]

    def _set(self, line, number, pin):
        account = Account.objects.filter(number=normalize.number(number)).first()
        try:
            if account:
                return "set" if operations.set_pin(account, pin=pin, by=Actor.desk()) else "same"
            why = "There is no account of this number."  # which may be a PIN, in the wrong column
        except operations.Refused as refused:
            why = str(refused)
        self.stderr.write(f"Line {line}: {why}")
        return "refused"
