"""Withdrawing a consent on the receipt, and what else the receipt is for: both receipts, each state, nobody else."""

import json
import re
from copy import deepcopy
from datetime import UTC, timedelta
from html import unescape
from zoneinfo import ZoneInfo

import pytest
import time_machine
from django.conf import settings
from django.core import mail
from django.test import Client
from django.utils import timezone

from tests import factories
from tests.attacks import difference, snapshot
from tests.customer.test_consent import words
from tests.factories import acting
from unlocks import history, operations
from unlocks.actors import Actor
from unlocks.certificates import batch_list
from unlocks.customer import access
from unlocks.ledger import events
from unlocks.models import Certificate, Consent, ConsentWithdrawal
from unlocks.texts.formats import day, moment, moment_with_seconds
from unlocks.texts.shown import shown_text

BOTH = ["/receipt/", "/consent/receipt/"]


@pytest.fixture(scope="module")
def scene(shared):
    factories.record_certificate_key()
    return factories.case_consented(factories.make_user("agent", group="Agent"))


@pytest.fixture
def case(db, scene):
    return deepcopy(scene)


@pytest.fixture
def agent(case):
    return case.agent


def hold(client, case, place="/receipt/"):
    """Let a browser hold the receipt of a case: by the emailed link, or as it does that just decided."""
    if place == "/receipt/":
        client.get(f"/receipt/{case.receipt}/")
        return client
    keep = Client()
    response = keep.get(f"/receipt/{case.receipt}/")
    access.set_cookie(response, access.RECEIPT_COOKIE, case.consent.pk, "consent")
    client.cookies["receipt"] = response.cookies["receipt"].value
    return client


def pressed(case, why=""):
    """Return what the buttons of a receipt send: of which receipt they are, and why if that is asked."""
    return {"receipt": case.consent.reference, "why": why}


def kinds(case):
    return list(case.unlock_request.entries.order_by("sequence").values_list("kind", flat=True))


def heading(page):
    return re.search(r"<h1>(.*?)</h1>", page.content.decode())[1]


def said(page):
    """Return the list items and facts of a page, as read."""
    found = re.findall(r"<(li|dd)\b[^>]*>(.*?)</\1>", page.content.decode(), re.DOTALL)
    return [" ".join(unescape(re.sub(r"<[^>]+>", "", text)).split()) for _, text in found]


def outcomes(page):
    """Return what a receipt says became of each batch."""
    cells = re.findall(r'<td[^>]*class="now">(.*?)</td>', page.content.decode(), re.DOTALL)
    return [" ".join(unescape(re.sub(r"<[^>]+>", " ", cell)).split()) for cell in cells]


def now(page):
    """Return what a receipt says how the batches stand right now, by its labels."""
    html = page.content.decode()
    part = html[html.index('<h2 id="batches">') :]
    found = re.findall(r"<dt>(.*?)</dt>\s*<dd>(.*?)</dd>", part[: part.index("</dl>")], re.DOTALL)
    return {label: " ".join(unescape(re.sub(r"<[^>]+>", "", text)).split()) for label, text in found}


def next_steps(page):
    """Return what a receipt says happens next."""
    html = page.content.decode()
    part = html[html.index('<h2 id="next">') :]
    found = re.findall(r"<li>(.*?)</li>", part[: part.index("</ul>")], re.DOTALL)
    return [" ".join(unescape(re.sub(r"<[^>]+>", " ", text)).split()) for text in found]


# --- Withdrawing ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", BOTH)
def test_before_the_unlock_nothing_can_be_unlocked_any_more(client, case, place):
    hold(client, case, place)
    page = client.get(f"{place}withdraw/")
    assert (page.status_code, heading(page), said(page)) == (
        200,
        "Withdraw this consent?",
        [
            "Stays locked: 2 batches, not unlocked yet. Nothing more may be unlocked with this consent.",
            f"Request {case.unlock_request.reference} is closed. You can ask Support for a new one at any time.",
            f"Your consent and its withdrawal both stay on record. A confirmation goes by email to {case.admin.email}.",
        ],
    )
    answer = client.post(f"{place}withdraw/", pressed(case), follow=True)
    assert (answer.redirect_chain, heading(answer)) == ([(place, 302)], "This consent was withdrawn")
    withdrawal = ConsentWithdrawal.objects.get()
    assert (withdrawal.consent, withdrawal.by, withdrawal.actor, withdrawal.why) == (
        case.consent,
        None,
        f"Receipt for {case.admin.name}",
        "",
    )
    assert (case.refresh().unlock_request.status, case.unlock_request.resolution) == ("closed", "withdrawn")
    assert kinds(case)[-2:] == ["withdrawn", "closed"]
    assert set(factories.unlock(case.rows, by=acting(case.agent)).verdicts.values_list("refusal", flat=True)) == {
        "not_requested"
    }


