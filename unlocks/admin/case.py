"""What the request page shows of a case: how far it has come, what blocks each batch, and the evidence."""

from collections import Counter, defaultdict
from datetime import timedelta
from functools import cache, cached_property

from django.conf import settings
from django.core.paginator import Paginator
from django.db.models import Case as Choice
from django.db.models import (
    Count,
    Exists,
    F,
    FilteredRelation,
    Max,
    Min,
    OuterRef,
    Q,
    Subquery,
    Sum,
    TextField,
    Value,
    When,
)
from django.utils import timezone

from .. import operations, rules
from ..digest import sha256
from ..ledger import chain, emails, events
from ..models import (
    Batch,
    Certificate,
    Consent,
    ConsentLink,
    Instruction,
    LedgerEntry,
    RequestedBatch,
    Review,
    ReviewDecision,
    UnlockRequest,
)
from ..templatetags.desk import how_agreed
from ..texts.formats import moment_with_seconds
from . import doubts
from .instructed import how_far, newest
from .lists import by_number
from .tags import INSTRUCTION_TONES, OUTCOME_TONES, UNDER_WAY, stands, verdict

FIRST_BATCHES = 10
LISTED_BATCHES = 100  # of a page, once all are asked for
LISTED_ENTRIES = 50
FOLLOWED_CLOSELY, FOLLOWED = 4, 15  # seconds

Status = UnlockRequest.Status
Outcome = RequestedBatch.Outcome
Decision = ReviewDecision.Decision
What = Instruction.What
# What someone should know beyond that it is under way.
STUCK = (Instruction.State.UNKNOWN, Instruction.State.GIVEN_UP, Instruction.State.REFUSED)
# Only another answer of the customer helps these.
ASK_AGAIN = (rules.Refusal.NOT_COVERED, rules.Refusal.CONSENT_EXPIRED, rules.Refusal.CHANGED)

# What the customer was shown, unless it lists too many batches for the page.
_SHORT_TEXT = Choice(When(batch_count__lte=LISTED_BATCHES, then="text"), default=Value(""), output_field=TextField())


def _count_of(outcome):
    """Return a property of a Case: how many of its batches have this outcome."""
    return property(lambda case: case._outcomes.get(outcome, {"n": 0})["n"])


