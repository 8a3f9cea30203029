"""GET /v1/batch/{id}: queries, and requests a second beside a bare DRF view with one query."""

import json
import statistics

import httpx

from benchmarks import bareweb, inside, load, pipeline
from benchmarks.report import Figures, Found, Row, Size, median_of
from tests.service import Service, running
from tests.witness import Witness

LINES = 50_000
SECONDS, IN_FLIGHT = 4.0, 12


def measure(size: Size) -> Found:
    with running("--no-model", "--runners", "2") as service, Witness() as witness:
        witness.configure(log=False)
        model = pipeline.served(service, witness.base_url, 64)
        client = pipeline.unthrottled(service, model)
        small, large = (_batch(service, client, model, count) for count in (1, size.of(LINES)))
        queries = inside.call(service.environ, "queries", _key(client), small, large)
        with bareweb.serving(service) as url:
            figures = median_of(size.runs, lambda: _once(service, _key(client), small, large, url))
    figures |= {"queries_small": queries[0], "queries_large": queries[1]}
    rows = [
        Row("queries, batch of one line", queries[0], "<= 2"),
        Row(f"queries, batch of {size.of(LINES):,} lines", queries[1], "<= 2"),
        Row("bare DRF view with one query, requests/s", figures["bare"]),
        Row("GET /v1/batch/{id} / bare view", figures["ratio"], ">= 0.7"),
        Row("large batch / small batch, requests/s", figures["flat"], ">= 0.9"),
    ]
    return Found(figures, rows, "the same while batches run; a list of batches")


def _batch(service: Service, client: httpx.Client, model: str, count: int) -> str:
    content = pipeline.lines(count)
    for line in content:
        line["body"]["model"] = model
    return pipeline.run_file(
        service, client, "".join(json.dumps(line) + "\n" for line in content).encode(), count
    ).batch


def _key(client: httpx.Client) -> str:
    return client.headers["Authorization"].removeprefix("Bearer ")


def _once(service: Service, key: str, small: str, large: str, url: str) -> Figures:
    """Bare, ours, ours, bare; the first of all is warm already by the start's own requests."""

    def of(address: str) -> float:
        return load.rate(address, key, SECONDS, IN_FLIGHT)

    before = of(f"{url}/batch/{small}")
    ours = {batch: of(f"{service.url}/v1/batch/{batch}") for batch in (small, large)}
    rate = statistics.mean([before, of(f"{url}/batch/{small}")])
    return {
        "bare": rate,
        "ours": ours[large],
        "ratio": statistics.mean(ours.values()) / rate,
        "flat": ours[large] / ours[small],
    }
