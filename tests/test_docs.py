"""The documentation against the code: what exists is named, what is named exists, and the README's commands run."""

import argparse
import ast
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.core.management import call_command, find_commands, load_command_class
from django.core.management.base import BaseCommand

from batches.core.rendering import MESSAGES
from batches.management.commands import upstream
from batches.probing import Probe
from provocative.urls import urlpatterns
from tests.service import ROOT, Service, running
from tests.witness import Witness

pytestmark = pytest.mark.sqlite_only  # they read the same on both
ROOMS = ("provocative", "batches", "billing", "tenants")
PAGES = (
    "api",
    "architecture",
    "backups",
    "billing",
    "errors",
    "metrics",
    "operating",
    "reliability",
    "runbook",
    "upgrading",
    "webhooks",
)
INTERNAL = ("model", "qcluster", "metrics", "migrate")  # with options for `up` alone, or Django's
MODEL = "smollm2-135m"
HOST, KEY, BATCH = "http://127.0.0.1:8000", "pk-prov-YOUR_KEY", "batch_YOUR_ID"
RANDOM = {"id", "api_key", "prefix", "password", "since", "expires"}  # of what commands print


def text(name: str) -> str:
    return (ROOT / name).read_text()


README = text("README.md")
DOCS = "\n".join([README, *(text(f"docs/{page}.md") for page in PAGES)])


def blocks(document: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", document, re.DOTALL | re.MULTILINE)


def section(document: str, heading: str) -> str:
    """What stands under a heading, up to the next of its level or a higher one."""
    level = heading.index(" ")
    return re.split(rf"^#{{1,{level}}} ", document.partition(f"\n{heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


def first_cells(document: str) -> set[str]:
    """The code in the first column of its tables."""
    cells = re.findall(r"^\| ([^|]*) \|", document, re.MULTILINE)
    return {code for cell in cells for code in re.findall("`(.+?)`", cell)}


def syntax_trees() -> Iterator[ast.AST]:
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            yield from ast.walk(ast.parse(path.read_text()))


def strings(node: ast.AST) -> set[str]:
    found = (each.value for each in ast.walk(node) if isinstance(each, ast.Constant))
    return {value for value in found if isinstance(value, str) and value}


# --- what exists is named ---------------------------------------------------------------------------------------------


def addresses() -> list[str]:
    patterns: list[Any] = urlpatterns
    routes = [str(pattern.pattern) for pattern in patterns]
    wanted = [route for route in routes if route.startswith(("v1/", "healthz", "readyz"))]
    return ["/" + re.sub("<.*?>", "{id}", route) for route in wanted]


@pytest.mark.parametrize("address", addresses())
def test_every_address_is_documented(address: str) -> None:
    assert re.search(rf"`(GET|POST) {re.escape(address)}`", text("docs/api.md"))


READERS = ("choice", "dsn", "fallbacks", "flag", "networks", "number", "words")


def variables() -> set[str]:
    """The environment variables that the project reads: os.environ, our readers of it, and what `up` hands down."""
    found: set[str] = set()
    for name in ("settings.py", "environment.py", "wsgi.py", "fleet.py"):
        for node in ast.walk(ast.parse(text(f"provocative/{name}"))):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                if called in ("os.environ.get", *(f"env.{reader}" for reader in READERS)) and node.args:
                    found |= strings(node.args[0])
                found |= {key.arg for key in node.keywords if called == "_env" and key.arg}
    return found


def test_every_setting_is_in_the_readme_and_no_other() -> None:
    named = first_cells(section(README, "## Settings"))
    assert named == variables()
    assert len(named) > 10


def error_codes() -> set[str]:
    """Codes wherever one is made."""
    return set(MESSAGES).union(*map(codes_made_by, syntax_trees()))


def codes_made_by(node: ast.AST) -> set[str]:
    """By Refused, Fault, the verdict on an answer, an entry of a batch's errors, or a receipt's default."""
    match node:
        case ast.Call(func=ast.Name("Refused"), args=[_, code, *_]) | ast.Call(func=ast.Name("Fault"), args=[code, *_]):
            return strings(code)
        case ast.Call(
            func=ast.Attribute(attr="__init__"), args=[ast.Constant(int()), code, *_]
        ):  # of a kind of Refused
            return strings(code)
        case ast.Call(func=ast.Name("Verdict" | "Answer"), keywords=keywords):
            values = [keyword.value for keyword in keywords if keyword.arg in ("code", "error", "flag")]
        case ast.Dict(keys=keys, values=entries):
            values = [value for key, value in zip(keys, entries, strict=True) if key and strings(key) == {"code"}]
        case ast.BoolOp(values=[ast.Attribute(attr="code"), default]):
            values = [default]
        case _:
            values = []
    return set().union(*map(strings, values))


def test_every_error_code_is_documented_and_no_other() -> None:
    codes = error_codes()
    assert {"upstream_error", "usage_missing", "batch_not_found", "empty_file", "request_timeout"} <= codes
    assert {cell for cell in first_cells(text("docs/errors.md")) if re.fullmatch("[a-z]+(_[a-z]+)+", cell)} == codes


def table(document: str) -> list[list[str]]:
    """The cells of its tables' rows whose first one is a code."""
    rows = re.findall(r"^\| (`[a-z_]+` \|.*) \|$", document, re.MULTILINE)
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)] for row in rows]


