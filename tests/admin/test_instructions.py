"""The page "To do in ServiceTitan": who starts what, what they are told, and what they say of it afterwards."""

import html
import re
from datetime import timedelta

import pytest
import time_machine
from django.test import Client
from django.utils import timezone
from django.utils.html import strip_tags

from tests import factories
from tests.admin.test_contacts import text
from tests.admin.test_lists import queries_of
from tests.attacks import difference, snapshot
from tests.factories import (
    PIN,
    acting,
    case_recorded_by_phone,
    case_unlocked,
    case_unlocking,
    make_account,
    make_batches,
)
from unlocks import history, operations
from unlocks.actors import Actor
from unlocks.admin.instructed import how_far
from unlocks.models import Batch, Instruction
from unlocks.operations import handing_over
from unlocks.texts.formats import moment

pytestmark = pytest.mark.django_db
PAGE = "/desk/unlocks/instruction/"
MINE, OTHERS, ENDED = (f"{PAGE}?show={part}" for part in ("mine", "others", "ended"))


def every():
    return Instruction.objects.order_by("pk")


def of(case):
    return every().filter(batch__in=case.rows)


def states(instructions=None):
    return list(
        (every() if instructions is None else instructions).values_list("state", "started_by__username", "answer")
    )


def press(client, verb, instructions, page=PAGE, **typed):
    """Open the page, tick these and press a button; return the response."""
    client.get(page)
    ticked = [str(one.pk) for one in instructions]
    shown = {"shown_at": timezone.now().isoformat()}
    return client.post(page, {"_selected_action": ticked, "verb": verb, "index": "0", **shown, **typed})


def said(response):
    """Return the messages that the page after a redirect shows."""
    assert response.status_code == 302, text(response)
    return [str(message) for message in response.client.get(response["Location"]).context["messages"]]


def rows(response):
    return [(row.what, row.batch.number, row.remark, row.may_be_done) for row in response.context["cl"].result_list]


def cells(response):
    """Return what the cells of each row say."""
    table = re.search("<tbody>(.*)</tbody>", response.content.decode(), re.DOTALL)[1].replace("<br>", " ")
    return [
        [" ".join(html.unescape(strip_tags(cell)).split()) for cell in re.findall("<td.*?</td>", row, re.DOTALL)]
        for row in table.split("</tr>")[:-1]
    ]


def starting(by, instructions):
    return operations.start_instructions(instructions, by=acting(by))


def errors(response):
    assert response.status_code == 422
    return response.context["form"].errors


# The list


def test_lists_what_waits_the_oldest_first(agent, second_agent_client):
    account = make_account(name="Northwind Heating", number="4711")
    case = case_unlocking(agent, batches=make_batches(account=account, n=1, number="20261101-INV"))
    other = case_unlocking(agent, batches=make_batches(n=1))
    page = second_agent_client.get(PAGE)
    assert rows(page) == [("unlock", "20261101-INV", "", True), ("unlock", other.batch.number, "", True)]
    words = text(page)
    assert "To do in ServiceTitan Start what you are going to do" in words
    assert "Waiting 2Started by you 0Started by others 0Ended" in words
    assert cells(page)[0] == [
        "",
        "Unlock",
        f"20261101-INV {case.batch.name}",
        "Northwind Heating 4711",
        "$100.00",
        case.unlock_request.reference,
        f"agent {moment(every()[0].queued_at)} · just now",
        "",
    ]


def test_is_named_after_the_vendor(agent_client, settings):
    settings.VENDOR_NAME = "Northwind Pro"
    page = text(agent_client.get(PAGE))
    assert "To do in Northwind Pro" in page
    assert "ServiceTitan" not in page


def test_an_empty_list_says_what_comes(agent_client):
    assert "Nothing waits. What an agent unlocks, and what has to be relocked, appears here." in text(
        agent_client.get(PAGE)
    )
    assert "You have started nothing" in text(agent_client.get(MINE))
    assert "Nobody else has started anything." in text(agent_client.get(OTHERS))


def test_each_part_holds_its_own(agent, second_agent, agent_client):
    waiting, mine, others, done = (case_unlocking(agent, batches=make_batches(n=1)) for _ in range(4))
    starting(agent, of(mine))
    starting(second_agent, of(others))
    starting(second_agent, of(done))
    operations.answer_by_hand(of(done), done=True, text="T-1", by=acting(second_agent))
    shown = {
        page: [row.batch for row in agent_client.get(page).context["cl"].result_list]
        for page in (PAGE, MINE, OTHERS, ENDED, f"{PAGE}?show=nothing-like-it")
    }
    assert list(shown.values()) == [[case.batch] for case in (waiting, mine, others, done, waiting)]
    assert "second-agent" in text(agent_client.get(OTHERS))
    assert "T-1 by second-agent" in text(agent_client.get(ENDED))


