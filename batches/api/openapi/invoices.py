"""What a tenant is charged, /v1/invoices: api/invoices.py."""

from batches.api.openapi import components, examples, money_examples
from batches.api.openapi import operations as op
from batches.api.openapi.account import DAY
from batches.api.openapi.shapes import (
    Shape,
    constant,
    listed,
    maybe,
    moment,
    number,
    page,
    record,
    ref,
    table,
    text,
    whole,
)
from batches.api.paging import DEFAULT_LIMIT, MAX_LIMIT
from billing.ledger import Kind
from billing.models import Invoice
from billing.statement import SUMS

TAG = "Invoices"
FIND = {"invoice_not_found"}

_MONTH = text("UTC.", pattern="^[0-9]{4}-[0-9]{2}$", examples=["2026-10"])
_TITLE: dict[str, Shape] = {
    "id": text(pattern="^inv_"),
    "object": constant("invoice"),
    "month": _MONTH,
    "status": text("`void`: written off.", enum=list(Invoice.Status.values)),
    "currency": constant("usd"),
    "due_usd": components.USD,
    "total_usd": text("`due_usd`, rounded once to whole cents, half a cent up.", pattern=r"^[0-9]+\.[0-9]{2}$"),
    "created_at": moment(),
    "settled_at": maybe(moment(), "When it was paid or written off; null: it is open."),
    "payment_url": maybe(text(), "Stripe's page of it; null where it is not paid there."),
}
_LINE = record(
    "What batches took of a model on a day (UTC).",
    model=text(),
    day=DAY,
    requests=whole("Delivered lines.", minimum=0),
    input_tokens=whole(minimum=0),
    cached_tokens=whole(minimum=0),
    output_tokens=whole(minimum=0),
    amount_usd=components.USD,
)
_SUMS = {f"{name}_usd": components.USD for name in (*SUMS, "rounding")}
SCHEMAS = {
    "InvoiceTitle": record("A month of the tenant's, closed.", **_TITLE),
    "InvoiceList": page("InvoiceTitle"),
    "InvoiceEntry": record(
        "An entry of the ledger.",
        id=text("Its kind and reference: there is no other with both."),
        object=constant("invoice.entry"),
        kind=text(enum=list(Kind.values)),
        reference=text("The public id of what it is for, such as a batch's."),
        amount_usd=components.USD | {"description": "What it adds to the sum due."},
        credits_usd=components.USD | {"description": "What it adds to your credits."},
        note=maybe(text()),
        created_at=moment(),
    ),
    "InvoiceEntryList": page("InvoiceEntry"),
    "Invoice": record(
        "A month of the tenant's, closed, with what it is made of.",
        **_TITLE,
        sums=record("They come to `total_usd`; without the rounding to `due_usd`.", **_SUMS),
        sla=record(
            "How the batches that ended in the month kept their 24 hours, where they were promised.",
            batches=whole(minimum=0),
            met=whole(minimum=0),
            attainment=maybe(number(minimum=0, maximum=1), "The quotient, rounded down; null of none."),
        ),
        lines=listed(_LINE, "By day and model; they come to `charges_usd`."),
        entry_counts=table(whole(minimum=1), "How many entries of each kind are on it."),
        entries=listed(ref("InvoiceEntry"), "Beside charges and the use of credits; the first 100."),
    ),
}
_CSV = "\r\n".join(
    (
        "kind,day,model,requests,input_tokens,cached_tokens,output_tokens,amount_usd",
        "charge,2026-10-24,org/llama-3.1-8b,3,107,104,40,12.30400000125",
        "credits_used,,,,,,,-2",
        "rounding,,,,,,,-0.00400000125",
        "",
    )
)


def _file(media: str, about: str, shape: Shape, example: str) -> dict[int, Shape]:
    headers = {
        "ETag": {"description": "The same while the file is.", "required": True, "schema": text()},
        "Content-Disposition": {"description": "`attachment`, with a name.", "required": True, "schema": text()},
    }
    content = {media: {"schema": shape, **({"examples": {"example": {"value": example}}} if example else {})}}
    return {
        200: {"description": about, "headers": headers, "content": content},
        304: {"description": "You have it already.", "headers": headers},
    }


_HELD = (op.header("If-None-Match", "An `ETag` that you hold: 304 when it is the file's."),)

OPERATIONS = {
    "GET /v1/invoices": op.Operation(
        "listInvoices",
        TAG,
        "List your invoices, the newest month first",
        {200: op.gives("InvoiceList", "A page of invoices.", examples.page(money_examples.INVOICE_TITLE))},
        parameters=(
            op.limit(MAX_LIMIT, DEFAULT_LIMIT),
            op.query("after", text(), "The id of an invoice: what is older than it."),
        ),
        codes=FIND | {"invalid_limit"},
    ),
    "GET /v1/invoices/{invoice_id}": op.Operation(
        "retrieveInvoice",
        TAG,
        "Read an invoice",
        {200: op.gives("Invoice", "The invoice.", money_examples.INVOICE)},
        parameters=(op.query("reference", text(), "Such as a batch's id: `entries` are those for it alone."),),
        codes=FIND,
    ),
    "GET /v1/invoices/{invoice_id}/entries": op.Operation(
        "listInvoiceEntries",
        TAG,
        "Every entry on it, newest first",
        {200: op.gives("InvoiceEntryList", "A page of entries.", examples.page(money_examples.INVOICE_ENTRY))},
        parameters=(
            op.limit(MAX_LIMIT, DEFAULT_LIMIT),
            op.query("after", text(), "The id of an entry: what is older than it."),
        ),
        codes=FIND | {"entry_not_found", "invalid_limit"},
    ),
    "GET /v1/invoices/{invoice_id}/csv": op.Operation(
        "downloadInvoiceCsv",
        TAG,
        "An invoice as CSV",
        _file("text/csv; charset=utf-8", "Its lines, then its other sums: they come to the total.", text(), _CSV),
        parameters=_HELD,
        codes=FIND,
    ),
    "GET /v1/invoices/{invoice_id}/pdf": op.Operation(
        "downloadInvoicePdf",
        TAG,
        "An invoice as PDF",
        _file("application/pdf", "The document.", {}, ""),
        parameters=_HELD,
        codes=FIND,
    ),
}
