"""What a password may not lean on beside what Django's validators know: the words of this service."""

from typing import Any

from django.core.exceptions import ValidationError

WORDS = ("provocative", "batch", "admin", "console", "operator", "tenant", "password", "welcome")  # lower case
LEAST = 8  # characters


class OfTheService:
    """Refuses a password that is too short without WORDS: `provocativebatch1` is guessed first here."""

    def validate(self, password: str, user: Any = None) -> None:
        rest = password.lower()
        for word in WORDS:
            rest = rest.replace(word, "")
        if len(rest) < LEAST and len(rest) < len(password):
            raise ValidationError("This password is little more than words of this service.", code="of_the_service")

    def get_help_text(self) -> str:
        return "Your password can't be little more than words of this service."
