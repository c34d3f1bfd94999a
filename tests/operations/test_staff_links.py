"""Colleagues come to a password by a link of their own, and lose second factors by two superusers."""

import re
from datetime import timedelta

import pytest
import time_machine
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount
from django.core import mail
from django.test import Client
from django.utils import timezone

from tests.factories import acting, make_user
from tests.operations import facts_of, only_for, recorded, refused
from tests.signin.factors import PASSWORD, set_up_app, sign_in
from unlocks import operations
from unlocks.ledger import verify
from unlocks.models import DeskSession, LedgerEntry, Outgoing, StaffLink
from unlocks.outbox import secrets, worker
from unlocks.rules import Refusal

pytestmark = pytest.mark.django_db

OWN = "another-password-of-mine"


@pytest.fixture
def dana():
    return make_user("dana", group="Agent", email="dana@vendor.example")


@pytest.fixture
def second_superuser():
    return make_user("second-superuser", is_superuser=True)


def emailed():
    """Send what waits, and return the path of the link in the newest email."""
    worker.send_due()
    return re.search(r"/staff/link/\S+", mail.outbox[-1].body)[0]


def choose(client, link, password=OWN, again=None):
    client.get(link)
    return client.post("/staff/password/", {"new_password1": password, "new_password2": again or password})


@pytest.mark.parametrize(
    ("provider", "been", "said"),
    [
        ("https://id.vendor.example", {}, True),
        ("", {}, False),
        ("https://id.vendor.example", {"last_login": timezone.now()}, False),
        ("https://id.vendor.example", {"password": OWN}, False),
    ],
)
def test_an_invitation_says_that_the_companys_account_is_enough(superuser, settings, provider, been, said):
    settings.OIDC_URL, settings.OIDC_NAME = provider, "Vendor ID"
    newcomer = make_user("newcomer", email="new@vendor.example", **been)
    operations.send_staff_link(newcomer, by=acting(superuser))
    emailed()
    sentence = "an account of Vendor ID with this address, you may be able to sign in without a password:\n\n"
    assert (f"{sentence}{settings.PUBLIC_URL}/staff/with/company/\n" in mail.outbox[-1].body) == said


def test_who_comes_by_the_company_is_sent_a_password_and_no_invitation(superuser):
    dana = make_user("dana", email="dana@vendor.example", last_login=timezone.now())
    operations.send_staff_link(dana, by=acting(superuser))
    emailed()
    assert mail.outbox[-1].subject == "Set a password for Unlock Desk"
    assert "However you sign in now still works." in mail.outbox[-1].body


def test_an_invitation_leads_to_the_first_sign_in(superuser_client, superuser):
    typed = {"username": "newcomer", "email": "new@vendor.example"}
    page = superuser_client.post("/desk/auth/user/add/", typed, follow=True).content.decode()
    assert "An invitation to new@vendor.example waits to be sent" in page
    link, client = emailed(), Client()
    assert mail.outbox[-1].subject == "You are invited to Unlock Desk"
    assert client.get(link).url == "/staff/password/"
    assert "You sign in as <b>newcomer</b>" in client.get("/staff/password/").content.decode()
    assert choose(client, link, "short").status_code == 200
    assert choose(client, link, OWN, "typed wrong").status_code == 200
    assert choose(client, link).url == "/staff/sign-in/"
    assert "Your password is set. Sign in with it." in client.get("/staff/sign-in/").content.decode()
    assert sign_in(client, "newcomer", OWN).url == "/desk/"
    told = [(kind, facts.get("changed")) for kind, facts in recorded() if kind in ("staff_link_sent", "staff_changed")]
    assert [kind for kind, _ in told] == ["staff_changed", "staff_link_sent", "staff_changed"]
    assert told[-1][1] == {"password": "set"}
    assert LedgerEntry.objects.filter(kind="staff_changed").latest("sequence").actor == "newcomer"
    assert verify.findings() == []


def test_a_link_is_told_and_kept_as_a_hash(superuser, dana):
    operations.send_staff_link(dana, by=acting(superuser))
    link = emailed()
    (kept,) = StaffLink.objects.all()
    facts = {"colleague": dana.pk, "name": "dana", "to": "dana@vendor.example"}
    facts |= {"expires": kept.expires_at.isoformat(), "token_sha256": kept.token_hash}
    assert recorded(kind="staff_link_sent") == [("staff_link_sent", facts)]
    assert mail.outbox[-1].to == ["dana@vendor.example"]
    kept = [*StaffLink.objects.values(), *Outgoing.objects.values()]
    assert link.rstrip("/").rpartition("/")[2] not in str(kept)


