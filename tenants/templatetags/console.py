"""How the console writes what Django has from the code: names of fields and models, and the words of states."""

import re
from typing import Any

from django import template
from django.utils.html import conditional_escape, format_html
from django.utils.safestring import SafeString, mark_safe

register = template.Library()

WRITTEN = {
    "api": "API",
    "csv": "CSV",
    "id": "ID",
    "ids": "IDs",
    "ms": "ms",
    "sla": "SLA",
    "stripe": "Stripe",
    "url": "URL",
    "usd": "USD",
}
WORD = re.compile(rf"\b({'|'.join(WRITTEN)})\b", re.IGNORECASE)
TEXT = re.compile(r"[^<>]+(?=<|$)")  # what stands between tags
STATE = re.compile(r'(<t[dh] class="field-(?:status|state)[^>]*>)([A-Za-z_ ]+)(?=</t[dh]>)')
LOOKS = {
    "good": ("completed", "delivered", "done", "kept", "on", "paid", "settled"),
    "busy": ("in_progress", "finalizing", "leased", "running"),
    "waiting": ("validating", "cancelling", "expiring", "pending", "paused", "waiting", "open"),
    "bad": ("failed", "expired", "uncollectible", "past_due"),
}
LOOK = {word: look for look, words in LOOKS.items() for word in words}


def cased(text: str) -> str:
    """'api key' as 'API key', 'created at' as 'Created at'."""
    written = WORD.sub(lambda word: WRITTEN[word[0].lower()], text)
    return written if WORD.match(text) else written[:1].upper() + written[1:]


@register.filter(name="cased")
def cased_html(value: Any) -> SafeString:
    """The same of a label, whose tags are left as they are."""
    html = conditional_escape(value)
    return mark_safe(TEXT.sub(lambda text: cased(text[0]), html))  # noqa: S308  # is escaped


@register.filter
def pill(value: Any) -> SafeString:
    """A state as its word with a shape and a colour; what is no plain word as it is."""
    word = str(value)
    if "<" in word or not word.strip("-—"):
        return conditional_escape(value)
    look = LOOK.get(word.strip().lower().replace(" ", "_"), "still")
    return format_html('<span class="pill {}">{}</span>', look, cased(word.replace("_", " ")))


@register.filter
def pilled(cell: Any) -> SafeString:
    """A cell of a list, whose state is such a word."""
    html = conditional_escape(cell)
    return mark_safe(STATE.sub(lambda found: found[1] + pill(found[2]), html))  # noqa: S308  # is escaped
