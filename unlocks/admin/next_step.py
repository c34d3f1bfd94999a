"""What comes next in a case, and who may do it."""

from dataclasses import dataclass, replace

from django.conf import settings
from django.contrib.auth.models import User

from .. import operations, roles, rules
from ..models import Contact, Instruction, UnlockRequest
from ..outbox import heartbeat
from ..product import by_hand
from ..templatetags.desk import how_agreed, on_file, times_opened
from ..texts.formats import counted, moment
from .forms.case import CASE_FORMS
from .instructed import given_up, said

Status = UnlockRequest.Status
State, What = Instruction.State, Instruction.What

NAMED_COLLEAGUES = 3

# What to read for those who may not do it themselves.
WHO_DOES_IT = {
    "advise": "An agent offers it and records what the customer chooses.",
    "send_link": "An agent sends the consent link.",
    "issue_pin": "",  # said with the state of the PIN
    "unlock": "An agent or a manager unlocks.",
    "mark_re_exported": "An agent marks what the customer has exported.",
    "relock": "An agent marks what the customer has exported, and relocks the rest.",
    "hand_over": "",
    "try_again": "An agent or a manager has the product asked again.",
    "close": "An agent closes the request and says how it ended.",
}


@dataclass(frozen=True)
class NextStep:
    """The one next step: what to read, and the verb that does it or ''. `todo` is for those who may do it.

    `contact` is whose address `user` can confirm instead of any verb, and `to_do` says that it is done on the page of
    what is to be done by hand.
    """

    tone: str
    heading: str
    sentence: str
    todo: str = ""
    verb: str = ""
    contact: Contact | None = None
    to_do: bool = False

    @property
    def text(self):
        return f"{self.sentence} {self.todo}".strip()


def next_step(case):
    """Return the next step of a case, as its user sees it."""
    step = {
        Status.OPEN: _when_open,
        Status.AWAITING_CONSENT: _when_awaiting_consent,
        Status.CONSENTED: _when_agreed,
        Status.UNLOCKED: _when_agreed,
        Status.CLOSED: _when_closed,
    }[Status(case.unlock_request.status)](case)
    if step.verb and not case.user.has_perm(CASE_FORMS[step.verb].permission):
        return replace(step, todo=WHO_DOES_IT[step.verb], verb="")
    if step.verb in ("send_link", "issue_pin") and case.own_contact:
        todo = f"{case.own_contact} {ask(CASE_FORMS[step.verb].permission, but=case.user)}"
        return replace(step, todo=todo, verb="")
    return step


def ask(permission, *, but):
    """Name the colleagues who may do something, to be asked: all but one, or but several."""
    able = roles.staff_who_may(permission).exclude(pk__in=[but.pk] if isinstance(but, User) else but)
    names = [user.get_username() for user in able[: NAMED_COLLEAGUES + 1]]
    if not names:
        return "No one else here may do this: a superuser has to add someone to Agent or Manager."
    if len(names) > NAMED_COLLEAGUES:
        names[NAMED_COLLEAGUES:] = ["any other agent or manager"]
    return f"Ask {' or '.join(filter(None, [', '.join(names[:-1]), names[-1]]))}."


def who_confirms(contact):
    """Name the colleagues who can confirm a contact's address: none of those whom it is kept from."""
    return ask(operations.confirm_contact.permission, but=rules.who_entered(contact).values("pk"))


def _when_open(case):
    unlock_request = case.unlock_request
    if not unlock_request.advice:
        if unlock_request.duplicate_likely:
            return NextStep(
                "bad",
                "Unlocking would very likely create duplicates.",
                f"Why bypassed: {unlock_request.why_bypassed}.",
                "Advise the customer to enter what is missing by hand, and record what they choose.",
                "advise",
            )
        return NextStep(
            "info",
            "Offer the safer route first.",
            "Entering the items by hand is the surest way to avoid duplicates.",
            "Offer it, and record what the customer chooses.",
            "advise",
        )
    if case.requester_waits:
        return _when_unconfirmed(case)
    if pin := unlock_request.account.pin_state:
        text = f"{pin} The consent page asks for the PIN."
        return NextStep("wait", "The customer can't agree right now.", text, verb=_new_pin(case))
    return NextStep(
        "info",
        "Get the customer's consent.",
        "The link is emailed to an Admin of the account, who reads the terms and agrees with the account PIN.",
        verb="send_link",
    )


def _when_unconfirmed(case):
    contact = case.unlock_request.requester
    text = f"{contact.email} is {on_file(contact)}. Until a second person has confirmed it, nothing is sent there."
    heading = f"The address of {contact.name} is not confirmed yet."
    if operations.obstacle_to_confirming(contact, case.user):
        own = ""
        if rules.who_entered(contact).filter(pk=case.user.pk).exists():
            own = f"You {_how_entered(contact, case.user)} it, so someone else has to confirm it. "
        return NextStep("wait", heading, f"{text} {own}{who_confirms(contact)}")
    return NextStep("wait", heading, text, contact=contact)


