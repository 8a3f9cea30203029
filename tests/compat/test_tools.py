"""Independent tools that know nothing of this service, driven for real against it: `make compat`."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.service import ROOT, Service, running
from tests.witness import Witness

PYTHON = ROOT / ".venv-compat" / "bin" / "python"
HERE = Path(__file__).parent
pytestmark = pytest.mark.compat


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with Witness() as witness, running() as service:
        service.manage("upstream", "add", "witness", witness.base_url)
        service.manage("price", "set", "witness", "--input", "1", "--output", "2")
        yield service


def drive(script: str, service: Service, folder: Path) -> Any:
    """Run a tool's script as a tenant of its own; its last line."""
    client = service.tenant(script)
    environ = os.environ | {
        "BASE_URL": f"{service.url}/v1",
        "API_KEY": client.headers["Authorization"].removeprefix("Bearer "),
        "MODEL": "witness",
        "LOG_DIR": str(folder),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # it would fetch prices of its own
        "NO_PROXY": "127.0.0.1",
    }
    done = subprocess.run(
        [PYTHON, HERE / f"{script}.py"], env=environ, cwd=folder, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    print(script, found)
    return found, client


def test_inspect_ai_evaluates_in_batches(service: Service, tmp_path: Path) -> None:
    found, client = drive("inspect_eval", service, tmp_path)
    assert (found["status"], found["samples"], found["errors"]) == ("success", 40, [])
    batches = client.get("/v1/batch").json()["data"]
    assert sum(batch["completed_count"] for batch in batches) == 40 and len(batches) <= 3
    assert found["output_tokens"] == sum(batch["usage"]["output_tokens"] for batch in batches)


def test_litellm_creates_reads_and_cancels(service: Service, tmp_path: Path) -> None:
    found, _ = drive("litellm_batch", service, tmp_path)
    assert found | {"version": ""} == {
        "version": "",
        "status": "completed",
        "lines": [f"c{n}" for n in range(30)],
        "metadata": {"tool": "litellm"},
        "listed": True,
        "bytes": True,
        "deleted": True,
        "cancelling": found["cancelling"],
        "refused": True,
    }
    assert found["cancelling"] in {"cancelling", "finalizing", "cancelled"}
