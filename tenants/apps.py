"""What hangs on others' signals."""

from django.apps import AppConfig


class TenantsConfig(AppConfig):
    name = "tenants"

    def ready(self) -> None:
        from allauth.mfa import signals  # noqa: PLC0415 - they load models
        from django.contrib.auth.signals import user_logged_in, user_logged_out  # noqa: PLC0415

        from tenants import attempts, factors, sessions  # noqa: PLC0415
        from tenants.postgres import checks, lookups  # noqa: F401, PLC0415 - registers what they are called

        user_logged_in.connect(sessions.begin)
        user_logged_out.connect(sessions.ended)
        signals.authenticator_added.connect(factors.added)
        signals.authenticator_removed.connect(factors.removed)
        signals.authenticator_reset.connect(factors.end_others)
        attempts.listen()
