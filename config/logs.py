import logging
import re

# Whatever is as long as a token may be one, wherever it stands: addresses get damaged on their way. In its own place
# a part of one is enough.
TOKEN = re.compile(r"(?<=/consent/|/receipt/)[\w-]{20,}|[A-Za-z0-9_-]{43,}")


class WithoutTokens(logging.Filter):
    """Take the tokens of consent links and receipts out of what is logged: who reads the log could use them."""

    def filter(self, record):
        record.msg, record.args = TOKEN.sub("…", record.getMessage()), ()
        return True
