"""Receipts and manifests: what they say, that they are the same however often they are made, and who gets them."""

import gzip
import hashlib
import json
import time
import tracemalloc
from base64 import b64decode
from datetime import timedelta
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from django.core.files.uploadedfile import SimpleUploadedFile

from batches import lifecycle, objects, orphans, sweeping, tasks
from batches.core.states import Status
from batches.models import Batch, File, Manifest, Result, Upstream
from billing.models import LedgerEntry
from tenants import clock
from tests import crashes, documented
from tests.conftest import Person, seal, step
from tests.crashes import Point
from tests.test_engine import Work
from tests.test_pause import code
from tests.witness import Witness, request_line

pytestmark = pytest.mark.postgres_first

LINES = [
    b"\xef\xbb\xbf" + json.dumps(request_line("good", faults=["cached-5"])).encode(),
    b"  ",
    json.dumps(request_line("cr")).encode() + b"\r",
    request_line("bad", faults=["400"]),
    request_line("free", model="free"),
    b"{",
    b'{"custom_id": "huge", "x": "' + b"x" * 11_000_000 + b'"}',
    request_line("unmeasured", faults=["no-usage"]),
    request_line("twice", faults=["500:1"]),
    request_line("cut", faults=["redirect"], model="free"),
]


def content(lines: list[Any]) -> bytes:
    return b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)


def mixed(owner: Person, witness: Witness) -> Batch:
    """Submit lines of two models, one of which has no price, with faults of every kind."""
    Upstream.objects.create(model="free", base_url=witness.base_url)
    answer = owner.submit(LINES, on_invalid_line="skip")
    assert answer.status_code == 200, answer.content
    return Batch.objects.get(public_id=answer.json()["id"])


def got(person: Person, batch: Batch, what: str) -> Any:
    answer = person.get(f"/v1/batch/{batch.public_id}/{what}")
    assert answer.status_code == 200, answer.content
    if what == "manifest":
        return json.loads(answer.json()["signed"])
    return b"".join(answer.streaming_content)


def told(person: Person, batch: Batch) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in got(person, batch, "receipts").splitlines()]
    for receipt in found:
        documented.valid(receipt, "components", "schemas", "Receipt")
    return found


@pytest.mark.sqlite_first
def test_a_mixed_batch_with_faults(owner: Person, witness: Witness, work: Work) -> None:
    batch = mixed(owner, witness)
    work()
    seal()
    batch.refresh_from_db()
    found = told(owner, batch)
    by_id = {receipt["custom_id"]: receipt for receipt in found}
    raw = content(LINES).removeprefix(b"\xef\xbb\xbf").split(b"\n")
    assert [receipt["line"] for receipt in found] == [1, 3, 4, 5, 6, 7, 8, 9, 10]
    assert [receipt["input_sha256"] for receipt in found] == [
        hashlib.sha256(raw[receipt["line"] - 1]).hexdigest() for receipt in found
    ]
    assert by_id["good"]["tokens"]["cached"] == 5 and by_id["good"]["cost_pico"] > 0
    assert by_id["good"]["rates"] == {"input": 500_000_000_000, "cached_input": 250_000_000_000, "output": 10**12}
    assert (by_id["free"]["model"], by_id["free"]["cost_usd"], by_id["free"]["tokens"]["input"] > 0) == (
        "free", "0", True,
    )  # fmt: skip
    assert (by_id["bad"]["status_code"], by_id["bad"]["error_code"], by_id["bad"]["cost_pico"]) == (
        400, "upstream_error", 0,
    )  # fmt: skip
    assert (by_id["unmeasured"]["flag"], by_id["unmeasured"]["cost_pico"]) == ("usage_missing", 0)
    assert by_id["twice"]["attempts"] == 2 and by_id["cut"]["error_code"] == "upstream_redirect"
    skipped = by_id[None]
    assert (skipped["model"], skipped["rates"], skipped["upstream"], skipped["attempts"]) == (None, None, None, 0)
    assert {receipt["upstream"] for receipt in found} == {None, *Upstream.objects.values_list("pk", flat=True)}
    assert witness.base_url.encode() not in got(owner, batch, "receipts")
    agrees(owner, batch, found)