class Case:
    """A request as `user` sees it. Everything is read at most once, whatever the number of batches.

    The first few batches are listed. `only` lists those with one verdict or outcome alone, and `rows="all"` all of
    them; `page` is the page of such a list.
    """

    def __init__(self, unlock_request, user, *, only="", rows="", page=1):
        self.unlock_request = unlock_request
        self.user = user
        self.only = only
        self.rows = rows
        self.page = page
        self.now = timezone.now()

    @property
    def is_open(self):
        return self.unlock_request.status != Status.CLOSED

    @property
    def before_consent(self):
        return self.unlock_request.status in (Status.OPEN, Status.AWAITING_CONSENT)

    @cached_property
    def admins(self):
        """The Admins that links and PINs go to."""
        return self.unlock_request.account.contacts.confirmed_admins().select_related("entered_by", "confirmed_by")

    @property
    def requester_waits(self):
        """Whether whoever asked is an Admin whose address has to be confirmed first."""
        return self.unlock_request.requester.is_admin and not self.unlock_request.requester.is_confirmed

    @cached_property
    def own_contact(self):
        """Why `user` may send no link and issue no PIN: they entered an Admin's address; '' otherwise."""
        if not self.unlock_request.has_own_admin:
            return ""
        return operations.own_contact(self.unlock_request.account, self.user)

    # What the page is followed by

    @property
    def stamp(self):
        return stamp(self.unlock_request, self.now)

    @property
    def every(self):
        """After how many seconds the page asks what changed: sooner while it waits for the customer or the product."""
        waits = self.link_is_live or self.unlocking or self.relocking
        return FOLLOWED_CLOSELY if waits else FOLLOWED

    @property
    def news(self):
        """The newest thing that happened, in a sentence."""
        entry, event = self.latest_entries[0]
        return f"{event.label} by {entry.actor}, {moment_with_seconds(entry.at)}."

    @property
    def stage(self):
        """Where the case stands, in a few words for the title of the page."""
        match self.unlock_request.status:
            case Status.AWAITING_CONSENT:
                return self.link_stage
            case Status.CONSENTED if self.unlocking:
                return "Unlocking"
            case Status.CONSENTED:
                return "Ready to unlock" if self.ready else "Agreed"
            case Status.UNLOCKED if not self.unlocked:
                return "Relocking" if self.relocking else "No longer unlocked"
        return self.unlock_request.get_status_display()

    @property
    def link_stage(self):
        """How far the customer has come with the link."""
        if self.link_state != "live":
            return {"expired": "Link has expired", "revoked": "Link revoked"}.get(
                self.link_state, "Waiting for the customer"
            )
        if self.link.pin_verified_at:
            return "PIN right"
        return "Link opened" if self.openings else self._link_remark

    # The batches

    @cached_property
    def _outcomes(self):
        rows = self.unlock_request.lines.order_by().values("outcome")
        counts = rows.annotate(
            n=Count("pk"),
            total=Sum("batch__total"),
            windows=Count("batch__unlocked_until"),
            oldest=Min("batch__as_of"),
            known=Count("batch__as_of"),
            window_end=Min("batch__unlocked_until"),
        )
        return {row["outcome"]: row for row in counts}

    @property
    def batch_count(self):
        return sum(row["n"] for row in self._outcomes.values())

    @property
    def total(self):
        return sum(row["total"] for row in self._outcomes.values())

    @property
    def as_of(self):
        """When the product said the oldest of what is on file of its batches; None if no time is on record."""
        return min((row["oldest"] for row in self._outcomes.values() if row["oldest"]), default=None)

    @property
    def outdated(self):
        return doubts.is_outdated(self.as_of)

    @property
    def of_unknown_age(self):
        """For how many of its batches no such time is on record."""
        return self.batch_count - sum(row["known"] for row in self._outcomes.values())

    @cached_property
    def doubts(self):
        """What to know before the customer is asked about the batches that wait, in sentences."""
        if self.lists_all:
            return doubts.said(doubts.sum_up(one for one in self._listed_batches if one.outcome == Outcome.WAITING))
        return doubts.of(self.waiting_batches())

    waiting = _count_of(Outcome.WAITING)
    unlocking = _count_of(Outcome.UNLOCKING)
    unlocked = _count_of(Outcome.UNLOCKED)
    relocking = _count_of(Outcome.RELOCKING)
    re_exported = _count_of(Outcome.RE_EXPORTED)
    relocked = _count_of(Outcome.RELOCKED)
    refused = _count_of(Outcome.REFUSED)

    @property
    def granted(self):
        """How many the product has unlocked, or was asked to unlock or to relock."""
        return self.unlocking + self.unlocked + self.relocking

    @property
    def ever_unlocked(self):
        """How many were unlocked; of those that are relocking, the ones with a window."""
        were = self._outcomes[Outcome.RELOCKING]["windows"] if self.relocking else 0
        return self.unlocked + were + self.re_exported + self.relocked

    @property
    def standing(self):
        """The tones and words for where the case stands."""
        under_way = next((outcome for outcome in UNDER_WAY if outcome in self._outcomes), None)
        return stands(
            self.unlock_request,
            under_way=under_way,
            any_unlocked=bool(self.unlocked),
            any_refused=bool(self.refused),
        )

    def waiting_batches(self):
        return self._batches(Outcome.WAITING)

    def unlocking_batches(self):
        return self._batches(Outcome.UNLOCKING)

    def unlocked_batches(self):
        return self._batches(Outcome.UNLOCKED)

    def relockable_batches(self):
        """Those that the product can be asked to lock: unlocked ones, and those that it refused or was silent about."""
        granted = self._batches(*RequestedBatch.GRANTED)
        return Batch.objects.filter(
            pk__in=rules.judged_to_relock(granted, by=self.user).filter(refusal="").values("pk")
        )

    def exportable_batches(self):
        """Those that the customer may have exported: unlocked ones, and those of which that is not known any more."""
        # Of its lines, not of all batches: PostgreSQL reads every batch there is where one of two sets may hold it.
        given_up = Instruction.objects.filter(state=Instruction.State.GIVEN_UP, batch=OuterRef("batch"))
        known = Q(outcome__in=[Outcome.UNLOCKED, Outcome.RELOCKING])
        lines = self.unlock_request.lines.order_by().filter(known | Q(Exists(given_up), outcome=Outcome.UNLOCKING))
        return Batch.objects.filter(pk__in=lines.values("batch"))

    def _batches(self, *outcomes):
        lines = self.unlock_request.lines.order_by().filter(outcome__in=outcomes)
        return Batch.objects.filter(pk__in=lines.values("batch"))

    # The product

    @cached_property
    def asked(self):
        """Sum up the newest instructions for batches that are unlocking or relocking, by what they ask and state."""
        if not self.unlocking + self.relocking:
            return []
        if self.lists_all:
            return self._asked_of_listed()
        lines = {"line__unlock_request": self.unlock_request, "line__outcome__in": UNDER_WAY}
        counts = newest(**lines).order_by("what", "state").values("what", "state")
        return list(
            counts.annotate(
                n=Count("pk"),
                handed_over=Count("sent_at"),
                sent=Min("sent_at"),
                tries=Min("tries"),
                one_answer=Max("answer"),
                answers=Count("answer", distinct=True),
            )
        )

    def _asked_of_listed(self):
        groups = defaultdict(list)
        for batch in self._listed_batches:
            if batch.outcome in UNDER_WAY:
                one = self._listed_instructions[batch.line_id]
                groups[one.what, one.state].append(one)
        return [
            {
                "what": what,
                "state": state,
                "n": len(some),
                "handed_over": sum(one.sent_at is not None for one in some),
                "sent": min((one.sent_at for one in some if one.sent_at), default=None),
                "tries": min(one.tries for one in some),
                "one_answer": max(one.answer for one in some),
                "answers": len({one.answer for one in some}),
            }
            for (what, state), some in sorted(groups.items())
        ]

    def count_asked(self, state, *whats):
        """Count the batches under way whose newest instruction is in this state, and asks one of `whats`."""
        return sum(row["n"] for row in self.asked if row["state"] == state and row["what"] in (whats or What.values))

    @property
    def cancelable(self):
        """How many the product was certainly not asked yet to unlock."""
        waiting = (Instruction.State.QUEUED, What.UNLOCK)
        return sum(row["n"] - row["handed_over"] for row in self.asked if (row["state"], row["what"]) == waiting)

    @property
    def given_up(self):
        return self.count_asked(Instruction.State.GIVEN_UP)

    @property
    def relock_refused(self):
        return self.count_asked(Instruction.State.REFUSED, What.LOCK)

    @property
    def relockable(self):
        return self.unlocked + self.given_up + self.relock_refused

    @property
    def exportable(self):
        return self.unlocked + self.relocking + self.count_asked(Instruction.State.GIVEN_UP, What.UNLOCK)

    def instructions_given_up(self):
        given_up = {"line__outcome__in": UNDER_WAY, "state": Instruction.State.GIVEN_UP}
        return newest(line__unlock_request=self.unlock_request, **given_up)

    @cached_property
    def _verdict_counts(self):
        """Count what may be unlocked now ('') and each refusal, over the batches that still wait."""
        if not self.waiting:
            return {}
        if self.lists_all:
            return Counter(batch.refusal for batch in self._listed_batches if batch.outcome == Outcome.WAITING)
        judged = rules.judged(self.waiting_batches(), by=self.user, at=self.now)
        return dict(judged.order_by().values_list("refusal").annotate(n=Count("pk")))

    @property
    def ready(self):
        return self._verdict_counts.get("", 0)

    @property
    def for_another_person(self):
        """How many only someone else may unlock: `user` recorded the consent, or could have agreed for the customer."""
        return sum(self._for_others.values())

    @property
    def own_part(self):
        """What `user` did, so that someone else has to unlock."""
        return rules.BY_ANOTHER_PERSON[next(iter(self._for_others))]

    @property
    def _for_others(self):
        return {code: n for code in rules.BY_ANOTHER_PERSON if (n := self._verdict_counts.get(code))}

    @property
    def blocked(self):
        return self.waiting - self.ready - self.for_another_person

    @cached_property
    def verdict_summary(self):
        """List (code, name, count) for each verdict and outcome, for a case too long to show whole."""
        ready = [("ready", "Ready", self.ready)] if self.ready else []
        refused = [(code, rules.short_name(code), n) for code, n in sorted(self._verdict_counts.items()) if code]
        outcomes = [
            (outcome, Outcome(outcome).label, row["n"])
            for outcome, row in sorted(self._outcomes.items())
            if outcome != Outcome.WAITING
        ]
        return ready + refused + outcomes

    @cached_property
    def listed(self):
        """The page of lines that is shown."""
        lines, count = self.unlock_request.lines.order_by(by_number("batch__number"), "pk"), self.batch_count
        for code, _, n in self.verdict_summary if self.only else []:
            if self.only == code:
                count = n
                lines = lines.filter(**self._condition(code))
        paginator = Paginator(lines, self._rows_a_page)
        paginator.count = count
        return paginator.get_page(self.page if self.unfolded else 1)

    @property
    def unfolded(self):
        """Whether more than the first few batches were asked for."""
        return self.rows == "all" or bool(self.only)

    @property
    def _rows_a_page(self):
        return LISTED_BATCHES if self.unfolded else FIRST_BATCHES

    @property
    def lists_all(self):
        """Whether every batch of the case is on the page."""
        return self.batch_count <= self._rows_a_page and not self.only

    def _condition(self, code):
        if code in Outcome.values:
            return {"outcome": code}
        judged = rules.judged(self.waiting_batches(), by=self.user, at=self.now)
        return {"batch__in": judged.filter(refusal="" if code == "ready" else code).values("pk")}

    @property
    def verdicts(self):
        """List the batches of that page with the verdict on each."""
        return [self._verdict(batch) for batch in self._listed_batches]

    @property
    def listed_waiting(self):
        """The batches of that page that wait."""
        return [batch for batch in self._listed_batches if batch.outcome == Outcome.WAITING]

    @cached_property
    def _listed_batches(self):
        """The batches of the page, with what became of each in this case; judged unless none of them waits."""
        batches = Batch.objects.filter(pk__in=self.listed.object_list.values("batch"))
        if self.waiting:
            batches = rules.judged(batches, by=self.user, at=self.now)
        asked = FilteredRelation("lines", condition=Q(lines__unlock_request=self.unlock_request))
        here = batches.annotate(asked=asked, line_id=F("asked__id"), outcome=F("asked__outcome"))
        return list(doubts.with_doubts(here).order_by(by_number(), "line_id"))

    def _verdict(self, batch):
        outcome = Outcome(batch.outcome)
        if outcome == Outcome.WAITING:
            # On the page of the request its own reference says nothing.
            sentence = rules.sentence(batch.refusal, batch).replace(f" ({self.unlock_request})", "")
            return {"batch": batch, "verdict": verdict(batch.refusal), "sentence": sentence}
        row = {"batch": batch, "verdict": (OUTCOME_TONES[outcome], outcome.label)}
        if outcome == Outcome.UNLOCKED and batch.unlocked_until:
            row |= {"until": batch.unlocked_until, "overdue": batch.unlocked_until <= self.now}
        if instruction := self._listed_instructions.get(batch.line_id):
            row |= {"sentence": how_far(instruction)}
            if instruction.state in STUCK and outcome in UNDER_WAY:
                row["stuck"] = INSTRUCTION_TONES[instruction.state], instruction.get_state_display()
        return row

    @cached_property
    def _listed_instructions(self):
        """The newest instructions for those batches of the page of which they tell more, by the key of the line."""
        told = [one.line_id for one in self._listed_batches if one.outcome in (*UNDER_WAY, Outcome.REFUSED)]
        if not told:
            return {}
        return {one.line_id: one for one in newest(line__in=told).select_related("started_by")}

    # Evidence

    @cached_property
    def link(self):
        """The newest consent link; the one that the latest answer came by is read with it."""
        newest = self.unlock_request.newest_link
        if newest and self.consent and self.consent.link_id == newest:
            return self.consent.link
        return ConsentLink.objects.select_related("sent_to", "terms").get(pk=newest) if newest else None

    @cached_property
    def openings(self):
        """The recorded openings of the link, by address and browser."""
        return list(self.link.openings.all()) if self.link else []

    @cached_property
    def _all_emails(self):
        return emails.of_case(self.unlock_request)

    @property
    def emails(self):
        return [email for email in self._all_emails if email.unlock_request]

    @cached_property
    def link_email(self):
        """What became of the email with the link."""
        return emails.of_link(self.link, self.emails) if self.link else None

    @cached_property
    def failures(self):
        """The emails of the case, or with a PIN of its account, that failed and still matter.

        Of the one with the consent link the next step tells.
        """
        if not any(email.failed or email.canceled for email in self._all_emails):
            return []
        failed = emails.failures(self.unlock_request.account, self.unlock_request)
        return [email for email in failed if email.what != "consent_link"]

    @property
    def link_state(self):
        return operations.link_state(self.link) if self.link else ""

    @property
    def link_is_live(self):
        return self.link_state == "live"

    @cached_property
    def consent(self):
        """The customer's latest answer, agreed or declined."""
        if not self.unlock_request.newest_consent:
            return None
        around = ("terms", "recorded_by", "withdrawal", "contact", "opening", "link__sent_to", "link__terms")
        here = {"consent": OuterRef("pk")}
        newest = {name: _newest(Certificate, "ordinal", name, **here) for name in ("ordinal", "interim", "issued_at")}
        certified = {f"certificate_{name}": column for name, column in newest.items()}
        answers = Consent.objects.select_related(*around).annotate(short_text=_SHORT_TEXT, **certified).defer("text")
        return with_waits(answers).get(pk=self.unlock_request.newest_consent)

    @property
    def recorded_by_phone(self):
        """Whether the latest answer was recorded by phone, which is lower assurance."""
        return self.consent is not None and self.consent.recorded_by_phone

    @property
    def consent_text(self):
        """What the customer was shown, unless it is too long."""
        return self.consent.short_text if self.consent else ""

    @property
    def standing_consent(self):
        consent = self.consent
        if consent and consent.decision == Consent.Decision.AGREED and not hasattr(consent, "withdrawal"):
            return consent
        return None

    @property
    def consent_expired(self):
        return bool(self.standing_consent) and self.standing_consent.valid_until <= self.now

    @cached_property
    def consent_over(self):
        """Why nothing can be unlocked under the consent any more; '' while it is in force."""
        return why_over(self.consent, self.unlock_request.status, self.now)

    @cached_property
    def review(self):
        """The review that a closed case is to have; None without one."""
        if self.is_open:
            return None
        return Review.objects.filter(unlock_request=self.unlock_request).first()

    @cached_property
    def decisions(self):
        """What reviewers said, in its order."""
        return list(self.review.decisions.select_related("by")) if self.review else []

    @property
    def flagged(self):
        return bool(self.decisions) and self.decisions[-1].decision == Decision.FLAGGED

    @property
    def possible_reviews(self):
        """What a reviewer can say now."""
        if self.flagged:
            return [Decision.RESOLVED]
        return [Decision.FLAGGED] if self.decisions else [Decision.SIGNED_OFF, Decision.FLAGGED]

    @cached_property
    def obstacle_to_review(self):
        return operations.obstacle_to_review(self.unlock_request, self.user)

    @cached_property
    def evidence(self):
        return list(self.consent.evidence.select_related("attached_by")) if self.recorded_by_phone else []

    @cached_property
    def certificates(self):
        """The certificates of the consent, the newest first, without their files."""
        return list(self.consent.certificates.select_related("issued_by").defer("content", "pdf"))

    @cached_property
    def receipt_failed(self):
        """The latest receipt if its email was not sent, and none waits or was sent since; otherwise None."""
        receipts = emails.receipts(self.emails)
        return receipts[0] if receipts and (receipts[0].failed or receipts[0].canceled) else None

    @property
    def receipt_arrived(self):
        """Whether a server took any email with a receipt."""
        return any(receipt.sent for receipt in emails.receipts(self.emails))

    @property
    def asks_for_consent(self):
        return self.before_consent or any(code in self._verdict_counts for code in ASK_AGAIN)

    @cached_property
    def obstacle_to_phone_consent(self):
        """Why `user` can't record the consent by phone, in a sentence; '' if they can, None if it is not an option."""
        if not settings.PHONE_CONSENT or not self.user.has_perm("unlocks.record_phone_consent"):
            return None
        begun = self.granted or self.ever_unlocked
        if not self.is_open or not self.unlock_request.advice or not self.asks_for_consent or begun:
            return None
        obstacle = operations.obstacle_to_phone_consent(self.unlock_request, self.user)
        verify_first = obstacle == rules.sentence(rules.Refusal.PIN_NOT_BY_YOU)
        return self.link_seen if verify_first and self.link_seen else obstacle

    @cached_property
    def link_seen(self):
        """Why `user` may not type the PIN: they were shown a link that still works; '' otherwise."""
        if not self.before_consent or not self.user.has_perm(operations.verify_pin.permission):
            return ""
        if not self.unlock_request.has_seen_link:
            return ""
        here = self.link_state == "live" and self.link.shown_to_id == self.user.pk
        where = "" if here else ", which is of another request of the account,"
        return f"{rules.sentence(rules.Refusal.LINK_SEEN)} Or revoke the link{where} first."

    @cached_property
    def latest_entries(self):
        """List the newest ledger entries of the case, each with its event."""
        return [(entry, chain.event_of(entry)) for entry in self._newest_entries[:LISTED_ENTRIES]]

    @cached_property
    def altered(self):
        """The listed entries that do not fit their seals; reading an event checks that."""
        return [entry for entry, event in self.latest_entries if isinstance(event, events.Altered)]

    @property
    def text_checked(self):
        """Whether what the customer was shown is on this page, and was hashed for it."""
        return bool(self.consent_text)

    @property
    def text_altered(self):
        return self.text_checked and sha256(self.consent_text) != self.consent.text_sha256

    @property
    def certificate(self):
        """The newest certificate of the consent, as far as its links tell; None if none was issued."""
        ordinal = self.consent and self.consent.certificate_ordinal
        at, interim = ordinal and self.consent.certificate_issued_at, ordinal and self.consent.certificate_interim
        return Certificate(consent=self.consent, ordinal=ordinal, issued_at=at, interim=interim) if ordinal else None

    @property
    def last_entry(self):
        return next(iter(self._newest_entries), None)

    @property
    def more_entries(self):
        return len(self._newest_entries) > LISTED_ENTRIES

    @cached_property
    def _newest_entries(self):
        """The entries that are listed, and one more if there is one."""
        return list(self.unlock_request.entries.order_by("-sequence")[: LISTED_ENTRIES + 1])

    @property
    def ledger_head(self):
        """The sequence of the ledger's newest entry when this page was made."""
        return self.unlock_request.ledger_head

    # The steps

    @cached_property
    def steps(self):
        """List the five steps of a case; their state is done, part, now or ''."""
        unlock_request = self.unlock_request
        steps = [
            ("Opened", unlock_request.opened_at, f"Channel: {unlock_request.get_channel_display().lower()}"),
            ("Safer route offered", unlock_request.advised_at, unlock_request.get_advice_display()),
            ("PIN and consent", self._consented_at, self._consent_remark),
            ("Unlock", unlock_request.last_unlocked, self._unlock_remark),
            ("Re-exported", unlock_request.last_re_exported, self._export_remark),
        ]
        withdrawn = self.consent and hasattr(self.consent, "withdrawal")
        now = {
            Status.OPEN: 2 if unlock_request.advice else 1,
            Status.AWAITING_CONSENT: 2,
            Status.CONSENTED: 3,
            Status.UNLOCKED: 4,
            Status.CLOSED: None,
        }[Status.CLOSED if withdrawn else Status(unlock_request.status)]
        return [
            {"state": self._state(position, now, at), "name": name, "at": at, "remark": remark}
            for position, (name, at, remark) in enumerate(steps)
        ]

    def _state(self, position, now, at):
        if position == now:
            return "now"
        if not at or (now is not None and position > now):
            return ""
        done = {3: self.ever_unlocked, 4: self.re_exported}.get(position, self.batch_count)
        return "done" if done == self.batch_count else "part"

    @property
    def _consented_at(self):
        return self.consent.given_at if self.consent and self.consent.decision == Consent.Decision.AGREED else None

    @property
    def _consent_remark(self):
        if self.consent and hasattr(self.consent, "withdrawal"):
            return "Withdrawn later"
        if self.consent and self.consent.decision == Consent.Decision.DECLINED:
            return "Declined by the customer"
        if self.unlock_request.status == Status.AWAITING_CONSENT:
            return self.link_stage
        if self.standing_consent:
            return how_agreed(self.standing_consent)
        return ""

    @property
    def _link_remark(self):
        email = self.link_email
        if email.failed or email.canceled:
            return "Link could not be emailed"
        return "Link sent" if email.sent else "Link waits to be sent" if email.queued else "Link issued"

    @property
    def _unlock_remark(self):
        parts = [
            (self.ever_unlocked, "unlocked"),
            (self.unlocking, "unlocking"),
            (self.refused, "refused by the product"),
        ]
        remarks = [f"{n:,} of {self.batch_count:,} {what}" for n, what in parts if n]
        if self.unlock_request.status == Status.CONSENTED and self.waiting:
            other = self.for_another_person and not self.ready
            ready, whom = (self.for_another_person, " for someone else") if other else (self.ready, "")
            remarks.insert(0, f"{ready:,} of {self.waiting:,} ready{whom}")
        return ", ".join(remarks)

    @property
    def _export_remark(self):
        exported = self.re_exported
        if exported:
            return f"{exported:,} of {self.batch_count:,} re-exported"
        if self.unlocked and self.window_end:
            return "Window is over" if self.window_end <= self.now else "Before the window ends"
        return ""

    @property
    def window_end(self):
        """The first time at which one of its unlocked batches has to be exported or relocked."""
        if not self.unlocked:
            return None
        return self._outcomes[Outcome.UNLOCKED]["window_end"]

    @property
    def longer_windows(self):
        """List the windows that its unlocked batches can be extended to, each as its hours and its first end."""
        if not self._extendable:
            return []
        end, unlocked_at = self._extendable
        ends = [(hours, unlocked_at + timedelta(hours=hours)) for hours in rules.windows()]
        return [(hours, later) for hours, later in ends if later > end]

    @cached_property
    def _extendable(self):
        """When the first to end of its batches that can be extended ends, and when it was unlocked; None for none."""
        if not self.unlocked:
            return None
        judged = rules.judged_to_extend(
            self.unlocked_batches(), hours=rules.longest_window(), by=self.user, at=self.now
        )
        ends = judged.filter(refusal="").order_by("unlocked_until")
        return ends.values_list("unlocked_until", rules.unlocked_at()).first()


