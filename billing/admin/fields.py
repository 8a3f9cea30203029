"""Money and notes as people type them."""

from typing import Any

from django import forms

from billing import ledger, money
from tenants.console.asking import Question


class Usd(forms.CharField):
    """A sum; cleaned, whole pico-USD."""

    def read(self, text: str) -> int:
        return money.amount(text)

    def shown(self, pico: int) -> str:
        return money.usd(pico)

    def prepare_value(self, value: Any) -> Any:
        return self.shown(value) if isinstance(value, int) else value

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        try:
            return self.read(text) if text else None
        except ValueError as error:
            raise forms.ValidationError(str(error)) from None


class UsdPerMillion(Usd):
    """A price; cleaned, whole pico-USD of a token."""

    def read(self, text: str) -> int:
        return money.rate(text)

    def shown(self, pico: int) -> str:
        return money.per_million(pico)


class Noted(Question):
    """Its reason becomes the note of what is posted."""

    def clean_reason(self) -> str:
        reason = str(self.cleaned_data["reason"])
        checked("note", reason, ledger.LONGEST_NOTE)
        return reason


def checked(name: str, text: str, most: int) -> None:
    """Raises ValidationError where an entry can't have it."""
    try:
        ledger.check_text(name, text, most)
    except ValueError as error:
        raise forms.ValidationError(str(error)) from None
