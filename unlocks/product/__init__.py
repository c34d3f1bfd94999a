"""The product that holds the batches, as the desk reaches it."""

from django.conf import settings

from .port import Product


def chosen() -> Product | None:
    """Return the adapter that the setting PRODUCT names; None while staff carry out by hand what the desk lists."""
    if settings.PRODUCT == "webhook":
        from .webhook import Webhook

        return Webhook()
    if settings.PRODUCT == "sandbox":
        from .sandbox import Sandbox

        return Sandbox()
    return None
