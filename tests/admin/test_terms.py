"""The pages of the consent terms: who sees and does what, what they say, and what a customer would see."""

import html
import re

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tests import factories
from tests.attacks import difference, snapshot
from tests.factories import acting
from unlocks import operations
from unlocks.admin.site import desk
from unlocks.admin.terms import example
from unlocks.digest import sha256
from unlocks.models import ConsentTerms
from unlocks.texts import first_terms

LIST = "/desk/unlocks/consentterms/"
NEW = f"{LIST}new/"
TEXT = "{vendor} has no part in what you do in {accounting_software}.\n\nYou answer for it."


def page(first_terms, name="change"):
    return f"{LIST}{first_terms.pk}/{name}/"


@pytest.fixture
def second_manager(db):
    return factories.make_user("second-manager", group="Manager")


@pytest.fixture
def first(db):
    return ConsentTerms.objects.get(version=1)


@pytest.fixture
def draft(manager):
    draft = operations.draft_terms(by=acting(manager))
    return operations.edit_terms(draft, title="Other terms", text=TEXT, by=acting(manager))


@pytest.fixture
def second_client(client, second_manager):
    client.force_login(second_manager)
    return client


def publish(draft, user):
    return operations.publish_terms(draft, seen=operations.terms_seen(draft), by=acting(user))


def typed(draft, **changes):
    return {"title": draft.title, "text": draft.text, "seen": operations.terms_seen(draft)} | changes


def raw(response):
    return response.content.decode()


