"""Tell what a configuration may hold, as a JSON schema for editors or as pages for people.

    python -m study.config schema --to study.schema.json    # JSON Schema, draft 2020-12
    python -m study.config reference                        # docs/configuration.md, from the same classes

An editor with a YAML language server checks and completes a file whose first line is
    # yaml-language-server: $schema=study.schema.json
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from analysis.commands import CommandParser, command_parser, run_command
from study.config import StudyConfig
from trainables.recipe import Recipe

_REFERENCE = Path("docs", "configuration.md")
_TOWERS = ("image", "text")
Schema = Mapping[str, Any]


class _Generator(GenerateJsonSchema):
    """pydantic's, but for what it says of names, titles and defaults that a file would not have."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False  # a key's name again, in capitals

    def dict_schema(self, schema: Any) -> dict[str, Any]:
        found = super().dict_schema(schema)
        return {**found, "additionalProperties": False} if "patternProperties" in found else found

    def encode_default(self, dft: Any) -> Any:
        found = super().encode_default(dft)
        if not isinstance(found, dict) or found.keys() != {""}:
            return found
        return {key: value for key, value in found[""].items() if value is not None}  # one source, as it is written


def json_schema() -> dict[str, Any]:
    """The schema of a configuration's file: all that one can say of its keys one by one."""
    schema = StudyConfig.model_json_schema(schema_generator=_Generator)
    # `StudyConfig` fills in what the towers of a pretrained teacher's student lack.
    required = {tower: schema["$defs"][f"Student{tower.title()}Tower"].pop("required") for tower in _TOWERS}
    is_pretrained = {"properties": {"pretrained": {"type": "string"}}, "required": ["pretrained"]}
    return {
        "$schema": GenerateJsonSchema.schema_dialect,
        **schema,
        "title": "A study of polydistill",
        "if": {"properties": {"teacher": is_pretrained}, "required": ["teacher"]},
        "else": {
            "properties": {"student": {"properties": {tower: {"required": keys} for tower, keys in required.items()}}}
        },
    }


_OPENING = """# Configuration

Made from the typed configuration by `python -m study.config reference`: do not edit it by hand.

A study is one YAML file, and every key has a default, so that a file names what differs. `--set search.trials=40` sets a key by
its dotted name. What no single key can show, such as sources that share items, or sizes that do not fit each other, `study.run` and
`study.describe` say in one line before anything slow starts. What each setting is for is told in
[how a study works](how-a-study-works.md) and [strategies](strategies.md).

**In an editor.** `python -m study.config schema --to study.schema.json` writes a JSON schema (draft 2020-12) of all this. An editor
with a YAML language server (VS Code with the YAML extension, Neovim, Emacs, Helix, …) takes it from the first line of your file:

```yaml
# yaml-language-server: $schema=study.schema.json
name: my-study
```

It then completes keys, shows what they mean, and marks unknown keys, wrong types and numbers out of range.
"""
_RECIPE = """
# Recipes

A [search space](extending.md#a-dimension-of-the-search-space) says which of these keys are searched, by their dotted names, and a
file of recipes for `search.start_from` maps names to them. What neither names has its default.
"""
_BY_NAME = "by name: "
# Sections that several keys have.
_SHARED = {
    "EmojiCaptions": "A source of captions: `source: emoji`",
    "WideCaptions": "A source of captions: `layout: wide`",
    "PerLanguageCaptions": "A source of captions: `layout: per_language`",
    "EmojiQuestions": "A source of questions: `source: emoji_vqa`",
    "OwnQuestions": "A source of questions: `layout: cvqa`",
    "Translation": "`translation` of questions",
    "LayerMapping": "`image_mapping`, `text_mapping`",
}


def reference() -> str:
    """The configuration and the recipe as Markdown: a table a section."""
    pages = [_Pages(StudyConfig, "The study").text(), _RECIPE, _Pages(Recipe, "The recipe").text()]
    return "\n".join([_OPENING, *pages])


