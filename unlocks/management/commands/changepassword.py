from django.contrib.auth.management.commands import changepassword
from django.contrib.auth.models import User
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.management.base import CommandError

from ... import operations
from ...actors import Actor
from ...ledger import chain

UNCHANGED = "The password was not changed."


class Command(changepassword.Command):
    help = "Set the password of a staff account. The audit log tells that it was set, by the desk."

    def handle(self, *args, username, **options):
        """Ask for the password before anything is locked, and once: Django's command asks and saves in one go."""
        try:
            user = User.objects.get(username=username)
        except User.DoesNotExist as missing:
            raise CommandError(f"{UNCHANGED} There is no user {username}.") from missing
        password = self._get_pass(f"New password of {username}: ")
        if self._get_pass("Password (again): ") != password:
            raise CommandError(f"{UNCHANGED} The two are not the same.")
        try:
            validate_password(password, user)
            operations.set_password(user, password, by=Actor.desk())
        except ValidationError as invalid:
            raise CommandError(f"{UNCHANGED} {' '.join(invalid.messages)}") from invalid
        except (chain.WrongKey, operations.Refused) as why:
            raise CommandError(f"{UNCHANGED} {why}") from why
        self.stdout.write(f"The password of {username} was changed.")
