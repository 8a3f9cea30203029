"""Upstreams, which are added and changed here, and who uses their slots."""

from functools import partial
from typing import Any
from urllib.parse import urlsplit

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.db import IntegrityError, transaction
from django.db.models import BooleanField, DateTimeField, ExpressionWrapper, Prefetch, Q, QuerySet, Value
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect

from batches import upstreams
from batches.console import draining
from batches.engine import health
from batches.models import Permit, Runner, Upstream
from batches.probing import probe
from tenants import clock
from tenants.console.pages import Plain, ReadOnly
from tenants.console.searching import TENANT
from tenants.management.console import COLUMN

COLUMNS = ("model", "base_url", "upstream_model", "kind", "tenant", "max_in_flight")
FIGURES = ("state", "in_flight", "answers", "refusals", "errors", "tokens_a_second")
NAMED = 5  # upstreams of a runner


class UpstreamForm(forms.ModelForm):  # type: ignore[type-arg]  # generic in the stubs alone
    """The key can be set here and never be read."""

    max_in_flight = forms.IntegerField(
        label="Requests in flight at most", min_value=1, max_value=COLUMN - 1, initial=64
    )
    new_key = forms.CharField(
        label="API key",
        required=False,
        max_length=500,
        widget=forms.PasswordInput(render_value=False, attrs={"autocomplete": "new-password"}),
        help_text="Never shown. Blank keeps what is stored, for the same server.",
    )
    forget_key = forms.BooleanField(label="Remove the API key", required=False)

    class Meta:
        model = Upstream
        fields = COLUMNS
        help_texts = {
            "model": "The name that tenants use.",
            "base_url": "http://HOST:PORT/v1, the address that the server's OpenAI clients use.",
            "upstream_model": "The server's own name for the model, where it has another one.",
            "tenant": "With one it is dedicated to it: this model is then served to that tenant by its own alone.",
        }

    def clean_base_url(self) -> str:
        try:
            return upstreams.address(str(self.cleaned_data["base_url"]))
        except ValueError as error:
            raise ValidationError(str(error)) from None

    def clean_model(self) -> str:
        return _name(self.cleaned_data["model"])

    def clean_upstream_model(self) -> str:
        return _name(self.cleaned_data["upstream_model"])

    def clean_new_key(self) -> str:
        key = str(self.cleaned_data["new_key"])
        if not upstreams.is_key(key):
            raise ValidationError("Write it in printable ASCII, without spaces.")
        return key

    def clean(self) -> None:
        """The stored key goes nowhere but where it was given for: who names another server could read it there."""
        super().clean()
        was, to = self.initial.get("base_url"), self.cleaned_data.get("base_url")
        is_kept = getattr(self.instance, "keyed", False) and not self.errors and not self.replaces_key()
        if is_kept and was and to and _server(was) != _server(to):
            self.add_error("new_key", "Another server: type its key, or remove the one that is stored.")

    def _update_errors(self, errors: ValidationError) -> None:
        """What is of no field is that it is known already: said beside the address."""
        if errors.error_dict.pop(NON_FIELD_ERRORS, None):
            self.add_error("base_url", upstreams.KNOWN)
        super()._update_errors(errors)  # type: ignore[misc]  # Django's own, without a type

    def replaces_key(self) -> bool:
        return bool(self.cleaned_data.get("new_key") or self.cleaned_data.get("forget_key"))

    def save(self, commit: bool = True) -> Any:
        if self.replaces_key():
            self.instance.api_key = self.cleaned_data["new_key"]
        return super().save(commit)


def _server(address: str) -> tuple[str, str]:
    """By which scheme, and where."""
    parts = urlsplit(address)
    return parts.scheme, parts.netloc.lower()


def _name(text: str) -> str:
    if text and not upstreams.is_name(text):
        raise ValidationError("Write printable characters.")
    return text


