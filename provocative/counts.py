"""The counts of attempts to sign in, shared by all web hosts through Redis; each host's own while that is away."""

import json
import logging
from collections.abc import Callable
from typing import Any

from django.core.cache.backends.locmem import LocMemCache
from django.core.cache.backends.redis import RedisCache
from redis import RedisError

log = logging.getLogger(__name__)


class AsJSON:
    """What lies in Redis is data: unpickling it would run whatever somebody put there."""

    def dumps(self, value: Any) -> bytes:
        return json.dumps(value).encode()

    def loads(self, data: bytes) -> Any:
        return json.loads(data)


class SharedCounts(RedisCache):
    """A limit must not fall because Redis does: what can't be counted there is counted here."""

    def __init__(self, server: str, params: dict[str, Any]) -> None:
        options = {
            **params.get("OPTIONS", {}),
            "serializer": AsJSON(),
            "socket_timeout": 2,
            "socket_connect_timeout": 1,
        }
        self._own = LocMemCache("counts", {"OPTIONS": {"MAX_ENTRIES": options.pop("MAX_ENTRIES")}})
        super().__init__(server, {**params, "OPTIONS": options})

    def add(self, *args: Any, **kwargs: Any) -> bool:
        return bool(self._either(super().add, self._own.add, *args, **kwargs))

    def get(self, *args: Any, **kwargs: Any) -> Any:
        return self._either(super().get, self._own.get, *args, **kwargs)

    def set(self, *args: Any, **kwargs: Any) -> None:
        self._either(super().set, self._own.set, *args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> bool:
        return bool(self._either(super().delete, self._own.delete, *args, **kwargs))

    @staticmethod
    def _either(shared: Callable[..., Any], own: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        try:
            return shared(*args, **kwargs)
        except RedisError as error:
            log.warning("Redis does not answer, so attempts to sign in are counted by each web host: %s", error)
            return own(*args, **kwargs)
