"""Attaching what shows that the customer agreed to a consent that was recorded by phone, and handing it out."""

from django.db import transaction

from .. import evidence, history
from ..actors import Actor
from ..ledger import chain, events
from ..models import Consent, ConsentEvidence, UnlockRequest
from ..rules import Refusal
from .verbs import Refused, staff_verb


@staff_verb("unlocks.record_phone_consent")
def attach_evidence(consent: Consent, *, what: str, file_name: str, content: bytes, by: Actor) -> ConsentEvidence:
    """Keep a signed paper or an email (its bytes) with a consent recorded by phone, in a closed case as well.

    The file is kept before the row is written, so that no row ever names a file that isn't there.
    Raises Refused: NOT_BY_PHONE, UNFIT_FILE, SAME_FILE, DAMAGED_FILE, NOT_STORED.
    """
    what = ConsentEvidence.What(what)
    if not consent.recorded_by_phone:
        raise Refused.because(Refusal.NOT_BY_PHONE, name=consent.reference)
    file_name = evidence.clean_name(file_name)
    try:
        media_type = evidence.media_type(file_name, content)
        sha256 = evidence.keep(content)
    except evidence.Unfit as unfit:
        raise Refused.because(Refusal.UNFIT_FILE, why=str(unfit)) from None
    except evidence.Damaged as damaged:
        raise Refused.because(Refusal.DAMAGED_FILE, why=str(damaged)) from None
    except evidence.NotStored as failed:
        raise Refused.because(Refusal.NOT_STORED, why=str(failed)) from None
    with transaction.atomic():
        history.lock(UnlockRequest.objects.filter(pk=consent.unlock_request_id))
        if there := ConsentEvidence.objects.filter(consent=consent, sha256=sha256).first():
            raise Refused.because(Refusal.SAME_FILE, name=there.file_name)
        attached = ConsentEvidence.objects.create(
            consent=consent,
            what=what,
            file_name=file_name,
            media_type=media_type,
            size=len(content),
            sha256=sha256,
            attached_by=by.member,
            attached_at=by.act.at,
        )
        chain.append(events.EvidenceAttached.of(attached), by=by, unlock_request=consent.unlock_request)
    return attached


@staff_verb("unlocks.view_consentevidence")
def open_evidence(kept: ConsentEvidence, *, by: Actor) -> bytes:
    """Return what a file holds, and record who opened it. Raises evidence.Damaged, and nothing was opened then."""
    content = evidence.read(kept.sha256)
    with transaction.atomic():
        chain.append(events.EvidenceOpened.of(kept), by=by, unlock_request=kept.consent.unlock_request)
    return content
