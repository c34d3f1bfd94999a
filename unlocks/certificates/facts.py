"""The facts of a consent as a certificate holds them: what was recorded, as JSON values; null is "not recorded"."""

from datetime import UTC, datetime
from decimal import Decimal

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.db.models import Q
from django.urls import reverse

from .. import changes
from ..ledger import chain, emails, events
from ..models import Act, ConsentWithdrawal, LedgerEntry, RequestedBatch, Verdict
from ..texts.formats import zone_of

FORMAT = "unlock-desk-certificate/1"
_DONE = tuple(
    kind.kind
    for kind in (
        events.UnlockInstructed,
        events.UnlockCanceled,
        events.Unlocked,
        events.ProductRefused,
        events.RelockInstructed,
        events.Relocked,
        events.ReExported,
    )
)


def facts(consent, *, number, code, issued_at, public_key):
    """Return all that a certificate says of a consent and its case, as they stand now.

    Times are ISO 8601 in UTC, amounts decimal strings, staff are named as their entries in the ledger name them.
    """
    unlock_request = consent.unlock_request
    entries = list(LedgerEntry.objects.filter(unlock_request=unlock_request).order_by("sequence"))
    acts = _acts_of(unlock_request, entries)
    # Read last: no entry lies beyond it.
    sequence, head = chain.head()
    stated = {
        "format": FORMAT,
        "number": number,
        "code": code,
        "issued_at": _value(issued_at),
        "public_key": public_key,
        "interim": unlock_request.status != unlock_request.Status.CLOSED,
        "vendor": settings.VENDOR_NAME,
        "check_at": settings.PUBLIC_URL + reverse("check"),
        "time_zone": zone_of(unlock_request.account).key,
        "consent": _consent(consent, entries),
        "case": _case(unlock_request),
        "signer": _columns(consent, "contact_name", "email", name=consent.signer_name, role=consent.signer_role),
        "identity": _identity(consent),
        "link": consent.link and _link(consent.link, consent.opening),
        "batches": _batches(consent, acts),
        "acts": [
            _columns(act, "kind", "at", by=act.actor, batches=len(lines)) | {"why": act.why} for act, lines in acts
        ],
        "changed": _changed(consent),
        "withdrawal": _withdrawal(consent),
        "evidence": [
            _columns(kept, "file_name", "size", "sha256", "attached_by", "attached_at", what=kept.get_what_display())
            for kept in consent.evidence.select_related("attached_by")
        ],
        "ledger": {
            "entries": [
                _columns(entry, "sequence", "at", "actor", "hash", what=events.KINDS[entry.kind].label)
                for entry in entries
            ],
            "head": {"sequence": sequence, "hash": head},
        },
    }
    return _named(stated, {entry.user_id: chain.actor_of(entry) for entry in entries if chain.fits(entry)})


def _named(value, staff):
    """Name staff, wherever they occur in a value, as the entries of the case do and not as their accounts do now."""
    match value:
        case dict():
            return {key: _named(one, staff) for key, one in value.items()}
        case list():
            return [_named(one, staff) for one in value]
        case AbstractBaseUser():
            return staff.get(value.pk) or value.get_username()
    return value


def entries_of(unlock_request):
    """Return the ledger entries that ask for a new certificate of their case.

    Not those of certificates, nor that staff opened a file of evidence or took a case file, which changes nothing in
    the case; nor of emails, of which a certificate tells only the one with the link.
    """
    beside = [events.Certified.kind, events.EvidenceOpened.kind, events.CaseFileMade.kind]
    emailed = Q(kind__in=emails.ENDED, facts__contains='"link":null')
    return LedgerEntry.objects.filter(unlock_request=unlock_request).exclude(Q(kind__in=beside) | emailed)


def _columns(row, *names, **others):
    """Return these columns of a row, and other values that are about it, as JSON values."""
    values = {name: getattr(row, name) for name in names} | others
    return {name: _value(value) for name, value in values.items()}


