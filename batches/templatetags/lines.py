"""Numbers and marked words, as the pages of a batch's lines and errors show them."""

from django import template
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

register = template.Library()


@register.filter
def many(number: int) -> str:
    """With thousands separators."""
    return f"{number:,}"


@register.filter
def share(number: int, whole: int) -> str:
    """In percent of the whole; what is there is never 0 %, what lacks something never 100 %."""
    percent = 100 * number / max(whole, 1)
    if 0 < percent < 0.1:
        return "under 0.1 %"
    return f"{min(percent, 99.9) if number < whole else percent:.1f} %".replace(".0 %", " %")


@register.filter
def marked(text: str) -> SafeString:
    """Words between backticks as code. The text is escaped."""
    parts = text.split("`")
    return format_html_join(
        "", "{}", ((format_html("<code>{}</code>", part) if at % 2 else part,) for at, part in enumerate(parts))
    )
