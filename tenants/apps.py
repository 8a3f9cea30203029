"""What hangs on others' signals."""

from django.apps import AppConfig


class TenantsConfig(AppConfig):
    name = "tenants"

    def ready(self) -> None:
        from allauth.mfa import signals  # noqa: PLC0415 - they load models
        from django.contrib.auth.signals import user_logged_in  # noqa: PLC0415

        from tenants import factors, sessions  # noqa: PLC0415
        from tenants.postgres import checks, lookups  # noqa: F401, PLC0415 - registers what they are called

        user_logged_in.connect(sessions.begin)
        from tenants import attempts, factors  # noqa: PLC0415

        attempts.listen()
        signals.authenticator_added.connect(factors.added)
        signals.authenticator_removed.connect(factors.removed)