def test_a_link_works_once(superuser, dana):
    operations.send_staff_link(dana, by=acting(superuser))
    link = emailed()
    assert choose(Client(), link).status_code == 302
    assert choose(Client(), link, "yet-another-password").status_code == 410
    assert recorded(kind="staff_link_used") == [("staff_link_used", {"name": "dana"})]
    dana.refresh_from_db()
    assert dana.check_password(OWN)


@pytest.mark.parametrize("ended", ["expired", "replaced", "deactivated", "made up", "address corrected", "no entry"])
def test_a_link_that_has_ended_changes_nothing(superuser, dana, ended):
    operations.send_staff_link(dana, by=acting(superuser))
    link, before = emailed(), dana.password
    later = timezone.now() + timedelta(hours=73 if ended == "expired" else 0)
    if ended == "replaced":
        operations.send_staff_link(dana, by=acting(superuser))
    if ended == "deactivated":
        dana.is_active = False
        dana.save()
    if ended == "made up":
        link = "/staff/link/made-up/"
    if ended == "address corrected":
        dana.email = "dana@right.example"
        dana.save()
    if ended == "no entry":
        newest, now = StaffLink.objects.get(), timezone.now()
        link = "/staff/link/made-up/"
        StaffLink.objects.create(
            user=dana,
            sent_by=newest.sent_by,
            sent_at=now,
            expires_at=now + timedelta(days=1),
            token_hash=secrets.hashed("made-up"),
        )
    with time_machine.travel(later):
        answer = choose(Client(), link)
    dana.refresh_from_db()
    assert (answer.status_code, dana.password) == (410, before)
    assert "The link no longer works" in answer.content.decode()


def test_a_reset_leaves_the_password_until_it_is_used_and_ends_sessions_then(superuser):
    dana = make_user("dana", group="Agent", password=PASSWORD, email="dana@vendor.example")
    browser = Client()
    sign_in(browser)
    operations.send_staff_link(dana, by=acting(superuser))
    link = emailed()
    assert mail.outbox[-1].subject == "Set a new password for Unlock Desk"
    assert browser.get("/desk/").status_code == 200
    choose(Client(), link)
    assert browser.get("/desk/").status_code == 302
    assert not DeskSession.objects.filter(user=dana).exists()
    assert sign_in(Client(), password=PASSWORD).status_code == 200
    assert sign_in(Client(), password=OWN).status_code == 302


def test_a_link_is_not_sent_to_everyone(superuser, dana):
    by = acting(superuser)
    for fields, code in [({"is_active": False}, Refusal.NOT_A_COLLEAGUE), ({"email": ""}, Refusal.NO_ADDRESS)]:
        other = make_user(f"other-{code}", **fields)
        with refused(code):
            operations.send_staff_link(other, by=by)
    only_for([], lambda by: operations.send_staff_link(dana, by=by))


def test_whoever_typed_the_address_of_one_who_signed_in_before_sends_them_no_link(superuser, second_superuser, dana):
    def write():
        dana.email = "superuser@vendor.example"
        dana.save()

    dana.last_login = timezone.now()
    operations.change_staff(dana, write, by=acting(superuser))
    with refused(Refusal.ADDRESS_TYPED):
        operations.send_staff_link(dana, by=acting(superuser))
    operations.send_staff_link(dana, by=acting(second_superuser))


# Lost second factors


@pytest.fixture
def with_app(dana):
    operations.set_password(dana, PASSWORD, by=acting(dana))
    client = Client()
    sign_in(client)
    set_up_app(client)
    return client


