"""The words that customers are shown before they decide: kept once, so that the text kept is the text shown."""

import re

from django.conf import settings

from ..models import Account
from .formats import counted, money

TITLE = "Unlock bypassed batches"

ACCOUNT_HEADING = "Account"
BATCHES_HEADING = "Batches to unlock"
ADVICE_HEADING = "Before you decide"
ADVICE = [
    "The surest way to avoid duplicates is to enter the items of these batches into your accounting software by hand. "
    "If you would rather do that, do not agree: the batches stay locked, and nothing else changes.",
    "Once a batch is unlocked, it can be edited and exported. The export sends everything in the batch to your "
    "accounting software. Whatever is in there already will then be in there twice, and no program will notice it.",
    "So look first whether these items are in your accounting software. Its audit log, if it has one, shows them.",
    "If your account puts invoices into batches automatically, they can move to a new batch within seconds of the "
    "unlock.",
]
DECISION_HEADING = "Your decision"

NAME_LABEL = "Full name"
ROLE_LABEL = "Role in the company"
PIN_LABEL = "Account PIN"

CONTINUE_BUTTON = "Continue: check your answers"
AGREE_BUTTON = "Agree and record my consent"
DECLINE_BUTTON = "I do not agree"
CONFIRM_DECLINE_BUTTON = "Record that I do not agree"

READ_OUT_FACE = (
    "TAKEN DOWN BY STAFF. Support reads this text out to you on the phone and writes your answer down; you press no "
    "button and sign nothing. The long number after each batch identifies its content for the record and need not be "
    "read out."
)
READ_OUT_QUESTIONS_HEADING = "The questions"

NOT_RECORDED = "not recorded"


def _books(account):
    if account.accounting_software == Account.Software.NONE:
        return "your accounting software"
    return account.get_accounting_software_display()


# What may stand in later versions of the terms, and what the customer reads in its place.
PLACEHOLDERS = {
    "{vendor}": lambda account: settings.VENDOR_NAME,
    "{accounting_software}": _books,
}
_ALLOWED = f"Braces are for {' and '.join(PLACEHOLDERS)} only."
_IN_BRACES = re.compile(r"\{[^{}]*\}")


def asked(account):
    """Say what the customer is asked, above everything else."""
    return (
        f"{settings.VENDOR_NAME} Support was asked to unlock the batches below, which were bypassed in the account of "
        f"{account.name}. Support unlocks them only if you agree."
    )


def terms_heading(terms):
    return f"{terms.title} (version {terms.version})"


def terms_text(terms, account):
    """Return the terms as this account's customers read them: with each of PLACEHOLDERS filled in, once.

    What is filled in is never filled in again, and other braces stay as they are.
    """
    return re.sub("|".join(map(re.escape, PLACEHOLDERS)), lambda found: PLACEHOLDERS[found[0]](account), terms.text)


def terms_problem(text):
    """Say what is wrong with the placeholders in a text of terms; '' when nothing is."""
    names = [name for name in dict.fromkeys(_IN_BRACES.findall(text)) if name not in PLACEHOLDERS]
    if names:
        named = ", ".join(name[:40] for name in names[:5])
        return f"{named} {'is no placeholder' if len(names) == 1 else 'are no placeholders'}. {_ALLOWED}"
    if lone := re.search("[{}]", _IN_BRACES.sub(lambda found: " " * len(found[0]), text)):
        near = " ".join(text[max(0, lone.start() - 15) : lone.end() + 15].split())
        return f"The brace {lone[0]} near “{near}” has no other half. {_ALLOWED}"
    return ""


def authorized(account):
    return f"I am authorized to decide this for {account.name}"


def agree(terms):
    return f"I agree to the terms (version {terms.version})"


def read_out_questions(account, terms):
    """Return the questions that staff put to the customer on the phone, after reading the rest out."""
    return [
        f"Are you authorized to decide this for {account.name}?",
        f"Do you agree to these terms (version {terms.version})?",
    ]


def batches_summary(count, items, total):
    """Say how much it is in all, such as "3 batches, 65 items, $17,504.50 in total"."""
    return f"{counted(count, 'batch', 'batches')}, {counted(items, 'item', 'items')}, {money(total)} in total"
