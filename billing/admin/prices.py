"""Price versions and tenants' discounts: seen and added, never edited."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.http import HttpRequest, HttpResponse

from billing import customers, money, prices
from billing.admin import served
from billing.admin.fields import UsdPerMillion
from billing.admin.versions import ASKED, Comparing, Row, Version
from billing.models import Price, TenantDiscount
from tenants import admission, clock
from tenants.console import auditing
from tenants.console.pages import ReadOnly
from tenants.console.searching import TENANT
from tenants.models import Tenant

PRICED = ("model", "input", "cached_input", "output", "discount")
KEPT = "{:,} running batches keep the price that they began with."


def _share(percent: int | None) -> int | None:
    """Checked before it is compared: Django asks the model's own validators after that."""
    if percent is not None:
        Price._meta.get_field("discount").run_validators(percent)
    return percent


class PriceForm(Version, forms.ModelForm):  # type: ignore[type-arg]  # generic in the stubs alone
    """A new version, in force from now."""

    input = UsdPerMillion(label="Input", help_text="USD per million tokens, standard rate.")
    cached_input = UsdPerMillion(label="Cached input", required=False, help_text="Blank: the same as input.")
    output = UsdPerMillion(label="Output", help_text="USD per million tokens, standard rate.")

    class Meta:
        model = Price
        fields = PRICED

    def clean_model(self) -> str:
        model = str(self.cleaned_data["model"])
        if not model.isprintable():
            raise forms.ValidationError("Write printable characters: a model's name, as batches write it.")
        return model

    def clean_discount(self) -> Any:
        return _share(self.cleaned_data["discount"])

    def clean_cached_input(self) -> Any:
        cached = self.cleaned_data["cached_input"]
        return self.cleaned_data.get("input") if cached is None else cached

    def in_force(self) -> Price | None:
        versions = Price.objects.select_for_update(no_key=True).filter(model=self.cleaned_data["model"])
        list(versions.order_by("pk").values_list("pk", flat=True))  # of two that set it at once, the second sees both
        return prices.now_in_force(self.cleaned_data["model"])

    def compared(self, before: Price | None) -> tuple[Row, ...]:
        if before is None:
            return ()
        after = Price(**{name: self.cleaned_data[name] for name in PRICED})
        told, now = prices.said(before), prices.said(after)
        rates = [(getattr(before, name), getattr(after, name)) for name in ("input", "cached_input", "output")]
        standard = [
            Row(name, told[key], now[key], worth)
            for name, key, worth in zip(
                ("Input", "Cached input", "Output"), ("input_usd", "cached_input_usd", "output_usd"), rates, strict=True
            )
        ]
        paid, pays = prices.rates(before, None), prices.rates(after, None)
        batch = [
            Row(f"{name}, of a batch", money.usd(was), money.usd(becomes), (was, becomes))
            for name, was, becomes in (
                ("Input", paid.input, pays.input),
                ("Output", paid.output, pays.output),
            )
        ]
        return (*standard, Row("Discount of batches", told["discount"], now["discount"]), *batch)

    def remarks(self) -> tuple[str, ...]:
        return (KEPT.format(sum(above.of_model(self.cleaned_data["model"]) for above in served.answers)),)


class InForce(admin.SimpleListFilter):
    title, parameter_name = "version", "version"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("now", "In force"), ("before", "Former")]

    def queryset(self, request: HttpRequest, rows: QuerySet[Any]) -> QuerySet[Any]:
        return rows.filter(is_in_force=self.value() == "now") if self.value() in ("now", "before") else rows


def marked(rows: Any, of: str) -> Any:
    """With whether each is the version in force of what it is `of`, in the same query."""
    later = Q(effective_at__gt=OuterRef("effective_at")) | Q(
        effective_at=OuterRef("effective_at"), pk__gt=OuterRef("pk")
    )
    others = rows.model.objects.filter(later, **{of: OuterRef(of)}, effective_at__lte=clock.now())
    return rows.annotate(is_in_force=~Exists(others))


class VersionAdmin(Comparing, auditing.Untold, ReadOnly):
    """Seen and added; a change is a new row, in force from now."""

    of = ""
    list_filter = (InForce, "effective_at")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows: QuerySet[Any] = marked(super().get_queryset(request), self.of)
        return rows

    @admin.display(description="in force", boolean=True)
    def now(self, version: Any) -> bool:
        return bool(version.is_in_force)


