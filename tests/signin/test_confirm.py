"""Before what counts most, staff confirm that it is they; then the form that they sent is carried out."""

from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
import time_machine
from django.urls import reverse
from django.utils import timezone

from tests import factories
from tests.admin.test_bulk import address, select
from tests.attacks import difference, snapshot
from tests.papers import PDF
from tests.signin.factors import PASSWORD
from unlocks import operations
from unlocks.actors import Actor
from unlocks.models import Act, ApiToken, LedgerEntry, RequestedBatch

pytestmark = pytest.mark.django_db


@pytest.fixture
def agent(agent):
    operations.set_password(agent, PASSWORD, by=Actor.desk())
    return agent


@pytest.fixture
def superuser(superuser):
    operations.set_password(superuser, PASSWORD, by=Actor.desk())
    return superuser


def asked(client, send):
    """Send something after the time is over: it leads to the page that asks who it is, and nothing is done."""
    client.get("/desk/keys/")
    clock = time_machine.travel(timezone.now() + timedelta(minutes=11))
    clock.start()
    before = snapshot()
    answer = send()
    assert difference(before, snapshot()) == []
    assert answer.url.startswith("/staff/confirm/?next=")
    return clock, parse_qs(urlsplit(answer.url).query)["next"][0]


def confirm(client, to, password=PASSWORD):
    return client.post("/staff/confirm/", {"password": password, "next": to})


def typed(user, **changes):
    return {"first_name": user.first_name, "last_name": "", "email": "", "is_active": "on"} | changes


def test_a_change_of_staff(superuser, superuser_client, agent):
    page = reverse("admin:auth_user_change", args=[agent.pk])
    clock, to = asked(superuser_client, lambda: superuser_client.post(page, typed(agent, first_name="Dana")))
    assert "That is not your password." in confirm(superuser_client, to, "wrong").content.decode()
    assert LedgerEntry.objects.filter(kind="sign_in_failed", user=None, about_id=superuser.pk).count() == 1
    answer = confirm(superuser_client, to)
    clock.stop()
    agent.refresh_from_db()
    assert (answer.url, agent.first_name) == ("/desk/auth/user/", "Dana")


def test_a_token_of_the_api(superuser, superuser_client):
    token, _ = factories.make_token("portal", "read", by=superuser)
    revoke = reverse("admin:unlocks_apitoken_revoke", args=[token.pk])
    clock, to = asked(superuser_client, lambda: superuser_client.post(revoke))
    assert superuser_client.get(reverse("admin:unlocks_apitoken_add")).url.startswith("/staff/confirm/")
    assert ApiToken.objects.get().revoked_at is None
    superuser_client.post(revoke)
    confirm(superuser_client, to)
    clock.stop()
    assert ApiToken.objects.get().revoked_at


def test_an_opened_file_of_evidence(agent, agent_client, evidence_place, settings):
    settings.PHONE_CONSENT = True
    case = factories.case_recorded_by_phone(agent)
    paper = operations.attach_evidence(
        case.consent, what="signed_paper", file_name="a.pdf", content=PDF, by=factories.acting(agent)
    )
    page = reverse("admin:consent_evidence", args=[case.consent.pk, paper.pk])
    clock, to = asked(agent_client, lambda: agent_client.get(page))
    back = reverse("admin:unlocks_consent_change", args=[case.consent.pk])
    assert (to, confirm(agent_client, to).url) == (back, back)
    assert agent_client.get(page).status_code == 200
    clock.stop()


def test_an_unlock_of_many_batches(agent, agent_client, settings):
    settings.CONFIRM_BATCHES = 1
    case = factories.case_consented(agent, batches=factories.make_batches(n=2))
    selection = select(agent, case.batches)
    key = agent_client.get(address(selection)).context["form"]["key"].value()
    clock, to = asked(agent_client, lambda: agent_client.post(address(selection), {"key": key}))
    assert Act.objects.count() == 0
    answer = confirm(agent_client, to)
    clock.stop()
    assert answer.url == reverse("admin:unlocks_act_change", args=[Act.objects.get().pk])
    assert set(case.unlock_request.lines.values_list("outcome", flat=True)) == {RequestedBatch.Outcome.UNLOCKING}


def test_an_unlock_of_few_asks_nothing(agent, agent_client):
    case = factories.case_consented(agent)
    selection = select(agent, case.batches)
    key = agent_client.get(address(selection)).context["form"]["key"].value()
    with time_machine.travel(timezone.now() + timedelta(minutes=11)):
        assert agent_client.post(address(selection), {"key": key}).url.startswith("/desk/unlocks/act/")


def test_a_file_of_many_rows(agent, agent_client, settings):
    settings.CONFIRM_ROWS = 1
    account = factories.make_account()
    factories.make_batches(n=2, account=account)
    page = f"{reverse('admin:unlocks_batch_file')}?q={account.number}"
    clock, to = asked(agent_client, lambda: agent_client.post(page, {"form": "csv"}))
    assert to == f"/desk/unlocks/batch/?q={account.number}"
    assert confirm(agent_client, to).url == to
    assert agent_client.post(page, {"form": "csv"}).status_code == 200
    clock.stop()


def test_another_browser_confirms_nothing(superuser, superuser_client, agent, client):
    """What was suspended waits in the session in which it was sent."""
    page = reverse("admin:auth_user_change", args=[agent.pk])
    clock, to = asked(superuser_client, lambda: superuser_client.post(page, typed(agent, first_name="Dana")))
    client.force_login(superuser)
    assert confirm(client, to).url == to
    clock.stop()
    agent.refresh_from_db()
    assert agent.first_name == ""
