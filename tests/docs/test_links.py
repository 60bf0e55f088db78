"""Every link of the documentation to a file, or to a heading of one, leads somewhere; nothing is fetched."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r"^( *)(```+|~~~+).*?^\1\2`*\s*$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)", re.DOTALL)
_LINK = re.compile(r"\]\(<?([^()\s>]+(?:\([^()\s]*\)[^()\s>]*)*)>?(?:\s+\"[^\"]*\")?\)")
_HEADING = re.compile(r"^ {0,3}#{1,6}\s+(.*?)\s*#*\s*$", re.MULTILINE)
_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)


def pages() -> list[str]:
    """The Markdown files that git has, or would take."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", "*.md"]
    return sorted(set(subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()))


def anchors(page: Path) -> set[str]:
    """What GitHub calls the headings: lower case, letters, digits, hyphens and underscores alone, spaces as hyphens, and a
    number after the second of a name."""
    found: set[str] = set()
    seen = Counter[str]()
    for heading in _HEADING.findall(_FENCE.sub("", page.read_text(encoding="utf-8"))):
        shown = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading)  # a link shows its text
        name = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        found.add(f"{name}-{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return found


def links(page: Path) -> Iterator[str]:
    text = _CODE.sub("", _FENCE.sub("", page.read_text(encoding="utf-8")))
    # A picture or code may be the text of a link: what it was is gone, its target is not.
    return (target for target in _LINK.findall(text) if not _ELSEWHERE.match(target))


def broken(page: Path, target: str) -> str | None:
    """What is wrong with a link of a page, None if nothing is."""
    path, _, anchor = target.partition("#")
    place = (ROOT / path.lstrip("/") if path.startswith("/") else page.parent / unquote(path)) if path else page
    if not place.exists():
        return f"{target}: no such file"
    if anchor and place.suffix == ".md" and unquote(anchor) not in anchors(place):
        return f"{target}: no such heading; there are {' '.join(sorted(anchors(place)))}"
    return None


@pytest.mark.parametrize("name", pages())
def test_links_lead_to_files_and_headings_that_are_there(name: str) -> None:
    page = ROOT / name
    assert [found for target in links(page) if (found := broken(page, target))] == []


def test_anchors_are_those_of_github(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# What is in `data.train`?\n## A [link](x.md) & _more_\n## Twice\n## Twice\n```\n# no heading\n```\n"
        "[a](#twice-1) [b](#twice-2) ![c](gone.png) `[d](no/link.md)` [e](https://example.org/x)\n",
        encoding="utf-8",
    )
    assert anchors(page) == {"what-is-in-datatrain", "a-link--_more_", "twice", "twice-1"}
    assert [target for target in links(page) if broken(page, target)] == ["x.md", "#twice-2", "gone.png"]
