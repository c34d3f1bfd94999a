"""The request page: each form carries out one verb, for those who may, and says what happened."""

import json
import re
import uuid
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.db.models import F
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from tests import factories
from tests.operations import recorded
from unlocks import history, operations
from unlocks.actors import Actor
from unlocks.admin.forms.case import CASE_FORMS
from unlocks.database import guards
from unlocks.ledger import chain, events
from unlocks.models import Instruction, UnlockRequest
from unlocks.outbox import heartbeat
from unlocks.templatetags.desk import ago, email
from unlocks.texts.formats import moment, moment_with_seconds

Status = UnlockRequest.Status


@pytest.fixture(autouse=True)
def by_webhook(settings):
    settings.PRODUCT = "webhook"


def page_of(case):
    return reverse("admin:unlocks_unlockrequest_change", args=[case.unlock_request.pk])


def post(client, case, verb, **typed):
    return client.post(page_of(case), {"verb": verb, **typed})


def done(client, case, verb, **typed):
    """Post a verb that must succeed, and return the page that follows."""
    response = post(client, case, verb, **typed)
    assert response.status_code == 302, response.content.decode()
    return client.get(response.url).content.decode()


def seen_on(client, case, verb):
    """Return what the page's form for `verb` carries to say how far the ledger was when it was made."""
    context = client.get(page_of(case)).context
    form = {form.verb: form for form in [context["next_form"], *context["forms"].values()] if form}[verb]
    return form["seen"].value()


def key_on(client, case, verb):
    """Return the key of the act that the page's form for `verb` carries."""
    context = client.get(page_of(case)).context
    return {form.verb: form for form in context["forms"].values()}[verb]["key"].value()


def state(case):
    """Return all that a refused verb must leave as it was."""
    case.refresh()
    return (
        case.unlock_request.status,
        case.unlock_request.history.count(),
        case.unlock_request.entries.count(),
        [(batch.status, batch.history.count()) for batch in case.batches],
    )


def kinds(case):
    return list(case.unlock_request.entries.order_by("sequence").values_list("kind", flat=True))


@pytest.fixture
def case(agent):
    return factories.open_case(agent)


@pytest.fixture
def advised(agent, case):
    operations.record_advice(case.unlock_request, advice="wants_export", by=factories.acting(agent))
    return case.refresh()


# What each state of a case asks for


def next_verb(client, case):
    form = client.get(page_of(case)).context["next_form"]
    return form and form.verb


def test_the_next_action_follows_the_case(agent, agent_client, case):
    by = factories.acting(agent)
    assert next_verb(agent_client, case) == "advise"
    operations.record_advice(case.unlock_request, advice="wants_export", by=by)
    assert next_verb(agent_client, case) == "send_link"
    case.url = operations.send_consent_link(case.unlock_request, contact=case.admin, by=by).url
    assert next_verb(agent_client, case) is None
    operations.revoke_consent_link(case.unlock_request, by=by)
    assert next_verb(agent_client, case) == "send_link"
    assert next_verb(agent_client, factories.case_consented(agent)) == "unlock"
    assert next_verb(agent_client, factories.case_unlocking(agent)) is None
    unlocked = factories.case_unlocked(agent)
    assert next_verb(agent_client, unlocked) == "mark_re_exported"
    operations.mark_re_exported(unlocked.rows, by=by)
    assert next_verb(agent_client, unlocked) is None


@pytest.mark.parametrize(
    ("content", "todo", "verb"),
    [
        ({"period_closed": True}, "Each has to change before it can be unlocked.", ""),
        ({"name": "Renamed"}, "Send a new consent link to ask the customer again.", "send_link"),
    ],
)
def test_the_customer_is_asked_again_only_if_that_helps(agent, agent_client, content, todo, verb):
    case = factories.case_consented(agent)
    history.update(case.rows, by=Actor.desk(), **content)
    step = agent_client.get(page_of(case)).context["next"]
    assert (step.heading, step.todo, step.verb) == ("No batch can be unlocked now.", todo, verb)


def test_a_likely_duplicate_is_warned_of(agent, agent_client):
    case = factories.open_case(agent, bypass_reason="already_entered")
    page = agent_client.get(page_of(case)).content.decode()
    assert "Unlocking would very likely create duplicates." in page
    assert "Duplicates likely" in page


def test_each_batch_has_its_verdict(agent, agent_client):
    case = factories.case_consented(agent)
    item = case.batch.items.first()
    item.memo = "Changed afterwards"
    history.save(item, by=Actor.desk())
    page = agent_client.get(page_of(case))
    verdicts = [(row["batch"].pk, row["verdict"][1], row["sentence"]) for row in page.context["case"].verdicts]
    assert verdicts == [
        (case.batches[0].pk, "No", "Changed since the customer consented. Send a new consent link."),
        (case.batches[1].pk, "Yes", ""),
    ]
    assert "1 batch can&#x27;t be unlocked." in page.content.decode()
    assert "Unlock 1 batch…" in page.content.decode()


def test_a_missing_pin_is_a_managers_next_action(agent, agent_client, manager_client):
    account = factories.make_account(pin="")
    case = factories.open_case(agent, batches=factories.make_batches(account=account))
    operations.record_advice(case.unlock_request, advice="wants_export", by=factories.acting(agent))
    assert next_verb(agent_client, case) is None
    assert next_verb(manager_client, case) == "issue_pin"
    page = done(manager_client, case, "issue_pin")
    assert "A new PIN waits to be sent to the Admin contacts" in page
    assert "The first PIN waits to be sent to the Admin contacts. It counts from then on." in page
    assert (next_verb(agent_client, case), next_verb(manager_client, case)) == (None, None)
    factories.deliver()
    assert next_verb(agent_client, case) == "send_link"


# The verbs


def test_advice_is_recorded(agent_client, case):
    page = done(agent_client, case, "advise", advice="wants_export")
    assert "Recorded: the customer wants to export the batches." in page
    assert case.refresh().unlock_request.advice == "wants_export"
    assert kinds(case) == ["opened", "advised"]


