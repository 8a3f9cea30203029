"""What the tutorials say to run is run, as a user would: their blocks, against the service and models that know answers."""

import json
import os
import re
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.service import ROOT, Service, running
from tests.test_docs import HOST, KEY, blocks

pytestmark = pytest.mark.sqlite_only
MODELS = ("model-a", "model-b")
ANSWERS = {"capital of France": "Paris.", "17 + 25": "42", "symbol of gold": "It is Au"}
WRONG = {("model-a", "17 + 25"): "32"}
asked: Counter[str] = Counter()  # the prompts that arrived


class Knowing(BaseHTTPRequestHandler):
    """An upstream that answers what ANSWERS says, a review with its second word, and refuses what says `refuse`."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        model, prompt = body["model"], body["messages"][-1]["content"]
        asked[prompt.splitlines()[-1]] += 1
        known = [WRONG.get((model, part), answer) for part, answer in ANSWERS.items() if part in prompt]
        said = known[0] if known else prompt.splitlines()[-1].split()[1]
        choice = {"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}
        if "refuse" in prompt:
            self.answer(400, {"error": {"message": "No.", "code": "refused"}})
        else:
            self.answer(200, {"object": "chat.completion", "model": model, "choices": [choice], "usage": usage})

    def answer(self, status: int, value: object) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        """Nothing."""


@contextmanager
def upstream() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Knowing) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with upstream() as address, running("--no-model", "--runners", "1") as service:
        for model, price in zip(MODELS, ("1.00", "3.00"), strict=True):
            service.manage("upstream", "add", model, address)
            service.manage("price", "set", model, "--input", price, "--output", price)
        yield service
        service.stop()


def text(page: str) -> str:
    return (ROOT / "docs/tutorials" / page).read_text()


def own(code: str, service: Service, key: str) -> str:
    """The page's code with an address and a key of one's own."""
    return code.replace(HOST, service.url).replace(KEY, key).replace("time.sleep(2)", "time.sleep(0.1)")


def run(command: list[str], folder: Path, code: int = 0, typed: str | None = None) -> subprocess.CompletedProcess[str]:
    environ = {"PATH": os.environ["PATH"], "NO_PROXY": "*", "LANG": "C.UTF-8"}
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=120, input=typed)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def test_the_eval_harness(service: Service, tmp_path: Path) -> None:
    page, key = text("eval-harness.md"), service.manage("tenant", "create", "evaluator")["api_key"]
    code = own("\n".join(blocks(page, "python")), service, key)
    code = code.replace("of gold?", "of gold? Else refuse.")  # the model's server refuses one line, each time
    (tmp_path / "evaluate.py").write_text(code)
    first, *models = run([sys.executable, "evaluate.py"], tmp_path).stdout.splitlines()
    assert re.fullmatch(r"batch_\w+ completed 4 of 6", first)
    assert models == [
        "model-a: 1 of 3 right, 1 without an answer, 0.000012 USD",
        "model-b: 2 of 3 right, 1 without an answer, 0.000036 USD",
    ]
    (shown,) = (each for each in blocks(page, "text") if each.startswith("model-a"))
    assert re.sub(r"[\d.]+", "N", shown).splitlines() == [re.sub(r"[\d.]+", "N", each) for each in models]
    (curl,) = blocks(page, "sh")
    twice = [json.loads(run(["/bin/sh"], tmp_path, typed=own(curl, service, key)).stdout) for _ in range(2)]
    assert twice[0]["id"] == twice[1]["id"] and twice[0]["total_requests"] == 6


class Pipeline:
    """A folder with the page's script and a table of reviews; each start is what cron would do."""

    def __init__(self, folder: Path, service: Service, **changed: str) -> None:
        key = service.manage("tenant", "create", folder.name, "--batch-limit", "2")["api_key"]
        code = own("\n".join(blocks(text("data-pipeline.md"), "python")), service, key)
        for name, value in changed.items():
            code, found = re.subn(rf"(?m)^(.*\b{name}\b.*) = .*$", rf"\1 = {value}", code, count=1)
            assert found
        (folder / "pipeline.py").write_text(code)
        self.folder = folder
        (table,) = blocks(text("data-pipeline.md"), "sh")
        run(["/bin/sh"], folder, typed=table)
        assert self.sql("DELETE FROM reviews RETURNING id") == [(1,), (2,)]

    def sql(self, query: str, *values: object) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(self.folder / "reviews.db")) as db, db:
            return db.execute(query, values).fetchall()

    def write(self, *reviews: str) -> None:
        for review in reviews:
            self.sql("INSERT INTO reviews (text) VALUES (?)", review)

    def start(self, code: int = 0) -> subprocess.CompletedProcess[str]:
        return run([sys.executable, "pipeline.py"], self.folder, code)

    def until_nothing_waits(self) -> str:
        end = time.monotonic() + 60
        while " 0 wait" not in (told := self.start().stdout):
            assert time.monotonic() < end, told
            time.sleep(0.1)
        return told


def test_the_data_pipeline(service: Service, tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path, service, LINES="4, 10_000")
    pipeline.write(*(f"row{n} word{n} it works" for n in range(9)), "row9 refuse this")
    assert re.match("0 answered, 10 wait, 0 failed, 0 USD", pipeline.start().stdout)
    shards = pipeline.sql("SELECT name, batch FROM shards ORDER BY name")
    assert len(shards) == 3 and shards[1][1] and shards[2][1] is None, "two at once"
    pipeline.sql("UPDATE shards SET batch = NULL WHERE name = ?", shards[0][0])  # died before it could note the answer
    pipeline.start()
    assert pipeline.sql("SELECT batch FROM shards ORDER BY name")[0] == shards[0][1:], "it is the batch that is there"
    assert pipeline.until_nothing_waits() == "9 answered, 0 wait, 1 failed, 0.000054 USD\n"

    (joined,) = blocks(text("data-pipeline.md"), "sql")
    rows = pipeline.sql(joined)
    assert [row[2:] for row in rows] == [*((f"word{n}", None) for n in range(9)), (None, "400")]
    assert {asked[str(row[1])] for row in rows[:9]} == {1} and asked["row9 refuse this"] == 2

    pipeline.write("row10 late indeed")
    assert pipeline.until_nothing_waits().startswith("10 answered, 0 wait, 1 failed")
    assert asked["row10 late indeed"] == 1 and {asked[str(row[1])] for row in rows[:9]} == {1}


@pytest.mark.soak
def test_the_data_pipeline_keeps_its_budget(service: Service, tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path, service, LINES="1, 10_000", SHARD_USD='Decimal("1"), Decimal("1.5")')
    pipeline.write("first one", "second one")
    assert "reviews-00001 waits: it may pass the budget of 1.5 USD" in pipeline.start(1).stderr
    assert [bool(batch) for (batch,) in pipeline.sql("SELECT batch FROM shards ORDER BY name")] == [True, False]
