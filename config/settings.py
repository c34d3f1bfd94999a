"""The one settings file. Everything that differs between machines is read from the environment (README, "Settings").

Without `SECRET_KEY` and `LEDGER_KEY` only the trial run (`UNLOCK_DESK_TRIAL=1`, what `make run` sets) starts.
"""

import base64
import logging
import re
from datetime import timedelta
from functools import partial
from pathlib import Path

import environ
from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured

BASE_DIR = Path(__file__).resolve().parent.parent
env = environ.Env()

TRIAL = env.bool("UNLOCK_DESK_TRIAL", default=False)


def required(name, trial):
    """Return the setting `name`, or `trial` on a trial run. Raises ImproperlyConfigured, which stops the start."""
    value = env.str(name, default="")
    if value:
        return value
    if TRIAL:
        return trial
    raise ImproperlyConfigured(
        f"{name} is not set. Set it in the environment (docs/production.md, “Settings”), "
        "or set UNLOCK_DESK_TRIAL=1 for a trial run with sample data."
    )


def certificate_keys(trial):
    """Return the keys that the environment or its file holds, 32 bytes each. Raises ImproperlyConfigured."""
    texts, path = env.list("CERTIFICATE_KEYS", default=trial), env.str("CERTIFICATE_KEYS_FILE", default="")
    if path:
        try:
            texts = Path(path).read_text().split()
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is no text file"
            raise ImproperlyConfigured(f"CERTIFICATE_KEYS_FILE can’t be read: {path}: {why}.") from error
        if not texts:
            raise ImproperlyConfigured(f"CERTIFICATE_KEYS_FILE holds no key: {path}.")
    return [certificate_key(number, text) for number, text in enumerate(texts, start=1)]


def certificate_key(number, text):
    """Return the bytes of a key. Raises ImproperlyConfigured, which does not show it."""
    for decode in (bytes.fromhex, partial(base64.b64decode, validate=True)):
        try:
            key = decode(text)
        except ValueError:
            continue
        if len(key) == 32:
            return key
    raise ImproperlyConfigured(
        f"CERTIFICATE_KEYS: key {number} is not 32 bytes in hexadecimal or base64. “manage.py make_certificate_key” "
        "makes one."
    )


def working_hours(text):
    """Return when work begins and ends, counted from midnight, of a text such as 9-17 or 8:30-17. Raises as above."""
    match = re.fullmatch(r"(\d{1,2})(?::([0-5]\d))?-(\d{1,2})(?::([0-5]\d))?", text)
    hours = [timedelta(hours=int(match[n]), minutes=int(match[n + 1] or 0)) for n in (1, 3)] if match else []
    if hours and hours[0] < hours[1] <= timedelta(days=1):
        return tuple(hours)
    raise ImproperlyConfigured(f"WORKING_HOURS is not from an hour to a later one, such as 9-17 or 8:30-17: {text}.")


def working_days(text):
    """Return the weekdays, Monday being 0, of a text such as mon-fri or sun-thu. Raises as above."""
    names = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
    first, _, last = text.lower().partition("-")
    if first in names and (last or first) in names:
        begins = names.index(first)
        return frozenset((begins + n) % 7 for n in range((names.index(last or first) - begins) % 7 + 1))
    raise ImproperlyConfigured(f"WORKING_DAYS is not a day, or from one to another, such as mon-fri: {text}.")


def weekday_and_hour(text):
    """Return the weekday (Monday being 0) and hour of a text such as "mon 7"; None of none. Raises as above."""
    day, _, hour = text.lower().partition(" ")
    days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
    if not text:
        return None
    if day in days and hour.isdecimal() and int(hour) < 24:
        return days.index(day), int(hour)
    raise ImproperlyConfigured(f"WEEKLY_EMAIL is not a day and an hour, such as mon 7, nor empty: {text}.")


def target_hours(texts):
    """Return the hours that a request may be in each stage, of texts such as new=4. Raises as above."""
    named = dict(text.split("=", 1) for text in texts if "=" in text)
    if len(named) == len(texts) and named.keys() <= STAGES_WITH_TARGET and all(map(str.isdecimal, named.values())):
        return {stage: timedelta(hours=int(hours)) for stage, hours in named.items()}
    raise ImproperlyConfigured(
        f"STAGE_TARGET_HOURS is not hours for {', '.join(sorted(STAGES_WITH_TARGET))}, such as new=4,ready=2: "
        f"{','.join(texts)}."
    )


def company_provider():
    """Return the company's provider as allauth takes it, if there is one."""
    if not OIDC_URL:
        return []
    at = {"provider_id": "company", "name": OIDC_NAME, "settings": {"server_url": OIDC_URL}}
    return [{**at, "client_id": env.str("OIDC_CLIENT_ID"), "secret": env.str("OIDC_SECRET")}]


