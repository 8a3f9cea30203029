"""Pages of Stripe's, /v1/billing: api/payments.py."""

from batches.api.openapi import operations as op
from batches.api.openapi.shapes import Shape, constant, fields, moment, record, text
from billing.stripe.checkout import AMOUNT, MAX_URL, MODES, URL

TAG = "Payments"
UNPAYABLE = {"payments_not_configured", "payments_unavailable", "invalid_return_url"}

_EXAMPLE = {
    "object": "billing.checkout",
    "id": "cs_test_a11YYufWQzNY63zpQ6QSNRQhkUpVph4WRmzW0zWJO2znZKdVujZ0N0S22u",
    "mode": "payment",
    "url": "https://checkout.stripe.com/c/pay/cs_test_a11YYufWQzNY63",
    "expires_at": 1795632216,
}
_PORTAL = {"object": "billing.portal", "url": "https://billing.stripe.com/p/session/test_YWNjdF8x"}
SCHEMAS = {
    "Checkout": record(
        "A page of Stripe's. It is for whoever has the address.",
        object=constant("billing.checkout"),
        id=text("Stripe's.", pattern="^cs_"),
        mode=text(enum=list(MODES)),
        url=text("Send your browser there."),
        expires_at=moment("Then the address is of no use."),
    ),
    "Portal": record(
        "A page of Stripe's, for a short time.", object=constant("billing.portal"), url=text("Send your browser there.")
    ),
}


def _url(about: str) -> Shape:
    return text(f"{about} Default: this service.", pattern=URL, maxLength=MAX_URL)


OPERATIONS = {
    "POST /v1/billing/checkout": op.Operation(
        "createCheckout",
        TAG,
        "Open a page that takes a payment method, or sells credits",
        {200: op.gives("Checkout", "The page.", _EXAMPLE)},
        "`https://`, or `http://` on localhost, is where the page leads back to.",
        body=op.takes(
            {
                op.JSON: fields(
                    "",
                    ("mode",),
                    mode=text("`setup`: leave a payment method. `payment`: buy credits.", enum=list(MODES)),
                    amount_usd=text(
                        "Of `mode=payment`, where it is needed: USD in whole cents, 1 to 100,000.",
                        pattern=AMOUNT,
                        examples=["50"],
                    ),
                    success_url=_url("Where to go on afterwards."),
                    cancel_url=_url("Where to go back to."),
                )
            },
            {"mode": "payment", "amount_usd": "50"},
        ),
        codes=UNPAYABLE | {"invalid_mode", "invalid_amount"},
        once=True,
    ),
    "POST /v1/billing/portal": op.Operation(
        "createPortal",
        TAG,
        "Open a page for your payment methods and invoices",
        {200: op.gives("Portal", "The page.", _PORTAL)},
        body=op.takes({op.JSON: fields(return_url=_url("Where it leads back to."))}, {}, required=False),
        codes=UNPAYABLE,
    ),
}