def test_is_searched_by_batch_account_request_and_key(agent, agent_client):
    account = make_account(name="Northwind Heating", number="B-7")
    case = case_unlocking(agent, batches=make_batches(account=account, n=2))
    case_unlocking(agent)
    both, first = [batch.number for batch in case.batches], case.batch.number
    found = {
        "b-7": both,
        case.unlock_request.reference: both,
        str(case.unlock_request.pk): both,
        first: [first],
        str(of(case)[0].key): [first],
        "nothing like it": [],
        "\0": [],
    }
    shown = {term: agent_client.get(PAGE, {"q": term}).context["cl"].result_list for term in found if term != "\0"}
    del found["\0"]
    assert {term: [row.batch.number for row in listed] for term, listed in shown.items()} == found


def test_is_narrowed_to_what_is_locked(agent, manager, agent_client):
    case = case_unlocked(agent)
    operations.relock(case.rows, why="Not used", by=acting(manager))
    case_unlocking(agent)
    assert {row.what for row in agent_client.get(PAGE, {"what__exact": "lock"}).context["cl"].result_list} == {"lock"}
    assert "Clear all filters" not in text(agent_client.get(MINE))


def test_costs_as_many_queries_at_three_rows_as_at_one(agent, second_agent, agent_client):
    def fill(count):
        for _ in range(count):
            cases = [case_unlocking(agent, batches=make_batches(n=1, items=0)) for _ in range(4)]
            for case, by in zip(cases, (agent, agent, second_agent), strict=False):
                starting(by, of(case))
            operations.answer_by_hand(of(cases[0]), done=True, text="T-1", by=acting(agent))

    def costs():
        return {page: queries_of(agent_client, page) for page in (PAGE, MINE, OTHERS, ENDED)}

    fill(1)
    few = costs()
    fill(2)
    assert costs() == few


# What is known before


def test_says_what_someone_else_has_to_do(agent, second_agent, agent_client, second_agent_client):
    case = case_recorded_by_phone(agent, batches=make_batches(n=1))
    operations.unlock(case.rows, by=acting(second_agent))
    number = case.batch.number
    why = "Someone else has to do it: you recorded this consent by phone."
    assert rows(agent_client.get(PAGE)) == [("unlock", number, why, False)]
    assert rows(second_agent_client.get(PAGE)) == [("unlock", number, "", True)]


def test_says_what_will_be_canceled(agent, agent_client):
    case = case_unlocking(agent, batches=make_batches(n=1))
    history.update(case.rows, by=Actor.desk(), period_closed=True)
    why = "Its accounting period is closed. The customer has to open the period first. Start cancels it."
    assert rows(agent_client.get(PAGE)) == [("unlock", case.batch.number, why, True)]


def test_a_withdrawal_stops_whoever_started(agent, second_agent, agent_client, second_agent_client):
    case = case_unlocking(agent, batches=make_batches(n=1))
    starting(agent, every())
    assert rows(agent_client.get(MINE)) == [("unlock", case.batch.number, "", True)]
    operations.withdraw_own_consent(case.consent, why="", by=factories.customer(case.admin))
    stop = "The customer withdrew. Don't unlock it. If you have not done it yet, say Not done."
    assert rows(agent_client.get(MINE)) == [("unlock", case.batch.number, stop, True)]
    assert rows(second_agent_client.get(OTHERS)) == [("unlock", case.batch.number, "The customer withdrew.", True)]
    lock = "Waits until its unlock, which agent started, is answered."
    assert rows(second_agent_client.get(PAGE)) == [("lock", case.batch.number, lock, False)]
    press(agent_client, "not_done", every(), MINE, why="The customer withdrew")
    assert rows(second_agent_client.get(PAGE)) == [("lock", case.batch.number, "", True)]