ONCE_LOCKED = "is closed once nothing of it is unlocked anymore. You can ask Support for a new one at any time."


def test_after_the_unlock_what_is_unlocked_is_relocked_and_what_was_exported_stays(client, agent):
    case = factories.case_unlocked(agent, batches=factories.make_batches(n=3))
    operations.mark_re_exported(case.rows.filter(pk=case.batch.pk), by=acting(agent))
    hold(client, case)
    assert said(client.get("/receipt/withdraw/"))[:3] == [
        "Relocked: 2 batches, unlocked right now. ServiceTitan is asked to do it at once. From then on, do not edit or "
        "export what is in there.",
        "Stays exported: 1 batch. What was exported stays in your books. "
        "Withdrawing removes nothing from your accounting software.",
        f"Request {case.unlock_request.reference} {ONCE_LOCKED}",
    ]
    client.defaults["HTTP_USER_AGENT"] = "A phone"
    client.post("/receipt/withdraw/", pressed(case, why="  Entered by hand\r\nafter all. "))
    assert [batch.status for batch in case.refresh().batches] == ["exported", "relocking", "relocking"]
    assert ConsentWithdrawal.objects.get().why == "Entered by hand\nafter all."
    relocking = client.get("/receipt/")
    assert said(relocking)[2:6] == [
        "Entered by hand after all.",
        "Being relocked: 2 batches. This page shows when it is done. Please do not edit or export what is in there.",
        "Exported, stays exported and in your books: 1 batch",
        f"Request {case.unlock_request.reference} {ONCE_LOCKED}",
    ]
    assert outcomes(relocking) == ["Exported", "Being relocked", "Being relocked"]
    assert ("Relocked" in words(relocking), "Withdraw this consent" in words(relocking)) == (False, False)
    factories.carry_out()
    relocked = client.get("/receipt/")
    assert said(relocked)[3:6] == [
        "Relocked: 2 batches",
        "Exported, stays exported and in your books: 1 batch",
        f"Request {case.unlock_request.reference} is closed. You can ask Support for a new one at any time.",
    ]
    assert outcomes(relocked) == ["Exported", "Relocked", "Relocked"]


def test_during_the_unlock_what_can_be_is_stopped_and_the_rest_is_relocked(client, agent):
    case = factories.case_unlocking(agent, batches=factories.make_batches(n=3))
    sent = factories.hand_over()
    factories.answer(sent[:1], "accepted")
    factories.answer(sent[1:2], "refused", "Exported meanwhile")
    factories.answer(sent[2:], "not_handed_over")  # it waits to be handed over again
    hold(client, case)
    assert said(client.get("/receipt/withdraw/"))[:2] == [
        "Stopped, or relocked: 2 batches, being unlocked right now. What ServiceTitan was not asked to unlock yet "
        "stays locked. It is asked to relock the rest.",
        f"Request {case.unlock_request.reference} {ONCE_LOCKED}",
    ]
    client.post("/receipt/withdraw/", pressed(case))
    page = client.get("/receipt/")
    assert outcomes(page) == ["Being relocked", "Could not be unlocked Exported meanwhile", "Never unlocked"]
    assert said(page)[3:6] == [
        "Being relocked: 1 batch. This page shows when it is done. Please do not edit or export what is in there.",
        "Never unlocked, stays locked: 1 batch",
        "Could not be unlocked: 1 batch",
    ]


def test_what_is_being_relocked_already_can_still_be_withdrawn(client, agent, manager):
    case = factories.case_unlocked(agent)
    operations.relock(case.rows, why="Asked for", by=acting(manager))
    hold(client, case)
    assert said(client.get("/receipt/withdraw/"))[:2] == [
        "Being relocked already: 2 batches.",
        f"Request {case.unlock_request.reference} {ONCE_LOCKED}",
    ]
    client.post("/receipt/withdraw/", pressed(case))
    assert case.refresh().unlock_request.status == "unlocked"
    factories.carry_out()
    assert case.refresh().unlock_request.resolution == "withdrawn"


def test_the_email_about_it_goes_to_the_contact(client, case):
    hold(client, case)
    mail.outbox.clear()
    with factories.delivered():
        client.post("/receipt/withdraw/", pressed(case))
    assert [(message.to, message.subject) for message in mail.outbox] == [
        ([case.admin.email], f"{case.consent.reference}: your consent was withdrawn")
    ]
    assert "Reason:       none given" in mail.outbox[0].body


