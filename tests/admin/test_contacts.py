"""The pages say which Admins are confirmed, who can confirm one, and by whom an address was entered."""

import html
import re

import pytest
from django.urls import reverse
from django.utils.html import strip_tags

from tests import factories
from tests.admin.test_request_page import page_of
from unlocks import operations
from unlocks.models import Contact
from unlocks.rules import Refusal, sentence

pytestmark = pytest.mark.django_db


def text(response):
    """Return the words of a page, as they are read."""
    return " ".join(
        html.unescape(strip_tags(re.sub(r"<wbr>", "", response.content.decode().replace("<br>", " ")))).split()
    )


def confirm_page(contact, **query):
    return reverse("admin:unlocks_contact_confirm", args=[contact.pk], query=query)


def account_page(account):
    return reverse("admin:unlocks_account_change", args=[account.pk])


@pytest.fixture
def account(db):
    return factories.make_account()


@pytest.fixture
def typed(account, manager):
    return factories.enter_contact(account=account, by=manager, name="Ann Example", email="ann@customer.example")


WAITS = "The address of Ann Example is not confirmed yet."
OWN = sentence(Refusal.OWN_CONTACT, name="Ann Example")


def test_the_account_says_who_is_confirmed_and_how(agent, agent_client, account, typed):
    page = text(agent_client.get(account_page(account)))
    assert WAITS in page
    assert "entered by manager" in page
    assert "from the product" in page
    factories.confirm(typed, agent)
    page = text(agent_client.get(account_page(account)))
    assert WAITS not in page
    assert "Confirmed by agent on" in page
    assert "Called the number on file" in page


def test_an_agent_confirms_it_once(agent, agent_client, second_agent_client, account, typed):
    assert confirm_page(typed) in agent_client.get(account_page(account)).content.decode()
    page = text(agent_client.get(confirm_page(typed)))
    assert account.contacts.confirmed_admins().get().email in page
    form = {"address": typed.email, "how": "Called the number in the contract"}

    response = agent_client.post(confirm_page(typed), form)

    assert (response.status_code, response["Location"]) == (302, account_page(account))
    typed.refresh_from_db()
    assert (typed.confirmed_by, typed.confirmed_how) == (agent, "Called the number in the contract")
    again = second_agent_client.post(confirm_page(typed), form, follow=True)
    assert "Already recorded as confirmed by agent." in text(again)
    typed.refresh_from_db()
    assert typed.confirmed_by == agent


def test_it_has_to_be_said_how(agent_client, typed):
    response = agent_client.post(confirm_page(typed), {"address": typed.email, "how": " - "})
    assert response.status_code == 422
    assert Contact.objects.get(pk=typed.pk).confirmed_by is None


def test_another_address_than_the_page_showed_is_not_confirmed(agent_client, manager, typed):
    seen, typed.email = typed.email, "other@customer.example"
    operations.save_record(typed, by=factories.acting(manager))
    form = {"address": seen, "how": "Called"}

    response = agent_client.post(confirm_page(typed), form)

    assert response.status_code == 422
    assert "manager changed the address of Ann Example meanwhile: it is other@customer.example now." in text(response)
    assert Contact.objects.get(pk=typed.pk).confirmed_by is None
    # The page shows the new one now, and what was typed stays.
    assert 'name="address" value="other@customer.example"' in response.content.decode()
    assert 'value="Called"' in response.content.decode()


def test_who_entered_it_is_told_before_any_click(agent, manager_client, account, typed):
    for address in (account_page(account), reverse("admin:unlocks_contact_change", args=[typed.pk])):
        response = manager_client.get(address)
        assert OWN in text(response)
        assert "Ask agent." in text(response)
        assert confirm_page(typed) not in response.content.decode()
    response = manager_client.get(confirm_page(typed))
    assert OWN in text(response)
    assert "Confirm ann@customer.example" not in text(response)
    refused = manager_client.post(confirm_page(typed), {"address": typed.email, "how": "Called"})
    assert (refused.status_code, Contact.objects.get(pk=typed.pk).confirmed_by) == (422, None)


def test_an_auditor_reads_and_confirms_nothing(auditor_client, account, typed):
    assert WAITS in text(auditor_client.get(account_page(account)))
    assert confirm_page(typed) not in auditor_client.get(account_page(account)).content.decode()
    assert auditor_client.get(confirm_page(typed)).status_code == 403
    assert auditor_client.post(confirm_page(typed), {"address": typed.email, "how": "Called"}).status_code == 403


def test_no_pin_is_offered_to_be_issued_by_who_entered_an_admin(manager_client, superuser_client, account, typed):
    issue = reverse("admin:unlocks_account_issue_pin", args=[account.pk])
    response = manager_client.get(issue)
    assert "Issue and email a new PIN" not in text(response)
    assert OWN in text(response)
    page = text(superuser_client.get(issue))
    assert "Ann Example, ann@customer.example, gets none: the address is not confirmed yet." in page
    assert "on file since" in page


