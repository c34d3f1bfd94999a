"""The verbs: every change of state, named as staff would say it.

Each takes the acting person as `by`, checks the permission, and in one transaction locks (request, batches, consent,
ledger, in this order), asks the rules, writes, and records history and ledger. Each raises PermissionDenied or
Refused with nothing written, except that a PIN try is kept whatever comes of it.
"""

from .consent import (
    decline_consent,
    give_consent,
    link_for,
    open_consent_link,
    receipt_for,
    refuse_staff,
    revoke_consent_link,
    send_consent_link,
    shown_text,
    withdraw_consent,
)
from .links import link_state
from .pin import issue_pin, verify_customer_pin, verify_pin
from .requests import add_note, assign, close_request, open_request, record_advice
from .unlock import mark_re_exported, relock, unlock
from .verbs import Refused

__all__ = [
    "Refused",
    "add_note",
    "assign",
    "close_request",
    "decline_consent",
    "give_consent",
    "issue_pin",
    "link_for",
    "link_state",
    "mark_re_exported",
    "open_consent_link",
    "open_request",
    "receipt_for",
    "record_advice",
    "refuse_staff",
    "relock",
    "revoke_consent_link",
    "send_consent_link",
    "shown_text",
    "unlock",
    "verify_customer_pin",
    "verify_pin",
    "withdraw_consent",
]