@pytest.mark.parametrize("method", ["get", "head", "options", "put", "patch", "delete"])
@pytest.mark.parametrize("place", BOTH)
def test_nothing_but_a_post_withdraws_anything_or_issues_anything(client, case, place, method):
    hold(client, case, place)
    before = snapshot()
    for page in ("", "withdraw/", "certificate/"):
        getattr(client, method)(place + page)
    assert difference(before, snapshot()) == []
    number = operations.issue_certificate(case.consent, by=factories.customer(case.admin)).number
    before = snapshot()
    for page in ("certificate/", "certificate/1/", f"certificate/1/{number}.pdf"):
        getattr(client, method)(place + page)
    assert difference(before, snapshot()) == []


@pytest.mark.parametrize("place", BOTH)
def test_a_post_from_another_site_withdraws_nothing(case, place):
    browser = hold(Client(enforce_csrf_checks=True), case, place)
    pages = [browser.post(f"{place}{page}", {"why": ""}) for page in ("withdraw/", "certificate/")]
    assert [page.status_code for page in pages] == [403, 403]
    assert (ConsentWithdrawal.objects.count(), Certificate.objects.count()) == (0, 0)


@pytest.mark.parametrize(
    ("why", "error"),
    [
        ("x" * 2001, "Ensure this value has at most 2000 characters (it has 2001)."),
        ("Not \u202eme", "This holds characters that can't be seen. Type it instead of pasting it."),
        ("\x00", "This holds characters that can't be seen. Type it instead of pasting it."),
        ("...", "Use at least one letter."),
    ],
)
def test_a_reason_that_can_t_be_kept_is_asked_again_and_nothing_is_withdrawn(client, case, why, error):
    hold(client, case)
    page = client.post("/receipt/withdraw/", pressed(case, why=why))
    assert (page.status_code, page.context["form"].errors) == (200, {"why": [error]})
    assert ConsentWithdrawal.objects.count() == 0


def test_a_reason_is_shown_as_text(client, case):
    hold(client, case)
    client.post("/receipt/withdraw/", pressed(case, why="<script>alert(1)</script> {{ x }}"))
    page = client.get("/receipt/").content.decode()
    assert ("<script" in page, "&lt;script&gt;alert(1)&lt;/script&gt; {{ x }}" in page) == (False, True)


# --- Nothing to withdraw ---------------------------------------------------------------------------------------------


def declined(agent):
    case = factories.case_awaiting(agent)
    by = factories.customer(case.admin)
    operations.open_consent_link(case.link, by=by)
    text = shown_text(case.link)
    case.consent, case.receipt = operations.decline_consent(
        case.link, name="Dana Whitfield", role="", why="", shown=text, by=by
    )
    return case


def withdrawn_by_staff(agent):
    case = factories.case_consented(agent)
    operations.withdraw_consent(case.consent, why="On the phone", by=acting(agent))
    return case


def withdrawn_and_relocking(agent):
    case = factories.case_unlocked(agent)
    operations.withdraw_own_consent(case.consent, why="", by=factories.customer(case.admin))
    return case


def withdrawn_by_the_customer(agent):
    case = withdrawn_and_relocking(agent)
    factories.carry_out()
    return case.refresh()


def refused_and_open(agent):
    case = factories.case_unlocking(agent)
    factories.carry_out(refuse="Exported meanwhile")
    return case


def exported(agent):
    case = factories.case_unlocked(agent)
    operations.mark_re_exported(case.rows, by=acting(agent))
    return case


def canceled(agent):
    case = factories.case_consented(agent)
    operations.close_request(case.unlock_request, resolution="canceled", why="Not needed", by=acting(agent))
    return case


@pytest.mark.parametrize(
    ("make", "texts"),
    [
        (declined, ["There is nothing to withdraw", "records that you do not agree"]),
        (
            withdrawn_by_staff,
            ["This consent was already withdrawn", "by ServiceTitan Support, who recorded that you asked for it"],
        ),
        (
            withdrawn_and_relocking,
            ["This consent was already withdrawn", "Being relocked: 2 batches. Nothing more may be unlocked with it."],
        ),
        (withdrawn_by_the_customer, ["This consent was already withdrawn", "Nothing is unlocked with it"]),
        (refused_and_open, ["There is nothing left to withdraw", "or could not be unlocked."]),
        (exported, ["The request is closed", "batches were exported.", "Exported: 2 batches."]),
        (canceled, ["The request is closed", "it was canceled."]),
    ],
)
def test_where_there_is_nothing_to_withdraw_it_says_why(agent, make, texts):
    case = make(agent)
    for place in BOTH:
        client = hold(Client(), case, place)
        before = snapshot()
        page = client.get(f"{place}withdraw/")
        assert (page.status_code, [text for text in texts if text not in words(page)]) == (409, []), place
        assert "withdraw/" not in client.get(place).content.decode()
        answer = client.post(f"{place}withdraw/", pressed(case, why="?"), follow=True)
        if make in (withdrawn_by_staff, withdrawn_and_relocking, withdrawn_by_the_customer):
            assert answer.redirect_chain == [(f"{place}?again", 302)]
            assert "This consent was already withdrawn" in words(answer)
        else:
            assert (answer.status_code, [text for text in texts if text not in words(answer)]) == (409, []), place
        assert difference(before, snapshot()) == [], place


