"""How people sign in, as django-allauth asks: by e-mail address, invited."""

from allauth.account.adapter import DefaultAccountAdapter
from django.http import HttpRequest


class Adapter(DefaultAccountAdapter):  # type: ignore[misc]  # it carries no types
    """Nobody signs up: an account comes from the operator, or by an invitation."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return False