@pytest.mark.parametrize("what", ["unlock", "lock"])
def test_what_is_exported_meanwhile_stops_whoever_started(agent, manager, agent_client, what):
    case = case_unlocking(agent, batches=make_batches(n=1)) if what == "unlock" else case_unlocked(agent)
    if what == "lock":
        operations.relock(case.rows, why="Not used", by=acting(manager))
    starting(agent, every())
    operations.mark_re_exported(case.rows, by=acting(agent))
    says = {
        "unlock": "Exported meanwhile. Don't unlock it. If you have not done it yet, say Not done.",
        "lock": "Exported meanwhile, so there is nothing to lock. Say Not done.",
    }
    assert {row[2] for row in rows(agent_client.get(MINE))} == {says[what]}


def test_a_consent_that_expires_stops_whoever_started(agent):
    case_unlocking(agent, batches=make_batches(n=1))
    starting(agent, every())
    client = Client()
    with time_machine.travel(timezone.now() + timedelta(hours=80)):
        client.force_login(agent)
        ((_, _, remark, _),) = rows(client.get(MINE))
    assert remark.startswith("The customer's consent has expired.")
    assert remark.endswith("Don't unlock it. If you have not done it yet, say Not done.")


# Starting


def test_starts_what_is_ticked(agent, second_agent_client):
    case_unlocking(agent, batches=make_batches(n=3))
    first, _, third = every()
    response = press(second_agent_client, "start", [first, third])
    assert said(response) == ["2 batches are yours now. Do them in ServiceTitan, then say so here."]
    assert response["Location"] == MINE
    assert [state for state, _, _ in states()] == ["sent", "queued", "sent"]
    page = second_agent_client.get(response["Location"])
    assert [row.pk for row in page.context["cl"].result_list] == [first.pk, third.pk]


def test_a_second_click_does_nothing(agent, agent_client):
    case_unlocking(agent)
    press(agent_client, "start", every())
    before = snapshot()
    assert said(press(agent_client, "start", every())) == [
        "2 batches that you ticked had changed meanwhile: nothing was done to them now."
    ]
    assert said(press(agent_client, "start", [], all="on")) == [
        "Nothing was done: nothing is left of what the list showed."
    ]
    assert difference(before, snapshot()) == []


def test_says_what_a_colleague_was_quicker_with(agent, second_agent, agent_client):
    case_unlocking(agent)
    starting(second_agent, every().filter(pk=every()[0].pk))
    assert said(press(agent_client, "start", every())) == [
        "1 batch is yours now. Do it in ServiceTitan, then say so here.",
        "1 batch that you ticked had changed meanwhile: nothing was done to it now.",
    ]
    assert states() == [("sent", "second-agent", ""), ("sent", "agent", "")]


def test_says_what_was_canceled_and_what_waits_for_someone_else_by_reason(agent, second_agent, agent_client):
    fine = case_unlocking(second_agent, batches=make_batches(n=1))
    closed = case_unlocking(second_agent, batches=make_batches(n=12, items=0))
    history.update(closed.rows, by=Actor.desk(), period_closed=True)
    inactive = case_unlocking(second_agent, batches=make_batches(n=1))
    history.update(type(inactive.account).objects.filter(pk=inactive.account.pk), by=Actor.desk(), active=False)
    phoned = case_recorded_by_phone(agent)
    typed = factories.case_awaiting(second_agent, batches=make_batches(n=1))
    operations.verify_pin(typed.unlock_request, pin=PIN, by=acting(agent))
    factories.agree(typed)
    operations.unlock(Batch.objects.filter(pk__in=phoned.rows | typed.rows), by=acting(second_agent))

    of_closed, of_phoned = ([batch.number for batch in case.batches] for case in (closed, phoned))
    assert said(press(agent_client, "start", every())) == [
        "1 batch is yours now. Do it in ServiceTitan, then say so here.",
        f"1 batch is canceled, and must not be unlocked. Account inactive before the product was asked: "
        f"{inactive.batch.number}.",
        f"12 batches are canceled, and must not be unlocked. Period closed before the product was asked: "
        f"{', '.join(of_closed[:10])} and 2 more.",
        f"2 batches wait for someone else, because you recorded this consent by phone: {', '.join(of_phoned)}.",
        f"1 batch waits for someone else, because you saw a consent link of this request or typed a PIN for it: "
        f"{typed.batch.number}.",
    ]
    why = "Period closed before the product was asked"
    assert states(of(closed)) == [("canceled", None, why)] * 12
    assert states(of(phoned)) == [("queued", None, "")] * 2
    assert states(of(fine)) == [("sent", "agent", "")]


