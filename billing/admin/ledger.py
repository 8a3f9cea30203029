"""The ledger, as it stands: nobody edits it. Credits are added, entries are taken back by new ones."""

from collections import Counter
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html

from billing import corrections, customers, ledger, money, statement, wording
from billing.admin.fields import Noted, Usd, checked
from billing.admin.versions import ASKED, Comparing, Row, Version
from billing.corrections import Effect
from billing.ledger import Account, Kind
from billing.models import ChargeLine, LedgerEntry
from tenants.console import auditing, searching
from tenants.console.asking import Answer, LeftAlone, asks
from tenants.console.pages import ReadOnly

BALANCED = 5  # tenants whose balances a page adds up
FOR_GOOD = "The reverse of {these} is posted, for good: a correction is not taken back. Invoices that were made stay.\n"
GIFTS = (Kind.CREDIT_GRANT, Kind.CREDIT_PURCHASE)


class ChargeLineInline(admin.TabularInline):  # type: ignore[type-arg]  # generic in the stubs alone
    """What a batch's charge is made of."""

    model = ChargeLine
    extra = 0
    can_delete = False
    fields = readonly_fields = (
        "model", "day", "requests", "input_tokens", "cached_tokens", "output_tokens", "amount_usd",
    )  # fmt: skip

    def has_add_permission(self, request: HttpRequest, obj: LedgerEntry | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: LedgerEntry | None = None) -> bool:
        return False

    @admin.display(description="amount, USD")
    def amount_usd(self, line: ChargeLine) -> str:
        return money.usd(line.amount)


class CreditForm(Version, forms.ModelForm):  # type: ignore[type-arg]  # generic in the stubs alone
    """Credits for a tenant, once a reference; posted when what the tenant has with them was looked at."""

    kind = forms.ChoiceField(choices=[(kind.value, wording.KINDS[kind]) for kind in GIFTS])
    reference = forms.CharField(max_length=ledger.LONGEST_REFERENCE, help_text="What it is for: posted once.")
    amount = Usd(label="Amount", help_text="USD.")
    heads = ("USD", "Now", "Then")

    class Meta:
        model = LedgerEntry
        fields = ("tenant", "kind", "reference", "amount", "note")
        help_texts = {"note": "Tenants read it."}

    def clean_reference(self) -> str:
        reference = str(self.cleaned_data["reference"])
        checked("reference", reference, ledger.LONGEST_REFERENCE)
        return reference

    def clean_note(self) -> str:
        note = str(self.cleaned_data["note"])
        checked("note", note, ledger.LONGEST_NOTE)
        return note

    def in_force(self) -> int:
        return ledger.balance(self.cleaned_data["tenant"].pk, Account.CREDITS)

    def compared(self, before: int) -> tuple[Row, ...]:
        then = before + self.cleaned_data["amount"]
        return (Row(f"Credits of {self.cleaned_data['tenant']}", money.usd(before), money.usd(then)),)

    def clean(self) -> None:
        named = {name: self.cleaned_data.get(name) for name in ("kind", "reference")}
        found = LedgerEntry.objects.filter(**named).first()
        if found and not self.errors:
            same = (found.tenant, found.amount) == (self.cleaned_data["tenant"], self.cleaned_data["amount"])
            once = f"These very credits were posted at {found.created_at:%Y-%m-%d %H:%M} UTC. Nothing was posted now."
            self.add_error("reference", once if same else customers.TAKEN)
        super().clean()


def taking_back(rows: list[LedgerEntry]) -> str:
    """What it comes to: by kind, and for each tenant."""
    sums: Counter[str] = Counter()
    for entry in rows:
        sums[wording.KINDS[entry.kind]] += entry.amount
    told = ["In all: " + ", ".join(f"{kind} {money.usd(pico)} USD" for kind, pico in sorted(sums.items())) + "."]
    names, effects = {entry.tenant_id: entry.tenant.name for entry in rows}, corrections.effects(rows)
    few = effects if len(effects) <= BALANCED else {}
    owed, credits_left = (ledger.balances(few, account) for account in (Account.RECEIVABLE, Account.CREDITS))
    for tenant, effect in effects.items():
        before = (owed.get(tenant, 0), credits_left.get(tenant, 0)) if tenant in few else None
        told.append(f"{names[tenant]}: {_moved(effect, before)}.")
    return FOR_GOOD + "\n".join(told)


def _moved(effect: Effect, before: tuple[int, int] | None) -> str:
    owed, left = before or (None, None)
    told = _changes(effect.owed, effect.credits, owed, left)
    if effect.charged:
        told.append(f"charged this month {money.usd(-effect.charged)} USD less, so much more of its limit is free")
    if left is not None and effect.credits + left < 0:
        told.append("so many credits are not left: what would take more than there is, is left alone")
    return "; ".join(told)