class _Pages:
    """The sections of a model, each once, in the order in which their keys stand."""

    def __init__(self, model: type[BaseModel], title: str) -> None:
        root = model.model_json_schema(schema_generator=_Generator)
        self._sections: dict[str, Schema] = {**root.get("$defs", {}), model.__name__: root}
        self._headings = {model.__name__: title}
        self._find(root, "")

    def text(self) -> str:
        return "\n".join(self._section(name) for name in self._headings)

    def _find(self, section: Schema, path: str) -> None:
        for key, value in section["properties"].items():
            for name, below in sections_in(value):
                if name not in self._headings:
                    self._headings[name] = _SHARED.get(name, f"`{path}{key}{below}`")
                    self._find(self._sections[name], f"{path}{key}{below}.")

    def _section(self, name: str) -> str:
        section = self._sections[name]
        rows = ["| key | value | default | what it does |", "|---|---|---|---|"]
        for key, value in section["properties"].items():
            default = "required" if key in section.get("required", ()) else self._default(value)
            does = " ".join(value.get("description", self._summary(value)).split())
            rows.append(f"| `{key}` | {self._in_words(value)} | {default} | {does} |")
        return "\n".join([f"## {self._headings[name]}", "", _sentence(section["description"]), "", *rows, ""])

    def _summary(self, value: Schema) -> str:
        """Of a key without a description, what its section is."""
        return next((str(self._sections[name]["description"]) for name, _ in sections_in(value)), "")

    def _default(self, value: Schema) -> str:
        default = value.get("default")
        if "$ref" in value and isinstance(default, dict):
            if not self._sections[_name(value["$ref"])].get("required"):
                return ""  # those of its keys
            default = {key: one for key, one in default.items() if one is not None}
        written = yaml.safe_dump(default, default_flow_style=True, sort_keys=False, width=10**6)
        return f"`{written.partition(chr(10))[0]}`"

    def _in_words(self, value: Schema) -> str:
        if "$ref" in value:
            heading = self._headings[_name(value["$ref"])]
            return f"[{heading[heading.index('`') :]}](#{_anchor(heading)})"
        if "const" in value:
            return f"`{value['const']}`"
        if "enum" in value:
            return ", ".join(f"`{one}`" for one in value["enum"])
        for union in ("anyOf", "oneOf"):
            if union in value:
                words = " or ".join(dict.fromkeys(self._in_words(one) for one in value[union]))
                one, _, named = words.partition(f" or {_BY_NAME}")
                return f"{one}, or several by name" if one == named and "#" in one else words
        if isinstance(value["type"], list):
            return " or ".join(self._in_words({**value, "type": one}) for one in value["type"])
        return self._of_type(value)

    def _of_type(self, value: Schema) -> str:
        kind = value["type"]
        if kind in ("integer", "number"):
            return " ".join(["whole number" if kind == "integer" else "number", *_range(value)])
        if kind == "array":
            if "prefixItems" in value:
                return "[" + ", ".join(self._in_words(one) for one in value["prefixItems"]) + "]"
            return f"list of: {self._in_words(value['items'])}"
        if kind == "object":
            values = [*value.get("patternProperties", {}).values()] or [value["additionalProperties"]]
            return f"{_BY_NAME}{self._in_words(values[0])}"
        return {"string": "text", "boolean": "`true`, `false`", "null": "`null`"}[kind]


def sections_in(value: Any, below: str = "") -> Iterator[tuple[str, str]]:
    """The names of the sections that a key's value may be, and what stands between the key and theirs."""
    if isinstance(value, list):
        for one in value:
            yield from sections_in(one, below)
    elif isinstance(value, dict):
        if "$ref" in value:
            yield _name(value["$ref"]), below
        for key in ("anyOf", "oneOf", "items"):
            yield from sections_in(value.get(key), below)
        for key in ("patternProperties", "additionalProperties"):
            found = value.get(key)
            yield from sections_in(
                [*found.values()] if key == "patternProperties" and found else found, f"{below}.NAME"
            )


def _name(reference: str) -> str:
    return reference.rpartition("/")[2]


def _range(value: Schema) -> Iterator[str]:
    words = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "up to", "exclusiveMaximum": "below"}
    return (f"{word} {value[key]:,}" for key, word in words.items() if key in value)


def _sentence(text: str) -> str:
    return " ".join(text.split())


def _anchor(heading: str) -> str:
    """What GitHub calls a heading in links."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns its exit code: 0 done, 2 a mistake in the input."""
    return run_command(_parser(), _write, arguments)


def _parser() -> CommandParser:
    parser = command_parser("study.config", __doc__)
    parser.add_argument("what", choices=["schema", "reference"], help="the JSON schema, or the pages in Markdown")
    parser.add_argument(
        "--to", type=Path, metavar="FILE", help=f"default: of schema, the terminal; of reference, {_REFERENCE}"
    )
    return parser


def _write(options: argparse.Namespace) -> int:
    if options.what == "schema":
        text, place = json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n", options.to
    else:
        text, place = reference(), options.to or _REFERENCE
    if place is None:
        print(text, end="")
    else:
        place.write_text(text, encoding="utf-8")
        print(place)
    return 0
