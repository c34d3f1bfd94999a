"""What is logged: lines of JSON that say who, what, where and why, and that hold no token, PIN or link."""

import json
import logging
import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from io import StringIO
from pathlib import Path
from socket import create_server
from time import monotonic, sleep
from types import SimpleNamespace

import pytest
from django.core.exceptions import SuspiciousOperation
from django.db import OperationalError
from django.test import Client
from django.urls import path
from gunicorn.config import Config
from structlog.contextvars import clear_contextvars

from config import urls
from config.logs import Lines, OneLineARequest
from config.web_server import MaskingLogger
from tests import factories
from tests.factories import PIN
from tests.test_settings import SET
from tests.walk import Scene
from unlocks import operations
from unlocks.admin import permissions
from unlocks.models import LedgerEntry, UnlockRequest
from unlocks.outbox import secrets, worker

ROOT = Path(__file__).parent.parent
SMTP = "unlocks.outbox.smtp.EmailBackend"
TOKEN = "Az09_-" * 7 + "x"  # 43 characters, as they are
handler500 = urls.handler500


def fails(request, how=""):
    match how:
        case "database":
            raise OperationalError("server closed the connection")
        case "suspicious":
            raise SuspiciousOperation("A made-up reason")
        case _:
            raise ValueError(f"{PIN} is no number, nor is {how or TOKEN}")


urlpatterns = [path("fails/", fails), path("fails/<str:how>/", fails), *urls.urlpatterns]


@pytest.fixture(autouse=True)
def nothing_known():
    """What an earlier test did is not named."""
    clear_contextvars()


@pytest.fixture
def broken(settings):
    """A desk with a page that fails, and a browser."""
    settings.ROOT_URLCONF = "tests.test_logs"
    return Client(raise_request_exception=False)


@contextmanager
def written():
    """Return the stream to which the desk logs as it does in production."""
    stream, root = StringIO(), logging.getLogger()
    handler, level = logging.StreamHandler(stream), root.level
    handler.setFormatter(Lines())
    handler.addFilter(OneLineARequest())
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield stream
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


@pytest.fixture
def lines():
    """Return what says which lines were logged, as they are read; each once."""
    with written() as stream:

        def read():
            said = [json.loads(line) for line in stream.getvalue().splitlines()]
            stream.seek(0)
            stream.truncate()
            return said

        yield read


def without(line, *names):
    """Return a line without what differs from run to run, or what is not the point."""
    return {name: value for name, value in line.items() if name not in ("time", "logger", "ip", "request_id", *names)}


def logged(message, *args, **more):
    record = logging.LogRecord("unlocks.outbox", logging.WARNING, "", 0, message, args, more.pop("exc_info", None))
    record.__dict__.update(more)
    return json.loads(Lines().format(record))


def failed(error, cause=None):
    """Return the line of an error that was raised."""
    try:
        raise error from cause
    except Exception:
        return logged("It failed", exc_info=sys.exc_info())


def test_a_token_is_as_long_as_the_mask_takes_it_for():
    assert {len(secrets.token(secrets.new_nonce())) for _ in range(100)} == {len(TOKEN)} == {43}


@pytest.mark.parametrize(
    ("address", "left"),
    [
        (f"/consent/{TOKEN}/", "/consent/…/"),
        (f"/receipt/{TOKEN}/", "/receipt/…/"),
        (f"/receipt/{TOKEN}", "/receipt/…"),
        (f"/receipt//{TOKEN}/", "/receipt//…/"),
        (f"//receipt/{TOKEN}/", "//receipt/…/"),
        (f"/Receipt/{TOKEN}/", "/Receipt/…/"),
        (f"/receipt/%20{TOKEN}/", "/receipt/…/"),
        (f"/consent/%41{TOKEN[1:]}/", "/consent/…/"),
        (f"/consent/%41{TOKEN[1:22]}/", "/consent/…/"),
        (f"/receipt//%41{TOKEN[1:]}/", "/receipt//…/"),
        (f"/receipt/<{TOKEN}>/", "/receipt/<…>/"),
        (f"/receipt/={TOKEN}/", "/receipt/=…/"),
        (f"/check/{TOKEN}", "/check/…"),
        (f"/{TOKEN}", "/…"),
        (f"\n{TOKEN}\té{TOKEN}", "\n…\té…"),
        (f"/desk/login/?next=/consent/{TOKEN}/", "/desk/login/"),
        (f"/desk/login/?next=%2Fconsent%2F{TOKEN}%2F", "/desk/login/"),
        (f"/receipt/{TOKEN[:30]}/", "/receipt/…/"),
        (f"/receipt/{TOKEN}{TOKEN}/", "/receipt/…/"),
        (f"/x/{TOKEN[:42]}/", f"/x/{TOKEN[:42]}/"),
        ("/desk/unlocks/unlockrequest/12/change/", "/desk/unlocks/unlockrequest/12/change/"),
        ("/check/keys.json?q=Dana Why? Because", "/check/keys.json Why? Because"),
    ],
)
def test_no_token_and_no_query_is_logged(address, left):
    assert logged("Not Found: %s", address)["event"] == f"Not Found: {left}"
    assert logged("Not Found", address=address)["address"] == left


