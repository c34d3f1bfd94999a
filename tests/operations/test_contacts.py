"""An Admin's address counts once a second person has confirmed it, and said how."""

import pytest
from django.utils import timezone

from tests import factories
from tests.factories import acting, case_awaiting, confirm, enter_contact, make_account, make_contact
from tests.operations import only_for, recorded, refused
from unlocks import history, operations
from unlocks.actors import Actor
from unlocks.ledger import verify
from unlocks.models import Contact, Outgoing
from unlocks.rules import Refusal

pytestmark = pytest.mark.django_db


@pytest.fixture
def typed(manager):
    return enter_contact(account=make_account(), by=manager)


def changed(contact, by, **fields):
    """Have `by` change a contact as on its page, and return it as it is then."""
    contact.refresh_from_db()
    for name, value in fields.items():
        setattr(contact, name, value)
    operations.save_record(contact, by=acting(by))
    return Contact.objects.get(pk=contact.pk)


def state(contact):
    return contact.entered_by, contact.confirmed_by, contact.confirmed_how, contact.is_confirmed_admin


# What counts


def test_an_address_from_the_product_counts_at_once():
    admin = make_account().contacts.get()
    assert state(admin) == (None, None, "", True)
    assert list(admin.account.contacts.confirmed_admins()) == [admin]


def test_a_typed_one_counts_once_it_is_confirmed(typed, agent, manager):
    account = typed.account
    assert state(typed) == (manager, None, "", False)
    assert typed not in account.contacts.confirmed_admins()

    before = timezone.now()
    confirmed = confirm(typed, agent)
    typed.refresh_from_db()

    assert state(typed) == (manager, agent, "Called the number on file", True)
    assert before <= typed.confirmed_at <= timezone.now()
    assert confirmed == typed
    assert typed in account.contacts.confirmed_admins()
    newest = typed.history.latest("history_id")
    assert (newest.history_user, newest.confirmed_by, newest.history_change_reason) == (
        agent,
        agent,
        "Address confirmed",
    )
    assert recorded(kind="contact_confirmed") == [
        ("contact_confirmed", {"to": typed.email, "name": typed.name, "how": "Called the number on file"})
    ]


@pytest.mark.parametrize("fields", [{"name": "Other"}, {"phone": "(555) 010-0199"}, {"is_admin": False}])
def test_stays_confirmed_when_something_else_changes(typed, agent, superuser, manager, fields):
    confirm(typed, agent)
    contact = changed(typed, superuser, **fields)
    assert (contact.entered_by, contact.confirmed_by, contact.is_confirmed) == (manager, agent, True)


def test_a_changed_address_is_confirmed_anew(typed, agent, superuser):
    confirm(typed, agent)
    contact = changed(typed, superuser, email="other@customer.example")
    assert state(contact) == (superuser, None, "", False)
    assert state(confirm(contact, agent)) == (superuser, agent, "Called the number on file", True)


def test_whoever_becomes_an_admin_is_confirmed_anew(typed, agent, manager):
    confirm(typed, agent)
    changed(typed, manager, is_admin=False)
    assert state(changed(typed, manager, is_admin=True)) == (manager, None, "", False)
    office = make_contact(account=typed.account, is_admin=False)
    assert state(changed(office, manager, is_admin=True)) == (manager, None, "", False)


def test_a_changed_address_of_the_product_ends_its_links(agent, manager):
    case = case_awaiting(agent)
    changed(case.admin, manager, email="other@customer.example")
    assert operations.link_state(case.link) == "revoked"


def test_what_a_form_sends_along_confirms_nothing(typed, manager, agent):
    typed.confirmed_by, typed.confirmed_at, typed.confirmed_how = agent, timezone.now(), "Sent along"
    typed.entered_by, typed.phone = None, "(555) 010-0199"
    operations.save_record(typed, by=acting(manager))
    typed.refresh_from_db()
    assert (typed.phone, *state(typed)) == ("(555) 010-0199", manager, None, "", False)


# Who confirms


def test_agents_and_managers_may(typed):
    only_for({"Agent", "Manager"}, lambda by: confirm(typed, by.user))


def test_whoever_entered_it_may_not(typed, manager):
    with refused(Refusal.OWN_CONTACT):
        confirm(typed, manager)


def test_whoever_entered_an_earlier_address_may_not_either(typed, manager, superuser, agent):
    contact = changed(typed, superuser, email="other@customer.example")
    for by in (manager, superuser):
        with refused(Refusal.OWN_CONTACT):
            confirm(contact, by)
    assert state(confirm(contact, agent)) == (superuser, agent, "Called the number on file", True)


def test_whoever_imported_it_may_not_until_someone_else_confirmed_it(manager, agent, superuser):
    imported = factories.import_contact(by=manager)
    with refused(Refusal.OWN_CONTACT):
        confirm(imported, manager)
    assert state(confirm(imported, agent)) == (manager, agent, "Called the number on file", True)
    contact = changed(imported, superuser, email="other@customer.example")
    assert contact.entered_in is None
    assert state(confirm(contact, manager)) == (superuser, manager, "Called the number on file", True)
    assert verify.findings() == []


