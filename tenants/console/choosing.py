"""A choice among many rows, which a field looks up as one types."""

from typing import Any

from django.contrib.admin.widgets import AutocompleteSelect

DIGITS = 18  # of the ids of rows


class Chosen(AutocompleteSelect):
    """Django's own looks for the row of whatever was sent, and fails at what is no id."""

    def optgroups(self, name: str, value: Any, attr: Any = None) -> Any:
        ids = [each for each in value if str(each).isdecimal() and str(each).isascii() and len(str(each)) <= DIGITS]
        return super().optgroups(name, ids, attr)
