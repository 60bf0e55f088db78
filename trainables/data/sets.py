"""Several sources for one purpose, each under a name: the parts of a training mixture, or sets that are each scored.

One source alone has no name: it is written as it is, and stands here under the empty one.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, get_args

from pydantic import AfterValidator, BeforeValidator, GetJsonSchemaHandler, PlainSerializer

from trainables.data.settings import CaptionSource, QuestionSource
from trainables.models.spec import Typed, shaped_like

SET_NAME = r"[A-Za-z0-9_-]+"
_SOURCES = [get_args(branch)[0] for union in (CaptionSource, QuestionSource) for branch in get_args(get_args(union)[0])]
_KEYS = {key for source in _SOURCES for key in source.model_fields}


def key_of(purpose: str, name: str) -> str:
    """The configuration's key, below `data`, of a source."""
    return f"{purpose}.{name}" if name else purpose


def _named(given: Any) -> Any:
    """One source stands under the empty name, several stand as they are."""
    if not isinstance(given, dict):
        return {"": given}
    names = [key for key, value in given.items() if key not in _KEYS and isinstance(value, dict | Typed)]
    of_one = [key for key in given if key in _KEYS]
    if names and of_one and "" not in names:
        raise ValueError(
            f"{of_one[0]} is a key of a single source, but there are named ones beside it: {' '.join(names)}"
        )
    return given if names else {"": given}


def _check_name(name: str) -> str:
    if name and not re.fullmatch(SET_NAME, name):
        raise ValueError(f"the name of a set is letters, digits, '_' and '-', not {name!r}")
    return name


def _as_written(sources: dict[str, Typed]) -> Any:
    """A weight that is not set would look like one that single sources have."""
    written = {}
    for name, source in sources.items():
        written[name] = source.model_dump(mode="json")
        if written[name].get("weight") is None:
            written[name].pop("weight", None)
    return written.get("", written)


class _OneOrNamed:
    """What `_named` takes, for a JSON schema: one source, or several by their names."""

    def __get_pydantic_json_schema__(self, schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        named = handler(schema)
        (one,) = named["patternProperties"].values()
        return {"anyOf": [one, named]}


SetName = Annotated[str, AfterValidator(_check_name), shaped_like(SET_NAME)]
CaptionSets = Annotated[
    dict[SetName, CaptionSource], BeforeValidator(_named), PlainSerializer(_as_written), _OneOrNamed()
]
QuestionSets = Annotated[
    dict[SetName, QuestionSource], BeforeValidator(_named), PlainSerializer(_as_written), _OneOrNamed()
]
