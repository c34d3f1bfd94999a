"""Ending windows, asking the product, and sending what the outbox holds. Any number of workers, on any machines.

An email is sent at least once: twice only when the server took it and its answer was not recorded, because it came
after two minutes, or because a worker or a line ended. What became of it is one entry in the ledger, at the end.

The product is asked about what it may have got before it gets it again: a lease that ran out says nothing of what a
dead worker did.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from smtplib import SMTPDataError, SMTPException, SMTPRecipientsRefused, SMTPResponseException
from threading import Event, Thread

from django.db import Error, InterfaceError, OperationalError, close_old_connections, connection, transaction
from django.utils import timezone
from structlog.contextvars import bind_contextvars, clear_contextvars

from .. import history, stages
from ..actors import Actor
from ..database import guards
from ..ledger import chain, events, seals
from ..models import Instruction, Outgoing, UnlockRequest
from ..operations.answers import record_answers
from ..operations.handing_over import due, hand_over, lease
from ..operations.imports import finish_imports
from ..operations.notices import remind_of_later
from ..operations.ordered import carry_out_ordered
from ..operations.pin import end_pin_email, hold_pin
from ..operations.several_case_files import case_files_wait, delete_old_case_files, make_ordered_case_files
from ..operations.signing_in import end_idle_sessions
from ..operations.unlock import relock_due
from ..operations.verification import verification_is_due, verify_record
from ..operations.weekly import queue_weekly
from ..product import chosen, port
from . import emails, heartbeat, rows

State = Outgoing.State
PAUSE = 2.0  # seconds, when nothing is due
TURN = 10.0  # seconds, in which emails are sent before the product is asked again

log = logging.getLogger(__name__)


def work(stopping: Event) -> None:
    """Send what is due, and what becomes due, until told to stop; a database that is away is waited for.

    From time to time it says that it runs, and seals what no seal covers yet. Raises WrongKey.
    """
    name, next_beat, verifying, making = heartbeat.name(), 0.0, Thread(), Thread()
    while not stopping.is_set():
        close_old_connections()
        if time.monotonic() >= next_beat:
            _tried(partial(look_after, name))
            verifying = _beside(verifying, verification_is_due, verify_when_due)
            next_beat = time.monotonic() + heartbeat.BEAT.total_seconds()
        making = _beside(making, case_files_wait, make_case_files)
        relocked = _tried(end_windows)
        asked, sent = _tried(ask_product), _tried(partial(_send_for, TURN, stopping))
        imported, ordered = _tried(finish_imports), _tried(carry_out_ordered)
        if not relocked and not asked and not sent and not imported and not ordered:
            stopping.wait(PAUSE)
    with suppress(Error):
        heartbeat.stop(name)


def _tried(step: Callable[[], int | None]) -> int:
    """Take a step of the work; return how much there was to do. What fails in one holds up no other."""
    clear_contextvars()  # what is logged is about this step
    try:
        return step() or 0
    except (Error, TypeError, ValueError) as error:  # the latter of a row that SQLite holds and nobody can read
        what = "waits for the database" if isinstance(error, Error) else "can't read what it should send"
        log.error("The worker %s: %s", what, type(error).__name__)
        connection.close()
        return 0


def _send_for(seconds: float, stopping: Event) -> int:
    """Send what is due for so long; return how many. A slow product holds emails up no longer than one call."""
    sent, end = 0, time.monotonic() + seconds
    while not stopping.is_set() and time.monotonic() < end and send_next():
        sent += 1
    return sent


def look_after(name: str) -> None:
    """Say that the worker of this name runs, look after the queue; seal, and email the week's figures, if it is time.

    Raises WrongKey.
    """
    heartbeat.beat(name)
    stages.repair(at=timezone.now())
    delete_old_case_files()
    end_idle_sessions(by=Actor.desk())
    seals.seal_when_due(by=Actor.desk())
    queue_weekly(by=Actor.desk())


def verify_when_due() -> None:
    """Verify the record if it is due, and tell the ledger what was found."""
    try:
        if verification_is_due():
            _tried(partial(verify_record, by=Actor.desk()))
    except chain.WrongKey as wrong:
        log.error("The record was not verified. %s", wrong)


def make_case_files() -> None:
    """Make all case files that were ordered."""
    try:
        while _tried(make_ordered_case_files):
            pass
    except chain.WrongKey as wrong:
        log.error("No case files were made. %s", wrong)


def _beside(running: Thread, is_due: Callable[[], bool], do: Callable[[], None]) -> Thread:
    """Do what takes minutes, if it is due, while emails are sent; return its thread.

    A worker that is stopped leaves it to the next one.
    """
    if running.is_alive() or not _tried(is_due):
        return running
    begun = Thread(target=_in_thread, args=[do], daemon=True)
    begun.start()
    return begun


def _in_thread(do: Callable[[], None]) -> None:
    do()
    connection.close()  # that of this thread


def send_due() -> Counter[str]:
    """Relock, do what was ordered, ask the product, write imports and send what is due.

    Return how many emails are in which state now. Raises WrongKey.
    """
    while end_windows() or carry_out_ordered() or ask_product() or finish_imports():
        pass
    done: Counter[str] = Counter()
    while state := send_next():
        done[state] += 1
    return done


def end_windows() -> int:
    """Have relocked what is unlocked past its end; return how many. Raises WrongKey."""
    return relock_due(by=Actor.desk())


def ask_product() -> int:
    """Hand due instructions over to the product, or ask it about them; return how many. Raises WrongKey.

    None is due where staff carry them out by hand.
    """
    if (product := chosen()) is None or not due().exists():
        return 0
    chain.fitting_head()
    if names := guards.missing():
        log.error("The product is asked nothing: the database's guards are missing or altered (%s)", names[0])
        return 0
    begun, leased = time.monotonic(), lease()
    waiting = [one for one in leased if one.state == Instruction.State.QUEUED]
    sent = hand_over(waiting, by=Actor.desk()).sent if waiting else []
    if time.monotonic() - begun < rows.LEASE.total_seconds():
        # Not after that: it is someone else's by now, and what was judged is old.
        _call(product.carry_out, sent, port.State.NOT_HANDED_OVER)
    asked = [one for one in leased if one.state != Instruction.State.QUEUED]
    _call(product.state, asked, port.State.UNKNOWN)
    return len(leased)


def _call(
    ask: Callable[[Sequence[Instruction]], list[port.Answer]], about: Sequence[Instruction], not_reached: port.State
) -> None:
    """Call the product about instructions, and record what it says of each, or `not_reached` if it got nothing."""
    if not about:
        return
    leases = {one.key: one.next_try_at for one in about}
    try:
        answers = {answer.key: answer for answer in ask(about)}
        missing = port.State.UNKNOWN, "The product did not answer."
    except port.NotHandedOver as error:
        missing = not_reached, str(error)
        # That this call did not reach it says nothing of an earlier one.
        before = [one.key for one in about if one.sent_at] if not_reached == port.State.NOT_HANDED_OVER else []
        answers = {key: port.Answer(key, port.State.NOT_KNOWN, str(error)) for key in before}
    except port.Stopped as error:
        answers, missing = {}, (port.State.STOPPED, str(error))
    except (InterfaceError, OperationalError):
        raise
    except Exception as error:
        log.error("Asking the product failed: %s", type(error).__name__)
        answers, missing = {}, (port.State.UNKNOWN, type(error).__name__)
    said = [answers.get(key) or port.Answer(key, *missing) for key in leases]
    record_answers(said, by=Actor.product(), leases=leases)


def send_next() -> str | None:
    """Send the email that has been due for longest; return its state, or None when none is due. Raises WrongKey."""
    chain.fitting_head()
    row = rows.lease()
    return send(row) if row else None


def send(row: Outgoing) -> str:
    """Send the email of a leased row, or find out that it can't be; return its state."""
    clear_contextvars()
    if row.unlock_request_id:
        bind_contextvars(case=UnlockRequest.reference_of(row.unlock_request_id))
    try:
        message = emails.written(row)
    except emails.Outdated as outdated:
        return _end(row, State.CANCELED, str(outdated))
    except emails.NotYet as put_off:
        rows.again(row, put_off.until, row.answer)
        return State.QUEUED
    except (InterfaceError, OperationalError):
        raise  # the database is away: nothing can be recorded of this try
    except Exception as error:
        return _again(row, _failed(row, error))
    try:
        message.send()
    except Exception as error:
        answer = _failed(row, error)
        return _end(row, State.REFUSED, answer) if _for_good(error) else _again(row, answer)
    return _end(row, State.SENT)


