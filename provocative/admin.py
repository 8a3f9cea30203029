"""The queue in the console: django_q's own pages unpickle every row to draw their lists, ours none."""

from django.apps import apps
from django.contrib import admin
from django_q import admin as _queue  # noqa: F401  # registers its models now: autodiscovery imports it no second time

for model in apps.get_app_config("django_q").get_models():
    if admin.site.is_registered(model):
        admin.site.unregister(model)

from provocative import queue_admin as _ours  # noqa: E402, F401  # registers the same ones
