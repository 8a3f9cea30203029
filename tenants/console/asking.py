"""Actions of the console that ask before they act: what will be done, to what, to how many, and why.

    class KeyAdmin(Plain):
        actions = (revoke,)

    @asks("Revoke", "tenants.revoke_apikey", "Programs that use {these} are refused from now on, for good.")
    def revoke(request: HttpRequest, key: ApiKey, answer: Answer) -> None:
        ...raises LeftAlone or Refused, or does it and notes it

The first POST to the list shows the page that asks, the second does it, each row in a transaction of its own. What an
action returns, a text, is said of its row. What harms nothing is done by the first: `at_once`.
"""

import secrets
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any, NamedTuple

from django import forms
from django.contrib import messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.text import capfirst

from tenants.errors import Refused

MOST = 200  # rows at once
LONGEST = 200  # characters of a reason


class LeftAlone(Exception):
    """Nothing is to be done to a row: why."""


class Answer(NamedTuple):
    """What the page that asked was answered."""

    reason: str
    once: str  # 32 hex digits that name the page: answered twice, it is done once


class Question(forms.Form):
    """Answered by a click; by a reason where one is asked."""

    reason = forms.CharField(max_length=LONGEST, strip=True, widget=forms.Textarea({"rows": 3, "autofocus": True}))
    once = forms.RegexField(r"^[0-9a-f]{32}\Z", widget=forms.HiddenInput)

    def __init__(self, *args: Any, reason: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if reason:
            self.fields["reason"].label, self.fields["reason"].help_text = "Reason", reason
        else:
            del self.fields["reason"]


Act = Callable[..., object]  # request, row, answer
Says = str | Callable[[list[Any]], str]


@dataclass(frozen=True)
class Asked:
    """An action that asks."""

    verb: str  # on the button
    permission: str
    says: Says
    reason: str
    form: type[Question]
    unless: Callable[[Any], str | None]
    is_mild: bool
    few: int | None

    def around(self) -> AbstractContextManager[Any]:
        """What one row is done in."""
        return transaction.atomic() if self.few is None else nullcontext()


def asks(  # noqa: PLR0913 - what a page that asks is made of
    verb: str,
    permission: str,
    says: Says,
    *,
    reason: str = "",
    form: type[Question] = Question,
    unless: Callable[[Any], str | None] = lambda row: None,
    is_mild: bool = False,
    few: int | None = None,
) -> Callable[[Act], Callable[..., Any]]:
    """An admin's action, of what does it to one row: called as `act(request, row, answer)`, it may raise LeftAlone,
    Refused.

    `verb` stands on the button. `says` is what will happen, or tells it of the rows that are not left alone, a
    paragraph a line; `{these}` in it are those ("3 keys"). `reason` is the help of the field for the reason, where one
    is asked. `unless(row)` says why a row would be left alone, None else. What `is_mild` takes nothing from anybody:
    its button is not red. What would hold a transaction for long makes its own, of so `few` rows at once.
    """

    def decorate(act: Act) -> Callable[..., Any]:
        asked = Asked(verb, permission, says, reason, form, unless, is_mild, few)

        @wraps(act)
        def action(admin: Any, request: HttpRequest, chosen: QuerySet[Any]) -> HttpResponse | None:
            return _answered(admin, request, chosen, asked, act)

        action.short_description = f"{verb}…"  # type: ignore[attr-defined]  # what Django reads
        action.asked = asked  # type: ignore[attr-defined]
        return action

    return decorate


def at_once(verb: str, permission: str) -> Callable[[Callable[[HttpRequest, list[Any]], None]], Callable[..., Any]]:
    """An admin's action that asks nothing: called as `act(request, rows)`, outside any transaction, it says itself what
    came of it."""

    def decorate(act: Callable[[HttpRequest, list[Any]], None]) -> Callable[..., Any]:
        @wraps(act)
        def action(admin: Any, request: HttpRequest, chosen: QuerySet[Any]) -> HttpResponse:
            act(request, list(chosen[: MOST + 1]))
            return _back(request)

        asked = Asked(verb, permission, "", "", Question, lambda row: None, True, None)
        action.short_description = verb  # type: ignore[attr-defined]  # what Django reads
        action.asked = asked  # type: ignore[attr-defined]
        return action

    return decorate


def may(request: HttpRequest, action: Any) -> bool:
    """Whether the person may do it."""
    return request.user.has_perm(action.asked.permission)


def buttons(admin: Any, request: HttpRequest, row: Any) -> list[tuple[str, str]]:
    """Names and words of the actions that a row's page offers: what would leave it alone is not among them."""
    offered = [(name, action) for name, (action, _, _) in admin.get_actions(request).items()]
    return [(name, action.short_description) for name, action in offered if action.asked.unless(row) is None]


def _answered(admin: Any, request: HttpRequest, chosen: QuerySet[Any], asked: Asked, act: Act) -> HttpResponse | None:
    most = asked.few or MOST
    rows = list(chosen[: most + 1])
    if len(rows) > most:
        messages.error(request, f"These are more than {most} at once: narrow the list down first. Nothing was done.")
        return None
    if not rows:
        messages.warning(request, "Nothing of this is there any more. Nothing was done.")
        return _back(request)
    confirmed = "confirmed" in request.POST
    make = partial(asked.form, reason=asked.reason)
    form = make(request.POST) if confirmed else make(initial={"once": secrets.token_hex(16)})
    if not confirmed or not form.is_valid():
        return _ask(admin, request, rows, asked, form)
    answer = Answer(form.cleaned_data.get("reason", ""), form.cleaned_data["once"])
    _do(admin, request, rows, asked, partial(act, request, answer=answer))
    return _back(request)


def _do(admin: Any, request: HttpRequest, rows: list[Any], asked: Asked, act: Callable[..., object]) -> None:
    """Each by itself: one that is refused keeps no other from it."""
    done = 0
    for row in rows:
        try:
            with asked.around():
                said = act(row)
            done += 1
            if isinstance(said, str):
                messages.success(request, said)
        except LeftAlone as why:
            messages.warning(request, f"Left alone: {row}: {why}")
        except Refused as refused:
            messages.warning(request, f"Left alone: {row}: {refused.message}")
    if done:
        messages.success(request, f"{asked.verb}: done to {_counted(admin, done)}.")


def _ask(admin: Any, request: HttpRequest, rows: list[Any], asked: Asked, form: forms.Form) -> HttpResponse:
    left = {row.pk: why for row in rows if (why := asked.unless(row))}
    taken = [row for row in rows if row.pk not in left]
    these = _counted(admin, len(taken))
    says = asked.says if isinstance(asked.says, str) else asked.says(taken)
    context = {
        **admin.admin_site.each_context(request),
        "title": f"{asked.verb}: {these}?" if taken else asked.verb,
        "opts": admin.opts,
        "says": says.replace("{these}", these, 1) if taken else "",
        "rows": rows,
        "taken": [admin.told(row) for row in taken],
        "left": [(admin.told(row), left[row.pk]) for row in rows if row.pk in left],
        "form": form,
        "verb": asked.verb,
        "danger": not asked.is_mild,
        "action": request.POST.get("action", ""),
        "checkbox": ACTION_CHECKBOX_NAME,
        "back": _way_back(request),
    }
    request.current_app = admin.admin_site.name
    return TemplateResponse(request, "admin/ask.html", context)


def _counted(admin: Any, count: int) -> str:
    name = admin.opts.verbose_name if count == 1 else admin.opts.verbose_name_plural
    return f"{count} {capfirst(name) if name.isupper() else name}"


def _way_back(request: HttpRequest) -> str:
    """The list with its filters, or the page of the row that was come from."""
    back = request.POST.get("back", "")
    safe = back.startswith("/") and url_has_allowed_host_and_scheme(back, None)
    return back if safe else request.get_full_path()


def _back(request: HttpRequest) -> HttpResponse:
    return HttpResponseRedirect(_way_back(request))
