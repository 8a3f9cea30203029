"""Targets for a fuzzer that sees which code it reached: what it makes of any bytes is held against another reading.

A target is a module with `check(data)`, which raises when something is not as it must be, `TOKENS` that its input is
made of, and `seeds()` beside the files of its corpus. `make fuzz` runs them by atheris; test_targets.py, in
`make test`, over their corpora and a few hundred damaged ones.
"""

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

TARGETS = ("jsonl", "multipart", "answers", "urls")
CORPUS = Path(__file__).parent / "corpus"


class Target(NamedTuple):
    """What is fuzzed, and what it begins with."""

    check: Callable[[bytes], None]
    tokens: Sequence[bytes]
    seeds: dict[str, bytes]  # by name


def target(name: str) -> Target:
    """The target with all its seeds: those made from what others collected, and the files of its corpus."""
    module = import_module(f"tests.fuzz.{name}")
    kept = {path.name: path.read_bytes() for path in sorted((CORPUS / name).iterdir())}
    return Target(module.check, module.TOKENS, module.seeds() | kept)
