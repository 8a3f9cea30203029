"""What the site does that GitHub does not: pages made of the files at the top, the list of decisions, links to code."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the tests read this where MkDocs is not installed
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\((?!https?:|mailto:|#)([^)\s]+)\)")
FENCE = re.compile(r"^(```.*?^```$)", re.DOTALL | re.MULTILINE)
FIGURE = re.compile(r"^# (\d+)\. (.*?)(?: \((\d{4}-\d\d-\d\d)\))?$", re.MULTILINE)
BRANCH = "blob/main"
OTHER_HOST = r"""["']?(?:https?:)?//"""
FETCHED = re.compile(
    rf"<(?:script|img|iframe|source)\b[^>]*\bsrc={OTHER_HOST}[^>]*>"
    rf"|<link\b(?![^>]*\brel=[\"']?canonical)[^>]*\bhref={OTHER_HOST}[^>]*>|url\({OTHER_HOST}[^)]*\)"
)

# of the site's pages those that are files elsewhere
ELSEWHERE = {
    "quickstart.md": "README.md",
    "settings.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
    "security/index.md": "SECURITY.md",
    "benchmarks.md": "benchmarks/README.md",
    "deployment.md": "deploy/README.md",
}
# README is the entry on GitHub; here sections of it are pages
OF_README = {
    "quickstart.md": ("Quickstart", ("Try it", "Send a batch", "The dashboard", "The console")),
    "settings.md": ("Settings and limits", ("Settings", "Limits")),
}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    config.nav = _with_decisions(config.nav)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    from mkdocs.structure.files import File

    for page, source in ELSEWHERE.items():
        text = (ROOT / source).read_text()
        files.append(
            File.generated(config, page, content=of_readme(text, *OF_README[page]) if page in OF_README else text)
        )
    files.append(File.generated(config, "site/icon.svg", abs_src_path=str(ROOT / "static/icon.svg")))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    if page.file.src_uri == "decisions/README.md":
        markdown += "\n" + "\n".join(f"- [{title}]({name})" for name, title in reversed(decisions()))
    return relinked(markdown, page.file.src_uri, config.repo_url or "")


def on_post_build(config: MkDocsConfig) -> None:
    from mkdocs.exceptions import PluginError

    for path in Path(config.site_dir).rglob("*"):
        if path.suffix in (".html", ".css") and (found := fetched_elsewhere(path.read_text())):
            raise PluginError(f"{path}: its reader's browser would ask another host: {found}")


def fetched_elsewhere(text: str) -> str | None:
    """What a browser would fetch from another host for this HTML or CSS."""
    found = FETCHED.search(text)
    return found and found[0]


def of_readme(readme: str, title: str, wanted: tuple[str, ...]) -> str:
    """A page of some of its sections."""
    sections = re.split(r"^(?=## )", readme, flags=re.MULTILINE)
    return f"# {title}\n\n" + "".join(each for each in sections if each.partition("\n")[0][3:] in wanted)


def decisions() -> list[tuple[str, str]]:
    """(file name, its number, title and date), the oldest first."""
    found = []
    for path in sorted((ROOT / "docs/decisions").glob("[0-9]*.md")):
        number, title, date = FIGURE.findall(path.read_text())[0]
        found.append((path.name, f"{number}. {title}" + (f" ({date})" if date else "")))
    return found


def _with_decisions(entry: object) -> object:
    """The nav, with every decision in place of `decisions/`."""
    if entry == "decisions/":
        pages = [{title.partition(" (")[0]: f"decisions/{name}"} for name, title in reversed(decisions())]
        return ["decisions/README.md", *pages]
    if isinstance(entry, list):
        return [_with_decisions(each) for each in entry]
    if isinstance(entry, dict):
        return {title: _with_decisions(each) for title, each in entry.items()}
    return entry


def relinked(markdown: str, page: str, repository: str) -> str:
    """The text with its links as the site has them; code blocks stay as they are."""
    parts = FENCE.split(markdown)
    source = PurePosixPath(ELSEWHERE.get(page, f"docs/{page}")).parent

    def link(match: re.Match[str]) -> str:
        words, (path, _, anchor) = match[1], match[2].partition("#")
        found = target(normpath(source / path), anchor)
        if found is not None:
            return f"[{words}]({relpath(found, PurePosixPath(page).parent)}{'#' + anchor if anchor else ''})"
        if repository:
            return f"[{words}]({repository.rstrip('/')}/{BRANCH}/{normpath(source / path)})"
        return f"`{words}`" if re.fullmatch(r"[\w./*-]+", words) else words

    return "".join(part if part.startswith("```") else LINK.sub(link, part) for part in parts)


def target(path: str, anchor: str) -> str | None:
    """The site's page for a file of the source; None when it has none."""
    if path == "README.md":
        return "settings.md" if anchor in ("settings", "limits") else "quickstart.md"
    pages = {source: page for page, source in ELSEWHERE.items()}
    if path in pages:
        return pages[path]
    return path.removeprefix("docs/") if path.startswith("docs/") and (ROOT / path).is_file() else None