def test_manual_entry_closes_the_case(agent_client, case):
    page = done(agent_client, case, "advise", advice="manual_entry")
    assert "is closed: the customer enters the items by hand, and nothing is unlocked." in page
    assert (case.refresh().unlock_request.status, case.unlock_request.resolution) == (Status.CLOSED, "entered_manually")


def test_the_right_pin_is_verified_for_this_request(agent, agent_client, advised):
    page = done(agent_client, advised, "verify_pin", pin=factories.PIN)
    assert "The PIN is right." in page
    assert (advised.refresh().unlock_request.pin_typed_by, advised.unlock_request.pin_verified_by) == ("agent", agent)


def test_a_wrong_pin_is_said_beside_the_form_and_never_shown(agent_client, advised):
    response = post(agent_client, advised, "verify_pin", pin="739164")
    page = response.content.decode()
    assert response.status_code == 422
    assert "That PIN is not correct." in page
    assert "739164" not in page
    assert kinds(advised)[-1] == "pin_wrong"
    assert not any("739164" in entry.facts + entry.personal for entry in advised.unlock_request.entries.all())


def test_a_double_click_takes_one_try_of_the_pin(agent_client, advised):
    seen = seen_on(agent_client, advised, "verify_pin")
    post(agent_client, advised, "verify_pin", pin="000000", seen=seen)
    response = post(agent_client, advised, "verify_pin", pin="000000", seen=seen)
    assert response.status_code == 422
    assert "Wrong PIN by agent on " in response.content.decode()
    advised.account.refresh_from_db()
    assert advised.account.pin_failures == 1


def test_the_consent_link_is_not_shown(agent_client, advised):
    assert "consent-link" not in done(agent_client, advised, "send_link", contact=advised.admin.pk)


def test_the_consent_link_is_shown_once(agent_client, advised, settings):
    settings.SHOW_CONSENT_LINK = True
    assert post(agent_client, advised, "send_link", contact=advised.admin.pk).status_code == 302
    agent_client.get(
        reverse("admin:live_case", args=[advised.unlock_request.pk])
    )  # another tab, which does not show it
    page = agent_client.get(page_of(advised)).content.decode()
    link = advised.refresh().link
    assert 'readonly value="http' in page
    url = page.split('readonly value="')[1].split('"')[0]
    assert operations.link_for(url.rstrip("/").rsplit("/", 1)[-1]) == link
    again = agent_client.get(page_of(advised)).content.decode()
    assert "readonly" not in again
    assert url.rstrip("/").rsplit("/", 1)[-1] not in again
    assert url not in json.dumps(dict(agent_client.session))
    assert advised.unlock_request.status == Status.AWAITING_CONSENT


def test_a_second_click_sends_no_second_link(agent_client, advised):
    seen = seen_on(agent_client, advised, "send_link")
    assert post(agent_client, advised, "send_link", contact=advised.admin.pk, seen=seen).status_code == 302
    response = post(agent_client, advised, "send_link", contact=advised.admin.pk, seen=seen)
    assert response.status_code == 422
    assert "Consent link issued by agent on " in response.content.decode()
    assert advised.unlock_request.links.count() == 1


def test_a_link_goes_to_an_admin_of_the_account_only(agent_client, advised):
    office = factories.make_contact(account=advised.account, is_admin=False)
    stranger = factories.make_contact(account=factories.make_account(), is_admin=True)
    before = state(advised)
    for contact in (office, stranger):
        response = post(agent_client, advised, "send_link", contact=contact.pk)
        assert response.status_code == 422
        assert "Select a valid choice" in response.content.decode()
    assert state(advised) == before


def test_a_link_is_revoked(agent, agent_client):
    case = factories.case_awaiting(agent)
    page = done(agent_client, case, "revoke_link")
    assert "it opens nothing any more" in page
    assert operations.link_state(case.link) == "revoked"
    response = post(agent_client, case, "revoke_link")
    assert response.status_code == 422
    assert "There is no active consent link" in response.content.decode()


def test_unlocking_leads_to_the_preview(agent, agent_client):
    case = factories.case_consented(agent)
    response = post(agent_client, case, "unlock")
    assert response.status_code == 302
    preview = agent_client.get(response.url)
    assert preview.context["ready"]["n"] == 2
    assert case.refresh().batch.status == "bypassed"


def test_batches_are_marked_as_re_exported_one_by_one(agent, agent_client):
    case = factories.case_unlocked(agent)
    key = "11111111-2222-4333-8444-555555555555"
    page = done(agent_client, case, "mark_re_exported", key=key, batches=[case.batches[0].pk])
    assert "1 batch was marked as re-exported." in page
    assert [batch.status for batch in case.refresh().batches] == ["exported", "unlocked"]
    page = done(agent_client, case, "mark_re_exported", key=key, batches=[case.batches[0].pk])
    assert "This was already done on " in page
    assert [batch.status for batch in case.refresh().batches] == ["exported", "unlocked"]


def test_a_batch_of_another_request_is_not_marked_from_here(agent, agent_client):
    case, other = factories.case_unlocked(agent), factories.case_unlocked(agent)
    response = post(
        agent_client,
        case,
        "mark_re_exported",
        key="11111111-2222-4333-8444-555555555555",
        batches=[other.batch.pk],
    )
    assert response.status_code == 422
    assert other.refresh().batch.status == "unlocked"


def test_a_manager_locks_again_with_a_reason(agent, manager_client):
    case = factories.case_unlocked(agent)
    key = "11111111-2222-4333-8444-555555555556"
    before = state(case)
    response = post(manager_client, case, "relock", key=key, why="  ")
    assert response.status_code == 422
    assert state(case) == before
    page = done(manager_client, case, "relock", key=key, why="Nobody answers.")
    assert "2 batches: their relock was instructed." in page
    assert [batch.status for batch in case.refresh().batches] == ["relocking", "relocking"]
    assert "This was already done on " in done(manager_client, case, "relock", key=key, why="Nobody answers.")


