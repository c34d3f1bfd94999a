"""The page for a consent on the phone: what is read out, what they answered, and who may unlock afterwards."""

import hashlib
from datetime import timedelta

import pytest
import time_machine
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from django.utils.html import escape

from tests import factories
from tests.admin.test_request_page import done, next_verb, page_of, post, state
from tests.papers import PDF, PNG
from unlocks import history, operations, rules
from unlocks.actors import Actor
from unlocks.models import Consent, ConsentEvidence
from unlocks.texts.shown import text_to_read_out

TAG = '<span class="tag wait">Recorded by phone</span>'


@pytest.fixture(autouse=True)
def allowed(settings):
    settings.PHONE_CONSENT = True


@pytest.fixture
def advised(agent):
    case = factories.open_case(agent)
    operations.record_advice(case.unlock_request, advice="wants_export", by=factories.acting(agent))
    return case.refresh()


@pytest.fixture
def verified(agent, advised):
    operations.verify_pin(advised.unlock_request, pin=factories.PIN, by=factories.acting(agent))
    return advised.refresh()


def phone_page(case):
    return reverse("admin:record_by_phone", args=[case.unlock_request.pk])


def answers(client, case, **changes):
    """Return what the page sends when everything is filled in as it should be."""
    form = client.get(phone_page(case)).context["form"]
    return {
        "contact": case.admin.pk,
        "name": "Dana Whitfield",
        "role": "Controller",
        "read_out": "on",
        "authorized": "on",
        "agreed": "on",
        "what": "",
        "shown": form["shown"].value(),
        "seen": form["seen"].value(),
    } | changes


def upload(content=PDF, name="signed.pdf"):
    return SimpleUploadedFile(name, content)


def message_of(response):
    return [str(message) for message in response.context["messages"]]


def kinds(case):
    return list(case.unlock_request.entries.order_by("sequence").values_list("kind", flat=True))


# The way there


def test_who_was_shown_the_link_sees_why_they_type_no_pin(agent, second_agent_client, agent_client, advised, settings):
    settings.SHOW_CONSENT_LINK = True
    operations.send_consent_link(advised.unlock_request, contact=advised.admin, by=factories.acting(agent))
    page = agent_client.get(page_of(advised)).content.decode()
    assert 'name="verb" value="verify_pin"' not in page
    said = f"{escape(rules.sentence(rules.Refusal.LINK_SEEN))} Or revoke the link first."
    assert page.count(said) == 2
    assert "First verify the account PIN" not in page
    assert '<a href="#otherwise">' in page
    assert 'name="verb" value="verify_pin"' in second_agent_client.get(page_of(advised)).content.decode()
    # The link of another request of the same account counts too.
    other = factories.open_case(agent, account=advised.account)
    page = agent_client.get(page_of(other)).content.decode()
    assert "Or revoke the link, which is of another request of the account, first." in page
    post(agent_client, advised, "revoke_link")
    assert 'name="verb" value="verify_pin"' in agent_client.get(page_of(advised)).content.decode()


def test_a_pin_typed_all_the_same_is_refused_on_top(agent, agent_client, advised, settings):
    settings.SHOW_CONSENT_LINK = True
    operations.send_consent_link(advised.unlock_request, contact=advised.admin, by=factories.acting(agent))
    response = post(agent_client, advised, "verify_pin", pin=factories.PIN)
    assert response.status_code == 422
    page = " ".join(response.content.decode().split())
    assert "<title>Error: " in page
    assert (
        "<p><b>Verify the PIN for the customer: not done.</b></p> "
        f"<ul> <li>{escape(rules.sentence(rules.Refusal.LINK_SEEN))}</li>"
    ) in page


def test_a_link_that_is_out_is_said_to_stop_working(agent, agent_client, verified):
    said = f"The active consent link, for {verified.admin.name}, stops working as soon as you record this."
    assert said not in agent_client.get(phone_page(verified)).content.decode()
    operations.send_consent_link(verified.unlock_request, contact=verified.admin, by=factories.acting(agent))
    assert said in agent_client.get(phone_page(verified)).content.decode()
    agent_client.post(phone_page(verified), answers(agent_client, verified))
    assert operations.link_state(verified.refresh().link) == "revoked"