SECRET_KEY = required("SECRET_KEY", "trial-only-key-that-signs-nothing-of-worth-0123456789-abcdefghij")
# The key that seals the ledger. Not SECRET_KEY: that one is rotated, this one has to outlive every record.
LEDGER_KEY = required("LEDGER_KEY", "trial-only-ledger-key")
# The keys that sign certificates, the newest first. Everybody knows the trial run's.
TRIAL_CERTIFICATE_KEY = "613ba20db8890d7a0dc59edeb1229deba45d99a6b42924ca6186a31132fc7827"
CERTIFICATE_KEYS = certificate_keys([TRIAL_CERTIFICATE_KEY] if TRIAL else [])
DEBUG = env.bool("DEBUG", default=False)
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"] if TRIAL else [])
CSRF_FAILURE_VIEW = "config.errors.form_expired"
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])
# Where customers reach the desk: the address in front of the links that are mailed to them.
PUBLIC_URL = required("PUBLIC_URL", "http://127.0.0.1:8000").rstrip("/")
VENDOR_NAME = env.str("VENDOR_NAME", default="ServiceTitan")
# Help desks whose tickets requests name, as name=address pairs; {} in the address stands for the ticket's number.
TICKET_SYSTEMS = {pair.partition("=")[0]: pair.partition("=")[2] for pair in env.list("TICKET_SYSTEMS", default=[])}

# How long things last.
CONSENT_LINK_LIFETIME = timedelta(hours=env.int("CONSENT_LINK_HOURS", default=72))
CONSENT_LIFETIME = timedelta(hours=env.int("CONSENT_HOURS", default=72))
# The window of an unlock, counted from the product's answer: the one that is preset, and the longest.
UNLOCK_WINDOW = timedelta(hours=env.int("UNLOCK_WINDOW_HOURS", default=24))
UNLOCK_WINDOW_MAX = timedelta(hours=env.int("UNLOCK_WINDOW_MAX_HOURS", default=72))
# How long a request may be in a stage in which it waits for staff, in working hours of TIME_ZONE.
STAGES_WITH_TARGET = {"new", "ready", "product", "to_close"}
STAGE_TARGETS = target_hours(env.list("STAGE_TARGET_HOURS", default=["new=4", "ready=2"]))
WORKING_HOURS = working_hours(env.str("WORKING_HOURS", default="9-17"))
# When managers are emailed the figures of the seven days before; empty: never.
WEEKLY_EMAIL = weekday_and_hour(env.str("WEEKLY_EMAIL", default="mon 7"))
WORKING_DAYS = working_days(env.str("WORKING_DAYS", default="mon-fri"))
# From when on staff are told that what the product said of a batch is old.
DATA_AGE_WARNING = timedelta(hours=env.int("DATA_AGE_WARNING_HOURS", default=24))
# The product behind the desk: by_hand (staff carry out what the desk lists), webhook, polling
# (it pulls them by the API), or sandbox (made up, for trials).
PRODUCT = env.str("PRODUCT", default="by_hand")
# Its webhook: the address, and the secrets that sign, the newest first. Two while they are being rotated.
PRODUCT_URL = env.str("PRODUCT_URL", default="")
PRODUCT_SECRETS = env.list("PRODUCT_SECRETS", default=[])
# What the made-up product remembers: not in the desk's database, for it stands for another system.
SANDBOX_FILE = env.str("SANDBOX_FILE", default=str(BASE_DIR / "var" / "product.sqlite3"))
PIN_VERIFICATION_LIFETIME = timedelta(minutes=30)
# The vendor's policy: may staff record a consent by phone, and see the consent link that they send?
PHONE_CONSENT = env.bool("PHONE_CONSENT", default=False)
SHOW_CONSENT_LINK = env.bool("SHOW_CONSENT_LINK", default=False)
# Which closed cases are reviewed: with a consent by phone, with a warning overridden, of so much money or more (none
# where it is empty), and a share of all others, in percent. Only those of which something was unlocked.
REVIEW_BY_PHONE = env.bool("REVIEW_BY_PHONE", default=True)
REVIEW_WARNED = env.bool("REVIEW_WARNED", default=True)
REVIEW_AMOUNT = env.int("REVIEW_AMOUNT", default=None)
REVIEW_SHARE = env.int("REVIEW_PERCENT", default=5)
EVIDENCE_MAX_BYTES = 10 * 1024 * 1024
# The import page: how large its files may be, and how many rows they may hold together. The command takes any number.
IMPORT_MAX_BYTES = 20 * 1024 * 1024
IMPORT_MAX_ROWS = 100_000
# How long the ZIP with the case files of several requests is kept.
CASE_FILE_LIFETIME = timedelta(days=env.int("CASE_FILE_DAYS", default=7))
# The public check page: the largest file, and how many checks one network may make in how long.
CHECK_MAX_BYTES = 20 * 1024 * 1024
CHECK_LIMIT = 30
CHECK_WINDOW = timedelta(minutes=10)
# Above so many batches a bulk action is left to the worker.
BULK_IN_WORKER = env.int("BULK_IN_WORKER", default=5_000)
# How many calls of the API one token may make in a minute.
API_LIMIT = env.int("API_LIMIT", default=600)
# Proxies in front of the desk whose X-Forwarded-For entries are believed. 0: the peer's own address counts.
TRUSTED_PROXIES = env.int("TRUSTED_PROXIES", default=0)