@pytest.mark.parametrize(("last", "status"), [("x" * 20, 302), ("x" * 21, 422)])
def test_a_line_break_of_a_note_counts_once(agent_client, case, last, status):
    lines = [*["x" * 98] * 20, last]
    answer = agent_client.post(page_of(case), {"verb": "note", "text": "\r\n".join(lines)})
    assert answer.status_code == status
    notes = [facts["text"] for kind, facts in recorded(case.unlock_request) if kind == "note"]
    assert notes == (["\n".join(lines)] if status == 302 else [])


def test_a_note_is_kept_once(agent_client, case):
    seen = seen_on(agent_client, case, "note")
    page = done(agent_client, case, "note", text="Called <back> twice.", seen=seen)
    assert "Called &lt;back&gt; twice." in page
    response = post(agent_client, case, "note", text="Called <back> twice.", seen=seen)
    assert response.status_code == 422
    assert kinds(case) == ["opened", "note"]
    done(agent_client, case, "note", text="Another one.", seen=seen)
    assert kinds(case) == ["opened", "note", "note"]


def test_batches_are_added_by_their_numbers_and_taken_out_by_a_tick(agent_client, case):
    new, first = factories.make_batch(account=case.account), case.batch
    for verb, typed, errors in (
        ("add_batches", {"numbers": ""}, {"numbers": ["Paste the number of a batch."]}),
        ("add_batches", {"numbers": "B-?"}, {"numbers": [f"{case.account} has no batch with this number: B-?."]}),
        ("take_out_batches", {"numbers": ""}, {"numbers": ["Tick a batch, or paste the number of one."]}),
    ):
        before = state(case)
        page = post(agent_client, case, verb, **typed)
        assert (page.status_code, page.context["bound"].errors, state(case)) == (422, errors, before)
    assert "1 batch added." in done(agent_client, case, "add_batches", numbers=new.number)
    assert "1 batch taken out." in done(agent_client, case, "take_out_batches", batches=[first.pk])
    assert kinds(case) == ["opened", "batches_added", "batches_taken_out"]
    again = post(agent_client, case, "take_out_batches", batches=[first.pk])
    assert f"Not among the batches that {case.unlock_request} asks for: {first.number}." in again.content.decode()


def test_unknown_numbers_are_left_out_and_the_rest_is_added(agent_client, case):
    """As where a request is opened: both forms read what is pasted by the same code."""
    new = factories.make_batch(account=case.account, number="00815")
    pasted = {"numbers": f"0815, {new.number} NO-2"}
    page = post(agent_client, case, "add_batches", **pasted)
    (digest,) = re.findall(
        r'name="without" value="(.{64})">Leave out the 2 unknown numbers and add the rest<', page.content.decode()
    )
    said = f"{case.account} has no batches with these 2 numbers: 0815 (did you mean 00815?), NO-2."
    assert page.context["bound"].errors == {"numbers": [said]}
    others = post(agent_client, case, "add_batches", numbers=f"NO-1 {new.number}", without=digest)
    assert (others.status_code, kinds(case)) == (422, ["opened"])
    assert "1 batch added." in done(agent_client, case, "add_batches", **pasted, without=digest)
    assert new.lines.get().unlock_request == case.unlock_request
    none = post(agent_client, case, "take_out_batches", numbers="NO-1")
    digest = none.context["bound"].unknown["digest"]
    nothing_left = post(agent_client, case, "take_out_batches", numbers="NO-1", without=digest)
    assert nothing_left.context["bound"].errors == {"numbers": ["Tick a batch, or paste the number of one."]}
    assert kinds(case) == ["opened", "batches_added"]


@pytest.mark.parametrize(
    ("verb", "typed"),
    [
        ("note", {"text": "Called back."}),
        ("send_link", {"contact": "admin"}),
        ("close", {"resolution": "not_eligible", "why": "They left."}),
        ("cancel", {"why": "They left."}),
    ],
)
def test_a_form_that_is_sent_twice_is_one_act(agent_client, advised, verb, typed):
    typed = {name: advised.admin.pk if value == "admin" else value for name, value in typed.items()}
    typed |= {"seen": seen_on(agent_client, advised, verb), "key": str(uuid.uuid4())}
    done(agent_client, advised, verb, **typed)
    before = state(advised)
    done(agent_client, advised, verb, **typed)
    assert state(advised) == before


def test_each_form_has_a_key_of_its_own(agent_client, case):
    keys = {key_on(agent_client, case, verb) for verb in ("note", "close", "note")}
    assert len(keys) == 3


def test_a_key_is_of_one_verb_and_one_person(agent_client, second_agent_client, case):
    key = str(uuid.uuid4())
    done(agent_client, case, "note", text="First", key=key)
    assert post(second_agent_client, case, "note", text="First", key=key).status_code == 403
    assert post(agent_client, case, "cancel", why="Another verb", key=key).status_code == 403
    assert kinds(case) == ["opened", "note"]


def test_what_was_typed_is_kept_when_it_is_refused(agent_client, case):
    response = post(agent_client, case, "close", resolution="", why="They will call again.")
    assert response.status_code == 422
    assert "They will call again.</textarea>" in response.content.decode()
    assert case.refresh().unlock_request.status == Status.OPEN


def test_hand_over_and_take(agent, second_agent, auditor, agent_client, second_agent_client, case):
    assert "is handed over to second-agent." in done(agent_client, case, "hand_over", to=second_agent.pk)
    assert case.refresh().unlock_request.assignee == second_agent
    assert post(second_agent_client, case, "hand_over", to=auditor.pk).status_code == 422
    assert "is yours." in done(agent_client, case, "take")
    assert case.refresh().unlock_request.assignee == agent
    assert post(agent_client, case, "take").status_code == 422


def test_two_people_take_at_once_and_the_second_is_told(agent_client, second_agent_client, manager, agent):
    case = factories.open_case(manager)
    seen = seen_on(second_agent_client, case, "take")
    done(agent_client, case, "take", seen=seen)
    response = post(second_agent_client, case, "take", seen=seen)
    assert ", after you opened this page. Nothing was done now." in response.content.decode()
    assert case.refresh().unlock_request.assignee == agent


