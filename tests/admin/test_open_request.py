"""Opening a request: the account, who asks, and batches picked or pasted; each judged before anything is written."""

import re
import uuid
from functools import wraps

import pytest
from django.core.exceptions import ValidationError
from django.db import connection
from django.http import QueryDict
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext
from django.utils.html import escape
from django.utils.http import urlencode

from tests import factories
from unlocks import operations
from unlocks.actors import Actor
from unlocks.admin.forms import base
from unlocks.admin.forms.opening import OpenRequestForm
from unlocks.admin.lists import freeze
from unlocks.models import Batch, LedgerEntry, RequestedBatch, UnlockRequest

ADD = "/desk/unlocks/unlockrequest/add/"


@pytest.fixture
def account(db):
    return factories.make_account(number="4711", name="Northwind Heating")


@pytest.fixture
def admin(account):
    return account.contacts.get()


def form_of(account, selection=None):
    return f"{ADD}?account={account.number}" + (f"&selection={selection.pk}" if selection else "")


def typed(admin, **changes):
    return {
        "requester": admin.pk,
        "channel": "phone",
        "bypass_reason": "by_mistake",
        "reason": "Bypassed while clearing the list.",
        "numbers": "",
        "open": "1",
    } | changes


def nothing_written():
    return (
        UnlockRequest.objects.count(),
        RequestedBatch.objects.count(),
        LedgerEntry.objects.exclude(kind__in=["staff_changed", "imported", "pin_issued"]).count(),
    ) == (0, 0, 0)


def select(user, batches):
    request = RequestFactory().get("/")
    request.user = user
    return freeze(request, Batch.objects.filter(pk__in=[batch.pk for batch in batches]))


# The way to the form


def test_the_account_comes_first(agent_client, account):
    page = agent_client.get(ADD)
    assert "Whose batches?" in page.content.decode()
    page = agent_client.get(ADD, {"account": account.number})
    assert "Open a request for Northwind Heating (4711)" in page.content.decode()


def test_the_account_is_found_without_javascript(agent_client, account):
    other = factories.make_account(name="Blue Ridge")
    page = agent_client.get(ADD, {"q": "north"}).content.decode()
    assert f'href="{form_of(account)}"' in page
    assert f'href="{form_of(other)}"' not in page
    assert "No active account was found for “&lt;x&gt;”." in agent_client.get(ADD, {"q": "<x>"}).content.decode()


@pytest.mark.parametrize("wrong", ["0", "x", "99999999999999999999", "471", "<b>", "SHUT"])
def test_a_wrong_account_is_said(agent_client, account, wrong):
    factories.make_account(active=False, number="SHUT")
    page = agent_client.get(ADD, {"account": wrong})
    assert page.status_code == 200
    assert f"There is no active account with the number “{escape(wrong)}”." in page.content.decode()


def test_the_form_lists_what_is_bypassed_and_free(agent, agent_client, account):
    free = factories.make_batches(account=account, n=3)
    factories.make_batch(account=account, status="exported")
    factories.make_batch()
    factories.open_case(agent, batches=[free[0]])
    boxes = agent_client.get(form_of(account)).context["form"].pickable()
    assert {batch.pk for _, batch in boxes} == {free[1].pk, free[2].pk}


def test_fifty_batches_are_listed_at_most(agent_client, account):
    factories.make_batches(account=account, n=52)
    form = agent_client.get(form_of(account)).context["form"]
    assert len(form.pickable()) == 50
    assert form.more_to_pick


def test_a_selection_fills_in_its_numbers(agent, agent_client, account):
    batches = factories.make_batches(account=account, n=2)
    selection = select(agent, batches)
    response = agent_client.get(ADD, {"selection": selection.pk})
    assert response.status_code == 302
    page = agent_client.get(response.url)
    assert set(page.context["form"].chosen) == set(batches)
    assert "2 batches ticked in the list." in page.content.decode()
    assert "2 can · $" in page.content.decode()


