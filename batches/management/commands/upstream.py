"""`manage.py upstream add | set | enable | disable | list | check`. API keys are taken and never shown."""

import sys
from typing import Any

from django.core.management.base import CommandError, CommandParser

from batches import upstreams
from batches.engine import health
from batches.models import Upstream
from batches.probing import probe, probe_all
from tenants import trail
from tenants.management.console import VerbCommand, tenant_named, whole_number


class Command(VerbCommand):
    help = "Upstreams: the servers that answer for models."

    def add_verbs(self) -> None:
        add = self.verb("add", self.add, "Make a server known. It is probed; what it answers is only a warning.")
        add.add_argument("model", metavar="MODEL", help="The name that tenants use.")
        add.add_argument("base_url", metavar="BASE_URL", help="Ends in /v1.")
        add.add_argument("--tenant", metavar="NAME", help="Dedicate it to one tenant.")
        _add_settings(add)
        change = self.verb("set", self.change, "Change one; what is not named stays.")
        change.add_argument("pk", type=whole_number(1), metavar="ID")
        change.add_argument("--base-url", metavar="BASE_URL")
        _add_settings(change)
        enable = self.verb("enable", self.enable, "Use it again.")
        enable.add_argument("pk", type=whole_number(1), metavar="ID")
        disable = self.verb("disable", self.disable, "Send it nothing new; what is in flight is waited for.")
        disable.add_argument("pk", type=whole_number(1), metavar="ID")
        disable.add_argument("--now", action="store_true", help="Give up what is in flight: it is sent elsewhere.")
        self.verb("list", self.show, "Print every upstream.")
        self.verb("check", self.probe_all, "Probe every one; fails when any enabled one does not answer.")

    def add(self, model: str, base_url: str, tenant: str | None, **wanted: Any) -> None:
        columns = _columns(wanted | {"model": model, "base_url": base_url})
        row = Upstream(tenant=tenant_named(tenant) if tenant is not None else None, **columns)
        try:
            upstreams.create(row, trail.OPERATOR)
        except upstreams.Known:
            raise _known(row.model, row.base_url) from None
        if problem := probe(row).problem:
            self._warn(f"added, but it does not answer as expected: {problem}")
        self.say(_shown(row))

    def change(self, pk: int, **wanted: Any) -> None:
        row, columns = _row(pk), _columns(wanted)
        try:
            upstreams.change(pk, trail.OPERATOR, columns)
        except upstreams.Known:
            raise _known(row.model, columns.get("base_url", row.base_url)) from None
        self.say(_shown(_row(pk)))

    def enable(self, pk: int) -> None:
        self._switch(pk, True)

    def disable(self, pk: int, now: bool) -> None:
        self._switch(pk, False, now)

    def _switch(self, pk: int, enabled: bool, now: bool = False) -> None:
        upstreams.switch(_row(pk), enabled, trail.OPERATOR, now=now)
        self.say(_shown(_row(pk)))

    def show(self) -> None:
        now = health.of_upstreams()
        for row in _rows():
            self.say(_shown(row) | {"now": now[row.pk]._asdict() if row.pk in now else None})

    def probe_all(self) -> None:
        failed = False
        rows = list(_rows())
        for row, probed in zip(rows, probe_all(rows), strict=True):
            failed = failed or bool(probed.problem and row.enabled)
            self.say(_shown(row) | {"ok": probed.problem is None, "problem": probed.problem})
        if failed:
            sys.exit(1)

    def _warn(self, text: str) -> None:
        self.stderr.write(f"Warning: {text}")


def _add_settings(parser: CommandParser) -> None:
    parser.add_argument("--api-key", metavar="K")
    parser.add_argument("--max-in-flight", type=whole_number(1), metavar="N", help="Requests sent at once; 64.")
    parser.add_argument("--upstream-model", metavar="NAME", help="The server's own name for the model.")
    parser.add_argument("--kind", choices=Upstream.Kind.values)


def _rows() -> Any:
    return Upstream.objects.select_related("tenant").order_by("model", "pk")


def _row(pk: int) -> Upstream:
    row: Upstream | None = _rows().filter(pk=pk).first()
    if row is None:
        raise CommandError(f"There is no upstream {pk}: `upstream list` shows them.")
    return row


def _known(model: str, base_url: str) -> CommandError:
    return CommandError(
        f"{model} at {base_url} is known already: `upstream list` shows it, `upstream set ID` changes it."
    )


def _columns(wanted: dict[str, Any]) -> dict[str, Any]:
    """What was given, checked."""
    given = {name: value for name, value in wanted.items() if value is not None}
    for name in ("model", "base_url", "api_key", "upstream_model"):
        longest = getattr(Upstream._meta.get_field(name), "max_length", None) or 0
        if len(given.get(name, "")) > longest:
            raise CommandError(f"{name} has at most {longest} characters.")
    for name in ("model", "upstream_model"):
        if not upstreams.is_name(given.get(name, "m")) and (name == "model" or given[name]):
            raise CommandError(f"a model has a name of printable characters; {name} has not.")
    if not upstreams.is_key(given.get("api_key", "")):
        raise CommandError("an API key is written in printable ASCII, without spaces.")
    if "base_url" in given:
        try:
            given["base_url"] = upstreams.address(given["base_url"])
        except ValueError as error:
            raise CommandError(str(error)) from None
    return given


def _shown(row: Upstream) -> dict[str, Any]:
    return {
        "id": row.pk,
        "model": row.model,
        "base_url": row.base_url,
        "kind": row.kind,
        "max_in_flight": row.max_in_flight,
        "tenant": row.tenant.name if row.tenant else None,
        "upstream_model": row.upstream_model or None,
        "api_key": bool(row.api_key),
        "enabled": row.enabled,
        "severed": row.severed,
        "embedded": row.embedded,
    }
