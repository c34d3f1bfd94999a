"""The desk starts with its settings in the environment or as a trial run, and otherwise says which one is missing."""

import base64
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import settings

SET = {
    "SECRET_KEY": "a-secret-key-of-this-test-alone-0123456789-abcdefghij",
    "LEDGER_KEY": "a-ledger-key-of-this-test-alone",
    "PUBLIC_URL": "https://desk.example",
    "EMAIL_URL": "smtp+tls://mail.example:587",
    "DEFAULT_FROM_EMAIL": "support@desk.example",
    "SUPPORT_CONTACT": "support@desk.example",
}


TRIAL = "import django; django.setup(); from django.conf import settings; print(settings.TRIAL)"


def start(code=TRIAL, **environment):
    """Start the desk's settings in a process of its own, with nothing inherited but where programs are."""
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parent.parent,
        env={"PATH": os.environ["PATH"], "DJANGO_SETTINGS_MODULE": "config.settings"} | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("missing", SET)
def test_does_not_start_without(missing):
    started = start(**{name: value for name, value in SET.items() if name != missing})
    assert started.returncode != 0
    assert f"{missing} is not set" in started.stderr
    assert "UNLOCK_DESK_TRIAL=1" in started.stderr


@pytest.mark.parametrize("empty", SET)
def test_does_not_start_with_an_empty(empty):
    started = start(**SET | {empty: ""})
    assert started.returncode != 0
    assert f"{empty} is not set" in started.stderr


def test_a_command_says_what_is_missing_in_one_line():
    code = "import runpy, sys; sys.argv = ['manage.py', 'migrate']; runpy.run_path('manage.py', run_name='__main__')"
    started = start(code, **SET | {"EMAIL_URL": ""})
    assert (started.returncode, started.stderr) == (
        1,
        "Nothing was done. EMAIL_URL is not set. Set it in the environment (docs/production.md, “Settings”), "
        "or set UNLOCK_DESK_TRIAL=1 for a trial run with sample data.\n",
    )


def test_starts_with_all_of_them():
    started = start(**SET)
    assert (started.returncode, started.stdout) == (0, "False\n"), started.stderr


def started_with_keys(**environment):
    """Return the certificate keys in hexadecimal, or the last line of what was said instead."""
    code = "from django.conf import settings; print(*[key.hex() for key in settings.CERTIFICATE_KEYS])"
    started = start(code, **SET | environment)
    return started.stdout.split() or started.stderr.strip().splitlines()[-1]


def test_certificate_keys_come_from_the_environment_or_a_file(tmp_path):
    first, second = bytes(range(32)), bytes(32)
    both = f"{first.hex()},{base64.b64encode(second).decode()}"
    (tmp_path / "keys").write_text(f"{first.hex()}\n{second.hex()}\n")
    assert started_with_keys(CERTIFICATE_KEYS=both) == [first.hex(), second.hex()]
    assert started_with_keys(CERTIFICATE_KEYS_FILE=str(tmp_path / "keys")) == [first.hex(), second.hex()]


def test_a_certificate_key_that_is_none_is_named_and_not_shown(tmp_path):
    said = started_with_keys(CERTIFICATE_KEYS=f"{'00' * 32},no-key-at-all")
    assert said.endswith(
        "CERTIFICATE_KEYS: key 2 is not 32 bytes in hexadecimal or base64. “manage.py make_certificate_key” makes one."
    )
    said = started_with_keys(CERTIFICATE_KEYS_FILE=str(tmp_path / "none"))
    assert said.endswith(f"CERTIFICATE_KEYS_FILE can’t be read: {tmp_path / 'none'}: No such file or directory.")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x80")
    said = started_with_keys(CERTIFICATE_KEYS_FILE=str(tmp_path / "binary"))
    assert said.endswith(f"CERTIFICATE_KEYS_FILE can’t be read: {tmp_path / 'binary'}: it is no text file.")
    (tmp_path / "empty").write_text("\n")
    said = started_with_keys(CERTIFICATE_KEYS_FILE=str(tmp_path / "empty"), CERTIFICATE_KEYS="00" * 32)
    assert said.endswith(f"CERTIFICATE_KEYS_FILE holds no key: {tmp_path / 'empty'}.")


def test_starts_as_a_trial_without_any():
    started = start(UNLOCK_DESK_TRIAL="1")
    assert (started.returncode, started.stdout) == (0, "True\n"), started.stderr


def test_the_table_of_settings_is_complete():
    table = (Path(__file__).parent.parent / "docs" / "production.md").read_text()
    assert set(re.findall(r"^\| `([A-Z_]+)` \|", table, re.M)) == settings.VARIABLES
