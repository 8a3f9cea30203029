"""A line of the output file: the same bytes whenever it is written. Pure."""

import re
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from batches.core.answers import Verdict

MESSAGES = {
    "batch_cancelled": "The batch was cancelled before this line was run.",
    "batch_expired": "The batch's 24 hours passed before this line was run.",
    "invalid_upstream_response": "The model server's answer was not a valid response, also when asked again.",
    "request_timeout": "The model server did not answer in time, also when asked again.",
    "upstream_redirect": "The model server answered with a redirect, which is not followed.",
    "upstream_unreachable": "The model server could not be reached, also when tried again.",
    "worker_crashed": "The worker that ran this line died three times, with nothing else in its hands.",
}


_HEAD = re.compile(
    rb'\{"id":"resp_\w+","custom_id":(?:null|"(?:[^"\\]|\\.)*+"),"response":'
    rb'(?:\{"status_code":([0-9]+),"request_id":"req_\w+","body":|null,"error":\{"code":"(\w+)","message":)'
)


class Outcome(NamedTuple):
    """What an output line says before its body: the status of an answer, or the code of an error; where what comes
    then begins (the body; the error's message)."""

    status: int | None
    code: str
    start: int

    @property
    def delivered(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


def response_id(secret: str, line: int) -> str:
    """The id of a line's response: keyed by the batch's secret, so that it can be derived but not guessed."""
    return blake2b(line.to_bytes(8, "big"), key=secret.encode(), digest_size=12).hexdigest()


def render(secret: str, line: int, custom_id: bytes, verdict: Verdict) -> bytes:
    """The output line without its newline. `custom_id` and the verdict's body are JSON already."""
    token = response_id(secret, line).encode()
    if verdict.status is None:
        return _render_error(token, custom_id, verdict.code, MESSAGES[verdict.code])
    return (
        b'{"id":"resp_%b","custom_id":%b,"response":{"status_code":%d,"request_id":"req_%b","body":%b},"error":null}'
        % (
            token,
            custom_id,
            verdict.status,
            token,
            verdict.body or b"null",
        )
    )


def _render_error(token: bytes, custom_id: bytes, code: str, message: str) -> bytes:
    """The output line of a request that got no answer."""
    error = msgspec.json.encode({"code": code, "message": message})
    return b'{"id":"resp_%b","custom_id":%b,"response":null,"error":%b}' % (token, custom_id, error)


def render_never_run(secret: str, line: int, custom_id: bytes, code: str) -> bytes:
    """The output line of a request that was never sent to its end."""
    return _render_error(response_id(secret, line).encode(), custom_id, code, MESSAGES[code])


def render_invalid(secret: str, line: int, custom_id: str | None, code: str, message: str) -> bytes:
    """The output line of one that could not be run for what it is."""
    return _render_error(response_id(secret, line).encode(), msgspec.json.encode(custom_id), code, message)


def outcome(line: bytes) -> Outcome:
    """What became of the request of an output line, of which the start is enough. Its body is not read."""
    match = _HEAD.match(line)
    if match is None:
        return Outcome(None, "", len(line))
    status, code = match.groups()
    return Outcome(int(status) if status else None, (code or b"").decode(), match.end())
