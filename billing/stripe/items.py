"""What an invoice at Stripe is made of: one item a model, one for the credits used, one for the corrections.

Stripe counts in whole cents. Each item is what the running exact sum adds to the rounded one, so that the items come to
the invoice's cents, whatever their number; what each is exactly stands in its text and its metadata.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from billing import invoicing, money
from billing.invoicing import Line
from billing.ledger import Kind
from billing.models import Invoice

MODELS = 200  # an invoice takes 250 items; further models share one
OTHERS = {
    Kind.CREDIT_USE: "Credits used",
    Kind.CORRECTION: "Corrections of earlier charges",
    Kind.CARRIED: "Carried over to your credits",
}


class Mismatch(Exception):
    """What Stripe has, or what our own rows come to, is not what the invoice says."""


class Item(NamedTuple):
    """One line at Stripe: pico-USD, and the cents that stand for them."""

    key: str
    text: str
    pico: int
    cents: int
    metadata: dict[str, str]


class Part(NamedTuple):
    """The same before rounding."""

    text: str
    pico: int
    metadata: dict[str, str]


def of(invoice: Invoice) -> list[Item]:
    """The invoice's items. Raises Mismatch where they do not come to what it says."""
    parts = [*_charges(invoicing.lines(invoice)), *_others(invoice)]
    if sum(part.pico for part in parts) != invoice.due:
        raise Mismatch("its lines do not come to its sum")
    return list(_rounded(parts))


def _rounded(parts: Iterable[Part]) -> Iterator[Item]:
    exact = before = 0
    for number, (text, pico, metadata) in enumerate(parts):
        exact += pico
        rounded = money.cents(exact)
        key = str(number)
        usd = money.usd(pico)
        yield Item(
            key, f"{text}; exactly {usd} USD", pico, rounded - before, {"item": key, "exact_usd": usd, **metadata}
        )
        before = rounded


def _charges(lines: Iterable[Line]) -> Iterator[Part]:
    by_model: dict[str, list[Line]] = {}
    for line in lines:
        by_model.setdefault(line.model, []).append(line)
    models = sorted(by_model)
    for model in models[:MODELS]:
        yield _charge(model, by_model[model])
    if rest := [line for model in models[MODELS:] for line in by_model[model]]:
        yield _charge(f"{len(models) - MODELS} other models", rest)


def _charge(name: str, lines: list[Line]) -> Part:
    requests, input_tokens, cached_tokens, output_tokens, pico = (
        sum(getattr(line, measure) for line in lines) for measure in invoicing.MEASURES
    )
    tokens = f"{input_tokens:,} input tokens ({cached_tokens:,} cached), {output_tokens:,} output tokens"
    metadata = {
        "model": name,
        "requests": str(requests),
        "input_tokens": str(input_tokens),
        "cached_tokens": str(cached_tokens),
        "output_tokens": str(output_tokens),
    }
    return Part(f"{name}: {requests:,} requests, {tokens}", pico, metadata)


def _others(invoice: Invoice) -> Iterator[Part]:
    for kind, part in sorted(invoicing.parts(invoice).items()):
        if kind != Kind.BATCH_CHARGE and part.owed:
            yield Part(OTHERS.get(Kind(kind), kind), part.owed, {"kind": kind})
