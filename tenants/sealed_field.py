"""The column of a sealed secret: text is sealed as it is written, and read as a Sealed, which opens it when asked."""

from typing import TYPE_CHECKING, Any

from django.core.exceptions import FieldError
from django.db import models
from django.db.models.lookups import Exact, Lookup
from django.db.models.query_utils import DeferredAttribute

from tenants import sealed
from tenants.sealed import Sealed

if TYPE_CHECKING:
    from django.db.models.expressions import Combinable

    _Text = models.TextField[str | Sealed | Combinable, Sealed]
else:
    _Text = models.TextField


class _Secret(DeferredAttribute):
    """An attribute that turns text into a Sealed at once: no instance holds it bare."""

    field: Any

    def __set__(self, instance: Any, value: Any) -> None:
        instance.__dict__[self.field.attname] = self.field.to_python(value)


class SealedField(_Text):
    """A secret for one `purpose`. Columns of the same purpose may hold each other's values, others may not.

    It is in no form. A query may ask whether it is empty, still the very Sealed that was read, or `lost`: sealed with
    none of the keys of now. All else raises FieldError: two tokens of one secret differ, so nothing would be found.
    """

    descriptor_class = _Secret

    def __init__(self, *args: Any, purpose: str, **kwargs: Any) -> None:
        self.purpose = purpose
        super().__init__(*args, **{**kwargs, "editable": False})

    def deconstruct(self) -> Any:
        name, path, args, kwargs = super().deconstruct()
        del kwargs["editable"]
        return name, path, args, {**kwargs, "purpose": self.purpose}

    def from_db_value(self, value: str | None, *_: Any) -> Sealed | None:
        return None if value is None else Sealed(self.purpose, value)

    def to_python(self, value: Any) -> Any:
        """Text becomes a secret; what is no text (None, an expression) stays."""
        if isinstance(value, Sealed) and value.purpose != self.purpose:
            raise TypeError(f"{self.name} is for a {self.purpose}, not for a {value.purpose}")
        return Sealed(self.purpose, None, value) if isinstance(value, str) else value

    def get_prep_value(self, value: Any) -> Any:
        value = self.to_python(value)
        return value.stored if isinstance(value, Sealed) else value

    def value_to_string(self, obj: Any) -> str:
        """Of dumpdata, which writes files."""
        raise TypeError(f"{self.name} is a sealed secret: back up the database itself")

    def get_lookup(self, lookup_name: str) -> Any:
        found = {"exact": _Same, "isnull": models.lookups.IsNull, "lost": _Lost}.get(lookup_name)
        if found is None:
            raise FieldError(f"{self.name} is sealed: no query can look into it ({lookup_name}).")
        return found


class _Same(Exact):
    """Empty, or nothing was written since it was read."""

    def get_prep_lookup(self) -> Any:
        if self.rhs == "" or isinstance(self.rhs, Sealed):
            return super().get_prep_lookup()
        raise FieldError(f"{self.lhs.output_field.name} is sealed: no query can find one by its text.")


class _Lost(Lookup):
    """Whether it was sealed with a key that is not known here, as its id says."""

    lookup_name, prepare_rhs = "lost", False

    def as_sql(self, compiler: Any, connection: Any) -> Any:
        column, given = self.process_lhs(compiler, connection)
        known = [f"{prefix}%" for prefix in sealed.known_prefixes()]
        opens = " OR ".join([f"{column} = ''", *(f"{column} LIKE %s" for _ in known)])
        params = [part for pattern in known for part in (*given, pattern)]
        return f"{'NOT ' if self.rhs else ''}({opens})", [*given, *params]
