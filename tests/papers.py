"""Files such as customers send them: small ones of each kind that is taken as evidence."""

import hashlib

PDF = b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360000002"
    "00000500017a5eab3f0000000049454e44ae426082"
)
JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00" + b"\x00" * 20 + b"\xff\xd9"
MAIL = (
    b"From: Dana Whitfield <d.whitfield@northwind.example>\r\n"
    b"To: Support <support@vendor.example>\r\n"
    b"Date: Mon, 23 Nov 2026 09:15:00 -0500\r\n"
    b"Subject: Re: unlock\r\n"
    b"\r\n"
    b"Yes, please unlock them.\r\n"
)


def kept_as(content):
    """Return where a file with this content lies in the place for evidence."""
    digest = hashlib.sha256(content).hexdigest()
    return f"{digest[:2]}/{digest[2:]}"
