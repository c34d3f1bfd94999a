"""What every process has to know for a while: which codes were used, and how many were tried.

Django's own cache in the database unpickles what stands in a row, so that whoever writes the table runs code.
"""

import json
from datetime import UTC, datetime, timedelta

from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache
from django.utils import timezone

from ..models import CacheRow


class RowCache(BaseCache):
    """A cache of JSON values in rows that end. Of the calls that others are made of, it has what it needs."""

    def __init__(self, name, params):
        super().__init__(params)

    def add(self, key, value, timeout=DEFAULT_TIMEOUT, version=None):
        key, kept = self.make_and_validate_key(key, version), self._kept(value, timeout)
        return CacheRow.objects.get_or_create(cache_key=key, defaults=kept)[1]

    def get(self, key, default=None, version=None):
        key = self.make_and_validate_key(key, version)
        rows = CacheRow.objects.filter(cache_key=key, expires__gt=timezone.now())
        value = rows.values_list("value", flat=True).first()
        return default if value is None else json.loads(value)

    def set(self, key, value, timeout=DEFAULT_TIMEOUT, version=None):
        key = self.make_and_validate_key(key, version)
        CacheRow.objects.update_or_create(cache_key=key, defaults=self._kept(value, timeout))

    def touch(self, key, timeout=DEFAULT_TIMEOUT, version=None):
        key = self.make_and_validate_key(key, version)
        kept = CacheRow.objects.filter(cache_key=key, expires__gt=timezone.now()).update(expires=self._end(timeout))
        return bool(kept)

    def delete(self, key, version=None):
        return bool(CacheRow.objects.filter(cache_key=self.make_and_validate_key(key, version)).delete()[0])

    def clear(self):
        CacheRow.objects.all().delete()

    def _kept(self, value, timeout):
        CacheRow.objects.filter(expires__lte=timezone.now()).delete()
        return {"value": json.dumps(value), "expires": self._end(timeout)}

    def _end(self, timeout):
        end = self.get_backend_timeout(timeout)
        return timezone.now() + timedelta(days=365) if end is None else datetime.fromtimestamp(end, UTC)
