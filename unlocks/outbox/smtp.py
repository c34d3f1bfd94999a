"""Django's email backend for SMTP, with an end to each connection.

EMAIL_TIMEOUT is that of one read: a server that answers a letter every nine seconds would hold a worker up for hours,
and beyond its lease.
"""

import smtplib
import socket
from contextlib import suppress
from threading import Timer
from typing import Any

from django.core.mail.backends import smtp

DEADLINE = 60.0  # seconds, for connecting and one email


class _Ends:
    """A connection of smtplib that hangs up at its deadline; whoever waits for an answer reads an error then."""

    sock: Any
    _timer: Timer | None = None

    def connect(self, *args: Any, **kwargs: Any) -> Any:
        self._hang_up_after(DEADLINE)
        return super().connect(*args, **kwargs)  # type: ignore[misc]

    def close(self) -> None:
        if self._timer:
            self._timer.cancel()
        super().close()  # type: ignore[misc]

    def _hang_up_after(self, seconds: float) -> None:
        self._timer = Timer(seconds, self._hang_up)
        self._timer.daemon = True
        self._timer.start()

    def _hang_up(self) -> None:
        with suppress(OSError, AttributeError):
            self.sock.shutdown(socket.SHUT_RDWR)
            return
        self._hang_up_after(1)  # there is no socket yet, or it is being wrapped in TLS


class _Plain(_Ends, smtplib.SMTP):
    pass


class _Tls(_Ends, smtplib.SMTP_SSL):
    pass


class EmailBackend(smtp.EmailBackend):
    @property
    def connection_class(self) -> type[smtplib.SMTP]:
        return _Tls if self.use_ssl else _Plain