@pytest.mark.parametrize("number", ["INV 2026-11", "12,345", "a;b", "Ünï – code"])
def test_what_was_ticked_is_opened_whatever_its_number(agent, agent_client, account, admin, number):
    for part in ("12", "345", "a", "b", "INV"):
        factories.make_batch(account=account, number=part)
    ticked = factories.make_batch(account=account, number=number)
    listed = {"action": "open_a_request", "_selected_action": [ticked.pk], "select_across": "0", "index": "0"}
    address = agent_client.post("/desk/unlocks/batch/", listed).url
    address = agent_client.get(address).url
    assert agent_client.post(address, typed(admin)).status_code == 302
    assert list(UnlockRequest.objects.get().lines.values_list("batch", flat=True)) == [ticked.pk]


def test_ticked_picked_and_pasted_are_opened_together(agent, agent_client, account, admin):
    ticked, picked, pasted, _ = batches = factories.make_batches(account=account, n=4)
    foreign = factories.make_batch()
    address = form_of(account, select(agent, [ticked, foreign]))
    agent_client.post(address, typed(admin, picked=[picked.pk], numbers=pasted.number))
    assert set(UnlockRequest.objects.get().lines.values_list("batch", flat=True)) == {b.pk for b in batches[:3]}


def test_the_page_of_a_batch_leads_to_a_request_for_it(agent_client, account):
    batch = factories.make_batch(account=account, number="12,345")
    for _ in range(51):
        factories.make_batch(account=account, items=0)
    page = agent_client.get(f"/desk/unlocks/batch/{batch.pk}/change/").content.decode()
    address = re.search(rf'href="({ADD}[^"]*)"', page)[1].replace("&amp;", "&")
    boxes = agent_client.get(address).context["form"].pickable()
    assert [b.pk for box, b in boxes if "checked" in box.tag()] == [batch.pk]


def test_a_selection_of_two_accounts_is_opened_one_by_one(agent, agent_client, account):
    batches = [*factories.make_batches(account=account, n=3), *factories.make_batches(n=2)]
    page = agent_client.get(ADD, {"selection": select(agent, batches).pk}).content.decode()
    assert "of 2 accounts" in page
    assert re.search(rf"account={account.number}&amp;selection=[0-9a-f-]+\">[^<]+</a> <span[^>]*>3 batches<", page)


def test_a_selection_belongs_to_its_maker(second_agent, agent_client, account):
    selection = select(second_agent, factories.make_batches(account=account))
    assert agent_client.get(ADD, {"selection": selection.pk}).status_code == 404
    assert agent_client.get(form_of(account, selection)).status_code == 404
    assert agent_client.get(ADD, {"selection": uuid.uuid4()}).status_code == 404
    assert agent_client.get(ADD, {"selection": "x"}).status_code == 404


def test_only_who_may_open_sees_the_form(auditor_client, agent_client, client, account, admin):
    batch = factories.make_batch(account=account)
    for address in (ADD, form_of(account)):
        assert client.get(address).status_code == 302
        assert auditor_client.get(address).status_code == 403
        assert agent_client.get(address).status_code == 200
    assert auditor_client.post(form_of(account), typed(admin, picked=[batch.pk])).status_code == 403
    assert nothing_written()


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("4711", True),
        ("heat north", True),
        ("HEATING", True),
        ("dana", True),
        ("Whit north", True),
        ("dana@north", True),
        ("(555) 010-1234", True),
        ("1 555 010 1234", True),
        ("eating", False),
        ("heating south", False),
        ("& %", False),
    ],
)
def test_an_account_is_found_while_it_is_typed(agent_client, auditor_client, account, typed, found):
    factories.make_contact(account=account, name="Dana Whitfield", email="dana@north.example", phone="1-555-010-1234")
    factories.make_account(name="Northwind Plumbing", active=False)
    factories.make_account(name="Blue Ridge", number="47")
    answer = agent_client.get("/desk/unlocks/unlockrequest/accounts/", {"q": typed, "ticket": "7"}).json()
    names = [one["name"] for one in answer["accounts"]]
    assert (names, answer["more"]) == (["Northwind Heating (4711)"] if found else [], False)
    assert [one["url"] for one in answer["accounts"]] == [f"{form_of(account)}&ticket=7"] * found
    assert auditor_client.get("/desk/unlocks/unlockrequest/accounts/", {"q": typed}).status_code == 403