def words(response):
    """What stands on the page to be read, on one line."""
    body = re.sub(r"<(script|style|title)\b.*?</\1>", " ", raw(response).split("<main")[1], flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


# Who may


ROLES = ["agent", "manager", "auditor", "superuser"]


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("name", ["change", "preview", "compare"])
def test_every_role_looks_at_terms_and_drafts(request, draft, first, role, name):
    client = request.getfixturevalue(f"{role}_client")
    before = snapshot()
    assert [client.get(page(version, name)).status_code for version in (draft, first)] == [200, 200]
    assert client.head(page(draft, name)).status_code == 200
    assert difference(before, snapshot()) == []


@pytest.mark.parametrize("role", ROLES)
def test_only_those_who_may_draft_and_publish(request, draft, role):
    client = request.getfixturevalue(f"{role}_client")
    may = role in ("manager", "superuser")
    assert client.get(page(draft, "publish")).status_code == (200 if may else 403)
    shown = raw(client.get(page(draft)))
    assert ('name="text"' in shown) == may
    before = snapshot()
    if not may:
        assert client.post(NEW).status_code == 403
        assert client.post(page(draft), typed(draft, text="Forged")).status_code == 403
        assert client.post(page(draft), {}).status_code == 403
        assert client.post(page(draft, "publish"), {"seen": operations.terms_seen(draft)}).status_code == 403
        assert difference(before, snapshot()) == []


@pytest.mark.parametrize("name", ["change", "preview", "compare", "publish"])
def test_nobody_looks_without_signing_in_or_without_a_role(client, draft, name):
    assert client.get(page(draft, name))["Location"].startswith("/desk/login/")
    client.force_login(factories.make_user("newcomer"))
    assert client.get(page(draft, name)).status_code == 403


@pytest.mark.parametrize(
    "address", ["999999/change/", "x/change/", "999999/preview/", "999999/compare/", "9" * 30 + "/publish/"]
)
def test_there_is_no_such_version(superuser_client, address):
    assert superuser_client.get(LIST + address, follow=True).status_code == 404


@pytest.mark.parametrize(
    ("method", "name"), [("post", "preview"), ("post", "compare"), ("put", "change"), ("delete", "publish")]
)
def test_what_only_shows_takes_nothing(superuser_client, draft, method, name):
    assert getattr(superuser_client, method)(page(draft, name)).status_code == 405


def test_a_wrong_address_leads_to_the_list(client, manager_client, superuser_client):
    for who in (manager_client, superuser_client):
        assert who.get(f"{LIST}add/").url == LIST
    client.force_login(factories.make_user("newcomer"))
    assert client.get(f"{LIST}add/").status_code == 403


def test_one_is_no_plural(manager_client):
    assert "<span>1 version</span>" in raw(manager_client.get(LIST))


def test_each_page_has_its_title(second_client, draft):
    titles = [
        re.search("<title>(.*?)</title>", raw(second_client.get(page(draft, name))))[1]
        for name in ("change", "compare", "publish", "preview")
    ]
    assert titles == [
        "Terms version 2 · Unlock Desk",
        "Version 1 and 2 compared · Unlock Desk",
        "Publish version 2? · Unlock Desk",
        "Preview of version 2 · Unlock Desk",
    ]


def test_starting_a_version_is_no_get(superuser_client):
    assert superuser_client.get(NEW).status_code == 405
    assert ConsentTerms.objects.count() == 1


# The list


def test_the_list_says_where_each_version_stands(manager_client, manager, second_manager, agent, draft):
    factories.case_consented(agent)
    factories.case_awaiting(agent)
    publish(draft, second_manager)
    factories.case_awaiting(agent)
    operations.draft_terms(by=acting(manager))
    rows = manager_client.get(LIST).context["cl"].result_list
    model_admin = desk.get_model_admin(ConsentTerms)
    day = f"{timezone.localtime():%b %-d, %Y}"
    # A run of the tests may make the database before midnight.
    first = f"{timezone.localtime(ConsentTerms.objects.get(version=1).published_at):%b %-d, %Y}"
    assert [[str(getattr(model_admin, name)(row)) for name in model_admin.list_display[2:]] for row in rows] == [
        ['<span class="tag wait">Draft</span>', f"{day}, manager", "", "0", "0"],
        [f'<span class="tag good">In force since {day}</span>', f"{day}, manager", f"{day}, second-manager", "1", "0"],
        [f'<span class="tag ">Replaced {day}</span>', "", first, "2", "1"],
    ]


def test_the_list_costs_the_same_for_many_versions(manager_client, manager, second_manager, django_assert_num_queries):
    manager_client.get(LIST)
    with CaptureQueriesContext(connection) as one:
        manager_client.get(LIST)
    for number in range(3):
        draft = operations.draft_terms(by=acting(manager))
        draft = operations.edit_terms(draft, title=f"Title {number}", text="Text", by=acting(manager))
        publish(draft, second_manager)
    with django_assert_num_queries(len(one)):
        assert "Title 2" in raw(manager_client.get(LIST))


def test_a_version_is_started_from_the_list(manager_client, agent_client, manager):
    assert "Start a new version" in words(manager_client.get(LIST))
    assert "Start a new version" not in words(agent_client.get(LIST))
    response = manager_client.post(NEW, follow=True)
    draft = ConsentTerms.objects.get(version=2)
    assert response.redirect_chain == [(page(draft), 302)]
    assert "Version 2 begins with the words in force. Nobody is shown it until it is published." in words(response)
    assert "Go to the draft of version 2" in words(manager_client.get(LIST))
    again = manager_client.post(NEW, follow=True)
    assert "is already drafting version 2." in words(again)
    assert ConsentTerms.objects.count() == 2


# A version


def test_a_version_shows_its_facts(agent_client, agent, first):
    factories.case_consented(agent)
    factories.case_awaiting(agent)
    shown = words(agent_client.get(page(first)))
    for fact in (
        "Terms version 1 In force since",
        first_terms.TEXT,
        "Drafted not recorded",
        "by the desk, when it was set up",
        "Links sent 2, of which 1 still open",
        "Consents 1 given under it",
        f"SHA-256 of the text {sha256(first.text)}",
    ):
        assert fact in shown
    assert "Compare version" not in shown


def test_a_draft_is_shown_to_its_reader_as_written(agent_client, draft):
    shown = agent_client.get(page(draft))
    assert "{vendor} has no part in what you do in {accounting_software}.\n\nYou answer for it." in raw(shown)
    assert "A draft. No customer is shown it." in words(shown)


def test_a_draft_is_saved(second_client, second_manager, draft):
    response = second_client.post(
        page(draft), typed(draft, title=" New   title ", text="One.\r\n\r\nTwo. \r\n"), follow=True
    )
    assert response.redirect_chain == [(page(draft), 302)]
    draft.refresh_from_db()
    assert (draft.title, draft.text, draft.drafted_by) == ("New title", "One.\n\nTwo.", second_manager)
    assert "Saved." in words(response)
    before = snapshot()
    assert "Nothing was changed, so nothing was saved." in words(
        second_client.post(page(draft), typed(draft), follow=True)
    )
    assert difference(before, snapshot()) == []


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("title", "", "Type the title."),
        ("title", "x" * 201, "Ensure this value has at most 200 characters (it has 201)."),
        ("title", "Terms of {vendor}", "A title holds no braces: placeholders are for the text alone."),
        ("title", "Terms\u202e", "This holds characters that can't be seen. Type it instead of pasting it."),
        ("text", "   ", "Type the terms."),
        ("text", "x" * 20_001, "Ensure this value has at most 20000 characters (it has 20001)."),
        (
            "text",
            "Dear {customer}",
            "{customer} is not a placeholder. Use braces only for {vendor} and {accounting_software}.",
        ),
        (
            "text",
            "Dear {vendor",
            "The brace { near “Dear {vendor” has no matching brace. "
            "Use braces only for {vendor} and {accounting_software}.",
        ),
        ("text", "You\u2066 agree", "This holds characters that can't be seen. Type it instead of pasting it."),
        ("text", "You\0 agree", "This holds characters that can't be seen. Type it instead of pasting it."),
        (
            "text",
            "You do\u200b not agree",
            "This holds characters that can't be seen. Type it instead of pasting it.",
        ),
    ],
)
def test_what_is_wrong_stands_beside_the_field_and_nothing_is_lost(manager_client, draft, field, value, said):
    before = snapshot()
    response = manager_client.post(page(draft), typed(draft, **{field: value}))
    assert response.status_code == 422
    assert response.context["form"].errors == {field: [said]}
    assert html.escape(said, quote=False).replace("'", "&#x27;") in raw(response)
    assert response.context["form"][field].value() == value
    assert "<title>Error: " in raw(response)
    assert difference(before, snapshot()) == []


