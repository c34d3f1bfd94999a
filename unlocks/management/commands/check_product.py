import sys
from getpass import getpass

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from ...product.conformance import Endpoint


class Command(BaseCommand):
    help = (
        "Check whether a vendor's endpoint keeps to docs/integration.md, and exit with 1 if it does not. It gets "
        "made-up keys, of account TEST and batches TEST-000 to TEST-499; none of it is recorded on the desk."
    )
    requires_system_checks = ()

    def add_arguments(self, parser):
        parser.add_argument("url", nargs="?", help="the address of the endpoint, by default PRODUCT_URL")
        parser.add_argument(
            "--secret",
            action="store_true",
            help="ask for the secret instead of reading it from PRODUCT_SECRETS; it is not shown",
        )

    def handle(self, *args, url, secret, **options):
        secrets = [self._typed()] if secret else settings.PRODUCT_SECRETS
        failed = total = 0
        for what, trouble in Endpoint(url or settings.PRODUCT_URL, secrets).checked():
            self.stdout.write(f"FAILED  {what}. {trouble}" if trouble else f"ok      {what}.")
            failed, total = failed + bool(trouble), total + 1
        if failed:
            raise CommandError(f"{failed} of {total} checks failed.")
        self.stdout.write(f"All {total} checks passed.")

    def _typed(self):
        """Return what is typed, or the first line of what is piped in."""
        return getpass("Secret: ") if sys.stdin.isatty() else sys.stdin.readline().strip()
