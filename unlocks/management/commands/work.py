import signal
from threading import Event

from django.core.management.base import BaseCommand, CommandError

from ...ledger import chain
from ...models import Outgoing
from ...outbox import heartbeat, worker


class Command(BaseCommand):
    help = (
        "Send the emails that wait in the outbox, hand the product what it is asked to do, try again what could not be "
        "sent or handed over, make the case files that were ordered, seal the history every 15 minutes, and verify the "
        "record once a day, until stopped. Any number of workers may run at once."
    )

    def add_arguments(self, parser):
        parser.add_argument("--once", action="store_true", help="do what is due now, then end (for cron)")

    def handle(self, *args, once=False, **options):
        try:
            if once:
                worker.look_after(heartbeat.name("now and then"))
                self._say(worker.send_due())
                worker.make_case_files()
                worker.verify_when_due()
            else:
                worker.work(self._until_stopped())
        except chain.WrongKey as wrong:
            raise CommandError(f"Nothing more was sent. {wrong}") from wrong

    def _say(self, done):
        words = dict(Outgoing.State.choices) | {Outgoing.State.QUEUED: "To be tried again"}
        said = [f"{done[state]:,} {words[state].lower()}" for state in words if done[state]]
        self.stdout.write(f"Emails: {', '.join(said)}." if said else "No email is due.")

    def _until_stopped(self):
        """Return what is set when the worker is told to stop: it ends after the email that it is sending."""
        stopping = Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stopping.set())
        return stopping