def agrees(owner: Person, batch: Batch, found: list[dict[str, Any]]) -> None:
    """The manifest with what is stored, downloaded and charged."""
    manifest = got(owner, batch, "manifest")
    documented.valid(manifest, "components", "schemas", "ManifestContent")
    cost = sum(receipt["cost_pico"] for receipt in found)
    assert cost == batch.cost == manifest["totals"]["cost_pico"] == LedgerEntry.objects.get().amount
    assert manifest["ledger"]["amount_pico"] == cost
    assert manifest["totals"]["input_tokens"] == batch.input_tokens
    lines = manifest["lines"]
    assert (lines["total"], lines["delivered"], lines["failed"]) == (batch.total, batch.completed, batch.failed)
    assert sum(lines.values()) == 2 * batch.total
    stated, shown = manifest["files"], owner.batch(batch.public_id)
    for what, name in (("output", "results"), ("receipts", "receipts")):
        body = got(owner, batch, what)
        assert stated[name] == {
            "sha256": hashlib.sha256(body).hexdigest(), "bytes": len(body), "lines": body.count(b"\n"),
        }  # fmt: skip
    for name in ("input", "output", "errors"):
        file_id = shown[f"{name.removesuffix('s')}_file_id"]
        body = b"".join(owner.get(f"/v1/files/{file_id}/content").streaming_content)
        assert (stated[name]["id"], stated[name]["sha256"]) == (file_id, hashlib.sha256(body).hexdigest())


@pytest.mark.sqlite_first
def test_the_signature_is_that_of_a_key_that_anybody_can_ask_for(owner: Person, witness: Witness, work: Work) -> None:
    batch = submitted(owner, work)
    manifest = owner.get(f"/v1/batch/{batch.public_id}/manifest").json()
    [key] = owner.client.get("/v1/manifest_keys").json()["data"]
    assert (key["id"], key["public_key"]) == (manifest["key_id"], manifest["public_key"])
    public = Ed25519PublicKey.from_public_bytes(b64decode(key["public_key"]))
    public.verify(b64decode(manifest["signature"]), manifest["signed"].encode())
    with pytest.raises(InvalidSignature):
        public.verify(b64decode(manifest["signature"]), manifest["signed"].encode() + b" ")


@pytest.mark.sqlite_only
def test_another_secret_key_leaves_old_manifests_as_they_are(
    owner: Person, witness: Witness, work: Work, settings: Any
) -> None:
    old = submitted(owner, work)
    before = owner.get(f"/v1/batch/{old.public_id}/manifest").json()
    settings.SECRET_KEY = "another" * 9
    new = owner.get(f"/v1/batch/{submitted(owner, work).public_id}/manifest").json()
    assert owner.get(f"/v1/batch/{old.public_id}/manifest").json() == before
    keys = [key["id"] for key in owner.client.get("/v1/manifest_keys").json()["data"]]
    assert keys == [new["key_id"], before["key_id"]] and len(set(keys)) == 2


def submitted(owner: Person, work: Work, count: int = 2) -> Batch:
    answer = owner.submit([request_line(str(number)) for number in range(count)])
    work()
    seal()
    return Batch.objects.get(public_id=answer.json()["id"])


def stored() -> set[str]:
    return set(objects.keys("receipts"))


