"""`manage.py price set | list`: USD per million tokens at the standard rate; a batch pays half, or less."""

from typing import Any

from django.core.management.base import CommandError
from django.utils import timezone

from billing import money
from billing.models import Price
from billing.prices import set_price
from tenants.management.console import VerbCommand, shown_time, whole_number

MODEL_LENGTH = 200


class Command(VerbCommand):
    help = "Prices: set a model's from now on, list those in force."

    def add_verbs(self) -> None:
        change = self.verb("set", self.change, "Set a model's price from now on; batches keep the one they began with.")
        change.add_argument("model", metavar="MODEL")
        change.add_argument("--input", dest="input_usd", metavar="USD", required=True)
        change.add_argument("--output", dest="output_usd", metavar="USD", required=True)
        change.add_argument("--cached-input", dest="cached_usd", metavar="USD", help="Absent: as --input.")
        percent = whole_number(money.LEAST_DISCOUNT, 101)
        change.add_argument(
            "--discount", type=percent, metavar="PERCENT", help="That batches are spared, 50 to 100; absent: as before."
        )
        self.verb("list", self.show, "Print the price in force of every model that has one.")

    def change(self, model: str, input_usd: str, output_usd: str, cached_usd: str | None, discount: int | None) -> None:
        if not 0 < len(model) <= MODEL_LENGTH:
            raise CommandError(f"A model's name has 1 to {MODEL_LENGTH} characters.")
        try:
            price = set_price(model, input_usd, output_usd, cached_usd, discount)
        except ValueError as error:
            raise CommandError(str(error)) from None
        self.say(_shown(price))

    def show(self) -> None:
        versions = Price.objects.filter(effective_at__lte=timezone.now()).order_by("effective_at", "pk")
        for _, price in sorted({price.model: price for price in versions}.items()):
            self.say(_shown(price))


def _shown(price: Price) -> dict[str, Any]:
    return {
        "model": price.model,
        "input": money.per_million(price.input),
        "cached_input": money.per_million(price.cached_input),
        "output": money.per_million(price.output),
        "discount": money.share([price.discount]),
        "since": shown_time(price.effective_at),
    }
