"""docs/security against the standard and the tests: every requirement is answered once, by a test that there is."""

import ast
import re
from functools import cache

import pytest

from tests.service import ROOT

pytestmark = pytest.mark.sqlite_only  # pages are the same on both
PAGE, TOP_10 = "docs/security/asvs.md", "docs/security/api-top-10.md"
COLUMNS = {"Met": 4, "Does not apply": 4, "Not met": 5}  # of each chapter's tables, by the heading they stand under
NAMED = re.compile(r"\[`(\w+)`\]\(\.\./\.\./(tests/[\w/]+\.py)\)")


@cache
def named_in(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text())
    found = (each for each in ast.walk(tree) if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef))
    return frozenset(each.name for each in found if each.name.startswith("test_"))


def required() -> set[str]:
    lines = (ROOT / "tests/data/asvs-5.0.0.txt").read_text().splitlines()
    return {line.partition(" ")[0] for line in lines if not line.startswith("#")}


def rows(page: str) -> list[tuple[str, list[str]]]:
    """Each row of a requirement, and the heading of level 2 above it."""
    found, heading = [], ""
    for line in page.splitlines():
        if line.startswith("## "):
            heading = line[3:]
        if re.match(r"\| (V\d|API\d)", line):
            found.append((heading, [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]))
    return found


def faults(page: str, wanted: set[str]) -> list[str]:
    found, seen = [], []
    for heading, cells in rows(page):
        seen.append(cells[0])
        if len(cells) != COLUMNS.get(heading, 0) or not all(cells):
            found.append(f"{cells[0]}: a cell is missing or empty")
        named = NAMED.findall(cells[-1])
        if not named:
            found.append(f"{cells[0]}: no test")
        for name, path in named:
            if not (ROOT / path).is_file() or name not in named_in(path):
                found.append(f"{cells[0]}: there is no {path}::{name}")
    found += [f"{name}: {seen.count(name)} rows" for name in wanted if seen.count(name) != 1]
    return found + [f"{name}: unknown" for name in set(seen) - wanted]


def test_the_list_is_the_standards() -> None:
    lines = [line for line in (ROOT / "tests/data/asvs-5.0.0.txt").read_text().splitlines() if not line.startswith("#")]
    assert len(lines) == len(required()) == 253
    assert len([line for line in lines if line.endswith(" 1")]) == 70, "of level 1"


def test_every_requirement_has_its_row_and_every_row_its_test() -> None:
    assert faults((ROOT / PAGE).read_text(), required()) == []


def test_the_ten_risks_have_their_tests() -> None:
    assert faults((ROOT / TOP_10).read_text(), {f"API{number}:2023" for number in range(1, 11)}) == []


HERE = "[`test_a_broken_row_is_found`](../../tests/test_asvs.py)"
ROW = f"## Met\n| V1.1.1 | what | how | {HERE} |"


@pytest.mark.parametrize(
    ("page", "said"),
    [
        (ROW, []),
        (ROW.replace("how", " "), ["V1.1.1: a cell is missing or empty"]),
        (ROW.replace("| how ", ""), ["V1.1.1: a cell is missing or empty"]),
        (ROW.replace("a_broken", "no_broken"), ["V1.1.1: there is no tests/test_asvs.py::test_no_broken_row_is_found"]),
        (ROW.replace("asvs.py", "none.py"), ["V1.1.1: there is no tests/test_none.py::test_a_broken_row_is_found"]),
        (ROW.replace(HERE, "TODO"), ["V1.1.1: no test"]),
        (f"{ROW}\n{ROW}", ["V1.1.1: 2 rows"]),
        (ROW.replace("V1.1.1", "V1.1.9"), ["V1.1.1: 0 rows", "V1.1.9: unknown"]),
        (ROW.replace("Met", "Notes"), ["V1.1.1: a cell is missing or empty"]),
    ],
)
def test_a_broken_row_is_found(page: str, said: list[str]) -> None:
    assert faults(page, {"V1.1.1"}) == said


@pytest.mark.parametrize(
    ("heading", "words"),
    [
        ("Input", ["JSONL", "100 MB", "512", "combined"]),
        ("Limits of use", ["tenant", "24 hours", "1,200", "costly"]),
        ("Ways in", ["password", "passkey", "API key", "invitation", "five minutes", "words of this service"]),
        ("Sessions", ["days", "at once", "single sign-on"]),
        ("Who may do what", ["scope", "role", "field", "404"]),
        ("Cryptography", ["Ed25519", "SHA-256", "PBKDF2", "SECRET_KEY", "TLS", "Rotate"]),
        ("Data", ["Content", "Secret", "Personal", "Accounting", "how long"]),
        ("Connections", ["upstream", "webhook", "Stripe", "SMTP", "S3", "PostgreSQL"]),
        ("Logs", ["stderr", "UTC", "audit trail", "never"]),
        ("Parts of others", ["days", "requirements.txt", "PyPI"]),
    ],
)
def test_the_inventory_says_it(heading: str, words: list[str]) -> None:
    page = (ROOT / "docs/security/inventory.md").read_text()
    chapter = page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    assert [word for word in words if word not in chapter] == []


def test_every_part_is_pinned() -> None:
    """requirements*.txt are the list of what is shipped: each line names one version."""
    for path in ROOT.glob("requirements*.txt"):
        lines = [line.partition("#")[0].strip() for line in path.read_text().splitlines()]
        assert all(re.fullmatch(r"(-r .+|[\w.\[\],-]+==[\w.]+)", line) for line in lines if line), path


def test_the_page_counts_itself() -> None:
    page = (ROOT / "docs/security/asvs.md").read_text()
    rows = {part.partition("\n")[0]: len(re.findall(r"^\| V\d", part, re.MULTILINE)) for part in page.split("\n## ")}
    said = re.search(r"(\d+) are met, (\d+) do not apply,\s(\d+) are", page)
    assert said and list(map(int, said.groups())) == [rows["Met"], rows["Does not apply"], rows["Not met"]]