def test_the_second_writer_is_told_and_keeps_the_text(manager_client, draft, second_manager):
    mine = typed(draft, text="You answer for everything.")
    operations.edit_terms(draft, title="Other terms", text="You answer for nothing.", by=acting(second_manager))
    before = snapshot()
    response = manager_client.post(page(draft), mine)
    assert response.status_code == 422
    summary = words(response)
    assert "Nothing was saved. Your text stands below, and what differs under it; to save it over theirs" in summary
    assert "second-manager has changed this draft" in summary
    assert response.context["form"]["text"].value() == "You answer for everything."
    assert response.context["text_difference"] == [
        ("same", "You answer for "),
        ("del", "nothing"),
        ("ins", "everything"),
        ("same", "."),
    ]
    assert difference(before, snapshot()) == []
    # Sent again, with both in view, it counts.
    sent = {name: response.context["form"][name].value() for name in ("title", "text", "seen")}
    assert manager_client.post(page(draft), sent).status_code == 302
    draft.refresh_from_db()
    assert draft.text == "You answer for everything."


def test_a_writer_whose_draft_was_published_meanwhile_keeps_the_text(manager_client, draft, second_manager):
    publish(draft, second_manager)
    response = manager_client.post(page(draft), typed(draft, text="Typed for an hour."))
    assert response.status_code == 422
    shown = words(response)
    assert "Nothing was saved. Version 2 is published, and published terms never change." in shown
    assert "What you had typed not saved Other terms Typed for an hour." in shown
    assert 'name="text"' not in raw(response)


# Publishing


def test_publishing_asks_once_more_with_the_difference(second_client, draft, agent):
    factories.case_awaiting(agent)
    before = snapshot()
    response = second_client.get(page(draft, "publish"))
    shown = words(response)
    assert "What changes against version 1, in force" in shown
    assert "1 link that is open now keeps the version it was sent with." in shown
    assert "<del>Unlocking bypassed batches</del><ins>Other terms</ins>" in raw(response)
    assert difference(before, snapshot()) == []

    response = second_client.post(page(draft, "publish"), {"seen": response.context["seen"]}, follow=True)
    assert response.redirect_chain == [(page(draft), 302)]
    assert "Version 2 is in force: consent links sent from now on show it." in words(response)
    draft.refresh_from_db()
    assert draft.published_by.get_username() == "second-manager"