def test_a_second_click_changes_nothing_and_says_so(client, case):
    hold(client, case)
    client.post("/receipt/withdraw/", pressed(case, why="First"))
    before = snapshot()
    page = client.post("/receipt/withdraw/", pressed(case, why="Second"), follow=True)
    assert (page.redirect_chain, difference(before, snapshot())) == ([("/receipt/?again", 302)], [])
    assert "This consent was already withdrawn" in words(page)


def test_an_earlier_consent_of_the_request_withdraws_the_later_one_too_and_says_so_first(client, agent):
    case = factories.case_consented(agent)
    first, receipt = case.consent, case.receipt
    url = operations.send_consent_link(case.unlock_request, contact=case.admin, by=acting(agent)).url
    by = factories.customer(case.admin)
    operations.open_consent_link(case.link, by=by)
    link = case.link
    operations.verify_customer_pin(link, pin=factories.PIN, by=by)
    second, _ = operations.give_consent(link, name="Dana", role="Owner", shown=shown_text(link), by=by)
    assert url
    client.get(f"/receipt/{receipt}/")
    assert "Under a later consent" in words(client.get("/receipt/"))
    page = words(client.get("/receipt/withdraw/"))
    assert f"{second.reference} of" in page
    client.post("/receipt/withdraw/", pressed(case))
    assert set(ConsentWithdrawal.objects.values_list("consent", flat=True)) == {first.pk, second.pk}


@pytest.mark.parametrize("page", ["withdraw/", "certificate/1/", "certificate/1/CN-000001-1.pdf"])
@pytest.mark.parametrize("place", BOTH)
def test_without_a_receipt_there_is_nothing(client, db, place, page):
    assert (client.get(place + page).status_code, heading(client.get(place + page))) == (404, "Receipt not found")
    assert [client.post(place + one).status_code for one in ("withdraw/", "certificate/")] == [404, 404]


def test_a_receipt_opens_nothing_of_another_consent(client, agent, case):
    other = factories.case_consented(agent)
    issued = operations.issue_certificate(other.consent, by=factories.customer(other.admin))
    hold(client, case)
    assert [client.get(f"/receipt/certificate/1/{name}").status_code for name in ("", f"{issued.number}.pdf")] == [
        404
    ] * 2
    client.post("/receipt/withdraw/", pressed(case))
    assert list(ConsentWithdrawal.objects.values_list("consent", flat=True)) == [case.consent.pk]


# --- Staff ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", BOTH)
@pytest.mark.parametrize("method", ["get", "head", "post", "put", "delete", "options"])
def test_staff_can_t_stand_on_the_page_that_withdraws_it(client, manager, case, place, method):
    hold(client, case, place)
    client.force_login(manager)
    before = kinds(case)
    assert getattr(client, method)(f"{place}withdraw/").status_code == 403
    assert kinds(case) == [*before, "staff_refused"]
    event = case.unlock_request.entries.get(kind="staff_refused")
    assert (event.user, events.read(event).consent) == (manager, case.consent.pk)
    assert ConsentWithdrawal.objects.count() == 0


def test_staff_may_look_at_the_receipt_but_do_nothing_there(client, manager, case):
    operations.issue_certificate(case.consent, by=factories.customer(case.admin))
    hold(client, case)
    client.force_login(manager)
    page = client.get("/receipt/")
    assert (page.status_code, re.findall(r"<form|<button|withdraw/", page.content.decode())) == (200, [])
    assert "You are signed in to Unlock Desk as manager" in words(page)
    assert client.get(f"/receipt/certificate/1/{case.consent.reference}-1.pdf").status_code == 200
    before = Certificate.objects.count()
    posts = ["/receipt/", f"/receipt/{case.receipt}/", "/receipt/certificate/", "/receipt/certificate/1/"]
    assert [client.post(address).status_code for address in posts] == [403] * 4
    assert (kinds(case).count("staff_refused"), Certificate.objects.count()) == (4, before)


def test_staff_who_signed_in_meanwhile_are_refused_and_recorded_before_the_csrf_check(agent, case):
    browser = hold(Client(enforce_csrf_checks=True), case)
    browser.force_login(agent)
    assert browser.post("/receipt/withdraw/", {"why": ""}).status_code == 403
    assert kinds(case)[-1] == "staff_refused"


