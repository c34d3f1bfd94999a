"""Django's email backend for SMTP, with an end to each connection.

EMAIL_TIMEOUT is that of one read: a server that answers a letter a minute would hold a worker up for hours,
and beyond its lease.
"""

import smtplib
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Timer
from typing import Any

from django.core.mail.backends import smtp

DEADLINE = 120.0  # seconds, for connecting and one email


class _Ends:
    """A connection of smtplib that hangs up at its deadline; whoever waits for an answer reads an error then."""

    sock: Any
    _timer: Timer | None = None

    def connect(self, *args: Any, **kwargs: Any) -> Any:
        self._hang_up_after(DEADLINE)
        with self._closed_on_error():
            return super().connect(*args, **kwargs)  # type: ignore[misc]

    def starttls(self, *args: Any, **kwargs: Any) -> Any:
        with self._closed_on_error():
            return super().starttls(*args, **kwargs)  # type: ignore[misc]

    def login(self, *args: Any, **kwargs: Any) -> Any:
        with self._closed_on_error():
            return super().login(*args, **kwargs)  # type: ignore[misc]

    def quit(self) -> Any:
        try:
            return super().quit()  # type: ignore[misc]
        except smtplib.SMTPResponseException as error:
            # Django takes this one for a failure, but what was accepted before is sent, whatever is said to goodbye.
            raise smtplib.SMTPServerDisconnected(str(error)) from error

    def close(self) -> None:
        timer, self._timer = self._timer, None
        if timer:
            timer.cancel()
        super().close()  # type: ignore[misc]

    @contextmanager
    def _closed_on_error(self) -> Iterator[None]:
        # Neither smtplib nor Django closes what could not be opened: its timer would hold it, and come again forever.
        try:
            yield
        except BaseException:
            self.close()
            raise

    def _hang_up_after(self, seconds: float) -> None:
        self._timer = Timer(seconds, self._hang_up)
        self._timer.daemon = True
        self._timer.start()

    def _hang_up(self) -> None:
        with suppress(OSError, AttributeError):
            self.sock.shutdown(socket.SHUT_RDWR)
            return
        if self._timer:
            self._hang_up_after(1)  # there is no socket yet, or it is being wrapped in TLS


class _Plain(_Ends, smtplib.SMTP):
    pass


class _Tls(_Ends, smtplib.SMTP_SSL):
    pass


class EmailBackend(smtp.EmailBackend):
    @property
    def connection_class(self) -> type[smtplib.SMTP]:
        return _Tls if self.use_ssl else _Plain
