"""What the pages of a batch's errors and lines ask of the database, on both."""

from batches import digest, lines
from batches.models import Result
from batches.web import line_list
from batches.web.line_list import Asked
from tests.conftest import Person
from tests.test_engine import Work
from tests.test_retry_batch import cancelled, ended, mixed
from tests.witness import Witness, request_line


def test_causes(owner: Person, witness: Witness, work: Work) -> None:
    batch = ended(owner, work, [*mixed(12), b"{"], on_invalid_line="skip")
    found = digest.groups(batch)
    assert [(each.cause, each.lines, each.line, each.custom_id) for each in found] == [
        ("400", 3, 2, "1"),
        ("422", 3, 3, "2"),
        ("upstream_redirect", 3, 4, "3"),
        ("invalid_json_line", 1, 13, ""),
    ]
    assert [each.messages[0].split()[0] for each in found] == ["witness:", "witness:", "The", "The"]
    assert [len(each.messages) for each in found] == [1] * 4, "of one kind"
    assert all(each.meaning and each.meaning.cure for each in found)
    assert digest.groups(cancelled(owner, 3))[0][:4] == ("batch_cancelled", "batch_cancelled", None, 3)


def test_lines(owner: Person, witness: Witness, work: Work) -> None:
    names = ["a", "ab", "aB", "A", "a%", "a_b", "é", "é😀x", "ß", "ss", "\\"]
    batch = ended(owner, work, [request_line(str(n), custom_id=name) for n, name in enumerate(names)])

    def found(name: str, after: int = 0, show: str = line_list.ALL) -> list[str]:
        rows = line_list._rows(batch, Asked(show, name, after))
        return [row.result.custom_id for row in rows if row.result]

    assert found("") == names and found("", after=9) == names[9:] and found("", show=line_list.FAILED) == []
    for name in [*names, "x", "_", "%", "\x00", "é😀", "a" * 600]:
        begun = [each for each in names if each.startswith(name) and each != name]
        assert found(name) == [name] * (name in names) + begun, name
    first, last = Result.objects.filter(batch=batch).order_by("line")[0], Result.objects.latest("line")
    assert b'"custom_id":"a"' in lines.answered(batch, first) and lines.answered(batch, last, 8) == b'{"id":"r'
    asked = lines.asked(batch, 8)
    assert asked and b"line:7" in asked.head and b"".join(asked.pieces()) == asked.head
    assert lines.asked(batch, 12) is None
