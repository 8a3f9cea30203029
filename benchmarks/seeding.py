"""A database after a busy year, written by set-based SQL: an insert for each model, as many rows as SIZES says."""

from collections.abc import Mapping
from typing import Any

from django.apps import apps
from django.db import connection
from django.db.models import Field, Model

# Rows of the seeded database; of the empty one each is 1.
SIZES = {
    "tenant": 1_000, "user": 3_000, "membership": 3_000, "invitation": 1_000, "auditevent": 100_000, "apikey": 20_000,
    "customer": 1_000, "tenantdiscount": 200, "price": 300, "ledgerentry": 200_000, "chargeline": 100_000,
    "invoice": 12_000, "invoicedentry": 150_000, "stripeevent": 20_000, "upstream": 200, "runner": 20, "permit": 1_000,
    "file": 200_000, "batch": 100_000, "submission": 50_000, "slice": 20_000, "segment": 5_000, "result": 100_000,
    "usage": 100_000, "signingkey": 3, "manifest": 90_000, "webhookendpoint": 1_500, "webhookdelivery": 50_000,
}  # fmt: skip
YEAR = "now() - interval '365 days' * (1 - i::float / {n})"  # the newest is of now
RUNNING = 0.97  # of the batches have ended
_ENDED = f"i <= {{n}} * {RUNNING}"
_STATUS = (
    f"CASE WHEN {_ENDED} THEN (ARRAY['completed','completed','completed','completed','completed','completed',"
    "'completed','failed','cancelled','expired'])[1 + i % 10]"
    " ELSE (ARRAY['in_progress','in_progress','validating','finalizing'])[1 + i % 4] END"
)
_ONE_OF = "1 + (i::bigint * 7919) % {{{}}}"  # another one for each i, spread
_SKEWED = "1 + floor({tenant} * power(random(), 3))::int"  # few tenants have most
OF: Mapping[str, Mapping[str, str]] = {
    "tenant": {"name": "'tenant ' || lpad(i::text, 5, '0')", "created_at": YEAR, "public_id": "'ten_' || md5(i::text)"},
    "user": {"email": "'person' || i || '@example.com'", "is_staff": "i % 500 = 0"},
    "membership": {"tenant": _ONE_OF.format("tenant"), "user": "1 + i % {user}", "role": "'member'"},
    "invitation": {
        "tenant": _ONE_OF.format("tenant"),
        "email": "'guest' || i || '@example.com'",
        "digest": "md5(i::text)",
    },
    "auditevent": {
        "tenant": "CASE WHEN i % 50 > 0 THEN " + _SKEWED + " END",
        "created_at": YEAR,
        "actor": "'person' || (i % 3000) || '@example.com'",
        "target": "'batch_' || md5(i::text)",
        "action": "(ARRAY['batch.submitted','file.uploaded','batch.cancelled','key.created'])[1 + i % 4]",
    },
    "apikey": {
        "tenant": _ONE_OF.format("tenant"),
        "prefix": "'pk-prov-' || left(md5(i::text), 8)",
        "digest": "md5(i::text)",
        "revoked_at": "CASE WHEN i % 3 = 0 THEN now() END",
        "once": "NULL",
        "created_at": YEAR,
    },
    "customer": {"tenant": "i", "stripe_id": "'cus_' || i"},
    "tenantdiscount": {"tenant": "i", "discount": "60"},
    "price": {"model": "'model-' || i % 50", "input": "150000", "cached_input": "75000", "output": "600000"},
    "ledgerentry": {
        "tenant": _SKEWED,
        "created_at": YEAR,
        "amount": "i",
        "debit": "'receivable'",
        "credit": "'revenue'",
        "kind": "CASE WHEN i % 1000 = 0 THEN 'sla_credit' WHEN i % 2 = 0 THEN 'batch_charge' ELSE 'credit_use' END",
        "reference": "'batch_' || md5(((i + 1) / 2)::text)",
    },
    "chargeline": {
        "entry": "i",
        "tenant": _ONE_OF.format("tenant"),
        "model": "'model-' || i % 50",
        "day": "current_date",
        "requests": "10",
        "input_tokens": "10",
        "cached_tokens": "0",
        "output_tokens": "5",
        "amount": "i",
    },
    "invoice": {
        "public_id": "'inv_' || md5(i::text)",
        "tenant": "1 + (i - 1) % {tenant}",
        "due": "i",
        "cents": "i",
        "month": "(date_trunc('month', current_date) - make_interval(months => ((i - 1) / {tenant})::int))::date",
        "status": "CASE WHEN i % 40 = 0 THEN 'open' ELSE 'paid' END",
        "stripe_id": "'in_' || i",
        "send_at": "NULL",
    },
    "invoicedentry": {"entry": "i", "invoice": _ONE_OF.format("invoice"), "tenant": _ONE_OF.format("tenant")},
    "stripeevent": {"event_id": "'evt_' || md5(i::text)", "type": "'invoice.paid'"},
    "upstream": {"model": "'model-' || i % 50", "base_url": "'http://host-' || i || ':8000/v1'", "tenant": "NULL"},
    "runner": {"token": "md5(i::text)", "host": "'host-' || i", "pid": "i", "started_ticks": "i"},
    "permit": {"upstream": "1 + (i - 1) % {upstream}", "runner": "1 + (i - 1) / {upstream}", "slots": "3"},
    "file": {
        "public_id": "'file-' || md5(i::text)",
        "tenant": _SKEWED,
        "filename": "'questions-' || i || '.jsonl'",
        "purpose": "(ARRAY['batch','batch_results'])[1 + i % 2]",
        "bytes": "1000",
        "lines": "10",
        "created_at": YEAR,
        "sha256": "md5(i::text)",
        "storage_key": "md5(i::text)",
    },
    "batch": {
        "public_id": "'batch_' || md5(i::text)",
        "tenant": _SKEWED,
        "api_key": _ONE_OF.format("apikey"),
        "created_at": YEAR,
        "input_file": "1 + (2 * i - 2) % {file}",
        "results_file": f"CASE WHEN {_ENDED} THEN 1 + (2 * i - 1) % {{file}} END",
        "model": "'model-' || i % 50",
        "endpoint": "'/v1/chat/completions'",
        "status": _STATUS,
        "total": "10",
        "completed": "9",
        "failed": "1",
        "secret": "md5(i::text)",
        "deadline": f"{YEAR} + interval '24 hours'",
        "in_progress_at": YEAR,
        "ended_at": f"CASE WHEN {_ENDED} THEN {YEAR} END",
        "expected_at": f"CASE WHEN NOT {_ENDED} THEN {YEAR} + interval '1 hour' * (20 + i % 5) END",
        "sla_met": f"CASE WHEN {_ENDED} THEN i % 200 > 0 END",
        "cost": "i",
        "metadata": '\'{{"of": "the seed"}}\'',
        "paused_reason": f"CASE WHEN NOT {_ENDED} AND i % 8 = 0 THEN 'max_cost_usd' ELSE '' END",
        **dict.fromkeys(("output_file", "error_file", "receipts_file", "retry_of"), "NULL"),
    },
    "submission": {
        "tenant": _ONE_OF.format("tenant"),
        "api_key": _ONE_OF.format("apikey"),
        "key": "md5(i::text)",
        "state": "'kept'",
        "object_id": "'batch_' || md5(i::text)",
        "created_at": YEAR,
    },
    "slice": {
        "tenant": _ONE_OF.format("tenant"),
        "batch": "{batch} - (i - 1) / 10",
        "index": "i % 10",
        "model": "'model-1'",
        "offset": "0",
        "length": "9000",
        "lines": "10",
        "tokens": "1000",
        "entries": "repeat('x', 200)::bytea",
        "runner": "NULL",
        "state": "i % 3",
        "virtual": "NULL",
    },
    "segment": {
        "tenant": _ONE_OF.format("tenant"),
        "batch": "{batch} - (i - 1) / 5",
        "data": "repeat('x', 2000)::bytea",
    },
    "result": {
        "tenant": _ONE_OF.format("tenant"),
        "batch": "{batch} - (i - 1) / 10",
        "line": "1 + (i - 1) % 10",
        "seq": "i",
        "custom_id": "'request-' || i",
        "status_code": "200",
        "error_code": "CASE WHEN i % 10 = 0 THEN 'timeout' ELSE '' END",
        "segment_id": "1",
        "offset": "0",
        "length": "10",
        "upstream_id": "1",
        "finished_at": YEAR,
    },
    "usage": {
        "tenant": _SKEWED,
        "api_key": _ONE_OF.format("apikey"),
        "batch": "i",
        "model": "'model-' || i % 50",
        "day": f"({YEAR})::date",
    },
    "signingkey": {"key_id": "'key-' || i", "public_key": "md5(i::text)"},
    "manifest": {
        "batch": "i",
        "tenant": _ONE_OF.format("tenant"),
        "key": "1",
        "signed": "repeat('x', 500)",
        "signature": "md5(i::text)",
    },
    "webhookendpoint": {
        "public_id": "'we_' || md5(i::text)",
        "tenant": _ONE_OF.format("tenant"),
        "secret": "md5(i::text)",
        "url": "'https://example.com/' || i",
        "event_types": "'batch.failed'",
        "previous_until": "NULL",
    },
    "webhookdelivery": {
        "tenant": _ONE_OF.format("tenant"),
        "endpoint": "1 + i % {webhookendpoint}",
        "event_id": "'evt_' || md5(i::text)",
        "event_type": "'batch.completed'",
        "subject": "'batch_' || md5(i::text)",
        "created_at": YEAR,
        "next_at": "NULL",
        "state": "CASE WHEN i % 400 = 0 THEN 'failed' ELSE 'delivered' END",
    },
}


