"""A client of the web server that does what its dice say, to ids that may be gone by then."""

import json
import random
import time
from collections import Counter
from typing import Any, NamedTuple

import httpx

from tests.conftest import Person
from tests.receiver import Receiver
from tests.witness import request_line

HOOKS = "/v1/webhook_endpoints"
LISTS = ("/v1/files", "/v1/batches", "/v1/batch", "/v1/usage?group_by=key", "/v1/limits", "/v1/billing", "/v1/models")
ACTS = {"upload": 1, "create": 2, "submit": 2, "cancel": 1, "look": 3, "read": 4, "delete": 2, "retry": 2, "hook": 3}


class Ids(NamedTuple):
    """What a tenant's clients have been told of, and may meddle with; the first of each is nobody's."""

    files: list[str]
    batches: list[str]


class Caller:
    """`live` it; then `answers` counts them by act and status, and `faults` has those that no client should see."""

    def __init__(self, person: Person, address: str, receiver: Receiver, ids: Ids, dice: random.Random) -> None:
        headers = {"Authorization": f"Bearer {person.key}"}
        self.http = httpx.Client(base_url=address, trust_env=False, headers=headers, timeout=60)
        self.url, self.dice = receiver.url, dice
        self.files, self.batches = ids
        self.answers, self.faults = Counter[tuple[str, int]](), list[str]()

    def live(self, until: float) -> None:
        with self.http:
            while time.monotonic() < until:
                [act] = self.dice.choices(list(ACTS), list(ACTS.values()))
                answer = getattr(self, act)()
                self.answers[act, answer.status_code] += 1
                if answer.status_code >= 500:
                    self.faults.append(f"{act}: {answer.status_code} {answer.text[:200]}")

    def post(self, path: str, made: list[str] | None = None, **content: Any) -> httpx.Response:
        """With a key that may be another's, as a retry, or plainly."""
        key = {"Idempotency-Key": f"key-{self.dice.randrange(400)}"}
        answer = self.http.post(path, headers=self.dice.choice([key, {"x-stainless-retry-count": "1"}, {}]), **content)
        if made is not None and answer.status_code == 200:
            made.append(answer.json()["id"])
        return answer

    def content(self) -> dict[str, Any]:
        """A few lines; some fail at the upstream, and now and then one is no line at all."""
        odds, count = self.dice.random, self.dice.choice((1, 3, 30))
        lines = [request_line(f"{self.dice.randrange(10**9)}", faults=["400"] * (odds() < 0.2)) for _ in range(count)]
        return {"file": ("a", "\n".join([*map(json.dumps, lines), "{" * (odds() < 0.05)]).encode())}

    def batch(self) -> str:
        return f"/v1/batch/{self.dice.choice(self.batches[-30:])}"

    def upload(self) -> httpx.Response:
        return self.post("/v1/files", self.files, data={"purpose": "batch"}, files=self.content())

    def create(self) -> httpx.Response:
        asked = {"endpoint": "/v1/chat/completions", "completion_window": "24h"}
        return self.post("/v1/batches", self.batches, json={"input_file_id": self.dice.choice(self.files), **asked})

    def submit(self) -> httpx.Response:
        return self.post("/v1/batch", self.batches, files=self.content())

    def cancel(self) -> httpx.Response:
        return self.post(f"{self.batch()}/cancel")

    def retry(self) -> httpx.Response:
        return self.post(f"/v1/batch/{self.dice.choice(self.batches)}/retry", self.batches)

    def look(self) -> httpx.Response:
        return self.http.get(self.dice.choice([self.batch(), *LISTS]))

    def read(self) -> httpx.Response:
        what = self.dice.choice(
            ["output", "output?partial=true", "output?merged=true", "results", "content", "content"]
        )
        if what != "content":
            return self.http.get(f"{self.batch()}/{what}")
        batch = self.http.get(self.batch().replace("batch/", "batches/")).json()
        file = batch.get("output_file_id") or batch.get("error_file_id") or batch.get("input_file_id")
        return self.http.get(f"/v1/files/{file}/content")

    def any_of(self, path: str) -> str:
        found = self.http.get(path).json().get("data", [])
        return f"{path}/{self.dice.choice(found)['id']}" if found else f"{path}/none"

    def delete(self) -> httpx.Response:
        return self.http.delete(self.any_of("/v1/files"))

    def hook(self) -> httpx.Response:
        what = self.dice.choice(["make", "make", "delete", "delete", "rotate_secret", "enabled", "replay"])
        if what == "make":
            return self.post(HOOKS, json={"url": self.url})
        one = self.any_of(HOOKS)
        if what == "delete":
            return self.http.delete(one)
        if what == "rotate_secret":
            return self.post(f"{one}/rotate_secret", json={})
        if what == "enabled":
            return self.post(one, json={"enabled": self.dice.random() < 0.8})
        return self.post(f"{self.any_of(f'{one}/deliveries')}/replay")
