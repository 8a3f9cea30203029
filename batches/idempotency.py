"""A POST that is sent again is not done again: by its Idempotency-Key, or because it says that it is a retry.

With a key, one row a tenant and key:

    (no row) -> reserved -> kept -> (no row, after 24 h)
                 |   '-> reserved by another request: this one has not ended within 10 minutes, it seems to be dead
                 '-> (no row: it was refused)

`reserved` is written before anything is done, `kept` in the transaction that does it: no crash falls between the two.

Without a key every creation leaves a kept row for 10 minutes. A retry of the same tenant, API key and fingerprint is
answered with it, unless a first attempt that was refused came in between: it deletes the row, since the retry is of
that one. The other way round, a first attempt that is still running joins what a retry has made since it began. Both
look under the tenant's lock, under which the creation happens too.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from typing import Any, TypeVar

from django.db import DatabaseError, IntegrityError, transaction
from django.db.models import QuerySet

from batches.models import Batch, File, Submission, WebhookEndpoint
from tenants import admission, clock
from tenants.errors import Refused
from tenants.models import ApiKey, Tenant

KEPT_FOR = timedelta(hours=24)
RESERVED_FOR = timedelta(minutes=10)
RETRIED_WITHIN = timedelta(minutes=10)
RETRY_AFTER = 2  # seconds, while another request with the key is being worked on
LOOKS = 5  # at a key that others reserve and release meanwhile
Made = TypeVar("Made", Batch, File, WebhookEndpoint)
TRIED_AGAIN = (408, 409, 429, 503)  # statuses after which clients send the same again by themselves


class Replayed(Exception):
    """It was done already, and `object_id` came of it: undo what was prepared, and answer with that."""

    def __init__(self, object_id: str) -> None:
        super().__init__(object_id)
        self.object_id = object_id


class Attempt:
    """One POST. Inside `with`: `name` it, then `create` what it asks for, or `acting` change what is there."""

    def __init__(
        self,
        tenant: Tenant,
        api_key: ApiKey | None,
        address: str,
        *,
        key: str = "",
        retried: bool = False,
        length: str = "",
    ) -> None:
        self.tenant, self.api_key, self.key, self.retried = tenant, api_key, key, retried
        self.began = clock.now()
        self._address, self._outline, self._fingerprint = address, _digest(address, length), ""
        self._row: Submission | None = None

    def __enter__(self) -> "Attempt":
        """Reserve the key. Raises Refused 409 while another request with it is being worked on."""
        self._row = self._reserve() if self.key else None
        return self

    def __exit__(self, kind: Any, error: BaseException | None, at: Any) -> None:
        """What was refused is not kept; a commit that failed or not is told apart by the row's own state."""
        if error is None or isinstance(error, Replayed):
            return
        with suppress(DatabaseError):
            if self._row:
                self._reservation(self._row).delete()
            elif not self.retried and _is_tried_again(error):
                self._forget()

    @property
    def again(self) -> bool:
        """Whether it may have been done already: refuse it for nothing that its repetition would not need."""
        return self.retried or (self._row is not None and self._row.state == Submission.State.KEPT)

    def name(self, *asked: Any) -> None:
        """Say what is asked for beside the address, in values of JSON.

        Raises Replayed when this key did it already, Refused 422 when it did something else.
        """
        self._fingerprint = _digest(self._address, *asked)
        if self._row is None or self._row.state != Submission.State.KEPT:
            return
        if self._row.fingerprint != self._fingerprint:
            cure = "Send another key, or what you sent with this one."
            raise Refused(422, "idempotency_key_reused", f"This Idempotency-Key was sent with another request. {cure}")
        raise Replayed(self._row.object_id)

    def create(self, make: Callable[[Tenant], Made]) -> Made:
        """What `make` makes, in one transaction under the tenant's lock. To answer with it nothing more has to be read.

        Raises Replayed when another attempt made it, Refused 409 when another took the key over, 403 when the tenant
        was suspended meanwhile.
        """
        made: Made | None = None
        try:
            with transaction.atomic():
                tenant = admission.lock(self.tenant.pk)
                self.match()
                if tenant.suspended:  # since it was let in: it may be about to be erased
                    raise Refused(403, "tenant_suspended", "This tenant was suspended just now. Ask the operator.")
                made = make(tenant)
                self._keep(made.public_id)
        except DatabaseError:
            if made is None or not _has_landed(made):
                raise
        return made

    def match(self) -> None:
        """Without a key, under the tenant's lock: raises Replayed when it was done by another attempt of it."""
        if self.key:
            return
        rows = self._unkeyed().filter(fingerprint=self._fingerprint)
        if self.retried:
            rows = rows.filter(created_at__gt=clock.now() - RETRIED_WITHIN)
        else:
            rows = rows.filter(retry=True, created_at__gte=self.began)
        if row := rows.order_by("-pk").first():
            raise Replayed(row.object_id)

    def _keep(self, object_id: str) -> None:
        """In the transaction that makes the object. Raises Refused 409 when another took the key over."""
        done = {"state": Submission.State.KEPT, "fingerprint": self._fingerprint, "object_id": object_id}
        if self._row is None:
            columns = {**done, "outline": self._outline, "retry": self.retried, "created_at": clock.now()}
            Submission.objects.create(tenant=self.tenant, api_key=self.api_key, **columns)
        elif not self._reservation(self._row).update(**done):
            raise _in_use()

    @contextmanager
    def acting(self, object_id: str) -> Iterator[None]:
        """Change an object within `with`: once a key. Without a key nothing is remembered of it."""
        with transaction.atomic():
            yield
            forget(self.tenant.pk, object_id)
            if self.key:
                self._keep(object_id)

    def _reserve(self) -> Submission:
        """The key's row: our reservation, or what came of it before."""
        reserved = {"state": Submission.State.RESERVED, "created_at": self.began, "api_key": self.api_key}
        for _ in range(LOOKS):
            row = Submission.objects.filter(tenant=self.tenant, key=self.key).first()
            if row is None:
                with suppress(IntegrityError), transaction.atomic():
                    return Submission.objects.create(tenant=self.tenant, key=self.key, **reserved)
            elif _is_over(row, self.began):
                unchanged = Submission.objects.filter(pk=row.pk, state=row.state, created_at=row.created_at)
                if unchanged.update(**reserved, fingerprint="", object_id=""):
                    row.state, row.created_at = Submission.State.RESERVED, self.began
                    return row
            elif row.state == Submission.State.KEPT:
                return row
            else:
                break
        raise _in_use()

    def _reservation(self, row: Submission) -> QuerySet[Submission]:
        """The row while it is our reservation: who takes one over moves `created_at`."""
        return Submission.objects.filter(pk=row.pk, state=Submission.State.RESERVED, created_at=self.began)

    def _unkeyed(self) -> QuerySet[Submission]:
        return Submission.objects.filter(tenant=self.tenant, api_key=self.api_key, key="")

    def _forget(self) -> None:
        """This first attempt was refused: a retry from now on is of this one, not of what was made before."""
        earlier = self._unkeyed().filter(created_at__lt=self.began)
        known = {"fingerprint": self._fingerprint} if self._fingerprint else {"outline": self._outline}
        earlier.filter(**known).delete()