def seed(is_empty: bool) -> None:
    """One row of each model, or as many as SIZES says; the planner knows them."""
    sizes = dict.fromkeys(SIZES, 1) if is_empty else SIZES
    models = {model._meta.model_name: model for model in apps.get_models()}
    with connection.cursor() as cursor:
        cursor.execute(
            "SET session_replication_role = replica; SELECT setseed(0.5)"
        )  # no checks of keys: all are there
        for name, count in sizes.items():
            cursor.execute(_insert(models[name], count, sizes))
        cursor.execute("SET session_replication_role = DEFAULT; ANALYZE")


def _insert(model: type[Model], count: int, sizes: dict[str, int]) -> str:
    """`i` in an expression counts from 1; `{n}` is how many there are, `{tenant}` how many tenants."""
    fields: list[Any] = list(model._meta.concrete_fields)
    own = OF[str(model._meta.model_name)]
    wanted = {field.column: own.get(field.name) or _usual(field) for field in fields}
    columns, values = ", ".join(f'"{name}"' for name in wanted), ", ".join(wanted.values())
    table = f'"{model._meta.db_table}"'
    move = f", setval(pg_get_serial_sequence('{table}', 'id'), {count})" if model._meta.pk.name == "id" else ""
    rows = f"INSERT INTO {table} ({columns}) SELECT {values} FROM generate_series(1, {count}) i"
    return rows.format(n=count, **sizes) + (f"; SELECT 1{move}" if move else "")


def _usual(field: "Field[Any, Any]") -> str:
    """What a column has whose expression is not given."""
    kind = field.get_internal_type()
    if field.primary_key:
        return "i"
    if field.has_default() and not callable(field.default):
        return _literal(field.default)
    if "Date" in kind and not field.null:
        return "now()"
    if field.null:
        return "NULL"
    return {"JSONField": "'{{}}'", "TextField": "''", "CharField": "''"}.get(kind, "''" if field.blank else "0")


def _literal(value: Any) -> str:
    if isinstance(value, str):
        return "'" + value.replace("'", "''").replace("{", "{{").replace("}", "}}") + "'"
    return {True: "true", False: "false"}.get(value, str(value)) if isinstance(value, bool) else str(value)