def test_what_is_said_of_a_thing_that_is_no_text_is_masked_too():
    assert logged("Asked", about=[TOKEN], times=2, well=True, none=None) | {"time": ""} == {
        "event": "Asked",
        "about": "['…']",
        "times": 2,
        "well": True,
        "none": None,
        "level": "warning",
        "logger": "unlocks.outbox",
        "time": "",
    }


def test_a_line_says_when_in_which_zone():
    said = logged("Now")["time"]
    at = datetime.fromisoformat(said)
    assert said.endswith("Z")
    assert (at.utcoffset(), abs(datetime.now(UTC) - at) < timedelta(seconds=5)) == (timedelta(0), True)


def test_an_error_is_one_line_that_says_where_and_holds_no_secret():
    said = failed(ValueError(f"{PIN}, 4829, and /consent/{TOKEN}/"))["exception"]
    assert said.endswith("ValueError: …, …, and /consent/…/")
    assert f'test_logs.py", line {failed.__code__.co_firstlineno + 3}, in failed' in said


def test_an_error_of_the_database_holds_no_row():
    row = "Failing row contains (1, Dana\nWhitfield, \n\n5 Elm St)."
    said = failed(ValueError(f"null value\nDETAIL:  {row}\nCONTEXT:  COPY line 1: {row}"))["exception"]
    assert said.endswith("ValueError: null value\nDETAIL: …")
    cause = ValueError(f"null value\nCONTEXT:  COPY line 1: {row}")
    said = failed(KeyError("account"), cause)["exception"]
    assert "ValueError: null value\nCONTEXT: …\n\nThe above exception was the direct cause" in said
    assert said.endswith("KeyError: 'account'")


def test_the_console_logs_so(settings):
    console = settings.LOGGING["handlers"]["console"]
    assert settings.LOGGING["formatters"][console["formatter"]] == {"()": "config.logs.Lines", "json": False}
    assert [settings.LOGGING["filters"][name]["()"] for name in console["filters"]] == ["config.logs.OneLineARequest"]
    assert (logging.getLogger("django").handlers, logging.getLogger("django.server").handlers) == ([], [])


# A request


def test_a_page_is_one_line(agent_client, lines):
    answer = agent_client.get("/desk/search/?q=Dana")
    (line,) = lines()
    assert line["request_id"] == answer["X-Request-ID"]
    assert without(line) == {
        "level": "info",
        "event": "request_finished",
        "request": "GET /desk/search/",
        "code": 200,
        "user": "agent",
    }
    assert line["ip"] == "127.0.0.1"


def test_nobody_else_names_a_request(client, lines):
    answer = client.get("/desk/login/", headers={"X-Request-ID": "mine", "X-Forwarded-For": "198.51.100.7"})
    (line,) = lines()
    assert line["request_id"] == answer["X-Request-ID"] != "mine"
    assert line["ip"] == "127.0.0.1"


def test_each_request_has_an_id_of_its_own(client, lines):
    answers = [client.get("/desk/login/")["X-Request-ID"] for _ in range(2)]
    assert answers == [line["request_id"] for line in lines()]
    assert len(set(answers)) == 2


def test_static_files_are_not_logged(client, lines):
    assert client.get("/static/desk/logo.svg").status_code == 200
    assert lines() == []
    assert client.get("/static/desk/none.svg").status_code == 404
    assert [line["code"] for line in lines()] == [404]


def test_a_file_sent_in_pieces_says_that_it_is_complete(manager_client, lines):
    answer = manager_client.post("/desk/unlocks/ledgerentry/file/", {"form": "csv"})
    assert answer.streaming
    assert [line["event"] for line in lines()] == ["request_finished"]
    assert b"".join(answer)
    (line,) = lines()
    assert (line["event"], line["user"]) == ("streaming_finished", "manager")
    assert line["request_id"] == answer["X-Request-ID"]


