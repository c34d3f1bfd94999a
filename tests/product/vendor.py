"""A real vendor's endpoint in a thread: it verifies with the public library, keeps keys, and fails as a test says."""

import json
import socket
import socketserver
import ssl
import threading
import time
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from ipaddress import ip_address
from typing import NamedTuple
from uuid import uuid4

import standardwebhooks
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from django.test import override_settings

SECRET = "whsec_" + "dW5sb2NrLWRlc2stdGVzdC1zZWNyZXQtMDAx"
OLDER_SECRET = "whsec_" + "dW5sb2NrLWRlc2stdGVzdC1zZWNyZXQtMDAw"


class Message(NamedTuple):
    id: str
    type: str
    instructions: list


class Vendor(socketserver.ThreadingTCPServer):
    """`decide` says what becomes of an instruction that it sees for the first time: `does`, `later`, `refuses(reason)`.

    `fault` is what happens instead of a good answer: one of the functions below, or of a test's own. `received` lists
    the messages whose signature was right, `done` the keys that it did, in order, each as often as it did it; `kept` is
    what it would say of each key. `paths` lists every address that was called, `open` counts connections.
    """

    daemon_threads, block_on_close, request_queue_size = True, False, 100

    def __init__(self, tls=None):
        super().__init__(("127.0.0.1", 0), _Session)
        self.decide, self.fault, self.secrets, self.tls = does, None, [SECRET], tls
        self.received, self.done, self.kept, self.paths, self.open = [], [], {}, [], 0
        self.lock = threading.Lock()

    @property
    def url(self):
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.server_address[1]}/unlock-desk"

    def verifies(self, body, headers):
        return any(verifies(body, headers, secret) for secret in self.secrets)

    def carry_out(self, message):
        with self.lock:
            for one in message.instructions:
                if one["key"] not in self.kept:
                    self.kept[one["key"]] = self.decide(self, one)
        return self.state(message)

    def state(self, message):
        return [self.kept.get(one["key"], {"state": "not_known"}) | {"key": one["key"]} for one in message.instructions]

    def do(self, key):
        """Do what was accepted, or at once; return what it says of it."""
        self.done.append(key)
        self.kept[key] = {"state": "done", "reference": f"VN-{len(self.done):06d}"}
        return self.kept[key]

    def callback(self, keys=None, *, secret=SECRET, at=None):
        """Return the body and headers with which it tells what became of keys, by default of all."""
        answers = [self.kept[key] | {"key": key} for key in (self.kept if keys is None else map(str, keys))]
        return signed(json.dumps({"answers": answers}), secret=secret, at=at)

    def handle_error(self, request, client_address):
        pass  # the other end was killed, or hung up


def signed(body, *, secret=SECRET, at=None):
    """Return a body and its headers, as a vendor's system would send it."""
    id, at = f"msg_{uuid4().hex}", at or datetime.now(UTC)
    return body, {
        "webhook-id": id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": standardwebhooks.Webhook(secret).sign(id, at, body),
    }


def verifies(body, headers, secret=SECRET):
    """Return whether a message is signed, as the public library sees it."""
    try:
        standardwebhooks.Webhook(secret).verify(body, headers, json_parse=False)
    except (standardwebhooks.WebhookVerificationError, ValueError):
        return False
    return True


# What becomes of an instruction


def does(vendor, instruction):
    return vendor.do(instruction["key"])


def later(vendor, instruction):
    return {"state": "accepted"}


def refuses(reason):
    return lambda vendor, instruction: {"state": "refused", "reason": reason}


# Faults: called with the session and the message


def loses(session, message):
    """Do what it is told to, and close the connection instead of an answer; it answers questions."""
    if message.type == "instructions.carry_out":
        session.server.carry_out(message)
        session.connection.shutdown(socket.SHUT_RDWR)
    else:
        session.answer(200, {"answers": session.server.state(message)})


def closes(session, message):
    """Close the connection instead of an answer, having done nothing."""
    session.connection.shutdown(socket.SHUT_RDWR)


def breaks_off(session, message):
    """Begin an answer that is good so far, and close the connection."""
    session.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n")
    session.connection.shutdown(socket.SHUT_RDWR)


def hangs(session, message):
    """Do what it is told to, and say nothing."""
    session.server.carry_out(message)
    session.rfile.read(1)  # until the other end hangs up


def slow(seconds):
    """Answer well, after a while."""

    def answers(session, message):
        time.sleep(seconds)
        session.work(message)

    return answers


def trickles(session, message):
    """Answer a letter at a time, and never come to an end."""
    session.wfile.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    while True:
        session.wfile.write(b" ")
        time.sleep(0.02)


def status(code, body=b"", **headers):
    """Answer with this status, having done nothing."""
    return lambda session, message: session.send(code, body, headers)


def says(body):
    """Do what it is told to, and answer with this."""

    def answers(session, message):
        if message.type == "instructions.carry_out":
            session.server.carry_out(message)
        session.send(200, body)

    return answers


class _Session(BaseHTTPRequestHandler):
    protocol_version, timeout = "HTTP/1.1", 20

    def setup(self):
        if self.server.tls:
            self.request = self.server.tls.wrap_socket(self.request, server_side=True)
        super().setup()
        self.server.open += 1

    def finish(self):
        self.server.open -= 1
        with suppress(OSError):
            super().finish()

    def do_POST(self):
        self.server.paths.append(self.path)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if not self.server.verifies(body, dict(self.headers)):
            self.answer(401, {"problem": "The signature is wrong."})
            return
        try:
            said = json.loads(body)
            message = Message(self.headers["webhook-id"], said["type"], said["data"]["instructions"])
        except (ValueError, KeyError, TypeError):
            self.answer(400, {"problem": "This is no message."})
            return
        self.server.received.append(message)
        (self.server.fault or _Session.work)(self, message)

    do_GET = do_POST

    def work(self, message):
        works = {"instructions.carry_out": self.server.carry_out, "instructions.state": self.server.state}
        if message.type in works:
            self.answer(200, {"answers": works[message.type](message)})
        else:
            self.answer(400, {"problem": "This type of message is not known."})

    def answer(self, code, data):
        self.send(code, json.dumps(data).encode())

    def send(self, code, body=b"", headers=()):
        self.send_response(code)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@contextmanager
def running(tls=None):
    """Let the product be a vendor of its own, while it runs."""
    with Vendor(tls) as vendor:
        threading.Thread(target=vendor.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        with override_settings(PRODUCT="webhook", PRODUCT_URL=vendor.url, PRODUCT_SECRETS=[SECRET]):
            yield vendor
        vendor.shutdown()


@contextmanager
def none():
    """Let the product be a port on which nobody listens; return its socket."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/"
        with override_settings(PRODUCT="webhook", PRODUCT_URL=url, PRODUCT_SECRETS=[SECRET]):
            yield taken


def certificate(folder):
    """Make a certificate for 127.0.0.1; return its file and a server's context with it."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Vendor")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    public, private = folder / "vendor.pem", folder / "vendor.key"
    public.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, private)
    return public, context
