"""The native surface over HTTP: who may, what is refused and how, lists, downloads."""

import json
import threading
import zlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.utils import timezone

from batches import uploads
from batches.models import Batch, File
from provocative.wsgi import plain_content_type
from tenants import keys, transfers
from tenants.models import ApiKey, Tenant
from tests.conftest import Person, person
from tests.witness import Witness, request_line

LINE = request_line("1", custom_id="one")


def error(answer: Any, status: int) -> Any:
    assert answer.status_code == status, answer.content
    assert answer["x-request-id"]
    body = answer.json()["error"]
    assert set(body) == {"message", "type", "param", "code"}
    return body["code"]


# --- who -------------------------------------------------------------------------------------------------------------


def test_without_a_key(owner: Person) -> None:
    answer = owner.client.get("/v1/batch")
    assert error(answer, 401) == "missing_api_key"
    assert answer["WWW-Authenticate"].startswith("Bearer")


def test_a_malformed_key_is_refused_without_a_query(owner: Person, django_assert_num_queries: Any) -> None:
    for bad in ("", "x", owner.key[:-1], owner.key[:-1] + "!", "sk-" + owner.key, owner.key.swapcase(), "é" * 42):
        with django_assert_num_queries(0):
            answer = owner.client.get("/v1/batch", headers={"Authorization": f"Bearer {bad}"})
        assert error(answer, 401) == "invalid_api_key"


@pytest.mark.parametrize(
    "change",
    [
        {"revoked_at": timezone.now()},
        {"expires_at": timezone.now() - timedelta(seconds=1)},
    ],
)
def test_a_dead_key_is_refused_at_once(owner: Person, change: dict[str, Any]) -> None:
    assert owner.get("/v1/batch").status_code == 200
    ApiKey.objects.update(**change)
    assert error(owner.get("/v1/batch"), 401) == "invalid_api_key"


@pytest.mark.sqlite_first
def test_scopes(owner: Person, witness: Witness) -> None:
    ApiKey.objects.update(scopes="batch:read")
    assert owner.get("/v1/batch").status_code == 200
    assert error(owner.submit([LINE]), 403) == "insufficient_scope"
    assert not File.objects.exists()


def test_a_suspended_tenant(owner: Person) -> None:
    Tenant.objects.update(suspended=True)
    assert error(owner.get("/v1/batch"), 403) == "tenant_suspended"


def test_last_use_is_written_at_most_once_a_minute(owner: Person, django_assert_num_queries: Any) -> None:
    owner.get("/v1/batch")
    used = ApiKey.objects.get().last_used_at
    assert used is not None
    with django_assert_num_queries(2):
        owner.get("/v1/batch")
    assert ApiKey.objects.get().last_used_at == used
    ApiKey.objects.update(last_used_at=used - keys.LAST_USED_GRAIN)
    owner.get("/v1/batch")
    again = ApiKey.objects.get().last_used_at
    assert again is not None
    assert again >= used


def test_the_key_is_not_stored(owner: Person) -> None:
    row = ApiKey.objects.get()
    assert owner.key not in "".join(str(getattr(row, field.attname)) for field in row._meta.concrete_fields)
    assert owner.key.startswith(row.prefix)


@pytest.mark.parametrize("path", ["", "/output", "/results", "/errors", "/cancel", "/resume", "/retry"])
def test_a_foreign_batch_answers_as_an_unknown_one(
    owner: Person, outsider: Person, witness: Witness, path: str
) -> None:
    batch = owner.submit([LINE]).json()["id"]
    call = outsider.post if path in ("/cancel", "/resume", "/retry") else outsider.get
    foreign, unknown = call(f"/v1/batch/{batch}{path}"), call(f"/v1/batch/batch_{'0' * 24}{path}")
    assert error(foreign, 404) == error(unknown, 404) == "batch_not_found"
    assert foreign.content == unknown.content
    assert outsider.get("/v1/batch").json()["data"] == []
    assert outsider.get(f"/v1/batch?after={batch}").status_code == 404


# --- submitting --------------------------------------------------------------------------------------------------------


def test_the_first_answer_is_complete(owner: Person, witness: Witness) -> None:
    batch = owner.submit([LINE], metadata='{"run": "7"}', endpoint="/v1/chat/completions").json()
    assert batch["metadata"] == {"run": "7"}
    nullable = ["output_file_id", "error_file_id", "in_progress_at", "completed_at", "failed_at", "errors", "model"]
    assert [batch[name] for name in nullable] == [None] * len(nullable)
    assert batch["expires_at"] - batch["created_at"] == 86_400
    assert batch["request_counts"] == {"total": 1, "completed": 0, "failed": 0, "cancelled": 0, "expired": 0}


