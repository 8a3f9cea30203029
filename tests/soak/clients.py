"""The tenants' programs: each submits, looks, cancels, resumes, reads and deletes by its dice, and tries on while it
gets no answer."""

import itertools
import json
import random
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from threading import Event, Lock, Thread
from typing import Any

import httpx

from tests.soak.asking import HALF, Asked, Read, Tenant, ask, custom_id

PATIENCE = 90.0  # seconds for an answer that is none, or says to wait
POLL = 1.0
BUSY = {"idempotency_key_in_use", "receipts_not_ready"}


class NoAnswer(Exception):
    """None came in time."""


class Client(Thread):
    """One tenant's, until `stop`; then it reads what is still to end, until `give_up`."""

    numbers = itertools.count(1)
    lock = Lock()

    def __init__(
        self, tenant: Tenant, url: str, key: str, dice: random.Random, price: dict[str, tuple[int, int]], pace: float
    ) -> None:
        super().__init__(name=tenant.name, daemon=True)
        self.tenant, self.dice, self.price, self.pace = tenant, dice, price, pace
        self.url, self.key = url, key
        headers = {"Authorization": f"Bearer {key}"}
        self.http = httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=30)
        self.asked: list[Asked] = []
        self.answers = Counter[tuple[str, int]]()
        self.faults: list[tuple[float, str]] = []  # answers that no client should get, and when
        self.findings: list[str] = []
        self.answered = time.monotonic()
        self.stop, self.give_up = Event(), Event()

    # --- its life ---------------------------------------------------------------------------------------------------

    def run(self) -> None:
        try:
            self._live()
        except Exception as error:
            self.findings.append(f"the client of {self.tenant.name} broke off: {type(error).__name__}: {error}"[:500])
        finally:
            self.http.close()

    def _live(self) -> None:
        due = time.monotonic() + self.dice.random() * self.pace
        while not self.give_up.is_set():
            if time.monotonic() > due and not self.stop.is_set():
                due = time.monotonic() + self.dice.expovariate(1 / self.pace)
                self._try(self.submit)
            self._try(self.look)
            if self.stop.is_set() and all(one.ended or not one.ids for one in self.asked):
                return
            self.give_up.wait(POLL)

    def _try(self, act: Any, *arguments: Any) -> None:
        with suppress(NoAnswer):  # it is tried again, or found out at the end
            act(*arguments)

    def request(self, act: str, method: str, path: str, **content: Any) -> httpx.Response:
        """The answer, however often it takes. Raises NoAnswer when none comes that is more than a wait."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and not self.give_up.is_set():
            try:
                answer = self.http.request(method, path, **content)
            except httpx.TransportError as error:
                idle = time.monotonic() - self.answered
                self.faults.append((time.time(), f"{act}: {error!r}, {idle:.1f} s after the last answer"))
            else:
                self.answered = time.monotonic()
                self.answers[act, answer.status_code] += 1
                if answer.status_code >= 500:
                    self.faults.append((time.time(), f"{act}: {answer.status_code} {answer.text[:200]}"))
                elif not (answer.status_code in (409, 429) and self._wait(answer, act)):
                    return answer
            time.sleep(0.5)
        raise NoAnswer(act)

    def _wait(self, answer: httpx.Response, act: str) -> bool:
        """Whether the answer is to ask again soon."""
        code = answer.json()["error"]["code"]
        return code in BUSY or (answer.status_code == 429 and act != "submit")

    # --- what it does -----------------------------------------------------------------------------------------------

    def draw(self) -> tuple[Asked, bytes]:
        with self.lock:
            number = next(self.numbers)
        return ask(number, self.tenant, self.dice)

    def submit(self) -> None:
        asked, content = self.draw()
        self.asked.append(asked)
        key = {"Idempotency-Key": f"soak-{asked.number}"}
        fields = {"metadata": json.dumps({"soak": str(asked.number)}), **asked.fields}

        def post() -> httpx.Response:
            return self.request(
                "submit", "POST", "/v1/batch", files={"file": ("b.jsonl", content)}, data=fields, headers=key
            )

        try:
            answer = post()
            if answer.status_code == 200 and self.dice.random() < 0.1:
                again = post()
                if (again.status_code, again.json().get("id")) != (200, answer.json()["id"]):
                    self.findings.append(
                        f"submission {asked.number} sent again: {again.status_code} {again.text[:200]}"
                    )
        except NoAnswer:
            asked.uncertain = True
            raise
        self.take(asked, answer)

    def take(self, asked: Asked, answer: httpx.Response) -> None:
        """What a submission was answered: a batch, or a refusal that its dice may have asked for."""
        if answer.status_code == 200:
            asked.ids.add(answer.json()["id"])
        elif answer.status_code != 429:
            self.findings.append(f"submission {asked.number}: {answer.status_code} {answer.text[:300]}")

    def open(self) -> dict[str, Asked]:
        return {batch: one for one in self.asked if not one.ended for batch in one.ids}

    def look(self) -> None:
        """See how all its batches are, and do something about some."""
        waiting = self.open()
        if waiting and len(waiting) < 3:
            found = [self.request("get", "GET", f"/v1/batch/{batch}").json() for batch in waiting]
        elif waiting:
            found = self.request("list", "GET", "/v1/batch?limit=100").json()["data"]
        else:
            found = []
        for batch in found:
            if asked := waiting.get(batch["id"]):
                self._try(self.handle, asked, batch)
        if self.dice.random() < 0.02:
            self.request("usage", "GET", self.dice.choice(["/v1/usage?group_by=model", "/v1/limits", "/v1/billing"]))

    def handle(self, asked: Asked, batch: dict[str, Any]) -> None:
        status, path = batch["status"], f"/v1/batch/{batch['id']}"
        if status in ("completed", "failed", "cancelled"):
            asked.status = status
            if not asked.wrong and status != "failed":  # whether it may have failed the books say
                self.receive(asked, batch)
        elif batch["paused_reason"]:
            self._unpause(path)
        elif self.dice.random() < 0.001:
            self.request("cancel", "POST", f"{path}/cancel")
        elif status == "in_progress" and self.dice.random() < 0.02:
            self._read_part(path)

    def _unpause(self, path: str) -> None:
        if self.dice.random() < 0.2:
            self.request("cancel", "POST", f"{path}/cancel")
        else:
            self.request("resume", "POST", f"{path}/resume", json={"max_cost_usd": None, "max_error_rate": None})

    def _read_part(self, path: str) -> None:
        answer = self.request("partial", "GET", f"{path}/output?partial=true", headers={"Range": "bytes=0-9999"})
        if answer.status_code not in (200, 206, 416):
            self.findings.append(f"a part of {path}: {answer.status_code} {answer.text[:200]}")

    def receive(self, asked: Asked, batch: dict[str, Any]) -> None:
        """Read the output of an ended batch; now and then delete it then."""
        path = f"/v1/batch/{batch['id']}"
        answer = self.request("output", "GET", f"{path}/output")
        if answer.status_code == 200:
            asked.read = self.weigh(asked, answer.content.splitlines())
        elif not (answer.status_code == 410 and self.tenant.brief):
            self.findings.append(f"the output of {batch['id']}: {answer.status_code} {answer.text[:200]}")
        if self.dice.random() < 0.1:
            self.request("errors", "GET", f"{path}/errors")
        if self.dice.random() < 0.08:
            asked.deleted = self.request("delete", "DELETE", path).status_code == 200

    def weigh(self, asked: Asked, lines: Iterable[bytes]) -> Read:
        return weigh(lines, self.price[asked.model])


def weigh(lines: Iterable[bytes], price: tuple[int, int], ordered: bool = True) -> Read:
    """What an output holds, by its own usage."""
    count = delivered = cost = 0
    in_order = True
    for count, line in enumerate(lines, 1):
        found = json.loads(line)
        in_order &= not ordered or found["custom_id"] == custom_id(count)
        if found["error"] is None and found["response"]["status_code"] == 200:
            usage = found["response"]["body"]["usage"]
            delivered += 1
            cost += usage["prompt_tokens"] * price[0] * HALF + usage["completion_tokens"] * price[1] * HALF
    return Read(count, delivered, cost, in_order)


def dealt(dice: random.Random, deck: dict[str, int]) -> Iterator[str]:
    """Names for ever: each as often as it is in the deck before any comes more often."""
    while True:
        cards = [name for name, often in deck.items() for _ in range(often)]
        dice.shuffle(cards)
        yield from cards
