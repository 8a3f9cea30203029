"""Choices among many rows, which a field looks up as one types."""

from typing import Any

from django.contrib.admin.widgets import AutocompleteSelect
from django.http import HttpRequest

DIGITS = 18  # of a row's number


class Chosen(AutocompleteSelect):
    """What is no number is no choice; Django's own would ask the database for it, in vain."""

    def optgroups(self, name: str, value: Any, attrs: Any = None) -> Any:
        numbers = [each for each in value if str(each).isascii() and str(each).isdigit() and len(str(each)) <= DIGITS]
        return super().optgroups(name, numbers, attrs)


class Choosing:
    """For an admin that has fields to choose among many rows."""

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name in self.get_autocomplete_fields(request):  # type: ignore[attr-defined]
            kwargs.setdefault("widget", Chosen(db_field, self.admin_site))  # type: ignore[attr-defined]
        return super().formfield_for_foreignkey(db_field, request, **kwargs)  # type: ignore[misc]
