"""What proves a charge, receipts, manifests and the ledger: api/receipts.py, api/ledger.py."""

from batches.api.openapi import account, components, examples, money_examples, native
from batches.api.openapi import operations as op
from batches.api.openapi.shapes import Shape, constant, listed, maybe, moment, page, record, ref, text, whole
from batches.api.paging import DEFAULT_LIMIT, MAX_LIMIT
from batches.core.states import RUN
from billing.models import LedgerEntry

_SHA256 = text(pattern="^[0-9a-f]{64}$")
_RATES = record(
    "Pico-USD per million tokens.",
    input=whole(minimum=0),
    cached_input=whole(minimum=0),
    output=whole(minimum=0),
)
_BASE64 = text(pattern="^[A-Za-z0-9+/]+=*$")
_KEY_ID = text(pattern="^[0-9a-f]{16}$")
_KINDS, _ACCOUNTS = text(enum=list(LedgerEntry.Kind.values)), text(enum=list(LedgerEntry.Account.values))
_COST: dict[str, Shape] = {"cost_pico": whole(minimum=0), "cost_usd": components.USD}
_TOKENS: dict[str, Shape] = {f"{kind}_tokens": whole(minimum=0) for kind in ("input", "cached", "output")}
_SUMS = {"delivered": whole(minimum=0), **_TOKENS, **_COST}
_MEASURES: dict[str, Shape] = {"sha256": _SHA256, "bytes": whole(minimum=0), "lines": whole(minimum=0)}
_FILE = record(**_MEASURES)
_NAMED_FILE = record(id=components.FILE_ID, **_MEASURES)

SCHEMAS: dict[str, Shape] = {
    "Receipt": record(
        "A line of /receipts.",
        line=whole("In the input file, from 1.", minimum=1),
        custom_id=maybe(text()),
        input_sha256=maybe(_SHA256, "Of the line's bytes in the input file, without its newline; null: it was gone."),
        status_code=maybe(whole(minimum=100, maximum=599)),
        error_code=maybe(text(), "Null: it was delivered."),
        flag=maybe(text(), "`usage_missing`: delivered, and free."),
        attempts=whole(minimum=0),
        upstream=maybe(whole(), "The number of the model server that answered."),
        model=maybe(text(), "Null: nothing was sent of this line."),
        tokens=record("That are charged.", input=whole(minimum=0), cached=whole(minimum=0), output=whole(minimum=0)),
        rates=maybe(_RATES),
        **_COST,
        finished_at=moment(),
    ),
    "ManifestContent": record(
        "The JSON in `signed` of a manifest.",
        type=constant("provocative.batch_manifest"),
        version=whole(minimum=1),
        batch_id=components.BATCH_ID,
        retry_of=maybe(components.BATCH_ID),
        endpoint=components.ENDPOINT,
        status=text(enum=[status.value for status in RUN]),
        created_at=moment(),
        ended_at=moment(),
        lines=record(**{name: whole(minimum=0) for name in ("total", "delivered", "failed", "never_run")}),
        totals=record("Sums of the receipts.", **_SUMS),
        models=listed(
            record(
                "Sums of the receipts of one model.",
                model=maybe(text()),
                **_SUMS,
                rates=maybe(_RATES),
                discount=maybe(text(examples=["0.5"])),
            )
        ),
        input_lines_hashed={"type": "boolean", "description": "False: the input was gone; receipts lack its hashes."},
        files=record(
            input=_NAMED_FILE,
            output=maybe(_NAMED_FILE),
            errors=maybe(_NAMED_FILE),
            results=maybe(_FILE, "What /output serves."),
            receipts=_FILE,
        ),
        ledger=maybe(record(kind=_KINDS, reference=text(), amount_pico=whole(), amount_usd=components.USD)),
    ),
    "Manifest": record(
        "A batch's account, signed.",
        object=constant("batch.manifest"),
        signed=text("JSON, a `ManifestContent`; the bytes of this string in UTF-8 are what is signed."),
        algorithm=constant("ed25519"),
        signature=_BASE64,
        key_id=_KEY_ID,
        public_key=_BASE64,
    ),
    "ManifestKey": record(
        "A key that has signed manifests.",
        id=_KEY_ID,
        object=constant("manifest_key"),
        algorithm=constant("ed25519"),
        public_key=_BASE64,
        created_at=moment(),
    ),
    "ManifestKeyList": record(object=constant("list"), data=listed(ref("ManifestKey"))),
    "LedgerEntry": record(
        "An amount that moved between two accounts of the tenant's.",
        id=text("Its kind and its reference."),
        object=constant("ledger_entry"),
        kind=_KINDS,
        reference=text("The id of what it is for."),
        amount_usd=components.USD | {"description": "By how much it moves what you owe; 0: credits alone."},
        moved_usd=components.USD | {"description": "What moved, never negative."},
        debit=_ACCOUNTS,
        credit=_ACCOUNTS,
        note=maybe(text()),
        created_at=moment(),
        invoice=maybe(text(pattern="^inv_"), "The invoice that it is on."),
        lines=listed(
            record(
                "What a batch's charge is made of: one model on one day (UTC).",
                model=text(),
                day=account.DAY,
                requests=whole(minimum=0),
                **_TOKENS,
                amount_usd=components.USD,
            )
        ),
    ),
    "LedgerEntryList": page("LedgerEntry"),
}

_READY = {"receipts_not_ready", "batch_failed", "batch_not_complete"}
OPERATIONS = {
    "GET /v1/batch/{batch_id}/receipts": op.Operation(
        "readReceipts",
        native.TAG,
        "The receipts of an ended batch's lines",
        op.streams(
            "A receipt for each line that was run or skipped, in the order of the input.",
            examples.lines(money_examples.RECEIPT),
        ),
        "Each line is a `Receipt`. A line that was never run has none, and costs nothing.",
        parameters=op.DOWNLOAD_HEADERS,
        codes=native.DOWNLOAD | _READY,
    ),
    "GET /v1/batch/{batch_id}/manifest": op.Operation(
        "readManifest",
        native.TAG,
        "The signed manifest of an ended batch",
        {200: op.gives("Manifest", "What was signed, and the signature.", money_examples.MANIFEST)},
        "`/static/verify_batch.py` checks it, the files, the receipts and the ledger.",
        codes=native.FIND | _READY,
    ),
    "GET /v1/manifest_keys": op.Operation(
        "listManifestKeys",
        account.TAG,
        "The public keys of manifests",
        {200: op.gives("ManifestKeyList", "All of them, the newest first.", money_examples.MANIFEST_KEYS)},
        public=True,
    ),
    "GET /v1/ledger": op.Operation(
        "listLedgerEntries",
        account.TAG,
        "Your account, entry by entry",
        {
            200: op.gives(
                "LedgerEntryList", "A page of entries, newest first.", examples.page(money_examples.LEDGER_ENTRY)
            )
        },
        parameters=(
            op.limit(MAX_LIMIT, DEFAULT_LIMIT),
            op.AFTER,
            op.query("kind", _KINDS, "Only entries of this kind."),
            op.query("reference", text(), "Only entries for this, such as a batch's id, and corrections of them."),
        ),
        codes={"invalid_limit", "invalid_kind", "entry_not_found"},
    ),
}