def _newest(model, column, key="pk", **where):
    return Subquery(model.objects.filter(**where).order_by(f"-{column}").values(key)[:1])


@cache  # as what follows: putting it together takes as long as asking it
def with_stamp():
    """Return all requests, annotated with what `stamp` reads: the newest of all that the page of each shows."""
    asked = Instruction.objects.filter(line__unlock_request=OuterRef("pk"), sent_at__isnull=False)
    here, account = {"unlock_request": OuterRef("pk")}, {"unlock_request": None, "account": OuterRef("account")}
    return UnlockRequest.objects.annotate(
        newest_entry=_newest(LedgerEntry, "sequence", "sequence", **here),
        newest_of_account=_newest(LedgerEntry, "sequence", "sequence", **account),
        newest_asked=Subquery(asked.order_by("-sent_at").values("sent_at")[:1]),
        link_expires=_newest(ConsentLink, "pk", "expires_at", **here),
    )


def stamp(unlock_request, now):
    """Return what is different once the page of such a request would be."""
    asked, expires = unlock_request.newest_asked, unlock_request.link_expires
    seen = [unlock_request.newest_entry, unlock_request.newest_of_account, asked and asked.timestamp()]
    return "-".join(str(one or 0) for one in [*seen, int(bool(expires and expires <= now))])