def test_whatever_the_accept_header_says(owner: Person) -> None:
    assert owner.get("/v1/batch", Accept="application/binary").status_code == 200


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"webhook": "https://a.example"}, "unsupported_parameter"),
        ({"endpoint": "/v1/images"}, "invalid_endpoint"),
        ({"metadata": "[]"}, "invalid_metadata"),
        ({"metadata": '{"a": 1}'}, "invalid_metadata"),
        ({"metadata": '{"a": "\\ud800"}'}, "invalid_metadata"),
        ({"metadata": json.dumps({str(n): "" for n in range(17)})}, "invalid_metadata"),
        ({"metadata": json.dumps({"a": "x" * 513})}, "invalid_metadata"),
        ({"metadata": "[" * 100_000}, "invalid_metadata"),
    ],
)
def test_a_bad_form_leaves_nothing_behind(owner: Person, fields: dict[str, str], code: str) -> None:
    assert error(owner.submit([LINE], **fields), 400) == code
    assert not File.objects.exists()
    assert not _stored_inputs()


def test_what_is_no_upload(owner: Person) -> None:
    assert error(owner.post("/v1/batch", {"endpoint": "/v1/embeddings"}), 400) == "missing_file"
    assert error(owner.post("/v1/batch", {"other": SimpleUploadedFile("a", b"{}")}), 400) == "unsupported_parameter"
    twice = [SimpleUploadedFile("a", b"{}"), SimpleUploadedFile("b", b"{}")]
    assert error(owner.post("/v1/batch", {"file": twice}), 400) == "unsupported_parameter"
    plain = owner.client.post(
        "/v1/batch", b"{}", content_type="application/json", headers={"Authorization": f"Bearer {owner.key}"}
    )
    assert error(plain, 415) == "unsupported_media_type"
    assert error(owner.client.put("/v1/batch", headers={"Authorization": f"Bearer {owner.key}"}), 405)
    assert not _stored_inputs()


@pytest.mark.sqlite_first
def test_line_and_byte_limits_to_the_last_one(owner: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    assert owner.submit([b"x"] * 50_000).json()["total_requests"] == 50_000
    assert error(owner.submit([b"x"] * 50_001), 413) == "too_many_requests_in_batch"
    monkeypatch.setattr(uploads, "MAX_BYTES", 300_000)
    assert owner.submit([b"x" * 299_999]).json()["total_requests"] == 1
    assert error(owner.submit([b"x" * 300_000]), 413) == "file_too_large"
    assert error(owner.submit([b"x" * 900_000]), 413) == "file_too_large"
    assert len(_stored_inputs()) == File.objects.count() == 2


def _stored_inputs() -> list[Any]:
    from django.conf import settings

    inputs = settings.HOME / "files" / "inputs"
    known = {str(inputs.parent / key) for key in File.objects.values_list("storage_key", flat=True)}
    return [path for path in inputs.rglob("*") if path.is_file() and (not known or str(path) in known)]


@pytest.fixture(autouse=True)
def empty_storage(transactional_db: None) -> Any:
    from django.conf import settings

    yield
    for path in (settings.HOME / "files").rglob("*"):
        if path.is_file():
            path.unlink()


# --- the input -------------------------------------------------------------------------------------------------------


@pytest.mark.sqlite_first
def test_every_bad_line_is_named(owner: Person, witness: Witness, work: Callable[..., None]) -> None:
    lines = [
        LINE,
        b"{",
        b"",
        {**LINE},
        {**LINE, "custom_id": "u", "url": "/v1/embeddings"},
        {**LINE, "custom_id": "m", "method": "GET"},
        {**LINE, "custom_id": "n", "body": {**LINE["body"], "model": "nobody"}},
        {**LINE, "custom_id": "s", "body": {**LINE["body"], "stream": True}},
        b"\xff\xfe",
    ]
    batch = owner.submit(lines).json()["id"]
    work()
    shown = owner.batch(batch)
    assert shown["status"] == "failed"
    found = [(entry["line"], entry["code"]) for entry in shown["errors"]["data"]]
    assert sorted(found) == [
        (2, "invalid_json_line"), (4, "duplicate_custom_id"), (5, "url_mismatch"), (6, "invalid_method"),
        (7, "model_not_found"), (8, "stream_not_supported"), (9, "invalid_json_line"),
    ]  # fmt: skip
    assert shown["errors"]["counts"]["invalid_json_line"] == 2
    assert error(owner.get(f"/v1/batch/{batch}/output"), 409) == "batch_failed"
    assert not witness.log()


def test_all_bad_lines_are_counted_and_a_hundred_listed(owner: Person, work: Callable[..., None]) -> None:
    batch = owner.submit([b"{"] * 250).json()["id"]
    work()
    errors = owner.batch(batch)["errors"]
    assert (len(errors["data"]), errors["counts"]) == (100, {"invalid_json_line": 250})


@pytest.mark.parametrize("content", [b"", b"\n\n \t\r\n", b"\xef\xbb\xbf\n"])
def test_an_empty_file_fails(owner: Person, work: Callable[..., None], content: bytes) -> None:
    batch = owner.post("/v1/batch", {"file": SimpleUploadedFile("a.jsonl", content)})
    assert batch.json()["total_requests"] == 0
    work()
    assert owner.batch(batch.json()["id"])["errors"]["counts"] == {"empty_file": 1}


@pytest.mark.parametrize(("head", "name"), [(b"\x1f\x8b\x08", "gzip"), (b"\xff\xfe{\x00", "UTF-16")])
def test_other_formats_are_refused_by_name(owner: Person, work: Callable[..., None], head: bytes, name: str) -> None:
    batch = owner.submit([head + b"....."]).json()["id"]
    work()
    assert name in owner.batch(batch)["errors"]["data"][0]["message"]


def test_a_dedicated_model_is_nobody_elses(owner: Person, outsider: Person, witness: Witness, work: Any) -> None:
    from batches.models import Upstream

    Upstream.objects.update(tenant=outsider.tenant)
    batch = owner.submit([LINE]).json()["id"]
    work()
    assert owner.batch(batch)["errors"]["counts"] == {"model_not_found": 1}


# --- lists and downloads -----------------------------------------------------------------------------------------------


def test_lists_page_newest_first(witness: Witness) -> None:
    reserved = person("reserved", plan="reserved")
    made = [reserved.submit([LINE]).json()["id"] for _ in range(5)][::-1]
    first = reserved.get("/v1/batch?limit=2").json()
    assert ([b["id"] for b in first["data"]], first["has_more"]) == (made[:2], True)
    assert (first["first_id"], first["last_id"]) == (made[0], made[1])
    rest = reserved.get(f"/v1/batch?limit=100&after={made[1]}").json()
    assert ([b["id"] for b in rest["data"]], rest["has_more"]) == (made[2:], False)
    assert len(reserved.get("/v1/batch?status=validating").json()["data"]) == 5
    assert reserved.get("/v1/batch?status=completed").json()["data"] == []


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "limit=%C2%B2", "status=odd", "offset=1"])
def test_bad_queries(owner: Person, query: str) -> None:
    error(owner.get(f"/v1/batch?{query}"), 400)


