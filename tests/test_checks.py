import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder

pytestmark = pytest.mark.django_db


def test_a_database_of_an_older_version_is_refused_with_what_to_do():
    MigrationRecorder(connection).record_applied("unlocks", "0001_accounts_batches_requests_and_consents")
    with pytest.raises(CommandError) as caught:
        call_command("check", databases=["default"])
    assert (
        "This database was made by an older version of the desk "
        "(migration 0001_accounts_batches_requests_and_consents), which this one cannot use."
    ) in str(caught.value)
    assert "make clean" in str(caught.value)


def test_a_database_of_this_version_passes():
    call_command("check", databases=["default"])
