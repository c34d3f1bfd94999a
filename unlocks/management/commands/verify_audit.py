from pathlib import Path

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ...ledger import anchors, chain, seals, verify
from ...models import LedgerEntry
from ...texts.formats import moment
from . import anchors_in

NEXT = (
    "What to do now: stop unlocking and keep this database as it is (copy it, change nothing). Then compare it with "
    "the newest backup for which verify_audit finds nothing, given the same anchors."
)
NEXT_FOR_GUARDS = (
    "What to do now: stop unlocking, and find out who took the guards away and what was written since. "
    "“manage.py migrate” puts them back."
)


class Command(BaseCommand):
    help = (
        "Recompute the ledger, its seals and what it tells of, and check every invariant, evidence file and guard. "
        "Names the first offender of each kind, says how many more there are, and exits with 1; with 0 when all holds, "
        "and with 2 when it could not check. "
        "It changes nothing and can run while the desk is in use."
    )

    def add_arguments(self, parser):
        parser.add_argument(
            "--anchor",
            action="append",
            type=Path,
            default=[],
            metavar="FILE",
            help="what the ledger was once: a file of export_anchor, its email, or the JSON of a certificate. Shows a "
            "tail that was cut off, an older database put in place, a rewritten ledger. Can be given several times.",
        )

        parser.add_argument(
            "--since",
            type=int,
            default=0,
            metavar="SEAL",
            help="the number of a seal's entry: recompute only what was written since then, and what is unlocked now. "
            "For runs between two whole ones; each run names the newest seal.",
        )

    def handle(self, *args, anchor, since, **options):
        self._refuse_before_migrate()
        if since and not seals.is_seal(since):
            raise CommandError(f"Nothing was checked: ledger entry {since} is no seal that fits.", returncode=2)
        heads, newest = [head for path in anchor for head in anchors_in(path)], seals.newest()
        if found := self._findings(heads, since):
            only_guards = all(sentence.startswith(verify.GUARDS) for sentence in found)
            raise CommandError("\n".join([*found, NEXT_FOR_GUARDS if only_guards else NEXT]))
        sequence, head = chain.head()
        whole = f"ledger intact (head {sequence} {head}), every seal and invariant holds"
        part = f"ledger intact since entry {since} (head {sequence} {head}), and so is what is unlocked now"
        self.stdout.write(f"The audit holds: {part if since else whole}, every guard is in place.")
        if since:
            self.stdout.write("What was written before that was not read: run “manage.py verify_audit” for all of it.")
        if newest:
            self.stdout.write(f"The newest seal is entry {newest.sequence}: --since {newest.sequence} goes on from it.")
        for entry, restored in anchors.restores():
            self.stdout.write(
                f"A restore is recorded (entry {entry.sequence}, {moment(entry.at)}): entries {restored.after + 1} to "
                f"{restored.upto} of an earlier ledger are lost. {restored.why}"
            )
        if rows := seals.unsealed():
            unsealed = seals.in_words(rows)
            self.stdout.write(f"Not sealed yet: {unsealed} of history and evidence. “manage.py seal_history” does it.")

    def _findings(self, heads, since):
        columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()]
        console = Console(file=self.stdout)
        with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
            entries = bar.add_task("Ledger entries", total=LedgerEntry.objects.filter(sequence__gte=since).count())
            return verify.findings(heads, after=since, follow=lambda more: bar.advance(entries, more))

    def _refuse_before_migrate(self):
        try:
            executor = MigrationExecutor(connection)
            behind = executor.migration_plan(executor.loader.graph.leaf_nodes())
        except DatabaseError as error:
            reason = " ".join(str(error).split())
            raise CommandError(f"Nothing was checked: the database can't be read ({reason}).", returncode=2) from error
        if behind:
            raise CommandError("Nothing was checked: run migrate first (“manage.py migrate”).", returncode=2)
