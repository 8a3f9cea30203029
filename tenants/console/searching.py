"""How every list of the console is searched and filtered: through indexes, however long it is."""

from collections.abc import Iterator
from typing import Any, ClassVar

from django.contrib import admin
from django.contrib.admin.views.main import ORDER_VAR, ChangeList
from django.core.exceptions import FieldDoesNotExist
from django.core.paginator import Paginator
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest
from django.utils.functional import cached_property

COUNTED = 10_000  # rows; beyond this a list is searched, not paged
FOUND = 200  # rows of another table that a search goes by
LONGEST = 200  # characters of what is searched or filtered for
DIGITS = 18  # of a number
TENANT = ("tenant__name", "tenant__public_id__exact")  # a part of its name, or its whole id
_LOOKUPS = ("exact", "iexact", "startswith", "istartswith", "icontains")
_OF_FILTERS = ("", "__exact", "__isnull", "__gte", "__lt", "__isempty")


class CappedPaginator(Paginator):  # type: ignore[type-arg]  # generic in the stubs alone
    """Counts no further than COUNTED: to count a table of millions would take longer than to show the page."""

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        counted: int = rows.order_by()[:COUNTED].count()
        return counted


class List(ChangeList):
    """Sorted by the columns of `sortable_by` alone, whatever the address says: others have no index."""

    is_capped = False

    def __init__(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().__init__(request, *args, **kwargs)
        self.is_capped = self.result_count >= COUNTED

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> Any:
        if not self.sortable_by:
            self.params.pop(ORDER_VAR, None)
        return super().get_ordering(request, queryset)


class Searched:
    """For an admin. What is typed is one word, spaces and all.

    `search_fields` end in a lookup (`public_id__startswith`), else a part is enough: for small tables. One of another
    table (`tenant__name`) is looked up there first, for at most FOUND rows, so that this table is asked by its own
    index. `is_small`: a table that stays short enough to be sorted by any column.
    """

    is_small = False
    search_fields: ClassVar[Any] = ()
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER  # they count the whole table, once for each choice
    paginator: Any = CappedPaginator
    list_per_page = 50

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return List

    def get_sortable_by(self, request: HttpRequest) -> Any:
        return self.get_list_display(request) if self.is_small else ()  # type: ignore[attr-defined]

    def get_search_results(self, request: HttpRequest, rows: QuerySet[Any], term: str) -> tuple[QuerySet[Any], bool]:
        term = term.strip()
        if not term:
            return rows, False
        return rows.filter(matching(rows.model, self.search_fields, term)), False

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """Those of the filters beside the list, and whole values of columns with an index. What no column can hold is
        no value."""
        if "\0" in value or len(value) > LONGEST or (len(value) > DIGITS and value.lstrip("+-").isdigit()):
            return False
        return lookup in self._of_filters() or _is_indexed(self.model, lookup)  # type: ignore[attr-defined]

    def _of_filters(self) -> Iterator[str]:
        for each in self.list_filter:  # type: ignore[attr-defined]
            name = each[0] if isinstance(each, tuple) else each
            if isinstance(name, str):
                yield from (name + suffix for suffix in _OF_FILTERS)
            else:
                yield name.parameter_name


def matching(model: type[Model], searched: Any, term: str) -> Q:
    """Rows of the model that a search in these fields finds."""
    if len(term) > LONGEST or "\0" in term:
        return Q(pk__in=[])
    found = Q(pk__in=[])
    foreign: dict[str, list[str]] = {}
    for name in searched:
        head, _, rest = name.partition("__")
        if rest and rest not in _LOOKUPS:
            foreign.setdefault(head, []).append(rest)
        else:
            found |= _one(model, name, term)
    for head, names in foreign.items():
        other: Any = model._meta.get_field(head).related_model
        wanted = matching(other, names, term)
        if keys := list(other._base_manager.filter(wanted).order_by().values_list("pk", flat=True)[:FOUND]):
            found |= Q(**{f"{head}__in": keys})
    return found


def _one(model: type[Model], name: str, term: str) -> Q:
    """What a number can't be is not asked for."""
    field: Any = model._meta.get_field(name.partition("__")[0])
    if "Integer" in field.get_internal_type() or "AutoField" in field.get_internal_type():
        return Q(**{name: int(term)}) if term.isascii() and term.isdigit() and len(term) <= DIGITS else Q(pk__in=[])
    return Q(**{name if "__" in name else f"{name}__icontains": term})


def _is_indexed(model: type[Model], lookup: str) -> bool:
    """Whether it is `column__exact`, or `other__id__exact`, of a column that an index begins with."""
    name, _, rest = lookup.partition("__")
    try:
        field: Any = model._meta.get_field(name)
    except FieldDoesNotExist:
        return False
    if field.is_relation:
        key = field.related_model._meta.pk.name if field.many_to_one or field.one_to_one else ""
        return rest in ("exact", f"{key}__exact") and _leads(model, field)
    return rest == "exact" and _leads(model, field)


def _leads(model: type[Model], field: Any) -> bool:
    if field.unique or field.db_index:
        return True
    led = [index.fields[0] for index in model._meta.indexes if index.fields and index.condition is None]
    led += [constraint.fields[0] for constraint in model._meta.total_unique_constraints if constraint.fields]
    return field.name in [name.lstrip("-") for name in led]
