"""What the README asks of a newcomer, done on the real server in real browsers, without a word from anyone."""

import re
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.utils import timezone

from tests.browser.conftest import account_of, press
from tests.factories import PIN, deliver, make_batch, make_user
from unlocks.models import Batch, Instruction, LedgerEntry, UnlockRequest
from unlocks.outbox import worker

pytestmark = pytest.mark.django_db(transaction=True)

NUMBERS = ["20261101-INV", "20261101-PAY", "20261102-INV"]
PASSWORD = "a-long-trial-password"


@pytest.fixture
def northwind(db):
    make_user("agent", group="Agent", password=PASSWORD)
    make_user("manager", group="Manager", password=PASSWORD)
    account = account_of("Dana Whitfield", number="4711", name="Northwind Heating")
    for number in NUMBERS:
        make_batch(account=account, number=number)
    make_batch(account=account, number="20261028-INV", status="exported")
    return account


def statuses():
    return dict(Batch.objects.filter(number__in=NUMBERS).values_list("number", "status"))


def lease_one(number):
    """Let the product be asked about this batch first, by itself."""
    others = Instruction.objects.exclude(batch__number=number)
    others.update(next_try_at=timezone.now() + timedelta(seconds=30))
    worker.ask_product()
    others.update(next_try_at=timezone.now())


def sign_in(page, desk, username):
    page.goto(desk)
    page.get_by_label("Username").fill(username)
    page.get_by_label("Password").fill(PASSWORD)
    press(page.get_by_role("button", name="Sign in", exact=True))