def test_the_second_person_of_a_phone_consent_is_another_one(agent, second_agent, agent_client, second_agent_client):
    """Whoever recorded it neither instructs nor carries it out, and it stays as it is when they try."""
    case = case_recorded_by_phone(agent)
    operations.unlock(case.rows, by=acting(second_agent))
    before = snapshot()
    numbers = ", ".join(batch.number for batch in case.batches)
    assert said(press(agent_client, "start", every())) == [
        f"2 batches wait for someone else, because you recorded this consent by phone: {numbers}."
    ]
    assert difference(before, snapshot()) == []
    assert said(press(second_agent_client, "start", every())) == [
        "2 batches are yours now. Do them in ServiceTitan, then say so here."
    ]
    press(second_agent_client, "done", every(), MINE, reference="T-1")
    assert {batch.status for batch in case.refresh().batches} == {"unlocked"}


def test_all_that_are_listed_on_every_page_are_started_by_one_flag(agent, agent_client, monkeypatch):
    account = make_account(number="4711")
    case_unlocking(agent, batches=make_batches(account=account, n=130, items=0))
    other = case_unlocking(agent)
    page = agent_client.get(PAGE, {"q": "4711"})
    assert (len(page.context["cl"].result_list), page.context["cl"].result_count) == (100, 130)
    assert "All 130 that match, on every page" in text(page)
    assert page.content.decode().count("<input") < 300
    monkeypatch.setattr(handing_over, "AT_ONCE", 120)
    response = press(agent_client, "start", [], f"{PAGE}?q=4711&p=9", all="on")
    assert said(response) == ["120 batches are yours now. Do them in ServiceTitan, then say so here."]
    assert [state for state, _, _ in states(of(other))] == ["queued"] * 2
    assert Instruction.objects.filter(state="sent", batch__account=account).count() == 120
    assert said(press(agent_client, "start", [], f"{PAGE}?q=4711", all="on")) == [
        "10 batches are yours now. Do them in ServiceTitan, then say so here."
    ]


# Saying what became of it


@pytest.fixture
def started(agent):
    """A case of three batches that the agent has started."""
    case = case_unlocking(agent, batches=make_batches(n=3))
    starting(agent, every())
    return case


def test_done_unlocks_what_is_ticked(agent, agent_client, started):
    response = press(agent_client, "done", every()[:2], MINE, reference=" T-4711 ")
    assert said(response) == ["2 batches are recorded as done, with the reference T-4711."]
    assert response["Location"] == MINE
    assert states() == [("done", "agent", "T-4711")] * 2 + [("sent", "agent", "")]
    assert [batch.status for batch in started.refresh().batches] == ["unlocked", "unlocked", "unlocking"]


def test_not_done_says_why(agent_client, started):
    response = press(agent_client, "not_done", every()[:1], MINE, why="Exported this morning")
    assert said(response) == ["1 batch is recorded as not done: Exported this morning"]
    assert states()[0] == ("refused", "agent", "Exported this morning")
    assert started.batch.lines.get().outcome == "refused"
    assert how_far(Instruction.objects.get(state="refused")) == "agent said: Exported this morning."


def test_put_back_lets_anyone_start_it(agent_client, second_agent_client, started):
    assert said(press(agent_client, "put_back", every(), MINE)) == ["3 batches are put back: anyone may start them."]
    assert states() == [("queued", None, "")] * 3
    press(second_agent_client, "start", every())
    assert states() == [("sent", "second-agent", "")] * 3


def test_all_of_ones_own_are_done_at_once(agent_client, second_agent, started):
    other = case_unlocking(second_agent)
    starting(second_agent, of(other))
    assert said(press(agent_client, "done", [], MINE, all="on", reference="T-1")) == [
        "3 batches are recorded as done, with the reference T-1."
    ]
    assert states(of(other)) == [("sent", "second-agent", "")] * 2


REFUSED = {
    "no reference": (
        "done",
        {},
        "reference",
        "Give the reference of what you did in the product. It stays with the record.",
    ),
    "blank reference": (
        "done",
        {"reference": "  "},
        "reference",
        "Give the reference of what you did in the product. It stays with the record.",
    ),
    "no reason": ("not_done", {}, "why", "Give a reason. It stays with the record."),
    "done with a reason": (
        "done",
        {"reference": "T-1", "why": "No"},
        "why",
        "You also wrote why it was not done. Clear that, or press Not done.",
    ),
    "not done with a reference": (
        "not_done",
        {"reference": "T-1", "why": "No"},
        "reference",
        "You also gave a reference. Clear that, or press Done.",
    ),
    "Enter": ("", {"reference": "T-1"}, "__all__", "Press the button that says what became of them."),
    "too long": (
        "done",
        {"reference": "T" * 501},
        "reference",
        "Ensure this value has at most 500 characters (it has 501).",
    ),
}


