"""Making the case file of a request: all that is on record of it, for someone outside the desk."""

from django.db import transaction

from ..actors import Actor
from ..certificates import case_file, keys, verify_certificate
from ..ledger import chain, events, signing_keys
from ..models import UnlockRequest
from ..rules import Refusal
from .certificate import issue_certificate
from .verbs import Refused, staff_verb


@staff_verb("unlocks.make_case_file")
def make_case_file(unlock_request: UnlockRequest, *, by: Actor) -> case_file.CaseFile:
    """Return the case file of a request, and record who got it, and which files of evidence are in it.

    Each consent gets a certificate first, if anything happened since its last one. What is missing or damaged is said
    in the case file. Raises Refused: BUSY when the case does not stand still, NO_CERTIFICATE_KEY; certificates that
    were issued by then stay.
    """
    faults = []
    for consent in unlock_request.consents.order_by("pk"):
        try:
            issue_certificate(consent, by=by)
        except verify_certificate.NotGenuine as reason:
            why = f"No certificate can be issued as of now: {reason}"
            faults.append(case_file.fault(f"certificates/{consent}", why))
    key = signing_keys.newest()
    if key is None or key.key not in keys.configured():
        raise Refused.because(Refusal.NO_CERTIFICATE_KEY)
    by = by.begin()
    made = case_file.case_file(unlock_request, made_at=by.act.at, made_by=by.name, public_key=key.key, faults=faults)
    told = events.CaseFileMade(files=len(made.pieces), faults=len(made.manifest["faults"]), sha256=made.sha256)
    of_case = unlock_request.pk, unlock_request.account_id
    with transaction.atomic():
        chain.lock()
        if signing_keys.newest() != key or by.act.at < key.valid_from:
            raise Refused.because(Refusal.BUSY)
        opened = [chain.Entry(events.EvidenceOpened.of(kept), *of_case) for kept in made.papers]
        chain.append_all([*opened, chain.Entry(told, *of_case)], by=by)
    return made
