"""The commands about certificate keys: one makes a key, the other records it."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.core.management import CommandError, call_command

from tests.attacks import snapshot
from unlocks.certificates.verify_certificate import key_id
from unlocks.ledger import signing_keys
from unlocks.models import LedgerEntry

pytestmark = pytest.mark.django_db


def public(secret):
    return Ed25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw().hex()


def test_a_key_is_made_shown_once_and_kept_nowhere(capsys):
    before = snapshot()
    call_command("make_certificate_key")
    call_command("make_certificate_key")
    out, err = capsys.readouterr()
    first, second = map(bytes.fromhex, out.split())
    assert (len(first), len(second), first != second) == (32, 32, True)
    assert [key_id(public(secret)) in err for secret in (first, second)] == [True, True]
    assert first.hex() not in err
    assert snapshot() == before


def test_the_newest_key_is_recorded_once(settings, capsys):
    settings.CERTIFICATE_KEYS = [bytes(32), *settings.CERTIFICATE_KEYS]
    call_command("record_certificate_key")
    call_command("record_certificate_key")
    assert capsys.readouterr().out == (
        "Certificate key 139e3940e64b5491 is recorded. It signs certificates from now on.\n"
        "Certificate key 139e3940e64b5491 was recorded before. Nothing was changed. It signs certificates.\n"
    )
    assert [key.key for key in signing_keys.recorded()] == [public(bytes(32))]
    assert [entry.actor for entry in LedgerEntry.objects.all()] == ["Unlock Desk"]


def test_an_older_key_does_not_sign_again(settings, capsys):
    older, newer = bytes(32), bytes(range(32))
    for keys in ([older], [newer, older], [older, newer]):
        settings.CERTIFICATE_KEYS = keys
        call_command("record_certificate_key")
    assert capsys.readouterr().out.splitlines()[-1] == (
        f"Certificate key {key_id(public(older))} was recorded before. Nothing was changed. "
        f"Key {key_id(public(newer))}, recorded later, signs certificates."
    )
    assert [key.key for key in signing_keys.recorded()] == [public(newer), public(older)]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"CERTIFICATE_KEYS": []},
            "Nothing was recorded: CERTIFICATE_KEYS is empty. Make a key with “manage.py make_certificate_key”.",
        ),
        ({"TRIAL": False}, "Nothing was recorded: everybody knows the trial run's key. Make one of your own."),
    ],
)
def test_what_cannot_be_recorded_is_refused(settings, changes, said):
    for name, value in changes.items():
        setattr(settings, name, value)
    with pytest.raises(CommandError) as caught:
        call_command("record_certificate_key")
    assert str(caught.value) == said
    assert not LedgerEntry.objects.exists()