def _changes(owed: int, credits_by: int, owed_before: int | None = None, left: int | None = None) -> list[str]:
    """What moves, in words; with what it is, where that is known."""
    told = []
    for name, by, before in (("owes {}", owed, owed_before), ("has {} in credits", credits_by, left)):
        if by:
            moved = name.format(f"{money.usd(abs(by))} USD {'more' if by > 0 else 'less'}")
            told.append(moved if before is None else f"{moved} ({money.usd(before)} → {money.usd(before + by)})")
    return told


@asks(
    "Take back",
    "billing.correct_ledgerentry",
    taking_back,
    reason="It becomes the note of the new entry, which the tenant's people read: say what was wrong.",
    form=Noted,
    unless=corrections.why_not,
)
def take_back(request: HttpRequest, entry: LedgerEntry, answer: Answer) -> None:
    try:
        corrections.take_back(entry.kind, entry.reference, answer.reason, auditing.email(request))
    except corrections.NotCorrectable as why:
        raise LeftAlone(str(why)) from None


@admin.register(LedgerEntry)
class LedgerEntryAdmin(Comparing, auditing.Untold, ReadOnly):
    """Seen; credits are given, and what was wrong is taken back."""

    form = CreditForm
    autocomplete_fields = ("tenant",)
    list_display = ("reference", "tenant", "kind", "amount_usd", "debit", "credit", "is_taken_back", "created_at")
    list_filter = ("kind", "created_at")
    search_fields = ("reference",)
    search_help_text = "A whole reference, such as a batch's id: all that was posted for it. Or a tenant's name."
    shown = (
        "tenant", "kind", "reference", "amount_usd", "debit", "credit", "moves", "note", "created_at", "reverses",
        "correction", "invoice",
    )  # fmt: skip
    inlines = (ChargeLineInline,)
    actions = (take_back,)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related(*corrections.REACHED)

    def get_search_results(self, request: HttpRequest, rows: QuerySet[Any], term: str) -> tuple[QuerySet[Any], bool]:
        """By the indexes."""
        if term := term.strip():
            about = Q(kind__in=Kind.values, reference__in=statement.references(term))
            rows = rows.filter(about | searching.matching(LedgerEntry, searching.TENANT, term))
        return rows, False

    def told(self, row: LedgerEntry) -> str:
        kind = wording.KINDS[row.kind]
        return (
            f"{row.tenant}: {kind}, {row.reference}, {money.usd(row.amount)} USD, {row.created_at:%Y-%m-%d %H:%M} UTC"
        )

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("billing.add_ledgerentry")

    def tenant_of(self, obj: Any) -> Any:
        return obj.tenant

    def target_of(self, obj: Any) -> str:
        """As its correction is on the trail; credits are there by their reference."""
        return str(obj.reference if obj.kind in GIFTS else f"{obj.kind}:{obj.reference}")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.shown if obj else (*CreditForm.Meta.fields, *ASKED)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.shown if obj else ()

    def get_inlines(self, request: HttpRequest, obj: Any) -> Any:
        return self.inlines if obj else ()

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            return super().changeform_view(request, *args, **kwargs)
        except customers.Posted as error:  # by somebody else, since the form was checked
            messages.error(request, str(error))
            return HttpResponseRedirect(request.get_full_path())

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Of a form that was sent twice at once the second finds what the first posted."""
        paid, actor = obj.kind == Kind.CREDIT_PURCHASE, auditing.email(request)
        entry = customers.give(obj.tenant_id, obj.amount, obj.reference, obj.note, paid, actor)
        obj.pk = (entry or LedgerEntry.objects.get(kind=obj.kind, reference=obj.reference)).pk

    @admin.display(description="amount, USD", ordering="amount")
    def amount_usd(self, entry: LedgerEntry) -> str:
        return money.usd(entry.amount)

    @admin.display(description="taken back", boolean=True)
    def is_taken_back(self, entry: LedgerEntry) -> bool:
        return hasattr(entry, "reversed_by")

    @admin.display(description="moves")
    def moves(self, entry: LedgerEntry) -> str:
        told = _changes(entry.owed, entry.credited)
        return f"The tenant {'; '.join(told)}" if told else "Nothing for the tenant"

    @admin.display(description="taken back by")
    def correction(self, entry: LedgerEntry) -> str:
        return _linked(entry.reversed_by) if hasattr(entry, "reversed_by") else "-"

    @admin.display(description="on the invoice")
    def invoice(self, entry: LedgerEntry) -> str:
        return _linked(entry.invoiced.invoice) if hasattr(entry, "invoiced") else "-"


def _linked(row: Any) -> str:
    return format_html(
        '<a href="{}">{}</a>', reverse(f"admin:billing_{row._meta.model_name}_change", args=[row.pk]), row
    )
