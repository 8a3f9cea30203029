"""Choices among many rows, which a field looks up as one types."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from django.contrib.admin.widgets import AutocompleteSelect
from django.http import HttpRequest

from tenants.console.searching import DIGITS


class Chosen(AutocompleteSelect):
    """A choice among many. What is no number is no choice; Django's own would ask the database for it, in vain.

    `known` are the words of what was read already, by its number.
    """

    known: Mapping[str, str] = MappingProxyType({})

    def optgroups(self, name: str, value: Any, attrs: Any = None) -> Any:
        if value and all(str(each) in self.known for each in value):
            return [(None, [self.create_option(name, each, self.known[str(each)], True, 0) for each in value], 0)]
        numbers = [each for each in value if str(each).isascii() and str(each).isdigit() and len(str(each)) <= DIGITS]
        return super().optgroups(name, numbers, attrs)


class Choosing:
    """For an admin that has fields to choose among many rows."""

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name in self.get_autocomplete_fields(request):  # type: ignore[attr-defined]
            kwargs.setdefault("widget", Chosen(db_field, self.admin_site))  # type: ignore[attr-defined]
        return super().formfield_for_foreignkey(db_field, request, **kwargs)  # type: ignore[misc]