INSTALLED_APPS = [
    "unlocks",  # before auth: its createsuperuser and changepassword are the ones that run
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.socialaccount",
    "allauth.socialaccount.providers.openid_connect",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "simple_history",
    "crispy_forms",
    "crispy_bootstrap5",
    "csp",
]
MIDDLEWARE = [
    "config.bodies.read_to_the_end",
    "unlocks.health.answer_health",
    "config.request_log.RequestLog",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "config.charset.only_utf_8",
    "unlocks.admin.own_zone.times_of_reader",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "unlocks.signin.sessions.end_in_time",
    "allauth.account.middleware.AccountMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

DATABASES = {"default": env.db("DATABASE_URL", default=f"sqlite:///{BASE_DIR / 'var' / 'desk.sqlite3'}")}
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    DATABASES["default"]["ENGINE"] = "unlocks.database.sqlite"
    # Writers queue for the one write lock instead of failing with "database is locked" half-way through.
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    }
else:
    DATABASES["default"].setdefault("CONN_MAX_AGE", 60)
    DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
    # A page's queries take milliseconds, and compiling them seconds: PostgreSQL takes their subqueries for dear. And it
    # takes looking up a row for four times as dear as it is without turning disks, so that it reads whole tables.
    options = "-c jit=off -c random_page_cost=1.1"
    DATABASES["default"].setdefault("OPTIONS", {}).setdefault("options", options)

# OWASP's Argon2id parameters: Django's own cost 100 MiB and six times the time a try.
PASSWORD_HASHERS = ["unlocks.pins.PinHasher"]
AUTHENTICATION_BACKENDS = ["unlocks.roles.Rights"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
LOGIN_URL, LOGIN_REDIRECT_URL = "account_login", "admin:index"
# What every process has to know: which codes were used, and how many were tried.
CACHES = {
    "default": {"BACKEND": "unlocks.signin.cache.RowCache"},
}

# The company's provider of identities (OpenID Connect), and which of its groups are which of the desk's.
OIDC_URL = env.str("OIDC_URL", default="")
OIDC_NAME = env.str("OIDC_NAME", default="Company account")
OIDC_GROUPS_CLAIM = env.str("OIDC_GROUPS_CLAIM", default="groups")
OIDC_GROUPS = {pair.partition("=")[0]: pair.partition("=")[2] for pair in env.list("OIDC_GROUPS", default=[])}
OIDC_ACR = env.list("OIDC_ACR", default=[])

# django-allauth. Nobody signs up, and no stranger has a password reset (unlocks.signin).
ACCOUNT_ADAPTER = "unlocks.signin.adapters.SignInAdapter"
ACCOUNT_FORMS = {"login": "unlocks.signin.forms.SignInForm"}
ACCOUNT_LOGIN_METHODS = {"username"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "password1*"]
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_SESSION_REMEMBER = True
ACCOUNT_REAUTHENTICATION_METHODS = {"password", "mfa"}
SOCIALACCOUNT_ADAPTER = "unlocks.signin.company.CompanyAdapter"
SOCIALACCOUNT_PROVIDERS = {"openid_connect": {"OAUTH_PKCE_ENABLED": True, "APPS": company_provider()}}
MFA_ADAPTER = "unlocks.signin.adapters.FactorAdapter"
MFA_FORMS = {
    "authenticate": "unlocks.signin.forms.CodeForm",
    "reauthenticate": "unlocks.signin.forms.CodeAgainForm",
    "activate_totp": "unlocks.signin.forms.SetUpAppForm",
    "add_webauthn": "unlocks.signin.forms.AddPasskeyForm",
    "login_webauthn": "unlocks.signin.forms.PasskeySignInForm",
    "authenticate_webauthn": "unlocks.signin.forms.PasskeyForm",
    "reauthenticate_webauthn": "unlocks.signin.forms.PasskeyAgainForm",
}
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_TOTP_ISSUER = "Unlock Desk"
MFA_TOTP_TOLERANCE = 1  # a clock may be half a minute off
MFA_RECOVERY_CODES_SHOW_ONCE = True
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_RATE_LIMITS = {"webauthn_login": "60/m/ip"}  # a whole office may have one address; nobody guesses a passkey
ACCOUNT_RATE_LIMITS = {"login": None, "login_failed": "10/10m/key"}  # of passwords, unlocks.signin.tries

LANGUAGE_CODE = "en-us"
TIME_ZONE = env.str("TIME_ZONE", default="America/New_York")
USE_I18N = False
USE_TZ = True
USE_THOUSAND_SEPARATOR = False

STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "static-collected"
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if TRIAL
        else "whitenoise.storage.CompressedManifestStaticFilesStorage"
    },
    # Outside what a web server serves; never overwritten (unlocks.evidence).
    "evidence": {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": env.str("EVIDENCE_ROOT", default=str(BASE_DIR / "var" / "evidence"))},
    },
    # There, too: what the worker made for someone to download.
    "case_files": {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": env.str("CASE_FILE_ROOT", default=str(BASE_DIR / "var" / "case-files"))},
    },
}
WHITENOISE_USE_FINDERS = TRIAL

