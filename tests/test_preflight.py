"""A preflight says what the batch then is: its errors, its lines, its cost within the bounds, its expected end."""

import json
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.conf import settings
from django.core.files.uploadedfile import SimpleUploadedFile

from batches import expecting, objects, preflight, tasks, uploads
from batches.core import bounds
from batches.models import Batch, File, Upstream
from billing import prices
from tenants import clock
from tenants.models import ApiKey
from tests.conftest import Person, step
from tests.test_engine import Work, numbered
from tests.test_expecting import known_pace
from tests.test_pause import code
from tests.test_skip import GOOD, MIXED
from tests.test_uploads import MB, peak_memory
from tests.witness import Witness, request_line
from tests.witness.faults import CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES

pytestmark = pytest.mark.postgres_first


def content(lines: list[Any]) -> bytes:
    return b"".join((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in lines)


def ask(person: Person, lines: list[Any], **fields: Any) -> Any:
    return person.post("/v1/batch/validate", {"file": SimpleUploadedFile("a.jsonl", content(lines)), **fields})


def looked_at(person: Person, lines: list[Any], **fields: Any) -> dict[str, Any]:
    answer = ask(person, lines, **fields)
    assert answer.status_code == 200, answer.content
    found: dict[str, Any] = answer.json()
    return found


def inputs() -> set[Path]:
    return {path for path in (settings.HOME / "files" / "inputs").rglob("*") if path.is_file()}


@pytest.fixture(autouse=True)
def nothing_stays(transactional_db: None) -> Iterator[None]:
    before = inputs()
    yield
    named = {settings.HOME / "files" / key for key in File.objects.values_list("storage_key", flat=True)}
    assert inputs() - before <= named, "an input that no row names"


BAD: dict[str, list[Any]] = {
    "all kinds": [line for line, _, _ in MIXED],
    "many": [b"{"] * 150 + [GOOD, GOOD] * 60,
    "two faults in a line": [GOOD, {**GOOD, "body": {**GOOD["body"], "model": "nobody"}}],
    "empty": [b"", b" \t"],
    "gzip": [b"\x1f\x8b\x08..."],
}


@pytest.mark.sqlite_first
def test_its_errors_are_those_of_the_batch(owner: Person, witness: Witness) -> None:
    for lines in BAD.values():
        found = looked_at(owner, lines)
        batch = owner.submit(lines).json()
        step("validating", tasks.validate)
        failed = owner.batch(batch["id"])
        assert failed["status"] == "failed" and found["valid"] is False
        assert found["errors"] == failed["errors"]
        assert found["total_requests"] == batch["total_requests"]
        groups = {group["code"]: group for group in found["error_groups"]}
        assert {code: group["count"] for code, group in groups.items()} == failed["errors"]["counts"]
        for entry in failed["errors"]["data"]:
            lines_named = groups[entry["code"]]["lines"]
            assert entry["line"] is None or len(lines_named) == 10 or entry["line"] in lines_named


@pytest.mark.sqlite_only
def test_a_line_with_two_faults_is_one_bad_line(owner: Person, witness: Witness) -> None:
    found = looked_at(owner, BAD["two faults in a line"])
    assert (found["valid_count"], found["invalid_count"]) == (1, 1)
    assert found["errors"]["counts"] == {"duplicate_custom_id": 1, "model_not_found": 1}
    assert found["error_groups"][0] == {
        "code": "duplicate_custom_id", "count": 1, "lines": [2], "message": "The custom_id stands on line 1 already.",
    }  # fmt: skip


@pytest.mark.sqlite_only
def test_bad_lines_that_are_skipped_stop_nothing(owner: Person, witness: Witness) -> None:
    found = looked_at(owner, BAD["all kinds"], on_invalid_line="skip")
    assert (found["valid"], found["valid_count"], found["invalid_count"]) == (True, 2, len(MIXED) - 2)
    assert looked_at(owner, [b"{"], on_invalid_line="skip")["valid"] is True
    assert looked_at(owner, [], on_invalid_line="skip")["valid"] is False


SEVERAL: dict[str, Any] = {"n": 3}
LINES = {
    CHAT: [request_line(f"a{n}", pad=37 * n, **(SEVERAL if n % 2 else {})) for n in range(20)],
    COMPLETIONS: [request_line(f"a{n}", url=COMPLETIONS, pad=n) for n in range(20)],
    EMBEDDINGS: [request_line(f"a{n}", url=EMBEDDINGS, pad=n) for n in range(20)],
    RESPONSES: [request_line(f"a{n}", url=RESPONSES, faults=[f"cached-{9 * n}"]) for n in range(20)],
}


@pytest.mark.sqlite_first
def test_what_the_batch_takes_lies_within_the_bounds(owner: Person, witness: Witness, work: Work) -> None:
    asked = {endpoint: looked_at(owner, lines, endpoint=endpoint) for endpoint, lines in LINES.items()}
    assert not Batch.objects.exists() and not File.objects.exists()
    batches = {endpoint: owner.submit(lines, endpoint=endpoint).json()["id"] for endpoint, lines in LINES.items()}
    work()
    for endpoint, found in asked.items():
        ran = owner.batch(batches[endpoint])
        assert found["valid"] is True and found["errors"] is None and found["endpoint"] == endpoint
        assert ran["completed_count"] == found["valid_count"] == found["total_requests"] == 20
        assert Decimal(found["cost"]["low_usd"]) <= Decimal(ran["cost"]["usd"]) <= Decimal(found["cost"]["high_usd"])
        assert found["output_tokens"]["low"] <= ran["usage"]["output_tokens"] <= found["output_tokens"]["high"]
        assert abs(found["input_tokens"] - ran["usage"]["input_tokens"]) <= 20
        same = ("lines_without_limit", "input_tokens", "output_tokens", "cost")
        assert found["models"] == [{"model": "witness", "lines": 20} | {name: found[name] for name in same}]
        assert ran["expires_at"] - found["expires_at"] in range(60)


@pytest.mark.sqlite_only
def test_the_bounds_to_the_pico_dollar(owner: Person, witness: Witness) -> None:
    """Input 1 USD a million, cached 0.50, output 2: at half, 0.5, 0.25 and 1 pico-USD a token of each."""
    lines = [request_line("a"), request_line("b", n=4, max_tokens=None), request_line("c", max_tokens=100, n=2)]
    found = looked_at(owner, lines)
    taken = sum(len(msg) // 4 + 1 for msg in (json.dumps(line["body"]).encode() for line in lines))
    assert found["input_tokens"] == taken
    assert found["output_tokens"] == {"low": 1 + 4 + 2, "high": 16 + 4 * bounds.UNLIMITED_OUTPUT + 200}
    assert found["lines_without_limit"] == 1
    low, high = Decimal(found["cost"]["low_usd"]), Decimal(found["cost"]["high_usd"])
    assert low * 10**6 == Decimal("0.25") * taken + found["output_tokens"]["low"]
    assert high * 10**6 == Decimal("0.5") * taken + found["output_tokens"]["high"]


@pytest.mark.sqlite_only
def test_a_model_without_a_price_has_no_cost(owner: Person, witness: Witness) -> None:
    Upstream.objects.create(model="free", base_url=witness.base_url)
    priced, free = [request_line("a")], [request_line("b", model="free")]
    found = looked_at(owner, priced + free)
    assert [(model["model"], model["lines"], model["cost"] is None) for model in found["models"]] == [
        ("witness", 1, False), ("free", 1, True),
    ]  # fmt: skip
    assert found["cost"] == found["models"][0]["cost"] == looked_at(owner, priced)["cost"]
    assert looked_at(owner, free)["cost"] is None
    prices.set_price("witness", "3", "5")
    assert looked_at(owner, priced)["cost"] != found["cost"]


@pytest.mark.sqlite_only
def test_how_much_of_the_prompts_is_shared(owner: Person, witness: Witness) -> None:
    Upstream.objects.update(max_in_flight=2)
    alone = looked_at(owner, numbered(10))["shared_prefix"]
    assert alone == {"shared_tokens": 0, "share": 0.0}
    system = [{"role": "system", "content": "s" * 5000}]
    lines = [request_line(str(n), messages=[*system, {"role": "user", "content": str(n)}]) for n in range(64)]
    shared = looked_at(owner, lines)["shared_prefix"]
    assert 0.7 < shared["share"] < 4096 / 5000
    assert shared["shared_tokens"] >= 60 * 1024


@pytest.mark.sqlite_first
def test_the_expected_end_is_what_the_batch_then_says(owner: Person, witness: Witness) -> None:
    Upstream.objects.update(max_in_flight=4)
    lines = numbered(1000)
    assert looked_at(owner, lines)["estimated_completion_at"] is None
    known_pace()
    found = looked_at(owner, lines)
    foreseen = found["estimated_completion_at"] - (found["expires_at"] - 86_400)
    batch = owner.submit(lines).json()["id"]
    step("validating", tasks.validate)
    started = Batch.objects.get(public_id=batch)
    assert started.in_progress_at and started.expected_at
    said = (started.expected_at - started.in_progress_at).total_seconds()
    assert said > 60
    assert abs(foreseen - said) < 3
    assert found["waiting_reason"] is None
    behind = looked_at(owner, lines)
    assert behind["waiting_reason"]["code"] == "behind_others"
    assert behind["estimated_completion_at"] > started.expected_at.timestamp() + 60
    started.refresh_from_db()
    assert Batch.objects.count() == 2 and not Batch.objects.filter(pk=expecting.LAST).exists()
    Upstream.objects.update(enabled=False)
    down = looked_at(owner, lines)
    assert (down["estimated_completion_at"], down["waiting_reason"]["code"]) == (None, "upstream_unavailable")


def stored(person: Person, content_of: list[Any], **fields: Any) -> File:
    """An uploaded file, as it stands before a batch is made of it."""
    with objects.Writer(objects.fresh_key("inputs")) as writer:
        writer.write(content(content_of))
    common: dict[str, Any] = {"purpose": "batch", "filename": "a", "bytes": writer.bytes, "lines": len(content_of)}
    common |= {"sha256": writer.sha256, "storage_key": writer.key, "created_at": clock.now()}
    return File.objects.create(tenant=person.tenant, **(common | fields))


def ask_of(person: Person, **fields: Any) -> Any:
    headers = {"Authorization": f"Bearer {person.key}"}
    return person.client.post(
        "/v1/batches/validate", json.dumps(fields), content_type="application/json", headers=headers
    )


def test_a_stored_file_is_looked_at_and_stays(owner: Person, outsider: Person, witness: Witness) -> None:
    lines = BAD["many"]
    file = stored(owner, lines)
    found = ask_of(owner, input_file_id=file.public_id, endpoint=CHAT).json()
    assert {**found, "expires_at": 0} == {**looked_at(owner, lines), "expires_at": 0}
    foreign = ask_of(outsider, input_file_id=file.public_id, endpoint=CHAT)
    unknown = ask_of(outsider, input_file_id=f"file-{'0' * 24}", endpoint=CHAT)
    assert code(foreign, 404) == "file_not_found" and foreign.content == unknown.content
    for change in (
        {"deleted_at": clock.now()},
        {"expires_at": clock.now() - timedelta(1)},
    ):
        other = stored(owner, lines, **change)
        assert code(ask_of(owner, input_file_id=other.public_id, endpoint=CHAT), 404) == "file_not_found"
    output = stored(owner, lines, purpose="batch_output")
    assert code(ask_of(owner, input_file_id=output.public_id, endpoint=CHAT), 400) == "invalid_input_file"
    File.objects.filter(pk=file.pk).update(lines=uploads.MAX_LINES + 1)
    large = ask_of(owner, input_file_id=file.public_id, endpoint=CHAT).json()
    assert (large["valid"], large["errors"]["counts"]) == (False, {"too_many_requests_in_batch": 1})
    assert large["invalid_count"] == large["total_requests"] == 50_001
    objects.delete(file.storage_key)
    File.objects.filter(pk=file.pk).update(lines=1)
    assert ask_of(owner, input_file_id=file.public_id, endpoint=CHAT).json()["errors"]["counts"] == {"input_missing": 1}


@pytest.mark.sqlite_only
def test_bad_requests_for_a_stored_file(owner: Person) -> None:
    for name in ("file-\x00", "file-\ud800", "é", "", "a" * 100_000):
        assert code(ask_of(owner, input_file_id=name, endpoint=CHAT), 404) == "file_not_found"
    for fields in ({}, {"input_file_id": ["a"], "endpoint": CHAT}, {"input_file_id": "a"}):
        assert code(ask_of(owner, **fields), 400) == "missing_parameter"
    assert code(ask_of(owner, input_file_id="a", endpoint=CHAT, odd=1), 400) == "unsupported_parameter"


@pytest.mark.sqlite_only
def test_what_a_batch_of_a_stored_file_may_say(owner: Person, witness: Witness) -> None:
    """What would be refused is refused, and nothing else."""
    named = {"input_file_id": stored(owner, [GOOD]).public_id, "endpoint": CHAT}
    window, expiry = {"completion_window": "24h"}, {"anchor": "created_at", "seconds": 3600}
    for fields, found in (
        ({**window, "metadata": {"a": "b"}, "output_expires_after": expiry}, None),
        ({"completion_window": "1h"}, "invalid_completion_window"),
        ({"metadata": {"a": 1}}, "invalid_metadata"),
        ({"output_expires_after": {"anchor": "created_at"}}, "invalid_expiry"),
    ):
        answer = ask_of(owner, **named, **fields)
        assert answer.status_code == 200 if found is None else code(answer, 400) == found


def broken(*_: Any) -> None:
    raise OSError("the disk is gone")


@pytest.mark.sqlite_only
def test_what_fails_leaves_nothing_behind(owner: Person, witness: Witness, monkeypatch: pytest.MonkeyPatch) -> None:
    assert code(ask(owner, [GOOD], endpoint="/v1/images"), 400) == "invalid_endpoint"
    assert code(ask(owner, [GOOD], metadata="[]"), 400) == "invalid_metadata"
    assert code(ask(owner, [GOOD], max_cost_usd="x"), 400) == "invalid_max_cost"
    assert code(ask(owner, [GOOD], on_invalid_line="x"), 400) == "invalid_on_invalid_line"
    assert code(ask(owner, [GOOD], odd="x"), 400) == "unsupported_parameter"
    assert code(owner.post("/v1/batch/validate", {"endpoint": CHAT}), 400) == "missing_file"
    assert code(owner.get("/v1/batch/validate"), 405) == "method_not_allowed"
    monkeypatch.setattr(uploads, "MAX_LINES", 10)
    assert code(ask(owner, [GOOD] * 11), 413) == "too_many_requests_in_batch"
    monkeypatch.setattr(uploads, "MAX_BYTES", 300_000)
    assert code(ask(owner, [b"x" * 400_000]), 413) == "file_too_large"
    monkeypatch.setattr(preflight, "_examine", broken)
    assert code(ask(owner, [GOOD]), 500) == "server_error"
    ApiKey.objects.update(scopes="batch:read")
    assert code(ask(owner, [GOOD]), 403) == "insufficient_scope"


@pytest.mark.sqlite_only
def test_few_are_looked_at_at_once_and_none_takes_a_batchs_place(
    owner: Person, witness: Witness, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(10):
        owner.submit([GOOD])
    assert code(owner.submit([GOOD]), 429) == "concurrent_batch_limit_exceeded"
    monkeypatch.setattr(preflight, "PATIENCE", 0.01)
    with preflight._place(), preflight._place():
        refused = ask(owner, [GOOD])
        assert (code(refused, 503), refused["Retry-After"]) == ("too_many_transfers", "5")
    assert looked_at(owner, [GOOD])["valid"] is True


@pytest.mark.sqlite_only
def test_a_large_file_takes_little_memory(owner: Person, witness: Witness, http: httpx.Client, web_server: str) -> None:
    line = json.dumps(request_line("a", custom_id="c%09d", pad=10_000)).encode()
    large = [line.replace(b"c%09d", b"c%09d" % n) + b"\n" for n in range(4000)]

    def send(lines: list[bytes]) -> Any:
        headers, form = {"Authorization": f"Bearer {owner.key}"}, {"file": ("a", b"".join(lines))}
        return http.post("/v1/batch/validate", files=form, headers=headers, timeout=60).json()

    assert send(large[:20])["valid_count"] == 20
    start = peak_memory(web_server)
    assert send(large)["valid_count"] == 4000
    grown = peak_memory(web_server) - start
    print(f"{len(line) * 4000 / MB:.0f} MB looked at in {grown / MB:.0f} MB")
    assert grown < 24 * MB