@pytest.mark.sqlite_first
@pytest.mark.parametrize("how", ["cancelled", "expired", "never begun"])
def test_lines_that_were_never_run_have_no_receipt(how: str, owner: Person, witness: Witness, work: Work) -> None:
    answer = owner.submit([request_line(str(number)) for number in range(40)])
    batch = Batch.objects.get(public_id=answer.json()["id"])
    Upstream.objects.update(max_in_flight=4)
    if how != "never begun":
        step("validating", tasks.validate)
        work(stop=Result.objects.exists)
    if how == "expired":
        Batch.objects.update(deadline=clock.now() - timedelta(seconds=1))
        lifecycle.expire(batch.pk)
    else:
        lifecycle.cancel(batch)
    lifecycle.close_if_drained(batch.pk)
    step("finalizing", tasks.finalize)
    seal()
    batch.refresh_from_db()
    found, manifest = told(owner, batch), got(owner, batch, "manifest")
    assert manifest["status"] == batch.status == (Status.EXPIRED if how == "expired" else Status.CANCELLED)
    assert len(found) == batch.completed == Result.objects.count() < 40
    assert manifest["lines"] == {
        "total": 40, "delivered": len(found), "failed": 0, "never_run": 40 - len(found),
    }  # fmt: skip
    assert (len(found) > 0) == (how != "never begun") == (manifest["totals"]["cost_pico"] > 0)
    assert manifest["ledger"]["amount_pico"] == sum(receipt["cost_pico"] for receipt in found)


POINTS = {
    "after the claim": Point("batches.lifecycle", "claim_step", "after"),
    "while it writes": Point("batches.objects", "Writer.write", "after"),
    "when all is written": Point("batches.objects", "Writer.close", "after"),
    "before it is kept": Point("batches.signing", "sign", "after"),
    "in the transaction": Point("batches.files", "let_go", "after"),
    "when it is kept": Point("batches.files", "discard", "before"),
}