def test_publishing_twice_says_so(second_client, draft):
    seen = operations.terms_seen(draft)
    for _ in range(2):
        response = second_client.post(page(draft, "publish"), {"seen": seen}, follow=True)
    assert "Version 2 is published, and published terms never change." in words(response)
    assert second_client.get(page(draft, "publish"))["Location"] == page(draft)


def test_the_drafter_is_told_who_can_publish(manager_client, draft, second_manager):
    says = "You worked on this version, so another person has to publish it: second-manager."
    assert f"Not to be published yet. {says}" in words(manager_client.get(page(draft)))
    assert page(draft, "publish") not in raw(manager_client.get(page(draft)))
    for response in (
        manager_client.get(page(draft, "publish")),
        manager_client.post(page(draft, "publish"), {"seen": operations.terms_seen(draft)}),
    ):
        assert f"You can't publish it as it stands. {says}" in words(response)
        assert 'name="seen"' not in raw(response)
    draft.refresh_from_db()
    assert draft.published_at is None


@pytest.mark.parametrize("sent", [{}, {"seen": "x"}, {"seen": ""}])
def test_what_changed_since_it_was_read_is_not_published(second_client, draft, sent):
    response = second_client.post(page(draft, "publish"), sent)
    assert response.status_code == 422
    assert "Nothing was published. manager has changed this draft" in words(response)
    assert response.context["seen"] == operations.terms_seen(draft)
    draft.refresh_from_db()
    assert draft.published_at is None


def test_a_draft_of_which_little_is_recorded_is_shown_as_that(second_client):
    raw_draft = ConsentTerms.objects.create(version=2, title="Raw", text="Raw")
    assert "Drafted not recorded" in words(second_client.get(page(raw_draft)))
    assert "Drafted not recorded" in words(second_client.get(page(raw_draft, "publish")))


# Comparing


def test_two_versions_are_compared_word_by_word(agent_client, manager, second_manager, first):
    draft = operations.draft_terms(by=acting(manager))
    text = first.text.replace("QuickBooks. ServiceTitan", "{accounting_software}. {vendor}").replace("sole ", "")
    draft = operations.edit_terms(draft, title=first.title, text=text + "\n\n<b>Ask & see.</b>", by=acting(manager))
    shown = raw(agent_client.get(page(draft, "compare"), {"other": 1}))
    assert '<div class="difference">Unlocking bypassed batches</div>' in shown
    assert (
        '<div class="difference">We are confirming that this action is being taken at your direction and that you have '
        "<del>sole </del>responsibility for ensuring that the appropriate financial changes are being made in "
        "<del>QuickBooks</del><ins>{accounting_software}</ins>. <del>ServiceTitan</del><ins>{vendor}</ins> is unable "
        "to assist with or verify that these changes are made in QuickBooks, and therefore assumes no liability."
        '<ins><span class="mark">¶</span>\n\n&lt;b&gt;Ask &amp; see.&lt;/b&gt;</ins></div>'
    ) in shown
    # From either side, the older version comes first.
    other_way = raw(agent_client.get(page(first, "compare"), {"other": 2}))
    assert re.findall('<div class="difference">.*?</div>', shown, re.DOTALL) == re.findall(
        '<div class="difference">.*?</div>', other_way, re.DOTALL
    )
    assert "<h1>Version 1 and version 2 (draft)</h1>" in shown


def test_any_two_versions_are_compared(agent_client, manager, second_manager, draft, first):
    publish(draft, second_manager)
    third = operations.draft_terms(by=acting(manager))
    assert "They say the same" in words(agent_client.get(page(third, "compare"), {"other": 2}))
    assert "Version 1 and version 3 (draft)" in words(agent_client.get(page(third, "compare"), {"other": 1}))
    for other in ("", "3", "99", "x", "9" * 30):
        assert "Version 2 and version 3 (draft)" in words(agent_client.get(page(third, "compare"), {"other": other}))
    assert "Version 1 and version 2" in words(agent_client.get(page(first, "compare")))


