"""What a preflight found, in the words of the page."""

from typing import Any

from batches.api import serializers
from batches.preflight import Cost, Report, Work
from batches.web.looks import cents
from billing import money

FIRST = 10  # lines named of each cause


def shown(report: Report, skips: bool) -> dict[str, Any]:
    """The report's facts; `skips` says that bad lines don't stop the batch."""
    everything = report.all
    return {
        "starts": report.starts and report.refused is None,
        "skips": skips,
        "refused": report.refused,
        "total": report.total,
        "good": everything.lines,
        "bad": report.bad,
        "causes": report.findings.grouped(FIRST),
        "models": [{"name": name, **_work(work)} for name, work in report.models.items()],
        "all": _work(everything),
        "shared": round(100 * report.shared / report.prompts) if report.prompts else 0,
        "expected_at": report.expected.at,
        "minutes": _minutes(report),
        "waiting": serializers.waiting_reason(report.expected.reason),
    }


def _minutes(report: Report) -> int | None:
    """Until it should be done, a part of one counted as one."""
    if report.expected.at is None:
        return None
    return max(1, -int(-(report.expected.at - report.at).total_seconds() // 60))


def _work(work: Work) -> dict[str, Any]:
    return {
        "lines": work.lines,
        "unlimited": work.unlimited,
        "input": work.input,
        "low": work.low,
        "high": work.high,
        "cost": _cost(work.cost),
    }


def _cost(cost: Cost | None) -> str:
    """USD from the least to the most, in cents, the most rounded up: it is an estimate."""
    if cost is None:
        return "no price"
    low, high = (cents(money.dollars(pico)) for pico in (cost.low // money.CENT, -(-cost.high // money.CENT)))
    return f"{low} to {high}" if low != high else high
