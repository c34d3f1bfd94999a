"""A connection leaves nothing behind, however it ended: a worker tries again and again for months."""

import threading
import time

import pytest
from django.core.mail import EmailMessage

from tests import mail_servers
from tests.mail_servers import until
from unlocks.outbox import smtp


def ends(n=1):
    """Send n emails, and return the kinds of error."""
    came = set()
    for _ in range(n):
        try:
            EmailMessage("Subject", "Body", to=["dana@customer.example"]).send()
        except Exception as error:
            came.add(type(error).__name__)
    return came


def timers():
    """Return the timers that wait, or are about to wait again."""
    return [one for one in threading.enumerate() if isinstance(one, threading.Timer) and not one.finished.is_set()]


def test_no_timer_outlives_a_server_that_is_down():
    with mail_servers.none():
        assert ends(20) == {"ConnectionRefusedError"}
    assert timers() == []


@pytest.mark.parametrize(
    ("setting", "value"),
    [("EMAIL_USE_TLS", True), ("EMAIL_HOST_USER", "desk")],
)
def test_no_connection_outlives_one_that_is_not_let_in(settings, setting, value):
    setattr(settings, setting, value)
    settings.EMAIL_HOST_PASSWORD = "secret"
    with mail_servers.running() as server:
        assert ends(3) == {"SMTPNotSupportedError"}
        until(lambda: server.open == 0)
    assert timers() == []


def test_no_timer_outlives_its_deadline(monkeypatch):
    monkeypatch.setattr(smtp, "DEADLINE", 0.2)
    with mail_servers.running() as server:
        server.answers["RCPT"] = mail_servers.trickles
        assert len(ends()) == 1
    assert timers() == []


@pytest.mark.parametrize("answer", ["221 Bye", "500 What?", "2" * 10_000, mail_servers.closes, mail_servers.trickles])
def test_what_was_accepted_is_sent_whatever_the_server_says_to_goodbye(monkeypatch, answer):
    monkeypatch.setattr(smtp, "DEADLINE", 0.4)
    with mail_servers.running() as server:
        server.answers["QUIT"] = answer
        assert ends() == set()
        assert len(server.received) == 1
    assert timers() == []


def trickles_tls(session):
    """Answer with the beginning of a TLS record of 16 KiB, and then a byte at a time."""
    if session.server.answers.get("EHLO"):
        session.wfile.write(b"220 Go on\r\n")
    session.wfile.write(b"\x16\x03\x03\x40\x00")
    while True:
        session.wfile.write(b"\0")
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("setting", "answers"),
    [
        ("EMAIL_USE_SSL", {"greeting": trickles_tls}),
        ("EMAIL_USE_TLS", {"EHLO": "250-mail.example\r\n250 STARTTLS", "STARTTLS": trickles_tls}),
    ],
)
def test_a_server_whose_tls_begins_byte_by_byte_is_left_after_email_timeout(settings, setting, answers):
    """There is nothing to hang up on yet; Python counts a handshake as one read."""
    setattr(settings, setting, True)
    settings.EMAIL_TIMEOUT, start = 0.4, time.monotonic()
    with mail_servers.running() as server:
        server.answers.update(answers)
        assert len(ends()) == 1
        assert 0.3 < time.monotonic() - start < 5
        until(lambda: server.open == 0)
    assert timers() == []
