"""One call of the product over HTTP: with an end to its time and to what is read, and no redirect followed."""

import http.client
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from threading import Timer
from typing import NamedTuple
from urllib.parse import urlsplit

from ..texts.normalize import one_line
from .port import NotHandedOver

CONNECT = 10.0  # seconds, for each address of the host, and for TLS
DEADLINE = 30.0  # seconds, for sending and the whole answer; a timeout of the socket is only that of one read
READ_AT_MOST = 2 * 1024 * 1024  # bytes of an answer


class Reply(NamedTuple):
    status: int
    body: bytes


class Lost(Exception):
    """The product may have got the call; what it answered is not known. The message says why."""


def post(url: str, body: bytes, headers: Mapping[str, str]) -> Reply:
    """Send JSON and return what came back, whatever its status. Raises NotHandedOver, Lost."""
    with _sent(url, body, headers) as connection, connection.getresponse() as response:
        read = response.read(READ_AT_MOST + 1)
        if len(read) > READ_AT_MOST:
            raise Lost("The product’s answer is too long.")
        if response.length:  # `read` says nothing of what was to come when the line broke
            raise Lost("The product’s answer broke off.")
        return Reply(response.status, read)


def post_and_leave(url: str, body: bytes, headers: Mapping[str, str]) -> None:
    """Send JSON and hang up at the first byte of the answer: it is lost. Raises NotHandedOver, Lost."""
    with _sent(url, body, headers) as connection:
        connection.sock.recv(1)


@contextmanager
def _sent(url: str, body: bytes, headers: Mapping[str, str]) -> Iterator[http.client.HTTPConnection]:
    connection = _connected(url)
    parts, end = urlsplit(url), time.monotonic() + DEADLINE
    connection.sock.settimeout(DEADLINE)
    timer = Timer(DEADLINE, _hang_up, [connection.sock])
    timer.daemon = True
    timer.start()
    try:
        target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
        connection.request("POST", target, body, {"Content-Type": "application/json", "Connection": "close", **headers})
        yield connection
    except (OSError, http.client.HTTPException, ValueError) as error:
        if time.monotonic() < end:
            raise Lost(f"The connection broke before the product’s answer was read: {_words(error)}.") from error
        raise Lost(f"The product did not answer within {DEADLINE:g} seconds.") from error
    finally:
        timer.cancel()
        connection.close()
    if time.monotonic() >= end:  # what was read ended because we hung up
        raise Lost(f"The product did not answer within {DEADLINE:g} seconds.")


def _connected(url: str) -> http.client.HTTPConnection:
    """Return an open connection, on which nothing was sent. Raises NotHandedOver."""
    try:
        parts = urlsplit(url)
        if parts.scheme == "https":
            context = ssl.create_default_context()
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                parts.hostname or "", parts.port, timeout=CONNECT, context=context
            )
        else:
            connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=CONNECT)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise NotHandedOver(f"The product can’t be called: {_words(error)}.") from error
    try:
        connection.connect()
    except (OSError, http.client.HTTPException, ValueError) as error:
        connection.close()
        raise NotHandedOver(f"The product can’t be reached: {_words(error)}.") from error
    return connection


def _hang_up(sock: socket.socket) -> None:
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def _words(error: Exception) -> str:
    said = getattr(error, "verify_message", "") or getattr(error, "strerror", None) or str(error)
    return one_line(f"{type(error).__name__}, {said}" if said else type(error).__name__)[:300]
