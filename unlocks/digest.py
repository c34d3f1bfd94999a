import hashlib


def sha256(content: str | bytes) -> str:
    """Return the SHA-256 (hex) of bytes, or of a text in UTF-8."""
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()