def test_the_request_page_says_how_to_get_there_and_then_leads_there(agent, agent_client, advised):
    page = agent_client.get(page_of(advised)).content.decode()
    assert "First verify the account PIN for this request" in page
    assert 'name="verb" value="record_by_phone"' not in page
    operations.verify_pin(advised.unlock_request, pin=factories.PIN, by=factories.acting(agent))
    page = agent_client.get(page_of(advised)).content.decode()
    assert "First verify the account PIN" not in page
    assert 'name="verb" value="record_by_phone"' in page
    response = post(agent_client, advised, "record_by_phone")
    assert (response.status_code, response.url) == (302, phone_page(advised))


def test_without_the_policy_nothing_is_said_of_it(agent_client, verified, settings):
    settings.PHONE_CONSENT = False
    page = agent_client.get(page_of(verified)).content.decode()
    assert "can't use the link?" not in page
    response = agent_client.get(phone_page(verified), follow=True)
    assert response.redirect_chain == [(page_of(verified), 302)]
    assert message_of(response) == [
        "The consent can't be recorded by phone now. The vendor's policy does not let staff record a consent by phone. "
        "Send the customer a consent link."
    ]


def test_another_agents_pin_does_not_count(second_agent_client, verified):
    assert 'value="record_by_phone"' not in second_agent_client.get(page_of(verified)).content.decode()
    response = second_agent_client.get(phone_page(verified), follow=True)
    assert "First verify the account PIN for this request" in message_of(response)[0]


def test_an_auditor_is_shown_neither_the_way_nor_the_page(auditor_client, verified):
    assert "can't use the link?" not in auditor_client.get(page_of(verified)).content.decode()
    assert auditor_client.get(phone_page(verified)).status_code == 403
    assert auditor_client.post(phone_page(verified)).status_code == 403


def test_a_request_that_is_not_there_is_not_found(agent_client, db):
    for key in ("999999", "x", "1" * 30):
        assert agent_client.get(f"/desk/unlocks/unlockrequest/{key}/record-by-phone/").status_code == 404


def test_once_agreed_it_is_not_offered_again(agent, agent_client, verified):
    agent_client.post(phone_page(verified), answers(agent_client, verified))
    assert 'value="record_by_phone"' not in agent_client.get(page_of(verified)).content.decode()


def test_after_a_change_it_is_offered_again(agent, agent_client, verified):
    agent_client.post(phone_page(verified), answers(agent_client, verified))
    item = verified.batch.items.first()
    item.memo = "Changed afterwards"
    history.save(item, by=Actor.desk())
    assert 'value="record_by_phone"' in agent_client.get(page_of(verified)).content.decode()


# What is read out


def test_the_text_stands_there_word_for_word(agent_client, verified):
    response = agent_client.get(phone_page(verified))
    lines = [f"{words}{code}" for _, words, code in response.context["lines"]]
    text = text_to_read_out(verified.unlock_request)
    assert lines == [line for line in text.split("\n") if line.strip()]
    page = response.content.decode()
    assert "This is a lower-assurance consent." in page
    assert 'class="title">Unlock bypassed batches' in page
    assert '<p class="heading">The questions</p>' in page
    assert response.context["form"]["shown"].value() == hashlib.sha256(text.encode()).hexdigest()


def test_the_page_writes_nothing(agent_client, verified):
    before = state(verified)
    agent_client.get(phone_page(verified))
    assert state(verified) == before


def test_the_page_costs_the_same_for_one_batch_and_for_thirty(agent, agent_client, django_assert_num_queries):
    cases = [factories.open_case(agent, batches=factories.make_batches(n=n)) for n in (1, 30)]
    for case in cases:
        operations.record_advice(case.unlock_request, advice="wants_export", by=factories.acting(agent))
        operations.verify_pin(case.unlock_request, pin=factories.PIN, by=factories.acting(agent))
    small, large = map(phone_page, cases)
    agent_client.get(small)
    with CaptureQueriesContext(connection) as counted:
        agent_client.get(small)
    with django_assert_num_queries(len(counted)):
        agent_client.get(large)