def _how_entered(contact, user):
    if not contact.history.filter(entered_by=user).exists():
        return "made the API token that put"
    return "imported" if contact.entered_in_id else "entered"


def _when_awaiting_consent(case):
    link = case.link
    if case.link_state != "live" and case.requester_waits:
        return _when_unconfirmed(case)
    if case.link_state != "live":
        how = "has expired" if case.link_state == "expired" else "was revoked"
        text = "The customer can't agree without a new one."
        return NextStep("wait", f"The consent link {how}.", text, "Send a new one.", "send_link")
    opened = (
        f"{times_opened(case.openings)}, first {moment(case.openings[0].at)}" if case.openings else "not opened yet"
    )
    text = f"{_emailed(case)}; {opened}."
    if (case.link_email.failed or case.link_email.canceled) and not case.openings:
        todo = f"{text} Check the address and send it again."
        return NextStep("bad", "The customer has no link.", "", todo, "send_link")
    if pin := case.unlock_request.account.pin_state:
        return NextStep(
            "wait", "Waiting for the customer, who can't use the PIN.", f"{text} {pin}", verb=_new_pin(case)
        )
    waits = case.link_email.queued and not case.openings
    heading = "The consent link has not been emailed yet." if waits else "Waiting for the customer."
    return NextStep("wait", heading, f"{text} It is valid until {moment(link.expires_at)}.")


def _new_pin(case):
    """Name the verb that issues a PIN, unless one waits to be sent."""
    return "" if case.unlock_request.account.pending_pin_hash else "issue_pin"


def _emailed(case):
    """Say what is known of the email with the link."""
    email, to = case.link_email, f"{case.link.sent_to.name} ({case.link.email})"
    if email.sent:
        return f"The link was emailed to {to} on {moment(email.at)}"
    if email.queued:
        return f"The link for {to} {email.waits}"
    if not email.state:
        return f"Whether the link was emailed to {to} is not recorded"
    answer = f": {email.answer.rstrip('.')}" if email.answer else ""
    return f"The link could not be emailed to {to}{answer}"


def _when_agreed(case):
    """Return the step for the first of these that is so; what has gone wrong comes first."""
    for is_so, step in (
        (case.unlocked and case.window_end <= case.now, _when_overdue),
        (case.given_up, _when_given_up),
        (case.relock_refused, _when_relock_refused),
        (case.unlocked, _when_in_window),
        (case.ready, _when_ready),
        (case.for_another_person, _for_another_person),
        (case.unlocking, _when_unlocking),
        (case.relocking, _when_relocking),
        (case.waiting and not case.ever_unlocked, _when_blocked),
        (case.refused and not case.ever_unlocked, _when_refused),
    ):
        if is_so:
            return step(case)
    text = _refused(case).strip()
    return NextStep("info", "Nothing is unlocked anymore.", text, "Close the request, and say how it ended.", "close")


def _when_ready(case):
    consent, heading = case.standing_consent, "Ready to unlock."
    if case.ever_unlocked:
        text = f"{_batches(case.ready)} can still be unlocked."
        return NextStep("good", heading, text + _under_way(case) + _refused(case), verb="unlock")
    if case.recorded_by_phone:
        text = (
            f"{how_agreed(consent)} to terms version {consent.terms.version}, for exactly these batches as they are "
            f"now. Someone other than {consent.recorded_by} has to unlock, until {moment(consent.valid_until)}."
        )
    else:
        text = (
            f"{consent.signer_name} agreed to terms version {consent.terms.version} for exactly these batches as they "
            f"are now. Valid until {moment(consent.valid_until)}."
        )
    if consent.signed_by_another:
        text = f"{text} This is not the name of the contact on file, {consent.contact_name}."
    return NextStep("good", heading, text + _blocked(case) + _under_way(case) + _refused(case), verb="unlock")


def _when_blocked(case):
    if case.asks_for_consent:
        again = ("Send a new consent link to ask the customer again.", "send_link")
    else:
        again = ("Each has to change before it can be unlocked.", "")
    text = f"The list below says why for each batch.{_refused(case)}"
    return NextStep("bad", "No batch can be unlocked now.", text, *again)


def _for_another_person(case):
    text = (
        f"You {case.own_part}, so someone else must unlock. {_who_can_unlock(case)} "
        f"Valid until {moment(case.standing_consent.valid_until)}."
    )
    mine = case.unlock_request.assignee_id == case.user.pk
    return NextStep(
        "wait",
        f"Ready for someone else to unlock: {_batches(case.for_another_person)}.",
        text + _blocked(case) + _under_way(case) + _refused(case),
        "Hand the request over." if mine else "",
        "hand_over" if mine else "",
    )


def _who_can_unlock(case):
    assignee, unlock = case.unlock_request.assignee, CASE_FORMS["unlock"].permission
    if assignee and assignee != case.user and assignee.has_perm(unlock):
        return f"It is assigned to {assignee}."
    return ask(unlock, but=case.user)


