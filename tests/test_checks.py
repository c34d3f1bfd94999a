from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder

from tests.factories import make_user, record_certificate_key
from tests.product import vendor
from unlocks import checks

pytestmark = pytest.mark.django_db


def test_a_database_of_an_older_version_is_refused_with_what_to_do():
    MigrationRecorder(connection).record_applied("unlocks", "0001_accounts_batches_requests_and_consents")
    with pytest.raises(CommandError) as caught:
        call_command("check", databases=["default"])
    assert (
        "This database was made by an older version of the desk "
        "(migration 0001_accounts_batches_requests_and_consents), which this one cannot use."
    ) in str(caught.value)
    assert "make clean" in str(caught.value)


def test_so_is_one_that_lacks_a_column():
    """Before 1.0 a migration may be changed after it was applied."""
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE unlocks_checkattempts RENAME COLUMN count TO tries")
    with pytest.raises(CommandError, match=r"older version of the desk \(without unlocks_checkattempts\.count\)"):
        call_command("check", databases=["default"])


def test_a_database_of_this_version_passes():
    call_command("check", databases=["default"])


PRODUCTION = {
    "TRIAL": False,
    "LEDGER_KEY": "0123456789-abcdefghijklmnopqrstuvwxyz-and-even-more",
    "PUBLIC_URL": "https://desk.example",
    "ALLOWED_HOSTS": ["desk.example"],
}
KEY = "LEDGER_KEY is known or too short: it takes at least 50 characters, 10 of them different."


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("TRIAL", False, []),
        ("TRIAL", True, ["UNLOCK_DESK_TRIAL is set: passwords, and keys that are not set, are known to everybody."]),
        ("LEDGER_KEY", PRODUCTION["LEDGER_KEY"][:49], [KEY]),
        ("LEDGER_KEY", "123456789" * 10, [KEY]),
        (
            "PUBLIC_URL",
            "http://desk.example",
            ["PUBLIC_URL does not begin with https://, so consent links could be read on their way."],
        ),
        ("ALLOWED_HOSTS", ["desk.example", "*"], ["ALLOWED_HOSTS allows any host name."]),
        ("CONSENT_LINK_LIFETIME", timedelta(0), ["CONSENT_LINK_HOURS has to be at least 1 and at most 720."]),
        ("CONSENT_LIFETIME", timedelta(hours=-72), ["CONSENT_HOURS has to be at least 1 and at most 720."]),
        ("UNLOCK_WINDOW", timedelta(days=31), ["UNLOCK_WINDOW_HOURS has to be at least 1 and at most 720."]),
    ],
)
def test_settings_that_do_not_fit_production_are_refused(settings, name, value, said):
    for setting, fitting in (PRODUCTION | {name: value}).items():
        setattr(settings, setting, fitting)
    assert [error.msg for error in checks.settings_fit_production(None)] == said


FITTING = {
    "TRIAL": False,
    "PRODUCT": "webhook",
    "PRODUCT_URL": "https://vendor.example/unlock-desk",
    "PRODUCT_SECRETS": [vendor.SECRET, vendor.OLDER_SECRET],
}
NO_ADDRESS = "PRODUCT_URL is not the address of a server that begins with https://."
NO_SECRET = "PRODUCT_SECRETS: secret 1 is not 24 to 64 bytes in base64 after whsec_."


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("PRODUCT", "webhook", []),
        ("PRODUCT", "by_hand", []),
        ("PRODUCT", "by hand", ["PRODUCT is by hand, not one of by_hand, polling, webhook, sandbox."]),
        ("PRODUCT", "sandbox", ["PRODUCT is sandbox: it is made up, and nothing is unlocked."]),
        ("PRODUCT_URL", "", ["PRODUCT_URL is not set."]),
        ("PRODUCT_URL", "http://vendor.example/", [NO_ADDRESS]),
        ("PRODUCT_URL", "https:vendor.example", [NO_ADDRESS]),
        ("PRODUCT_URL", "https://vendor.example:port/", [NO_ADDRESS]),
        ("PRODUCT_URL", "https://vendor.example/a b", [NO_ADDRESS]),
        ("PRODUCT_URL", "https://[vendor", [NO_ADDRESS]),
        ("PRODUCT_URL", "https://véndor.example/", [NO_ADDRESS]),
        ("PRODUCT_URL", "https://vendor.example/\x7f", [NO_ADDRESS]),
        (
            "PRODUCT_URL",
            "https://desk:pass@vendor.example/",
            ["PRODUCT_URL holds a username: calls are signed, they take none."],
        ),
        ("PRODUCT_SECRETS", [], ["PRODUCT_SECRETS is not set."]),
        ("PRODUCT_SECRETS", [vendor.SECRET.removeprefix("whsec_")], [NO_SECRET]),
        ("PRODUCT_SECRETS", ["whsec_" + "x" * 31], [NO_SECRET]),
        ("PRODUCT_SECRETS", ["whsec_" + "A" * 28], [NO_SECRET]),
        ("PRODUCT_SECRETS", ["whsec_" + "A" * 32], []),
        ("PRODUCT_SECRETS", ["whsec_" + "A" * 32 + "!"], [NO_SECRET]),
        ("PRODUCT_SECRETS", ["whsec_" + "A" * 88], [NO_SECRET]),
    ],
)
def test_a_product_that_could_not_be_asked_is_refused(settings, name, value, said):
    for setting, fitting in (FITTING | {name: value}).items():
        setattr(settings, setting, fitting)
    errors = checks.product_can_be_asked(None)
    assert [error.msg for error in errors] == said
    assert {(error.id, error.hint) for error in errors} <= {("unlocks.E009", "See “Settings” in docs/integration.md.")}


