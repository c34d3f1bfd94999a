"""The verbs: every change of state, named as staff would say it.

Each takes the acting person as `by`, checks the permission, and in one transaction locks (request, batches, consent,
ledger, in this order), asks the rules, writes, and records history and ledger. Each raises PermissionDenied or
Refused with nothing written, except that a PIN try is kept whatever comes of it. Those that a page or a call may
submit twice take a `key` (a UUID), which names the act: the same key again does nothing and returns the first.
"""

from .accounts import confirm_contact, hold, last_changed_by, obstacle_to_confirming, phone_entered_by, save_record
from .answers import record_answers
from .asking import add_batches, changed_since, take_out_batches
from .case_files import make_case_file
from .certificate import issue_certificate, record_certificate_key
from .consent import (
    decline_consent,
    give_consent,
    link_for,
    obstacle_to_phone_consent,
    open_consent_link,
    record_phone_consent,
    refuse_staff,
    revoke_consent_link,
    send_consent_link,
)
from .evidence import attach_evidence, open_evidence
from .exports import record_export
from .handing_over import answer_by_hand, hand_over, pull, put_back, put_back_for_others, start_instructions, try_again
from .imports import (
    became_of,
    confirm_import,
    discard_import,
    finish_imports,
    groups,
    import_records,
    judge_import,
    obstacle_to_confirming_import,
    problems_of,
    stage_import,
    start_import,
    waiting_contacts,
    what_was_lost,
)
from .links import link_state
from .opening import open_and_send
from .ordered import CANCELS_OTHERS, cancel_order, order, waiting_orders
from .pin import issue_pin, link_seen, links_shown_to, set_pin, verify_customer_pin, verify_pin
from .receipts import receipt_for, resend_receipt
from .requests import add_note, assign, close_request, open_request, record_advice
from .restore import record_restore
from .review import flag_case, obstacle_to_review, resolve_flag, sign_off, with_state
from .search_words import learn_words, words_of
from .several_case_files import cancel_case_files, order_case_files, take_case_files
from .signing_in import (
    end_idle_sessions,
    password_is_recorded,
    record_failed_sign_in,
    record_first_step,
    record_session_end,
    record_sign_in,
    renew_hash,
    told_of_emergency,
)
from .staff import (
    change_own_factors,
    change_own_password,
    change_staff,
    deactivate,
    factors_are_recorded,
    give_roles,
    is_last_superuser,
    is_system,
    link_company_account,
    open_cases,
    record_staff,
    set_password,
    who_reads_like,
)
from .staff_links import (
    ask_factor_reset,
    factor_reset_of,
    reset_factors,
    send_staff_link,
    set_password_by_link,
    staff_link_for,
    staff_link_works,
)
from .terms import draft_terms, edit_terms, obstacle_to_publishing, publish_terms, terms_seen
from .tokens import make_api_token, revoke_api_token, system_of
from .unlock import ACTIONS, cancel_unlock, extend_window, mark_re_exported, relock, relock_due, unlock
from .verbs import Refused, own_admins, own_contact
from .verification import order_verification, verification_is_due, verification_state, verify_record
from .withdrawal import withdraw_consent, withdraw_own_consent

__all__ = [
    "ACTIONS",
    "CANCELS_OTHERS",
    "Refused",
    "add_batches",
    "add_note",
    "answer_by_hand",
    "ask_factor_reset",
    "assign",
    "attach_evidence",
    "became_of",
    "cancel_case_files",
    "cancel_order",
    "cancel_unlock",
    "change_own_factors",
    "change_own_password",
    "change_staff",
    "changed_since",
    "close_request",
    "confirm_contact",
    "confirm_import",
    "deactivate",
    "decline_consent",
    "discard_import",
    "draft_terms",
    "edit_terms",
    "end_idle_sessions",
    "extend_window",
    "factor_reset_of",
    "factors_are_recorded",
    "finish_imports",
    "flag_case",
    "give_consent",
    "give_roles",
    "groups",
    "hand_over",
    "hold",
    "import_records",
    "is_last_superuser",
    "is_system",
    "issue_certificate",
    "issue_pin",
    "judge_import",
    "last_changed_by",
    "learn_words",
    "link_company_account",
    "link_for",
    "link_seen",
    "link_state",
    "links_shown_to",
    "make_api_token",
    "make_case_file",
    "mark_re_exported",
    "obstacle_to_confirming",
    "obstacle_to_confirming_import",
    "obstacle_to_phone_consent",
    "obstacle_to_publishing",
    "obstacle_to_review",
    "open_and_send",
    "open_cases",
    "open_consent_link",
    "open_evidence",
    "open_request",
    "order",
    "order_case_files",
    "order_verification",
    "own_admins",
    "own_contact",
    "password_is_recorded",
    "phone_entered_by",
    "problems_of",
    "publish_terms",
    "pull",
    "put_back",
    "put_back_for_others",
    "receipt_for",
    "record_advice",
    "record_answers",
    "record_certificate_key",
    "record_export",
    "record_failed_sign_in",
    "record_first_step",
    "record_phone_consent",
    "record_restore",
    "record_session_end",
    "record_sign_in",
    "record_staff",
    "refuse_staff",
    "relock",
    "relock_due",
    "renew_hash",
    "resend_receipt",
    "reset_factors",
    "resolve_flag",
    "revoke_api_token",
    "revoke_consent_link",
    "save_record",
    "send_consent_link",
    "send_staff_link",
    "set_password",
    "set_password_by_link",
    "set_pin",
    "sign_off",
    "staff_link_for",
    "staff_link_works",
    "stage_import",
    "start_import",
    "start_instructions",
    "system_of",
    "take_case_files",
    "take_out_batches",
    "terms_seen",
    "told_of_emergency",
    "try_again",
    "unlock",
    "verification_is_due",
    "verification_state",
    "verify_customer_pin",
    "verify_pin",
    "verify_record",
    "waiting_contacts",
    "waiting_orders",
    "what_was_lost",
    "who_reads_like",
    "with_state",
    "withdraw_consent",
    "withdraw_own_consent",
    "words_of",
]