def forget(tenant: int, object_id: str) -> None:
    """Somebody cancels or deletes it, so its id has arrived: a retry is not of its creation any more."""
    Submission.objects.filter(tenant_id=tenant, key="", object_id=object_id).delete()


def prune() -> None:
    """Drop what is not looked at any more."""
    now = clock.now()
    Submission.objects.filter(key="", created_at__lt=now - RETRIED_WITHIN).delete()
    Submission.objects.filter(created_at__lt=now - KEPT_FOR).delete()


def _has_landed(made: Batch | File | WebhookEndpoint) -> bool:
    """Whether a commit that ended in an error took place all the same: its answer was lost on the way."""
    with suppress(DatabaseError):
        return type(made).objects.filter(public_id=made.public_id).exists()
    return False


def _digest(*asked: Any) -> str:
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def _is_over(row: Submission, now: datetime) -> bool:
    lasts = KEPT_FOR if row.state == Submission.State.KEPT else RESERVED_FOR
    return row.created_at <= now - lasts


def _is_tried_again(error: BaseException) -> bool:
    """Whether it certainly made nothing, and the client sends it again by itself."""
    return isinstance(error, OSError) or (isinstance(error, Refused) and error.status in TRIED_AGAIN)


def _in_use() -> Refused:
    return Refused(
        409,
        "idempotency_key_in_use",
        "Another request with this Idempotency-Key is being worked on: send it again in a moment.",
        headers={"Retry-After": str(RETRY_AFTER)},
    )
