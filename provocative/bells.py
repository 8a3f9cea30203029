"""django-q2's broker on Redis, where an operator has one: the bell rings there instead of in a table.

A ring is a hint: it is sent when the transaction that it announces has committed, it may be lost with its server, and
no request and no commit fails because it can't be sent. The sweep rings again for whatever waits.
"""

import hashlib
import logging
import time
from datetime import timedelta
from functools import cache, partial
from typing import Any

from django.conf import settings
from django.db import transaction
from django_q.brokers import Broker
from django_q.conf import Conf
from redis import Redis, RedisError

log = logging.getLogger(__name__)

TAKE, PAUSE = 1, 1.0  # seconds: to wait for a ring, and after an error
COMPLAIN_EVERY = 30.0  # seconds


class Bells(Broker):  # type: ignore[misc]  # django-q2 has no types
    """A list a cluster, the oldest ring in front; each begins with the time on the server's clock."""

    _complained = float("-inf")

    def __init__(self, list_key: str | None = None) -> None:
        super().__init__(list_key=_key(list_key or Conf.CLUSTER_NAME))

    @staticmethod
    def get_connection(list_key: str | None = None) -> Redis:
        return client()

    @staticmethod
    def get_cache() -> None:
        """Django-q2 keeps statistics there that nobody reads."""

    def enqueue(self, task: str) -> None:
        transaction.on_commit(partial(self._push, task))

    def dequeue(self) -> list[tuple[None, str]] | None:
        """The oldest ring, or None after a second without one."""
        try:
            taken: Any = self.connection.blpop([self.list_key], TAKE)
        except RedisError as error:
            self._complain(error)
            time.sleep(PAUSE)
            return None
        return [(None, taken[1].partition(b" ")[2].decode())] if taken else None

    def queue_size(self) -> int:
        try:
            return int(self.connection.llen(self.list_key))
        except RedisError as error:
            self._complain(error)
            return 0

    def ping(self) -> bool:
        return bool(self.connection.ping())

    def info(self) -> str:
        return "Redis"

    def _push(self, task: str) -> None:
        try:
            self.connection.rpush(self.list_key, f"{_now(self.connection)} {task}")
        except RedisError as error:
            self._complain(error)

    @classmethod
    def _complain(cls, error: RedisError) -> None:
        if time.monotonic() - cls._complained >= COMPLAIN_EVERY:
            cls._complained = time.monotonic()
            log.warning("Redis does not answer, so nobody is rung for until it does: %s", error)


@cache
def client() -> Redis:
    """Of this process; connections are made anew after a fork."""
    return Redis.from_url(settings.REDIS_URL, socket_timeout=5, socket_connect_timeout=2, health_check_interval=30)


def waiting(cluster: str) -> tuple[int, int, timedelta] | None:
    """How many rings of `cluster` wait, which is in front, and for how long; None when none does. Raises RedisError."""
    server, key = client(), _key(cluster)
    front: Any = server.lindex(key, 0)
    if front is None:
        return None
    age = _now(server) - float(front.partition(b" ")[0])
    which = int.from_bytes(hashlib.sha256(front).digest()[:8], "big")
    return max(1, int(server.llen(key))), which, timedelta(seconds=max(0.0, age))


def _key(cluster: str) -> str:
    return f"provocative:{cluster}"


def _now(server: Redis) -> float:
    seconds, micros = server.time()
    return float(seconds) + float(micros) / 1e6