@pytest.mark.sqlite_first
def test_output_before_and_after_the_end(owner: Person, witness: Witness, work: Callable[..., None]) -> None:
    batch = owner.submit([LINE, request_line("2", custom_id="two")]).json()["id"]
    assert error(owner.get(f"/v1/batch/{batch}/output"), 409) == "batch_not_complete"
    partial = owner.get(f"/v1/batch/{batch}/output?partial=true")
    assert (partial["X-Incomplete"], b"".join(partial.streaming_content)) == ("true", b"")
    work()
    whole = owner.get(f"/v1/batch/{batch}/output")
    body = b"".join(whole.streaming_content)
    assert int(whole["Content-Length"]) == len(body)
    assert batch in whole["Content-Disposition"]
    part = owner.get(f"/v1/batch/{batch}/output", Range="bytes=5-14")
    assert (part.status_code, b"".join(part.streaming_content)) == (206, body[5:15])
    assert part["Content-Range"] == f"bytes 5-14/{len(body)}"
    beyond = owner.get(f"/v1/batch/{batch}/output", Range=f"bytes={len(body)}-")
    assert error(beyond, 416) == "range_not_satisfiable"
    assert beyond["Content-Range"] == f"bytes */{len(body)}"
    assert error(owner.get(f"/v1/batch/{batch}/output?partial=yes"), 400) == "invalid_partial"
    assert error(owner.get(f"/v1/batch/{batch}/output?merged=yes"), 400) == "invalid_merged"
    assert error(owner.get(f"/v1/batch/{batch}/output?merged=true&partial=true"), 400) == "invalid_merged"
    assert owner.get(f"/v1/batch/{batch}/output", **{"If-None-Match": whole["ETag"]}).status_code == 304
    other = owner.get(f"/v1/batch/{batch}/output", Range="bytes=5-14", **{"If-Range": '"old"'})
    assert (other.status_code, b"".join(other.streaming_content)) == (200, body)
    packed = owner.get(f"/v1/batch/{batch}/output", **{"Accept-Encoding": "gzip, br"})
    assert zlib.decompress(b"".join(packed.streaming_content), wbits=31) == body
    assert b"".join(owner.get(f"/v1/batch/{batch}/errors").streaming_content) == b""
    assert error(owner.post(f"/v1/batch/{batch}/cancel"), 409) == "batch_not_cancellable"