def test_an_act_names_itself_the_case_and_who_acts(agent, agent_client, lines):
    case = factories.open_case(agent)
    agent_client.post(f"/desk/unlocks/unlockrequest/{case.unlock_request.pk}/change/", {"verb": "note", "text": "Hi"})
    (line,) = lines()
    assert without(line) == {
        "level": "info",
        "event": "request_finished",
        "request": f"POST /desk/unlocks/unlockrequest/{case.unlock_request.pk}/change/",
        "code": 302,
        "user": "agent",
        "case": case.unlock_request.reference,
        "act": str(LedgerEntry.objects.latest("sequence").act),
    }
    agent_client.get("/desk/")
    assert not {"case", "act"} & lines()[0].keys()


def refusal(line, **more):
    assert "exception" not in line
    return without(line, "act", "user", "case") == {"level": "warning", "event": "request_finished", **more}


def test_a_refused_verb_is_one_line_with_its_code(agent, agent_client, lines):
    case = factories.case_awaiting(agent)
    address = f"/desk/unlocks/unlockrequest/{case.unlock_request.pk}/change/"
    agent_client.post(address, {"verb": "verify_pin", "pin": "000000"})
    (line,) = lines()
    assert refusal(line, request=f"POST {address}", code=422, refused="pin_wrong")
    assert (line["user"], line["case"]) == ("agent", case.unlock_request.reference)
    assert LedgerEntry.objects.filter(act=line["act"]).exists()


@pytest.mark.parametrize("key", ["none", "²", "9" * 5000])
def test_an_address_of_no_case_names_none(agent_client, lines, key):
    agent_client.get(f"/desk/unlocks/unlockrequest/{key}/change/")
    assert "case" not in lines()[0]


def test_what_the_customer_does_is_of_the_case_and_of_nobody(agent, lines):
    case, browser = factories.case_awaiting(agent), Client()
    browser.get(f"/consent/{case.token}/")
    browser.post("/consent/", {"action": "open"})
    lines()
    browser.get("/consent/")
    (line,) = lines()
    assert without(line) == {
        "level": "info",
        "event": "request_finished",
        "request": "GET /consent/",
        "code": 200,
        "case": case.unlock_request.reference,
    }


def test_a_system_is_named_and_its_refusal_is_one_line(agent, superuser, lines):
    case = factories.open_case(agent)
    _, token = factories.make_token("portal", "requests", "read", by=superuser)
    lines()
    address = f"/api/v1/requests/{case.unlock_request.pk}/consent-links"
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": "k"}
    Client().post(address, {"contact": case.admin.email}, content_type="application/json", headers=headers)
    (line,) = lines()
    assert refusal(line, request=f"POST {address}", code=409, refused="advice_first")
    assert (line["user"], line["case"]) == ("portal", case.unlock_request.reference)
    Client().get(f"/api/v1/requests/{case.unlock_request.pk}/nothing", headers=headers)
    assert [(line["code"], "exception" in line) for line in lines()] == [(404, False)]
    Client().get("/api/v1/requests", headers=headers)
    assert [(line["code"], line["user"]) for line in lines()] == [(200, "portal")]


def test_an_act_names_the_case_that_it_opens(superuser, lines):
    account = factories.make_account()
    batch = factories.make_batch(account=account)
    _, token = factories.make_token("portal", "requests", by=superuser)
    sent = {"account": account.number, "requester": account.contacts.get().email, "batches": [batch.number]}
    sent |= {"channel": "phone", "bypass_reason": "by_mistake", "reason": "Bypassed in the wrong list."}
    headers = {"Authorization": f"Bearer {token}"}
    lines()
    answer = Client().post("/api/v1/requests", sent, content_type="application/json", headers=headers)
    (line,) = lines()
    assert (answer.status_code, line["case"]) == (201, UnlockRequest.objects.get().reference), answer.content


