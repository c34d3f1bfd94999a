"""The life of the consent terms: drafted, published by another person, then frozen."""

from collections.abc import Iterable

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction

from .. import history, roles
from ..actors import Actor
from ..digest import sha256
from ..ledger import chain, events
from ..models import ConsentTerms, LedgerEntry
from ..rules import Refusal
from ..texts import wording
from ..texts.formats import moment_with_seconds
from ..texts.shown import terms_in_force
from .verbs import Refused, obstacle, staff_verb

PUBLISH = "unlocks.publish_terms"


@staff_verb("unlocks.draft_terms")
def draft_terms(*, by: Actor) -> ConsentTerms:
    """Start the next version with the words of the one in force and return it; there is one draft at a time."""
    newest = ConsentTerms.objects.select_related("drafted_by").latest("version")
    if newest.published_at:
        try:
            with transaction.atomic():
                return _started_from(newest, by)
        except IntegrityError:
            # Someone else was faster: a version's number is had once.
            newest = ConsentTerms.objects.select_related("drafted_by").get(version=newest.version + 1)
    raise Refused.because(Refusal.DRAFT_THERE, version=newest.version, name=_drafter(newest))


@staff_verb("unlocks.draft_terms")
@transaction.atomic
def edit_terms(terms: ConsentTerms, *, title: str, text: str, by: Actor, seen: str | None = None) -> ConsentTerms:
    """Change a draft and return it; to save it as it stands changes nothing.

    `seen` is what `terms_seen` returned when the writer began. Raises Refused: TERMS_FROZEN, TERMS_CHANGED.
    """
    terms = _locked_draft(terms)
    if (title, text) == (terms.title, terms.text):
        return terms
    if seen is not None:
        _refuse_unless_seen(terms, seen)
    terms.title, terms.text, terms.drafted_by, terms.drafted_at = title, text, by.user, by.act.at
    ConsentTerms.objects.filter(pk=terms.pk).update(
        title=title, text=text, drafted_by=terms.drafted_by, drafted_at=terms.drafted_at
    )
    _note_draft(terms, by)
    return terms


@staff_verb(PUBLISH)
@transaction.atomic
def publish_terms(terms: ConsentTerms, *, seen: str, by: Actor) -> ConsentTerms:
    """Put a draft in force, for links sent from now on, and return it; from then on nobody changes it.

    `seen` is what `terms_seen` returned of the draft that the publisher read.
    Raises Refused: TERMS_FROZEN, TERMS_CHANGED, and what `obstacle_to_publishing` says.
    """
    terms = _locked_draft(terms)
    _refuse_unless_seen(terms, seen)
    _refuse_to_publish(terms, by)
    terms.published_by, terms.published_at = by.user, by.act.at
    ConsentTerms.objects.filter(pk=terms.pk).update(published_by=terms.published_by, published_at=terms.published_at)
    chain.append(events.TermsPublished.of(terms), by=by)
    return terms


def obstacle_to_publishing(terms: ConsentTerms, user: User) -> str:
    """Say why this member of staff can't publish a draft as it stands; '' when they can."""
    no = "You may not publish terms: a manager does."
    return obstacle(_refuse_to_publish, terms, user, permission=PUBLISH, no=no)


def terms_seen(terms: ConsentTerms) -> str:
    """Return what proves which title and text someone had before them: the SHA-256 (hex) of both."""
    return sha256(f"{terms.title}\n{terms.text}")


def _started_from(newest: ConsentTerms, by: Actor) -> ConsentTerms:
    terms = ConsentTerms.objects.create(
        version=newest.version + 1,
        title=newest.title,
        text=newest.text,
        drafted_by=by.user,
        drafted_at=by.act.at,
    )
    _note_draft(terms, by)
    return terms


def _note_draft(terms: ConsentTerms, by: Actor) -> None:
    drafted = events.TermsDrafted.of(terms, title=terms.title, sha256=sha256(terms.text))
    chain.append(drafted, by=by)


def _locked_draft(terms: ConsentTerms) -> ConsentTerms:
    terms = history.lock_row(ConsentTerms.objects.select_related("drafted_by"), terms.pk)
    if terms.published_at:
        raise Refused.because(Refusal.TERMS_FROZEN, version=terms.version)
    return terms


def _refuse_unless_seen(terms: ConsentTerms, seen: str) -> None:
    if seen != terms_seen(terms):
        at = moment_with_seconds(terms.drafted_at) or "at an unknown time"
        raise Refused.because(Refusal.TERMS_CHANGED, name=_drafter(terms), at=at)


def _refuse_to_publish(terms: ConsentTerms, by: Actor) -> None:
    if problem := wording.terms_problem(terms.text):
        raise Refused.because(Refusal.TERMS_FLAWED, problem=problem)
    in_force = terms_in_force()
    if (terms.title, terms.text) == (in_force.title, in_force.text):
        raise Refused.because(Refusal.TERMS_SAME, version=in_force.version)
    writers = _writers(terms)
    if by.member.pk in writers and (names := _publishers(besides=writers)):
        raise Refused.because(Refusal.OWN_DRAFT, names=names)


def _writers(terms: ConsentTerms) -> set[int | None]:
    """Return the keys of all who wrote at a draft, as the ledger tells: whoever adds a blank takes no words over."""
    drafted = LedgerEntry.objects.filter(kind=events.TermsDrafted.kind, about_id=terms.pk)
    return set(drafted.values_list("user", flat=True))


def _publishers(*, besides: Iterable[int | None]) -> str:
    """Name some of those who could publish, superusers among them; '' when there is nobody else."""
    others = roles.staff_who_may(PUBLISH).exclude(pk__in=besides)
    return " or ".join(other.get_username() for other in others[:5])


def _drafter(terms: ConsentTerms) -> str:
    return terms.drafted_by.get_username() if terms.drafted_by else wording.NOT_RECORDED
