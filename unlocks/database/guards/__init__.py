"""The promise, kept by the database itself: triggers, declared once and rendered for SQLite and PostgreSQL."""

from .installed import after_migrate, expected, install, lifted, missing, powers, remove

__all__ = ["after_migrate", "expected", "install", "lifted", "missing", "powers", "remove"]