@pytest.mark.parametrize(
    ("asked", "code", "why"),
    [
        (["GET", "/nowhere/"], 404, None),
        (["OPTIONS", "/check/keys.json"], 405, None),
        (["GET", "/desk/permissions/"], 403, "Forbidden (Permission denied): /desk/permissions/"),
        (["GET", "/desk/", {"Host": "evil.example"}], 400, "Invalid HTTP_HOST header"),
        (["GET", "/fails/suspicious/"], 400, "A made-up reason"),
        (["POST", "/check/"], 403, "Forbidden (CSRF cookie not set.): /check/"),
    ],
)
def test_what_is_turned_away_is_one_line_that_says_why(broken, agent, lines, asked, code, why):
    broken.handler.enforce_csrf_checks = True
    broken.force_login(agent)
    method, address, *headers = asked
    answer = broken.generic(method, address, headers=headers[0] if headers else None)
    (line,) = lines()
    assert (line["level"], line["event"], line["code"], answer.status_code) == (
        "warning",
        "request_finished",
        code,
        code,
    )
    assert "exception" not in line
    assert line.get("why", "").startswith(why) if why else "why" not in line


def test_a_verb_that_one_may_not_call_is_one_line_that_says_what_it_takes(auditor_client, agent, lines):
    case = factories.open_case(agent)
    address = f"/desk/unlocks/account/{case.account.pk}/issue-pin/"
    assert auditor_client.get(address).status_code == 403
    (line,) = lines()
    assert (line["code"], line["user"], "exception" in line) == (403, "auditor", False)


@pytest.mark.parametrize(("address", "code"), [("/fails/", 500), ("/fails/database/", 503)])
def test_what_fails_is_one_line_with_its_traceback(broken, lines, address, code):
    answer = broken.get(address)
    (line,) = lines()
    assert answer.status_code == code
    assert without(line, "exception") == {
        "level": "error",
        "event": "request_failed",
        "request": f"GET {address}",
        "code": code,
    }
    assert "in fails" in line["exception"]
    assert PIN not in str(line)
    assert TOKEN not in str(line)


@pytest.mark.parametrize(
    ("address", "code", "headers"),
    [
        ("/fails/", 500, {}),
        ("/fails/database/", 503, {}),
        ("/fails/suspicious/", 400, {}),
        ("/desk/permissions/", 403, {}),
        ("/desk/", 400, {"Host": "evil.example"}),
        ("/desk/", 400, {"Content-Type": "text/plain; charset=utf-7"}),
    ],
)
def test_error_pages_show_the_id_that_the_log_has(broken, agent, lines, address, code, headers):
    broken.force_login(agent)
    answer = broken.get(address, headers=headers)
    (line,) = lines()
    assert (answer.status_code, answer["X-Request-ID"]) == (code, line["request_id"])
    assert f"ID: <code>{line['request_id']}</code>" in answer.content.decode()


def test_so_does_the_page_of_a_form_that_expired(db, lines):
    answer = Client(enforce_csrf_checks=True).post("/check/")
    assert answer.status_code == 403
    assert f"<code>{lines()[0]['request_id']}</code>" in answer.content.decode()


def test_so_does_the_page_of_a_wrong_key(broken, agent, settings, lines):
    case = factories.case_awaiting(agent)
    settings.LEDGER_KEY = "not-the-key-of-this-ledger"
    broken.get(f"/consent/{case.token}/", follow=True)
    lines()
    answer = broken.post("/consent/", {"action": "open"})
    (line,) = lines()
    assert (answer.status_code, line["code"], line["event"]) == (503, 503, "request_failed")
    assert f"<code>{line['request_id']}</code>" in answer.content.decode()


def test_what_django_says_outside_a_request_is_logged(lines):
    logging.getLogger("django.request").warning("Before any request")
    assert [line["event"] for line in lines()] == ["Before any request"]


# The worker


def test_the_worker_names_the_case_of_an_email_and_of_no_other(agent, manager, lines, settings):
    settings.EMAIL_BACKEND, settings.EMAIL_HOST, settings.EMAIL_PORT = SMTP, "127.0.0.1", 1
    first, second = factories.case_awaiting(agent), factories.case_awaiting(agent)
    lines()
    operations.issue_pin(first.account, by=factories.acting(manager))
    assert sum(worker.send_due().values()) == 3
    cases = [line.get("case") for line in lines()]
    assert cases == [first.unlock_request.reference, second.unlock_request.reference, None]
    worker._tried(lambda: int("none"))
    assert not {"case", "act", "user"} & lines()[0].keys()


# All of it


def nginx_map():
    """Return what nginx logs of an address, by the map that docs/production.md names."""
    rows = re.findall(r'^    "~(\*?)(.+?)" +"(.+)";$', (ROOT / "docs" / "production.md").read_text(), re.M)
    assert len(rows) == 3

    def logged_uri(uri):
        for any_case, pattern, shown in rows:
            python = pattern.replace("(?<", "(?P<")
            if found := re.search(python, uri, re.IGNORECASE if any_case else 0):
                return re.sub(r"\$\{?(\w+)\}?", lambda name: found[name[1]], shown)
        return ""

    return logged_uri