def test_killed_and_repeated_it_writes_the_same(
    owner: Person, witness: Witness, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = mixed(owner, witness)
    work()
    seal()
    first = owner.get(f"/v1/batch/{batch.public_id}/manifest").content, got(owner, batch, "receipts")
    for name, point in POINTS.items():
        Manifest.objects.all().delete()
        Batch.objects.update(receipts_file=None)
        crashes.die_at(point, seal)
        assert Manifest.objects.exists() == (name == "when it is kept"), name
        assert Manifest.objects.exists() == Batch.objects.filter(receipts_file__isnull=False).exists()
        seal()
        assert Manifest.objects.exists() == (name == "when it is kept"), "another one may be at work"
        Batch.objects.update(step_until=clock.now() - timedelta(seconds=1))
        seal()
        again = owner.get(f"/v1/batch/{batch.public_id}/manifest").content, got(owner, batch, "receipts")
        assert again == first, name
    monkeypatch.setattr(orphans, "AGE", timedelta(0))
    orphans.remove()
    assert stored() == set(
        File.objects.filter(storage_key__startswith="receipts/").values_list("storage_key", flat=True)
    )


def test_two_at_once_seal_it_once(owner: Person, witness: Witness, work: Work) -> None:
    """The first is stalled for longer than its lease."""
    before = stored()
    owner.submit([request_line("a")])
    work()
    stalled = crashes.stall_at(POINTS["before it is kept"], seal)
    seal()
    assert not Manifest.objects.exists(), "it waits for the other's lease"
    Batch.objects.update(step_until=clock.now() - timedelta(seconds=1))
    seal()
    kept = Batch.objects.get().receipts_file
    assert crashes.resume(stalled) == 0
    assert Batch.objects.get().receipts_file == kept and Manifest.objects.count() == 1
    assert stored() - before == {kept and kept.storage_key}, "the loser's is removed"


def test_the_end_rings_and_the_sweep_finds_what_was_lost(
    owner: Person, witness: Witness, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    rung: list[int] = []
    monkeypatch.setattr(tasks, "ring_seal", rung.append)
    owner.submit([request_line("a")])
    owner.submit([b"{}"])
    work()
    ended, failed = Batch.objects.order_by("pk")
    assert (failed.status, rung) == (Status.FAILED, [ended.pk])
    monkeypatch.setattr(tasks, "chores_waiting", lambda: False)
    sweeping.sweep()
    assert rung == [ended.pk], "not yet stale"
    Batch.objects.update(ended_at=clock.now() - timedelta(seconds=10))
    sweeping.sweep()
    assert rung == [ended.pk] * 2
    seal()
    sweeping.sweep()
    assert rung == [ended.pk] * 2


@pytest.mark.sqlite_first
def test_what_fails_is_tried_again(
    owner: Person, witness: Witness, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(writer: Any, data: bytes) -> None:
        raise OSError("no space left")

    before = stored()
    owner.submit([request_line("a")])
    work()
    with monkeypatch.context() as patched:
        patched.setattr(objects.Writer, "write", full)
        seal()
    assert stored() == before
    Batch.objects.update(step_until=clock.now() - timedelta(seconds=1))
    seal()
    assert Manifest.objects.exists()


# --- who, and when ----------------------------------------------------------------------------------------------------


@pytest.mark.sqlite_first
def test_before_they_are_there(owner: Person, outsider: Person, witness: Witness, work: Work) -> None:
    path = f"/v1/batch/{owner.submit([request_line('a')]).json()['id']}/"
    for what in ("receipts", "manifest"):
        assert code(owner.get(path + what), 409) == "batch_not_complete"
    work()
    for what in ("receipts", "manifest"):
        answer = owner.get(path + what)
        assert (code(answer, 409), answer["Retry-After"]) == ("receipts_not_ready", "2")
    seal()
    for what in ("receipts", "manifest"):
        assert owner.get(path + what).status_code == 200
        assert code(outsider.get(path + what), 404) == "batch_not_found"
        assert code(owner.get(f"{path}{what}?x=1"), 400) == "unsupported_parameter"
    failed = owner.submit([b"{}"]).json()["id"]
    work()
    seal()
    assert code(owner.get(f"/v1/batch/{failed}/receipts"), 409) == "batch_failed"
    assert code(owner.get(f"/v1/batch/{failed}/manifest"), 409) == "batch_failed"


@pytest.mark.sqlite_only
def test_receipts_are_a_download_like_others(owner: Person, witness: Witness, work: Work) -> None:
    batch = submitted(owner, work)
    path, body = f"/v1/batch/{batch.public_id}/receipts", got(owner, batch, "receipts")
    whole, packed = owner.get(path), owner.get(path, **{"Accept-Encoding": "gzip"})
    assert gzip.decompress(b"".join(packed.streaming_content)) == body
    assert whole["Content-Disposition"] == f'attachment; filename="{batch.public_id}_receipts.jsonl"'
    assert owner.get(path, **{"If-None-Match": whole["ETag"]}).status_code == 304
    part = owner.get(path, Range="bytes=5-20")
    assert (part.status_code, b"".join(part.streaming_content)) == (206, body[5:21])


@pytest.mark.sqlite_only
def test_no_list_of_files_has_them(owner: Person, witness: Witness, work: Work) -> None:
    submitted(owner, work)
    purposes = {file["purpose"] for file in owner.get("/v1/files").json()["data"]}
    assert purposes == {"batch", "batch_output"}
    assert code(owner.get("/v1/files?purpose=batch_receipts"), 400) == "invalid_purpose"


# --- the input, and its deletion --------------------------------------------------------------------------------------


def delete(owner: Person, file_id: str) -> int:
    path = f"/v1/files/{file_id}"
    status: int = owner.client.delete(path, headers={"Authorization": f"Bearer {owner.key}"}).status_code
    return status


@pytest.mark.sqlite_first
def test_an_input_that_is_deleted_at_once_is_hashed_and_then_gone(owner: Person, witness: Witness, work: Work) -> None:
    upload = {"file": SimpleUploadedFile("a", content([request_line("a"), request_line("b", faults=["400"])]))}
    file_id = owner.post("/v1/files", {**upload, "purpose": "batch"}).json()["id"]
    named = {"input_file_id": file_id, "endpoint": "/v1/chat/completions"}
    for _ in range(2):
        answer = owner.client.post(
            "/v1/batches", json.dumps(named), "application/json", headers={"Authorization": f"Bearer {owner.key}"}
        )
        assert answer.status_code == 200
    work()
    key = File.objects.get(public_id=file_id).storage_key
    assert (delete(owner, file_id), delete(owner, file_id)) == (200, 404)
    assert code(owner.get(f"/v1/files/{file_id}/content"), 404) == "file_not_found"
    first, second = Batch.objects.order_by("pk")
    assert code(owner.post(f"/v1/batch/{first.public_id}/retry"), 410) == "file_expired"
    tasks.seal(first.pk)
    assert list(objects.chunks(key)), "the other one still needs it"
    tasks.seal(second.pk)
    with pytest.raises(FileNotFoundError):
        list(objects.chunks(key))
    assert File.objects.get(public_id=file_id).storage_key == ""
    for batch in (first, second):
        assert got(owner, batch, "manifest")["input_lines_hashed"] is True
        assert all(receipt["input_sha256"] for receipt in told(owner, batch))


@pytest.mark.sqlite_only
def test_an_input_that_was_gone_before_is_told(owner: Person, witness: Witness, work: Work) -> None:
    batch = mixed(owner, witness)
    work()
    objects.delete(batch.input_file.storage_key)
    seal()
    batch.refresh_from_db()
    manifest, found = got(owner, batch, "manifest"), told(owner, batch)
    assert manifest["input_lines_hashed"] is False and manifest["files"]["input"]["sha256"] == batch.input_file.sha256
    assert {receipt["input_sha256"] for receipt in found} == {None}
    assert [each["model"] for each in manifest["models"]] == [None], "which of several nobody knows any more"
    assert sum(receipt["cost_pico"] for receipt in found) == batch.cost > 0


@pytest.mark.sqlite_only
def test_receipts_stay_when_the_output_is_deleted(owner: Person, witness: Witness, work: Work) -> None:
    batch = submitted(owner, work)
    body = got(owner, batch, "receipts")
    assert delete(owner, owner.batch(batch.public_id)["output_file_id"]) == 200
    assert code(owner.get(f"/v1/batch/{batch.public_id}/output"), 410) == "file_expired"
    assert got(owner, batch, "receipts") == body


# --- many -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [pytest.param(50_000, marks=pytest.mark.soak)])
def test_many_lines_take_little_time_and_memory(count: int, owner: Person, witness: Witness) -> None:
    lines = [request_line(str(number), pad=200) for number in range(count)]
    batch = Batch.objects.get(public_id=owner.submit(lines).json()["id"])
    step("validating", tasks.validate)
    now = clock.now()
    Result.objects.bulk_create(
        (
            Result(
                tenant=owner.tenant, batch=batch, line=number, seq=number, custom_id=f"line:{number}", status_code=200,
                input_tokens=100, output_tokens=16, cost=66_000_000, upstream_id=1, finished_at=now, segment_id=0,
                offset=0, length=0,
            )
            for number in range(1, count + 1)
        ),
        batch_size=5_000,
    )  # fmt: skip
    Batch.objects.update(status=Status.COMPLETED, ended_at=now, completed=count, cost=66_000_000 * count)
    del lines
    start = time.perf_counter()
    seal()
    took = time.perf_counter() - start
    assert json.loads(Manifest.objects.get().signed)["totals"]["cost_pico"] == 66_000_000 * count
    Manifest.objects.all().delete()
    Batch.objects.update(receipts_file=None)
    tracemalloc.start()
    seal()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    print(f"{count} lines sealed in {took:.2f} s, peak memory + {peak >> 20} MiB")
    assert took < 10 and peak < 30 << 20
