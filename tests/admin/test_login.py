"""Where signing in leads."""

import pytest
from django.test import Client

from tests import factories

pytestmark = pytest.mark.django_db

PASSWORD = "correct-horse-battery"


@pytest.mark.parametrize(
    ("asked", "leads_to"),
    [
        ("/desk/unlocks/batch/?show=ready", "/desk/unlocks/batch/?show=ready"),
        ("/desk/unlocks/unlockrequest/add/", "/desk/unlocks/unlockrequest/add/"),
        ("/desk/", "/desk/"),
        ("/desk/nowhere/", "/desk/"),
        ("/desk/unlocks/batch/nowhere/else/", "/desk/"),
        ("/desk/unlocks/nothing/1/change/", "/desk/"),
        ("/desk/logout/", "/desk/"),
        ("/desk/jsi18n/", "/desk/"),
        ("/desk/unlocks/consentterms/new/", "/desk/"),
        ("/nowhere/", "/desk/"),
        ("/consent/", "/desk/"),
        ("nowhere", "/desk/"),
        ("//elsewhere.example/desk/", "/desk/"),
        ("https://elsewhere.example/desk/", "/desk/"),
        ("javascript:alert(1)", "/desk/"),
        ("/desk/\0", "/desk/"),
        ("", "/desk/"),
    ],
)
def test_signing_in_leads_to_a_page(asked, leads_to):
    factories.make_user("dana", group="Agent", password=PASSWORD)
    typed, client = {"username": "dana", "password": PASSWORD}, Client()
    answer = client.post(f"/desk/login/?next={asked}", typed | {"next": asked})
    assert (answer.status_code, answer.url) == (302, leads_to)
    assert client.get(answer.url).status_code == 200
    # Somebody who is signed in already is sent on at once.
    assert client.get("/desk/login/", {"next": asked}).url == "/desk/"
