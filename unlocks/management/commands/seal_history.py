from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError

from ...actors import Actor
from ...ledger import chain, seals
from ...texts.formats import counted


class Command(BaseCommand):
    help = (
        "Seal the rows of history and evidence written since the last seal into the ledger. What no seal covers yet "
        "can be altered without it showing: run it hourly, or oftener. A run costs one ledger entry, or none."
    )

    def handle(self, *args, **options):
        try:
            rows = seals.seal_history(by=Actor.desk())
        except OperationalError as error:
            raise CommandError(
                f"Nothing was sealed: the database was busy ({' '.join(str(error).split())}). Run it again."
            ) from error
        except chain.WrongKey as wrong:
            raise CommandError(f"Nothing was sealed. {wrong}") from wrong
        left = seals.unsealed()
        sealed = f"Sealed {counted(rows, 'row', 'rows')} of history and evidence."
        self.stdout.write(sealed if rows or left else "Nothing new to seal.")
        if left:
            self.stdout.write(f"Tables were being written. Left to the next run: {seals.in_words(left)}.")
