"""What reading an input finds wrong with its lines."""

from typing import Any

from batches.core.requests import Fault

LISTED = 100  # bad lines that are listed; all are counted


class Findings:
    """Bad lines: all counted by code, the first hundred of them kept, grouped by code."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self._kept: dict[str, list[dict[str, Any]]] = {}

    def add(self, line: int | None, fault: Fault) -> None:
        self.counts[fault.code] = self.counts.get(fault.code, 0) + 1
        kept = self._kept.setdefault(fault.code, [])
        if len(kept) < LISTED:
            kept.append({"code": fault.code, "line": line, "message": fault.message, "param": fault.param})

    def listed(self) -> list[dict[str, Any]]:
        return [entry for kept in self._kept.values() for entry in kept][:LISTED]

    def causes(self, first: int) -> list[tuple[str, int, list[dict[str, Any]]]]:
        """Each code, how often it was found, and its `first` entries."""
        return [(code, self.counts[code], kept[:first]) for code, kept in self._kept.items()]

    def grouped(self, first: int) -> list[dict[str, Any]]:
        """For each code how often, its `first` lines (none of a whole file), and the message of the first of them."""
        return [
            {
                "code": code,
                "count": count,
                "lines": [entry["line"] for entry in kept if entry["line"] is not None],
                "message": kept[0]["message"],
            }
            for code, count, kept in self.causes(first)
        ]
