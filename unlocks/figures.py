"""The managers' figures of a period: counts, each with the list that it counts, and how long each step took.

Days begin in the current time zone. A case counts where it first came so far, by the columns that `unlocks.stages`
keeps; what staff did and what went wrong is counted by the ledger's entries.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from typing import Any

from django.contrib.auth.models import User
from django.db.models import Aggregate, Count, F, FloatField, Func, Model, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce, TruncDate
from django.urls import reverse
from django.utils import timezone
from django.utils.http import urlencode

from . import stages
from .ledger import events
from .models import Account, Consent, LedgerEntry, Review, UnlockRequest
from .models.consents import consented
from .rules import short_name
from .texts.formats import midnight

Step = UnlockRequest.Step
FLOW = (Step.OPENED, Step.CONSENTED, Step.UNLOCKED, Step.RE_EXPORTED, Step.CLOSED)
# How long it takes from one step to another, in the words of staff.
SPANS = (
    ("From opening to the consent link", Step.OPENED, Step.ASKED),
    ("Waiting for the customer to agree", Step.ASKED, Step.CONSENTED),
    ("From the consent to the unlock", Step.CONSENTED, Step.UNLOCKED),
    ("From the unlock to the close", Step.UNLOCKED, Step.CLOSED),
    ("From opening to the close", Step.OPENED, Step.CLOSED),
)
# For how many days a case is open: from, to, in words.
AGES = (
    (0, 0, "Today"),
    (1, 2, "1–2 days"),
    (3, 6, "3–6 days"),
    (7, 29, "7–29 days"),
    (30, None, "30 or more"),
)
WENT_WRONG = (
    events.NotVerified,
    events.ProductRefused,
    events.RelockRefused,
    events.UnlockedLate,
    events.EmailFailed,
    events.PinWrong,
    events.PinLocked,
    events.StaffRefused,
    events.Declined,
    events.Withdrawn,
)
BY_STAFF = (events.Opened, events.UnlockInstructed, events.RecordedByPhone, events.Closed)
LISTED = 10  # agents, and accounts
MANY = 100_000  # cases; the figures of more take longer
FIRST = date(2000, 1, 1)  # no case is older


@dataclass(frozen=True)
class Period:
    """The days from `since` to `until`, both included."""

    since: date
    until: date

    @property
    def days(self) -> int:
        return (self.until - self.since).days + 1

    @property
    def before(self) -> "Period":
        """As many days, just before these."""
        return Period(self.since - timedelta(self.days), self.since - timedelta(1))

    def within(self, column: str) -> Q:
        """Return the condition that the time in a column is in the period."""
        return Q(**{f"{column}__gte": midnight(self.since), f"{column}__lt": midnight(self.until + timedelta(1))})

    def parts(self, by: str) -> Iterator["Period"]:
        """Yield each day, or each week from Monday to Sunday, of which the first and the last can be shorter."""
        since = self.since
        while since <= self.until:
            last = since if by == "day" else min(since + timedelta(6 - since.weekday()), self.until)
            yield Period(since, last)
            since = last + timedelta(1)

    @property
    def in_address(self) -> dict[str, str]:
        """The period as the filters of lists have it in their address."""
        return {"since": self.since.isoformat(), "until": self.until.isoformat()}


@dataclass(frozen=True)
class Figure:
    """A count, and the address of the list of what it counts; `tone` is that of a tag."""

    label: str
    count: int
    address: str
    tone: str = ""


@dataclass(frozen=True)
class Flow:
    """How many cases first came so far, in all, in each part of the period, and in the period before."""

    now: Figure
    before: Figure
    parts: list[Figure]


@dataclass(frozen=True)
class Lasted:
    """How long something took: at most `median` in half of the cases, at most `most` in nine of ten.

    Both are None where it happened in no case.
    """

    label: str
    median: timedelta | None
    most: timedelta | None


def listed(model: type[Model], **narrowed: Any) -> str:
    """Return the address of the desk's list of a model, narrowed by its filters."""
    return f"{reverse(f'admin:unlocks_{model._meta.model_name}_changelist')}?{urlencode(narrowed)}"


class _Seconds(Func):
    """The seconds of a length of time."""

    template, output_field = "date_part('epoch', %(expressions)s)", FloatField()

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> tuple[str, Any]:
        return self.as_sql(compiler, connection, template="(%(expressions)s) / 1000000.0", **context)


