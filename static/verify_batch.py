#!/usr/bin/env python3
"""Check what a batch was charged, down to the last digit. Python 3.9 or newer; nothing is installed or written.

    export PROVOCATIVE_API_KEY=pk-prov-...
    curl -s $BASE/static/verify_batch.py | python3 - --base-url $BASE batch_...

It asks for the batch's manifest, receipts, output, errors, its entry in the ledger and the invoice that this is on, and
prints each check with its numbers. It ends with 0 when all agree; with 1 at the first disagreement, naming the line and
the field; with 2 when it can't look. `--input FILE` is your own copy of the input; `--public-key` the key (base64) that
you have known the service by.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any, NoReturn

MILLION, PICO = 10**6, 10**12
BLANK = b" \t\r\n\xef\xbb\xbf"
NEVER_RUN = ("batch_cancelled", "batch_expired")
UNCHARGED = "usage_missing"
TOKENS = ("input", "cached", "output")
MEASURES = ("delivered", *(f"{name}_tokens" for name in TOKENS), "cost_pico")
PATIENCE = 60  # seconds that receipts may take to be there


class Disagreement(Exception):
    """Two numbers that should be one."""


class Gone(Exception):
    """A file that was deleted, or whose time is over; or an address that is not there."""


def same(what: str, **values: Any) -> None:
    """Raise Disagreement unless all are equal; their names say where each was read."""
    if any(value != next(iter(values.values())) for value in values.values()):
        told = ", ".join(f"{name.replace('_', ' ')} {value!r}" for name, value in values.items())
        raise Disagreement(f"{what}: {told}")


def ok(what: str, numbers: str) -> None:
    print(f"ok           {what}: {numbers}")


def unchecked(what: str, why: str) -> None:
    print(f"not checked  {what}: {why}")


def pico(usd: str) -> int:
    """Pico-USD (10^-12) of a decimal string, exactly."""
    return int(Decimal(usd) * PICO)


# --- the service ----------------------------------------------------------------------------------------------------


class Service:
    """The HTTP API, with the tenant's key."""

    def __init__(self, base_url: str, key: str) -> None:
        self._base, self._key = base_url.rstrip("/"), key

    def open(self, path: str) -> Any:
        """The answer; waits where the service asks for it. Raises Gone."""
        request = urllib.request.Request(self._base + path, headers={"Authorization": f"Bearer {self._key}"})
        until = time.monotonic() + PATIENCE
        while True:
            try:
                return urllib.request.urlopen(request, timeout=PATIENCE)
            except urllib.error.HTTPError as error:
                wait = error.headers.get("Retry-After", "")
                if error.code in (404, 410):
                    raise Gone(f"{path} answers {error.code}") from None
                if error.code not in (409, 429, 503) or not wait.isdigit() or time.monotonic() + int(wait) > until:
                    give_up(f"{path} answers {error.code}: {error.read(2000).decode(errors='replace')}")
                time.sleep(int(wait))

    def get(self, path: str) -> Any:
        with self.open(path) as answer:
            return json.load(answer)


class Measured:
    """Lines as they pass: hashed and counted."""

    def __init__(self) -> None:
        self._hash, self.bytes, self.lines = hashlib.sha256(), 0, 0

    def add(self, line: bytes) -> None:
        self._hash.update(line)
        self.bytes += len(line)
        self.lines += bool(line.strip(BLANK))

    def of(self, source: Any) -> Iterator[bytes]:
        """The lines of a download or a local file."""
        with source:
            for line in source:
                self.add(line)
                yield line

    def check(self, name: str, stated: dict[str, Any] | None) -> None:
        """Against the manifest."""
        if stated is None:
            same(f"{name}, lines", found=self.lines, manifest=0)
            return
        for field in ("bytes", "lines"):
            same(f"{name}, {field}", found=getattr(self, field), manifest=stated[field])
        same(f"{name}, sha256", found=self._hash.hexdigest(), manifest=stated["sha256"])
        ok(name, f"{self.lines} lines, {self.bytes} bytes, sha256 {self._hash.hexdigest()}")


