"""The order of columns, where it matters."""

from django.db import connection

from unlocks.models import Consent


def test_the_text_of_a_consent_stands_last(db):
    # SQLite reads all of a long text to come to what stands behind it: each batch unlocked would, for its guard.
    with connection.cursor() as cursor:
        columns = [column.name for column in connection.introspection.get_table_description(cursor, "unlocks_consent")]

    assert columns[-1] == Consent._meta.get_field("text").column