def test_what_is_known_is_filled_in(agent, agent_client, account, admin, settings):
    settings.TICKET_SYSTEMS = {"zendesk": "https://desk.example/{}", "jira": "https://jira.example/{}"}
    factories.make_contact(account=account, is_admin=False)
    other = factories.open_case(agent, account=account, channel="chat").unlock_request
    page = agent_client.get(f"{form_of(account)}&ticket=ZD-1234&system=zendesk")
    form = page.context["form"]
    names = ("requester", "channel", "ticket_system", "ticket_number")
    assert [form[name].value() for name in names] == [admin.pk, "chat", "zendesk", "ZD-1234"]
    assert "The account has 1 other open request." in page.content.decode()
    assert f'<a href="{other.get_absolute_url()}">{other}</a>' in page.content.decode()
    assert "No consent link can be sent yet." not in page.content.decode()
    factories.make_contact(account=account)
    assert agent_client.get(form_of(account)).context["form"]["requester"].value() is None


def test_without_a_pin_the_form_says_that_no_link_can_be_sent(agent_client):
    page = agent_client.get(form_of(factories.make_account(pin=""))).content.decode()
    assert "No consent link can be sent yet.</b> No PIN has been issued yet." in page
    assert "Open and email the link" not in page


# Opening


def test_it_is_opened_and_the_link_is_emailed_in_one(agent_client, account, admin, settings):
    settings.TICKET_SYSTEMS = {"zendesk": "https://desk.example/t/{}"}
    batch = factories.make_batch(account=account)
    data = typed(
        admin,
        picked=[batch.pk],
        send="1",
        key=uuid.uuid4(),
        advice="wants_export",
        bypass_reason="other",
        bypass_other="The bookkeeper was told to.",
        ticket_system="zendesk",
        ticket_number=" ZD/1 ",
    )
    del data["open"]
    address = agent_client.post(form_of(account), data).url
    unlock_request = UnlockRequest.objects.get()
    said = f"{unlock_request} is open, for 1 batch. The consent link waits to be sent to {admin.name}"
    page = agent_client.get(address).content.decode()
    assert said in page
    assert '<a href="https://desk.example/t/ZD%2F1" rel="noreferrer">zendesk ZD/1</a>' in page
    assert "Other: The bookkeeper was told to." in page
    assert unlock_request.status == "awaiting_consent"
    assert agent_client.post(form_of(account), data).url == address
    assert (UnlockRequest.objects.count(), unlock_request.links.count()) == (1, 1)


@pytest.mark.parametrize(
    ("field", "changes", "said"),
    [
        ("advice", {}, "Offer the safer route first, and choose what the customer wants to do."),
        ("advice", {"advice": "manual_entry"}, "Then there is nothing to consent to. Open without emailing: the "),
        ("bypass_other", {"bypass_reason": "other"}, "Say what the other reason is."),
        ("bypass_other", {"bypass_other": "Told to."}, "Choose “Other” above, or leave this empty."),
    ],
)
def test_what_is_missing_for_the_link_is_said_beside_it(agent_client, account, admin, field, changes, said):
    data = typed(admin, numbers=factories.make_batch(account=account).number, send="1") | changes
    response = agent_client.post(form_of(account), data)
    assert response.status_code == 422
    assert response.context["form"].errors[field][0].startswith(said)
    assert nothing_written()


def test_entering_by_hand_is_recorded_and_closes_the_request(agent_client, account, admin):
    data = typed(admin, numbers=factories.make_batch(account=account).number, advice="manual_entry")
    page = agent_client.post(form_of(account), data, follow=True).content.decode()
    unlock_request = UnlockRequest.objects.get()
    assert f"{unlock_request} is recorded and closed: the customer enters the items by hand" in page
    assert (unlock_request.status, unlock_request.resolution) == ("closed", "entered_manually")


def test_what_may_be_a_pin_is_asked_about_once(agent_client, account, admin):
    data = typed(admin, numbers=factories.make_batch(account=account).number, reason="The PIN is 4711.")
    response = agent_client.post(form_of(account), data)
    (said,) = response.context["form"].errors["reason"]
    assert said.startswith("Is this a PIN? Leave it out")
    assert nothing_written()
    (asked,) = re.findall(r'name="_asked_reason" value="([0-9a-f]{64})"', response.content.decode())
    other = agent_client.post(form_of(account), data | {"_asked_reason": asked, "reason": "It is 123456."})
    assert list(other.context["form"].errors) == ["reason"]
    assert agent_client.post(form_of(account), data | {"_asked_reason": asked}).status_code == 302


