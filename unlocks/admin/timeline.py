"""The ledger's entries of a case, told as staff would tell them."""

from dataclasses import dataclass

from django.utils.dateparse import parse_datetime

from ..models import ConsentEvidence, LedgerEntry, UnlockRequest
from ..rules import Refusal
from ..texts.formats import moment

Kind = LedgerEntry.Kind

TONES = {
    Kind.PIN_WRONG: "wait",
    Kind.PIN_LOCKED: "bad",
    Kind.STAFF_REFUSED: "bad",
    Kind.EMAIL_FAILED: "bad",
    Kind.PIN_VERIFIED: "good",
    Kind.CONSENTED: "good",
    Kind.DECLINED: "bad",
    Kind.RECORDED_BY_PHONE: "wait",
    Kind.EVIDENCE: "info",
    Kind.CERTIFIED: "info",
    Kind.WITHDRAWN: "bad",
    Kind.UNLOCKED: "good",
    Kind.REFUSED: "wait",
    Kind.RE_EXPORTED: "good",
    Kind.STAFF_CHANGED: "wait",
}
STAFF_FIELDS = {
    "username": "user name",
    "first_name": "first name",
    "last_name": "last name",
    "is_active": "may sign in",
    "is_staff": "staff",
    "is_superuser": "superuser",
}
MAILS = {
    "consent_link": "the consent link",
    "receipt": "the receipt of the consent",
    "recorded_by_phone": "the receipt of what was taken down",
    "declined": "the receipt of the refusal",
    "withdrawn": "the confirmation of the withdrawal",
    "new_pin": "a new PIN",
}


@dataclass(frozen=True)
class Told:
    """An entry as the timeline shows it: what happened in bold, the rest of the sentence, and a quotation."""

    event: LedgerEntry
    tone: str
    what: str
    rest: str = ""
    quote: str = ""
    act: str = ""


def told(event):
    """Tell an entry. One of a kind that is not known here still shows its own name."""
    facts = event.facts
    rest, quote = _TELL.get(event.kind, _nothing)(facts)
    if rest and rest[0] not in ":,":
        rest = f" {rest}"
    return Told(
        event=event,
        tone=TONES.get(event.kind, ""),
        what=event.get_kind_display(),
        rest=rest,
        quote=quote,
        act=facts.get("act", ""),
    )


def batches(count):
    """Write a number of batches: 1 batch, 3 batches."""
    return f"{count:,} batch{'' if count == 1 else 'es'}"


def reason(code):
    """Name a refusal in a word or two, for a group of batches: Period closed."""
    if code == Refusal.OWN_RECORDING:
        return "Taken down by the same person"
    known = Refusal(code).name if code in Refusal.values else code
    return known.replace("_", " ").capitalize()


def _nothing(facts):
    return "", ""


def _label(choices, value):
    return str(dict(choices.choices).get(value, value))


def _opened(facts):
    channel = _label(UnlockRequest.Channel, facts.get("channel", ""))
    why = _label(UnlockRequest.BypassReason, facts.get("bypass_reason", ""))
    return f"with {batches(facts.get('batches', 0))}. Channel: {channel}. Why bypassed: {why}", facts.get("reason", "")


def _advised(facts):
    return f": {_label(UnlockRequest.Advice, facts.get('advice', ''))}", ""


def _link_sent(facts):
    expires = parse_datetime(facts.get("expires", ""))
    until = f", works until {moment(expires)}" if expires else ""
    return f"to {facts.get('name', '')} <{facts.get('to', '')}>, terms version {facts.get('terms', '')}{until}", ""


def _answered(facts):
    role = f", {facts['role']}" if facts.get("role") else ""
    name = f"by {facts['name']}{role}" if facts.get("name") else ""
    count = f", for {batches(facts['batches'])}" if "batches" in facts else ""
    return f"{name}{count}, terms version {facts.get('terms', '')}".lstrip(", "), facts.get("why", "")


