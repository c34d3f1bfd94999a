"""The customer's whole path on a phone, by touch: from the email to a certificate that checks as genuine, and back."""

import re

import pytest
from django.core import mail

from tests import factories
from tests.browser.conftest import account_of
from tests.factories import PIN, acting
from unlocks import operations
from unlocks.models import Batch, Certificate, ConsentWithdrawal

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def agent(desk, db):
    return factories.make_user("agent", group="Agent")


@pytest.fixture(scope="session")
def browser_context_args(browser_context_args):
    return browser_context_args | {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


@pytest.fixture
def phone(new_context):
    def made(**options):
        return new_context(**options).new_page()

    return made


@pytest.fixture
def look(axe):
    """Judge a page as it stands: accessible, no wider than the phone, and with targets that a finger hits."""

    def looked(page, heading):
        assert page.get_by_role("heading", level=1).inner_text().replace("\n", " ") == heading
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        heights = page.locator("main .btn").evaluate_all("all => all.map(one => one.getBoundingClientRect().height)")
        assert [height for height in heights if height < 40] == []
        axe(page)

    return looked


def tap(control):
    with control.page.expect_navigation():
        control.tap()


def link_in_email(place):
    """Return the address in the newest email that leads to a consent form or a receipt."""
    factories.deliver()
    links = [re.search(rf"http://\S+/{place}/[\w-]{{20,}}/", message.body) for message in mail.outbox]
    return [link[0] for link in links if link][-1]


def decide(page):
    page.goto(link_in_email("consent"))
    tap(page.get_by_role("button", name="Open the form"))
    fill_in(page)


def fill_in(page):
    page.get_by_label("Full name").fill("Dana Whitfield")
    page.get_by_label("Role in the company").fill("Controller")
    page.get_by_label("Account PIN").fill(PIN)
    page.get_by_label("I am authorized").tap()
    page.get_by_label("I agree to the terms").tap()
    tap(page.get_by_role("button", name="Continue: check your answers"))


def test_from_the_email_to_a_certificate_that_is_genuine(agent, phone, look, desk, tmp_path):
    factories.record_certificate_key()
    case = factories.case_awaiting(agent, account=account_of("Dana Whitfield"))
    page = phone()
    page.goto(link_in_email("consent"))
    look(page, "Your decision is needed")
    decide(page)
    look(page, "Check your answers")
    assert "terms above" not in page.locator("main").inner_text()
    tap(page.get_by_role("button", name="Agree and record my consent"))
    look(page, "Your consent is recorded")

    factories.unlock(case.rows, by=acting(factories.make_user("agent2", group="Agent")))
    page.goto(link_in_email("receipt"))
    look(page, "Your consent is recorded")
    assert "Unlocked: 2 batches" in page.locator("main").inner_text()
    tap(page.get_by_role("button", name="Get the certificate"))
    issued = Certificate.objects.get()
    assert issued.number in page.locator("main").inner_text()
    assert page.url == f"{desk}/receipt/certificate/1/"
    look(page, page.get_by_role("heading", level=1).inner_text().replace("\n", " "))

    files = {}
    for kind, link in (("pdf", "Download as PDF"), ("json", "Download as JSON, to check offline")):
        with page.expect_download() as download:
            page.get_by_role("link", name=link).tap()
        assert download.value.suggested_filename == f"{issued.number}.{kind}"
        files[kind] = tmp_path / download.value.suggested_filename
        download.value.save_as(files[kind])
    assert (files["pdf"].read_bytes(), files["json"].read_text()) == (bytes(issued.pdf), issued.content)

    page.goto(link_in_email("receipt"))
    tap(page.get_by_role("contentinfo").get_by_role("link", name="Check it"))
    look(page, "Check a certificate")
    for file in files.values():
        page.get_by_label("PDF or JSON file").set_input_files(file)
        tap(page.get_by_role("button", name="Check the file"))
        look(page, "Genuine and unaltered")
        assert page.get_by_role("status").get_by_text(issued.number).count() == 1


@pytest.mark.parametrize(("count", "days"), [(1, 1), (10, 10), (100, 1), (100, 50), (501, 1)])
def test_terms_and_decision_are_within_two_screens(agent, phone, look, count, days):
    account = account_of("Dana Whitfield", name="Northwind Heating and Air Conditioning of Greater Boston")
    for day in range(days):
        on, name = f"2026-0{3 + day // 25}-{day % 25 + 1:02}", "Invoices, Service department, week 44"
        factories.make_batches(account=account, n=count // days, items=0, bypassed_on=on, name=name, total="1234.50")
    factories.case_awaiting(agent, batches=list(account.batches.all()))
    page = phone()
    page.goto(link_in_email("consent"))
    tap(page.get_by_role("button", name="Open the form"))
    top = page.get_by_role("heading", name="Your decision").bounding_box()["y"]
    assert top < 2 * page.viewport_size["height"]
    look(page, "Unlock bypassed batches")
    if count == 10:
        rows = page.get_by_role("row").filter(visible=True)  # with the one of the headings
        assert rows.count() == 3
        page.get_by_text("Show the other 8 batches").tap()
        last = page.locator("input[name=leave_out]").nth(9)
        last.tap()
        page.get_by_text("Show the other 8 batches").tap()
        assert (last.is_visible(), rows.count()) == (True, 4)
        look(page, "Unlock bypassed batches")
        page.set_viewport_size({"width": 1024, "height": 800})
        assert rows.count() == 11
        assert not page.get_by_text("Show the other 8 batches").is_visible()
    elif count > 500:
        page.locator("details.day > summary").tap()
        assert page.get_by_role("checkbox", name="Leave out").count() == 251
        look(page, "Unlock bypassed batches")


def test_500_batches_are_two_screens_and_some_are_left_out_without_scripts(agent, phone, look):
    account = account_of("Dana Whitfield")
    days = [f"2026-0{month}-{day:02}" for month in (3, 4) for day in range(1, 26)]
    batches = [one for day in days for one in factories.make_batches(account=account, n=10, items=0, bypassed_on=day)]
    factories.case_awaiting(agent, batches=batches)
    page = phone(java_script_enabled=False)
    page.goto(link_in_email("consent"))
    tap(page.get_by_role("button", name="Open the form"))
    top = page.get_by_role("heading", name="Your decision").bounding_box()["y"]
    assert top < 2 * page.viewport_size["height"]
    page.get_by_text("Mar 2, 2026").first.tap()
    page.get_by_label(f"Leave out {batches[10].number}").tap()
    fill_in(page)
    said = page.locator("main").inner_text()
    assert f"1 batch, 0 items, $0.00 in total: {batches[10].number}." in said
    tap(page.get_by_role("button", name="Agree and record my consent"))
    assert "Show the 499 batches by the day of their bypass" in page.locator("main").inner_text()


def test_withdrawing_before_the_unlock(agent, phone, look):
    case = factories.case_awaiting(agent, account=account_of("Dana Whitfield"))
    page = phone(color_scheme="dark")
    decide(page)
    tap(page.get_by_role("button", name="Agree and record my consent"))
    tap(page.get_by_role("link", name="Withdraw this consent"))
    look(page, "Withdraw this consent?")
    assert "Stays locked: 2 batches" in page.locator("main").inner_text()
    tap(page.get_by_role("link", name="Keep this consent"))
    look(page, "Your consent is recorded")
    assert ConsentWithdrawal.objects.count() == 0

    tap(page.get_by_role("link", name="Withdraw this consent"))
    tap(page.get_by_role("button", name="Withdraw this consent"))
    look(page, "This consent was withdrawn")
    assert page.get_by_role("link", name="Withdraw this consent").count() == 0
    assert (case.refresh().unlock_request.resolution, ConsentWithdrawal.objects.get().why) == ("withdrawn", "")


def test_withdrawing_after_the_unlock_without_scripts(agent, phone):
    case = factories.case_unlocked(agent)
    operations.mark_re_exported(case.rows.filter(pk=case.batch.pk), by=acting(agent))
    page = phone(java_script_enabled=False)
    page.goto(link_in_email("receipt"))
    tap(page.get_by_role("link", name="Withdraw this consent"))
    said = page.locator("main").inner_text()
    assert ("Relocked: 1 batch, unlocked right now" in said, "Stays exported: 1 batch" in said) == (True, True)
    page.get_by_label("Why (optional)").fill("Entered by hand after all.")
    tap(page.get_by_role("button", name="Withdraw this consent"))
    said = page.locator("main").inner_text()
    assert ("Being relocked: 1 batch" in said, "Entered by hand after all." in said) == (True, True)
    assert sorted(Batch.objects.values_list("status", flat=True)) == ["exported", "relocking"]
    factories.carry_out()
    page.reload()
    said = page.locator("main").inner_text()
    assert ("Relocked: 1 batch" in said, "Being relocked" in said) == (True, False)
    page.go_back()
    assert "This consent was already withdrawn" in page.locator("main").inner_text()
    assert ConsentWithdrawal.objects.count() == 1


def test_a_double_tap_withdraws_once(agent, phone):
    factories.case_consented(agent)
    page = phone()
    page.goto(link_in_email("receipt"))
    tap(page.get_by_role("link", name="Withdraw this consent"))
    page.get_by_role("button", name="Withdraw this consent").dblclick()
    page.wait_for_url(re.compile(r"/receipt/(\?again)?$"))
    assert page.get_by_role("heading", level=1).inner_text().replace("\n", " ") == "This consent was withdrawn"
    assert ConsentWithdrawal.objects.count() == 1


def test_a_reason_that_can_t_be_kept_leads_back_to_its_field(agent, phone, look):
    factories.case_consented(agent)
    page = phone()
    page.goto(link_in_email("receipt"))
    tap(page.get_by_role("link", name="Withdraw this consent"))
    page.get_by_label("Why (optional)").fill("...")
    tap(page.get_by_role("button", name="Withdraw this consent"))
    look(page, "Withdraw this consent?")
    assert page.evaluate("document.activeElement.id") == "problems"
    page.get_by_role("link", name="Use at least one letter.").tap()
    assert page.evaluate("document.activeElement.id") == "id_why"


def test_what_staff_recorded_by_phone_says_so_and_can_be_withdrawn(agent, phone, look):
    case = factories.case_recorded_by_phone(agent)
    page = phone()
    page.goto(link_in_email("receipt"))
    look(page, "A consent was recorded by phone")
    tap(page.get_by_role("link", name="Withdraw it"))
    tap(page.get_by_role("button", name="Withdraw this consent"))
    look(page, "This consent was withdrawn")
    assert case.refresh().unlock_request.resolution == "withdrawn"


def test_where_nothing_can_be_withdrawn_it_says_why(agent, phone, look, desk):
    case = factories.case_consented(agent)
    page = phone()
    page.goto(link_in_email("receipt"))
    operations.close_request(case.unlock_request, resolution="canceled", why="Not needed", by=acting(agent))
    page.goto(f"{desk}/receipt/withdraw/")
    look(page, "The request is closed")
    tap(page.get_by_role("link", name="Back to the receipt"))
    look(page, "Your consent is recorded")