def test_withdrawal_locks_again_and_closes(agent, agent_client):
    case = factories.case_unlocked(agent)
    page = done(agent_client, case, "withdraw", why="The controller changed her mind.")
    assert "The consent is withdrawn, and the product is asked to lock what was unlocked under it." in page
    assert f"{case.unlock_request} closes once all is locked." in page
    assert (case.refresh().unlock_request.status, case.batch.status) == (Status.UNLOCKED, "relocking")
    assert post(agent_client, case, "withdraw", why="Again.").status_code == 422
    factories.carry_out()
    assert (case.refresh().unlock_request.resolution, case.batch.status) == ("withdrawn", "bypassed")


def test_a_withdrawal_before_the_product_is_asked_closes_at_once(agent, agent_client):
    case = factories.case_unlocking(agent)
    page = done(agent_client, case, "withdraw", why="The controller changed her mind.")
    assert f"The consent is withdrawn. Nothing is unlocked under it, and {case.unlock_request} is closed." in page
    assert (case.refresh().unlock_request.resolution, case.batch.status) == ("withdrawn", "bypassed")


def test_withdrawal_without_a_consent_is_refused(agent_client, case):
    response = post(agent_client, case, "withdraw", why="Never given.")
    assert response.status_code == 422
    assert "There is no consent to withdraw: none was given." in response.content.decode()


@pytest.mark.parametrize(
    ("verb", "typed", "resolution"),
    [
        ("cancel", {"why": "Called off."}, "canceled"),
        ("close", {"why": "Not theirs.", "resolution": "not_eligible"}, "not_eligible"),
    ],
)
def test_closing(agent_client, case, verb, typed, resolution):
    done(agent_client, case, verb, **typed)
    assert (case.refresh().unlock_request.status, case.unlock_request.resolution) == (Status.CLOSED, resolution)
    response = post(agent_client, case, verb, **typed)
    assert response.status_code == 422
    assert "is closed and can no longer be changed." in response.content.decode()
    page = agent_client.get(page_of(case))
    assert {form.verb for form in page.context["forms"].values()} == {"note"}


def test_a_case_cannot_be_closed_as_what_the_customer_has_to_say(agent_client, case):
    for resolution in ("declined", "withdrawn", "re_exported", "nonsense"):
        assert post(agent_client, case, "close", resolution=resolution, why="Because.").status_code == 422
    assert case.refresh().unlock_request.status == Status.OPEN


# What is offered once it has been unlocked


def offered(client, case):
    context = client.get(page_of(case)).context
    forms = [context["next_form"], *context["forms"].values()]
    return {form.verb: form for form in forms if form}


def outcomes_to_close_with(client, case):
    return [value for value, _ in offered(client, case)["close"].fields["resolution"].choices]


def unlocked_in_part(agent):
    """Walk a case of three batches up to two of them being unlocked: it does not close by itself."""
    case = factories.case_consented(agent, batches=factories.make_batches(n=3))
    factories.unlock(case.rows.exclude(pk=case.batches[2].pk), by=factories.acting(agent))
    return case.refresh()


def test_a_case_is_closed_as_what_became_of_its_batches(agent, manager, agent_client):
    by, boss = factories.acting(agent), factories.acting(manager)
    assert outcomes_to_close_with(agent_client, factories.case_consented(agent)) == [
        "entered_manually",
        "not_eligible",
        "expired",
    ]
    exported, locked, both = (unlocked_in_part(agent) for _ in range(3))
    operations.mark_re_exported(exported.rows, by=by)
    factories.relock(locked.rows, why="Nobody answers.", by=boss)
    operations.mark_re_exported(both.rows.filter(pk=both.batch.pk), by=by)
    assert "close" not in offered(agent_client, both)
    factories.relock(both.rows, why="Nobody answers.", by=boss)
    assert outcomes_to_close_with(agent_client, exported) == ["re_exported"]
    assert outcomes_to_close_with(agent_client, locked) == ["relocked_unused"]
    assert outcomes_to_close_with(agent_client, both) == ["re_exported", "relocked_unused"]


def test_a_re_exported_case_needs_no_why(agent, manager, agent_client):
    case, locked = unlocked_in_part(agent), unlocked_in_part(agent)
    operations.mark_re_exported(case.rows, by=factories.acting(agent))
    page = done(agent_client, case, "close", resolution="re_exported", why="")
    assert "is closed: Re-exported." in page
    factories.relock(locked.rows, why="Nobody answers.", by=factories.acting(manager))
    response = post(agent_client, locked, "close", resolution="relocked_unused", why=" ")
    assert response.status_code == 422
    assert "Say why: it stays with the record." in response.content.decode()
    assert locked.refresh().unlock_request.status == Status.UNLOCKED


def test_what_was_unlocked_is_not_cancelled(agent, agent_client):
    case = factories.case_unlocked(agent)
    assert "cancel" in offered(agent_client, factories.case_consented(agent))
    operations.mark_re_exported(case.rows.filter(pk=case.batch.pk), by=factories.acting(agent))
    assert "cancel" not in offered(agent_client, case)


def test_no_batch_is_ticked_as_re_exported_beforehand(agent, agent_client):
    case = factories.case_unlocked(agent, batches=factories.make_batches(n=4))
    form = offered(agent_client, case)["mark_re_exported"]
    assert [widget.data["selected"] for widget in form["batches"]] == [False] * 4
    before = state(case)
    key = "11111111-2222-4333-8444-555555555557"
    response = post(agent_client, case, "mark_re_exported", key=key)
    assert response.status_code == 422
    assert "Tick what the customer has really exported." in response.content.decode()
    assert state(case) == before
    assert "4 batches were marked as re-exported." in done(agent_client, case, "mark_re_exported", key=key, all="on")


def test_more_than_can_be_listed_are_marked_by_one_tick(agent, agent_client):
    case = factories.case_unlocked(agent, batches=factories.make_batches(n=51))
    form = offered(agent_client, case)["mark_re_exported"]
    assert list(form.fields) == ["seen", "key", "all"]
    key = "11111111-2222-4333-8444-555555555558"
    assert post(agent_client, case, "mark_re_exported", key=key).status_code == 422
    assert "51 batches were marked as re-exported." in done(agent_client, case, "mark_re_exported", key=key, all="on")


