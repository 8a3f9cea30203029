"""JSONTestSuite through the whole product: what is taken reaches the upstream byte for byte, nothing else does."""

import hashlib
import json
from typing import Any

import pytest

from batches import intake
from batches.models import Batch
from tenants.errors import Refused
from tests.conftest import Person
from tests.hostile import is_taken, json_files
from tests.witness import Witness

pytestmark = pytest.mark.sqlite_only  # a tenant's JSON never meets a database's own
FILES = {name: content.replace(b"\n", b"\r") for name, content in json_files().items()}  # \n would end the line
MORE = {
    "n_depth_100000": b"[" * 100_000 + b"]" * 100_000,
    "n_lone_surrogate": b'"\\ud800"',
    "n_lone_surrogate_as_a_key": b'{"\\udfff": 1}',
    "y_integer_of_5000_digits": b"9" * 5000,
}


def test_validator_and_sender_agree(owner: Person, witness: Witness, work: Any) -> None:
    files = list({**FILES, **MORE}.items())
    bodies = [
        b'{"model":"witness","messages":[{"role":"user","content":"line:%d"}],"more":%b}' % (n, content)
        for n, (_, content) in enumerate(files)
    ]
    lines = [b'{"custom_id":"%d","body":%b}' % (n, body) for n, body in enumerate(bodies)]
    assert owner.submit(lines, on_invalid_line="skip").json()["total_requests"] == len(files)
    work()
    batch = Batch.objects.get()
    sent = {entry.marker: entry.body_sha256 for entry in witness.log()}
    output = owner.lines(batch.public_id)
    assert len(output) == len(files)
    taken, disagreements = 0, []
    for n, ((name, _), body, line) in enumerate(zip(files, bodies, output, strict=True)):
        if line["response"]:
            taken += 1
            right = line["custom_id"] == str(n) and sent.pop(f"line:{n}") == hashlib.sha256(body).hexdigest()
        else:
            right = line["error"]["code"] in ("invalid_json_line", "nesting_too_deep") and f"line:{n}" not in sent
        if not right or is_taken(name) != bool(line["response"]):
            disagreements.append(name)
    print(f"{len(files)} files: {taken} taken, {len(files) - taken} refused, disagreements {len(disagreements)}")
    assert not disagreements and not sent
    assert batch.failed - (len(files) - taken) == 1, "the witness itself can't read an integer of 5,000 digits"


def test_as_the_body_of_a_request(owner: Person) -> None:
    """Refused as no JSON object, or for the fields in it; never a fault of ours."""
    owner.submit([b"{"])
    address = f"/v1/batch/{Batch.objects.get().public_id}/resume"
    headers = {"Authorization": f"Bearer {owner.key}"}
    codes = {
        "malformed_request",
        "unsupported_parameter",
        "duplicate_parameter",
        "batch_not_paused",
        "invalid_max_cost",
    }
    for name, content in {**FILES, **MORE}.items():
        for body in (content, b'{"max_cost_usd":%b}' % content):
            answer = owner.client.post(address, body, content_type="application/json", headers=headers)
            assert answer.json()["error"]["code"] in codes, (name, answer.content)


def test_as_metadata() -> None:
    """Kept as it is, or refused; an empty field is none."""
    taken = 0
    for name, content in {**FILES, **MORE}.items():
        if text := content.decode(errors="replace"):
            code, kept = metadata(text)
            assert name.startswith("y_") if kept is not None else code == "invalid_metadata", name
            assert kept is None or list(kept.items()) == json.loads(text, object_pairs_hook=list), name
            taken += kept is not None
    print(f"as metadata: {taken} kept")
    assert taken == 5


def metadata(text: str) -> tuple[str, dict[str, str] | None]:
    try:
        return "", json.loads(intake.read_metadata(text))
    except Refused as refused:
        return refused.code, None
