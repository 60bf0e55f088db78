"""What a shell completes of a configuration: presets and files, keys, and the values of keys that have few."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from study.config import available_presets
from study.config_reference import Schema, json_schema, sections_in


def configurations(prefix: str, **_: Any) -> list[str]:
    """Presets, and YAML files."""
    from argcomplete.completers import FilesCompleter

    return [*available_presets(), *FilesCompleter(["yaml", "yml"])(prefix)]


def settings(prefix: str, **_: Any) -> list[str]:
    """``KEY=`` for every key, and ``KEY=VALUE`` once a key stands there."""
    key, equals, _value = prefix.partition("=")
    schema = json_schema()
    found = dict(_keys(schema, schema["$defs"], ""))
    if not equals:
        return [f"{name}=" for name in found]
    return [f"{key}={value}" for value in _values(found.get(key, {}))]


def _keys(section: Schema, sections: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    for key, value in section["properties"].items():
        inside = [name for name, below in sections_in(value) if not below]
        for name in inside:
            yield from _keys(sections[name], sections, f"{path}{key}.")
        if not inside:
            yield f"{path}{key}", value


def _values(value: Schema) -> Iterator[str]:
    yield from map(str, value.get("enum", ()))
    yield from map(str, [value["const"]] if "const" in value else ())
    yield from ("true", "false") if value.get("type") == "boolean" else ()
    for one in value.get("anyOf", ()):
        yield from _values(one)
