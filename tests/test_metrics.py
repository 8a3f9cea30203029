"""Metrics: what is exposed is what is documented; counts of the dead are kept; alerts fire, and have their pages."""

import json
import os
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from django.test import Client
from prometheus_client import generate_latest
from prometheus_client.mmap_dict import mmap_key
from prometheus_client.parser import text_string_to_metric_families

from batches import mapped, measures
from provocative.exposition import collecting, counted, host, service
from provocative.exposition.collecting import Collector, Exposed
from provocative.exposition.gauges import families
from tenants import holding
from tests.conftest import Person, until
from tests.service import ROOT, running
from tests.test_docs import table, text
from tests.witness import Witness, request_line

ONE_DATABASE = pytest.mark.sqlite_only
PARTS = ("_bucket", "_count", "_sum", "_created")  # of a histogram, or of a counter
Kind = tuple[str, frozenset[str]]  # its type and its labels


def documented() -> dict[str, Kind]:
    rows = table(text("docs/metrics.md"))
    return {row[0].strip("`"): (row[1], frozenset(re.findall("`(.+?)`", row[2]))) for row in rows}


def defined() -> dict[str, Kind]:
    counts: list[Any] = list(measures.PROCESS._collector_to_names)
    found = {
        f"{each._name}{'_total' if each._type == 'counter' else ''}": (each._type, frozenset(each._labelnames))
        for each in counts
    }
    for gauge in (*host.GAUGES, *service.GAUGES, collecting.DATABASE_UP, collecting.STORAGE_UP):
        found[f"provocative_{gauge.name}"] = ("gauge", frozenset(gauge.labels))
    return found


def whole(name: str) -> str:
    """The metric that a series belongs to."""
    part = next((part for part in PARTS if name.endswith(part)), "")
    return name.removesuffix(part) if name.removesuffix(part) in documented() else name


@ONE_DATABASE
def test_what_is_documented_is_what_there_is() -> None:
    assert documented() == defined()
    assert len(documented()) > 40


def test_what_is_exposed_is_documented(owner: Person, witness: Witness, work: Callable[..., None]) -> None:
    owner.submit([request_line("unlikely"), request_line("another")])
    work()
    counts = generate_latest(measures.PROCESS).decode()
    gauges = list(families(service.GAUGES, service.read()))
    told = [sample for family in (*text_string_to_metric_families(counts), *gauges) for sample in family.samples]
    known = documented()
    for sample in told:
        if not sample.name.endswith("_created"):
            assert frozenset(sample.labels) - {"le"} == known[whole(sample.name)][1], sample
    values = {(sample.name, *sorted(sample.labels.values())): sample.value for sample in told}
    assert values["provocative_lines_total", "completed", "witness"] >= 2
    assert values["provocative_batches_ended_total", "completed"] >= 1
    assert values["provocative_batches", "in_progress"] == 0
    assert any(
        name == "provocative_upstream_state" and "on" in labels and value for (name, *labels), value in values.items()
    )
    assert not re.search(r"owner|unlikely|batch_[a-zA-Z0-9]{12}", counts + str(gauges))


def test_a_hold_is_told(db: None) -> None:
    def told() -> list[float]:
        return [value for gauge, _, value in service.read() if gauge is service.HELD]

    assert told() == [0]
    holding.hold(holding.Why.OPERATOR, "test", "a reason")
    assert told() == [1]


@ONE_DATABASE
def test_an_address_that_somebody_made_up_makes_no_series(db: None, client: Client) -> None:
    for number in range(3):
        client.get(f"/v1/nothing-{number}")
    client.get("/v1/batch/batch_1234")
    client.generic("BREW", "/healthz")
    counts = generate_latest(measures.PROCESS).decode()
    assert 'method="GET",route="unknown",status="404"' in counts
    assert 'route="v1/batch/<str:batch_id>",status="401"' in counts
    assert 'method="other",route="healthz"' in counts
    assert "nothing-" not in counts and "batch_1234" not in counts and "BREW" not in counts


# --- files of many processes ------------------------------------------------------------------------------------------


def count_as(pid: int, folder: Path, value: float, name: str = "provocative_webhook_attempts") -> None:
    key = mmap_key(name, f"{name}_total", ["outcome"], ["failed"], "some")
    file = mapped.Allocated(str(folder / f"counter_{pid}.db"))
    file.write_value(key, value, 0.0)  # type: ignore[no-untyped-call]
    file.close()  # type: ignore[no-untyped-call]


def dead() -> int:
    process = subprocess.Popen(["/bin/true"])
    process.wait()
    return process.pid


@ONE_DATABASE
def test_what_dead_processes_counted_is_kept_in_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collecting.Collector, "collect", lambda self: [])
    exposed = Exposed(tmp_path)

    def total() -> float:
        return float(re.findall(r"attempts_total\{.*\} (\S+)", exposed.text().decode())[0])

    for round_ in range(3):
        for _ in range(4):
            count_as(dead(), tmp_path, 2.5)
        count_as(os.getpid(), tmp_path, 1)
        before = total()
        assert exposed.merge_dead() == 4
        assert total() == before == 10 * (round_ + 1) + 1
        assert {path.name for path in tmp_path.iterdir()} == {"counter_merged.db", f"counter_{os.getpid()}.db"}
    counted.begin(tmp_path)
    assert not list(tmp_path.iterdir())


