import os

from django.core.exceptions import ImproperlyConfigured
from django.core.wsgi import get_wsgi_application
from django.db import DatabaseError, connection

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
application = get_wsgi_application()

from unlocks.ledger import chain  # noqa: E402

try:
    chain.fitting_head()
except chain.WrongKey as wrong:
    raise ImproperlyConfigured(str(wrong)) from None
except DatabaseError:
    pass  # out of reach, or not migrated yet: /health/ready says so
finally:
    connection.close()  # each worker opens its own