@admin.register(Price)
class PriceAdmin(VersionAdmin):
    form = PriceForm
    of = "model"
    change_form_template, change_list_template = "admin/price.html", "admin/prices.html"
    list_display = ("model", "now", "input_usd", "cached_input_usd", "output_usd", "percent", "effective_at")
    search_fields = ("model",)
    readonly_fields = list_display
    is_small = True

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("billing.add_price")

    def target_of(self, obj: Any) -> str:
        return str(obj.model)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.list_display if obj else (*PRICED, *ASKED)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.list_display if obj else ()

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """Of a model that is named in the address: what is in force, to begin with."""
        model = request.GET.get("model", "").replace("\x00", "")
        before = prices.now_in_force(model)
        rates = ("input", "cached_input", "output", "discount")
        return {"model": model} | ({name: getattr(before, name) for name in rates} if before else {})

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        return super().changelist_view(request, (extra_context or {}) | {"free": served.unpriced()})

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        prices.add(obj, auditing.email(request))
        if not served.has_server(obj.model):
            messages.warning(request, f"No enabled server has the model {obj.model}: is its name right?")

    @admin.display(description="input, USD/million", ordering="input")
    def input_usd(self, price: Price) -> str:
        return money.per_million(price.input)

    @admin.display(description="cached, USD/million", ordering="cached_input")
    def cached_input_usd(self, price: Price) -> str:
        return money.per_million(price.cached_input)

    @admin.display(description="output, USD/million", ordering="output")
    def output_usd(self, price: Price) -> str:
        return money.per_million(price.output)

    @admin.display(description="batches' discount", ordering="discount")
    def percent(self, price: Price) -> str:
        return f"{price.discount}%"


class DiscountForm(Version, forms.ModelForm):  # type: ignore[type-arg]  # generic in the stubs alone
    """A tenant's own, in place of each model's, for its next batches."""

    class Meta:
        model = TenantDiscount
        fields = ("tenant", "discount")

    def clean_discount(self) -> Any:
        return _share(self.cleaned_data["discount"])

    def in_force(self) -> TenantDiscount | None:
        tenant = admission.lock(self.cleaned_data["tenant"].pk)
        versions = TenantDiscount.objects.filter(tenant=tenant, effective_at__lte=clock.now())
        return versions.order_by("-effective_at", "-pk").first()

    def compared(self, before: TenantDiscount | None) -> tuple[Row, ...]:
        """By what is left to pay; each model's own is half, or less."""
        was, becomes = before.discount if before else None, self.cleaned_data["discount"]
        left = tuple(100 - (money.LEAST_DISCOUNT if own is None else own) for own in (was, becomes))
        paid = Row("A batch pays", _left(was), _left(becomes), (left[0], left[1]))
        return (Row("Discount", _percent(was), _percent(becomes)), paid)

    def remarks(self) -> tuple[str, ...]:
        return (KEPT.format(sum(above.of_tenant(self.cleaned_data["tenant"].pk) for above in served.answers)),)


def _percent(own: int | None) -> str:
    return "none of its own" if own is None else f"{own}%"


def _left(own: int | None) -> str:
    return "as each model says" if own is None else f"{100 - own}% of the standard price"


@admin.register(TenantDiscount)
class TenantDiscountAdmin(VersionAdmin):
    form = DiscountForm
    of = "tenant"
    list_display = ("tenant", "now", "percent", "effective_at")
    list_select_related = ("tenant",)
    search_fields = TENANT
    is_small = True
    autocomplete_fields = ("tenant",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("billing.add_tenantdiscount")

    def tenant_of(self, obj: Any) -> Tenant:
        tenant: Tenant = obj.tenant
        return tenant

    def target_of(self, obj: Any) -> str:
        return str(obj.tenant.name)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.list_display if obj else ("tenant", "discount", *ASKED)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.list_display if obj else ()

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        customers.discount(obj, auditing.email(request))

    @admin.display(description="discount", ordering="discount")
    def percent(self, version: TenantDiscount) -> str:
        return _percent(version.discount)