@pytest.mark.parametrize(
    ("uri", "logged_uri"),
    [
        (f"/consent/{TOKEN}/", "/consent/…"),
        (f"//Receipt//{TOKEN[:9]}", "//Receipt//…"),
        (f"/staff/link/{TOKEN[:42]}/", "/staff/link/…"),
        ("/consent/", "/consent/"),
        ("/receipt/?page=2", "/receipt/"),
        (f"/check/{TOKEN}", "…"),
        (f"/check/%41{TOKEN[1:]}", "…"),
        (f"/%63onsent/{TOKEN}/", "…"),
        (f"/desk/login/?next=/consent/{TOKEN}/", "/desk/login/"),
        ("/desk/search/?q=Dana", "/desk/search/"),
        ("/", "/"),
    ],
)
def test_the_map_for_nginx_masks_tokens_and_queries(uri, logged_uri):
    assert nginx_map()(uri) == logged_uri


class Walk:
    """Browsers behind a proxy and gunicorn, whose access logs are kept beside what the desk logs."""

    def __init__(self, folder):
        config = Config()
        config.set("accesslog", str(folder / "access.log"))
        self.gunicorn, self.nginx_map, self.nginx, self.asked = MaskingLogger(config), nginx_map(), [], []

    def watch(self, browser):
        ask = browser.request

        def request(**environ):
            answer = ask(**environ)
            environ = browser._base_environ(**environ)
            uri = f"{environ['PATH_INFO']}?{environ['QUERY_STRING']}"
            said = SimpleNamespace(status=answer.status_code, sent=1, headers=list(answer.items()))
            sent = [(name, value) for name, value in environ.items() if name.startswith("HTTP_")]
            self.gunicorn.access(
                said, sent, environ | {"RAW_URI": uri, "SERVER_PROTOCOL": "HTTP/1.1"}, timedelta(milliseconds=3)
            )
            self.nginx.append(self.nginx_map(uri))
            self.asked.append(uri)
            return answer

        browser.request, browser.raise_request_exception = request, False
        return browser

    def access_log(self):
        return Path(self.gunicorn.cfg.accesslog).read_text()


@pytest.mark.django_db
@pytest.mark.sqlite  # what is logged depends on no database
def test_no_log_of_a_whole_walk_holds_a_token_a_pin_or_a_link(settings, evidence_place, tmp_path, monkeypatch):
    monkeypatch.setenv("UNLOCK_DESK_TRIAL", "0")
    settings.ROOT_URLCONF = "tests.test_logs"
    with written() as desk:
        scene, walk = Scene(settings), Walk(tmp_path)
        _, token = factories.make_token("feed", "read", "pins", by=scene.users["superuser"])
        staff, customer, reader = (walk.watch(scene.browser(role)) for role in ("superuser", "customer", "reader"))
        stranger = walk.watch(Client())
        link, receipt = scene.waiting.token, scene.case.receipt

        for pattern in [pattern for pattern in permissions.PAGES if "/views/" not in pattern]:
            staff.get(scene.address(pattern))
        for pattern in [pattern for pattern in permissions.PAGES if not pattern.startswith("desk/")]:
            customer.get(scene.address(pattern)), reader.get(scene.address(pattern))
        for secret in (link, receipt, token):
            for address in ("/consent/{}", "/receipt//{}/", "/Consent/{}/", "/nowhere/{}", "/fails/{}/", "/?next={}"):
                stranger.get(address.format(secret))
            stranger.get("/desk/", headers={"Host": f"{secret}.example", "Referer": f"https://desk.example/{secret}"})
        for pin in ("000000", PIN):
            customer.post("/consent/", {"action": "check", "pin": pin, "shown": "x", "agree": "on"})
        case = f"/desk/unlocks/unlockrequest/{scene.waiting.unlock_request.pk}/change/"
        staff.post(case, {"verb": "verify_pin", "pin": PIN})
        staff.post("/desk/login/", {"username": "agent", "password": PIN})
        system = {"Authorization": f"Bearer {token}"}
        pin_of = f"/api/v1/accounts/{scene.case.account.number}/pin"
        for sent in ({"pin": PIN}, {"pin": f"{PIN}x"}, {"pins": PIN}):
            stranger.put(pin_of, sent, content_type="application/json", headers=system)
        stranger.get("/api/v1/accounts", headers=system)
        settings.EMAIL_BACKEND, settings.EMAIL_HOST, settings.EMAIL_PORT = SMTP, "127.0.0.1", 1
        worker.send_due()

    lines = [json.loads(line) for line in (desk.getvalue() + walk.access_log()).splitlines()]
    said = "\n".join([*(str(without(line)) for line in lines), *walk.nginx])
    hidden = {"link": link, "receipt": receipt, "token": token, "PIN": PIN, "session": staff.session.session_key}
    assert {name for name, secret in hidden.items() if secret in said} == set()
    # The walk was one: each of them was in an address, and what is logged is about it.
    assert {name for name, secret in hidden.items() if secret in "".join(walk.asked)} == {"link", "receipt", "token"}
    assert len([line for line in lines if line["event"] == "request_answered"]) == len(walk.asked) > 200
    assert {line["code"] for line in lines if "code" in line} >= {200, 302, 400, 403, 404, 405, 422, 500}
    assert [line for line in lines if "was not sent" in line["event"]]