def test_a_trial_may_call_without_https_and_make_a_product_up(settings):
    for setting, fitting in (FITTING | {"TRIAL": True, "PRODUCT_URL": "http://127.0.0.1:8001/"}).items():
        setattr(settings, setting, fitting)
    assert checks.product_can_be_asked(None) == []
    settings.PRODUCT = "sandbox"
    assert checks.product_can_be_asked(None) == []


OWN = bytes(range(32))
HINT = "See “Certificate keys” in docs/production.md: make_certificate_key, record_certificate_key."


def certificate_keys(settings, *keys, record=()):
    """Return what the check says of the configured keys, after others were recorded one after another."""
    for key in record:
        settings.CERTIFICATE_KEYS = [key]
        record_certificate_key()
    settings.CERTIFICATE_KEYS = list(keys)
    errors = checks.certificate_keys_in_place(None)
    assert {(error.id, error.hint) for error in errors} <= {("unlocks.E008", HINT)}
    return [error.msg for error in errors]


def test_certificate_keys_that_are_in_place(settings):
    assert certificate_keys(settings, OWN, record=[OWN]) == []
    assert certificate_keys(settings, bytes(32), OWN, record=[bytes(32)]) == []
    assert certificate_keys(settings, bytes(32)) == []  # the retired one's secret may go


def test_no_certificate_key(settings):
    assert certificate_keys(settings) == ["CERTIFICATE_KEYS is empty, so no certificate can be issued."]


def test_a_certificate_key_that_is_not_recorded_is_named(settings):
    assert certificate_keys(settings, bytes(32), OWN, record=[OWN]) == [
        "Certificate key 139e3940e64b5491 is not recorded, so it never signs."
    ]


def test_the_lost_secret_of_the_certificate_key_that_signs_is_named(settings):
    assert certificate_keys(settings, OWN, record=[OWN, bytes(32)]) == [
        "Certificate key 139e3940e64b5491, the newest on record, is not in CERTIFICATE_KEYS, so none can be issued."
    ]


def test_the_certificate_key_of_the_trial_is_refused(settings):
    known = bytes.fromhex(settings.TRIAL_CERTIFICATE_KEY)
    assert certificate_keys(settings, known, record=[known]) == [
        "CERTIFICATE_KEYS holds the trial run's key, which everybody knows."
    ]


@pytest.mark.parametrize(
    ("pair", "fits"),
    [
        ("zendesk=https://example.zendesk.com/agent/tickets/{}", True),
        ("jira=http://jira.example:8080/browse?id={}&x=1", True),
        ("zendesk", False),
        ("zendesk=", False),
        ("=https://desk.example/{}", False),
        ("zendesk=https://desk.example/tickets/", False),
        ("zendesk=desk.example/{}", False),
        ("zendesk=javascript:alert({})", False),
        ("zendesk=https:///{}", False),
        ("zendesk=https://{}.example/", False),
        ("zendesk=https://[desk.example/{}", False),
        ("zendesk=https://desk.example/a b/{}", False),
        (f"{'z' * 61}=https://desk.example/{{}}", False),
    ],
)
def test_a_help_desk_has_a_name_and_an_address_for_tickets(settings, pair, fits):
    name, _, address = pair.partition("=")
    settings.TICKET_SYSTEMS = {name: address}
    said = (
        [] if fits else [f"TICKET_SYSTEMS: “{pair if '=' in pair else pair + '='}” is no name and address of tickets."]
    )
    assert [error.msg for error in checks.tickets_can_be_found(None)] == said
    if not fits:
        with pytest.raises(CommandError, match=r"with \{\} for the number"):
            call_command("check")


@pytest.mark.parametrize(
    ("pair", "fits"),
    [
        ("support=Agent", True),
        ("Support leads=Manager", True),
        ("support=Agentt", False),
        ("support=agent", False),
        ("support=", False),
        ("=Agent", False),
        (" leads=Manager", False),
    ],
)
def test_a_group_of_the_provider_stands_for_one_of_the_desks(settings, pair, fits):
    name, _, group = pair.partition("=")
    settings.OIDC_GROUPS = {"auditors": "Auditor", name: group}
    said = [] if fits else [f"OIDC_GROUPS: “{pair}” is no group of the provider and one of the desk's."]
    assert [error.msg for error in checks.company_groups_are_known(None)] == said
    if not fits:
        with pytest.raises(CommandError, match="The desk has Agent, Auditor, Manager"):
            call_command("check")


@pytest.mark.parametrize(
    ("name", "email", "said"),
    [
        ("", "", []),
        ("Emergency", "lead@vendor.example", []),
        ("emergency", "", ["BREAK_GLASS_USERNAME is told to nobody: no manager has an email address."]),
        ("emergncy", "lead@vendor.example", ["BREAK_GLASS_USERNAME names no superuser who can sign in."]),
        ("unable", "lead@vendor.example", ["BREAK_GLASS_USERNAME names no superuser who can sign in."]),
        ("lead", "lead@vendor.example", ["BREAK_GLASS_USERNAME names no superuser who can sign in."]),
    ],
)
def test_the_emergency_account_is_someones_and_its_use_told_to_someone(settings, name, email, said):
    settings.BREAK_GLASS_USERNAME = name
    make_user("emergency", is_superuser=True, password="kept-in-a-safe", email="emergency@vendor.example")
    make_user("unable", is_superuser=True, password="kept-in-a-safe", is_active=False)
    make_user("lead", group="Manager", email=email)
    assert [error.msg for error in checks.emergency_account_in_place(None)] == said
