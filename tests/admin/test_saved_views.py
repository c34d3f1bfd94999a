"""Saved views: one's own and shared ones, what is kept of an address, and who may do what to one."""

import pytest

from tests import factories
from tests.admin.test_lists import BATCHES, LOG
from unlocks.models import SavedView

REQUESTS = "/desk/unlocks/unlockrequest/"
VIEWS = f"{REQUESTS}views/"


def save(client, name="Mine", query="assignee=me", shared=False, at=VIEWS):
    return client.post(at, {"name": name, "query": query} | ({"shared": "on"} if shared else {}))


def saved():
    return set(SavedView.objects.values_list("owner__username", "list", "name", "query", "shared"))


def tabs(client, address=REQUESTS):
    changelist = client.get(address).context["cl"]
    names = [[view.name for view in views] for views in (changelist.own_views, changelist.shared_views)]
    return [*names, changelist.current_view and changelist.current_view.name]


def test_a_view_is_saved_opened_and_marked(agent_client):
    response = save(agent_client, query="p=3&total_from=100&assignee=me&nonsense=1&channel__exact=")
    view = SavedView.objects.get()
    assert saved() == {("agent", "unlockrequest", "Mine", "assignee=me&total_from=100", False)}
    assert (response.status_code, response["Location"]) == (302, f"{VIEWS}{view.pk}/")
    opened = agent_client.get(f"{VIEWS}{view.pk}/")
    assert (opened.status_code, opened["Location"]) == (302, f"{REQUESTS}?assignee=me&total_from=100")
    assert tabs(agent_client, f"{REQUESTS}?total_from=100&assignee=me&p=1") == [["Mine"], [], "Mine"]
    assert tabs(agent_client) == [["Mine"], [], None]
    assert tabs(agent_client, BATCHES) == [[], [], None]


@pytest.mark.parametrize(
    ("typed", "errors"),
    [
        ({"name": ""}, {"name": ["This field is required."]}),
        ({"name": "Old"}, {"name": ["You have a view with this name already. Choose another name."]}),
        ({"name": "old "}, {"name": ["You have a view with this name already. Choose another name."]}),
        ({"name": "x" * 61}, {"name": ["Ensure this value has at most 60 characters (it has 61)."]}),
        ({"query": ""}, {"query": ["This is the whole list. Filter or sort it first."]}),
        ({"query": "nonsense=1&\0"}, {"query": ["This is the whole list. Filter or sort it first."]}),
        ({"query": f"q={'x' * 2001}"}, {"query": ["These filters are too long to be saved. Take some off."]}),
    ],
)
def test_what_can_not_be_saved_is_said_beside_its_field(agent_client, typed, errors):
    save(agent_client, "Old")
    before = saved()
    response = save(agent_client, **{"name": "New", "query": "assignee=nobody"} | typed)
    assert (response.status_code, response.context["form"].errors) == (422, errors)
    assert saved() == before


def test_a_person_has_thirty_views_of_a_list(agent_client, manager_client):
    for number in range(30):
        save(agent_client, f"View {number}")
    response = save(agent_client, "One more")
    assert response.context["form"].errors == {"name": ["You have 30 views of this list. Delete one of them first."]}
    assert SavedView.objects.count() == 30
    assert save(agent_client, "Of batches", "show=bypassed", at=f"{BATCHES}views/").status_code == 302
    assert save(manager_client).status_code == 302


def test_others_open_and_copy_what_is_shared_and_nothing_else(agent_client, manager_client):
    save(agent_client, "Ours", shared=True)
    save(agent_client, "Secret", "assignee=nobody")
    ours, secret = (f"{VIEWS}{SavedView.objects.get(name=name).pk}/" for name in ("Ours", "Secret"))
    assert tabs(manager_client, f"{REQUESTS}?assignee=me") == [[], ["Ours"], "Ours"]
    assert tabs(manager_client, f"{REQUESTS}?assignee=nobody") == [[], ["Ours"], None]
    assert manager_client.get(ours)["Location"] == f"{REQUESTS}?assignee=me"
    before = saved()
    for do in ("share", "keep", "delete"):
        assert [manager_client.post(at, {"do": do}).status_code for at in (ours, secret)] == [403, 404]
    assert manager_client.get(secret).status_code == manager_client.post(secret, {"do": "copy"}).status_code == 404
    assert saved() == before
    assert manager_client.post(ours, {"do": "copy"}).status_code == 302
    assert saved() == before | {("manager", "unlockrequest", "Ours", "assignee=me", False)}
    again = manager_client.post(ours, {"do": "copy"})
    assert (again.status_code, list(again.context["form"].errors)) == (422, ["name"])


def test_its_owner_shares_keeps_and_deletes_it(agent_client, manager_client):
    save(agent_client, shared=True)
    view = f"{VIEWS}{SavedView.objects.get().pk}/"
    agent_client.post(view, {"do": "keep"})
    assert manager_client.get(view).status_code == 404
    agent_client.post(view, {"do": "share"})
    assert manager_client.get(view).status_code == 302
    assert agent_client.post(view, {"do": "erase"}).status_code == 400
    agent_client.post(view, {"do": "delete"})
    assert saved() == set()
    assert agent_client.post(view, {"do": "delete"}).status_code == 404


def test_a_filter_that_is_gone_is_named_and_left_out(agent_client, agent):
    view = SavedView.objects.create(
        list="unlockrequest", name="Old", query="assignee=me&mood=bad", owner=agent, made_at="2026-01-01T00:00:00Z"
    )
    page = agent_client.get(f"{VIEWS}{view.pk}/", follow=True)
    assert page.redirect_chain == [(f"{REQUESTS}?assignee=me", 302)]
    said = "“Old” also filters by mood, which this list does not know. That is left out."
    assert said in page.content.decode()


def test_only_whoever_sees_the_list_has_views_of_it(agent_client, manager_client, client):
    log = f"{LOG}views/"
    assert save(manager_client, "Links", "kind=link_sent", shared=True, at=log).status_code == 302
    view = f"{log}{SavedView.objects.get().pk}/"
    copied = agent_client.post(view, {"do": "copy"})
    answers = [agent_client.get(log), agent_client.get(view), save(agent_client, at=log), copied]
    assert [answer.status_code for answer in answers] == [403] * 4
    assert manager_client.get(f"{VIEWS}{SavedView.objects.get().pk}/").status_code == 404  # it is of another list
    assert [client.get(view).status_code, client.post(VIEWS, {"name": "x"}).status_code] == [302, 403]
    assert SavedView.objects.count() == 1


def test_the_page_without_a_list_asks_for_the_name(agent_client):
    factories.make_batch()
    page = agent_client.get(VIEWS, {"assignee": "me", "p": "2"})
    assert (page.status_code, page.context["form"]["query"].value()) == (200, "assignee=me")
