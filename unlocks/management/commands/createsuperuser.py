from typing import Any

from django.contrib.auth.management.commands import createsuperuser
from django.contrib.auth.models import User, UserManager
from django.core.management.base import CommandError
from django.db import transaction

from ... import operations
from ...actors import Actor
from ...ledger import chain
from ...rules import Refusal


class Superusers(UserManager):
    """Makes a superuser together with the ledger entry that tells of it."""

    def __init__(self) -> None:
        super().__init__()
        self.model = User

    @transaction.atomic
    def create_superuser(self, *args: Any, **fields: Any) -> User:
        if taken := operations.who_reads_like(fields.get("username", "")):
            raise operations.Refused.because(Refusal.NAME_TAKEN, name=taken)
        user = super().create_superuser(*args, **fields)
        operations.record_staff(user, by=Actor.desk())
        return user


class ToldUser:
    """The user model as Django's command uses it, but for who makes one.

    The command asks and writes in one method. A transaction around that would hold SQLite's only write lock for as
    long as someone types.
    """

    _default_manager = Superusers()

    def __getattr__(self, name: str) -> Any:
        return getattr(User, name)

    def __call__(self, **fields: Any) -> User:
        return User(**fields)


class Command(createsuperuser.Command):
    help = "Create a superuser. The audit log tells of it, done by the desk."

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.UserModel = ToldUser()

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            super().handle(*args, **options)
        except (chain.WrongKey, operations.Refused) as why:
            raise CommandError(f"No superuser was created. {why}") from why
