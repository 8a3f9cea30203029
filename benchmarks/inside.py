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


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "provocative.settings")
    import django

    django.setup()
    verb, *arguments = sys.argv[1:]
    verbs: dict[str, Callable[..., Any]] = {"seed": seed, "queries": queries}
    print(json.dumps(verbs[verb](*arguments)))


if __name__ == "__main__":
    main()
