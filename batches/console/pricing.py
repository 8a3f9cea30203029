"""What the pages of prices want to know of upstreams and batches."""

import msgspec
from django.db.models import Q

from batches.core.states import ACTIVE
from batches.models import Batch, Upstream
from billing.admin import served


def models() -> list[str]:
    """That have a server which is enabled."""
    return list(Upstream.objects.filter(enabled=True).order_by().values_list("model", flat=True).distinct())


def of_model(model: str) -> int:
    """Active batches that keep a price of the model: of it alone, or of several."""
    named = f"{msgspec.json.encode(model).decode()}:"
    rows = Batch.objects.filter(status__in=ACTIVE).exclude(rates="{}")
    return rows.filter(Q(model=model) | Q(model=None, rates__contains=named)).count()


def of_tenant(tenant: int) -> int:
    """Active batches of the tenant that keep their prices."""
    return Batch.objects.filter(status__in=ACTIVE, tenant=tenant).exclude(rates="{}").count()


served.answers.append(served.Above(models, of_model, of_tenant))
