"""What is logged holds no token of a link or a receipt, however the address that held it was damaged."""

import logging

import pytest

from config.logs import WithoutTokens
from unlocks.outbox import secrets

TOKEN = "Az09_-" * 7 + "x"  # 43 characters, as they are


def logged(message, *args):
    record = logging.LogRecord("django.request", logging.WARNING, "", 0, message, args, None)
    assert WithoutTokens().filter(record) is True
    return record.getMessage()


def test_a_token_is_as_long_as_the_filter_takes_it_for():
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
        (f"/receipt/%20{TOKEN}/", "/receipt/%…/"),
        (f"/receipt/<{TOKEN}>/", "/receipt/<…>/"),
        (f"/receipt/={TOKEN}/", "/receipt/=…/"),
        (f"/check/{TOKEN}", "/check/…"),
        (f"/{TOKEN}", "/…"),
        (f"/desk/login/?next=/consent/{TOKEN}/", "/desk/login/?next=/consent/…/"),
        (f"/desk/login/?next=%2Fconsent%2F{TOKEN}%2F", "/desk/login/?next=%2Fconsent%…%2F"),
        (f"/receipt/{TOKEN[:30]}/", "/receipt/…/"),
        (f"/receipt/{TOKEN}{TOKEN}/", "/receipt/…/"),
        (f"/x/{TOKEN[:42]}/", f"/x/{TOKEN[:42]}/"),
        ("/desk/unlocks/unlockrequest/12/change/", "/desk/unlocks/unlockrequest/12/change/"),
    ],
)
def test_no_token_is_logged(address, left):
    assert logged("Not Found: %s", address) == f"Not Found: {left}"


def test_the_console_has_the_filter(settings):
    console = settings.LOGGING["handlers"]["console"]
    assert [settings.LOGGING["filters"][name]["()"] for name in console["filters"]] == ["config.logs.WithoutTokens"]