def test_from_a_call_to_an_unlocked_batch_back_to_a_locked_one_and_its_history(
    new_context, desk, axe, northwind, sandbox
):
    staff = new_context().new_page()
    sign_in(staff, desk, "agent")
    axe(staff)

    # The agent opens a request, with one batch that can't be unlocked, and leaves that one out.
    press(staff.get_by_role("link", name="Open a request").first)
    axe(staff)
    staff.get_by_role("combobox").fill("heat")
    press(staff.get_by_role("option", name="Northwind Heating"))
    axe(staff)
    staff.get_by_label("By mistake").check()
    staff.get_by_label("Phone").check()
    staff.get_by_label("Reason for the unlock").fill("Bypassed while clearing the list.")
    staff.get_by_label("Customer wants to export the batches").check()
    staff.get_by_label("Batch numbers").fill("20261101-INV, 20261101-PAY;20261102-INV\n20261028-INV")
    press(staff.get_by_role("button", name="Open and email the link"))
    assert "Support can't unlock exported batches" in staff.content()
    axe(staff)
    press(staff.get_by_role("button", name="Leave out 1, open and email the link"))
    unlock_request = UnlockRequest.objects.get()
    assert staff.url == f"{desk}/desk/unlocks/unlockrequest/{unlock_request.pk}/change/"
    axe(staff)
    assert "waits to be sent to Dana Whitfield" in staff.locator("main").inner_text()
    (email,) = deliver()
    (url,) = re.findall(r"http\S+/consent/\S+", email.body)
    staff.reload()
    assert "The link was emailed to Dana Whitfield" in staff.locator("main").inner_text()
    assert "/consent/" not in staff.locator("main").inner_text()
    axe(staff)

    # The customer, on a phone.
    phone = new_context().new_page()
    phone.set_viewport_size({"width": 390, "height": 844})
    phone.goto(url)
    axe(phone)
    press(phone.get_by_role("button"))
    axe(phone)
    phone.get_by_label("Full name").fill("Dana Whitfield")
    phone.get_by_label("Role in the company").fill("Controller")
    phone.get_by_label("Account PIN").fill(PIN)
    phone.get_by_label("I am authorized").check()
    phone.get_by_label("I agree").check()
    press(phone.get_by_role("button", name="Continue: check your answers"))
    axe(phone)
    assert PIN not in phone.content()
    press(phone.get_by_role("button", name="Agree and record my consent"))
    axe(phone)
    assert "CN-" in phone.content()
    assert "It also waits to be emailed to" in phone.content()
    (email,) = deliver()
    assert email.subject.endswith("receipt for your consent")
    phone.reload()
    assert "It was also emailed to" in phone.content()

    # Bulk unlock from the list of requests: preview, confirm, report.
    staff.goto(f"{desk}/desk/unlocks/unlockrequest/")
    axe(staff)
    staff.locator("tr", has_text=unlock_request.reference).get_by_role("checkbox").check()
    staff.get_by_label("Action:").select_option(label="Unlock the batches of selected requests")
    press(staff.get_by_role("button", name="Go", exact=True))
    axe(staff)
    press(staff.get_by_role("button", name="Unlock 3 batches"))
    axe(staff)
    assert statuses() == dict.fromkeys(NUMBERS, "unlocking")
    staff.goto(f"{desk}/desk/unlocks/unlockrequest/{unlock_request.pk}/change/")
    said = staff.locator("main").inner_text()
    assert "Unlocking" in said
    assert "Unlocked until" not in said
    axe(staff)

    # The product does two of them, and refuses the third. The customer is told.
    sandbox.behave("exported", calls=1)
    lease_one("20261102-INV")
    worker.ask_product()
    sandbox.behave("works")
    emails = {email.subject: email.body for email in deliver()}
    assert statuses() == {"20261101-INV": "unlocked", "20261101-PAY": "unlocked", "20261102-INV": "bypassed"}
    (body,) = emails.values()
    assert "The customer exported this batch meanwhile." in body
    staff.reload()
    said = staff.locator("main").inner_text()
    assert "The customer exported this batch meanwhile." in said
    axe(staff)
    phone.reload()
    said = phone.locator("main").inner_text()
    assert ("Unlocked" in said, "Could not be unlocked" in said) == (True, True)
    axe(phone)

    # The customer takes it back: at once on record, and locked as soon as the product has done it.
    press(phone.get_by_role("link", name=re.compile("[Ww]ithdraw")))
    axe(phone)
    press(phone.get_by_role("button", name=re.compile("Withdraw")))
    assert "Being relocked: 2 batches" in phone.locator("main").inner_text()
    axe(phone)
    staff.goto(f"{desk}/desk/unlocks/unlockrequest/{unlock_request.pk}/change/")
    said = staff.locator("main").inner_text()
    assert "Relocking" in said
    axe(staff)
    worker.ask_product()
    assert (statuses(), sandbox.unlocked()) == (dict.fromkeys(NUMBERS, "bypassed"), [])
    phone.reload()
    assert "Relocked: 2 batches" in phone.locator("main").inner_text()
    staff.reload()
    assert "Consent withdrawn" in staff.locator("main").inner_text()
    axe(staff)

    # The manager reads the history of a batch and the audit log.
    boss = new_context().new_page()
    sign_in(boss, desk, "manager")
    batch = Batch.objects.get(number="20261101-INV")
    boss.goto(f"{desk}/desk/unlocks/batch/{batch.pk}/history/")
    axe(boss)
    assert "Bypassed" in boss.content()
    assert "Unlocked" in boss.content()
    press(boss.get_by_role("link", name="Audit log").first)
    axe(boss)
    assert [
        *LedgerEntry.objects.exclude(kind__in=["imported", "pin_issued", "staff_changed"])
        .order_by("sequence")
        .values_list("kind", flat=True)
    ] == [
        "signed_in",
        "opened",
        "advised",
        "link_sent",
        "email_sent",
        "link_opened",
        "pin_verified",
        "consented",
        "email_sent",
        "unlock_instructed",
        "product_refused",
        "unlocked",
        "email_sent",
        "relock_instructed",
        "withdrawn",
        "relocked",
        "closed",
        "signed_in",
    ]
    call_command("verify_audit")
