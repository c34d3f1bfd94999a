"""The text that a customer is shown, or that is read to them: all that a consent binds, as plain text."""

from collections.abc import Collection

from ..database import fingerprint
from ..models import Batch, ConsentTerms, RequestedBatch
from . import wording
from .batches import summary
from .formats import counted, day, money


def asked_for(unlock_request):
    """Return the batches of the request that have not been unlocked yet."""
    lines = RequestedBatch.objects.filter(unlock_request=unlock_request, outcome=RequestedBatch.Outcome.WAITING)
    return Batch.objects.filter(pk__in=lines.values("batch"))


def terms_in_force():
    """Return the newest published terms."""
    return ConsentTerms.objects.exclude(published_at=None).first()


def shown_text(link, left_out=None):
    """Return all that the customer is shown and agrees to or declines, with the batches as they are now.

    `left_out` is a queryset of the batches that the customer leaves out.
    """
    keys = set() if left_out is None else set(left_out.values_list("pk", flat=True))
    return shown_lines(link.unlock_request, link.terms, with_content(link.unlock_request), left_out=keys)


def text_to_read_out(unlock_request, terms=None):
    """Return all that staff read to the customer on the phone, with the batches as they are now.

    `terms` default to those in force.
    """
    account, terms = unlock_request.account, terms or terms_in_force()
    return _compose(
        unlock_request,
        terms,
        with_content(unlock_request),
        notice=[wording.PHONE_NOTICE, ""],
        then=[wording.SAYING_YES_HEADING, *_listed(wording.SAYING_YES)],
        decision=[wording.READ_OUT_QUESTIONS_HEADING, *wording.read_out_questions(account, terms)],
    )


def shown_lines(unlock_request, terms, batches, *, left_out: Collection[int] = ()):
    """Return what `shown_text` does for a request, terms and batches that may not be in the database yet.

    Each batch has its fingerprint in `content`. `left_out` are keys of those that the customer leaves out.
    """
    account = unlock_request.account
    return _compose(
        unlock_request,
        terms,
        [batch for batch in batches if batch.pk not in left_out],
        left_out=[batch for batch in batches if batch.pk in left_out],
        then=[wording.AGREEING_HEADING, *_listed(wording.AGREEING)],
        decision=[
            wording.DECISION_HEADING,
            f"[ ] {wording.authorized(account)}",
            f"[ ] {wording.agree(terms)}",
            f"[{wording.AGREE_BUTTON}] [{wording.DECLINE_BUTTON}]",
        ],
    )


def _compose(unlock_request, terms, batches, *, then, decision, notice=(), left_out=()):
    account = unlock_request.account
    return "\n".join(
        [
            f"{wording.TITLE} ({unlock_request.reference})",
            *notice,
            wording.asked(account),
            "",
            f"{wording.ACCOUNT_HEADING}: {account.name}, number {account.number}",
            *_named(wording.BATCHES_HEADING, batches),
            *(_named(wording.LEFT_OUT_HEADING, left_out) if left_out else ()),
            "",
            wording.ADVICE_HEADING,
            *wording.ADVICE,
            "",
            wording.terms_heading(terms),
            wording.terms_text(terms, account),
            "",
            *then,
            "",
            *decision,
        ]
    )


def _listed(sentences):
    return [f"- {sentence}" for sentence in sentences]


def with_content(unlock_request):
    """Return the batches that `asked_for` does, each with its fingerprint in `content`, in the order of the text."""
    return list(asked_for(unlock_request).annotate(content=fingerprint.expression("default")).order_by("number"))


def _named(heading, batches):
    return [f"{heading}: {summary(batches)}", *map(_batch_line, batches)]


def _batch_line(batch):
    return (
        f"- {batch.number}, {batch.name or 'no name'}: "
        f"{counted(batch.item_count, 'item', 'items')}, {money(batch.total)}, "
        f"posted {day(batch.posted_on) or wording.NOT_RECORDED}, "
        f"bypassed {day(batch.bypassed_on) or wording.NOT_RECORDED}, content {batch.content}"
    )