def test_a_lone_version_has_nothing_to_compare_with(agent_client, first):
    assert agent_client.get(page(first, "compare")).status_code == 404


def test_a_change_of_blanks_alone_can_be_seen(agent_client, draft, first, manager):
    operations.edit_terms(draft, title=first.title, text=first.text.replace(". ", ".  "), by=acting(manager))
    assert '<del><span class="mark">·</span> </del><ins><span class="mark">·</span>  </ins>' in raw(
        agent_client.get(page(draft, "compare"))
    )


# The preview


def without_what_differs_by_chance(page):
    """Take out the token against forgery, the link's end, and what is made of the batches' contents."""
    for pattern in (
        r'name="csrfmiddlewaretoken" value="\w+"',
        r"content [0-9a-f]{64}",
        r'name="leave_out"\s+value="[^"]*"',
        r'name="shown" value="[0-9a-f]{64}"',
        r"<code>[0-9a-f]{64}</code>",
        r'text-nowrap">[^<]+',
    ):
        page, count = re.subn(pattern, "", page)
        assert count > 0, pattern
    return " ".join(page.split())


@pytest.mark.parametrize("software", ["quickbooks_online", "quickbooks_desktop", "sage_intacct", "none"])
def test_the_preview_is_the_customers_page(client, agent_client, agent, draft, second_manager, software):
    publish(draft, second_manager)
    shown = raw(agent_client.get(page(draft, "preview"), {"software": software}))

    # The same facts in the database, and the customer's own page for them.
    link, made_up = example(draft, software)
    account = factories.make_account(
        number=link.unlock_request.account.number, name=link.unlock_request.account.name, accounting_software=software
    )
    batches = [
        factories.make_batch(
            account=account,
            items=0,
            **{
                name: getattr(batch, name)
                for name in ("number", "name", "total", "item_count", "posted_on", "bypassed_on")
            },
        )
        for batch in made_up
    ]
    case = factories.case_awaiting(agent, batches=batches)
    client.get(f"/consent/{case.token}/")
    client.post("/consent/", {"action": "open"})
    customers = raw(client.get("/consent/")).replace(case.unlock_request.reference, link.unlock_request.reference)

    preview, customers = without_what_differs_by_chance(shown), without_what_differs_by_chance(customers)
    banner = re.search('<link rel="stylesheet" href="/static/customer/preview.css">.*<fieldset disabled> ', preview)[0]
    assert "nothing can be agreed here" in banner
    preview = preview.replace(banner, "").replace(" </fieldset>", "", 1)
    assert "<title>Preview of version 2 · Unlock Desk</title>" in preview
    preview, customers = (re.sub("<title>.*?</title>", "", text) for text in (preview, customers))
    assert preview == customers


@pytest.mark.parametrize(
    ("software", "read"),
    [
        ("sage_intacct", "Sage Intacct"),
        ("none", "your accounting software"),
        ("", "QuickBooks Online"),
        ("x", "QuickBooks Online"),
    ],
)
def test_the_preview_fills_in_and_shows_the_text_as_recorded(auditor_client, draft, software, read):
    before = snapshot()
    shown = html.unescape(raw(auditor_client.get(page(draft, "preview"), {"software": software})))
    filled_in = f"ServiceTitan has no part in what you do in {read}."
    assert f"<p>{filled_in}</p>" in " ".join(shown.split())
    recorded = re.search(r"<pre[^>]*>(.*?)</pre>", shown, re.DOTALL)[1]
    assert f"Other terms (version 2)\n{filled_in}\n\nYou answer for it.\n" in recorded
    assert recorded.startswith("Unlock bypassed batches (UR-000000)\nServiceTitan Support was asked to unlock")
    assert difference(before, snapshot()) == []


def test_every_control_of_the_preview_is_disabled(auditor_client, draft):
    shown = raw(auditor_client.get(page(draft, "preview")))
    before, inside = shown.split("<fieldset disabled>")
    inside, after = inside.rsplit("</fieldset>", 1)
    assert 'method="post"' not in before + after
    assert inside.count("<form") == 1


def test_the_audit_log_names_the_version(manager_client, draft):
    assert "Consent terms drafted version 2" in words(manager_client.get("/desk/unlocks/ledgerentry/"))