def test_every_error_code_has_its_status_its_cause_and_its_cure() -> None:
    page = text("docs/errors.md")
    raised: dict[str, set[str]] = {}
    for node in syntax_trees():
        match node:
            case ast.Call(func=ast.Name("Refused"), args=[ast.Constant(int(status)), ast.Constant(str(code)), *_]):
                raised.setdefault(code, set()).add(str(status))
    answers = {row[0].strip("`"): row[1] for row in table(section(page, "## Answers to requests"))}
    assert {code: {answers[code]} for code in raised} == raised
    for heading, cells in (("Answers to requests", 4), ("Errors of a batch", 3), ("Errors of a line", 3)):
        rows = table(section(page, f"## {heading}"))
        assert len(rows) > 5
        for row in rows:
            assert len(row) == cells and all(len(cell) > 2 for cell in row), row
            assert all(cell.endswith((".", "?", "…`.", ".)")) for cell in row[-2:]), f"no sentence: {row}"


def commands() -> Iterator[tuple[str, set[str]]]:
    """Each operator's command with its verb (`tenant create`, `up`), and the options of its own."""
    for room in ROOMS:
        for name in find_commands(str(Path(apps.get_app_config(room).path) / "management")):
            parser = load_command_class(room, name).create_parser("manage.py", name)
            subparsers = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
            verbs: dict[str, Any] = subparsers[0].choices if subparsers else {}
            yield from ((f"{name} {verb}", options(own)) for verb, own in verbs.items())
            if not verbs and name not in INTERNAL:
                yield name, options(parser)


def options(parser: argparse.ArgumentParser) -> set[str]:
    djangos = BaseCommand().create_parser("manage.py", "none")._option_string_actions
    return {option for option in parser._option_string_actions if option.startswith("--")} - set(djangos)


@pytest.mark.parametrize(("command", "own"), list(commands()))
def test_every_command_and_option_is_documented(command: str, own: set[str]) -> None:
    page = text("docs/operating.md")
    rows = [row for row in page.splitlines() if re.search(rf"[`|] ?(manage\.py )?{command}\b", row)]
    assert rows, f"docs/operating.md does not name `{command}`"
    missing = {option for option in own if option not in (page if command == "up" else "\n".join(rows))}
    assert not missing


@pytest.mark.parametrize("target", sorted(set(re.findall(r"`make ([a-z]+)`", DOCS + text("CONTRIBUTING.md")))))
def test_every_target_exists(target: str) -> None:
    assert re.search(rf"^{target}:", text("Makefile"), re.MULTILINE)


def test_every_test_that_the_reliability_page_names_exists() -> None:
    named = re.findall(r"`(test_\w+?)(_?…)?`", text("docs/reliability.md"))
    known = {
        name for path in (ROOT / "tests").rglob("test_*.py") for name in re.findall(r"def (test_\w+)", path.read_text())
    }
    assert len(named) > 20
    for name, open_end in named:
        assert name in known or (open_end and any(each.startswith(name) for each in known)), name


# --- the README's commands run ----------------------------------------------------------------------------------------


def operators_commands() -> list[tuple[list[str], list[str]]]:
    """The README's console lines (without `up`, which does not return) and what they print."""
    found: list[tuple[list[str], list[str]]] = []
    for line in "".join(blocks(README, "console")).splitlines():
        if line.startswith("$ "):
            found.append((shlex.split(line)[shlex.split(line).index("manage.py") + 1 :], []))
        else:
            found[-1][1].append(line)
    return [(words, printed) for words, printed in found if words[0] != "up"]


