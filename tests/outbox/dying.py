"""The worker and the desk, each in a process that kills itself (SIGKILL) before a step of its work.

A step is a statement, a commit, what the made-up product does, or the desk's answer, counted from 1, and for the worker
from its first look at the outbox or at the instructions: `DIES_BEFORE=7 python -m tests.outbox.dying work`
is `manage.py work` otherwise, and `gunicorn tests.outbox.dying:application` the desk, which reads the number from the
header Dies-Before. Each step is a line in the file that STEPS names.
"""

import os
import signal
import sys
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

from django.core.management import execute_from_command_line
from django.core.wsgi import get_wsgi_application
from django.db import connection

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")


FIRST_LOOKS = ('SELECT "unlocks_outgoing"', 'SELECT "unlocks_instruction"')


class Steps:
    def __init__(self):
        self.taken, self.dies_before = 0, int(os.environ.get("DIES_BEFORE", 0))
        self.counts = __name__ != "__main__"

    def watch(self):
        commit = connection._commit
        connection._commit = lambda: (self.take("COMMIT"), commit())
        connection.execute_wrappers.append(lambda run, sql, *rest: (self.take(sql), run(sql, *rest))[1])
        self.watch_product(import_module("unlocks.product.sandbox").Sandbox)

    def watch_product(self, product):
        opened = product._file

        @contextmanager
        def watched(product):
            self.take("PRODUCT OPENS")
            with opened(product) as file:
                yield file
                self.take("PRODUCT KEEPS")
            self.take("PRODUCT HAS KEPT")

        product._file = watched

    def take(self, name):
        self.counts = self.counts or name.startswith(FIRST_LOOKS)
        if not self.counts:
            return
        self.taken += 1
        if self.taken == self.dies_before:
            os.kill(os.getpid(), signal.SIGKILL)
        with Path(os.environ["STEPS"]).open("a") as file:
            file.write(" ".join(name.split()) + "\n")


steps = Steps()


def application(environ, start_response):
    steps.taken, steps.dies_before = 0, int(environ.get("HTTP_DIES_BEFORE", 0))
    answer = desk(environ, start_response)
    steps.take("ANSWER")
    return answer


desk = get_wsgi_application()
steps.watch()
if __name__ == "__main__":
    execute_from_command_line(sys.argv)