# Recording


def test_what_they_answered_is_recorded(agent, agent_client, verified, mailoutbox):
    typed = answers(agent_client, verified)
    with factories.delivered():
        response = agent_client.post(phone_page(verified), typed, follow=True)
    consent = Consent.objects.get()
    assert (consent.how, consent.recorded_by, consent.contact, consent.signer_name, consent.signer_role) == (
        "phone",
        agent,
        verified.admin,
        "Dana Whitfield",
        "Controller",
    )
    assert consent.text == text_to_read_out(verified.unlock_request)
    assert response.redirect_chain == [(page_of(verified), 302)]
    assert message_of(response) == [f"{consent} is recorded by phone: Dana Whitfield said yes. Another person unlocks."]
    assert verified.refresh().unlock_request.status == "consented"
    assert kinds(verified)[-2:] == ["recorded_by_phone", "email_sent"]
    assert [mail.to for mail in mailoutbox] == [[verified.admin.email]]


def test_a_paper_comes_with_it(agent, agent_client, verified):
    typed = answers(agent_client, verified, what="signed_paper", file=upload())
    response = agent_client.post(phone_page(verified), typed, follow=True)
    paper = ConsentEvidence.objects.get()
    assert (paper.consent, paper.file_name, paper.attached_by) == (Consent.objects.get(), "signed.pdf", agent)
    assert "signed.pdf is attached." in message_of(response)[0]


@pytest.mark.parametrize(
    ("field", "typed", "said"),
    [
        ("contact", "", "Choose the Admin who is on the phone. Nobody else can consent."),
        ("name", " ", "Type the full name that they gave."),
        ("name", "Dana\u202e", "This holds characters that can't be seen. Type it instead of pasting it."),
        ("role", "", "Ask for their role, and type it."),
        ("read_out", "", "Read the whole text out first; then tick this."),
        ("authorized", "", "Without that, nothing can be recorded. Ask for an Admin who is authorized."),
        ("agreed", "", "If they do not agree, record nothing: add a note or close the request."),
        ("what", "signed_paper", "Choose the file, or “Not now”."),
    ],
)
def test_what_is_wrong_stands_beside_its_field(agent_client, verified, field, typed, said):
    sent = answers(agent_client, verified, **{field: typed})
    before = state(verified)
    response = agent_client.post(phone_page(verified), sent)
    assert response.status_code == 422
    errors = response.context["form"].errors
    assert {name: list(found) for name, found in errors.items()} == {"file" if field == "what" else field: [said]}
    assert state(verified) == before
    if field not in ("name", "role"):
        assert 'value="Dana Whitfield"' in response.content.decode()


def test_only_an_admin_of_the_account_is_on_the_phone(agent_client, verified):
    office = factories.make_contact(account=verified.account, is_admin=False)
    stranger = factories.make_account().contacts.get()
    before = state(verified)
    for contact in (office, stranger):
        response = agent_client.post(phone_page(verified), answers(agent_client, verified, contact=contact.pk))
        assert list(response.context["form"].errors) == ["contact"]
    assert state(verified) == before


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (upload(b"", "signed.pdf"), "This file is empty. Choose another one."),
        (upload(PNG, "signed.pdf"), "This is a PNG picture, but its name ends in .pdf. Save it under its right name."),
        (
            upload(b"PK\x03\x04", "signed.zip"),
            "This kind of file is not taken: PDF, PNG, JPEG and saved emails (.eml) are accepted.",
        ),
    ],
)
def test_an_unfit_file_records_nothing(agent_client, verified, file, said):
    file.seek(0)
    before = state(verified)
    typed = answers(agent_client, verified, what="signed_paper", file=file)
    response = agent_client.post(phone_page(verified), typed)
    page = response.content.decode()
    assert (response.status_code, dict(response.context["form"].errors)) == (422, {"file": [said]})
    assert "Choose the file again: it was not kept." in page
    assert (state(verified), Consent.objects.count()) == (before, 0)


