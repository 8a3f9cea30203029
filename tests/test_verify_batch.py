"""The command with which a tenant checks a charge, as it is documented: fetched from the service, run by a bare Python.

What it finds: each thing that is tampered with, by its line and field.
"""

import json
import os
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.core.files.storage import default_storage

from batches.models import Batch, File, Manifest, SigningKey
from billing import corrections
from billing.models import ChargeLine, Invoice, InvoicedEntry, LedgerEntry
from tests.conftest import Person, seal, unprotected
from tests.test_engine import Work
from tests.test_receipts import LINES, content, mixed
from tests.witness import Witness

Verify = Callable[..., tuple[int, str]]


@pytest.fixture
def batch(owner: Person, witness: Witness, work: Work) -> Batch:
    made = mixed(owner, witness)
    work()
    seal()
    made.refresh_from_db()
    return made


@pytest.fixture
def verify(web_server: str, http: httpx.Client, owner: Person, batch: Batch) -> Verify:
    script = http.get("/static/verify_batch.py").text

    def run(*options: str, key: str = owner.key) -> tuple[int, str]:
        command = [sys.executable, "-I", "-S", "-", "--base-url", web_server, *options, batch.public_id]
        environ = {"PROVOCATIVE_API_KEY": key, "NO_PROXY": "*", "PATH": os.environ["PATH"]}
        done = subprocess.run(command, input=script, env=environ, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout + done.stderr

    return run


@pytest.mark.sqlite_first
def test_all_agrees(verify: Verify, batch: Batch, outsider: Person, tmp_path: Path) -> None:
    mine = tmp_path / "batch.jsonl"
    mine.write_bytes(content(LINES) + b"\n")
    public = SigningKey.objects.get().public_key
    status, told = verify("--input", str(mine), "--public-key", public)
    assert status == 0, told
    checked = [line[13:].partition(":")[0] for line in told.splitlines() if line.startswith("ok ")]
    assert checked == [
        "signature", "receipts", "receipts", "output", "output, its delivered lines", "output, its other lines",
        "input", "batch", "ledger",
    ]  # fmt: skip
    assert "not checked  invoice: the charge is on none yet" in told
    assert f"{batch.public_id}: receipts = batch = ledger" in told
    assert verify(key=outsider.key) == (2, f"can't look: /v1/batch/{batch.public_id}/manifest answers 404\n")
    bill(batch)
    status, told = verify()
    assert status == 0, told
    assert "invoice" in told.splitlines()[-2]
    corrections.take_back("batch_charge", batch.public_id, "wrong model")
    status, told = verify()
    assert status == 0 and f"beside it correction:batch_charge:{batch.public_id} -" in told, told


def bill(batch: Batch) -> None:
    invoice = Invoice.objects.create(tenant=batch.tenant, month=date(2026, 11, 1), due=batch.cost, cents=0)
    InvoicedEntry.objects.create(entry=LedgerEntry.objects.get(), invoice=invoice, tenant_id=invoice.tenant_id)


# --- tampering --------------------------------------------------------------------------------------------------------


@contextmanager
def stored(file: File | None, change: Callable[[bytes], bytes]) -> Iterator[None]:
    """Another content of a stored file, told by its row as if it were right."""
    assert file is not None
    path = Path(default_storage.path(file.storage_key))
    before = path.read_bytes()
    path.write_bytes(change(before))
    assert path.read_bytes() != before
    File.objects.filter(pk=file.pk).update(bytes=path.stat().st_size)
    try:
        yield
    finally:
        path.write_bytes(before)
        File.objects.filter(pk=file.pk).update(bytes=file.bytes)


@contextmanager
def row(rows: Any, **changes: Any) -> Iterator[None]:
    """Other values in a row, whatever protects it."""
    before = rows.values(*changes).get()
    with unprotected():
        rows.update(**changes)
    try:
        yield
    finally:
        with unprotected():
            rows.update(**before)


def receipt(line: int, **changes: Any) -> Callable[[bytes], bytes]:
    """A change of one receipt."""

    def change(body: bytes) -> bytes:
        found = [json.loads(each) for each in body.splitlines()]
        found = [{**each, **changes} if each["line"] == line else each for each in found]
        return b"".join(json.dumps(each, separators=(",", ":")).encode() + b"\n" for each in found)

    return change


@pytest.mark.sqlite_only
def test_what_is_tampered_with_is_named(verify: Verify, batch: Batch, tmp_path: Path) -> None:
    manifest, good = Manifest.objects.get(), json.loads(_first_receipt(batch))
    dearer = {"cost_pico": good["cost_pico"] + 1, "cost_usd": "0." + f"{good['cost_pico'] + 1:012d}"}
    tokens = {**good["tokens"], "output": good["tokens"]["output"] + 1}
    paid = good["cost_pico"] + good["rates"]["output"] // 10**6
    fitting = {"tokens": tokens, "cost_pico": paid, "cost_usd": f"0.{paid:012d}"}
    forged = ("B" if manifest.signature[0] == "A" else "A") + manifest.signature[1:]
    mine = tmp_path / "other.jsonl"
    mine.write_bytes(content(LINES).replace(b"line:good", b"line:gold") + b"\n")
    entry, part = LedgerEntry.objects.filter(reference=batch.public_id), ChargeLine.objects.filter(model="witness")
    for tampered, named in (
        (stored(batch.receipts_file, receipt(1, **dearer)), "line 1, cost_pico: receipt"),
        (stored(batch.receipts_file, receipt(1, tokens=tokens)), "line 1, cost_pico: receipt"),
        (stored(batch.receipts_file, receipt(1, **fitting)), "line 1, tokens.output: receipt"),
        (stored(batch.receipts_file, receipt(1, rates={**good["rates"], "input": 1})), "line 1, rates: receipt"),
        (stored(batch.receipts_file, receipt(4, custom_id="x")), "line 4, custom_id: receipt 'x', output 'bad'"),
        (stored(batch.receipts_file, receipt(4, attempts=7)), "receipts, sha256: found"),
        (stored(batch.receipts_file, lambda body: body.partition(b"\n")[2]), "line 3, custom_id: receipt 'cr'"),
        (stored(batch.receipts_file, lambda body: body[: body.rindex(b'{"line"')]), "output, custom_id 'cut': a line without"),
        (stored(batch.receipts_file, lambda body: body[:-9]), "what came is not of the documented form"),
        (stored(batch.results_file, lambda body: body.replace(b'"content":"', b'"content":"!', 1)), "output, bytes"),
        (stored(batch.results_file, lambda body: body.replace(b'"stop"', b'"stap"', 1)), "output, sha256: found"),
        (row(Manifest.objects, signed=manifest.signed.replace('"delivered":', '"delivered":1', 1)), "signature: it is not"),
        (row(Manifest.objects, signature=forged), "manifest, signature: it is not that of key"),
        (row(SigningKey.objects, public_key="A" * 43 + "="), "manifest, signature: it is not that of key"),
        (row(entry, amount=batch.cost + 1), f"ledger, amount: receipts {batch.cost}, ledger {batch.cost + 1}"),
        (row(part, output_tokens=1), "witness on"),
        (row(Batch.objects, cost=batch.cost - 1), f"cost: receipts {batch.cost}, manifest {batch.cost}, batch"),
        (row(Batch.objects, input_tokens=1), "input_tokens: receipts"),
    ):  # fmt: skip
        with tampered:
            status, told = verify()
        assert status == 1 and named in told.splitlines()[-1], (named, told)
        assert told.splitlines()[-1].startswith("DISAGREES    ")
    status, told = verify("--input", str(mine))
    assert status == 1 and "line 1, input_sha256: receipt" in told
    status, told = verify("--public-key", "A" * 43 + "=")
    assert status == 1 and "manifest, public_key: manifest" in told
    assert verify()[0] == 0, "all was put back"


def _first_receipt(batch: Batch) -> bytes:
    assert batch.receipts_file is not None
    return Path(default_storage.path(batch.receipts_file.storage_key)).read_bytes().partition(b"\n")[0]


@pytest.mark.sqlite_only
def test_what_is_gone_is_told(verify: Verify, batch: Batch, owner: Person) -> None:
    answer = owner.client.delete(
        f"/v1/files/{owner.batch(batch.public_id)['output_file_id']}", headers={"Authorization": f"Bearer {owner.key}"}
    )
    assert answer.status_code == 200
    status, told = verify()
    assert status == 0 and f"not checked  output: /v1/batch/{batch.public_id}/output answers 410" in told


@pytest.mark.sqlite_only
def test_an_honest_batch_whose_input_was_gone_before_agrees(verify: Verify, batch: Batch) -> None:
    Manifest.objects.all().delete()
    Batch.objects.update(receipts_file=None)
    default_storage.delete(batch.input_file.storage_key)
    seal()
    status, told = verify()
    assert status == 0 and "not checked  rates: the input was deleted" in told, told


@pytest.mark.sqlite_only
def test_its_signatures_are_those_of_everybody_else() -> None:
    script = runpy.run_path("static/verify_batch.py")
    is_signed = script["is_signed"]
    for number in range(4):
        key, message = Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32), b"m" * number
        public, signature = key.public_key().public_bytes_raw(), key.sign(message)
        assert is_signed(public, message, signature)
        assert not is_signed(public, message + b"m", signature)
        assert not is_signed(public, message, signature[:63] + bytes([signature[63] ^ 1]))
        assert not is_signed(public, message, bytes([signature[0] ^ 1]) + signature[1:])
        assert not is_signed(public, message, signature + b"\x00")
        s = int.from_bytes(signature[32:], "little") + script["ORDER"]
        assert not is_signed(public, message, signature[:32] + s.to_bytes(32, "little"))
        assert not is_signed(b"\xff" * 32, message, signature)
