"""What the tenants ask for: batches of every size and kind, by dice, and what must become of each of their lines."""

from __future__ import annotations

import json
import random
from array import array
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.witness import request_line
from tests.witness.faults import tokens_of

SIZES = {1: 3, 10: 3, 100: 3, 500: 2.5, 2000: 1.5, 4000: 0.5}  # lines: weight
PREFIXES = [
    f"You are assistant {n}. " + f"Rule {n}: answer in one short sentence, and only that. " * 30 for n in range(8)
]
DOOMED = ("400", "400", "400", "422", "html")  # what a line that always fails gets
HALF = 500_000  # pico-USD a token, of a USD per million: a batch costs half


class Tenant(NamedTuple):
    """Who sends, and what."""

    name: str
    plan: str
    models: tuple[str, ...]
    sdk: bool = False  # through OpenAI's SDK
    dedicated: bool = False  # an upstream of its own
    brief: bool = False  # its files are kept for a short while


class Read(NamedTuple):
    """What an ended batch's output held: lines, how many of them delivered, and what their usage costs (pico-USD)."""

    lines: int
    delivered: int
    cost: int
    in_order: bool


@dataclass
class Asked:
    """A submission: what was sent, and what its tenant was told."""

    number: int
    tenant: str
    model: str
    wrong: str = ""  # why validation must fail
    sizes: array[int] = field(default_factory=lambda: array("I"))  # bytes of each line's body
    doomed: set[int] = field(default_factory=set)  # lines (from 1) that always fail
    fields: dict[str, str] = field(default_factory=dict)
    ids: set[str] = field(default_factory=set)
    uncertain: bool = False  # no answer came in time: it may be there, once
    status: str = ""  # the last that was seen
    read: Read | None = None
    deleted: bool = False

    @property
    def ended(self) -> bool:
        return self.status in ("completed", "failed", "cancelled", "expired")


def marker(number: int, line: int) -> str:
    return f"line:{number}-{line}"


def cost(size: int, price: tuple[int, int]) -> int:
    """Pico-USD of a delivered line, by the bytes of its body; the price is USD per million tokens, in and out."""
    given, made = tokens_of(size)
    return given * price[0] * HALF + made * price[1] * HALF


def ask(number: int, tenant: Tenant, dice: random.Random) -> tuple[Asked, bytes]:
    """The next submission, and its file."""
    asked = Asked(number, tenant.name, dice.choice(tenant.models))
    [count] = dice.choices(list(SIZES), list(SIZES.values()))
    shared = dice.random() < 0.4
    fails = dice.random() < 0.2
    lines = []
    for line in range(1, count + 1):
        faults = [dice.choice(DOOMED)] if fails and dice.random() < 0.05 else []
        if faults:
            asked.doomed.add(line)
        lines.append(_line(asked, line, faults, dice.choice(PREFIXES) if shared else "", dice.randrange(200)))
    if dice.random() < 0.06:
        _spoil(asked, lines, dice)
    _cap(asked, dice)
    return asked, b"\n".join(lines) + b"\n"


def _line(asked: Asked, line: int, faults: list[str], prefix: str, pad: int) -> bytes:
    name = marker(asked.number, line)
    made = request_line(name, custom_id=custom_id(line), faults=faults, model=asked.model, pad=pad)
    if prefix:
        made["body"]["messages"].insert(0, {"role": "system", "content": prefix})
    asked.sizes.append(len(json.dumps(made["body"])))
    return json.dumps(made).encode()


def custom_id(line: int) -> str:
    return f"c{line}"


def _spoil(asked: Asked, lines: list[bytes], dice: random.Random) -> None:
    """Make it a file that fails validation."""
    at = dice.randrange(len(lines))
    asked.wrong = dice.choice(("invalid_json_line", "model_not_found", "duplicate_custom_id", "missing_custom_id"))
    if asked.wrong == "invalid_json_line":
        lines[at] = lines[at][:-1]
    elif asked.wrong == "model_not_found":
        lines[at] = lines[at].replace(f'"{asked.model}"'.encode(), b'"nobodys-model"')
    elif asked.wrong == "missing_custom_id":
        lines[at] = lines[at].replace(b'"custom_id"', b'"custom_ids"')
    else:
        lines.append(lines[at])
        asked.sizes.append(asked.sizes[at])


def _cap(asked: Asked, dice: random.Random) -> None:
    """Now and then a cap that is reached."""
    if dice.random() < 0.08:
        asked.fields["max_cost_usd"] = "0.001"
    if asked.doomed and dice.random() < 0.5:
        asked.fields["max_error_rate"] = "0.02"
