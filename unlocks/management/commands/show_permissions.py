from django.core.management.base import BaseCommand, CommandError

from ...admin import permissions


class Command(BaseCommand):
    help = "Print who may do, see and send what: verbs, addresses, calls of the API. Fails for what is not listed."

    def handle(self, *args, **options):
        verbs = [(name, permissions.words(roles), ", ".join(scopes)) for name, _, roles, scopes in permissions.verbs()]
        pages = [
            (permissions.shown(pattern), permissions.words(see), permissions.words(send))
            for pattern, (see, send) in permissions.PAGES.items()
        ]
        self._table("Verbs: staff; tokens with the scope", verbs)
        self._table("Addresses: who gets the page; who may send something", pages)
        self._table("Calls of the API: scope of the token", permissions.CALLS.items())
        if missing := permissions.not_listed():
            raise CommandError("\n".join(["Not listed in unlocks/admin/permissions.py, or not served:", *missing]))

    def _table(self, title, rows):
        wide = max(len(row[0]) for row in rows)
        self.stdout.write(f"\n{title}\n")
        for first, *others in rows:
            self.stdout.write(f"  {first:<{wide}}  {'; '.join(filter(None, others))}")
