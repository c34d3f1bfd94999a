"""The queue, the first page of the desk: each open request once, in sections, by what ends first."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.contrib.auth.models import User
from django.db.models import Count, F, Min, OuterRef, Q
from django.urls import reverse
from django.utils import timezone

from .. import operations, stages
from ..models import Contact, Import, Instruction, Outgoing, Review, UnlockRequest
from ..models.consents import how_consented
from ..operations.handing_over import due
from ..product import by_hand, polling
from ..texts.formats import in_hours, lasting, moment
from ..working_time import worked
from .lists import CappedPaginator, keys

Status, Stage, Trouble = UnlockRequest.Status, UnlockRequest.Stage, UnlockRequest.Trouble

LISTED = 10  # rows of a section
FAILED_LATELY = timedelta(days=30)
WAITS_LONG = timedelta(hours=1)
LATE = timedelta(minutes=10)  # of what a worker does as soon as it is due


@dataclass(frozen=True)
class Section:
    """A part of the queue: which open requests stand in it now, and how it is called."""

    title: str
    tone: str
    holds: Callable[[datetime], Q]


def _at(*stages: Stage) -> Callable[[datetime], Q]:
    """Return the condition of a section of stages with a deadline, which is still to come."""
    return lambda now: Q(trouble="", stage__in=stages, due_at__gte=now)


def _without_deadline(stage: Stage) -> Callable[[datetime], Q]:
    return lambda now: Q(trouble="", stage=stage, due_at=None)


# Each open request stands in exactly one: what is overdue nowhere else, nor what something is wrong with.
SECTIONS = {
    "overdue": Section("Overdue", "bad", stages.overdue),
    "act_now": Section("Act now", "bad", stages.in_trouble),
    "ready": Section("Ready to unlock", "good", _at(Stage.READY)),
    "unlocked": Section("Unlocked, to be re-exported", "wait", _at(Stage.UNLOCKED)),
    "under_way": Section("With {vendor}", "info", _at(Stage.PRODUCT)),
    "waiting": Section("Waiting for the customer", "wait", _at(Stage.SENT, Stage.READING)),
    "new": Section("New", "info", _without_deadline(Stage.NEW)),
    "to_close": Section("To be closed", "info", _without_deadline(Stage.TO_CLOSE)),
}
WHOSE = {"all": "Everyone’s", "team": "My team’s", "mine": "Mine"}
_ASSIGNEE = {"all": "", "team": "&assignee=team", "mine": "&assignee=me"}  # as the list's filter says it
_WAITS_FOR = {
    Stage.NEW: "A consent link to be sent",
    Stage.SENT: "The customer to open the link",
    Stage.READING: "The customer to decide",
    Stage.READY: "The unlock",
    Stage.PRODUCT: "An answer of {vendor}",
    Stage.UNLOCKED: "The customer to re-export",
    Stage.TO_CLOSE: "Closing",
}
_WAITS_FOR_ONCE_OVERDUE = {
    Stage.SENT: "A call: nobody opened the link",
    Stage.READING: "A new consent link",
    Stage.READY: "A new consent",
    Stage.PRODUCT: "{vendor}, which is late",
    Stage.UNLOCKED: "The relock",
}
_WRONG = {
    Trouble.PRODUCT: "Someone to see why {vendor} did not do it",
    Trouble.EMAIL: "Someone to see why an email failed",
    Trouble.NO_LINK: "A new consent link: none works",
    Trouble.NOBODYS: "Someone to take it",
    Trouble.GONE: "Someone to take it: {assignee} was deactivated",
}
# What is said before the deadline of a stage: while it is to come, and afterwards.
_ENDS = {
    Stage.SENT: ("Unopened for two days on", "Not opened by"),
    Stage.READING: ("Link expires", "Link expired"),
    Stage.READY: ("Consent ends", "Consent ended"),
    Stage.PRODUCT: ("Answer due", "No answer by"),
    Stage.UNLOCKED: ("Window ends", "Window ended"),
}


def title(section: Section) -> str:
    return section.title.format(vendor=settings.VENDOR_NAME)


def in_section(requests, key):
    """Return those of some requests that stand in a section of the queue now."""
    return requests.filter(SECTIONS[key].holds(timezone.now()))


def those_of(requests, whose: str, user: User):
    """Return those of some requests that are `user`'s, or anyone's who is in a group with them."""
    if whose == "team":
        return requests.filter(assignee__in=keys(team_of(user)))
    return requests.filter(assignee=user) if whose == "mine" else requests


def team_of(user: User):
    """Return the staff who are in a group with `user`."""
    return User.objects.filter(groups__in=user.groups.all())


def sections(user: User, whose: str):
    """Return the sections of the queue that hold a request of `user`, their team or anyone, with their first rows."""
    requests, now = those_of(UnlockRequest.objects.all(), whose, user), timezone.now()
    shown = [_section(key, requests, whose, now) for key in SECTIONS]
    return [section for section in shown if section["rows"]]


def _section(key: str, requests, whose: str, now: datetime):
    rows = requests.filter(SECTIONS[key].holds(now)).order_by(F("due_at").asc(nulls_last=True), "pk")
    first = list(rows.values_list("pk", flat=True)[:LISTED])
    listed = UnlockRequest.objects.filter(pk__in=first).annotate(how=how_consented(OuterRef("pk")))
    listed = listed.select_related("account", "assignee")
    return {
        "key": key,
        "title": title(SECTIONS[key]),
        "tone": SECTIONS[key].tone,
        "rows": _with_words(sorted(listed, key=lambda row: first.index(row.pk)), now),
        "counted": CappedPaginator(rows, LISTED),
        "address": f"{reverse('admin:unlocks_unlockrequest_changelist')}?show={key}{_ASSIGNEE[whose]}",
    }


def _with_words(rows, now: datetime):
    """Give rows what the queue says of each: what it waits for, what ends when, and how long it is in its stage."""
    failing = [row.pk for row in rows if row.trouble == Trouble.EMAIL]
    failed = {
        email.unlock_request_id: email for email in Outgoing.objects.that_failed().filter(unlock_request__in=failing)
    }
    for row in rows:
        row.waits_for, row.failed = waits_for(row, now), failed.get(row.pk)
        row.ends, row.left, row.overdue = ends(row, now), left(row, now), overdue(row, now)
        row.in_stage = in_stage(row, now)
    return rows


def waits_for(row: UnlockRequest, now: datetime) -> str:
    """Say what is to be done about what is wrong with an open request, or what is overdue, or else what comes next."""
    of_stage = _WAITS_FOR_ONCE_OVERDUE if overdue(row, now) else _WAITS_FOR
    words = _WRONG[Trouble(row.trouble)] if row.trouble else of_stage[Stage(row.stage)]
    return words.format(vendor=settings.VENDOR_NAME, assignee=row.assignee)


def overdue(row: UnlockRequest, now: datetime) -> bool:
    return row.due_at is not None and row.due_at < now


def ends(row: UnlockRequest, now: datetime) -> str:
    """Say what ends when: "Consent ends Nov 25, 2026, 7:38 PM EST"; '' where nothing does."""
    if row.due_at is None:
        return ""
    to_come, over = _ENDS[Stage(row.stage)]
    return f"{over if overdue(row, now) else to_come} {moment(row.due_at)}"


def left(row: UnlockRequest, now: datetime) -> str:
    """Say how much time is left, or since when it is over; '' where nothing ends."""
    if row.due_at is None:
        return ""
    return f"Overdue by {lasting(now - row.due_at)}" if row.due_at < now else f"{lasting(row.due_at - now)} left"


def in_stage(row: UnlockRequest, now: datetime) -> tuple[str, bool]:
    """Say how long a request is in its stage, in working time where that has a target; and whether that is missed."""
    if not row.stage_since:
        return "", False
    if not (target := settings.STAGE_TARGETS.get(row.stage)):
        return lasting(now - row.stage_since), False
    hours, days, zone = settings.WORKING_HOURS, settings.WORKING_DAYS, timezone.get_default_timezone()
    taken = worked(row.stage_since, now, hours=hours, days=days, zone=zone)
    return f"{in_hours(taken)} of {in_hours(target)}", taken > target


# What the first pages say beside the requests


def callouts(user: User):
    """Return what someone is to be told at once."""
    return {
        "waiting": waiting_long(),
        "late": instructions_late(),
        "polling": polling(),
        "to_do": to_do() if works_by_hand(user) else None,
        "orders": operations.waiting_orders(user),
        "to_confirm": to_confirm(user),
        "reviews": reviews(user),
    }


def failed():
    """Return the emails about an account that failed lately, still matter and are of no open request, newest first."""
    rows = Outgoing.objects.that_failed().filter(
        Q(unlock_request=None) | Q(unlock_request__status=Status.CLOSED),
        account__isnull=False,
        done_at__gte=timezone.now() - FAILED_LATELY,
    )
    rows = rows.select_related("account", "unlock_request__account").order_by("-done_at")
    return {"rows": rows[:LISTED], "counted": CappedPaginator(rows, LISTED)}


def waiting_long():
    """Return how many emails should have gone out long ago, and since when the oldest waits."""
    waiting = Outgoing.objects.filter(state=Outgoing.State.QUEUED, queued_at__lt=timezone.now() - WAITS_LONG)
    return waiting.aggregate(emails=Count("pk"), since=Min("queued_at"))


def instructions_late():
    """Return how many instructions a worker should have handed over or asked about, and since when the oldest waits."""
    late = due().filter(next_try_at__lt=timezone.now() - LATE)
    return (late.none() if by_hand() else late).aggregate(batches=Count("pk"), since=Min("queued_at"))


def works_by_hand(user: User) -> bool:
    return by_hand() and user.has_perm(operations.start_instructions.permission)


def to_do():
    """Count the batches that someone may start to do by hand."""
    return CappedPaginator(Instruction.objects.in_turn().filter(state=Instruction.State.QUEUED), LISTED)


def reviews(user: User):
    """Count the flags that are not resolved, and the cases that wait to be reviewed, for those who see reviews."""
    if not user.has_perm("unlocks.view_review"):
        return None
    return {
        "flagged": CappedPaginator(Review.objects.flagged(), LISTED),
        "waiting": CappedPaginator(Review.objects.waiting(), LISTED),
    }


def to_confirm(user: User):
    """Return the imports whose Admin contacts wait for `user` to confirm them: nobody confirms what they imported."""
    if not user.has_perm(operations.confirm_import.permission):
        return []
    waiting = Contact.objects.filter(entered_in__isnull=False, is_admin=True, confirmed_by=None).order_by()
    imports = Import.objects.filter(pk__in=list(waiting.values_list("entered_in", flat=True).distinct()[:100]))
    return list(imports.exclude(user=user).order_by("number")[:LISTED])