# --- Another receipt meanwhile ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("button", ["withdraw/", "certificate/"])
@pytest.mark.parametrize("place", BOTH)
def test_a_button_of_one_receipt_does_nothing_to_another_that_was_opened_meanwhile(client, agent, place, button):
    case, other = factories.case_unlocked(agent), factories.case_unlocked(agent)
    hold(client, case, place)
    form = client.get(place if button == "certificate/" else f"{place}{button}").content.decode()
    assert re.findall(r'name="receipt" value="(.*?)"', form) == [case.consent.reference]
    hold(client, other, place)
    before = snapshot()
    for sent in (pressed(case), {"why": ""}, {"receipt": "", "why": ""}):
        page = client.post(place + button, sent)
        assert (page.status_code, heading(page)) == (409, "A different receipt was opened in this browser")
        assert f"This browser now has {other.consent.reference}" in words(page)
    assert difference(before, snapshot()) == []
    hold(client, case, place)
    assert client.post(place + button, pressed(case)).status_code == 302


# --- Whoever it went to has no say any more ---------------------------------------------------------------------------


def no_admin(contact):
    contact.is_admin = False


def another_address(contact):
    contact.email = "successor@customer.example"


def not_confirmed(contact):
    contact.entered_by = factories.make_user("typist", group="Manager")


NO_ADMIN = "That person is no longer an Admin of the account"
ANOTHER_ADDRESS = "A different address is now on file for that Admin"
NOT_CONFIRMED = "That address has to be confirmed again"


@pytest.mark.parametrize(
    ("change", "told"), [(no_admin, NO_ADMIN), (another_address, ANOTHER_ADDRESS), (not_confirmed, NOT_CONFIRMED)]
)
@pytest.mark.parametrize("again", [False, True])
def test_a_former_admin_can_only_read(agent, second_agent, again, change, told):
    case = factories.case_unlocked(agent)
    issued = operations.issue_certificate(case.consent, by=factories.customer(case.admin))
    operations.add_note(case.unlock_request, text="A newer certificate would tell of this", by=acting(agent))
    own = hold(Client(), case, "/consent/receipt/")
    if again:
        case.receipt = resent(case, second_agent)
    emailed = hold(Client(), case, "/receipt/")
    change(case.admin)
    history.save(case.admin, by=Actor.desk())
    for place, client in zip(BOTH, (emailed, own), strict=True):
        before = snapshot()
        page = client.get(place)
        assert (page.status_code, re.findall(r"<form|<button|withdraw/", page.content.decode())) == (200, []), place
        assert f"You can only read this receipt. This receipt is for {case.consent.email}. {told}, so" in words(page)
        assert "Withdraw this consent" not in words(page)
        assert client.get(f"{place}certificate/1/{issued.number}.pdf").content == bytes(issued.pdf)
        refused = [client.get(f"{place}withdraw/")]
        refused += [client.post(place + button, pressed(case)) for button in ("withdraw/", "certificate/")]
        assert [(page.status_code, heading(page)) for page in refused] == [(403, "You can only read this receipt")] * 3
        said = f"contact ServiceTitan Support and mention {case.consent.reference}."
        assert [(told in words(page), said in words(page)) for page in refused] == [(True, True)] * 3
        assert difference(before, snapshot()) == [], place


def test_what_staff_recorded_by_phone_tells_a_former_admin_whom_to_ask(client, agent, second_agent):
    case = factories.case_recorded_by_phone(agent)
    case.receipt = resent(case, second_agent)
    hold(client, case)
    no_admin(case.admin)
    history.save(case.admin, by=Actor.desk())
    page = client.get("/receipt/")
    assert "Is this wrong? Tell ServiceTitan Support. Mention" in words(page)
    assert "withdraw/" not in page.content.decode()


def test_what_counts_is_the_address_that_this_very_receipt_went_to(client, case, second_agent):
    mailed, first = case.admin.email, case.receipt
    another_address(case.admin)
    history.save(case.admin, by=Actor.desk())
    second = resent(case, second_agent)
    says = []
    for _ in range(2):
        for token in (first, second):
            client.get(f"/receipt/{token}/")
            says.append("Withdraw this consent" in words(client.get("/receipt/")))
        case.admin.email = mailed
        history.save(case.admin, by=Actor.desk())
    assert says == [False, True, True, False]


# --- The receipt ------------------------------------------------------------------------------------------------------


