from contextlib import ExitStack
from pathlib import Path

from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.core.management.base import BaseCommand, CommandError
from django.db import Error
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ... import operations
from ...actors import Actor
from ...imports.kinds import KINDS
from ...imports.problems import Problem, Unreadable, errors_csv
from ...imports.reading import open_file
from ...ledger import chain
from ...models import Import
from ...texts.formats import counted

JUDGMENTS = {
    "new": "new",
    "changed": "changed",
    "same": "as on file",
    "no_longer_listed": "no longer listed",
    "left_alone": "left alone",
    "refused": "refused",
}


class Command(BaseCommand):
    help = (
        "Import accounts, contacts, batches, items and lines from CSV files or workbooks. Ends with 1 if a row was "
        "refused or a file could not be read: then nothing else of that file was read either."
    )

    def add_arguments(self, parser):
        parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
        parser.add_argument("--as", dest="username", required=True, help="who imports, by username")
        parser.add_argument("--kind", choices=KINDS, help="of which kind the files are, if their headers fit two")
        parser.add_argument("--day-first", action="store_true", help="read 3/4/2026 as April 3")
        parser.add_argument("--re-exported", action="store_true", help="mark unlocked batches that are exported there")
        parser.add_argument("--preview", action="store_true", help="say what would become of each record, no more")
        parser.add_argument("--errors", type=Path, metavar="errors.csv", help="write there what was wrong")

    def handle(self, *args, files, username, **options):
        by = self._actor(username)
        with ExitStack() as opened:
            sources = [self._open(path, opened, options) for path in files]
            try:
                imported = self._import(sources, by, options)
            except Unreadable as error:
                raise CommandError(f"Nothing was imported. {error}") from error
            except (PermissionDenied, operations.Refused, chain.WrongKey) as refused:
                raise CommandError(f"The import ended: {refused}") from refused
            except Error as error:
                raise CommandError(
                    f"The database failed: {type(error).__name__}. What was being written, the worker goes on with; "
                    "else import the files again. What is on file already is not written twice."
                ) from error
        if imported.state == Import.State.FAILED:
            raise CommandError(
                f"{imported} failed. {imported.why_failed} {imported.done:,} of {imported.parts:,} parts were written "
                "before. Import the same files again: what is on file already is not written twice."
            )
        self._say(imported, preview=options["preview"])
        problems = imported.problems.count()
        if options["errors"]:
            options["errors"].write_bytes(b"".join(errors_csv(operations.problems_of(imported))))
            self.stdout.write(f"{options['errors']} says what was wrong: {counted(problems, 'row', 'rows')}.")
        elif problems:
            self._list(imported, problems)
        if any(counts.get("refused") for counts in imported.counts.values()):
            raise SystemExit(1)

    def _actor(self, username):
        try:
            return Actor.staff(User.objects.get(username=username, is_active=True))
        except User.DoesNotExist as missing:
            raise CommandError(f"Nothing was imported: there is no user {username} who can sign in.") from missing

    def _open(self, path, opened, options):
        try:
            file = opened.enter_context(path.open("rb"))
            source = open_file(path.name, file, kind=options["kind"], day_first=options["day_first"])
        except OSError as error:
            raise CommandError(f"Nothing was imported. {path} can't be read: {error.strerror}.") from error
        except Unreadable as error:
            raise CommandError(f"Nothing was imported. {path}: {error}") from error
        self.stdout.write(f"{path}: {source.kind.name}.")
        if source.unknown_columns:
            self.stdout.write(f"  Ignored, as they are unknown: {', '.join(source.unknown_columns)}.")
        return source

    def _import(self, sources, by, options):
        self.stdout.write("Reading ...")
        imported = operations.stage_import(sources, source=Import.Source.COMMAND, by=by, judge=options["preview"])
        if options["preview"]:
            return operations.discard_import(imported, by=by)
        columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()]
        console = Console(file=self.stdout)
        with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
            parts = bar.add_task("Importing", total=imported.parts)

            def follow(imported):
                bar.update(parts, completed=imported.done)
                if not console.is_terminal:
                    self.stdout.write(f"Part {imported.done:,} of {imported.parts:,} is written.")

            return operations.import_records(imported, re_exported=options["re_exported"], by=by, follow=follow)

    def _say(self, imported, *, preview):
        head = f"{imported}, a preview: nothing was written." if preview else f"{imported} is done."
        self.stdout.write(head)
        for kind in KINDS:
            if counts := imported.counts.get(kind):
                said = [f"{counts[name]:,} {words}" for name, words in JUDGMENTS.items() if counts.get(name)]
                self.stdout.write(f"  {kind}: {', '.join(said)}")
        if waiting := imported.contacts.filter(is_admin=True, confirmed_by=None).count():
            wait = counted(waiting, "Admin contact waits", "Admin contacts wait")
            self.stdout.write(f"{wait} for a second person: see the queue of the desk.")

    def _list(self, imported, count):
        for name, problem in list(operations.problems_of(imported, 20)):
            what = Problem(*problem)
            about = f", {what.column} “{what.value}”" if what.column else ""
            self.stdout.write(f"  {name}, line {what.line}{about}: {what.sentence}")
        if count > 20:
            self.stdout.write(f"  and {count - 20:,} more: --errors errors.csv writes them all down.")
