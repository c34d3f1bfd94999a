"""Issuing the certificate of a consent."""

from datetime import datetime

from django.core.exceptions import PermissionDenied
from django.db import transaction

from .. import history
from ..actors import Actor
from ..certificates import facts, keys, pdf, verify_certificate
from ..digest import sha256
from ..ledger import chain, events
from ..models import Certificate, Consent, UnlockRequest
from ..rules import Refusal
from .restore import first_ordinal
from .verbs import Refused

_ATTEMPTS = 3


def issue_certificate(consent: Consent, *, by: Actor) -> Certificate:
    """Return the consent's newest certificate, or a new one if anything happened in the case since it was issued.

    `by` is a member of staff who may see consents, or the customer. A closed case has certificates too.
    Raises Refused (BUSY) when the case does not stand still, with nothing written.
    """
    if by.user is not None and not by.may("unlocks.view_consent"):
        raise PermissionDenied(f"{by.name} may not issue certificates: it needs the permission unlocks.view_consent.")
    for _ in range(_ATTEMPTS):
        by = by.begin()
        consent = _read(consent.pk)
        before = _stand(consent)
        newest = consent.certificates.first()
        if newest and (newest.upto, newest.interim) == before:
            return newest
        # Drawn before anything is locked: a long one takes seconds.
        try:
            drawn = _draw(consent, _next_ordinal(consent, newest), *before, issued_at=by.act.at)
        except verify_certificate.NotGenuine:
            if _stand(_read(consent.pk)) == before:
                raise
            continue  # one half was read before something happened, the other after it
        with transaction.atomic():
            history.lock_row(UnlockRequest.objects, consent.unlock_request_id)
            if _stand(_read(consent.pk)) == before and consent.certificates.first() == newest:
                return _issue(drawn, by)
    raise Refused.because(Refusal.BUSY)


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


def _draw(consent: Consent, ordinal: int, upto: int, interim: bool, issued_at: datetime) -> Certificate:
    certificate = Certificate(consent=consent, ordinal=ordinal, upto=upto, interim=interim, issued_at=issued_at)
    certificate.code = keys.code(certificate.number, certificate.issued_at.isoformat())
    stated = facts.facts(consent, number=certificate.number, code=certificate.code, issued_at=certificate.issued_at)
    certificate.content, certificate.pdf = keys.document(stated), pdf.render(stated)
    # What does not hold together has to show here, not in a dispute.
    verify_certificate.verify(certificate.content.encode(), keys.public_key())
    certificate.sha256 = sha256(certificate.content)
    certificate.pdf_sha256 = sha256(certificate.pdf)
    return certificate


def _issue(certificate: Certificate, by: Actor) -> Certificate:
    certificate.issued_by = by.user
    certificate.save(force_insert=True)
    issued = events.Certified.of(certificate, certificate=certificate.number)
    chain.append(issued, by=by, unlock_request=certificate.consent.unlock_request)
    return certificate
