"""How a tenant pays, made when it is first needed; and how an operator changes it."""

from typing import Any

from django.db import transaction

from billing import ledger, money, prices, wording
from billing.ledger import Kind
from billing.models import Customer, LedgerEntry, TenantDiscount
from tenants import admission, clock, trail

TAKEN = "Other credits were posted with this reference, which stands for one posting: choose another one."


class Posted(ValueError):
    """Something else was posted with this reference."""


def of(tenant: int) -> Customer:
    """The tenant's customer row."""
    return Customer.objects.get_or_create(tenant_id=tenant)[0]


def change(tenant: int, actor: str, **columns: Any) -> None:
    """Change these columns, on the tenant's trail. A limit that becomes another one is told of anew."""
    of(tenant)
    with transaction.atomic():
        row = Customer.objects.select_for_update(no_key=True).get(pk=tenant)
        differences = trail.differences(_said(row, columns), _said(Customer(**columns), columns))
        if columns.get("monthly_limit", row.monthly_limit) != row.monthly_limit:
            columns |= {"alerted_month": None, "alerted_percent": 0}
        Customer.objects.filter(pk=tenant).update(**columns)
        if differences:
            trail.record(row.tenant, actor, "customer.changed", row.tenant.name, **differences)


def _said(row: Customer, columns: dict[str, Any]) -> dict[str, Any]:
    """These columns for the trail."""
    limit = None if row.monthly_limit is None else money.usd(row.monthly_limit)
    said = {"prepaid": ("prepaid", row.prepaid), "monthly_limit": ("monthly_limit_usd", limit)}
    return dict(said[name] for name in columns)


def discount(row: TenantDiscount, actor: str) -> None:
    """Store a new discount of a tenant's own, in force from now, on its trail."""
    with transaction.atomic():
        admission.lock(row.tenant_id)
        before = prices.own_discount(row.tenant_id, clock.now())
        row.save()
        differences = trail.differences({"discount_percent": before}, {"discount_percent": row.discount})
        if differences:
            trail.record(row.tenant, actor, "customer.changed", row.tenant.name, **differences)


def give(
    tenant: int, pico: int, reference: str, note: str = "", paid: bool = False, actor: str = trail.OPERATOR
) -> LedgerEntry | None:
    """Credits, given or paid for, on the tenant's trail; None when the same was posted before. Raises ValueError, and
    Posted, with the cure."""
    check_credit(reference, note)
    kind = Kind.CREDIT_PURCHASE if paid else Kind.CREDIT_GRANT
    with transaction.atomic():
        row = admission.lock(tenant)
        if entry := ledger.post(tenant, kind, reference, pico, note):
            told = {"kind": wording.KINDS[kind], "usd": money.usd(pico), "note": note}
            trail.record(row, actor, "credit.created", reference, **told)
            return entry
        entry = LedgerEntry.objects.get(kind=kind, reference=reference)
        if (entry.tenant_id, entry.amount) != (tenant, pico):
            raise Posted(TAKEN)
    return None


def check_credit(reference: str, note: str) -> None:
    """Whether credits can be posted with them. Raises ValueError with the cure."""
    ledger.check_text("reference", reference, ledger.LONGEST_REFERENCE)
    ledger.check_text("note", note, ledger.LONGEST_NOTE)
    if not reference.strip():
        raise ValueError("Write a reference: what the credits are for.")
