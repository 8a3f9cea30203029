"""JSON Schema in few words. Every property of `record` is there in every answer; one without a value is null."""

from typing import Any

Shape = dict[str, Any]


def text(about: str = "", **rules: Any) -> Shape:
    return _about(about, {"type": "string", **rules})


def whole(about: str = "", **rules: Any) -> Shape:
    return _about(about, {"type": "integer", **rules})


def number(about: str = "", **rules: Any) -> Shape:
    return _about(about, {"type": "number", **rules})


def boolean(about: str = "", **rules: Any) -> Shape:
    return _about(about, {"type": "boolean", **rules})


def constant(value: Any, about: str = "") -> Shape:
    return _about(about, {"type": "string" if isinstance(value, str) else "boolean", "const": value})


def moment(about: str = "") -> Shape:
    """Unix seconds."""
    return whole(about, minimum=0, examples=[1795545816])


def maybe(shape: Shape, about: str = "") -> Shape:
    """The shape, or null."""
    if "$ref" in shape or "const" in shape or "enum" in shape:
        return _about(about, {"anyOf": [shape, {"type": "null"}]})
    return _about(about, {**shape, "type": [shape["type"], "null"]})


def listed(items: Shape, about: str = "", **rules: Any) -> Shape:
    return _about(about, {"type": "array", "items": items, **rules})


def record(about: str = "", /, **properties: Shape) -> Shape:
    """An object with all of these; clients ignore what they do not know."""
    return _about(about, {"type": "object", "properties": properties, "required": list(properties)})


def fields(about: str = "", needed: tuple[str, ...] = (), /, **properties: Shape) -> Shape:
    """An object that is sent: these fields and no others, of which only `needed` must be there."""
    shape: Shape = {"type": "object", "properties": properties, "additionalProperties": False}
    return _about(about, shape | ({"required": list(needed)} if needed else {}))


def table(values: Shape, about: str = "", **rules: Any) -> Shape:
    """An object whose keys are anybody's."""
    return _about(about, {"type": "object", "additionalProperties": values, **rules})


def ref(name: str) -> Shape:
    return {"$ref": f"#/components/schemas/{name}"}


def page(name: str) -> Shape:
    """A list object of `name`."""
    return record(
        "A page of a list. Ask for the next with `after` = `last_id` while `has_more` is true.",
        object=constant("list"),
        data=listed(ref(name)),
        first_id=maybe(text()),
        last_id=maybe(text()),
        has_more=boolean(),
    )


def _about(about: str, shape: Shape) -> Shape:
    return {**shape, "description": about} if about else shape
