"""Where a request came from, in whatever form a proxy writes it."""

import pytest
from django.test import RequestFactory

from unlocks.actors import client_ip


@pytest.mark.parametrize(
    ("hop", "address"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("203.0.113.7:51008", "203.0.113.7"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("[fe80::1%eth0]:443", "fe80::1"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("::ffff:cb00:7107", "203.0.113.7"),
        ("[::ffff:203.0.113.7]:51008", "203.0.113.7"),
        ("unknown", None),
        ("1.2.3.4.5:6", None),
        ("203.0.113.7:", None),
        ("203.0.113.7:http", None),
        ("[]:443", None),
        ("[203.0.113.7", None),
    ],
)
def test_an_address_is_read_in_any_form(settings, hop, address):
    settings.TRUSTED_PROXIES = 1
    by_proxy = RequestFactory().get("/", HTTP_X_FORWARDED_FOR=f"198.51.100.9, {hop}")
    assert client_ip(by_proxy) == address
    settings.TRUSTED_PROXIES = 0
    assert client_ip(RequestFactory().get("/", REMOTE_ADDR=hop)) == address
