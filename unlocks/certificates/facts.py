"""The facts of a consent as a certificate holds them: what was recorded, as JSON values; null is "not recorded"."""

from datetime import UTC

from django.conf import settings
from django.urls import reverse

from ..ledger import chain, events
from ..models import Act, ConsentWithdrawal, LedgerEntry, Verdict

FORMAT = "unlock-desk-certificate/1"
_DONE = tuple(kind.kind for kind in (events.Unlocked, events.Relocked, events.ReExported))


def facts(consent, *, number, code, issued_at):
    """Return all that a certificate says of a consent and its case, as they stand now.

    Times are ISO 8601 in UTC, amounts decimal strings, staff are named by their usernames.
    """
    unlock_request = consent.unlock_request
    entries = list(LedgerEntry.objects.filter(unlock_request=unlock_request).order_by("sequence"))
    acts = _acts_of(unlock_request, entries)
    # Read last: no entry lies beyond it.
    sequence, head = chain.head()
    return {
        "format": FORMAT,
        "number": number,
        "code": code,
        "issued_at": _time(issued_at),
        "interim": unlock_request.status != unlock_request.Status.CLOSED,
        "vendor": settings.VENDOR_NAME,
        "check_at": settings.PUBLIC_URL + reverse("check"),
        "time_zone": settings.TIME_ZONE,
        "consent": _consent(consent, entries),
        "case": _case(unlock_request),
        "signer": {
            "name": consent.signer_name or None,
            "role": consent.signer_role or None,
            "contact_name": consent.contact_name or None,
            "email": consent.email,
        },
        "identity": {
            "pin_verified_at": _time(consent.pin_verified_at),
            "pin_typed_by": consent.pin_typed_by or None,
            "pin_verified_by": _user(consent.recorded_by) if consent.pin_verified_at else None,
        },
        "link": _link(consent.link, entries),
        "batches": _batches(consent, acts),
        "acts": _acts(acts),
        "withdrawal": _withdrawal(consent),
        "evidence": [
            {
                "what": evidence.get_what_display(),
                "file_name": evidence.file_name,
                "size": evidence.size,
                "sha256": evidence.sha256,
                "attached_by": _user(evidence.attached_by),
                "attached_at": _time(evidence.attached_at),
            }
            for evidence in consent.evidence.select_related("attached_by")
        ],
        "ledger": {
            "entries": [
                {
                    "sequence": entry.sequence,
                    "at": _time(entry.at),
                    "what": events.KINDS[entry.kind].label,
                    "actor": entry.actor,
                    "hash": entry.hash,
                }
                for entry in entries
            ],
            "head": {"sequence": sequence, "hash": head},
        },
    }


def entries_of(unlock_request):
    """Return the ledger entries that ask for a new certificate of their case: all but those of certificates."""
    return LedgerEntry.objects.filter(unlock_request=unlock_request).exclude(kind=events.Certified.kind)


def _consent(consent, entries):
    return {
        "reference": consent.reference,
        "decision": consent.decision,
        "how": consent.how,
        "recorded_by": _user(consent.recorded_by),
        "decided_at": _time(consent.given_at),
        "valid_until": _time(consent.valid_until),
        "terms_version": consent.terms.version,
        "terms_title": consent.terms.title,
        "terms_published_at": _time(consent.terms.published_at),
        "text": consent.text,
        "text_sha256": consent.text_sha256,
        "ticked": consent.ticked,
        "pressed": consent.pressed or None,
        "why": _why(consent, entries),
        "ip": consent.ip,
        "browser": consent.browser or None,
    }


def _why(consent, entries):
    declined = consent.decision == consent.Decision.DECLINED
    return (declined and _recorded(entries, events.Declined, consent).why) or None


def _case(unlock_request):
    return {
        "reference": unlock_request.reference,
        "account_number": unlock_request.account.number,
        "account_name": unlock_request.account.name,
        "accounting_software": unlock_request.account.get_accounting_software_display(),
        "channel": unlock_request.get_channel_display(),
        "opened_at": _time(unlock_request.opened_at),
        "opened_by": _user(unlock_request.opened_by),
        "requester": unlock_request.requester.name,
        "bypass_reason": unlock_request.get_bypass_reason_display(),
        "reason": unlock_request.reason,
        "advice": unlock_request.get_advice_display() or None,
        "advised_at": _time(unlock_request.advised_at),
        "resolution": unlock_request.get_resolution_display() or None,
        "closed_at": _time(unlock_request.closed_at),
    }


def _link(link, entries):
    return link and {
        "sent_at": _time(link.sent_at),
        "sent_by": _user(link.sent_by),
        "shown_to": _user(link.shown_to) if link.shown_to else None,
        "expires_at": _time(link.expires_at),
        "first_opened_at": _time(link.first_opened_at),
        "first_opened_ip": link.first_opened_ip,
        "first_opened_browser": link.first_opened_browser or None,
        "used_at": _time(link.used_at),
    }


def _withdrawal(consent):
    withdrawal = ConsentWithdrawal.objects.filter(consent=consent).first()
    return withdrawal and {
        "at": _time(withdrawal.at),
        "by": withdrawal.actor,
        "through": "staff" if withdrawal.by_id else "receipt",
        "contact": consent.contact_name or None,
        "why": withdrawal.why or None,
    }


def _acts(acts):
    return [
        {"kind": act.get_kind_display(), "at": _time(act.at), "by": act.actor, "batches": len(lines), "why": act.why}
        for act, lines in acts
    ]


def _acts_of(unlock_request, entries):
    """Return what was done to the batches of a case, oldest first: each act with the requested batches it changed."""
    named = Act.objects.in_bulk([entry.act for entry in entries if entry.kind in _DONE])
    acts = sorted(named.values(), key=lambda act: act.at)
    changed = Verdict.objects.filter(line__unlock_request=unlock_request, refusal="")
    return [(act, set(changed.filter(act=act).values_list("line", flat=True))) for act in acts]


def _batches(consent, acts):
    """List the batches that were consented to as they stood then, and what was done to each under this consent."""
    done = {}
    for act, lines in acts:
        for line in lines:
            done.setdefault(line, {})[act.kind] = (act.at, act.actor)
    covered = consent.batches.select_related("requested_batch", "batch").order_by("number", "pk")
    return [_batch(line, done.get(line.requested_batch_id, {})) for line in covered]


def _batch(covered, done):
    line = covered.requested_batch
    under_this = line.consented_id == covered.pk
    unlocked = done.get(Act.Kind.UNLOCK) if under_this else None
    ended = (done.get(Act.Kind.RE_EXPORT) or done.get(Act.Kind.RELOCK)) if under_this else None
    return {
        "number": covered.number or covered.batch.number,
        "name": covered.name or None,
        "total": None if covered.total is None else f"{covered.total:.2f}",
        "item_count": covered.item_count,
        "fingerprint": covered.fingerprint,
        "outcome": line.outcome if under_this else "later_consent",
        "unlocked_at": unlocked and _time(unlocked[0]),
        "unlocked_by": unlocked and unlocked[1],
        "ended_at": ended and _time(ended[0]),
        "ended_by": ended and ended[1],
    }


def _recorded(entries, kind, row):
    """Return the event of that kind about a row."""
    return next(events.read(entry) for entry in entries if entry.kind == kind.kind and entry.about_id == row.pk)


def _time(moment):
    return moment and moment.astimezone(UTC).isoformat()


def _user(user):
    return user and user.get_username()
