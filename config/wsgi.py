import os

from django.core.wsgi import get_wsgi_application

from .charset import readable

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
application = readable(get_wsgi_application())