def test_a_phone_number_is_from_the_product_unless_someone_on_staff_typed_or_imported_it(manager, agent, superuser):
    """Whoever confirms calls it: one that the importer chose proves nothing."""
    contact = make_contact(account=make_account(), phone="(555) 010-0100")
    assert operations.phone_entered_by(contact) == ""
    contact = factories.import_contact(contact, by=manager, email="other@customer.example")
    assert operations.phone_entered_by(contact) == ""
    contact = factories.import_contact(contact, by=manager, phone="(555) 010-0111")
    confirm(contact, agent)
    assert operations.phone_entered_by(contact) == "manager"
    contact = changed(contact, superuser, phone="(555) 010-0100")
    assert operations.phone_entered_by(contact) == "superuser"
    history.update(Contact.objects.filter(pk=contact.pk), by=Actor.desk(), phone="(555) 010-0122")
    assert operations.phone_entered_by(Contact.objects.get(pk=contact.pk)) == ""


def test_only_once(typed, agent, second_agent):
    confirm(typed, agent)
    with refused(Refusal.ALREADY_RECORDED, says="Already recorded as confirmed by agent."):
        confirm(typed, second_agent)


def test_not_what_came_from_the_product(agent):
    admin = make_account().contacts.get()
    with refused(Refusal.ALREADY_RECORDED, says="Already recorded as an address from the product."):
        confirm(admin, agent)


def test_only_an_admins(agent, manager):
    office = enter_contact(account=make_account(), by=manager, is_admin=False)
    with refused(Refusal.NOT_AN_ADMIN):
        confirm(office, agent)


@pytest.mark.parametrize("how", ["", "  \n"])
def test_not_without_a_word(typed, agent, how):
    with refused(Refusal.NO_HOW):
        operations.confirm_contact(typed, address=typed.email, how=how, by=acting(agent))


def test_only_the_address_that_was_seen(typed, agent, manager):
    seen = typed.email
    changed(typed, manager, email="other@customer.example")
    says = (
        f"manager changed the address of {typed.name} meanwhile: it is other@customer.example now. Nothing was "
        "confirmed. Check the new one."
    )
    with refused(Refusal.ADDRESS_CHANGED, says=says):
        operations.confirm_contact(typed, address=seen, how="Called", by=acting(agent))


# Who is told


@pytest.fixture
def mailed(mailoutbox):
    """Return a function that carries something out and returns who was emailed, and what."""

    def carried_out(call):
        with factories.delivered():
            call()
        return {mail.to[0]: mail.body for mail in mailoutbox}

    return carried_out


def test_the_other_admins_are_told_of_a_new_one(manager, mailed, settings):
    account = make_account()
    first, waiting = account.contacts.get(), enter_contact(account=account, by=manager)
    make_contact(account=account, is_admin=False)
    told = mailed(lambda: enter_contact(account=account, by=manager, name="Ann", email="ann@customer.example"))
    assert told.keys() == {first.email}
    assert waiting.email not in told
    assert told[first.email].splitlines()[:6] == [
        f"Hello {first.name},",
        "",
        f"{settings.VENDOR_NAME} Support (manager) entered an Admin's address for {account.name}",
        f"(account {account.number}):",
        "",
        "Ann, ann@customer.example",
    ]
    outgoing = [str(row.pk) for row in Outgoing.objects.filter(account=account).order_by("queued_at")]
    sent = {"email": "admin_entered", "consent": None, "link": None, "to": first.email}
    assert recorded(kind="email_sent", account=account) == [
        ("email_sent", sent | {"outgoing": key}) for key in outgoing
    ]


def test_the_address_that_counted_before_is_told(manager, mailed):
    account = make_account()
    first, second = account.contacts.get(), make_contact(account=account)
    old = second.email
    assert mailed(lambda: changed(second, manager, email="new@customer.example")).keys() == {first.email, old}


def test_the_address_that_counted_before_is_told_also_after_a_while_as_no_admin(manager, mailed):
    account = make_account()
    only = account.contacts.get()
    old = only.email
    changed(only, manager, is_admin=False)
    assert mailed(lambda: changed(only, manager, email="new@customer.example")) == {}
    assert mailed(lambda: changed(only, manager, is_admin=True)).keys() == {old}


def test_an_address_that_never_counted_is_not(manager, agent, mailed):
    account = make_account()
    first, typo = account.contacts.get(), enter_contact(account=account, by=manager)
    assert mailed(lambda: changed(typo, manager, email="right@customer.example")).keys() == {first.email}


def test_nobody_is_told_of_somebody_who_is_no_admin(manager, mailed):
    account = make_account()
    office = enter_contact(account=account, by=manager, is_admin=False)
    assert mailed(lambda: changed(office, manager, email="office@customer.example", phone="1")) == {}
    first = account.contacts.confirmed_admins().get()
    assert mailed(lambda: changed(office, manager, is_admin=True)).keys() == {first.email}
