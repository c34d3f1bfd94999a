import logging
import re

TOKEN = re.compile(r"/(consent|receipt)/[\w-]{20,}")


class WithoutTokens(logging.Filter):
    """Take the tokens of consent links and receipts out of what is logged: who reads the log could use them."""

    def filter(self, record):
        record.msg, record.args = TOKEN.sub(r"/\1/…", record.getMessage()), ()
        return True
