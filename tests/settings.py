"""The trial run's settings, with a database that is thrown away and mail that stays in memory."""

import os
import re
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

# Lives as long as the run and belongs to it alone, so that two runs at once don't meet.
_scratch = TemporaryDirectory(prefix="unlock-desk-", ignore_cleanup_errors=True)
SCRATCH = Path(_scratch.name)

# A developer's own settings must not decide what the tests see: nothing that config/settings.py reads is inherited.
_source = Path(__file__).parent.parent / "config" / "settings.py"
VARIABLES = set(re.findall(r'(?:env\.\w+|required)\("([A-Z_]+)"', _source.read_text()))
for _name in VARIABLES - {"DATABASE_URL"}:
    os.environ.pop(_name, None)
os.environ["UNLOCK_DESK_TRIAL"] = "1"
os.environ.setdefault("DATABASE_URL", f"sqlite:///{SCRATCH / 'desk.sqlite3'}")

from config.settings import *  # noqa: E402, F403
from config.settings import DATABASES, STORAGES  # noqa: E402

DEBUG = False
STORAGES["evidence"]["OPTIONS"]["location"] = str(SCRATCH / "evidence")
STORAGES["case_files"]["OPTIONS"]["location"] = str(SCRATCH / "case-files")
SANDBOX_FILE = str(SCRATCH / "product.sqlite3")
REVIEW_SHARE = 0  # of what is drawn at random, each test says how much
# A test may look days ahead without signing in again; those of sessions say how long one lasts.
SESSION_COOKIE_AGE, SESSION_LIFETIME = 30 * 24 * 60 * 60, timedelta(days=30)
EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
# Hashing is slow on purpose, and a run types PINs a thousand times. The real cost has a test of its own.
PASSWORD_HASHERS = ["tests.hashing.QuickHasher"]
# Static files are found when they are asked for. Listing them all takes 30 ms, which each test's first request pays.
WHITENOISE_AUTOREFRESH = True

if DATABASES["default"]["ENGINE"] == "unlocks.database.sqlite":
    # A file, not memory: threads and the live server open it too.
    DATABASES["default"]["TEST"] = {"NAME": str(SCRATCH / "test_desk.sqlite3")}
else:
    DATABASES["default"]["CONN_MAX_AGE"] = 0
    # A test database does not have to outlive a power failure.
    DATABASES["default"]["OPTIONS"]["options"] += " -c synchronous_commit=off"
