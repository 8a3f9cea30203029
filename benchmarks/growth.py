"""Cost growth: time a line from 1,000 to 50,000 lines, and beside 1,000 finished batches."""

from benchmarks import inside, pipeline
from benchmarks.report import Figures, Found, Row, Size, median_of
from tests.service import Service, running
from tests.witness import Witness

LINES, SLOTS = 50_000, 64
FINISHED, RESULTS_EACH = 1_000, 100


def measure(size: Size) -> Found:
    counts = {"small": max(size.of(LINES) // 50, 20), "middle": max(size.of(LINES) // 5, 100), "large": size.of(LINES)}
    with running("--no-model", "--runners", "2") as service, Witness() as witness:
        witness.configure(log=False)
        figures = median_of(size.runs, lambda: _per_line(service, witness, counts))
        inside.call(service.environ, "seed", str(FINISHED), str(RESULTS_EACH))
        after = median_of(size.runs, lambda: _per_line(service, witness, counts))
    figures |= {f"{name}_after": value for name, value in after.items()}
    rows = [
        *(Row(f"run phase, {count:,} lines, µs a line", figures[name]) for name, count in counts.items()),
        Row(f"{counts['large']:,} / {counts['small']:,} lines", figures["large"] / figures["small"], "<= 1.15"),
        Row(f"{counts['large']:,} / {counts['middle']:,} lines", figures["large"] / figures["middle"], "<= 1.15"),
        *(
            Row(f"{counts[name]:,} lines, {FINISHED:,} finished batches / none", after[name] / figures[name], "<= 1.15")
            for name in ("middle", "large")
        ),
    ]
    unshown = f"more than {FINISHED * RESULTS_EACH:,} old results; a small batch's fixed cost makes it dearer a line"
    return Found(figures, rows, unshown)


def _per_line(service: Service, witness: Witness, counts: dict[str, int]) -> Figures:
    return {
        name: pipeline.on(service, witness, pipeline.lines(count), SLOTS).run / count * 1e6
        for name, count in counts.items()
    }
