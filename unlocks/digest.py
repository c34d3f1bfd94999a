import hashlib
import json
from collections.abc import Callable
from functools import lru_cache
from typing import Any


def sha256(content: str | bytes) -> str:
    """Return the SHA-256 (hex) of bytes, or of a text in UTF-8."""
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()


def canonical_by(default: Callable[[Any], str] | None = None) -> Callable[[Any], str]:
    """Return what writes canonical JSON: keys sorted, no blanks, letters beyond ASCII as they are.

    `default` makes a text of what JSON has no value for. Raises TypeError for that without it.
    """
    # One encoder for all: `json.dumps` makes one for each call.
    return json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=default).encode


canonical = canonical_by()


@lru_cache(maxsize=8192)  # an audit asks for the texts of some thousand entries several times
def parsed(text: str) -> Any:
    """Return what a JSON text says; nobody changes that. Raises ValueError."""
    return json.loads(text)
