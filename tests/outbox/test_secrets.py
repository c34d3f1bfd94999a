"""What is emailed is derived from a row's nonce: the same at each try, and nothing without the key."""

from unlocks import pins
from unlocks.outbox import secrets

NONCE = "5f" * 32


def test_known_values(settings):
    # They stand in emails that customers have: the same nonce gives the same link in years to come.
    settings.LEDGER_KEY = "a made-up key for one test"
    assert (secrets.token(NONCE), secrets.pin(NONCE)) == ("jAEP9xy3_g4i7GoTNawlJd7KssbQbIALYddkrWqXjS8", "603379")


def test_differ_by_nonce_and_by_key(settings):
    first, other = (secrets.token(NONCE), secrets.pin(NONCE)), "60" * 32
    assert (secrets.token(other), secrets.pin(other)) != first
    settings.LEDGER_KEY = "another key"
    assert (secrets.token(NONCE), secrets.pin(NONCE)) != first


def test_are_of_their_shape():
    nonces = [secrets.new_nonce() for _ in range(200)]
    assert len(set(nonces)) == 200
    assert {len(secrets.token(nonce)) for nonce in nonces} == {43}
    made = [secrets.pin(nonce) for nonce in nonces]
    assert {len(pin) for pin in made} == {pins.PIN_DIGITS}
    assert all(pin.isdecimal() for pin in made)
    assert len({pin[0] for pin in made}) == 10
