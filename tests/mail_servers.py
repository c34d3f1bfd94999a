"""A real email server in a thread, which answers as a test tells it to."""

import re
import socket
import socketserver
import threading
import time
from contextlib import contextmanager, suppress
from email import message_from_bytes, policy

from django.test import override_settings

BACKEND = "unlocks.outbox.smtp.EmailBackend"


class MailServer(socketserver.ThreadingTCPServer):
    """`answers` is what it says to a command ("RCPT", "DATA", "." for the end of the email, "QUIT"), or to an address
    in one.

    An answer is a text, None for none at all, or a function that is called with the connection. `received` lists the
    emails that it accepted; `open` counts connections.
    """

    daemon_threads, block_on_close = True, False

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Session)
        self.answers, self.received, self.open = {}, [], 0


class _Session(socketserver.StreamRequestHandler):
    def handle(self):
        self.server.open += 1
        with suppress(OSError):  # the other end was killed
            self._talk()
        self.server.open -= 1

    def _talk(self):
        self._answer("greeting", "220 mail.example")
        while line := self.rfile.readline():
            text = line.decode().strip()
            command = text.split(" ")[0].upper()
            if command == "QUIT":
                self._answer("QUIT", "221 Bye")
                return
            if command == "DATA":
                if self._answer("DATA", "354 Go on").startswith("354"):
                    self._data()
            else:
                address = re.search(r"<(.*?)>", text)
                named = address and self.server.answers.get(address[1]) and address[1]
                self._answer(named or command, "250 OK")

    def _data(self):
        lines = []
        while (line := self.rfile.readline()) not in (b".\r\n", b""):
            lines.append(line[1:] if line.startswith(b"..") else line)
        self.email = message_from_bytes(b"".join(lines), policy=policy.default)
        if self._answer(".", "250 Taken").startswith("250"):
            self.server.received.append(self.email)

    def _answer(self, to, usual):
        answer = self.server.answers.get(to, usual)
        if callable(answer):
            answer = answer(self)
        if answer is not None:
            self._say(answer)
        return answer or ""

    def _say(self, text):
        self.wfile.write(f"{text}\r\n".encode())


def trickles(session):
    """Answer a letter at a time, and never come to an end."""
    while True:
        session.wfile.write(b"2")
        time.sleep(0.05)


def closes(session):
    """Close the connection instead of an answer."""
    session.connection.shutdown(socket.SHUT_RDWR)


def until(fits, seconds=20):
    """Wait until it fits."""
    end = time.monotonic() + seconds
    while not fits():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.01)


@contextmanager
def running():
    """Let emails go to a server of their own, while it runs."""
    with MailServer() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        with override_settings(EMAIL_BACKEND=BACKEND, EMAIL_HOST="127.0.0.1", EMAIL_PORT=server.server_address[1]):
            yield server
        server.shutdown()


@contextmanager
def none():
    """Let emails go to a port on which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with override_settings(EMAIL_BACKEND=BACKEND, EMAIL_HOST="127.0.0.1", EMAIL_PORT=taken.getsockname()[1]):
            yield
