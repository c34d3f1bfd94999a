from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from ... import operations
from ...actors import Actor
from ...certificates import keys
from ...certificates.verify_certificate import key_id
from ...ledger import chain, signing_keys


class Command(BaseCommand):
    help = (
        "Record the newest certificate key, the first of CERTIFICATE_KEYS, in the ledger: from now on it signs. "
        "A key that was recorded before is left as it is."
    )

    def handle(self, *args, **options):
        if settings.CERTIFICATE_KEYS[:1] == [bytes.fromhex(settings.TRIAL_CERTIFICATE_KEY)] and not settings.TRIAL:
            raise CommandError("Nothing was recorded: everybody knows the trial run's key. Make one of your own.")
        try:
            recorded = operations.record_certificate_key(by=Actor.desk())
        except operations.Refused as refused:
            raise CommandError(
                "Nothing was recorded: CERTIFICATE_KEYS is empty. Make a key with “manage.py make_certificate_key”."
            ) from refused
        except chain.WrongKey as wrong:
            raise CommandError(f"Nothing was recorded. {wrong}") from wrong
        if recorded:
            self.stdout.write(f"Certificate key {recorded} is recorded. It signs certificates from now on.")
        else:
            known, signs = key_id(keys.configured()[0]), signing_keys.newest().id
            then = "It signs certificates." if known == signs else f"Key {signs}, recorded later, signs certificates."
            self.stdout.write(f"Certificate key {known} was recorded before. Nothing was changed. {then}")