def test_the_receipt_tells_how_it_was_given(client, case):
    hold(client, case)
    page = words(client.get("/receipt/"))
    consent, link = case.consent, case.link
    texts = [
        "Your consent is recorded",
        "Nothing has been unlocked yet.",
        "How By the customer, through the consent link",
        f"Boxes checked {consent.ticked[0]} {consent.ticked[1]}",
        "Button pressed Agree and record my consent",
        f"Account PIN Verified {moment_with_seconds(consent.pin_verified_at)}, typed by the customer",
        f"Contact on file {case.admin.name}, {case.admin.email}",
        f"Link issued {moment_with_seconds(link.sent_at)}",
        f"Form opened {moment_with_seconds(link.openings.get().at)}",
        "Browser not recorded",
        "Withdraw this consent",
        "Get the certificate",
    ]
    assert [text for text in texts if text not in page] == []


@pytest.mark.parametrize("place", BOTH)
def test_a_consent_that_staff_recorded_says_so_on_its_face_and_what_to_do(client, agent, second_agent, place):
    case = factories.case_recorded_by_phone(agent)
    case.receipt = resent(case, second_agent)
    hold(client, case, place)
    page = client.get(place)
    assert (heading(page), f'<a href="{place}withdraw/">Withdraw it</a> at once' in page.content.decode()) == (
        "A consent was recorded by phone",
        True,
    )
    text = words(page)
    texts = [
        "Recorded by phone",
        f"agent of ServiceTitan Support states that they read the text below to {case.admin.name}, who said yes.",
        "How By phone, recorded by agent of ServiceTitan Support: lower-assurance consent",
        "typed by Support: lower assurance",
        "Another member of Support can have the batches unlocked",
        "The text as it was read out",
    ]
    assert [one for one in texts if one not in text] == []
    assert [one for one in ("Button pressed", "Browser", "Link sent") if one in text] == []
    client.post(f"{place}withdraw/", pressed(case, why="I never agreed."))
    text = words(client.get(place))
    assert ("Recorded by phone" in text, "This consent was withdrawn" in text) == (True, True)


def resent(case, by):
    """Have the receipt mailed again, and return the token of its link."""
    mail.outbox.clear()
    with factories.delivered():
        operations.resend_receipt(case.consent, by=acting(by))
    return re.search(r"/receipt/([\w-]{20,})/", mail.outbox[-1].body)[1]


def test_a_receipt_that_was_sent_again_opens_the_same(client, case, second_agent):
    case.receipt = resent(case, second_agent)
    hold(client, case)
    assert case.consent.reference in words(client.get("/receipt/"))
    client.post("/receipt/withdraw/", pressed(case))
    assert ConsentWithdrawal.objects.get().consent == case.consent


def test_the_receipt_tells_what_was_unlocked_and_exported_since(client, agent, second_agent):
    case = factories.case_consented(agent, batches=factories.make_batches(n=4))
    one, two, three, four = case.batches
    rows = case.rows
    factories.unlock(rows.exclude(pk=four.pk), by=acting(second_agent))
    operations.mark_re_exported(rows.filter(pk=one.pk), by=acting(agent))
    factories.relock(rows.filter(pk=two.pk), why="Asked for", by=acting(factories.make_user("boss", group="Manager")))
    hold(client, case)
    page = client.get("/receipt/")
    assert [what for _, what in page.context["events"]] == [
        events.UnlockInstructed.on_receipt.format(batches="3 batches"),
        "Unlocked: 3 batches",
        "Exported: 1 batch",
        events.RelockInstructed.on_receipt.format(batches="1 batch"),
        "Relocked: 1 batch",
    ]
    assert [(batch["number"], batch["outcome_label"]) for batch in page.context["batches"]] == [
        (one.number, "Exported"),
        (two.number, "Relocked"),
        (three.number, "Unlocked"),
        (four.number, "Not unlocked"),
    ]
    assert now(page) == {
        "Unlocked": f"1 batch, until {moment(case.refresh().batches[2].unlocked_until)} (23 hours left)",
        "Not unlocked": "1 batch so far",
        "Exported": "1 batch",
        "Relocked": "1 batch. Nothing in there can be edited or exported.",
        "The request": "open",
    }
    assert "1 batch can still be unlocked with this consent" in words(page)


def test_what_was_only_asked_for_is_not_called_unlocked(client, agent):
    case = factories.case_unlocking(agent)
    hold(client, case)
    page = client.get("/receipt/")
    assert outcomes(page) == ["Being unlocked", "Being unlocked"]
    assert now(page) == {
        "Being unlocked": "2 batches. Nothing in there can be edited until ServiceTitan has done it.",
        "The request": "open",
    }
    assert next_steps(page) == [
        "This page shows when the batches are unlocked. From then on, you have a limited time to make your changes "
        "and export.",
        "You can withdraw this consent while the request is open.",
    ]
    assert "Unlocked" not in words(page)