vars().update(env.email_url_config(required("EMAIL_URL", f"filemail:///{BASE_DIR / 'var' / 'mail'}")))
if EMAIL_BACKEND == "django.core.mail.backends.smtp.EmailBackend":  # noqa: F821
    EMAIL_BACKEND = "unlocks.outbox.smtp.EmailBackend"  # with an end to each connection
EMAIL_TIMEOUT = 120
DEFAULT_FROM_EMAIL = required("DEFAULT_FROM_EMAIL", f"{VENDOR_NAME} Support <support@unlock-desk.example>")
# How customers reach Support, in words: on each of their pages and in each email.
SUPPORT_CONTACT = required("SUPPORT_CONTACT", "support@unlock-desk.example or +1 555 0100")

CRISPY_ALLOWED_TEMPLATE_PACKS = "bootstrap5"
CRISPY_TEMPLATE_PACK = "bootstrap5"

# Both shape the history tables: they have to stand before the first migration.
SIMPLE_HISTORY_HISTORY_CHANGE_REASON_USE_TEXT_FIELD = True
SIMPLE_HISTORY_DATE_INDEX = "composite"
SIMPLE_HISTORY_ENFORCE_HISTORY_MODEL_PERMISSIONS = True
SIMPLE_HISTORY_REVERT_DISABLED = True

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "base-uri": [NONE],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
        "object-src": [NONE],
        "img-src": [SELF, "data:"],
    },
}
# "no-referrer" would make browsers send `Origin: null`, which the CSRF check refuses.
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
SESSION_ENGINE = "unlocks.signin.sessions"
# A session ends when nobody used it for so long, and however it is used after so long.
SESSION_COOKIE_AGE = 60 * env.int("SESSION_IDLE_MINUTES", default=60)
SESSION_LIFETIME = timedelta(hours=env.int("SESSION_HOURS", default=12))
# Whether whoever may unlock, record consents, issue PINs or manage staff has to show a second factor to do anything.
SECOND_FACTOR_REQUIRED = env.bool("SECOND_FACTOR_REQUIRED", default=not TRIAL)
# How long a link works by which a colleague sets their password.
STAFF_LINK_LIFETIME = timedelta(hours=env.int("STAFF_LINK_HOURS", default=72))
# The account for when nothing else lets anyone in: managers are told of each sign-in.
BREAK_GLASS_USERNAME = env.str("BREAK_GLASS_USERNAME", default="")
# Before what counts most, staff confirm who they are if they did not in so many minutes; and before an unlock of more
# batches, or a file of more rows, than that.
CONFIRMED_FOR = timedelta(minutes=env.int("CONFIRM_MINUTES", default=10))
CONFIRM_BATCHES = env.int("CONFIRM_BATCHES", default=100)
CONFIRM_ROWS = env.int("CONFIRM_ROWS", default=1_000)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = not TRIAL
SECURE_HSTS_SECONDS = 0 if TRIAL else env.int("SECURE_HSTS_SECONDS", default=31536000)
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = not TRIAL
if TRUSTED_PROXIES:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"one_line_a_request": {"()": "config.logs.OneLineARequest"}},
    "formatters": {"lines": {"()": "config.logs.Lines", "json": not TRIAL}},
    "handlers": {
        "console": {"class": "logging.StreamHandler", "formatter": "lines", "filters": ["one_line_a_request"]}
    },
    "root": {"handlers": ["console"], "level": "INFO" if not TRIAL else "WARNING"},
    # Django's own handlers mask nothing.
    "loggers": {"django": {}, "django.server": {"propagate": True}},
}
DJANGO_STRUCTLOG_STATUS_START_LOG_LEVEL = logging.DEBUG
DJANGO_STRUCTLOG_USER_ID_FIELD = None  # config.request_log names who asks
