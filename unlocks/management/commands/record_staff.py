from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError

from ... import operations
from ...actors import Actor
from ...ledger import chain


class Command(BaseCommand):
    help = (
        "Record in the ledger what no entry tells of a staff account that was made or changed in a shell or by SQL: "
        "who may do what, as it stands now. Do so only when you know who made it so."
    )

    def add_arguments(self, parser):
        parser.add_argument("username")

    def handle(self, *args, username, **options):
        try:
            recorded = operations.record_staff(User.objects.get(username=username), by=Actor.desk())
        except User.DoesNotExist as missing:
            raise CommandError(f"Nothing was recorded: there is no user {username}.") from missing
        except chain.WrongKey as wrong:
            raise CommandError(f"Nothing was recorded. {wrong}") from wrong
        if recorded:
            self.stdout.write(f"Recorded of {username}: {', '.join(recorded)}.")
        else:
            self.stdout.write(f"The ledger tells all of {username} already. Nothing was recorded.")