def test_what_was_refused_says_why_and_what_to_do(client, agent, manager):
    case = factories.case_unlocking(agent, batches=factories.make_batches(n=3))
    first, second, third = factories.hand_over()
    factories.answer([first, third], "refused", "In <use>")
    factories.answer([second], "done", "P-1")
    hold(client, case)
    page = client.get("/receipt/")
    assert outcomes(page) == ["Could not be unlocked In <use>", "Unlocked", "Could not be unlocked In <use>"]
    end = moment(case.refresh().batches[1].unlocked_until)
    assert now(page) == {
        "Unlocked": f"1 batch, until {end} (23 hours left)",
        "Could not be unlocked": "2 batches. The reason is below.",
        "The request": "open",
    }
    assert next_steps(page) == [
        f"Make your changes and export by {end}. After that, what is not exported may be relocked at any time.",
        f"About what could not be unlocked, contact Support and mention {case.unlock_request.reference}.",
        "You can withdraw this consent while the request is open.",
    ]
    operations.relock(case.rows.filter(pk=second.batch_id), why="Asked for", by=acting(manager))
    factories.answer(factories.hand_over(), "refused", "Locked by another user")
    assert outcomes(client.get("/receipt/"))[1] == "Being relocked"


def test_what_staff_have_relocked_is_relocked_once_it_is_done(client, agent, manager):
    case = factories.case_unlocked(agent)
    operations.relock(case.rows, why="Asked for", by=acting(manager))
    hold(client, case)
    page = client.get("/receipt/")
    assert (outcomes(page), next_steps(page)) == (
        ["Being relocked", "Being relocked"],
        [
            "This page shows when the batches are relocked.",
            "You can withdraw this consent while the request is open.",
        ],
    )
    factories.carry_out()
    page = client.get("/receipt/")
    assert (outcomes(page), next_steps(page)) == (
        ["Relocked", "Relocked"],
        [
            f"The request was closed on {day(timezone.localdate())}: the batches were relocked unused. Nothing more "
            "can be unlocked with this consent.",
            "For other batches, or the same ones again, contact Support. You will be asked again.",
        ],
    )


def test_answers_are_added_up_and_the_first_end_is_said_to_be_the_first(client, agent):
    case = factories.case_unlocking(agent, batches=factories.make_batches(n=3))
    start = timezone.now()
    for minutes, instruction in enumerate(factories.hand_over()):
        with time_machine.travel(start + timedelta(minutes=minutes), tick=False):
            factories.answer([instruction], "done", f"P-{instruction.pk}")
    hold(client, case)
    page = client.get("/receipt/")
    assert page.context["events"][1:] == [
        (f"{moment(start)} to {moment(start + timedelta(minutes=2))}", "Unlocked: 3 batches")
    ]
    end = moment(start + settings.UNLOCK_WINDOW)
    assert now(page) == {
        "Unlocked": f"3 batches, until {end} (23 hours left), some of them longer",
        "The request": "open",
    }


def test_once_the_time_is_over_nothing_is_said_to_be_unlocked_until_then(client, agent, manager):
    case = factories.case_unlocked(agent)
    end = case.batch.unlocked_until
    hold(client, case)
    with time_machine.travel(end + timedelta(minutes=5)):
        page = client.get("/receipt/")
        assert now(page) == {
            "Time is over": f"2 batches, unlocked until {moment(end)} and not relocked yet",
            "The request": "open",
        }
        assert outcomes(page) == ["Unlocked, but its time is over"] * 2
        assert next_steps(page)[0] == (
            "Where the time is over, what you have not exported may be relocked at any time. If you need longer, "
            f"contact Support and mention {case.unlock_request.reference}."
        )
        operations.relock(case.rows, why="The time is over", by=acting(manager))
        said = f"2 batches, whose time ended {moment(end)}. Please do not edit or export what is in there."
        assert now(client.get("/receipt/")) == {"Being relocked": said, "The request": "open"}
        factories.carry_out()
        closed = case.refresh().unlock_request
        assert now(client.get("/receipt/")) == {
            "Relocked": "2 batches. Nothing in there can be edited or exported.",
            "The request": f"closed on {moment(closed.closed_at)}: the batches were relocked unused",
        }


@pytest.mark.parametrize(
    ("zone", "names"),
    [("", {"EST", "EDT"}), ("America/Chicago", {"CST", "CDT"}), ("America/Sao_Paulo", {"UTC-03"})],
)
def test_times_are_in_the_zone_of_the_account(client, agent, zone, names):
    # Half past one in the night of UTC is the day before there. The guards go by the clock of the database.
    with time_machine.travel(timezone.now().astimezone(UTC).replace(hour=1, minute=30), tick=False):
        batches = factories.make_batches(account=factories.make_account(time_zone=zone))
        case = factories.case_unlocked(agent, batches=batches)
        hold(client, case)
        page = words(client.get("/receipt/"))
    assert set(re.findall(r"[AP]M (\S+?)[,.;:)]*(?= |$)", page)) <= names
    with timezone.override(ZoneInfo(zone or settings.TIME_ZONE)):
        assert moment(case.batch.unlocked_until) in page
    assert timezone.get_current_timezone_name() == settings.TIME_ZONE


