"""Hostile input that others collected (tests/data/README.md): JSONTestSuite and the Big List of Naughty Strings."""

import json
from pathlib import Path

DATA = Path(__file__).parent / "data"


def json_files() -> dict[str, bytes]:
    """JSONTestSuite: what stands in each of its 318 files, by name."""
    stored = json.loads((DATA / "json_test_suite.json").read_text())
    return {name: content.encode(errors="surrogateescape") for name, content in stored.items()} | {
        "n_structure_100000_opening_arrays": b"[" * 100_000,
        "n_structure_open_array_object": b'[{"":' * 50_000 + b"\n",
    }


def is_taken(name: str) -> bool:
    """Our verdict on a file as a value within a line. What it leaves to the reader, docs/api.md says: numbers of any
    size are taken, and nesting to 512; what is no Unicode text is not."""
    return name.startswith(("y_", "i_number_")) or name == "i_structure_500_nested_arrays"


def naughty_strings() -> list[str]:
    """461 texts that broke somebody's program."""
    found: list[str] = json.loads((DATA / "naughty_strings.json").read_text())
    return found
