"""A provider of identities that others wrote, allauth's own, as a program: `python -m tests.signin.other_provider ...`.

It takes a folder for its database, the address that it sends people back to and the password of the one person whom it
knows, dana, and prints the port it answers on.
"""

import sys
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen
from wsgiref.simple_server import make_server

import django
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from django.apps import apps
from django.conf import settings
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import include, path

from tests.signin.provider import CLIENT, SECRET

ROOT = Path(__file__).parents[2]


class OtherProvider:
    """The program, as a test starts it and ends it."""

    def __init__(self, *told):
        command = [sys.executable, "-m", "tests.signin.other_provider", *map(str, told)]
        self.program = Popen(command, cwd=ROOT, stdout=PIPE, stderr=DEVNULL, text=True)
        self.url = f"http://127.0.0.1:{self.program.stdout.readline().strip()}"

    def close(self):
        self.program.terminate()
        self.program.communicate(timeout=10)


def main(folder, back, password):
    key = rsa.generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    templates = {"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}
    templates["OPTIONS"] = {"context_processors": ["django.template.context_processors.request"]}
    settings.configure(
        ALLOWED_HOSTS=["127.0.0.1"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": f"{folder}/provider.sqlite3"}},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        IDP_OIDC_PRIVATE_KEY=key.decode(),
        INSTALLED_APPS=[
            *("django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"),
            *("django.contrib.messages", "allauth", "allauth.account", "allauth.idp.oidc"),
        ],
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            "django.contrib.messages.middleware.MessageMiddleware",
            "allauth.account.middleware.AccountMiddleware",
        ],
        SECRET_KEY="made-up-for-these-tests",
        TEMPLATES=[templates],
        USE_TZ=True,
    )
    django.setup()
    settings.ROOT_URLCONF = (
        path("", include("allauth.idp.urls")),
        path("accounts/", include("allauth.urls")),
        path("favicon.ico", lambda request: HttpResponse(status=204)),
    )
    call_command("migrate", verbosity=0)
    _fill(back, password)
    server = make_server("127.0.0.1", 0, get_wsgi_application())
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()


def _fill(back, password):
    user, address, client = map(apps.get_model, ("auth.User", "account.EmailAddress", "allauth_idp_oidc.Client"))
    dana = user.objects.create_user("dana", "dana@vendor.example", password)
    address.objects.create(user=dana, email=dana.email, verified=True, primary=True)
    client = client(id=CLIENT, name="Unlock Desk", scopes="openid\nemail\nprofile", redirect_uris=back)
    client.set_secret(SECRET)
    client.save()


if __name__ == "__main__":
    main(*sys.argv[1:])
