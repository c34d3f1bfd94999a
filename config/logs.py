"""What is logged, by the desk and by its web server: a line of JSON each, text on a trial run, and no secret in any."""

import logging
import re

import structlog
from django.http import HttpRequest
from structlog.contextvars import bind_contextvars, get_contextvars, merge_contextvars
from structlog.stdlib import ExtraAdder, ProcessorFormatter, add_log_level, add_logger_name

# Whatever is as long as a token may be one, wherever it stands: addresses get damaged on their way. In its own place
# a part of one is enough.
TOKEN = re.compile(r"(?:(?<=/consent/|/receipt/)|(?<=/staff/link/))[\w%-]{20,}|[A-Za-z0-9_%-]{43,}")
# What follows an address: a search holds names.
QUERY = re.compile(r"(?<=/)(?P<page>[^\s?/]*)\?\S*")
# In what an error says, whatever may be a PIN; the numbers of lines stay.
PIN = re.compile(r"(?<!line )(?<![\w-])[0-9]{4,12}(?![\w-])")
# What PostgreSQL adds to an error: the row as it was written, with names and addresses, over as many lines as it has.
ROW = re.compile(r"^(DETAIL|CONTEXT): .*?(?=\n\n(?:The above|During handling of the above) exception|\Z)", re.M | re.S)


def without_secrets(logger, name, said):
    """Take what may be a token, and queries, out of all that is logged, and what may be a PIN out of an error."""
    if "exception" in said:
        said["exception"] = PIN.sub("…", ROW.sub(r"\1: …", said["exception"]))
    return {key: _masked(said[key]) for key in ("time", "level", "event", *said)}


def _masked(value):
    if value is None or isinstance(value, bool | int | float):
        return value
    return TOKEN.sub("…", QUERY.sub(r"\g<page>", str(value)))


_BEFORE = [
    merge_contextvars,
    add_log_level,
    add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
]
logging.captureWarnings(True)
structlog.configure(
    processors=[structlog.stdlib.filter_by_level, *_BEFORE, ProcessorFormatter.wrap_for_formatter],
    logger_factory=structlog.stdlib.LoggerFactory(),
    wrapper_class=structlog.stdlib.BoundLogger,
)


class Lines(ProcessorFormatter):
    """Write whatever is logged as lines of JSON, or as text, without secrets."""

    def __init__(self, *, json=True):
        text = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
        super().__init__(
            foreign_pre_chain=[*_BEFORE, ExtraAdder()],
            processors=[
                ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                without_secrets,
                structlog.processors.JSONRenderer() if json else text,
            ],
        )


class OneLineARequest(logging.Filter):
    """Keep what Django says of a request for the line at its end (`config.request_log`): why it was turned away."""

    def filter(self, record):
        request = getattr(record, "request", None)
        if not isinstance(request, HttpRequest):
            return True
        if not hasattr(request, "log_id"):
            record.request = f"{request.method} {request.path}"  # as text it would hold the query
            return True
        if "request_id" in get_contextvars() and (record.exc_info or record.name.startswith("django.security")):
            bind_contextvars(why=str((record.exc_info and record.exc_info[1]) or "") or record.getMessage())
        return False
