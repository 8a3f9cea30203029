"""The sources of the documentation's site: links lead somewhere, every page is in the nav, nothing is fetched elsewhere."""

import importlib.util
import re
import types
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.service import ROOT

pytestmark = pytest.mark.sqlite_only
FOLDERS = ("", "docs", "docs/decisions", "docs/security", "docs/tutorials", "deploy", "benchmarks", "static/vendor")
PAGES = sorted(path for folder in FOLDERS for path in (ROOT / folder).glob("*.md"))
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)\s]+)\)")
CODE = re.compile(r"^( *)```.*?^\1```$", re.DOTALL | re.MULTILINE)


def module() -> types.ModuleType:
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs/site/hooks.py")
    assert spec and spec.loader
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


hooks: Any = module()


def prose(path: Path) -> str:
    """The page without its code."""
    return re.sub(r"`[^`\n]*`", "code", CODE.sub("", path.read_text()))


def anchors(path: Path) -> set[str]:
    """Those of its headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", CODE.sub("", path.read_text()), re.MULTILINE)
    plain = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading) for heading in headings)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in plain}


def test_links_lead_somewhere() -> None:
    astray = []
    for page in PAGES:
        for link in LINK.findall(prose(page)):
            path, _, anchor = link.partition("#")
            found = (page.parent / path).resolve() if path else page
            is_there = ROOT in found.parents and found.exists()
            if not is_there or (anchor and anchor not in anchors(found)):
                astray.append(f"{page.relative_to(ROOT)}: {link}")
    assert not astray
    assert len(PAGES) > 70


class Loader(yaml.SafeLoader):
    """MkDocs' own tags mean nothing here."""


Loader.add_multi_constructor("", lambda loader, suffix, node: None)


def nav() -> list[str]:
    def pages(entry: Any) -> list[str]:
        match entry:
            case str():
                return [entry]
            case dict():
                return pages(list(entry.values()))
            case _:
                return [page for each in entry for page in pages(each)]

    loader = Loader((ROOT / "mkdocs.yml").read_text())
    return pages(loader.get_single_data()["nav"])


def test_every_page_is_in_the_nav_once_and_every_name_in_it_is_a_page() -> None:
    written = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    decisions = {page for page in written if page.startswith("decisions/")}
    assert sorted(nav()) == sorted(written - decisions | {"decisions/"} | set(hooks.ELSEWHERE))
    assert len(decisions) == len(hooks.decisions()) + 1
    assert all((ROOT / source).is_file() for source in hooks.ELSEWHERE.values())


def test_pages_of_the_readme_are_whole() -> None:
    for title, wanted in hooks.OF_README.values():
        page = hooks.of_readme((ROOT / "README.md").read_text(), title, wanted)
        assert re.findall("^##? (.*)$", CODE.sub("", page), re.MULTILINE) == [title, *wanted]


def test_no_page_has_a_diagram_whose_script_would_come_from_another_host() -> None:
    assert [path.name for path in PAGES if re.search("^ *```mermaid", path.read_text(), re.MULTILINE)] == []


@pytest.mark.parametrize(
    ("text", "is_found"),
    [
        ('<script src="https://unpkg.com/x.js">', True),
        ('<link rel="stylesheet" href="//fonts.example.com/a.css">', True),
        ("<img alt src=http://example.com/a.png>", True),
        ("a { background: url('https://example.com/b') }", True),
        ('<a href="https://example.com">', False),
        ('<script src="../x.js"></script><link rel="icon" href="site/icon.svg">', False),
        ('<link rel="canonical" href="https://docs.example.com/api.html">', False),
    ],
)
def test_what_would_be_fetched_from_another_host_fails_the_build(text: str, is_found: bool) -> None:
    assert bool(hooks.fetched_elsewhere(text)) is is_found


@pytest.mark.parametrize(
    ("page", "text", "there"),
    [
        (
            "api.md",
            "[a](errors.md#x) [b](#y) [c](https://c.example)",
            "[a](errors.md#x) [b](#y) [c](https://c.example)",
        ),
        ("index.md", "[Q](../README.md#try-it)", "[Q](quickstart.md#try-it)"),
        ("operating.md", "[S](../README.md#settings)", "[S](settings.md#settings)"),
        ("security/asvs.md", "[S](../../SECURITY.md)", "[S](index.md)"),
        ("quickstart.md", "[x](docs/api.md#files) [y](LICENSE)", "[x](api.md#files) [y](CODE/LICENSE)"),
        ("changelog.md", "[x](docs/decisions/0001-runner-turns.md)", "[x](decisions/0001-runner-turns.md)"),
        ("benchmarks.md", "[x](../docs/scaling.md) [y](report.py)", "[x](scaling.md) [y](CODE/benchmarks/report.py)"),
        ("decisions/0001-runner-turns.md", "[r](../../batches/api/jobs.py)", "[r](CODE/batches/api/jobs.py)"),
        ("architecture.md", "![The parts](parts.svg)", "![The parts](parts.svg)"),
        ("api.md", "```\n[a](../README.md)\n```", "```\n[a](../README.md)\n```"),
    ],
)
def test_links_of_the_site(page: str, text: str, there: str) -> None:
    code = "https://example.com/code"
    assert hooks.relinked(text, page, code) == there.replace("CODE", f"{code}/blob/main")


def test_without_a_repository_code_is_named_and_not_linked() -> None:
    text = "[runner.py](../batches/engine/runner.py), [the way](../x.py)"
    assert hooks.relinked(text, "api.md", "") == "`runner.py`, the way"
