import secrets

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.core.management.base import BaseCommand

from ...certificates.verify_certificate import key_id


class Command(BaseCommand):
    help = "Make a key that signs certificates and print it. It is kept nowhere, and shown this once."
    requires_system_checks = ()

    def handle(self, *args, **options):
        secret = secrets.token_bytes(32)
        public = Ed25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw().hex()
        self.stderr.write(
            f"Certificate key {key_id(public)}. Put it before the others in CERTIFICATE_KEYS, or into the first line "
            "of CERTIFICATE_KEYS_FILE, and start the desk again. Then run “manage.py record_certificate_key”: from "
            "then on it signs. It is not shown again."
        )
        self.stdout.write(secret.hex())