def test_another_reason_that_may_be_a_pin_is_asked_about_once_too(agent_client, account, admin):
    numbers = factories.make_batch(account=account).number
    data = typed(admin, numbers=numbers, bypass_reason="other", bypass_other="PIN 482915")
    response = agent_client.post(form_of(account), data)
    assert [*response.context["form"].errors] == ["bypass_other"]
    assert nothing_written()
    (asked,) = re.findall(r'name="_asked_bypass_other" value="([0-9a-f]{64})"', response.content.decode())
    assert agent_client.post(form_of(account), data | {"_asked_bypass_other": asked}).status_code == 302
    assert UnlockRequest.objects.get().bypass_other == "PIN 482915"


@pytest.mark.parametrize(
    ("written", "asked"),
    [
        ("123456", True),
        ("It is 123456.", True),
        ("pin: 12 34 56", True),
        ("\uff11\uff12\uff13\uff14\uff15\uff16", True),
        ("Batch 20261101-INV", False),
        ("Total $123,456.00", False),
        ("123456.78", False),
        ("Pinned 1 note", False),
        ("The PIN was right", False),
        ("+1 555 0101234", False),
    ],
)
def test_what_is_asked_about(written, asked):
    field = base.text("Note")
    try:
        field.clean(written)
    except ValidationError:
        assert asked
    else:
        assert not asked


def test_a_draft_survives_signing_in_again(agent, agent_client, account, admin):
    operations.set_password(agent, "a-long-trial-password", by=Actor.desk())
    agent_client.logout()
    login = {"login": "agent", "password": "a-long-trial-password"}
    agent_client.post("/staff/sign-in/", login)
    agent_client.get("/desk/")
    del agent_client.cookies["sessionid"]
    batch = factories.make_batch(account=account)
    data = typed(admin, picked=[batch.pk], advice="wants_export", send="1", key=uuid.uuid4())
    page = agent_client.post(form_of(account), data).content.decode()
    kept = re.search(r'name="typed" value="([^"]+)"', page)[1]
    page = agent_client.post("/staff/sign-in/", login | {"typed": kept}).content.decode()
    form = re.search(r'<form method="post" action="([^"]+)"[^>]*>(.*?)</form>', page.split("<main")[1], re.DOTALL)
    fields = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', form[2]))
    assert form[1] == form_of(account)
    agent_client.post(form[1], fields)
    assert UnlockRequest.objects.get().status == "awaiting_consent"


def test_picked_and_pasted_batches_are_opened(agent, agent_client, account, admin):
    first, second, third = factories.make_batches(account=account, n=3)
    numbers = f"{second.number};{third.number}, {second.number}"
    response = agent_client.post(form_of(account), typed(admin, picked=[first.pk], numbers=numbers))
    unlock_request = UnlockRequest.objects.get()
    assert response.url == unlock_request.get_absolute_url()
    assert set(unlock_request.lines.values_list("batch", flat=True)) == {first.pk, second.pk, third.pk}
    assert (unlock_request.account, unlock_request.requester, unlock_request.assignee, unlock_request.channel) == (
        account,
        admin,
        agent,
        "phone",
    )
    assert f"{unlock_request} is open, for 3 batches." in agent_client.get(response.url).content.decode()


def chosen(account, pasted):
    form = OpenRequestForm(QueryDict(urlencode({"numbers": pasted})), account=account, only_batches=True)
    form.is_valid()
    return sorted(form.chosen.values_list("number", flat=True)), form.errors.get("numbers", [])


@pytest.mark.parametrize(
    ("pasted", "numbers"),
    [
        ("INV 2026-11", ["INV 2026-11"]),
        ("inv 2026-11\r\n000123", ["000123", "INV 2026-11"]),
        ("INV 2026-11; 000123", ["000123", "INV 2026-11"]),
        ("\u200b20261104-INV\t000123", ["000123", "20261104-INV"]),
        ("20261104\u2011INV", ["20261104-INV"]),
        ("20261104\u2013INV", ["20261104-INV"]),
        ('"20261104-INV","000123"', ["000123", "20261104-INV"]),
        ("\u201c20261104-INV\u201d", ["20261104-INV"]),
        ("20261104-inv 000123", ["000123", "20261104-INV"]),
        ("mixed-case", ["Mixed-casE"]),
        ("100,200", ["100", "200"]),
    ],
)
def test_what_is_pasted_is_found_whatever_it_was_copied_from(account, pasted, numbers):
    for number in ("INV 2026-11", "000123", "20261104-INV", "Mixed-casE", "100", "200", "INV"):
        factories.make_batch(account=account, number=number, items=0)
    assert chosen(account, pasted) == (numbers, [])


