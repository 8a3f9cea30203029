"""What lines ask for at the least and at the most, so that their cost has bounds before they are run. Pure."""

from dataclasses import dataclass

from batches.core.requests import Request

UNLIMITED_OUTPUT = 4096  # tokens counted for a choice that may have any number


@dataclass
class Work:
    """Tokens of lines that can run, the input's estimated."""

    lines: int = 0
    unlimited: int = 0  # lines that name no limit of their output
    input: int = 0
    low: int = 0  # of output: a token for each choice
    high: int = 0
    largest_input: int = 0  # of a line
    largest_output: int = 0  # the same: its highest

    def add(self, request: Request) -> None:
        limit = request.choices * UNLIMITED_OUTPUT if request.limit is None else request.limit
        self.lines += 1
        self.unlimited += request.limit is None
        self.input += request.input
        self.low += min(request.choices, limit)
        self.high += limit
        self.largest_input = max(self.largest_input, request.input)
        self.largest_output = max(self.largest_output, limit)