def _when_overdue(case):
    relocks = "The worker relocks them."
    if not heartbeat.running().exists():
        relocks = "No worker runs, so nothing relocks them: whoever looks after the server starts “manage.py work”."
    return NextStep(
        "bad",
        f"{_batches(case.unlocked)} should be relocked by now.",
        f"The window ended {moment(case.window_end)}.{_under_way(case)}",
        f"{relocks} Mark what was exported, or relock the rest now.",
        "relock",
    )


def _when_in_window(case):
    return NextStep(
        "wait",
        f"{_batches(case.unlocked)} unlocked until {moment(case.window_end)}.",
        (_under_way(case) + _refused(case)).strip(),
        "Tell the customer to edit and export now: auto-batching may batch invoices again within seconds. "
        "What is not exported by then is relocked by itself.",
        "mark_re_exported",
    )


# The product


def _when_given_up(case):
    rows = [row for row in case.asked if row["state"] == State.GIVEN_UP]
    text = given_up(min(row["tries"] for row in rows)) + _answered("Last answer", rows)
    heading = f"The product did not say what became of {_batches(case.given_up)}."
    todo = "Have it asked again once it can be reached."
    return NextStep("bad", heading, text + _until(case), todo, "try_again")


def _when_relock_refused(case):
    rows = [row for row in case.asked if row["state"] == State.REFUSED]
    return NextStep(
        "bad",
        f"The product refused to relock {_batches(case.relock_refused)}.",
        (_answered("It said", rows) + _until(case)).strip(),
        "If the customer exported it, mark it as re-exported. Otherwise relock it again."
        if case.relock_refused == 1
        else "Mark what the customer exported as re-exported, and relock the rest again.",
        "relock",
    )


def _when_unlocking(case):
    then = "The customer's window starts once they are unlocked."
    text = _how_far(case, What.UNLOCK) + _relocking(case) + _blocked(case) + _refused(case)
    return _waiting_for_the_product("unlock", case.unlocking, f"{text} {then}")


def _when_relocking(case):
    withdrawn = case.consent and not case.standing_consent
    then = "" if case.waiting else "The request closes by itself once nothing is unlocked anymore."
    why = "The consent is withdrawn. " if withdrawn else ""
    text = f"{why}{_how_far(case, What.LOCK)}{_refused(case)} {then}".strip()
    return _waiting_for_the_product("relock", case.relocking, text)


def _waiting_for_the_product(verb, count, text):
    if by_hand():
        heading = f"Waiting for someone to {verb} {_batches(count)} in {settings.VENDOR_NAME}."
        return NextStep("wait", heading, text, to_do=True)
    return NextStep(
        "wait", f"Waiting for the product to {verb} {_batches(count)}.", text, "There is nothing to do now."
    )


def _how_far(case, what):
    """Say how far the product is with what it is asked, in a sentence for each state."""
    return " ".join(filter(None, (_in_state(row) for row in case.asked if row["what"] == what)))


def _in_state(row):
    count, one = _batches(row["n"]), row["n"] == 1
    if row["state"] == State.QUEUED and by_hand():
        return f"{count} wait{'s' if one else ''} on the list “To do in {settings.VENDOR_NAME}”."
    if row["state"] == State.QUEUED:
        return f"{count} wait{'s' if one else ''} to be handed over.{_answered('Last try', [row])}"
    if row["state"] == State.SENT and by_hand():
        return f"{count} {'was' if one else 'were'} started {moment(row['sent'])}."
    if row["state"] == State.SENT:
        return f"The product was asked about {count} {moment(row['sent'])}."
    if row["state"] == State.UNKNOWN:
        known = f"The product did not say whether {count} {'is' if one else 'are'} done, and is asked again."
        return known + _answered("Last answer", [row])
    return ""


def _answered(introduction, rows):
    """Write what came back, if it was the same for all."""
    answers = {row["one_answer"] for row in rows}
    if len(answers) > 1 or any(row["answers"] > 1 for row in rows):
        return ""
    return said(introduction, *answers)


def _until(case):
    return f" {_batches(case.unlocked)} unlocked until {moment(case.window_end)}." if case.unlocked else ""


def _when_refused(case):
    return NextStep(
        "bad",
        f"The product refused to unlock {_batches(case.refused)}.",
        "The list below says why for each batch.",
        "Tell the customer, and close the request as not eligible. If that changes, open a new request.",
        "close",
    )


def _under_way(case):
    return (f" {_batches(case.unlocking)} still unlocking." if case.unlocking else "") + _relocking(case)


def _relocking(case):
    return f" {_batches(case.relocking)} still relocking." if case.relocking else ""


def _refused(case):
    return f" The product refused to unlock {_batches(case.refused)}." if case.refused else ""


def _when_closed(case):
    unlock_request = case.unlock_request
    text = f"{moment(unlock_request.closed_at)}. A closed request can't be changed."
    return NextStep("", f"Closed: {unlock_request.get_resolution_display()}.", text)


def _blocked(case):
    return f" {_batches(case.blocked)} can't be unlocked." if case.blocked else ""


def _batches(count):
    return counted(count, "batch", "batches")
