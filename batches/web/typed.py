"""What people type into the form of a new batch, as it stands, and what a batch's row makes of it."""

import json
from typing import Any, NamedTuple

from django.http import QueryDict

from batches import intake
from batches.api import fields
from batches.core.requests import ENDPOINTS
from batches.models import Batch
from batches.web.traced import fresh_form, is_form
from tenants.errors import Refused

SHOWN = 64  # characters of a field that is one short word or number


class Options(NamedTuple):
    """Of a batch, as its row has them."""

    endpoint: str
    metadata: str
    columns: dict[str, Any]


class Typed(NamedTuple):
    """The form: all text, but for pairs, which are of metadata."""

    token: str  # of this form: sent twice, it makes one batch
    file_id: str = ""
    endpoint: str = ENDPOINTS[0]
    on_invalid_line: str = Batch.OnInvalidLine.FAIL
    max_cost_usd: str = ""
    max_error_rate: str = ""
    pairs: tuple[tuple[str, str], ...] = ()

    def read(self) -> Options:
        """Raises Refused 400 with the field as `param`."""
        caps = {name: getattr(self, name) for name in fields.CAPS if getattr(self, name)}
        columns = fields.read_caps(caps)
        columns["on_invalid_line"] = intake.read_on_invalid_line(self.on_invalid_line)
        return Options(intake.read_endpoint(self.endpoint), self._metadata(), columns)

    def _metadata(self) -> str:
        pairs = dict(self.pairs)
        if len(pairs) < len(self.pairs):
            raise Refused(400, "invalid_metadata", "A key of the metadata stands twice.", param="metadata")
        if "" in pairs:
            raise Refused(400, "invalid_metadata", "A value of the metadata has no key.", param="metadata")
        return intake.check_metadata(pairs)

    def details(self) -> dict[str, Any]:
        """For the trail."""
        return {"file": self.file_id, "endpoint": self.endpoint, "metadata_pairs": len(self.pairs)}


def typed(form: QueryDict) -> Typed:
    """The form as it was sent; a token that is none becomes a fresh one, for the next time."""
    token = form.get("token", "")
    short = {name: str(form[name]).strip()[:SHOWN] for name in Typed._fields if name in form and name != "token"}
    pairs = zip(form.getlist("key"), form.getlist("value"), strict=False)
    filled = tuple((key.strip(), value) for key, value in pairs if key.strip() or value.strip())
    return Typed(token if is_form(token) else fresh_form(), **short, pairs=filled)


EXAMPLE: tuple[dict[str, Any], ...] = (
    {"custom_id": "capital-1", "body": {"messages": [{"role": "user", "content": "What is the capital of France?"}]}},
    {
        "custom_id": "haiku-2",
        "body": {
            "messages": [
                {"role": "system", "content": "You are a poet of few words."},
                {"role": "user", "content": "Write a haiku about the night shift."},
            ]
        },
    },
    {
        "custom_id": "sentiment-3",
        "body": {
            "messages": [{"role": "user", "content": "One word, positive or negative: I would buy it again."}],
            "temperature": 0,
        },
    },
)


def example(model: str) -> str:
    """A file of three lines for this model: the least, a system prompt, a parameter. Each limits its output."""
    lines = [{**line, "body": {"model": model, **line["body"], "max_tokens": 64}} for line in EXAMPLE]
    return "".join(json.dumps(line) + "\n" for line in lines)
