"""What rows say in the words of a file, which goes when the file does."""

import json

from batches import codes
from batches.models import Batch, File, Result

LINES = 5_000  # of which custom_ids are dropped at once: each holds the write lock briefly


def quotes(file: File) -> None:
    """What the errors of its batches quote of an input. Codes and lines stay, with what the codes mean."""
    for pk, text in Batch.objects.filter(input_file=file).exclude(errors="").values_list("pk", "errors"):
        errors = json.loads(text)
        errors["data"] = [_unquoted(entry["code"], entry["line"]) for entry in errors["data"]]
        Batch.objects.filter(pk=pk).update(errors=json.dumps(errors))


def _unquoted(code: str, line: int | None) -> dict[str, object]:
    meaning = codes.of_lines().get(code)
    return {"code": code, "line": line, "message": meaning.cause if meaning else "", "param": None}


def names(batch_pk: int) -> None:
    """The custom_ids of its lines. What a crash left is done again."""
    rows = Result.objects.filter(batch=batch_pk).exclude(custom_id="")
    while some := list(rows.order_by("line").values_list("line", flat=True)[:LINES]):
        rows.filter(line__gte=some[0], line__lte=some[-1]).update(custom_id="")
