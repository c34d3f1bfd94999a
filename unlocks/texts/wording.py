"""The words that customers are shown before they decide, defined once so that what is recorded is what was shown."""

import re

from django.conf import settings

from ..models import Account, UnlockRequest
from .formats import counted, money

TITLE = "Unlock bypassed batches"

ACCOUNT_HEADING = "Account"
BATCHES_HEADING = "Batches to unlock"
LEFT_OUT_HEADING = "Left out, stay locked"
ADVICE_HEADING = "Before you decide"
ADVICE = [
    "The safest way to avoid duplicates is to enter the items in these batches into your accounting software by hand. "
    "If you prefer to do that, do not agree. The batches stay locked, and nothing else changes.",
    "Once a batch is unlocked, you can edit and export it. The export sends everything in the batch to your "
    "accounting software. Anything that is already there will then be there twice, and no software will detect it.",
    "Before you agree, check whether these items are already in your accounting software. Its audit log, if it has "
    "one, shows them.",
    "If your account batches invoices automatically, they can move to a new batch within seconds of the unlock.",
]
DECISION_HEADING = "Your decision"

NAME_LABEL = "Full name"
ROLE_LABEL = "Role in the company"
PIN_LABEL = "Account PIN"

CONTINUE_BUTTON = "Continue: check your answers"
AGREE_BUTTON = "Agree and record my consent"
DECLINE_BUTTON = "I do not agree"
CONFIRM_DECLINE_BUTTON = "Record that I do not agree"

_AS_THEY_ARE = (
    "Support can unlock exactly the batches agreed to, as they are now. If one changes before that, it stays locked."
)
_THEN_LOCKED = "Then nothing more can be unlocked, and unlocked batches are relocked. What you exported stays exported."
AGREEING_HEADING = "What happens when you agree"
AGREEING = [
    "We record this text, your name and role, the boxes you check, the button you press, when the account PIN was "
    "verified, and the time, IP address and browser. The PIN itself is not kept.",
    f"Pressing “{AGREE_BUTTON}” is your electronic signature.",
    "The receipt holds this text, and goes by email to the Admin on file. Print it, or ask for it on paper.",
    _AS_THEY_ARE,
    f"You can withdraw your consent on the receipt while the request is open. {_THEN_LOCKED}",
]
SAYING_YES_HEADING = "What happens when you say yes"
SAYING_YES = [
    "We record this text, the name and role that you give, your answers, the time, and who at Support recorded it. "
    "You give no electronic signature.",
    "The receipt holds this text, and goes by email to your address on file. Print it, or ask for it on paper.",
    f"Another member of {_AS_THEY_ARE}",
    "You can withdraw your consent while the request is open: on the receipt, or by telling Support. " + _THEN_LOCKED,
]

PHONE_NOTICE = (
    "RECORDED BY PHONE. Support reads this text to you on the phone and records your answer. You press no button and "
    "sign nothing. The long number after each batch identifies its content for the record and does not need to be "
    "read out."
)
READ_OUT_QUESTIONS_HEADING = "The questions"

NOT_RECORDED = "not recorded"

# How a request was closed, as its customers read it.
RESOLUTIONS = {
    UnlockRequest.Resolution.RE_EXPORTED: "batches were exported",
    UnlockRequest.Resolution.ENTERED_MANUALLY: "the items are entered by hand",
    UnlockRequest.Resolution.RELOCKED_UNUSED: "the batches were relocked unused",
    UnlockRequest.Resolution.DECLINED: "an Admin of the account did not agree",
    UnlockRequest.Resolution.WITHDRAWN: "the consent was withdrawn",
    UnlockRequest.Resolution.CANCELED: "it was canceled",
    UnlockRequest.Resolution.EXPIRED: "it expired",
    UnlockRequest.Resolution.NOT_ELIGIBLE: "the batches could not be unlocked",
}


def _books(account):
    if account.accounting_software == Account.Software.NONE:
        return "your accounting software"
    return account.get_accounting_software_display()


# The placeholders that terms may hold, and what the customer reads in their place.
PLACEHOLDERS = {
    "{vendor}": lambda account: settings.VENDOR_NAME,
    "{accounting_software}": _books,
}
_ALLOWED = f"Use braces only for {' and '.join(PLACEHOLDERS)}."
_IN_BRACES = re.compile(r"\{[^{}]*\}")


def asked(account):
    """Return what the customer is asked, which is the first sentence of the text."""
    return (
        f"{settings.VENDOR_NAME} Support was asked to unlock the batches below, which were bypassed in the account of "
        f"{account.name}. Support unlocks them only if you agree."
    )


def terms_heading(terms):
    return f"{terms.title} (version {terms.version})"


def terms_text(terms, account):
    """Return the terms as customers of the account read them, with each of PLACEHOLDERS filled in.

    Text that was filled in is not searched for placeholders again, and other braces stay as they are.
    """
    return re.sub("|".join(map(re.escape, PLACEHOLDERS)), lambda found: PLACEHOLDERS[found[0]](account), terms.text)


def terms_problem(text):
    """Return what is wrong with the placeholders in the text of terms, or ''."""
    names = [name for name in dict.fromkeys(_IN_BRACES.findall(text)) if name not in PLACEHOLDERS]
    if names:
        named = ", ".join(name[:40] for name in names[:5])
        return f"{named} {'is not a placeholder' if len(names) == 1 else 'are not placeholders'}. {_ALLOWED}"
    if lone := re.search("[{}]", _IN_BRACES.sub(lambda found: " " * len(found[0]), text)):
        near = " ".join(text[max(0, lone.start() - 15) : lone.end() + 15].split())
        return f"The brace {lone[0]} near “{near}” has no matching brace. {_ALLOWED}"
    return ""


def authorized(account):
    return f"I am authorized to decide this for {account.name}"


def agree(terms):
    return f"I agree to the terms (version {terms.version})"


def is_another(contact_name):
    """Return what a customer is asked whose name is not that of the contact on file."""
    return f"The link is addressed to {contact_name}. Are you someone else?"


def signs_instead(contact_name, account):
    """Return the words beside the box that answers `is_another`."""
    return f"I am not {contact_name}. I sign as an Admin of {account.name}"


def read_out_questions(account, terms):
    """Return the questions that staff ask the customer on the phone, after reading the rest to them."""
    return [
        f"Are you authorized to decide this for {account.name}?",
        f"Do you agree to these terms (version {terms.version})?",
    ]


def batches_summary(count, items, total):
    """Return how much there is, such as "3 batches, 65 items, $17,504.50 in total"."""
    return f"{counted(count, 'batch', 'batches')}, {counted(items, 'item', 'items')}, {money(total)} in total"
