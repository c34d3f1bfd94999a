import hashlib
import json
from functools import lru_cache
from typing import Any


def sha256(content: str | bytes) -> str:
    """Return the SHA-256 (hex) of bytes, or of a text in UTF-8."""
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()


def canonical(content: Any) -> str:
    """Return canonical JSON: keys sorted, no blanks, letters beyond ASCII as they are."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


@lru_cache(maxsize=2048)  # an audit asks for the texts of some hundred entries several times
def parsed(text: str) -> Any:
    """Return what a JSON text says; nobody changes that. Raises ValueError."""
    return json.loads(text)
