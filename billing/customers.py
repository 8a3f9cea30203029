"""How a tenant pays, made when it is first needed."""

from billing.models import Customer


def of(tenant: int) -> Customer:
    """The tenant's customer row."""
    return Customer.objects.get_or_create(tenant_id=tenant)[0]
