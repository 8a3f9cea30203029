"""The dashboard's list of 1,000 batches beside a bare Django ListView of the same rows; queries of list and page."""

import statistics

from benchmarks import bareweb, inside, load
from benchmarks.report import Figures, Found, Row, Size, median_of
from tests.service import running

BATCHES, LINES = 1_000, 50_000
SECONDS, IN_FLIGHT = 4.0, 4


def measure(size: Size) -> Found:
    with running("--no-model", "--runners", "1") as service:
        seeded = inside.call(service.environ, "pages", str(BATCHES), str(size.of(LINES)))
        tenant, (cookie, bare) = seeded["tenant"], seeded["cookies"]
        pages = f"{service.url}/t/{tenant}/batches"
        with bareweb.serving(service) as url:
            addresses = {
                "bare": (f"{url}/batches/{tenant}", bare),
                "list": (pages, cookie),
                "page": (f"{pages}/{seeded['batch']}", cookie),
                "charts": (f"{pages}/{seeded['batch']}/charts", cookie),
            }
            figures = median_of(size.runs, lambda: _once(addresses))
    figures |= seeded["queries"]
    rows = [
        Row(f"queries, list of {BATCHES:,} batches", figures["queries_list"], "<= 10"),
        Row(f"queries, page of a batch of {size.of(LINES):,} lines", figures["queries_page"], "<= 10"),
        Row("queries, the part of a page that is asked for every 2 s", figures["queries_head"], "<= 4"),
        Row(f"bare ListView behind a sign-in, ms a request with {IN_FLIGHT} in flight", figures["bare"]),
        Row("list / bare ListView", figures["list"] / figures["bare"], "<= 2"),
        Row("page of the large batch / bare ListView", figures["page"] / figures["bare"]),
        Row("its charts / bare ListView", figures["charts"] / figures["bare"]),
    ]
    return Found(figures, rows, "the same while batches run; what the browser does with it")


def _once(addresses: dict[str, tuple[str, str]]) -> Figures:
    """Milliseconds a request, of as many threads as are in flight: bare before and after ours."""

    def of(name: str) -> float:
        return 1000 / load.rate(*addresses[name], SECONDS, IN_FLIGHT)

    before = of("bare")
    ours = {name: of(name) for name in ("list", "page", "charts")}
    return ours | {"bare": statistics.mean([before, of("bare")])}
