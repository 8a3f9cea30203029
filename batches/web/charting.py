"""What a chart of usage draws: sums by day and model, or by month where there are many days."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import date, timedelta
from typing import Any, NamedTuple

from batches.metering import MEASURES
from billing import money
from tenants import clock

MOST_DAYS = 100  # bars; beyond it one for each month
MOST_MODELS = 7  # with a colour of their own; the others are one
OTHERS = "other models"
METRICS = {
    "cost": "Cost, USD",
    "completed": "Requests delivered",
    "input_tokens": "Input tokens",
    "cached_tokens": "Cached input tokens",
    "output_tokens": "Output tokens",
}


class Part(NamedTuple):
    """What a model took on a day."""

    day: date
    model: str
    taken: dict[str, int]


def chart(parts: Iterable[Part], first: date, last: date) -> dict[str, Any]:
    """Labels of the bars, models from the dearest on, and of each metric a row of figures for each model.

    Figures are strings, exact ones: USD, requests, tokens.
    """
    parts = list(parts)
    monthly = (last - first).days >= MOST_DAYS
    shown = _shown(parts)
    sums: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: dict.fromkeys(MEASURES, 0))
    for part in parts:
        taken = sums[_label(part.day, monthly), shown[part.model]]
        for name in METRICS:
            taken[name] += part.taken[name]
    labels = _labels([part.day for part in parts], monthly, first, last)
    models = list(dict.fromkeys(shown.values()))
    figures = {
        name: [[_figure(name, sums[label, model][name]) for label in labels] for model in models] for name in METRICS
    }
    return {"labels": labels, "unit": "month" if monthly else "day", "models": models, "figures": figures}


def _shown(parts: list[Part]) -> dict[str, str]:
    """What each model is shown as, the dearest first; a model may be called as the others are."""
    weights: dict[str, tuple[int, int]] = {}
    for part in parts:
        cost, requests = weights.get(part.model, (0, 0))
        weights[part.model] = cost + part.taken["cost"], requests + part.taken["completed"]
    ranked = sorted(weights, key=lambda model: (*(-weight for weight in weights[model]), model))
    few = len(ranked) <= MOST_MODELS + 1
    return {model: model if few or place < MOST_MODELS else OTHERS for place, model in enumerate(ranked)}


def _label(day: date, monthly: bool) -> str:
    return f"{day:%Y-%m}" if monthly else day.isoformat()


def _labels(found: list[date], monthly: bool, first: date, last: date) -> list[str]:
    """Every day of the span; or every month from the first with usage to the last."""
    if not monthly:
        return [(first + timedelta(days=step)).isoformat() for step in range((last - first).days + 1)]
    labels, month = [], min(found, default=first).replace(day=1)
    while found and month <= max(found):
        labels.append(_label(month, monthly=True))
        month = clock.following(month)
    return labels


def _figure(metric: str, amount: int) -> str:
    return money.usd(amount) if metric == "cost" else str(amount)
