# gunicorn reads this by itself when it starts in this folder.
from config.web_server import MaskingLogger

logger_class = MaskingLogger
