"""The sample data of `make run`: a case of each kind, made by the verbs, and nothing the audit finds."""

import pytest
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command

from unlocks.ledger import verify
from unlocks.models import Batch, Contact, UnlockRequest

pytestmark = pytest.mark.django_db(transaction=True)


def test_loads_a_case_of_each_kind_once(settings, sandbox, capsys, caplog):
    settings.PHONE_CONSENT = settings.SHOW_CONSENT_LINK = True
    call_command("load_sample")
    call_command("load_sample")

    assert list(UnlockRequest.objects.order_by("pk").values_list("status", flat=True)) == [
        "open",
        "awaiting_consent",
        "consented",
        "consented",
        "unlocked",
        "closed",
    ]
    assert Batch.objects.filter(status="unlocked").count() == 2
    assert len(sandbox.unlocked()) == 4  # it is not told of exports
    assert [contact.name for contact in Contact.objects.filter(is_admin=True) if not contact.is_confirmed] == [
        "Marco Silva"
    ]
    assert "/consent/" in capsys.readouterr().out
    assert caplog.messages == []  # such as a receipt without its certificate
    assert verify.findings() == []


def test_says_what_it_needs_before_anything_is_loaded():
    with pytest.raises(CommandError, match="PRODUCT=sandbox"):
        call_command("load_sample")
    assert not get_user_model().objects.exists()