@pytest.mark.parametrize("place", BOTH)
def test_the_list_of_batches_is_a_file_that_says_what_became_of_each(client, agent, place):
    case = factories.case_unlocked(agent)
    operations.mark_re_exported(case.rows.filter(pk=case.batch.pk), by=acting(agent))
    assert client.get(f"{place}batches.csv").status_code == 404
    file = hold(client, case, place).get(f"{place}batches.csv")
    assert (file.status_code, file["Content-Type"]) == (200, "text/csv; charset=utf-8")
    first, second = case.batches
    assert file.content.decode("utf-8-sig").splitlines() == [
        "Batch,Name,Posted on,Bypassed on,Items,Total,Now,Why it could not be unlocked",
        f"{first.number},{first.name},2026-05-01,2026-05-02,1,100.00,Exported,",
        f"{second.number},{second.name},2026-05-01,2026-05-02,1,100.00,Unlocked,",
    ]


@pytest.mark.parametrize("number_of_batches", [1, 40])
def test_the_receipt_costs_the_same_for_many_batches(client, agent, number_of_batches, django_assert_num_queries):
    case = factories.case_unlocked(agent, batches=factories.make_batches(n=number_of_batches))
    hold(client, case)
    with django_assert_num_queries(9):
        page = client.get("/receipt/")
    assert ("<details" in page.content.decode()) == (number_of_batches > 12)


def test_a_consent_that_expired_can_still_be_withdrawn(client, case):
    hold(client, case)
    with time_machine.travel(case.consent.valid_until + timedelta(minutes=1)):
        assert "This consent has expired." in words(client.get("/receipt/"))
        client.post("/receipt/withdraw/", pressed(case))
    assert ConsentWithdrawal.objects.count() == 1


# --- The certificate --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", BOTH)
def test_the_certificate_is_issued_by_a_post_and_handed_out_byte_for_byte(client, case, place):
    hold(client, case, place)
    page = client.post(f"{place}certificate/", pressed(case), follow=True)
    issued = Certificate.objects.get()
    assert (page.status_code, page.redirect_chain) == (200, [(f"{place}certificate/1/", 302)])
    assert issued.number in words(page)
    for name, kind, content in (
        (f"{issued.number}.pdf", "application/pdf", bytes(issued.pdf)),
        (f"{issued.number}.json", "application/json", issued.content.encode()),
        (
            f"{issued.number}-batches.csv",
            "text/csv; charset=utf-8",
            batch_list.content(json.loads(issued.content)["certificate"]),
        ),
    ):
        file = client.get(f"{place}certificate/1/{name}")
        assert (file.content, file["Content-Type"], file["Content-Disposition"], file["Cache-Control"]) == (
            content,
            kind,
            f'attachment; filename="{name}"',
            "no-store",
        )
        assert f"{place}certificate/1/{name}" in page.content.decode()


def test_the_certificate_is_the_same_until_something_happens(client, case, second_agent):
    hold(client, case)
    for _ in range(2):
        client.post("/receipt/certificate/", pressed(case))
    assert list(Certificate.objects.values_list("ordinal", flat=True)) == [1]
    factories.unlock(case.rows, by=acting(second_agent))
    page = client.post("/receipt/certificate/", pressed(case), follow=True)
    assert page.redirect_chain == [("/receipt/certificate/2/", 302)]
    assert re.findall(r'href="/receipt/certificate/(\d)/"', client.get("/receipt/").content.decode()) == ["2", "1"]


def test_who_declined_gets_a_certificate_too(client, agent):
    case = declined(agent)
    hold(client, case)
    assert client.post("/receipt/certificate/", pressed(case), follow=True).status_code == 200
    assert Certificate.objects.get().consent == Consent.objects.get(decision="declined")


@pytest.mark.parametrize("name", ["x.pdf", "CN-000001-9.pdf", "..%2f..%2fetc", "%00", "CN-000001-1.exe"])
def test_other_names_are_no_files(client, case, name):
    hold(client, case)
    client.post("/receipt/certificate/", pressed(case))
    assert client.get(f"/receipt/certificate/1/{name}").status_code == 404


def test_a_case_that_keeps_changing_gets_no_certificate(client, case, monkeypatch):
    hold(client, case)

    def busy(*args, **kwargs):
        raise operations.Refused.because("busy")

    monkeypatch.setattr(operations, "issue_certificate", busy)
    page = client.post("/receipt/certificate/", pressed(case))
    assert (page.status_code, "so no certificate was issued. Please try again." in words(page)) == (409, True)