def test_each_batch_says_whether_it_can_be_unlocked_also_once_unlocked(agent, agent_client):
    assert (
        '<th scope="col">Can it be unlocked?</th>'
        in agent_client.get(page_of(factories.case_unlocked(agent))).content.decode()
    )


def test_an_onlooker_is_told_whose_step_is_next(agent, auditor_client):
    by = factories.acting(agent)
    cases = {}
    cases["opened"] = factories.open_case(agent)
    cases["advised"] = factories.open_case(agent)
    operations.record_advice(cases["advised"].unlock_request, advice="wants_export", by=by)
    cases["consented"], cases["unlocked"] = factories.case_consented(agent), factories.case_unlocked(agent)
    cases["refused"] = factories.case_unlocking(agent)
    factories.carry_out(refuse="Exported meanwhile.")
    pages = {name: auditor_client.get(page_of(case)).context for name, case in cases.items()}
    assert {name: page["next_form"] for name, page in pages.items()} == dict.fromkeys(cases)
    assert {name: page["next"].todo for name, page in pages.items()} == {
        "opened": "An agent offers it and records what the customer chooses.",
        "advised": "An agent sends the consent link.",
        "consented": "An agent or a manager unlocks.",
        "unlocked": "An agent marks what the customer has exported.",
        "refused": "An agent closes the request and says how it ended.",
    }


# What the product is at


def tell(client, case):
    """Return the heading and the text of the next step, with the verb that does it."""
    step = client.get(page_of(case)).context["next"]
    return step.heading, step.text, step.verb


def of_each(client, case):
    """Return the tags and the sentence of each batch on the page."""
    rows = client.get(page_of(case)).context["case"].verdicts
    return [(row["verdict"][1], row.get("stuck", ("", ""))[1], row.get("sentence", "")) for row in rows]


STARTS = "The customer's window starts once they are unlocked."
NOTHING = "There is nothing to do now."


def test_a_window_that_is_over_says_who_relocks(agent, agent_client, time_machine):
    case = factories.case_unlocked(agent)
    ended = moment(case.batch.unlocked_until)
    time_machine.move_to(case.batch.unlocked_until + timedelta(minutes=1))
    agent_client.force_login(agent)
    for who in (
        "No worker runs, so nothing relocks them: whoever looks after the server starts “manage.py work”.",
        "The worker relocks them.",
    ):
        assert tell(agent_client, case) == (
            "2 batches should be relocked by now.",
            f"The window ended {ended}. {who} Mark what was exported, or relock the rest now.",
            "relock",
        )
        heartbeat.beat("worker")


def test_while_the_product_is_asked_the_page_says_how_far_it_is(agent, agent_client):
    case = factories.case_unlocking(agent)
    waiting = "Waiting for the product to unlock 2 batches."
    text = f"2 batches wait to be handed over. {STARTS} {NOTHING}"
    assert tell(agent_client, case) == (waiting, text, "")
    assert of_each(agent_client, case) == [("Unlocking", "", "Waits to be handed over to the product.")] * 2
    assert {"cancel_unlock", "withdraw"} < set(offered(agent_client, case))
    assert not {"unlock", "mark_re_exported", "close", "cancel", "send_link"} & set(offered(agent_client, case))
    assert agent_client.get(page_of(case)).context["case"].steps[3]["remark"] == "2 of 2 unlocking"
    first, second = factories.hand_over()
    asked = moment(timezone.now())
    text = f"The product was asked about 2 batches {asked}. {STARTS} {NOTHING}"
    assert tell(agent_client, case) == (waiting, text, "")
    assert "cancel_unlock" not in offered(agent_client, case)
    factories.answer([second], "unknown", "504 Gateway Timeout.")
    silent = "The product did not say whether 1 batch is done, and is asked again. Last answer: 504 Gateway Timeout."
    text = f"The product was asked about 1 batch {asked}. {silent} {STARTS} {NOTHING}"
    assert tell(agent_client, case) == (waiting, text, "")
    assert of_each(agent_client, case) == [
        ("Unlocking", "", f"The product was asked {asked}. It has not answered yet."),
        (
            "Unlocking",
            "Being asked about",
            "The product did not say whether it was done. It is asked again. Last answer: 504 Gateway Timeout.",
        ),
    ]
    factories.answer([first], "done")
    until = moment(case.refresh().batch.unlocked_until)
    heading, text, verb = tell(agent_client, case)
    assert (heading, verb) == (f"1 batch unlocked until {until}.", "mark_re_exported")
    assert text.startswith("1 batch still unlocking. Tell the customer to edit and export now")
    assert agent_client.get(page_of(case)).context["case"].steps[3]["remark"] == "1 of 2 unlocked, 1 of 2 unlocking"


@pytest.mark.parametrize(
    ("state", "again", "cancelable"), [("not_handed_over", "", True), ("not_known", " again", False)]
)
def test_what_could_not_be_handed_over_says_so(agent, agent_client, state, again, cancelable):
    case = factories.case_unlocking(agent)
    factories.answer(factories.hand_over(), state, "Connection refused")
    assert tell(agent_client, case)[1].startswith("2 batches wait to be handed over. Last try: Connection refused.")
    sentence = f"Waits to be handed over to the product{again}. Last try: Connection refused."
    assert of_each(agent_client, case) == [("Unlocking", "", sentence)] * 2
    assert ("cancel_unlock" in offered(agent_client, case)) == cancelable


