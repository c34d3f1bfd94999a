"""A consent on the phone, as staff take it down in a real browser: one takes it down, another unlocks."""

import re

import pytest

from tests import factories
from tests.browser.conftest import press
from tests.papers import PDF
from unlocks import evidence, operations
from unlocks.models import Batch, Certificate, Consent, UnlockRequest

pytestmark = pytest.mark.django_db(transaction=True)

PHONE = {"width": 390, "height": 844}


@pytest.fixture
def northwind(db):
    factories.record_certificate_key()
    account = factories.make_account(number="4711", name="Northwind Heating")
    for number in ("20261101-INV", "20261101-PAY"):
        factories.make_batch(account=account, number=number)
    return account


def fits(page):
    """Say whether nothing of the page lies beyond the right edge of the screen."""
    return page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def record(page):
    press(page.get_by_role("button", name="Record the consent"))


@pytest.mark.parametrize("size", [{"width": 1440, "height": 900}, PHONE], ids=["desk", "phone"])
def test_one_takes_it_down_and_another_unlocks(
    new_context, desk, axe, sign_in, settings, tmp_path, northwind, agent, second_agent, evidence_place, size
):
    settings.PHONE_CONSENT = True
    case = factories.open_case(agent, batches=list(northwind.batches.all()))
    operations.record_advice(case.unlock_request, advice="wants_export", by=factories.acting(agent))
    request_page = f"{desk}{case.unlock_request.get_absolute_url()}"
    signed = tmp_path / "Signed by Dana.pdf"
    signed.write_bytes(PDF)

    # The agent is told what is missing, verifies the PIN, and is led to the text.
    first = sign_in(new_context().new_page(), agent)
    first.set_viewport_size(size)
    first.goto(request_page)
    first.get_by_role("link", name="The customer can't use the link?").click()
    assert first.get_by_text("First verify the account PIN for this request").is_visible()
    first.get_by_text("Verify the PIN for the customer").click()
    first.get_by_label("Account PIN").fill(factories.PIN)
    press(first.get_by_role("button", name="Verify the PIN"))
    first.get_by_role("link", name="The customer can't use the link?").click()
    axe(first)
    press(first.get_by_role("button", name="Record the consent by phone…"))
    axe(first)
    assert fits(first)
    assert first.get_by_text("This is a lower-assurance consent.").is_visible()
    assert first.get_by_text("Are you authorized to decide this for Northwind Heating?").is_visible()

    # Too early: nothing is recorded, and what was typed is still there.
    first.get_by_label("Full name, as they said it").fill("Dana Whitfield")
    first.get_by_label("Signed paper").check()
    first.get_by_label("File", exact=True).set_input_files(signed)
    record(first)
    axe(first)
    assert not Consent.objects.exists()
    problems = first.locator("#problems")
    assert problems.evaluate("problems => problems === document.activeElement")
    assert problems.get_by_role("link").all_inner_texts() == [
        "Ask for their role, and type it.",
        "Read the whole text out first; then tick this.",
        "Without that, nothing can be recorded. Ask for an Admin who is authorized.",
        "If they do not agree, record nothing: add a note or close the request.",
    ]
    assert first.get_by_text("Choose the file again: it was not kept.").is_visible()
    problems.get_by_role("link").nth(1).click()
    assert first.get_by_label("I read the whole text out").evaluate("box => box === document.activeElement")
    # The address names that field by now: what is wrong comes first all the same.
    record(first)
    assert problems.evaluate("problems => problems === document.activeElement")
    assert first.get_by_label("Full name, as they said it").input_value() == "Dana Whitfield"

    first.get_by_label("Role in the company, as they said it").fill("Controller")
    for tick in ("I read the whole text out", "They said that they are authorized", "They said that they agree"):
        first.get_by_label(tick).check()
    first.get_by_label("File", exact=True).set_input_files(signed)
    record(first)
    axe(first)
    assert fits(first)
    consent = Consent.objects.get()
    assert (consent.how, consent.recorded_by, consent.evidence.get().file_name) == ("phone", agent, signed.name)
    assert list(evidence.faults()) == []
    assert "Ready for someone else to unlock: 2 batches." in first.content()
    assert first.get_by_role("button", name=re.compile("^Unlock")).count() == 0

    # Whoever took it down is refused in the bulk action too.
    first.goto(f"{desk}/desk/unlocks/unlockrequest/")
    first.locator("tr", has_text=case.unlock_request.reference).get_by_role("checkbox").check()
    first.get_by_label("Action:").select_option(label="Unlock the batches of selected requests")
    press(first.get_by_role("button", name="Go", exact=True))
    axe(first)
    assert "No batch can be unlocked." in first.content()
    assert "You recorded this consent yourself, so another person has to unlock" in first.content()

    # Another person unlocks, knowing what kind it is.
    second = sign_in(new_context().new_page(), second_agent)
    second.set_viewport_size(size)
    second.goto(request_page)
    axe(second)
    assert "agent recorded by phone that Dana Whitfield said yes" in second.content()
    press(second.get_by_role("button", name="Unlock 2 batches…"))
    axe(second)
    assert "for which you are the second person" in second.content()
    press(second.get_by_role("button", name="Unlock 2 batches"))
    axe(second)
    assert fits(second)
    assert set(Batch.objects.values_list("status", "unlocked_by__username")) == {("unlocking", "second-agent")}
    factories.carry_out()
    second.reload()
    assert fits(second)
    said = second.locator("main").inner_text()
    assert ("now: unlocked" in said, "until" in said) == (True, True)

    # The consents, and the page of this one: the paper, and a certificate.
    second.goto(f"{desk}/desk/unlocks/consent/")
    axe(second)
    assert fits(second)
    press(second.get_by_role("link", name=consent.reference))
    axe(second)
    assert fits(second)
    # What is wrong in a panel at the side is said on top, and leads there.
    second.get_by_text("Attach a signed paper or an email").click()
    press(second.get_by_role("button", name="Attach the file"))
    axe(second)
    assert second.locator("#problems").evaluate("problems => problems === document.activeElement")
    second.get_by_role("link", name="Say what the file is.").click()
    assert second.get_by_role("radio", name="Signed paper").evaluate("choice => choice === document.activeElement")
    with second.expect_download() as downloading:
        second.get_by_role("link", name=signed.name).click()
    assert downloading.value.suggested_filename == signed.name
    assert downloading.value.path().read_bytes() == PDF
    press(second.get_by_role("button", name="Issue a certificate"))
    assert Certificate.objects.get().number in second.content()
    assert UnlockRequest.objects.get().status == "unlocked"


