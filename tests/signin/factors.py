"""Second factors as tests set them up: by the pages, as a colleague would."""

import re
import time

import time_machine
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value

PASSWORD = "correct-horse-battery"


def code(secret, ahead=0):
    """Return the code that an authenticator app with this secret shows now, or so many half minutes later."""
    return format_hotp_value(hotp_value(secret, int(time.time()) // 30 + ahead))


def at_start_of(seconds):
    """Stop at the start of the next so many seconds, after all that was set up before: tries are counted in each."""
    return time_machine.travel((int(time.time()) // seconds + 1) * seconds, tick=False)


def sign_in(client, username="dana", password=PASSWORD, **more):
    return client.post("/staff/sign-in/", {"login": username, "password": password} | more)


def set_up_app(client):
    """Set up an authenticator app for whoever is signed in; return its secret and the recovery codes."""
    page = client.get("/staff/yours/app/").content.decode()
    secret = re.search(r'<code class="secret">([A-Z2-7]+)</code>', page)[1]
    answer = client.post("/staff/yours/app/", {"code": code(secret)}, follow=True)
    return secret, re.findall(r"<li><code>(\d+)</code></li>", answer.content.decode())
