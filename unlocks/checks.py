from django.core.checks import Error, register
from django.db import DatabaseError

from . import guards


@register(deploy=True)
def guards_in_place(app_configs, **kwargs):
    """Refuse a deployment whose database does not keep the promise.

    For deployment only: a check of the database tag that errs would block `migrate`, which is the cure.
    """
    try:
        missing = guards.missing()
    except DatabaseError as error:
        return [Error(f"The guards could not be looked at: {error}", id="unlocks.E001")]
    if not missing:
        return []
    return [
        Error(
            f"Guards are missing or altered in the database: {', '.join(missing)}.",
            hint="Run “manage.py migrate”, and find out who changed them.",
            id="unlocks.E002",
        )
    ]
