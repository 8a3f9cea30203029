"""`manage.py upstream add | set | enable | disable | list | check`. API keys are taken and never shown."""

import sys
from typing import Any
from urllib.parse import urlsplit

import httpx
from django.core.management.base import CommandError, CommandParser
from django.db import IntegrityError, transaction

from batches.models import Upstream
from tenants.management.console import VerbCommand, tenant_named, whole_number

PROBE_SECONDS = 5.0
URL_CURE = "write http://HOST:PORT/v1, the address that the server's OpenAI clients use, ending in /v1."


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
        for name, call in (("enable", self.enable), ("disable", self.disable)):
            self.verb(name, call, f"{name.capitalize()} one.").add_argument("pk", type=whole_number(1), metavar="ID")
        self.verb("list", self.show, "Print every upstream.")
        self.verb("check", self.probe_all, "Probe every one; fails when any enabled one does not answer.")

    def add(self, model: str, base_url: str, tenant: str | None, **wanted: Any) -> None:
        given = {field: value for field, value in wanted.items() if value is not None}
        row = Upstream(
            model=model, base_url=_url(base_url), tenant=tenant_named(tenant) if tenant is not None else None, **given
        )
        _save(row)
        if problem := probe(row):
            self._warn(f"added, but it does not answer as expected: {problem}")
        self.say(_shown(row))

    def change(self, pk: int, base_url: str | None, **wanted: Any) -> None:
        row = _row(pk)
        changes = {field: value for field, value in wanted.items() if value is not None}
        if base_url is not None:
            changes["base_url"] = _url(base_url)
        for field, value in changes.items():
            setattr(row, field, value)
        if changes:
            _save(row, list(changes))
        self.say(_shown(row))

    def enable(self, pk: int) -> None:
        self.change(pk, None, enabled=True)

    def disable(self, pk: int) -> None:
        self.change(pk, None, enabled=False)

    def show(self) -> None:
        for row in Upstream.objects.select_related("tenant").order_by("model", "pk"):
            self.say(_shown(row))

    def probe_all(self) -> None:
        failed = False
        for row in Upstream.objects.select_related("tenant").order_by("model", "pk"):
            problem = probe(row)
            failed = failed or bool(problem and row.enabled)
            self.say(_shown(row) | {"ok": problem is None, "problem": problem})
        if failed:
            sys.exit(1)

    def _warn(self, text: str) -> None:
        self.stderr.write(f"Warning: {text}")


def probe(row: Upstream) -> str | None:
    """What is wrong with the server's GET /models, in a few words; None when nothing is."""
    headers = {"Authorization": f"Bearer {row.api_key}"} if row.api_key else {}
    try:
        answer = httpx.get(f"{row.base_url}/models", headers=headers, timeout=PROBE_SECONDS, trust_env=False)
        if answer.is_error or answer.is_redirect:
            return f"GET {row.base_url}/models answered {answer.status_code}"
        names = [str(entry["id"]) for entry in answer.json()["data"]]
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
        return f"{row.base_url} can't be reached ({type(error).__name__})"
    except (ValueError, KeyError, TypeError):
        return f"GET {row.base_url}/models is no list of models"
    wanted = row.upstream_model or row.model
    return None if wanted in names else f"it does not list {wanted!r} among its {len(names)} models"


def _add_settings(parser: CommandParser) -> None:
    parser.add_argument("--api-key", metavar="K")
    parser.add_argument("--max-in-flight", type=whole_number(1), metavar="N", help="Requests sent at once; 64.")
    parser.add_argument("--upstream-model", metavar="NAME", help="The server's own name for the model.")
    parser.add_argument("--kind", choices=Upstream.Kind.values)


def _url(base_url: str) -> str:
    try:
        parts = urlsplit(base_url)
        valid = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        valid = False
    plain = base_url.isprintable() and not set(base_url) & set(" ?#@")  # a password in it would be shown
    if not valid or not plain or not base_url.endswith("/v1"):
        raise CommandError(f"{base_url!r} is no upstream's address: {URL_CURE}")
    return base_url


def _row(pk: int) -> Upstream:
    row = Upstream.objects.select_related("tenant").filter(pk=pk).first()
    if row is None:
        raise CommandError(f"There is no upstream {pk}: `upstream list` shows them.")
    return row


def _save(row: Upstream, fields: list[str] | None = None) -> None:
    for name in ("model", "base_url", "api_key", "upstream_model"):
        longest = getattr(Upstream._meta.get_field(name), "max_length", None) or 0
        if len(getattr(row, name)) > longest or (name == "model" and not row.model.strip()):
            raise CommandError(f"{name} has at most {longest} characters, and a model has a name.")
    try:
        with transaction.atomic():
            row.save(update_fields=fields)
    except IntegrityError:
        raise CommandError(
            f"{row.model} at {row.base_url} is known already: `upstream list` shows it, `upstream set ID` changes it."
        ) from None


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
        "embedded": row.embedded,
    }
