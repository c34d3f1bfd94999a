import re
from datetime import timedelta
from urllib.parse import urlsplit

from django.apps import apps
from django.conf import settings
from django.core.checks import Error, Tags, register
from django.db import DatabaseError, connections
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

from . import evidence, operations, roles
from .certificates import keys
from .certificates.verify_certificate import key_id
from .database import guards
from .ledger import chain, signing_keys
from .models import TICKET
from .product import ADAPTERS, webhook

HOUR, LONGEST = timedelta(hours=1), timedelta(days=30)


@register(deploy=True)
def guards_in_place(app_configs, **kwargs):
    """Refuse a deployment whose database does not keep the promise.

    For deployment only: a check of the database tag that errs would block `migrate`, which is the cure.
    """
    try:
        missing = guards.missing()
    except DatabaseError as error:
        return [Error(f"The guards could not be looked at: {error}", id="unlocks.E001")]
    if not missing:
        return []
    return [
        Error(
            f"Guards are missing or altered in the database: {', '.join(missing)}.",
            hint="Run “manage.py migrate”, and find out who changed them.",
            id="unlocks.E002",
        )
    ]


@register(deploy=True)
def desk_has_no_power(app_configs, **kwargs):
    """Refuse a deployment whose desk runs as a role that could take the guards away, or get round them."""
    try:
        powers = guards.powers()
    except DatabaseError:
        return []  # said by guards_in_place
    if not powers:
        return []
    return [
        Error(
            f"The desk's database role {', '.join(powers)}.",
            hint="Run the desk as a role of its own, as “The database and its two roles” in docs/production.md says.",
            id="unlocks.E005",
        )
    ]


@register(deploy=True)
def ledger_key_fits(app_configs, **kwargs):
    """Refuse a deployment with another LEDGER_KEY than the one that sealed the ledger."""
    try:
        chain.fitting_head()
    except chain.WrongKey as wrong:
        return [Error(str(wrong), id="unlocks.E007")]
    except DatabaseError:
        pass  # said by guards_in_place
    return []


@register(deploy=True)
def certificate_keys_in_place(app_configs, **kwargs):
    """Refuse a deployment that could not sign certificates, or with a key that was not recorded or is known."""
    try:
        recorded = signing_keys.recorded()
    except DatabaseError:
        return []  # said by guards_in_place
    ids, configured = [key.id for key in recorded], [key_id(key) for key in keys.configured()]
    flawed = {
        "CERTIFICATE_KEYS is empty, so no certificate can be issued.": not configured,
        "CERTIFICATE_KEYS holds the trial run's key, which everybody knows.": (
            bytes.fromhex(settings.TRIAL_CERTIFICATE_KEY) in settings.CERTIFICATE_KEYS
        ),
    }
    flawed |= {f"Certificate key {key} is not recorded, so it never signs.": key not in ids for key in configured}
    flawed |= {
        f"Certificate key {key}, the newest on record, is not in CERTIFICATE_KEYS, so none can be issued.": (
            key not in configured
        )
        for key in ids[:1]
    }
    hint = "See “Certificate keys” in docs/production.md: make_certificate_key, record_certificate_key."
    return [Error(message, hint=hint, id="unlocks.E008") for message, wrong in flawed.items() if wrong]


@register(deploy=True)
def settings_fit_production(app_configs, **kwargs):
    """Refuse a deployment with a key that can be guessed, links without HTTPS, any host name or an absurd duration."""
    flawed = {
        "UNLOCK_DESK_TRIAL is set: passwords, and keys that are not set, are known to everybody.": settings.TRIAL,
        "LEDGER_KEY is known or too short: it takes at least 50 characters, 10 of them different.": (
            len(settings.LEDGER_KEY) < 50 or len(set(settings.LEDGER_KEY)) < 10
        ),
        "PUBLIC_URL does not begin with https://, so consent links could be read on their way.": (
            not settings.PUBLIC_URL.startswith("https://")
        ),
        "ALLOWED_HOSTS allows any host name.": "*" in settings.ALLOWED_HOSTS,
    }
    flawed |= {
        f"{name} has to be at least 1 and at most {LONGEST.days * 24}.": not HOUR <= lasts <= LONGEST
        for name, lasts in {
            "CONSENT_LINK_HOURS": settings.CONSENT_LINK_LIFETIME,
            "CONSENT_HOURS": settings.CONSENT_LIFETIME,
            "UNLOCK_WINDOW_HOURS": settings.UNLOCK_WINDOW,
            "UNLOCK_WINDOW_MAX_HOURS": settings.UNLOCK_WINDOW_MAX,
        }.items()
    }
    flawed["UNLOCK_WINDOW_HOURS is more than UNLOCK_WINDOW_MAX_HOURS."] = (
        settings.UNLOCK_WINDOW_MAX < settings.UNLOCK_WINDOW <= LONGEST
    )
    return [Error(message, id="unlocks.E006") for message, wrong in flawed.items() if wrong]


