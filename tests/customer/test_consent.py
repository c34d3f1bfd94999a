"""The customer's pages: what they show, what they keep, whom they turn away. The browser sees them in tests/browser."""

import re
from copy import deepcopy
from datetime import timedelta
from html import unescape

import pytest
import time_machine
from django.core import mail
from django.test import Client
from django.utils import timezone

from tests import factories
from tests.factories import PIN, customer
from unlocks import history, operations
from unlocks.actors import Actor
from unlocks.customer import consent
from unlocks.customer.forms import DecisionForm, sign_answers
from unlocks.digest import sha256
from unlocks.models import Account, Consent, ConsentLink, LedgerEntry
from unlocks.texts import wording
from unlocks.texts.formats import day, moment, moment_with_seconds, money, time_of_day
from unlocks.texts.shown import shown_text

WRONG = "000000"
RIGHT = {"action": "check", "name": "Dana Whitfield", "role": "Controller", "authorized": "on", "agree": "on"}
ALREADY = "<b>This was already recorded</b>"


@pytest.fixture(scope="module")
def scene(shared):
    account = factories.make_account(admin=False)
    factories.make_contact(account=account, name="Dana Whitfield")
    return factories.case_awaiting(factories.make_user("agent", group="Agent"), account=account)


@pytest.fixture
def case(db, scene):
    return deepcopy(scene)


@pytest.fixture
def agent(case):
    return case.agent


def enter(client, case):
    """Follow the emailed link to the page behind it."""
    return client.get(f"/consent/{case.token}/", follow=True)


def opened(client, case):
    """Follow the link and open the form; return the form's page."""
    enter(client, case)
    return client.post("/consent/", {"action": "open"}, follow=True)


def hidden(response, name):
    return unescape(re.search(rf'name="{name}"\s+value="([^"]*)"', response.content.decode())[1])


def typed(case, **changes):
    return RIGHT | {"pin": PIN, "shown": sha256(shown_text(case.link))} | changes


def checked(client, case, **changes):
    """Open the form and send it; return the page that asks once more."""
    opened(client, case)
    return client.post("/consent/", typed(case, **changes))


def agreed(client, case):
    answers = hidden(checked(client, case), "answers")
    return client.post("/consent/", {"action": "agree", "answers": answers}, follow=True)


def declined(client, case, **fields):
    page = client.post("/consent/", typed(case, action="decline"))
    data = {"action": "confirm_decline", "answers": hidden(page, "answers"), "name": "Dana Whitfield"} | fields
    return client.post("/consent/", data, follow=True)