def _recorded_by_phone(facts):
    role = f", {facts['role']}," if facts.get("role") else ""
    count = f" to {batches(facts['batches'])}" if "batches" in facts else ""
    return f"on the phone: {facts.get('name', '')}{role} said yes{count}, terms version {facts.get('terms', '')}", ""


def _evidence(facts):
    what = _label(ConsentEvidence.What, facts.get("what", ""))
    return f": {what}, {facts.get('file_name', '')} ({facts.get('size', 0):,} bytes)", ""


def _certified(facts):
    interim = " (interim)" if facts.get("interim") else ""
    return f": {facts.get('certificate', '')}{interim}", ""


def _resent(facts):
    return f"to {facts.get('name', '')} <{facts.get('to', '')}>", ""


def _terms(facts):
    return f": version {facts.get('version', '')}", ""


def _staff_changed(facts):
    changed = facts.get("changed", {})
    name = facts.get("username", "")
    if changed.get("username", [""])[0] is None:
        groups = changed.get("groups", [None, []])[1]
        may = ["may do everything"] * changed.get("is_superuser", [None, False])[1]
        return f": {name} was added ({', '.join([*groups, *may]) or 'no group yet'})", ""
    return f": {name} ({'; '.join(_changed(*change) for change in changed.items())})", ""


def _changed(field, change):
    said = STAFF_FIELDS.get(field, field)
    if field == "password":
        return f"{said} {change}"
    return f"{said}: {_value(change[0])} became {_value(change[1])}"


def _value(value):
    if isinstance(value, bool):
        return "yes" if value else "no"
    return (", ".join(value) if isinstance(value, list) else value) or "none"


def _done(facts):
    numbers, count = facts.get("numbers", []), facts.get("batches", 0)
    listed = ", ".join(numbers[:5]) + (f" and {count - 5:,} more" if count > 5 else "")
    return f": {batches(count)} ({listed})" if listed else f": {batches(count)}", facts.get("why", "")


def _refused(facts):
    refusals = facts.get("refusals", {})
    counted = ", ".join(f"{n:,} {reason(code).lower()}" for code, n in sorted(refusals.items()))
    return f"for {batches(sum(refusals.values()))}: {counted}", ""


def _mailed(facts):
    error = f" ({facts['error']})" if facts.get("error") else ""
    return f": {MAILS.get(facts.get('mail'), facts.get('mail', ''))} to {facts.get('to', '')}{error}", ""


_TELL = {
    Kind.OPENED: _opened,
    Kind.NOTE: lambda facts: ("", facts.get("text", "")),
    Kind.ASSIGNED: lambda facts: (f"to {facts.get('name', '')}", ""),
    Kind.ADVISED: _advised,
    Kind.PIN_WRONG: lambda facts: (f", {facts.get('tries', '?')} in a row", ""),
    Kind.LINK_SENT: _link_sent,
    Kind.EMAIL_SENT: _mailed,
    Kind.EMAIL_FAILED: _mailed,
    Kind.CONSENTED: _answered,
    Kind.DECLINED: _answered,
    Kind.RECORDED_BY_PHONE: _recorded_by_phone,
    Kind.EVIDENCE: _evidence,
    Kind.CERTIFIED: _certified,
    Kind.RECEIPT_RESENT: _resent,
    Kind.STAFF_CHANGED: _staff_changed,
    Kind.TERMS_DRAFTED: _terms,
    Kind.TERMS_PUBLISHED: _terms,
    Kind.WITHDRAWN: lambda facts: ("", facts.get("why", "")),
    Kind.UNLOCKED: _done,
    Kind.REFUSED: _refused,
    Kind.RELOCKED: _done,
    Kind.RE_EXPORTED: _done,
    Kind.CLOSED: lambda facts: (
        f": {_label(UnlockRequest.Resolution, facts.get('resolution', ''))}",
        facts.get("why", ""),
    ),
}