@pytest.mark.parametrize(("verb", "typed", "field", "says"), REFUSED.values(), ids=REFUSED)
def test_what_is_typed_wrong_is_said_and_what_was_ticked_stays_so(agent_client, started, verb, typed, field, says):
    before = snapshot()
    first = every()[0]
    response = press(agent_client, verb, [first], MINE, **typed)
    assert errors(response) == {field: [says]}
    assert difference(before, snapshot()) == []
    page = response.content.decode()
    assert f'value="{first.pk}" class="action-select" checked' in page
    assert page.count(" checked") == 1
    assert "Nothing was done." in page
    assert page.startswith("<!DOCTYPE html>")
    assert "<title>Error: To do in ServiceTitan" in page


@pytest.mark.parametrize("verb", ["done", "not_done", "put_back"])
def test_nothing_is_done_without_a_tick(agent_client, started, verb):
    before = snapshot()
    assert errors(press(agent_client, verb, [], MINE)) == {"__all__": ["Tick the batches that you mean."]}
    assert difference(before, snapshot()) == []


@pytest.mark.parametrize(
    ("verb", "typed"), [("done", {"reference": "T-1"}), ("not_done", {"why": "No"}), ("put_back", {})]
)
def test_a_second_answer_does_nothing(agent_client, started, verb, typed):
    press(agent_client, verb, every(), MINE, **typed)
    before = snapshot()
    assert said(press(agent_client, verb, every(), MINE, **typed)) == [
        "3 batches that you ticked had changed meanwhile: nothing was done to them now."
    ]
    assert difference(before, snapshot()) == []


def test_nobody_answers_for_a_colleague(second_agent_client, started):
    before = snapshot()
    for verb, typed in (("done", {"reference": "T-1"}), ("not_done", {"why": "No"}), ("put_back", {})):
        assert said(press(second_agent_client, verb, every(), MINE, **typed)) == [
            "3 batches that you ticked had changed meanwhile: nothing was done to them now."
        ]
    assert difference(before, snapshot()) == []


def test_a_manager_puts_back_what_a_colleague_started(manager_client, agent_client, started):
    assert 'value="put_back_for_others"' in manager_client.get(OTHERS).content.decode()
    response = press(manager_client, "put_back_for_others", every(), OTHERS)
    assert said(response) == ["3 batches are put back: anyone may start them."]
    assert states() == [("queued", None, "")] * 3
    assert said(press(agent_client, "done", every(), MINE, reference="T-1")) == [
        "3 batches that you ticked had changed meanwhile: nothing was done to them now."
    ]


# Who may


def test_an_agent_puts_nothing_back_for_others(second_agent_client, started):
    assert "put_back" not in second_agent_client.get(OTHERS).content.decode()
    before = snapshot()
    assert press(second_agent_client, "put_back_for_others", every(), OTHERS).status_code == 403
    assert press(second_agent_client, "put_back_for_others", every(), MINE).status_code == 400
    assert difference(before, snapshot()) == []


def test_an_auditor_only_reads(agent, auditor_client):
    case_unlocking(agent)
    page = auditor_client.get(PAGE).content.decode()
    assert ("action-select" in page, 'name="verb"' in page) == (False, False)
    before = snapshot()
    for page, verb in ((PAGE, "start"), (MINE, "done"), (MINE, "put_back"), (OTHERS, "put_back_for_others")):
        assert press(auditor_client, verb, every(), page, all="on", reference="T-1").status_code == 403
    assert difference(before, snapshot()) == []


def test_whoever_has_no_role_sees_nothing(client, agent):
    case_unlocking(agent)
    client.force_login(factories.make_user("newcomer"))
    assert [client.get(PAGE).status_code, press(client, "start", every()).status_code] == [403, 403]


def test_a_tick_that_names_no_row_breaks_no_page(agent, agent_client):
    case_unlocking(agent)
    before = snapshot()
    keys = ["9" * 19, "9" * 5000, "1e5", "-1", "x", "\0"]
    typed = {"verb": "start", "index": "0"}
    answers = {key: agent_client.post(PAGE, typed | {"_selected_action": [key]}).status_code for key in keys}
    assert answers == dict.fromkeys(keys, 400)
    no_list = typed | {"_selected_action": [], "all": "on"}
    assert agent_client.post(f"{PAGE}?what__exact=%00", no_list).status_code == 400
    assert difference(before, snapshot()) == []


