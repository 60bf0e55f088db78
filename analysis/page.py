"""Pages that are one file: styles, scripts and pictures inside, and a policy that forbids the browser to fetch anything.

What comes from data enters a page through Jinja's escaping or through ``json_for_script``, never as markup.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment

_MARKUP = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}


@cache
def asset(name: str) -> str:
    """A file of analysis/web as text."""
    return (files("analysis") / "web" / name).read_text(encoding="utf-8")


def json_for_script(value: Any) -> str:
    """``value`` as JSON that may stand in a script element: whatever it holds, it does not end that element.

    Raises ValueError for NaN and infinities, which JSON does not have.
    """
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).translate(_MARKUP)


def policy(*scripts: str) -> str:
    """A Content-Security-Policy by which a page fetches nothing and runs these ``scripts`` alone, known by their hashes."""
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes) or "'none'"
    rest = "img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    return f"default-src 'none'; script-src {allowed}; {rest}"


def data_url(content: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def render(template: str, values: Mapping[str, Any], *scripts: str) -> str:
    """The page of a template in analysis/web, which extends page.html.j2; ``scripts`` are those that it contains."""
    return environment().get_template(template).render(values, policy=policy(*scripts))


@cache
def environment() -> Environment:
    """Templates in analysis/web; whatever they show is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("analysis", "web")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
