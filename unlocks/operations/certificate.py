"""Issuing the certificate of a consent."""

from datetime import datetime

from django.core.exceptions import PermissionDenied
from django.db import transaction

from .. import history
from ..actors import Actor
from ..certificates import facts, keys, pdf, verify_certificate
from ..digest import sha256
from ..ledger import chain, events, signing_keys
from ..models import Certificate, Consent, UnlockRequest
from ..rules import Refusal
from .restore import first_ordinal
from .verbs import Refused

_ATTEMPTS = 3


def issue_certificate(consent: Consent, *, by: Actor) -> Certificate:
    """Return the consent's newest certificate, or a new one if anything happened in the case since it was issued.

    `by` is a member of staff who may see consents, or the customer. A closed case has certificates too.
    Raises Refused with nothing written: BUSY when the case does not stand still, NO_CERTIFICATE_KEY.
    """
    if by.user is not None and not by.may("unlocks.view_consent"):
        raise PermissionDenied(f"{by.name} may not issue certificates: it needs the permission unlocks.view_consent.")
    for _ in range(_ATTEMPTS):
        key = signing_keys.newest()
        by = by.begin()
        consent = _read(consent.pk)
        before = _stand(consent)
        newest = consent.certificates.first()
        if newest and (newest.upto, newest.interim) == before:
            return newest
        if key is None or key.key not in keys.configured():
            raise Refused.because(Refusal.NO_CERTIFICATE_KEY)
        if by.act.at < key.valid_from:
            continue  # by the clock of the machine that recorded it: no certificate is from before its key
        # Drawn before anything is locked: a long one takes seconds.
        try:
            drawn = _draw(consent, _next_ordinal(consent, newest), *before, key.key, issued_at=by.act.at)
        except verify_certificate.NotGenuine:
            if _stand(_read(consent.pk)) == before:
                raise
            continue  # one half was read before something happened, the other after it
        with transaction.atomic():
            history.lock_row(UnlockRequest.objects, consent.unlock_request_id)
            if _stand(_read(consent.pk)) == before and consent.certificates.first() == newest:
                issued = _issue(drawn, key.id, by)
                if signing_keys.newest() == key:
                    return issued
                transaction.set_rollback(True)  # another key was recorded meanwhile
    raise Refused.because(Refusal.BUSY)


def record_certificate_key(*, by: Actor) -> str | None:
    """Record the newest configured key, which signs from now on; return its id, or None if it was recorded before.

    Raises Refused (NO_CERTIFICATE_KEY) when none is configured.
    """
    if not (configured := keys.configured()):
        raise Refused.because(Refusal.NO_CERTIFICATE_KEY)
    with transaction.atomic():
        chain.lock()
        if configured[0] in {known.key for known in signing_keys.recorded()}:
            return None
        key_id = verify_certificate.key_id(configured[0])
        chain.append(events.CertificateKey(key=configured[0], key_id=key_id), by=by)
    return key_id


def _read(pk: int) -> Consent:
    people = ("recorded_by", "unlock_request__opened_by", "link__sent_by")
    return Consent.objects.select_related("unlock_request__account", "unlock_request__requester", "terms", *people).get(
        pk=pk
    )


def _next_ordinal(consent: Consent, newest: Certificate | None) -> int:
    return max(newest.ordinal + 1 if newest else 1, first_ordinal(consent))


def _stand(consent: Consent) -> tuple[int, bool]:
    """Return how far the case has come: its newest entry that certificates tell of, and whether it is open."""
    newest = facts.entries_of(consent.unlock_request).latest("sequence")
    return newest.sequence, consent.unlock_request.status != UnlockRequest.Status.CLOSED


def _draw(consent: Consent, ordinal: int, upto: int, interim: bool, key: str, issued_at: datetime) -> Certificate:
    certificate = Certificate(consent=consent, ordinal=ordinal, upto=upto, interim=interim, issued_at=issued_at)
    certificate.code = keys.code(certificate.number, certificate.issued_at.isoformat())
    stated = facts.facts(consent, number=certificate.number, code=certificate.code, issued_at=issued_at, public_key=key)
    certificate.content, certificate.pdf = keys.document(stated), pdf.render(stated)
    # What does not hold together has to show here, not in a dispute.
    verify_certificate.verify(certificate.content.encode(), key)
    certificate.sha256 = sha256(certificate.content)
    certificate.pdf_sha256 = sha256(certificate.pdf)
    return certificate


def _issue(certificate: Certificate, key_id: str, by: Actor) -> Certificate:
    certificate.issued_by = by.user
    certificate.save(force_insert=True)
    issued = events.Certified.of(certificate, certificate=certificate.number, key=key_id)
    chain.append(issued, by=by, unlock_request=certificate.consent.unlock_request)
    return certificate