def test_by_hand_the_page_says_who_does_it(agent, agent_client, settings):
    settings.PRODUCT = "by_hand"
    case = factories.case_unlocking(agent)
    page = agent_client.get(page_of(case))
    heading = "Waiting for someone to unlock 2 batches in ServiceTitan."
    assert tell(agent_client, case) == (
        heading,
        f"2 batches wait on the list “To do in ServiceTitan”. {STARTS}",
        "",
    )
    assert page.context["next"].to_do
    assert (
        f'href="{reverse("admin:unlocks_instruction_changelist")}">To do in ServiceTitan</a>' in page.content.decode()
    )
    assert of_each(agent_client, case) == [("Unlocking", "", "Waits to be done by hand in ServiceTitan.")] * 2
    started = operations.start_instructions(
        Instruction.objects.filter(batch=case.batch), by=factories.acting(agent)
    ).sent
    at = moment(started[0].sent_at or timezone.now())
    assert tell(agent_client, case)[1].startswith(
        f"1 batch waits on the list “To do in ServiceTitan”. 1 batch was started {at}."
    )
    assert of_each(agent_client, case)[0][2] == f"agent started to do it by hand in ServiceTitan, {at}."


@pytest.mark.parametrize(
    ("tries", "state", "why"),
    [
        (12, "unknown", "The product did not answer for three days."),
        (1, "stopped", "The product is not asked any more."),
    ],
)
def test_what_was_given_up_is_tried_again(agent, agent_client, auditor_client, tries, state, why):
    case = factories.case_unlocking(agent)
    sent = factories.hand_over()
    for _ in range(tries - 1):
        Instruction.objects.update(tries=F("tries") + 1)
    factories.answer(sent, state, "No route to host")
    heading = "The product did not say what became of 2 batches."
    text = f"{why} Last answer: No route to host."
    todo = "Have it asked again once it can be reached."
    assert tell(agent_client, case) == (heading, f"{text} {todo}", "try_again")
    assert tell(auditor_client, case) == (heading, f"{text} An agent or a manager has the product asked again.", "")
    assert of_each(agent_client, case) == [("Unlocking", "Given up", text)] * 2
    page = done(agent_client, case, "try_again")
    assert "The product is asked again what became of 2 batches." in page
    assert {one.state for one in Instruction.objects.all()} == {"unknown"}
    assert "Nothing was done now." in done(agent_client, case, "try_again")
    factories.answer(sent, "done")
    assert [batch.status for batch in case.refresh().batches] == ["unlocked"] * 2


def test_what_the_product_refused_is_said_and_the_request_closed(agent, agent_client):
    case = factories.case_unlocking(agent)
    factories.carry_out(refuse="Exported meanwhile.")
    heading, text, verb = tell(agent_client, case)
    assert (heading, verb) == ("The product refused to unlock 2 batches.", "close")
    assert text == (
        "The list below says why for each batch. Tell the customer, and close the request as not eligible. "
        "If that changes, open a new request."
    )
    assert of_each(agent_client, case) == [("Refused by the product", "", "The product said: Exported meanwhile.")] * 2
    form = offered(agent_client, case)["close"]
    assert form["resolution"].initial == "not_eligible"
    assert "send_link" not in offered(agent_client, case)
    done(agent_client, case, "close", resolution="not_eligible", why="Exported meanwhile.")
    assert of_each(agent_client, case) == [("Refused by the product", "", "The product said: Exported meanwhile.")] * 2


def test_some_refused_and_some_ready(agent, agent_client):
    case = factories.case_consented(agent, batches=factories.make_batches(n=3))
    operations.unlock(case.rows.filter(pk=case.batch.pk), by=factories.acting(agent))
    assert tell(agent_client, case)[1].endswith(" 1 batch still unlocking.")
    factories.carry_out(refuse="Exported meanwhile.")
    heading, text, verb = tell(agent_client, case)
    assert (heading, verb) == ("Ready to unlock.", "unlock")
    assert text.endswith(" The product refused to unlock 1 batch.")
    remark = agent_client.get(page_of(case)).context["case"].steps[3]["remark"]
    assert remark == "2 of 2 ready, 1 of 3 refused by the product"


def test_a_withdrawn_case_says_that_it_closes_by_itself(agent, agent_client):
    case = factories.case_unlocked(agent)
    operations.withdraw_consent(case.consent, why="No more.", by=factories.acting(agent))
    assert tell(agent_client, case) == (
        "Waiting for the product to relock 2 batches.",
        "The consent is withdrawn. 2 batches wait to be handed over. The request closes by itself once nothing "
        f"is unlocked anymore. {NOTHING}",
        "",
    )
    steps = agent_client.get(page_of(case)).context["case"].steps
    assert (steps[2]["remark"], steps[3]["remark"]) == ("Withdrawn later", "2 of 2 unlocked")
    assert [step["state"] for step in steps] == ["done", "done", "done", "done", ""]
    factories.carry_out()
    assert tell(agent_client, case)[0] == "Closed: Consent withdrawn."


def test_a_relock_that_the_product_refused(agent, agent_client, manager, manager_client):
    case = factories.case_unlocked(agent)
    operations.relock(case.rows, why="Nobody answers.", by=factories.acting(manager))
    closes = "The request closes by itself once nothing is unlocked anymore."
    text = f"2 batches wait to be handed over. {closes} {NOTHING}"
    assert tell(manager_client, case) == ("Waiting for the product to relock 2 batches.", text, "")
    first, second = factories.hand_over()
    factories.answer([first], "refused", "Someone has it open")
    said = "It said: Someone has it open."
    todo = "If the customer exported it, mark it as re-exported. Otherwise relock it again."
    refused = "The product refused to relock 1 batch."
    assert tell(manager_client, case) == (refused, f"{said} {todo}", "relock")
    assert tell(agent_client, case) == (refused, f"{said} {todo}", "relock")
    assert of_each(agent_client, case)[0] == ("Relocking", "Refused", "The product said: Someone has it open.")
    assert offered(manager_client, case)["relock"].button == "Relock 1 batch"
    key = "11111111-2222-4333-8444-555555555559"
    assert "1 batch: its relock was instructed." in done(manager_client, case, "relock", key=key, why="Again.")
    assert tell(manager_client, case)[0] == "Waiting for the product to relock 2 batches."
    page = done(agent_client, case, "mark_re_exported", key=key[:-1] + "8", batches=[case.batch.pk])
    assert "1 batch was marked as re-exported." in page
    factories.answer([second], "done")
    assert tell(agent_client, case)[0] == "Closed: Re-exported."


