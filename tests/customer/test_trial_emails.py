"""The page that shows the emails of a trial run."""

from datetime import UTC, datetime

import pytest
from django.core.mail import EmailMessage, get_connection

from unlocks.customer import trial_emails

pytestmark = pytest.mark.django_db


@pytest.fixture
def trial(settings, tmp_path):
    settings.TRIAL, settings.EMAIL_BACKEND, settings.EMAIL_FILE_PATH = True, trial_emails.FILES, str(tmp_path)
    return settings


def made(number):
    message = EmailMessage(
        f"Email {number} – ünlock", f"Hello <b>,\n\nhttps://desk.example/consent/{number}/\n", to=["d@customer.example"]
    )
    message.extra_headers = {"Date": f"Thu, 26 Nov 2026 10:{number:02}:00 -0000"}
    return message


def test_emails_are_listed_the_newest_first_with_their_links(client, trial):
    first, second = made(1), made(2)
    second.attach("consent.json", "{}", "application/json")
    first.send()
    second.send()
    page = client.get("/trial/emails/")
    assert page.context["emails"] == [
        (
            datetime(2026, 11, 26, 10, number, tzinfo=UTC),
            "d@customer.example",
            f"Email {number} – ünlock",
            f"Hello <b>,\n\nhttps://desk.example/consent/{number}/\n",
            files,
        )
        for number, files in [(2, ["consent.json"]), (1, [])]
    ]
    text = page.content.decode()
    assert '<a href="https://desk.example/consent/2/" rel="nofollow">' in text
    assert "Hello &lt;b&gt;," in text
    assert "Attached: consent.json" in text
    assert page["Cache-Control"] == "max-age=0, no-cache, no-store, must-revalidate, private"


def test_emails_of_one_connection_and_no_more_than_fit(client, trial):
    get_connection().send_messages([made(number) for number in range(59)])
    page = client.get("/trial/emails/")
    assert [email.subject for email in page.context["emails"]] == [f"Email {n} – ünlock" for n in range(58, 8, -1)]
    assert "Older emails are files" in page.content.decode()


def test_before_the_first_email(client, trial):
    assert "No email was sent yet." in client.get("/trial/emails/").content.decode()


@pytest.mark.parametrize("name", ["TRIAL", "EMAIL_BACKEND"])
def test_only_a_trial_run_has_it(client, trial, name):
    setattr(trial, name, "")
    assert client.get("/trial/emails/").status_code == 404
