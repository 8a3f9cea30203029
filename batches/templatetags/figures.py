"""Numbers on pages."""

from django import template

register = template.Library()


@register.filter
def thousands(number: int) -> str:
    """With thousands separators."""
    return f"{number:,}"
