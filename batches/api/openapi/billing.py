"""What a tenant may spend and has spent, /v1/billing: api/billing.py."""

from batches.api.openapi import account, components, money_examples
from batches.api.openapi import operations as op
from batches.api.openapi.shapes import boolean, constant, maybe, moment, record, text, whole
from billing.spending import PERCENTS

SCHEMAS = {
    "Billing": record(
        "What the tenant may spend, and what it has spent.",
        object=constant("billing"),
        currency=constant("usd"),
        prepaid=boolean("Batches start only as far as credits cover them."),
        credits=record(
            balance_usd=components.USD,
            reserved_usd=components.USD | {"description": "By batches that run."},
            available_usd=components.USD | {"description": "The difference."},
        ),
        month=record(
            "The present one.",
            month=text("UTC.", pattern="^[0-9]{4}-[0-9]{2}$", examples=["2026-11"]),
            charged_usd=components.USD | {"description": "For batches that have ended, before credits."},
            running_usd=components.USD | {"description": "What batches that run cost so far."},
            reserved_usd=components.USD | {"description": "What these may come to."},
            limit_usd=maybe(components.USD),
            available_usd=maybe(components.USD, "What new batches may come to."),
            alerted_percent=whole("The last share of the limit that was told of.", enum=[0, *PERCENTS]),
        ),
        payment=record(
            can_pay=boolean("There is a payment method."),
            past_due_since=maybe(moment(), "New batches are refused."),
        ),
    ),
}

OPERATIONS = {
    "GET /v1/billing": op.Operation(
        "readBilling",
        account.TAG,
        "What you may spend, and have spent",
        {200: op.gives("Billing", "The sums.", money_examples.BILLING)},
    ),
}