def give_up(why: str) -> NoReturn:
    print(f"can't look: {why}", file=sys.stderr)
    sys.exit(2)


# --- a receipt ------------------------------------------------------------------------------------------------------


def check_receipt(receipt: dict[str, Any], rates: dict[str | None, Any], hashed: bool) -> None:
    """Its own arithmetic: tokens times the batch's rates, a fraction of a pico-USD not charged. Unless the input was
    gone before the batch was sealed (`hashed`): nobody knows then which of several models a line named."""
    where = f"line {receipt['line']}"
    tokens, cost = receipt["tokens"], receipt["cost_pico"]
    same(f"{where}, cost_usd", receipt=pico(receipt["cost_usd"]), cost_pico=cost)
    if receipt["model"] is None and not hashed:
        return
    same(f"{where}, rates", receipt=receipt["rates"], manifest=rates.get(receipt["model"]))
    due = 0
    if receipt["rates"]:
        rate = receipt["rates"]
        fresh = tokens["input"] - tokens["cached"]
        due = fresh * rate["input"] + tokens["cached"] * rate["cached_input"] + tokens["output"] * rate["output"]
    same(f"{where}, cost_pico", receipt=cost, tokens_times_rates=due // MILLION)
    if receipt["error_code"] or receipt["flag"] == UNCHARGED:
        for name in TOKENS:
            same(f"{where}, tokens.{name}", receipt=tokens[name], a_line_that_is_not_charged=0)


def check_output(receipt: dict[str, Any], line: dict[str, Any]) -> None:
    """Against the line of the output: what it is, and what its body says that it took."""
    where = f"line {receipt['line']}"
    response, error = line["response"] or {}, line["error"] or {}
    status, code = response.get("status_code"), receipt["error_code"]
    same(f"{where}, custom_id", receipt=receipt["custom_id"], output=line["custom_id"])
    same(f"{where}, status_code", receipt=receipt["status_code"], output=status)
    if not response:
        same(f"{where}, error_code", receipt=code, output=error.get("code"))
    same(f"{where}, delivered", receipt=code is None, output=delivered(line))
    if delivered(line) and receipt["flag"] != UNCHARGED:
        for name, taken in used(response["body"].get("usage") or {}).items():
            same(f"{where}, tokens.{name}", receipt=receipt["tokens"][name], usage_in_the_output=taken)


def delivered(line: dict[str, Any]) -> bool:
    status: int = (line["response"] or {}).get("status_code", 0)
    return 200 <= status < 300


def used(usage: dict[str, Any]) -> dict[str, int]:
    """The tokens of a body's usage, as they are charged."""
    taken = first(usage, "prompt_tokens", "input_tokens")
    details = first(usage, "prompt_tokens_details", "input_tokens_details") or {}
    cached = min(max(details.get("cached_tokens") or 0, 0), taken or 0)
    return {"input": taken, "cached": cached, "output": first(usage, "completion_tokens", "output_tokens") or 0}


def first(usage: dict[str, Any], *names: str) -> Any:
    return next((usage[name] for name in names if usage.get(name) is not None), None)


# --- all of them ----------------------------------------------------------------------------------------------------


class Sums:
    """What receipts come to: delivered lines, tokens, pico-USD."""

    def __init__(self) -> None:
        self.lines = self.cost = 0
        self.by_model: dict[str | None, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        self.by_day: dict[tuple[str | None, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))

    def add(self, receipt: dict[str, Any]) -> None:
        self.lines += 1
        self.cost += receipt["cost_pico"]
        delivered = receipt["error_code"] is None
        taken = {"delivered": int(delivered), "cost_pico": receipt["cost_pico"]}
        taken.update({f"{name}_tokens": receipt["tokens"][name] for name in TOKENS})
        day = datetime.fromtimestamp(receipt["finished_at"], timezone.utc).date().isoformat()
        for name, value in taken.items():
            self.by_model[receipt["model"]][name] += value
            if delivered:
                self.by_day[receipt["model"], day][name] += value

    def total(self, name: str) -> int:
        return sum(sums[name] for sums in self.by_model.values())


class Files:
    """What is gone through: receipts, and beside them, where it is there, the output and the tenant's own input."""

    def __init__(self, service: Service, batch_id: str, input_path: str | None) -> None:
        self.receipts, self.results, self.input = Measured(), Measured(), Measured()
        self.output, self.errors = Measured(), Measured()  # the delivered and the other lines of the results
        self.rows = self.receipts.of(service.open(f"/v1/batch/{batch_id}/receipts"))
        self.outputs = self.inputs = None
        try:
            self.outputs = self._ran(service.open(f"/v1/batch/{batch_id}/output"))
        except Gone as gone:
            unchecked("output", str(gone))
        if input_path:
            self.inputs = enumerate(self.input.of(open(input_path, "rb")), 1)  # noqa: SIM115 - closed by `of`

    def _ran(self, source: Any) -> Iterator[dict[str, Any]]:
        """The output's lines without those that were never run."""
        for raw in self.results.of(source):
            line = json.loads(raw)
            (self.output if delivered(line) else self.errors).add(raw)
            if (line["error"] or {}).get("code") not in NEVER_RUN:
                yield line

    def next_output(self) -> dict[str, Any]:
        return next(self.outputs or iter(()), {"custom_id": "(there is none)", "response": None, "error": None})

    def input_line(self, wanted: int) -> bytes:
        return next((line for number, line in self.inputs or () if number == wanted), b"")

    def check(self, stated: dict[str, Any]) -> None:
        """What was read against the manifest, once all of it was."""
        for line in self.outputs or ():
            raise Disagreement(f"output, custom_id {line['custom_id']!r}: a line without a receipt")
        self.receipts.check("receipts", stated["receipts"])
        if self.outputs is not None:
            self.results.check("output", stated["results"])
            self.output.check("output, its delivered lines", stated["output"])
            self.errors.check("output, its other lines", stated["errors"])
        if self.inputs is not None:
            for _ in self.inputs:
                pass
            self.input.check("input", stated["input"])


def check_lines(manifest: dict[str, Any], files: Files) -> Sums:
    """Every receipt, beside its lines of the output and of the input."""
    sums, rates, last = Sums(), {each["model"]: each["rates"] for each in manifest["models"]}, 0
    for raw in files.rows:
        receipt = json.loads(raw)
        if receipt["line"] <= last:
            raise Disagreement(f"line {receipt['line']}, line: it stands after line {last}")
        last = receipt["line"]
        check_receipt(receipt, rates, manifest["input_lines_hashed"])
        if files.outputs is not None:
            check_output(receipt, files.next_output())
        if files.inputs is not None and receipt["input_sha256"]:
            check_input(receipt, files.input_line(last))
        sums.add(receipt)
    if sums.by_model.get(None, {}).get("delivered"):
        unchecked("rates", "the input was deleted before there were receipts, so the lines' models are not known")
    ok("receipts", f"{sums.lines} lines, tokens x rates = {Decimal(sums.cost) / PICO:f} USD")
    return sums


def check_input(receipt: dict[str, Any], line: bytes) -> None:
    data = line[:-1] if line.endswith(b"\n") else line
    data = data[3:] if receipt["line"] == 1 and data.startswith(b"\xef\xbb\xbf") else data
    found = hashlib.sha256(data).hexdigest()
    same(f"line {receipt['line']}, input_sha256", receipt=receipt["input_sha256"], your_input=found)


def check_sums(manifest: dict[str, Any], sums: Sums, batch: dict[str, Any]) -> None:
    """sum(receipts) = manifest = batch."""
    for name in MEASURES:
        same(f"totals.{name}", receipts=sums.total(name), manifest=manifest["totals"][name])
    for each in manifest["models"]:
        for name in MEASURES:
            same(f"model {each['model']}, {name}", receipts=sums.by_model[each["model"]][name], manifest=each[name])
    usage, counts, lines = batch["usage"], batch["request_counts"], manifest["lines"]
    same("cost", receipts=sums.cost, manifest=pico(manifest["totals"]["cost_usd"]), batch=pico(batch["cost"]["usd"]))
    for name in ("input_tokens", "output_tokens"):
        same(name, receipts=sums.total(name), batch=usage[name])
    cached = usage["input_tokens_details"]["cached_tokens"]
    same("cached_tokens", receipts=sums.total("cached_tokens"), batch=cached)
    same("lines", receipts=sums.lines, manifest=lines["delivered"] + lines["failed"])
    same("delivered", receipts=sums.total("delivered"), manifest=lines["delivered"], batch=counts["completed"])
    same("failed", manifest=lines["failed"], batch=counts["failed"])
    ok("batch", f"{counts['completed']} of {counts['total']} lines delivered, {batch['cost']['usd']} USD")


# --- ledger and invoice ---------------------------------------------------------------------------------------------


def check_ledger(service: Service, manifest: dict[str, Any], sums: Sums) -> None:
    """sum(receipts) = the charge in the ledger, and by model and day its parts; then the invoice that it is on."""
    batch_id = manifest["batch_id"]
    entries = service.get(f"/v1/ledger?limit=100&reference={batch_id}")["data"]
    charge = next((entry for entry in entries if entry["kind"] == "batch_charge"), None)
    if charge is None:
        raise Disagreement(f"ledger: there is no batch_charge of {batch_id}")
    amount = pico(charge["amount_usd"])
    stated = manifest["ledger"] and manifest["ledger"]["amount_pico"]
    same("ledger, amount", receipts=sums.cost, ledger=amount, manifest=stated)
    parts = {(line["model"], line["day"]): line for line in charge["lines"]}
    unknown = any(model is None for model, _ in sums.by_day)
    if not unknown:
        same("ledger, lines", receipts=sorted(sums.by_day), ledger=sorted(parts))
    for place, taken in {} if unknown else sums.by_day.items():
        found = {name: parts[place][name] for name in MEASURES if name.endswith("tokens")}
        found.update(delivered=parts[place]["requests"], cost_pico=pico(parts[place]["amount_usd"]))
        for name in MEASURES:
            same(f"ledger, {place[0]} on {place[1]}, {name}", receipts=taken[name], ledger=found[name])
    ok("ledger", f"batch_charge {charge['amount_usd']} USD, by model and day in {len(parts)} parts")
    for entry in entries:
        if entry is not charge:
            print(f"             beside it {entry['id']} {entry['amount_usd']} USD")
    check_invoice(service, charge)


def check_invoice(service: Service, charge: dict[str, Any]) -> None:
    if charge["invoice"] is None:
        unchecked("invoice", "the charge is on none yet: its month is not closed")
        return
    try:
        invoice = service.get(f"/v1/invoices/{charge['invoice']}?reference={charge['reference']}")
    except Gone as gone:
        unchecked("invoice", str(gone))
        return
    name, key = f"invoice {invoice['id']}", (charge["kind"], charge["reference"])
    found = [each["amount_usd"] for each in invoice["entries"] if (each["kind"], each["reference"]) == key]
    same(f"{name}, entries of the batch", found=len(found), expected=1)
    same(f"{name}, amount", ledger=pico(charge["amount_usd"]), invoice=pico(found[0]))
    ok("invoice", f"{invoice['id']} has the charge, {found[0]} USD")


# --- the signature: Ed25519, as RFC 8032 has it -----------------------------------------------------------------------

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
ROOT = pow(2, (P - 1) // 4, P)
Point = tuple[int, int]


def add(a: Point, b: Point) -> Point:
    """On the curve -x^2 + y^2 = 1 + d x^2 y^2."""
    (x1, y1), (x2, y2) = a, b
    k = D * x1 * x2 * y1 * y2 % P
    x = (x1 * y2 + x2 * y1) * pow(1 + k, -1, P)
    return x % P, (y1 * y2 + x1 * x2) * pow(1 - k, -1, P) % P


def times(n: int, point: Point) -> Point:
    found: Point = (0, 1)
    while n:
        if n & 1:
            found = add(found, point)
        point, n = add(point, point), n >> 1
    return found


def decoded(data: bytes) -> Point:
    """Raises ValueError where it is no point."""
    number = int.from_bytes(data, "little")
    odd, y = number >> 255, number & (2**255 - 1)
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    x = x if x * x % P == square else x * ROOT % P
    if len(data) != 32 or y >= P or x * x % P != square or (x == 0 and odd):
        raise ValueError
    return (x if x & 1 == odd else P - x), y


def is_signed(public: bytes, message: bytes, signature: bytes) -> bool:
    base = decoded((4 * pow(5, -1, P) % P).to_bytes(32, "little"))
    try:
        key, nonce, s = decoded(public), decoded(signature[:32]), int.from_bytes(signature[32:], "little")
    except ValueError:
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % ORDER
    return len(signature) == 64 and s < ORDER and times(s, base) == add(nonce, times(h, key))


def check_signature(service: Service, answer: dict[str, Any], known: str | None) -> None:
    """Of the manifest, by a key that the service names as its own, or that the tenant has known it by."""
    public, signature = (base64.b64decode(answer[name]) for name in ("public_key", "signature"))
    if not is_signed(public, answer["signed"].encode(), signature):
        raise Disagreement(f"manifest, signature: it is not that of key {answer['key_id']} under this text")
    listed = {each["id"]: each["public_key"] for each in service.get("/v1/manifest_keys")["data"]}
    same("manifest, public_key", manifest=answer["public_key"], manifest_keys=listed.get(answer["key_id"]))
    if known:
        same("manifest, public_key", manifest=answer["public_key"], yours=known)
    ok("signature", f"Ed25519, key {answer['key_id']}")


# --- the command ----------------------------------------------------------------------------------------------------


def check(service: Service, batch_id: str, input_path: str | None, public_key: str | None) -> None:
    answer = service.get(f"/v1/batch/{batch_id}/manifest")
    check_signature(service, answer, public_key)
    manifest = json.loads(answer["signed"])
    same("manifest, batch_id", manifest=manifest["batch_id"], asked_for=batch_id)
    files = Files(service, batch_id, input_path)
    sums = check_lines(manifest, files)
    files.check(manifest["files"])
    check_sums(manifest, sums, service.get(f"/v1/batch/{batch_id}"))
    check_ledger(service, manifest, sums)


def main() -> int:
    parser = argparse.ArgumentParser(description="Check what a batch was charged, down to the last digit.")
    parser.add_argument("batch", help="its id, batch_...")
    parser.add_argument("--base-url", default="http://127.0.0.1:8000", help="where the service runs")
    parser.add_argument("--input", metavar="FILE", help="your own copy of the batch's input")
    parser.add_argument("--public-key", metavar="BASE64", help="the key that the manifest must be signed by")
    asked = parser.parse_args()
    key = os.environ.get("PROVOCATIVE_API_KEY", "")
    if not key:
        give_up("set PROVOCATIVE_API_KEY to your API key")
    try:
        check(Service(asked.base_url, key), asked.batch, asked.input, asked.public_key)
    except Disagreement as found:
        print(f"DISAGREES    {found}")
        return 1
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        print(f"DISAGREES    what came is not of the documented form: {error!r}")
        return 1
    except (Gone, OSError) as error:
        give_up(str(error))
    print(f"{asked.batch}: receipts = batch = ledger")
    return 0


if __name__ == "__main__":
    sys.exit(main())
