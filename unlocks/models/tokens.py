from datetime import timedelta

from django.conf import settings
from django.db import models
from django.db.models import F, Q


class ApiToken(models.Model):
    """What a system shows to use the API. A system is a user that cannot sign in, with one token or more.

    Only an HMAC of the token is kept, under a key outside the database: who writes a row of their own has no token that
    fits it. `scopes` are of `Scope`, in alphabetical order, with a space between them.
    """

    class Scope(models.TextChoices):
        CONTACTS = "contacts", "Put contacts"
        EVENTS = "events", "Read the ledger as a feed"
        PERSONAL = "personal", "See names, addresses and notes in what it reads"
        PINS = "pins", "Set PINs"
        PRODUCT = "product", "Pull instructions and answer them"
        READ = "read", "Read accounts, batches, requests and consents"
        RECORDS = "records", "Put accounts and batches with their items"
        REQUESTS = "requests", "Open requests, ask for consent, close requests"
        UNLOCK = "unlock", "Unlock, extend, relock, and mark as re-exported"

    # Whoever holds one of each could make up a customer alone.
    MAKES_CUSTOMERS = (Scope.CONTACTS, Scope.PINS)
    ACTS_ON_REQUESTS = (Scope.REQUESTS, Scope.UNLOCK)

    name = models.CharField(max_length=80)
    system = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="api_tokens")
    scopes = models.CharField(max_length=200)
    token_hash = models.CharField(max_length=64, editable=False)
    made_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    made_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    last_used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    revoked_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )

    class Meta:
        ordering = ["-id"]
        verbose_name = "API token"
        default_permissions = ()  # superusers alone, who need none
        constraints = [
            models.UniqueConstraint(
                fields=["token_hash"],
                name="unlocks_token_once",
                violation_error_message="This token is in use already.",
            ),
            models.CheckConstraint(
                condition=Q(expires_at__gt=F("made_at")) & ~Q(scopes=""),
                name="unlocks_token_may_something_for_a_time",
                violation_error_message="A token has a scope, and ends after it was made.",
            ),
            models.CheckConstraint(
                condition=Q(revoked_at__isnull=True, revoked_by__isnull=True)
                | Q(revoked_at__isnull=False, revoked_by__isnull=False),
                name="unlocks_token_revoked_by_somebody",
                violation_error_message="A token is revoked by a named person.",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.system})"

    @property
    def scope_set(self) -> set[str]:
        return set(self.scopes.split())


class ApiCall(models.Model):
    """A call that changed something, and its answer: the same Idempotency-Key again gets the same answer.

    `sha256` is an HMAC of the address and the body, so that a key is not taken for another call. Without a status the
    call is under way, or broke off; its `location` is that of the import then. Working data; deleted when it is
    KEPT_FOR old, while the key of the act stays in the ledger.
    """

    KEPT_FOR = timedelta(days=30)

    system = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", db_index=False)
    key = models.CharField(max_length=100)
    sha256 = models.CharField(max_length=64)
    at = models.DateTimeField(db_index=True)
    status = models.PositiveSmallIntegerField(default=0)
    location = models.CharField(max_length=200, blank=True)
    answer = models.TextField(blank=True)

    class Meta:
        default_permissions = ()
        verbose_name = "API call"
        constraints = [
            models.UniqueConstraint(
                fields=["system", "key"],
                name="unlocks_call_once",
                violation_error_message="This key belongs to another call.",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.key} of {self.system}"
