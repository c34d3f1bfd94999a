"""How gunicorn logs: as the desk does. `gunicorn.conf.py`, which it reads by itself, says so."""

import environ
from gunicorn.glogging import Logger

from .logs import Lines


class MaskingLogger(Logger):
    """Whatever gunicorn logs holds no token, and of a request neither query nor headers."""

    def setup(self, cfg):
        super().setup(cfg)
        lines = Lines(json=not environ.Env().bool("UNLOCK_DESK_TRIAL", default=False))
        for handler in (*self.error_log.handlers, *self.access_log.handlers):
            handler.setFormatter(lines)

    def access(self, resp, req, environ, request_time):
        """Log one request; `--access-log-format` is not asked, for it could name the query or a cookie."""
        if self.access_log_enabled:
            atoms = self.atoms(resp, req, environ, request_time)
            said = {
                "ip": atoms["h"],
                "request": f"{atoms['m']} {environ['RAW_URI']}",
                "code": int(atoms["s"]),
                "bytes": atoms["B"],
                "milliseconds": atoms["M"],
                "request_id": atoms.get("{x-request-id}o"),
            }
            self.access_log.info("request_answered", extra=said)
