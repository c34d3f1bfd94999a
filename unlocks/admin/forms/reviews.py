"""Reviewing a closed case: what is typed to sign it off, to flag it, and to resolve a flag."""

from ... import operations
from ...ledger import events
from ...models import ReviewDecision
from .base import CaseForm, text

Decision = ReviewDecision.Decision


class ReviewForm(CaseForm):
    """A decision on a case that is to be reviewed, for whoever took no part in it."""

    card = "review"
    permission = operations.sign_off.permission
    decision = said = ""
    decide = None

    note = text("Note", rows=2, missing="Say what it is. It stays with the record.")

    @classmethod
    def fits(cls, case, user):
        return case.review is not None and not case.obstacle_to_review and cls.decision in case.possible_reviews

    def carry_out(self, by):
        self.decide(self.unlock_request, note=self.cleaned_data["note"], by=by, key=self.act_key)
        return f"{self.unlock_request} {self.said}."


class SignOffForm(ReviewForm):
    verb = "sign_off"
    title = button = "Sign off"
    writes = (events.SignedOff,)
    decision = Decision.SIGNED_OFF
    decide = staticmethod(operations.sign_off)
    said = "is signed off"

    note = text("Note (not needed)", rows=2)


class FlagForm(ReviewForm):
    verb = "flag"
    title = button = "Flag the case"
    writes = (events.Flagged,)
    decision = Decision.FLAGGED
    decide = staticmethod(operations.flag_case)
    danger = "danger"
    said = "is flagged. It stays in sight until that is resolved"

    note = text("What is wrong?", rows=2, missing="Say what is wrong. It stays with the record.")


class ResolveFlagForm(ReviewForm):
    verb = "resolve_flag"
    title = button = "Resolve the flag"
    writes = (events.FlagResolved,)
    decision = Decision.RESOLVED
    decide = staticmethod(operations.resolve_flag)
    said = "is flagged no longer"

    note = text("How was it resolved?", rows=2, missing="Say how. It stays with the record.")
