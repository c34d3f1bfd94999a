"""What every process has to know for a while: which codes were used, and how many were tried.

Django's own cache in the database unpickles what stands in a row, so that whoever writes the table runs code.
"""

import json
from datetime import UTC, datetime

from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache
from django.db import IntegrityError, transaction
from django.utils import timezone

from ..models import CacheRow


class RowCache(BaseCache):
    """A cache of JSON values in rows that end. It has the calls that allauth makes."""

    def __init__(self, name, params):
        super().__init__(params)

    def add(self, key, value, timeout=DEFAULT_TIMEOUT, version=None):
        key, kept = self.make_and_validate_key(key, version), self._kept(value, timeout)
        try:
            with transaction.atomic():
                CacheRow.objects.create(cache_key=key, **kept)
        except IntegrityError:
            return False
        return True

    def get(self, key, default=None, version=None):
        key = self.make_and_validate_key(key, version)
        rows = CacheRow.objects.filter(cache_key=key, expires__gt=timezone.now())
        value = rows.values_list("value", flat=True).first()
        return default if value is None else json.loads(value)

    def set(self, key, value, timeout=DEFAULT_TIMEOUT, version=None):
        row = CacheRow(cache_key=self.make_and_validate_key(key, version), **self._kept(value, timeout))
        columns = ["value", "expires"]
        CacheRow.objects.bulk_create([row], update_conflicts=True, unique_fields=["cache_key"], update_fields=columns)

    def delete(self, key, version=None):
        return bool(CacheRow.objects.filter(cache_key=self.make_and_validate_key(key, version)).delete()[0])

    def _kept(self, value, timeout):
        # What another process deletes right now is left to it: two who delete the same rows may wait for each other.
        expired = CacheRow.objects.filter(expires__lte=timezone.now()).select_for_update(skip_locked=True)
        CacheRow.objects.filter(pk__in=expired.values("pk")).delete()
        return {"value": json.dumps(value), "expires": datetime.fromtimestamp(self.get_backend_timeout(timeout), UTC)}
