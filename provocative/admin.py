"""The admin's name, its door, and what it leaves out: django_q's own pages unpickle every row to draw their lists."""

from allauth.account.decorators import secure_admin_login
from django.apps import apps
from django.contrib import admin
from django_q import admin as _queue  # noqa: F401  # registers its models now: autodiscovery imports it no second time

admin.site.site_header = admin.site.site_title = "Provocative Batch"
admin.site.index_title = "Operators"
# its own page asks for no second step, and counts no attempts
admin.site.login = secure_admin_login(admin.site.login)  # type: ignore[method-assign]

for model in apps.get_app_config("django_q").get_models():
    if admin.site.is_registered(model):
        admin.site.unregister(model)
