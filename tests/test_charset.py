"""What comes in another charset than UTF-8 is refused before anything reads it, on every page with a form."""

import io
import re
import sys
from copy import deepcopy

import pytest
from django.core.exceptions import SuspiciousOperation
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections
from django.test import Client

from tests import factories

pytestmark = pytest.mark.django_db

application = get_wsgi_application()  # that of config.wsgi reads the ledger first

PAGES = ["/check/", "/consent/", "/receipt/withdraw/", "/staff/sign-in/"]
BODY = (
    b'--x\r\nContent-Disposition: form-data; name="number"\r\n\r\nCN-000001-1\r\n'
    b'--x\r\nContent-Disposition: form-data; name="action"\r\n\r\nn\xff\\ud800umber\r\n--x--\r\n'
)
OTHERS = [
    "zlib_codec",
    "hex",
    "base64",
    "rot13",
    "idna",
    "undefined",
    "punycode",
    "unicode_escape",
    "raw_unicode_escape",
]
OTHERS += [
    "utf-7",
    "utf-16",
    "utf-8-sig",
    "iso-8859-1",
    "us-ascii",
    "nobody-knows-it",
    '""',
    '"zlib_codec"',
    "ZLIB_CODEC",
]


def send(client, page, charset, kind="multipart/form-data; boundary=x"):
    return client.generic("POST", page, BODY, content_type=f"{kind}{charset}", HTTP_HOST="localhost")


@pytest.fixture(scope="module")
def cookies(shared):
    agent, holder = factories.make_user("agent", group="Agent"), Client()
    holder.get(f"/consent/{factories.case_awaiting(agent).token}/")
    holder.get(f"/receipt/{factories.case_consented(agent).receipt}/")
    return holder.cookies


@pytest.fixture
def holder(cookies):
    """A browser that holds a link and a receipt, so that every page has a form to read."""
    holder = Client()
    holder.cookies = deepcopy(cookies)
    return holder


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("charset", OTHERS)
@pytest.mark.parametrize("kind", ["multipart/form-data; boundary=x", "application/x-www-form-urlencoded"])
def test_another_charset_is_refused(holder, page, charset, kind):
    answer = send(holder, page, f"; charset={charset}", kind)
    assert (answer.status_code, re.findall("<h1>(.*?)</h1>", answer.content.decode())) == (
        400,
        ["This could not be read"],
    )
    assert "default-src 'self'" in answer["Content-Security-Policy"]


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("charset", ["", "; charset=utf-8", "; charset=UTF-8", '; charset="Utf-8"', "; charset=utf8"])
@pytest.mark.parametrize("kind", ["multipart/form-data; boundary=x", "application/x-www-form-urlencoded"])
def test_utf_8_is_read_as_if_nothing_were_said(holder, page, charset, kind):
    def without_secrets(answer):
        return re.sub(r'value="[^"]{20,}"|Checked [^<]*', "", answer.content.decode())

    said, unsaid = send(holder, page, charset, kind), send(holder, page, "", kind)
    assert (said.status_code, without_secrets(said)) == (unsaid.status_code, without_secrets(unsaid))
    assert "This could not be read" not in said.content.decode()


@pytest.fixture
def connections_kept():
    """Keep the test's connection open across what a web server's request begins and ends with, as a client does."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


def ask(content_type, query):
    """Ask the application that the web server calls; return the statuses it answered and the headings of the page."""
    environ = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/check/verify_certificate.py",
        "QUERY_STRING": query,
        "CONTENT_TYPE": content_type,
    }
    environ |= {"HTTP_HOST": "localhost", "wsgi.input": io.BytesIO(BODY), "CONTENT_LENGTH": str(len(BODY))}
    environ |= {"SERVER_NAME": "localhost", "SERVER_PORT": "80", "wsgi.url_scheme": "http", "wsgi.errors": sys.stderr}
    came = []
    response = application(environ, lambda status, headers: came.append(status))
    page = b"".join(response).decode()
    response.close()
    return came, re.findall("<h1>(.*?)</h1>", page)


@pytest.mark.parametrize("charset", ["charset=zlib_codec", "charset=idna", "charset=undefined"])
def test_another_charset_is_refused_before_the_body_is_read(connections_kept, charset):
    asked = ask(f"multipart/form-data; boundary=x; {charset}", "")
    assert asked == (["400 Bad Request"], ["This could not be read"])


@pytest.mark.parametrize(
    ("charset", "query"),
    [
        ("charset=zlib_codec", "a=%FF"),
        ("charset=idna", "a=%FF"),
        ("charset*=utf-8''zlib_codec", "a=%FF"),
        ("charset*0=zlib_; charset*1=codec", "a=%FF"),
        ("charset*=nobody-knows-it''a", ""),
        ("charset*=idna''a%ff", ""),
        ("other*=undefined''a%ff", ""),
        ("other*=nobody-knows-it''a", ""),
    ],
)
def test_django_makes_no_request_of_some_content_types(connections_kept, charset, query):
    """Nothing of the desk has run when Django fails; the web server answers 500 by itself."""
    with pytest.raises((LookupError, ValueError, SuspiciousOperation)):
        ask(f"multipart/form-data; boundary=x; {charset}", query)


@pytest.mark.parametrize("charset", ["", "; charset=utf-8", '; charset="UTF8"', "; charset*=us-ascii''utf-8"])
def test_what_django_makes_a_request_of_gets_there(connections_kept, charset):
    # It came as far as the check against forged forms.
    assert ask(f"multipart/form-data; boundary=x{charset}", "a=%FF")[0] == ["403 Forbidden"]