def words(response):
    """Return what a page says, without its tags."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", response.content.decode())).split())


def written():
    """Return what the pages may write, to compare before and after."""
    return [
        list(model.objects.order_by("pk").values())
        for model in (ConsentLink, Consent, LedgerEntry, Account, Account.history.model)
    ]


def kinds(case):
    return list(case.unlock_request.entries.order_by("sequence").values_list("kind", flat=True))


# --- The link ---------------------------------------------------------------------------------------------------------


def test_the_link_puts_its_token_into_a_cookie_and_out_of_the_address(client, case):
    response = client.get(f"/consent/{case.token}/")
    cookie = response.cookies["consent"]
    assert (response.status_code, response["Location"]) == (302, "/consent/")
    assert cookie.value.split(":")[0] == case.token
    assert {name: cookie[name] for name in ("path", "httponly", "samesite", "secure")} == {
        "path": "/consent/",
        "httponly": True,
        "samesite": "Lax",
        "secure": "",
    }
    assert list(response.cookies) == ["consent"]


def test_the_cookie_is_secure_outside_of_a_trial(client, case, settings):
    settings.TRIAL = False
    assert client.get(f"/consent/{case.token}/").cookies["consent"]["secure"] is True


def test_a_forged_cookie_opens_nothing(client, case):
    client.cookies["consent"] = case.token
    assert client.get("/consent/").status_code == 404


@pytest.mark.parametrize("method", ["get", "head", "options"])
def test_nothing_but_a_post_writes(client, case, method):
    before = written()
    for address in (f"/consent/{case.token}/", "/consent/", "/consent/receipt/", "/receipt/", "/receipt/nobodys/"):
        getattr(client, method)(address)
    opened(client, case)
    opened_only = written()
    enter(client, case)
    getattr(client, method)("/consent/")
    assert (before != opened_only, written()) == (True, opened_only)


def test_the_start_page_says_nothing_of_the_account(client, case):
    page = words(enter(client, case))
    assert wording.TITLE not in page
    named = [case.account.name, case.account.number, case.admin.name, case.admin.email, case.unlock_request.reference]
    assert [name for name in named + [batch.number for batch in case.batches] if name in page] == []


def test_opening_is_recorded_once_with_from_where(client, case):
    client.defaults["HTTP_USER_AGENT"] = "A browser"
    opened(client, case)
    client.post("/consent/", {"action": "open"})
    assert list(case.link.openings.values_list("position", "ip", "browser")) == [(1, "127.0.0.1", "A browser")]
    assert kinds(case).count("link_opened") == 1


def test_a_browser_that_did_not_open_the_form_is_asked_to_although_a_scanner_did(client, case):
    opened(Client(headers={"user-agent": "Scanner"}), case)
    assert wording.TITLE not in words(enter(client, case))
    agreed(client, case)
    assert list(case.link.openings.values_list("browser", flat=True)) == ["Scanner", ""]
    assert Consent.objects.get().opening == case.link.openings.last()


def test_the_decision_records_the_opening_of_its_browser_though_its_address_changed(client, case):
    opened(client, case)
    for number in range(3):
        opened(Client(REMOTE_ADDR=f"203.0.113.{number}"), case)
    client.defaults["REMOTE_ADDR"] = "198.51.100.1"
    client.post("/consent/", {"action": "check"})
    declined(client, case, name="Dana Whitfield")
    consent = Consent.objects.get()
    assert (consent.opening.position, consent.opening.ip, consent.ip) == (1, "127.0.0.1", "198.51.100.1")


def test_three_presses_of_a_scanner_decide_nothing(client, case):
    opened(client, case)
    page = client.post("/consent/", {"action": "decline", "shown": sha256(shown_text(case.link))})
    before = written()
    again = client.post("/consent/", {"action": "confirm_decline", "answers": hidden(page, "answers")})
    assert (again.context["form"].errors, written()) == ({"name": ["Enter your full name."]}, before)


@pytest.mark.parametrize("name", ["", "   ", "\u3164", "123"])
def test_declining_takes_a_name_that_can_be_read(client, case, name):
    opened(client, case)
    page = declined(client, case, name=name)
    assert (list(page.context["form"].errors), Consent.objects.exists()) == (["name"], False)


def test_after_fifty_openings_the_form_opens_and_says_nothing_untrue(client, case):
    for number in range(50):
        operations.open_consent_link(case.link, by=Actor(name="Scanner", ip=f"203.0.113.{number}"))
    assert wording.TITLE in words(opened(client, case))
    page = words(agreed(client, case))
    assert (Consent.objects.get().opening, "Form opened not recorded" in page) == (None, True)


def test_a_forged_or_foreign_opening_counts_for_nothing(client, case):
    enter(client, case)
    client.cookies["opening"] = f"{case.link.pk}-1"
    assert wording.TITLE not in words(client.get("/consent/"))


@pytest.mark.parametrize("action", ["check", "change", "agree", "decline", "confirm_decline", "", "nonsense"])
def test_nothing_can_be_decided_before_the_form_was_opened(client, case, action):
    enter(client, case)
    before = written()
    response = client.post("/consent/", typed(case, action=action))
    assert (response.status_code, response["Location"], written()) == (302, "/consent/", before)


# --- The form ---------------------------------------------------------------------------------------------------------


def test_the_form_shows_all_that_is_recorded(client, case):
    page = words(opened(client, case))
    shown = [*wording.ADVICE, case.link.terms.text, wording.agree(case.link.terms), wording.authorized(case.account)]
    shown += [case.account.name, case.account.number, wording.DECLINE_BUTTON, wording.CONTINUE_BUTTON]
    for batch in case.batches:
        shown += [batch.number, batch.name, money(batch.total), day(batch.bypassed_on)]
    assert [text for text in shown if text not in page] == []
    assert " ".join(shown_text(case.link).split()) in page


def test_the_pin_field_is_for_digits_and_remembers_nothing(client, case):
    page = opened(client, case).content.decode()
    field = re.search(r'<input[^>]*name="pin"[^>]*>', page)[0]
    attributes = dict(re.findall(r'([\w-]+)="([^"]*)"', field))
    assert {name: attributes.get(name) for name in ("type", "inputmode", "autocomplete", "value")} == {
        "type": "password",
        "inputmode": "numeric",
        "autocomplete": "one-time-code",
        "value": None,
    }


@pytest.mark.parametrize("number_of_batches", [1, 30])
def test_the_form_costs_the_same_for_many_batches(client, agent, number_of_batches, django_assert_num_queries):
    account = factories.make_account()
    case = factories.case_awaiting(agent, batches=factories.make_batches(account=account, n=number_of_batches))
    opened(client, case)
    with django_assert_num_queries(3):
        client.get("/consent/")


def test_each_missing_answer_is_named_and_no_try_of_the_pin_is_spent(client, case):
    opened(client, case)
    before = written()
    page = client.post("/consent/", {"action": "check", "shown": typed(case)["shown"], "pin": WRONG})
    assert page.context["form"].errors == {
        "name": ["Enter your full name."],
        "role": ["Enter your role in the company."],
        "authorized": ["Check this box if you are authorized. If not, an Admin of the account has to decide."],
        "agree": ["Check this box if you agree. If not, choose “I do not agree”."],
    }
    assert written() == before


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("", "Enter your full name."),
        ("   \t ", "Enter your full name."),
        ("...", "Use at least one letter."),
        ("x" * 201, "Ensure this value has at most 200 characters (it has 201)."),
        ("x" * 100_000, "Ensure this value has at most 200 characters (it has 100000)."),
        ("Dana\x00", "This holds characters that can't be seen. Type it instead of pasting it."),
        ("Dana\x07", "This holds characters that can't be seen. Type it instead of pasting it."),
        ("Dana\nWhitfield", "This holds characters that can't be seen. Type it instead of pasting it."),
        ("Dana \u202eetihW", "This holds characters that can't be seen. Type it instead of pasting it."),
        ("\u3164\u3164", "This holds characters that can't be seen. Type it instead of pasting it."),
        ("\uffa0", "This holds characters that can't be seen. Type it instead of pasting it."),
        ("\u200bDana", "This holds characters that can't be seen. Type it instead of pasting it."),
        ("Da\u200dna", "This holds characters that can't be seen. Type it instead of pasting it."),
        ("Dana\U000e0041", "This holds characters that can't be seen. Type it instead of pasting it."),
        ("1", "Use at least one letter."),
        ("Dana \u2066W\u2069", "This holds characters that can't be seen. Type it instead of pasting it."),
    ],
)
def test_a_name_that_does_not_read_as_it_is_stored_is_refused(client, case, name, error):
    page = checked(client, case, name=name)
    assert (page.context["form"].errors, kinds(case)[-1]) == ({"name": [error]}, "link_opened")


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("  Dana   Whitfield ", "Dana Whitfield"),
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),
        ("{{ name }} {% now %} 'x' \"y\" & z", "{{ name }} {% now %} 'x' \"y\" & z"),
        ("دانا وايتفيلد", "دانا وايتفيلد"),
        ("علی\u200cرضا", "علی\u200cرضا"),
        ("\u0915\u094d\u200d\u0937", "\u0915\u094d\u200d\u0937"),
        ("Zoe\u0308 O’Neill", "Zo\u00eb O’Neill"),
        ("x" * 200, "x" * 200),
    ],
)
def test_a_name_is_kept_as_it_was_typed(client, case, name, kept):
    page = checked(client, case, name=name, another="on")
    assert "<script>" not in page.content.decode()
    client.post("/consent/", {"action": "agree", "answers": hidden(page, "answers")})
    assert Consent.objects.get().signer_name == kept


def test_a_form_under_another_link_decides_nothing(client, agent, case):
    other = factories.case_awaiting(agent)
    opened(client, case)
    form = typed(case)
    opened(client, other)
    page = client.post("/consent/", form)
    assert page.context["notice"] == consent.CHANGED
    assert (kinds(case)[-1], kinds(other)[-1]) == ("link_opened", "link_opened")


# --- The PIN ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pin", [WRONG, "1" * 64, "<b>"])
def test_a_wrong_pin_is_refused_beside_the_field_and_all_else_is_kept(client, case, pin):
    page = checked(client, case, pin=pin)
    form = page.context["form"]
    assert form.errors == {"pin": [consent.PIN_WRONG]}
    assert (form["name"].value(), form["role"].value()) == ("Dana Whitfield", "Controller")
    assert (form["authorized"].value(), form["agree"].value()) == (True, True)
    assert kinds(case)[-1] == "pin_wrong"


def test_no_pin_and_a_wrong_pin_get_the_same_answer(client, agent):
    answers = []
    for case in (factories.case_awaiting(agent), factories.case_awaiting(agent)):
        if answers:
            history.update_untracked(Account.objects.filter(pk=case.account.pk), pin_hash="")
        opened(client, case)
        tries = [
            client.post("/consent/", typed(case, pin=WRONG, name=case.admin.name)).context["form"].errors
            for _ in range(6)
        ]
        answers.append([re.sub(r"\d+:\d\d", "", error["pin"][0]) for error in tries])
    assert answers[0] == answers[1]


def test_five_wrong_pins_lock_and_say_until_when(client, case):
    opened(client, case)
    for _ in range(5):
        page = client.post("/consent/", typed(case, pin=WRONG))
    case.account.refresh_from_db()
    until = case.account.pin_locked_until
    locked = (
        "The PIN is locked after too many wrong attempts. "
        f"You can try again from {time_of_day(until)}, or contact Support."
    )
    assert page.context["form"].errors == {"pin": [locked]}
    assert client.post("/consent/", typed(case)).context["form"].errors == {"pin": [locked]}
    with time_machine.travel(until + timedelta(seconds=1)):
        assert client.post("/consent/", typed(case)).status_code == 200
    assert kinds(case)[-1] == "pin_verified"


def test_a_pin_that_stays_locked_sends_the_customer_to_support(client, case):
    history.update_untracked(Account.objects.filter(pk=case.account.pk), pin_failures=15)
    assert checked(client, case).context["form"].errors == {
        "pin": ["The PIN is locked after too many wrong attempts. Contact Support: your account needs a new PIN."]
    }


def test_the_pin_is_on_no_page_in_no_email_and_in_no_record(client, case, caplog):
    pages = [checked(client, case, name="")]
    pages.append(client.post("/consent/", typed(case, pin="731946")))
    pages.append(client.post("/consent/", typed(case)))
    answers = hidden(pages[-1], "answers")
    pages.append(client.post("/consent/", {"action": "change", "answers": answers}))
    pages.append(client.post("/consent/", {"action": "agree", "answers": answers}, follow=True))
    said = "".join(page.content.decode() for page in pages) + caplog.text + str(written())
    said += "".join(message.body for message in mail.outbox)
    assert [pin for pin in (PIN, "731946") if re.search(rf"(?<![0-9a-f]){pin}(?![0-9a-f])", said)] == []


@pytest.mark.parametrize(
    "pin",
    [
        f" {PIN[:3]} {PIN[3:]} ",
        f"{PIN[:3]}\u2011{PIN[3:]}",
        f"\u201c{PIN}\u201d",
        f"{PIN}\u200b",
        "٤٨٢٩١٥",
        "４８２９１５",
    ],
)
def test_the_right_pin_costs_no_try_for_its_form(client, case, pin):
    checked(client, case, pin=pin)
    assert (kinds(case)[-1], Account.objects.get(pk=case.account.pk).pin_failures) == ("pin_verified", 0)


# --- Check your answers, and agree ------------------------------------------------------------------------------------


def test_the_answers_are_shown_once_more_and_nothing_is_recorded_yet(client, case):
    page = words(checked(client, case))
    texts = ["Dana Whitfield", "Controller", wording.authorized(case.account), wording.agree(case.link.terms)]
    texts += [wording.AGREE_BUTTON, case.link.terms.text, "2 batches, 2 items, $200.00 in total"]
    assert [text for text in texts if text not in page] == []
    # The terms stand below the answers there.
    assert "above" not in page
    assert Consent.objects.count() == 0


def test_agreeing_records_what_was_shown_and_typed(client, case):
    client.defaults["HTTP_USER_AGENT"] = "A browser"
    shown = shown_text(case.link)
    mail.outbox.clear()
    with factories.delivered():
        page = agreed(client, case)
    consent = Consent.objects.get()
    assert (consent.text, consent.text_sha256) == (shown, sha256(shown))
    assert (consent.decision, consent.signer_name, consent.signer_role) == ("agreed", "Dana Whitfield", "Controller")
    assert (consent.ip, consent.browser, consent.how, consent.link) == ("127.0.0.1", "A browser", "link", case.link)
    assert case.refresh().unlock_request.status == "consented"
    assert page.redirect_chain == [("/consent/receipt/", 302)]
    assert [message.to for message in mail.outbox] == [[case.admin.email]]


def test_the_receipt_says_what_was_recorded(client, case):
    page = words(agreed(client, case))
    consent = Consent.objects.get()
    texts = [consent.reference, consent.text_sha256, "Dana Whitfield, Controller", "version 1", consent.email]
    texts += [moment_with_seconds(consent.given_at), moment(consent.valid_until)]
    texts += [" ".join(consent.text.split())]
    assert [text for text in texts if text not in page] == []
    assert "This was already recorded" not in page


def test_going_back_keeps_name_and_role_and_nothing_else(client, case):
    answers = hidden(checked(client, case), "answers")
    form = client.post("/consent/", {"action": "change", "answers": answers}).context["form"]
    assert {name: form[name].value() for name in form.fields} == {
        "name": "Dana Whitfield",
        "role": "Controller",
        "pin": None,
        "authorized": None,
        "agree": None,
        "leave_out": [],
    }


@pytest.mark.parametrize("answers", ["", "x", "a:b:c", "\x00", "é" * 50, ".eJw:1:2", "x" * 50_000])
def test_answers_that_were_not_signed_here_record_nothing(client, case, answers):
    checked(client, case)
    page = client.post("/consent/", {"action": "agree", "answers": answers})
    assert (page.status_code, page.context["notice"], Consent.objects.count()) == (200, consent.EXPIRED, 0)


def test_answers_of_another_link_record_nothing(client, agent, case):
    other = factories.case_awaiting(agent)
    answers = hidden(checked(client, other, name=other.admin.name), "answers")
    checked(client, case)
    page = client.post("/consent/", {"action": "agree", "answers": answers})
    assert (page.context["notice"], Consent.objects.count()) == (consent.EXPIRED, 0)


def test_answers_for_declining_are_no_agreement(client, case):
    checked(client, case)
    answers = sign_answers(case.link, shown=sha256(shown_text(case.link)))
    page = client.post("/consent/", {"action": "agree", "answers": answers})
    assert (page.context["notice"], Consent.objects.count()) == (consent.EXPIRED, 0)


def test_answers_without_a_verified_pin_is_no_agreement(client, case):
    opened(client, case)
    answers = sign_answers(case.link, name="Dana", role="Owner", another=True, shown=sha256(shown_text(case.link)))
    page = client.post("/consent/", {"action": "agree", "answers": answers})
    assert (page.context["notice"], page.context["form"]["name"].value()) == (consent.EXPIRED, "Dana")
    assert Consent.objects.count() == 0


def test_after_half_an_hour_the_pin_is_asked_again_and_the_name_is_kept(client, case):
    answers = hidden(checked(client, case), "answers")
    with time_machine.travel(timezone.now() + timedelta(minutes=31)):
        page = client.post("/consent/", {"action": "agree", "answers": answers})
    assert (page.context["notice"], page.context["form"]["name"].value()) == (consent.EXPIRED, "Dana Whitfield")
    assert Consent.objects.count() == 0


def change(batch):
    factories.make_item(batch=batch)


def test_a_batch_that_changed_before_the_check_is_shown_again(client, case):
    opened(client, case)
    form = typed(case)
    change(case.batch)
    page = client.post("/consent/", form)
    assert (page.context["notice"], page.context["form"]["name"].value()) == (consent.CHANGED, "Dana Whitfield")
    assert kinds(case)[-1] == "link_opened"


def test_a_batch_that_changed_after_the_check_is_shown_again(client, case):
    answers = hidden(checked(client, case), "answers")
    change(case.batch)
    page = client.post("/consent/", {"action": "agree", "answers": answers})
    assert (page.context["notice"], page.context["form"]["role"].value()) == (consent.CHANGED, "Controller")
    assert Consent.objects.count() == 0
    assert hidden(page, "shown") == sha256(shown_text(case.link))


# --- Leaving batches out, and a request that changed ------------------------------------------------------------------


def left_out(client, case, *boxes):
    return checked(client, case, leave_out=boxes)


def test_what_is_left_out_is_shown_once_more_and_recorded(client, case):
    first, second = case.batches
    page = left_out(client, case, str(second.pk))
    assert [text for text in (first.number, second.number) if text not in words(page)] == []
    assert f"Left out, stay locked 1 batch, 1 item, $100.00 in total: {second.number}." in words(page)
    back = client.post("/consent/", {"action": "change", "answers": hidden(page, "answers")})
    assert re.findall(r'value="(\d+)"\s+form="decide"\s+checked', back.content.decode()) == [str(second.pk)]
    client.post("/consent/", {"action": "agree", "answers": hidden(page, "answers")})
    consent = Consent.objects.get()
    assert (consent.batch_count, consent.text) == (1, page.context["text"])
    assert list(case.unlock_request.lines.order_by("pk").values_list("outcome", flat=True)) == [
        "waiting",
        "not_unlocked",
    ]


def test_what_can_not_be_left_out_is_said_and_spends_no_try(client, agent, case):
    foreign = str(factories.open_case(agent).batch.pk)
    everything = [str(batch.pk) for batch in case.batches]
    every = "You left out every batch, so there is nothing to agree to. Decline instead, or agree to at least one."
    unasked = "Check again which batches to leave out: one is not asked about."
    for boxes, error in ((everything, every), ([foreign], unasked), (["2026-05-02"], unasked), (["x"], unasked)):
        page = left_out(client, case, *boxes)
        assert (page.context["form"].errors, kinds(case)[-1]) == ({"leave_out": [error]}, "link_opened")
        assert page.content.decode().count(error) == 2


def test_above_500_whole_days_are_left_out(client, agent, monkeypatch):
    monkeypatch.setattr("unlocks.customer.forms.MOST_BOXES", 2)
    account = factories.make_account(admin=False)
    factories.make_contact(account=account, name="Dana Whitfield")
    days = ["2026-05-02", "2026-05-02", "2026-05-03"]
    batches = [factories.make_batch(account=account, bypassed_on=one) for one in days]
    case = factories.case_awaiting(agent, batches=batches)
    answers = hidden(left_out(client, case, "2026-05-02"), "answers")
    client.post("/consent/", {"action": "agree", "answers": answers})
    assert list(Consent.objects.get().batches.values_list("batch", flat=True)) == [batches[2].pk]


@pytest.fixture
def long_days(agent, monkeypatch):
    """A case of a day with five batches, which is cut into two parts, and one with three, which is not."""
    monkeypatch.setattr("unlocks.customer.forms.MOST_BOXES", 4)
    monkeypatch.setattr("unlocks.texts.batches.FEW", 1)
    account = factories.make_account(admin=False)
    factories.make_contact(account=account, name="Dana Whitfield")
    numbers = ["B-5", "B-1", "B-4", "B-2", "B-3", "A-9", "C-1", "C-2"]
    days = ["2026-05-02"] * 5 + ["2026-05-03"] * 3
    pairs = zip(numbers, days, strict=True)
    batches = [factories.make_batch(account=account, number=number, bypassed_on=day) for number, day in pairs]
    return factories.case_awaiting(agent, batches=batches), {batch.number: batch.pk for batch in batches}


def test_above_500_parts_of_a_day_are_left_out_by_their_numbers(client, long_days):
    case, pk = long_days
    first, second = f"{pk['B-1']}-{pk['B-3']}", f"{pk['B-4']}-{pk['B-5']}"
    opened(client, case)
    page = client.get("/consent/").content.decode()
    assert re.findall(r'value="([\d-]+)"\s+form="decide"', page) == ["2026-05-02", first, second, "2026-05-03"]
    assert "B-1 to B-3</b> <span>3 batches" in page
    shown = left_out(client, case, second)
    back = client.post("/consent/", {"action": "change", "answers": hidden(shown, "answers")}).content.decode()
    assert re.findall(r'value="([\d-]+)"\s+form="decide"\s+checked', back) == [second]
    assert re.findall(r'<details class="day"( open)?>', back) == [" open"]
    client.post("/consent/", {"action": "agree", "answers": hidden(shown, "answers")})
    agreed = Consent.objects.get().batches.values_list("number", flat=True)
    assert sorted(agreed) == ["A-9", "B-1", "B-2", "B-3", "C-1", "C-2"]


def test_days_and_parts_together_can_not_leave_out_every_batch(client, long_days):
    case, pk = long_days
    first, second = f"{pk['B-1']}-{pk['B-3']}", f"{pk['B-4']}-{pk['B-5']}"
    for boxes in (("2026-05-02", "2026-05-03"), (first, second, "2026-05-03"), ("2026-05-02", second, "2026-05-03")):
        assert list(left_out(client, case, *boxes).context["form"].errors) == ["leave_out"]
    assert left_out(client, case, f"{pk['B-1']}-{pk['B-4']}").context["form"].errors.keys() == {"leave_out"}
    assert Consent.objects.count() == 0


def test_a_part_whose_end_was_taken_out_meanwhile_is_shown_again(client, agent, long_days):
    case, pk = long_days
    answers = hidden(left_out(client, case, f"{pk['B-4']}-{pk['B-5']}"), "answers")
    end = case.rows.filter(number="B-5")
    operations.take_out_batches(case.unlock_request, batches=end, by=factories.acting(agent))
    page = client.post("/consent/", {"action": "agree", "answers": answers})
    assert (page.context["notice"], Consent.objects.count()) == (consent.CHANGED, 0)


def test_the_page_says_what_changed_since_the_link_was_issued(client, agent, case):
    answers = hidden(checked(client, case), "answers")
    new = factories.make_batch(account=case.account)
    by = factories.acting(agent)
    operations.add_batches(case.unlock_request, batches=case.rows.model.objects.filter(pk=new.pk), by=by)
    operations.take_out_batches(case.unlock_request, batches=case.rows.filter(pk=case.batch.pk), by=by)
    page = client.post("/consent/", {"action": "agree", "answers": answers})
    assert (page.context["notice"], Consent.objects.count()) == (consent.CHANGED, 0)
    said = words(page)
    assert f"Changed since the link was issued on {moment(case.link.sent_at)}" in said
    assert f"1 batch added: {new.number}." in said
    assert f"1 batch taken out, and not asked about anymore: {case.batch.number}." in said


def test_the_list_is_a_file_for_whoever_opened_the_form(client, case):
    assert client.get("/consent/batches.csv").status_code == 302
    opened(client, case)
    history.update(case.rows, by=Actor.desk(), name="=HYPERLINK(1)")
    file = client.get("/consent/batches.csv")
    assert file["Content-Disposition"] == f'attachment; filename="{case.unlock_request}-batches.csv"'
    first, second = case.batches
    assert file.content.decode("utf-8-sig").splitlines() == [
        "Batch,Name,Posted on,Bypassed on,Items,Total",
        f"{first.number},'=HYPERLINK(1),2026-05-01,2026-05-02,1,100.00",
        f"{second.number},'=HYPERLINK(1),2026-05-01,2026-05-02,1,100.00",
    ]


# --- Decline ----------------------------------------------------------------------------------------------------------


def test_declining_is_asked_once_more(client, case):
    opened(client, case)
    page = client.post("/consent/", typed(case, action="decline", agree="", pin=""))
    form = page.context["form"]
    assert (form["name"].value(), form["role"].value()) == ("Dana Whitfield", "Controller")
    assert Consent.objects.count() == 0


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "Dana Whitfield", "role": "", "why": ""},
        {"name": "Dana Whitfield", "role": "Owner", "why": "We enter them\r\nby hand."},
    ],
)
def test_declining_needs_a_name_and_no_pin(client, case, fields):
    opened(client, case)
    page = declined(client, case, **fields)
    consent = Consent.objects.get()
    assert (consent.decision, consent.signer_name, consent.signer_role) == ("declined", fields["name"], fields["role"])
    assert (case.refresh().unlock_request.status, case.unlock_request.resolution) == ("closed", "declined")
    assert page.redirect_chain == [("/consent/receipt/", 302)]
    assert "Recorded: you do not agree" in words(page)


def test_a_reason_to_decline_is_judged_like_a_name_but_may_have_lines(client, case):
    opened(client, case)
    page = declined(client, case, why="x" * 2001)
    assert (page.context["form"].errors, Consent.objects.count()) == (
        {"why": ["Ensure this value has at most 2000 characters (it has 2001)."]},
        0,
    )


def test_going_back_from_declining_keeps_name_and_role(client, case):
    opened(client, case)
    page = client.post("/consent/", {"action": "change", "name": "Dana", "role": "Owner", "why": "?"})
    assert page.context["form"].initial == {
        "name": "Dana",
        "role": "Owner",
        "another": False,
        "leave_out": [],
    }


# --- Twice ------------------------------------------------------------------------------------------------------------


def test_agreeing_twice_records_once_and_says_so(client, case):
    answers = hidden(checked(client, case), "answers")
    send = {"action": "agree", "answers": answers}
    # Before the first answer came back, this browser held no receipt: the second click stands on its answers alone.
    cookies = client.cookies.copy()
    client.post("/consent/", send)
    client.cookies = cookies
    page = client.post("/consent/", send, follow=True)
    assert page.redirect_chain == [("/consent/receipt/?again", 302)]
    assert (ALREADY in page.content.decode(), Consent.objects.count()) == (True, 1)


def test_declining_twice_records_once_and_says_so(client, case):
    opened(client, case)
    page = client.post("/consent/", typed(case, action="decline"))
    send = {"action": "confirm_decline", "answers": hidden(page, "answers"), "name": "Dana Whitfield"}
    cookies = client.cookies.copy()
    client.post("/consent/", send)
    client.cookies = cookies
    page = client.post("/consent/", send, follow=True)
    assert (ALREADY in page.content.decode(), Consent.objects.count()) == (True, 1)


@pytest.mark.parametrize("action", ["open", "check", "change", "agree", "decline", "confirm_decline"])
def test_another_tab_of_the_same_browser_gets_the_receipt(client, case, action):
    agreed(client, case)
    for page in (client.post("/consent/", typed(case, action=action), follow=True), enter(client, case)):
        assert page.redirect_chain[-1] == ("/consent/receipt/?again", 302)
    assert Consent.objects.count() == 1


def test_agree_and_decline_in_two_tabs_record_the_first(client, case):
    opened(client, case)
    page = client.post("/consent/", typed(case, action="decline"))
    agreed(client, case)
    client.post("/consent/", {"action": "confirm_decline", "answers": hidden(page, "answers")})
    assert list(Consent.objects.values_list("decision", flat=True)) == ["agreed"]


def turned_away(page):
    return (page.status_code, "This link was already used" in words(page), "receipt" in page.cookies) == (
        410,
        True,
        False,
    )


@pytest.mark.parametrize("action", [*consent.STEPS, ""])
def test_answers_for_declining_open_no_receipt_of_an_agreement(client, case, action):
    opened(client, case)
    answers = hidden(client.post("/consent/", typed(case, action="decline")), "answers")
    agreed(Client(), case)
    assert turned_away(client.post("/consent/", {"action": action, "answers": answers}))
    assert client.get("/consent/receipt/").status_code == 404


@pytest.mark.parametrize("action", [*consent.STEPS, ""])
def test_answers_for_agreeing_open_no_receipt_of_a_refusal(client, case, action):
    answers = hidden(checked(client, case), "answers")
    browser = Client()
    opened(browser, case)
    declined(browser, case)
    assert turned_away(client.post("/consent/", {"action": action, "answers": answers}))
    assert client.get("/consent/receipt/").status_code == 404


def test_what_the_second_step_promises_is_part_of_the_text_that_is_recorded(client, case):
    page = words(checked(client, case))
    recorded = shown_text(case.link)
    lines = [wording.AGREEING_HEADING, *(f"- {sentence}" for sentence in wording.AGREEING)]
    assert "\n".join(["", *lines, "", wording.DECISION_HEADING]) in recorded
    assert [sentence for sentence in wording.AGREEING if sentence not in page] == []
    for subject in ("We record", "electronic signature", "on paper", "withdraw your consent"):
        assert any(subject in sentence for sentence in wording.AGREEING), subject


# --- Somebody else than the contact -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Dana Whitfield", "  dana  WHITFIELD ", "Dána Whitfield", "DanaWhitfield"])
def test_the_contacts_own_name_is_asked_nothing(client, case, name):
    assert "Check your answers" in words(checked(client, case, name=name))


def test_another_name_is_asked_about_once_and_everything_is_kept(client, case):
    page = checked(client, case, name="Alex Moreno")
    form = page.context["form"]
    asked = "The link is addressed to Dana Whitfield. Are you someone else?"
    assert form.errors == {
        "another": [f"{asked} If so, check the box below your name. If not, correct the name."],
    }
    assert {name: form[name].value() for name in ("name", "role", "authorized", "agree")} == {
        "name": "Alex Moreno",
        "role": "Controller",
        "authorized": True,
        "agree": True,
    }
    box = f"I am not Dana Whitfield. I sign as an Admin of {case.account.name}"
    assert box in words(page)
    page = client.post("/consent/", typed(case, name="Alex Moreno", another="on"))
    assert f"You checked {box}" in words(page)
    back = client.post("/consent/", {"action": "change", "answers": hidden(page, "answers")})
    assert back.context["form"]["another"].value() is True
    client.post("/consent/", {"action": "agree", "answers": hidden(page, "answers")})
    given = Consent.objects.get()
    assert (given.signer_name, given.contact_name, given.signed_by_another) == ("Alex Moreno", "Dana Whitfield", True)
    assert given.ticked == [box, wording.authorized(case.account), wording.agree(given.terms)]


def test_who_declines_in_another_name_is_asked_too(client, case):
    opened(client, case)
    page = declined(client, case, name="Alex Moreno")
    assert list(page.context["form"].errors) == ["another"]
    declined(client, case, name="Alex Moreno", another="on")
    given = Consent.objects.get()
    assert (given.signed_by_another, given.ticked) == (
        True,
        [f"I am not Dana Whitfield. I sign as an Admin of {case.account.name}"],
    )


def test_another_name_is_marked_on_every_paper_and_emails_greet_the_contact(client, agent_client, case):
    factories.record_certificate_key()
    page = checked(client, case, name="Alex Moreno", another="on")
    with factories.delivered():
        client.post("/consent/", {"action": "agree", "answers": hidden(page, "answers")})
    given = Consent.objects.get()
    differs = "This is not the name of the contact on file, Dana Whitfield"
    receipt = client.get("/consent/receipt/")
    request_page = words(agent_client.get(case.unlock_request.get_absolute_url()))
    preview = words(agent_client.post(case.unlock_request.get_absolute_url(), {"verb": "unlock"}, follow=True))
    paper = words(client.post("/consent/receipt/certificate/", {"receipt": given.reference}, follow=True))
    assert differs in words(receipt)
    assert (differs in request_page, "Not Dana Whitfield" in request_page) == (True, True)
    assert f"{given.reference}: Alex Moreno, not Dana Whitfield" in preview
    assert "NOT THE CONTACT ON FILE" in paper
    body = mail.outbox[-1].body
    assert body.startswith("Hello Dana Whitfield,")
    assert "Agreed by:    Alex Moreno, Controller\n              (not the name of the contact on file" in body


# --- Links of no use --------------------------------------------------------------------------------------------------


def expire(case):
    link = case.link
    link.expires_at = timezone.now() - timedelta(seconds=1)
    link.save(update_fields=["expires_at"])


def use(case):
    agreed(Client(), case)


def supersede(case):
    operations.send_consent_link(case.unlock_request, contact=case.admin, by=factories.acting(case.agent))


def revoke(case):
    operations.revoke_consent_link(case.unlock_request, by=factories.acting(case.agent))


def close(case):
    operations.close_request(
        case.unlock_request, resolution="canceled", why="Not needed", by=factories.acting(case.agent)
    )


@pytest.mark.parametrize(
    ("end", "heading"),
    [
        (expire, "This link has expired"),
        (use, "This link was already used"),
        (revoke, "This link no longer works"),
        (supersede, "This link no longer works"),
        (close, "This link no longer works"),
    ],
)
def test_a_link_of_no_use_says_so_and_leaks_nothing(client, case, end, heading):
    form = typed(case)
    opened(client, case)
    end(case)
    before = written()
    known = [case.account.name, case.account.number, case.admin.email, case.admin.name, case.unlock_request.reference]
    known += [batch.number for batch in case.batches] + ["Dana Whitfield"]
    for page in (enter(client, case), *(client.post("/consent/", form | {"action": step}) for step in consent.STEPS)):
        assert (page.status_code, heading in words(page)) == (410, True)
        assert [name for name in known if name in words(page)] == []
    assert written() == before


def test_a_link_that_ends_between_check_and_agree_records_nothing(client, case):
    answers = hidden(checked(client, case), "answers")
    revoke(case)
    page = client.post("/consent/", {"action": "agree", "answers": answers})
    assert (page.status_code, Consent.objects.count()) == (410, 0)


def test_a_link_that_ends_while_the_verb_waits_gets_its_own_page(client, case, monkeypatch):
    answers = hidden(checked(client, case), "answers")
    give = operations.give_consent

    def revoked_meanwhile(*args, **kwargs):
        revoke(case)
        return give(*args, **kwargs)

    monkeypatch.setattr(operations, "give_consent", revoked_meanwhile)
    page = client.post("/consent/", {"action": "agree", "answers": answers})
    assert (page.status_code, "This link no longer works" in words(page)) == (410, True)


@pytest.mark.parametrize(
    "token",
    ["x", "x" * 43, "x" * 5000, "é" * 43, "%00" * 30, "..%2f..%2fetc", "<script>alert(1)</script>", "' OR 1=1 --" * 3],
)
@pytest.mark.parametrize("place", ["consent", "receipt"])
def test_an_unknown_token_gets_a_helpful_page(client, db, place, token):
    page = client.get(f"/{place}/{token}/", follow=True)
    assert page.status_code == 404
    assert "<script>" not in page.content.decode()


def test_without_a_cookie_there_is_nothing(client, db):
    answers = [client.get("/consent/"), client.post("/consent/", RIGHT | {"pin": PIN}), client.get("/consent/receipt/")]
    assert [page.status_code for page in [*answers, client.get("/receipt/")]] == [404] * 4


# --- Staff ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("group", ["Agent", "Manager", "Auditor", ""])
@pytest.mark.parametrize("method", ["get", "head", "post", "put", "patch", "delete", "options"])
def test_staff_are_refused_on_every_page_and_that_is_recorded(client, case, group, method):
    opened(client, case)
    user = factories.make_user("somebody", group=group, is_superuser=not group)
    client.force_login(user)
    link, before = case.link, kinds(case)
    pages = [getattr(client, method)(address) for address in (f"/consent/{case.token}/", "/consent/")]
    pages.append(getattr(client, method)("/consent/receipt/"))
    assert [page.status_code for page in pages] == [403] * 3
    assert kinds(case) == before + ["staff_refused"] * 3
    assert set(case.unlock_request.entries.filter(kind="staff_refused").values_list("user", "actor")) == {
        (user.pk, "somebody")
    }
    assert ConsentLink.objects.filter(pk=link.pk).values().get() == {
        name: getattr(link, name) for name in ConsentLink.objects.filter(pk=link.pk).values().get()
    }


@pytest.mark.parametrize("action", [*consent.STEPS, "nonsense"])
def test_staff_can_take_no_step_of_the_decision(client, agent_client, case, action):
    answers = hidden(checked(client, case), "answers")
    agent_client.get(f"/consent/{case.token}/")
    agent_client.cookies["consent"] = client.cookies["consent"].value
    page = agent_client.post("/consent/", typed(case, action=action, answers=answers))
    assert (page.status_code, Consent.objects.count(), kinds(case)[-1]) == (403, 0, "staff_refused")


def test_staff_who_signed_in_while_the_form_was_open_are_refused_and_recorded(agent, case):
    browser = Client(enforce_csrf_checks=True)
    enter(browser, case)
    browser.force_login(agent)
    assert browser.post("/consent/", {"action": "open"}).status_code == 403
    assert kinds(case)[-1] == "staff_refused"


def test_staff_without_a_link_are_refused_without_a_record(agent_client):
    before = LedgerEntry.objects.count()
    pages = [agent_client.get(address) for address in ("/consent/", "/consent/unknown/", "/consent/receipt/")]
    assert ([page.status_code for page in pages], LedgerEntry.objects.count()) == ([403] * 3, before)


def test_a_post_from_another_site_is_refused(case):
    browser = Client(enforce_csrf_checks=True)
    enter(browser, case)
    assert browser.post("/consent/", {"action": "open"}).status_code == 403
    assert not case.link.openings.exists()


# --- Receipts ---------------------------------------------------------------------------------------------------------


def test_the_emailed_link_shows_the_receipt_without_its_token(client, agent):
    case = factories.case_consented(agent)
    response = client.get(f"/receipt/{case.receipt}/")
    cookie = response.cookies["receipt"]
    assert (response.status_code, response["Location"]) == (302, "/receipt/")
    assert (cookie["path"], cookie["httponly"], cookie["samesite"]) == ("/receipt/", True, "Lax")
    page = words(client.get("/receipt/"))
    assert [text for text in (case.consent.reference, case.consent.text_sha256) if text not in page] == []


def test_a_receipt_of_the_email_is_none_of_the_form_and_the_other_way_round(client, agent):
    case = factories.case_consented(agent)
    client.get(f"/receipt/{case.receipt}/")
    client.get(f"/consent/{case.token}/")
    value = client.cookies["receipt"].value
    client.cookies.clear()
    client.cookies["receipt"] = value
    assert client.get("/consent/receipt/").status_code == 404


def test_another_browser_sees_no_receipt(client, agent):
    case = factories.case_consented(agent)
    assert enter(client, case).status_code == 410
    assert client.get("/consent/receipt/").status_code == 404


def test_the_receipt_says_that_a_consent_was_withdrawn_or_ran_out(client, agent):
    case = factories.case_consented(agent)
    client.get(f"/receipt/{case.receipt}/")
    with time_machine.travel(case.consent.valid_until + timedelta(minutes=1)):
        assert [text for text in ("Was valid until", "has expired") if text in words(client.get("/receipt/"))] == [
            "Was valid until",
            "has expired",
        ]
    operations.withdraw_consent(case.consent, why="Changed their mind", by=factories.acting(agent))
    page = words(client.get("/receipt/"))
    assert ("This consent was withdrawn" in page, "Support can unlock the batches" in page) == (True, False)


def test_what_is_not_known_is_said_to_be_so(client, agent):
    case = factories.case_awaiting(agent)
    by = customer(case.admin)
    operations.open_consent_link(case.link, by=by)
    text = shown_text(case.link)
    _, token = operations.decline_consent(case.link, name="Dana Whitfield", role="", why="", shown=text, by=by)
    page = words(client.get(f"/receipt/{token}/", follow=True))
    assert "IP address not recorded Browser not recorded" in page


# --- All of them ------------------------------------------------------------------------------------------------------


def test_every_answer_stays_out_of_caches_and_search_engines(client, agent_client, case):
    check = checked(client, case)
    answers = {"action": "agree", "answers": hidden(check, "answers")}
    pages = [
        client.get(f"/consent/{case.token}/"),
        client.get("/consent/"),
        client.head("/consent/"),
        client.put("/consent/"),
        check,
        client.post("/consent/", answers),
        client.get("/consent/receipt/"),
        Client().get("/consent/x/"),
        Client().get("/receipt/"),
        agent_client.get("/consent/"),
    ]
    kept = {(page["Cache-Control"], page["X-Robots-Tag"], page["Referrer-Policy"]) for page in pages}
    assert kept == {("no-store", "noindex", "same-origin")}


def test_no_page_brings_script_or_style_of_its_own(client, case):
    pages = [enter(client, case), checked(client, case, name=""), client.post("/consent/", typed(case))]
    pages += [client.post("/consent/", typed(case, action="decline")), agreed(client, case)]
    found = [re.findall(r"<script|<style|\sstyle=|\son\w+=", page.content.decode()) for page in pages]
    assert found == [[]] * 5


def test_every_email_has_a_subject_and_its_facts_as_they_are(agent, manager):
    account = factories.make_account(name="O’Hara & <Sons>")
    with factories.delivered():
        given = factories.case_awaiting(agent, account=account)
        factories.deliver()
        factories.agree(given)
        operations.withdraw_consent(given.consent, why="A slip & a click", by=factories.acting(agent))
        operations.issue_pin(account, by=factories.acting(manager))
        asked = factories.case_awaiting(agent, account=account)
        factories.deliver()
        by = Actor.customer(asked.admin)
        operations.open_consent_link(asked.link, by=by)
        text = shown_text(asked.link)
        refused, _ = operations.decline_consent(asked.link, name="Dana Whitfield", role="", why="", shown=text, by=by)
    assert [message.subject for message in mail.outbox] == [
        f"{given.unlock_request.reference}: your decision about unlocking batches",
        f"{given.consent.reference}: receipt for your consent",
        f"{given.consent.reference}: your consent was withdrawn",
        "Your new account PIN",
        f"{asked.unlock_request.reference}: your decision about unlocking batches",
        f"{refused.reference}: we recorded that you do not agree",
    ]
    bodies = [message.body for message in mail.outbox]
    assert ["O’Hara & <Sons>" in body for body in bodies] == [True] * 6
    assert [body.startswith("Hello ") for body in bodies] == [True] * 6
    assert ["{" in body or "&amp;" in body for body in bodies] == [False] * 6
    assert (given.url in bodies[0], f"/receipt/{given.receipt}/" in bodies[1]) == (True, True)


def test_the_labels_are_the_words_of_the_text(case):
    form = DecisionForm(link=case.link, batches=case.batches)
    assert (form.fields["authorized"].label, form.fields["agree"].label) == (
        wording.authorized(case.account),
        wording.agree(case.link.terms),
    )
