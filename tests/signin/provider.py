"""A provider of identities (OpenID Connect) on an origin of its own. Whoever it is told to name signs in there."""

import json
import secrets
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt

CLIENT, SECRET = "unlock-desk", "of these tests"


class Provider:
    """`claims` are those of whoever signs in next, `userinfo` if it says others there; `answered` is what was asked."""

    def __init__(self):
        self.ahead = 0
        self.claims, self.userinfo, self.answered, self.codes, self.tokens = {}, None, [], {}, {}
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def names(self, sub="u-1", email="dana@vendor.example", **claims):
        self.claims = {"sub": sub, "email": email, "email_verified": True} | claims
        self.userinfo = None

    def configuration(self):
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "userinfo_endpoint": f"{self.url}/userinfo",
            "jwks_uri": f"{self.url}/keys",
            "token_endpoint_auth_methods_supported": ["client_secret_post"],
        }

    def authorize(self, query):
        """Return where the browser is sent back to, signed in."""
        code = secrets.token_urlsafe(16)
        self.codes[code] = self.claims
        return f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state']})}"

    def token(self, form):
        claims, access = self.codes.pop(form.get("code", ""), None), secrets.token_urlsafe(16)
        if claims is None or not form.get("code_verifier"):
            return {"error": "invalid_grant"}
        self.tokens[access] = claims
        now = int(time.time()) + self.ahead
        about = {"iss": self.url, "aud": CLIENT, "iat": now, "exp": now + 300}
        return {
            "access_token": access,
            "token_type": "Bearer",
            "id_token": jwt.encode(claims | about, "made-up-for-these-tests-and-long-enough", "HS256"),
        }


def _handler(provider):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            address = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(address.query).items()}
            provider.answered.append(address.path)
            match address.path:
                case "/.well-known/openid-configuration":
                    self._json(provider.configuration())
                case "/authorize":
                    self.send_response(302)
                    self.send_header("Location", provider.authorize(query))
                    self.end_headers()
                case "/userinfo":
                    claims = provider.tokens[self.headers["Authorization"].removeprefix("Bearer ")]
                    said = {name: value for name, value in claims.items() if name not in ("amr", "acr")}
                    self._json(said if provider.userinfo is None else provider.userinfo)
                case _:
                    self._json({"keys": []})

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            answer = provider.token({name: values[0] for name, values in parse_qs(body).items()})
            self._json(answer, 400 if "error" in answer else 200)

        def _json(self, answer, status=200):
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    return Handler


def use(settings, provider, groups=None):
    """Have the desk sign staff in with this provider."""
    settings.OIDC_URL, settings.OIDC_NAME, settings.OIDC_GROUPS = provider.url, "Vendor ID", groups or {}
    app = {"provider_id": "company", "name": "Vendor ID", "client_id": CLIENT, "secret": SECRET}
    app |= {"settings": {"server_url": provider.url}}
    settings.SOCIALACCOUNT_PROVIDERS = {"openid_connect": {"OAUTH_PKCE_ENABLED": True, "APPS": [app]}}
