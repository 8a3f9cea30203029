"""Forms that show what they would change beside what is, and ask again before what may be a slip of a digit."""

import hashlib
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from django import forms
from django.http import HttpRequest

ASKED = ("seen", "sure")  # the fields of Twice
SLIP = 10  # times dearer or cheaper
LOOK = "Nothing is stored yet. Compare what follows with what is in force, then save again."
SURE = f"One of these becomes {SLIP} times dearer or cheaper, or more, or free: tick the box if that is meant."
SAME = "This is in force already: nothing would change."


@dataclass(frozen=True)
class Row:
    """A figure of the comparison: as it is shown, and what it is worth; None: not to be measured."""

    name: str
    before: str
    after: str
    worth: tuple[int, int] | None = None

    @property
    def change(self) -> str:
        if self.before == self.after:
            return "as before"
        if self.worth is None or not self.worth[0]:
            return "changed"
        before, after = self.worth
        percent = Fraction(100 * (after - before), before)
        return f"{float(percent):+,.1f}%" if after else "free"

    @property
    def is_slip(self) -> bool:
        """SLIP times or more, either way; from or to nothing, too."""
        if self.worth is None or self.worth[0] == self.worth[1]:
            return False
        low, high = sorted(self.worth)
        return high >= SLIP * low


class Twice(forms.Form):
    """What the second time says of the first."""

    seen = forms.CharField(required=False, widget=forms.HiddenInput, label="")
    sure = forms.BooleanField(required=False, widget=forms.HiddenInput, label="Yes, it is meant")


class Version(Twice):
    """Saved at once where nothing was in force, and at the second time where something was, as it was shown."""

    heads = ("USD per million tokens", "In force", "New")
    rows: tuple[Row, ...] = ()
    notes: tuple[str, ...] = ()

    def in_force(self) -> Any:
        """The version that the one of these cleaned fields takes the place of, held until the transaction's end."""
        raise NotImplementedError

    def compared(self, before: Any) -> tuple[Row, ...]:
        raise NotImplementedError

    def remarks(self) -> tuple[str, ...]:
        """What else is to be known before it is saved."""
        return ()

    def clean(self) -> None:
        super().clean()
        if self.errors:
            return
        before = self.in_force()
        rows = self.compared(before)
        is_slip = any(row.is_slip for row in rows)
        if before is None and not is_slip:
            return
        if all(row.before == row.after for row in rows):
            raise forms.ValidationError(SAME)
        shown = hashlib.sha256(repr((getattr(before, "pk", 0), rows)).encode(errors="replace")).hexdigest()
        is_seen = self.cleaned_data["seen"] == shown
        if is_seen and (self.cleaned_data["sure"] or not is_slip):
            return
        _ask(self, rows, shown, is_slip)
        raise forms.ValidationError(SURE if is_slip else LOOK)


def _ask(form: Any, rows: tuple[Row, ...], shown: str, is_slip: bool) -> None:
    """Show the comparison, and what was typed, in a form that knows that it was shown."""
    form.rows, form.notes = rows, form.remarks()
    form.data = form.data.copy()
    form.data["seen"] = shown
    form.data.pop("sure", None)
    if is_slip:
        form.fields["sure"].widget = forms.CheckboxInput()


class Comparing:
    """For an admin whose form to add is a Version."""

    add_form_template: Any = "admin/version.html"

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> Any:
        context["compared"] = form = context["adminform"].form
        context |= {"show_save_and_add_another": False, "show_save_and_continue": False}
        if getattr(form, "rows", ()):
            context["errors"] = None  # nothing is wrong: it is asked
        return super().render_change_form(request, context, *args, **kwargs)  # type: ignore[misc]
