from functools import cache
from typing import Self
from zoneinfo import available_timezones

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Lower
from django.utils import timezone

from .. import pins
from .searched import plain
from .tracking import Tracked

EXTERNAL_ID = 80  # letters


@cache
def time_zones() -> list[tuple[str, str]]:
    """Return the IANA names of time zones, as choices."""
    names = available_timezones() - {"Factory", "localtime"}  # of the machine
    return [(name, name.replace("_", " ")) for name in sorted(names)]


PIN_FIELDS = ("pin_hash", "pending_pin_hash", "pin_issued_at", "pin_failures", "pin_locked_until")


class Account(models.Model):
    """A customer of the vendor. Its PIN is stored as a hash; neither the hash nor the counters are in the history.

    A new PIN is pending until a server has taken the first email with it: until then the old one counts.
    """

    class Software(models.TextChoices):
        QUICKBOOKS_ONLINE = "quickbooks_online", "QuickBooks Online"
        QUICKBOOKS_DESKTOP = "quickbooks_desktop", "QuickBooks Desktop"
        SAGE_INTACCT = "sage_intacct", "Sage Intacct"
        NONE = "none", "No accounting integration"

    number = models.CharField(max_length=20, unique=True)
    name = models.CharField(max_length=200, db_index=True)
    accounting_software = models.CharField(max_length=20, choices=Software.choices, default=Software.QUICKBOOKS_ONLINE)
    active = models.BooleanField(default=True)
    time_zone = models.CharField(max_length=40, choices=time_zones, blank=True)
    external_id = models.CharField("external ID", max_length=EXTERNAL_ID, blank=True, editable=False)
    number_plain = plain("number")
    name_plain = plain("name")
    pin_hash = models.CharField(max_length=200, blank=True, editable=False)
    pending_pin_hash = models.CharField(max_length=200, blank=True, editable=False)
    pin_issued_at = models.DateTimeField(null=True, blank=True, editable=False)
    pin_failures = models.PositiveSmallIntegerField(default=0, editable=False)
    pin_locked_until = models.DateTimeField(null=True, blank=True, editable=False)

    history = Tracked(no_db_index=["name", "number"], excluded_fields=[*PIN_FIELDS, "number_plain", "name_plain"])

    class Meta:
        ordering = ["number"]
        permissions = [("issue_pin", "Can issue a new PIN and email it to the Admin contacts")]
        constraints = [
            models.UniqueConstraint(
                fields=["external_id"],
                condition=~Q(external_id=""),
                name="unlocks_account_external_id_once",
                violation_error_message="Another account has this external ID.",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.number})"

    @property
    def pin_state(self) -> str:
        """A sentence for staff that says why the PIN can't be tried, or '' when it can."""
        if not self.pin_hash and self.pending_pin_hash:
            return "The first PIN waits to be sent to the Admin contacts. It counts from then on."
        if not self.pin_hash:
            return "No PIN has been issued yet. A manager can issue one. It is emailed to the Admin contacts."
        if self.pin_failures >= pins.LAST_TRY:
            new = "A new PIN waits to be sent" if self.pending_pin_hash else "A manager has to issue a new PIN"
            return f"Locked out after {self.pin_failures} wrong attempts. {new}."
        if self.pin_locked_until and self.pin_locked_until > timezone.now():
            until = timezone.localtime(self.pin_locked_until)
            return f"Locked out after {self.pin_failures} wrong attempts, until {until:%-I:%M %p %Z}."
        return ""


# Of a contact, and of its history rows: whether the address counts.
CONFIRMED = Q(entered_by=None) | Q(confirmed_by__isnull=False)


class ContactQuerySet(models.QuerySet["Contact"]):
    def confirmed_admins(self) -> Self:
        """Leave the Admins that links and PINs go to, who can ask for an unlock and consent to it."""
        return self.filter(CONFIRMED, is_admin=True)


class Contact(models.Model):
    """A person of an account. Consent links and PINs are sent to Admins whose address is confirmed.

    `entered_by` is who typed the address, or made the contact an Admin; None: it came from the product, the system of
    record, and counts at once. Any other one counts once a second person has confirmed it and said how.
    `entered_in` is the import that it came in with; None: it was typed.
    """

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="contacts")
    name = models.CharField(max_length=200)
    email = models.EmailField()
    phone = models.CharField(max_length=40, blank=True)
    is_admin = models.BooleanField(
        "Admin", default=False, help_text="Only an Admin of the account can ask for an unlock and consent to it."
    )

    entered_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, editable=False, related_name="+"
    )
    entered_in = models.ForeignKey(
        "Import", on_delete=models.PROTECT, null=True, blank=True, editable=False, related_name="contacts"
    )
    entered_at = models.DateTimeField("on file since", default=timezone.now, editable=False)
    confirmed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, editable=False, related_name="+"
    )
    confirmed_at = models.DateTimeField(null=True, blank=True, editable=False)
    confirmed_how = models.CharField("how confirmed", max_length=200, blank=True, editable=False)
    external_id = models.CharField("external ID", max_length=EXTERNAL_ID, blank=True, editable=False)

    objects = ContactQuerySet.as_manager()
    # Not `entered_by`: whoever unlocks is asked for all contacts that they ever entered.
    history = Tracked(no_db_index=["account", "confirmed_by", "entered_in"])

    class Meta:
        ordering = ["-is_admin", "name"]
        indexes = [
            # Which imports wait for a second person is asked by each queue.
            models.Index(
                fields=["entered_in"],
                condition=Q(entered_in__isnull=False, is_admin=True, confirmed_by=None),
                name="unlocks_contact_import_waits",
            ),
        ]
        permissions = [("confirm_contact", "Can confirm the address of an Admin that someone else entered")]
        constraints = [
            models.UniqueConstraint(
                fields=["account", "email"],
                name="unlocks_contact_email_once",
                violation_error_message="This account already has a contact with this address.",
            ),
            models.CheckConstraint(
                condition=Q(email=Lower("email")),
                name="unlocks_contact_email_small",
                violation_error_message="An address is kept in small letters.",
            ),
            models.CheckConstraint(
                condition=Q(confirmed_by__isnull=True, confirmed_at__isnull=True, confirmed_how="")
                | Q(confirmed_by__isnull=False, confirmed_at__isnull=False, entered_by__isnull=False)
                & ~Q(confirmed_by=F("entered_by"))
                & ~Q(confirmed_how=""),
                name="unlocks_contact_confirmed_by_another",
                violation_error_message="An address is confirmed by another person than who entered it, who says how.",
            ),
            models.CheckConstraint(
                condition=Q(entered_in__isnull=True) | Q(entered_by__isnull=False),
                name="unlocks_contact_imported_by_somebody",
                violation_error_message="A contact of an import names who imported it.",
            ),
            models.UniqueConstraint(
                fields=["account", "external_id"],
                condition=~Q(external_id=""),
                name="unlocks_contact_external_id_once",
                violation_error_message="Another contact of this account has this external ID.",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} <{self.email}>"

    @property
    def is_confirmed(self) -> bool:
        return self.entered_by_id is None or self.confirmed_by_id is not None

    @property
    def is_confirmed_admin(self) -> bool:
        return self.is_admin and self.is_confirmed