@admin.register(Upstream)
class UpstreamAdmin(Plain):
    """What it sends is switched by actions that ask; the rest is changed here, and runners see it within a second."""

    form = UpstreamForm
    noun = "upstream"
    list_display = (
        "model", "base_url", "state", "in_flight", "refusals", "errors", "tokens_a_second", "kind", "tenant", "keyed",
    )  # fmt: skip
    list_filter = ("enabled", "kind", "embedded", ("tenant", admin.EmptyFieldListFilter))
    list_select_related = ("tenant",)
    search_fields = ("model", "base_url", "upstream_model", *TENANT)
    is_small = True
    readonly_fields = (*FIGURES, "embedded", "created_at", "keyed")
    autocomplete_fields = ("tenant",)
    actions = (draining.drain, draining.sever, draining.enable, draining.test_now, draining.delete)
    unseen = ("api_key",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        keyed = ExpressionWrapper(~Q(api_key=""), BooleanField())
        locked = ExpressionWrapper(Q(api_key__lost=True), BooleanField())
        now = Value(clock.now(), DateTimeField())
        rows: QuerySet[Any] = super().get_queryset(request).annotate(keyed=keyed, locked=locked, seen_at=now)
        return upstreams.with_permits(rows)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:
            return (*COLUMNS, "new_key")
        changing = ("new_key", "forget_key") if self.has_change_permission(request, obj) else ()
        return (*FIGURES, *COLUMNS, "keyed", *changing, "embedded", "created_at")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """The action does it, which asks."""
        return False

    def changed_columns(self, obj: Any, form: Any) -> set[str]:
        return super().changed_columns(obj, form) | ({"api_key"} if form.replaces_key() else set())

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Two that add the same at one moment: the form saw neither."""
        try:
            answer: HttpResponse = super().changeform_view(request, *args, **kwargs)
        except IntegrityError:
            messages.error(request, f"{upstreams.KNOWN} Nothing was done.")
            return HttpResponseRedirect(request.get_full_path())
        return answer

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if {"model", "base_url", "upstream_model", "new_key", "forget_key"}.intersection(form.changed_data):
            transaction.on_commit(partial(_try_out, request, obj.pk))  # seconds, perhaps: no lock is held for them

    def target_of(self, obj: Any) -> str:
        return upstreams.target(obj.pk)

    def note(self, request: HttpRequest, obj: Any, verb: str, details: dict[str, Any]) -> None:
        """Under the names of the columns."""
        named = {"new_key": "api_key", "forget_key": "api_key_removed"}
        told = {
            side: {named.get(name, name): value for name, value in values.items()} for side, values in details.items()
        }
        super().note(request, obj, verb, told | {"model": obj.model, "base_url": obj.base_url})

    @admin.display(description="has a key", boolean=True)
    def keyed(self, upstream: Any) -> bool:
        return bool(upstream.keyed)

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """With what runners tell of each: one query for all."""
        shown: Any = super().get_changelist_instance(request)
        told = health.of_upstreams(Upstream.objects.filter(pk__in=[row.pk for row in shown.result_list]))
        for row in shown.result_list:
            row.health = told[row.pk]
        return shown

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        row: Any = super().get_object(request, object_id, from_field)
        if row is not None:
            row.health = health.of_upstreams(Upstream.objects.filter(pk=row.pk))[row.pk]
        return row

    @admin.display(description="in flight")
    def in_flight(self, upstream: Any) -> str:
        """Of one that is off nothing more is granted than is in flight: that is known sooner than the figures."""
        now = upstream.health.in_flight if upstream.enabled else upstreams.slots_taken(upstream)
        takes = upstream.health.limit
        learned = f", takes {takes:,}" if 0 < takes < upstream.max_in_flight else ""
        return f"{now:,} of {upstream.max_in_flight:,}{learned}"

    @admin.display(description="answers/min")
    def answers(self, upstream: Any) -> str:
        return f"{upstream.health.answers:,}"

    @admin.display(description="429s/min")
    def refusals(self, upstream: Any) -> str:
        return f"{upstream.health.throttled:,}"

    @admin.display(description="errors/min")
    def errors(self, upstream: Any) -> str:
        return f"{upstream.health.errors:,}"

    @admin.display(description="tokens/s")
    def tokens_a_second(self, upstream: Any) -> str:
        return f"{upstream.health.tokens / 60:,.0f}"

    @admin.display(description="state", ordering="enabled")
    def state(self, upstream: Any) -> str:
        taken = upstreams.slots_taken(upstream)
        word = upstreams.state(upstream, upstream.seen_at, taken)
        if upstream.enabled and upstream.locked:
            return "resting: its API key can't be opened (`manage.py secrets check`)"
        if word == "resting":
            return f"{word} until {upstream.cooling_until:%H:%M:%S}"
        return f"{word}: {taken:,} in flight" if word in ("draining", "cut off") else word


def _try_out(request: HttpRequest, pk: int) -> None:
    row = Upstream.objects.filter(pk=pk).first()
    if row is not None and (problem := probe(row).problem):
        messages.warning(request, f"Saved, but it does not answer as expected: {problem}.")


@admin.register(Runner)
class RunnerAdmin(ReadOnly):
    list_display = ("host", "pid", "alive_since", "lease_ends", "draining", "in_flight", "by_upstream")
    list_filter = ("draining",)
    search_fields = ("host__exact", "pid__exact")
    is_small = True
    search_help_text = "A whole host name or process id."
    fields = readonly_fields = list_display
    unseen = ("token",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        held = Permit.objects.filter(slots__gt=0).select_related("upstream").order_by("-slots", "pk")
        held = held.only("slots", "runner_id", "upstream__model", "upstream__base_url")
        now = Value(clock.now(), DateTimeField())  # asked for once, not for each row
        rows: QuerySet[Any] = super().get_queryset(request).annotate(seen_at=now)
        return rows.prefetch_related(Prefetch("permits", held, to_attr="held"))

    @admin.display(description="alive since", ordering="created_at")
    def alive_since(self, runner: Any) -> Any:
        return runner.created_at

    @admin.display(description="lease", ordering="lease_until")
    def lease_ends(self, runner: Any) -> str:
        seconds = (runner.lease_until - runner.seen_at).total_seconds()
        return f"ends in {seconds:,.0f} s" if seconds > 0 else f"ended {-seconds:,.0f} s ago: its slices go to others"

    @admin.display(description="in flight at most")
    def in_flight(self, runner: Any) -> int:
        return sum(permit.slots for permit in runner.held)

    @admin.display(description="by upstream")
    def by_upstream(self, runner: Any) -> str:
        named = ", ".join(f"{permit.slots:,} {permit.upstream}" for permit in runner.held[:NAMED])
        more = len(runner.held) - NAMED
        return f"{named} and {more} more" if more > 0 else named


@admin.register(Permit)
class PermitAdmin(ReadOnly):
    """How many requests of each upstream's a runner may have in flight."""

    list_display = ("upstream", "runner", "may_have", "would_have")
    list_filter = ("upstream__kind",)
    is_small = True
    search_fields = ("upstream__model", "upstream__base_url", "runner__host__exact")
    fields = readonly_fields = list_display

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows = super().get_queryset(request).select_related("upstream", "runner")
        return rows.defer("upstream__api_key", "runner__token")

    @admin.display(description="in flight at most", ordering="slots")
    def may_have(self, permit: Permit) -> int:
        return permit.slots

    @admin.display(description="would use", ordering="wanted")
    def would_have(self, permit: Permit) -> int:
        return permit.wanted
