"""The page of API tokens: superusers alone; each token is shown once."""

import re

import pytest
from django.urls import reverse

from tests.factories import make_token
from unlocks.models import ApiToken, LedgerEntry

pytestmark = pytest.mark.django_db
LIST, ADD = "admin:unlocks_apitoken_changelist", "admin:unlocks_apitoken_add"


def typed(client, **fields):
    page = client.get(reverse(ADD)).content.decode()
    key = re.search(r'name="key" value="([^"]+)"', page)[1]
    return {"key": key, "system": "portal", "name": "Server 1", "scopes": ["read", "requests"], "days": "30"} | fields


def shown(response):
    """Return the token that a page shows, or None."""
    found = re.search(r'<p class="mono">(ud_[^<]+)</p>', response.content.decode())
    return found and found[1]


def test_a_token_is_shown_once(superuser_client):
    form = typed(superuser_client)
    made = superuser_client.post(reverse(ADD), form)
    again = superuser_client.post(reverse(ADD), form)
    assert "records: Put accounts and batches with their items" in superuser_client.get(reverse(ADD)).content.decode()
    token = ApiToken.objects.get()
    later = superuser_client.get(reverse("admin:unlocks_apitoken_change", args=[token.pk]))
    assert [bool(shown(page)) for page in (made, again, later)] == [True, False, False]
    assert "nothing was done twice" in again.content.decode()
    assert "no-store" in made["Cache-Control"]
    assert (token.system.username, token.scopes, token.name) == ("portal", "read requests", "Server 1")
    assert (token.expires_at - token.made_at).days in (29, 30)
    listed = superuser_client.get(reverse(LIST)).content.decode()
    assert "Server 1" in listed
    assert "Works" in listed


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"system": ""}, "Name the system that gets the token."),
        ({"system": "superuser"}, "superuser is not a system but a member of staff."),
        ({"scopes": []}, "Choose what it may do."),
        ({"scopes": ["contacts", "unlock"]}, "it could make up a customer alone"),
        ({"scopes": ["read", "everything"]}, "Select a valid choice."),
        ({"days": "9999"}, "Select a valid choice."),
        ({"name": ""}, "Say what the token is for."),
    ],
)
def test_what_is_wrong_is_said(superuser_client, fields, says):
    answer = superuser_client.post(reverse(ADD), typed(superuser_client, **fields))
    assert (answer.status_code, says in answer.content.decode()) == (422, True)
    assert not ApiToken.objects.exists()


def test_a_token_is_revoked(superuser, superuser_client):
    token, _ = make_token("portal", "read", by=superuser)
    for says in ("no call by it is answered any more", "Already recorded as revoked"):
        answer = superuser_client.post(reverse("admin:unlocks_apitoken_revoke", args=[token.pk]), follow=True)
        assert says in answer.content.decode()
    token.refresh_from_db()
    assert token.revoked_by == superuser
    assert LedgerEntry.objects.filter(kind="api_token_revoked").count() == 1


def test_only_superusers_see_tokens(superuser, manager_client, auditor_client, agent_client):
    token, _ = make_token("portal", "read", by=superuser)
    pages = [reverse(LIST), reverse(ADD), reverse("admin:unlocks_apitoken_change", args=[token.pk])]
    for client in (manager_client, auditor_client, agent_client):
        assert [client.get(page).status_code for page in pages] == [403] * 3
        assert client.post(reverse("admin:unlocks_apitoken_revoke", args=[token.pk])).status_code == 403
    token.refresh_from_db()
    assert token.revoked_at is None


def test_the_staff_pages_make_no_colleague_of_a_system(superuser, superuser_client):
    token, _ = make_token("portal", "read", by=superuser)
    system, page = token.system, reverse("admin:auth_user_change", args=[token.system_id])
    assert "password" not in superuser_client.get(page).context["adminform"].form.fields
    forged = {"is_staff": "on", "is_superuser": "on", "is_active": "on", "password": "x", "groups": ["1"]}
    superuser_client.post(page, forged)
    password = reverse("admin:auth_user_password_change", args=[system.pk])
    passwords = {"password1": "made-up-password-1", "password2": "made-up-password-1", "usable_password": "true"}
    assert superuser_client.post(password, passwords).status_code == 403
    system.refresh_from_db()
    assert (system.is_staff, system.is_superuser, system.has_usable_password(), system.groups.count()) == (
        False,
        False,
        False,
        0,
    )
    superuser_client.post(page, {"initial-is_active": "on"})
    system.refresh_from_db()
    assert not system.is_active
