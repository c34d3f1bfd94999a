"""The text that a customer is shown, or that is read out: all that the consent binds, as plain text, word for word."""

from .. import fingerprint, wording
from ..models import Batch, ConsentTerms, RequestedBatch


def asked_for(request):
    """Return the batches that the request still waits to unlock."""
    lines = RequestedBatch.objects.filter(request=request, outcome=RequestedBatch.Outcome.WAITING)
    return Batch.objects.filter(pk__in=lines.values("batch"))


def terms_in_force():
    """Return the newest published terms."""
    return ConsentTerms.objects.exclude(published_at=None).first()


def shown_text(link):
    """Return all that the customer is shown and agrees to or declines, as the batches stand now."""
    return shown_lines(link.request, link.terms, _with_content(link.request))


def text_to_read_out(request, terms=None):
    """Return all that staff read out to the customer on the phone, as the batches stand now.

    `terms` are those in force, unless given.
    """
    account, terms = request.account, terms or terms_in_force()
    return _joined(
        request,
        terms,
        _with_content(request),
        face=[wording.READ_OUT_FACE, ""],
        decision=[wording.READ_OUT_QUESTIONS_HEADING, *wording.read_out_questions(account, terms)],
    )


def shown_lines(request, terms, batches):
    """Return what `shown_text` does for any request, terms and list of batches, in the database or not.

    Each batch has its fingerprint in `content`.
    """
    account = request.account
    return _joined(
        request,
        terms,
        batches,
        decision=[
            wording.DECISION_HEADING,
            f"[ ] {wording.authorised(account)}",
            f"[ ] {wording.agree(terms)}",
            f"[{wording.AGREE_BUTTON}] [{wording.DECLINE_BUTTON}]",
        ],
    )


def _joined(request, terms, batches, *, decision, face=()):
    account = request.account
    items, total = sum(batch.item_count for batch in batches), sum(batch.total for batch in batches)
    return "\n".join(
        [
            f"{wording.TITLE} ({request.reference})",
            *face,
            wording.asked(account),
            "",
            f"{wording.ACCOUNT_HEADING}: {account.name}, number {account.number}",
            f"{wording.BATCHES_HEADING}: {wording.batches_summary(len(batches), items, total)}",
            *(_batch_in_words(batch) for batch in batches),
            "",
            wording.ADVICE_HEADING,
            *wording.ADVICE,
            "",
            wording.terms_heading(terms),
            wording.terms_text(terms, account),
            "",
            *decision,
        ]
    )


def _with_content(request):
    return list(asked_for(request).annotate(content=fingerprint.expression("default")).order_by("number"))


def _batch_in_words(batch):
    return (
        f"- {batch.number}, {batch.name or 'no name'}: "
        f"{wording.counted(batch.item_count, 'item', 'items')}, {wording.money(batch.total)}, "
        f"posted {wording.day(batch.posted_on)}, bypassed {wording.day(batch.bypassed_on)}, content {batch.content}"
    )
