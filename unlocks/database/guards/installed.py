"""Put the guards in place, and say what of them is missing.

They are installed after every migrate; `missing()` compares what is stored with what should be, and `unlock` refuses
while anything differs or is there that nobody expects.
"""

from contextlib import contextmanager

from django.db import connections, transaction

from . import postgresql, sqlite

_DIALECTS = {"sqlite": sqlite, "postgresql": postgresql}


def missing(using="default"):
    """Return the names of what keeps the promise and is absent or altered, and of what could blind it, sorted.

    These are the guards, the constraints of the models, and whatever else the database runs or asks on a change that
    the desk did not put there. Empty: the promise is kept.
    """
    connection = connections[using]
    dialect = _DIALECTS[connection.vendor]
    wanted, stored = dialect.expected(connection), dialect.stored(connection)
    differ = {name for name in wanted.keys() | stored.keys() if wanted.get(name) != stored.get(name)}
    return sorted(differ.union(dialect.missing_constraints(connection)))


def powers(using="default"):
    """Return, as sentences, what the connection's role may do that a desk in production must not."""
    connection = connections[using]
    return _DIALECTS[connection.vendor].powers(connection)


def expected(using="default"):
    """Return the guards that should be in place, by name."""
    connection = connections[using]
    return _DIALECTS[connection.vendor].expected(connection)


def after_migrate(sender, using, **kwargs):
    install(using)


def install(using="default"):
    """Put every guard in place, whatever is there."""
    connection = connections[using]
    with transaction.atomic(using=using), connection.cursor() as cursor:
        for statement in _DIALECTS[connection.vendor].statements(connection):
            cursor.execute(statement, None)


def remove(using="default"):
    """Take the guards of a disposable test database away. Raises RuntimeError on any other."""
    connection = connections[using]
    _refuse_unless_disposable(connection)
    with transaction.atomic(using=using), connection.cursor() as cursor:
        for statement in _DIALECTS[connection.vendor].removals(connection):
            cursor.execute(statement, None)


@contextmanager
def lifted(using="default"):
    """Lift the guards of a disposable test database for a while. The one way, and there is none for the app."""
    remove(using)
    try:
        yield
    finally:
        install(using)


def _refuse_unless_disposable(connection):
    name = str(connection.settings_dict["NAME"]).rsplit("/", 1)[-1]
    if not (name.startswith(("test_", "bench_")) or "mode=memory" in name or name == ":memory:"):
        raise RuntimeError(f"Guards are lifted on disposable test databases only, and {name!r} is not one.")
