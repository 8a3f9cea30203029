"""POSTs that a client may send again: the headers that say so, and the answer to a repetition."""

import re
from collections.abc import Callable
from functools import wraps
from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response

from batches.idempotency import Attempt, Replayed
from tenants.authentication import key_of, tenant_of
from tenants.errors import Refused

KEY, RETRY_COUNT = "Idempotency-Key", "x-stainless-retry-count"  # the latter is sent by OpenAI's SDKs
REPLAYED = {"Idempotent-Replayed": "true"}
_KEY = re.compile(r"[\x20-\x7e]{1,255}")
_POSITIVE = re.compile(r"0*[1-9][0-9]*")

Show = Callable[[Request, str], dict[str, Any]]


def begin(request: Request) -> Attempt:
    """The attempt that a POST is, by its headers. Raises Refused 400 for what is no key."""
    key = request.headers.get(KEY)
    if key is not None and not _KEY.fullmatch(key):
        message = f"{KEY} must be 1 to 255 printable ASCII characters."
        raise Refused(400, "invalid_idempotency_key", message, param=KEY)
    return Attempt(
        tenant_of(request),
        key_of(request),
        f"{request.method} {request.path}",
        key=key or "",
        retried=_POSITIVE.fullmatch(request.headers.get(RETRY_COUNT, "")) is not None,
        length=request.META.get("CONTENT_LENGTH") or "",
    )


def once(show: Show) -> Callable[[Callable[..., Response]], Callable[..., Response]]:
    """Give a POST's view its Attempt; a repetition is answered with what `show` makes of the object's public id."""

    def decorate(view: Callable[..., Response]) -> Callable[..., Response]:
        @wraps(view)
        def answer(request: Request, *args: Any, **kwargs: Any) -> Response:
            try:
                with begin(request) as attempt:
                    return view(request, attempt, *args, **kwargs)
            except Replayed as replayed:
                return Response(show(request, replayed.object_id), headers=REPLAYED)

        return answer

    return decorate
