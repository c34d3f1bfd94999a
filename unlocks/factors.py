"""The second factors of staff, as the record tells of them: an authenticator app, passkeys, and codes for emergencies.

So does the account at the company's provider that signs them in, though it is none.

allauth keeps them. What is secret of them is encrypted (`unlocks.signin.adapters`) before it is.
"""

import hashlib
import hmac
from typing import Any

from allauth.mfa import app_settings
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount

from .digest import canonical
from .keys import derived

# What of each kind would let someone in who knew it, or had put it there.
_SECRETS = {"totp": ["secret"], "recovery_codes": ["seed", "used_mask", "migrated_codes"], "webauthn": ["credential"]}
NAMES = {"totp": "authenticator app", "recovery_codes": "recovery codes", "webauthn": "passkey"}


def factors_of(user_id: int) -> list[str]:
    """Return the factors of a user as staff call them, recovery codes last."""
    own = map(_named, Authenticator.objects.filter(user=user_id).order_by("pk"))
    company = ["company account"] * SocialAccount.objects.filter(user=user_id).count()
    return sorted([*own, *company], key=lambda name: (name[0].isdigit(), name))


def _named(factor: Authenticator) -> str:
    name, data = NAMES.get(factor.type, factor.type), _data(factor)
    if isinstance(used := data.get("used_mask"), int):
        left = app_settings.RECOVERY_CODE_COUNT - used.bit_count()
        return f"{left} recovery code{'s' * (left != 1)}"
    return " ".join(filter(None, [name, str(data.get("name", ""))]))


def _data(factor: Authenticator) -> dict[str, Any]:
    """Return what allauth keeps of a factor: one that was put there past the desk may hold anything, of any kind."""
    return factor.data if isinstance(factor.data, dict) else {}


def factors_mac(user_id: int) -> str:
    """Return what an entry says of all factors of a user (hex), so that no others pass for them; "" if there is none.

    It changes with each that is added, taken away or altered, and with each recovery code that is used up; not when a
    factor is named otherwise, or one that stays is used.
    """
    found = Authenticator.objects.filter(user=user_id).order_by("pk")
    kept: list[Any] = [[one.pk, one.type, *map(_data(one).get, _SECRETS.get(one.type, []))] for one in found]
    companies = SocialAccount.objects.filter(user=user_id).order_by("pk")
    kept += [[one.pk, one.provider, one.uid] for one in companies]
    message = f"unlock-desk factors/1\n{user_id}\n{canonical(kept)}"
    return hmac.new(derived("staff factors"), message.encode(), hashlib.sha256).hexdigest() if kept else ""
