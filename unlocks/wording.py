"""The words that customers are shown before they decide: kept once, so that the text kept is the text shown."""

from django.conf import settings

TITLE = "Unlock bypassed batches"

ACCOUNT_HEADING = "Account"
BATCHES_HEADING = "Batches to unlock"
ADVICE_HEADING = "Before you decide"
ADVICE = [
    "The surest way to avoid duplicates is to enter the items of these batches into your accounting software by hand. "
    "If you would rather do that, do not agree: the batches stay locked, and nothing else changes.",
    "Once a batch is unlocked, it can be edited and exported. The export sends everything in the batch to your "
    "accounting software. Whatever is in there already will then be in there twice, and no program will notice it.",
    "So look first whether these items are in your accounting software. In QuickBooks, the audit log shows them.",
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

NOT_RECORDED = "not recorded"


def asked(account):
    """Say what the customer is asked, above everything else."""
    return (
        f"{settings.VENDOR_NAME} Support was asked to unlock the batches below, which were bypassed in the account of "
        f"{account.name}. Support unlocks them only if you agree."
    )


def terms_heading(terms):
    return f"{terms.title} (version {terms.version})"


def authorised(account):
    return f"I am authorised to decide this for {account.name}"


def agree(terms):
    return f"I agree to the terms above (version {terms.version})"


def batches_summary(count, items, total):
    """Say how much it is in all, such as "3 batches, 65 items, $17,504.50 in total"."""
    return f"{counted(count, 'batch', 'batches')}, {counted(items, 'item', 'items')}, {money(total)} in total"


def money(amount):
    """Write a Decimal as dollars and cents with thousands separators: "$11,920.00", "-$12.50"."""
    return f"{'-' if amount < 0 else ''}${abs(amount):,.2f}"


def day(date):
    """Write a date such as "1 Nov 2026"; one that is not known is said to be so."""
    return f"{date:%-d %b %Y}" if date else NOT_RECORDED


def counted(count, one, many):
    """Write a number with its noun: "1 item", "1,200 items"."""
    return f"{count:,} {one if count == 1 else many}"
