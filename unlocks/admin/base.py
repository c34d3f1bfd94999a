# The audit log still asks for its parts here.
from .lists import DayFilter, ReadOnlyAdmin, is_key
from .tags import tag

__all__ = ["DayFilter", "ReadOnlyAdmin", "is_key", "tag"]
