"""What the tutorials say to run is run, as a user would: their blocks in one file, against the service."""

import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service import ROOT, Service, running
from tests.test_docs import HOST, KEY, blocks
from tests.witness import Witness

pytestmark = pytest.mark.sqlite_only
MODELS = ("model-a", "model-b")


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with running("--no-model", "--runners", "1") as service, Witness() as witness:
        for model in MODELS:
            service.manage("upstream", "add", model, witness.base_url)
            service.manage("price", "set", model, "--input", "1.00", "--output", "2.00")
        yield service


def script(page: str, service: Service, tenant: str, folder: Path) -> Path:
    """The page's Python in one file, with an address and a key of its own in place of the page's."""
    key = service.manage("tenant", "create", tenant)["api_key"]
    code = "\n".join(blocks((ROOT / "docs/tutorials" / page).read_text(), "python"))
    path = folder / "script.py"
    path.write_text(code.replace(HOST, service.url).replace(KEY, key).replace("time.sleep(2)", "time.sleep(0.2)"))
    return path


def run(path: Path, *arguments: str) -> str:
    environ = {"PATH": os.environ["PATH"], "NO_PROXY": "*", "LANG": "C.UTF-8"}
    command = [sys.executable, str(path), *arguments]
    done = subprocess.run(command, cwd=path.parent, env=environ, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_eval_harness(service: Service, tmp_path: Path) -> None:
    path = script("eval-harness.md", service, "evaluator", tmp_path)
    path.write_text(path.read_text().replace("17 + 25?", "17 + 25? fault:400"))  # the model's server refuses one line
    first, *models = run(path).splitlines()
    assert re.fullmatch(r"batch_\w+ completed 4 of 6", first)
    for name, told in zip(MODELS, models, strict=True):
        assert re.fullmatch(rf"{name}: 0 of 3 right, 1 without an answer, 0\.\d+ USD", told), told
    charged = service.sql("SELECT count(*) FROM billing_ledgerentry WHERE amount > 0")
    assert charged == [(1,)], "what failed twice is free"


def test_the_data_pipeline(service: Service, tmp_path: Path) -> None:
    path = script("data-pipeline.md", service, "pipeline", tmp_path)
    path.write_text(path.read_text().replace("LINES, BYTES = 20_000, 50_000_000", "LINES, BYTES = 4, 50_000_000"))
    names = [f"review-{number}" for number in range(10)]
    with (tmp_path / "reviews.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerows([["id", "text"], *([name, "It works, “mostly”."] for name in names)])
    before = service.sql("SELECT count(*) FROM batches_batch")
    told = run(path, "nightly")
    assert re.fullmatch(r"nightly: 3 batches, 0 rows without an answer, 0\.\d{6} USD\n", told)
    with (tmp_path / "answers.csv").open(newline="") as file:
        assert [row["id"] for row in csv.DictReader(file)] == names
    answers = (tmp_path / "answers.csv").read_bytes()
    assert run(path, "nightly") == told and (tmp_path / "answers.csv").read_bytes() == answers
    after = service.sql("SELECT count(*) FROM batches_batch")
    assert after[0][0] - before[0][0] == 3, "started again, it pays nothing"


def test_the_blocks_of_other_languages_are_what_they_say() -> None:
    for page in (ROOT / "docs/tutorials").glob("*.md"):
        fences = re.findall(r"^```(\w*)$", page.read_text(), re.MULTILINE)
        assert set(fences) <= {"", "python", "text"}, page
        assert json.dumps(fences).count("python") > 5