def test_an_unlock_is_canceled_on_the_page(agent, agent_client):
    case = factories.case_unlocking(agent, batches=factories.make_batches(n=3))
    operations.hand_over([case.batch.instructions.get()], by=Actor.desk())
    form = offered(agent_client, case)["cancel_unlock"]
    assert form.button == "Cancel the unlock of 2 batches"
    key = "11111111-2222-4333-8444-555555555560"
    assert post(agent_client, case, "cancel_unlock", key=key, why=" ").status_code == 422
    page = done(agent_client, case, "cancel_unlock", key=key, why="The customer called.")
    assert "2 batches: their unlock was canceled before the product was asked." in page
    assert [batch.status for batch in case.refresh().batches] == ["unlocking", "bypassed", "bypassed"]
    assert tell(agent_client, case)[0] == "Ready to unlock."


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("queued", "The unlock of 2 batches is canceled: the product was not asked yet. The request is closed."),
        ("sent", "The product is asked at once to lock 2 batches. The request closes once all are locked."),
        (
            "half",
            "The unlock of 1 batch is canceled: the product was not asked yet. The product is asked at once to lock "
            "1 batch. The request closes once all are locked.",
        ),
    ],
)
def test_withdrawing_says_beforehand_what_follows(agent, agent_client, state, said):
    case = factories.case_unlocking(agent)
    if state != "queued":
        to_send = Instruction.objects.all() if state == "sent" else case.batch.instructions.all()
        operations.hand_over(list(to_send), by=Actor.desk())
    form = offered(agent_client, case)["withdraw"]
    assert form.fields["why"].help_text == f"{said} This can't be undone."
    done(agent_client, case, "withdraw", why="No more.")
    statuses = {"queued": ["bypassed"] * 2, "sent": ["relocking"] * 2, "half": ["relocking", "bypassed"]}
    assert [batch.status for batch in case.refresh().batches] == statuses[state]


# Who may

TYPED = {
    "advise": {"advice": "manual_entry"},
    "verify_pin": {"pin": factories.PIN},
    "note": {"text": "A note"},
    "close": {"resolution": "not_eligible", "why": "No."},
    "cancel": {"why": "No."},
    "withdraw": {"why": "No."},
    "extend": {"why": "No.", "hours": "72", "key": "11111111-2222-4333-8444-555555555555"},
    "relock": {"why": "No.", "key": "11111111-2222-4333-8444-555555555555"},
    "cancel_unlock": {"why": "No.", "key": "11111111-2222-4333-8444-555555555555"},
    "mark_re_exported": {"key": "11111111-2222-4333-8444-555555555555"},
}


def test_an_auditor_changes_nothing(agent, auditor_client):
    case = factories.case_unlocked(agent)
    before = state(case)
    for verb in CASE_FORMS:
        assert post(auditor_client, case, verb, **TYPED.get(verb, {})).status_code == 403, verb
        assert state(case) == before, verb


def test_an_auditor_sees_everything_and_no_form_but_the_certificates(agent, auditor_client):
    for case in (factories.open_case(agent), factories.case_consented(agent), factories.case_unlocked(agent)):
        page = auditor_client.get(page_of(case))
        assert page.status_code == 200
        assert set(re.findall('name="verb" value="(.*?)"', page.content.decode())) <= {"certify"}


def test_an_agent_does_not_do_what_is_a_managers(agent, agent_client):
    case = factories.case_unlocked(agent)
    before = state(case)
    assert post(agent_client, case, "issue_pin").status_code == 403
    assert state(case) == before
    assert 'name="verb" value="issue_pin"' not in agent_client.get(page_of(case)).content.decode()


def test_a_superuser_passes_no_rule(superuser_client, agent):
    case = factories.case_awaiting(agent)
    response = post(superuser_client, case, "unlock")
    preview = superuser_client.get(response.url)
    assert preview.context["ready"]["n"] == 0
    assert '<button class="btn main"' not in preview.content.decode()
    assert "There is no consent to withdraw" in post(superuser_client, case, "withdraw", why="x").content.decode()


def test_nobody_edits_a_status_in_a_form(superuser_client, agent_client, case):
    before = state(case)
    for client in (superuser_client, agent_client):
        assert client.post(page_of(case), {"status": "consented", "_save": "Save"}).status_code == 400
        assert client.post(page_of(case), {"verb": "note", "status": "consented"}).status_code == 422
    assert state(case) == before


def test_strangers_are_sent_to_sign_in_and_unknown_requests_are_not_found(client, agent_client, case):
    assert client.get(page_of(case)).status_code == 302
    for address in ("999999", "0", "abc", "1" * 30):
        assert agent_client.get(reverse("admin:unlocks_unlockrequest_change", args=[address])).status_code == 404


@pytest.mark.parametrize(("exported", "state"), [(1, "part"), (2, "done")])
def test_a_step_is_done_once_it_is_for_all_batches(agent, manager, agent_client, exported, state):
    case = factories.case_unlocked(agent)
    by = factories.acting(agent)
    some = case.rows.filter(pk__in=[batch.pk for batch in case.batches[:exported]])
    operations.mark_re_exported(some, by=by, key=uuid.uuid4())
    if exported == 1:
        factories.relock(case.rows, why="Nobody answers.", by=factories.acting(manager), key=uuid.uuid4())
    steps = agent_client.get(page_of(case)).context["case"].steps
    assert [step["state"] for step in steps] == ["done", "done", "done", "done", state]
    assert steps[4]["remark"] == f"{exported} of 2 re-exported"


@pytest.mark.parametrize(
    ("past", "said"),
    [(timedelta(seconds=59), "just now"), (timedelta(minutes=1), "1 minute ago"), (timedelta(hours=30), "1 day ago")],
)
def test_how_long_ago(past, said):
    now = timezone.now()
    assert ago(now - past, now).replace("\xa0", " ") == said


def test_an_email_address_breaks_between_its_words_and_stays_text():
    assert email("d.o'neil@<b>.example") == "d.<wbr>o&#x27;neil@<wbr>&lt;b&gt;.<wbr>example"


# Big cases and queries


