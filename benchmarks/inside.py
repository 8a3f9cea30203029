"""What is done inside a service's home, by its own database: `python -m benchmarks.inside seed | queries …`.

It imports nothing of `tests`, which would give it another home.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from benchmarks import ROOT
from tenants import scope


def call(environ: dict[str, str], *arguments: str) -> Any:
    """Do it in the service whose environment this is; its line of JSON."""
    command = [sys.executable, "-m", "benchmarks.inside", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def seed(batches: str, results: str) -> int:
    """So many copies of a finished batch, each with so many results and a charge."""
    from django.db import transaction

    from batches.models import Batch, Result, batch_id
    from billing.models import LedgerEntry

    original = Batch.objects.filter(status="completed").order_by("pk").first()
    assert original is not None
    receipts = list(Result.objects.filter(batch=original)[: int(results)])
    with transaction.atomic():
        for _ in range(int(batches)):
            original.pk, original.public_id = None, batch_id()
            original._state.adding = True
            original.save()
            for receipt in receipts:
                receipt.pk, receipt.batch_id = None, original.pk
            Result.objects.bulk_create(receipts)
            LedgerEntry.objects.create(
                tenant_id=original.tenant_id, kind="batch_charge", reference=original.public_id, amount=original.cost
            )
    return Batch.objects.count()


def queries(key: str, *batches: str) -> list[int]:
    """How many queries a GET of each batch makes."""
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    counts = []
    for batch in batches:
        with CaptureQueriesContext(connection) as captured:
            headers = {"Authorization": f"Bearer {key}", "Host": "localhost"}
            answer = Client().get(f"/v1/batch/{batch}", headers=headers)
        assert answer.status_code == 200, answer.content
        counts.append(len(captured))
    return counts


def pages(batches: str, lines: str) -> dict[str, Any]:
    """A tenant with so many batches, the latest of so many lines; who sees them, and the queries that it takes."""
    from django.conf import settings
    from django.test import Client

    from tenants.models import Membership, Tenant, User

    tenant, user = Tenant.objects.create(name="pages"), User.objects.create_user("pages@example.com")
    Membership.objects.create(tenant=tenant, user=user, role="owner")
    large = _many(tenant, int(batches), int(lines))
    client, bare = Client(headers={"host": "localhost"}), Client()
    client.force_login(user)
    bare.force_login(user, "django.contrib.auth.backends.ModelBackend")
    cookies = [
        f"{settings.SESSION_COOKIE_NAME}={who.cookies[settings.SESSION_COOKIE_NAME].value}" for who in (client, bare)
    ]
    counts = _counted(client, f"/t/{tenant.public_id}/batches", large)
    return {"tenant": tenant.public_id, "batch": large.public_id, "cookies": cookies, "queries": counts}


def _many(tenant: Any, batches: int, lines: int) -> Any:
    """So many batches; the latest, which is paused, has so many lines."""
    from datetime import timedelta

    from django.utils import timezone

    from batches.models import Batch, File, Result

    now = timezone.now()
    file = File.objects.create(
        tenant=tenant, purpose="batch", filename="questions.jsonl", bytes=1, lines=1, sha256="0", storage_key="none",
        created_at=now,
    )  # fmt: skip
    common = {"tenant": tenant, "input_file": file, "endpoint": "/v1/chat/completions", "created_at": now}
    due, began = now + timedelta(days=1), now - timedelta(minutes=10)
    Batch.objects.bulk_create(
        Batch(**common, deadline=due, total=100, completed=n % 100, model="m", status="completed", ended_at=now)
        for n in range(batches - 1)
    )
    large = Batch.objects.create(
        **common, deadline=due, total=lines, completed=lines, model="m", status="in_progress", in_progress_at=began,
        paused_reason="max_cost_usd",
    )  # fmt: skip
    rows = (
        Result(
            tenant=tenant, batch=large, line=n, seq=n, custom_id=str(n), upstream_id=1, latency_ms=100 + n * 7919 % 2000,
            input_tokens=100, output_tokens=20, finished_at=began + (now - began) * n / lines, segment_id=1, offset=0,
            length=1,
        )
        for n in range(1, lines + 1)
    )  # fmt: skip
    Result.objects.bulk_create(rows, batch_size=5000)
    return large


def _counted(client: Any, address: str, large: Any) -> dict[str, int]:
    """The queries of the list, of the batch's page and of the part of it that is polled."""
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    from batches.web import showing

    parts = {"list": "", "page": f"/{large.public_id}", "head": f"/{large.public_id}/head?state={showing.state(large)}"}
    client.get(address)
    counts = {}
    for name, part in parts.items():
        with CaptureQueriesContext(connection) as captured:
            assert client.get(address + part).status_code == 200
        counts[f"queries_{name}"] = len(captured)
    return counts


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "provocative.settings")
    import django

    django.setup()
    scope.settle_every()
    verb, *arguments = sys.argv[1:]
    verbs: dict[str, Callable[..., Any]] = {"seed": seed, "queries": queries, "pages": pages}
    print(json.dumps(verbs[verb](*arguments)))


if __name__ == "__main__":
    main()