def test_a_second_person_confirms_an_address(new_context, desk, on_each_screen, sign_in, northwind, agent, manager):
    case = factories.open_case(agent, batches=list(northwind.batches.all()))
    operations.record_advice(case.unlock_request, advice="wants_export", by=factories.acting(agent))
    case.admin.email = "dana.whitfield@northwind.example"
    operations.save_record(case.admin, by=factories.acting(manager))
    request_page = f"{desk}{case.unlock_request.get_absolute_url()}"
    account_page = f"{desk}/desk/unlocks/account/{northwind.pk}/change/"

    # Who entered it reads that someone else has to.
    typist = sign_in(new_context().new_page(), manager)
    for page in (request_page, account_page):
        typist.goto(page)
        assert typist.get_by_role("link", name="Confirm the address…").count() == 0
        assert typist.get_by_text("is not confirmed yet").first.is_visible()
        on_each_screen(typist)
    typist.goto(f"{desk}/desk/unlocks/account/{northwind.pk}/issue-pin/")
    assert typist.get_by_text("You can't issue a PIN for this account.").is_visible()
    on_each_screen(typist)

    # The agent has it as the next step, says nothing at first, and comes back to the request.
    second = sign_in(new_context().new_page(), agent)
    second.goto(account_page)
    on_each_screen(second)
    second.goto(request_page)
    press(second.get_by_role("link", name="Confirm the address…"))
    on_each_screen(second)
    press(second.get_by_role("button", name="Confirm dana.whitfield@northwind.example"))
    assert second.locator("#problems").evaluate("problems => problems === document.activeElement")
    on_each_screen(second)
    second.get_by_label("How do you know that this is their address?").fill("Called the number in the contract")
    press(second.get_by_role("button", name="Confirm dana.whitfield@northwind.example"))
    assert second.url == request_page
    assert second.get_by_role("button", name="Send the consent link").is_visible()
    on_each_screen(second)