def test_two_superusers_take_away_lost_factors(superuser, second_superuser, dana, with_app):
    first, second = Client(), Client()
    first.force_login(superuser)
    second.force_login(second_superuser)
    page = f"/desk/auth/user/{dana.pk}/password/"
    locked_out = Client()
    sign_in(locked_out)
    assert "Ask a superuser: two can take them away" in locked_out.get("/staff/sign-in/code/").content.decode()
    assert "They are lost or not theirs: ask for a reset" in first.get(page).content.decode()
    first.post(page, {"verb": "ask"})
    assert "Take them away" not in first.get(page).content.decode()
    assert "Take them away" in second.get(page).content.decode()
    second.post(page, {"verb": "reset"})
    assert not Authenticator.objects.exists()
    asked, taken = LedgerEntry.objects.exclude(actor="dana").order_by("-sequence")[:2][::-1]
    assert (asked.kind, asked.actor, facts_of(asked)) == ("factor_reset_asked", "superuser", {"name": "dana"})
    assert (taken.actor, facts_of(taken)["changed"]) == (
        "second-superuser",
        {"factors": [["authenticator app", "10 recovery codes"], []]},
    )
    assert with_app.get("/desk/").status_code == 302
    assert sign_in(Client()).url == "/desk/"
    assert verify.findings() == []


@pytest.mark.parametrize("data", [{}, {"used_mask": None}])
def test_factors_that_are_not_whole_are_taken_away_too(superuser, second_superuser, dana, with_app, data):
    Authenticator.objects.filter(type="recovery_codes").update(data=data)
    operations.ask_factor_reset(dana, by=acting(superuser))
    operations.reset_factors(dana, by=acting(second_superuser))
    entry = LedgerEntry.objects.filter(kind="staff_changed").latest("sequence")
    assert facts_of(entry)["changed"] == {"factors": [["authenticator app", "recovery codes"], []]}


def test_one_superuser_alone_takes_away_nothing(superuser, second_superuser, dana, with_app):
    one, other = acting(superuser), acting(second_superuser)
    with refused(Refusal.RESET_NOT_ASKED):
        operations.reset_factors(dana, by=one)
    operations.ask_factor_reset(dana, by=one)
    with refused(Refusal.ASKED_YOURSELF):
        operations.reset_factors(dana, by=one)
    with time_machine.travel(timezone.now() + timedelta(hours=25)), refused(Refusal.RESET_NOT_ASKED):
        operations.reset_factors(dana, by=other)
    with refused(Refusal.OWN_FACTORS):
        operations.ask_factor_reset(superuser, by=one)
    with refused(Refusal.NO_FACTORS):
        operations.ask_factor_reset(second_superuser, by=one)
    only_for([], lambda by: operations.reset_factors(dana, by=by))


def test_a_reset_is_asked_for_anew_each_time(superuser, second_superuser, dana, with_app):
    one, other = acting(superuser), acting(second_superuser)
    operations.ask_factor_reset(dana, by=one)
    with_app.post("/staff/yours/codes/new/")  # they were not lost
    with refused(Refusal.RESET_NOT_ASKED):
        operations.reset_factors(dana, by=other)
    operations.ask_factor_reset(dana, by=one)
    superuser.is_active = False
    superuser.save()
    with refused(Refusal.RESET_NOT_ASKED):
        operations.reset_factors(dana, by=other)
    superuser.is_active = True
    superuser.save()
    operations.reset_factors(dana, by=other)
    with refused(Refusal.NO_FACTORS):
        operations.reset_factors(dana, by=other)


def test_a_company_account_is_taken_away_too(superuser, second_superuser, dana):
    account = SocialAccount(user=dana, provider="company", uid="u-1")
    operations.link_company_account(dana, account.save, by=acting(superuser))
    operations.ask_factor_reset(dana, by=acting(superuser))
    operations.reset_factors(dana, by=acting(second_superuser))
    assert not SocialAccount.objects.exists()
    assert recorded(kind="staff_changed")[-1][1]["changed"] == {"factors": [["company account"], []]}
    assert verify.findings() == []


def test_who_may_not_change_staff_asks_for_no_reset(dana, with_app):
    only_for([], lambda by: operations.ask_factor_reset(dana, by=by))


# The emergency account


def test_each_use_of_the_emergency_account_is_red_and_told_to_managers(settings, manager):
    settings.BREAK_GLASS_USERNAME = "Emergency"
    manager.email = "manager@vendor.example"
    manager.save()
    make_user("emergency", is_superuser=True, password=PASSWORD)
    for _ in range(2):
        sign_in(Client(), "emergency")
    assert [facts for _, facts in recorded(kind="break_glass")] == [{"name": "emergency"}] * 2
    worker.send_due()
    assert [(one.to, one.subject) for one in mail.outbox] == [
        (["manager@vendor.example"], "The emergency account of Unlock Desk was used")
    ] * 2
