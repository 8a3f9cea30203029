"""Another name for the model, on the way out and back; every other field stays the bytes it was. Pure."""

import msgspec

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


def replace_model(body: bytes, name: str) -> bytes:
    """`body`, a JSON object, with its top-level `model` set to `name` where it has one."""
    fields = _fields.decode(body)
    if "model" not in fields:
        return body
    fields["model"] = msgspec.Raw(msgspec.json.encode(name))
    return msgspec.json.encode(fields)
