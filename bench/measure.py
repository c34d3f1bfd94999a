"""Measure on the empty bench database that DATABASE_URL names, and print what was found as JSON.

Run by `python -m bench`, once a database.
"""

import json
import os
import sys
import warnings

import django

# WhiteNoise looks for collected files, which a bench doesn't have.
warnings.filterwarnings("ignore", message="No directory at:")
os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
django.setup()

from django.core.management import call_command  # noqa: E402

from bench import consenting, data, importing, pages, unlocking  # noqa: E402


def measure(n):
    call_command("migrate", verbosity=0)
    found = {"pages": pages.measure(), "stock": pages.beside_stock()}
    data.fill(pages.SIZES[-1] + unlocking.batches_needed(n))
    data.assert_sound()
    found["unlock"] = unlocking.measure(n)
    # The first time, nothing is known of these rows yet.
    found["one request"] = {state: consenting.measure(analyze=state == "after ANALYZE") for state in consenting.STATES}
    found["import"] = importing.measure(n)
    return found


json.dump(measure(int(sys.argv[1])), sys.stdout)