def test_a_long_case_is_paged_and_filtered_by_verdict(agent, agent_client):
    account = factories.make_account()
    case = factories.case_consented(agent, batches=factories.make_batches(account=account, n=101))
    item = case.batches[100].items.first()
    item.memo = "Changed afterwards"
    history.save(item, by=Actor.desk())
    page = agent_client.get(page_of(case))
    assert len(page.context["case"].verdicts) == 10
    assert '<a href="?rows=all#batches">Show all 101</a>' in page.content.decode()
    assert len(agent_client.get(page_of(case), {"rows": "all"}).context["case"].verdicts) == 100
    assert [(code, n) for code, _, n in page.context["case"].verdict_summary] == [("ready", 100), ("changed", 1)]
    refused = agent_client.get(page_of(case), {"only": "changed"}).context["case"].verdicts
    assert [row["batch"].pk for row in refused] == [case.batches[100].pk]
    last = agent_client.get(page_of(case), {"rows": "all", "page": "2"}).context["case"].verdicts
    assert [row["batch"].pk for row in last] == [case.batches[100].pk]
    assert agent_client.get(page_of(case), {"page": "x", "only": "'"}).status_code == 200


def test_the_page_costs_the_same_for_eleven_batches_and_for_thirty(agent, manager_client, django_assert_num_queries):
    for make in (
        factories.open_case,
        factories.case_awaiting,
        factories.case_consented,
        factories.case_unlocking,
        factories.case_unlocked,
    ):
        small = make(agent, batches=factories.make_batches(n=11))
        large = make(agent, batches=factories.make_batches(n=30))
        notes = [chain.Entry(events.Note(text=f"Note {number}"), large.unlock_request.pk) for number in range(60)]
        chain.append_all(notes, by=factories.acting(agent))
        manager_client.get(page_of(small))
        with CaptureQueriesContext(connection) as counted:
            manager_client.get(page_of(small))
        with django_assert_num_queries(min(len(counted), 12)):
            page = manager_client.get(page_of(large))
        assert len(page.context["case"].latest_entries) == 50


def test_a_case_that_fits_on_its_page_is_judged_once(agent, agent_client, django_assert_num_queries):
    case = factories.case_consented(agent)
    agent_client.get(page_of(case))
    with django_assert_num_queries(10) as queries:
        agent_client.get(page_of(case))
    assert sum("not_requested" in entry["sql"] for entry in queries) == 1


def test_the_evidence_says_what_was_checked_and_when(agent, agent_client):
    case = factories.case_consented(agent)
    newest = case.unlock_request.entries.latest("sequence")
    page = agent_client.get(page_of(case)).content.decode()
    assert f'<span class="tag good">Intact</span> checked {moment(timezone.now())}' in page
    assert newest.hash in page
    assert case.consent.text_sha256 in page
    with guards.lifted(), transaction.atomic():
        case.unlock_request.entries.filter(pk=newest.pk).update(personal="{}")
    page = agent_client.get(page_of(case)).content.decode()
    assert '<span class="tag bad">Altered</span>' in page
    assert f"Entry {newest.sequence:,} does not fit its seal." in page


def test_the_evidence_holds_the_certificate(agent, agent_client):
    factories.record_certificate_key()
    case = factories.case_consented(agent)
    assert "none issued yet" in agent_client.get(page_of(case)).content.decode()
    consent = reverse("admin:unlocks_consent_change", args=[case.consent.pk])
    issued = agent_client.post(consent, {"verb": "certify"})
    number, page = f"{case.consent.reference}-1", agent_client.get(page_of(case)).content.decode()
    assert f'<a href="{issued.url}">{number}</a>' in page
    assert [f"{issued.url}{number}{kind}" in page for kind in (".pdf", ".json")] == [True, True]


# Following a case


def live(client, case, page):
    return client.get(reverse("admin:live_case", args=[case.unlock_request.pk]), {"stamp": page.context["stamp"]})


def test_a_page_hears_of_each_step_and_of_nothing_else(agent, agent_client, django_assert_num_queries):
    case = factories.case_awaiting(agent)
    by, page, heard = factories.customer(case.admin), agent_client.get(page_of(case)), []
    for step in (
        lambda: operations.open_consent_link(case.link, by=by),
        lambda: operations.verify_customer_pin(case.link, pin=factories.PIN, by=by),
        lambda: factories.agree(case),
        lambda: operations.unlock(case.rows, by=factories.acting(agent)),
        factories.hand_over,
        lambda: factories.answer(list(Instruction.objects.all()), "done", "P-1"),
    ):
        with django_assert_num_queries(4):  # three for whoever asks
            assert live(agent_client, case, page).status_code == 204
        step()
        page = live(agent_client, case, page)
        heard.append(page.context["title"].removesuffix(f" · {case.unlock_request}"))
        assert "<html" not in page.content.decode()
    assert heard == ["Link opened", "PIN right", "Ready to unlock", "Unlocking", "Unlocking", "Unlocked"]


def test_a_page_hears_what_a_colleague_did(agent, agent_client, second_agent, case):
    page = agent_client.get(page_of(case))
    operations.add_note(case.unlock_request, text="Called back.", by=factories.acting(second_agent))
    entry = case.unlock_request.entries.latest("sequence")
    news = f'data-news="Note by second-agent, {moment_with_seconds(entry.at)}."'
    assert news in live(agent_client, case, page).content.decode()
    assert live(Client(), case, page).status_code == 302


# The timeline


def test_the_timeline_tells_the_case(agent, agent_client):
    case = factories.case_unlocked(agent)
    page = agent_client.get(page_of(case)).content.decode()
    for sentence in (
        "<b>Opened</b> with 2 batches. Channel: Phone. Why bypassed: By mistake",
        "<b>Safer route offered</b>: Customer wants to export the batches",
        f"<b>Consent given</b> by {case.admin.name}, Controller, for 2 batches, terms version 1",
        f"<b>Unlock instructed</b>: 2 batches ({case.batches[0].number}, {case.batches[1].number})",
        f"<b>Unlocked</b>: 2 batches ({case.batches[0].number}, {case.batches[1].number})",
    ):
        assert sentence in page
