"""The reviews: their list, and what a reviewer says on the page of a case."""

import pytest
from django.urls import reverse

from tests.factories import acting, case_unlocked, make_user
from unlocks import operations
from unlocks.models import ReviewDecision

pytestmark = pytest.mark.django_db
URL = reverse("admin:unlocks_review_changelist")
OFFERED = 'name="verb" value="sign_off"'


@pytest.fixture
def closed(agent, settings):
    settings.REVIEW_SHARE = 100

    def made():
        case = case_unlocked(agent)
        operations.mark_re_exported(case.rows, by=acting(agent))
        return case.refresh()

    return made


def text(answer):
    return " ".join(answer.content.decode().split())


def listed(client, show=""):
    rows = text(client.get(URL, {"show": show} if show else {})).split("<tbody>")[-1]
    return [word for word in rows.replace("<", " ").replace(">", " ").split() if word.startswith("UR-")]


def post(client, case, verb, note="", **more):
    address = case.unlock_request.get_absolute_url()
    return client.post(address, {"verb": verb, "note": note, **more}, follow=True)


def decisions(case):
    found = ReviewDecision.objects.filter(review__unlock_request=case.unlock_request)
    return [(one.decision, one.note, one.by.username) for one in found]


def test_each_case_stands_where_it_is(closed, manager, manager_client):
    waiting, flagged, resolved, signed = (closed() for _ in range(4))
    by = acting(manager)
    for case in (flagged, resolved):
        operations.flag_case(case.unlock_request, note="Who called?", by=by)
    operations.resolve_flag(resolved.unlock_request, note="The owner.", by=by)
    operations.sign_off(signed.unlock_request, by=by)

    references = [case.unlock_request.reference for case in (waiting, flagged, resolved, signed)]
    assert listed(manager_client) == references[::-1]
    assert listed(manager_client, "waiting") == references[:1]
    assert listed(manager_client, "flagged") == references[1:2]
    assert listed(manager_client, "reviewed") == [references[3], references[2]]
    page = text(manager_client.get(URL))
    assert "Drawn at random" in page
    assert manager.username in page
    found = manager_client.get(URL, {"q": waiting.account.number})
    assert [row.unlock_request_id for row in found.context["cl"].result_list] == [waiting.unlock_request.pk]


def test_a_review_leads_to_its_case(closed, manager_client):
    case = closed()
    answer = manager_client.get(reverse("admin:unlocks_review_change", args=[case.unlock_request.review.pk]))
    assert (answer.status_code, answer.url) == (302, f"{case.unlock_request.get_absolute_url()}#review")


def test_a_manager_signs_off(closed, manager, manager_client):
    case = closed()
    page = text(manager_client.get(case.unlock_request.get_absolute_url()))
    assert "A second person looks at this case: drawn at random." in page
    assert OFFERED in page

    said = text(post(manager_client, case, "sign_off"))

    assert f"{case.unlock_request} is signed off." in said
    assert "<b>Signed off</b> by manager" in said
    assert OFFERED not in said
    assert decisions(case) == [("signed_off", "", "manager")]


def test_a_flag_needs_a_note_and_is_resolved(closed, manager, manager_client):
    case = closed()
    refused = post(manager_client, case, "flag")
    assert (refused.status_code, "Say what is wrong." in text(refused), decisions(case)) == (422, True, [])

    said = text(post(manager_client, case, "flag", note="Who called?"))
    assert "It stays in sight until that is resolved." in said
    assert '<span class="tag bad">Flagged</span>' in said
    assert OFFERED not in said
    post(manager_client, case, "resolve_flag", note="The owner did.")
    assert decisions(case) == [("flagged", "Who called?", "manager"), ("resolved", "The owner did.", "manager")]


def test_a_second_submit_does_nothing(closed, manager_client):
    case = closed()
    key = "5f0c9a52-6a53-4f6e-9c4c-0c5f3f5f8a01"
    for _ in range(2):
        post(manager_client, case, "flag", note="Who called?", key=key)
    assert len(decisions(case)) == 1


def test_whoever_took_part_reads_why_not(closed, agent, client):
    case = closed()
    agent.groups.set(make_user("other", group="Manager").groups.all())
    client.force_login(agent)
    page = text(client.get(case.unlock_request.get_absolute_url()))
    assert "You opened this case, recorded its consent, unlocked batches of it" in page
    assert OFFERED not in page
    assert post(client, case, "sign_off").status_code == 422
    assert decisions(case) == []


@pytest.mark.parametrize("who", ["agent_client", "auditor_client"])
def test_others_do_not_review(closed, request, who):
    case, client = closed(), request.getfixturevalue(who)
    page = text(client.get(case.unlock_request.get_absolute_url()))
    assert ("A second person looks at this case" in page) == (who == "auditor_client")
    assert OFFERED not in page
    assert post(client, case, "sign_off").status_code == 403
    assert decisions(case) == []


def test_the_list_costs_the_same_for_one_and_for_four(closed, manager_client, django_assert_num_queries):
    closed()
    with django_assert_num_queries(6) as counted:
        manager_client.get(URL)
    for _ in range(3):
        closed()
    with django_assert_num_queries(len(counted)):
        manager_client.get(URL)


def test_the_queue_shows_a_flag_until_it_is_resolved(closed, manager, manager_client, auditor_client, agent_client):
    case, _ = closed(), closed()
    flag, waiting = "1 flagged case</b>", "closed cases to review</b>"

    def seen(words):
        clients = {"manager": manager_client, "auditor": auditor_client, "agent": agent_client}
        return {name for name, client in clients.items() if words in text(client.get("/desk/"))}

    assert (seen(flag), seen(waiting)) == (set(), {"manager"})
    operations.flag_case(case.unlock_request, note="Who called?", by=acting(manager))
    assert (seen(flag), seen("1 closed case to review</b>")) == ({"manager", "auditor"}, {"manager"})
    operations.resolve_flag(case.unlock_request, note="The owner.", by=acting(manager))
    assert seen(flag) == set()
