"""The case file on the request page: who is offered it, and how it is sent."""

import io
from zipfile import ZipFile

import pytest
from django.contrib.messages import get_messages

from tests import factories
from unlocks.models import LedgerEntry

pytestmark = pytest.mark.django_db


@pytest.fixture
def case(agent):
    return factories.case_awaiting(agent)


def address(case):
    return f"{case.unlock_request.get_absolute_url().removesuffix('change/')}case-file/"


@pytest.mark.parametrize(("role", "offered"), [("agent", 0), ("manager", 1), ("auditor", 1), ("superuser", 1)])
def test_it_is_offered_to_those_who_may_have_it(request, case, role, offered):
    page = request.getfixturevalue(f"{role}_client").get(case.unlock_request.get_absolute_url()).content.decode()
    assert page.count(f'action="{address(case)}"') == offered
    assert page.count("Case file (ZIP)") == offered


def test_it_is_sent_as_a_zip_once_that_is_on_record(auditor_client, auditor, case):
    factories.record_certificate_key()
    response = auditor_client.post(address(case))
    newest = LedgerEntry.objects.latest("sequence")
    assert (newest.kind, newest.user, newest.unlock_request) == ("case_file_made", auditor, case.unlock_request)
    assert (response.status_code, response["Content-Type"], response["Content-Disposition"]) == (
        200,
        "application/zip",
        f'attachment; filename="{case.unlock_request}-case-file.zip"',
    )
    with ZipFile(io.BytesIO(response.getvalue())) as archive:
        assert archive.testzip() is None
        assert f"{case.unlock_request}/README.txt" in archive.namelist()


def test_only_a_post_takes_it_and_not_for_agents(agent_client, manager_client, case):
    factories.record_certificate_key()
    before = LedgerEntry.objects.count()
    assert manager_client.get(address(case)).status_code == 405
    assert agent_client.post(address(case)).status_code == 403
    assert manager_client.post(address(case).replace(str(case.unlock_request.pk), "9" * 30)).status_code == 404
    assert LedgerEntry.objects.count() == before


def test_without_a_key_the_page_says_what_is_wrong(manager_client, case):
    before = LedgerEntry.objects.count()
    response = manager_client.post(address(case))
    assert (response.status_code, response.url) == (302, case.unlock_request.get_absolute_url())
    [message] = get_messages(response.wsgi_request)
    assert str(message).startswith("No case file was made. No certificate can be signed")
    assert LedgerEntry.objects.count() == before