def _failed(row: Outgoing, error: Exception) -> str:
    """Return what to keep of an error. Never the error itself: it may hold a link or a PIN."""
    log.warning("An email (%s, %s) was not sent: %s", row.email, row.pk, type(error).__name__)
    answer, secret = _answer(error), emails.secret(row)
    return answer.replace(secret, "...") if secret else answer


def _again(row: Outgoing, answer: str) -> str:
    if at := rows.next_try(row):
        rows.again(row, at, answer)
        return State.QUEUED
    return _end(row, State.GIVEN_UP, answer)


@transaction.atomic(durable=True)
def _end(row: Outgoing, state: State, answer: str = "") -> str:
    by, is_pin = Actor.desk(), row.email == Outgoing.Email.NEW_PIN
    history.lock(UnlockRequest.objects.filter(pk=row.unlock_request_id or 0))
    if is_pin:
        hold_pin(row.account)
    if rows.end(row, state, answer):
        stages.keep(UnlockRequest.objects.filter(pk=row.unlock_request_id or 0), at=by.act.at)
        if row.email == Outgoing.Email.ENDING and state == State.SENT:
            remind_of_later(row, by)
        entry = chain.Entry(_told(row, state, answer), row.unlock_request_id, row.account_id)
        chain.append_all([entry], by=by)
        if is_pin:
            end_pin_email(row, sent=state == State.SENT, by=by)
    return state


def _told(row: Outgoing, state: State, answer: str) -> events.Event:
    """Return the event that tells how an email ended."""
    facts = {
        "outgoing": str(row.pk),
        "email": row.email,
        "consent": row.consent_id,
        "link": row.link_id,
        "to": row.address,
    }
    if state == State.SENT:
        return events.EmailSent(**facts)
    if state == State.CANCELED:
        return events.EmailCanceled(**facts, why=answer, tries=row.tries - 1)
    return events.EmailFailed(**facts, error=answer, given_up=state == State.GIVEN_UP)


def _for_good(error: Exception) -> bool:
    """Say whether the server refused this email, and will refuse it again."""
    match error:
        case SMTPRecipientsRefused():
            return all(code >= 500 for code, _ in error.recipients.values())
        case SMTPDataError():
            return error.smtp_code >= 500
    return False


def _answer(error: Exception) -> str:
    """Return the server's words, or else what kind of error it was."""
    match error:
        case SMTPRecipientsRefused():
            return " ".join(_words(code, said) for code, said in error.recipients.values())
        case SMTPResponseException():
            return _words(error.smtp_code, error.smtp_error)
        case OSError() | SMTPException():
            return f"{type(error).__name__}: {error}"
    return type(error).__name__


def _words(code: int, said: bytes | str) -> str:
    text = said.decode(errors="replace") if isinstance(said, bytes) else said
    return f"{code} {' '.join(''.join(c if c.isprintable() else ' ' for c in text).split())}"