@pytest.mark.parametrize("pasted", ["12,345", "7; 12,345", "7,12,345", "\u200b12,345\n7"])
def test_a_comma_that_may_part_one_number_is_asked_about(account, pasted):
    for number in ("12", "345", "12345", "7"):
        factories.make_batch(account=account, number=number, items=0)
    assert chosen(account, pasted)[1] == [
        "“12,345” may be the batch 12345, or several: 12, 345. Write 12345, or each on a line of its own."
    ]
    assert chosen(account, "12\n345") == (["12", "345"], [])
    assert chosen(account, "12345") == (["12345"], [])


@pytest.mark.parametrize(
    ("pasted", "meant"),
    [("123", "000123"), ("00000123", "000123"), ("ab", "AB or aB"), ("124", "")],
)
def test_an_unknown_number_is_answered_with_the_nearest(account, pasted, meant):
    for number in ("000123", "AB", "aB"):
        factories.make_batch(account=account, number=number, items=0)
    also = f" (did you mean {meant}?)" if meant else ""
    assert chosen(account, pasted) == ([], [f"{account} has no batch with this number: {pasted}{also}."])


@pytest.mark.parametrize(
    ("pasted", "numbers"),
    [
        ("B\u20131", ["B\u20131"]),
        ("b-1", ["B\u20131"]),
        ("B\u20111; O'Hara 7", ["B\u20131", "O\u2019Hara 7"]),
        ("A\u201312", ["A\u201312"]),
        ("A-12", ["A-12"]),
        ("A-12, A\u201312", ["A-12", "A\u201312"]),
        ("\u201cA-12\u201d; \u2018A\u201312\u2019", ["A-12", "A\u201312"]),
        ("\u00abA-12\u00bb", ["A-12"]),
        ("A-12\u200b", ["A-12"]),
        ("A\u201412", ["A-12"]),
    ],
)
def test_numbers_that_differ_by_a_dash_or_a_quote(account, pasted, numbers):
    for number in ("B\u20131", "O\u2019Hara 7", "A\u201312", "A-12"):
        factories.make_batch(account=account, number=number, items=0)
    assert chosen(account, pasted) == (numbers, [])


def test_a_number_that_may_be_one_of_two_is_asked_about(account):
    for number in ("A\u201312", "A-12"):
        factories.make_batch(account=account, number=number, items=0)
    said = f"{account} has no batch with this number: a-12 (did you mean A-12 or A\u201312?)."
    assert chosen(account, "a-12") == ([], [said])


def test_a_text_that_is_too_long_is_not_read(account):
    said = "Ensure this value has at most 500000 characters (it has 600000)."
    assert chosen(account, "1," * 300_000) == ([], [said])


def test_five_hundred_pasted_numbers(agent_client, account, admin):
    batches = factories.make_batches(account=account, n=500, items=0)
    separators = [",", ";", " ", "\n", "\t", "\r\n", " , "]
    pasted = "".join(batch.number + separators[place % len(separators)] for place, batch in enumerate(batches))
    agent_client.post(form_of(account), typed(admin, numbers=pasted))
    assert UnlockRequest.objects.get().lines.count() == 500


def test_checking_judges_and_writes_nothing(agent, agent_client, account):
    good, exported, posted = (
        factories.make_batch(account=account, status=status) for status in ("bypassed", "exported", "posted")
    )
    numbers = " ".join(batch.number for batch in (good, exported, posted))
    response = agent_client.post(form_of(account), {"numbers": numbers, "check": "1"})
    page = response.content.decode()
    assert response.status_code == 200
    assert escape("Exported on May 3, 2026. Support can't unlock exported batches.") in page
    assert "Posted, not bypassed. The customer can unpost it without Support." in page
    assert "Can be unlocked" in page
    assert "Leave out 2, open and email the link" in page
    assert nothing_written()


