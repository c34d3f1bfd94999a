"""What comes next in a case, and who may do it."""

from dataclasses import dataclass, replace

from django.contrib.auth.models import User

from .. import operations, roles, rules
from ..models import Contact, UnlockRequest
from ..templatetags.desk import how_agreed, on_file, times_opened
from ..texts.formats import counted, moment
from .forms.case import CASE_FORMS

Status = UnlockRequest.Status

NAMED_COLLEAGUES = 3

# What to read for those who may not do it themselves.
WHO_DOES_IT = {
    "advise": "An agent offers it and records what the customer chooses.",
    "send_link": "An agent sends the consent link.",
    "issue_pin": "",  # said with the state of the PIN
    "unlock": "An agent or a manager unlocks.",
    "mark_re_exported": "An agent marks what the customer has exported.",
    "relock": "An agent marks what the customer has exported; a manager relocks the rest.",
    "hand_over": "",
    "close": "An agent closes the request and says how it ended.",
}


@dataclass(frozen=True)
class NextStep:
    """The one next step: what to read, and the verb that does it or ''. `todo` is for those who may do it.

    `contact` is whose address `user` can confirm instead of any verb.
    """

    tone: str
    heading: str
    sentence: str
    todo: str = ""
    verb: str = ""
    contact: Contact | None = None

    @property
    def text(self):
        return f"{self.sentence} {self.todo}".strip()


def next_step(case):
    """Return the next step of a case, as its user sees it."""
    step = {
        Status.OPEN: _when_open,
        Status.AWAITING_CONSENT: _when_awaiting_consent,
        Status.CONSENTED: _when_consented,
        Status.UNLOCKED: _when_unlocked,
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
    """Name the colleagues who can confirm a contact's address: whoever never entered one for it."""
    entered = contact.history.exclude(entered_by=None).values("entered_by")
    return ask(operations.confirm_contact.permission, but=entered)


def _when_open(case):
    unlock_request = case.unlock_request
    if not unlock_request.advice:
        if unlock_request.duplicate_likely:
            return NextStep(
                "bad",
                "Unlocking would very likely create duplicates.",
                f"Why bypassed: {unlock_request.get_bypass_reason_display()}.",
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
        own = "You entered it, so someone else has to confirm it. " if _entered(contact, case.user) else ""
        return NextStep("wait", heading, f"{text} {own}{who_confirms(contact)}")
    return NextStep("wait", heading, text, contact=contact)


def _entered(contact, user):
    return rules.entered_by(user).filter(id=contact.pk).exists()


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
        return f"The link was emailed to {to} {moment(email.at)}"
    if email.queued:
        return f"The link for {to} {email.waits}"
    if not email.state:
        return f"Whether the link was emailed to {to} is not recorded"
    answer = f": {email.answer.rstrip('.')}" if email.answer else ""
    return f"The link could not be emailed to {to}{answer}"


def _when_consented(case):
    consent = case.standing_consent
    if case.for_another_person and not case.ready:
        return _for_another_person(case)
    if not case.ready:
        if case.asks_for_consent:
            again = ("Send a new consent link to ask the customer again.", "send_link")
        else:
            again = ("Each has to change before it can be unlocked.", "")
        return NextStep("bad", "No batch can be unlocked now.", "The list below says why for each batch.", *again)
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
    return NextStep("good", "Ready to unlock.", text + _blocked(case), verb="unlock")


def _for_another_person(case):
    text = (
        f"You {case.own_part}, so someone else must unlock. {_who_can_unlock(case)} "
        f"Valid until {moment(case.standing_consent.valid_until)}."
    )
    mine = case.unlock_request.assignee_id == case.user.pk
    return NextStep(
        "wait",
        f"Ready for someone else to unlock: {_batches(case.for_another_person)}.",
        text + _blocked(case),
        "Hand the request over." if mine else "",
        "hand_over" if mine else "",
    )


def _who_can_unlock(case):
    assignee, unlock = case.unlock_request.assignee, CASE_FORMS["unlock"].permission
    if assignee and assignee != case.user and assignee.has_perm(unlock):
        return f"It is assigned to {assignee}."
    return ask(unlock, but=case.user)


def _when_unlocked(case):
    if case.unlocked and case.window_end <= case.now:
        return NextStep(
            "bad",
            f"{_batches(case.unlocked)} should be relocked by now.",
            f"The window ended {moment(case.window_end)}.",
            "Mark what was exported, or relock the rest.",
            "relock" if case.user.has_perm(CASE_FORMS["relock"].permission) else "mark_re_exported",
        )
    if case.unlocked:
        return NextStep(
            "wait",
            f"{_batches(case.unlocked)} unlocked until {moment(case.window_end)}.",
            "",
            "Tell the customer to edit and export now: auto-batching may batch invoices again within seconds.",
            "mark_re_exported",
        )
    if case.ready:
        return NextStep("good", "Ready to unlock.", f"{_batches(case.ready)} can still be unlocked.", verb="unlock")
    if case.for_another_person:
        return _for_another_person(case)
    return NextStep("info", "Nothing is unlocked anymore.", "", "Close the request, and say how it ended.", "close")


def _when_closed(case):
    unlock_request = case.unlock_request
    text = f"{moment(unlock_request.closed_at)}. A closed request can't be changed."
    return NextStep("", f"Closed: {unlock_request.get_resolution_display()}.", text)


def _blocked(case):
    return f" {_batches(case.blocked)} can't be unlocked." if case.blocked else ""


def _batches(count):
    return counted(count, "batch", "batches")