def _value(value):
    """Return a value as JSON holds it: null if it is empty, which means that it was not recorded."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, Decimal):
        return f"{value:.2f}"
    return None if value == "" else value


def _consent(consent, entries):
    terms, declined = consent.terms, consent.decision == consent.Decision.DECLINED
    columns = ("reference", "decision", "how", "recorded_by", "valid_until", "ticked", "pressed", "ip", "browser")
    return _columns(
        consent,
        *columns,
        decided_at=consent.given_at,
        terms_version=terms.version,
        terms_title=terms.title,
        terms_published_at=terms.published_at,
        text_sha256=consent.text_sha256,
        why=_recorded(entries, events.Declined, consent).why if declined else None,
    ) | {"text": consent.text}


def _case(unlock_request):
    account = unlock_request.account
    return _columns(
        unlock_request,
        *("reference", "opened_at", "opened_by", "reason", "advised_at", "closed_at"),
        account_number=account.number,
        account_name=account.name,
        accounting_software=account.get_accounting_software_display(),
        channel=unlock_request.get_channel_display(),
        requester=unlock_request.requester.name,
        bypass_reason=unlock_request.why_bypassed,
        advice=unlock_request.get_advice_display(),
        resolution=unlock_request.get_resolution_display(),
    )


def _identity(consent):
    verified_by = consent.recorded_by if consent.pin_verified_at else None
    return _columns(consent, "pin_verified_at", "pin_typed_by", pin_verified_by=verified_by)


def _link(link, opening):
    """Return what is known of a link, and of the opening of it that led to the decision."""
    led = {f"opened_{name}": opening and getattr(opening, name) for name in ("at", "ip", "browser")}
    columns = ("sent_at", "sent_by", "shown_to", "expires_at", "used_at")
    return _columns(link, *columns, **led, **_emailed(link), openings=link.openings.count())


def _emailed(link):
    """Return what the ledger tells of the email with a link.

    None while no entry tells how it ended, and when it was canceled after a try that may have arrived.
    """
    entries = LedgerEntry.objects.filter(unlock_request=link.unlock_request_id, kind__in=emails.ENDED)
    for entry in entries.order_by("-sequence"):
        event = chain.event_of(entry)
        if getattr(event, "link", None) == link.pk:
            match event:
                case events.EmailSent():
                    return {"emailed": "sent", "emailed_at": entry.at}
                case events.EmailFailed():
                    return {"emailed": "failed", "emailed_at": entry.at}
                case events.EmailCanceled(tries=0):
                    return {"emailed": "not_sent", "emailed_at": None}
            break
    return {"emailed": None, "emailed_at": None}


def _withdrawal(consent):
    withdrawal = ConsentWithdrawal.objects.filter(consent=consent).first()
    through = "staff" if withdrawal and withdrawal.by_id else "receipt"
    return withdrawal and _columns(
        withdrawal, "at", "why", by=withdrawal.actor, through=through, contact=consent.contact_name
    )


def _acts_of(unlock_request, entries):
    """Return what was done to the batches of a case, oldest first: each act with the requested batches it changed."""
    told = LedgerEntry.objects.filter(unlock_request=unlock_request, kind__in=_DONE)
    changed = Verdict.objects.filter(act__in=told.values("act"), line__unlock_request=unlock_request, refusal="")
    lines = {}
    for act, line in changed.values_list("act", "line"):
        lines.setdefault(act, set()).add(line)
    named = dict.fromkeys(entry.act for entry in entries if entry.kind in _DONE)
    acts = Act.objects.in_bulk(named)
    return [(acts[act], lines.get(act, set())) for act in named if act in acts]


def _batches(consent, acts):
    """List the batches that were consented to as they stood then, and what was done to each under this consent.

    An instruction that was canceled before it was handed over counts as none: the batch waits again.
    """
    done = {}
    for act, lines in acts:
        for line in lines:
            if act.kind == Act.Kind.CANCEL:
                done.pop(line, None)
            else:
                done.setdefault(line, {})[act.kind] = act
    covered = consent.batches.select_related("requested_batch", "batch").order_by("number", "pk")
    return [_batch(batch, done.get(batch.requested_batch_id, {})) for batch in covered]


def _batch(covered, done):
    """Return a batch's facts; who ended its unlock is who decided that, not who answered that it is done."""
    line = covered.requested_batch
    under_this = line.consented_id == covered.pk
    acts = done if under_this else {}
    instructed, unlocked = acts.get(Act.Kind.UNLOCK), acts.get(Act.Kind.UNLOCKED)
    ended = acts.get(Act.Kind.RE_EXPORT) or acts.get(Act.Kind.RELOCKED) or acts.get(Act.Kind.REFUSED)
    decided = acts.get(Act.Kind.RELOCK, ended) if ended and ended.kind == Act.Kind.RELOCKED else ended
    return _columns(
        covered,
        *("name", "total", "item_count", "fingerprint"),
        number=covered.number or covered.batch.number,
        outcome=line.outcome if under_this else "later_consent",
        instructed_at=instructed and instructed.at,
        unlocked_at=unlocked and unlocked.at,
        unlocked_by=instructed and instructed.actor,
        ended_at=ended and ended.at,
        ended_by=decided and decided.actor,
        refusal=ended.why if ended and ended.kind == Act.Kind.REFUSED else None,
    )


def _changed(consent):
    """Count what changed while it was unlocked under a consent, as far as the product's data tell; None if nothing was.

    `not_known` are batches of which the product has sent no newer data since the unlock.
    """
    lines = RequestedBatch.objects.filter(unlock_request=consent.unlock_request_id, consented__consent=consent.pk)
    unlocked = changes.while_unlocked(lines)
    return (
        {
            "batches": sum(change.differs for change in unlocked),
            "items": sum(len(change.items) for change in unlocked),
            "not_known": sum(not change.is_known for change in unlocked),
        }
        if unlocked
        else None
    )


def _recorded(entries, kind, row):
    """Return the event of that kind about a row."""
    return next(events.read(entry) for entry in entries if entry.kind == kind.kind and entry.about_id == row.pk)