@contextmanager
def served(folder):
    """Start gunicorn as docs/production.md says, with a database that was never migrated; yield how to ask it."""
    with create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = SET | {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": f"sqlite:///{folder / 'empty.sqlite3'}",
        "ALLOWED_HOSTS": "desk.example",
        "TRUSTED_PROXIES": "1",
    }
    command = [Path(sys.executable).parent / "gunicorn", "config.wsgi", "--bind", f"127.0.0.1:{port}"]
    with (folder / "log").open("w") as log:
        gunicorn = subprocess.Popen(
            [*command, "--access-logfile", "-"], cwd=ROOT, env=environment, stdout=log, stderr=log
        )

        def ask(address, **headers):
            line = HTTPConnection("127.0.0.1", port, timeout=20)
            line.request("GET", address, headers=headers)
            answer = line.getresponse()
            return answer.status, dict(answer.headers), answer.read().decode()

        try:
            yield ask
        finally:
            gunicorn.send_signal(signal.SIGTERM)
            gunicorn.wait(20)


def answers(ask, address):
    until = monotonic() + 30
    while monotonic() < until:
        try:
            return ask(address)
        except OSError:
            sleep(0.05)
    raise TimeoutError(address)


def test_what_gunicorn_writes_in_production_is_json_without_tokens(tmp_path):
    with served(tmp_path) as ask:
        assert answers(ask, "/health/live")[0] == 200
        assert ask("/health/ready")[0] == 503
        proxied = {"Host": "desk.example", "X-Forwarded-Proto": "https", "X-Forwarded-For": "198.51.100.7"}
        assert ask(f"/consent/{TOKEN}/?token={TOKEN}", **proxied)[0] == 302
        system = {"Authorization": f"Bearer {TOKEN}", "Referer": f"https://desk.example/{TOKEN}"}
        status, headers, _ = ask(f"/api/v1/accounts?number={TOKEN}", **proxied, **system)
        # Where static files were not collected, the page that should say so fails as well.
        assert ask(f"/desk/?next={TOKEN}", **proxied, Cookie=f"sessionid={TOKEN}")[0] == 500
    log = (tmp_path / "log").read_text()
    lines = [json.loads(line) for line in log.splitlines()]
    assert TOKEN not in log
    assert all(datetime.fromisoformat(line["time"]).utcoffset() == timedelta(0) for line in lines)
    shown = ("event", "request", "code", "ip")
    of_requests = [tuple(line.get(name) for name in shown) for line in lines if "request" in line]
    proxy, customer = "127.0.0.1", "198.51.100.7"
    assert [said for said in of_requests if said[0] != "request_answered"] == [
        ("Service Unavailable: /health/ready", "GET /health/ready", None, None),
        ("request_finished", "GET /consent/…/", 302, customer),
        ("request_finished", "GET /api/v1/accounts", 503, customer),
        ("request_failed", "GET /desk/", 503, customer),
    ]
    assert [said for said in of_requests if said[0] == "request_answered"] == [
        ("request_answered", "GET /health/live", 200, proxy),
        ("request_answered", "GET /health/ready", 503, proxy),
        ("request_answered", "GET /consent/…/", 302, proxy),
        ("request_answered", "GET /api/v1/accounts", 503, proxy),
        ("request_answered", "GET /desk/", 500, proxy),
    ]
    of_the_call = [line["event"] for line in lines if line.get("request_id") == headers["X-Request-ID"]]
    assert (status, of_the_call) == (503, ["request_finished", "request_answered"])
