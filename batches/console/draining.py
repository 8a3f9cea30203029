"""What a shift does to upstreams: drain, enable, test, delete."""

from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest

from batches import upstreams
from batches.console.remaining import left_without
from batches.models import Upstream
from batches.probing import probe_all
from tenants import trail
from tenants.console import auditing
from tenants.console.asking import Answer, LeftAlone, asks, at_once

TESTED = 50  # upstreams at once
WHY = "Kept on the trail, with your name."


def _said(what: str, deleted: bool = False) -> Callable[[list[Any]], str]:
    """That, and what models are left with."""
    return lambda rows: "\n".join([what, *left_without(rows, deleted)])


@asks(
    "Drain",
    "batches.change_upstream",
    _said(
        "{these}: no request is sent there any more from about a second on. What is in flight is finished and kept, and"
        " charged as always. It stays so until you enable it."
    ),
    reason=WHY,
    unless=lambda row: None if row.enabled else "It is off already.",
)
def drain(request: HttpRequest, row: Upstream, answer: Answer) -> None:
    if not upstreams.switch(row, False, auditing.email(request), answer.reason):
        raise LeftAlone("It is off already, or gone.")


@asks(
    "Switch off at once",
    "batches.change_upstream",
    _said(
        "{these}: the requests in flight there are given up within a second, and their lines are sent elsewhere, as"
        " though they had never been sent. What the server has worked on them is lost; nobody is charged for it. For"
        " one that does harm: to lose nothing, drain it."
    ),
    reason=WHY,
    unless=lambda row: "It is off already, and nothing is in flight there." if row.severed else None,
)
def sever(request: HttpRequest, row: Upstream, answer: Answer) -> None:
    if not upstreams.switch(row, False, auditing.email(request), answer.reason, now=True):
        raise LeftAlone("It is off already, or gone.")


@asks(
    "Enable",
    "batches.change_upstream",
    "{these}: requests are sent there again, within a second, as many at once as its limit says. Test it first.",
    reason=WHY,
    unless=lambda row: "It is on already." if row.enabled else None,
    is_mild=True,
)
def enable(request: HttpRequest, row: Upstream, answer: Answer) -> None:
    if not upstreams.switch(row, True, auditing.email(request), answer.reason):
        raise LeftAlone("It is on already, or gone.")


@asks(
    "Delete",
    "batches.delete_upstream",
    _said(
        "{these} and the API key that is stored with it are removed, for good. Results and receipts keep its number; no"
        " batch and no charge is changed. To take a server out for a while, drain it instead.",
        deleted=True,
    ),
    reason=WHY,
    unless=upstreams.in_use,
)
def delete(request: HttpRequest, row: Upstream, answer: Answer) -> None:
    try:
        upstreams.delete(row.pk, auditing.email(request), answer.reason)
    except upstreams.InUse as why:
        raise LeftAlone(str(why)) from None


@at_once("Test now", "batches.change_upstream")
def test_now(request: HttpRequest, rows: list[Any]) -> None:
    """The rows of the list have no keys: they are read here, and go no further."""
    if len(rows) > TESTED:
        messages.error(request, f"These are more than {TESTED} at once: narrow the list down first. Nothing was done.")
        return
    asked = list(Upstream.objects.filter(pk__in=[row.pk for row in rows]).order_by("-pk"))
    probes = probe_all(asked)
    with transaction.atomic():
        for row, found in zip(asked, probes, strict=True):
            named = {"model": row.model, "base_url": row.base_url, "milliseconds": found.milliseconds}
            details = named | ({"problem": found.problem} if found.problem else {"models": found.models})
            trail.record(None, auditing.email(request), "upstream.tested", upstreams.target(row.pk), **details)
    for row, found in zip(asked, probes, strict=True):
        if found.problem:
            messages.warning(request, f"Test of {row}: {found.problem} ({found.milliseconds} ms).")
        else:
            others = f", {found.models} models in all" if found.models > 1 else ""
            messages.success(
                request, f"Test of {row}: answered in {found.milliseconds} ms, and lists the model{others}."
            )