def masked(line: str) -> dict[str, Any]:
    return {key: type(value) if key in RANDOM else value for key, value in json.loads(line).items()}


@pytest.mark.django_db
def test_operators_commands_print_what_the_readme_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "probe", lambda row: Probe(None, 1))
    made: dict[str, str] = {}  # what the README shows of a key -> what was really made
    for words, shown in operators_commands():
        out = io.StringIO()
        call_command(*(made.get(word, word) for word in words), stdout=out)
        printed = out.getvalue().splitlines()
        assert [masked(line) for line in printed] == [masked(line) for line in shown], words
        pairs = zip(shown, printed, strict=True)
        made |= {json.loads(old).get("prefix"): json.loads(new).get("prefix") for old, new in pairs}
    assert len(operators_commands()) >= 6


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with running("--no-model", "--runners", "1") as service:
        yield service


class Reader:
    """Somebody who pastes the README's commands into a shell, with a host, a key and an id of their own."""

    def __init__(self, service: Service, folder: Path) -> None:
        self.folder, self.key = folder, service.manage("tenant", "create", "reader")["api_key"]
        self.host, self.batch = service.url, BATCH

    def runs(self, block: str) -> str:
        for shown, own in ((HOST, self.host), (KEY, self.key), (BATCH, self.batch)):
            block = block.replace(shown, own)
        environ = {"PATH": os.environ["PATH"], "NO_PROXY": "*"}
        done = subprocess.run(
            ["/bin/sh", "-e"], input=block, cwd=self.folder, env=environ, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def waits_for(self, status: str, block: str) -> dict[str, Any]:
        end = time.monotonic() + 60
        while (found := json.loads(self.runs(block)))["status"] != status:
            assert time.monotonic() < end, found
            time.sleep(0.1)
        return dict(found)


def shape(value: Any) -> Any:
    return [(key, shape(item)) for key, item in value.items()] if isinstance(value, dict) else None


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is missing: the README's walk-through needs it")
def test_the_walk_through(service: Service, tmp_path: Path) -> None:
    write, submit, look, fetch, failed, cancel = blocks(section(README, "## Send a batch"), "sh")
    first, line = blocks(section(README, "## Send a batch"), "json")
    reader = Reader(service, tmp_path)
    with Witness() as witness:
        service.manage("upstream", "add", MODEL, witness.base_url)
        reader.runs(write)
        answer = json.loads(reader.runs(submit))
        reader.batch = answer["id"]
        shown = json.loads(first)
        assert {**shown, "id": answer["id"]} == {key: answer[key] for key in shown}
        assert list(answer)[: len(shown)] == list(shown)
        assert answer["total_requests"] == len((tmp_path / "batch.jsonl").read_text().splitlines())
        (example,) = blocks(section(text("docs/api.md"), "## The batch object"), "json")[:1]
        assert shape(answer) == [(key, shape(value)) for key, value in json.loads(example).items()]

        done = reader.waits_for("completed", look)
        assert done["completed_count"] == done["total_requests"]
        reader.runs(fetch)
        results = [json.loads(each) for each in (tmp_path / "results.jsonl").read_text().splitlines()]
        assert [each["custom_id"] for each in results] == ["eval-1", "eval-2", "eval-3"]
        parts = {name: list(value) if isinstance(value, dict) else value for name, value in json.loads(line).items()}
        assert list(results[1]) == list(parts)
        assert list(results[1]["response"]) == parts["response"]
        assert reader.runs(failed) == ""

        witness.configure(latency_ms=[1000, 1000])
        reader.batch = json.loads(reader.runs(submit))["id"]
        reader.waits_for("in_progress", look)
        assert json.loads(reader.runs(cancel))["id"] == reader.batch
        reader.waits_for("cancelled", look)


def test_the_tests_that_the_threat_model_names_are_there() -> None:
    named = re.findall(r"[\w/]*test_\w+\.py|tests/(?:core|fuzz|dashboard)\b", text("SECURITY.md"))
    paths = [name if "/" in name else f"tests/{name}" for name in named]
    assert len(paths) > 25
    assert [path for path in paths if not (ROOT / path).exists()] == []
