from django.db import models
from django.utils import timezone

from .. import pins
from .tracking import Tracked

PIN_FIELDS = ("pin_hash", "pin_issued_at", "pin_failures", "pin_locked_until")


class Account(models.Model):
    """A customer of the vendor. Its PIN is stored as a hash; neither the hash nor the counters are in the history."""

    class Software(models.TextChoices):
        QUICKBOOKS_ONLINE = "quickbooks_online", "QuickBooks Online"
        QUICKBOOKS_DESKTOP = "quickbooks_desktop", "QuickBooks Desktop"
        SAGE_INTACCT = "sage_intacct", "Sage Intacct"
        NONE = "none", "No accounting integration"

    number = models.CharField(max_length=20, unique=True)
    name = models.CharField(max_length=200, db_index=True)
    accounting_software = models.CharField(max_length=20, choices=Software.choices, default=Software.QUICKBOOKS_ONLINE)
    active = models.BooleanField(default=True)
    pin_hash = models.CharField(max_length=200, blank=True, editable=False)
    pin_issued_at = models.DateTimeField(null=True, blank=True, editable=False)
    pin_failures = models.PositiveSmallIntegerField(default=0, editable=False)
    pin_locked_until = models.DateTimeField(null=True, blank=True, editable=False)

    history = Tracked(no_db_index=["name", "number"], excluded_fields=PIN_FIELDS)

    class Meta:
        ordering = ["number"]
        permissions = [("issue_pin", "Can issue a new PIN and email it to the Admin contacts")]

    def __str__(self) -> str:
        return f"{self.name} ({self.number})"

    @property
    def pin_state(self) -> str:
        """A sentence for staff that says why the PIN can't be tried, or '' when it can."""
        if not self.pin_hash:
            return "No PIN has been issued yet. A manager can issue one. It is emailed to the Admin contacts."
        if self.pin_failures >= pins.LAST_TRY:
            return f"Locked out after {self.pin_failures} wrong attempts. A manager has to issue a new PIN."
        if self.pin_locked_until and self.pin_locked_until > timezone.now():
            until = timezone.localtime(self.pin_locked_until)
            return f"Locked out after {self.pin_failures} wrong attempts, until {until:%-I:%M %p %Z}."
        return ""


class Contact(models.Model):
    """A person of an account. Consent links and PINs are sent to Admin contacts only."""

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="contacts")
    name = models.CharField(max_length=200)
    email = models.EmailField()
    phone = models.CharField(max_length=40, blank=True)
    is_admin = models.BooleanField(
        "Admin", default=False, help_text="Only an Admin of the account can ask for an unlock and consent to it."
    )

    history = Tracked(no_db_index=["account"])

    class Meta:
        ordering = ["-is_admin", "name"]
        constraints = [
            models.UniqueConstraint(
                fields=["account", "email"],
                name="unlocks_contact_email_once",
                violation_error_message="This account already has a contact with this address.",
            )
        ]

    def __str__(self) -> str:
        return f"{self.name} <{self.email}>"