# The request page


@pytest.fixture
def case(agent, manager):
    """A case whose Admin has a new address, typed by the manager."""
    case = factories.open_case(agent)
    operations.record_advice(case.unlock_request, advice="wants_export", by=factories.acting(agent))
    case.admin.email = "new@customer.example"
    operations.save_record(case.admin, by=factories.acting(manager))
    return case.refresh()


def test_the_next_step_is_to_confirm_the_address(agent_client, case):
    response = agent_client.get(page_of(case))
    step = response.context["next"]
    assert step.heading == f"The address of {case.admin.name} is not confirmed yet."
    assert "new@customer.example is on file since" in step.text
    assert "entered by manager" in step.text
    there = confirm_page(case.admin, request=case.unlock_request.pk)
    assert there in response.content.decode()

    form = {"address": "new@customer.example", "how": "Called the number in the contract"}
    response = agent_client.post(there, form)

    assert response["Location"] == page_of(case)
    response = agent_client.get(page_of(case))
    assert response.context["next"].verb == "send_link"
    assert "Confirmed by agent" not in response.context["next"].text
    assert "entered by manager, confirmed by agent on" in text(response)


def test_who_entered_it_is_told_who_can_confirm_it_send_and_issue(manager_client, agent, second_agent, case):
    step = manager_client.get(page_of(case)).context["next"]
    assert (step.verb, step.contact) == ("", None)
    assert "You entered it, so someone else has to confirm it. Ask agent or second-agent." in step.text

    factories.confirm(case.admin, agent)
    response = manager_client.get(page_of(case))
    step = response.context["next"]
    assert (step.verb, step.contact) == ("", None)
    assert sentence(Refusal.OWN_CONTACT, name=case.admin.name) in step.text
    assert "Ask agent or second-agent." in step.text
    assert "Send the consent link" not in text(response)
    assert "issue_pin" not in response.context["forms"]


def test_who_made_the_token_that_put_it_is_told_who_can_confirm_it(agent, manager, superuser, superuser_client):
    token, _ = factories.make_token("feed", "contacts", by=superuser)
    case = factories.open_case(agent)
    admin = factories.put_contact(case.admin, token=token)
    operations.record_advice(case.unlock_request, advice="wants_export", by=factories.acting(agent))
    step = superuser_client.get(page_of(case)).context["next"]
    assert step.text.endswith(f"{sentence(Refusal.OWN_CONTACT, name=admin.name)} Ask agent or manager.")

    admin.email = "typed@customer.example"
    operations.save_record(admin, by=factories.acting(manager))
    step = superuser_client.get(page_of(case)).context["next"]
    assert "You made the API token that put it, so someone else has to confirm it. Ask agent." in step.text


def test_who_entered_it_is_told_who_can_unlock(agent, manager, agent_client, manager_client):
    case = factories.case_consented(agent)
    case.admin.email = "new@customer.example"
    operations.save_record(case.admin, by=factories.acting(manager))
    step = manager_client.get(page_of(case)).context["next"]
    assert step.heading == "Ready for someone else to unlock: 2 batches."
    own = "entered or imported the address of the contact who consented, made them an Admin, or made the API token"
    own = f"{own} that they came by, so someone else must unlock"
    assert f"You {own}." in step.text
    act = factories.unlock(case.rows, by=factories.acting(manager))
    report = text(agent_client.get(reverse("admin:unlocks_act_change", args=[act.pk])))
    assert f"manager {own} ({case.unlock_request})." in report


def test_a_request_is_opened_for_no_admin_whom_nobody_confirmed(agent, agent_client, account, typed):
    batch = factories.make_batch(account=account)
    address = reverse("admin:unlocks_unlockrequest_add", query={"account": account.number})
    page = text(agent_client.get(address))
    assert "Ann Example, Admin (ann@customer.example) On file since" in page
    assert "entered by manager, not confirmed yet" in page
    form = {
        "requester": typed.pk,
        "bypass_reason": "by_mistake",
        "channel": "phone",
        "reason": "They want to export it.",
        "picked": [batch.pk],
        "open": "1",
    }
    response = agent_client.post(address, form)
    assert response.status_code == 422
    assert response.context["form"].errors.keys() == {"requester"}
    assert sentence(Refusal.NOT_CONFIRMED, name="Ann Example") in text(response)
    factories.confirm(typed, agent)
    assert agent_client.post(address, form).status_code == 302


@pytest.mark.parametrize("key", ["x", "0", "9" * 30])
def test_an_address_that_names_no_request_leads_to_the_account(agent_client, account, typed, key):
    form = {"address": typed.email, "how": "Called the number in the contract"}
    assert agent_client.post(confirm_page(typed, request=key), form)["Location"] == account_page(account)
