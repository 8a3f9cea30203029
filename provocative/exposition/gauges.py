"""Gauges that are read when Prometheus asks: their names, and the figures that they get."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from prometheus_client.core import GaugeMetricFamily


class Gauge(NamedTuple):
    """A gauge's name (after provocative_), what it means, and its labels."""

    name: str
    meaning: str
    labels: tuple[str, ...] = ()


Figure = tuple[Gauge, tuple[str, ...], float]  # with the values of its labels


def families(gauges: Iterable[Gauge], figures: Iterable[Figure]) -> Iterator[GaugeMetricFamily]:
    """Each gauge with its figures; one that has none all the same."""
    found = {
        gauge.name: GaugeMetricFamily(f"provocative_{gauge.name}", gauge.meaning, labels=gauge.labels)
        for gauge in gauges
    }
    for gauge, labels, value in figures:
        found[gauge.name].add_metric(labels, value)
    yield from found.values()
