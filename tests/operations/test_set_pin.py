"""PINs that the product gives: hashed at once, by no one on staff."""

import io

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.core.management import call_command

from tests.factories import acting, case_awaiting, customer, make_account, make_contact
from tests.operations import refused
from unlocks import operations, pins
from unlocks.actors import Actor
from unlocks.ledger import verify
from unlocks.models import ApiToken, LedgerEntry
from unlocks.rules import Refusal

pytestmark = pytest.mark.django_db


def test_it_counts_at_once_and_what_was_verified_before_does_not(agent):
    case = case_awaiting(agent)
    operations.open_consent_link(case.link, by=customer(case.admin))
    operations.verify_customer_pin(case.link, pin="482915", by=customer(case.admin))
    assert operations.set_pin(case.account, pin="7755 1234", by=Actor.desk())
    assert (pins.matches("77551234", case.account.pin_hash), case.link.pin_verified_at) == (True, None)
    with pytest.raises(operations.Refused):
        operations.verify_customer_pin(case.link, pin="482915", by=customer(case.admin))
    case.account.refresh_from_db()
    assert not operations.set_pin(case.account, pin="77551234", by=Actor.desk())
    case.account.refresh_from_db()
    assert case.account.pin_failures == 1
    operations.verify_customer_pin(case.link, pin="77551234", by=customer(case.admin))
    assert verify.findings() == []


def test_only_the_product_may_and_who_runs_the_desk(agent, manager, superuser):
    account = make_account(pin="")
    system = User.objects.create(username="billing")
    by_tokens = [
        Actor.system(ApiToken(system=user, scopes=scopes))
        for user, scopes in ((system, "contacts records"), (superuser, "pins"))
    ]
    for by in (*map(acting, (agent, manager, superuser, system)), customer(make_contact(account=account)), *by_tokens):
        with pytest.raises(PermissionDenied):
            operations.set_pin(account, pin="123456", by=by)
    assert operations.set_pin(account, pin="123456", by=Actor.system(ApiToken(system=system, scopes="pins")))
    for pin in ("", "123", "1234567890123", "abcdef"):
        with refused(Refusal.PIN_UNFIT):
            operations.set_pin(account, pin=pin, by=Actor.desk())


def test_by_command(tmp_path):
    account = make_account(pin="", number="P-1")
    file, out, err = tmp_path / "pins.csv", io.StringIO(), io.StringIO()
    file.write_text("PIN,Account Number\n482915,P-1\n12,P-1\n\n482915,P-9\n")
    with pytest.raises(SystemExit) as ended:
        call_command("set_pins", str(file), stdout=out, stderr=err)
    account.refresh_from_db()
    assert (ended.value.code, pins.matches("482915", account.pin_hash)) == (1, True)
    assert out.getvalue() == "PINs: 1 set, 0 in force already, 2 refused.\n"
    assert err.getvalue() == "Line 3: A PIN has four to twelve digits.\nLine 5: There is no account of this number.\n"
    assert not LedgerEntry.objects.filter(facts__contains="482915").exists()
