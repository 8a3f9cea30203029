"""What a tenant asks about itself, /v1/models, /v1/usage and /v1/limits: api/account.py."""

from batches.api.openapi import components, examples
from batches.api.openapi import operations as op
from batches.api.openapi.shapes import Shape, constant, listed, maybe, record, ref, text, whole
from batches.metering import GROUPS
from tenants.models import Tenant

TAG = "Account"

_PRICES = record(input=components.USD, cached_input=components.USD, output=components.USD)
_USAGE: dict[str, Shape] = {
    "requests": record(completed=whole(minimum=0), failed=whole(minimum=0)),
    "input_tokens": whole(minimum=0),
    "cached_tokens": whole(minimum=0),
    "output_tokens": whole(minimum=0),
    "total_tokens": whole(minimum=0),
    "cost": record(usd=components.USD, currency=constant("usd")),
}
DAY = text(format="date", pattern="^[0-9]{4}-[0-9]{2}-[0-9]{2}$", examples=["2026-01-31"])
_KEY = record(prefix=text(), name=text())
_ENTRY = record("One group: it has the field that it is grouped by.", **_USAGE)
_ENTRY["properties"] |= {
    "day": DAY,
    "model": text(),
    "key": maybe(_KEY, "The API key that submitted the batch; null when it is gone."),
}


def _left(about: str) -> Shape:
    return record(about, limit=maybe(whole(minimum=0)), used=whole(minimum=0), remaining=maybe(whole(minimum=0)))


def _most(*names: str) -> Shape:
    return record(**{name: whole(minimum=0) for name in names})


SCHEMAS = {
    "Model": record(
        "A model that the tenant's lines can name.",
        id=text("Its name."),
        object=constant("model"),
        created=components.CREATED,
        owned_by=text("The tenant's name where its servers are dedicated to it, else `system`."),
        prices=maybe(
            record(
                unit=constant("usd_per_million_tokens"),
                standard=_PRICES,
                batch=_PRICES,
                discount=text("A batch is spared it.", examples=["0.5"]),
            ),
            "In force now; null: it is free.",
        ),
        endpoints=listed(components.ENDPOINT),
    ),
    "ModelList": record(object=constant("list"), data=listed(ref("Model"))),
    "UsageEntry": _ENTRY,
    "UsageReport": record(
        "What the tenant's lines took.",
        object=constant("list"),
        data=listed(ref("UsageEntry")),
        totals=record(**_USAGE),
        **{"from": DAY, "to": DAY},
        group_by=text(enum=list(GROUPS)),
    ),
    "Limits": record(
        "What the tenant may have. Null: no limit.",
        object=constant("limits"),
        plan=text(enum=list(Tenant.Plan.values)),
        active_batches=_left("Batches that have not ended."),
        enqueued_tokens=_left("Estimated tokens of running batches that are not done."),
        stored_bytes=_left("Bytes of the files that are there: inputs, and what was written of batches."),
        retention=_most("days"),
        requests_per_minute=record("Of this key.", limit=whole(minimum=1), remaining=whole(minimum=0), reset=text()),
        file=_most("bytes", "lines"),
        line=_most("bytes", "nesting"),
        custom_id=_most("characters"),
        metadata=_most("pairs", "key_characters", "value_characters"),
        batch=_most("seconds"),
    ),
}

OPERATIONS = {
    "GET /v1/models": op.Operation(
        "listModels",
        TAG,
        "The models that you can reach",
        {200: op.gives("ModelList", "All of them, by name.", {"object": "list", "data": [examples.MODEL]})},
    ),
    "GET /v1/models/{model_id}": op.Operation(
        "retrieveModel",
        TAG,
        "One model",
        {200: op.gives("Model", "The model.", examples.MODEL)},
        "Slashes in its name stay slashes.",
        codes={"model_not_found"},
    ),
    "GET /v1/usage": op.Operation(
        "readUsage",
        TAG,
        "What your lines took",
        {200: op.gives("UsageReport", "The sums by group.", examples.USAGE_REPORT)},
        "By the day (UTC) on which results were stored.",
        parameters=(
            op.query("from", DAY, "The first day. Default: 29 days before `to`."),
            op.query("to", DAY, "The last day, included. Default: today."),
            op.query("group_by", text(enum=list(GROUPS), default="day"), "What is added up."),
        ),
        codes={"invalid_from", "invalid_to", "invalid_group_by"},
    ),
    "GET /v1/limits": op.Operation(
        "readLimits",
        TAG,
        "Your limits, and what is left of them",
        {200: op.gives("Limits", "The limits.", examples.LIMITS)},
    ),
}
