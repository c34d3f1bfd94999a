"""What the tests of the API have in common."""

from django.test import Client

from tests.factories import make_token
from unlocks.models import ApiToken

ALL = sorted(ApiToken.Scope)
THE_FEED = ["contacts", "events", "pins", "read", "records"]
ON_REQUESTS = ["events", "personal", "product", "read", "requests", "unlock"]


class Caller:
    """A system that calls by a token. What it calls is below /api/v1."""

    def __init__(self, token="", **headers):
        self.client = Client()
        self.headers = {"authorization": f"Bearer {token}", "user-agent": "tests", **headers}

    def get(self, address, **headers):
        return self.client.get(f"/api/v1{address}", headers=self.headers | headers)

    def post(self, address, body=None, *, key=None, method="post", **headers):
        named = {"idempotency-key": key} if key else {}
        sent = {"content_type": "application/json", "headers": self.headers | named | headers}
        return getattr(self.client, method)(f"/api/v1{address}", body or {}, **sent)

    def put(self, address, body=None, **headers):
        return self.post(address, body, method="put", **headers)


def caller(superuser, *scopes, system="portal", **fields):
    """Return a caller with a token of these scopes; with all that act on requests when none are named."""
    _, token = make_token(system, *(scopes or ON_REQUESTS), by=superuser, **fields)
    return Caller(token)