@ONE_DATABASE
def test_database_and_storage_are_asked_at_once(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """They may hang for one reason, and both within the time that Prometheus has."""
    storage_is_asked = threading.Event()

    def service_() -> list[Any]:
        assert storage_is_asked.wait(collecting.PATIENCE / 2)
        return []

    def storage() -> bool:
        storage_is_asked.set()
        return True

    monkeypatch.setattr(collecting, "_service", service_)
    monkeypatch.setattr(collecting, "_storage", storage)
    found = {family.name: [one.value for one in family.samples] for family in Collector(os.getpid()).collect()}
    assert (found["provocative_database_up"], found["provocative_storage_up"]) == ([1.0], [1.0])


@ONE_DATABASE
def test_a_full_disk_stops_no_process_that_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collecting.Collector, "collect", lambda self: [])
    count_as(dead(), tmp_path, 1)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    count_as(1, tmp_path, 1)
    count_as(dead(), tmp_path, 1)
    assert b"attempts_total" in Exposed(tmp_path).text(), "a file that got no room keeps nobody from reading the others"
    with pytest.raises(OSError, match="No space"):
        counted.merge_dead(tmp_path)
    assert any(path.stat().st_size for path in tmp_path.glob("counter_*.db")), "the dead one's counts wait"


@ONE_DATABASE
def test_up_serves_metrics_of_all_its_processes_and_not_to_the_public() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        at = f"127.0.0.1:{free.getsockname()[1]}"
    with running("--no-model", "--metrics", at) as up, httpx.Client(trust_env=False) as client:

        def metrics() -> str:
            try:
                return client.get(f"http://{at}/metrics").raise_for_status().text
            except httpx.TransportError:
                return ""

        assert client.get(f"{up.url}/metrics").status_code == 404
        seen = until(lambda: (found := metrics()) and 'route="unknown",status="404"' in found and found, 30)
        assert 'provocative_role_resident_memory_bytes{role="runners"}' in seen
        assert "provocative_database_up 1.0" in seen and "provocative_storage_up 1.0" in seen
        assert {whole(name) for name in re.findall(r"^(provocative_\w+)", seen, re.MULTILINE)} <= documented().keys()
        assert client.get(f"http://{at}/healthz").text == "ok\n" and client.get(f"http://{at}/").status_code == 404
        assert client.post(f"http://{at}/metrics").status_code == 501


# --- what is made of them ---------------------------------------------------------------------------------------------

RULES = ROOT / "deploy" / "prometheus" / "alerts.yml"


def alerts() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def expressions() -> list[str]:
    dashboard = json.loads(text("deploy/grafana/provocative.json"))
    shown = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    assert len(shown) > 30 and len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    return [*shown, *(rule["expr"] for rule in alerts())]


@ONE_DATABASE
def test_the_dashboard_and_the_alerts_ask_for_what_there_is() -> None:
    asked = {whole(name) for expression in expressions() for name in re.findall(r"provocative_\w+", expression)}
    assert asked <= documented().keys()
    assert documented().keys() - asked == set(), "shown nowhere"


@ONE_DATABASE
def test_no_expression_adds_up_what_every_host_tells() -> None:
    same = {f"provocative_{gauge.name}" for gauge in service.GAUGES}
    for expression in expressions():
        for name in re.findall(r"sum(?: by \([^)]*\))? ?\((provocative_\w+)", expression):
            assert name not in same, expression


@ONE_DATABASE
def test_every_alert_has_its_page_and_its_case() -> None:
    sections = re.findall(r"^### (\w+)$", text("docs/runbook.md"), re.MULTILINE)
    names = [rule["alert"] for rule in alerts()]
    assert sorted(sections) == sorted(names) and len(set(names)) == len(names)
    for rule in alerts():
        assert rule["annotations"]["runbook"] == f"docs/runbook.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in ("critical", "warning")
    for part in text("docs/runbook.md").split("\n### ")[1:]:
        assert all(f"- **{word}**: " in part for word in ("Cause", "Look", "Cure")), part
    cases = yaml.safe_load((RULES.parent / "alerts.test.yml").read_text())["tests"]
    fires = {(test["alertname"], bool(test["exp_alerts"])) for case in cases for test in case["alert_rule_test"]}
    assert fires == {(name, fire) for name in names for fire in (True, False)}


@ONE_DATABASE
@pytest.mark.skipif(not shutil.which("promtool"), reason="no promtool: Debian's package prometheus has it")
def test_the_alerts_fire_in_their_case_and_not_beside_it() -> None:
    for command in (["check", "rules", str(RULES)], ["test", "rules", str(RULES.parent / "alerts.test.yml")]):
        done = subprocess.run([str(shutil.which("promtool")), *command], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr


@ONE_DATABASE
def test_a_tally_is_told_once() -> None:
    from batches.core.answers import Verdict

    tally = measures.Tally()
    tally.saw(Verdict(final=True, delivered=True), 0.2)
    tally.saw(Verdict(final=False, status=429), 700.0)
    tally.saw(Verdict(final=False, status=987), 0.01)
    for _ in range(2):
        tally.tell(4711, "tallied")
    counts = generate_latest(measures.PROCESS).decode()
    assert 'attempts_total{model="tallied",outcome="retried",upstream="4711"} 2.0' in counts
    assert 'retries_total{cause="429",model="tallied",upstream="4711"} 1.0' in counts
    assert 'retries_total{cause="other",model="tallied",upstream="4711"} 1.0' in counts
    assert 'duration_seconds_bucket{le="600.0",model="tallied",upstream="4711"} 2.0' in counts
    assert 'duration_seconds_count{model="tallied",upstream="4711"} 3.0' in counts
