"""The keys that sign certificates, as the ledger tells of them: each is valid from its entry to that of the next."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Q

from ..certificates.verify_certificate import key_id
from ..models import LedgerEntry
from . import chain, events

FORMAT = "unlock-desk-certificate-keys/1"


@dataclass(frozen=True)
class SigningKey:
    """`key` is the public key (hex). The newest one has no end."""

    key: str
    valid_from: datetime
    valid_until: datetime | None

    @property
    def id(self) -> str:
        return key_id(self.key)

    def published(self) -> dict[str, Any]:
        """Return it as the list of keys has it."""
        until = self.valid_until and self.valid_until.isoformat()
        validity = {"valid_from": self.valid_from.isoformat(), "valid_until": until}
        return {"id": self.id, "algorithm": "Ed25519", "key": self.key} | validity


def recorded() -> list[SigningKey]:
    """Return the keys, the newest first."""
    keys: list[SigningKey] = []
    for entry in LedgerEntry.objects.filter(kind=events.CertificateKey.kind).order_by("-sequence"):
        event = chain.event_of(entry)
        if isinstance(event, events.CertificateKey):
            keys.append(SigningKey(event.key, entry.appended_at, keys[-1].valid_from if keys else None))
    return keys


def newest() -> SigningKey | None:
    """Return the one key that signs; None before the first was recorded."""
    return next(iter(recorded()), None)


def published() -> dict[str, Any]:
    """Return the list of keys that anyone may have, as JSON values."""
    return {"format": FORMAT, "keys": [key.published() for key in recorded()]}


def faults(after: int = 0) -> Iterator[tuple[str, str]]:
    """Yield (kind of fault, a sentence) for each certificate that was not signed with the key of its time.

    Of those that were issued after the entry `after`; keys are read from the first on.
    """
    valid = ""
    keys, certificates = Q(kind=events.CertificateKey.kind), Q(kind=events.Certified.kind, sequence__gt=after)
    for entry in LedgerEntry.objects.filter(keys | certificates).order_by("sequence").iterator():
        event = chain.event_of(entry)
        if isinstance(event, events.CertificateKey):
            valid = event.key_id
        elif isinstance(event, events.Certified) and event.key != valid:
            signs = f"certificates were signed with key {valid}" if valid else "no key was recorded"
            yield "key", f"Certificate {event.certificate} was signed with key {event.key} when {signs}."
