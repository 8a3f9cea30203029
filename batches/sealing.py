"""Sealing an ended batch: its receipts as a stored file, and its manifest, signed. A leased step after the end.

What is written follows from what is committed alone, so it is the same bytes however often a seal is killed.
docs/decisions/0023-receipts.md
"""

import logging
from typing import Any

import msgspec
from django.db import DatabaseError, transaction
from django.db.models import Q

from batches import files, keeping, lifecycle, measures, objects, receipts, signing
from batches.core import states
from batches.core.states import Status
from batches.lifecycle import Step, StepLost
from batches.models import Batch, File, Manifest
from billing import money
from billing.ledger import Kind
from billing.models import LedgerEntry
from tenants import admission, clock, observed, scope

log = logging.getLogger(__name__)

TYPE, VERSION = "provocative.batch_manifest", 1
NAMED = ("tenant", "input_file", "results_file", "output_file", "error_file", "retry_of")


def seal(batch_pk: int) -> None:
    """Write the receipts and sign the manifest of a batch that has ended, unless it is done or being done."""
    batch = Batch.objects.select_related(*NAMED).filter(files.UNSEALED, pk=batch_pk).first()
    step = batch and lifecycle.claim_step(batch_pk, Status(batch.status), Q(receipts_file=None))
    if not batch or not step:
        return
    with observed.step("seal", batch.public_id, batch.tenant.public_id):
        _seal_leased(batch, step)


def _seal_leased(batch: Batch, step: Step) -> None:
    try:
        with measures.step("seal"), scope.tenant(batch.tenant_id):
            _seal(batch, step)
    except StepLost:
        return
    except (OSError, DatabaseError) as error:
        log.error("%s can't be sealed now, it is tried again: %s", batch, error)
        step.postpone()


def _seal(batch: Batch, step: Step) -> None:
    sums = Sums()
    inputs = receipts.Inputs(batch.input_file)
    encode = msgspec.json.encode
    with objects.Writer(objects.fresh_key("receipts")) as writer:
        for receipt in receipts.of(batch, inputs):
            step.renew()
            writer.write(encode(receipt) + b"\n")
            sums.add(receipt)
    text = _manifest(batch, writer, sums, inputs.readable)
    try:
        _keep(batch, step, writer, sums.lines, text)
    except StepLost:
        files.discard(writer.key)
        raise


class Sums:
    """What receipts come to, by model: delivered lines, tokens in, cached and out, pico-USD."""

    def __init__(self) -> None:
        self.lines = self.delivered = 0
        self._by_model: dict[str | None, list[int]] = {}

    def add(self, receipt: receipts.Receipt) -> None:
        tokens, delivered = receipt.tokens, receipt.error_code is None
        self.lines += 1
        self.delivered += delivered
        sums = self._by_model.setdefault(receipt.model, [0] * 5)
        for index, by in enumerate((delivered, tokens.input, tokens.cached, tokens.output, receipt.cost_pico)):
            sums[index] += by

    def total(self) -> dict[str, Any]:
        return _shown([sum(column) for column in zip(*self._by_model.values(), strict=True)] or [0] * 5)

    def models(self, rates: dict[str, money.Rates]) -> list[dict[str, Any]]:
        """Each model with its sums and what it was priced at; null are delivered lines whose model nobody knows."""
        found = sorted(self._by_model.items(), key=lambda item: item[0] or "")
        return [
            {"model": model, **_shown(sums), **_priced(rates.get(model or ""))}
            for model, sums in found
            if model is not None or any(sums)
        ]


def _shown(sums: list[int]) -> dict[str, Any]:
    names = ("delivered", "input_tokens", "cached_tokens", "output_tokens", "cost_pico")
    return {**dict(zip(names, sums, strict=True)), "cost_usd": money.usd(sums[-1])}


def _priced(rates: money.Rates | None) -> dict[str, Any]:
    if rates is None:
        return {"rates": None, "discount": None}
    shown = {"input": rates.input, "cached_input": rates.cached_input, "output": rates.output}
    return {"rates": shown, "discount": money.share([rates.discount])}


def _manifest(batch: Batch, writer: objects.Writer, sums: Sums, hashed: bool) -> str:
    """The text to be signed."""
    rates = msgspec.json.decode(batch.rates, type=dict[str, money.Rates])
    never_run = batch.total - sums.lines
    named = {"input": batch.input_file, "output": batch.output_file, "errors": batch.error_file}
    whole = {"results": batch.results_file}
    content = {
        "type": TYPE,
        "version": VERSION,
        "batch_id": batch.public_id,
        "retry_of": batch.retry_of and batch.retry_of.public_id,
        "endpoint": batch.endpoint,
        "status": states.shown_openai(Status(batch.status)),
        "created_at": int(batch.created_at.timestamp()),
        "ended_at": batch.ended_at and int(batch.ended_at.timestamp()),
        "lines": {
            "total": batch.total,
            "delivered": sums.delivered,
            "failed": sums.lines - sums.delivered,
            "never_run": never_run,
        },
        "totals": sums.total(),
        "models": sums.models(rates),
        "input_lines_hashed": hashed,
        "files": {
            **{name: file and {"id": file.public_id, **_measured(file)} for name, file in named.items()},
            **{name: file and _measured(file) for name, file in whole.items()},
            "receipts": {"sha256": writer.sha256, "bytes": writer.bytes, "lines": sums.lines},
        },
        "ledger": _charge(batch),
    }
    return msgspec.json.encode(content).decode()


def _measured(file: File) -> dict[str, Any]:
    return {"sha256": file.sha256, "bytes": file.bytes, "lines": file.lines}


def _charge(batch: Batch) -> dict[str, Any] | None:
    """The ledger's entry, posted in the transaction that ended the batch."""
    entry = LedgerEntry.objects.filter(kind=Kind.BATCH_CHARGE, reference=batch.public_id).first()
    if entry is None:
        return None
    shown = {"kind": entry.kind, "reference": entry.reference}
    return {**shown, "amount_pico": entry.amount, "amount_usd": money.usd(entry.amount)}


def _keep(batch: Batch, step: Step, writer: objects.Writer, lines: int, text: str) -> None:
    """Name the receipts' file and store the manifest, in one short transaction. Raises StepLost."""
    key, signature = signing.public_key(), signing.sign(text)
    with transaction.atomic():
        tenant, now = admission.lock(batch.tenant_id), clock.now()  # before the file's, as everywhere
        input_file = File.objects.select_for_update(no_key=True).get(pk=batch.input_file_id)
        file = File.objects.create(
            tenant=tenant,
            purpose=File.Purpose.BATCH_RECEIPTS,
            filename=f"{batch.public_id}_receipts.jsonl",
            bytes=writer.bytes,
            lines=lines,
            sha256=writer.sha256,
            storage_key=writer.key,
            created_at=now,
            expires_at=keeping.until(tenant, now, batch.output_expires_after),
        )
        mine = Batch.objects.filter(step.mine, pk=batch.pk, receipts_file=None)
        if not mine.update(receipts_file=file, step_token="", step_until=None, step_attempts=0):
            raise StepLost  # rolls the file back
        Manifest.objects.create(batch=batch, tenant_id=batch.tenant_id, key=key, signed=text, signature=signature)
        released = files.let_go(input_file)
    files.discard(released)