def test_checking_keeps_what_was_typed(agent_client, account, admin):
    batch = factories.make_batch(account=account)
    page = agent_client.post(
        form_of(account), typed(admin, picked=[batch.pk], numbers="", check="1", reason="Half a reas")
    ).content.decode()
    assert "Half a reas</textarea>" in page
    assert re.search(rf'value="{batch.pk}"[^>]* checked', page)


def test_what_cannot_be_unlocked_is_left_out_in_one_click(agent_client, account, admin):
    good, exported = (factories.make_batch(account=account, status=status) for status in ("bypassed", "exported"))
    numbers = f"{good.number} {exported.number}"
    response = agent_client.post(form_of(account), typed(admin, numbers=numbers))
    assert response.status_code == 422
    assert escape("1 batch can't be unlocked. See below.") in response.content.decode()
    assert nothing_written()
    data = typed(admin, numbers=numbers, leave_out="1")
    del data["open"]
    agent_client.post(form_of(account), data)
    assert list(UnlockRequest.objects.get().lines.values_list("batch", flat=True)) == [good.pk]


def test_no_more_is_left_out_than_was_shown(agent_client, account, admin):
    good, exported, pending = (
        factories.make_batch(account=account, status=status) for status in ("bypassed", "exported", "pending")
    )
    numbers = f"{good.number} {exported.number} {pending.number}"
    response = agent_client.post(form_of(account), typed(admin, numbers=numbers, leave_out="1"))
    assert response.status_code == 422
    assert nothing_written()


def test_unknown_numbers_are_listed_back(agent_client, account, admin):
    batch, foreign = factories.make_batch(account=account), factories.make_batch()
    response = agent_client.post(
        form_of(account), typed(admin, numbers=f"{batch.number}, NO-SUCH <b>, {foreign.number}")
    )
    assert response.status_code == 422
    assert list(response.context["form"].errors["numbers"]) == [
        f"Northwind Heating (4711) has no batches with these 3 numbers: NO-SUCH, <b>, {foreign.number}."
    ]
    assert "<b>, " not in response.content.decode()
    assert nothing_written()


def test_unknown_numbers_are_left_out_in_one_click(agent_client, account, admin):
    batch = factories.make_batch(account=account)
    data = typed(admin, numbers=f"NO-1 {batch.number}\nNO-2", reason="Half a reas")
    page = agent_client.post(form_of(account), data).content.decode()
    (digest,) = re.findall(r'name="without" value="([0-9a-f]{64})">Leave out the 2 unknown numbers<', page)
    others = agent_client.post(form_of(account), data | {"numbers": f"NO-1 {batch.number} NO-3", "without": digest})
    assert list(others.context["form"].errors) == ["numbers"]
    page = agent_client.post(form_of(account), data | {"without": digest}).content.decode()
    assert f">\n{batch.number}</textarea>" in page
    assert "Half a reas</textarea>" in page
    assert "1 can · $" in page
    assert nothing_written()


def test_a_batch_in_another_open_request_names_it(agent, agent_client, account, admin):
    taken, free = factories.make_batches(account=account, n=2)
    other = factories.open_case(agent, batches=[taken]).unlock_request
    page = agent_client.post(
        form_of(account), typed(admin, numbers=f"{taken.number} {free.number}", check="1")
    ).content.decode()
    assert f"Already in {other}, which is still open." in page
    assert f'href="{other.get_absolute_url()}"' in page


def test_the_second_submit_says_what_already_happened(agent_client, account, admin):
    batches = factories.make_batches(account=account, n=2)
    data = typed(admin, picked=[batch.pk for batch in batches])
    assert agent_client.post(form_of(account), data).status_code == 302
    response = agent_client.post(form_of(account), data)
    unlock_request = UnlockRequest.objects.get()
    page = response.content.decode()
    assert response.status_code == 422
    assert f"These 2 batches are in {unlock_request} already." in page
    assert "You opened it" in page
    assert f'href="{unlock_request.get_absolute_url()}">Go to {unlock_request}' in page


