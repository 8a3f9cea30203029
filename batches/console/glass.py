"""The one page of the console that shows a prompt and its answer: a line at a time, with a reason, told to its tenant.

The trail has it, in a transaction of its own, before anything is read: docs/decisions/0032-break-glass.md
"""

from typing import Any

from django import forms
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.views.decorators.http import require_http_methods

from batches.console.finding import NAMED
from batches.models import Batch, Result
from batches.web import line
from batches.web.line_list import LAST
from tenants import trail
from tenants.console import auditing
from tenants.console.asking import LONGEST
from tenants.errors import Refused

PERMISSION = "batches.break_glass"
SHORTEST = 10  # characters of a reason


class Question(forms.Form):
    """Which line, and why it has to be read."""

    line = forms.IntegerField(min_value=1, max_value=LAST, required=False, label="Line number", localize=False)
    custom_id = forms.CharField(
        max_length=512,
        required=False,
        strip=False,
        label="Or custom_id",
        widget=forms.TextInput(attrs={"size": 60}),
        help_text="Of a line that has a result; of several the first.",
    )
    reason = forms.CharField(
        widget=forms.TextInput(attrs={"size": 60}),
        min_length=SHORTEST,
        max_length=LONGEST,
        help_text=f"{SHORTEST} characters at least. The tenant's people read it on their audit trail, with your e-mail"
        " address and which line it was.",
    )

    def clean(self) -> dict[str, Any]:
        asked: dict[str, Any] = super().clean() or {}
        if not self.errors and (asked["line"] is None) == (asked["custom_id"] == ""):
            raise forms.ValidationError("Name one line: by its number, or by its custom_id.")
        return asked


@require_http_methods(["GET", "HEAD", "POST"])
def look(request: HttpRequest, pk: int, *, admin: Any) -> HttpResponse:
    """The form; when it is posted, the line."""
    if not (request.user.has_perm(PERMISSION) and admin.has_view_permission(request)):
        raise PermissionDenied
    batch = Batch.objects.select_related("tenant", *NAMED).defer(*admin.unseen).filter(pk=pk).first()
    if batch is None:
        raise Http404
    form = Question(request.POST or None)
    shown = _broken(request, batch, form.cleaned_data) if request.method == "POST" and form.is_valid() else {}
    context = {
        **admin.admin_site.each_context(request),
        "title": f"A line of {batch.public_id}",
        "opts": admin.opts,
        "batch": batch,
        "form": Question() if "panels" in shown else form,  # each line is asked for by itself
        **shown,
    }
    request.current_app = admin.admin_site.name
    headers = {"Cache-Control": "no-store, private"}
    return TemplateResponse(request, "admin/batches/batch/glass.html", context, headers=headers)


def _broken(request: HttpRequest, batch: Batch, asked: dict[str, Any]) -> dict[str, Any]:
    """The line's number and panels, or `missing`: why there are none. Noted before, and when nothing came of it."""
    which = {"line": asked["line"]} if asked["line"] is not None else {"custom_id": asked["custom_id"]}
    with transaction.atomic(durable=True):
        trail.record(
            batch.tenant, auditing.email(request), "glass.broken", batch.public_id, **which, reason=asked["reason"]
        )
    try:
        return _read(batch, asked)
    except Http404:
        missing = "The batch has no such line, or none with that custom_id and a result."
    except Refused as refused:
        missing = refused.message
    except OSError:
        missing = "The storage does not answer."
    trail.record(batch.tenant, auditing.email(request), "glass.empty", batch.public_id, **which)
    return {"missing": missing}


def _read(batch: Batch, asked: dict[str, Any]) -> dict[str, Any]:
    """Raises Http404, Refused, OSError."""
    of_batch = Result.objects.filter(batch=batch)
    if (number := asked["line"]) is None:
        result = of_batch.filter(custom_id=asked["custom_id"]).order_by("line").first()
        if result is None:
            raise Http404
        number = result.line
    else:
        result = of_batch.filter(line=number).first()
    with line.place():
        return {
            "number": number,
            "result": result,
            "panels": [line.asked(batch, number, result), line.answered(batch, result)],
        }