@pytest.mark.parametrize("address", [f"{PAGE}1/change/", f"{PAGE}1/history/", f"{PAGE}1/delete/", f"{PAGE}1/"])
def test_an_instruction_has_no_page_of_its_own(superuser_client, address):
    assert superuser_client.get(address).status_code == 404


# Where it is shown


def test_the_queue_says_how_many_wait(agent, manager, agent_client, auditor_client):
    assert "to do in ServiceTitan" not in text(agent_client.get("/desk/"))
    case = case_unlocking(agent, batches=make_batches(n=3))
    assert "3 to do in ServiceTitan" in text(agent_client.get("/desk/"))
    assert "to do in ServiceTitan" not in text(auditor_client.get("/desk/"))
    starting(agent, every())
    operations.withdraw_own_consent(case.consent, why="", by=factories.customer(case.admin))
    # Three locks wait for what was started, and nobody can do anything about them yet.
    assert "to do in ServiceTitan" not in text(agent_client.get("/desk/"))
    press(agent_client, "not_done", every().filter(what="unlock")[:1], MINE, why="Withdrawn")
    assert "1 to do in ServiceTitan" in text(agent_client.get("/desk/"))


def links(client):
    page = client.get("/desk/").context
    return [entry["name"] for entry in [*page["desk_nav"], *page["desk_more"]] if entry["url"] == PAGE]


def test_is_in_the_navigation_of_those_who_do_it(agent_client, manager_client, auditor_client, settings):
    assert [links(client) for client in (agent_client, manager_client)] == [["To do"], ["To do"]]
    assert links(auditor_client) == ["To do in ServiceTitan"]
    settings.PRODUCT = "webhook"
    assert [links(client) for client in (agent_client, auditor_client)] == [["Instructions"], ["Instructions"]]


# Where the product is asked by the desk


@pytest.fixture
def asked(agent, settings):
    """One instruction in each state, of one batch each, in the order of the states."""
    settings.PRODUCT = "webhook"
    cases = {state: case_unlocking(agent, batches=make_batches(n=1)) for state in Instruction.State.values}
    sent = {one.batch_id: one for one in factories.hand_over()}
    answers = {"unknown": "unknown", "done": "done", "refused": "refused", "given_up": "stopped", "queued": "not_known"}
    for state, answer in answers.items():
        factories.answer([sent[cases[state].batch.pk]], answer, f"It says {state}")
    put_back = case_unlocking(agent, batches=make_batches(n=1))
    operations.cancel_unlock(put_back.rows, why="Asked", by=acting(agent))
    factories.answer([sent[cases["canceled"].batch.pk]], "done", "P-1")
    return cases | {"canceled": put_back}


def test_lists_what_was_asked_and_answered(asked, agent_client):
    page = agent_client.get(PAGE)
    assert "<h1>Instructions</h1>" in page.content.decode()
    assert page.context["cl"].result_count == 8
    assert 'name="verb"' not in page.content.decode()
    for state, case in asked.items():
        shown = agent_client.get(PAGE, {"show": state}).context["cl"].result_list
        assert case.batch in [row.batch for row in shown], state
        assert {row.state for row in shown} == {state}
    assert "Refused" in text(agent_client.get(PAGE, {"show": "refused"}))
    assert "It says refused" in text(agent_client.get(PAGE, {"show": "refused"}))


def test_nothing_is_started_by_hand_there(asked, manager_client):
    before = snapshot()
    for page in (PAGE, MINE, OTHERS, f"{PAGE}?show=queued"):
        for verb in ("start", "done", "put_back", "put_back_for_others", "try_again"):
            assert press(manager_client, verb, every(), page, reference="T-1").status_code == 403
    assert difference(before, snapshot()) == []


def test_what_was_given_up_is_asked_about_again(asked, agent_client, auditor_client):
    page = f"{PAGE}?show=given_up"
    given_up = every().filter(state="given_up")
    assert press(auditor_client, "try_again", given_up, page).status_code == 403
    assert said(press(agent_client, "try_again", given_up, page)) == ["ServiceTitan will be asked again about 1 batch."]
    assert [state for state, _, _ in states(of(asked["given_up"]))] == ["unknown"]
    assert said(press(agent_client, "try_again", of(asked["given_up"]), page)) == [
        "1 batch that you ticked had changed meanwhile: nothing was done to it now."
    ]