class _Percentile(Aggregate):
    """The lowest value that at least a `share` of all values (of 1) do not exceed; NULL without any."""

    output_field = FloatField()
    template = "percentile_disc(%(share)s) WITHIN GROUP (ORDER BY %(expressions)s)"

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> tuple[str, Any]:
        return self.as_sql(compiler, connection, template="percentile_disc(%(expressions)s, %(share)s)", **context)


@dataclass(frozen=True)
class Figures:
    """The figures of a period; each costs a query or a few when it is read. `by` is day or week."""

    period: Period
    by: str = "day"

    @property
    def takes_longer(self) -> bool:
        """Whether more cases were opened or closed than are counted in a moment."""
        found = (self._came(step).values(f"{step}_at")[: MANY + 1].count() for step in (Step.OPENED, Step.CLOSED))
        return any(count > MANY for count in found)

    @cached_property
    def flow(self) -> list[Flow]:
        """How many cases came how far."""
        return [self._flow(step) for step in FLOW]

    def _flow(self, step: Step) -> Flow:
        by_day = self._came(step).annotate(day=TruncDate(f"{step}_at")).values_list("day").annotate(n=Count("*"))
        counts, before = dict(by_day), self.period.before

        def figure(part: Period) -> Figure:
            days = (part.since + timedelta(n) for n in range(part.days))
            return Figure(step.label, sum(counts.get(day, 0) for day in days), _cases(step, part))

        return Flow(
            figure(self.period),
            Figure(step.label, self._came(step, before).count(), _cases(step, before)),
            [figure(part) for part in self.period.parts(self.by)],
        )

    @cached_property
    def backlog(self) -> list[tuple[str, list[Figure]]]:
        """The cases that are open now, whatever the period, by stage and by age."""
        today = timezone.localdate()
        ages = [
            Period(FIRST if oldest is None else today - timedelta(oldest), today - timedelta(youngest))
            for youngest, oldest, _ in AGES
        ]
        opened = {f"age_{n}": Count("opened_at", filter=age.within("opened_at")) for n, age in enumerate(ages)}
        rows: Iterable[dict[str, Any]] = _CASES.exclude(stage="").values("stage").annotate(**opened)
        found = {row["stage"]: row for row in rows}

        def figure(stage: str, n: int) -> Figure:
            address = listed(UnlockRequest, stage__exact=stage, **ages[n].in_address)
            return Figure(AGES[n][2], found[stage][f"age_{n}"], address)

        return [
            (str(stage.label), [figure(stage.value, n) for n in range(len(AGES))])
            for stage in UnlockRequest.Stage
            if stage in found
        ]

    @cached_property
    def lasted(self) -> list[Lasted]:
        """How long the cases took that were closed."""
        seconds = [_Seconds(F(f"{last}_at") - F(f"{first}_at")) for _, first, last in SPANS]
        half = {f"half_{n}": _Percentile(length, share=0.5) for n, length in enumerate(seconds)}
        most = {f"most_{n}": _Percentile(length, share=0.9) for n, length in enumerate(seconds)}
        found = self._came(Step.CLOSED).aggregate(**half, **most)
        lengths = {name: None if value is None else timedelta(seconds=value) for name, value in found.items()}
        return [Lasted(SPANS[n][0], lengths[f"half_{n}"], lengths[f"most_{n}"]) for n in range(len(SPANS))]

    @cached_property
    def advice(self) -> list[Figure]:
        """What came of offering the safer route, in the cases that were opened."""
        offered = self._came(Step.OPENED).exclude(advice="").values_list("advice").annotate(n=Count("*"))
        counts: dict[str, int] = dict(offered)
        return [
            Figure(advice.label, counts.get(advice, 0), _cases(Step.OPENED, self.period, advice__exact=advice.value))
            for advice in UnlockRequest.Advice
        ]

    @property
    def by_hand(self) -> int | None:
        """How many of a hundred who were offered the safer route take it; None where nobody was."""
        offered = sum(figure.count for figure in self.advice)
        return round(100 * self.advice[0].count / offered) if offered else None

    @cached_property
    def risky(self) -> list[Figure]:
        """What is allowed, and not to become a habit."""
        by_phone, phone = Consent.How.PHONE.value, self._came(Step.CONSENTED)
        warned, again = self._came(Step.CLOSED).filter(warned=True), self._came(Step.UNLOCKED).filter(rework=True)
        return [
            Figure(label, cases.count(), _cases(step, self.period, **narrowed))
            for label, step, cases, narrowed in (
                ("Consent recorded by phone", Step.CONSENTED, consented(phone, by_phone), {"how": by_phone}),
                ("Warning of duplicates overridden", Step.CLOSED, warned, {"warned__exact": 1}),
                ("Unlocked again within 90 days", Step.UNLOCKED, again, {"rework__exact": 1}),
            )
        ]

    @cached_property
    def wrong(self) -> list[Figure]:
        """What went wrong, by kind of entry."""
        entries = self._entries().filter(kind__in=[kind.kind for kind in WENT_WRONG])
        counts: dict[str, int] = dict(entries.values_list("kind").annotate(n=Count("*")))
        return [
            Figure(kind.label, counts.get(kind.kind, 0), self._log(kind=kind.kind), kind.tone) for kind in WENT_WRONG
        ]

    @cached_property
    def refusals(self) -> list[Figure]:
        """Why the desk refused to unlock batches, the most frequent reason first; an entry can have several."""
        entries, found = self._entries().exclude(refusals=""), Counter[str]()
        for codes, n in entries.values_list("refusals").annotate(n=Count("*")):
            found += Counter(dict.fromkeys(codes.split(), n))
        return [Figure(short_name(code), n, self._log(refusal=code)) for code, n in found.most_common()]

    @cached_property
    def agents(self) -> list[tuple[str, list[Figure]]]:
        """What staff did, whoever did the most first."""
        own = self._entries().filter(user=OuterRef("pk")).values("user").annotate(n=Count("*")).values("n")
        done = {kind.kind: Coalesce(Subquery(own.filter(kind=kind.kind)), 0) for kind in BY_STAFF}
        rows = User.objects.order_by("username").values_list("pk", "username", *done.values())
        busy = [(pk, name, counts) for pk, name, *counts in rows if any(counts)]
        return [
            (name, [self._done(kind, pk, n) for kind, n in zip(BY_STAFF, counts, strict=True)])
            for pk, name, counts in sorted(busy, key=lambda row: -sum(row[2]))[:LISTED]
        ]

    def _done(self, kind: type[events.Event], user: int, count: int) -> Figure:
        return Figure(kind.label, count, self._log(kind=kind.kind, actor=user))

    @cached_property
    def accounts(self) -> list[Figure]:
        """The accounts for which the most cases were opened."""
        by_account = self._came(Step.OPENED).values_list("account").annotate(n=Count("*"))
        counts: dict[int, int] = dict(by_account.order_by("-n", "account")[:LISTED])
        found = Account.objects.in_bulk(counts)
        return [
            Figure(str(found[pk]), n, _cases(Step.OPENED, self.period, account=found[pk].number))
            for pk, n in counts.items()
        ]

    def _came(self, step: Step, period: Period | None = None) -> QuerySet[UnlockRequest]:
        """Return the cases that first came to a step in the period, or in another one."""
        return _CASES.filter((period or self.period).within(f"{step}_at"))

    def _entries(self) -> QuerySet[LedgerEntry]:
        return LedgerEntry.objects.order_by().filter(self.period.within("at"))

    def _log(self, **narrowed: Any) -> str:
        return listed(LedgerEntry, **narrowed, **self.period.in_address)


_CASES = UnlockRequest.objects.order_by()


def _cases(step: Step, period: Period, **narrowed: Any) -> str:
    """Return the address of the cases that first came to a step in a period."""
    return listed(UnlockRequest, step=step.value, **period.in_address, **narrowed)


def open_now() -> list[Figure]:
    """Return what wants someone now, whatever the period."""
    now = timezone.now()
    overdue, in_trouble = _CASES.filter(stages.overdue(now)), _CASES.filter(stages.in_trouble(now))
    return [
        Figure("Overdue", overdue.count(), listed(UnlockRequest, show="overdue"), "bad"),
        Figure("Act now", in_trouble.count(), listed(UnlockRequest, show="act_now"), "bad"),
        Figure("Flagged by a reviewer", Review.objects.flagged().count(), listed(Review, show="flagged"), "bad"),
        Figure("To be reviewed", Review.objects.waiting().count(), listed(Review, show="waiting"), "info"),
    ]
