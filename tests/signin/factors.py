"""Second factors as tests set them up: by the pages, as a colleague would."""

import re
import time

from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value

PASSWORD = "correct-horse-battery"


def code(secret, ahead=0):
    """Return the code that an authenticator app with this secret shows now, or so many half minutes later."""
    return format_hotp_value(hotp_value(secret, int(time.time()) // 30 + ahead))


def sign_in(client, username="dana", password=PASSWORD, **more):
    return client.post("/staff/sign-in/", {"login": username, "password": password} | more)


def set_up_app(client):
    """Set up an authenticator app for whoever is signed in; return its secret and the recovery codes."""
    page = client.get("/staff/yours/app/").content.decode()
    secret = re.search(r'<code class="secret">([A-Z2-7]+)</code>', page)[1]
    answer = client.post("/staff/yours/app/", {"code": code(secret)}, follow=True)
    return secret, re.findall(r"<li><code>(\d+)</code></li>", answer.content.decode())