def test_a_form_that_is_sent_twice_opens_one_request(agent_client, account, admin):
    batches = factories.make_batches(account=account, n=2)
    page = agent_client.get(form_of(account))
    data = typed(admin, picked=[batch.pk for batch in batches], key=str(page.context["form"]["key"].value()))
    answers = [agent_client.post(form_of(account), data) for _ in range(2)]
    unlock_request = UnlockRequest.objects.get()
    assert [answer.status_code for answer in answers] == [302, 302]
    assert {answer.url for answer in answers} == {unlock_request.get_absolute_url()}
    assert 'name="key"' in page.content.decode()


def test_who_is_no_admin_is_refused_by_name_of_who_could(agent_client, account, admin):
    office = factories.make_contact(account=account, is_admin=False, name="Front Desk")
    batch = factories.make_batch(account=account)
    response = agent_client.post(form_of(account), typed(office, picked=[batch.pk]))
    assert response.status_code == 422
    (error,) = response.context["form"].errors["requester"]
    assert error == f"Front Desk is not an Admin of the account. Ask {admin.name}, or have one of them join the call."
    assert nothing_written()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("requester", ""),
        ("requester", "0"),
        ("requester", "x"),
        ("channel", "pigeon"),
        ("bypass_reason", ""),
        ("reason", "   "),
        ("reason", "x" * 2001),
        ("reason", "a\0b"),
        ("numbers", ""),
        ("numbers", ", ;\n"),
        ("numbers", "a\0b"),
        ("numbers", " ".join(str(number) for number in range(10_001))),
    ],
)
def test_wrong_values_are_said_beside_their_field(agent_client, account, admin, field, value):
    batch = factories.make_batch(account=account)
    data = typed(admin, numbers=batch.number) | {field: value}
    response = agent_client.post(form_of(account), data)
    assert response.status_code == 422
    assert field in response.context["form"].errors
    assert nothing_written()


@pytest.mark.parametrize("picked", ["x", "0", "-1", "9" * 18, "9" * 40, "1 OR 1=1"])
def test_hostile_picks_open_nothing(agent_client, account, admin, picked):
    response = agent_client.post(form_of(account), typed(admin, picked=[picked]))
    assert response.status_code == 422
    assert nothing_written()


def test_a_batch_of_another_account_is_not_opened(agent_client, account, admin):
    foreign = factories.make_batch()
    response = agent_client.post(form_of(account), typed(admin, picked=[foreign.pk]))
    assert response.status_code == 422
    assert nothing_written()


def test_two_people_open_the_same_batch_at_once(monkeypatch, second_agent, agent_client, account, admin):
    batch = factories.make_batch(account=account)
    really = operations.open_and_send

    @wraps(really)
    def after_somebody_else(**kwargs):
        monkeypatch.setattr(operations, "open_and_send", really)
        factories.open_case(second_agent, batches=[batch])
        return really(**kwargs)

    monkeypatch.setattr(operations, "open_and_send", after_somebody_else)
    response = agent_client.post(form_of(account), typed(admin, picked=[batch.pk]))
    assert response.status_code == 422
    assert "This batch is in UR-" in response.content.decode()
    assert UnlockRequest.objects.count() == 1


def test_the_form_costs_the_same_for_one_batch_and_for_thirty(agent_client, django_assert_num_queries):
    def cost(n):
        account = factories.make_account()
        batches = factories.make_batches(account=account, n=n)
        exported = [factories.make_batch(account=account, status="exported") for _ in range(n)]
        numbers = " ".join(batch.number for batch in batches + exported)
        return form_of(account), {"numbers": numbers, "check": "1"}

    small, large = cost(1), cost(30)
    agent_client.get(small[0])
    with CaptureQueriesContext(connection) as counted:
        agent_client.get(small[0])
        agent_client.post(*small)
    with django_assert_num_queries(len(counted)):
        agent_client.get(large[0])
        agent_client.post(*large)


def test_a_batch_whose_period_is_closed_says_so_before_it_is_ticked(agent_client, account):
    factories.make_batch(account=account, number="SHUT", period_closed=True)
    factories.make_batch(account=account, number="OPEN")
    page = agent_client.get(form_of(account)).content.decode()
    hints = {
        row.split("</label>")[0].rsplit(" ", 1)[-1].strip(): "Period closed: can't be unlocked" in row
        for row in page.split("<tr>")
        if "checkbox" in row
    }
    assert hints == {"SHUT": True, "OPEN": False}