@register()
def tickets_can_be_found(app_configs, **kwargs):
    """Refuse a help desk without a name, or whose tickets have no address: its requests would link to nowhere."""
    return [
        Error(
            f"TICKET_SYSTEMS: “{name}={address}” is no name and address of tickets.",
            hint="Write zendesk=https://example.zendesk.com/agent/tickets/{}, with {} for the number.",
            id="unlocks.E010",
        )
        for name, address in settings.TICKET_SYSTEMS.items()
        if not (name.strip() and len(name) <= TICKET and _leads_to_a_ticket(address))
    ]


def _leads_to_a_ticket(address):
    try:
        parts = urlsplit(address)
    except ValueError:
        return False
    host = bool(parts.hostname) and "{}" not in parts.netloc
    return host and parts.scheme in ("http", "https") and "{}" in address and not re.search(r"\s", address)


@register()
def company_groups_are_known(app_configs, **kwargs):
    """Refuse a group of the company's provider that stands for none of the desk's: all in it would lose theirs."""
    return [
        Error(
            f"OIDC_GROUPS: “{name}={group}” is no group of the provider and one of the desk's.",
            hint=f"Write support=Agent,leads=Manager, without spaces. The desk has {', '.join(sorted(roles.GROUPS))}.",
            id="unlocks.E014",
        )
        for name, group in settings.OIDC_GROUPS.items()
        if not name or name != name.strip() or group not in roles.GROUPS
    ]


@register(deploy=True)
def product_can_be_asked(app_configs, **kwargs):
    """Refuse a deployment without a product, with a made-up one, or with one that could not be called."""
    flaws = {
        f"PRODUCT is {settings.PRODUCT}, not one of {', '.join(ADAPTERS)}.": settings.PRODUCT not in ADAPTERS,
        "PRODUCT is sandbox: it is made up, and nothing is unlocked.": (
            settings.PRODUCT == "sandbox" and not settings.TRIAL
        ),
    }
    if settings.PRODUCT == "webhook":
        flaws |= dict.fromkeys(webhook.flaws_in(settings.PRODUCT_URL, settings.PRODUCT_SECRETS), True)
    hint = "See “Settings” in docs/integration.md."
    return [Error(message, hint=hint, id="unlocks.E009") for message, wrong in flaws.items() if wrong]


@register(deploy=True)
def emergency_account_in_place(app_configs, **kwargs):
    """Refuse a deployment in which the use of the emergency account would be told to nobody."""
    if not (name := settings.BREAK_GLASS_USERNAME):
        return []
    try:
        user = roles.user_named(name)
        works = user and user.is_active and user.is_staff and user.is_superuser and user.has_usable_password()
        if works and operations.told_of_emergency(user):
            return []
    except DatabaseError:
        return []  # said by guards_in_place
    what = "is told to nobody: no manager has an email address" if works else "names no superuser who can sign in"
    return [
        Error(
            f"BREAK_GLASS_USERNAME {what}.",
            hint="Make the account with “manage.py createsuperuser”, and give managers an email address on Staff.",
            id="unlocks.E013",
        )
    ]


@register(deploy=True)
def evidence_place(app_configs, **kwargs):
    """Refuse a deployment whose staff record consents by phone and that could not keep a signed paper."""
    if settings.PHONE_CONSENT and (trouble := evidence.trouble_with_place()):
        return [
            Error(
                f"Evidence can't be written: {trouble}.",
                hint="EVIDENCE_ROOT names a folder that the desk may write to, outside what the web server serves.",
                id="unlocks.E003",
            )
        ]
    return []


@register(deploy=True)
def case_file_place(app_configs, **kwargs):
    """Refuse a deployment whose worker could not put case files where they are downloaded from."""
    if trouble := evidence.trouble_with_place("case_files"):
        return [
            Error(
                f"Case files can't be written: {trouble}.",
                hint="CASE_FILE_ROOT names a folder that desk and worker share, outside what the web server serves.",
                id="unlocks.E011",
            )
        ]
    return []


@register(Tags.database)
def made_by_this_version(app_configs, databases=None, **kwargs):
    """Refuse a database of an older version: before 1.0 migrations are restarted, or changed in place."""
    for alias in databases or ():
        applied = MigrationRecorder(connections[alias]).applied_migrations().keys()
        known = MigrationLoader(None).disk_migrations.keys()
        older = sorted(f"migration {name}" for app, name in applied - known if app == "unlocks")
        if not older and all(migration in applied for migration in known if migration[0] == "unlocks"):
            older = [f"without {column}" for column in _missing_columns(connections[alias])]
        if older:
            return [
                Error(
                    f"This database was made by an older version of the desk ({older[0]}), which this one cannot use.",
                    hint="In a trial, “make clean” removes the trial's data; then “make run” starts again.",
                    id="unlocks.E004",
                )
            ]
    return []


def _missing_columns(connection):
    with connection.cursor() as cursor:
        for model in apps.get_app_config("unlocks").get_models(include_auto_created=True):
            table = model._meta.db_table
            there = {column.name for column in connection.introspection.get_table_description(cursor, table)}
            for field in model._meta.local_concrete_fields:
                if field.column not in there:
                    yield f"{table}.{field.column}"