def test_a_file_that_is_too_big_records_nothing(agent_client, verified, settings):
    settings.EVIDENCE_MAX_BYTES = 1024 * 1024
    big = upload(PDF[:-6] + b" " * 1024 * 1024 + PDF[-6:])
    response = agent_client.post(phone_page(verified), answers(agent_client, verified, what="signed_paper", file=big))
    assert response.context["form"].errors["file"] == ["This file is too big: 1 MiB of at most 1 MiB."]
    assert not Consent.objects.exists()


def test_a_file_without_saying_what_it_is_records_nothing(agent_client, verified):
    response = agent_client.post(phone_page(verified), answers(agent_client, verified, file=upload()))
    assert dict(response.context["form"].errors) == {"what": ["Say what the file is."]}
    assert not Consent.objects.exists()


def test_consent_and_paper_are_recorded_together_or_not_at_all(agent, agent_client, verified, evidence_place):
    evidence_place.parent.mkdir(exist_ok=True)
    typed = answers(agent_client, verified, what="signed_paper", file=upload())
    place = evidence_place / hashlib.sha256(PDF).hexdigest()[:2] / hashlib.sha256(PDF).hexdigest()[2:]
    place.parent.mkdir(parents=True)
    place.write_bytes(b"something else")
    before = state(verified)
    response = agent_client.post(phone_page(verified), typed)
    assert response.status_code == 422
    assert "Tell an administrator" in response.content.decode()
    assert (state(verified), Consent.objects.count()) == (before, 0)


def test_a_text_that_changed_meanwhile_is_read_out_again(agent_client, verified):
    typed = answers(agent_client, verified)
    item = verified.batch.items.first()
    item.memo = "Changed afterwards"
    history.save(item, by=Actor.desk())
    before = state(verified)
    response = agent_client.post(phone_page(verified), typed)
    page = response.content.decode()
    assert response.status_code == 422
    assert "What you read out has changed in the meantime" in page
    assert 'value="Dana Whitfield"' in page
    assert [tick.value() for tick in response.context["form"].ticks()] == [False, False, False]
    assert state(verified) == before
    again = typed | {"shown": response.context["form"]["shown"].value()}
    assert agent_client.post(phone_page(verified), again).status_code == 302


def test_new_terms_are_read_out_again(agent_client, manager, superuser, verified):
    typed = answers(agent_client, verified)
    terms = operations.draft_terms(by=factories.acting(manager))
    terms = operations.edit_terms(terms, title="New", text="New words.", by=factories.acting(manager))
    operations.publish_terms(terms, seen=operations.terms_seen(terms), by=factories.acting(superuser))
    response = agent_client.post(phone_page(verified), typed)
    assert "What you read out has changed in the meantime" in response.content.decode()
    assert "New words." in response.content.decode()
    assert not Consent.objects.exists()


@pytest.mark.parametrize("left_out", ["shown", "seen"])
def test_a_form_that_does_not_say_what_was_shown_records_nothing(agent_client, verified, left_out):
    typed = answers(agent_client, verified)
    typed.pop(left_out)
    assert agent_client.post(phone_page(verified), typed).status_code == 422
    assert not Consent.objects.exists()


def test_a_second_click_records_nothing_twice(agent_client, verified):
    typed = answers(agent_client, verified)
    agent_client.post(phone_page(verified), typed)
    response = agent_client.post(phone_page(verified), typed, follow=True)
    assert response.redirect_chain == [(page_of(verified), 302)]
    (said,) = [said for said in message_of(response) if "after you opened" in said]
    assert said.startswith("Consent recorded by phone by agent on ")
    assert said.endswith("Nothing was done now.")
    assert Consent.objects.count() == 1


def test_half_an_hour_later_the_pin_has_to_be_verified_again(agent, agent_client, verified):
    typed = answers(agent_client, verified)
    with time_machine.travel(timezone.now() + timedelta(minutes=31), tick=False):
        agent_client.force_login(agent)
        before = state(verified)
        response = agent_client.post(phone_page(verified), typed)
        page = response.content.decode()
        assert response.status_code == 422
        assert "First verify the account PIN for this request" in page
        assert 'value="Dana Whitfield"' in page
        assert state(verified) == before
        operations.verify_pin(verified.unlock_request, pin=factories.PIN, by=factories.acting(agent))
        assert agent_client.post(phone_page(verified), typed).status_code == 302


