"""Threads of the tests' own: they work for whom the test works, which a thread by itself does not."""

from collections.abc import Callable
from concurrent import futures
from concurrent.futures import Future
from typing import Any, TypeVar

from tenants import scope

T = TypeVar("T")


class ThreadPoolExecutor(futures.ThreadPoolExecutor):
    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        return super().submit(scope.carried(fn), *args, **kwargs)