def test_partial_output_has_what_is_committed(
    owner: Person, witness: Witness, work: Callable[..., None], small_groups: None
) -> None:
    witness.configure(latency_ms=[5, 10])
    batch = owner.submit([request_line(str(n), custom_id=f"c{n}") for n in range(300)]).json()["id"]
    seen: list[Any] = []

    def look() -> bool:
        row = Batch.objects.get()
        if row.completed >= 50 and not seen:
            answer = owner.get(f"/v1/batch/{batch}/output?partial=true")
            seen.append([json.loads(line)["custom_id"] for line in b"".join(answer.streaming_content).splitlines()])
            later = Batch.objects.get()
            assert row.completed <= len(seen[0]) <= later.completed, "a group may be committed meanwhile"
        return False

    work(stop=look)
    assert seen[0] == sorted(seen[0], key=lambda name: int(name[1:]))
    assert 50 <= len(seen[0]) < 300


def test_one_batch_costs_few_queries(owner: Person, witness: Witness, django_assert_max_num_queries: Any) -> None:
    batch = owner.submit([LINE]).json()["id"]
    with django_assert_max_num_queries(2):
        owner.get(f"/v1/batch/{batch}")


@pytest.mark.parametrize("path", ["/v1/nothing", "/v1/batch/", "/v1/batch/a\x00b", "/nothing"])
def test_unknown_addresses(owner: Person, path: str) -> None:
    answer = owner.get(path)
    assert answer.status_code == 404
    if path.startswith("/v1"):
        error(answer, 404)


def test_another_host_name_is_told_how_to_be_let_in(owner: Person) -> None:
    assert error(owner.client.get("/v1/batch", headers={"Host": "evil.example"}), 400) == "host_not_allowed"


def test_head_works_wherever_get_does(owner: Person, witness: Witness) -> None:
    batch = owner.submit([LINE]).json()["id"]
    for path in ("/v1/batch", f"/v1/batch/{batch}"):
        assert owner.client.head(path, headers={"Authorization": f"Bearer {owner.key}"}).status_code == 200


def test_a_cancelled_batch_is_never_shown_in_progress(owner: Person, witness: Witness, work: Any) -> None:
    batch = owner.submit([LINE]).json()["id"]
    assert owner.post(f"/v1/batch/{batch}/cancel").json()["status"] == "cancelling"
    assert Batch.objects.get().status == "finalizing"
    assert [b["id"] for b in owner.get("/v1/batch?status=cancelling").json()["data"]] == [batch]
    assert owner.get("/v1/batch?status=in_progress").json()["data"] == []
    work()
    assert owner.batch(batch)["status"] == "cancelled"
    assert owner.lines(batch)[0]["error"]["code"] == "batch_cancelled"


@pytest.mark.parametrize("charset", ["rot13", "hex", "utf-7", "punycode", "idna", "undefined"])
def test_a_charset_changes_nothing(owner: Person, charset: str) -> None:
    assert plain_content_type(f"multipart/form-data; Charset={charset}; boundary=x; y*=idna''%ff") == (
        "multipart/form-data; boundary=x"
    )


def test_fields_and_queries_are_known_and_stand_once(owner: Person, witness: Witness) -> None:
    batch = owner.submit([LINE]).json()["id"]
    for path in (f"/v1/batch/{batch}?a=1", f"/v1/batch/{batch}/errors?a=1", f"/v1/batch/{batch}/output?a=1"):
        assert error(owner.get(path), 400) == "unsupported_parameter"
    assert error(owner.post(f"/v1/batch/{batch}/cancel?a=1"), 400) == "unsupported_parameter"
    assert error(owner.get("/v1/batch?limit=1&limit=2"), 400) == "duplicate_parameter"
    twice = {"file": SimpleUploadedFile("a", b"{}"), "metadata": ["{}", "{}"]}
    assert error(owner.post("/v1/batch", twice), 400) == "duplicate_parameter"
    assert error(owner.post("/v1/batch?endpoint=/v1/embeddings", {"file": SimpleUploadedFile("a", b"{}")}), 400)
    assert error(owner.client.options("/v1/batch", headers={"Authorization": f"Bearer {owner.key}"}), 405)


@pytest.mark.sqlite_first
def test_transfers_leave_threads_for_others(
    owner: Person, witness: Witness, work: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = owner.submit([LINE]).json()["id"]
    work()
    monkeypatch.setattr(transfers.Transfer, "_places", threading.BoundedSemaphore(1))
    first = owner.get(f"/v1/batch/{batch}/output")
    refused = owner.get(f"/v1/batch/{batch}/output")
    assert (error(refused, 503), refused["Retry-After"]) == ("too_many_transfers", "5")
    first.close()
    assert owner.lines(batch)


def test_a_page_takes_no_large_body(owner: Person) -> None:
    answer = owner.client.post("/account/login/", {"file": SimpleUploadedFile("a", b"x" * 2_000_000)})
    assert answer.status_code == 413