# Afterwards


@pytest.fixture
def recorded_by_phone(agent):
    return factories.case_recorded_by_phone(agent)


def test_whoever_took_it_down_is_told_who_unlocks(agent, second_agent, manager, agent_client, recorded_by_phone):
    page = agent_client.get(page_of(recorded_by_phone))
    step = page.context["next"]
    assert (step.tone, step.heading) == ("wait", "Ready for someone else to unlock: 2 batches.")
    assert step.text.startswith(
        "You recorded this consent by phone, so someone else must unlock. Ask manager or second-agent. Valid until "
    )
    assert next_verb(agent_client, recorded_by_phone) == "hand_over"
    assert 'name="verb" value="unlock"' not in page.content.decode()
    assert [row["verdict"] for row in page.context["case"].verdicts] == [("wait", "Someone else must unlock")] * 2
    assert page.context["case"].steps[3]["remark"] == "2 of 2 ready for someone else"


def test_once_handed_over_it_says_with_whom_it_is(agent, second_agent, auditor, agent_client, recorded_by_phone):
    operations.assign(recorded_by_phone.unlock_request, to=second_agent, by=factories.acting(agent))
    sentence = agent_client.get(page_of(recorded_by_phone)).context["next"].text
    assert sentence.startswith(
        "You recorded this consent by phone, so someone else must unlock. It is assigned to second-agent. Valid until "
    )


def test_whoever_took_it_down_unlocks_nothing(agent, agent_client, recorded_by_phone):
    response = post(agent_client, recorded_by_phone, "unlock")
    preview = agent_client.get(response.url)
    assert preview.context["ready"]["n"] == 0
    assert [group["name"] for group in preview.context["groups"]] == ["Someone else must unlock"]
    agent_client.post(response.url, {"key": preview.context["form"]["key"].value()})
    assert {batch.status for batch in recorded_by_phone.refresh().batches} == {"bypassed"}


def test_another_person_is_offered_to_unlock_and_told_what_it_stands_on(second_agent_client, recorded_by_phone):
    assert next_verb(second_agent_client, recorded_by_phone) == "unlock"
    page = second_agent_client.get(page_of(recorded_by_phone))
    assert page.context["next"].text.startswith(
        f"agent recorded by phone that {recorded_by_phone.admin.name} said yes to terms version 1, "
        "for exactly these batches as they are now. Someone other than agent has to unlock, until "
    )


def test_nobody_else_who_could_unlock_is_said(agent, agent_client, recorded_by_phone):
    sentence = agent_client.get(page_of(recorded_by_phone)).context["next"].text
    assert "No one else here may do this: a superuser has to add someone to Agent or Manager." in sentence


def screens(case):
    """Return the addresses of the pages that show a case, whoever looks."""
    return [
        "/desk/",
        "/desk/unlocks/unlockrequest/",
        "/desk/unlocks/consent/",
        "/desk/unlocks/batch/",
        f"/desk/search/?q={case.batch.number[:-1]}",
        page_of(case),
        f"/desk/unlocks/batch/{case.batch.pk}/change/",
        f"/desk/unlocks/consent/{case.consent.pk}/change/",
    ]


def test_every_screen_says_what_it_is(agent, second_agent, second_agent_client):
    account = factories.make_account()
    batches = [factories.make_batch(account=account, number=f"20261101-{place}") for place in (1, 2)]
    case = factories.case_recorded_by_phone(agent, batches=batches)
    silent = [address for address in screens(case) if TAG not in second_agent_client.get(address).content.decode()]
    assert silent == []
    for address in screens(case):
        assert f"Agreed by {case.admin.name}" not in second_agent_client.get(address).content.decode()
    preview = post(second_agent_client, case, "unlock").url
    shown = second_agent_client.get(preview)
    assert (shown.context["ready"]["by_phone"], TAG in shown.content.decode()) == (2, True)
    assert "recorded by phone by someone else: a lower-assurance consent" in shown.content.decode()
    key = shown.context["form"]["key"].value()
    report = second_agent_client.post(preview, {"key": key}, follow=True).content.decode()
    assert report.count(TAG) == 2
    assert "2 wait for an answer." in report
    factories.carry_out()
    assert [address for address in screens(case) if TAG not in second_agent_client.get(address).content.decode()] == []


