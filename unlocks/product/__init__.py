"""The product that holds the batches, as the desk reaches it."""

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from .port import Product

# Not all are called: by hand staff carry out what the desk lists, and a product that polls asks for it by the API.
ADAPTERS = {
    "by_hand": "",
    "polling": "",
    "webhook": "unlocks.product.webhook.Webhook",
    "sandbox": "unlocks.product.sandbox.Sandbox",
}


def chosen() -> Product | None:
    """Return the adapter that PRODUCT names, None for one that is not called. Raises ImproperlyConfigured."""
    if settings.PRODUCT not in ADAPTERS:
        raise ImproperlyConfigured(f"PRODUCT is {settings.PRODUCT}, not one of {', '.join(ADAPTERS)}.")
    adapter = ADAPTERS[settings.PRODUCT]
    return import_string(adapter)() if adapter else None


def by_hand() -> bool:
    """Say whether staff carry out in the product what the desk lists."""
    return settings.PRODUCT == "by_hand"


def polling() -> bool:
    """Say whether the product asks for its instructions itself, by the API."""
    return settings.PRODUCT == "polling"
