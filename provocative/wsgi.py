"""The WSGI application that the web server loads."""

import os

from django.core.wsgi import get_wsgi_application

from provocative.processes import die_with_parent

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "provocative.settings")
if os.environ.get("PROVOCATIVE_ROLE") == "web":
    die_with_parent()  # the web server's worker: never outlives the server that `up` started
application = get_wsgi_application()