def test_a_consent_of_the_customers_own_is_not_called_that(agent, second_agent_client):
    case = factories.case_consented(agent)
    loud = [address for address in screens(case) if TAG in second_agent_client.get(address).content.decode()]
    assert loud == []
    assert f"Agreed by {case.admin.name}" in second_agent_client.get(page_of(case)).content.decode()


def test_the_timeline_tells_it(agent, second_agent_client, recorded_by_phone):
    operations.attach_evidence(
        recorded_by_phone.consent, what="email", file_name="a.pdf", content=PDF, by=factories.acting(agent)
    )
    page = second_agent_client.get(page_of(recorded_by_phone)).content.decode()
    for sentence in (
        f"<b>Consent recorded by phone</b>: {recorded_by_phone.admin.name}, Controller, said yes to "
        "2 batches, terms version 1",
        f"<b>Evidence attached</b>: Email from the customer, a.pdf ({len(PDF)} bytes)",
    ):
        assert sentence in page


def test_the_audit_log_marks_it(manager_client, recorded_by_phone):
    log = manager_client.get("/desk/unlocks/ledgerentry/").content.decode()
    assert '<span class="tag wait">Consent recorded by phone</span>' in log


def test_somebody_elses_report_does_not_say_you(agent, agent_client, manager_client, recorded_by_phone):
    act = factories.unlock(recorded_by_phone.rows, by=factories.acting(agent))
    report = reverse("admin:unlocks_act_change", args=[act.pk])
    own = rules.sentence("own_recording", unlock_request=recorded_by_phone.unlock_request)
    assert escape(own) in agent_client.get(report).content.decode()
    for_others = "agent recorded this consent by phone, so someone else must unlock"
    assert for_others in manager_client.get(report).content.decode()


# Papers later


def test_a_paper_is_attached_from_the_request_page(agent_client, recorded_by_phone, evidence_place):
    page = done(agent_client, recorded_by_phone, "attach", what="signed_paper", file=upload())
    paper = ConsentEvidence.objects.get()
    assert f"Attached to {recorded_by_phone.consent}: signed.pdf, under SHA-256 {paper.sha256}." in page
    assert f'href="{reverse("admin:consent_evidence", args=[recorded_by_phone.consent.pk, paper.pk])}"' in page
    again = post(agent_client, recorded_by_phone, "attach", what="signed_paper", file=upload())
    assert again.status_code == 422
    assert "This file is already attached, as signed.pdf." in again.content.decode()


def test_a_paper_for_the_customers_own_consent_is_refused(agent, agent_client):
    case = factories.case_consented(agent)
    assert 'value="attach"' not in agent_client.get(page_of(case)).content.decode()
    response = post(agent_client, case, "attach", what="signed_paper", file=upload())
    assert "so no evidence is needed or accepted." in response.content.decode()
    response = post(agent_client, factories.open_case(agent), "attach", what="signed_paper", file=upload())
    assert "The customer has not answered in this request yet." in response.content.decode()
    assert not ConsentEvidence.objects.exists()


def test_withdrawing_says_beforehand_how_many_are_relocked(agent, second_agent, agent_client, recorded_by_phone):
    def said():
        form = agent_client.get(page_of(recorded_by_phone)).context["forms"]["withdraw"]
        return form.fields["why"].help_text

    assert said() == "Nothing is unlocked under it. The request is closed. This can't be undone."
    factories.unlock(recorded_by_phone.rows, by=factories.acting(second_agent))
    asked = "The product is asked at once to lock 2 batches. The request closes once all are locked."
    assert said() == f"{asked} This can't be undone."
    done(agent_client, recorded_by_phone, "withdraw", why="They changed their mind.")
    factories.carry_out()
    assert {batch.status for batch in recorded_by_phone.refresh().batches} == {"bypassed"}
