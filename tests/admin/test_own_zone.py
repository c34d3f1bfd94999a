"""Times on staff's pages: in the zone that the browser named, each with its zone; nothing else depends on it."""

import csv
import json
import re
from datetime import UTC, datetime, timedelta
from html import unescape
from io import StringIO
from zoneinfo import ZoneInfo

import pytest
import time_machine
from django.utils import timezone

from tests import factories
from tests.admin.test_lists import numbers
from unlocks import operations
from unlocks.models import Instruction, LedgerEntry
from unlocks.texts.formats import day, moment

REQUESTS, BATCHES, CONSENTS, LOG, USERS = (
    f"/desk/{path}/"
    for path in ("unlocks/unlockrequest", "unlocks/batch", "unlocks/consent", "unlocks/ledgerentry", "auth/user")
)
CLOCK = re.compile(r"(?<![\d:T+])\d{1,2}(?::\d\d)+(?: [ap]\.?m\.?)?(?: (\S+?)(?=[.,:;)]*(?: |$)))?", re.IGNORECASE)
# Morning in Paris, and the evening of the day before in Chicago and New York. Today: the guards go by their own clock.
EVENING = datetime.now(UTC).replace(hour=3, minute=30, second=0, microsecond=0)
PARIS = EVENING.astimezone(ZoneInfo("Europe/Paris"))
BEFORE = EVENING.date() - timedelta(days=1)


def words(response):
    assert response.status_code == 200
    body = re.sub(r"<script.*?</script>", "", response.content.decode(), flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", body)).split())


def zones(response):
    """Return the zones that follow the times on a page."""
    return {found[1] for found in CLOCK.finditer(words(response))}


@pytest.fixture
def evening():
    with time_machine.travel(EVENING, tick=False):
        yield


@pytest.fixture
def in_zone(superuser_client):
    def client(zone):
        if zone:
            superuser_client.cookies["zone"] = zone
        return superuser_client

    return client


@pytest.mark.parametrize(
    ("cookie", "names", "footer"),
    [
        (None, {"EST", "EDT"}, "America/New York"),
        ("America/Chicago", {"CST", "CDT"}, "America/Chicago"),
        ("Europe/Paris", {"CET", "CEST"}, "Europe/Paris"),
        ("America/Sao_Paulo", {"UTC-03"}, "America/Sao Paulo"),
    ],
)
def test_a_page_names_the_zone_of_its_reader(in_zone, agent, evening, cookie, names, footer):
    case = factories.case_unlocked(agent)
    client = in_zone(cookie)
    addresses = [
        *(f"{REQUESTS}{case.unlock_request.pk}/change/", f"{REQUESTS}{case.unlock_request.pk}/history/"),
        *(f"{BATCHES}{case.batch.pk}/change/", f"{BATCHES}{case.batch.pk}/history/", BATCHES),
        *(f"{CONSENTS}{case.consent.pk}/change/", CONSENTS, f"{USERS}{agent.pk}/change/", USERS),
        *(f"{LOG}{LedgerEntry.objects.last().pk}/change/", LOG, REQUESTS, "/desk/unlocks/instruction/?show=ended"),
    ]
    seen = {address: zones(client.get(address)) for address in addresses}
    found = set().union(*seen.values())
    assert found, seen
    assert found <= names, seen
    assert f"Times are in {footer}" in words(client.get(REQUESTS))
    assert timezone.get_current_timezone_name() == "America/New_York"


def test_a_forged_zone_is_none(in_zone):
    for forged in ("../../etc/passwd", "/etc/localtime", "localtime", "America", "a" * 5000, "<script>", "%00", "é"):
        assert "Times are in America/New York" in words(in_zone(forged).get("/desk/keys/")), forged


def test_a_day_begins_and_ends_where_it_is_read(in_zone, agent, evening):
    reference = factories.open_case(agent).unlock_request.reference
    on_that_day = {"since": f"{BEFORE}", "until": f"{BEFORE}"}
    assert numbers(in_zone("America/Chicago").get(REQUESTS, on_that_day)) == {reference}
    paris = in_zone("Europe/Paris").get(REQUESTS, on_that_day)
    assert numbers(paris) == set()
    assert [(spec.title, spec.said) for spec, _ in paris.context["cl"].on] == [
        ("opened since (Europe/Paris)", day(BEFORE)),
        ("opened until (Europe/Paris)", day(BEFORE)),
    ]


def test_a_file_has_the_zone_of_the_page(in_zone, agent, evening):
    factories.open_case(agent)
    response = in_zone("Europe/Paris").post(f"{REQUESTS}file/?since={PARIS.date()}", {"form": "csv"})
    columns, row, last = csv.reader(StringIO(response.getvalue().decode("utf-8-sig")))
    assert dict(zip(columns, row, strict=True))["Opened"] == PARIS.isoformat(" ")
    assert last == [
        "Complete: 1 row",
        "Times are in Europe/Paris",
        f"Opened since (Europe/Paris): {day(PARIS.date())}",
        f"By superuser, {PARIS:%Y-%m-%d %H:%M:%S}",
    ]
    assert timezone.get_current_timezone_name() == "America/New_York"


def test_what_is_stored_and_signed_does_not_depend_on_it(agent, evening):
    factories.record_certificate_key()
    case = factories.case_unlocked(agent)
    with timezone.override("Asia/Tokyo"):
        operations.mark_re_exported(case.rows, by=factories.acting(agent))
        issued = operations.issue_certificate(case.consent, by=factories.acting(agent))
    assert set(case.rows.values_list("exported_on", flat=True)) == {BEFORE}
    facts = json.loads(issued.content)["certificate"]
    assert (facts["time_zone"], facts["issued_at"]) == ("America/New_York", EVENING.isoformat())


def test_what_was_shown_is_told_though_the_zone_becomes_known_meanwhile(in_zone, agent, evening):
    """The first page knows no zone; the form comes back with one."""
    case = factories.case_unlocking(agent)
    page, address = in_zone(None), "/desk/unlocks/instruction/"
    shown_at = re.search(r'name="shown_at" value="([^"]+)"', page.get(address).content.decode())[1]
    ticked = {"verb": "start", "all": "on", "index": "0", "shown_at": unescape(shown_at)}
    in_zone("Europe/Paris").post(address, ticked)
    assert set(Instruction.objects.filter(batch__in=case.rows).values_list("state", flat=True)) == {"sent"}


def test_customers_keep_the_zone_of_their_account(client, agent, evening):
    case = factories.case_awaiting(agent, account=factories.make_account(time_zone="America/Chicago"))
    client.cookies["zone"] = "Europe/Paris"
    page = words(client.get(case.url, follow=True))
    assert zones(client.get(case.url, follow=True)) <= {"CST", "CDT"}
    with timezone.override("America/Chicago"):
        assert moment(case.link.expires_at) in page