def with_newest(user):
    """Return all requests, annotated with what a Case of `user` reads of other tables: mostly their newest rows."""
    return _with_newest().annotate(
        has_own_admin=Exists(operations.own_admins(user).filter(account=OuterRef("account"))),
        has_seen_link=Exists(operations.links_shown_to(user).filter(unlock_request__account=OuterRef("account"))),
    )


@cache
def _with_newest():
    here = {"unlock_request": OuterRef("pk")}
    return with_stamp().annotate(
        ledger_head=_newest(LedgerEntry, "sequence", "sequence"),
        newest_link=_newest(ConsentLink, "pk", **here),
        newest_consent=_newest(Consent, "pk", **here),
        last_unlocked=_newest(LedgerEntry, "sequence", "at", kind=events.Unlocked.kind, **here),
        last_re_exported=_newest(LedgerEntry, "sequence", "at", kind=events.ReExported.kind, **here),
    )


def with_waits(consents):
    """Annotate a Consent queryset with `waits`: does a batch still wait to be unlocked under it?"""
    to_be_unlocked = (Outcome.WAITING, Outcome.UNLOCKING)
    lines = RequestedBatch.objects.filter(consented__consent=OuterRef("pk"), outcome__in=to_be_unlocked)
    return consents.annotate(waits=Exists(lines))


def why_over(consent, status, now):
    """Say why nothing can be unlocked under a consent any more; '' while it is in force, or when it never was.

    `consent` comes from `with_waits`, and `status` is that of its request.
    """
    if consent.valid_until is None:
        return ""
    if hasattr(consent, "withdrawal"):
        return "withdrawn"
    if status == Status.CLOSED:
        return "the request is closed"
    if consent.valid_until <= now:
        return "expired"
    return "" if consent.waits else "no batch is waiting under it"
